//! JSON that others write.

/// A struct with a flattened field of this type is read from a JSON object alone, and whatever else is in it has to be JSON, too.
/// Without one, serde also takes a list of the values, in the order of the struct's fields, and skips what it does not know unread.
pub(crate) type ObjectOnly = serde::de::IgnoredAny;
