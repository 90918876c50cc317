//! Follows the frames of an HTTP/2 connection in the bytes that pass, and judges whether the peer sends too many
//! control frames for its calls.
//!
//! tonic answers PING frames as fast as they come (measured: 400,000 in a third of a second), and SETTINGS, PRIORITY,
//! `WINDOW_UPDATE` and frames of unknown types cost nothing to send either. A limit on their number alone would hit
//! honest clients: grpc-go measures the bandwidth with a PING for about each answer that it reads, and clients give
//! back windows as they read. So a peer may send a fixed number of control frames in a window of time, and some more
//! for each frame of a call that passes in either direction.
//!
//! Only the headers of frames are read, nine bytes each (RFC 9113, section 4.1); payloads are stepped over.

use std::time::Duration;

use tokio::time::Instant;

/// What a client sends before its first frame.
const PREFACE_LEN: u32 = 24;
const HEAD_LEN: usize = 9;

const DATA: u8 = 0x0;
const HEADERS: u8 = 0x1;
const END_STREAM: u8 = 0x1;

/// Control frames that a frame of a call pays for: a PING and its answer, and windows of the stream and the connection.
const CONTROL_PER_CALL_FRAME: u64 = 4;

/// Where in the frames of one direction we are.
#[derive(Debug)]
pub(super) struct Frames {
    state: State,
}

/// What has passed in the current window of time.
#[derive(Debug)]
pub(super) struct Traffic {
    began: Instant,
    call_frames: u64,
    control_frames: u64,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// In bytes that do not matter, with so many left: the preface or a payload.
    Skip(u32),
    /// In a head, with so many bytes of it read.
    Head([u8; HEAD_LEN], usize),
}

/// The purpose of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Headers, or data that is not empty or ends its stream.
    Call,
    /// All others.
    Control,
}

impl Frames {
    /// What a client sends: the preface, then frames.
    pub fn from_client() -> Frames {
        Frames {
            state: State::Skip(PREFACE_LEN),
        }
    }

    /// What a server sends: frames.
    pub fn from_server() -> Frames {
        Frames {
            state: State::Head([0; HEAD_LEN], 0),
        }
    }

    /// Steps over `bytes`, which follow those of the last call, and reports each header that is complete.
    pub fn follow(&mut self, mut bytes: &[u8], mut seen: impl FnMut(Kind)) {
        while let Some((first, rest)) = bytes.split_first() {
            match &mut self.state {
                State::Skip(0) => self.state = State::Head([0; HEAD_LEN], 0),
                State::Skip(left) => {
                    let step = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                    *left -= u32::try_from(step).unwrap_or(*left);
                    bytes = bytes.get(step..).unwrap_or_default();
                }
                State::Head(head, filled) => {
                    if let Some(byte) = head.get_mut(*filled) {
                        *byte = *first;
                    }
                    *filled += 1;
                    bytes = rest;
                    if *filled == HEAD_LEN {
                        let (kind, payload_len) = read_head(*head);
                        seen(kind);
                        self.state = State::Skip(payload_len);
                    }
                }
            }
        }
    }
}

impl Traffic {
    pub fn new() -> Traffic {
        Traffic {
            began: Instant::now(),
            call_frames: 0,
            control_frames: 0,
        }
    }

    /// The peer sent a frame.
    pub fn count_received(&mut self, kind: Kind) {
        match kind {
            Kind::Call => self.call_frames += 1,
            Kind::Control => self.control_frames += 1,
        }
    }

    /// We sent a frame. Our control frames answer the peer's, so they pay for nothing.
    pub fn count_sent(&mut self, kind: Kind) {
        self.call_frames += u64::from(kind == Kind::Call);
    }

    /// Starts again from zero if `window` is over. Call it before the frames of a read are counted.
    pub fn renew(&mut self, window: Duration) {
        if self.began.elapsed() >= window {
            *self = Traffic::new();
        }
    }

    /// Whether the peer sent more control frames than `control_frames_max` and those that its calls pay for.
    pub fn is_flood(&self, control_frames_max: u64) -> bool {
        self.control_frames > control_frames_max + CONTROL_PER_CALL_FRAME * self.call_frames
    }
}

/// What the frame is for, and how many bytes follow its head.
fn read_head(head: [u8; HEAD_LEN]) -> (Kind, u32) {
    let [len_high, len_middle, len_low, frame_type, flags, ..] = head;
    let payload_len = u32::from_be_bytes([0, len_high, len_middle, len_low]);
    let kind = match frame_type {
        HEADERS => Kind::Call,
        // An empty one that ends its stream is how many clients say that they are done.
        DATA if payload_len > 0 || flags & END_STREAM != 0 => Kind::Call,
        _ => Kind::Control,
    };
    (kind, payload_len)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(frame_type: u8, flags: u8, payload_len: u16) -> Vec<u8> {
        let [high, low] = payload_len.to_be_bytes();
        // The payload looks like heads of PINGs: whoever loses count sees control frames.
        let payload = [0, 0, 0, 6, 0, 0, 0, 0, 0].into_iter().cycle().take(payload_len.into());
        [0, high, low, frame_type, flags, 0, 0, 0, 1]
            .into_iter()
            .chain(payload)
            .collect()
    }

    #[test]
    fn only_headers_and_data_with_a_meaning_are_of_a_call() {
        let kind = |frame_type, flags, payload_len| {
            let mut kinds = Vec::new();
            Frames::from_server().follow(&frame(frame_type, flags, payload_len), |kind| kinds.push(kind));
            kinds
        };
        assert_eq!(kind(HEADERS, 4, 100), [Kind::Call]);
        assert_eq!(kind(DATA, 0, 5), [Kind::Call]);
        assert_eq!(kind(DATA, END_STREAM, 0), [Kind::Call]);
        assert_eq!(kind(DATA, 0, 0), [Kind::Control]);
        for control in [2, 3, 4, 5, 6, 7, 8, 9, 0x10, 0xff] {
            assert_eq!(kind(control, 1, 8), [Kind::Control], "type {control}");
        }
    }

    #[test]
    fn calls_pay_for_control_frames() {
        let mut traffic = Traffic::new();
        (0..10).for_each(|_| traffic.count_received(Kind::Control));
        assert!(!traffic.is_flood(10));
        traffic.count_received(Kind::Control);
        assert!(traffic.is_flood(10));
        traffic.count_sent(Kind::Control);
        assert!(traffic.is_flood(10), "an answer to a PING pays for nothing");
        traffic.count_sent(Kind::Call);
        assert!(!traffic.is_flood(10));
    }

    #[test]
    fn a_window_that_is_over_does_not_count() {
        let mut traffic = Traffic::new();
        traffic.count_received(Kind::Control);
        traffic.renew(Duration::from_mins(1));
        assert!(traffic.is_flood(0));
        traffic.renew(Duration::ZERO);
        assert!(!traffic.is_flood(0));
    }

    proptest! {
        /// However the bytes are cut on their way, the same frames are seen.
        #[test]
        fn frames_are_found_wherever_reads_end(
            frames in prop::collection::vec((0_u8..12, any::<u8>(), 0_u16..600), 1..20),
            read_len in 1_usize..50,
        ) {
            let expected: Vec<Kind> = frames
                .iter()
                .map(|(frame_type, flags, len)| read_head(frame(*frame_type, *flags, *len)[..9].try_into().unwrap()).0)
                .collect();
            let stream: Vec<u8> = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".iter().copied()
                .chain(frames.iter().flat_map(|(frame_type, flags, len)| frame(*frame_type, *flags, *len)))
                .collect();

            let (mut follower, mut seen) = (Frames::from_client(), Vec::new());
            for read in stream.chunks(read_len) {
                follower.follow(read, |kind| seen.push(kind));
            }
            prop_assert_eq!(seen, expected);
        }
    }
}
