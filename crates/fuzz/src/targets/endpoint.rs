//! `spec.endpoint` and `--allow-endpoint`.
//!
//! - What is taken is scheme, host and port and nothing else, and reads the same again as it is shown.
//! - What the vendor's hosts are is told by the whole name, over https.
//! - Why it is not taken repeats nothing of it: it may hold a password.

use super::hides;
use roomrobot_core::{
    application::StoredApplication,
    crd::RtcApplication,
    endpoint::{Allowed, Endpoint},
};
use serde_json::json;

pub fn check(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let stored: RtcApplication = serde_json::from_value(json!({
        "apiVersion": "roomrobot.dev/v1alpha1", "kind": "RtcApplication", "metadata": {"name": "a"},
        "spec": {"sdkAppId": 1, "endpoint": &*text, "credentials": {"secretRef": {"name": "s"}}},
    }))
    .unwrap();
    let read = StoredApplication::read(stored, &Allowed::default()).endpoint;
    let endpoint = match text.parse::<Endpoint>() {
        Ok(endpoint) => endpoint,
        Err(why) => {
            assert_eq!(read, Err(format!("spec.endpoint cannot be used: {why}")));
            return;
        }
    };
    let shown = endpoint.to_string();
    assert_eq!(shown.parse::<Endpoint>(), Ok(endpoint.clone()), "{shown}");
    let authority = shown.strip_prefix("https://").or_else(|| shown.strip_prefix("http://")).unwrap();
    let more = |letter: char| "/?#@\\".contains(letter) || letter.is_whitespace();
    assert!(!authority.is_empty() && !authority.contains(more) && !hides(authority), "{shown}");
    assert!(authority.is_ascii(), "{shown}");
    assert!(Allowed::new([endpoint.clone()]).contains(&endpoint));
    if Allowed::default().contains(&endpoint) {
        assert_eq!(read, Ok(endpoint));
        let vendor = authority.ends_with(".qq.com")
            || authority.ends_with(".qcloud.com")
            || authority.ends_with(".my-imcloud.com");
        assert!(shown.starts_with("https://") && vendor && !authority.contains(':'), "{shown}");
    } else {
        assert!(read.is_err_and(|why| why.contains(&shown)));
    }
}
