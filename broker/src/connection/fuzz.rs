//! URLs: whatever is wrong with one, nothing that is said about it shows its password; and waits stay within bounds.

use std::time::Duration;

use pmq_tests::fuzz::{fuzz, mutated_text};
use proptest::prelude::*;
use proptest::sample::select;

use super::address::client;
use super::retry::pause;
use crate::config::{Config, Password};

const SECRET: &str = "hunter2";
const URLS: [&str; 7] = [
    "redis://u:hunter2@h:1/0",
    "redis://:hunter2@[::1]:6379",
    "rediss://u:hunter2@h:1/1#insecure",
    "redis://h/0?protocol=resp3&pass=hunter2",
    "redis+unix:///run/s?db=1&user=u&pass=hunter2",
    "unix:///run/s?pass=hunter2",
    "redis+cluster://u:hunter2@h1:1,h2:2",
];
const WORDS: [&str; 18] = [
    "redis://",
    "rediss://",
    "redis+unix://",
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
    "\n",
];

#[test]
fn no_url_shows_its_password() {
    let url = mutated_text(select(&URLS[..]).prop_map(str::to_owned), &WORDS);
    fuzz((url, any::<bool>()), |(url, elsewhere)| {
        let mut config = Config::url(url.clone());
        if elsewhere {
            config.password = Password::Plain(SECRET.into());
        }
        let said = match client(&config, &url) {
            Ok((_, at)) => at,
            Err(error) => format!("{error} {error:?} {:?}", error.hint()),
        };
        prop_assert!(!said.contains(SECRET), "{}", said);
        Ok(())
    });
}

#[test]
fn a_pause_between_tries_stays_within_its_bound() {
    fuzz(any::<u32>(), |tries| {
        prop_assert!(pause(tries) <= Duration::from_secs(2));
        Ok(())
    });
}
