//! What to run next: the jobs of the input, or those that a joblog tells to have failed.
//!
//! Reading may block for as long as whoever writes the input likes, so it has a thread of its own,
//! which reads ahead: that is how the number of jobs is known early, and what bounds the memory.
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::sync::{Arc, OnceLock};
use std::thread;

use tokio::sync::mpsc;

use super::input::{Job, Jobs};
use super::past::{Fate, Past};
use super::quote;
use super::template::Template;

/// How many jobs are read ahead.
const AHEAD: usize = 16_384;

/// A job and its command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Its number and arguments.
    pub job: Job,
    /// What to run.
    pub command: Vec<OsString>,
}

impl Step {
    /// The command as one line, for people.
    #[must_use]
    pub fn line(&self) -> String {
        String::from_utf8_lossy(&quote::line(&self.command)).into_owned()
    }
}

/// What an earlier run leaves to do.
#[derive(Debug)]
pub struct Earlier {
    /// What its joblog says.
    pub past: Past,
    /// Whether jobs that failed run again (`--resume-failed`), and not only those that did not end.
    pub failed_again: bool,
}

impl Earlier {
    fn is_due(&self, step: &Step) -> anyhow::Result<bool> {
        Ok(match self.past.fate(step.job.seq, &step.command)? {
            Fate::Unknown => true,
            Fate::Failed => self.failed_again,
            Fate::Succeeded => false,
        })
    }
}

/// The steps of the input, without those that an `earlier` run leaves no need for.
pub fn from_input(
    jobs: Jobs,
    template: Template,
    earlier: Option<Earlier>,
) -> impl Iterator<Item = anyhow::Result<Step>> + Send {
    let steps = jobs.map(move |job| {
        let job = job?;
        let command = template.expand(&job);
        Ok(Step { job, command })
    });
    steps.filter_map(move |step: anyhow::Result<Step>| {
        let due = match (&step, &earlier) {
            (Ok(step), Some(earlier)) => earlier.is_due(step),
            _ => Ok(true),
        };
        due.map_or_else(|error| Some(Err(error)), |due| due.then_some(step))
    })
}

/// The failed jobs of an earlier run, with the commands that its joblog names (`--retry-failed`).
///
/// Their argument is the whole command, as the joblog does not tell more.
pub fn from_failures(past: &Past) -> anyhow::Result<Vec<anyhow::Result<Step>>> {
    let step = |failure: super::past::Failure| Step {
        job: Job {
            seq: failure.seq,
            args: vec![OsString::from_vec(quote::line(&failure.command))],
        },
        command: failure.command,
    };
    past.failed()
        .map(|failure| Ok(Ok(step(failure?))))
        .collect()
}

/// Steps that are read in the background.
#[derive(Debug)]
pub struct Feed {
    steps: mpsc::Receiver<anyhow::Result<Step>>,
    total: Arc<OnceLock<u64>>,
}

impl Feed {
    /// Starts to read. `count_first` reads all before the first is handed out, for those who must know the total.
    pub fn start<I>(steps: I, count_first: bool) -> std::io::Result<Self>
    where
        I: Iterator<Item = anyhow::Result<Step>> + Send + 'static,
    {
        let (sender, receiver) = mpsc::channel(AHEAD);
        let total = Arc::<OnceLock<u64>>::default();
        let known = Arc::clone(&total);
        thread::Builder::new()
            .name("pmq-input".into())
            .spawn(move || {
                if count_first {
                    let all: Vec<_> = steps.collect();
                    let _ = known.set(all.len() as u64);
                    let _ = all
                        .into_iter()
                        .try_for_each(|step| sender.blocking_send(step));
                    return;
                }
                let mut count = 0;
                for step in steps {
                    // Nobody is left to read it once the run ends early.
                    if sender.blocking_send(step).is_err() {
                        return;
                    }
                    count += 1;
                }
                let _ = known.set(count);
            })?;
        Ok(Self {
            steps: receiver,
            total,
        })
    }

    /// The next steps, at most `most` and at least one; none at the end. Loses nothing when dropped.
    pub async fn next(&mut self, most: usize) -> Vec<anyhow::Result<Step>> {
        let mut steps = Vec::new();
        self.steps.recv_many(&mut steps, most).await;
        steps
    }

    /// How many steps there are in all, once the reader has come to the end.
    #[must_use]
    pub fn total(&self) -> Option<u64> {
        self.total.get().copied()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Write};

    use super::super::input::Reading;
    use super::super::joblog::Joblog;
    use super::*;

    fn jobs(input: &'static [u8]) -> Jobs {
        Jobs::open(vec![], Reading::default(), input).unwrap()
    }

    fn echo() -> Template {
        Template::argv(&["echo".into()]).unwrap()
    }

    fn past(lines: &str) -> Past {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(
            b"Seq\tHost\tStarttime\tJobRuntime\tSend\tReceive\tExitval\tSignal\tCommand\n",
        )
        .unwrap();
        file.write_all(lines.as_bytes()).unwrap();
        Joblog::resume(file.path()).unwrap().1
    }

    const ENDED: &str =
        "1\t:\t0.000\t0.005\t0\t2\t0\t0\techo a\n2\t:\t0.000\t0.005\t0\t2\t1\t0\techo b\n";

    fn numbers(failed_again: bool) -> Vec<u64> {
        let past = past(ENDED);
        let earlier = Some(Earlier { past, failed_again });
        from_input(jobs(b"a\nb\nc\n"), echo(), earlier)
            .map(|step| step.unwrap().job.seq)
            .collect()
    }

    #[test]
    fn an_earlier_run_leaves_what_did_not_end_and_if_asked_what_failed() {
        assert_eq!(numbers(false), [3]);
        assert_eq!(numbers(true), [2, 3]);
    }

    #[test]
    fn another_input_than_the_earlier_runs_is_refused() {
        let earlier = Some(Earlier {
            past: past(ENDED),
            failed_again: false,
        });
        let first = from_input(jobs(b"x\n"), echo(), earlier).next().unwrap();
        assert!(first.unwrap_err().to_string().contains("another command"));
    }

    #[test]
    fn failures_come_with_their_commands() {
        let steps = from_failures(&past(ENDED)).unwrap();
        let [Ok(step)] = &steps[..] else {
            panic!("{steps:?}")
        };
        assert_eq!((step.job.seq, step.line().as_str()), (2, "echo b"));
    }

    #[tokio::test]
    async fn the_total_is_known_at_the_end_or_first_where_asked() {
        let steps = || from_input(jobs(b"a\nb\nc\n"), echo(), None);
        let mut feed = Feed::start(steps(), true).unwrap();
        assert_eq!(feed.next(1).await.len(), 1);
        assert_eq!(feed.total(), Some(3));
        for _ in 0..2 {
            assert_eq!(feed.next(1).await.len(), 1);
        }
        assert!(feed.next(1).await.is_empty());

        let (reader, mut writer) = std::io::pipe().unwrap();
        let input = Jobs::open(vec![], Reading::default(), BufReader::new(reader)).unwrap();
        let mut feed = Feed::start(from_input(input, echo(), None), false).unwrap();
        writer.write_all(b"a\n").unwrap();
        assert_eq!(feed.next(5).await.len(), 1);
        assert_eq!(feed.total(), None);
        drop(writer);
        assert!(feed.next(5).await.is_empty());
        assert_eq!(feed.total(), Some(1));
    }
}
