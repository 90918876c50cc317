//! Why a person did something: free text, for the log that other people read.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// The longest reason, in characters.
pub const REASON_LENGTH_MAX: usize = 200;

/// A reason: 1 to 200 characters, not all of them blank, none of them a control character.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason(Box<str>);

/// Why a text is no reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ReasonError {
    /// Nothing was given, or only blanks.
    #[error("is required")]
    Blank,
    /// More characters than the maximum.
    #[error("has {length} characters; at most {REASON_LENGTH_MAX} are allowed")]
    TooLong {
        /// Characters given.
        length: usize,
    },
    /// A line break, an escape or another character that is not text.
    #[error("has a control character")]
    ControlCharacter,
}

impl Reason {
    /// The text, without blanks at its ends.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Reason {
    type Err = ReasonError;

    fn from_str(text: &str) -> Result<Reason, ReasonError> {
        // The log is shown in terminals: nothing that a terminal obeys goes into it.
        if text.chars().any(char::is_control) {
            return Err(ReasonError::ControlCharacter);
        }
        let text = text.trim();
        match text.chars().count() {
            0 => Err(ReasonError::Blank),
            length if length > REASON_LENGTH_MAX => Err(ReasonError::TooLong { length }),
            _ => Ok(Reason(text.into())),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_some_text_on_one_line() {
        assert_eq!(" flat tyre ".parse::<Reason>().unwrap().as_str(), "flat tyre");
        assert_eq!("ü".repeat(200).parse::<Reason>().unwrap().as_str().chars().count(), 200);
        let refused = |text: &str| text.parse::<Reason>().unwrap_err();
        assert_eq!(refused(""), ReasonError::Blank);
        assert_eq!(refused(" \u{a0} "), ReasonError::Blank);
        assert_eq!(refused("two\nlines"), ReasonError::ControlCharacter);
        assert_eq!(refused("\u{1b}[2J"), ReasonError::ControlCharacter);
        assert_eq!(refused(&"x".repeat(201)), ReasonError::TooLong { length: 201 });
    }
}
