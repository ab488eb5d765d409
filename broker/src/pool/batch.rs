//! Batches: chunks that are over in less time than asking for one takes travel several in a task.
//!
//! How many is a matter of how long they take. One that turns out long holds up those behind it for its own length,
//! and no further: its worker ends after it, and the rest is sent again. Where a worker dies, its chunks go on alone.

use std::time::Duration;

use bytes::Bytes;
use serde_json::value::RawValue;

use super::PoolError;
use super::core::Flight;

/// The most chunks in a task.
const MOST: usize = 64;
/// The most bytes in a task of several chunks, and in its results.
const MOST_BYTES: usize = 64 << 10;
/// As many chunks travel together as a worker runs in this time.
const WORTH: Duration = Duration::from_millis(4);

/// A chunk that takes so many times the average may only have waited for a processor, and counts as this.
const OUTLIER: f64 = 4.0;

/// How long chunks take.
#[derive(Default)]
pub(super) struct Pace {
    /// A chunk's time, in µs; the last few count most. Not known at first.
    average: Option<f64>,
}

impl Pace {
    /// How many chunks may travel together.
    pub(super) fn together(&self) -> usize {
        let worth = |average: f64| WORTH.as_micros() as f64 / average.max(1.0);
        self.average
            .map_or(1, |average| (worth(average) as usize).clamp(1, MOST))
    }

    /// A worker took so long for so many chunks.
    pub(super) fn took(&mut self, time: Duration, chunks: usize) {
        let latest = time.as_micros() as f64 / chunks as f64;
        self.average = Some(match self.average {
            Some(average) => average + (latest.min(OUTLIER * average) - average) / 4.0,
            None => latest,
        });
    }

    /// Nothing is under way: what comes next may be of another kind.
    pub(super) fn rest(&mut self) {
        self.average = None;
    }
}

/// Groups chunks that are alike, at most so many in a task.
pub(super) fn together(flights: Vec<Flight>, most: usize) -> Vec<Vec<Flight>> {
    let mut batches: Vec<Vec<Flight>> = Vec::with_capacity(flights.len() / most + 1);
    let mut bytes = 0;
    for flight in flights {
        bytes += flight.bytes;
        match batches.last_mut() {
            Some(batch)
                if batch.len() < most && bytes <= MOST_BYTES && are_alike(batch, &flight) =>
            {
                batch.push(flight);
            }
            _ => {
                bytes = flight.bytes;
                batches.push(vec![flight]);
            }
        }
    }
    batches
}

fn are_alike(batch: &[Flight], flight: &Flight) -> bool {
    let first = &batch[0];
    (first.name, first.items) == (flight.name, flight.items) && !first.alone && !flight.alone
}

/// One array of the items of all.
pub(super) fn body(flights: &[Flight]) -> Bytes {
    if let [alone] = flights {
        return alone.body.clone();
    }
    let mut body = Vec::with_capacity(flights.iter().map(|flight| flight.body.len()).sum());
    for flight in flights {
        body.push(if body.is_empty() { b'[' } else { b',' });
        body.extend_from_slice(&flight.body[1..flight.body.len() - 1]);
    }
    body.push(b']');
    body.into()
}

/// Gives each chunk its part of the answer; those that the worker has left are to be sent again.
pub(super) fn share(mut flights: Vec<Flight>, body: &Bytes) -> Vec<Flight> {
    if flights.len() == 1
        && let Some(alone) = flights.pop()
    {
        alone.end(Ok(body.clone()));
        return Vec::new();
    }
    let answers: Vec<&RawValue> = serde_json::from_slice(body).unwrap_or_default();
    let items = flights[0].items;
    if answers.len() < items || answers.len() > flights.len() * items {
        for flight in flights {
            let error = PoolError::Result {
                index: flight.first,
                message: format!(
                    "{} results for several chunks of {items} items",
                    answers.len()
                ),
            };
            flight.end(Err(error));
        }
        return Vec::new();
    }
    let again = flights.split_off(answers.len() / items);
    for (flight, part) in flights.into_iter().zip(answers.chunks(items)) {
        flight.end(Ok(array(part)));
    }
    again
}

fn array(items: &[&RawValue]) -> Bytes {
    let length: usize = items.iter().map(|item| item.get().len() + 1).sum();
    let mut array = Vec::with_capacity(length + 1);
    for item in items {
        array.push(if array.is_empty() { b'[' } else { b',' });
        array.extend_from_slice(item.get().as_bytes());
    }
    array.push(b']');
    array.into()
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

    use super::super::chunk::{Done, Pieces};
    use super::super::window::Window;
    use super::*;

    fn flights(items: u32, size: usize) -> (Vec<Flight>, UnboundedReceiver<Done>) {
        let (reply, ends): (UnboundedSender<Done>, _) = unbounded_channel();
        let window = Window::new(100, true);
        let flight = |(number, piece): (usize, super::super::chunk::Piece)| Flight {
            name: "t",
            number,
            first: piece.first,
            items: piece.items,
            body: piece.body.unwrap(),
            bytes: 1,
            reply: reply.clone(),
            alone: false,
            place: window.try_place(1).unwrap(),
        };
        let flights = Pieces::new(0..items, size)
            .enumerate()
            .map(flight)
            .collect();
        (flights, ends)
    }

    fn sizes(batches: &[Vec<Flight>]) -> Vec<usize> {
        batches.iter().map(Vec::len).collect()
    }

    #[test]
    fn chunks_that_are_alike_travel_together() {
        let (mut all, _ends) = flights(11, 2);
        all[2].alone = true;
        all[4].bytes = MOST_BYTES;
        let batches = together(all, 3);
        // The fifth is large, and the last one has one item only.
        assert_eq!(sizes(&batches), [2, 1, 1, 1, 1]);
        assert_eq!(body(&batches[0]), "[0,1,2,3]");
        assert_eq!(body(&batches[4]), "[10]");
    }

    #[test]
    fn each_chunk_has_its_part_and_what_is_left_goes_again() {
        let (all, mut ends) = flights(6, 2);
        let answer = br#"[{"ok":0},{"ok":"a"},{"error":"odd"},{"ok":[3,4]}]"#;
        let again = share(all, &Bytes::from_static(answer));
        assert_eq!(
            again.iter().map(|flight| flight.number).collect::<Vec<_>>(),
            [2]
        );
        let told: Vec<_> = std::iter::from_fn(|| ends.try_recv().ok())
            .map(|done| done.answer.unwrap())
            .collect();
        assert_eq!(
            told,
            [
                r#"[{"ok":0},{"ok":"a"}]"#,
                r#"[{"error":"odd"},{"ok":[3,4]}]"#
            ]
        );
    }

    #[test]
    fn an_answer_without_results_fails_all() {
        let (all, mut ends) = flights(4, 2);
        assert!(share(all, &Bytes::from_static(b"[]")).is_empty());
        assert!(ends.try_recv().unwrap().answer.is_err());
        assert!(ends.try_recv().unwrap().answer.is_err());
    }

    #[test]
    fn more_travel_together_the_less_they_take() {
        let mut pace = Pace::default();
        assert_eq!(pace.together(), 1);
        let took = |pace: &mut Pace, micros, chunks| {
            pace.took(Duration::from_micros(micros), chunks);
            pace.together()
        };
        assert_eq!(took(&mut pace, 400, 1), 10);
        assert_eq!(took(&mut pace, 4000, 10), 10);
        assert_eq!(took(&mut pace, 1_000_000, 10), 5, "it may have waited");
        for _ in 0..10 {
            took(&mut pace, 1_000_000, 10);
        }
        assert_eq!(pace.together(), 1);
        for _ in 0..40 {
            took(&mut pace, 100, 10);
        }
        assert_eq!(pace.together(), MOST);
        pace.rest();
        assert_eq!(pace.together(), 1);
    }
}
