//! Where the shards of a queue lie: hash tags that spread over the slots of a Redis Cluster.

/// How many slots a Redis Cluster has.
const SLOTS: u32 = 16_384;
/// A shard lies at most so many slots behind its place, less one: a narrow window spreads well, a wide one is found fast.
const NEAR: u32 = 64;

/// CRC-16 as Redis Cluster computes it (XMODEM): of a hash tag, and of the key that keeps tasks in order.
#[must_use]
pub fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte) << 8, |crc, _| {
            if crc & 0x8000 == 0 {
                crc << 1
            } else {
                crc << 1 ^ 0x1021
            }
        })
    })
}

/// The slot of a hash tag.
fn slot(tag: &str) -> u32 {
    u32::from(crc16(tag.as_bytes())) % SLOTS
}

/// The hash tags of all shards of a queue, by their numbers.
///
/// Shard 0 is `q/0`. The N places lie evenly on the ring of slots, from the slot of shard 0 on, and shard `s` has place
/// `s x stride mod N`, so that shards of neighbouring numbers lie far apart, and mostly on different primaries. Its tag is
/// `q/s-k` with the smallest `k` whose slot is one of the 64 from its place on.
pub(crate) fn tags(queue: &str, shards: u32) -> Vec<String> {
    let first = format!("{queue}/0");
    let (start, stride) = (slot(&first), stride(shards));
    let others = (1..shards).map(|s| {
        let place = start + SLOTS * (s * stride % shards) / shards;
        let near = |tag: &String| (slot(tag) + SLOTS - place % SLOTS) % SLOTS < NEAR;
        let mut candidates = (0u32..).map(|k| format!("{queue}/{s}-{k}"));
        candidates.find(near).expect("CRC-16 reaches every slot")
    });
    std::iter::once(first.clone()).chain(others).collect()
}

/// The greatest number up to 0.618 N that has no divisor in common with N: its multiples mod N go through all numbers below
/// N, and neighbours lie far apart.
fn stride(n: u32) -> u32 {
    let greatest = (n * 618 / 1000).max(1);
    let found = (1..=greatest).rev().find(|stride| gcd(*stride, n) == 1);
    found.unwrap_or(1)
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn crc16_is_that_of_the_specification_of_redis_cluster() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        assert_eq!(slot("user1000"), 3443);
    }

    #[test]
    fn the_vectors_of_the_protocol_hold() {
        assert_eq!(
            tags("default", 4),
            [
                "default/0",
                "default/1-49",
                "default/2-113",
                "default/3-202"
            ]
        );
    }

    #[test]
    fn any_number_of_shards_is_spread_evenly_wherever_the_primaries_begin() {
        for n in [2, 3, 4, 5, 12, 16, 100, 4096] {
            let tags = tags("mail.fast", n);
            assert_eq!(tags.iter().collect::<HashSet<_>>().len(), n as usize);
            for shift in [0, 1000, 5000, 9999] {
                let mut thirds = [0usize; 3];
                for tag in &tags {
                    thirds[((slot(tag) + shift) % SLOTS * 3 / SLOTS) as usize] += 1;
                }
                let (most, least) = (thirds.iter().max(), thirds.iter().min());
                let differ = most.unwrap() - least.unwrap();
                // Beside what does not divide by three, only those in the windows at the borders differ.
                assert!(differ <= 2 + n as usize / 100, "{n}: {thirds:?}");
            }
        }
    }

    #[test]
    fn neighbours_lie_on_different_thirds() {
        let tags = tags("default", 12);
        let third = |tag: &String| slot(tag) * 3 / SLOTS;
        let same = tags
            .windows(2)
            .filter(|two| third(&two[0]) == third(&two[1]));
        assert!(same.count() <= 2);
    }
}
