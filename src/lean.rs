//! Answers of the API server without what nobody here reads: they cost no more memory than what is read of them.
//!
//! Pure but for [`Lean`], which stands between `kube` and the connection. Whoever may write a `RoomRobot` may store a
//! megabyte beside its spec: annotations, labels, managed fields, conditions and finalizers of others. `kube` collects
//! a whole page of a list before it reads it. So each answer is reduced byte by byte as it comes, before it is
//! collected; nothing of what is left out is ever held.
//!
//! Places are kept: in `status.conditions` and `metadata.finalizers` of a `RoomRobot`, where the operator writes by
//! place, a number stands for so many elements of others in a row. [`Sparse`](roomrobot_core::sparse::Sparse) reads both forms.

use hyper::{
    Method, Request, Response, Uri,
    body::{Body, Bytes, Frame},
    header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE},
};
use kube::Resource as _;
use memchr::{memchr, memchr2};
use roomrobot_core::{
    crd::{GROUP, ROBOT_FINALIZER, RoomRobot, RtcApplication},
    status::Kind,
};
use std::{
    borrow::Cow,
    future::Future,
    mem,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tower::{BoxError, Layer, Service};

/// The longest text of an object that is kept, in bytes of JSON. Names and what the room engine takes are shorter, so
/// what is cut here is refused or not found as the whole would be.
const TEXT: usize = 1024;

/// The same for the message of a condition: longer than any that the operator writes, however many characters of it JSON
/// has to escape.
const MESSAGE: usize = 8 * 1024;

/// The longest name of a field where fields are looked at one by one.
const FIELD: usize = 64 * 1024;

/// What is kept of a value.
#[derive(Debug)]
enum Rule {
    /// All of it.
    Keep,
    /// Nothing, nor the name of its field.
    Drop,
    /// A string, up to so many bytes.
    Text(usize),
    /// The same; by this string it is told whether the element of a list that it is in, or that it is, is ours.
    Name,
    /// Fields of an object, each by its rule, and the rule for all others.
    Fields(&'static [(&'static str, Rule)], &'static Rule),
    /// Each element of a list.
    Each(&'static Rule),
    /// The elements of a list that are the operator's, by this rule, and what stands for one of others.
    Ours(&'static Rule, fn(&[u8]) -> bool, Others),
}

/// What stands for the elements of others.
#[derive(Clone, Copy, Debug)]
enum Others {
    /// A number for all in a row.
    Count,
    /// These bytes for each.
    Each(&'static [u8]),
}

const CONDITION: Rule = Rule::Fields(
    &[
        ("type", Rule::Name),
        ("status", Rule::Text(TEXT)),
        ("reason", Rule::Text(TEXT)),
        ("message", Rule::Text(MESSAGE)),
        ("observedGeneration", Rule::Keep),
        ("lastTransitionTime", Rule::Text(TEXT)),
    ],
    &Rule::Drop,
);

/// The fields of `metadata` that are kept of every kind, and these.
macro_rules! metadata {
    ($($field:literal: $rule:expr),*) => {
        Rule::Fields(
            &[
                ("name", Rule::Text(TEXT)),
                ("namespace", Rule::Text(TEXT)),
                ("uid", Rule::Text(TEXT)),
                ("resourceVersion", Rule::Text(TEXT)),
                ("generation", Rule::Keep),
                ("creationTimestamp", Rule::Text(TEXT)),
                ("deletionTimestamp", Rule::Text(TEXT)),
                $(($field, $rule),)*
            ],
            &Rule::Drop,
        )
    };
}

/// A `RoomRobot`, of which a tenant may have stored any number, and anything beside the spec. What has another shape,
/// such as the `Status` of a refusal, is kept.
const ROBOT: Rule = Rule::Fields(
    &[
        ("metadata", metadata!("finalizers": Rule::Ours(&Rule::Name, is_our_finalizer, Others::Count))),
        (
            "spec",
            Rule::Fields(
                &[
                    ("roomId", Rule::Text(TEXT)),
                    ("memberAccount", Rule::Text(TEXT)),
                    ("applicationRef", Rule::Fields(&[("name", Rule::Text(TEXT))], &Rule::Drop)),
                    ("creationPolicy", Rule::Text(TEXT)),
                    ("deletionPolicy", Rule::Text(TEXT)),
                    ("suspend", Rule::Keep),
                ],
                &Rule::Drop,
            ),
        ),
        (
            "status",
            Rule::Fields(
                &[
                    ("observedGeneration", Rule::Keep),
                    ("conditions", Rule::Ours(&CONDITION, is_our_condition, Others::Count)),
                    (
                        "lastRequest",
                        Rule::Fields(
                            &[
                                ("operation", Rule::Text(TEXT)),
                                ("requestId", Rule::Text(TEXT)),
                                ("errorCode", Rule::Keep),
                            ],
                            &Rule::Drop,
                        ),
                    ),
                ],
                &Rule::Drop,
            ),
        ),
    ],
    &Rule::Keep,
);

/// What stands for a condition of others where readers know no numbers: a condition must have a time.
const OTHER_CONDITION: &[u8] = br#"{"type":"","lastTransitionTime":"1970-01-01T00:00:00Z"}"#;

/// An `RtcApplication`, which administrators write: there are few. Its readers know no numbers among conditions.
const APPLICATION: Rule = Rule::Fields(
    &[
        ("metadata", metadata!("finalizers": Rule::Keep)),
        (
            "status",
            Rule::Fields(
                &[
                    ("conditions", Rule::Ours(&CONDITION, is_our_condition, Others::Each(OTHER_CONDITION))),
                    ("robots", Rule::Keep),
                    ("deleting", Rule::Keep),
                ],
                &Rule::Drop,
            ),
        ),
    ],
    &Rule::Keep,
);

/// A namespace; its labels select it.
const NAMESPACE: Rule = Rule::Fields(&[("metadata", metadata!("labels": Rule::Keep))], &Rule::Keep);

/// The shapes in which objects of a kind come: one, a list of them, and events of a watch, one in a line.
struct Shapes {
    object: Rule,
    list: Rule,
    event: Rule,
}

macro_rules! shapes {
    ($name:ident, $object:expr) => {
        static $name: Shapes = Shapes {
            object: $object,
            list: Rule::Fields(&[("items", Rule::Each(&$object))], &Rule::Keep),
            event: Rule::Fields(&[("object", $object)], &Rule::Keep),
        };
    };
}

shapes!(ROBOTS, ROBOT);
shapes!(APPLICATIONS, APPLICATION);
shapes!(NAMESPACES, NAMESPACE);

fn is_our_condition(kind: &[u8]) -> bool {
    Kind::ALL.iter().any(|ours| ours.as_str().as_bytes() == kind)
}

fn is_our_finalizer(name: &[u8]) -> bool {
    name == ROBOT_FINALIZER.as_bytes()
}

/// How the answer to this request is reduced; `None` where it is not.
fn rule(method: &Method, uri: &Uri) -> Option<&'static Rule> {
    let mut path = uri.path().split('/').filter(|segment| !segment.is_empty());
    let (shapes, named) = match path.next()? {
        "apis" if path.next()? == GROUP => {
            let _version = path.next()?;
            let mut plural = path.next()?;
            if plural == "namespaces" {
                let _namespace = path.next()?;
                plural = path.next()?;
            }
            let shapes = if plural == RoomRobot::plural(&()) {
                &ROBOTS
            } else if plural == RtcApplication::plural(&()) {
                &APPLICATIONS
            } else {
                return None;
            };
            (shapes, path.next().is_some())
        }
        "api" if path.next()? == "v1" && path.next()? == "namespaces" => {
            let named = path.next().is_some();
            if path.next().is_some() {
                return None;
            }
            (&NAMESPACES, named)
        }
        _ => return None,
    };
    let watched = || uri.query().is_some_and(|query| query.split('&').any(|pair| pair == "watch=true"));
    match (method, named) {
        (&Method::GET, false) if watched() => Some(&shapes.event),
        (&Method::GET, false) => Some(&shapes.list),
        (&Method::DELETE, _) => None,
        _ => Some(&shapes.object),
    }
}

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
struct Level {
    rule: &'static Rule,
    object: bool,
    /// Something of it was written, so that the next needs a comma.
    begun: bool,
    /// Elements of others since the last one of ours.
    others: u64,
}

/// How far an escape in a string is.
#[derive(Clone, Copy, Debug)]
enum Escape {
    None,
    Begun,
    /// So many hexadecimal digits, and their value.
    Unicode(u8, u16),
}

/// What is expected next.
#[derive(Clone, Copy, Debug)]
enum State {
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
struct Reducer {
    root: &'static Rule,
    state: State,
    levels: Vec<Level>,
    /// The rule of the value that comes.
    rule: &'static Rule,
    /// The name of its field, as it stands in the JSON.
    field: Vec<u8>,
    out: Vec<u8>,
    /// From here on, what was written is of an element that may turn out to be of others.
    held: Option<usize>,
    /// Where its name is, from there.
    name: Option<(usize, usize)>,
}

/// The first `count` bytes, and the rest.
fn split(bytes: &[u8], count: usize) -> (&[u8], &[u8]) {
    bytes.split_at_checked(count).unwrap_or((bytes, &[]))
}

/// What a string says, of what stands between its quotes.
fn plain(raw: &[u8]) -> Cow<'_, [u8]> {
    if memchr(b'\\', raw).is_none() {
        return raw.into();
    }
    let quoted = [b"\"", raw, b"\""].concat();
    serde_json::from_slice::<String>(&quoted).map_or(raw.into(), |text| text.into_bytes().into())
}

impl Reducer {
    fn new(root: &'static Rule) -> Self {
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
    fn push(&mut self, mut input: &[u8]) -> Result<Vec<u8>, Malformed> {
        while !input.is_empty() {
            input = self.step(input)?;
        }
        let held = self.held.map(|at| self.out.split_off(at)).unwrap_or_default();
        self.held = self.held.map(|_| 0);
        Ok(mem::replace(&mut self.out, held))
    }

    /// Whether the input may end here.
    const fn is_complete(&self) -> bool {
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

/// The body of an answer, reduced or as it is.
#[derive(Debug)]
pub struct Reduced<B> {
    body: B,
    reducer: Option<Reducer>,
    /// Events of a watch may end at any time: what is missing comes with the next one.
    endless: bool,
}

impl<B: Body<Data = Bytes, Error: Into<BoxError>> + Unpin> Body for Reduced<B> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        loop {
            let frame = match ready!(Pin::new(&mut this.body).poll_frame(context)) {
                Some(Ok(frame)) => frame,
                Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                None => {
                    let complete = this.reducer.take().is_none_or(|reducer| reducer.is_complete());
                    let short = (!complete && !this.endless).then(|| Err(Malformed::Short.into()));
                    return Poll::Ready(short);
                }
            };
            let Some(reducer) = &mut this.reducer else { return Poll::Ready(Some(Ok(frame))) };
            let Ok(data) = frame.into_data() else { continue };
            match reducer.push(&data) {
                Ok(out) if out.is_empty() => {}
                Ok(out) => return Poll::Ready(Some(Ok(Frame::data(out.into())))),
                Err(error) => return Poll::Ready(Some(Err(error.into()))),
            }
        }
    }
}

/// Reduces the answers about RoomRobots, RtcApplications and namespaces.
#[derive(Clone, Copy, Debug, Default)]
pub struct LeanLayer;

impl<S> Layer<S> for LeanLayer {
    type Service = Lean<S>;

    fn layer(&self, inner: S) -> Lean<S> {
        Lean { inner }
    }
}

/// What [`LeanLayer`] makes.
#[derive(Clone, Debug)]
pub struct Lean<S> {
    inner: S,
}

impl<S, Q, B> Service<Request<Q>> for Lean<S>
where
    S: Service<Request<Q>, Response = Response<B>, Future: Send + 'static>,
{
    type Response = Response<Reduced<B>>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Q>) -> Self::Future {
        let rule = rule(request.method(), request.uri());
        let answer = self.inner.call(request);
        Box::pin(async move { answer.await.map(|answer| reduced(answer, rule)) })
    }
}

fn reduced<B>(answer: Response<B>, rule: Option<&'static Rule>) -> Response<Reduced<B>> {
    let (mut head, body) = answer.into_parts();
    let json =
        head.headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    let readable = head.status.is_success() && json && !head.headers.contains_key(CONTENT_ENCODING);
    let rule = rule.filter(|_| readable);
    if rule.is_some() {
        head.headers.remove(CONTENT_LENGTH);
    }
    let events = [&ROBOTS.event, &APPLICATIONS.event, &NAMESPACES.event];
    let endless = rule.is_some_and(|rule| events.iter().any(|event| std::ptr::eq(*event, rule)));
    Response::from_parts(head, Reduced { body, reducer: rule.map(Reducer::new), endless })
}

#[cfg(test)]
mod tests;
