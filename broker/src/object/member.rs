//! A member of an object: somebody who holds or awaits something of it.

use std::fmt;

/// The id of a member: ten letters for its process, then a number. Its process hears news for it on its own channel.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Member([u8; 16]);

/// How many bytes name the process.
pub(crate) const CLIENT: usize = 10;

impl Member {
    /// The member of this number in the process `client`, which is ten letters.
    pub(super) fn new(client: &str, number: u64) -> Self {
        let mut bytes = [0; 16];
        bytes[..CLIENT].copy_from_slice(&client.as_bytes()[..CLIENT]);
        bytes[CLIENT..].copy_from_slice(&number.to_be_bytes()[2..]);
        Self(bytes)
    }

    /// The 16 bytes that stand in Redis.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The same, as an array.
    pub(crate) fn to_bytes(self) -> [u8; 16] {
        self.0
    }

    /// The member with these bytes, or `None` where they are not 16.
    pub(crate) fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (client, number) = self.0.split_at(CLIENT);
        write!(f, "{}-{number:02x?}", String::from_utf8_lossy(client))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_begins_with_its_process_and_differs_from_the_next() {
        let (one, two) = (Member::new("abcdefghij", 1), Member::new("abcdefghij", 2));
        assert!(one.as_bytes().starts_with(b"abcdefghij") && one != two);
        assert_eq!(Member::from_slice(one.as_bytes()), Some(one));
        assert_eq!(Member::from_slice(b"short"), None);
    }
}
