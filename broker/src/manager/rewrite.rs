//! Changes of a whole list: read in pages, rewritten in a draft, and put in its place at once.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::sleep;

use super::container::Container;
use super::pages::{CHUNK, TRIES, chunks, snapshot};
use crate::error::{Error, Result};
use crate::ids::TaskId;

/// Replaces all items by what `change` makes of them; again from the start where others changed the list meanwhile.
pub(super) async fn rewrite(
    container: &Container,
    change: impl Fn(Vec<Bytes>) -> Result<Vec<Bytes>>,
) -> Result<()> {
    let mut tries = 1;
    loop {
        let before = snapshot(container, "list_read", Some((..).into())).await?;
        let items = change(before.items)?;
        match replace(container, &before.version, &items).await {
            Err(Error::Changed { .. }) if tries < TRIES => tries += 1,
            done => return done,
        }
        sleep(Duration::from_millis(fastrand::u64(0..5 << tries.min(6)))).await;
    }
}

async fn replace(container: &Container, version: &str, items: &[Bytes]) -> Result<()> {
    let draft = TaskId::new().to_string();
    let mut pages = chunks(items, CHUNK, Bytes::len);
    if pages.is_empty() {
        pages.push(&[]);
    }
    for (i, page) in pages.into_iter().enumerate() {
        let begins = if i == 0 { "1" } else { "" };
        container
            .change("list_draft", |call| {
                let call = call.arg(version).arg(&draft).arg(begins);
                page.iter().fold(call, |call, item| call.arg(item.as_ref()))
            })
            .await?;
    }
    container
        .change("list_commit", |call| {
            call.arg(version).arg(&draft).arg(items.len())
        })
        .await
        .map(drop)
}
