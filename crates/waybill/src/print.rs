//! What is printed, and the one place that does. Texts come out of the stores, from the payment provider and from servers, and some were taken under older
//! rules: what a terminal would obey, or not show, is printed as its code.

use std::fmt::{Display, Write as _};

use serde_json::Value;
use waybill_domain::text::{escaped, has_refused, judged};

/// Prints a line of the command's answer, whatever is in it.
pub fn line(text: &str) {
    lines(escaped(text));
}

/// Prints lines of the command's answer. Each `\n` ends one: where a line has the text of others in it, that is [`escaped`] already.
#[allow(clippy::print_stdout, reason = "the command's answer")]
pub fn lines(text: impl Display) {
    println!("{}", each_escaped(&text.to_string()));
}

/// Prints the command's answer for programs.
#[allow(clippy::print_stdout, reason = "the command's answer")]
pub fn json(value: &Value) {
    println!("{}", json_text(value));
}

/// Prints a line beside the answer, whatever is in it.
pub fn note(text: &str) {
    notes(&escaped(text));
}

/// Prints lines beside the answer, as [`lines`] does.
#[allow(clippy::print_stderr, reason = "what a person at the terminal needs to know")]
pub fn notes(text: &str) {
    eprintln!("{}", each_escaped(text));
}

/// JSON on one line. What a terminal would obey is written as JSON does, and read back as what it is.
pub fn json_text(value: &Value) -> String {
    let text = value.to_string();
    // Each string by itself: its quotes are none of its letters, and nothing shapes them.
    if !text.split('"').any(has_refused) {
        return text;
    }
    let mut written = String::with_capacity(text.len());
    // Such characters are in strings alone.
    for part in text.split_inclusive('"') {
        for (letter, is_refused) in judged(part) {
            if is_refused {
                for unit in letter.encode_utf16(&mut [0; 2]) {
                    let _ = write!(written, "\\u{unit:04x}");
                }
            } else {
                written.push(letter);
            }
        }
    }
    written
}

fn each_escaped(text: &str) -> String {
    text.split('\n').map(escaped).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lines_stay_lines_and_have_nothing_that_a_terminal_would_obey() {
        let text = "one \u{1b}[2J\ntwo \u{202e}\u{2028}\n\nfour\r";
        assert_eq!(
            each_escaped(text),
            "one \\u{1b}[2J\ntwo \\u{202e}\\u{2028}\n\nfour\\u{d}"
        );
        assert_eq!(each_escaped("plain\ntext"), "plain\ntext");
    }

    #[test]
    fn json_is_read_back_as_what_it_was() {
        for text in [
            "plain",
            "two\nlines",
            "\u{202e}desrever",
            "\u{7f}\u{9b}2J",
            "tag \u{e0067}",
            "ok\u{fe0f}\u{fe0f}\u{200d}",
            "\u{200d}",
            r"\u202e and \",
        ] {
            let value = json!({ "detail": text, "an\u{ad}na": [1, null] });
            let printed = json_text(&value);
            assert!(!has_refused(&printed), "{printed:?}");
            assert_eq!(serde_json::from_str::<Value>(&printed).unwrap(), value, "{printed}");
        }
        assert_eq!(json_text(&json!("\u{e0067}")), r#""\udb40\udc67""#);
        assert_eq!(json_text(&json!("ok\u{fe0f}\u{fe0f}")), "\"ok\u{fe0f}\\ufe0f\"");
        assert_eq!(json_text(&json!({ "\u{fe0f}": "\u{200d}" })), r#"{"\ufe0f":"\u200d"}"#);
    }
}
