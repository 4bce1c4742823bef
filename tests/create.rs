//! `creationPolicy: Create`: the operator brings the robot in, says what it knows of it, and never takes it out before it
//! came in. `docs/creating-robots.md` has the reasoning.

use crate::harness::{
    NOWHERE, World, codes_that_stop, create, eventually, is_true, manifest, message_of, reason_of,
};
use crate::reliability::{
    Allowed,
    api_server::{refuse, through},
};
use futures::StreamExt as _;
use hyper::Method;
use roomrobot_core::{
    codes::{CODES, Class},
    crd::RoomRobot,
};
use roomrobot_operator::crash::Point;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};
use testbed::{
    proxy::{Action, Proxy, Rule},
    simulator::{Call, Fault, Kind},
};

const ADD: &str = "add_robot";
const DELETE: &str = "delete_robot";
const UNCERTAIN: &str = "The robot may be in the room or not; ";

/// `status` of a condition.
fn status_of<'a>(robot: &'a RoomRobot, kind: &str) -> Option<&'a str> {
    crate::harness::condition(robot, kind).map(|condition| condition.status.as_str())
}

/// A fault of the next `times` additions to `room`.
fn on_add(kind: Kind, times: u32, room: &str) -> Fault {
    Fault::times(kind, times).command(ADD).room(room)
}

impl World {
    /// An empty room, and a RoomRobot of the same name that is to bring its robot in.
    async fn newcomer(&self, name: &str) -> RoomRobot {
        self.newcomer_with(name, json!({})).await
    }

    async fn newcomer_with(&self, name: &str, mut more: Value) -> RoomRobot {
        self.simulator.add_members(self.sdk_app_id, name, [""; 0]);
        more["creationPolicy"] = json!("Create");
        self.robot_with(name, more).await
    }

    /// Waits until `Ready` has this status and reason.
    async fn ready_is(&self, name: &str, status: &str, reason: &str) -> RoomRobot {
        self.robot_until(name, &format!("Ready={status}/{reason}"), |robot| {
            (status_of(robot, "Ready"), reason_of(robot, "Ready")) == (Some(status), Some(reason))
        })
        .await
    }

    /// Waits until the robot was added, which the message says with its RequestId.
    async fn added(&self, name: &str) -> RoomRobot {
        let robot = self.ready_is(name, "True", "Added").await;
        let request = robot.status.clone().unwrap().last_request.unwrap();
        assert_eq!((request.operation.as_str(), request.error_code), (ADD, Some(0)), "{name}");
        let ending = format!("ErrorCode 0, RequestId {}", request.request_id.unwrap());
        assert!(message_of(&robot, "Ready").ends_with(&ending), "{name}: {}", message_of(&robot, "Ready"));
        robot
    }

    /// Whether some watcher ever saw `Ready` with this status and reason.
    fn was_seen(&self, name: &str, status: &str, reason: &str) -> bool {
        self.views(name)
            .iter()
            .any(|view| (status_of(view, "Ready"), reason_of(view, "Ready")) == (Some(status), Some(reason)))
    }

    /// The commands about the robot that is named as its room.
    fn commands(&self, name: &str) -> Vec<String> {
        self.simulator.calls_about(name, name).into_iter().map(|call| call.command).collect()
    }

    async fn called(&self, count: usize) {
        eventually("calls", || async { self.simulator.calls().len() >= count }).await;
    }

    /// A change of the spec that means nothing in the end: it is tried at once.
    async fn nudge(&self, name: &str) {
        self.patch(name, json!({"spec": {"suspend": true}})).await;
        self.robot_until(name, "is suspended", |robot| reason_of(robot, "Ready") == Some("Suspended")).await;
        self.patch(name, json!({"spec": {"suspend": false}})).await;
    }

    /// Deletes a robot that was added, and sees it removed by one call after all additions.
    async fn removed(&self, name: &str) {
        self.delete(name).await;
        let last = self.gone(name).await;
        assert_eq!(reason_of(&last, "RobotDeleted"), Some("Deleted"), "{name}");
        let commands = self.commands(name);
        let at = commands.iter().position(|command| command == DELETE);
        assert_eq!(at, Some(commands.len() - 1), "{name}: {commands:?}");
    }

    /// Compares the calls robot by robot: additions, then at most one deletion and `again` more after a crash, none of
    /// them before an addition; and nobody is left in any room.
    fn verify_order(&self, again: usize) {
        let mut robots: BTreeMap<(String, String), Vec<Call>> = BTreeMap::new();
        for call in self.simulator.calls() {
            robots.entry((call.room.clone(), call.member.clone())).or_default().push(call);
        }
        for (robot, calls) in robots {
            let additions = calls.iter().take_while(|call| call.command == ADD).count();
            let deletions = calls.len() - additions;
            assert!(calls[additions..].iter().all(|call| call.command == DELETE), "{robot:?}: {calls:#?}");
            // After a restart nobody knows whether an addition that was in line was sent.
            assert!(additions > 0 || again > 0, "{robot:?} was deleted and never added");
            // An answer that was not final, such as a throttle, is no deletion.
            let last =
                calls[additions..].iter().filter(|call| matches!(call.code, Some(0 | 100_005))).count();
            assert!(last <= 1 + again && deletions > 0, "{robot:?}: {calls:#?}");
        }
        assert_eq!(self.simulator.population(), 0, "somebody was left in a room");
        assert_eq!(self.simulator.repeated_randoms(), 0);
        for command in [ADD, DELETE] {
            let calls = self.simulator.calls().into_iter().filter(|call| call.command == command);
            let fullest = promises::most_in(&calls.map(|call| call.at).collect::<Vec<_>>(), 1_000_000);
            assert!(fullest <= 200, "{fullest} calls of {command} in a second");
        }
    }
}

// What is told.

/// Finalizer, acceptance, call, record; then one call and two writes for the deletion.
#[tokio::test(flavor = "multi_thread")]
async fn a_robots_whole_life_is_one_call_each_way_and_the_first_follows_the_finalizer() {
    let world = World::new().await;
    let operator = world.operator().await;
    let names: Vec<String> = (0..20).map(|n| format!("r-{n}")).collect();
    for name in &names {
        world.newcomer(name).await;
    }
    for name in &names {
        world.added(name).await;
        assert!(world.was_seen(name, "Unknown", "Adding"), "{name}");
    }
    assert_eq!(world.simulator.population(), 20);
    // The simulator's clock and the API server's, brought together.
    let started = jiff_now() - i128::from(world.simulator.elapsed());
    for name in &names {
        let writes: Vec<_> =
            world.robot_writes().into_iter().filter(|write| write.object_ref.name == *name).collect();
        let what: Vec<_> = writes.iter().map(|write| write.object_ref.subresource.as_str()).collect();
        assert_eq!(what, ["", "status", "status"], "{name}");
        let call = started + i128::from(world.simulator.calls_about(name, name)[0].at);
        for before in &writes[..2] {
            let sent = i128::from(before.request_received_timestamp.0.as_microsecond());
            assert!(sent < call, "{name}: {} us too late", sent - call);
        }
    }
    world.delete_all().await;
    world.all_gone(Duration::from_secs(20)).await;
    for name in &names {
        assert_eq!(world.commands(name), [ADD, DELETE], "{name}");
        let writes = world.robot_writes();
        assert_eq!(writes.iter().filter(|write| write.object_ref.name == *name).count(), 5, "{name}");
    }
    world.verify(0).await;
    world.verify_order(0);
    operator.terminate(Duration::from_secs(10)).await.unwrap();
}

fn jiff_now() -> i128 {
    i128::from(k8s_openapi::jiff::Timestamp::now().as_microsecond())
}

/// Every code that is documented and concerns one robot, on a robot of its own, and one that is not documented.
#[tokio::test(flavor = "multi_thread")]
async fn every_code_on_add_has_its_condition() {
    let world = World::new().await;
    let _operator = world.operator().await;
    world.newcomer("first").await;
    world.added("first").await;
    let rows: Vec<(i64, Class)> = CODES
        .iter()
        .filter(|row| !row.class.stops_application())
        .map(|row| (row.code, row.class))
        .chain([(424_242, Class::Unknown)])
        .collect();
    for (code, class) in &rows {
        let name = format!("code-{code}");
        if *class != Class::Done {
            world.simulator.fail(on_add(Kind::Code(*code), 1, &name));
        }
        world.newcomer(&name).await;
    }
    for (code, class) in &rows {
        let name = format!("code-{code}");
        // Status and reason, whether a person must act, and whether it is tried again within seconds.
        let (status, reason, stalled, soon) = match (*class, *code) {
            (Class::Done, _) => {
                world.added(&name).await;
                continue;
            }
            (Class::Gone, 100_004) => ("False", "RoomNotFound", false, false),
            (Class::Gone | Class::Unknown, _) => ("Unknown", "UnknownErrorCode", true, false),
            (Class::Retry, _) => ("Unknown", "InternalError", false, true),
            (Class::Throttled, _) => ("False", "Throttled", false, true),
            (Class::Invalid, 70107) => ("False", "AccountNotImported", true, false),
            (Class::Invalid, _) => ("False", "InvalidParameter", true, false),
            (Class::RobotPermission, _) => ("False", "PermissionDenied", true, false),
            (Class::Later, 100_008) => ("False", "RoomFull", false, false),
            (Class::Later, _) => ("False", "RobotLimitReached", false, false),
            (Class::Credentials | Class::Expired | Class::Permission | Class::Plan, _) => {
                unreachable!("filtered")
            }
        };
        if soon {
            world.added(&name).await;
            assert!(world.was_seen(&name, status, reason), "{code}");
            continue;
        }
        let waiting = world.ready_is(&name, status, reason).await;
        let message = message_of(&waiting, "Ready");
        let request = waiting.status.as_ref().unwrap().last_request.clone().unwrap();
        let ending = format!("ErrorCode {code}, RequestId {}", request.request_id.unwrap());
        assert!(message.ends_with(&ending), "{message}");
        assert_eq!(message.starts_with(UNCERTAIN), status == "Unknown", "{message}");
        assert_eq!(is_true(&waiting, "Stalled"), stalled, "{code}");
        // It would take minutes or an hour; a change of the spec tries at once.
        world.nudge(&name).await;
        world.added(&name).await;
        assert_eq!(world.commands(&name).len(), 2, "{code}");
    }
    world.delete_all().await;
    world.all_gone(Duration::from_secs(90)).await;
    world.verify(0).await;
    world.verify_order(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_code_on_add_that_stops_an_application_stops_it_and_a_change_starts_it_again() {
    let world = World::new().await;
    let _operator = world.operator().await;
    for (n, (row, times)) in codes_that_stop().enumerate() {
        let name = format!("code-{}", row.code);
        world.simulator.fail(on_add(Kind::Code(row.code), times, &name));
        world.newcomer(&name).await;
        let reason = match row.class {
            Class::Permission => "PermissionDenied",
            Class::Plan => "ApplicationNotReady",
            _ => "CredentialsRejected",
        };
        let waiting = world.ready_is(&name, "False", reason).await;
        assert!(is_true(&waiting, "Stalled"), "{}", row.code);
        assert!(message_of(&waiting, "Ready").contains(&format!("ErrorCode {}", row.code)));
        world.patch_application(json!({"spec": {"requestsPerSecond": 100 + n}})).await;
        world.added(&name).await;
    }
    world.delete_all().await;
    world.all_gone(Duration::from_secs(90)).await;
    world.verify(0).await;
    world.verify_order(0);
}

/// What is no verdict leaves open whether the robot came in; it is asked again until there is one.
#[tokio::test(flavor = "multi_thread")]
async fn every_fault_on_add_has_its_condition_and_is_tried_again() {
    let world = World::new().await;
    let _operator = world.operator().await;
    world.newcomer("first").await;
    world.added("first").await;
    let faults = [
        ("bad-gateway", Kind::Http(502), "Unknown", "UnexpectedReply"),
        ("not-found", Kind::Http(404), "Unknown", "UnexpectedReply"),
        ("too-many", Kind::Http(429), "False", "Throttled"),
        ("reset-before", Kind::ResetBefore, "Unknown", "Unreachable"),
        ("reset-after", Kind::ResetAfter, "Unknown", "Unreachable"),
        ("truncated", Kind::Truncated, "Unknown", "Unreachable"),
        ("malformed", Kind::Body("{\"ErrorCode\": ".into()), "Unknown", "UnexpectedReply"),
        ("text-code", Kind::Body("{\"ErrorCode\": \"0\"}".into()), "Unknown", "UnexpectedReply"),
        ("html", Kind::Html, "Unknown", "UnexpectedReply"),
        ("huge", Kind::Huge(8 * 1024 * 1024), "Unknown", "UnexpectedReply"),
        ("hang", Kind::Hang, "Unknown", "Unreachable"),
        ("late", Kind::Late(500), "Unknown", "Unreachable"),
    ];
    for (name, kind, ..) in &faults {
        let times = if *name == "hang" { 1 } else { 2 };
        world.simulator.fail(on_add(kind.clone(), times, name));
        world.newcomer(name).await;
    }
    for (name, _, status, reason) in &faults {
        let robot = world.added(name).await;
        assert!(!is_true(&robot, "Stalled"), "{name}");
        assert!(world.was_seen(name, status, reason), "{name} never {status}/{reason}");
        assert_eq!(world.commands(name).len(), if *name == "hang" { 2 } else { 3 }, "{name}");
    }
    // A reply without RequestId is a reply.
    world.simulator.fail(on_add(Kind::NoRequestId, 1, "bare"));
    world.newcomer("bare").await;
    let bare = world.ready_is("bare", "True", "Added").await;
    assert!(message_of(&bare, "Ready").ends_with("ErrorCode 0, no RequestId"));
    world.delete_all().await;
    world.all_gone(Duration::from_secs(90)).await;
    world.verify(0).await;
    world.verify_order(0);
}

/// Where no connection came about, nothing was sent, and the robot is certainly not in the room.
#[tokio::test(flavor = "multi_thread")]
async fn an_addition_that_could_not_be_sent_leaves_nothing_open() {
    let world = World::new().await;
    let closed = testbed::control_plane::free_port().unwrap();
    let nowhere = format!("http://127.0.0.1:{closed}");
    let _operator = world.operator_with(&["--allow-endpoint", &nowhere]).await;
    world.patch_application(json!({"spec": {"endpoint": nowhere}})).await;
    world.newcomer("r").await;
    let waiting = world.ready_is("r", "False", "Unreachable").await;
    assert!(message_of(&waiting, "Ready").contains("refused the connection"));
    // A change of the application tries at once, too.
    world.patch_application(json!({"spec": {"endpoint": world.simulator.endpoint()}})).await;
    world.added("r").await;
    world.removed("r").await;
    world.verify_order(0);
    world.verify(0).await;
}

/// 70050 asks to wait for a minute: the condition says so, and nothing is called meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn too_many_bad_signatures_on_add_are_waited_out() {
    let world = World::new().await;
    let _operator = world.operator().await;
    world.simulator.fail(on_add(Kind::Code(70050), 1, "r"));
    world.newcomer("r").await;
    let waiting = world.ready_is("r", "False", "CredentialsRejected").await;
    assert!(is_true(&waiting, "Stalled"));
    assert!(message_of(&waiting, "Ready").contains("ErrorCode 70050, RequestId Id-"));
    // Not even a change of the application is a reason to ask again before the minute is over.
    world.patch_application(json!({"spec": {"requestsPerSecond": 100}})).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(world.commands("r"), [ADD]);
    world.patch("r", json!({"spec": {"deletionPolicy": "Retain"}})).await;
    world.delete("r").await;
    assert_eq!(reason_of(&world.gone("r").await, "RobotDeleted"), Some("Retained"));
    world.verify(0).await;
}

/// Nothing can have been sent to an endpoint that is not found, or that is not the one it says.
#[tokio::test(flavor = "multi_thread")]
async fn certificate_unknown_and_name_not_resolved_on_add() {
    let world = World::new().await;
    let (tls, nowhere) = (format!("https://127.0.0.1:{}", world.plane.port()), NOWHERE);
    let _operator = world.operator_with(&["--allow-endpoint", &tls, "--allow-endpoint", nowhere]).await;
    for (name, endpoint, says) in
        [("tls", tls.as_str(), "certificate is not trusted"), ("name", nowhere, "could not be resolved")]
    {
        world.patch_application(json!({"spec": {"endpoint": endpoint}})).await;
        world.newcomer(name).await;
        let waiting = world.ready_is(name, "False", "Unreachable").await;
        assert!(message_of(&waiting, "Ready").contains(says), "{}", message_of(&waiting, "Ready"));
    }
    world.patch_application(json!({"spec": {"endpoint": world.simulator.endpoint()}})).await;
    for name in ["tls", "name"] {
        world.added(name).await;
        world.removed(name).await;
    }
    world.verify_order(0);
    world.verify(0).await;
}

/// Refused writes, lost replies, cut watches, and the API server killed, all while robots are being added.
#[tokio::test(flavor = "multi_thread")]
async fn the_api_server_fails_while_robots_are_added() {
    let world = World::new().await;
    let proxy = Proxy::start(&world.plane).await.unwrap();
    let _operator = through(&world, &proxy).await;
    world.patch_application(json!({"spec": {"requestsPerSecond": 20}})).await;
    for path in ["/roomrobots", "/roomrobots/status"] {
        refuse(&proxy, 4, &[(Method::PATCH, path)]);
        proxy.add(Rule { method: Method::PATCH, path, times: 10, action: Action::LoseReply });
    }
    let names: Vec<String> = (0..60).map(|n| format!("r-{n}")).collect();
    for name in &names {
        world.newcomer(name).await;
    }
    world.called(10).await;
    proxy.cut_watches();
    world.called(20).await;
    world.plane.restart_api_server().await.unwrap();
    for name in &names {
        world.added(name).await;
        assert_eq!(world.commands(name), [ADD], "an answer was asked for again");
    }
    assert_eq!(proxy.left().len(), 0);
    world.delete_all().await;
    world.all_gone(Duration::from_secs(90)).await;
    world.verify_but(Allowed { lost: 32, ..Allowed::default() }).await;
    world.verify_order(0);
}

/// No page says what a second `add_robot` of the same robot answers. Whatever it is: success ends the doubt, any other
/// answer leaves it, a person who looks can end it by the policy, and the deletion is sure in any case.
#[tokio::test(flavor = "multi_thread")]
async fn each_possible_answer_to_a_second_addition_is_told_as_it_is() {
    let world = World::new().await;
    let _operator = world.operator().await;
    let mut names = Vec::new();
    for (code, reason) in [
        (0, "Added"),
        (100_001, "InternalError"),
        (100_002, "InvalidParameter"),
        (100_003, "UnknownErrorCode"),
        (100_005, "UnknownErrorCode"),
        (100_006, "PermissionDenied"),
        (100_008, "RoomFull"),
        (100_700, "RobotLimitReached"),
        (70107, "AccountNotImported"),
    ] {
        let name = format!("second-{code}");
        world.simulator.set(|settings| settings.second_add = code);
        world.simulator.fail(on_add(Kind::ResetAfter, 1, &name));
        world.newcomer(&name).await;
        if code == 0 {
            world.added(&name).await;
        } else {
            let waiting = world.ready_is(&name, "Unknown", reason).await;
            let message = message_of(&waiting, "Ready");
            assert!(message.starts_with(UNCERTAIN), "{message}");
            assert!(message.contains(&format!("ErrorCode {code}, RequestId")), "{message}");
            // Somebody looked: the robot is there.
            world.patch(&name, json!({"spec": {"creationPolicy": "Adopt"}})).await;
            let adopted = world.ready_is(&name, "True", "Adopted").await;
            assert!(!is_true(&adopted, "Stalled"), "{code}");
        }
        assert!(world.was_seen(&name, "Unknown", "Unreachable"), "{code}");
        names.push(name);
    }
    // There is no such room any more: the robot is nowhere, whatever the first call did.
    world.simulator.fail(on_add(Kind::ResetAfter, 1, "dismissed"));
    world.simulator.fail(on_add(Kind::Code(100_004), 1, "dismissed"));
    world.newcomer("dismissed").await;
    world.ready_is("dismissed", "False", "RoomNotFound").await;
    names.push("dismissed".to_owned());
    for name in names {
        world.removed(&name).await;
    }
    world.verify(0).await;
    world.verify_order(0);
}

// Deletions while something is being added.

/// Held back from the start: nothing was sent, and every process knows it from what is stored.
#[tokio::test(flavor = "multi_thread")]
async fn a_robot_whose_addition_was_never_sent_leaves_without_a_call() {
    let world = World::new().await;
    let operator = world.operator_with(&["--leader-elect=false"]).await;
    world.patch_application(json!({"spec": {"suspend": true}})).await;
    for name in ["now", "later"] {
        world.newcomer(name).await;
        world.ready_is(name, "False", "Suspended").await;
    }
    world.delete("now").await;
    let sees_it_through = |last: &RoomRobot| {
        assert_eq!(reason_of(last, "RobotDeleted"), Some("NotInRoom"));
        assert!(message_of(last, "RobotDeleted").contains("was never sent"));
        assert!(last.status.as_ref().unwrap().last_request.is_none());
    };
    sees_it_through(&world.gone("now").await);
    operator.kill();
    world.delete("later").await;
    // Stored with the finalizer, and deleted before anybody could accept it.
    let spec = json!({
        "roomId": "early", "memberAccount": "early", "applicationRef": {"name": world.app},
        "creationPolicy": "Create",
    });
    let mut early = manifest::<RoomRobot>("early", spec);
    early["metadata"]["finalizers"] = json!(["roomrobot.dev/delete-robot"]);
    create(&world.robots(), early).await;
    world.delete("early").await;
    world.patch_application(json!({"spec": {"suspend": false}})).await;
    let _operator = world.operator_with(&["--leader-elect=false"]).await;
    sees_it_through(&world.gone("later").await);
    sees_it_through(&world.gone("early").await);
    assert_eq!(world.simulator.calls().len(), 0);
    world.verify(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_follows_the_addition_that_is_under_way() {
    let world = World::new().await;
    let _operator = world.operator().await;
    for (name, kind, takes) in [
        ("slow", Kind::DelayMs(2000), 2_000_000),
        // The reply is lost at once; the room engine carries it out when it has nearly given up.
        ("late", Kind::Late(2900), 2_900_000),
        ("refused", Kind::Code(100_700), 0),
    ] {
        let before = world.simulator.calls().len();
        world.simulator.fail(on_add(kind, 1, name));
        world.newcomer(name).await;
        world.called(before + 1).await;
        world.delete(name).await;
        let last = world.gone(name).await;
        let expected = if name == "refused" { "NotInRoom" } else { "Deleted" };
        assert_eq!(reason_of(&last, "RobotDeleted"), Some(expected), "{name}");
        let calls = world.simulator.calls_about(name, name);
        assert_eq!(world.commands(name), [ADD, DELETE], "{name}");
        assert!(calls[1].at >= calls[0].at + takes, "{name}");
    }
    world.verify(0).await;
    world.verify_order(0);
}

/// The process is killed, and what it had sent is carried out long after the next one has begun.
#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_follows_the_addition_of_a_process_that_was_killed() {
    let world = World::new().await;
    let operator = world.operator_with(&["--leader-elect=false"]).await;
    world.newcomer("settled").await;
    world.added("settled").await;
    world.simulator.fail(on_add(Kind::Late(2900), 1, "late"));
    world.newcomer("late").await;
    world.called(2).await;
    operator.kill();
    world.delete_all().await;
    let began = Instant::now();
    let _operator = world.operator_with(&["--leader-elect=false"]).await;
    // One that was added for certain does not wait.
    assert_eq!(reason_of(&world.gone("settled").await, "RobotDeleted"), Some("Deleted"));
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!(reason_of(&world.gone("late").await, "RobotDeleted"), Some("Deleted"));
    assert_eq!(world.commands("late"), [ADD, DELETE]);
    world.verify(0).await;
    world.verify_order(0);
}

/// Killed at each place on the way of an addition: added once, or once more where the answer was lost with the process.
#[tokio::test(flavor = "multi_thread")]
async fn sigkill_at_every_crash_point_of_an_addition() {
    let world = World::new().await;
    for point in Point::ALL {
        let name = point.as_str();
        let env = [("ROOMROBOT_CRASH_AT", name), ("ROOMROBOT_LEADER_ELECT", "false")];
        let mut operator = world.operator_with_env(&[], &env).await;
        world.newcomer(name).await;
        let status = operator.ended(Duration::from_secs(20)).await.unwrap();
        assert!(!status.success(), "{point:?}: {status}");
        let operator = world.operator_with(&["--leader-elect=false"]).await;
        world.added(name).await;
        let expected = if point == Point::AfterCall { 2 } else { 1 };
        assert_eq!(world.commands(name).len(), expected, "{point:?}");
        world.removed(name).await;
        operator.terminate(Duration::from_secs(5)).await.unwrap();
    }
    world.verify(0).await;
    world.verify_order(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_records_an_addition_that_is_under_way() {
    let world = World::new().await;
    let operator = world.operator().await;
    world.simulator.fail(on_add(Kind::DelayMs(1500), 1, "r"));
    world.newcomer("r").await;
    world.called(1).await;
    let status = operator.terminate(Duration::from_secs(11)).await.unwrap();
    assert!(status.success());
    world.added("r").await;
    let _operator = world.operator().await;
    world.removed("r").await;
    assert_eq!(world.commands("r"), [ADD, DELETE]);
    world.verify(0).await;
}

/// Nobody answers additions, and as many as may be are under way: deletions go at their own pace all the same.
#[tokio::test(flavor = "multi_thread")]
async fn additions_that_hang_do_not_slow_deletions() {
    let world = World::new().await;
    let _operator = world.operator().await;
    world.crowd("old", 51).await;
    world.simulator.fail(Fault::always(Kind::Hang).command(ADD));
    // All of them wait, to go out together before the first one is given up.
    world.patch_application(json!({"spec": {"suspend": true, "requestsPerSecond": 60}})).await;
    world.application_until("Suspended").await;
    let names: Vec<String> = (0..120).map(|n| format!("new-{n}")).collect();
    futures::stream::iter(&names)
        .for_each_concurrent(16, |name| async { drop(world.newcomer(name).await) })
        .await;
    world.ready_is("new-119", "False", "Suspended").await;
    world.patch_application(json!({"spec": {"suspend": false}})).await;
    // What this proves holds for them, too.
    world.delete("old-50").await;
    world.gone("old-50").await;
    // More than these are not under way at once: each takes a place of the quota until it is given up.
    world.called(1 + 50).await;
    for n in 0..50 {
        let (name, asked) = (format!("old-{n}"), world.simulator.elapsed());
        world.delete(&name).await;
        assert_eq!(reason_of(&world.gone(&name).await, "RobotDeleted"), Some("Deleted"));
        // An addition holds its place for 8 s.
        let waited = world.simulator.calls_about(&name, &name)[0].at - asked;
        assert!(waited < 3_000_000, "{name} waited for {waited} us");
    }
    world.verify(0).await;
}

/// One quota for each command: both drains at once, each as fast as if it were alone.
#[tokio::test(flavor = "multi_thread")]
async fn additions_and_deletions_have_a_quota_each() {
    let world = World::new().await;
    let _operator = world.operator().await;
    world.crowd("old", 60).await;
    world.patch_application(json!({"spec": {"requestsPerSecond": 20, "suspend": true}})).await;
    world.application_until("Suspended").await;
    world.delete_all().await;
    for n in 0..60 {
        world.newcomer(&format!("new-{n}")).await;
    }
    for n in 0..60 {
        world.ready_is(&format!("new-{n}"), "False", "Suspended").await;
    }
    world.patch_application(json!({"spec": {"suspend": false}})).await;
    world.called(120).await;
    let times = |command: &str| -> Vec<u64> {
        let calls = world.simulator.calls().into_iter().filter(|call| call.command == command);
        calls.map(|call| call.at).collect()
    };
    let (additions, deletions) = (times(ADD), times(DELETE));
    assert_eq!((additions.len(), deletions.len()), (60, 60));
    // One quota for both would hold the two together to 20.
    let mut together = [additions.as_slice(), deletions.as_slice()].concat();
    together.sort_unstable();
    let fullest = promises::most_in(&together, 1_000_000);
    assert!(fullest > 20, "{fullest} additions and deletions in the fullest second");
    assert!(additions[0] < deletions[59] && deletions[0] < additions[59], "one waited for the other");
    assert!(world.simulator.most_in_a_second() <= 20, "{} in a second", world.simulator.most_in_a_second());
    world.verify(0).await;
}

// Many.

/// A thousand robots for twenty rooms; their additions begin in earnest when this returns.
async fn a_thousand(world: &World, pace: u32) -> Vec<(String, String)> {
    world.patch_application(json!({"spec": {"requestsPerSecond": 1}})).await;
    for room in 0..20 {
        world.simulator.add_members(world.sdk_app_id, &format!("room-{room}"), [""; 0]);
    }
    let robots: Vec<(String, String)> =
        (0..1000).map(|n| (format!("room-{}", n % 20), format!("robot-{n}"))).collect();
    futures::stream::iter(&robots)
        .for_each_concurrent(16, |(room, robot)| async move {
            let spec = json!({"roomId": room, "memberAccount": robot, "creationPolicy": "Create"});
            world.robot_with(robot, spec).await;
        })
        .await;
    world.patch_application(json!({"spec": {"requestsPerSecond": pace}})).await;
    robots
}

/// Deleted while additions still run: no room keeps anybody, and who was never added is not asked about.
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_deleted_while_their_additions_still_run() {
    let world = World::new().await;
    let _operator = world.operator().await;
    world.simulator.set(|settings| settings.latency = Duration::from_millis(100));
    let robots = a_thousand(&world, 100).await;
    world.called(300).await;
    assert!(world.simulator.calls().len() < 900, "the additions are over already");
    world.delete_all().await;
    world.patch_application(json!({"spec": {"requestsPerSecond": 200}})).await;
    world.all_gone(Duration::from_secs(90)).await;
    let (mut called, mut spared) = (0, 0);
    for (room, robot) in &robots {
        let commands: Vec<_> =
            world.simulator.calls_about(room, robot).into_iter().map(|call| call.command).collect();
        match commands.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            [ADD, DELETE] => called += 1,
            [] => spared += 1,
            _ => panic!("{robot}: {commands:?}"),
        }
    }
    assert!(called >= 300 && spared > 0, "{called} added, {spared} never");
    assert_eq!(world.simulator.population(), 0);
    assert_eq!(world.all_deleted().len(), 1000);
    world.verify_order(0);
    world.verify(0).await;
}

/// The same with lost replies, additions that come late, throttling, and an operator that is killed twice.
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_deleted_while_their_additions_still_run_and_much_goes_wrong() {
    let world = World::new().await;
    let operator = world.operator_with(&["--leader-elect=false"]).await;
    for room in 0..20 {
        let room = format!("room-{room}");
        world.simulator.fail(on_add(Kind::ResetAfter, 3, &room));
        world.simulator.fail(on_add(Kind::Late(2800), 3, &room));
        world.simulator.fail(on_add(Kind::Code(100_001), 3, &room));
    }
    world.simulator.fail(Fault::times(Kind::Code(60011), 5).command(ADD));
    a_thousand(&world, 100).await;
    world.called(300).await;
    operator.kill();
    let operator = world.operator_with(&["--leader-elect=false"]).await;
    world.called(500).await;
    world.delete_all().await;
    operator.kill();
    let _operator = world.operator_with(&["--leader-elect=false"]).await;
    world.patch_application(json!({"spec": {"requestsPerSecond": 200}})).await;
    world.all_gone(Duration::from_secs(90)).await;
    assert_eq!(world.all_deleted().len(), 1000);
    world.verify_order(1);
    world.verify(2).await;
}

// Tools that wait.

/// `kubectl wait`, as `kubectl rollout status` for other kinds.
#[tokio::test(flavor = "multi_thread")]
async fn kubectl_waits_until_a_robot_is_added_and_until_it_is_gone() {
    let world = World::new().await;
    let _operator = world.operator().await;
    let kubectl = |args: &[&str]| {
        let all = [&["-n", &world.namespace, "wait", "roomrobot/r"], args].concat();
        world.plane.run_kubectl(&all, None)
    };
    // No such room yet.
    world.robot_with("r", json!({"creationPolicy": "Create"})).await;
    world.ready_is("r", "False", "RoomNotFound").await;
    assert!(kubectl(&["--for=condition=Ready", "--timeout=1s"]).is_err(), "there is no robot to be ready");
    world.simulator.add_members(world.sdk_app_id, "r", [""; 0]);
    world.patch("r", json!({"spec": {"suspend": true}})).await;
    world.patch("r", json!({"spec": {"suspend": false}})).await;
    kubectl(&["--for=condition=Ready", "--timeout=20s"]).unwrap();
    let robot = world.robots().get("r").await.unwrap();
    assert_eq!(robot.status.as_ref().unwrap().observed_generation, robot.metadata.generation);
    let deletion = ["-n", &world.namespace, "delete", "roomrobot", "r", "--wait=false"];
    world.plane.run_kubectl(&deletion, None).unwrap();
    kubectl(&["--for=delete", "--timeout=20s"]).unwrap();
    assert_eq!(world.commands("r").last().map(String::as_str), Some(DELETE));
    world.verify(0).await;
}
