//! Whether a driver takes orders, and which: its duty, and what it can do as tags.

use std::fmt;

use thiserror::Error;

/// So many tags at most, of a driver or of an order.
pub const TAGS_MAX: usize = 16;
/// The longest tag, in characters.
pub const TAG_LENGTH_MAX: usize = 32;

/// What a driver can do, or what an order needs of its driver: sorted, each once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Tags(Box<[Box<str>]>);

/// Why tags were refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TagsError {
    /// One of them.
    #[error("has a tag that is not 1 to {TAG_LENGTH_MAX} characters of a-z 0-9 _ -: number {}", .0 + 1)]
    Tag(usize),
    /// There are more than there may be.
    #[error("are more than {TAGS_MAX}")]
    TooMany,
}

/// Whether a driver takes orders, and which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Duty {
    /// Whether it takes orders.
    pub is_on: bool,
    /// What it can do.
    pub tags: Tags,
}

impl Default for Duty {
    /// Of a driver of whom nothing else was said.
    fn default() -> Duty {
        Duty {
            is_on: true,
            tags: Tags::default(),
        }
    }
}

impl Duty {
    /// Whether it may be assigned to an order that needs this.
    pub fn takes(&self, required: &Tags) -> bool {
        self.is_on && self.tags.has_all(required)
    }
}

impl Tags {
    /// These, in any order; one that is there twice counts once.
    pub fn new<T: AsRef<str>>(given: &[T]) -> Result<Tags, TagsError> {
        // Counted before they are sorted: a list is as long as its sender likes.
        if given.len() > TAGS_MAX {
            return Err(TagsError::TooMany);
        }
        if let Some(bad) = given.iter().position(|tag| !is_tag(tag.as_ref())) {
            return Err(TagsError::Tag(bad));
        }
        let mut tags: Vec<Box<str>> = given.iter().map(|tag| tag.as_ref().into()).collect();
        tags.sort_unstable();
        tags.dedup();
        Ok(Tags(tags.into()))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each of them, sorted.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(AsRef::as_ref)
    }

    /// Whether all the others are among these.
    pub fn has_all(&self, others: &Tags) -> bool {
        others.0.iter().all(|tag| self.0.binary_search(tag).is_ok())
    }
}

impl fmt::Display for Tags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(", "))
    }
}

fn is_tag(text: &str) -> bool {
    let is_in_length = (1..=TAG_LENGTH_MAX).contains(&text.len());
    is_in_length
        && text
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(text: &str) -> Tags {
        Tags::new(&text.split_whitespace().collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn tags_have_no_order_and_count_once() {
        assert_eq!(tags("xl wheelchair xl"), tags("wheelchair xl"));
        assert_eq!(tags("xl wheelchair").to_string(), "wheelchair, xl");
    }

    #[test]
    fn what_is_no_tag_is_named_by_its_place() {
        let long = "a".repeat(TAG_LENGTH_MAX + 1);
        for bad in [
            "",
            "XL",
            "wheel chair",
            "kühl",
            "a/b",
            "a,b",
            "{a}",
            "\0",
            long.as_str(),
        ] {
            assert_eq!(Tags::new(&["xl", bad]), Err(TagsError::Tag(1)), "{bad:?}");
        }
        assert!(TagsError::Tag(1).to_string().ends_with("number 2"));
        assert_eq!(Tags::new(&["a"; TAGS_MAX + 1]), Err(TagsError::TooMany));
        Tags::new(&["a"; TAGS_MAX]).unwrap();
    }

    #[test]
    fn a_driver_takes_what_needs_no_more_than_it_can_while_it_is_on_duty() {
        for (can, needs, expected) in [
            ("", "", true),
            ("xl", "", true),
            ("xl cold", "cold", true),
            ("xl cold", "cold xl", true),
            ("xl", "cold", false),
            ("", "xl", false),
            ("xlarge", "xl", false),
        ] {
            let mut duty = Duty {
                is_on: true,
                tags: tags(can),
            };
            assert_eq!(duty.takes(&tags(needs)), expected, "{can:?} for {needs:?}");
            duty.is_on = false;
            assert!(!duty.takes(&tags(needs)));
        }
        assert!(Duty::default().takes(&Tags::default()));
    }
}
