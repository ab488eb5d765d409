//! A producer: it numbers its bulk calls, so that the broker knows the first copy of each and need not look for its ids.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

/// From how many tasks on a call is numbered: fewer are looked up as fast.
pub(super) const NUMBERED_FROM: usize = 8;

/// Who submits to one shard, through one handle of its queue and its clones.
pub(super) struct Producer {
    id: u64,
    /// What the broker named last: since when it has known of this producer without a break. 0 before that.
    epoch: AtomicU64,
    calls: AtomicU64,
}

impl Default for Producer {
    /// Producers that have the same id by chance disturb no task: more of their calls are looked up.
    fn default() -> Self {
        Self {
            id: fastrand::u64(..),
            epoch: AtomicU64::default(),
            calls: AtomicU64::default(),
        }
    }
}

impl Producer {
    /// The stamp of one more call: producer, epoch, number.
    pub(super) fn stamp(&self) -> [u8; 24] {
        let number = self.calls.fetch_add(1, Ordering::Relaxed) + 1;
        let epoch = self.epoch.load(Ordering::Relaxed);
        let mut stamp = [0; 24];
        for (part, value) in stamp.chunks_exact_mut(8).zip([self.id, epoch, number]) {
            part.copy_from_slice(&value.to_be_bytes());
        }
        stamp
    }

    /// Takes up the epoch that the broker answered.
    pub(super) fn learn(&self, epoch: &Bytes) {
        if let Ok(epoch) = <[u8; 8]>::try_from(epoch.as_ref()) {
            self.epoch
                .store(u64::from_be_bytes(epoch), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_call_has_a_number_of_its_own_and_the_epoch_that_was_answered_last() {
        let producer = Producer {
            id: 0x0102_0304_0506_0708,
            ..Producer::default()
        };
        let stamp = |epoch: u8, number: u8| {
            let mut stamp = [0; 24];
            stamp[..8].copy_from_slice(&[1, 2, 3, 4, 5, 6, 7, 8]);
            (stamp[15], stamp[23]) = (epoch, number);
            stamp
        };
        assert_eq!(producer.stamp(), stamp(0, 1));
        producer.learn(&Bytes::from_static(&[0, 0, 0, 0, 0, 0, 0, 9]));
        assert_eq!(producer.stamp(), stamp(9, 2));
        producer.learn(&Bytes::from_static(b"odd"));
        assert_eq!(producer.stamp(), stamp(9, 3));
    }
}
