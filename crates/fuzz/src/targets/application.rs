//! A stored RtcApplication of any age. First line: which status is wanted; then the object.
//!
//! - Reduced as it comes, it reads as it does whole.
//! - What is read is within its limits: the pace, and an endpoint that may be called.
//! - Patches of the status fit, and soon say what is wanted.

use super::{
    head,
    lean::reduce,
    object_or_none,
    patch::{self, Kept},
    short,
};
use hyper::Method;
use k8s_openapi::jiff::Timestamp;
use roomrobot_core::{
    application::StoredApplication,
    crd::RtcApplication,
    endpoint::Allowed,
    status::{Conditions, Wanted},
};
use serde_json::{Value, from_slice, from_value, json};

pub fn check(bytes: &[u8]) {
    let (wanted, object) = head(bytes);
    let Ok(whole) = from_slice::<Value>(object) else { return };
    if !whole.is_object() {
        return;
    }
    let path = "/apis/roomrobot.dev/v1alpha1/rtcapplications/a";
    let reduced = reduce(&Method::GET, path, object, 31).unwrap();
    let reduced = reduced.unwrap_or_else(|why| panic!("{why}: {whole}"));
    let Ok(stored) = from_slice::<RtcApplication>(object) else { return };
    let allowed = Allowed::default();
    let spec = StoredApplication::read(stored, &allowed);
    if short(&whole) {
        let lean = from_slice::<RtcApplication>(&reduced).unwrap();
        assert_eq!(format!("{:?}", StoredApplication::read(lean, &allowed)), format!("{spec:?}"));
    }
    assert!((1..=200).contains(&spec.requests_per_second));
    assert!(
        spec.endpoint.as_ref().is_ok_and(|endpoint| allowed.contains(endpoint)) || spec.endpoint.is_err()
    );
    if ![&whole["metadata"], &whole["spec"], &whole["status"]].into_iter().all(object_or_none) {
        return;
    }
    let id = whole["spec"]["sdkAppId"].as_i64();
    assert!(spec.sdk_app_id == 0 || id == Some(spec.sdk_app_id.into()));
    let conditions = whole["status"]["conditions"].as_array().map_or(&[][..], Vec::as_slice);
    if spec.verified {
        let generation = whole["metadata"]["generation"].as_i64();
        assert!(conditions.iter().any(|condition| condition["type"] == "Ready"
            && condition["status"] == "True"
            && condition["observedGeneration"].as_i64() == generation));
    }
    if conditions.iter().all(Value::is_object) {
        patch::check::<StoredApplication>(whole, wanted);
    }
}

impl Kept for StoredApplication {
    fn read(object: &Value) -> Option<Self> {
        let stored = from_value::<RtcApplication>(object.clone()).ok()?;
        Some(Self::read(stored, &Allowed::default()))
    }

    fn conditions(&self) -> Conditions {
        self.conditions
    }

    fn generation(&self) -> i64 {
        self.generation
    }

    fn patch(&self, wanted: &[Wanted], _: &[u8]) -> Vec<Value> {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        self.conditions.patch(wanted, self.generation, [("robots", json!(3)), ("deleting", json!(1))], now)
    }
}
