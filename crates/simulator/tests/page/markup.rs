//! Reads a page as strictly as a parser of XML does, and finds things in it.

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

/// Elements that end where they begin.
const VOID: [&str; 1] = ["meta"];

/// A page that is well formed: each element ends, in the order in which they began, and each attribute is quoted.
pub struct Markup {
    /// Names with attributes, in the order in which they began.
    elements: Vec<(String, Vec<(String, String)>)>,
    text: String,
}

impl Markup {
    /// Panics where the page is not well formed, or where a number in it is none.
    pub fn read(html: &str) -> Markup {
        let html = html.strip_prefix("<!DOCTYPE html>").expect("a page of HTML 5");
        // Scripts and styles are not parsed for tags.
        let html = ["style", "script"]
            .iter()
            .fold(html.to_owned(), |html, name| emptied(&html, name));
        let mut reader = Reader::from_str(&html);
        reader.config_mut().check_end_names = false;
        let mut read = Markup {
            elements: Vec::new(),
            text: String::new(),
        };
        let mut open: Vec<String> = Vec::new();
        loop {
            match reader.read_event().expect("well formed") {
                Event::Start(tag) => {
                    let name = read.element(&tag);
                    if !VOID.contains(&name.as_str()) {
                        open.push(name);
                    }
                }
                Event::Empty(tag) => {
                    read.element(&tag);
                }
                Event::End(tag) => {
                    let name = String::from_utf8(tag.name().0.to_vec()).unwrap();
                    assert_eq!(
                        open.pop().as_ref(),
                        Some(&name),
                        "ends in another order, at {}",
                        reader.buffer_position()
                    );
                }
                Event::Text(text) => read.text.push_str(&text.decode().unwrap()),
                Event::GeneralRef(reference) => read.text.push(match reference.decode().unwrap().as_ref() {
                    "lt" => '<',
                    "gt" => '>',
                    "amp" => '&',
                    "quot" => '"',
                    "apos" => '\'',
                    other => panic!("&{other}; is not known"),
                }),
                Event::Eof => break,
                other => panic!("not expected on a page: {other:?}"),
            }
        }
        assert!(open.is_empty(), "never end: {open:?}");
        read
    }

    fn element(&mut self, tag: &BytesStart<'_>) -> String {
        let name = String::from_utf8(tag.name().0.to_vec()).unwrap();
        let attributes: Vec<(String, String)> = (tag.html_attributes())
            .map(|attribute| attribute.expect("an attribute is given once"))
            .map(|attribute| {
                let name = String::from_utf8(attribute.key.0.to_vec()).unwrap();
                let value = attribute.unescape_value().expect("escaped").into_owned();
                assert!(!value.contains("NaN") && !value.contains("inf"), "{name}={value}");
                (name, value)
            })
            .collect();
        self.elements.push((name.clone(), attributes));
        name
    }

    /// What is there to be read, titles included.
    pub fn text(&self) -> String {
        self.text.clone()
    }

    /// How many elements have this name.
    pub fn count(&self, name: &str) -> usize {
        self.elements.iter().filter(|(element, _)| element == name).count()
    }

    /// How many elements have an attribute of this value.
    pub fn with(&self, name: &str, value: &str) -> usize {
        let wanted = (name.to_owned(), value.to_owned());
        self.elements
            .iter()
            .filter(|(_, attributes)| attributes.contains(&wanted))
            .count()
    }

    /// Panics where something is drawn outside of such a size, beginning at zero.
    pub fn assert_drawn_within(&self, width: i32, height: i32) {
        let mut places = 0;
        for (element, attributes) in &self.elements {
            for (name, value) in attributes {
                let numbers: Vec<i32> = match name.as_str() {
                    "x" | "x1" | "x2" | "cx" | "width" | "y" | "y1" | "y2" | "cy" | "height" => {
                        vec![value.parse().unwrap()]
                    }
                    "points" => value
                        .split([' ', ','])
                        .filter(|part| !part.is_empty())
                        .map(|part| part.parse().unwrap())
                        .collect(),
                    _ => continue,
                };
                let most = width.max(height);
                assert!(
                    numbers.iter().all(|number| (0..=most).contains(number)),
                    "{element} {name}={value}"
                );
                places += numbers.len();
            }
        }
        assert!(places > 0, "nothing is drawn");
    }
}

fn emptied(html: &str, name: &str) -> String {
    let (start, end) = (format!("<{name}>"), format!("</{name}>"));
    let (before, rest) = html.split_once(&start).expect("a page has one");
    let (_, after) = rest.split_once(&end).expect("it ends");
    format!("{before}{start}{end}{after}")
}
