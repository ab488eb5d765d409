//! `[tasks.NAME]` of a worker's configuration: a command with typed slots, filled in with a task's arguments.
//!
//! A slot is `{name:type}` with the type `str`, `int`, `float`, `bool` or `path`, anywhere in an argument of the
//! command; `{{` and `}}` are braces. A value never begins with `-`, or a producer could smuggle in an option,
//! unless the slot allows it: `{offset:int:dash}`.

use std::collections::BTreeSet;
use std::path::{Component, Path};

use serde::Deserialize;
use serde_json::{Map, Value};

/// A command with typed slots.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Vec<String>")]
pub struct TaskTemplate {
    argv: Vec<Vec<Piece>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Slot(Slot),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Slot {
    name: String,
    kind: Kind,
    dash: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Str,
    Int,
    Float,
    Bool,
    Path,
}

/// Why a template can't be used, or a task's arguments do not fit it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// There is no program.
    #[error("the command is empty; its first word is the program")]
    NoProgram,
    /// The program is taken from the task.
    #[error("the program itself is a slot, so that a task could run anything")]
    OpenProgram,
    /// A slot is malformed.
    #[error(
        "{{{slot}}} is no slot: write {{name:type}} with the type str, int, float, bool or path, and {{{{ }}}} for braces"
    )]
    BadSlot {
        /// What stands between the braces.
        slot: String,
    },
    /// The body is no JSON object.
    #[error("the task's arguments are no JSON object with a value for each slot")]
    NoObject,
    /// The task lacks an argument.
    #[error("the task has no argument '{name}'")]
    Missing {
        /// The slot's name.
        name: String,
    },
    /// The task has an argument that no slot takes.
    #[error("there is no slot for the task's argument '{name}'")]
    Unknown {
        /// The argument's name.
        name: String,
    },
    /// An argument does not fit its slot.
    #[error("the task's argument '{name}' {problem}")]
    BadValue {
        /// The argument's name.
        name: String,
        /// What is wrong with it.
        problem: &'static str,
    },
}

impl TryFrom<Vec<String>> for TaskTemplate {
    type Error = TemplateError;

    fn try_from(argv: Vec<String>) -> Result<Self, TemplateError> {
        let argv = argv
            .iter()
            .map(|word| pieces(word))
            .collect::<Result<Vec<_>, _>>()?;
        match argv.first().map(Vec::as_slice) {
            None | Some([]) => Err(TemplateError::NoProgram),
            Some([Piece::Text(_)]) => Ok(Self { argv }),
            Some(_) => Err(TemplateError::OpenProgram),
        }
    }
}

impl TaskTemplate {
    /// The command for a task with this body, a JSON object; an empty body has no arguments.
    pub fn expand(&self, body: &[u8]) -> Result<Vec<String>, TemplateError> {
        let arguments = arguments(body)?;
        let slots: BTreeSet<&str> = self.slots().map(|slot| slot.name.as_str()).collect();
        if let Some(name) = arguments.keys().find(|name| !slots.contains(name.as_str())) {
            return Err(TemplateError::Unknown { name: name.clone() });
        }
        self.argv
            .iter()
            .map(|word| fill(word, &arguments))
            .collect()
    }

    fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.argv.iter().flatten().filter_map(|piece| match piece {
            Piece::Slot(slot) => Some(slot),
            Piece::Text(_) => None,
        })
    }
}

fn arguments(body: &[u8]) -> Result<Map<String, Value>, TemplateError> {
    if body.is_empty() {
        return Ok(Map::new());
    }
    match serde_json::from_slice(body) {
        Ok(Value::Object(arguments)) => Ok(arguments),
        Ok(Value::Null) => Ok(Map::new()),
        _ => Err(TemplateError::NoObject),
    }
}

fn fill(word: &[Piece], arguments: &Map<String, Value>) -> Result<String, TemplateError> {
    let (mut out, mut written) = (String::new(), String::new());
    for piece in word {
        match piece {
            Piece::Text(text) => {
                out.push_str(text);
                written.push_str(text);
            }
            Piece::Slot(slot) => {
                out.push_str(&slot.value(arguments)?);
                written.push('x');
            }
        }
    }
    check_whole(word, &out, &written)?;
    Ok(out)
}

/// Checks what values make together with each other and the text: an empty one uncovers a dash behind it, and `.` with
/// `./` are `../`. `written` is the word with a plain value in each slot.
fn check_whole(word: &[Piece], out: &str, written: &str) -> Result<(), TemplateError> {
    let mut slots = word.iter().filter_map(|piece| match piece {
        Piece::Slot(slot) => Some(slot),
        Piece::Text(_) => None,
    });
    let Some(first) = slots.clone().next() else {
        return Ok(());
    };
    let bad = |problem| {
        Err(TemplateError::BadValue {
            name: first.name.clone(),
            problem,
        })
    };
    let opens = matches!(word.first(), Some(Piece::Slot(slot)) if slot.dash);
    if out.starts_with('-') && !written.starts_with('-') && !opens {
        return bad("makes a word that begins with '-'");
    }
    if slots.any(|slot| slot.kind == Kind::Path) && parents(out) > parents(written) {
        return bad("makes a path that contains '..'");
    }
    Ok(())
}

/// How often a path goes up.
fn parents(path: &str) -> usize {
    Path::new(path)
        .components()
        .filter(|part| *part == Component::ParentDir)
        .count()
}

fn pieces(word: &str) -> Result<Vec<Piece>, TemplateError> {
    let mut pieces = Vec::new();
    let mut text = String::new();
    let mut rest = word;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        if (c == '{' || c == '}') && rest.starts_with(c) {
            rest = &rest[1..];
            text.push(c);
        } else if c == '{' {
            let bad = || TemplateError::BadSlot {
                slot: rest.to_owned(),
            };
            let (slot, tail) = rest.split_once('}').ok_or_else(bad)?;
            if !text.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut text)));
            }
            pieces.push(Piece::Slot(Slot::parse(slot)?));
            rest = tail;
        } else if c == '}' {
            return Err(TemplateError::BadSlot {
                slot: String::new(),
            });
        } else {
            text.push(c);
        }
    }
    if !text.is_empty() {
        pieces.push(Piece::Text(text));
    }
    Ok(pieces)
}

impl Slot {
    fn parse(text: &str) -> Result<Self, TemplateError> {
        let bad = || TemplateError::BadSlot {
            slot: text.to_owned(),
        };
        let mut parts = text.split(':');
        let name = parts.next().unwrap_or_default();
        let kind = match parts.next() {
            Some("str") => Kind::Str,
            Some("int") => Kind::Int,
            Some("float") => Kind::Float,
            Some("bool") => Kind::Bool,
            Some("path") => Kind::Path,
            _ => return Err(bad()),
        };
        let dash = match (parts.next(), parts.next()) {
            (None, _) => false,
            (Some("dash"), None) => true,
            _ => return Err(bad()),
        };
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return Err(bad());
        }
        Ok(Self {
            name: name.to_owned(),
            kind,
            dash,
        })
    }

    fn value(&self, arguments: &Map<String, Value>) -> Result<String, TemplateError> {
        let missing = || TemplateError::Missing {
            name: self.name.clone(),
        };
        let value = arguments.get(&self.name).ok_or_else(missing)?;
        let text = self.kind.text(value).and_then(|text| {
            if text.starts_with('-') && !self.dash {
                Err("begins with '-', which this slot does not allow")
            } else {
                Ok(text)
            }
        });
        text.map_err(|problem| TemplateError::BadValue {
            name: self.name.clone(),
            problem,
        })
    }
}

impl Kind {
    fn text(self, value: &Value) -> Result<String, &'static str> {
        match (self, value) {
            (Self::Str | Self::Path, Value::String(text)) if text.contains('\0') => {
                Err("contains a NUL byte")
            }
            (Self::Str, Value::String(text)) => Ok(text.clone()),
            (Self::Path, Value::String(text)) => path(text),
            (Self::Int, Value::Number(n)) if n.is_i64() || n.is_u64() => Ok(n.to_string()),
            (Self::Float, Value::Number(n)) => Ok(n.to_string()),
            (Self::Bool, Value::Bool(b)) => Ok(b.to_string()),
            (Self::Str | Self::Path, _) => Err("is no text"),
            (Self::Int, _) => Err("is no integer"),
            (Self::Float, _) => Err("is no number"),
            (Self::Bool, _) => Err("is neither true nor false"),
        }
    }
}

/// A path that stays below what the template puts in front of it.
fn path(text: &str) -> Result<String, &'static str> {
    if text.is_empty() {
        return Err("is an empty path");
    }
    if parents(text) > 0 {
        return Err("contains '..'");
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(argv: &[&str]) -> Result<TaskTemplate, TemplateError> {
        argv.iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .try_into()
    }

    fn expand(word: &str, body: &str) -> Result<String, TemplateError> {
        template(&["p", word])
            .unwrap()
            .expand(body.as_bytes())
            .map(|mut argv| argv.remove(1))
    }

    fn problem(word: &str, body: &str) -> String {
        expand(word, body).unwrap_err().to_string()
    }

    #[test]
    fn slots_are_filled_in_by_type() {
        let cases = [
            ("{a:str}", r#"{"a": "x y;$(z)"}"#, "x y;$(z)"),
            ("{a:str}", r#"{"a": ""}"#, ""),
            (
                "{a:int}",
                r#"{"a": 18446744073709551615}"#,
                "18446744073709551615",
            ),
            ("{a:int:dash}", r#"{"a": -5}"#, "-5"),
            ("{a:float}", r#"{"a": 1.5}"#, "1.5"),
            ("{a:float}", r#"{"a": 2}"#, "2"),
            ("{a:bool}", r#"{"a": true}"#, "true"),
            ("{a:path}", r#"{"a": "dir/ä.png"}"#, "dir/ä.png"),
            (
                "--size={w:int}x{h:int}",
                r#"{"w": 4, "h": 3}"#,
                "--size=4x3",
            ),
            ("{a:int}{a:int}", r#"{"a": 4}"#, "44"),
            ("{{a}}", "", "{a}"),
        ];
        for (word, body, expected) in cases {
            assert_eq!(expand(word, body).as_deref(), Ok(expected), "{word} {body}");
        }
    }

    #[test]
    fn values_of_another_type_are_refused() {
        assert!(problem("{a:int}", r#"{"a": "1"}"#).contains("'a' is no integer"));
        assert!(problem("{a:int}", r#"{"a": 1.5}"#).contains("no integer"));
        assert!(problem("{a:str}", r#"{"a": 1}"#).contains("no text"));
        assert!(problem("{a:str}", r#"{"a": "x\u0000"}"#).contains("NUL"));
        assert!(problem("{a:bool}", r#"{"a": 1}"#).contains("true nor false"));
        assert!(problem("{a:path}", r#"{"a": ""}"#).contains("empty"));
        assert!(problem("in/{a:path}", r#"{"a": "x/../../etc"}"#).contains("'..'"));
        for kind in ["str", "path"] {
            assert!(
                problem(&format!("{{a:{kind}}}"), r#"{"a": "-rf"}"#).contains("begins with '-'")
            );
        }
        assert!(problem("{a:int}", r#"{"a": -5}"#).contains("begins with '-'"));
    }

    #[test]
    fn values_that_are_harmless_alone_make_no_option_and_no_way_up_together() {
        let option = problem("{a:str}-out", r#"{"a": ""}"#);
        assert!(option.contains("begins with '-'"), "{option}");
        let ways = [
            ("{a:path}{b:path}", r#"{"a": ".", "b": "./etc"}"#),
            (".{a:path}", r#"{"a": "./etc"}"#),
            ("in/{a:str}/{b:path}", r#"{"a": "..", "b": "x"}"#),
        ];
        for (word, body) in ways {
            assert!(problem(word, body).contains("'..'"), "{word} {body}");
        }
        assert!(expand("-{a:str}", r#"{"a": "x"}"#).is_ok());
        assert!(expand("../{a:path}", r#"{"a": "x"}"#).is_ok());
    }

    #[test]
    fn arguments_and_slots_have_to_match() {
        assert!(problem("{a:int}", "{}").contains("no argument 'a'"));
        assert!(problem("x", r#"{"a": 1}"#).contains("no slot"));
        assert!(problem("x", "[1]").contains("JSON object"));
        assert!(problem("x", "{").contains("JSON object"));
    }

    #[test]
    fn templates_that_are_open_or_malformed_are_refused() {
        assert_eq!(template(&[]), Err(TemplateError::NoProgram));
        assert_eq!(template(&[""]), Err(TemplateError::NoProgram));
        assert_eq!(template(&["{p:path}"]), Err(TemplateError::OpenProgram));
        for word in [
            "{",
            "}",
            "{a}",
            "{:str}",
            "{a:x}",
            "{a b:str}",
            "{a:str:x}",
            "{a:str:dash:x}",
        ] {
            assert!(
                matches!(template(&["p", word]), Err(TemplateError::BadSlot { .. })),
                "{word}"
            );
        }
    }
}
