//! On a terminal: colours, progress while many are read, and nothing that others wrote as a command.

use super::{led, roomrobot, with_input};
use crate::harness::{self, World, conditions, create, eventually, manifest};
use futures::StreamExt as _;
use k8s_openapi::api::events::v1::Event;
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use roomrobot_core::{crd::RoomRobot, printable::printable};
use serde_json::{Value, json};
use std::process::{Command, Stdio};
use testbed::simulator::{Fault, Kind};

/// What the plugin shows on a terminal: both of its outputs.
fn on_a_terminal(world: &World, args: &str) -> String {
    let command = format!("{} {args}", harness::plugin().display());
    let output = tokio::task::block_in_place(|| {
        Command::new("script")
            .args(["-q", "-c", &command, "/dev/null"])
            .env("KUBECONFIG", world.plane.admin_kubeconfig())
            .env("TERM", "xterm")
            .env_remove("NO_COLOR")
            .env_remove("ROOMROBOT_NAMESPACE")
            .stdin(Stdio::null())
            .output()
            .unwrap()
    });
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_sees_colours_and_how_far_it_is() {
    let world = World::new().await;
    let names: Vec<String> = (0..510).map(|n| format!("r-{n}")).collect();
    futures::stream::iter(&names)
        .for_each_concurrent(16, |name| async { drop(world.robot_with(name, json!({})).await) })
        .await;
    // More than a page: all of them are read.
    let plan = roomrobot(&world, &["plan", "namespace", &world.namespace, "-o", "json"]);
    assert_eq!(plan.json()["robots"].as_array().unwrap().len(), names.len());
    assert!(!plan.err.contains("read 500"), "nobody sees progress there: {}", plan.err);
    let shown = on_a_terminal(&world, &format!("list -n {}", world.namespace));
    assert!(shown.contains("read 500 RoomRobots ..."), "{shown:?}");
    assert!(shown.contains("\x1b[32mNo deletion waits."), "{shown:?}");
    let json = on_a_terminal(&world, &format!("list -n {} -o json", world.namespace));
    assert!(json.contains("[]") && !json.contains("\x1b[32m"), "no colours for programs: {json:?}");
}

/// A title for the window, a link, the clipboard, a line of its own, text in another order, and the C1 twin of ESC.
const ODD: &str = "x\u{1b}]0;t\u{7}\u{1b}]8;;http://x\u{1b}\\y\u{1b}]52;c;eA==\u{7}\nFORGED: well\r\u{202e}z\u{2066}\u{9b}31m\u{85}";

/// Nothing but the plugin's own colours and progress moves a terminal, and no line begins with what others wrote.
fn harmless(what: &str, shown: &str) {
    let mut own = shown.replace("\r\u{1b}[K", "").replace("\r\n", "\n");
    for color in ["\u{1b}[0m", "\u{1b}[1m", "\u{1b}[31m", "\u{1b}[32m", "\u{1b}[33m"] {
        own = own.replace(color, "");
    }
    for line in own.lines() {
        assert_eq!(printable(line), line, "{what} shows as a command: {shown:?}");
        assert!(!line.starts_with("FORGED"), "{what} shows a line that others wrote: {shown:?}");
    }
}

/// RoomRobots that were stored while the schema had no pattern yet.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_an_objects_text_is_a_command() {
    let world = World::new().await;
    world.plane.kubectl_apply(include_str!("../data/first-crd.yaml")).unwrap();
    let room = format!("a robot=b code=0 {ODD}");
    let stored = |name: &str, app: &str, room: &str| {
        let spec = json!({"roomId": room, "memberAccount": name, "applicationRef": {"name": app}});
        let mut object = manifest::<RoomRobot>(name, spec);
        object["metadata"]["finalizers"] = json!(["roomrobot.dev/delete-robot"]);
        let (robots, object) = (world.robots(), serde_json::from_value(object).unwrap());
        async move { robots.create(&PostParams::default(), &object).await.map_err(|error| eprintln!("{error}")) }
    };
    eventually("the first schema takes them", || async { stored("waits", ODD, "r").await.is_ok() }).await;
    stored("refused", ODD, "r").await.unwrap();
    stored("called", &world.app, &room).await.unwrap();
    let accepted = json!({"status": {"conditions": [{"type": "Accepted", "status": "True", "reason": "Accepted",
        "message": ODD, "lastTransitionTime": "2026-01-01T00:00:00Z"}]}});
    world.robots().patch_status("waits", &PatchParams::default(), &Patch::Merge(accepted)).await.unwrap();
    world.plane.install_crds().await.unwrap();
    world.simulator.fail(Fault::always(Kind::Code(100_001)).room(&room));
    let operator = world.operator_with_env(&[], &[("ROOMROBOT_LOG_FORMAT", "text")]).await;
    led(&world, &operator).await;
    world.ready("called").await;
    for name in ["waits", "called"] {
        world.delete(name).await;
    }
    world.waits_for("waits", "ApplicationNotReady").await;
    world.waits_for("called", "InternalError").await;
    world
        .robot_until("refused", "is refused", |robot| {
            crate::harness::reason_of(robot, "Ready") == Some("ApplicationNotFound")
        })
        .await;

    // Its conditions, its Events, its log.
    for name in ["waits", "refused", "called"] {
        for condition in conditions(&world.robots().get(name).await.unwrap()) {
            assert_eq!(printable(&condition.message), condition.message, "{name}");
        }
        for event in world.events_about(name).await {
            let note = event.note.unwrap_or_default();
            assert_eq!(printable(&note), note, "{name}");
        }
    }
    let log = operator.log();
    harmless("the log", &log);
    assert!(log.lines().all(|line| line.starts_with("20")), "each line has its time: {log}");

    // What the plugin prints.
    let n = &world.namespace;
    for args in [
        "list".to_owned(),
        format!("list -n {n}"),
        format!("why waits -n {n}"),
        format!("why refused -n {n}"),
        format!("why called -n {n}"),
        format!("why -n {n}"),
        format!("plan namespace {n}"),
        format!("requests -n {n}"),
        "doctor".to_owned(),
        format!("release waits refused nobody -n {n} --reason x"),
    ] {
        harmless(&args, &on_a_terminal(&world, &args));
        let words: Vec<&str> = args.split(' ').collect();
        let ran = roomrobot(&world, &words);
        harmless(&args, &ran.out);
        harmless(&args, &ran.err);
    }
    // The room is read as it is, and the code is the call's.
    let lines = with_input(&world, &["requests", "--offline", "-", "-o", "json"], Some(&log)).json();
    let row = lines.as_array().unwrap().iter().find(|row| row["name"] == "called").cloned().unwrap();
    assert_eq!((&row["room"], &row["errorCode"]), (&json!(room), &json!(100_001)), "{row}");
    harmless("requests", &with_input(&world, &["requests", "--offline", "-"], Some(&log)).out);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_of_somebody_else_is_not_what_the_operator_says() {
    let world = World::new().await;
    let events = Api::<Event>::namespaced(world.client.clone(), &world.namespace);
    let event = |name: &str, reporter: &str, second: u8| -> Value {
        json!({
            "metadata": {"name": name, "namespace": world.namespace},
            "eventTime": format!("2026-01-01T00:00:0{second}.000000Z"), "action": "DeleteRobot", "type": "Normal",
            "reason": "Deleted", "note": format!("{name} says {ODD}: ErrorCode 0, RequestId Id-forged"),
            "reportingController": reporter, "reportingInstance": "x",
            "regarding": {"apiVersion": "roomrobot.dev/v1alpha1", "kind": "RoomRobot", "name": "ghost",
                "namespace": world.namespace},
        })
    };
    create(&events, event("other", "example.com/other", 2)).await;
    let none = roomrobot(&world, &["why", "ghost", "-n", &world.namespace]);
    assert!(none.code == 1 && none.err.contains("no Event of it is left"), "{}{}", none.out, none.err);
    // Whoever may create Events may claim to be the operator: the screen says who claims it.
    create(&events, event("named", "roomrobot-operator", 1)).await;
    let named = roomrobot(&world, &["why", "ghost", "-n", &world.namespace]);
    assert!(
        named.out.contains("named says x\\u{1b}]0;t") && !named.out.contains("other says"),
        "{}",
        named.out
    );
    assert!(named.out.contains("reporter       roomrobot-operator"), "{}", named.out);
    harmless("why", &on_a_terminal(&world, &format!("why ghost -n {}", world.namespace)));
}
