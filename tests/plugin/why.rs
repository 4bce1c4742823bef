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
    shows(&why(&world, "well"), 0, &["is well and nothing waits", "Ready=True Adopted"]);
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
    let nobody = why(&world, "never-there");
    assert!(nobody.code == 1 && nobody.err.contains("there is no RoomRobot"), "{}", nobody.err);
    // The operator's numbers, as behind `kubectl port-forward`.
    let metrics = operator.url("/metrics");
    let placed = roomrobot(&world, &["why", "internal", "-n", &world.namespace, "--metrics", &metrics]);
    shows(&placed, 3, &["in line for a call", "of 200 a second"]);
    // Nobody acts.
    operator.terminate(std::time::Duration::from_secs(15)).await.unwrap();
    shows(&why(&world, "internal"), 4, &["no operator acts", "kubectl logs -n roomrobot-system"]);
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
