//! Tables in the style of all commands.

use comfy_table::presets::UTF8_BORDERS_ONLY;
use comfy_table::{ContentArrangement, Table};
use waybill_domain::money::Currency;

/// A table without rows yet.
pub fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table
        .load_style(UTF8_BORDERS_ONLY)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(header.iter().copied());
    table
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
    use super::*;

    #[test]
    fn amounts_have_the_decimals_of_their_currency() {
        assert_eq!(amount(1_999, "USD"), "19.99 USD");
        assert_eq!(amount(5, "USD"), "0.05 USD");
        assert_eq!(amount(1_999, "JPY"), "1999 JPY");
        assert_eq!(amount(1_999, "KWD"), "1.999 KWD");
        assert_eq!(amount(7, "???"), "7 ???");
    }
}
