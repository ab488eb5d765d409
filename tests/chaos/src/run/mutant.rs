//! The checker is proven: broken libraries, each of which it must catch by the invariant that names the break.

use anyhow::{Result, bail};
use pmq_broker::functions::SOURCE;

use crate::checker::Invariant;

/// A change to the source of the function library that breaks a promise.
#[derive(Clone, Copy, Debug)]
pub struct Mutant {
    /// What is wrong with it.
    pub name: &'static str,
    /// Texts of the source and what stands in their place; each text occurs once.
    pub changes: &'static [(&'static str, &'static str)],
    /// How many of a shard's keys its callers declare, where it does not ask for all.
    pub declared: Option<usize>,
    /// The family of faults that shows it.
    pub family: &'static str,
    /// The invariant that must be broken.
    pub breaks: Invariant,
}

const TAKEN_FROM_ANOTHER: &str = "    if held[i] ~= value or settled[id] then\n";
const LEASE_OF_A_CLAIM: &str = r#"    redis.call("ZADD", keys[WORKERS], whole(ms + lease), worker)
    redis.call("HSET", keys[META], "token", whole(token), seen(m[4], ms, lease))"#;

/// All mutants.
pub const MUTANTS: [Mutant; 11] = [
    Mutant {
        name: "no-token-check",
        changes: &[(
            TAKEN_FROM_ANOTHER,
            "    if not held[i] or settled[id] then\n",
        )],
        declared: None,
        family: "zombies",
        breaks: Invariant::Tokens,
    },
    Mutant {
        name: "attempt-as-token",
        changes: &[(
            "    local token = next_token(m[3], us)\n",
            "    local used = parse_attempts(redis.call(\"HGET\", keys[ATTEMPTS], got.ids[1]))\n    local token = 1 + used.failures + used.crashes\n",
        )],
        declared: None,
        family: "workers",
        breaks: Invariant::Tokens,
    },
    Mutant {
        name: "client-clock",
        // An incarnation begins with the time of the client that made it.
        changes: &[(
            LEASE_OF_A_CLAIM,
            r#"    local high, low = struct.unpack(">I4I2", worker)
    redis.call("ZADD", keys[WORKERS], whole(high * 65536 + low + lease), worker)
    redis.call("HSET", keys[META], "token", whole(token), seen(m[4], ms, lease))"#,
        )],
        declared: None,
        family: "workers",
        breaks: Invariant::Budgets,
    },
    Mutant {
        name: "claim-without-a-lease",
        changes: &[(
            LEASE_OF_A_CLAIM,
            r#"    redis.call("HSET", keys[META], "token", whole(token), seen(m[4], ms, lease))"#,
        )],
        declared: None,
        family: "workers",
        breaks: Invariant::Conservation,
    },
    Mutant {
        name: "claim-without-a-number",
        changes: &[(
            "  local last = last_number(log)\n  if number <= last then\n    local common",
            "  local last = last_number(log)\n  if false then\n    local common",
        )],
        declared: None,
        family: "replies",
        breaks: Invariant::Liveness,
    },
    Mutant {
        name: "take-without-a-number",
        // Nor a token of the batch that it confirms, which would tell the consumer that something is wrong.
        changes: &[
            (
                "  local last = last_number(log)\n  if number <= last then\n    local items",
                "  local last = last_number(log)\n  if false then\n    local items",
            ),
            (
                "  if last_token(log) > tonumber(args[6]) then",
                "  if false then",
            ),
        ],
        declared: None,
        family: "replies",
        breaks: Invariant::NoLoss,
    },
    Mutant {
        name: "counted-fences",
        // One that is a time is never followed by a counted one, so the quick way to a grant is not taken any more.
        changes: &[(
            "  s.fence = math.max(s.fence + 1, us)\n",
            "  s.fence = s.fence + 1\n",
        )],
        declared: None,
        family: "reset",
        breaks: Invariant::Fencing,
    },
    Mutant {
        name: "ack-by-id",
        changes: &[(TAKEN_FROM_ANOTHER, "    if settled[id] then\n")],
        declared: None,
        family: "zombies",
        breaks: Invariant::SingleEnd,
    },
    Mutant {
        name: "no-outage-rule",
        changes: &[(
            "  local grace = math.max(grace_after(m[2], ms, lease), (tonumber(m[3]) or 0) - ms)\n",
            "  local grace = 0\n",
        )],
        declared: None,
        family: "outage",
        breaks: Invariant::Budgets,
    },
    Mutant {
        name: "no-limit-on-suspects",
        changes: &[(
            "    suspects = gather(keys, got, SUSPECTS, 1)\n",
            "    suspects = gather(keys, got, SUSPECTS, n)\n",
        )],
        declared: None,
        family: "poison",
        breaks: Invariant::Budgets,
    },
    Mutant {
        name: "undeclared-key",
        // It makes the key of a list itself, which its callers need not declare then.
        changes: &[(
            "    return check(args) or callback(keys, args)\n",
            r#"    if verb == "submit" and #keys == 2 then
      redis.call("HSET", keys[TASKS], args[4], args[5])
      return redis.call("RPUSH", string.sub(keys[META], 1, -5) .. "ready:5", args[4])
    end
    return check(args) or callback(keys, args)
"#,
        )],
        declared: Some(2),
        family: "migration",
        breaks: Invariant::Conservation,
    },
];

impl Mutant {
    /// The mutant of this name.
    pub fn named(name: &str) -> Result<Self> {
        match MUTANTS.iter().find(|mutant| mutant.name == name) {
            Some(mutant) => Ok(*mutant),
            None => bail!("there is no mutant '{name}'"),
        }
    }

    /// The source of the broken library.
    pub fn source(&self) -> Result<String> {
        let mut source = SOURCE.to_owned();
        for (text, instead) in self.changes {
            let count = source.matches(text).count();
            if count != 1 {
                bail!(
                    "mutant {}: its text occurs {count} times, not once: {text}",
                    self.name
                );
            }
            source = source.replace(text, instead);
        }
        Ok(source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mutant_changes_the_source_in_its_places() {
        for mutant in MUTANTS {
            assert_ne!(mutant.source().unwrap(), SOURCE, "{}", mutant.name);
        }
    }
}
