//! The runs: one for each family of faults, and what takes place in it.

use std::time::Duration;

use super::fault::Kind;
use super::plan::Plan;
use super::site::Durability;
use crate::checker::Terms;
use crate::role::{Mix, Role};

/// A family of faults, and the scene in which they happen.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// Its name.
    pub name: &'static str,
    /// What it is about, and the numbers of its faults in the catalogue.
    pub about: &'static str,
    /// The faults.
    pub menu: &'static [Kind],
    /// The pause between faults, in ms.
    pub every_ms: u64,
    /// How long faults happen in the shortest plan, in seconds.
    pub seconds: u64,
    /// How the server keeps its data.
    pub durability: Durability,
    /// How much a killed server, a power cut or a failover may lose, in ms. A server that synchronises every second
    /// puts writing off for up to 2 s while a synchronisation is under way, and answers meanwhile.
    pub loses_ms: u64,
    /// Whether each process has a network of its own.
    pub proxied: bool,
    /// What the processes need to be in.
    pub needs: Need,
    /// Who takes part.
    pub cast: fn() -> Vec<(String, Role)>,
    /// What is promised.
    pub terms: Terms,
    /// Whether the server's clock can jump, and those of some clients are wrong.
    pub wrong_clocks: bool,
    /// Whether it runs for long without faults, and counts what grows.
    pub soaks: bool,
}

/// What a run needs of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Nothing special.
    Nothing,
    /// strace, to see what is synchronised.
    Strace,
    /// Root, for a small disk of its own.
    SmallDisk,
}

const USUAL: Family = Family {
    name: "",
    about: "",
    menu: &[],
    every_ms: 700,
    seconds: 12,
    durability: Durability::Everysec,
    loses_ms: 0,
    proxied: false,
    needs: Need::Nothing,
    cast: usual_cast,
    terms: TERMS,
    wrong_clocks: false,
    soaks: false,
};
const TERMS: Terms = Terms {
    lease: Duration::from_secs(3),
    exclusion: true,
    resumes: Duration::from_secs(5),
};
const LOSSY: Terms = Terms {
    exclusion: false,
    ..TERMS
};
/// A client looks for the new primary for up to 2 s more at a time.
const FAILOVER: Terms = Terms {
    exclusion: false,
    resumes: Duration::from_secs(8),
    ..TERMS
};

/// All families.
pub const FAMILIES: [Family; 20] = [
    Family {
        name: "workers",
        about: "workers, producers and consumers are killed, stopped and replaced (F1, F2, F24)",
        menu: &[
            Kind::Kill("worker"),
            Kind::Retire("worker"),
            Kind::Pause("worker"),
            Kind::LongPause("worker"),
            Kind::Kill("producer"),
            Kind::Kill("consumer"),
            Kind::Pause("producer"),
        ],
        seconds: 18,
        ..USUAL
    },
    Family {
        name: "zombies",
        about: "runs end late, twice, and again much later (F3, F22), and first come first served",
        menu: &[Kind::LongPause("hand"), Kind::Kill("hand")],
        cast: zombie_cast,
        ..USUAL
    },
    Family {
        name: "broker",
        about: "the server is killed, stopped, and loses its functions (F4, F7, F13)",
        menu: &[Kind::KillBroker, Kind::PauseBroker, Kind::FlushFunctions],
        durability: Durability::Always,
        ..USUAL
    },
    Family {
        name: "broker-everysec",
        about: "the server is killed, with changes synchronised every second (F4)",
        menu: &[Kind::KillBroker],
        every_ms: 1200,
        loses_ms: 2500,
        terms: LOSSY,
        ..USUAL
    },
    Family {
        name: "outage",
        about: "the server is away for longer than a lease, under long runs (F4, F13)",
        menu: &[Kind::LongOutage],
        every_ms: 2000,
        seconds: 16,
        cast: outage_cast,
        durability: Durability::Always,
        ..USUAL
    },
    Family {
        name: "power-always",
        about: "power cuts, with every change synchronised (F5)",
        menu: &[Kind::PowerCut],
        every_ms: 2500,
        durability: Durability::Always,
        needs: Need::Strace,
        ..USUAL
    },
    Family {
        name: "power-everysec",
        about: "power cuts, with changes synchronised every second (F5)",
        menu: &[Kind::PowerCut],
        every_ms: 2500,
        loses_ms: 3000,
        needs: Need::Strace,
        terms: LOSSY,
        ..USUAL
    },
    Family {
        name: "sentinel",
        about: "the primary is killed, stopped and isolated, and a replica takes over (F8)",
        menu: &[Kind::KillPrimary, Kind::PausePrimary, Kind::IsolatePrimary],
        every_ms: 2500,
        seconds: 20,
        durability: Durability::Sentinels,
        loses_ms: 12_000,
        cast: lone_cast,
        terms: FAILOVER,
        ..USUAL
    },
    Family {
        name: "cluster",
        about: "a primary of a cluster is killed and stopped, and its replica takes over (F9)",
        menu: &[Kind::KillPrimary, Kind::PausePrimary],
        every_ms: 2500,
        seconds: 14,
        durability: Durability::Cluster,
        loses_ms: 12_000,
        cast: lone_cast,
        terms: FAILOVER,
        ..USUAL
    },
    Family {
        name: "migration",
        about: "the slot of a task queue moves from primary to primary (F10)",
        menu: &[Kind::MoveSlot],
        every_ms: 1200,
        durability: Durability::Cluster,
        cast: lone_cast,
        ..USUAL
    },
    Family {
        name: "reset",
        about: "the server loses everything (F6)",
        menu: &[Kind::FlushAll],
        every_ms: 3000,
        seconds: 10,
        cast: reset_cast,
        terms: LOSSY,
        ..USUAL
    },
    Family {
        name: "network",
        about: "partitions, half-open and cut connections, latency (F11, F12)",
        menu: &[
            Kind::Hole("worker"),
            Kind::Cut("worker"),
            Kind::Delay("worker"),
            Kind::Hole("producer"),
            Kind::Cut("consumer"),
            Kind::Delay("producer"),
        ],
        seconds: 16,
        proxied: true,
        ..USUAL
    },
    Family {
        name: "replies",
        about: "replies are lost, so that callers cannot know and call again (F12, F22, F24)",
        menu: &[
            Kind::LoseReplies("worker"),
            Kind::LoseReplies("producer"),
            Kind::LoseReplies("consumer"),
        ],
        every_ms: 100,
        proxied: true,
        ..USUAL
    },
    Family {
        name: "memory",
        about: "the server's memory is full (F15)",
        menu: &[Kind::FullMemory],
        every_ms: 1500,
        ..USUAL
    },
    Family {
        name: "disk",
        about: "the server's disk is full (F21)",
        menu: &[Kind::FullDisk],
        every_ms: 1500,
        needs: Need::SmallDisk,
        ..USUAL
    },
    Family {
        name: "poison",
        about: "tasks that kill their workers, malformed records, large bodies (F18, F19, F20)",
        menu: &[Kind::Junk],
        every_ms: 2000,
        cast: poison_cast,
        ..USUAL
    },
    Family {
        name: "objects",
        about: "locks, queues and shared values while their users are killed and stopped and the server is (F4, F25)",
        menu: &[
            Kind::LongPause("holder"),
            Kind::Kill("holder"),
            Kind::Pause("sender"),
            Kind::KillBroker,
            Kind::Kill("sender"),
            Kind::PauseBroker,
        ],
        seconds: 16,
        cast: object_cast,
        durability: Durability::Always,
        ..USUAL
    },
    Family {
        name: "clock",
        about: "the server's clock jumps by half a minute, and some clients' are wrong by more (F14)",
        menu: &[Kind::ClockAhead, Kind::ClockBehind],
        every_ms: 1500,
        wrong_clocks: true,
        cast: clock_cast,
        terms: LOSSY,
        ..USUAL
    },
    Family {
        name: "soak",
        about: "half an hour, a million tasks, no faults: nothing grows",
        seconds: 1800,
        cast: soak_cast,
        soaks: true,
        ..USUAL
    },
    Family {
        name: "herd",
        about: "a thousand idle workers, whose server goes away (F23)",
        menu: &[Kind::KillBroker],
        every_ms: 3000,
        cast: herd_cast,
        durability: Durability::Always,
        ..USUAL
    },
];

impl Family {
    /// Whether a plan has runs of this family.
    #[must_use]
    pub fn in_plan(&self, plan: Plan) -> bool {
        self.soaks == (plan == Plan::Soak)
    }

    /// The family of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        FAMILIES.iter().find(|family| family.name == name).copied()
    }
}

/// Two queues, one producer each and one for both, workers on both, a consumer a queue and a spare one.
fn usual_cast() -> Vec<(String, Role)> {
    let mut cast = workers(3, &["q", "r"]);
    cast.push(producer(0, &["q", "r"], 150, Mix::VARIED));
    cast.push(producer(1, &["q"], 100, Mix::VARIED));
    cast.extend(consumers(&["q", "r", "q"]));
    cast
}

/// One queue with everything of it.
fn lone_cast() -> Vec<(String, Role)> {
    let mut cast = workers(3, &["q"]);
    cast.push(producer(0, &["q"], 100, Mix::VARIED));
    cast.push(producer(1, &["q"], 50, Mix::VARIED));
    cast.extend(consumers(&["q", "q"]));
    cast
}

/// Runs that outlast an outage, in workers of which some are back before the others.
fn outage_cast() -> Vec<(String, Role)> {
    let mut cast = workers(6, &["q"]);
    let mix = Mix {
        longest_ms: 4000,
        ..Mix::PLAIN
    };
    cast.push(producer(0, &["q"], 30, mix));
    cast.extend(consumers(&["q"]));
    cast
}

/// No delays and no retries: by which clock would they be early?
fn clock_cast() -> Vec<(String, Role)> {
    let mut cast = workers(3, &["q"]);
    cast.push(producer(0, &["q"], 60, Mix::PLAIN));
    cast.push(producer(1, &["q"], 60, Mix::PLAIN));
    cast.extend(consumers(&["q", "q"]));
    cast.extend(holders(2));
    cast
}

fn soak_cast() -> Vec<(String, Role)> {
    let mut cast = workers(3, &["q"]);
    let mix = Mix {
        longest_ms: 4,
        ..Mix::PLAIN
    };
    cast.push(producer(0, &["q"], 560, mix));
    cast.extend(consumers(&["q"]));
    cast
}

fn zombie_cast() -> Vec<(String, Role)> {
    let mut cast = workers(2, &["q"]);
    let hand = |n: u8, queue: &str, lazy| {
        (
            format!("hand-{n}"),
            Role::Hand {
                queue: queue.to_owned(),
                lazy,
            },
        )
    };
    cast.extend([
        hand(0, "q", true),
        hand(1, "q", true),
        hand(4, "q", true),
        hand(2, "ordered", false),
        hand(3, "ordered", false),
    ]);
    // Long enough that a late end often meets a later run.
    let long = Mix {
        longest_ms: 1500,
        ..Mix::VARIED
    };
    cast.push(producer(0, &["q"], 40, long));
    cast.push(producer(1, &["ordered"], 100, Mix::PLAIN));
    cast.extend(consumers(&["q", "ordered"]));
    cast
}

fn reset_cast() -> Vec<(String, Role)> {
    let mut cast = usual_cast();
    cast.extend(holders(3));
    cast
}

fn poison_cast() -> Vec<(String, Role)> {
    let mut cast = workers(4, &["q"]);
    let mix = Mix {
        poison: true,
        large: 1 << 20,
        ..Mix::VARIED
    };
    cast.push(producer(0, &["q"], 60, mix));
    cast.extend(consumers(&["q"]));
    cast
}

fn object_cast() -> Vec<(String, Role)> {
    let mut cast = holders(3);
    for n in 0..2 {
        let queue = "plain".to_owned();
        cast.push((
            format!("sender-{n}"),
            Role::Sender {
                queue: queue.clone(),
                rate: 50,
            },
        ));
        cast.push((format!("receiver-{n}"), Role::Receiver { queue }));
        cast.push((format!("registers-{n}"), Role::Registers { keys: 3 }));
    }
    cast
}

fn herd_cast() -> Vec<(String, Role)> {
    let crowd = |n| {
        (
            format!("crowd-{n}"),
            Role::Crowd {
                queue: "q".to_owned(),
                workers: 250,
            },
        )
    };
    let mut cast: Vec<_> = (0..4).map(crowd).collect();
    cast.push(producer(0, &["q"], 20, Mix::PLAIN));
    cast.extend(consumers(&["q"]));
    cast
}

fn names(queues: &[&str]) -> Vec<String> {
    queues.iter().map(|queue| (*queue).to_owned()).collect()
}

fn workers(n: u8, queues: &[&str]) -> Vec<(String, Role)> {
    let worker = |n| {
        (
            format!("worker-{n}"),
            Role::Worker {
                queues: names(queues),
                slots: 12,
            },
        )
    };
    (0..n).map(worker).collect()
}

fn producer(n: u8, queues: &[&str], rate: u64, mix: Mix) -> (String, Role) {
    (
        format!("producer-{n}"),
        Role::Producer {
            queues: names(queues),
            rate,
            mix,
        },
    )
}

fn consumers(queues: &[&str]) -> Vec<(String, Role)> {
    let consumer = |(n, queue): (usize, &&str)| {
        (
            format!("consumer-{n}"),
            Role::Consumer {
                queue: (*queue).to_owned(),
            },
        )
    };
    queues.iter().enumerate().map(consumer).collect()
}

fn holders(n: u8) -> Vec<(String, Role)> {
    (0..n)
        .map(|n| {
            (
                format!("holder-{n}"),
                Role::Holder {
                    lock: "door".to_owned(),
                },
            )
        })
        .collect()
}
