//! `pmq logs`: what a process prints, live or afterwards.

use std::io::{self, Write};

use clap::{Args, ValueEnum};
use pmq_broker::process::{Piece, Stream};
use pmq_broker::task_queue::Ending;
use pmq_broker::{Completion, TaskId, TaskQueue};
use serde_json::json;

use crate::args::SearchFlag;
use crate::completion_record::unless_text;
use crate::context::Context;
use crate::exit::Exit;
use crate::locate::{locate, unknown};
use crate::output::{Output, note};
use crate::plural::counted;

const AFTER_HELP: &str = "\
What the process printed on standard output goes to standard output, and its standard error to standard error, byte for \
byte. Each stream is in order; of what was printed on both at nearly the same time, either may come first. A log keeps \
the newest 4 MiB, for the queue's retention after the end (see `pmq queue set`); what is lost is told on standard error. \
Of a task that is no process, the output that its completion keeps is shown.

With --json one object a piece: id, offset, stream, text, and base64 where the bytes are no UTF-8; or id and lost.

Exit codes: 0; 1 where the task is unknown.

Examples:
  pmq logs -f 01890a5d-ac96-774b-bcce-b302099a8057
  pmq logs --stream stderr --offset 1000000 01890a5d-ac96-774b-bcce-b302099a8057";

/// Show what a process prints.
#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub struct Logs {
    /// The process
    #[arg(value_name = "ID")]
    id: TaskId,

    /// Go on until the process has ended
    #[arg(short, long)]
    follow: bool,

    /// Pass over so many bytes, of both streams together
    #[arg(long, value_name = "BYTES", default_value_t)]
    offset: u64,

    /// Only this stream: stdout, stderr
    #[arg(long, value_enum, hide_possible_values = true, value_name = "STREAM")]
    stream: Option<StreamName>,

    #[command(flatten)]
    search: SearchFlag,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum StreamName {
    Stdout,
    Stderr,
}

impl Logs {
    /// Runs it.
    pub async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let broker = context.connect().await?;
        let located = locate(&broker, self.search.queue.as_ref(), &[self.id]).await?;
        let Some(queue) = located.first().map(|located| &located.queue) else {
            return Err(unknown(self.id).into());
        };
        let mut log = queue.log(self.id).from(self.offset).follow(self.follow);
        let mut any = false;
        while let Some(piece) = log.next().await? {
            self.show(&piece, context.output)?;
            any = true;
        }
        if !any {
            self.without_log(queue, context.output).await?;
        }
        Ok(Exit::OK)
    }

    fn show(&self, piece: &Piece, output: Output) -> anyhow::Result<()> {
        match piece {
            Piece::Output { stream, .. } if !self.wants(*stream) => Ok(()),
            Piece::Output {
                offset,
                stream,
                bytes,
            } if output.is_json() => {
                let mut object = json!({
                    "id": self.id, "offset": offset, "stream": stream.as_str(),
                    "text": String::from_utf8_lossy(bytes),
                });
                if let Some(base64) = unless_text(bytes) {
                    object["base64"] = base64.into();
                }
                output.json(&object)
            }
            Piece::Output { stream, bytes, .. } => Ok(print(*stream, bytes, output)?),
            Piece::Lost { bytes } if output.is_json() => {
                output.json(&json!({"id": self.id, "lost": bytes}))
            }
            Piece::Lost { bytes } => {
                note(&format!("lost {} of the log", counted(*bytes, "byte")));
                Ok(())
            }
        }
    }

    fn wants(&self, stream: Stream) -> bool {
        let name = match stream {
            Stream::Stdout => StreamName::Stdout,
            Stream::Stderr => StreamName::Stderr,
        };
        self.stream.is_none_or(|wanted| wanted == name)
    }

    /// The task has no log, or there is nothing in it beyond the offset.
    async fn without_log(&self, queue: &TaskQueue, output: Output) -> anyhow::Result<()> {
        match queue.watch(&[self.id]).await?.pop() {
            Some(Ending::Ended(completion)) if completion.report.stdout.is_none() => {
                if completion.report.log.is_none() {
                    note(&format!("nothing is kept of what task {} printed", self.id));
                }
                Ok(())
            }
            Some(Ending::Ended(completion)) if completion.report.log.is_none() => {
                self.show_completion(&completion, output)
            }
            Some(Ending::Ended(_)) => Ok(()),
            Some(Ending::Living) => {
                note(&format!("task {} has printed nothing yet", self.id));
                Ok(())
            }
            Some(Ending::Unknown) | None => Err(unknown(self.id).into()),
        }
    }

    /// The output of a task that is no process.
    fn show_completion(&self, completion: &Completion, output: Output) -> anyhow::Result<()> {
        let (stdout, stderr) = completion.output();
        let mut start = 0;
        for (stream, bytes) in [(Stream::Stdout, stdout), (Stream::Stderr, stderr)] {
            let cut = bytes.len().min(self.offset.saturating_sub(start) as usize);
            if cut < bytes.len() {
                let piece = Piece::Output {
                    offset: start + cut as u64,
                    stream,
                    bytes: bytes[cut..].to_vec().into(),
                };
                self.show(&piece, output)?;
            }
            start += bytes.len() as u64;
        }
        Ok(())
    }
}

/// Prints to the stream on which the process printed it.
fn print(stream: Stream, bytes: &[u8], output: Output) -> io::Result<()> {
    match stream {
        Stream::Stdout => output.raw(bytes),
        Stream::Stderr => {
            // Nobody is left to tell where standard error is closed.
            let _ = io::stderr().lock().write_all(bytes);
            Ok(())
        }
    }
}
