//! The broker of what runs here, so that a handler can take queues and locks as its arguments.

use crate::broker::Broker;

tokio::task_local! {
    static BROKER: Broker;
}

impl Broker {
    /// The broker of the handler that runs here, or of the program whose `main` runs here; `None` elsewhere, also in
    /// tasks of the runtime that those spawn.
    #[must_use]
    pub fn current() -> Option<Self> {
        BROKER.try_with(Self::clone).ok()
    }

    /// Runs `work` with this broker as its [`Broker::current`].
    pub async fn scope<F: Future>(self, work: F) -> F::Output {
        BROKER.scope(self, work).await
    }
}
