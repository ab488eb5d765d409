//! What is wrong with the URL of a broker. It may hold a password, so no part of it is quoted.

/// Which part can't be used; `None` where it is none of the known ones.
pub(crate) fn problem(url: &str) -> Option<&'static str> {
    let (scheme, rest) = url.split_once("://")?;
    if !matches!(scheme, "redis" | "rediss") {
        return None;
    }
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
    let host = authority.rsplit('@').next().unwrap_or_default();
    // The colons of an IPv6 address stand in brackets.
    let (host, port) = match host.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (host, None),
    };
    if host.is_empty() {
        Some("it names no host")
    } else if port.is_some_and(|port| port.parse().map_or(true, |port: u16| port == 0)) {
        Some("its port is no number from 1 to 65535")
    } else if !database.is_empty() && database.parse::<u32>().is_err() {
        Some("its database, behind the last /, is no number")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_part_is_named() {
        for url in ["redis://", "redis://:6379", "redis://u:p@"] {
            assert_eq!(problem(url), Some("it names no host"), "{url}");
        }
        for url in ["redis://h:port", "rediss://h:99999/0", "redis://[::1]:0"] {
            assert!(
                problem(url).is_some_and(|why| why.contains("port")),
                "{url}"
            );
        }
        assert!(problem("redis://h/x").is_some_and(|why| why.contains("database")));
        for url in [
            "redis://h",
            "redis://u:p@h:1/2",
            "redis://[::1]",
            "redis+unix:///x",
        ] {
            assert_eq!(problem(url), None, "{url}");
        }
    }
}
