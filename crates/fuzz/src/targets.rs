//! One module for each kind of bytes. The first line of an input often chooses what is done with the rest.

pub mod api_error;
pub mod application;
pub mod audit;
pub mod endpoint;
pub mod event;
pub mod kubeconfig;
pub mod lean;
pub mod manifest;
pub mod plan;
pub mod printable;
pub mod proxy;
pub mod reply;
pub mod robot;
pub mod secret;

mod patch;

use serde_json::Value;

/// The first line, and what follows it.
fn head(bytes: &[u8]) -> (&[u8], &[u8]) {
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    (&bytes[..end], bytes.get(end + 1..).unwrap_or_default())
}

/// Whether a terminal or a reader could take it for something else than letters: control characters, separators of lines,
/// and what changes the order of letters. Written out a second time, apart from the operator's own list.
fn hides(text: &str) -> bool {
    text.chars().any(|letter| {
        letter.is_control()
            || "\u{61c}\u{200e}\u{200f}\u{2028}\u{2029}\u{feff}".contains(letter)
            || ('\u{202a}'..='\u{202e}').contains(&letter)
            || ('\u{2066}'..='\u{2069}').contains(&letter)
    })
}

/// Whether no text of it can be as long as those that are cut, however it is escaped.
fn short(value: &Value) -> bool {
    match value {
        Value::String(text) => text.len() <= 160,
        Value::Array(list) => list.iter().all(short),
        Value::Object(object) => object.iter().all(|(_, value)| short(value)),
        _ => true,
    }
}

/// Whether it is an object, or nothing.
fn object_or_none(value: &Value) -> bool {
    value.is_object() || value.is_null()
}
