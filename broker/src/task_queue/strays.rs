//! Strays: runs that the broker has of a worker and that the worker knows nothing of, as a failover lost their ends, or a
//! copy of an old claim came late.

use super::{CHUNK, Run, Shard};
use crate::broker::PATIENCE;
use crate::error::Result;
use crate::ids::{Incarnation, TaskId};
use crate::reply::{self, odd};

impl Shard {
    /// Hands back the runs of this worker that it does not hold; answers how many there were. Nothing is used up.
    ///
    /// It walks all running tasks of the shard, and must claim no more under this incarnation. `holds` is asked after the
    /// broker was: a run that ends meanwhile is not taken for a stray, or is not held there any more either.
    pub async fn release_strays(
        &self,
        worker: Incarnation,
        holds: impl Fn(&TaskId, &Run) -> bool,
    ) -> Result<usize> {
        let (mut strays, mut cursor) = (0, "0".to_owned());
        loop {
            let (next, page) = self.running_page(&cursor).await?;
            let of_worker = page
                .into_iter()
                .filter(|(id, run)| run.worker() == Some(worker) && !holds(id, run));
            let found: Vec<(TaskId, Run)> = of_worker.collect();
            self.release(&found).await?;
            strays += found.len();
            if next == "0" {
                return Ok(strays);
            }
            cursor = next;
        }
    }

    /// A page of the running tasks from this cursor on, and the next cursor.
    pub(super) async fn running_page(&self, cursor: &str) -> Result<(String, Vec<(TaskId, Run)>)> {
        let doing = "list running tasks";
        let mut command = redis::cmd("HSCAN");
        command.arg(self.keys().running()).arg(cursor);
        command.arg("COUNT").arg(CHUNK);
        let control = self.broker.control();
        let answer = control.send(&command, doing, PATIENCE).await?;
        let mut answer = reply::items(answer, doing)?.into_iter();
        let (Some(next), Some(fields)) = (answer.next(), answer.next()) else {
            return Err(odd(doing));
        };
        let mut fields = reply::items(fields, doing)?.into_iter();
        let mut page = Vec::new();
        while let (Some(id), Some(run)) = (fields.next(), fields.next()) {
            // What is no id of ours is nobody's run.
            if let Some(id) = TaskId::from_slice(&reply::bytes(id, doing)?) {
                page.push((id, Run(reply::bytes(run, doing)?)));
            }
        }
        Ok((reply::text(next, doing)?, page))
    }
}
