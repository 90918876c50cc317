//! The header `forwarded` (RFC 7239), read from its end: there the proxy writes, and what stands before that is its caller's word.
//!
//! What is between quotes is text. A proxy quotes there what callers choose, such as the `host` that they call, and they may choose one
//! with commas, semicolons and equals signs.

use std::iter::from_fn;

/// The elements of a line, the last one first.
///
/// Quotes are paired from the end. The proxy closes its own, so that one which its caller left open is before the proxy's element, and
/// changes nothing of it.
pub(super) fn elements_from_the_last(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    parts_from_the_last(line, b',')
}

/// What `for` has in an element, without its quotes. `None`: it has none or several, or anything in the element is not as specified. Space
/// around names and values, and addresses without the quotes that they should have, are taken all the same.
pub(super) fn node(element: &[u8]) -> Option<String> {
    let mut node = None;
    let pairs = parts_from_the_last(element, b';').map(<[u8]>::trim_ascii);
    for pair in pairs.filter(|pair| !pair.is_empty()) {
        let mut halves = pair.splitn(2, |byte| *byte == b'=').map(<[u8]>::trim_ascii);
        let (name, value) = (halves.next()?, halves.next()?);
        let value = unquoted(value).filter(|_| is_token(name))?;
        if name.eq_ignore_ascii_case(b"for") && node.replace(value).is_some() {
            return None;
        }
    }
    String::from_utf8(node?).ok()
}

/// What is between these separators, of which those within quotes are none; the last part first.
fn parts_from_the_last(text: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(text);
    from_fn(move || {
        let (before, last) = cut_last(rest?, separator);
        rest = before;
        Some(last)
    })
}

/// The last part, and what is before its separator.
fn cut_last(text: &[u8], separator: u8) -> (Option<&[u8]>, &[u8]) {
    let mut rest = text;
    let mut is_quoted = false;
    while let Some((byte, before)) = rest.split_last() {
        if *byte == b'"' && !ends_with_escape(before) {
            is_quoted = !is_quoted;
        } else if *byte == separator && !is_quoted {
            return (Some(before), text.get(rest.len()..).unwrap_or_default());
        }
        rest = before;
    }
    (None, text)
}

/// Whether a backslash escapes what follows: every second one of a row is escaped itself.
fn ends_with_escape(text: &[u8]) -> bool {
    text.iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1
}

/// A value without its quotes, and without the backslashes of what is escaped there.
fn unquoted(value: &[u8]) -> Option<Vec<u8>> {
    let Some(quoted) = value.strip_prefix(b"\"") else {
        // More than a token: some proxies quote no address of IPv6 and no port.
        let is_plain = |byte: &u8| byte.is_ascii_graphic() && !b"\"\\=".contains(byte);
        return value.iter().all(is_plain).then(|| value.to_vec());
    };
    let mut bytes = quoted.strip_suffix(b"\"")?.iter().copied();
    let mut text = Vec::with_capacity(quoted.len());
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => return None,
            b'\\' => text.push(bytes.next()?),
            _ => text.push(byte),
        }
    }
    Some(text)
}

fn is_token(name: &[u8]) -> bool {
    let is_letter = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !name.is_empty() && name.iter().all(is_letter)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn elements(line: &str) -> Vec<&str> {
        let elements = elements_from_the_last(line.as_bytes());
        elements.map(|element| std::str::from_utf8(element).unwrap()).collect()
    }

    #[test]
    fn what_is_quoted_ends_no_element_and_a_quote_left_open_reaches_none_behind_it() {
        let lines: [(&str, &[&str]); 9] = [
            ("", &[""]),
            ("a,b", &["b", "a"]),
            (r#"a="1,2",b"#, &["b", r#"a="1,2""#]),
            (r#"a="1\",2",b"#, &["b", r#"a="1\",2""#]),
            (r#"a="1\\",b"#, &["b", r#"a="1\\""#]),
            (r#"a="1,b"#, &["b", r#"a="1"#]),
            (r#"a="1,b="2,3""#, &[r#"b="2,3""#, r#"a="1"#]),
            (r"a\,b", &["b", r"a\"]),
            (",,a", &["a", "", ""]),
        ];
        for (line, expected) in lines {
            assert_eq!(elements(line), expected, "{line}");
        }
    }

    #[test]
    fn the_node_of_an_element_is_what_its_only_for_has() {
        for (element, expected) in [
            ("for=a", "a"),
            ("FOR=a;Proto=https", "a"),
            (" ; for = a ;; proto\t=\thttps;", "a"),
            (r#"for="a,b;c=d""#, "a,b;c=d"),
            (r#"for="a\"\\\b""#, r#"a"\b"#),
            (r#"for="";host=b"#, ""),
            ("for=[2001:db8::7]:80", "[2001:db8::7]:80"),
            ("for=a;host=\"\u{fc}\"", "a"),
        ] {
            assert_eq!(node(element.as_bytes()).as_deref(), Some(expected), "{element}");
        }
        for bad in [
            "",
            ";",
            "a",
            "proto=https",
            "for=a;for=a",
            "for=a;For=b",
            "for=a;host",
            "for=a;=b",
            "for=a;h\"ost=b",
            "for=a;ho st=b",
            "for=a;host=b=c",
            "for=a b",
            "for=a\\",
            "for=\u{fc}",
            r#"for="a"#,
            r#"for=a""#,
            r#"for=""#,
            r#"for="a"b"#,
            r#"for="a"b""#,
            r#"for="a\""#,
            r#"for=a;host="b\""#,
        ] {
            assert_eq!(node(bad.as_bytes()), None, "{bad}");
        }
    }
}
