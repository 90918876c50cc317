//! Pages for people: what a run measured, as one HTML file that needs nothing else, neither a network nor scripts.
//!
//! [`page`] draws a [`LoadReport`](crate::load::report::LoadReport). It is made of parts that other pages can use: a
//! [`Page`] has facts, notices and [`Section`]s; a section has [`Figure`]s, [`Chart`]s and [`Table`]s.
//!
//! ```
//! use waybill_simulator::report::{Axis, Chart, Figure, Line, Notice, PER_SECOND, Page, Section, Span, Unit};
//!
//! let over_time = Chart::lines(
//!     "Throughput",
//!     Axis::close("time", Unit::Seconds),
//!     Axis::linear("orders", PER_SECOND),
//!     [
//!         Line::new("offered", [(0.0, 100.0), (1.0, 100.0)]).quiet(),
//!         Line::new("answered", [(0.0, 98.0), (1.0, 99.0)]),
//!     ],
//! );
//! let rows = [Span { label: "one order".to_owned(), value: 4.1, min: 3.9, max: 4.8, floor: Some(3.2) }];
//! let against_floor = Chart::ranges("Against the floor", Axis::log("latency", Unit::Milliseconds), rows);
//! let html = Page::new("Bench")
//!     .subtitle("three rounds each")
//!     .fact("machine", "8 cores")
//!     .notice(Notice::Mind("ended before its time".to_owned()))
//!     .section(
//!         Section::new("Orders")
//!             .figures([Figure::new("answered", PER_SECOND.exact(98.5)).detail("of 100 offered")])
//!             .chart(over_time)
//!             .chart(against_floor),
//!     )
//!     .html();
//! assert!(html.contains("Bench") && html.contains("98.5"));
//! ```
//!
//! Charts are drawn by plotters: its coordinates, axes, meshes and series, with an axis of our own for ticks of times
//! and rates. Colours, dashes and the size of text are in `page.css`, for light, dark, narrow windows and print.

mod axis;
mod chart;
mod drawing;
mod hover;
mod load_page;
mod load_table;
mod scaffold;
mod unit;

pub use axis::Axis;
pub use chart::{Bar, Chart, Line, Span};
pub use load_page::page;
pub use scaffold::{Cell, Figure, Notice, Page, Section, Table};
pub use unit::{PER_SECOND, Unit, thousands};
