//! `kubectl roomrobot` as a program, against a real API server and a running operator.

mod acting;
mod doctor;
mod krew;
mod release;
mod session;
mod tenant;
mod terminal;
mod why;

use crate::harness::{self, PATIENCE, World, eventually};
use kube::api::DeleteParams;
use serde_json::{Value, json};
use std::{
    path::Path,
    process::{Command, Stdio},
};
use testbed::{
    operator::Operator,
    simulator::{Fault, Kind},
};

/// How a run of the plugin ended.
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Ran {
    /// Its output as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}{}", self.out, self.err))
    }
}

/// Runs the plugin as the cluster's administrator.
pub fn roomrobot(world: &World, args: &[&str]) -> Ran {
    with_input(world, args, None)
}

pub fn with_input(world: &World, args: &[&str], input: Option<&str>) -> Ran {
    with_kubeconfig(&world.plane.admin_kubeconfig(), args, input)
}

/// Runs it as somebody else.
pub fn with_kubeconfig(kubeconfig: &Path, args: &[&str], input: Option<&str>) -> Ran {
    use std::io::Write as _;
    tokio::task::block_in_place(|| {
        let mut child = Command::new(harness::plugin())
            .args(args)
            .env("KUBECONFIG", kubeconfig)
            .env_remove("ROOMROBOT_NAMESPACE")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let _ = stdin.write_all(input.unwrap_or_default().as_bytes());
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ran { code: output.status.code().unwrap(), out: text(&output.stdout), err: text(&output.stderr) }
    })
}

/// Runs a command that the plugin printed, as the administrator, in a shell.
pub fn shell(world: &World, command: &str) {
    let kubectl = world.plane.kubectl();
    let path = std::env::var("PATH").unwrap_or_default();
    let status = tokio::task::block_in_place(|| {
        Command::new("sh")
            .args(["-c", command])
            .env("PATH", format!("{}:{path}", kubectl.parent().unwrap().display()))
            .env("KUBECONFIG", world.plane.admin_kubeconfig())
            .status()
            .unwrap()
    });
    assert!(status.success(), "{command}");
}

/// Waits until the Lease that the plugin reads names a leader.
pub async fn led(world: &World, operator: &Operator<'_>) {
    eventually("somebody leads", || async { crate::harness::leads(operator) }).await;
    let _ = world;
}

#[tokio::test(flavor = "multi_thread")]
async fn list_shows_what_waits_over_namespaces_the_oldest_first() {
    let world = World::new().await;
    let operator = world.operator().await;
    led(&world, &operator).await;
    let fine = roomrobot(&world, &["list"]);
    assert_eq!((fine.code, fine.out.as_str()), (0, "No deletion waits.\n"), "{}", fine.err);
    world.simulator.fail(Fault::always(Kind::Code(100_006)).room("held"));
    world.simulator.fail(Fault::always(Kind::Code(100_001)).room("retried"));
    for name in ["held", "retried"] {
        world.robot(name).await;
        world.ready(name).await;
    }
    world.delete("held").await;
    world.waits_for("held", "PermissionDenied").await;
    // The time stamps of deletions have whole seconds.
    let since = std::time::Instant::now();
    eventually("another second has begun", || async { since.elapsed().as_millis() > 1100 }).await;
    world.delete("retried").await;
    world.waits_for("retried", "InternalError").await;
    let list = roomrobot(&world, &["list", "-o", "json"]);
    assert_eq!(list.code, 4, "a person must act for one of them");
    let list = list.json();
    let names: Vec<&str> = list.as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["held", "retried"]);
    assert_eq!((&list[0]["reason"], &list[0]["errorCode"]), (&json!("PermissionDenied"), &json!(100_006)));
    assert_eq!((&list[0]["needsAPerson"], &list[1]["needsAPerson"]), (&json!(true), &json!(false)));
    let id = &world.simulator.calls_about("held", "held")[0].request_id;
    assert_eq!(list[0]["requestId"], json!(id));
    let table = roomrobot(&world, &["list", "-n", &world.namespace]);
    assert!(table.out.starts_with("NAMESPACE") && table.out.contains(id), "{}", table.out);
    assert!(!table.out.contains('\x1b'), "no colours where nobody sees them");
    assert!(table.err.contains("kubectl roomrobot why held -n"), "{}", table.err);
    assert_eq!(roomrobot(&world, &["list", "-n", "default"]).code, 0, "nothing waits in another namespace");
    let yaml = roomrobot(&world, &["list", "-o", "yaml"]);
    assert!(yaml.out.contains("reason: InternalError"), "{}", yaml.out);
}

/// `plan` asks the operator's engine; then the namespace is deleted, and what was called is compared.
#[tokio::test(flavor = "multi_thread")]
async fn plan_says_what_a_deletion_then_calls() {
    let world = World::new().await;
    let operator = world.operator().await;
    led(&world, &operator).await;
    for name in ["plain-1", "plain-2"] {
        world.robot(name).await;
    }
    world.robot_with("kept", json!({"deletionPolicy": "Retain"})).await;
    world.robot_with("paused", json!({"suspend": true})).await;
    let elsewhere = crate::harness::unique("other");
    crate::harness::create_namespace(&world.client, &elsewhere).await;
    world.simulator.add_members(world.sdk_app_id, "shared", ["shared"]);
    world.robot_with("claimed", json!({"roomId": "shared", "memberAccount": "shared"})).await;
    let twin = crate::harness::manifest::<roomrobot_core::crd::RoomRobot>(
        "twin",
        json!({"roomId": "shared", "memberAccount": "shared", "applicationRef": {"name": world.app}}),
    );
    let others = kube::Api::<roomrobot_core::crd::RoomRobot>::namespaced(world.client.clone(), &elsewhere);
    crate::harness::create(&others, twin).await;
    eventually("the twin is accepted", || async {
        others.get("twin").await.is_ok_and(|robot| crate::harness::is_true(&robot, "Ready"))
    })
    .await;
    world.all_ready(5).await;

    let plan = roomrobot(&world, &["plan", "namespace", &world.namespace, "-o", "json"]).json();
    let fate = |name: &str| {
        let rows = plan["robots"].as_array().unwrap();
        rows.iter().find(|row| row["name"] == name).unwrap_or_else(|| panic!("{name}: {plan}")).clone()
    };
    assert_eq!(
        (&plan["calls"], &plan["withoutACall"], &plan["waiting"]),
        (&json!(2), &json!(2), &json!(1)),
        "{plan}"
    );
    assert_eq!(fate("plain-1")["call"], "delete_robot");
    assert_eq!(fate("kept")["reason"], "Retained");
    assert_eq!((&fate("paused")["reason"], &fate("paused")["waits"]), (&json!("Suspended"), &json!(true)));
    assert_eq!(fate("claimed")["reason"], "StillClaimed");
    let told = fate("claimed")["message"].as_str().unwrap().to_owned();
    assert!(told.contains("in another namespace") && !told.contains(&elsewhere), "{told}");
    // Nothing was called and nothing was written for the asking.
    assert_eq!(world.simulator.calls().len(), 0);

    let one = roomrobot(&world, &["plan", "-n", &world.namespace, "plain-1", "nobody"]);
    assert!(
        one.out.contains("Calls of delete_robot: 1.") && one.err.contains("nobody"),
        "{}{}",
        one.out,
        one.err
    );
    let file = format!(
        "kind: Namespace\nmetadata:\n  name: {elsewhere}\n---\nkind: RoomRobot\nmetadata:\n  name: claimed\n  namespace: {}\n",
        world.namespace
    );
    let both = with_input(&world, &["plan", "-f", "-", "-o", "json"], Some(&file)).json();
    assert_eq!(both["robots"].as_array().unwrap().len(), 2, "{both}");
    assert!(both["calls"].as_u64().unwrap() >= 1, "with both gone, somebody removes the robot: {both}");
    let nothing = roomrobot(&world, &["plan"]);
    assert!(nothing.code == 2 && nothing.err.contains("--filename"), "{}", nothing.err);

    let api = kube::Api::<k8s_openapi::api::core::v1::Namespace>::all(world.client.clone());
    api.delete(&world.namespace, &DeleteParams::default()).await.unwrap();
    // The namespace controller waits for some seconds by itself before it deletes what is in a namespace.
    testbed::control_plane::wait_for(
        std::time::Duration::from_secs(90),
        "the namespace's deletion",
        || async {
            let paused = world.robots().get("paused").await.unwrap();
            crate::harness::reason_of(&paused, "RobotDeleted") == Some("Suspended")
        },
    )
    .await
    .unwrap();
    eventually("the others are gone", || async {
        world.robots().list(&kube::api::ListParams::default()).await.unwrap().items.len() == 1
    })
    .await;
    assert_eq!(world.simulator.calls().len(), 2, "as was planned");
    let refused = roomrobot(&world, &["release", "paused", "-n", &world.namespace]);
    assert_eq!(refused.code, 2, "no release without a reason");
    let released = roomrobot(
        &world,
        &["release", "paused", "-n", &world.namespace, "--reason", "the event is over", "-o", "json"],
    );
    assert_eq!(released.code, 0, "{}", released.err);
    // The namespace takes no new object: the reason is kept with the operator.
    let event = released.json()[0]["event"].as_str().unwrap().to_owned();
    assert!(event.starts_with("roomrobot-system/paused."), "{event}");
    world.gone("paused").await;
    let events = world.events_about("paused").await;
    let kept = events.iter().find(|event| event.reason.as_deref() == Some("Released")).unwrap();
    let note = kept.note.as_deref().unwrap();
    assert!(note.contains("Released by admin") && note.ends_with("the event is over"), "{note}");
    assert_eq!(world.simulator.calls().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn release_keeps_the_reason_where_the_robot_was_and_tells_who() {
    let world = World::new().await;
    let operator = world.operator().await;
    led(&world, &operator).await;
    world.simulator.fail(Fault::always(Kind::Code(100_006)));
    for name in ["a", "b", "alive"] {
        world.robot(name).await;
        world.ready(name).await;
    }
    for name in ["a", "b"] {
        world.delete(name).await;
        world.waits_for(name, "PermissionDenied").await;
    }
    let released =
        roomrobot(&world, &["release", "--all", "-n", &world.namespace, "--reason", "room is private"]);
    assert!(
        released.code == 0 && released.out.contains("stays in its room"),
        "{}{}",
        released.out,
        released.err
    );
    for name in ["a", "b"] {
        assert_eq!(crate::harness::reason_of(&world.gone(name).await, "RobotDeleted"), Some("Retained"));
        let events = world.events_about(name).await;
        let kept = events.iter().find(|event| event.reason.as_deref() == Some("Released")).unwrap();
        assert_eq!(kept.metadata.namespace.as_ref(), Some(&world.namespace));
    }
    let alive = world.robots().get("alive").await.unwrap();
    assert_eq!(
        serde_json::to_value(alive.spec.deletion_policy).unwrap(),
        "Delete",
        "--all is about deletions"
    );
    let nobody = roomrobot(&world, &["release", "nobody", "-n", &world.namespace, "--reason", "x"]);
    assert!(nobody.code == 1 && nobody.err.contains("there is no RoomRobot"), "{}", nobody.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_come_from_statuses_events_and_audit_lines() {
    let world = World::new().await;
    let operator = world.operator().await;
    led(&world, &operator).await;
    world.simulator.fail(Fault::always(Kind::Code(100_006)).room("held"));
    for name in ["gone", "held"] {
        world.robot(name).await;
        world.ready(name).await;
        world.delete(name).await;
    }
    world.gone("gone").await;
    world.waits_for("held", "PermissionDenied").await;
    let id = |name: &str| world.simulator.calls_about(name, name)[0].request_id.clone();
    world.announced("gone", "Deleted").await;
    let found = |ran: &Ran, name: &str| {
        let list = ran.json();
        let row = list.as_array().unwrap().iter().find(|row| row["requestId"] == json!(id(name))).cloned();
        row.unwrap_or_else(|| panic!("{name}: {list}"))
    };
    let online = roomrobot(&world, &["requests", "-n", &world.namespace, "--since", "10m", "-o", "json"]);
    assert_eq!(found(&online, "gone")["source"], "event");
    assert_eq!(found(&online, "held")["source"], "status");
    assert_eq!(found(&online, "gone")["errorCode"], 0);
    let log = operator.log();
    let offline = with_input(&world, &["requests", "--offline", "-", "-o", "json"], Some(&log));
    let row = found(&offline, "gone");
    assert_eq!(
        (&row["source"], &row["room"], &row["application"]),
        (&json!("audit"), &json!("gone"), &json!(world.app))
    );
    // The same from a file.
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &log).unwrap();
    let path = file.path().to_str().unwrap();
    let from_file = roomrobot(&world, &["requests", "--offline", path, "-o", "json"]);
    assert_eq!(from_file.json(), offline.json());
    let nowhere = roomrobot(&world, &["requests", "--offline", "/nonexistent"]);
    assert!(nowhere.code == 1 && nowhere.err.contains("/nonexistent: "), "{}", nowhere.err);
    let failed = with_input(&world, &["requests", "--offline", "--failed", "-"], Some(&log));
    assert!(failed.out.contains(&id("held")) && !failed.out.contains(&id("gone")), "{}", failed.out);
    // 100004 is a failure of an addition, whoever tells.
    world.robot_with("early", json!({"creationPolicy": "Create"})).await;
    let event = world.announced("early", "RoomNotFound").await;
    assert_eq!(event.action.as_deref(), Some("AddRobot"));
    for args in
        [&["requests", "-n", &world.namespace, "--failed"][..], &["requests", "--offline", "--failed", "-"]]
    {
        let failed = with_input(&world, args, Some(&operator.log()));
        assert!(failed.out.contains(&id("early")) && failed.out.contains("add_robot"), "{}", failed.out);
    }
    let old = roomrobot(
        &world,
        &["requests", "-A", "--to", "2020-01-01T00:00:00Z", "--from", "2019-01-01T00:00:00Z"],
    );
    assert!(old.out.contains("No RequestId between"), "{}", old.out);
    // Beside everything that was asked: nothing of the key, a UserSig or a URL's query.
    for text in [&online.out, &offline.out, &failed.out] {
        assert!(!text.contains("usersig=") && !text.contains(crate::harness::KEY));
    }
}

/// As kubectl does, it reaches the cluster by the kubeconfig's proxy, and this machine's without that of the environment.
#[tokio::test(flavor = "multi_thread")]
async fn the_cluster_is_reached_by_a_proxy() {
    use tokio::{
        io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, copy_bidirectional},
        net::{TcpListener, TcpStream},
    };
    let world = World::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = format!("http://{}", listener.local_addr().unwrap());
    let served = tokio::spawn(async move {
        let mut client = BufReader::new(listener.accept().await.unwrap().0);
        let mut first = String::new();
        client.read_line(&mut first).await.unwrap();
        let mut line = first.clone();
        while !line.trim().is_empty() {
            line.clear();
            client.read_line(&mut line).await.unwrap();
        }
        let to = first.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next()).unwrap().to_owned();
        let mut server = TcpStream::connect(&to).await.unwrap();
        client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        let _ = copy_bidirectional(&mut client, &mut server).await;
        to
    });
    let list = |kubeconfig: &Path| {
        let output = tokio::task::block_in_place(|| {
            Command::new(harness::plugin())
                .arg("list")
                .env("KUBECONFIG", kubeconfig)
                .env("HTTPS_PROXY", "http://127.0.0.1:1")
                .output()
                .unwrap()
        });
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    list(&world.plane.admin_kubeconfig());
    assert!(!served.is_finished(), "nobody asked for this proxy");
    let config = tempfile::NamedTempFile::new().unwrap();
    std::fs::copy(world.plane.admin_kubeconfig(), config.path()).unwrap();
    let (path, proxied) = (config.path().to_str().unwrap(), format!("--proxy-url={proxy}"));
    let text = std::fs::read_to_string(config.path()).unwrap();
    let read: Value = serde_saphyr::from_str(&text).unwrap();
    let cluster = read["clusters"][0]["name"].as_str().unwrap();
    world
        .plane
        .run_kubectl(&["config", "set-cluster", cluster, "--kubeconfig", path, &proxied], None)
        .unwrap();
    list(config.path());
    assert_eq!(served.await.unwrap(), format!("127.0.0.1:{}", world.plane.port()));
}

/// As people call it: kubectl finds the plugin by its name.
#[tokio::test(flavor = "multi_thread")]
async fn kubectl_finds_it_and_it_fails_in_one_line() {
    let world = World::new().await;
    let folder = harness::plugin().parent().unwrap();
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap_or_default());
    let output = tokio::task::block_in_place(|| {
        Command::new(world.plane.kubectl())
            .args(["roomrobot", "list"])
            .env("PATH", path)
            .env("KUBECONFIG", world.plane.admin_kubeconfig())
            .output()
            .unwrap()
    });
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let bare = crate::harness::Plane::bare().await;
    let nowhere = roomrobot(&world, &["list", "--kubeconfig", "/nonexistent"]);
    assert_eq!(nowhere.code, 1);
    assert_eq!(nowhere.err.lines().count(), 1, "{}", nowhere.err);
    let wrong = roomrobot(&world, &["walk"]);
    assert_eq!(wrong.code, 2);
    for args in [&["why", "x"][..], &["release", "x", "--reason", "y"], &["list"]] {
        let none = with_kubeconfig(&bare.admin_kubeconfig(), args, None);
        assert!(
            none.code == 1 && none.err.contains("CustomResourceDefinitions are not installed"),
            "{}",
            none.err
        );
    }
    let script = roomrobot(&world, &["completion", "bash"]);
    assert!(script.code == 0 && script.out.contains("kubectl-roomrobot"));
    let _ = PATIENCE;
}
