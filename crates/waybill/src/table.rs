//! Tables in the style of all commands.

use std::fmt;

use comfy_table::presets::UTF8_BORDERS_ONLY;
use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement};
use waybill_domain::money::Currency;
use waybill_domain::text::escaped;

/// A table. What is in its cells has nothing that a terminal would obey, or not show, but as its code.
pub struct Table(comfy_table::Table);

/// What is in a cell: the text on one line, or [`Cell::lines`].
pub struct Cell(String);

/// A table without rows yet.
pub fn table(header: &[&str]) -> Table {
    let mut table = comfy_table::Table::new();
    table
        .load_style(UTF8_BORDERS_ONLY)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(header.iter().copied());
    Table(table)
}

impl Table {
    /// One more row.
    pub fn add_row<C: Into<Cell>>(&mut self, cells: impl IntoIterator<Item = C>) {
        self.0.add_row(cells.into_iter().map(|cell| cell.into().0));
    }

    /// Digits below each other from this column on, and never broken into two lines: half a number reads as a number.
    #[must_use]
    pub fn with_numbers(mut self, from: usize) -> Table {
        for column in self.0.column_iter_mut().skip(from) {
            column.set_cell_alignment(CellAlignment::Right);
            column.set_constraint(ColumnConstraint::ContentWidth);
        }
        self
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Cell {
    /// These texts, each on a line of its own.
    pub fn lines<T: AsRef<str>>(lines: impl IntoIterator<Item = T>) -> Cell {
        let lines = lines.into_iter().map(|line| escaped(line.as_ref()).into_owned());
        Cell(lines.collect::<Vec<_>>().join("\n"))
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Cell {
        Cell(escaped(text).into_owned())
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Cell {
        Cell::from(text.as_str())
    }
}

/// An amount as people write it, such as `19.99 USD`.
pub fn amount(minor_units: i64, currency: &str) -> String {
    let decimals = currency.parse::<Currency>().map_or(0, |currency| currency.decimals());
    match 10_i64.checked_pow(u32::from(decimals)) {
        Some(unit) if unit > 1 => format!(
            "{}.{:0width$} {currency}",
            minor_units / unit,
            (minor_units % unit).abs(),
            width = usize::from(decimals)
        ),
        _ => format!("{minor_units} {currency}"),
    }
}

#[cfg(test)]
mod tests {
    use waybill_domain::text::has_refused;

    use super::*;

    #[test]
    fn amounts_have_the_decimals_of_their_currency() {
        assert_eq!(amount(1_999, "USD"), "19.99 USD");
        assert_eq!(amount(5, "USD"), "0.05 USD");
        assert_eq!(amount(1_999, "JPY"), "1999 JPY");
        assert_eq!(amount(1_999, "KWD"), "1.999 KWD");
        assert_eq!(amount(7, "???"), "7 ???");
    }

    #[test]
    fn cells_show_what_a_terminal_would_obey_by_its_code_and_lines_of_their_own_alone_are_lines() {
        let mut table = table(&["one", "two"]);
        table.add_row(["pay \u{202e}desrever", "red\u{1b}[31m"]);
        table.add_row([
            Cell::from("two\nlines\u{2028}".to_owned()),
            Cell::lines(["first\u{7}", "se\ncond"]),
        ]);
        let text = table.to_string();
        for shown in [
            r"pay \u{202e}desrever",
            r"red\u{1b}[31m",
            r"two\u{a}lines\u{2028}",
            r"first\u{7}",
            r"se\u{a}cond",
        ] {
            assert!(text.contains(shown), "{shown}:\n{text}");
        }
        assert!(!has_refused(&text.replace('\n', "")), "{text:?}");
        let line = |part: &str| text.lines().position(|line| line.contains(part)).unwrap();
        assert_eq!(line("cond"), line("first") + 1, "{text}");
    }
}
