//! The calls of a pool: `map`, `apply` and their kin.

use serde::{Serialize, de::DeserializeOwned};

use super::chunk::{Done, default_size};
use super::flow::Flow;
use super::result::{AsyncResult, CallOptions, in_background};
use super::{Imap, Pool, PoolError};
use crate::typed::Task;

impl Pool {
    /// Calls the handler with one argument, and waits for its result. In Python this is `Pool.apply`.
    pub async fn apply<A, R>(&self, task: Task<A, R>, args: A) -> Result<R, PoolError>
    where
        A: Serialize,
        R: DeserializeOwned,
    {
        only(gather(self.flow(task, std::iter::once(args), 1)?).await)
    }

    /// The same in the background. In Python this is `Pool.apply_async`.
    pub fn apply_async<A, R>(&self, task: Task<A, R>, args: A) -> Result<AsyncResult<R>, PoolError>
    where
        A: Serialize + Send + 'static,
        R: DeserializeOwned + Send + Sync + 'static,
    {
        self.apply_async_with(task, args, CallOptions::new())
    }

    /// The same with callbacks; a chunksize means nothing here. In Python this is `Pool.apply_async(callback=...)`.
    pub fn apply_async_with<A, R>(
        &self,
        task: Task<A, R>,
        args: A,
        options: CallOptions<R>,
    ) -> Result<AsyncResult<R>, PoolError>
    where
        A: Serialize + Send + 'static,
        R: DeserializeOwned + Send + Sync + 'static,
    {
        let flow = self.flow(task, std::iter::once(args), 1)?;
        let results = in_turn(flow);
        Ok(in_background(async { only(results.await) }, options))
    }

    /// Calls the handler with each item, and waits for all results, in the order of the items. In Python this is
    /// `Pool.map`.
    ///
    /// The input is cut into four chunks a process. Where items fail, the error is that of the first of them, and comes
    /// only after every chunk has ended.
    pub async fn map<A, R, I>(&self, task: Task<A, R>, items: I) -> Result<Vec<R>, PoolError>
    where
        A: Serialize,
        R: DeserializeOwned,
        I: IntoIterator<Item = A>,
    {
        let items: Vec<A> = items.into_iter().collect();
        let size = default_size(items.len(), self.processes());
        self.map_with(task, items, size).await
    }

    /// The same with chunks of this many items, at least 1. In Python this is `Pool.map(chunksize=...)`.
    pub async fn map_with<A, R, I>(
        &self,
        task: Task<A, R>,
        items: I,
        chunksize: usize,
    ) -> Result<Vec<R>, PoolError>
    where
        A: Serialize,
        R: DeserializeOwned,
        I: IntoIterator<Item = A>,
    {
        gather(self.flow(task, items.into_iter(), chunksize)?).await
    }

    /// `map` in the background. In Python this is `Pool.map_async`.
    pub fn map_async<A, R, I>(
        &self,
        task: Task<A, R>,
        items: I,
    ) -> Result<AsyncResult<Vec<R>>, PoolError>
    where
        A: Serialize + Send + 'static,
        R: DeserializeOwned + Send + Sync + 'static,
        I: IntoIterator<Item = A>,
    {
        self.map_async_with(task, items, CallOptions::new())
    }

    /// The same with a chunksize and callbacks. In Python this is `Pool.map_async(chunksize=..., callback=...)`.
    pub fn map_async_with<A, R, I>(
        &self,
        task: Task<A, R>,
        items: I,
        options: CallOptions<Vec<R>>,
    ) -> Result<AsyncResult<Vec<R>>, PoolError>
    where
        A: Serialize + Send + 'static,
        R: DeserializeOwned + Send + Sync + 'static,
        I: IntoIterator<Item = A>,
    {
        let items: Vec<A> = items.into_iter().collect();
        let default = default_size(items.len(), self.processes());
        let chunksize = options.chunksize.unwrap_or(default);
        let results = in_turn(self.flow(task, items.into_iter(), chunksize)?);
        Ok(in_background(results, options))
    }

    /// `map` for tasks of several arguments, which travel as a JSON array. In Python this is `Pool.starmap`; here a
    /// tuple is an argument like any other, so it is the same as [`Pool::map`].
    pub async fn starmap<A, R, I>(&self, task: Task<A, R>, items: I) -> Result<Vec<R>, PoolError>
    where
        A: Serialize,
        R: DeserializeOwned,
        I: IntoIterator<Item = A>,
    {
        self.map(task, items).await
    }

    /// `starmap` in the background. In Python this is `Pool.starmap_async`.
    pub fn starmap_async<A, R, I>(
        &self,
        task: Task<A, R>,
        items: I,
    ) -> Result<AsyncResult<Vec<R>>, PoolError>
    where
        A: Serialize + Send + 'static,
        R: DeserializeOwned + Send + Sync + 'static,
        I: IntoIterator<Item = A>,
    {
        self.map_async(task, items)
    }

    /// Calls the handler with each item; results come one by one, in the order of the items, while the input is still
    /// being read. In Python this is `Pool.imap`, whose input is read without bound.
    pub fn imap<A, R, I>(
        &self,
        task: Task<A, R>,
        items: I,
    ) -> Result<Imap<I::IntoIter, R>, PoolError>
    where
        A: Serialize,
        R: DeserializeOwned,
        I: IntoIterator<Item = A>,
    {
        self.imap_with(task, items, 1)
    }

    /// The same with chunks of this many items, at least 1. In Python this is `Pool.imap(chunksize=...)`.
    pub fn imap_with<A, R, I>(
        &self,
        task: Task<A, R>,
        items: I,
        chunksize: usize,
    ) -> Result<Imap<I::IntoIter, R>, PoolError>
    where
        A: Serialize,
        R: DeserializeOwned,
        I: IntoIterator<Item = A>,
    {
        let flow = self.flow(task, items.into_iter(), chunksize)?;
        Ok(Imap::new(flow, true))
    }

    /// As `imap`, but results come in the order in which they are there. In Python this is `Pool.imap_unordered`.
    pub fn imap_unordered<A, R, I>(
        &self,
        task: Task<A, R>,
        items: I,
    ) -> Result<Imap<I::IntoIter, R>, PoolError>
    where
        A: Serialize,
        R: DeserializeOwned,
        I: IntoIterator<Item = A>,
    {
        self.imap_unordered_with(task, items, 1)
    }

    /// The same with chunks of this many items, at least 1. In Python this is `Pool.imap_unordered(chunksize=...)`.
    pub fn imap_unordered_with<A, R, I>(
        &self,
        task: Task<A, R>,
        items: I,
        chunksize: usize,
    ) -> Result<Imap<I::IntoIter, R>, PoolError>
    where
        A: Serialize,
        R: DeserializeOwned,
        I: IntoIterator<Item = A>,
    {
        let flow = self.flow(task, items.into_iter(), chunksize)?;
        Ok(Imap::new(flow, false))
    }
}

/// Gathers all results, after the calls that were made before have what they wait for.
fn in_turn<I, R>(mut flow: Flow<I>) -> impl Future<Output = Result<Vec<R>, PoolError>>
where
    I: Iterator<Item: Serialize>,
    R: DeserializeOwned,
{
    let place = flow.queue_up();
    async move {
        let place = place.await;
        flow.send(place);
        gather(flow).await
    }
}

/// Waits for all chunks; the results in order, or the error of the first item that has one.
async fn gather<I, R>(mut flow: Flow<I>) -> Result<Vec<R>, PoolError>
where
    I: Iterator<Item: Serialize>,
    R: DeserializeOwned,
{
    let mut chunks: Vec<Option<Done>> = Vec::new();
    while let Some(done) = flow.next().await {
        flow.read(&done);
        if chunks.len() <= done.number {
            chunks.resize_with(done.number + 1, || None);
        }
        let number = done.number;
        chunks[number] = Some(done);
    }
    chunks
        .into_iter()
        .flatten()
        .flat_map(Done::results)
        .collect()
}

fn only<R>(results: Result<Vec<R>, PoolError>) -> Result<R, PoolError> {
    results?.pop().ok_or(PoolError::Terminated)
}
