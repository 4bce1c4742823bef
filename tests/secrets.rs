//! Promise 6: no key, UserSig or URL in any output; calls go to allowed endpoints only.

use crate::harness::{KEY, World};
use kube::api::ListParams;
use roomrobot_core::usersig;
use serde_json::json;
use std::time::Duration;
use testbed::simulator::{Fault, Kind};

/// Everything that a person could see of a run in which everything went wrong once.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_is_written_anywhere_shows_a_secret() {
    let world = World::new().await;
    let operator = world.operator_with_env(&[], &[("RUST_LOG", "trace")]).await;
    let kinds = [
        Kind::Code(100_001),
        Kind::Http(500),
        Kind::ResetBefore,
        Kind::Truncated,
        Kind::Html,
        Kind::Body("not json".into()),
        Kind::Code(424_242),
    ];
    for (n, kind) in kinds.into_iter().enumerate() {
        let name = format!("r-{n}");
        world.simulator.fail(Fault::times(kind, 1).room(&name));
        world.robot(&name).await;
    }
    world.all_ready(7).await;
    world.delete_all().await;
    world.waits_for("r-6", "UnknownErrorCode").await;
    for n in 0..6 {
        world.gone(&format!("r-{n}")).await;
    }
    // A transport that fails: `reqwest` puts the URL into each of its errors.
    world.patch_application(json!({"spec": {"endpoint": "http://127.0.0.1:9"}})).await;
    world.application_until("EndpointNotAllowed").await;
    world.secret(&world.app, json!({"secretKey": "another-secret-key"})).await;
    world.patch_application(json!({"spec": {"endpoint": world.simulator.endpoint()}})).await;
    world.robot("rejected").await;
    world.ready("rejected").await;
    world.delete("rejected").await;
    world.application_until("CredentialsRejected").await;

    let mut seen = operator.log();
    seen.push_str(&operator.get("/metrics").unwrap());
    for robot in world.robots().list(&ListParams::default()).await.unwrap() {
        seen.push_str(&serde_json::to_string(&robot).unwrap());
    }
    for name in (0..7).map(|n| format!("r-{n}")) {
        for view in world.views(&name) {
            seen.push_str(&serde_json::to_string(&view).unwrap());
        }
        for event in world.events_about(&name).await {
            seen.push_str(&serde_json::to_string(&event).unwrap());
        }
    }
    for write in world.writes() {
        seen.push_str(&write.request_object.to_string());
    }
    let application = world.applications().get(&world.app).await.unwrap();
    seen.push_str(&serde_json::to_string(&application.status).unwrap());
    assert!(seen.len() > 10_000 && seen.contains("RequestId Id-"));
    // A UserSig is the base64 of a zlib stream: a long word that begins like one, whatever is in it.
    let part_of_word = |c: char| c.is_ascii_alphanumeric() || "*-_".contains(c);
    let mut words = seen.split(|c| !part_of_word(c));
    let like_a_user_sig =
        |word: &&str| word.len() >= 60 && ["eJ", "eN"].iter().any(|begin| word.starts_with(begin));
    let key = usersig::Sensitive::new(KEY.to_owned());
    let made = usersig::sign(&key, world.sdk_app_id, "administrator", 0, Duration::from_secs(60));
    assert!(like_a_user_sig(&made.expose()), "{} does not look like a UserSig", made.expose());
    assert_eq!(words.find(like_a_user_sig), None);
    for secret in [KEY, "another-secret-key", "usersig=", "room_engine_http_srv", "sdkappid="] {
        if let Some(at) = seen.find(secret) {
            let from = seen[..at].rfind('\n').unwrap_or(0);
            panic!("{secret} is shown: {}", &seen[from..(at + 100).min(seen.len())]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_call_goes_to_an_endpoint_that_is_not_allowed() {
    let world = World::new().await;
    // The simulator is reachable, but nobody allowed it to this operator.
    let _operator = world.operator_with_env(&[], &[("ROOMROBOT_ALLOW_ENDPOINT", "http://127.0.0.1:9")]).await;
    world.robot("r").await;
    world.ready("r").await;
    world.application_until("EndpointNotAllowed").await;
    world.delete("r").await;
    world.waits_for("r", "ApplicationNotReady").await;
    assert_eq!(world.simulator.calls().len(), 0);
}
