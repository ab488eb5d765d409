//! The signals that reach `pmq lock` and `pmq sem`, for the command or for both.

use std::future::poll_fn;
use std::io;
use std::task::Poll;

use rustix::process::{self, getpid, kill_process};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::ignored::is_ignored;

/// Signals that are caught from now on, each with what it stands for.
pub(super) struct Signals<T>(Vec<(T, Signal)>);

/// What a shell does with a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Job {
    /// On Ctrl-Z.
    Stop,
    /// By `fg` and `bg`.
    Continue,
}

impl Signals<SignalKind> {
    /// Those that the command gets in this process's stead.
    pub(super) fn to_pass_on() -> io::Result<Self> {
        let mut kinds = vec![
            SignalKind::interrupt(),
            SignalKind::quit(),
            SignalKind::terminate(),
            SignalKind::user_defined1(),
            SignalKind::user_defined2(),
        ];
        if !is_ignored(SignalKind::hangup()) {
            kinds.push(SignalKind::hangup());
        }
        let caught = kinds.into_iter().map(|kind| Ok((kind, signal(kind)?)));
        caught.collect::<io::Result<_>>().map(Self)
    }
}

impl Signals<Job> {
    /// Those of job control; none where SIGTSTP is to be ignored.
    pub(super) fn of_job_control() -> io::Result<Self> {
        let [stop, go_on] = [process::Signal::TSTP, process::Signal::CONT]
            .map(|signal| SignalKind::from_raw(signal.as_raw()));
        if is_ignored(stop) {
            return Ok(Self::none());
        }
        Ok(Self(vec![
            (Job::Stop, signal(stop)?),
            (Job::Continue, signal(go_on)?),
        ]))
    }
}

impl<T: Copy> Signals<T> {
    /// Catches nothing.
    pub(super) fn none() -> Self {
        Self(Vec::new())
    }

    /// Waits for the next of them. Loses none when dropped.
    pub(super) async fn next(&mut self) -> T {
        poll_fn(|context| {
            let mut signals = self.0.iter_mut();
            let came = signals
                .find_map(|(what, signal)| signal.poll_recv(context).is_ready().then_some(*what));
            came.map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }
}

/// Stops this process until it is continued. It may return a little before it stands still.
pub(super) fn stand_still() {
    // SIGTSTP is caught here, and a process may always signal itself.
    let _ = kill_process(getpid(), process::Signal::STOP);
}
