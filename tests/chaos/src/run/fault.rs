//! The faults: what is done to whom, and what the checker must know of it.

use std::time::Duration;

use crate::history::Effects;

/// The steps of a task at which a worker can be killed: each is a call of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It has claimed tasks, and does not know it.
    Claimed,
    /// It knows which tasks it has claimed.
    Told,
    /// Its runs have had their effect, and nobody knows it.
    Ran,
    /// Its tasks have ended, and it does not know it.
    Finished,
}

/// Kinds of faults, from which a schedule picks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// SIGKILL of a process in a place of this kind; another one follows.
    Kill(&'static str),
    /// SIGKILL of a process at this step of its work; another one follows.
    KillAt(&'static str, Step),
    /// SIGSTOP for less than a lease.
    Pause(&'static str),
    /// SIGSTOP for more than a lease.
    LongPause(&'static str),
    /// SIGTERM of a process, which hands its work back; another one follows.
    Retire(&'static str),
    /// SIGTERM of a process; one of another release follows, whose function library has another name.
    Upgrade(&'static str),
    /// SIGKILL of the server, which comes back with its files.
    KillBroker,
    /// SIGSTOP of the server for less than a lease.
    PauseBroker,
    /// SIGKILL of the server, which comes back after more than a lease.
    LongOutage,
    /// Everything that was not synchronised is gone, as after a power cut.
    PowerCut,
    /// SIGKILL of the primary; a replica takes over.
    KillPrimary,
    /// SIGSTOP of the primary until a replica has taken over, and SIGCONT then.
    PausePrimary,
    /// The primary loses its replicas and sentinels, but not its clients, until a replica has taken over.
    IsolatePrimary,
    /// The slot of the task queue moves to another primary, and stands still half-way.
    MoveSlot,
    /// The server's clock jumps ahead by half a minute, and back again.
    ClockAhead,
    /// The server's clock jumps back by half a minute, and ahead again.
    ClockBehind,
    /// FLUSHALL.
    FlushAll,
    /// FUNCTION FLUSH, five times in a row.
    FlushFunctions,
    /// All connections of a process are closed.
    Cut(&'static str),
    /// A process's packets vanish, both ways.
    Hole(&'static str),
    /// A process's packets are late.
    Delay(&'static str),
    /// A process's connections carry one byte at a time.
    Slice(&'static str),
    /// A process's connections carry a few kB a second.
    Throttle(&'static str),
    /// The next reply to a process is lost, and its connection with it.
    LoseReplies(&'static str),
    /// The server's memory is full.
    FullMemory,
    /// The server's disk is full.
    FullDisk,
    /// The server's memory is full, and it was told to evict.
    Evict,
    /// The user of all processes is removed from the server, with its connections, and made again.
    RemoveUser,
    /// The user of all processes has another password, and gets its own again.
    ChangePassword,
    /// The user of all processes may call no functions, and may again.
    RevokeRights,
    /// The connections of all subscribers are closed, as those of one that does not read.
    DropSubscribers,
    /// Records that nobody could have submitted are pushed into Redis.
    Junk,
}

/// A fault that is to happen.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    /// What.
    pub kind: Kind,
    /// To whom: a place, `broker`, or `*` for all.
    pub target: String,
    /// From when on, since the begin of the faults.
    pub at: Duration,
    /// For how long.
    pub lasts: Duration,
}

impl Kind {
    /// Its name in the history and in the report.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Kill(_) => "kill",
            Self::KillAt(_, Step::Claimed) => "kill after the claim",
            Self::KillAt(_, Step::Told) => "kill before the run",
            Self::KillAt(_, Step::Ran) => "kill after the run",
            Self::KillAt(_, Step::Finished) => "kill after the finish",
            Self::Pause(_) => "pause",
            Self::LongPause(_) => "long pause",
            Self::Retire(_) => "retire",
            Self::Upgrade(_) => "upgrade",
            Self::KillBroker => "kill the broker",
            Self::PauseBroker => "pause the broker",
            Self::LongOutage => "long outage of the broker",
            Self::PowerCut => "power cut",
            Self::KillPrimary => "kill the primary",
            Self::PausePrimary => "pause the primary",
            Self::IsolatePrimary => "isolate the primary",
            Self::MoveSlot => "move the slot",
            Self::ClockAhead => "clock ahead",
            Self::ClockBehind => "clock behind",
            Self::FlushAll => "FLUSHALL",
            Self::FlushFunctions => "FUNCTION FLUSH",
            Self::Cut(_) => "cut",
            Self::Hole(_) => "black hole",
            Self::Delay(_) => "delay",
            Self::Slice(_) => "slices",
            Self::Throttle(_) => "slow line",
            Self::LoseReplies(_) => "lost replies",
            Self::FullMemory => "full memory",
            Self::FullDisk => "full disk",
            Self::Evict => "eviction",
            Self::RemoveUser => "remove the user",
            Self::ChangePassword => "change the password",
            Self::RevokeRights => "revoke the rights",
            Self::DropSubscribers => "drop the subscribers",
            Self::Junk => "malformed records",
        }
    }

    /// The kind of place that it happens to; `None` for the broker.
    #[must_use]
    pub fn place(self) -> Option<&'static str> {
        match self {
            Self::Kill(place)
            | Self::KillAt(place, _)
            | Self::Pause(place)
            | Self::LongPause(place)
            | Self::Retire(place)
            | Self::Upgrade(place)
            | Self::Cut(place)
            | Self::Hole(place)
            | Self::Delay(place)
            | Self::Slice(place)
            | Self::Throttle(place)
            | Self::LoseReplies(place) => Some(place),
            _ => None,
        }
    }

    /// How long it lasts: between these two, in thousandths of a lease.
    #[must_use]
    pub fn lasts(self) -> (u64, u64) {
        match self {
            Self::Kill(_)
            | Self::KillAt(..)
            | Self::Retire(_)
            | Self::Upgrade(_)
            | Self::KillBroker
            | Self::PowerCut
            | Self::MoveSlot => (100, 300),
            Self::LongPause(_) => (1300, 1800),
            Self::LongOutage | Self::KillPrimary | Self::PausePrimary | Self::IsolatePrimary => {
                (1200, 1600)
            }
            Self::ClockAhead | Self::ClockBehind => (500, 1500),
            Self::Pause(_) | Self::PauseBroker => (100, 500),
            Self::Hole(_) => (200, 1200),
            Self::Delay(_)
            | Self::Slice(_)
            | Self::Throttle(_)
            | Self::FullMemory
            | Self::FullDisk
            | Self::Evict
            | Self::RemoveUser
            | Self::ChangePassword
            | Self::RevokeRights => (500, 900),
            Self::FlushAll
            | Self::FlushFunctions
            | Self::Cut(_)
            | Self::LoseReplies(_)
            | Self::DropSubscribers
            | Self::Junk => (0, 0),
        }
    }

    /// Whom it is aimed at where it happens to no place.
    #[must_use]
    pub fn aim(self) -> &'static str {
        match self {
            Self::FlushAll | Self::Evict => "*",
            _ => "broker",
        }
    }

    /// What may come of it. `loses_ms` is what this server may lose in a power cut.
    #[must_use]
    pub fn effects(self, loses_ms: u64) -> Effects {
        let ends_leases = matches!(
            self,
            Self::Kill(_)
                | Self::KillAt(..)
                | Self::LongPause(_)
                | Self::Hole(_)
                | Self::FlushAll
                | Self::Evict
                | Self::PowerCut
        );
        let loses_ms = match self {
            Self::FlushAll | Self::Evict => u64::MAX / 2_000_000,
            Self::KillBroker
            | Self::LongOutage
            | Self::PowerCut
            | Self::KillPrimary
            | Self::PausePrimary
            | Self::IsolatePrimary => loses_ms,
            _ => 0,
        };
        Effects {
            loses_ms,
            ends_leases,
        }
    }
}
