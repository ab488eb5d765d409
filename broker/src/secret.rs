//! Secrets in the environment and in URLs, and how the programs that this one starts are kept from them.

use std::env;
use std::process::Command;

/// The variables that hold a secret itself, not the name of a file.
const SECRETS: [&str; 3] = ["PMQ_REDIS_PASSWORD", "PMQ_SENTINEL_PASSWORD", "PMQ_AUTHKEY"];
const URL: &str = "PMQ_REDIS_URL";

/// Takes the secrets out of the environment that a program inherits. It still finds the broker there, and the names of
/// files that hold secrets; so a `pmq` inside of it works where this process's own password comes from a file.
pub fn hide_from(command: &mut Command) {
    for name in SECRETS {
        command.env_remove(name);
    }
    let Some(url) = env::var_os(URL) else { return };
    match url.to_str().map(without_password) {
        Some(None) => {}
        // With the rest of the URL it says that it wants a password; without, it would find another broker.
        Some(Some(url)) => {
            command.env(URL, url);
        }
        None => {
            command.env_remove(URL);
        }
    }
}

/// The URL of a broker without its password; `None` where it has none.
#[must_use]
pub fn without_password(url: &str) -> Option<String> {
    let (scheme, rest) = url
        .split_once("://")
        .map_or(("", url), |(scheme, _)| url.split_at(scheme.len() + 3));
    let (place, query) = rest
        .split_once('?')
        .map_or((rest, None), |(place, query)| (place, Some(query)));
    // The path of a socket may have an @.
    let login = if scheme.contains("unix") {
        None
    } else {
        place.rsplit_once('@')
    };
    let (place, in_login) = match login.and_then(|(login, at)| Some((login.split_once(':')?, at))) {
        Some((("", _), at)) => (at.to_owned(), true),
        Some(((user, _), at)) => (format!("{user}@{at}"), true),
        None => (place.to_owned(), false),
    };
    let is_known = |pair: &&str| {
        let name = pair.split('=').next().unwrap_or_default();
        ["db", "user", "protocol"].contains(&name)
    };
    let pairs = || query.into_iter().flat_map(|query| query.split('&'));
    if !in_login && pairs().all(|pair| is_known(&pair)) {
        return None;
    }
    let query = pairs().filter(is_known).collect::<Vec<_>>().join("&");
    let mark = if query.is_empty() { "" } else { "?" };
    Some(format!("{scheme}{place}{mark}{query}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_inherits_no_secret() {
        let mut command = Command::new("true");
        hide_from(&mut command);
        for name in SECRETS {
            assert!(command.get_envs().any(|set| set == (name.as_ref(), None)));
        }
    }

    #[test]
    fn the_password_goes_and_the_rest_stays() {
        let cases = [
            ("redis://:p@h", "redis://h"),
            ("rediss://u:p@h:1/2", "rediss://u@h:1/2"),
            ("redis+cluster://u:p:q@h1:1,h2", "redis+cluster://u@h1:1,h2"),
            ("redis://u:p@s/w@h/0", "redis://u@h/0"),
            ("redis://u:p@h?protocol=resp3", "redis://u@h?protocol=resp3"),
            (
                "redis+unix:///a@b:c?pass=p&db=1",
                "redis+unix:///a@b:c?db=1",
            ),
            ("unix:///s?user=u&pass=p", "unix:///s?user=u"),
            ("unix:///s?p%61ss=p", "unix:///s"),
            ("u:p@h", "u@h"),
        ];
        for (url, expected) in cases {
            assert_eq!(without_password(url).as_deref(), Some(expected), "{url}");
        }
        for url in [
            "redis://h:1/0",
            "redis://u@h",
            "redis://[::1]:7/",
            "redis+unix:///home/a:b@c/s",
            "unix:///s?db=1&user=u",
        ] {
            assert_eq!(without_password(url), None, "{url}");
        }
    }
}
