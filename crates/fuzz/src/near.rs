//! Inputs near others: what `cargo test` runs beside the corpus. Always the same for the same seed.

use fastrand::Rng;

/// Makes inputs from a corpus and words.
#[derive(Debug)]
pub struct Near<'a> {
    random: Rng,
    corpus: &'a [Vec<u8>],
    words: &'a [Vec<u8>],
}

impl<'a> Near<'a> {
    /// Makes inputs from `corpus`, which must not be empty, and `words`.
    #[must_use]
    pub fn new(seed: u64, corpus: &'a [Vec<u8>], words: &'a [Vec<u8>]) -> Self {
        Self { random: Rng::with_seed(seed), corpus, words }
    }

    /// The next.
    pub fn make(&mut self) -> Vec<u8> {
        let mut bytes = self.random.choice(self.corpus).cloned().unwrap_or_default();
        for _ in 0..self.random.u8(1..6) {
            self.change(&mut bytes);
        }
        bytes
    }

    /// A place to change, and another behind it that is not far.
    fn range(&mut self, length: usize) -> std::ops::Range<usize> {
        let begin = self.random.usize(..=length);
        begin..(begin + self.random.usize(..16)).min(length)
    }

    fn change(&mut self, bytes: &mut Vec<u8>) {
        let place = self.range(bytes.len());
        match self.random.u8(..6) {
            0 => drop(bytes.drain(place)),
            1 => {
                let again = bytes[place.clone()].to_vec();
                bytes.splice(place.end..place.end, again);
            }
            2 => {
                let byte = self.random.choice(b"\"\\{}[],:=\n \0\x1b\xff%@/#?0-".iter().copied());
                bytes.splice(place, byte);
            }
            3 => {
                if let Some(byte) = bytes.get_mut(place.start) {
                    *byte ^= 1 << self.random.u8(..8);
                }
            }
            4 => {
                let word = self.random.choice(self.words).cloned().unwrap_or_default();
                bytes.splice(place, word);
            }
            _ => {
                let other = self.random.choice(self.corpus).map_or(&[][..], Vec::as_slice);
                let (from, to) = (self.random.usize(..=other.len()), self.random.usize(..=other.len()));
                bytes.splice(place, other[from.min(to)..from.max(to)].iter().copied());
            }
        }
    }
}

/// The words of a dictionary in libFuzzer's form: one in quotes on each line, with `\\`, `\"` and `\xNN`.
#[must_use]
pub fn words(dictionary: &str) -> Vec<Vec<u8>> {
    let quoted = |line: &str| Some(line.trim().strip_prefix('"')?.strip_suffix('"')?.to_owned());
    dictionary.lines().filter_map(quoted).map(|word| unescape(word.as_bytes())).collect()
}

fn unescape(word: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    let mut rest = word;
    while let [byte, after @ ..] = rest {
        rest = after;
        plain.push(match (byte, rest) {
            (b'\\', [b'x', a, b, after @ ..]) => {
                rest = after;
                u8::from_str_radix(std::str::from_utf8(&[*a, *b]).unwrap(), 16).unwrap()
            }
            (b'\\', [same, after @ ..]) => {
                rest = after;
                *same
            }
            (byte, _) => *byte,
        });
    }
    plain
}
