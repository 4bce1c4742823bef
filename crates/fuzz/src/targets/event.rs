//! The note of an Event, which names what others named. First line: RequestId and ErrorCode; then what the note tells.
//!
//! - The RequestId and the code are those that the note ends with, whatever stands before them.
//! - Bytes that are a note as they are have a RequestId of one word, or none.

use super::head;
use k8s_openapi::api::events::v1::Event;
use kubectl_roomrobot::requests::from_event;
use roomrobot_core::{
    printable::shortened,
    status::{reference, with_reference},
};
use serde_json::{Value, json};

pub fn check(bytes: &[u8]) {
    let (answer, told) = head(bytes);
    let (answer, told) = (String::from_utf8_lossy(answer), String::from_utf8_lossy(told));
    let (id, code) = answer.split_once(' ').unwrap_or((&answer, "100001"));
    let code = code.parse::<i64>().unwrap_or(100_001);
    if !id.is_empty() && id.len() <= 128 && id.bytes().all(|byte| byte.is_ascii_graphic()) {
        let note = shortened(&with_reference(&told, &reference(Some(code), Some(id))), 1024);
        let read = read(&note).unwrap_or_else(|| panic!("{note}"));
        assert_eq!(
            (read["requestId"].as_str(), read["errorCode"].as_i64()),
            (Some(id), Some(code)),
            "{note}"
        );
        assert_eq!((&read["namespace"], &read["name"]), (&json!("n"), &json!("r")));
    }
    if let Some(read) = read(&told) {
        assert!(!read["requestId"].as_str().unwrap().contains(char::is_whitespace), "{told}");
    }
}

fn read(note: &str) -> Option<Value> {
    let event: Event = serde_json::from_value(json!({
        "metadata": {"name": "e"}, "eventTime": "2026-01-31T12:00:00.000000Z", "action": "DeleteRobot",
        "regarding": {"kind": "RoomRobot", "namespace": "n", "name": "r"}, "note": note,
    }))
    .unwrap();
    from_event(&event).map(|request| serde_json::to_value(request).unwrap())
}
