//! Text from objects and servers, made safe for terminals, logs and messages. Pure.
//!
//! Anybody who may create an object chooses some of the text that an administrator reads later: names, reasons, notes of
//! Events, words of an admission webhook. None of it may move the cursor, start a line, or change the order of what is
//! read.

use std::borrow::Cow;

/// How much of the end of a text is kept where it is cut: a message ends with its code and RequestId.
const END: usize = 256;

/// What stands where a text was cut.
const CUT: &str = "…";

/// Replaces each control character, line separator, bidirectional mark and invisible character by its visible escape,
/// such as `\n`, `\u{1b}` or `\u{202e}`. All other text stays as it is, letters of every script included.
#[must_use]
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(is_hidden) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + END);
    for letter in text.chars() {
        if is_hidden(letter) {
            safe.extend(letter.escape_debug());
        } else {
            safe.push(letter);
        }
    }
    Cow::Owned(safe)
}

/// The same in at most `most` bytes. What is too long loses its middle.
#[must_use]
pub fn shortened(text: &str, most: usize) -> String {
    let mut text = printable(text).into_owned();
    if text.len() > most {
        let end = text.ceil_char_boundary(text.len() - END.min(most / 2));
        let begin = text.floor_char_boundary(most.saturating_sub(CUT.len() + text.len() - end));
        text.replace_range(begin..end, CUT);
    }
    text
}

/// Whether a terminal, a log or a reader could take it for something else than a letter. The two joiners U+200C and
/// U+200D are left out: words of several scripts need them.
#[must_use]
pub fn is_hidden(letter: char) -> bool {
    letter.is_control()
        || matches!(
            letter,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{feff}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_hidden_is_shown_as_an_escape() {
        for (text, shown) in [
            ("", ""),
            (
                "main lobby_7 (größe, 大きさ, مرحبا, नमस्ते, 👩‍🚀)",
                "main lobby_7 (größe, 大きさ, مرحبا, नमस्ते, 👩‍🚀)",
            ),
            (r"C:\temp\u{1b}", r"C:\temp\u{1b}"),
            ("a\nb\r\n\tc\0", r"a\nb\r\n\tc\0"),
            ("\u{1b}[2J\u{7}\u{7f}", r"\u{1b}[2J\u{7}\u{7f}"),
            ("\u{9b}31m\u{85}", r"\u{9b}31m\u{85}"),
            ("\u{1b}]8;;http://x\u{1b}\\", r"\u{1b}]8;;http://x\u{1b}\"),
            ("abc\u{202e}fdp\u{202c}", r"abc\u{202e}fdp\u{202c}"),
            ("\u{2066}x\u{2069}\u{200e}\u{200f}\u{61c}", r"\u{2066}x\u{2069}\u{200e}\u{200f}\u{61c}"),
            ("a\u{2028}b\u{2029}\u{feff}\u{200b}", r"a\u{2028}b\u{2029}\u{feff}\u{200b}"),
        ] {
            assert_eq!(printable(text), shown);
        }
    }

    #[test]
    fn a_long_text_keeps_its_begin_and_its_end() {
        let end = ": ErrorCode 100006, RequestId Id-1";
        let text = format!("RtcApplication {}{end}", "é\u{1b}".repeat(4000));
        for most in [600, 601, 602, 603, 1024, 4096] {
            let short = shortened(&text, most);
            assert!(short.len() <= most && short.len() > most - 8, "{most}: {}", short.len());
            assert!(short.starts_with("RtcApplication é\\u{1b}é") && short.ends_with(end), "{short}");
            assert_eq!(shortened(&short, most), short);
        }
        assert_eq!(shortened("short", 5), "short");
        assert!(shortened(&"é".repeat(99), 9).len() <= 9);
    }

    /// Over every character, and over texts at random: nothing hidden is left, and a second time changes nothing.
    #[test]
    fn nothing_hidden_is_ever_left() {
        let hidden = |text: &str| {
            text.chars().any(|c| {
                c.is_control()
                    || "\u{61c}\u{200e}\u{200f}\u{2028}\u{2029}\u{feff}".contains(c)
                    || ('\u{202a}'..='\u{202e}').contains(&c)
                    || ('\u{2066}'..='\u{2069}').contains(&c)
            })
        };
        let check = |text: &str| {
            let shown = printable(text);
            assert!(!hidden(&shown), "{text:?}");
            assert_eq!(printable(&shown), shown);
            let short = shortened(text, 40);
            assert!(short.len() <= 40 && !hidden(&short), "{text:?}");
            // What is hidden here is escaped in a quoted value of the log as well.
            assert!(!hidden(&format!("{text:?}")), "{text:?}");
        };
        for letter in '\0'..=char::MAX {
            check(letter.encode_utf8(&mut [0; 4]));
        }
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..20_000 {
            let odd = ['\u{1b}', '\n', '\u{202e}', '\u{9d}', '\\', '"', ' ', 'é', '{'];
            let letter = |random: &mut fastrand::Rng| {
                if random.bool() { random.choice(odd).unwrap() } else { random.char(..) }
            };
            let length = random.usize(..60);
            check(&(0..length).map(|_| letter(&mut random)).collect::<String>());
        }
    }
}
