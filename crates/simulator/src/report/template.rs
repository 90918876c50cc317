//! What a page is made of, as HTML. Every text is escaped here, and so is the JSON.

use serde_json::Value;

/// Its `{{slots}}` are filled in one pass: what is put into one is never searched for another.
const TEMPLATE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");
const UPLOT_STYLE: &str = include_str!("vendor/uPlot.min.css");
const UPLOT_SCRIPT: &str = include_str!("vendor/uPlot.iife.min.js");

/// A page. What is empty is left out.
#[derive(Debug, Default)]
pub struct Page {
    /// What it is about.
    pub title: String,
    /// A line below the title.
    pub subtitle: String,
    /// The command that makes the same run again.
    pub command: String,
    /// What a reader must know before the numbers.
    pub notices: Vec<Notice>,
    /// How the numbers came about, such as on which machine, by name.
    pub facts: Vec<(String, String)>,
    /// The numbers: each a [`section`].
    pub sections: Vec<Html>,
}

/// What a reader must know before the numbers.
#[derive(Debug)]
pub enum Notice {
    /// The numbers do not mean what they seem to: red.
    Error(String),
    /// The numbers are right, but not all that was wanted.
    Warning(String),
}

/// A piece of a page, in which every text is escaped: only the functions of this module make one.
#[derive(Debug)]
pub struct Html(String);

impl Page {
    /// The whole file. Its charts are drawn from `report`, which is in it as it is.
    pub fn html(&self, report: &Value) -> String {
        // In JSON a `<` is always within a string, where it may be written so. Nothing ends the element early then.
        let json = report.to_string().replace('<', "\\u003c");
        let (title, header, main) = (
            escaped(&self.title),
            self.header(),
            joined(&self.sections, |html| html.0.clone()),
        );
        let mut page = String::new();
        for (index, part) in TEMPLATE.split("{{").enumerate() {
            let (slot, text) = part.split_once("}}").filter(|_| index > 0).unwrap_or(("", part));
            page += match slot {
                "title" => &title,
                "header" => &header,
                "main" => &main,
                "json" => &json,
                "style" => STYLE,
                "script" => SCRIPT,
                "uplot-style" => UPLOT_STYLE,
                "uplot-script" => UPLOT_SCRIPT,
                _ => "",
            };
            page += text;
        }
        page
    }

    fn header(&self) -> String {
        // A line of the command ends before a flag, not within one.
        let command = element("span", "", &self.command).replace(" --", "</span> <span>--");
        let notices = joined(&self.notices, |notice| match notice {
            Notice::Error(text) => element("p", " class=\"notice error\" role=\"alert\"", text),
            Notice::Warning(text) => element("p", " class=\"notice\"", text),
        });
        let facts = joined(&self.facts, |(name, value)| match value.as_str() {
            "" => String::new(),
            value => format!("<div>{}{}</div>\n", element("dt", "", name), element("dd", "", value)),
        });
        let subtitle = element("p", " class=\"subtitle\"", &self.subtitle);
        format!("{subtitle}<pre>{command}</pre>\n{notices}<dl>\n{facts}</dl>")
    }
}

/// A part of a page with a heading.
pub fn section(heading: &str, parts: impl IntoIterator<Item = Html>) -> Html {
    let parts: String = parts.into_iter().map(|part| part.0).collect();
    Html(format!("<section>\n{}{parts}</section>\n", element("h2", "", heading)))
}

/// A paragraph.
pub fn text(text: &str) -> Html {
    Html(element("p", "", text))
}

/// Charts, side by side where there is room.
pub fn charts(charts: impl IntoIterator<Item = Html>) -> Html {
    let charts: String = charts.into_iter().map(|chart| chart.0).collect();
    Html(format!("<div class=\"charts\">\n{charts}</div>\n"))
}

/// A chart of a `kind` that `page.js` can draw, of the operation or benchmark with the number `of` in the report; with
/// its unit, where the axis does not have it, and a sentence below the title.
pub fn chart(kind: &'static str, of: usize, title: &str, unit: &str, note: &str) -> Html {
    let note = if note.is_empty() {
        String::new()
    } else {
        "<br>".to_owned() + &element("small", "", note)
    };
    let (title, unit) = (escaped(title), element("small", "", unit));
    Html(format!(
        "<figure data-chart=\"{kind}\" data-of=\"{of}\"><figcaption>{title} {unit}{note}</figcaption></figure>\n"
    ))
}

/// A table. Its columns are named in one line, as `name | number`; the first names what a row is about.
pub fn table(caption: &str, header: &str, rows: impl IntoIterator<Item = Vec<Cell>>) -> Html {
    let rows: Vec<Vec<Cell>> = rows.into_iter().collect();
    let mut html = format!(
        "<div class=\"table\"><table>\n{}<thead><tr>",
        element("caption", "", caption)
    );
    for (column, name) in header.split(" | ").enumerate() {
        let class = rows
            .first()
            .and_then(|row| row.get(column))
            .map_or("", |cell| cell.class);
        html += &element("th", &format!(" scope=\"col\" class=\"{class}\""), name);
    }
    html += "</tr></thead>\n<tbody>\n";
    for row in rows {
        let cells = joined(&row, |Cell { class, html }| {
            format!("<td class=\"{class}\">{html}</td>")
        });
        html = html + "<tr>" + &cells + "</tr>\n";
    }
    Html(html + "</tbody></table></div>\n")
}

/// A field of a table.
#[derive(Debug, Clone)]
pub struct Cell {
    class: &'static str,
    html: String,
}

impl Cell {
    /// Words.
    pub fn text(text: &str) -> Cell {
        Cell {
            class: "",
            html: escaped(text),
        }
    }

    /// A sentence or two, broken into lines where the table would be wider than the page.
    pub fn prose(text: &str) -> Cell {
        Cell {
            class: "prose",
            html: escaped(text),
        }
    }

    /// A number, already written: to the right, its digits below each other.
    pub fn number(text: &str) -> Cell {
        Cell {
            class: "number",
            html: escaped(text),
        }
    }

    /// Marks a number as one that should not be so, if it is.
    #[must_use]
    pub fn bad_if(self, is_bad: bool) -> Cell {
        let class = if is_bad { "number bad" } else { self.class };
        Cell { class, ..self }
    }

    /// A few small words behind it.
    #[must_use]
    pub fn note(self, note: &str) -> Cell {
        let html = self.html + " " + &element("small", "", note);
        Cell { html, ..self }
    }

    /// A bar below it: a part of the whole, 0 to 1.
    #[must_use]
    pub fn bar(self, part: f64) -> Cell {
        let percent = 100.0 * if part.is_finite() { part.clamp(0.0, 1.0) } else { 0.0 };
        let html = format!(
            "{}<span class=\"bar\" style=\"--part:{percent:.1}%\"></span>",
            self.html
        );
        Cell { html, ..self }
    }
}

/// An element with a text; nothing without one.
fn element(name: &str, attributes: &str, text: &str) -> String {
    match text {
        "" => String::new(),
        text => format!("<{name}{attributes}>{}</{name}>", escaped(text)),
    }
}

fn joined<T>(parts: &[T], html: impl Fn(&T) -> String) -> String {
    parts.iter().map(html).collect()
}

/// A text that is only text, between tags and in quoted attributes.
fn escaped(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    text.replace('"', "&quot;").replace('\'', "&#39;")
}
