//! Reduces JSON byte by byte as it comes, by a rule. One automaton in one file, though that is long: its steps cannot be
//! understood apart.

use super::rules::{FIELD, Others, Rule, TEXT};
use memchr::{memchr, memchr2};
use std::{borrow::Cow, mem};

/// Why an answer cannot be reduced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It ended before the JSON did.
    #[error("its answer ended in the middle")]
    Short,
    /// It is not JSON.
    #[error("its answer is not JSON")]
    NotJson,
    /// A name of a field that no object has.
    #[error("its answer has a field whose name is longer than {FIELD} bytes")]
    LongField,
}

/// An object or a list that is being reduced.
#[derive(Debug)]
pub(super) struct Level {
    pub(super) rule: &'static Rule,
    pub(super) object: bool,
    /// Something of it was written, so that the next needs a comma.
    pub(super) begun: bool,
    /// Elements of others since the last one of ours.
    pub(super) others: u64,
}

/// How far an escape in a string is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Escape {
    None,
    Begun,
    /// So many hexadecimal digits, and their value.
    Unicode(u8, u16),
}

/// What is expected next.
#[derive(Clone, Copy, Debug)]
pub(super) enum State {
    /// A document.
    Start,
    /// A field or the end of the object.
    Field,
    /// More of the name of a field; the last byte was a backslash.
    Name { escaped: bool },
    /// The colon after it.
    Colon,
    /// The value after it.
    Value,
    /// An element or the end of the list.
    Element,
    /// More of a string that may become too long.
    Text {
        left: usize,
        escape: Escape,
        /// The last was the first half of a pair.
        half: bool,
    },
    /// More of a number, or of `true`, `false` or `null`.
    Scalar { kept: bool },
    /// More of a value that is kept or left out as a whole.
    Whole { kept: bool, depth: usize, string: bool, escaped: bool },
    /// More of what is not JSON, which is for somebody else to say.
    Other,
}

/// Reduces JSON as it comes.
#[derive(Debug)]
pub(super) struct Reducer {
    pub(super) root: &'static Rule,
    pub(super) state: State,
    pub(super) levels: Vec<Level>,
    /// The rule of the value that comes.
    pub(super) rule: &'static Rule,
    /// The name of its field, as it stands in the JSON.
    pub(super) field: Vec<u8>,
    pub(super) out: Vec<u8>,
    /// From here on, what was written is of an element that may turn out to be of others.
    pub(super) held: Option<usize>,
    /// Where its name is, from there.
    pub(super) name: Option<(usize, usize)>,
}

/// The first `count` bytes, and the rest.
pub(super) fn split(bytes: &[u8], count: usize) -> (&[u8], &[u8]) {
    bytes.split_at_checked(count).unwrap_or((bytes, &[]))
}

/// What a string says, of what stands between its quotes.
pub(super) fn plain(raw: &[u8]) -> Cow<'_, [u8]> {
    if memchr(b'\\', raw).is_none() {
        return raw.into();
    }
    let quoted = [b"\"", raw, b"\""].concat();
    serde_json::from_slice::<String>(&quoted).map_or(raw.into(), |text| text.into_bytes().into())
}

impl Reducer {
    pub(super) fn new(root: &'static Rule) -> Self {
        Self {
            root,
            state: State::Start,
            levels: Vec::new(),
            rule: root,
            field: Vec::new(),
            out: Vec::new(),
            held: None,
            name: None,
        }
    }

    /// Takes what came, and returns what can be handed on.
    pub(super) fn push(&mut self, mut input: &[u8]) -> Result<Vec<u8>, Malformed> {
        while !input.is_empty() {
            input = self.step(input)?;
        }
        let held = self.held.map(|at| self.out.split_off(at)).unwrap_or_default();
        self.held = self.held.map(|_| 0);
        Ok(mem::replace(&mut self.out, held))
    }

    /// Whether the input may end here.
    pub(super) const fn is_complete(&self) -> bool {
        matches!(self.state, State::Start | State::Other)
    }

    /// Takes as much as belongs together, and returns the rest.
    fn step<'a>(&mut self, input: &'a [u8]) -> Result<&'a [u8], Malformed> {
        let Some((&byte, rest)) = input.split_first() else { return Ok(input) };
        match self.state {
            State::Text { left, escape, half } => return Ok(self.text(input, left, escape, half)),
            State::Scalar { kept } => return Ok(self.scalar(input, kept)),
            State::Whole { .. } => return Ok(self.whole(input)),
            State::Name { escaped } => return self.field_name(input, escaped),
            State::Other => {
                self.out.extend_from_slice(input);
                return Ok(&[]);
            }
            _ if byte.is_ascii_whitespace() => return Ok(rest),
            State::Start if byte == b'{' => {
                self.rule = self.root;
                self.begin_value(byte);
            }
            State::Start => {
                self.state = State::Other;
                return Ok(input);
            }
            State::Field => match byte {
                b'"' => {
                    self.field.clear();
                    self.state = State::Name { escaped: false };
                }
                b',' => {}
                b'}' => self.end_level(byte),
                _ => return Err(Malformed::NotJson),
            },
            State::Colon if byte == b':' => self.state = State::Value,
            State::Colon => return Err(Malformed::NotJson),
            State::Element => match byte {
                b',' => {}
                b']' => self.end_level(byte),
                b'}' | b':' => return Err(Malformed::NotJson),
                _ => {
                    self.begin_element();
                    return Ok(self.value(input, byte, rest));
                }
            },
            State::Value if matches!(byte, b',' | b']' | b'}' | b':') => return Err(Malformed::NotJson),
            State::Value => return Ok(self.value(input, byte, rest)),
        }
        Ok(rest)
    }

    fn value<'a>(&mut self, input: &'a [u8], byte: u8, rest: &'a [u8]) -> &'a [u8] {
        // A number begins with what belongs to it.
        if self.begin_value(byte) { rest } else { input }
    }

    fn field_name<'a>(&mut self, input: &'a [u8], escaped: bool) -> Result<&'a [u8], Malformed> {
        let end = if escaped { Some(0) } else { memchr2(b'"', b'\\', input) };
        let (taken, rest) = split(input, end.unwrap_or(input.len()));
        self.field.extend_from_slice(taken);
        if self.field.len() > FIELD {
            return Err(Malformed::LongField);
        }
        let Some((&byte, rest)) = rest.split_first() else { return Ok(rest) };
        if !escaped && byte == b'"' {
            self.begin_field();
        } else {
            self.field.push(byte);
            self.state = State::Name { escaped: !escaped };
        }
        Ok(rest)
    }

    /// The name of a field is complete.
    fn begin_field(&mut self) {
        self.state = State::Colon;
        let Some(level) = self.levels.last_mut() else { return };
        self.rule = match level.rule {
            Rule::Fields(fields, others) => {
                let name = plain(&self.field);
                let known = fields.iter().find(|(known, _)| known.as_bytes() == &*name);
                known.map_or(others, |(_, rule)| rule)
            }
            _ => &Rule::Keep,
        };
        if !matches!(self.rule, Rule::Drop) {
            if mem::replace(&mut level.begun, true) {
                self.out.push(b',');
            }
            self.out.push(b'"');
            self.out.extend_from_slice(&self.field);
            self.out.extend_from_slice(b"\":");
        }
    }

    fn begin_element(&mut self) {
        let Some(level) = self.levels.last_mut() else { return };
        match level.rule {
            Rule::Ours(rule, ..) => {
                self.rule = rule;
                self.held = Some(self.out.len());
                self.name = None;
            }
            other => {
                self.rule = if let Rule::Each(rule) = other { rule } else { &Rule::Keep };
                if mem::replace(&mut level.begun, true) {
                    self.out.push(b',');
                }
            }
        }
    }

    /// Begins a value with its first byte, and returns whether that is done with.
    fn begin_value(&mut self, byte: u8) -> bool {
        match (self.rule, byte) {
            (Rule::Fields(..), b'{') => self.begin_level(byte, State::Field),
            (Rule::Each(_) | Rule::Ours(..), b'[') => self.begin_level(byte, State::Element),
            (Rule::Text(left), b'"') => self.begin_text(*left),
            (Rule::Name, b'"') => {
                self.begin_text(TEXT);
                let start = self.out.len() - self.held.unwrap_or_default();
                self.name = Some((start, start));
            }
            (rule, _) => return self.begin_whole(byte, !matches!(rule, Rule::Drop)),
        }
        true
    }

    fn begin_level(&mut self, byte: u8, state: State) {
        self.out.push(byte);
        self.levels.push(Level { rule: self.rule, object: byte == b'{', begun: false, others: 0 });
        self.state = state;
    }

    fn begin_text(&mut self, left: usize) {
        self.out.push(b'"');
        self.state = State::Text { left, escape: Escape::None, half: false };
    }

    fn begin_whole(&mut self, byte: u8, kept: bool) -> bool {
        let (depth, string) = match byte {
            b'"' => (0, true),
            b'{' | b'[' => (1, false),
            _ => {
                self.state = State::Scalar { kept };
                return false;
            }
        };
        if kept {
            self.out.push(byte);
        }
        self.state = State::Whole { kept, depth, string, escaped: false };
        true
    }

    fn end_level(&mut self, byte: u8) {
        if let Some(level) = self.levels.pop()
            && level.others > 0
        {
            self.write_others(level.others, level.begun);
        }
        self.out.push(byte);
        self.end_value();
    }

    /// A value is complete, whichever it was.
    fn end_value(&mut self) {
        let Some(level) = self.levels.last_mut() else {
            // Each event of a watch is read to the end of its line.
            self.out.push(b'\n');
            self.state = State::Start;
            return;
        };
        self.state = if level.object { State::Field } else { State::Element };
        let (Rule::Ours(_, is_ours, others), Some(at)) = (level.rule, self.held) else { return };
        self.held = None;
        let name = self.name.and_then(|(start, end)| self.out.get(at + start..at + end)).unwrap_or_default();
        let element = if is_ours(&plain(name)) { Some(self.out.split_off(at)) } else { None };
        self.out.truncate(at);
        match (element, others) {
            (None, Others::Count) => level.others += 1,
            (None, Others::Each(bytes)) => {
                if mem::replace(&mut level.begun, true) {
                    self.out.push(b',');
                }
                self.out.extend_from_slice(bytes);
            }
            (Some(element), _) => {
                let (others, begun) = (mem::take(&mut level.others), mem::replace(&mut level.begun, true));
                if others > 0 {
                    self.write_others(others, begun);
                }
                if others > 0 || begun {
                    self.out.push(b',');
                }
                self.out.extend_from_slice(&element);
            }
        }
    }

    fn write_others(&mut self, count: u64, begun: bool) {
        if begun {
            self.out.push(b',');
        }
        self.out.extend_from_slice(count.to_string().as_bytes());
    }

    fn end_text(&mut self) {
        let end = self.out.len() - self.held.unwrap_or_default();
        if let (Rule::Name, Some((_, name))) = (self.rule, &mut self.name) {
            *name = end;
        }
        self.out.push(b'"');
    }

    /// A string that is cut where it is too long: never within a character, an escape or a pair of them.
    fn text<'a>(&mut self, input: &'a [u8], left: usize, escape: Escape, half: bool) -> &'a [u8] {
        let ordinary = match escape {
            Escape::None => {
                let (window, _) = split(input, left);
                memchr2(b'"', b'\\', window).unwrap_or(window.len())
            }
            _ => 0,
        };
        if ordinary > 0 {
            let (taken, rest) = split(input, ordinary);
            self.out.extend_from_slice(taken);
            self.state = State::Text { left: left - ordinary, escape, half: false };
            return rest;
        }
        let Some((&byte, rest)) = input.split_first() else { return input };
        if matches!(escape, Escape::None) {
            if byte == b'"' {
                self.end_text();
                self.end_value();
                return rest;
            }
            let begins = byte & 0xc0 != 0x80 && !(half && byte == b'\\');
            if left == 0 && begins {
                self.end_text();
                self.state = State::Whole { kept: false, depth: 0, string: true, escaped: false };
                return input;
            }
        }
        let digit = u16::try_from(char::from(byte).to_digit(16).unwrap_or_default()).unwrap_or_default();
        let (escape, half) = match (escape, byte) {
            (Escape::None, b'\\') => (Escape::Begun, half),
            (Escape::Begun, b'u') => (Escape::Unicode(0, 0), half),
            (Escape::Unicode(3, value), _) => (Escape::None, matches!(value << 4 | digit, 0xd800..=0xdbff)),
            (Escape::Unicode(digits, value), _) => (Escape::Unicode(digits + 1, value << 4 | digit), half),
            _ => (Escape::None, false),
        };
        self.out.push(byte);
        self.state = State::Text { left: left.saturating_sub(1), escape, half };
        rest
    }

    fn scalar<'a>(&mut self, input: &'a [u8], kept: bool) -> &'a [u8] {
        let ends = |byte: &u8| matches!(byte, b',' | b']' | b'}') || byte.is_ascii_whitespace();
        let end = input.iter().position(ends);
        let (taken, rest) = split(input, end.unwrap_or(input.len()));
        if kept {
            self.out.extend_from_slice(taken);
        }
        if end.is_some() {
            self.end_value();
        }
        rest
    }

    fn whole<'a>(&mut self, input: &'a [u8]) -> &'a [u8] {
        let State::Whole { kept, mut depth, mut string, mut escaped } = self.state else { return input };
        let mut rest = input;
        let mut ended = false;
        while !ended {
            let Some((&byte, after)) = rest.split_first() else { break };
            if mem::take(&mut escaped) {
                rest = after;
            } else if string {
                let (_, found) = split(rest, memchr2(b'"', b'\\', rest).unwrap_or(rest.len()));
                let Some((&byte, after)) = found.split_first() else {
                    rest = found;
                    break;
                };
                rest = after;
                (string, escaped) = (byte == b'\\', byte == b'\\');
                ended = !string && depth == 0;
            } else {
                rest = after;
                match byte {
                    b'"' => string = true,
                    b'{' | b'[' => depth += 1,
                    b'}' | b']' => {
                        depth -= 1;
                        ended = depth == 0;
                    }
                    _ => {}
                }
            }
        }
        if kept {
            let (taken, _) = split(input, input.len() - rest.len());
            self.out.extend_from_slice(taken);
        }
        if ended {
            self.end_value();
        } else {
            self.state = State::Whole { kept, depth, string, escaped };
        }
        rest
    }
}
