//! Slices as Python has them.

use std::ops::{Range, RangeFrom, RangeFull, RangeTo};

use crate::error::{Error, Result};
use crate::functions::Call;

/// Which items of a list or an array: from `start` up to but without `stop`, each `step`-th. In Python this is
/// `[start:stop:step]`.
///
/// Negative indices count from the end, and indices beyond the ends mean the ends. Ranges become slices: `2..5`, `-3..`,
/// `..-1`, `..`; [`Slice::step`] adds a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slice {
    start: Option<i64>,
    stop: Option<i64>,
    step: i64,
}

impl Slice {
    /// A slice with the bounds of this one and every `step`-th item, backwards where it is negative. 0 is refused when
    /// the slice is used. In Python this is the third part of `start:stop:step`.
    #[must_use]
    pub fn step(self, step: i64) -> Self {
        Self { step, ..self }
    }

    /// A slice with bounds that may be left out: `Slice::new(1, -1)`, `Slice::new(None, None).step(-1)`. It takes what a
    /// range of Rust would make look empty. In Python this is `slice(start, stop)`.
    #[must_use]
    pub fn new(start: impl Into<Option<i64>>, stop: impl Into<Option<i64>>) -> Self {
        Self {
            start: start.into(),
            stop: stop.into(),
            step: 1,
        }
    }

    /// Refuses what no list can take.
    pub(super) fn checked(self) -> Result<Self> {
        if self.step == 0 {
            return Err(Error::BadOption(
                "the step of a slice can't be 0".to_owned(),
            ));
        }
        Ok(self)
    }

    /// Adds it to a call's arguments.
    pub(super) fn add_to(self, call: Call) -> Call {
        let text = |bound: Option<i64>| bound.map_or(String::new(), |at| at.to_string());
        call.arg(text(self.start))
            .arg(text(self.stop))
            .arg(self.step)
    }

    /// Whether it means items that follow each other.
    pub(super) fn is_contiguous(self) -> bool {
        self.step == 1
    }

    /// Where it starts and stops in a list of this length. -1 is before the first item.
    fn resolve(self, length: usize) -> (i64, i64) {
        let length = length as i64;
        let (low, high) = if self.step < 0 {
            (-1, length - 1)
        } else {
            (0, length)
        };
        let bound = |at: i64| {
            (if at < 0 {
                at.saturating_add(length)
            } else {
                at
            })
            .clamp(low, high)
        };
        let (first, end) = if self.step < 0 {
            (high, low)
        } else {
            (low, high)
        };
        (
            self.start.map_or(first, bound),
            self.stop.map_or(end, bound),
        )
    }

    /// The range that a contiguous one means in a list of this length.
    pub(super) fn range(self, length: usize) -> Range<usize> {
        let (start, stop) = self.resolve(length);
        start as usize..stop.max(start) as usize
    }

    /// The indices that it means in a list of this length, in its order.
    pub(super) fn indices(self, length: usize) -> Vec<usize> {
        let (mut at, stop) = self.resolve(length);
        let mut indices = Vec::new();
        while if self.step < 0 { at > stop } else { at < stop } {
            indices.push(at as usize);
            at = at.saturating_add(self.step);
        }
        indices
    }
}

impl From<Range<i64>> for Slice {
    fn from(range: Range<i64>) -> Self {
        Self::new(range.start, range.end)
    }
}

impl From<RangeFrom<i64>> for Slice {
    fn from(range: RangeFrom<i64>) -> Self {
        Self::new(range.start, None)
    }
}

impl From<RangeTo<i64>> for Slice {
    fn from(range: RangeTo<i64>) -> Self {
        Self::new(None, range.end)
    }
}

impl From<RangeFull> for Slice {
    fn from(_: RangeFull) -> Self {
        Self::new(None, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each line is what Python's `slice(...).indices(6)` gives, as a list.
    #[test]
    fn a_slice_means_what_it_means_in_python() {
        let six = |slice: Slice| slice.indices(6);
        assert_eq!(six((2..5).into()), [2, 3, 4]);
        assert_eq!(six((-3..).into()), [3, 4, 5]);
        assert_eq!(six((..-4).into()), [0, 1]);
        assert_eq!(six(Slice::new(4, 2)), [0; 0]);
        assert_eq!(six((-99..99).into()), [0, 1, 2, 3, 4, 5]);
        assert_eq!(six(Slice::from(..).step(4)), [0, 4]);
        assert_eq!(six(Slice::from(..).step(-1)), [5, 4, 3, 2, 1, 0]);
        assert_eq!(six(Slice::new(4, 0).step(-3)), [4, 1]);
        assert_eq!(six(Slice::from(99..).step(-5)), [5, 0]);
        assert_eq!(six(Slice::from(..-2).step(-1)), [5]);
        assert_eq!(Slice::from(..).step(-1).indices(0), [0; 0]);
    }

    #[test]
    fn a_step_of_0_is_refused() {
        assert!(Slice::from(..).step(0).checked().is_err());
    }
}
