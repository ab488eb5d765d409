//! The faults: what is done to whom, and what the checker must know of it.

use std::time::Duration;

use crate::history::Effects;

/// Kinds of faults, from which a schedule picks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// SIGKILL of a process in a place of this kind; another one follows.
    Kill(&'static str),
    /// SIGSTOP for less than a lease.
    Pause(&'static str),
    /// SIGSTOP for more than a lease.
    LongPause(&'static str),
    /// SIGTERM of a process, which hands its work back; another one follows.
    Retire(&'static str),
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
    /// The slot of the task queue moves to another primary.
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
    /// The next reply to a process is lost, and its connection with it.
    LoseReplies(&'static str),
    /// The server's memory is full.
    FullMemory,
    /// The server's disk is full.
    FullDisk,
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
            Self::Pause(_) => "pause",
            Self::LongPause(_) => "long pause",
            Self::Retire(_) => "retire",
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
            Self::LoseReplies(_) => "lost replies",
            Self::FullMemory => "full memory",
            Self::FullDisk => "full disk",
            Self::Junk => "malformed records",
        }
    }

    /// The kind of place that it happens to; `None` for the broker.
    #[must_use]
    pub fn place(self) -> Option<&'static str> {
        match self {
            Self::Kill(place)
            | Self::Pause(place)
            | Self::LongPause(place)
            | Self::Retire(place)
            | Self::Cut(place)
            | Self::Hole(place)
            | Self::Delay(place)
            | Self::LoseReplies(place) => Some(place),
            _ => None,
        }
    }

    /// How long it lasts: between these two, in thousandths of a lease.
    #[must_use]
    pub fn lasts(self) -> (u64, u64) {
        match self {
            Self::Kill(_) | Self::Retire(_) | Self::KillBroker | Self::PowerCut => (100, 300),
            Self::LongPause(_) => (1300, 1800),
            Self::LongOutage | Self::KillPrimary | Self::PausePrimary | Self::IsolatePrimary => {
                (1200, 1600)
            }
            Self::ClockAhead | Self::ClockBehind => (500, 1500),
            Self::Pause(_) | Self::PauseBroker => (100, 500),
            Self::Hole(_) => (200, 1200),
            Self::Delay(_) | Self::FullMemory | Self::FullDisk => (500, 900),
            Self::MoveSlot
            | Self::FlushAll
            | Self::FlushFunctions
            | Self::Cut(_)
            | Self::LoseReplies(_)
            | Self::Junk => (0, 0),
        }
    }

    /// What may come of it. `loses_ms` is what this server may lose in a power cut.
    #[must_use]
    pub fn effects(self, loses_ms: u64) -> Effects {
        let ends_leases = matches!(
            self,
            Self::Kill(_) | Self::LongPause(_) | Self::Hole(_) | Self::FlushAll | Self::PowerCut
        );
        let loses_ms = match self {
            Self::FlushAll => u64::MAX / 2_000_000,
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

/// The faults of a run: each kind of the menu in turn, in random order, at random targets; the same for the same seed.
#[must_use]
pub fn schedule(menu: &[Kind], window: Duration, every: Duration, shape: &Shape) -> Vec<Fault> {
    let mut rng = fastrand::Rng::with_seed(shape.seed);
    let (mut faults, mut at, mut course) = (Vec::new(), Duration::ZERO, Vec::new());
    while at < window && !menu.is_empty() {
        if course.is_empty() {
            course = menu.to_vec();
            rng.shuffle(&mut course);
        }
        let Some(kind) = course.pop() else { break };
        let (least, most) = kind.lasts();
        let lasts = shape.lease.mul_f64(rng.u64(least..=most) as f64 / 1000.0);
        let target = match kind.place() {
            Some(place) => {
                let count = shape
                    .places
                    .iter()
                    .filter(|p| p.starts_with(place))
                    .count()
                    .max(1);
                let mut places = shape.places.iter().filter(|p| p.starts_with(place));
                places.nth(rng.usize(..count)).cloned().unwrap_or_default()
            }
            None if kind == Kind::FlushAll => "*".to_owned(),
            None => "broker".to_owned(),
        };
        faults.push(Fault {
            kind,
            target,
            at,
            lasts,
        });
        at += lasts + every.mul_f64(0.7 + 0.6 * rng.f64());
    }
    faults
}

/// What a schedule depends on beside its menu.
pub struct Shape {
    /// The seed of all choices.
    pub seed: u64,
    /// The lease, which is the measure of time.
    pub lease: Duration,
    /// The places that there are.
    pub places: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(seed: u64) -> Shape {
        let places = ["worker-0", "worker-1", "producer-0"]
            .map(str::to_owned)
            .into();
        Shape {
            seed,
            lease: Duration::from_secs(3),
            places,
        }
    }

    #[test]
    fn a_seed_stands_for_one_schedule() {
        let menu = [
            Kind::Kill("worker"),
            Kind::KillBroker,
            Kind::Pause("producer"),
        ];
        let (window, every) = (Duration::from_secs(20), Duration::from_secs(1));
        let faults = schedule(&menu, window, every, &shape(7));
        assert_eq!(faults, schedule(&menu, window, every, &shape(7)));
        assert_ne!(faults, schedule(&menu, window, every, &shape(8)));
        for kind in menu {
            assert!(faults.iter().any(|fault| fault.kind == kind), "{kind:?}");
        }
        assert!(
            faults
                .iter()
                .all(|f| f.target == "broker" || f.kind.place().is_some())
        );
    }
}
