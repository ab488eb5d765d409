//! Completion queues: how tasks ended, until somebody gets it.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use tokio::time::{Instant, timeout};

use super::lease::Renewal;
use super::shards::all;
use super::{CHUNK, DEFAULT_LEASE, Rotation, Shard, TaskQueue, Waiter, deadline_after};
use crate::broker::PATIENCE;
use crate::completion::Completion;
use crate::error::{Error, Result};
use crate::ids::{Incarnation, Name};
use crate::lending::while_waiting;
use crate::reply;

/// The longest single wait, so that a lost token costs no more than this.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// How long a wait takes before what was got last is confirmed by a call of its own.
const SOON: Duration = Duration::from_millis(2);

/// How long one shard of several on a Cluster has to answer, as the others may be well.
const SHORT_PATIENCE: Duration = Duration::from_secs(1);

/// Gets completions from one completion queue. In the seed of the whole program it is the second queue.
///
/// What it got last stays its own until the next call confirms it, at once or after 2 ms of waiting; if this process dies
/// before, another consumer gets the same completions again, and none is lost. Completions of one shard come in the order
/// in which they were posted.
pub struct Consumer {
    queue: TaskQueue,
    name: Name,
    lease: Duration,
    stand: Option<Stand>,
}

/// Where it takes them, once it knows how many shards there are.
struct Stand {
    takers: Vec<Taker>,
    rotation: Rotation,
    waiter: Waiter,
    /// Whether it waits, or gave a wait up, which may have taken a token.
    waits: bool,
    /// Shards on which leases end soon, if somebody keeps calling.
    in_grace: Vec<usize>,
}

impl TaskQueue {
    /// A consumer of the completion queue `name`.
    #[must_use]
    pub fn completions(&self, name: &Name) -> Consumer {
        Consumer {
            queue: self.clone(),
            name: name.clone(),
            lease: DEFAULT_LEASE,
            stand: None,
        }
    }
}

impl Consumer {
    /// Sets the lease under which it holds what it got; 15 s unless set.
    #[must_use]
    pub fn with_lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// Gets one completion, or `None` where there is none. In Python this is `Queue.get_nowait`.
    pub async fn get_nowait(&mut self) -> Result<Option<Completion>> {
        Ok(self.get_many_nowait(1).await?.pop())
    }

    /// Gets one completion, waiting up to `timeout`. In Python this is `Queue.get(timeout=...)`.
    pub async fn get(&mut self, timeout: Duration) -> Result<Option<Completion>> {
        Ok(self.get_many(1, timeout).await?.pop())
    }

    /// Gets up to `n` completions as soon as there is one, waiting up to `timeout`; none where it passed.
    ///
    /// A task that waits for others lends its slot meanwhile.
    pub async fn get_many(&mut self, n: usize, timeout: Duration) -> Result<Vec<Completion>> {
        if timeout.is_zero() {
            return self.get_many_nowait(n).await;
        }
        let deadline = deadline_after(timeout);
        let stand = self.stand().await?;
        if !stand.will_hear() {
            stand.rotation.look();
            let got = stand.take(n).await?;
            if !got.is_empty() {
                return Ok(self.decoded(&got));
            }
        }
        while_waiting(self.get_many_until(n, deadline)).await
    }

    async fn get_many_until(&mut self, n: usize, deadline: Instant) -> Result<Vec<Completion>> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let stand = self.stand().await?;
            if !stand.wait(left.min(LONGEST_WAIT)).await {
                self.look_for_queue().await;
            }
            let stand = self.stand().await?;
            let over = Instant::now() >= deadline;
            if over {
                stand.rotation.rouse();
            }
            match stand.take(n).await {
                // The other shards may have something yet.
                Err(error) if stand.stands_alone(&error) && !over => {}
                Ok(got) if got.is_empty() && !over => {}
                got => return Ok(self.decoded(&got?)),
            }
        }
    }

    /// Gets up to `n` completions, at most 500 and 1 MiB, but at least one where there is one.
    pub async fn get_many_nowait(&mut self, n: usize) -> Result<Vec<Completion>> {
        let stand = self.stand().await?;
        stand.rotation.rouse();
        let got = stand.take(n).await?;
        Ok(self.decoded(&got))
    }

    /// The queue may be another one by now.
    async fn look_for_queue(&self) {
        if let Err(error) = self.queue.follow().await {
            tracing::debug!(target: "pmq", %error, "could not ask how many shards there are");
        }
    }

    /// What it got, without what can't be read.
    fn decoded(&self, items: &[Bytes]) -> Vec<Completion> {
        let sealing = self.queue.sealing();
        let decoded = items.iter().map(|item| sealing.open_posted(item));
        decoded
            .filter_map(|c| {
                c.inspect_err(
                    |error| tracing::error!(target: "pmq", %error, "dropped a completion"),
                )
                .ok()
            })
            .collect()
    }

    /// How many completions wait on the queue. In Python this is `Queue.qsize`.
    pub async fn len(&self) -> Result<u64> {
        let shards = self.queue.shards().await?.iter();
        let counts = all(shards.map(|shard| shard.count_completions(&self.name))).await?;
        Ok(counts.iter().sum())
    }

    /// Whether none waits. In Python this is `Queue.empty`.
    pub async fn is_empty(&self) -> Result<bool> {
        Ok(self.len().await? == 0)
    }

    /// Confirms what it got last, and leaves.
    pub async fn close(self) -> Result<()> {
        let takers = self.stand.into_iter().flat_map(|stand| stand.takers);
        let mut takers: Vec<Taker> = takers.filter(Taker::holds).collect();
        all(takers.iter_mut().map(Taker::confirm)).await.map(drop)
    }

    /// Where it takes them. A queue that is not there yet may get more shards than one.
    async fn stand(&mut self) -> Result<&mut Stand> {
        let shards = self.queue.shards().await?;
        let known = self.stand.take();
        let stand = match known.filter(|stand| stand.takers.len() == shards.len()) {
            Some(stand) => stand,
            None => Stand::new(shards, &self.name, self.lease),
        };
        Ok(self.stand.insert(stand))
    }
}

impl Stand {
    fn new(shards: &[Shard], name: &Name, lease: Duration) -> Self {
        let stands_alone = shards.len() > 1 && shards[0].is_on_cluster();
        let patience = if stands_alone {
            SHORT_PATIENCE
        } else {
            PATIENCE
        };
        let taker = |shard: &Shard| Taker::new(shard.clone(), name.clone(), (lease, patience));
        Self {
            takers: shards.iter().map(taker).collect(),
            rotation: Rotation::new(shards.len()),
            waiter: Waiter::for_completions(shards, name, LONGEST_WAIT),
            waits: false,
            in_grace: Vec::new(),
        }
    }

    /// Whether every shard said that it has no more, so that a token tells of the next completion.
    fn will_hear(&self) -> bool {
        let rotation = &self.rotation;
        !self.waits && !rotation.has_next() && rotation.next_return().is_none()
    }

    /// Takes from the first shard that has something. One that does not answer is left alone for a while, and is an error
    /// only where no other has anything.
    async fn take(&mut self, n: usize) -> Result<Vec<Bytes>> {
        let (n, mut answer) = (n.min(CHUNK), Ok(Vec::new()));
        while let Some(i) = self.rotation.next(Instant::now()) {
            self.confirm_all_but(i).await;
            let taken = match self.takers[i].take(n).await {
                Err(error) if self.stands_alone(&error) => {
                    self.set_aside(i);
                    answer = Err(error);
                    continue;
                }
                taken => taken?,
            };
            if !taken.is_more_left || taken.items.is_empty() {
                self.rotation.dry(i);
            }
            if !taken.items.is_empty() {
                return Ok(taken.items);
            }
        }
        answer
    }

    /// Goes to other servers first: the shards that are with one that does not answer would not either.
    fn set_aside(&mut self, i: usize) {
        let (now, silent) = (Instant::now(), &self.takers[i].shard);
        for (j, taker) in self.takers.iter().enumerate() {
            if taker.shard.is_beside(silent) {
                self.rotation.set_aside(j, now);
            }
        }
    }

    /// Whether this is an error of one shard, of several that have servers of their own.
    fn stands_alone(&self, error: &Error) -> bool {
        let several = self.takers.len() > 1 && self.takers[0].shard.is_on_cluster();
        several && error.is_transient()
    }

    /// Confirms what it holds of other shards; taking from this one confirms what it holds there. What fails is tried again
    /// with the next call.
    async fn confirm_all_but(&mut self, i: usize) {
        let takers = (0..).zip(&mut self.takers);
        let others = takers.filter(|(j, taker)| *j != i && taker.holds());
        let confirms = others.map(|(_, taker)| timeout(taker.patience, taker.confirm()));
        for confirmed in join_all(confirms).await {
            if !matches!(confirmed, Ok(Ok(()))) {
                tracing::debug!(target: "pmq", "could not confirm completions yet");
            }
        }
    }

    /// There may be no worker that puts back what consumers held whose lease has ended. A shard that is in grace is asked
    /// each time: nobody else may call there, and a longer pause would begin the grace anew.
    async fn take_back(&mut self) {
        for i in std::mem::take(&mut self.in_grace) {
            self.rotation.hear(i);
        }
        for i in self.rotation.hot() {
            let taker = &self.takers[i];
            let taken_back = timeout(taker.patience, taker.shard.take_back(taker.lease));
            if taken_back.await.is_ok_and(|grace| !grace.is_zero()) {
                self.in_grace.push(i);
            }
        }
    }

    /// Waits for a token, and answers whether one came; where none comes a few shards are asked without. What was got last
    /// is confirmed meanwhile, unless the token comes so soon that the next take does it.
    async fn wait(&mut self, longest: Duration) -> bool {
        self.waits = true;
        let (takers, waiter) = (&mut self.takers, &mut self.waiter);
        let token = tokio::select! {
            biased;
            token = waiter.wait(longest) => token,
            never = confirm_soon(takers) => match never {},
        };
        self.waits = false;
        match token {
            Ok(Some(i)) => {
                self.rotation.hear(i);
                return true;
            }
            Ok(None) => {
                self.rotation.look();
                self.take_back().await;
            }
            Err(error) => {
                tracing::debug!(target: "pmq", %error, "waiting for completions");
                tokio::time::sleep(Duration::from_millis(100).min(longest)).await;
                self.rotation.look();
            }
        }
        false
    }
}

/// Confirms what is not confirmed soon, and goes on for ever.
async fn confirm_soon(takers: &mut [Taker]) -> Infallible {
    tokio::time::sleep(SOON).await;
    let unconfirmed = takers.iter_mut().filter(|taker| taker.is_unconfirmed);
    if let Err(error) = all(unconfirmed.map(|taker| taker.take(0))).await {
        tracing::debug!(target: "pmq", %error, "could not confirm completions yet");
    }
    std::future::pending().await
}

/// Takes completions of one shard, under numbers of its own, so that a lost reply loses none.
struct Taker {
    shard: Shard,
    name: Name,
    who: Incarnation,
    number: u32,
    /// Of the batch that it got last: the next call confirms that one, and no other.
    token: u64,
    /// Whether that one is not confirmed yet.
    is_unconfirmed: bool,
    lease: Duration,
    patience: Duration,
    renewal: Option<Renewal>,
}

/// What a take brought.
struct Taken {
    items: Vec<Bytes>,
    is_more_left: bool,
}

impl Taker {
    fn new(shard: Shard, name: Name, (lease, patience): (Duration, Duration)) -> Self {
        Self {
            shard,
            name,
            who: Incarnation::new(),
            number: 0,
            token: 0,
            is_unconfirmed: false,
            lease,
            patience,
            renewal: None,
        }
    }

    /// Whether it holds what is not confirmed, or did so last.
    fn holds(&self) -> bool {
        self.number > 0
    }

    /// Takes up to `n`, and confirms what it took last.
    async fn take(&mut self, n: usize) -> Result<Taken> {
        loop {
            let call = self
                .shard
                .call("take")
                .arg(self.who.as_bytes().as_slice())
                .arg(self.number + 1)
                .arg(self.name.as_str())
                .arg(n)
                .arg(self.lease.as_millis() as u64)
                .arg(self.token);
            let control = self.shard.broker.control();
            let mut answer = reply::tagged(control.call(&call, self.patience).await?, "take")?;
            if answer.tag != "ok" {
                // The lease ended, so what it held went back to the queue.
                self.begin_anew();
                continue;
            }
            let items = answer.items()?;
            self.token = answer.number()?;
            let is_more_left = answer.text()? != "0";
            self.is_unconfirmed = !items.is_empty();
            if !answer.items_if_any()?.is_empty() {
                self.shard.announce(1).await;
            }
            if !items.is_empty() {
                // Asked again, an empty take finds what a belated copy of it may have taken.
                self.number += 1;
                if self.renewal.is_none() {
                    let shards = vec![self.shard.clone()];
                    self.renewal = Some(Renewal::start(shards, self.who, self.lease));
                }
            }
            let items = items.into_iter().map(|item| reply::bytes(item, "take"));
            return Ok(Taken {
                items: items.collect::<Result<_>>()?,
                is_more_left,
            });
        }
    }

    /// Confirms what it took last, and leaves.
    async fn confirm(&mut self) -> Result<()> {
        self.renewal = None;
        self.shard.leave(self.who, self.token).await?;
        self.begin_anew();
        Ok(())
    }

    /// Goes on as somebody new.
    fn begin_anew(&mut self) {
        (self.who, self.number, self.token, self.renewal) = (Incarnation::new(), 0, 0, None);
        self.is_unconfirmed = false;
    }
}

impl Shard {
    async fn count_completions(&self, name: &Name) -> Result<u64> {
        let mut command = redis::cmd("LLEN");
        command.arg(self.keys().done(name));
        let doing = "count completions";
        let control = self.broker.control();
        reply::number(control.send(&command, doing, PATIENCE).await?, doing)
    }
}
