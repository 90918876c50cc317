//! Hostile input for what parses bytes of strangers: a corpus of real and nasty inputs as they are, then altered ones. Why
//! by proptest: docs/adr/0029. Each part has its targets in a file `fuzz.rs` of its own.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{Config, RngSeed, TestError, TestRunner};

/// How many altered inputs a target gets in `make test`: some seconds for all targets. `make fuzz` asks for more.
const CASES: u32 = 3_000;
/// The most edits of an input. With more, little is left of what made it worth altering.
const EDITS_MAX: usize = 6;

/// What parsers are known to trip over: of JSON, of protobuf, of tokens and of headers.
const WORDS: &[&[u8]] = &[
    b"null",
    b"true",
    b"-1",
    b"0",
    b"1e999",
    b"1.5",
    b"9223372036854775807",
    b"-9223372036854775808",
    b"18446744073709551615",
    b"\"\"",
    b"\\u0000",
    b"\\ud800",
    b"[]",
    b"{}",
    b"[[[[[[[[",
    b"{\"a\":",
    b"}",
    b",",
    b":",
    b".",
    b"=",
    b" ",
    b"\n",
    b"\0",
    b"\xff",
    b"\xc3\xa4",
    b"\xed\xa0\x80",
    b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    b"\xff\xff\xff\xff\x0f",
    b"\0\0\0\0\0\0\xf8\x7f",
    b"\0\0\0\0\0\0\xf0\x7f",
];

/// A change of an input. Places are shares of its length, so that they mean something in any input.
#[derive(Debug, Clone)]
enum Edit {
    Set(Index, u8),
    /// In place of what is there, so that the lengths before it stay right.
    Write(Index, &'static [u8]),
    Insert(Index, &'static [u8]),
    Remove(Index, usize),
    Repeat(Index, usize, usize),
    /// From there on it goes on as another input of the corpus.
    GoOnAs(Index, Index, Index),
}

/// The inputs of `corpus/NAME`, in the order of their names.
pub fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|path| fs::read(path).unwrap()).collect()
}

/// The texts of `corpus/NAME`, with each name of `values` replaced by its value: what is signed is made anew in each run.
pub fn corpus_with(name: &str, values: &[(&str, &str)]) -> Vec<Vec<u8>> {
    let filled = |input: Vec<u8>| match String::from_utf8(input) {
        Ok(text) => values
            .iter()
            .fold(text, |text, (name, value)| text.replace(name, value))
            .into_bytes(),
        Err(other) => other.into_bytes(),
    };
    corpus(name).into_iter().map(filled).collect()
}

/// Hands `target` each input, and then altered ones: `FUZZ_CASES` of them. `target` panics where something is wrong. The
/// report has the smallest input that was found to do so, and the seed, by which `FUZZ_SEED` repeats the run.
pub fn fuzz(inputs: &[Vec<u8>], target: impl Fn(&[u8])) {
    assert!(!inputs.is_empty(), "a corpus without inputs");
    for input in inputs {
        let taken = catch_unwind(AssertUnwindSafe(|| target(input)));
        assert!(taken.is_ok(), "input of the corpus: b\"{}\"", input.escape_ascii());
    }
    let seed = number("FUZZ_SEED").unwrap_or_else(rand::random);
    let config = Config {
        cases: number("FUZZ_CASES").map_or(CASES, |cases| u32::try_from(cases).unwrap()),
        rng_seed: RngSeed::Fixed(seed),
        failure_persistence: None,
        ..Config::default()
    };
    let altered = (any::<Index>(), vec(edit(), 1..=EDITS_MAX));
    let run = TestRunner::new(config).run(&altered, |(base, edits)| {
        target(&apply(&edits, base.get::<Vec<u8>>(inputs), inputs));
        Ok(())
    });
    if let Err(TestError::Fail(why, (base, edits))) = run {
        let input = apply(&edits, base.get::<Vec<u8>>(inputs), inputs);
        panic!("{why}\ninput: b\"{}\"\nFUZZ_SEED={seed}", input.escape_ascii());
    }
    run.unwrap();
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

fn edit() -> impl Strategy<Value = Edit> {
    let at = any::<Index>;
    prop_oneof![
        (at(), any::<u8>()).prop_map(|(at, byte)| Edit::Set(at, byte)),
        (at(), select(WORDS)).prop_map(|(at, word)| Edit::Write(at, word)),
        (at(), select(WORDS)).prop_map(|(at, word)| Edit::Insert(at, word)),
        (at(), 1..24_usize).prop_map(|(at, length)| Edit::Remove(at, length)),
        (at(), 1..24_usize, 1..200_usize).prop_map(|(at, length, times)| Edit::Repeat(at, length, times)),
        (at(), at(), at()).prop_map(|(at, other, from)| Edit::GoOnAs(at, other, from)),
    ]
}

fn apply(edits: &[Edit], input: &[u8], inputs: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for edit in edits {
        // From before the first byte to after the last one.
        let place = |at: &Index, bytes: &[u8]| at.index(bytes.len() + 1);
        match edit {
            Edit::Set(at, byte) if !bytes.is_empty() => {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            Edit::Set(_, byte) => bytes.push(*byte),
            Edit::Write(at, word) => {
                let at = place(at, &bytes);
                bytes.splice(at..bytes.len().min(at + word.len()), word.iter().copied());
            }
            Edit::Insert(at, word) => {
                let at = place(at, &bytes);
                bytes.splice(at..at, word.iter().copied());
            }
            Edit::Remove(at, length) => {
                let at = place(at, &bytes);
                bytes.drain(at..bytes.len().min(at + length));
            }
            Edit::Repeat(at, length, times) => {
                let at = place(at, &bytes);
                let again = bytes[at..bytes.len().min(at + length)].repeat(*times);
                bytes.splice(at..at, again);
            }
            Edit::GoOnAs(at, other, from) => {
                let other = other.get(inputs);
                bytes.truncate(place(at, &bytes));
                bytes.extend_from_slice(&other[place(from, other)..]);
            }
        }
    }
    bytes
}
