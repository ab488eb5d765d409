//! The command that installs a server on this machine.

use super::{Env, binary};

/// Package managers and the package that has a new enough server in their current releases.
const PACKAGE_MANAGERS: [(&str, &str); 5] = [
    ("apt-get", "apt-get install redis-server"),
    ("dnf", "dnf install valkey"),
    ("pacman", "pacman -S valkey"),
    ("apk", "apk add valkey"),
    ("brew", "brew install valkey"),
];

/// The install command of the first package manager in `PATH`, with `sudo` where one needs it.
pub(super) fn command(env: Env) -> String {
    let found = PACKAGE_MANAGERS
        .iter()
        .find(|(manager, _)| binary::in_path(manager, env).is_some());
    let Some((manager, command)) = found else {
        return "with your system's package manager".to_owned();
    };
    // Homebrew refuses to run as root.
    if *manager == "brew" || rustix::process::geteuid().is_root() {
        return format!("`{command}`");
    }
    format!("`sudo {command}`")
}
