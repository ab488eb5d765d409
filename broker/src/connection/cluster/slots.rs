//! The slot of a key: CRC16 of its hash tag, as Redis Cluster counts.

/// How many slots a Cluster has.
pub(crate) const SLOTS: u16 = 16384;

/// The slot of a key.
pub(crate) fn slot(key: &[u8]) -> u16 {
    crc16(tag(key)) % SLOTS
}

/// What stands between the first `{` and the next `}`, or the whole key where that is nothing.
fn tag(key: &[u8]) -> &[u8] {
    let inner = || {
        let after = &key[key.iter().position(|byte| *byte == b'{')? + 1..];
        let length = after.iter().position(|byte| *byte == b'}')?;
        (length > 0).then(|| &after[..length])
    };
    inner().unwrap_or(key)
}

/// CRC-16/XMODEM, a nibble at a time.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        let crc = step(crc, byte >> 4);
        step(crc, byte & 0xF)
    })
}

fn step(crc: u16, nibble: u8) -> u16 {
    (crc << 4) ^ NIBBLES[usize::from((crc >> 12) as u8 ^ nibble)]
}

/// The remainders of the 16 nibbles by the polynomial 0x1021.
const NIBBLES: [u16; 16] = {
    let mut table = [0; 16];
    let mut nibble = 0;
    while nibble < 16 {
        let (mut crc, mut bit) = ((nibble as u16) << 12, 0);
        while bit < 4 {
            crc = if crc & 0x8000 == 0 {
                crc << 1
            } else {
                (crc << 1) ^ 0x1021
            };
            bit += 1;
        }
        table[nibble] = crc;
        nibble += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    /// The check value and the example are those of the Cluster specification; the others are a server's answers.
    #[test]
    fn slots_are_those_of_redis() {
        assert_eq!(crc16(b"123456789"), 0x31C3);
        assert_eq!(slot(b"foo"), 12182);
        assert_eq!(slot(b"{123456789}x"), 12739);
        assert_eq!(slot(b"pmq:{q/0}:meta"), slot(b"{q/0}"));
    }

    #[test]
    fn an_empty_tag_is_none() {
        assert_eq!(tag(b"a{}b"), b"a{}b");
        assert_eq!(tag(b"a{b"), b"a{b");
        assert_eq!(tag(b"{a}{b}"), b"a");
        assert_eq!(tag(b"{{a}}"), b"{a");
        assert_eq!(tag(b"}{a}"), b"a");
    }
}
