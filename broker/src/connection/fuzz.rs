//! URLs: whatever is wrong with one, nothing that is said about it shows its password; and waits stay within bounds.

use std::time::Duration;

use pmq_tests::fuzz::{fuzz, mutated_text};
use proptest::prelude::*;
use proptest::sample::select;

use super::address::{Endpoint, Place};
use super::retry::pause;
use crate::config::{Config, Password};

const SECRET: &str = "hunter2";
const SCHEMES: [&str; 9] = [
    "redis://",
    "rediss://",
    "redis+cluster://",
    "redis+sentinel://",
    "redis+x://",
    "redis:/",
    "redis",
    "://",
    "",
];
const WORDS: [&str; 16] = [
    "://",
    ":",
    "@",
    "/",
    "?",
    "#",
    "[",
    "]",
    "%",
    "%00",
    "%zz",
    "&",
    "pass=",
    "db=",
    "protocol=resp3",
    "\n",
];

/// A URL with the password where it belongs, and anything around it.
fn url() -> impl Strategy<Value = String> {
    let text = |valid: &str| mutated_text(Just(valid.to_owned()), &WORDS);
    prop_oneof![
        (select(&SCHEMES[..]), text("h:1/0?protocol=resp3"))
            .prop_map(|(scheme, rest)| format!("{scheme}u:{SECRET}@{rest}")),
        (text("db=1&user=u"), text("&x=y"))
            .prop_map(|(pairs, rest)| format!("redis+unix:///run/s?{pairs}&pass={SECRET}{rest}")),
    ]
}

/// The address as it is told to people.
fn shown(place: &Place) -> String {
    let all = |endpoints: &[Endpoint]| endpoints.iter().map(ToString::to_string).collect();
    match place {
        Place::One(access) => access.at(),
        Place::Cluster { seeds, .. } => all(seeds),
        Place::Sentinel {
            sentinels, primary, ..
        } => primary.clone() + &all(sentinels),
    }
}

#[test]
fn no_url_shows_its_password() {
    fuzz((url(), any::<bool>()), |(url, elsewhere)| {
        let mut config = Config::url(url.clone());
        if elsewhere {
            config.password = Password::Plain(SECRET.into());
        }
        let said = match Place::new(&config, &url) {
            Ok(place) => shown(&place),
            Err(error) => format!("{error} {error:?} {:?}", error.hint()),
        };
        prop_assert!(!format!("{said} {config:?}").contains(SECRET), "{}", said);
        Ok(())
    });
}

#[test]
fn a_pause_between_tries_stays_within_its_bound() {
    fuzz(any::<u32>(), |tries| {
        prop_assert!(pause(tries) < Duration::from_millis(2005));
        Ok(())
    });
}
