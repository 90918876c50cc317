//! What a page is made of, and how that becomes HTML. maud escapes every text that is put in.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::chart::{Chart, Content, Line};
use super::drawing;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// A page: a title, facts about how it came about, what to beware of, and sections.
#[derive(Debug, Clone, Default)]
pub struct Page {
    title: String,
    subtitle: String,
    facts: Vec<(String, String)>,
    notices: Vec<Notice>,
    sections: Vec<Section>,
}

/// What a reader must know before the numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// The numbers do not mean what they seem to: red.
    Wrong(String),
    /// The numbers are right, but not all that was wanted.
    Mind(String),
}

impl Page {
    /// A page without anything on it.
    pub fn new(title: impl Into<String>) -> Page {
        Page {
            title: title.into(),
            ..Page::default()
        }
    }

    /// A line below the title.
    #[must_use]
    pub fn subtitle(mut self, subtitle: impl Into<String>) -> Page {
        self.subtitle = subtitle.into();
        self
    }

    /// Something about how the numbers came about, such as the machine.
    #[must_use]
    pub fn fact(mut self, name: impl Into<String>, value: impl Into<String>) -> Page {
        self.facts.push((name.into(), value.into()));
        self
    }

    /// A warning, at the top.
    #[must_use]
    pub fn notice(mut self, notice: Notice) -> Page {
        self.notices.push(notice);
        self
    }

    /// The next section.
    #[must_use]
    pub fn section(mut self, section: Section) -> Page {
        self.sections.push(section);
        self
    }

    /// The whole file.
    pub fn html(&self) -> String {
        let page = html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    title { (self.title) }
                    style { (PreEscaped(STYLE)) }
                }
                body {
                    (self.header())
                    main { @for section in &self.sections { (section.markup()) } }
                    div id="values" hidden {}
                    script { (PreEscaped(SCRIPT)) }
                }
            }
        };
        page.into_string()
    }

    fn header(&self) -> Markup {
        html! {
            header {
                h1 { (self.title) }
                @if !self.subtitle.is_empty() { p.subtitle { (self.subtitle) } }
                @for notice in &self.notices {
                    @match notice {
                        Notice::Wrong(text) => p.notice.wrong role="alert" { (text) },
                        Notice::Mind(text) => p.notice { (text) },
                    }
                }
                @if !self.facts.is_empty() {
                    dl.facts {
                        @for (name, value) in &self.facts { div { dt { (name) } dd { (value) } } }
                    }
                }
            }
        }
    }
}

/// A part of a page with a heading. Its parts come in the order in which they were added; charts that follow each other
/// stand side by side where there is room.
#[derive(Debug, Clone)]
pub struct Section {
    heading: String,
    parts: Vec<Part>,
}

#[derive(Debug, Clone)]
enum Part {
    Text(String),
    Figures(Vec<Figure>),
    Chart(Box<Chart>),
    Table(Table),
}

impl Section {
    /// A section without anything in it.
    pub fn new(heading: impl Into<String>) -> Section {
        Section {
            heading: heading.into(),
            parts: Vec::new(),
        }
    }

    /// A paragraph.
    #[must_use]
    pub fn text(self, text: impl Into<String>) -> Section {
        self.part(Part::Text(text.into()))
    }

    /// Key figures, side by side.
    #[must_use]
    pub fn figures(self, figures: impl IntoIterator<Item = Figure>) -> Section {
        self.part(Part::Figures(figures.into_iter().collect()))
    }

    /// A chart.
    #[must_use]
    pub fn chart(self, chart: Chart) -> Section {
        self.part(Part::Chart(Box::new(chart)))
    }

    /// A table.
    #[must_use]
    pub fn table(self, table: Table) -> Section {
        self.part(Part::Table(table))
    }

    fn part(mut self, part: Part) -> Section {
        self.parts.push(part);
        self
    }

    fn markup(&self) -> Markup {
        let is_chart = |part: &Part| matches!(part, Part::Chart(_));
        html! {
            section {
                h2 { (self.heading) }
                @for parts in self.parts.chunk_by(|one, next| is_chart(one) && is_chart(next)) {
                    @if parts.iter().all(is_chart) {
                        div.charts { @for part in parts { (part.markup()) } }
                    } @else {
                        @for part in parts { (part.markup()) }
                    }
                }
            }
        }
    }
}

impl Part {
    fn markup(&self) -> Markup {
        match self {
            Part::Text(text) => html! { p { (text) } },
            Part::Figures(figures) => html! {
                dl.figures { @for figure in figures { (figure.markup()) } }
            },
            Part::Chart(chart) => framed(chart),
            Part::Table(table) => table.markup(),
        }
    }
}

/// A key figure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Figure {
    name: String,
    value: String,
    detail: String,
    is_bad: bool,
}

impl Figure {
    /// A value, written with its unit, and what it is.
    pub fn new(name: impl Into<String>, value: impl Into<String>) -> Figure {
        Figure {
            name: name.into(),
            value: value.into(),
            detail: String::new(),
            is_bad: false,
        }
    }

    /// A few words below it.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Figure {
        self.detail = detail.into();
        self
    }

    /// Marks it as one that should not be so, if it is.
    #[must_use]
    pub fn bad_if(mut self, is_bad: bool) -> Figure {
        self.is_bad = is_bad;
        self
    }

    fn markup(&self) -> Markup {
        html! {
            div.bad[self.is_bad] {
                dt { (self.name) }
                dd {
                    @match self.value.split_once(' ') {
                        Some((value, unit)) => { (value) " " span.unit { (unit) } },
                        None => (self.value),
                    }
                    @if !self.detail.is_empty() { small { (self.detail) } }
                }
            }
        }
    }
}

/// A table. The first column says what a row is about.
#[derive(Debug, Clone)]
pub struct Table {
    caption: String,
    header: Vec<String>,
    rows: Vec<Vec<Cell>>,
}

/// A field of a table.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// Words.
    Text(String),
    /// A sentence or two, broken into lines where the table would be wider than the page.
    Prose(String),
    /// A number, already written: to the right, its digits below each other.
    Number(String),
    /// A part of the whole, 0 to 1: a bar, with the percentage.
    Share(f64),
}

impl Table {
    /// A table without rows.
    pub fn new<'name>(caption: impl Into<String>, header: impl IntoIterator<Item = &'name str>) -> Table {
        Table {
            caption: caption.into(),
            header: header.into_iter().map(str::to_owned).collect(),
            rows: Vec::new(),
        }
    }

    /// The next row.
    #[must_use]
    pub fn row(mut self, cells: impl IntoIterator<Item = Cell>) -> Table {
        self.rows.push(cells.into_iter().collect());
        self
    }

    fn markup(&self) -> Markup {
        let kind = |column: usize| self.rows.first().and_then(|row| row.get(column));
        html! {
            div.table {
                table {
                    @if !self.caption.is_empty() { caption { (self.caption) } }
                    thead {
                        tr {
                            @for (column, name) in self.header.iter().enumerate() {
                                th.number[matches!(kind(column), Some(Cell::Number(_)))] scope="col" { (name) }
                            }
                        }
                    }
                    tbody {
                        @for row in &self.rows {
                            tr { @for cell in row { (cell.markup()) } }
                        }
                    }
                }
            }
        }
    }
}

impl Cell {
    fn markup(&self) -> Markup {
        html! {
            @match self {
                Cell::Text(text) => td { (text) },
                Cell::Prose(text) => td.prose { (text) },
                Cell::Number(text) => td.number { (text) },
                Cell::Share(share) => {
                    @let percent = if share.is_finite() { share.clamp(0.0, 1.0) * 100.0 } else { 0.0 };
                    td.share {
                        span.bar { span style={ "width:" (format!("{percent:.2}")) "%" } {} }
                        span { (format!("{percent:.1} %")) }
                    }
                }
            }
        }
    }
}

fn framed(chart: &Chart) -> Markup {
    html! {
        figure.chart {
            figcaption { (chart.title) }
            (legend(chart))
            @if !chart.y.title.is_empty() { p.axis { (chart.y.label()) } }
            @match drawing::svg(chart) {
                Ok(svg) => (PreEscaped(svg)),
                Err(error) => p.notice { "not drawn: " (error) },
            }
            @if !chart.x.title.is_empty() { p.axis.x { (chart.x.label()) } }
            @if let Some(note) = &chart.note { p.note { (note) } }
        }
    }
}

/// What the lines are, each with a piece of it.
fn legend(chart: &Chart) -> Markup {
    let piece = |class: &str, name: &str| {
        html! {
            li {
                svg.key viewBox="0 0 28 10" aria-hidden="true" { line class=(class) x1="0" y1="5" x2="28" y2="5" {} }
                (name)
            }
        }
    };
    let dot = |class: &str, name: &str| {
        html! {
            li { svg.key.round viewBox="0 0 10 10" aria-hidden="true" { circle class=(class) cx="5" cy="5" r="4" {} } (name) }
        }
    };
    html! {
        @match &chart.content {
            Content::Bars(_) => {},
            // The title says what a single line is.
            Content::Lines(lines) if lines.len() < 2 => {},
            Content::Lines(lines) => ul.legend {
                @for (Line { name, .. }, class) in lines.iter().zip(drawing::classes(lines)) { (piece(class, name)) }
            },
            Content::Ranges(rows) => ul.legend {
                (dot("dot", "value")) (piece("line-0", "smallest to largest"))
                @if rows.iter().any(|row| row.floor.is_some()) { (dot("floor", "floor")) }
            },
        }
    }
}
