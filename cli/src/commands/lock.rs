//! `pmq lock`: run a command while a lock is held, across hosts.

use clap::Args;
use pmq_broker::Name;

use crate::context::Context;
use crate::exit::Exit;
use crate::hold::{Hold, Words};

const AFTER_HELP: &str = "\
Like flock(1), for every host that uses the same broker. The command runs here, with this terminal, and finds the name \
in PMQ_LOCK and in PMQ_FENCE a number that grows with each holder: a store that remembers the highest one can refuse \
what an earlier holder still writes. Who waits is served in order.

The lock is under a lease. If this process or host dies, the command is killed and the next holder gets the lock when \
the lease has ended, with a note on standard error. If the lease is lost (the broker was away for too long, or the lock \
was released by force), the command gets SIGTERM, then SIGKILL, before another gets the lock. What the command leaves \
running in its process group is killed when it ends.

Ctrl-Z stops the command too, and `fg` lets both go on. Nobody renews the lease meanwhile: where it has ended, the command \
is terminated before it goes on. SIGSTOP of this process alone, which it can't notice, does not stop the command: the lease \
ends, another may get the lock, and the command runs on without it until this process goes on and terminates it.

Exit codes: the command's own, 128+n where signal n ended it; 75 busy (--nonblock); 76 the lock was lost while the \
command ran; 124 timed out; 126, 127 the command can't be run.

Examples:
  pmq lock deploy -- ./deploy.sh
  pmq lock deploy --timeout 5m -- ./deploy.sh";

/// Run a command while a lock is held
#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub struct Lock {
    /// The lock
    name: Name,

    #[command(flatten)]
    hold: Hold,
}

impl Lock {
    /// Runs it.
    pub async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let lock = context.connect().await?.lock(&self.name);
        let words = Words {
            kind: "lock",
            variable: "PMQ_LOCK",
        };
        self.hold.run(lock.into(), words).await
    }
}
