//! People who are erased: what takes their name's place, and where a name stands in a text.

use std::fmt;

use sha2::{Digest as _, Sha256};
use thiserror::Error;
use uuid::Uuid;

use crate::access::Role;
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

/// A text that no call for this person answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("is not a resume_token of an earlier call for the same person")]
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

    /// The point as a token for the next call about this person. With that of another one, a part of the log would be passed over,
    /// and two persons would have one pseudonym: so it has a hash of the name in it.
    pub fn to_token(self, name: &str) -> String {
        let point = format!("{}.{}", self.pseudonym, self.after_line);
        let hash = Sha256::digest(format!("{name} {point}"));
        let check = hash.iter().take(8).fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
        format!("{point}.{check:016x}")
    }

    /// The point in a token of an earlier call about this person.
    pub fn of_token(token: &str, name: &str) -> Result<ResumePoint, ResumePointError> {
        let mut parts = token.split('.');
        let (Some(pseudonym), Some(line)) = (parts.next(), parts.next()) else {
            return Err(ResumePointError);
        };
        let id = pseudonym.strip_prefix(PREFIX).ok_or(ResumePointError)?;
        let point = ResumePoint {
            pseudonym: Pseudonym(Uuid::try_parse(id).map_err(|_| ResumePointError)?),
            after_line: line.parse().map_err(|_| ResumePointError)?,
        };
        if point.after_line >= 0 && point.to_token(name) == token {
            Ok(point)
        } else {
            Err(ResumePointError)
        }
    }
}

/// Whom a name is of: customers and drivers may have the same names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Person {
    /// A driver.
    Driver,
    /// A customer.
    Customer,
}

/// A name of someone in a deployment, and what takes its place, both as stored: with their tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renamed {
    /// Whose.
    pub person: Person,
    /// The name so far.
    pub stored: Box<str>,
    /// What takes its place.
    pub pseudonym: Box<str>,
}

impl Renamed {
    /// A driver under a pseudonym.
    pub fn driver(driver: &DriverId, pseudonym: Pseudonym) -> Renamed {
        Renamed::new(Person::Driver, driver.as_str(), pseudonym)
    }

    /// A user under a pseudonym.
    pub fn user(user: &UserId, pseudonym: Pseudonym) -> Renamed {
        Renamed::new(Person::Customer, user.as_str(), pseudonym)
    }

    fn new(person: Person, stored: &str, pseudonym: Pseudonym) -> Renamed {
        let tenant = &stored[..stored.len() - crate::tenant::name_of(stored).len()];
        Renamed {
            person,
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

    /// As who asked for a line of a step log.
    pub fn requested_by(&self) -> (String, String) {
        let role = match self.person {
            Person::Driver => Role::Driver,
            Person::Customer => Role::Customer,
        };
        let of = |name: &str| format!("{} {name}", role.as_str());
        (of(self.name()), of(self.new_name()))
    }

    /// The detail of a line of a step log with the pseudonym where the name stands; `None`: it does not. A name may be a word or a number,
    /// as `42` in `cab-9, 42 m away`: of what Waybill wrote, only the places of names are looked at.
    pub fn in_detail(&self, step: &str, status: &str, detail: &str) -> Option<String> {
        let is_driver = self.person == Person::Driver;
        match (step, status) {
            // What people wrote.
            (_, "requested") => self.in_text(detail),
            ("release", _) => self.in_release(detail),
            ("assign", "succeeded") if is_driver => self.in_assignment(detail),
            ("complete" | "cancel", "succeeded") if is_driver && detail == self.name() => {
                Some(self.new_name().to_owned())
            }
            _ => None,
        }
    }

    /// `NAME, 594 m away; off duty: NAME, NAME; taken in the meantime: NAME`
    fn in_assignment(&self, detail: &str) -> Option<String> {
        let mut parts = detail.split("; ");
        let (chosen, distance) = parts.next()?.split_once(", ")?;
        let mut renamed = format!("{}, {distance}", self.instead_of(chosen));
        for part in parts {
            renamed.push_str("; ");
            match part.split_once(": ") {
                Some((why, names)) => {
                    let names: Vec<&str> = names.split(", ").map(|name| self.instead_of(name)).collect();
                    renamed.extend([why, ": ", &names.join(", ")]);
                }
                None => renamed.push_str(part),
            }
        }
        (renamed != detail).then_some(renamed)
    }

    /// `NAME declined: what people wrote`
    fn in_release(&self, detail: &str) -> Option<String> {
        let (head, text) = match detail.split_once(": ") {
            Some((head, text)) => (head, Some(text)),
            None => (detail, None),
        };
        let (name, reason) = head.split_once(' ').unwrap_or((head, ""));
        let name = match self.person {
            Person::Driver => self.instead_of(name),
            Person::Customer => name,
        };
        let mut renamed = [name, " ", reason].concat();
        if let Some(text) = text {
            renamed.push_str(": ");
            renamed.push_str(&self.in_text(text).unwrap_or_else(|| text.to_owned()));
        }
        (renamed != detail).then_some(renamed)
    }

    fn instead_of<'a>(&'a self, name: &'a str) -> &'a str {
        if name == self.name() { self.new_name() } else { name }
    }

    /// A text that people wrote, with the pseudonym wherever the name stands by itself; `None`: it does not. Within a word it is no name.
    pub fn in_text(&self, text: &str) -> Option<String> {
        let name = self.name();
        let mut renamed = String::new();
        let (mut kept_from, mut looked_from) = (0, 0);
        while let Some(found) = text.get(looked_from..).and_then(|rest| rest.find(name)) {
            let (start, end) = (looked_from + found, looked_from + found + name.len());
            let goes_on = |next: Option<char>| next.is_some_and(char::is_alphanumeric);
            if !goes_on(text[..start].chars().next_back()) && !goes_on(text[end..].chars().next()) {
                renamed.push_str(&text[kept_from..start]);
                renamed.push_str(self.new_name());
                kept_from = end;
            }
            looked_from = end;
        }
        (kept_from > 0).then(|| renamed + &text[kept_from..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pseudonym() -> Pseudonym {
        Pseudonym::new(Uuid::from_u128(7))
    }

    const SEVEN: &str = "erased-00000000000000000000000000000007";

    fn driver(name: &str) -> Renamed {
        Renamed::driver(&name.parse().unwrap(), pseudonym())
    }

    fn customer(name: &str) -> Renamed {
        Renamed::user(&name.parse().unwrap(), pseudonym())
    }

    #[test]
    fn a_name_is_found_in_what_people_wrote_where_it_is_no_part_of_a_word() {
        for text in [
            "cab-1",
            "Ask cab-1.",
            "(cab-1)",
            "cab-1: no",
            "user:cab-1",
            "cab-1, and cab-1",
            "ärger: cab-1",
        ] {
            let expected = text.replace("cab-1", SEVEN);
            assert_eq!(driver("cab-1").in_text(text), Some(expected), "{text}");
        }
        for text in ["", "cab-2", "cab-10", "xcab-1", "ärgercab-1", "cab-1ä"] {
            assert_eq!(driver("cab-1").in_text(text), None, "{text}");
        }
        assert_eq!(customer("aa").in_text("aaa aa aaaa"), Some(format!("aaa {SEVEN} aaaa")));
    }

    #[test]
    fn of_what_waybill_wrote_only_the_places_of_names_are_looked_at() {
        let rows = [
            ("assign", "cab-9, 42 m away", None),
            ("assign", "42, 42 m away", Some("7, 42 m away")),
            (
                "assign",
                "9, 42 m away; off duty: 4, 42; taken in the meantime: 42, 421",
                Some("9, 42 m away; off duty: 4, 7; taken in the meantime: 7, 421"),
            ),
            ("release", "42 declined: 42 is tired", Some("7 declined: 7 is tired")),
            (
                "release",
                "421 silent: not seen for 42 s",
                Some("421 silent: not seen for 7 s"),
            ),
            ("release", "421 silent: not seen", None),
            ("release", "42 silent", Some("7 silent")),
            ("complete", "42", Some("7")),
            ("complete", "421", None),
            ("cancel", "42", Some("7")),
            ("charge", "42", None),
            ("refund", "the final amount is 42 less", None),
        ];
        for (step, detail, expected) in rows {
            let expected = expected.map(|text| text.replace('7', SEVEN));
            assert_eq!(
                driver("42").in_detail(step, "succeeded", detail),
                expected,
                "{step} {detail}"
            );
        }
        assert_eq!(
            driver("42").in_detail("retry", "requested", "42 says so"),
            Some(format!("{SEVEN} says so"))
        );
    }

    #[test]
    fn a_customer_of_a_drivers_name_is_another() {
        let anna = customer("anna");
        for (step, detail) in [
            ("assign", "anna, 4 m away"),
            ("complete", "anna"),
            ("cancel", "anna"),
            ("release", "anna declined: tired"),
        ] {
            assert_eq!(anna.in_detail(step, "succeeded", detail), None, "{step}");
        }
        let expected = format!("anna declined: {SEVEN} was not there");
        assert_eq!(
            anna.in_detail("release", "succeeded", "anna declined: anna was not there"),
            Some(expected)
        );
        let (from, to) = anna.requested_by();
        assert_eq!((from.as_str(), to), ("customer anna", format!("customer {SEVEN}")));
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
    fn a_resume_point_is_read_for_whom_it_was_written_and_no_other_way() {
        let point = ResumePoint {
            pseudonym: pseudonym(),
            after_line: 1_234,
        };
        let token = point.to_token("cab-1");
        assert_eq!(ResumePoint::of_token(&token, "cab-1"), Ok(point));
        let others = [
            String::new(),
            "mallory.7.0011223344556677".to_owned(),
            SEVEN.to_owned(),
            format!("{SEVEN}.1234"),
            token.replace("1234", "1235"),
            token.replace("1234", "01234"),
            token.replace("1234", "-1234"),
            token.replace("1234", "99999999999999999999"),
            format!("{token}."),
            token.to_uppercase(),
        ];
        for other in others {
            assert_eq!(ResumePoint::of_token(&other, "cab-1"), Err(ResumePointError), "{other}");
        }
        assert_eq!(ResumePoint::of_token(&token, "cab-2"), Err(ResumePointError));
    }
}
