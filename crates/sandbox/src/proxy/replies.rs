//! What Postgres says to its client, message by message, as far as is needed to see a commit pass.
//!
//! After the start-up each message of the server is a type byte, a length of four bytes that counts itself, and the
//! rest (the documentation of Postgres, 55.7 "Message Formats"). `CommandComplete` is `C` with the command's tag and a zero.
//! A message may come in any number of pieces, so what was seen of one is kept.

/// Where a commit passes: between what was forwarded already and the rest of these bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Commit {
    /// How many of the bytes come before the message, and go through.
    pub before: usize,
}

const HEADER_BYTES: usize = 5;
const COMMIT: &[u8] = b"C\0\0\0\x0bCOMMIT\0";

/// The replies of one connection, from its first byte.
#[derive(Debug, Default)]
pub(super) struct Replies {
    /// The beginning of the message that is under way: its header, and as much as a commit has.
    head: Vec<u8>,
    /// How many bytes of it are still to come, once its header was read.
    left: Option<usize>,
    started: bool,
    /// It is no conversation with Postgres that could be read: encrypted, or of somebody else.
    foreign: bool,
}

impl Replies {
    /// Reads on; the first commit whose message ends in these bytes.
    pub(super) fn commit_in(&mut self, bytes: &[u8]) -> Option<Commit> {
        let mut commit = None;
        // Where the message under way began, if it began here.
        let mut began = 0;
        for (at, byte) in bytes.iter().enumerate() {
            if self.foreign {
                break;
            }
            if !self.started {
                self.started = true;
                // The one byte without a frame: "no", to a client that asked for encryption.
                if *byte == b'N' {
                    began = at + 1;
                    continue;
                }
            }
            if self.take(*byte) {
                if self.head == COMMIT && commit.is_none() {
                    commit = Some(Commit { before: began });
                }
                self.head.clear();
                self.left = None;
                began = at + 1;
            }
        }
        commit
    }

    /// One byte more; whether the message ends with it.
    fn take(&mut self, byte: u8) -> bool {
        if self.head.len() < COMMIT.len() {
            self.head.push(byte);
        }
        let left = match self.left {
            Some(left) => left.saturating_sub(1),
            None if self.head.len() < HEADER_BYTES => return false,
            None => match self.head.as_slice() {
                [_, a, b, c, d, ..] => {
                    let length = u32::from_be_bytes([*a, *b, *c, *d]);
                    let Some(rest) = length.checked_sub(4) else {
                        self.foreign = true;
                        return false;
                    };
                    usize::try_from(rest).unwrap_or(usize::MAX)
                }
                _ => return false,
            },
        };
        self.left = Some(left);
        left == 0
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
        assert_eq!(Replies::default().commit_in(&bytes), Some(Commit { before }));
        for split in 0..bytes.len() {
            let mut replies = Replies::default();
            let (first, second) = bytes.split_at(split);
            let seen = [replies.commit_in(first), replies.commit_in(second)];
            let expected = if split >= before + COMMIT.len() {
                [Some(Commit { before }), None]
            } else {
                // What of the message is in the first piece went through already.
                let before = before.saturating_sub(split);
                [None, Some(Commit { before })]
            };
            assert_eq!(seen, expected, "split at {split}");
        }
    }

    #[test]
    fn a_rollback_is_no_commit() {
        let mut replies = Replies::default();
        assert_eq!(replies.commit_in(b"R\0\0\0\x08\0\0\0\0C\0\0\0\x0dROLLBACK\0"), None);
        assert_eq!(replies.commit_in(COMMIT), Some(Commit { before: 0 }));
    }

    #[test]
    fn a_refused_encryption_is_no_message() {
        let mut replies = Replies::default();
        assert_eq!(replies.commit_in(b"N"), None);
        assert_eq!(replies.commit_in(COMMIT), Some(Commit { before: 0 }));
    }

    #[test]
    fn what_is_not_postgres_is_left_alone() {
        let mut replies = Replies::default();
        assert_eq!(replies.commit_in(b"X\0\0\0\x01 and so on"), None);
        assert_eq!(replies.commit_in(COMMIT), None);
    }
}
