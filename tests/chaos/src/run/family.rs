//! The runs: one for each family of faults, and what takes place in it.

use std::time::Duration;

use super::cast;
use super::fault::{Kind, Step};
use super::plan::Plan;
use super::site::Durability;
use crate::checker::Terms;
use crate::role::Role;

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
    /// What is special about it.
    pub scene: Scene,
}

/// What is special about a run beside its faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scene {
    /// Nothing.
    Usual,
    /// The server's clock can jump, and those of some clients are wrong.
    WrongClocks,
    /// All processes are one user of the server's, who has rights.
    User,
    /// The calls of idle workers are counted after the faults, when their server has gone and come back.
    Crowd,
    /// It runs for long without faults, and what grows is counted.
    Soak,
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
    /// libfaketime, for clients whose clocks are wrong.
    Faketime,
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
    cast: cast::usual,
    terms: TERMS,
    scene: Scene::Usual,
};
const TERMS: Terms = Terms {
    lease: Duration::from_secs(3),
    exclusion: true,
    resumes: Duration::from_secs(5),
    completions_max: None,
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
pub const FAMILIES: [Family; 25] = [
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
        name: "steps",
        about: "workers are killed at each step of a task (F1)",
        menu: &[
            Kind::KillAt("worker", Step::Claimed),
            Kind::KillAt("worker", Step::Told),
            Kind::KillAt("worker", Step::Ran),
            Kind::KillAt("worker", Step::Finished),
        ],
        proxied: true,
        seconds: 14,
        ..USUAL
    },
    Family {
        name: "zombies",
        about: "runs end late, twice, and again much later (F3, F22), and first come first served",
        menu: &[Kind::LongPause("hand"), Kind::Kill("hand")],
        cast: cast::zombie,
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
        cast: cast::outage,
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
        loses_ms: 30_000,
        cast: cast::lone,
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
        loses_ms: 30_000,
        cast: cast::lone,
        terms: FAILOVER,
        ..USUAL
    },
    Family {
        name: "migration",
        about: "the slot of a task queue moves from primary to primary, and is half-way for a moment (F10)",
        menu: &[Kind::MoveSlot],
        every_ms: 1200,
        durability: Durability::Cluster,
        cast: cast::lone,
        ..USUAL
    },
    Family {
        name: "reset",
        about: "the server loses everything (F6)",
        menu: &[Kind::FlushAll],
        every_ms: 3000,
        seconds: 10,
        cast: cast::reset,
        terms: LOSSY,
        ..USUAL
    },
    Family {
        name: "network",
        about: "partitions, half-open and cut connections, latency, slow lines, slices of a byte (F11, F12)",
        menu: &[
            Kind::Hole("worker"),
            Kind::Cut("worker"),
            Kind::Delay("worker"),
            Kind::Hole("producer"),
            Kind::Cut("consumer"),
            Kind::Delay("producer"),
            Kind::Slice("worker"),
            Kind::Throttle("worker"),
        ],
        seconds: 20,
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
        name: "slow",
        about: "who gets completions stands still until their queue is full, and who waits for tasks loses the news (F17)",
        menu: &[
            Kind::LongPause("consumer"),
            Kind::DropSubscribers,
            Kind::Pause("waiter"),
        ],
        cast: cast::slow,
        terms: Terms {
            completions_max: Some(200),
            ..TERMS
        },
        ..USUAL
    },
    Family {
        name: "eviction",
        about: "the server evicts (F16)",
        menu: &[Kind::Evict],
        every_ms: 2500,
        cast: cast::lone,
        terms: LOSSY,
        ..USUAL
    },
    Family {
        name: "rights",
        about: "the user of all processes is removed, has another password, or may call nothing (F26)",
        menu: &[Kind::RemoveUser, Kind::ChangePassword, Kind::RevokeRights],
        every_ms: 1500,
        scene: Scene::User,
        cast: cast::lone,
        ..USUAL
    },
    Family {
        name: "upgrade",
        about: "programs of two releases at once, which replace each other (F27)",
        menu: &[
            Kind::Upgrade("worker"),
            Kind::Upgrade("producer"),
            Kind::Kill("worker"),
            Kind::Upgrade("consumer"),
            Kind::FlushFunctions,
        ],
        every_ms: 500,
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
        cast: cast::poison,
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
        cast: cast::object,
        durability: Durability::Always,
        ..USUAL
    },
    Family {
        name: "clock",
        about: "the server's clock jumps by half a minute, and some clients' are wrong by more (F14)",
        menu: &[Kind::ClockAhead, Kind::ClockBehind],
        every_ms: 1500,
        scene: Scene::WrongClocks,
        needs: Need::Faketime,
        cast: cast::clock,
        terms: LOSSY,
        ..USUAL
    },
    Family {
        name: "soak",
        about: "half an hour, a million tasks, no faults: nothing grows",
        seconds: 1800,
        cast: cast::soak,
        scene: Scene::Soak,
        ..USUAL
    },
    Family {
        name: "herd",
        about: "a thousand idle workers, whose server goes away, and their calls are counted (F23)",
        scene: Scene::Crowd,
        menu: &[Kind::KillBroker],
        every_ms: 3000,
        cast: cast::herd,
        durability: Durability::Always,
        ..USUAL
    },
];

impl Family {
    /// Whether a plan has runs of this family.
    #[must_use]
    pub fn in_plan(&self, plan: Plan) -> bool {
        (self.scene == Scene::Soak) == (plan == Plan::Soak)
    }

    /// The family of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        FAMILIES.iter().find(|family| family.name == name).copied()
    }
}
