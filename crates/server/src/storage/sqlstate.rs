//! What the error codes of Postgres mean for who called, for the breaker and for the connection.
//!
//! Codes are those of <https://www.postgresql.org/docs/15/errcodes-appendix.html>.

use tokio_postgres::error::SqlState;

/// What a code says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Postgres is gone, takes no writes, or has ended this session. Try again, on another connection: this one is thrown away.
    Away,
    /// A limit, or another transaction, was in the way. Try again; the connection is good.
    Busy,
    /// An earlier statement of the same transaction failed, and says why. The connection is good.
    Aborted,
    /// An answer: the same will fail again. The connection is good.
    Refused,
}

/// The first row that a code begins with decides; a code without a row is [`Meaning::Refused`].
pub(super) const TABLE: [(&str, Meaning, &str); 21] = [
    ("08", Meaning::Away, "the connection failed"),
    (
        "0A000",
        Meaning::Away,
        "a table changed under what this session has prepared",
    ),
    (
        "25006",
        Meaning::Away,
        "the server, or this session, takes no writes: it was demoted",
    ),
    ("25P02", Meaning::Aborted, "the transaction failed before"),
    ("25P03", Meaning::Away, "the session was ended: idle in a transaction"),
    (
        "25P04",
        Meaning::Away,
        "the session was ended: its transaction lasted for too long",
    ),
    (
        "26000",
        Meaning::Away,
        "what this session had prepared is gone: it is another one now",
    ),
    ("28", Meaning::Away, "the password, or the role, is not accepted now"),
    ("3D000", Meaning::Away, "the database is not there now"),
    (
        "40",
        Meaning::Busy,
        "another transaction came first: serialization failure, deadlock",
    ),
    (
        "42P05",
        Meaning::Away,
        "another session's statement has this name: it is shared",
    ),
    ("53400", Meaning::Busy, "a limit of the configuration"),
    ("53", Meaning::Away, "no connections, memory or disk are left"),
    (
        "55000",
        Meaning::Busy,
        "a trigger of ours: this server is not set to do it, another may be",
    ),
    ("55006", Meaning::Busy, "in use"),
    ("55P03", Meaning::Busy, "a lock was not free in time"),
    ("57014", Meaning::Busy, "the statement took too long"),
    (
        "57P",
        Meaning::Away,
        "the server shuts down, starts, or ended the session",
    ),
    ("58", Meaning::Away, "the disk, or the system, of the server failed"),
    ("F0", Meaning::Away, "a file of the server's configuration"),
    ("HV", Meaning::Away, "a foreign server of it"),
];

impl Meaning {
    pub(super) fn of(code: &SqlState) -> Meaning {
        let row = TABLE.iter().find(|(prefix, ..)| code.code().starts_with(prefix));
        row.map_or(Meaning::Refused, |(_, meaning, _)| *meaning)
    }
}
