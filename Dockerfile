# pmq in a container. The last stage, `runtime`, builds everything from source; `prebuilt` packs a binary
# that was built outside (right only if that machine's glibc is Debian 12's or older). See docs/compose.md.

# Debian rather than an empty image: the tasks of a worker are commands, and they need a shell and coreutils.
# The uid is a fixed number because docker-compose.yml hands the password file to it.
FROM debian:bookworm-slim AS base
RUN useradd --system --uid 10001 --user-group --no-create-home --home-dir /tmp --shell /usr/sbin/nologin pmq
WORKDIR /tmp
USER pmq
ENTRYPOINT ["pmq"]
CMD ["--help"]

# Stands before the builder, so that the classic builder does not compile anything for it.
FROM base AS prebuilt
COPY target/release/pmq /usr/local/bin/pmq

# The caches keep crates and objects between builds; the binary is copied out because a cache is not a layer.
FROM rust:1-bookworm AS build
WORKDIR /src
COPY . .
RUN --mount=type=cache,id=pmq-registry,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,id=pmq-target,target=/src/target,sharing=locked \
    cargo build --release --locked --package pmq-cli --bin pmq && cp target/release/pmq /pmq

FROM base AS runtime
COPY --from=build /pmq /usr/local/bin/pmq
