//! `why` in every state that it is for, on the testbed.

use super::{Ran, led, roomrobot};
use crate::harness::{KEY, World, eventually, reason_of};
use serde_json::json;
use testbed::simulator::{Fault, Kind};

fn why(world: &World, name: &str) -> Ran {
    roomrobot(world, &["why", name, "-n", &world.namespace])
}

/// The screen has all of `texts`, and the exit code says who must act.
fn shows(ran: &Ran, code: i32, texts: &[&str]) {
    for text in texts {
        assert!(ran.out.contains(text), "{text} is not in:\n{}{}", ran.out, ran.err);
    }
    assert_eq!(ran.code, code, "{}{}", ran.out, ran.err);
    assert!(!ran.out.contains(KEY) && !ran.out.contains("usersig="));
}

#[allow(clippy::too_many_lines, reason = "one world for all states: it takes longest to make")]
#[tokio::test(flavor = "multi_thread")]
async fn what_a_robot_waits_for_and_what_to_type() {
    let world = World::new().await;
    let operator = world.operator().await;
    led(&world, &operator).await;
    world.robot("well").await;
    world.ready("well").await;
    world.application_until("CredentialsLoaded").await;
    shows(
        &why(&world, "well"),
        0,
        &["is well and nothing waits", "Ready=True Adopted", "is ready (CredentialsLoaded)"],
    );
    for (fault, name, reason, code, texts) in [
        (
            Kind::Code(100_001),
            "internal",
            "InternalError",
            3,
            &["an internal error of the room engine", "goes on by itself", "try at once"][..],
        ),
        (Kind::Code(100_002), "invalid", "InvalidParameter", 4, &["Check roomId and memberAccount"]),
        (
            Kind::Code(100_006),
            "private",
            "PermissionDenied",
            4,
            &["100006 (robot_permission)", "vendor's console", "try at once"],
        ),
        (
            Kind::Code(424_242),
            "strange",
            "UnknownErrorCode",
            4,
            &["the vendor documents no such code", "kubectl roomrobot requests"],
        ),
        (Kind::Http(502), "proxy", "UnexpectedReply", 3, &["HTTP 502", "kubectl roomrobot doctor"]),
        (
            Kind::ResetBefore,
            "silent",
            "Unreachable",
            3,
            &["the connection broke", "kubectl roomrobot doctor"],
        ),
    ] {
        world.stuck(name, fault, reason).await;
        let screen = why(&world, name);
        shows(&screen, code, texts);
        shows(
            &screen,
            code,
            &[
                reason,
                "What to type next",
                &format!("kubectl roomrobot release {name} -n {} --reason TEXT", world.namespace),
            ],
        );
        if let Kind::Code(number) =
            world.simulator.calls_about(name, name)[0].code.map_or(Kind::None, Kind::Code)
        {
            // The last call's RequestId, whichever it is by now.
            let calls = world.simulator.calls_about(name, name);
            assert!(calls.iter().any(|call| screen.out.contains(&call.request_id)), "{}", screen.out);
            assert!(screen.out.contains(&number.to_string()));
        }
    }
    world.robot_with("paused", json!({"suspend": true})).await;
    world.ready("paused").await;
    world.delete("paused").await;
    world.waits_for("paused", "Suspended").await;
    shows(
        &why(&world, "paused"),
        4,
        &["Suspended", "kubectl patch roomrobot paused", r#"{"spec":{"suspend":false}}"#],
    );
    // One command for a whole namespace: one screen for each reason.
    let all = roomrobot(&world, &["why", "-n", &world.namespace]);
    for reason in ["InternalError", "InvalidParameter", "PermissionDenied", "UnknownErrorCode", "Suspended"] {
        assert!(all.out.contains(reason), "{reason} is not in:\n{}", all.out);
    }
    assert_eq!(all.code, 4);
    let json = roomrobot(&world, &["why", "private", "-n", &world.namespace, "-o", "json"]).json();
    assert_eq!((&json["reason"], &json["finding"]), (&json!("PermissionDenied"), &json!("person")));
    // Another finalizer than ours.
    world.robot("held").await;
    world.ready("held").await;
    world
        .patch("held", json!({"metadata": {"finalizers": ["example.com/x", "roomrobot.dev/delete-robot"]}}))
        .await;
    world.delete("held").await;
    eventually("ours is gone", || async {
        let held = world.robots().get("held").await.unwrap();
        held.metadata.finalizers.as_deref() == Some(&["example.com/x".to_owned()][..])
    })
    .await;
    shows(&why(&world, "held"), 4, &["somebody else", "example.com/x", "metadata.finalizers"]);
    world.patch("held", json!({"metadata": {"finalizers": null}})).await;
    world.gone("held").await;
    world.announced("held", "Deleted").await;
    shows(&why(&world, "held"), 0, &["is gone", "RequestId"]);
    for (name, reason) in [("left-before", "NotInRoom"), ("dismissed", "RoomNotFound")] {
        if reason == "NotInRoom" {
            world.simulator.add_members(world.sdk_app_id, name, [""; 0]);
        }
        world.robot_with(name, json!({})).await;
        world.ready(name).await;
        world.delete(name).await;
        world.gone(name).await;
        world.announced(name, reason).await;
        shows(&why(&world, name), 0, &["is gone", &format!("says {reason}"), "RequestId"]);
        shows(
            &roomrobot(&world, &["why", name, "-A"]),
            0,
            &[&format!("RoomRobot {}/{name} is gone", world.namespace)],
        );
    }
    let nobody = why(&world, "never-there");
    assert!(nobody.code == 1 && nobody.err.contains("there is no RoomRobot"), "{}", nobody.err);
    // The operator's numbers, as behind `kubectl port-forward`.
    let metrics = operator.url("/metrics");
    let placed = roomrobot(&world, &["why", "internal", "-n", &world.namespace, "--metrics", &metrics]);
    shows(&placed, 3, &["in line for a call", "of 200 a second"]);
    // The same name in all namespaces.
    let everywhere = roomrobot(&world, &["why", "paused", "-A"]);
    shows(&everywhere, 4, &[&format!("RoomRobot {}/paused", world.namespace), "Suspended"]);
    let empty = roomrobot(&world, &["why", "-n", "default"]);
    assert_eq!(
        (empty.code, empty.out.as_str()),
        (0, "Nothing waits in namespace default.\n"),
        "{}",
        empty.err
    );
    // What is to be typed is for the cluster that was asked.
    let config = world.plane.admin_kubeconfig();
    let config = config.to_str().unwrap();
    let args = ["why", "internal", "-n", &world.namespace, "--kubeconfig", config, "--operator-namespace"];
    let elsewhere = roomrobot(&world, &[&args[..], &["roomrobot-system"]].concat());
    shows(
        &elsewhere,
        3,
        &[
            &format!("kubectl --kubeconfig {config} patch roomrobot internal"),
            &format!(
                "kubectl roomrobot --kubeconfig {config} --operator-namespace roomrobot-system release internal"
            ),
        ],
    );
    // Nobody acts.
    operator.terminate(std::time::Duration::from_secs(15)).await.unwrap();
    shows(
        &why(&world, "internal"),
        4,
        &[
            "nobody holds its Lease: no operator acts",
            "start the operator",
            "kubectl logs -n roomrobot-system",
        ],
    );
}

/// The operator was killed: what it left.
#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_looks_after() {
    let world = World::new().await;
    let operator = world.operator().await;
    led(&world, &operator).await;
    world.stuck("left", Kind::Code(100_006), "PermissionDenied").await;
    world.robot_with("early", json!({"creationPolicy": "Create"})).await;
    world.robot_until("early", "waits", |robot| reason_of(robot, "Ready") == Some("RoomNotFound")).await;
    operator.kill();
    eventually("the Lease has run out", || async { why(&world, "left").out.contains("it has run out") })
        .await;
    let screen = why(&world, "left");
    shows(
        &screen,
        4,
        &[
            "and no operator acts",
            "held its Lease last; it has run out",
            "what to do     start the operator",
            "kubectl logs",
        ],
    );
    assert!(
        !screen.out.contains("kubectl roomrobot release") && !screen.out.contains("try at once:"),
        "{}",
        screen.out
    );
    shows(&why(&world, "early"), 4, &["is not ready, and no operator acts", "start the operator"]);
    world.robot("fresh").await;
    shows(&why(&world, "fresh"), 4, &["is new, and no operator acts", "start the operator"]);
    let namespaces = kube::Api::<k8s_openapi::api::core::v1::Namespace>::all(world.client.clone());
    namespaces.delete(&world.namespace, &kube::api::DeleteParams::default()).await.unwrap();
    shows(
        &why(&world, "left"),
        4,
        &[&format!("{} is being deleted and waits for this RoomRobot", world.namespace)],
    );
}

/// Done, but for a finalizer: ours, which may not be dropped for want of a right, and somebody else's.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_over_and_still_there() {
    let world = World::new().await;
    let operator = world.operator().await;
    led(&world, &operator).await;
    world.robot("kept").await;
    world.robot("over").await;
    world.all_ready(2).await;
    let both = json!(["example.com/x", "roomrobot.dev/delete-robot"]);
    world
        .patch("kept", json!({"metadata": {"finalizers": both}, "spec": {"deletionPolicy": "Retain"}}))
        .await;
    world.delete("kept").await;
    world
        .robot_until("kept", "ours is gone", |robot| {
            robot.metadata.finalizers.as_deref() == Some(&["example.com/x".to_owned()][..])
        })
        .await;
    let screen = why(&world, "kept");
    shows(
        &screen,
        4,
        &["somebody else", "example.com/x", "Retained", "what to do     ask whose", "metadata.finalizers"],
    );
    let all = roomrobot(&world, &["why", "-n", &world.namespace, "-o", "json"]).json();
    assert_eq!(all.as_array().unwrap().len(), 1, "{all}");

    let roles = kube::Api::<k8s_openapi::api::rbac::v1::ClusterRole>::all(world.client.clone());
    let mut role = roles.get("roomrobot-operator").await.unwrap();
    for rule in role.rules.iter_mut().flatten() {
        if rule.resources.iter().flatten().any(|resource| resource == "roomrobots") {
            rule.verbs.retain(|verb| verb != "patch");
        }
    }
    roles.replace("roomrobot-operator", &kube::api::PostParams::default(), &role).await.unwrap();
    world.delete("over").await;
    let refused = |robot: &_| reason_of(robot, "Stalled") == Some("WriteRefused");
    world.robot_until("over", "WriteRefused", refused).await;
    let screen = why(&world, "over");
    let refusal = "is over (Deleted), but the cluster refuses to let it go";
    shows(&screen, 4, &[refusal, "cannot patch resource", "RequestId Id-"]);
    assert!(!screen.out.contains("kubectl roomrobot release"), "{}", screen.out);
    world.plane.install_rights().unwrap();
    world.gone("over").await;
    world.patch("kept", json!({"metadata": {"finalizers": null}})).await;
    world.gone("kept").await;
}

/// What the room engine or the operator holds against the whole application.
#[tokio::test(flavor = "multi_thread")]
async fn what_an_application_is_refused_for() {
    let world = World::new().await;
    let operator = world.operator().await;
    led(&world, &operator).await;
    let fine = world.simulator.endpoint();
    for (code, name, ready, reason, texts) in [
        (
            60010,
            "no-admin",
            "PermissionDenied",
            "PermissionDenied",
            &[
                "60010 (permission)",
                "App administrator in the vendor's console",
                "kubectl edit rtcapplication",
            ][..],
        ),
        (
            60020,
            "no-package",
            "PlanExceeded",
            "ApplicationNotReady",
            &["60020 (plan)", "Renew or upgrade the package", "kubectl edit rtcapplication"],
        ),
    ] {
        world.stuck(name, Kind::Code(code), reason).await;
        world.application_until(ready).await;
        let screen = why(&world, name);
        shows(&screen, 4, texts);
        shows(&screen, 4, &[&format!("is not ready ({ready})"), reason]);
        assert!(!screen.out.contains("try at once:"), "the robot's spec changes nothing:\n{}", screen.out);
        world.simulator.heal();
        world.patch_application(json!({"spec": {"requestsPerSecond": code - 60_000}})).await;
        world.gone(name).await;
    }
    world.application_until("Verified").await;
    world.robot("r").await;
    world.ready("r").await;
    shows(&why(&world, "r"), 0, &["is ready (Verified)"]);
    world.patch_application(json!({"spec": {"endpoint": "https://127.0.0.1:1"}})).await;
    world.application_until("EndpointNotAllowed").await;
    world.delete("r").await;
    world.waits_for("r", "ApplicationNotReady").await;
    shows(
        &why(&world, "r"),
        4,
        &["ApplicationNotReady", "is not ready (EndpointNotAllowed)", "kubectl edit rtcapplication"],
    );
    world.patch_application(json!({"spec": {"endpoint": fine, "suspend": true}})).await;
    world.waits_for("r", "Suspended").await;
    let secret = ["delete", "secret", &world.app, "-n", "roomrobot-system"];
    world.plane.run_kubectl(&secret, None).unwrap();
    world.patch_application(json!({"spec": {"suspend": false}})).await;
    world.application_until("SecretNotFound").await;
    world.waits_for("r", "ApplicationNotReady").await;
    let screen = why(&world, "r");
    let create = format!(
        "kubectl create secret generic {} -n roomrobot-system --from-file=secretKey=KEYFILE\n",
        world.app
    );
    shows(&screen, 4, &["is not ready (SecretNotFound)", &create]);
    // The mend is one: as it is printed, with a key in the file.
    let key = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(key.path(), KEY).unwrap();
    super::shell(&world, &create.replace("KEYFILE", key.path().to_str().unwrap()));
    world.gone("r").await;
}

/// Every reason that a condition can have has a screen here.
#[test]
fn no_reason_is_without_a_screen() {
    let tests = [include_str!("why.rs"), include_str!("session.rs")].concat();
    let words: std::collections::BTreeSet<&str> = tests.split(|c: char| !c.is_ascii_alphanumeric()).collect();
    for reason in roomrobot_core::status::Reason::ALL {
        // Beside `RobotDeleted`, `Ready` is not shown; beside `Ready`, an `Accepted` that is True is not.
        if !["Deleting", "Accepted"].contains(&reason.as_str()) {
            assert!(words.contains(reason.as_str()), "{reason}: no test of `why` shows it");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_application_lacks_and_what_to_type() {
    let world = World::bare().await;
    let operator = world.operator().await;
    led(&world, &operator).await;
    world.secret(&world.app, json!({"secretKey": KEY})).await;
    world.robot("early").await;
    world.robot_until("early", "is refused", |robot| reason_of(robot, "Accepted").is_some()).await;
    shows(
        &why(&world, "early"),
        4,
        &["ApplicationNotFound", "does not exist", "kubectl apply -f RTCAPPLICATION.yaml"],
    );
    let selector = json!({"allowedNamespaces": {"selector": {"matchLabels": {"robots": "yes"}}}});
    world.application(&world.app, selector).await;
    world
        .robot_until("early", "is refused", |robot| {
            reason_of(robot, "Accepted") == Some("NamespaceNotAllowed")
        })
        .await;
    shows(
        &why(&world, "early"),
        4,
        &["NamespaceNotAllowed", &format!("kubectl label namespace {}", world.namespace)],
    );
    world.patch_application(json!({"spec": {"allowedNamespaces": null}})).await;
    world.ready("early").await;
    world.secret(&world.app, json!({"secretKey": "wrong"})).await;
    world.delete("early").await;
    world.waits_for("early", "CredentialsRejected").await;
    world.application_until("CredentialsRejected").await;
    shows(
        &why(&world, "early"),
        4,
        &[
            "70009 (credentials)",
            "another SDKAppID's key",
            &format!("kubectl create secret generic {}", world.app),
        ],
    );
    world.secret(&world.app, json!({"key": KEY})).await;
    world.application_until("SecretInvalid").await;
    world.waits_for("early", "ApplicationNotReady").await;
    shows(
        &why(&world, "early"),
        4,
        &["ApplicationNotReady", "neither secretKey nor userSig", "--from-file=secretKey=KEYFILE"],
    );
    world.patch_application(json!({"spec": {"suspend": true}})).await;
    world.waits_for("early", "Suspended").await;
    shows(&why(&world, "early"), 4, &["Suspended", &format!("kubectl patch rtcapplication {}", world.app)]);
    world.delete_application_by_force().await;
    world.waits_for("early", "ApplicationNotReady").await;
    shows(&why(&world, "early"), 4, &["does not exist any more", "kubectl apply -f RTCAPPLICATION.yaml"]);
}

/// In line for the first call, and slowed down by the vendor.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_pace_holds_up() {
    let world = World::new().await;
    let operator = world.operator().await;
    led(&world, &operator).await;
    let metrics = operator.url("/metrics");
    let names = world.crowd("queued", 30).await;
    world.patch_application(json!({"spec": {"requestsPerSecond": 1}})).await;
    world.delete_all().await;
    eventually("one has gone", || async { !world.all_deleted().is_empty() }).await;
    let mut waiting = None;
    for name in &names {
        let robot = world.robots().get_opt(name).await.unwrap();
        if robot.is_some_and(|robot| reason_of(&robot, "RobotDeleted").is_none()) {
            waiting = Some(name.clone());
        }
    }
    let name = waiting.expect("at one call a second most are still in line");
    let screen = roomrobot(&world, &["why", &name, "-n", &world.namespace, "--metrics", &metrics]);
    shows(
        &screen,
        3,
        &[
            "has been in line for its first call for",
            "goes on by itself",
            "namespaces take turns",
            "at 1 of 1 a second; the line is empty in about",
            "kubectl roomrobot list",
            "in line are older; namespaces take turns",
            &format!("kubectl patch rtcapplication {} --type merge", world.app),
        ],
    );
    let all = roomrobot(&world, &["why", "-n", &world.namespace]);
    shows(&all, 3, &["has been in line", "more wait for the same reason"]);
    world.patch_application(json!({"spec": {"requestsPerSecond": 200}})).await;
    world.all_gone(crate::harness::PATIENCE).await;

    world.stuck("slowed", Kind::Code(60011), "Throttled").await;
    let screen = roomrobot(&world, &["why", "slowed", "-n", &world.namespace, "--metrics", &metrics]);
    shows(
        &screen,
        3,
        &[
            "Throttled",
            "60011 (throttled): the SDKAppID's request frequency is over its limit",
            "goes on by itself",
            "slows down by itself",
            "of 200 a second",
            r#"-p '{"spec":{"requestsPerSecond":N}}'"#,
        ],
    );
    world.simulator.heal();
    world.gone("slowed").await;
}

/// Not called at all, as another resource stands for the same robot.
#[tokio::test(flavor = "multi_thread")]
async fn what_another_resource_holds_up() {
    let world = World::new().await;
    let _operator = world.operator().await;
    // The first of the two leaves without a call. Another finalizer keeps it in view.
    world.robot("shared").await;
    let twin = json!({"roomId": "shared", "memberAccount": "shared"});
    world.robot_with("twin", twin).await;
    world.ready("shared").await;
    world.ready("twin").await;
    let both = json!(["example.com/x", "roomrobot.dev/delete-robot"]);
    world.patch("shared", json!({"metadata": {"finalizers": both}})).await;
    world.delete("shared").await;
    world
        .robot_until("shared", "ours is gone", |robot| {
            robot.metadata.finalizers.as_deref() == Some(&["example.com/x".to_owned()][..])
        })
        .await;
    shows(
        &why(&world, "shared"),
        4,
        &[
            "StillClaimed",
            "event/twin".replace("event", &world.namespace).as_str(),
            "somebody else",
            "example.com/x",
        ],
    );
    world.patch("shared", json!({"metadata": {"finalizers": null}})).await;
    world.gone("shared").await;
    world.announced("shared", "StillClaimed").await;
    shows(&why(&world, "shared"), 0, &["is gone", "StillClaimed", "the last Event about it says"]);
    assert!(world.simulator.calls_about("shared", "shared").is_empty(), "the twin stands for it");
}

/// A robot that the operator brings in: on its way, refused, and where nobody knows.
#[allow(clippy::too_many_lines, reason = "one world for all states: it takes longest to make")]
#[tokio::test(flavor = "multi_thread")]
async fn what_an_addition_waits_for_and_what_to_type() {
    let world = World::new().await;
    let operator = world.operator().await;
    led(&world, &operator).await;
    let metrics = operator.url("/metrics");
    let newcomer = json!({"creationPolicy": "Create"});
    for (fault, name, status, reason, code, texts) in [
        (
            Kind::Hang,
            "coming",
            "Unknown",
            "Adding",
            3,
            &["is being brought into its room and goes on by itself", "add_robot", "kubectl logs"][..],
        ),
        (Kind::Code(100_004), "early", "False", "RoomNotFound", 3, &["create the room", "try at once"]),
        (Kind::Code(100_008), "full", "False", "RoomFull", 3, &["the room is full", "try at once"]),
        (
            Kind::Code(100_700),
            "robots",
            "False",
            "RobotLimitReached",
            3,
            &["Remove another robot from the room", "try at once"],
        ),
        (
            Kind::Code(70107),
            "unknown-account",
            "False",
            "AccountNotImported",
            4,
            &[
                "a person must act",
                "Import the account",
                "try at once",
                "kubectl delete roomrobot unknown-account",
            ],
        ),
        (
            Kind::Code(100_002),
            "bad-name",
            "False",
            "InvalidParameter",
            4,
            &["a person must act", "Check roomId and memberAccount", "kubectl delete roomrobot bad-name"],
        ),
        (
            Kind::Code(100_006),
            "shut",
            "False",
            "PermissionDenied",
            4,
            &["a person must act", "vendor's console", "try at once"],
        ),
        (
            Kind::ResetAfter,
            "lost",
            "Unknown",
            "Unreachable",
            3,
            &[
                "may be in its room or not (Unreachable), and goes on by itself",
                "the connection broke",
                "kubectl roomrobot doctor",
                "if you see the robot in its room, say so",
                r#"-p '{"spec":{"creationPolicy":"Adopt"}}'"#,
            ],
        ),
        (
            Kind::Code(100_001),
            "doubtful",
            "Unknown",
            "InternalError",
            3,
            &["may be in its room or not (InternalError)", "100001", "try at once", "Adopt"],
        ),
        (
            Kind::Code(424_242),
            "strange",
            "Unknown",
            "UnknownErrorCode",
            4,
            &["may be in its room or not", "the vendor documents no such code", "kubectl roomrobot requests"],
        ),
    ] {
        world.simulator.add_members(world.sdk_app_id, name, [""; 0]);
        world.simulator.fail(Fault::always(fault).room(name));
        world.robot_with(name, newcomer.clone()).await;
        world
            .robot_until(name, reason, |robot| {
                let ready = crate::harness::condition(robot, "Ready");
                ready.is_some_and(|ready| (&*ready.status, &*ready.reason) == (status, reason))
            })
            .await;
        let screen = roomrobot(&world, &["why", name, "-n", &world.namespace, "--metrics", &metrics]);
        shows(&screen, code, texts);
        shows(&screen, code, &[&format!("Ready={status} {reason}"), "quota", "What to type next"]);
        assert!(
            !screen.out.contains("kubectl roomrobot release"),
            "it is not being deleted:\n{}",
            screen.out
        );
    }
    // The application is refused: one more that is not called at all.
    world.secret(&world.app, json!({"secretKey": "wrong"})).await;
    world.robot_with("refused", newcomer.clone()).await;
    world
        .robot_until("refused", "is refused", |robot| {
            reason_of(robot, "Ready") == Some("CredentialsRejected")
        })
        .await;
    shows(
        &why(&world, "refused"),
        4,
        &["is not ready (CredentialsRejected)", "a person must act", "kubectl create secret generic"],
    );
    world.secret(&world.app, json!({"secretKey": KEY})).await;
    // What was added is well.
    world.simulator.heal();
    world.simulator.add_members(world.sdk_app_id, "welcome", [""; 0]);
    world.robot_with("welcome", newcomer.clone()).await;
    world.robot_until("welcome", "is added", |robot| reason_of(robot, "Ready") == Some("Added")).await;
    shows(&why(&world, "welcome"), 0, &["is well and nothing waits", "Ready=True Added"]);
    // Its deletion waits for the addition that is under way, and then for its own call.
    world.delete("coming").await;
    world.gone("coming").await;
}
