//! Text that people write for people: one line, of a bounded length. And how any text is shown, whoever wrote it.

use std::borrow::Cow;

use thiserror::Error;

/// The longest reason, in characters.
pub const REASON_LENGTH_MAX: usize = 500;

/// Why a text was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TextError {
    /// Nothing was given, or only space and what cannot be seen.
    #[error("is required")]
    Blank,
    /// More than the maximum.
    #[error("has {length} characters; at most {max} are allowed")]
    TooLong {
        /// Characters given.
        length: usize,
        /// Characters allowed.
        max: usize,
    },
    /// A line break, a tab or another control character: the log has one line an entry, and terminals obey them. Or a character that turns the direction of
    /// what follows it, or one that cannot be seen: both show another text than is there. A joiner or a selector of a variant is one that cannot be seen where it
    /// shapes nothing.
    #[error("has a control character, a line separator, or one that turns the direction of text or is invisible")]
    Control,
}

/// Whether the text has a character that no text may have, or has it where none may.
pub fn has_refused(text: &str) -> bool {
    judged(text).any(|(_, is_refused)| is_refused)
}

/// Each character of the text, and whether no text may have it there. A joiner, or a selector of a variant, is taken once, directly behind what it shapes: no one
/// would see that there are more, and a whole text could be in them.
pub fn judged(text: &str) -> impl Iterator<Item = (char, bool)> {
    // What was refused is none: what stands behind it shapes nothing.
    let mut before: Option<char> = None;
    text.chars().map(move |letter| {
        let shapes_nothing = shapes_others(letter) && before.is_none_or(|before| !shapes(letter, before));
        let is_refused = is_never_taken(letter) || shapes_nothing;
        before = (!is_refused).then_some(letter);
        (letter, is_refused)
    })
}

/// The text as a terminal or a log may have it: each character that no text may have there is written as its code, such as `\u{202e}`. Texts of others have
/// them, and some that were stored when more was taken.
pub fn escaped(text: &str) -> Cow<'_, str> {
    if !has_refused(text) {
        return Cow::Borrowed(text);
    }
    let mut written = String::with_capacity(text.len());
    for (letter, is_refused) in judged(text) {
        if is_refused {
            written.extend(letter.escape_unicode());
        } else {
            written.push(letter);
        }
    }
    Cow::Owned(written)
}

/// Whether there is something to see of this character. A text without one that there is says nothing.
pub fn is_visible(letter: char) -> bool {
    // The blank of Braille and the null notehead are drawn, as nothing.
    !letter.is_whitespace()
        && !is_never_taken(letter)
        && !shapes_others(letter)
        && !matches!(letter, '\u{2800}' | '\u{1d159}')
}

/// Whether no text may have this character, wherever it stands.
fn is_never_taken(letter: char) -> bool {
    is_obeyed(letter) || is_hidden(letter)
}

/// Whether a terminal or a page would obey this character instead of showing it: controls, the separators of lines and paragraphs, and the marks that embed,
/// override and isolate directions (UAX #9).
fn is_obeyed(letter: char) -> bool {
    letter.is_control()
        || matches!(
            letter,
            '\u{2028}' | '\u{2029}' | '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        )
}

/// Whether this character shows nothing, and nothing is lost without it: spaces without width, fillers, invisible operators, the marks of notation and
/// annotation, and tags. These are what Unicode calls default ignorable (`DerivedCoreProperties.txt`) without what [`is_obeyed`] and [`shapes_others`] have, and
/// the marks of interlinear annotations.
///
/// With the tags the flags of England, Scotland and Wales are refused, which are a black flag and a name in tags: as many tags as one likes can follow it, a
/// whole text that no one sees.
fn is_hidden(letter: char) -> bool {
    matches!(
        letter,
        '\u{ad}'
            | '\u{34f}'
            | '\u{115f}'
            | '\u{1160}'
            | '\u{17b4}'
            | '\u{17b5}'
            | '\u{180e}'
            | '\u{200b}'
            | '\u{2060}'..='\u{2065}'
            | '\u{206a}'..='\u{206f}'
            | '\u{3164}'
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}'
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e00ff}'
            | '\u{e01f0}'..='\u{e0fff}'
    )
}

/// Whether this character shows nothing itself and says how those beside it are drawn: what joins and parts letters, which Persian, the scripts of India and
/// emoji are written with, and what selects a variant, of emoji, signs, Mongolian letters and ideographs. Who refused it would refuse names.
fn shapes_others(letter: char) -> bool {
    is_joiner(letter) || is_selector(letter)
}

fn is_joiner(letter: char) -> bool {
    matches!(letter, '\u{200c}' | '\u{200d}')
}

fn is_selector(letter: char) -> bool {
    matches!(
        letter,
        '\u{180b}'..='\u{180d}' | '\u{180f}' | '\u{fe00}'..='\u{fe0f}' | '\u{e0100}'..='\u{e01ef}'
    )
}

/// Whether this joiner or selector shapes the character directly before it. Both shape what can be seen, and a joiner also a variant. The selectors of Mongolian
/// letters and of ideographs shape those alone: there are 240 of ideographs, so that one behind each letter of any script would hide a byte in it.
///
/// Combining marks are not bounded: they are drawn, however many there are.
fn shapes(letter: char, before: char) -> bool {
    match letter {
        '\u{180b}'..='\u{180f}' => is_visible(before) && matches!(before, '\u{1800}'..='\u{18af}'),
        '\u{e0100}'..='\u{e01ef}' => is_ideograph(before),
        _ => is_visible(before) || is_joiner(letter) && is_selector(before),
    }
}

/// Whether this is a Chinese character, in whichever block.
fn is_ideograph(letter: char) -> bool {
    matches!(
        letter,
        '\u{3005}'..='\u{3007}'
            | '\u{3021}'..='\u{3029}'
            | '\u{3038}'..='\u{303b}'
            | '\u{3400}'..='\u{4dbf}'
            | '\u{4e00}'..='\u{9fff}'
            | '\u{f900}'..='\u{faff}'
            | '\u{20000}'..='\u{3ffff}'
    )
}

/// Declares a text for people, with one fallible constructor. Space around it is cut off.
macro_rules! text {
    ($(#[$doc:meta])* $name:ident, $max:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $name(Box<str>);

        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::text::TextError;

            fn from_str(text: &str) -> Result<$name, $crate::text::TextError> {
                let text = text.trim();
                let length = text.chars().count();
                if !text.contains($crate::text::is_visible) {
                    Err($crate::text::TextError::Blank)
                } else if length > $max {
                    Err($crate::text::TextError::TooLong { length, max: $max })
                } else if $crate::text::has_refused(text) {
                    Err($crate::text::TextError::Control)
                } else {
                    Ok($name(text.into()))
                }
            }
        }
    };
}

pub(crate) use text;

text!(
    /// The reason of an action: 1 to 500 characters on one line.
    Reason,
    REASON_LENGTH_MAX
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_one_line_that_says_something() {
        assert_eq!(" looked it up ".parse::<Reason>().unwrap().as_str(), "looked it up");
        assert_eq!("ü".repeat(500).parse::<Reason>().unwrap().as_str().len(), 1_000);
        assert_eq!(
            "a".repeat(501).parse::<Reason>(),
            Err(TextError::TooLong { length: 501, max: 500 })
        );
        for control in [
            "two\nlines",
            "bell\u{7}",
            "red \u{1b}[31m",
            "next\u{85}line",
            "two\u{2028}lines",
            "two\u{2029}paragraphs",
            "pay \u{202e}desrever",
            "an \u{2066}isolate\u{2069}",
            "a \u{200f}mark",
        ] {
            assert_eq!(control.parse::<Reason>(), Err(TextError::Control), "{control:?}");
        }
    }

    #[test]
    fn what_no_text_may_have_is_shown_by_its_code() {
        for (letter, code) in [
            ('\0', r"\u{0}"),
            ('\t', r"\u{9}"),
            ('\n', r"\u{a}"),
            ('\r', r"\u{d}"),
            ('\u{1b}', r"\u{1b}"),
            ('\u{7f}', r"\u{7f}"),
            ('\u{85}', r"\u{85}"),
            ('\u{9b}', r"\u{9b}"),
            ('\u{ad}', r"\u{ad}"),
            ('\u{61c}', r"\u{61c}"),
            ('\u{200b}', r"\u{200b}"),
            ('\u{200e}', r"\u{200e}"),
            ('\u{200f}', r"\u{200f}"),
            ('\u{2028}', r"\u{2028}"),
            ('\u{2029}', r"\u{2029}"),
            ('\u{202a}', r"\u{202a}"),
            ('\u{202e}', r"\u{202e}"),
            ('\u{2066}', r"\u{2066}"),
            ('\u{2069}', r"\u{2069}"),
            ('\u{feff}', r"\u{feff}"),
            ('\u{e0067}', r"\u{e0067}"),
        ] {
            assert_eq!(escaped(&format!("ä{letter}b{letter}")), format!("ä{code}b{code}"));
        }
        for text in ["", "a line", "25\u{a0}€", "می\u{200c}خواهم", "❤\u{fe0f}", r"\u{202e}"] {
            assert!(matches!(escaped(text), Cow::Borrowed(same) if same == text), "{text:?}");
        }
    }

    #[test]
    fn what_people_write_is_taken_in_every_script() {
        for text in [
            // What is written from the right needs no mark for it.
            "الطلب متأخر",
            "ההזמנה",
            // Persian: what is not joined, also to a name in Latin letters, and what is joined to nothing.
            "می\u{200c}خواهم لغو کنم",
            "PDF\u{200c}ها",
            "ه\u{200d}",
            // Hindi, Bengali, Malayalam and Sinhala: what is joined, and what is not.
            "क्\u{200d}ष",
            "क्\u{200c}ष",
            "ग्राहक ने रद्द किया",
            "র\u{200d}্যাব",
            "അവന്\u{200d}",
            "ශ්\u{200d}රී ලංකා",
            // Mongolian letters, ideographs of Japan and signs by their variants.
            "ᠭ\u{180b}ᠠ",
            "葛\u{e0100}城市",
            "辻\u{e0100}\u{3000}\u{20bb7}\u{e0101}",
            "0\u{fe00} ≨\u{fe00}",
            "고객이 취소했습니다",
            "ลูกค้ายกเลิก",
            "25\u{a0}€ zurück",
            // Emoji: a heart, families, a couple, an eye that says something, a keycap, flags, tones of skin, a warning as text.
            "❤\u{fe0f}",
            "👩\u{200d}👩\u{200d}👧\u{200d}👦",
            "👩🏽\u{200d}❤\u{fe0f}\u{200d}👨🏿",
            "👁\u{fe0f}\u{200d}🗨\u{fe0f}",
            "#\u{fe0f}\u{20e3} 1\u{fe0f}\u{20e3}",
            "🇩🇪 🇮🇳",
            "🏳\u{fe0f}\u{200d}🌈",
            "👍🏽 🧑🏻\u{200d}🚀 🕵🏽\u{200d}♂\u{fe0f}",
            "⚠\u{fe0e}",
            "⠓⠊\u{2800}⠓⠊",
        ] {
            assert_eq!(
                text.parse::<Reason>().map(|text| text.to_string()),
                Ok(text.to_owned()),
                "{text:?}"
            );
            assert!(matches!(escaped(text), Cow::Borrowed(same) if same == text), "{text:?}");
        }
    }

    #[test]
    fn what_shapes_nothing_or_again_is_refused_and_shown_by_its_code() {
        for (text, shown) in [
            // Selectors and joiners after one another.
            ("a\u{fe0f}\u{fe0f}b", "a\u{fe0f}\\u{fe0f}b"),
            ("❤\u{fe0f}\u{fe0e}", "❤\u{fe0f}\\u{fe0e}"),
            ("葛\u{e0100}\u{e0101}\u{fe00}", "葛\u{e0100}\\u{e0101}\\u{fe00}"),
            ("ᠭ\u{180b}\u{180c}", "ᠭ\u{180b}\\u{180c}"),
            ("می\u{200c}\u{200c}خ", "می\u{200c}\\u{200c}خ"),
            ("ok\u{200d}\u{200c}\u{200d}", "ok\u{200d}\\u{200c}\\u{200d}"),
            ("👩\u{200d}\u{fe0f}👧", "👩\u{200d}\\u{fe0f}👧"),
            (
                "❤\u{fe0f}\u{200d}\u{fe0f}\u{200d}",
                "❤\u{fe0f}\u{200d}\\u{fe0f}\\u{200d}",
            ),
            // After what cannot be seen, or nothing at all.
            ("\u{200d}ok", "\\u{200d}ok"),
            ("\u{fe0f}ok", "\\u{fe0f}ok"),
            ("ok \u{200d} \u{200c}", "ok \\u{200d} \\u{200c}"),
            ("ok\u{a0}\u{fe00}\u{2800}\u{fe01}", "ok\u{a0}\\u{fe00}\u{2800}\\u{fe01}"),
            ("ok\u{200b}\u{200d}", "ok\\u{200b}\\u{200d}"),
            // After what has no such variants: a byte could be hidden in each letter.
            ("o\u{e0100}k\u{e01ef}", "o\\u{e0100}k\\u{e01ef}"),
            ("😀\u{e0141}", "😀\\u{e0141}"),
            ("o\u{180b}k\u{180f}", "o\\u{180b}k\\u{180f}"),
        ] {
            assert_eq!(text.parse::<Reason>(), Err(TextError::Control), "{text:?}");
            let once = escaped(text).into_owned();
            assert_eq!(once, shown, "{text:?}");
            assert!(matches!(escaped(&once), Cow::Borrowed(_)), "{once:?}");
        }
        for hidden in ["\u{fe0f}", "\u{e0141}", "\u{200d}", "\u{200c}\u{200d}"] {
            let count = 498 / hidden.chars().count();
            let text = format!("ok{}", hidden.repeat(count));
            assert_eq!(text.parse::<Reason>(), Err(TextError::Control), "ok and {hidden:?}");
            let codes = escaped(&text).matches(r"\u{").count();
            assert!(codes >= 497, "{codes} codes of {hidden:?}");
        }
    }

    #[test]
    fn what_cannot_be_seen_is_refused_and_alone_says_nothing() {
        let hidden = [
            0xad..=0xad,
            0x34f..=0x34f,
            0x115f..=0x1160,
            0x17b4..=0x17b5,
            0x180e..=0x180e,
            0x200b..=0x200b,
            0x2060..=0x206f,
            0x3164..=0x3164,
            0xfeff..=0xfeff,
            0xffa0..=0xffa0,
            0xfff0..=0xfffb,
            0x1bca0..=0x1bca3,
            0x1d173..=0x1d17a,
            0xe0000..=0xe00ff,
            0xe01f0..=0xe0fff,
        ];
        for letter in hidden.into_iter().flatten().map(|code| char::from_u32(code).unwrap()) {
            let name = format!("an{letter}na");
            assert_eq!(name.parse::<Reason>(), Err(TextError::Control), "{name:?}");
            let alone = format!(" {letter}{letter} ");
            assert_eq!(alone.parse::<Reason>(), Err(TextError::Blank), "{alone:?}");
        }
        // The flag of Scotland: a black flag, `gbsct` in tags, and a tag that ends it.
        let flag = "\u{1f3f4}\u{e0067}\u{e0062}\u{e0073}\u{e0063}\u{e0074}\u{e007f}";
        assert_eq!(flag.parse::<Reason>(), Err(TextError::Control));
        for blank in [
            "",
            "  ",
            "\t\n",
            "\u{a0}\u{3000}",
            "\u{200d}",
            "\u{200c} \u{200c}",
            "\u{fe0f}",
            "\u{e0100}",
            "\u{180b}",
            "\u{2800}",
        ] {
            assert_eq!(blank.parse::<Reason>(), Err(TextError::Blank), "{blank:?}");
        }
    }
}
