//! The patch of a status: made from what is stored, it fits what is stored.

use roomrobot_core::status::{Conditions, Is, Kind, Reason, Wanted};
use serde_json::{Value, json};

/// What is kept of a stored object.
pub trait Kept: Sized {
    /// Reads it.
    fn read(object: &Value) -> Option<Self>;
    /// Its conditions.
    fn conditions(&self) -> Conditions;
    /// Its generation.
    fn generation(&self) -> i64;
    /// The patch of its status.
    fn patch(&self, wanted: &[Wanted], choice: &[u8]) -> Vec<Value>;
}

/// Checks that patches made from `object` apply, soon say what is wanted, and leave the conditions of others alone. `choice`
/// chooses what is wanted.
pub fn check<K: Kept>(mut object: Value, choice: &[u8]) {
    let read = |object: &Value| K::read(object).unwrap_or_else(|| panic!("it cannot be read: {object}"));
    let mut kept = read(&object);
    let wanted = wanted(&kept.conditions(), choice);
    let others = others(&object);
    let stored = object.pointer("/status/conditions").and_then(Value::as_array).map_or(0, Vec::len);
    // A type of ours that is stored twice takes one patch for each.
    let mut patches = 0;
    while !kept.conditions().say(&wanted, kept.generation()) {
        assert!(patches <= stored + 1, "it is never said: {object}");
        patches += 1;
        let patch = json!(kept.patch(&wanted, choice));
        let operations: json_patch::Patch = serde_json::from_value(patch.clone()).unwrap();
        json_patch::patch(&mut object, &operations)
            .unwrap_or_else(|error| panic!("{error}: {patch} for {object}"));
        assert_eq!(self::others(&object), others, "others' conditions after {patch}");
        kept = read(&object);
    }
    for want in &wanted {
        assert_eq!(kept.conditions().is(want.kind), Some(want.is));
        assert_eq!(kept.conditions().reason(want.kind), Some(want.reason));
    }
}

/// Of each condition: it is not there, as it is stored, or new.
fn wanted(conditions: &Conditions, choice: &[u8]) -> Vec<Wanted> {
    let byte = |at: usize| usize::from(choice.get(at).copied().unwrap_or_default());
    let message = String::from_utf8_lossy(choice);
    let of = |(at, kind): (usize, Kind)| {
        let byte = byte(at + 1);
        let is = [Is::True, Is::False, Is::Unknown][byte / 3 % 3];
        let reason = Reason::ALL[byte % Reason::ALL.len()];
        match byte % 3 {
            0 => None,
            1 => conditions.kept(kind),
            _ => Some(Wanted::new(kind, is, reason, &*message)),
        }
    };
    Kind::ALL.into_iter().enumerate().filter_map(of).collect()
}

/// The conditions that are not the operator's, in their order.
fn others(object: &Value) -> Vec<Value> {
    let list = object.pointer("/status/conditions").and_then(Value::as_array);
    let ours = |condition: &Value| Kind::ALL.iter().any(|kind| condition["type"] == kind.as_str());
    list.into_iter().flatten().filter(|condition| !ours(condition)).cloned().collect()
}
