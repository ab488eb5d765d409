//! Which commands a function runs inside, as its source says: it names them all, and every step that it takes.

use std::collections::{BTreeSet, HashMap};
use std::sync::LazyLock;

use crate::functions::SOURCE;

static LIBRARY: LazyLock<Library> = LazyLock::new(|| Library::read(SOURCE));

/// The verbs of the library.
pub(super) fn verbs() -> impl Iterator<Item = &'static str> {
    LIBRARY.functions.iter().map(|function| function.verb)
}

/// Whether a function changes nothing.
pub(super) fn is_read_only(verb: &str) -> bool {
    LIBRARY
        .function(verb)
        .is_some_and(|function| function.is_read_only)
}

/// The commands inside these functions, in lower case.
pub(super) fn commands(verbs: &BTreeSet<&str>) -> BTreeSet<String> {
    let functions = verbs.iter().filter_map(|verb| LIBRARY.function(verb));
    let mut found = Found::default();
    for function in functions {
        found.follow(function.block, function.body);
    }
    found.commands
}

/// The library's source by what it defines. A definition begins at the start of a line and ends with the next.
struct Library {
    /// What is shared, then what each block defines for itself.
    blocks: Vec<HashMap<&'static str, &'static str>>,
    functions: Vec<Function>,
}

struct Function {
    verb: &'static str,
    block: usize,
    body: &'static str,
    is_read_only: bool,
}

impl Library {
    fn read(source: &'static str) -> Self {
        let mut library = Self {
            blocks: Vec::new(),
            functions: Vec::new(),
        };
        for (block, text) in source.split("\ndo\n").enumerate() {
            let mut definitions = HashMap::new();
            for body in definitions_of(text) {
                match (name_of(body), verb_of(body)) {
                    (Some(name), _) => {
                        definitions.insert(name, body);
                    }
                    (None, Some(verb)) => library.functions.push(Function {
                        verb,
                        block,
                        body,
                        is_read_only: body
                            .lines()
                            .next()
                            .is_some_and(|line| line.contains("\"no-writes\"")),
                    }),
                    (None, None) => {}
                }
            }
            library.blocks.push(definitions);
        }
        library
    }

    fn function(&self, verb: &str) -> Option<&Function> {
        self.functions.iter().find(|function| function.verb == verb)
    }

    /// What a word of this block stands for, and in which block that is.
    fn definition(&self, block: usize, word: &str) -> Option<(usize, &'static str)> {
        let mut blocks = [block, 0].into_iter();
        blocks.find_map(|block| Some((block, *self.blocks.get(block)?.get(word)?)))
    }
}

/// Cuts a block where a line begins with a word.
fn definitions_of(text: &'static str) -> impl Iterator<Item = &'static str> {
    let starts = text.match_indices('\n').map(|(at, _)| at + 1);
    let is_start = |at: &usize| {
        let line = &text[*at..];
        line.starts_with(|c: char| c.is_ascii_lowercase()) && !line.starts_with("end")
    };
    let mut starts: Vec<usize> = [0].into_iter().chain(starts).filter(is_start).collect();
    starts.push(text.len());
    let ranges: Vec<(usize, usize)> = starts.windows(2).map(|pair| (pair[0], pair[1])).collect();
    ranges
        .into_iter()
        .map(move |(start, end)| &text[start..end])
}

/// What `local NAME` or `local function NAME` defines.
fn name_of(body: &'static str) -> Option<&'static str> {
    let rest = body.strip_prefix("local ")?;
    words(rest.strip_prefix("function ").unwrap_or(rest)).next()
}

/// What `register("VERB"`, or a step of a kind, registers.
fn verb_of(body: &'static str) -> Option<&'static str> {
    body.lines().next()?.split_once("(\"")?.1.split('"').next()
}

/// The commands of `redis.call` and `redis.pcall`, in lower case.
fn calls(text: &str) -> impl Iterator<Item = String> {
    let calls = text.split("call(\"").skip(1);
    calls.filter_map(|rest| Some(rest.split('"').next()?.to_ascii_lowercase()))
}

/// What of a line is neither in quotes nor a comment.
fn code(line: &'static str) -> impl Iterator<Item = &'static str> {
    let line = line.split("--").next().unwrap_or_default();
    line.split('"').step_by(2)
}

fn words(text: &'static str) -> impl Iterator<Item = &'static str> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.filter(|word| !word.is_empty())
}

/// What was found so far, and where has been looked.
#[derive(Default)]
struct Found {
    commands: BTreeSet<String>,
    seen: BTreeSet<*const u8>,
}

impl Found {
    fn follow(&mut self, block: usize, body: &'static str) {
        if !self.seen.insert(body.as_ptr()) {
            return;
        }
        self.commands.extend(calls(body));
        let words = body.lines().flat_map(code).flat_map(words);
        // What registers a function looks at its arguments alone, but names every verb, as words that mean steps elsewhere.
        for word in words.filter(|word| *word != "register") {
            if let Some((block, body)) = LIBRARY.definition(block, word) {
                self.follow(block, body);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(verb: &str) -> BTreeSet<String> {
        commands(&BTreeSet::from([verb]))
    }

    #[test]
    fn every_command_of_the_library_is_named_in_its_source() {
        let all: usize = ["redis.call(", "redis.pcall("]
            .map(|call| SOURCE.matches(call).count())
            .iter()
            .sum();
        assert_eq!(calls(SOURCE).count(), all);
    }

    #[test]
    fn all_functions_together_run_all_commands_of_the_library() {
        let all: BTreeSet<&str> = verbs().collect();
        let known: BTreeSet<String> = calls(SOURCE).collect();
        assert_eq!(commands(&all), known);
    }

    #[test]
    fn a_function_runs_what_its_steps_run_and_no_more() {
        assert!(
            of("submit").is_superset(&["hset", "rpush", "zadd", "hmget"].map(str::to_owned).into())
        );
        assert!(!of("submit").contains("unlink"));
        assert_eq!(
            of("fleet"),
            ["hmget", "time", "zrangebyscore"].map(str::to_owned).into()
        );
        assert!(of("queue_put").contains("rpush"));
        assert!(is_read_only("find") && !is_read_only("watch"));
    }
}
