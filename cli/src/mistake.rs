//! Mistakes on the command line that are made often, and what was meant.

use clap::error::{ContextKind, ContextValue, ErrorKind};

/// What to write instead, where that is plain.
pub(crate) fn hint(error: &clap::Error) -> Option<&'static str> {
    let usage = error.get(ContextKind::Usage)?.to_string();
    let of = |command: &str| usage.contains(&format!("pmq {command}"));
    match (error.kind(), error.get(ContextKind::InvalidArg)?) {
        (ErrorKind::UnknownArgument, ContextValue::String(word))
            if of("submit") && !word.starts_with('-') =>
        {
            Some("put `--` before the command: pmq submit -- CMD ARG...")
        }
        (ErrorKind::UnknownArgument, ContextValue::String(word))
            if (of("lock") || of("sem")) && !word.starts_with('-') =>
        {
            Some("put `--` before the command: pmq lock NAME -- CMD ARG...")
        }
        (ErrorKind::MissingRequiredArgument, ContextValue::Strings(missing))
            if missing.iter().any(|name| name.contains("ID")) && (of("cancel") || of("dead")) =>
        {
            Some("name the tasks, or take all of the queue with --all")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::Cli;

    fn hint_for(line: &str) -> Option<&'static str> {
        hint(&Cli::try_parse_from(line.split(' ')).unwrap_err())
    }

    #[test]
    fn what_was_meant_is_said() {
        assert!(hint_for("pmq submit echo hi").is_some_and(|hint| hint.contains("`--`")));
        for line in ["pmq lock deploy echo hi", "pmq sem -n 2 s echo"] {
            assert!(
                hint_for(line).is_some_and(|hint| hint.contains("`--`")),
                "{line}"
            );
        }
        for line in ["pmq cancel", "pmq dead requeue", "pmq dead purge --yes"] {
            assert!(
                hint_for(line).is_some_and(|hint| hint.contains("--all")),
                "{line}"
            );
        }
        for line in ["pmq wait", "pmq submit --nonsense", "pmq nonsense"] {
            assert_eq!(hint_for(line), None, "{line}");
        }
    }
}
