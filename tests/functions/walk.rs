//! A random walk over all calls, beside a simple model: no task is ever lost, in two places, or ended twice.

use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;

use crate::call::{Call, bytes, items, text};
use crate::seed::{
    Held, cancel, claim, claimed, finish, heartbeat, name, reclaim, refuse, release, start, submit,
    submit_with_due, take, task,
};
use crate::shard::{Shard, padded};
use crate::state::State;

/// Of each walk: many short walks see more than a long one, as checking costs what a shard holds.
const STEPS: usize = 600;
const WORKERS: [&str; 3] = ["w1", "w2", "w3"];

/// What the walk knows without asking.
#[derive(Default)]
struct Model {
    /// Every task that was submitted.
    known: BTreeSet<Vec<u8>>,
    /// What workers think they hold.
    held: Vec<Held>,
    /// The number of each worker's last claim that brought something.
    numbers: BTreeMap<&'static str, u32>,
    /// The number of the consumer's last take that brought something.
    taken: u32,
    /// Completions that the consumer got, by task.
    completions: BTreeMap<Vec<u8>, Vec<Vec<u8>>>,
    /// Calls that were made, to be made again.
    past: Vec<Call>,
    /// How many dead letters were given a new life: their tasks may end once more.
    requeued: BTreeSet<Vec<u8>>,
    /// The last numbered call of the producer, and the epoch that it was answered last.
    calls: u64,
    epoch: Vec<u8>,
    /// Calls of the producer that later ones have overtaken.
    late: Vec<Call>,
    /// Which of the tasks are processes.
    processes: BTreeSet<Vec<u8>>,
}

struct Walk {
    shard: Shard,
    model: Model,
    random: Rng,
    next_id: u32,
}

impl Walk {
    fn new(seed: u64) -> Self {
        let shard = Shard::new();
        shard.set_meta("completions", "done");
        let model = Model {
            epoch: vec![0; 8],
            ..Model::default()
        };
        Self {
            shard,
            model,
            random: Rng::with_seed(seed),
            next_id: 0,
        }
    }

    fn step(&mut self) {
        match self.random.u32(0..100) {
            0..20 => self.submit(),
            20..45 => self.claim(),
            45..65 => self.finish(),
            65..70 => self.release_or_refuse(),
            70..76 => self.cancel(),
            76..80 => self.lose_a_worker(),
            80..84 => self.make_something_due(),
            84..88 => self.take(),
            88..90 => self.requeue(),
            90..92 => self.idle(),
            92..94 => self.start(),
            94 => self.forget_the_producer(),
            _ => self.replay(),
        }
    }

    fn call(&mut self, call: Call) -> redis::Value {
        let answer = self.shard.call(&call);
        self.model.past.push(call);
        answer
    }

    fn submit(&mut self) {
        let n = self.random.u32(1..5);
        let ids: Vec<String> = (0..n).map(|i| format!("t{}", self.next_id + i)).collect();
        self.next_id += n;
        let tasks: Vec<_> = ids
            .iter()
            .map(|word| {
                let mut task = task(word);
                task.priority = [0, 5, 5, 5, 9][self.random.usize(0..5)];
                (task.retry.attempts, task.retry.crashes) =
                    (self.random.u16(1..4), self.random.u8(1..5));
                if self.random.u8(0..4) == 0 {
                    task.process = true;
                    task.completions = Some(name("done"));
                    self.model.processes.insert(padded(word).to_vec());
                }
                task
            })
            .collect();
        let delayed = self.random.u8(0..4) == 0;
        let call = if delayed {
            submit_with_due(&tasks, &vec!["+60000"; tasks.len()])
        } else {
            submit(&tasks)
        };
        let call = self.number(call);
        if self.random.u8(0..6) == 0 {
            self.model.late.push(call);
        } else {
            self.submit_first(call);
        }
        if self.random.u8(0..4) == 0 && !self.model.late.is_empty() {
            let call = self.model.late.remove(0);
            self.submit_first(call);
        }
    }

    /// Half of the calls are numbered.
    fn number(&mut self, mut call: Call) -> Call {
        if self.random.bool() {
            self.model.calls += 1;
            let number = self.model.calls.to_be_bytes();
            call.args[1] = [b"producer", &self.model.epoch[..], &number].concat();
        }
        call
    }

    /// A call of submit arrives for the first time.
    fn submit_first(&mut self, call: Call) {
        let n: usize = String::from_utf8_lossy(&call.args[0]).parse().unwrap();
        let ids: Vec<_> = call.args[3..].iter().step_by(2).take(n).cloned().collect();
        let answer = items(&self.call(call));
        assert_eq!(text(&answer[1]), "n".repeat(n));
        if let Some(epoch) = answer.get(2) {
            self.model.epoch = bytes(epoch);
        }
        self.model.known.extend(ids);
    }

    /// The broker loses what it knows of the producer.
    fn forget_the_producer(&mut self) {
        let state = self.shard.state();
        for part in state.0.keys().filter(|part| part.starts_with("results:")) {
            let key = self.shard.key(part);
            self.shard.redis("HDEL", &[key, "producer".to_owned()]);
        }
    }

    fn claim(&mut self) {
        let worker = WORKERS[self.random.usize(0..3)];
        let number = self.model.numbers.entry(worker).or_default();
        let call = claim(worker, *number + 1, self.random.usize(1..6));
        let got = claimed(&self.shard.call(&call)).tasks;
        if !got.is_empty() {
            *number += 1;
        }
        let fresh: BTreeSet<_> = got.iter().map(|held| held.id).collect();
        assert_eq!(fresh.len(), got.len(), "one claim brings a task once");
        self.model.past.push(call);
        self.model.held.extend(got);
    }

    fn finish(&mut self) {
        let n = self.random.usize(1..4).min(self.model.held.len());
        let outcomes = ["o", "o", "o", "f", "f", "g", "d", "c"];
        let runs: Vec<(Held, &str)> = (0..n)
            .map(|_| {
                let at = self.random.usize(0..self.model.held.len());
                (
                    self.model.held.swap_remove(at),
                    outcomes[self.random.usize(0..8)],
                )
            })
            .collect();
        if !runs.is_empty() {
            let runs: Vec<(&Held, &str)> = runs
                .iter()
                .map(|(held, outcome)| (held, *outcome))
                .collect();
            self.call(finish(&runs));
        }
    }

    fn release_or_refuse(&mut self) {
        if self.model.held.is_empty() {
            return;
        }
        let at = self.random.usize(0..self.model.held.len());
        let held = self.model.held.swap_remove(at);
        let call = if self.random.bool() {
            release(&[&held])
        } else {
            refuse(&[&held])
        };
        self.call(call);
    }

    fn cancel(&mut self) {
        if self.next_id > 0 {
            let word = format!(
                "t{}",
                self.random
                    .u32(self.next_id.saturating_sub(40)..self.next_id)
            );
            self.call(cancel(&[&word]));
        }
    }

    /// A worker dies; what it held comes back. It goes on, and still believes to hold it.
    fn lose_a_worker(&mut self) {
        let worker = WORKERS[self.random.usize(0..3)];
        if self
            .shard
            .state()
            .sorted("workers")
            .contains_key(padded(worker).as_slice())
        {
            self.shard.expire(worker);
            let calls = self.random.usize(1..3);
            for _ in 0..calls {
                self.call(reclaim());
            }
        }
    }

    fn make_something_due(&mut self) {
        let scheduled: Vec<Vec<u8>> = self.shard.state().sorted("scheduled").into_keys().collect();
        for id in scheduled {
            if self.random.bool() {
                self.shard
                    .make_due(String::from_utf8_lossy(&id).trim_end_matches('.'));
            }
        }
    }

    fn take(&mut self) {
        let call = take(
            "consumer",
            self.model.taken + 1,
            "done",
            self.random.usize(1..20),
        );
        let answer = items(&self.shard.call(&call));
        let got: Vec<Vec<u8>> = items(&answer[1]).iter().map(bytes).collect();
        if !got.is_empty() {
            self.model.taken += 1;
        }
        for completion in got {
            let id = completion[40..56].to_vec();
            self.model
                .completions
                .entry(id)
                .or_default()
                .push(completion);
        }
    }

    fn requeue(&mut self) {
        let dead: Vec<Vec<u8>> = self.shard.state().sorted("dead").into_keys().collect();
        if let Some(id) = dead.first() {
            let answer = self.shard.call(&Call::new("requeue").arg("").arg(id));
            assert_eq!(text(&answer), "1");
            self.model.requeued.insert(id.clone());
        }
    }

    fn idle(&mut self) {
        let worker = WORKERS[self.random.usize(0..3)];
        let holds = self
            .model
            .held
            .iter()
            .any(|held| held.run[..16] == padded(worker));
        if !holds {
            let number = self.model.numbers.get(worker).copied().unwrap_or_default();
            self.call(heartbeat(worker, &number.to_string()));
        }
    }

    /// A process says where it runs.
    fn start(&mut self) {
        if !self.model.held.is_empty() {
            let at = self.random.usize(0..self.model.held.len());
            if self.model.processes.contains(&self.model.held[at].id[..]) {
                self.call(start(&self.model.held[at], 7));
            }
        }
    }

    /// Any earlier call is sent again, as a belated copy on the network may be.
    fn replay(&mut self) {
        if self.model.past.is_empty() {
            return;
        }
        let call = self.model.past[self.random.usize(0..self.model.past.len())].clone();
        let before = self.shard.state();
        self.shard.call(&call);
        let after = self.shard.state();
        // A copy of a claim may bring tasks only to a worker whose number it is; the rest never changes a task's state.
        if ["submit", "start", "finish", "release", "refuse"].contains(&call.verb) {
            for part in ["tasks", "running", "attempts"] {
                assert_eq!(
                    before.hash(part),
                    after.hash(part),
                    "{} was done twice",
                    call.verb
                );
            }
        }
    }

    /// Conservation: every known task is in exactly one state, and every count fits.
    fn check(&self) {
        let state = self.shard.state();
        let places = places(&state);
        for (id, found) in &places {
            assert_eq!(
                found.len(),
                1,
                "{} is {found:?}",
                String::from_utf8_lossy(id)
            );
        }
        let living: BTreeSet<Vec<u8>> = state.hash("tasks").into_keys().collect();
        let somewhere: BTreeSet<Vec<u8>> = places.into_keys().collect();
        assert_eq!(living, somewhere, "tasks are where they can be found");
        let ended = records(&state);
        for id in &self.model.known {
            assert!(
                living.contains(id) || ended.contains_key(id),
                "{} is lost",
                String::from_utf8_lossy(id)
            );
        }
        let buried: BTreeSet<_> = state.sorted("dead").into_keys().collect();
        assert!(
            living
                .iter()
                .filter(|id| !buried.contains(*id))
                .all(|id| !ended.contains_key(id))
        );
        assert!(
            buried.is_disjoint(&self.model.processes),
            "a process is no dead letter"
        );
        let running = state.hash("running");
        assert!(
            state
                .hash("started")
                .keys()
                .all(|id| running.contains_key(id)),
            "what runs no longer is not told of"
        );
        for worker in running.values() {
            assert!(
                state.sorted("workers").contains_key(&worker[..16]),
                "a run without a lease"
            );
        }
    }

    /// Nobody ever got two different completions of a task that lived once.
    fn check_completions(&self) {
        let state = self.shard.state();
        let mut all = self.model.completions.clone();
        for completion in state.list("done:done") {
            all.entry(completion[40..56].to_vec())
                .or_default()
                .push(completion);
        }
        for (id, completions) in all {
            if !self.model.requeued.contains(&id) {
                assert_eq!(
                    completions.len(),
                    1,
                    "{} ended twice",
                    String::from_utf8_lossy(&id)
                );
            }
        }
    }
}

/// Where each task is. Holes are no tasks.
fn places(state: &State) -> BTreeMap<Vec<u8>, Vec<String>> {
    let mut places: BTreeMap<Vec<u8>, Vec<String>> = BTreeMap::new();
    let mut add = |id: Vec<u8>, place: &str| places.entry(id).or_default().push(place.to_owned());
    let mut holes = state.set("holes");
    for part in (0..10)
        .map(|p| format!("ready:{p}"))
        .chain(["suspects".to_owned()])
    {
        for id in state.list(&part) {
            if !holes.remove(&id) {
                add(id, &part);
            }
        }
    }
    assert!(holes.is_empty(), "each hole stands on a list");
    state
        .hash("running")
        .into_keys()
        .for_each(|id| add(id, "running"));
    for part in ["scheduled", "dead"] {
        state.sorted(part).into_keys().for_each(|id| add(id, part));
    }
    places
}

fn records(state: &State) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let buckets = state.0.keys().filter(|part| part.starts_with("results:"));
    let records = buckets.flat_map(|part| state.hash(part));
    records.filter(|(id, _)| id.len() == 16).collect()
}

fn walk(seed: u64) {
    let mut walk = Walk::new(seed);
    for step in 0..STEPS {
        walk.step();
        walk.check();
        if step % 100 == 0 {
            walk.check_completions();
        }
    }
    walk.check_completions();
    let ended = records(&walk.shard.state()).len();
    assert!(ended > 100, "the walk went somewhere: {ended} ended");
}

#[test]
fn no_task_is_lost_doubled_or_ended_twice_on_random_walks() {
    for seed in 1..=4 {
        walk(seed);
    }
}
