//! What is kept of each kind of answer.

use hyper::{Method, Uri};
use kube::Resource as _;
use roomrobot_core::{
    crd::{GROUP, ROBOT_FINALIZER, RoomRobot, RtcApplication},
    status::Kind,
};

/// The longest text of an object that is kept, in bytes of JSON. Names and what the room engine takes are shorter, so
/// what is cut here is refused or not found as the whole would be.
pub(super) const TEXT: usize = 1024;

/// The same for the message of a condition: longer than any that the operator writes, however many characters of it JSON
/// has to escape.
pub(super) const MESSAGE: usize = 8 * 1024;

/// The longest name of a field where fields are looked at one by one.
pub(super) const FIELD: usize = 64 * 1024;

/// What is kept of a value.
#[derive(Debug)]
pub(super) enum Rule {
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
pub(super) enum Others {
    /// A number for all in a row.
    Count,
    /// These bytes for each.
    Each(&'static [u8]),
}

pub(super) const CONDITION: Rule = Rule::Fields(
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
pub(super) const ROBOT: Rule = Rule::Fields(
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
pub(super) const OTHER_CONDITION: &[u8] = br#"{"type":"","lastTransitionTime":"1970-01-01T00:00:00Z"}"#;

/// An `RtcApplication`, which administrators write: there are few. Its readers know no numbers among conditions.
pub(super) const APPLICATION: Rule = Rule::Fields(
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
pub(super) const NAMESPACE: Rule =
    Rule::Fields(&[("metadata", metadata!("labels": Rule::Keep))], &Rule::Keep);

/// The shapes in which objects of a kind come: one, a list of them, and events of a watch, one in a line.
pub(super) struct Shapes {
    pub(super) object: Rule,
    pub(super) list: Rule,
    pub(super) event: Rule,
}

macro_rules! shapes {
    ($name:ident, $object:expr) => {
        pub(super) static $name: Shapes = Shapes {
            object: $object,
            list: Rule::Fields(&[("items", Rule::Each(&$object))], &Rule::Keep),
            event: Rule::Fields(&[("object", $object)], &Rule::Keep),
        };
    };
}

shapes!(ROBOTS, ROBOT);
shapes!(APPLICATIONS, APPLICATION);
shapes!(NAMESPACES, NAMESPACE);

pub(super) fn is_our_condition(kind: &[u8]) -> bool {
    Kind::ALL.iter().any(|ours| ours.as_str().as_bytes() == kind)
}

pub(super) fn is_our_finalizer(name: &[u8]) -> bool {
    name == ROBOT_FINALIZER.as_bytes()
}

/// How the answer to this request is reduced; `None` where it is not.
pub(super) fn rule(method: &Method, uri: &Uri) -> Option<&'static Rule> {
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
