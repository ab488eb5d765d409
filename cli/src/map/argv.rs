//! The command line of `pmq map`, split into the command and the sources of its arguments.
use std::ffi::OsString;
use std::path::PathBuf;

/// What follows the options of `pmq map`: `CMD ARG... ::: a b :::: FILE`.
#[derive(Debug, PartialEq, Eq)]
pub struct CommandLine {
    /// The command with its replacement strings; empty if none was given.
    pub command: Vec<OsString>,
    /// The sources in the order given; none means the lines of stdin.
    pub sources: Vec<Source>,
}

/// One source of arguments.
#[derive(Debug, PartialEq, Eq)]
pub struct Source {
    /// Where the arguments come from.
    pub items: Items,
    /// Whether the source goes along with the one before it (`:::+`) instead of being combined
    /// with it. Has no meaning for the first source.
    pub linked: bool,
}

/// Where the arguments of a source come from.
#[derive(Debug, PartialEq, Eq)]
pub enum Items {
    /// The words after `:::`.
    Listed(Vec<OsString>),
    /// The lines of a file; `-` is stdin.
    File(PathBuf),
}

impl Source {
    /// The lines of `path`, as `-a FILE` and `:::: FILE` name it.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self {
            items: Items::File(path.into()),
            linked: false,
        }
    }
}

/// Why a command line could not be split.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ArgvError {
    /// `::::` stands without a file.
    #[error("`{separator}` names no file; give one, or `-` for stdin")]
    NoFile {
        /// The separator as it was typed.
        separator: &'static str,
    },
}

/// What the words after a separator are.
struct Section {
    separator: &'static str,
    files: bool,
    linked: bool,
}

impl Section {
    fn opened_by(word: &OsString) -> Option<Self> {
        let (separator, files, linked) = match word.as_encoded_bytes() {
            b":::" => (":::", false, false),
            b":::+" => (":::+", false, true),
            b"::::" => ("::::", true, false),
            b"::::+" => ("::::+", true, true),
            _ => return None,
        };
        Some(Self {
            separator,
            files,
            linked,
        })
    }

    fn add_to(self, sources: &mut Vec<Source>, words: Vec<OsString>) -> Result<(), ArgvError> {
        let Self {
            separator,
            files,
            linked,
        } = self;
        if !files {
            sources.push(Source {
                items: Items::Listed(words),
                linked,
            });
        } else if words.is_empty() {
            return Err(ArgvError::NoFile { separator });
        } else {
            let file = |word: OsString| Source {
                items: Items::File(word.into()),
                linked,
            };
            sources.extend(words.into_iter().map(file));
        }
        Ok(())
    }
}

/// Splits `CMD ARG... [::: ARG...] [:::+ ARG...] [:::: FILE...] [::::+ FILE...]`.
pub fn split(argv: Vec<OsString>) -> Result<CommandLine, ArgvError> {
    let mut sources = Vec::new();
    let mut section = None;
    let mut words = Vec::new();
    let mut command = None;
    for word in argv {
        let Some(next) = Section::opened_by(&word) else {
            words.push(word);
            continue;
        };
        let before = std::mem::take(&mut words);
        match section.replace(next) {
            None => command = Some(before),
            Some(section) => section.add_to(&mut sources, before)?,
        }
    }
    match section {
        None => command = Some(words),
        Some(section) => section.add_to(&mut sources, words)?,
    }
    Ok(CommandLine {
        command: command.unwrap_or_default(),
        sources,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split_words(line: &str) -> Result<CommandLine, ArgvError> {
        split(line.split(' ').map(OsString::from).collect())
    }

    fn listed(words: &[&str], linked: bool) -> Source {
        let words = words.iter().map(OsString::from).collect();
        Source {
            items: Items::Listed(words),
            linked,
        }
    }

    #[test]
    fn a_command_alone_has_no_sources() {
        let line = split_words("gzip -9 {}").unwrap();
        assert_eq!(line.command, ["gzip", "-9", "{}"]);
        assert_eq!(line.sources, []);
        assert_eq!(
            split(vec![]),
            Ok(CommandLine {
                command: vec![],
                sources: vec![]
            })
        );
    }

    #[test]
    fn every_separator_opens_its_sources() {
        let line = split_words("echo x ::: a b :::+ 1 2 :::: f g ::::+ h :::").unwrap();
        assert_eq!(line.command, ["echo", "x"]);
        let expected = [
            listed(&["a", "b"], false),
            listed(&["1", "2"], true),
            Source::file("f"),
            Source::file("g"),
            Source {
                items: Items::File("h".into()),
                linked: true,
            },
            listed(&[], false),
        ];
        assert_eq!(line.sources, expected);
    }

    #[test]
    fn a_command_may_be_missing() {
        let line = split_words("::: a").unwrap();
        assert_eq!(line.command, Vec::<OsString>::new());
        assert_eq!(line.sources, [listed(&["a"], false)]);
    }

    #[test]
    fn a_file_separator_without_a_file_is_an_error() {
        assert_eq!(
            split_words("echo ::::"),
            Err(ArgvError::NoFile { separator: "::::" })
        );
        let error = split_words("echo ::: a ::::+ ::: b").unwrap_err();
        assert_eq!(
            error.to_string(),
            "`::::+` names no file; give one, or `-` for stdin"
        );
    }
}
