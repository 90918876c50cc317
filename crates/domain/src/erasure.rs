//! People who are erased: what takes their name's place, and where a name stands in a text.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;
use uuid::Uuid;

use crate::id::{DriverId, UserId};

/// What takes the place of a name that is erased. It is an id of a driver or a user as any other, and made by chance: nothing leads
/// from it to the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pseudonym(Uuid);

/// How far an erasure came that one call could not finish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResumePoint {
    /// Under which name it goes on.
    pub pseudonym: Pseudonym,
    /// The lines of the step log up to this one are done.
    pub after_line: i64,
}

/// A text that no call answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("is not a resume_token of an earlier call")]
pub struct ResumePointError;

const PREFIX: &str = "erased-";

impl Pseudonym {
    /// Of an id that was made by chance.
    pub const fn new(id: Uuid) -> Pseudonym {
        Pseudonym(id)
    }
}

impl fmt::Display for Pseudonym {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", self.0.simple())
    }
}

impl ResumePoint {
    /// The beginning.
    pub const fn start(pseudonym: Pseudonym) -> ResumePoint {
        ResumePoint {
            pseudonym,
            after_line: 0,
        }
    }
}

impl fmt::Display for ResumePoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.pseudonym, self.after_line)
    }
}

impl FromStr for ResumePoint {
    type Err = ResumePointError;

    fn from_str(text: &str) -> Result<ResumePoint, ResumePointError> {
        let (name, line) = text.split_once('.').ok_or(ResumePointError)?;
        let id = name.strip_prefix(PREFIX).ok_or(ResumePointError)?;
        let point = ResumePoint {
            pseudonym: Pseudonym(Uuid::try_parse(id).map_err(|_| ResumePointError)?),
            after_line: line.parse().map_err(|_| ResumePointError)?,
        };
        // As we write it, and in no other spelling: a caller chooses no pseudonym.
        if point.after_line >= 0 && point.to_string() == text {
            Ok(point)
        } else {
            Err(ResumePointError)
        }
    }
}

/// A name of someone in a deployment, and what takes its place, both as stored: with their tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renamed {
    /// The name so far.
    pub stored: Box<str>,
    /// What takes its place.
    pub pseudonym: Box<str>,
}

impl Renamed {
    /// A driver under a pseudonym.
    pub fn driver(driver: &DriverId, pseudonym: Pseudonym) -> Renamed {
        Renamed::new(driver.as_str(), pseudonym)
    }

    /// A user under a pseudonym.
    pub fn user(user: &UserId, pseudonym: Pseudonym) -> Renamed {
        Renamed::new(user.as_str(), pseudonym)
    }

    fn new(stored: &str, pseudonym: Pseudonym) -> Renamed {
        let tenant = &stored[..stored.len() - crate::tenant::name_of(stored).len()];
        Renamed {
            stored: stored.into(),
            pseudonym: format!("{tenant}{pseudonym}").into(),
        }
    }

    /// The name as its business knows it.
    pub fn name(&self) -> &str {
        crate::tenant::name_of(&self.stored)
    }

    /// The pseudonym as its business sees it.
    pub fn new_name(&self) -> &str {
        crate::tenant::name_of(&self.pseudonym)
    }

    /// The text with the pseudonym wherever the name stands by itself; `None`: it does not. Within a longer name it is another one.
    pub fn in_text(&self, text: &str) -> Option<String> {
        let name = self.name();
        let mut renamed = String::new();
        let (mut kept_from, mut looked_from) = (0, 0);
        while let Some(found) = text.get(looked_from..).and_then(|rest| rest.find(name)) {
            let (start, end) = (looked_from + found, looked_from + found + name.len());
            if is_whole(&text[..start], &text[end..]) {
                renamed.push_str(&text[kept_from..start]);
                renamed.push_str(self.new_name());
                kept_from = end;
            }
            looked_from = end;
        }
        (kept_from > 0).then(|| renamed + &text[kept_from..])
    }
}

/// Whether a name between these is not part of a longer one. One goes on with a letter or a digit, also behind one of `. _ : -`,
/// which at its end are punctuation.
fn is_whole(before: &str, after: &str) -> bool {
    let joins = |mut outwards: Box<dyn Iterator<Item = char> + '_>| match outwards.next() {
        Some(next) if next.is_ascii_alphanumeric() => true,
        Some('.' | '_' | ':' | '-') => outwards.next().is_some_and(|next| next.is_ascii_alphanumeric()),
        _ => false,
    };
    !joins(Box::new(before.chars().rev())) && !joins(Box::new(after.chars()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pseudonym() -> Pseudonym {
        Pseudonym::new(Uuid::from_u128(7))
    }

    const SEVEN: &str = "erased-00000000000000000000000000000007";

    #[test]
    fn a_name_is_found_where_it_stands_by_itself() {
        let renamed = Renamed::driver(&"cab-1".parse().unwrap(), pseudonym());
        for text in [
            "cab-1",
            "cab-1, 594 m away; off duty: cab-10, cab-1",
            "cab-1 declined: cab-1 is tired. Ask cab-1.",
            "(cab-1)",
            "cab-1: no",
            "ärger mit cab-1ä",
        ] {
            let expected = text.replace("cab-1", SEVEN).replace(&format!("{SEVEN}0"), "cab-10");
            assert_eq!(renamed.in_text(text).as_deref(), Some(expected.as_str()), "{text}");
        }
        for text in [
            "", "cab-2", "cab-10", "xcab-1", "x-cab-1", "cab-1-b", "cab-1.5", "eu:cab-1",
        ] {
            assert_eq!(renamed.in_text(text), None, "{text}");
        }
    }

    #[test]
    fn a_name_that_repeats_itself_is_found() {
        let renamed = Renamed::user(&"aa".parse().unwrap(), pseudonym());
        assert_eq!(renamed.in_text("aaa aa aaaa"), Some(format!("aaa {SEVEN} aaaa")));
    }

    #[test]
    fn a_pseudonym_is_of_the_same_business() {
        let acme = "acme".parse().unwrap();
        let renamed = Renamed::user(&"anna".parse::<UserId>().unwrap().of(&acme), pseudonym());
        assert_eq!(&*renamed.stored, "acme/anna");
        assert_eq!(&*renamed.pseudonym, format!("acme/{SEVEN}"));
        assert_eq!((renamed.name(), renamed.new_name()), ("anna", SEVEN));
        assert!(SEVEN.parse::<UserId>().is_ok());
    }

    #[test]
    fn a_resume_point_is_read_as_it_is_written_and_no_other_way() {
        let point = ResumePoint {
            pseudonym: pseudonym(),
            after_line: 1_234,
        };
        assert_eq!(point.to_string().parse(), Ok(point));
        for text in [
            "",
            "mallory.7",
            SEVEN,
            &format!("{SEVEN}."),
            &format!("{SEVEN}.-1"),
            &format!("{SEVEN}.+1"),
            &format!("{SEVEN}.01"),
            &format!("{SEVEN}.99999999999999999999"),
            &format!("{}.1", SEVEN.replace('7', "A")),
            "erased-00000000-0000-0000-0000-000000000007.1",
        ] {
            assert_eq!(text.parse::<ResumePoint>(), Err(ResumePointError), "{text}");
        }
    }
}
