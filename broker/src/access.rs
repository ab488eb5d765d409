//! Who may come in at the server, and what this user may do there that pmq never needs.

use redis::Value;

use crate::broker::{Broker, PATIENCE};
use crate::error::{Error, Result};
use crate::reply;

/// What no role of pmq needs, each as the server would be asked to do it.
const WIDE: [&[&str]; 6] = [
    &["EVAL", "return 1", "0"],
    &["FLUSHALL"],
    &["CONFIG", "SET", "maxmemory", "0"],
    &["FUNCTION", "FLUSH"],
    &["ACL", "SETUSER", "u"],
    &["SHUTDOWN"],
];

/// How far a server is open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// Who this process is there.
    pub user: String,
    /// Whether the user `default` needs no password, so that anybody is let in; `None` where this user may not ask.
    pub lets_anybody_in: Option<bool>,
    /// What this user may do that pmq never needs; `None` where it may not ask, and so is no administrator.
    pub too_wide: Option<Vec<String>>,
}

impl Broker {
    /// Asks the server who may come in, and what this user may do beyond pmq's needs. Changes nothing.
    pub async fn access(&self) -> Result<Access> {
        let user = match self.acl(&["WHOAMI"]).await? {
            Some(user) => reply::text(user, "ask for the user")?,
            None => "unknown".to_owned(),
        };
        let lets_anybody_in = match self.acl(&["GETUSER", "default"]).await? {
            Some(about) => Some(has_no_password(about)?),
            None => None,
        };
        let too_wide = self.too_wide(&user).await?;
        Ok(Access {
            user,
            lets_anybody_in,
            too_wide,
        })
    }

    async fn too_wide(&self, user: &str) -> Result<Option<Vec<String>>> {
        let mut wide = Vec::new();
        for words in WIDE {
            let question = [&["DRYRUN", user], words].concat();
            let Some(answer) = self.acl(&question).await? else {
                return Ok(None);
            };
            if reply::text(answer, "ask for rights")? == "OK" {
                let named = if ["CONFIG", "FUNCTION", "ACL"].contains(&words[0]) {
                    2
                } else {
                    1
                };
                wide.push(words[..named].join(" "));
            }
        }
        Ok(Some(wide))
    }

    /// The answer to an `ACL` command; `None` where this user may not give it.
    async fn acl(&self, words: &[&str]) -> Result<Option<Value>> {
        let mut command = redis::cmd("ACL");
        command.arg(words);
        let answer = self
            .control()
            .send(&command, "ask for rights", PATIENCE)
            .await;
        match answer {
            Err(Error::Denied { .. } | Error::Unexpected { .. }) => Ok(None),
            answer => answer.map(Some),
        }
    }
}

/// Whether `ACL GETUSER` tells of the flag `nopass`, on a user that is on.
fn has_no_password(about: Value) -> Result<bool> {
    let doing = "ask for the user default";
    let mut fields = reply::items(about, doing)?.into_iter();
    while let (Some(name), Some(value)) = (fields.next(), fields.next()) {
        if reply::text(name, doing)? == "flags" {
            let flags = reply::items(value, doing)?;
            let has = |flag: &str| flags.iter().any(|f| is_word(f, flag));
            return Ok(has("nopass") && has("on"));
        }
    }
    Err(reply::odd(doing))
}

fn is_word(value: &Value, word: &str) -> bool {
    match value {
        Value::BulkString(bytes) => bytes == word.as_bytes(),
        Value::SimpleString(text) => text == word,
        _ => false,
    }
}
