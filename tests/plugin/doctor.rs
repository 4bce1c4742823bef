//! `doctor` finds each of ten planted faults, and names the mend.

use super::{Ran, led, roomrobot};
use crate::harness::{KEY, World, reason_of};
use serde_json::{Value, json};

pub fn doctor(world: &World, more: &[&str]) -> Ran {
    let endpoint = world.simulator.endpoint();
    let args = [&["doctor", &world.app, "--allow-endpoint", &endpoint, "-o", "json"], more].concat();
    roomrobot(world, &args)
}

fn faults(ran: &Ran) -> Vec<Value> {
    let checks = ran.json();
    checks.as_array().unwrap().iter().filter(|check| check["verdict"] == "fault").cloned().collect()
}

/// Among the faults is one about `about` that says `text`, and whose mend says `mend`.
pub fn finds(ran: &Ran, about: &str, text: &str, mend: &str) {
    let faults = faults(ran);
    let found = faults.iter().any(|fault| {
        let has = |field: &str, part: &str| fault[field].as_str().unwrap_or_default().contains(part);
        has("about", about) && has("text", text) && has("mend", mend)
    });
    assert!(found, "{about}, {text}, {mend}: not in {faults:#?}\n{}", ran.err);
    assert_eq!(ran.code, 4);
    assert!(!ran.out.contains(KEY) && !ran.out.contains("usersig="), "a secret is shown");
}

pub fn none(ran: &Ran) {
    assert_eq!((faults(ran), ran.code), (Vec::new(), 0), "{}", ran.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_planted_faults_are_found_and_their_mends_named() {
    let world = World::new().await;
    let operator = world.operator().await;
    led(&world, &operator).await;
    let app = &world.app;
    world.application_until("CredentialsLoaded").await;
    none(&doctor(&world, &[]));
    let checks = doctor(&world, &[]).json().as_array().unwrap().len();
    assert!(checks >= 12, "{checks} checks");

    // 1. No right.
    let rights = json!([{"op": "remove", "path": "/rules/0"}]).to_string();
    let patch = ["patch", "clusterrole", "roomrobot-operator", "--type", "json", "-p", &rights];
    world.plane.run_kubectl(&patch, None).unwrap();
    finds(&doctor(&world, &[]), "rights", "may not list rtcapplications.roomrobot.dev", "rbac.yaml");
    world.plane.install_rights().unwrap();
    none(&doctor(&world, &[]));

    // 2. No Secret. 3. Wrong name of its key.
    let secret = ["delete", "secret", app, "-n", "roomrobot-system"];
    world.plane.run_kubectl(&secret, None).unwrap();
    world.application_until("SecretNotFound").await;
    finds(
        &doctor(&world, &[]),
        "Secret",
        "does not exist in roomrobot-system",
        &format!("create secret generic {app}"),
    );
    world.secret(app, json!({"key": KEY})).await;
    world.application_until("SecretInvalid").await;
    finds(
        &doctor(&world, &[]),
        "Secret",
        "neither secretKey nor userSig (its keys: key)",
        "--from-file=secretKey=",
    );
    world.secret(app, json!({"secretKey": KEY})).await;
    world.application_until("CredentialsLoaded").await;

    // 4. Skewed clock.
    world.simulator.skew_clock(-3600);
    finds(&doctor(&world, &[]), "clock", "s ahead of http://127.0.0.1", "set the clock");
    world.simulator.skew_clock(0);

    // 5. Unknown host. 6. Refused TLS: an endpoint whose certificate nobody here trusts.
    let endpoint = |url: &str| json!({"spec": {"endpoint": url}});
    world.patch_application(endpoint("https://no-such-host.invalid")).await;
    let unknown = doctor(&world, &["--allow-endpoint", "https://no-such-host.invalid"]);
    finds(&unknown, "way to the endpoint", "could not be resolved", "DNS");
    let untrusted = format!("https://127.0.0.1:{}", world.plane.port());
    world.patch_application(endpoint(&untrusted)).await;
    finds(
        &doctor(&world, &["--allow-endpoint", &untrusted]),
        "way to the endpoint",
        "certificate is not trusted",
        "proxy",
    );

    // 7. Endpoint not allowed.
    world.application_until("EndpointNotAllowed").await;
    finds(
        &doctor(&world, &["--no-network"]),
        "endpoint",
        "does not allow it",
        &format!("--allow-endpoint {untrusted}"),
    );
    world.patch_application(endpoint(&world.simulator.endpoint())).await;
    world.application_until("CredentialsLoaded").await;

    // 8. Namespace not allowed.
    let selector = json!({"spec": {"allowedNamespaces": {"selector": {"matchLabels": {"robots": "yes"}}}}});
    world.patch_application(selector).await;
    world.robot("r").await;
    world
        .robot_until("r", "is refused", |robot| reason_of(robot, "Accepted") == Some("NamespaceNotAllowed"))
        .await;
    finds(
        &doctor(&world, &[]),
        "namespace",
        "is not allowed",
        &format!("kubectl label namespace {}", world.namespace),
    );
    world.patch_application(json!({"spec": {"allowedNamespaces": null}})).await;
    world.ready("r").await;

    // 9. Suspended: the robot, and the application.
    world.patch("r", json!({"spec": {"suspend": true}})).await;
    finds(
        &doctor(&world, &[]),
        "RoomRobots",
        "suspended, so nothing is called for them: 1",
        "kubectl patch roomrobot r",
    );
    world.patch("r", json!({"spec": {"suspend": false}})).await;
    world.patch_application(json!({"spec": {"suspend": true}})).await;
    finds(&doctor(&world, &[]), "suspend", "is true", &format!("kubectl patch rtcapplication {app}"));
    world.patch_application(json!({"spec": {"suspend": false}})).await;
    world.application_until("CredentialsLoaded").await;
    none(&doctor(&world, &[]));

    // What the room engine says is repeated with its mend.
    world.secret(app, json!({"secretKey": "wrong"})).await;
    world.delete("r").await;
    world.application_until("CredentialsRejected").await;
    finds(&doctor(&world, &[]), "Ready", "CredentialsRejected", "correct the Secret");

    // 10. An old CRD; at last, because a schema takes a while to be back.
    let old = std::fs::read_to_string("tests/data/first-crd.yaml").unwrap();
    world.plane.kubectl_apply(&old).unwrap();
    finds(&doctor(&world, &[]), "CRD roomrobots", "has no", "roomrobot-operator crds");

    // And nobody acts.
    operator.terminate(std::time::Duration::from_secs(15)).await.unwrap();
    finds(&doctor(&world, &[]), "operator", "no operator acts", "kubectl logs");
    assert_eq!(roomrobot(&world, &["doctor", "no-such-application"]).code, 1);
}

/// The mend of a Secret with both keys mends it: `kubectl apply` would leave what `kubectl create` put there.
#[tokio::test(flavor = "multi_thread")]
async fn the_mend_of_a_secret_mends_it() {
    let world = World::new().await;
    let operator = world.operator().await;
    led(&world, &operator).await;
    let app = &world.app;
    world.plane.run_kubectl(&["delete", "secret", app, "-n", "roomrobot-system"], None).unwrap();
    let both = ["--from-literal=secretKey=k", "--from-literal=userSig=s"];
    let create = [&["create", "secret", "generic", app, "-n", "roomrobot-system"], &both[..]].concat();
    world.plane.run_kubectl(&create, None).unwrap();
    world.application_until("SecretInvalid").await;
    let ran = doctor(&world, &[]);
    finds(&ran, "Secret", "its keys: secretKey, userSig", "| kubectl replace -f -");
    let key = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(key.path(), KEY).unwrap();
    let fault =
        faults(&ran).into_iter().find(|fault| fault["about"].as_str().unwrap().contains("Secret")).unwrap();
    let mend = fault["mend"].as_str().unwrap().replace("KEYFILE", key.path().to_str().unwrap());
    super::shell(&world, &mend);
    world.application_until("CredentialsLoaded").await;
    none(&doctor(&world, &[]));

    // A brake hides what the operator thinks of the endpoint, and so does a spec that it has not seen yet.
    world.patch_application(json!({"spec": {"suspend": true}})).await;
    world.application_until("Suspended").await;
    let ran = roomrobot(&world, &["doctor", app, "-o", "json"]).json();
    let endpoint = format!("{app}: endpoint");
    let check = ran.as_array().unwrap().iter().find(|check| check["about"] == *endpoint).unwrap();
    assert_eq!(check["verdict"], "note", "{check}");
}
