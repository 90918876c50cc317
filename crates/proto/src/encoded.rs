//! A message as its bytes.

use prost::bytes::{Buf, BufMut};
use prost::encoding::{DecodeContext, WireType, skip_field};
use prost::{DecodeError, Message};

/// A message that was encoded before, by this version or another, and goes out as those very bytes. Read back and
/// encoded anew it would lose what this version does not know, and take on this version's order of fields.
///
/// It stands for a whole message of a call, never for a field of another message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Encoded(pub Vec<u8>);

impl Encoded {
    /// A message of this version.
    pub fn of(message: &impl Message) -> Encoded {
        Encoded(message.encode_to_vec())
    }
}

impl Message for Encoded {
    fn encode_raw(&self, to: &mut impl BufMut) {
        to.put_slice(&self.0);
    }

    fn encoded_len(&self) -> usize {
        self.0.len()
    }

    fn merge(&mut self, from: impl Buf) -> Result<(), DecodeError> {
        self.0.put(from);
        Ok(())
    }

    /// Reached only by a field of this type, of which there is none.
    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        from: &mut impl Buf,
        context: DecodeContext,
    ) -> Result<(), DecodeError> {
        skip_field(wire_type, tag, from, context)
    }

    fn clear(&mut self) {
        self.0.clear();
    }
}
