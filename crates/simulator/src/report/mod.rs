//! Pages for people: what a run measured, as one HTML file that needs no network.
//!
//! [`page`] is the page of a [`LoadReport`](crate::load::report::LoadReport), [`bench_page`] that of the benchmarks. Both are
//! made of the same parts: a [`Page`] has facts, notices and sections of text, tables and charts. Header and tables are HTML. The charts
//! are drawn by `page.js` and uPlot (`vendor/`) from the report's JSON, which is in the page.

mod bench_page;
mod load_page;
mod template;
mod unit;

pub use bench_page::bench_page;
pub use load_page::page;
pub use template::Notice;
use template::{Cell, Html, Page, chart, charts, section, table, text};
pub use unit::{Unit, thousands};
