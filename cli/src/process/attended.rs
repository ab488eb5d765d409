//! A process that this one stays with: its output is shown here, and Ctrl-C ends it.

use std::io;
use std::pin::pin;
use std::time::Duration;

use pmq_broker::lending::while_waiting;
use pmq_broker::process::{self, exitcode_of};
use pmq_broker::task_queue::{Cancelled, Signal};
use pmq_broker::{Completion, Process, TaskQueue};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::place::Place;
use super::printer::Printer;
use super::stream::stream;
use crate::completion_record::CompletionRecord;
use crate::exit::Exit;
use crate::map::signals::StopSignals;
use crate::output::{Output, note};

/// How long leaving may take while the broker does not answer; leases end what is left behind.
const LEAVING: Duration = Duration::from_secs(10);

/// A start that takes longer than this is explained.
const LATE: Duration = Duration::from_secs(1);

/// A process and what this one does about it.
pub(crate) struct Attended {
    pub(crate) process: Process,
    pub(crate) place: Place,
    pub(crate) signals: StopSignals,
    /// How long it may run.
    pub(crate) limit: Option<Duration>,
    pub(crate) output: Output,
}

/// Why a process was stopped from here.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stopped {
    BySignal,
    /// By a signal, and not all of its output could be shown.
    CutShort,
    OutOfTime,
}

impl Attended {
    /// Runs it to its end, and leaves.
    pub(crate) async fn run(mut self) -> anyhow::Result<Exit> {
        let ended = self.attend().await;
        self.leave().await;
        ended
    }

    /// Starts it, and leaves it running.
    pub(crate) async fn start(mut self) -> anyhow::Result<Exit> {
        if self.begin().await? != Some(false) {
            self.leave().await;
            return Ok(Exit::INTERRUPTED);
        }
        let id = self.process.id();
        if self.output.is_json() {
            self.output.json(&serde_json::json!({"id": id}))?;
        } else {
            self.output.line(&id.to_string())?;
        }
        self.leave().await;
        Ok(Exit::OK)
    }

    async fn leave(self) {
        let left = async {
            process::leave(&self.place.broker).await?;
            self.place.close().await?;
            anyhow::Ok(())
        };
        if !matches!(timeout(LEAVING, left).await, Ok(Ok(()))) {
            tracing::info!("left the broker untidy; what is left there expires");
        }
    }

    /// Starts it; answers whether it was stopped meanwhile. `None` where it did not come to the fleet before that.
    async fn begin(&mut self) -> anyhow::Result<Option<bool>> {
        let (id, broker) = (self.process.id(), self.place.broker.clone());
        let queue = self.place.queue.clone();
        let mut is_stopped = false;
        let mut late = Some(Instant::now() + LATE);
        let mut start = pin!(self.process.start(&broker));
        loop {
            tokio::select! {
                started = &mut start => return Ok(started.map(|()| Some(is_stopped))?),
                () = pass(late), if late.is_some() => {
                    late = None;
                    self.place.explain_wait().await?;
                    continue;
                }
                () = self.signals.next() => {}
                error = self.place.failed() => return Err(error),
            }
            if queue.cancel(&[id], order(is_stopped)).await? == [Cancelled::Unknown] {
                return Ok(None);
            }
            is_stopped = true;
        }
    }

    async fn attend(&mut self) -> anyhow::Result<Exit> {
        let Some(is_stopped) = self.begin().await? else {
            return Ok(Exit::INTERRUPTED);
        };
        let stopped = self.watch(is_stopped.then_some(Stopped::BySignal)).await?;
        let Some(completion) = self.process.completion().await? else {
            anyhow::bail!("process {} has not ended", self.process.id());
        };
        if self.output.is_json() {
            self.output.json(&CompletionRecord::new(&completion))?;
        } else if stopped.is_none() {
            explain(&completion);
        }
        Ok(match stopped {
            Some(Stopped::OutOfTime) => Exit::TIMED_OUT,
            Some(_) if completion.attempt == 0 => Exit::INTERRUPTED,
            // Its own code would say that all went well.
            Some(Stopped::CutShort) if exitcode_of(&completion) == 0 => Exit::INTERRUPTED,
            _ => Exit::of_process(exitcode_of(&completion)),
        })
    }

    /// Shows its output until it has ended; a first signal terminates it, the next kills it.
    async fn watch(&mut self, mut stopped: Option<Stopped>) -> anyhow::Result<Option<Stopped>> {
        let Self {
            process,
            place,
            signals,
            limit,
            output,
        } = self;
        let (id, queue) = (process.id(), place.queue.clone());
        let mut deadline = limit.map(|limit| Instant::now() + limit);
        let hurry = CancellationToken::new();
        if stopped.is_some() {
            hurry.cancel();
        }
        // For a program, its output is in the one object that tells its end.
        let printer = (!output.is_json()).then(|| Printer::start(*output, hurry.clone()));
        let mut shown = pin!(show(process, &queue, printer.transpose()?));
        loop {
            let why = tokio::select! {
                shown = &mut shown => return outcome(shown, stopped),
                error = place.failed() => return Err(error),
                () = signals.next() => Stopped::BySignal,
                () = pass(deadline), if stopped.is_none() => Stopped::OutOfTime,
            };
            let told = queue.cancel(&[id], order(stopped.is_some())).await?;
            if why == Stopped::OutOfTime && told == [Cancelled::Ended] {
                deadline = None; // it was in time; what is not shown yet has all the time
                continue;
            }
            hurry.cancel();
            stopped = stopped.or(Some(why));
        }
    }
}

fn order(is_stopped: bool) -> Signal {
    if is_stopped {
        Signal::Kill
    } else {
        Signal::Terminate
    }
}

/// Shows its output, and waits for its end. One whose output can't be written is terminated, as SIGPIPE would do here.
async fn show(
    process: &Process,
    queue: &TaskQueue,
    printer: Option<Printer>,
) -> anyhow::Result<()> {
    let shown = match printer {
        Some(printer) => while_waiting(stream(process.log()?, printer)).await,
        None => Ok(()),
    };
    match &shown {
        Ok(()) => {}
        Err(error) if error.is::<io::Error>() => {
            queue.cancel(&[process.id()], Signal::Terminate).await?;
        }
        Err(_) => return shown,
    }
    process.join().await?;
    shown
}

/// Where it was stopped from here, output that nobody takes is no error any more.
fn outcome(shown: anyhow::Result<()>, stopped: Option<Stopped>) -> anyhow::Result<Option<Stopped>> {
    match (shown, stopped) {
        (Ok(()), _) => Ok(stopped),
        (Err(error), Some(why)) if error.is::<io::Error>() => Ok(Some(match why {
            Stopped::BySignal => Stopped::CutShort,
            why => why,
        })),
        (Err(error), _) => Err(error),
    }
}

/// What the output does not tell: that it could not start, or was lost.
fn explain(completion: &Completion) {
    if let Some(error) = &completion.report.error {
        note(error);
    }
}

async fn pass(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
