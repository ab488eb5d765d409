//! Chunks: the items of a call on their way out, and what came back for them.

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::PoolError;
use crate::error::Error;
use crate::task::BODY_LIMIT;

/// A chunk of the input.
#[derive(Debug)]
pub(super) struct Piece {
    /// Its first item, from 0.
    pub(super) first: usize,
    /// How many items it has.
    pub(super) items: usize,
    /// Its items as a JSON array, or why there is none.
    pub(super) body: Result<Bytes, PoolError>,
}

/// Cuts an input into chunks, and draws no item before it is needed.
pub(super) struct Pieces<I> {
    items: I,
    size: usize,
    index: usize,
    /// An item that cannot be sent, where the chunk before it goes first.
    refused: Option<Piece>,
}

impl<I> Pieces<I> {
    pub(super) fn new(items: I, size: usize) -> Self {
        Self {
            items,
            size,
            index: 0,
            refused: None,
        }
    }
}

impl<I: Iterator<Item: Serialize>> Iterator for Pieces<I> {
    type Item = Piece;

    fn next(&mut self) -> Option<Piece> {
        if let Some(refused) = self.refused.take() {
            return Some(refused);
        }
        let (first, mut body) = (self.index, vec![b'[']);
        while self.index - first < self.size {
            let Some(item) = self.items.next() else { break };
            let index = self.index;
            self.index += 1;
            if index > first {
                body.push(b',');
            }
            let end = body.len();
            if let Err(error) = serde_json::to_writer(&mut body, &item) {
                let message = error.to_string();
                let refused = Piece {
                    first: index,
                    items: 1,
                    body: Err(PoolError::Argument { index, message }),
                };
                if index == first {
                    return Some(refused);
                }
                body.truncate(end - 1);
                self.refused = Some(refused);
                return Some(piece(first, index - first, body));
            }
        }
        let items = self.index - first;
        (items > 0).then(|| piece(first, items, body))
    }
}

fn piece(first: usize, items: usize, mut body: Vec<u8>) -> Piece {
    body.push(b']');
    let body = if body.len() > BODY_LIMIT {
        Err(PoolError::from(Error::TooLarge {
            what: "a chunk's body",
            size: body.len(),
            limit: BODY_LIMIT,
        }))
    } else {
        Ok(body.into())
    };
    Piece { first, items, body }
}

/// The end of a chunk.
#[derive(Debug)]
pub(super) struct Done {
    /// Which chunk of its call it is, from 0.
    pub(super) number: usize,
    /// Its first item, from 0.
    pub(super) first: usize,
    /// How many items it has.
    pub(super) items: usize,
    /// How many places it takes until it is read.
    pub(super) weight: usize,
    /// What the worker answered, or why there is no answer.
    pub(super) answer: Result<Bytes, PoolError>,
}

/// What a worker answers for one item.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Answer<T> {
    Ok(T),
    Error(String),
}

impl Done {
    /// The results of its items, in their order.
    pub(super) fn results<R: DeserializeOwned>(self) -> Vec<Result<R, PoolError>> {
        let body = match self.answer {
            Ok(body) => body,
            Err(error) => return all(&error, self.items),
        };
        let first = self.first;
        let failed = |(i, message)| PoolError::Task {
            index: first + i,
            message,
        };
        match serde_json::from_slice::<Vec<Answer<R>>>(&body) {
            Ok(answers) if answers.len() == self.items => answers
                .into_iter()
                .enumerate()
                .map(|(i, answer)| match answer {
                    Answer::Ok(result) => Ok(result),
                    Answer::Error(message) => Err(failed((i, message))),
                })
                .collect(),
            _ => one_by_one(&body, self.first, self.items),
        }
    }
}

fn all<R>(error: &PoolError, items: usize) -> Vec<Result<R, PoolError>> {
    (0..items).map(|_| Err(error.clone())).collect()
}

/// The same, where some item does not fit its type.
fn one_by_one<R: DeserializeOwned>(
    body: &[u8],
    first: usize,
    items: usize,
) -> Vec<Result<R, PoolError>> {
    let unfit = |index, message: String| PoolError::Result { index, message };
    let answers: Vec<Answer<&RawValue>> = match serde_json::from_slice(body) {
        Ok(answers) => answers,
        Err(error) => return all(&unfit(first, error.to_string()), items),
    };
    if answers.len() != items {
        let message = format!("{} results for {items} items", answers.len());
        return all(&unfit(first, message), items);
    }
    let result = |(i, answer): (usize, Answer<&RawValue>)| match answer {
        Answer::Ok(json) => {
            serde_json::from_str(json.get()).map_err(|error| unfit(first + i, error.to_string()))
        }
        Answer::Error(message) => Err(PoolError::Task {
            index: first + i,
            message,
        }),
    };
    answers.into_iter().enumerate().map(result).collect()
}

/// The chunksize of a `map` of so many items. In Python it is the same: four chunks a process.
pub(super) fn default_size(items: usize, processes: usize) -> usize {
    items.div_ceil(4 * processes).max(1)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn bodies(pieces: impl Iterator<Item = Piece>) -> Vec<(usize, usize, String)> {
        pieces
            .map(|piece| {
                let text = piece.body.map_or_else(
                    |error| error.to_string(),
                    |body| String::from_utf8(body.into()).unwrap(),
                );
                (piece.first, piece.items, text)
            })
            .collect()
    }

    #[test]
    fn an_input_is_cut_into_chunks() {
        assert_eq!(
            bodies(Pieces::new(0..5, 2)),
            [
                (0, 2, "[0,1]".into()),
                (2, 2, "[2,3]".into()),
                (4, 1, "[4]".into())
            ]
        );
        assert_eq!(bodies(Pieces::new(0..0, 2)), []);
    }

    #[test]
    fn what_cannot_be_sent_comes_at_its_place() {
        let bad = HashMap::from([((1, 2), 3)]); // a key that is no string
        let items = [HashMap::new(), bad.clone(), HashMap::new(), bad];
        let cut = bodies(Pieces::new(items.into_iter(), 3));
        let shapes: Vec<_> = cut
            .iter()
            .map(|(first, items, _)| (*first, *items))
            .collect();
        assert_eq!(shapes, [(0, 1), (1, 1), (2, 1), (3, 1)]);
        assert_eq!(cut[0].2, "[{}]");
        assert!(
            cut[1].2.starts_with("item 1 cannot be sent"),
            "{}",
            cut[1].2
        );
    }

    #[test]
    fn a_chunksize_is_pythons() {
        let pythons = [((0, 2), 1), ((8, 2), 1), ((9, 2), 2), ((100, 5), 5)];
        for ((items, processes), size) in pythons {
            assert_eq!(default_size(items, processes), size, "{items} {processes}");
        }
    }

    fn results(body: &'static str, items: usize) -> Vec<String> {
        let done = Done {
            number: 0,
            first: 10,
            items,
            weight: 1,
            answer: Ok(body.into()),
        };
        let text = |result: Result<Option<u8>, PoolError>| match result {
            Ok(value) => format!("{value:?}"),
            Err(error) => error.to_string(),
        };
        done.results().into_iter().map(text).collect()
    }

    #[test]
    fn each_item_has_its_result() {
        assert_eq!(
            results(r#"[{"ok":1},{"ok":null},{"error":"odd"}]"#, 3),
            ["Some(1)", "None", "item 12 failed: odd"]
        );
        let mixed = results(r#"[{"ok":1},{"ok":"x"},{"error":"odd"}]"#, 3);
        assert_eq!(
            (mixed[0].as_str(), mixed[2].as_str()),
            ("Some(1)", "item 12 failed: odd")
        );
        assert!(mixed[1].starts_with("the result of item 11 does not fit"));
        assert!(results(r#"[{"ok":1}]"#, 2)[1].contains("1 results for 2 items"));
        assert!(results("{}", 1)[0].contains("does not fit"));
    }
}
