//! The examples of the crate `pmq`, as a reader runs them.

use std::env;
use std::path::Path;
use std::time::Duration;

use pmq_tests::{Program, RedisServer};

/// What an example prints. It is built first where it is not.
fn output_of(example: &str) -> String {
    let home = |variable: &str, directory: &str| {
        env::var_os(variable).unwrap_or_else(|| {
            Path::new(&env::var_os("HOME").unwrap())
                .join(directory)
                .into()
        })
    };
    let cargo = Program::new(env!("CARGO"))
        .directory(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
        .env("CARGO_HOME", home("CARGO_HOME", ".cargo"))
        .env("RUSTUP_HOME", home("RUSTUP_HOME", ".rustup"))
        .env("PMQ_REDIS_URL", RedisServer::shared().url())
        .timeout(Duration::from_secs(600));
    let finished = cargo.run(["run", "--quiet", "-p", "pmq", "--example", example]);
    finished.expect_code(0).text()
}

#[test]
fn a_manager_shares_a_list_of_squares() {
    let expected = "[0, 1, 4, 9, 16, 25, 36, 49, 64, 81]\n10\n[4, 9, 16]\n";
    assert_eq!(output_of("manager_list"), expected);
}
