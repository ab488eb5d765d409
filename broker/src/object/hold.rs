//! A hold on an anonymous object, which keeps its keys alive.

use tokio::sync::OnceCell;
use tokio::time::Instant;

use super::{Granted, Lease, Member, Object};
use crate::error::Result;
use crate::task_queue::DEFAULT_LEASE;

/// What a handle of an object holds: nothing where the object has a name, else a member of it that is renewed, from
/// the first use on.
#[derive(Default)]
pub(crate) struct Hold(OnceCell<Option<(Member, Lease)>>);

impl Hold {
    /// Begins it, once.
    pub(crate) async fn begin(&self, object: &Object) -> Result<()> {
        let attach = async || {
            if !object.is_anonymous() {
                return Ok(None);
            }
            let (member, sent) = (object.client().member(), Instant::now());
            let call = object
                .call("attach")
                .arg(member.as_bytes())
                .arg(DEFAULT_LEASE.as_millis() as u64);
            object.send(&call).await?;
            let granted = Granted {
                lease: DEFAULT_LEASE,
                first: DEFAULT_LEASE,
                sent,
            };
            let lease = object.client().keep(object, member, granted);
            Ok(Some((member, lease)))
        };
        self.0.get_or_try_init(attach).await.map(drop)
    }

    /// Ends it in the background. The object goes with the last.
    pub(crate) fn end(&mut self, object: &Object) {
        if let Some((member, _)) = self.0.take().flatten() {
            let call = object.call("detach").arg(member.as_bytes());
            object.client().farewell(call);
        }
    }
}
