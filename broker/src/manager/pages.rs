//! Reading more than one call holds, page by page.

use std::marker::PhantomData;
use std::vec;

use bytes::Bytes;
use serde::de::DeserializeOwned;

use super::container::Container;
use super::json::{self, MAX_BYTES};
use super::slice::Slice;
use crate::error::{Error, Result};
use crate::reply;

/// The most items of a call.
pub(super) const CHUNK: usize = 500;
/// How often something is tried that others' changes break off.
pub(super) const TRIES: u32 = 20;

/// Cuts items into what one call may hold: so many of them, and 1 MiB.
pub(super) fn chunks<T>(items: &[T], most: usize, size: impl Fn(&T) -> usize) -> Vec<&[T]> {
    let (mut chunks, mut rest) = (Vec::new(), items);
    while !rest.is_empty() {
        let mut bytes = 0;
        let fits = |item: &&T| {
            bytes += size(item);
            bytes <= MAX_BYTES
        };
        let n = rest.iter().take(most).take_while(fits).count().max(1);
        let (chunk, after) = rest.split_at(n);
        chunks.push(chunk);
        rest = after;
    }
    chunks
}

/// The pages of a container, or of a slice of it.
pub(super) struct Pages<'a> {
    container: &'a Container,
    verb: &'static str,
    slice: Option<Slice>,
    passed: usize,
    /// Of the first page, which the others must have as well; `None` where changes do not matter.
    version: Option<String>,
}

impl<'a> Pages<'a> {
    /// Pages that go on while others change the container.
    pub(super) fn loose(
        container: &'a Container,
        verb: &'static str,
        slice: Option<Slice>,
    ) -> Self {
        Self {
            container,
            verb,
            slice,
            passed: 0,
            version: None,
        }
    }

    /// Pages of one state of the container; they end with [`Error::Changed`] where it changes.
    pub(super) fn strict(
        container: &'a Container,
        verb: &'static str,
        slice: Option<Slice>,
    ) -> Self {
        Self {
            version: Some(String::new()),
            ..Self::loose(container, verb, slice)
        }
    }

    /// The next page, and whether it is the last.
    pub(super) async fn next(&mut self) -> Result<(Vec<Bytes>, bool)> {
        let version = self.version.as_deref().unwrap_or_default();
        let (passed, slice) = (self.passed, self.slice);
        let mut answer = self
            .container
            .look(self.verb, |call| {
                let call = call.arg(version).arg(passed);
                match slice {
                    Some(slice) => slice.add_to(call),
                    None => call,
                }
            })
            .await?;
        let (version, count) = (answer.text()?, answer.number()? as usize);
        let items = answer.items()?.into_iter();
        let items = items
            .map(|item| reply::bytes(item, self.verb))
            .collect::<Result<Vec<_>>>()?;
        if self.version.is_some() {
            self.version = Some(version);
        }
        self.passed += items.len();
        Ok((items, self.passed >= count))
    }
}

/// One state of a container.
pub(super) struct Snapshot {
    pub(super) version: String,
    pub(super) items: Vec<Bytes>,
}

/// Reads a container, or a slice of it, as it was at one moment: again from the start where it changed meanwhile.
pub(super) async fn snapshot(
    container: &Container,
    verb: &'static str,
    slice: Option<Slice>,
) -> Result<Snapshot> {
    let mut tries = 1;
    loop {
        match read(Pages::strict(container, verb, slice)).await {
            Err(Error::Changed { .. }) if tries < TRIES => tries += 1,
            snapshot => return snapshot,
        }
    }
}

async fn read(mut pages: Pages<'_>) -> Result<Snapshot> {
    let mut items = Vec::new();
    loop {
        let (page, last) = pages.next().await?;
        items.extend(page);
        if last {
            return Ok(Snapshot {
                version: pages.version.unwrap_or_default(),
                items,
            });
        }
    }
}

/// The items of texts.
pub(super) fn decode_all<T: DeserializeOwned>(texts: &[Bytes]) -> Result<Vec<T>> {
    texts.iter().map(|text| json::decode(text)).collect()
}

/// The items of a list or an array one after the other, read in pages. In Python this is `iter(proxy)`.
pub struct Iter<'a, T> {
    pages: Pages<'a>,
    page: vec::IntoIter<Bytes>,
    last: bool,
    types: PhantomData<fn() -> T>,
}

impl<'a, T: DeserializeOwned> Iter<'a, T> {
    pub(super) fn new(pages: Pages<'a>) -> Self {
        Self {
            pages,
            page: Vec::new().into_iter(),
            last: false,
            types: PhantomData,
        }
    }

    /// The next item; `None` at the end. In Python this is `next(iterator)`.
    pub async fn next(&mut self) -> Result<Option<T>> {
        let text = self.next_text().await?;
        text.map(|text| json::decode(&text)).transpose()
    }

    pub(super) async fn next_text(&mut self) -> Result<Option<Bytes>> {
        loop {
            if let Some(text) = self.page.next() {
                return Ok(Some(text));
            }
            if self.last {
                return Ok(None);
            }
            let (page, last) = self.pages.next().await?;
            (self.page, self.last) = (page.into_iter(), last);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_keep_both_limits_and_lose_nothing() {
        let sizes = [MAX_BYTES, 1, 1, MAX_BYTES - 1, 2 * MAX_BYTES, 1];
        let cut = chunks(&sizes, 2, |size| *size);
        let lengths: Vec<_> = cut.iter().map(|chunk| chunk.len()).collect();
        assert_eq!(lengths, [1, 2, 1, 1, 1]);
        assert_eq!(cut.concat(), sizes);
    }
}
