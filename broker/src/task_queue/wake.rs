//! Wake tokens: who waits is told by one that there is something, and nobody polls.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::Shard;
use super::hatch::Hatch;
use crate::broker::PATIENCE;
use crate::connection::lane::Lane;
use crate::connection::subscription::Subscription;
use crate::error::Result;
use crate::functions::Call;
use crate::ids::Name;
use crate::keys::ShardKeys;
use crate::reply;

/// How long telling workers may take: they look by themselves after a while.
const TELLING: Duration = Duration::from_secs(1);
/// Before a listener goes on whose server is away.
const AWAY: Duration = Duration::from_millis(500);

/// Waits for a token on any of several lists, over connections of its own, as the wait blocks there.
///
/// One connection is enough where one server has all lists. On a Redis Cluster one call can wait for lists of one slot
/// only, so each list there has a listener.
pub struct Waiter {
    groups: Vec<Arc<Group>>,
    listeners: Option<Listeners>,
}

/// Lists that one call waits for.
struct Group {
    link: Lane,
    lists: Vec<List>,
    longest: Duration,
}

/// A list of tokens, and whom they are for.
#[derive(Clone)]
struct List {
    key: String,
    /// The place of the shard, or of the first where the tokens name shards.
    first: usize,
    /// Of how many shards; 1 where the tokens say nothing.
    shards: usize,
    /// Lists of one queue take turns, those of an earlier one go first.
    queue: usize,
}

impl Waiter {
    /// Waits for ready tasks of these shards, which are on one broker, for at most `longest` at a time. Those of a queue
    /// stand together, in order.
    ///
    /// # Panics
    ///
    /// If there is no shard.
    #[must_use]
    pub fn for_tasks<'a>(shards: impl IntoIterator<Item = &'a Shard>, longest: Duration) -> Self {
        let shards: Vec<&Shard> = shards.into_iter().collect();
        let (mut lists, mut first) = (Vec::new(), 0);
        for (queue, of_queue) in (0..).zip(shards.chunk_by(|a, b| a.queue == b.queue)) {
            if let Some([key, _]) = of_queue[0].wake_all() {
                let (key, shards) = (key.clone(), of_queue.len());
                lists.push(List {
                    key,
                    first,
                    shards,
                    queue,
                });
            } else {
                let lone = (first..).zip(of_queue).map(|(first, shard)| List {
                    key: shard.keys().wake(),
                    first,
                    shards: 1,
                    queue,
                });
                lists.extend(lone);
            }
            first += of_queue.len();
        }
        Self::new(shards[0], lists, longest)
    }

    pub(super) fn for_completions(shards: &[Shard], name: &Name, longest: Duration) -> Self {
        Self::for_each(shards, |keys| keys.wake_done(name), longest)
    }

    pub(super) fn for_room(shards: &[Shard], longest: Duration) -> Self {
        Self::for_each(shards, ShardKeys::room, longest)
    }

    fn for_each(shards: &[Shard], key: impl Fn(&ShardKeys) -> String, longest: Duration) -> Self {
        let list = |(first, shard): (usize, &Shard)| List {
            key: key(shard.keys()),
            first,
            shards: 1,
            queue: 0,
        };
        let lists = (0..).zip(shards).map(list).collect();
        Self::new(&shards[0], lists, longest)
    }

    fn new(any: &Shard, lists: Vec<List>, longest: Duration) -> Self {
        let group = |lists| {
            Arc::new(Group {
                link: any.broker.waiting(longest),
                lists,
                longest,
            })
        };
        let groups = if any.is_on_cluster() {
            lists.into_iter().map(|list| group(vec![list])).collect()
        } else {
            vec![group(lists)]
        };
        Self {
            groups,
            listeners: None,
        }
    }

    /// Waits until a token comes, and answers for which of the shards, counted from 0; `None` where the time is over.
    /// A token that is lost costs one such wait.
    pub async fn wait(&mut self, longest: Duration) -> Result<Option<usize>> {
        if let [group] = self.groups.as_slice() {
            return Ok(group.pop(longest).await?.map(|token| token.place));
        }
        let groups = &self.groups;
        let listeners = self
            .listeners
            .get_or_insert_with(|| Listeners::start(groups));
        Ok(listeners.hatch.wait(longest).await)
    }
}

/// A token that was taken off its list.
struct Token {
    place: usize,
    key: String,
    value: String,
}

impl Group {
    async fn pop(&self, longest: Duration) -> Result<Option<Token>> {
        let mut command = redis::cmd("BLPOP");
        for of_queue in self.lists.chunk_by(|a, b| a.queue == b.queue) {
            let (late, early) = of_queue.split_at(fastrand::usize(0..of_queue.len()));
            for list in early.iter().chain(late) {
                command.arg(&list.key);
            }
        }
        command.arg(longest.as_secs_f64().max(0.001));
        let answer = self.link.send_once(&command, "wait").await?;
        let mut answer = reply::items(answer, "wait")?.into_iter();
        let (Some(key), Some(value)) = (answer.next(), answer.next()) else {
            return Ok(None);
        };
        let (key, value) = (reply::text(key, "wait")?, reply::text(value, "wait")?);
        let list = self.lists.iter().find(|list| list.key == key);
        Ok(list.map(|list| Token {
            place: list.place(&value),
            key,
            value,
        }))
    }

    async fn push_back(&self, token: &Token) -> Result<()> {
        let mut command = redis::cmd("RPUSH");
        command.arg(&token.key).arg(&token.value);
        let pushed = self.link.send(&command, "pass a wake token on", TELLING);
        pushed.await.map(drop)
    }

    /// Takes tokens for as long as somebody waits, and passes on what nobody wants any more.
    async fn listen(self: Arc<Self>, hatch: Arc<Hatch>) {
        loop {
            hatch.wanted().await;
            let done = match self.pop(self.longest).await {
                Ok(Some(token)) if !hatch.hand(token.place) => self.push_back(&token).await,
                popped => popped.map(drop),
            };
            if let Err(error) = done {
                tracing::debug!(target: "pmq", %error, "listening for wake tokens");
                tokio::time::sleep(AWAY).await;
            }
        }
    }
}

impl List {
    /// For which shard a token is. What is no number of one is a token that says nothing.
    fn place(&self, value: &str) -> usize {
        if self.shards == 1 {
            return self.first;
        }
        let number = value.parse().ok().filter(|number| *number < self.shards);
        self.first + number.unwrap_or(0)
    }
}

/// One a group, all for the same who waits. They end with it.
struct Listeners {
    hatch: Arc<Hatch>,
    _tasks: JoinSet<()>,
}

impl Listeners {
    fn start(groups: &[Arc<Group>]) -> Self {
        let (hatch, mut tasks) = (Arc::<Hatch>::default(), JoinSet::new());
        for group in groups {
            tasks.spawn(group.clone().listen(hatch.clone()));
        }
        Self {
            hatch,
            _tasks: tasks,
        }
    }
}

impl Shard {
    /// Pushes a wake token, in place of one that a worker may have taken just before it stopped.
    pub async fn pass_wake(&self) -> Result<()> {
        if let Some(keys) = self.wake_all() {
            return self.call_wake(keys, 1).await;
        }
        let mut command = redis::cmd("RPUSH");
        command.arg(self.keys().wake()).arg("1");
        self.broker
            .control()
            .send(&command, "pass a wake token on", TELLING)
            .await
            .map(drop)
    }

    /// Tells workers of so many ready tasks, where they wait on the list of the whole queue; elsewhere the function that
    /// made them ready has done so.
    pub async fn announce(&self, tasks: usize) {
        let Some(keys) = self.wake_all().filter(|_| tasks > 0) else {
            return;
        };
        if let Err(error) = self.call_wake(keys, tasks).await {
            tracing::debug!(target: "pmq", %error, "could not wake workers; they look by themselves");
        }
    }

    async fn call_wake(&self, keys: &[String; 2], tasks: usize) -> Result<()> {
        let call = Call::new("wake", keys).arg(self.number()).arg(tasks);
        let told = self.broker.control().call(&call, TELLING.min(PATIENCE));
        told.await.map(drop)
    }
}

/// News that some worker has stop orders. It makes stopping quick; heartbeats make it sure.
pub struct StopOrders(Subscription);

impl StopOrders {
    /// Listens for the workers of these shards.
    pub async fn listen(shards: &[Shard]) -> Result<Option<Self>> {
        let Some(first) = shards.first() else {
            return Ok(None);
        };
        let channels: Vec<String> = shards.iter().map(|s| s.keys().stop()).collect();
        first
            .broker
            .control()
            .subscribe(&channels)
            .await
            .map(|s| Some(Self(s)))
    }

    /// The incarnation of the worker that has orders, as bytes; `None` once the connection is gone.
    pub async fn next(&mut self) -> Option<Vec<u8>> {
        self.0.next().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_names_its_shard_where_a_list_is_of_several() {
        let list = |shards| List {
            key: String::new(),
            first: 7,
            shards,
            queue: 0,
        };
        let places = ["0", "3", "4", "x", ""].map(|value| list(4).place(value));
        assert_eq!(places, [7, 10, 7, 7, 7]);
        assert_eq!(list(1).place("3"), 7);
    }
}
