//! Text that people write for people: one line, of a bounded length.

use thiserror::Error;

/// The longest reason, in characters.
pub const REASON_LENGTH_MAX: usize = 500;

/// Why a text was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TextError {
    /// Nothing was given, or only space.
    #[error("is required")]
    Blank,
    /// More than the maximum.
    #[error("has {length} characters; at most {max} are allowed")]
    TooLong {
        /// Characters given.
        length: usize,
        /// Characters allowed.
        max: usize,
    },
    /// A line break, a tab or another control character: the log has one line an entry, and terminals obey them. Or a character that turns the direction of
    /// what follows it, and so shows another text than is there.
    #[error("has a control character, a line separator, or one that turns the direction of text")]
    Control,
}

/// Whether a terminal or a page would obey this character instead of showing it: controls, the separators of lines and paragraphs, and the marks that embed,
/// override and isolate directions (UAX #9).
pub fn is_obeyed(letter: char) -> bool {
    letter.is_control()
        || matches!(
            letter,
            '\u{2028}' | '\u{2029}' | '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        )
}

/// Declares a text for people, with one fallible constructor. Space around it is cut off.
macro_rules! text {
    ($(#[$doc:meta])* $name:ident, $max:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $name(Box<str>);

        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::text::TextError;

            fn from_str(text: &str) -> Result<$name, $crate::text::TextError> {
                let text = text.trim();
                let length = text.chars().count();
                match length {
                    0 => Err($crate::text::TextError::Blank),
                    _ if length > $max => Err($crate::text::TextError::TooLong { length, max: $max }),
                    _ if text.chars().any($crate::text::is_obeyed) => Err($crate::text::TextError::Control),
                    _ => Ok($name(text.into())),
                }
            }
        }
    };
}

pub(crate) use text;

text!(
    /// The reason of an action: 1 to 500 characters on one line.
    Reason,
    REASON_LENGTH_MAX
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_one_line_that_says_something() {
        assert_eq!(" looked it up ".parse::<Reason>().unwrap().as_str(), "looked it up");
        // What is written from the right needs no such mark, and letters may be joined.
        for text in ["الطلب متأخر", "ההזמנה", "क्\u{200d}ष"] {
            assert_eq!(text.parse::<Reason>().unwrap().as_str(), text);
        }
        assert_eq!("ü".repeat(500).parse::<Reason>().unwrap().as_str().len(), 1_000);
        for blank in ["", "  ", "\t\n"] {
            assert_eq!(blank.parse::<Reason>(), Err(TextError::Blank), "{blank:?}");
        }
        assert_eq!(
            "a".repeat(501).parse::<Reason>(),
            Err(TextError::TooLong { length: 501, max: 500 })
        );
        for control in [
            "two\nlines",
            "bell\u{7}",
            "red \u{1b}[31m",
            "next\u{85}line",
            "two\u{2028}lines",
            "two\u{2029}paragraphs",
            "pay \u{202e}desrever",
            "an \u{2066}isolate\u{2069}",
            "a \u{200f}mark",
        ] {
            assert_eq!(control.parse::<Reason>(), Err(TextError::Control), "{control:?}");
        }
    }
}
