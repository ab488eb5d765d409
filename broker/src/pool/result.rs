//! `AsyncResult`: a result that is there later.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use super::PoolError;
use crate::lending::{while_waiting, without_lending};

type Outcome<T> = Result<T, PoolError>;

/// The result of a call that goes on in the background. In Python this is `multiprocessing.pool.AsyncResult`.
#[derive(Clone, Debug)]
pub struct AsyncResult<T>(watch::Receiver<Option<Outcome<T>>>);

impl<T: Clone> AsyncResult<T> {
    /// Waits for the result; can be asked again. In Python this is `AsyncResult.get`.
    pub async fn get(&self) -> Result<T, PoolError> {
        self.wait().await;
        // Where there is none, nobody is left to bring one.
        let outcome = self.0.borrow();
        outcome.clone().unwrap_or(Err(PoolError::Terminated))
    }

    /// The same, for at most this long, then [`PoolError::Timeout`]. In Python this is `AsyncResult.get(timeout)`.
    pub async fn get_timeout(&self, longest: Duration) -> Result<T, PoolError> {
        timeout(longest, self.get())
            .await
            .unwrap_or(Err(PoolError::Timeout))
    }
}

impl<T> AsyncResult<T> {
    /// Waits until the call has ended. In Python this is `AsyncResult.wait`.
    pub async fn wait(&self) {
        if self.ready() {
            return;
        }
        // An error says that nobody is left to end it, which is an end as well.
        let _ = while_waiting(self.0.clone().wait_for(Option::is_some)).await;
    }

    /// The same, for at most this long. In Python this is `AsyncResult.wait(timeout)`.
    pub async fn wait_timeout(&self, longest: Duration) {
        let _ = timeout(longest, self.wait()).await;
    }

    /// Whether the call has ended. In Python this is `AsyncResult.ready`.
    #[must_use]
    pub fn ready(&self) -> bool {
        self.0.borrow().is_some() || self.0.has_changed().is_err()
    }

    /// Whether it ended without an error; [`PoolError::NotReady`] before. In Python this is `AsyncResult.successful`.
    pub fn successful(&self) -> Result<bool, PoolError> {
        match &*self.0.borrow() {
            Some(outcome) => Ok(outcome.is_ok()),
            None if self.0.has_changed().is_err() => Ok(false),
            None => Err(PoolError::NotReady),
        }
    }
}

type OnResult<T> = Box<dyn FnOnce(&T) + Send>;
type OnError = Box<dyn FnOnce(&PoolError) + Send>;

/// How an asynchronous call is made: its chunksize, and who is told of its end.
///
/// A callback runs before the result is ready, as in Python; it should return soon. A panic in it is logged.
pub struct CallOptions<T> {
    pub(super) chunksize: Option<usize>,
    callback: Option<OnResult<T>>,
    error_callback: Option<OnError>,
}

impl<T> Default for CallOptions<T> {
    fn default() -> Self {
        Self {
            chunksize: None,
            callback: None,
            error_callback: None,
        }
    }
}

impl<T> CallOptions<T> {
    /// The defaults: Python's chunksize, no callbacks.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how many items go into a chunk; at least 1. In Python this is `chunksize`.
    #[must_use]
    pub fn chunksize(mut self, items: usize) -> Self {
        self.chunksize = Some(items);
        self
    }

    /// Sets what is called with the result. In Python this is `callback`.
    #[must_use]
    pub fn callback(mut self, callback: impl FnOnce(&T) + Send + 'static) -> Self {
        self.callback = Some(Box::new(callback));
        self
    }

    /// Sets what is called with the error. In Python this is `error_callback`.
    #[must_use]
    pub fn error_callback(mut self, callback: impl FnOnce(&PoolError) + Send + 'static) -> Self {
        self.error_callback = Some(Box::new(callback));
        self
    }

    fn tell(self, outcome: &Outcome<T>) {
        let told = catch_unwind(AssertUnwindSafe(|| match outcome {
            Ok(result) => self.callback.map(|callback| callback(result)),
            Err(error) => self.error_callback.map(|callback| callback(error)),
        }));
        if told.is_err() {
            tracing::error!(target: "pmq", "a callback of a pool panicked");
        }
    }
}

/// Runs a call in the background.
pub(super) fn in_background<T: Send + Sync + 'static>(
    call: impl Future<Output = Outcome<T>> + Send + 'static,
    options: CallOptions<T>,
) -> AsyncResult<T> {
    let (sender, receiver) = watch::channel(None);
    tokio::spawn(without_lending(async move {
        let outcome = call.await;
        options.tell(&outcome);
        sender.send_replace(Some(outcome));
    }));
    AsyncResult(receiver)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[tokio::test]
    async fn it_is_asked_before_and_again() {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let result = in_background(async { Ok(receiver.await.unwrap()) }, CallOptions::new());
        assert!(!result.ready());
        assert!(matches!(result.successful(), Err(PoolError::NotReady)));
        let early = result.get_timeout(Duration::from_millis(1)).await;
        assert!(matches!(early, Err(PoolError::Timeout)));
        sender.send(7).unwrap();
        assert_eq!(
            (result.get().await.unwrap(), result.get().await.unwrap()),
            (7, 7)
        );
        assert!(result.ready() && result.successful().unwrap());
    }

    #[tokio::test]
    async fn callbacks_run_before_the_result_is_ready() {
        let called = Arc::new(AtomicBool::new(false));
        let flag = called.clone();
        let options = CallOptions::new().callback(move |n| flag.store(*n == 7, Ordering::SeqCst));
        in_background(async { Ok(7) }, options).wait().await;
        assert!(called.load(Ordering::SeqCst));

        let failed = called.clone();
        let options = CallOptions::<u8>::new()
            .callback(|_| unreachable!())
            .error_callback(move |_| failed.store(false, Ordering::SeqCst));
        let result = in_background(async { Err(PoolError::Terminated) }, options);
        assert!(matches!(result.get().await, Err(PoolError::Terminated)));
        assert!(!called.load(Ordering::SeqCst) && !result.successful().unwrap());
    }

    #[tokio::test]
    async fn a_panic_in_a_callback_holds_nothing_up() {
        let options = CallOptions::new().callback(|_| panic!("as it was told"));
        assert_eq!(
            in_background(async { Ok(7) }, options).get().await.unwrap(),
            7
        );
    }
}
