//! The command `pmq`.
fn main() -> std::process::ExitCode {
    pmq_cli::main()
}
