//! Walks the lines of one CSV file. What is broken is one line, or the file.
//!
//! No field of a trace holds a comma or a newline, so a line is cut at its commas and nothing more. A reader that knows
//! quotes would let one stray quote swallow the lines after it, and lose count of them.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use flate2::read::MultiGzDecoder;

use super::{BrokenLines, TraceError};

/// The first two bytes of every gzip file (RFC 1952, section 2.3.1).
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// Calls `each` with the fields named by `columns`, in that order, for every line. What `each` refuses is a broken line.
pub(super) fn walk<const N: usize>(
    path: &Path,
    columns: &'static [&'static str; N],
    mut each: impl FnMut([&str; N]) -> Result<(), String>,
) -> Result<BrokenLines, TraceError> {
    let file = path.display().to_string();
    let mut lines = open(path).map_err(|source| TraceError::Open {
        file: file.clone(),
        source,
    })?;
    let mut line = Vec::new();
    let mut number = 0;
    let mut layout: Option<Layout<N>> = None;
    let mut broken = BrokenLines::default();
    while next_line(&mut lines, &mut line, &mut number).map_err(|source| TraceError::Read {
        file: file.clone(),
        line: number,
        source,
    })? {
        let Some(layout) = &layout else {
            layout = Some(Layout::of_header(&line, columns).map_err(|column| missing(&file, column, columns))?);
            continue;
        };
        if let Err(why) = layout.pick(&line).and_then(&mut each) {
            broken.add(&file, number, &why);
        }
    }
    match layout {
        Some(_) => Ok(broken),
        None => Err(missing(&file, columns.first().copied().unwrap_or_default(), columns)),
    }
}

fn open(path: &Path) -> io::Result<Box<dyn BufRead>> {
    let mut bytes = BufReader::new(File::open(path)?);
    if bytes.fill_buf()?.starts_with(&GZIP_MAGIC) {
        return Ok(Box::new(BufReader::new(MultiGzDecoder::new(bytes))));
    }
    Ok(Box::new(bytes))
}

fn missing(file: &str, column: &'static str, needed: &'static [&'static str]) -> TraceError {
    TraceError::MissingColumn {
        file: file.to_owned(),
        column,
        needed,
    }
}

/// Puts the next line that is not blank into `line`, and its number from 1 into `number`; false at the end.
fn next_line(lines: &mut impl BufRead, line: &mut Vec<u8>, number: &mut u64) -> io::Result<bool> {
    loop {
        line.clear();
        if lines.read_until(b'\n', line)? == 0 {
            return Ok(false);
        }
        *number += 1;
        if !line.trim_ascii().is_empty() {
            return Ok(true);
        }
    }
}

/// Which fields of a line are wanted.
struct Layout<const N: usize> {
    width: usize,
    places: [usize; N],
}

impl<const N: usize> Layout<N> {
    /// Or the first column that the header lacks.
    fn of_header(header: &[u8], columns: &[&'static str; N]) -> Result<Layout<N>, &'static str> {
        let header = String::from_utf8_lossy(header);
        let names: Vec<&str> = header.trim_start_matches('\u{feff}').split(',').map(bare).collect();
        let mut places = [0; N];
        for (place, column) in places.iter_mut().zip(columns) {
            *place = names.iter().position(|name| name == column).ok_or(*column)?;
        }
        Ok(Layout {
            width: names.len(),
            places,
        })
    }

    fn pick<'a>(&self, line: &'a [u8]) -> Result<[&'a str; N], String> {
        let line = std::str::from_utf8(line).map_err(|_| "not UTF-8")?;
        let width = line.split(',').count();
        if width != self.width {
            return Err(format!("{width} fields where the header has {}", self.width));
        }
        let field = |place| bare(line.split(',').nth(place).unwrap_or_default());
        Ok(self.places.map(field))
    }
}

/// A field without the blanks and quotes that some programs put round it.
fn bare(field: &str) -> &str {
    field.trim().trim_matches('"')
}

/// A time in whole Unix seconds, from 1970 to 9999: what a timestamp can hold.
pub(super) fn unix_seconds(column: &str, text: &str) -> Result<i64, String> {
    let seconds = text
        .parse()
        .ok()
        .filter(|seconds| (0..253_402_207_200).contains(seconds));
    seconds.ok_or_else(|| format!("{column} `{text}` is not a time in Unix seconds"))
}

/// Degrees from -`max` to `max`.
pub(super) fn degrees(column: &str, text: &str, max: f64) -> Result<f64, String> {
    // No range contains NaN.
    let degrees = text.parse().ok().filter(|degrees| (-max..=max).contains(degrees));
    degrees.ok_or_else(|| format!("{column} `{text}` is not a number from -{max} to {max}"))
}
