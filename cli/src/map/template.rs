//! The command of `pmq map`, compiled once and expanded for each job.
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use super::input::Job;
use super::path;
use super::pattern::{Argument, Part, Pattern, Piece, SlotIsUnknown};
use super::quote;

/// Shells that read the quotes of [`quote::push_quoted`] as they are meant.
const POSIX_SHELLS: [&[u8]; 8] = [
    b"sh", b"bash", b"dash", b"zsh", b"ksh", b"ksh93", b"mksh", b"ash",
];

/// A command with replacement strings: `{}` `{.}` `{/}` `{//}` `{/.}` `{#}`, and with a number in
/// front (`{2}` `{2.}` `{2/}` `{2//}` `{2/.}`) of the source with this number only.
///
/// A command that has none of them gets the arguments appended.
#[derive(Debug, Clone)]
pub struct Template {
    form: Form,
}

#[derive(Debug, Clone)]
enum Form {
    /// Words that are run as they are.
    Argv(Vec<Pattern>),
    /// A line that `shell` runs.
    Shell { shell: OsString, line: Pattern },
}

/// Why a command cannot be a template.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// There is no command.
    #[error("no command to run; write it after `--`, as in `pmq map -- gzip {{}}`")]
    NoCommand,
    /// `{%}`, the slot of the job, is only known where the job runs.
    #[error("`{{%}}` is not known before a job runs; use --shell and $PMQ_SLOT")]
    Slot,
    /// A replacement string names a source that is not there.
    #[error("`{{{position}}}` names source {position}, but there are {sources}; add a `:::`")]
    NoSuchSource {
        /// The number in the replacement string.
        position: usize,
        /// How many sources there are.
        sources: usize,
    },
}

impl From<SlotIsUnknown> for TemplateError {
    fn from(SlotIsUnknown: SlotIsUnknown) -> Self {
        Self::Slot
    }
}

impl Template {
    /// A command that runs without a shell: nothing is quoted, and nothing needs to be.
    ///
    /// With several sources `{}` ends a word after each but the last value, which is what a shell
    /// makes of it: `x{}y` is `xa` and `by` for the arguments `a` and `b`.
    pub fn argv(command: &[OsString]) -> Result<Self, TemplateError> {
        if command.is_empty() {
            return Err(TemplateError::NoCommand);
        }
        let parse = |word: &OsString| Pattern::parse(word.as_bytes());
        let mut words = command.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
        if !words.iter().any(Pattern::is_filled) {
            words.push(Pattern {
                pieces: vec![Piece::Argument(Argument::ALL)],
            });
        }
        Ok(Self {
            form: Form::Argv(words),
        })
    }

    /// A line that `shell -c` runs: the words of `command` joined by spaces, each value quoted.
    ///
    /// `shell` has to be a POSIX one, see [`posix_shell`]. As the values bring their own quotes, a
    /// replacement string must not stand between quotes in the line.
    pub fn shell(shell: OsString, command: &[OsString]) -> Result<Self, TemplateError> {
        if command.is_empty() {
            return Err(TemplateError::NoCommand);
        }
        let mut line = Pattern::parse(command.join(OsStr::new(" ")).as_bytes())?;
        if !line.is_filled() {
            line.pieces
                .extend([Piece::Text(b" ".to_vec()), Piece::Argument(Argument::ALL)]);
        }
        Ok(Self {
            form: Form::Shell { shell, line },
        })
    }

    /// Checks that each numbered replacement string names one of so many sources.
    pub fn check_sources(&self, sources: usize) -> Result<(), TemplateError> {
        let patterns = match &self.form {
            Form::Argv(words) => words.as_slice(),
            Form::Shell { line, .. } => std::slice::from_ref(line),
        };
        for piece in patterns.iter().flat_map(|pattern| &pattern.pieces) {
            if let Piece::Argument(Argument {
                position: Some(position),
                ..
            }) = piece
                && position.get() > sources
            {
                let position = position.get();
                return Err(TemplateError::NoSuchSource { position, sources });
            }
        }
        Ok(())
    }

    /// The command of `job`.
    #[must_use]
    pub fn expand(&self, job: &Job) -> Vec<OsString> {
        match &self.form {
            Form::Shell { shell, line } => {
                vec![shell.clone(), "-c".into(), shell_line(line, job)]
            }
            Form::Argv(words) => {
                let mut argv = Vec::with_capacity(words.len() + job.args.len());
                for word in words {
                    push_words(word, job, &mut argv);
                }
                argv
            }
        }
    }
}

fn push_words(pattern: &Pattern, job: &Job, argv: &mut Vec<OsString>) {
    let mut word = Vec::new();
    pattern.fill(job, |part| match part {
        Part::Text(bytes) | Part::Value(bytes) => word.extend_from_slice(bytes),
        Part::Gap => argv.push(OsString::from_vec(std::mem::take(&mut word))),
    });
    argv.push(OsString::from_vec(word));
}

fn shell_line(pattern: &Pattern, job: &Job) -> OsString {
    let mut line = Vec::new();
    pattern.fill(job, |part| match part {
        Part::Text(text) => line.extend_from_slice(text),
        Part::Value(value) => quote::push_quoted(value, &mut line),
        Part::Gap => line.push(b' '),
    });
    OsString::from_vec(line)
}

/// The shell for `--shell`: the user's own (the value of `$SHELL`) if it reads POSIX quotes, which
/// fish and csh do not, else `/bin/sh`.
#[must_use]
pub fn posix_shell(of_user: Option<OsString>) -> OsString {
    let is_posix = |shell: &OsString| POSIX_SHELLS.contains(&path::basename(shell.as_bytes()));
    of_user.filter(is_posix).unwrap_or_else(|| "/bin/sh".into())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    fn job(args: &[&str]) -> Job {
        Job {
            seq: 3,
            args: args.iter().map(OsString::from).collect(),
        }
    }

    fn command(line: &str) -> Vec<OsString> {
        line.split_whitespace().map(OsString::from).collect()
    }

    fn expand(line: &str, args: &[&str]) -> Vec<OsString> {
        Template::argv(&command(line)).unwrap().expand(&job(args))
    }

    #[test]
    fn words_become_what_a_shell_would_make_of_them() {
        let cases: [(&str, &[&str], &[&str]); 9] = [
            ("gzip -9 -k {}", &["a b"], &["gzip", "-9", "-k", "a b"]),
            ("cp {} {.}.bak", &["d/x.c"], &["cp", "d/x.c", "d/x.bak"]),
            ("mv {1} {2/}-{#}", &["a", "b/c"], &["mv", "a", "c-3"]),
            ("f {}", &["a", "c"], &["f", "a", "c"]),
            ("f x{}y", &["a", "c"], &["f", "xa", "cy"]),
            ("f {}-{}", &["a", "c"], &["f", "a", "c-a", "c"]),
            ("f {1}", &[""], &["f", ""]),
            ("{} --version", &["gzip"], &["gzip", "--version"]),
            ("echo {#}", &["a"], &["echo", "3"]),
        ];
        for (line, args, expected) in cases {
            assert_eq!(expand(line, args), expected, "{line}");
        }
    }

    #[test]
    fn arguments_are_appended_where_nothing_names_them() {
        assert_eq!(expand("echo x", &["a", "b c"]), ["echo", "x", "a", "b c"]);
        assert_eq!(expand("echo {foo}", &["a"]), ["echo", "{foo}", "a"]);
        assert_eq!(expand("echo", &[""]), ["echo", ""]);
    }

    #[test]
    fn a_shell_line_quotes_its_values() {
        let line = ["gzip -9 {} && echo".into(), "{/.}; :".into()];
        let template = Template::shell("/bin/sh".into(), &line).unwrap();
        let expected = [
            "/bin/sh",
            "-c",
            "gzip -9 'd/it'\"'\"'s.c' && echo 'it'\"'\"'s'; :",
        ];
        assert_eq!(template.expand(&job(&["d/it's.c"])), expected);

        let appended = Template::shell("sh".into(), &command("echo x")).unwrap();
        assert_eq!(
            appended.expand(&job(&["a b", "c"])),
            ["sh", "-c", "echo x 'a b' c"]
        );
    }

    #[test]
    fn what_cannot_be_a_command_says_why() {
        assert_eq!(Template::argv(&[]).unwrap_err(), TemplateError::NoCommand);
        assert_eq!(
            Template::shell("sh".into(), &[]).unwrap_err(),
            TemplateError::NoCommand
        );
        let error = Template::argv(&command("echo {%}")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "`{%}` is not known before a job runs; use --shell and $PMQ_SLOT"
        );
        let template = Template::argv(&command("echo {1} {3/.}")).unwrap();
        assert_eq!(template.check_sources(3), Ok(()));
        let error = template.check_sources(2).unwrap_err();
        assert_eq!(
            error.to_string(),
            "`{3}` names source 3, but there are 2; add a `:::`"
        );
    }

    #[test]
    fn only_posix_shells_are_taken_from_the_user() {
        let shell = |name: &str| posix_shell(Some(name.into()));
        assert_eq!(shell("/usr/bin/zsh"), "/usr/bin/zsh");
        assert_eq!(shell("/usr/bin/fish"), "/bin/sh");
        assert_eq!(shell(""), "/bin/sh");
        assert_eq!(posix_shell(None), "/bin/sh");
    }

    proptest! {
        #[test]
        fn appended_arguments_arrive_unchanged(
            args in prop::collection::vec(prop::collection::vec(1u8.., 0..20), 1..6),
        ) {
            let args: Vec<_> = args.into_iter().map(OsString::from_vec).collect();
            let expanded = Template::argv(&["f".into()])
                .unwrap()
                .expand(&Job { seq: 1, args: args.clone() });
            prop_assert_eq!(&expanded[1..], &args[..]);
        }
    }

    proptest! {
        // Each case starts a shell.
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn a_shell_and_argv_see_the_same_arguments(
            args in prop::collection::vec("[ -~\\n]{0,8}", 1..4),
        ) {
            let args: Vec<_> = args.iter().map(OsString::from).collect();
            let job = Job { seq: 1, args };
            let command = ["printf".into(), "%s\\0".into()];
            let run = |template: Template| {
                let argv = template.expand(&job);
                Command::new(&argv[0]).args(&argv[1..]).output().unwrap().stdout
            };
            let quoted = ["printf".into(), "'%s\\0'".into()];
            let by_shell = run(Template::shell("/bin/sh".into(), &quoted).unwrap());
            prop_assert_eq!(by_shell, run(Template::argv(&command).unwrap()));
        }
    }
}
