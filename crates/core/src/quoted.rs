//! Values of log lines as text that can be read back. Pure.

use crate::printable::printable;

/// `value` as it stands in a line of text: bare, or as a quoted string of Rust where it holds a blank, `=`, a quote, a
/// backslash, or what is no letter. So no value can look like another field, and none starts a line.
#[must_use]
pub fn quote(value: String) -> String {
    let plain = |c: char| !(c.is_whitespace() || "=\"\\".contains(c));
    if value.chars().all(plain) && printable(&value) == value { value } else { format!("{value:?}") }
}

/// The value that begins `text` as [`quote`] wrote it, and what follows it; `None` where nothing of that kind begins it.
#[must_use]
pub fn unquote(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let (value, rest) = text.split_at(text.find(' ').unwrap_or(text.len()));
        return (!value.contains('"')).then(|| (value.to_owned(), rest));
    };
    let mut value = String::new();
    let mut letters = quoted.chars();
    loop {
        value.push(match letters.next()? {
            '"' => break,
            '\\' => match letters.next()? {
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                '0' => '\0',
                'u' => {
                    let (code, rest) = letters.as_str().strip_prefix('{')?.split_once('}')?;
                    letters = rest.chars();
                    char::from_u32(u32::from_str_radix(code, 16).ok()?)?
                }
                same @ ('"' | '\'' | '\\') => same,
                _ => return None,
            },
            letter => letter,
        });
    }
    let rest = letters.as_str();
    (rest.is_empty() || rest.starts_with(' ')).then_some((value, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_quoted_is_read_back() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..20_000 {
            let odd = ['\u{1b}', '\n', '\u{202e}', '\\', '"', '\'', ' ', '=', 'é', '\u{301}', '\0', 'a'];
            let length = random.usize(..12);
            let letter = |random: &mut fastrand::Rng| {
                if random.u8(..) > 9 { random.choice(odd).unwrap() } else { random.char(..) }
            };
            let text: String = (0..length).map(|_| letter(&mut random)).collect();
            let line = format!("{} code=0", quote(text.clone()));
            assert_eq!(unquote(&line), Some((text, " code=0")), "{line}");
        }
        for none in ["\"open", "\"a\"b", "a\"b", "\"\\x\"", "\"\\u{110000}\"", "\"\\u1\""] {
            assert_eq!(unquote(none), None, "{none}");
        }
    }
}
