//! A manifest for `plan -f`.
//!
//! - What is chosen of it, written as a manifest, chooses the same again.
//! - JSON, which is YAML as well, is read as a reader of JSON reads it.
//! - Why it cannot be read is one line.

use kubectl_roomrobot::forecast::{Chosen, choose_from};
use serde_json::{Value, json};

pub fn check(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let chosen = match read(&text) {
        Ok(chosen) => chosen,
        Err(why) => {
            assert!(why.starts_with("the manifest cannot be read: "), "{why}");
            assert_eq!(why.lines().count(), 1, "{why}");
            return;
        }
    };
    let robots = chosen.names.iter().map(
        |(namespace, name)| json!({"kind": "RoomRobot", "metadata": {"namespace": namespace, "name": name}}),
    );
    let namespaces =
        chosen.namespaces.iter().map(|name| json!({"kind": "Namespace", "metadata": {"name": name}}));
    let list = json!({"kind": "List", "items": robots.chain(namespaces).collect::<Value>()});
    for written in [list.to_string(), serde_saphyr::to_string(&list).unwrap()] {
        let again = read(&written).unwrap_or_else(|why| panic!("{why}: {written}"));
        assert_eq!((&again.names, &again.namespaces), (&chosen.names, &chosen.namespaces), "{written}");
    }
    if let Ok(Value::Object(object)) = serde_json::from_slice::<Value>(bytes)
        && object.get("items").is_none_or(|items| !items.is_array())
    {
        assert!(chosen.names.len() + chosen.namespaces.len() + chosen.notes.len() <= 1);
        assert!(chosen.names.is_empty() || object["kind"] == "RoomRobot");
        assert!(chosen.namespaces.is_empty() || object["kind"] == "Namespace");
    }
}

fn read(text: &str) -> Result<Chosen, String> {
    let mut chosen = Chosen::default();
    choose_from(text, "default", &mut chosen).map(|()| chosen).map_err(|why| why.to_string())
}
