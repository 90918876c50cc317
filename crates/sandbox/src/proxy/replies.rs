//! The messages of Postgres to its client, as far as is needed to see a commit pass.
//!
//! After the start-up each message of the server is a type byte, a length of four bytes that counts itself, and the
//! rest (the documentation of Postgres, 55.7 "Message Formats"). `CommandComplete` is `C` with the command's tag and a
//! zero. A message may come in any number of pieces, so the beginning of one is kept.

const COMMIT: &[u8] = b"C\0\0\0\x0bCOMMIT\0";

/// The replies of one connection, from its first byte.
#[derive(Debug, Default)]
pub(super) struct Replies {
    /// The beginning of the current message: at most as many bytes as a commit has.
    head: Vec<u8>,
    /// How many of its bytes are still to come, once its header was read.
    left: Option<u32>,
    started: bool,
    /// These are not messages of Postgres, or they are encrypted.
    foreign: bool,
}

impl Replies {
    /// Reads on. Returns how many of these bytes come before the first commit whose message ends in them.
    pub(super) fn commit_in(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut commit = None;
        // Where the current message began, if it began here.
        let mut began = 0;
        for (at, byte) in bytes.iter().enumerate() {
            // The one byte without a frame: "no", to a client that asked for encryption.
            let unframed = !self.started && *byte == b'N';
            self.started = true;
            if unframed || self.ends_message(*byte) {
                if self.head == COMMIT {
                    commit = commit.or(Some(began));
                }
                self.head.clear();
                self.left = None;
                began = at + 1;
            }
        }
        commit
    }

    /// Reads one byte; whether the current message ends with it.
    fn ends_message(&mut self, byte: u8) -> bool {
        if self.foreign {
            return false;
        }
        if self.head.len() < COMMIT.len() {
            self.head.push(byte);
        }
        self.left = if let Some(left) = self.left {
            Some(left.saturating_sub(1))
        } else {
            let length = self.head.get(1..5).and_then(|length| length.try_into().ok());
            let Some(length) = length.map(u32::from_be_bytes) else {
                return false;
            };
            self.foreign = length < 4;
            length.checked_sub(4)
        };
        self.left == Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `AuthenticationOk`, an answer to `BEGIN`, a row of data that holds the very bytes of a commit, and a commit.
    fn conversation() -> (Vec<u8>, usize) {
        let mut bytes = b"R\0\0\0\x08\0\0\0\0".to_vec();
        bytes.extend(b"C\0\0\0\x0aBEGIN\0Z\0\0\0\x05T");
        bytes.extend(b"D\0\0\0\x10");
        bytes.extend(COMMIT);
        let before = bytes.len();
        bytes.extend(COMMIT);
        bytes.extend(b"Z\0\0\0\x05I");
        (bytes, before)
    }

    #[test]
    fn a_commit_is_seen_however_the_bytes_are_split() {
        let (bytes, before) = conversation();
        assert_eq!(Replies::default().commit_in(&bytes), Some(before));
        for split in 0..bytes.len() {
            let mut replies = Replies::default();
            let (first, second) = bytes.split_at(split);
            let seen = [replies.commit_in(first), replies.commit_in(second)];
            let expected = if split >= before + COMMIT.len() {
                [Some(before), None]
            } else {
                // What of the message is in the first piece went through already.
                let before = before.saturating_sub(split);
                [None, Some(before)]
            };
            assert_eq!(seen, expected, "split at {split}");
        }
    }

    #[test]
    fn a_rollback_is_not_a_commit() {
        let mut replies = Replies::default();
        assert_eq!(replies.commit_in(b"R\0\0\0\x08\0\0\0\0C\0\0\0\x0dROLLBACK\0"), None);
        assert_eq!(replies.commit_in(COMMIT), Some(0));
    }

    #[test]
    fn refused_encryption_is_not_a_message() {
        let mut replies = Replies::default();
        assert_eq!(replies.commit_in(b"N"), None);
        assert_eq!(replies.commit_in(COMMIT), Some(0));
    }

    #[test]
    fn other_protocols_are_left_alone() {
        let mut replies = Replies::default();
        assert_eq!(replies.commit_in(b"X\0\0\0\x01 and so on"), None);
        assert_eq!(replies.commit_in(COMMIT), None);
    }
}
