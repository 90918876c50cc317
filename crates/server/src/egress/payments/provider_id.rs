//! The provider's ids. They go into columns, lines of the log and the paths of later requests: an object with another one is
//! not read.

use serde::de::Error;
use serde::{Deserialize, Deserializer};

/// Stripe's have some 30 characters, and at most so many.
const LENGTH_MAX: usize = 255;

pub(super) fn is_id(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    (1..=LENGTH_MAX).contains(&text.len()) && text.bytes().all(is_plain)
}

/// For `deserialize_with`.
pub(super) fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    read_if_any(deserializer)?.ok_or_else(|| Error::custom("no id"))
}

/// The same for an id that need not be there.
pub(super) fn read_if_any<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let id = Option::<String>::deserialize(deserializer)?;
    match id {
        Some(id) if !is_id(&id) => Err(Error::custom("no id")),
        id => Ok(id),
    }
}
