//! The command `pmq`, built here so that Cargo tells the tests its path.
fn main() -> std::process::ExitCode {
    pmq_cli::main()
}
