//! The conditions of a stored object: what is kept of them, and the patch that changes them.

use super::{Is, Kind, Reason, Wanted};
use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::Timestamp,
};
use serde_json::{Value, json};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

/// Tells whether two conditions say the same. What the cluster refuses counts, and not in which words: those of a webhook
/// may be others each time.
pub(super) fn digest(is: &str, reason: &str, message: &str) -> u64 {
    let what = message.split_once(':').map_or(message, |(what, _)| what);
    let message = if reason == Reason::WriteRefused.as_str() { what } else { message };
    let mut hasher = DefaultHasher::new();
    (is, reason, message).hash(&mut hasher);
    hasher.finish()
}

/// A stored condition, as far as decisions need it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    is: Is,
    reason: Reason,
    /// Its place in the stored list.
    at: u16,
    /// The lower half of its `observedGeneration`.
    generation: u32,
    /// Unix seconds of `lastTransitionTime`.
    since: i64,
    digest: u64,
}

/// How much of a status is stored: a JSON patch can only change what is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Shape {
    /// No status at all.
    #[default]
    Nothing,
    /// A status without a list of conditions.
    NoList,
    /// A list of conditions of this length.
    List(u16),
}

/// The stored conditions of one object: what those of ours say, and where they are in the list. Of the conditions of
/// other writers nothing is kept, whatever their number and size: a patch changes ours in place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    ours: [Option<Stored>; 4],
    shape: Shape,
}

impl Conditions {
    /// Reads the stored list; `None` where the object has no status.
    #[must_use]
    pub fn read(list: Option<impl IntoIterator<Item = Condition>>) -> Self {
        let Some(list) = list else { return Self::default() };
        let mut conditions = Self { shape: Shape::NoList, ..Self::default() };
        for condition in list {
            conditions.push(&condition);
        }
        conditions
    }

    /// Reads those that the operator may have written, each with its place in a stored list of this length.
    #[must_use]
    pub fn read_sparse(ours: impl IntoIterator<Item = (usize, Condition)>, length: usize) -> Self {
        let mut conditions = Self::none();
        for (at, condition) in ours {
            if let Ok(at) = u16::try_from(at) {
                conditions.shape = Shape::List(at);
                conditions.push(&condition);
            }
        }
        if length > 0 {
            conditions.shape = Shape::List(u16::try_from(length).unwrap_or(u16::MAX));
        }
        conditions
    }

    /// A status without a list of conditions.
    #[must_use]
    pub fn none() -> Self {
        Self { shape: Shape::NoList, ..Self::default() }
    }

    /// Takes the next condition of the stored list.
    pub fn push(&mut self, condition: &Condition) {
        let at = match self.shape {
            Shape::List(length) => length,
            Shape::Nothing | Shape::NoList => 0,
        };
        self.shape = Shape::List(at.saturating_add(1));
        let place = Kind::ALL.iter().position(|kind| kind.as_str() == condition.type_);
        if let Some(place) = place.and_then(|place| self.ours.get_mut(place)) {
            *place = Some(Stored::read(condition, at));
        }
    }

    fn get(&self, kind: Kind) -> Option<&Stored> {
        self.ours.get(kind as usize).and_then(Option::as_ref)
    }

    /// Whether the condition is there and True.
    #[must_use]
    pub fn is_true(&self, kind: Kind) -> bool {
        self.get(kind).is_some_and(|stored| stored.is == Is::True)
    }

    /// The condition as it is stored, where it is there.
    #[must_use]
    pub fn kept(&self, kind: Kind) -> Option<Wanted> {
        self.get(kind).map(|stored| Wanted {
            kind,
            is: stored.is,
            reason: stored.reason,
            message: String::new(),
            kept: true,
        })
    }

    /// The status of the condition, where it is there.
    #[must_use]
    pub fn is(&self, kind: Kind) -> Option<Is> {
        self.get(kind).map(|stored| stored.is)
    }

    /// The reason of the condition, where it is there.
    #[must_use]
    pub fn reason(&self, kind: Kind) -> Option<Reason> {
        self.get(kind).map(|stored| stored.reason)
    }

    /// Unix seconds since which the condition has its status, where it is there.
    #[must_use]
    pub fn since(&self, kind: Kind) -> Option<i64> {
        self.get(kind).map(|stored| stored.since)
    }

    /// Whether what is stored already says what is wanted, no more and no less.
    #[must_use]
    pub fn say(&self, wanted: &[Wanted], generation: i64) -> bool {
        Kind::ALL.iter().all(|kind| {
            let want = wanted.iter().find(|wanted| wanted.kind == *kind);
            match (want, self.get(*kind)) {
                (None, None) => true,
                (Some(want), Some(stored)) => {
                    stored.generation == lower_half(generation)
                        && (want.kept || want.digest() == stored.digest)
                }
                _ => false,
            }
        })
    }

    /// The list to be where none of others is stored. `lastTransitionTime` moves only with the status.
    #[must_use]
    pub fn with(&self, wanted: &[Wanted], generation: i64, now: Timestamp) -> Vec<Condition> {
        wanted.iter().map(|want| self.condition(want, generation, now)).collect()
    }

    fn condition(&self, want: &Wanted, generation: i64, now: Timestamp) -> Condition {
        let since = self
            .get(want.kind)
            .filter(|stored| stored.is == want.is)
            .and_then(|stored| Timestamp::from_second(stored.since).ok())
            .unwrap_or(now);
        Condition {
            type_: want.kind.as_str().to_owned(),
            status: want.is.as_str().to_owned(),
            reason: want.reason.as_str().to_owned(),
            message: want.message.clone(),
            observed_generation: Some(generation),
            last_transition_time: Time(since),
        }
    }

    /// The JSON patch that makes the stored status say `wanted`, with these other `fields` of it. Conditions of other
    /// writers stay where they are. The patch fits the stored list of this very `resourceVersion` only.
    #[must_use]
    pub fn patch(
        &self,
        wanted: &[Wanted],
        generation: i64,
        fields: impl IntoIterator<Item = (&'static str, Value)>,
        now: Timestamp,
    ) -> Vec<Value> {
        let add = |path: String, value: Value| json!({"op": "add", "path": path, "value": value});
        if self.shape == Shape::Nothing {
            let mut status: serde_json::Map<_, _> =
                fields.into_iter().map(|(field, value)| (field.to_owned(), value)).collect();
            status.insert("conditions".to_owned(), json!(self.with(wanted, generation, now)));
            return vec![add("/status".to_owned(), Value::Object(status))];
        }
        let mut patch: Vec<Value> =
            fields.into_iter().map(|(field, value)| add(format!("/status/{field}"), value)).collect();
        if self.shape == Shape::NoList {
            patch.push(add("/status/conditions".to_owned(), json!(self.with(wanted, generation, now))));
            return patch;
        }
        let mut gone = Vec::new();
        for kind in Kind::ALL {
            let want = wanted.iter().find(|want| want.kind == kind);
            match (want, self.get(kind)) {
                (None, None) => {}
                (None, Some(stored)) => gone.push(stored.at),
                (Some(want), Some(stored)) if want.kept => {
                    let place = format!("/status/conditions/{}/observedGeneration", stored.at);
                    patch.push(add(place, generation.into()));
                }
                (Some(want), stored) => {
                    let condition = json!(self.condition(want, generation, now));
                    patch.push(match stored {
                        Some(Stored { at, .. }) => {
                            json!({"op": "replace", "path": format!("/status/conditions/{at}"), "value": condition})
                        }
                        None => add("/status/conditions/-".to_owned(), condition),
                    });
                }
            }
        }
        // From the end, so that the places of the others stay true.
        gone.sort_unstable();
        let gone = gone.into_iter().rev();
        patch.extend(gone.map(|at| json!({"op": "remove", "path": format!("/status/conditions/{at}")})));
        patch
    }
}

const fn lower_half(generation: i64) -> u32 {
    let [.., a, b, c, d] = generation.to_be_bytes();
    u32::from_be_bytes([a, b, c, d])
}

impl Stored {
    fn read(condition: &Condition, at: u16) -> Self {
        let is = match condition.status.as_str() {
            "True" => Is::True,
            "False" => Is::False,
            _ => Is::Unknown,
        };
        Self {
            is,
            reason: Reason::parse(&condition.reason),
            at,
            generation: lower_half(condition.observed_generation.unwrap_or_default()),
            since: condition.last_transition_time.0.as_second(),
            digest: digest(&condition.status, &condition.reason, &condition.message),
        }
    }
}
