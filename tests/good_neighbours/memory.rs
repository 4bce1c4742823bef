//! The peak of memory at a start follows how many objects there are, not what others have stored in them.

use crate::harness::{Plane, World, binary, manifest};
use futures::StreamExt as _;
use kube::api::{DeleteParams, Patch, PatchParams};
use roomrobot_core::crd::{ROBOT_FINALIZER, RoomRobot};
use serde_json::{Value, json};
use std::{
    fs,
    process::{Command, Output, Stdio},
    time::Duration,
};

/// Each has as much of one kind of ballast as the API server takes in good time. All are within one page of a
/// list: its text alone would be more than [`MOST_MEMORY`].
const ROBOTS: usize = 80;

/// What the operator and its hooks may have of memory; the chart's limit is twice as much.
const MOST_MEMORY: u64 = 64 * 1024 * 1024;

/// The API server has much to read and to write here.
const LONG: Duration = Duration::from_secs(180);

/// What stands beside the spec.
#[derive(Clone, Copy, Debug)]
enum Ballast {
    /// As much as annotations may come to.
    Annotations,
    Labels,
    /// Many small conditions, or a few with the longest message there may be.
    Conditions {
        count: usize,
        message: usize,
    },
    /// Finalizers, of which one is ours, in the middle.
    Finalizers,
}

impl Ballast {
    const fn of(number: usize) -> Self {
        match number % 20 {
            0..4 => Self::Annotations,
            4 => Self::Labels,
            5..18 => Self::Conditions { count: 30, message: 32_000 },
            18 => Self::Conditions { count: 1_000, message: 10 },
            _ => Self::Finalizers,
        }
    }

    fn metadata(self) -> Value {
        match self {
            Self::Annotations => json!({"annotations": {"example.com/note": "x".repeat(255 * 1024)}}),
            Self::Labels => {
                let labels = (0..9_000).map(|n| (format!("l{n}"), "x".repeat(63).into()));
                json!({"labels": labels.collect::<serde_json::Map<_, _>>()})
            }
            Self::Conditions { .. } => json!({}),
            Self::Finalizers => {
                let mut list: Vec<String> = (0..4_000).map(|n| format!("example.com/{n:040}")).collect();
                list.insert(2_000, ROBOT_FINALIZER.to_owned());
                json!({"finalizers": list})
            }
        }
    }

    fn conditions(self) -> Vec<Value> {
        let Self::Conditions { count, message } = self else { return Vec::new() };
        let condition = |n| {
            json!({"type": format!("Foreign{n}"), "status": "True", "reason": "Foreign", "message": "x".repeat(message),
                "lastTransitionTime": "2026-01-01T00:00:00Z"})
        };
        (0..count).map(condition).collect()
    }
}

/// Stores the robots, and returns how many bytes they come to as JSON. The answers are not read: that would take longer
/// than all else.
async fn store(world: &World) -> usize {
    let path = format!("/apis/roomrobot.dev/v1alpha1/namespaces/{}/roomrobots", world.namespace);
    let sizes = futures::stream::iter(0..ROBOTS).map(|number| {
        let path = path.clone();
        async move {
            let (name, ballast) = (format!("r-{number}"), Ballast::of(number));
            world.simulator.add_members(world.sdk_app_id, &name, [name.as_str()]);
            let spec = json!({"roomId": name, "memberAccount": name, "applicationRef": {"name": world.app}});
            let mut robot = manifest::<RoomRobot>(&name, spec);
            robot["metadata"]
                .as_object_mut()
                .unwrap()
                .extend(ballast.metadata().as_object().unwrap().clone());
            let request = hyper::Request::post(path.clone()).header("Content-Type", "application/json");
            let request = request.body(robot.to_string().into_bytes()).unwrap();
            let stored = world.client.request_text(request).await.unwrap();
            let conditions = ballast.conditions();
            if conditions.is_empty() {
                return stored.len();
            }
            let body = json!({"status": {"conditions": conditions}}).to_string();
            let request = hyper::Request::patch(format!("{path}/{name}/status"));
            let request = request.header("Content-Type", "application/merge-patch+json");
            world.client.request_text(request.body(body.into_bytes()).unwrap()).await.unwrap().len()
        }
    });
    sizes.buffer_unordered(8).fold(0, async |sum, size| sum + size).await
}

/// The columns of all robots, which is all that this process reads of them.
async fn rows(world: &World) -> Vec<Vec<String>> {
    // The API server reads all of each for this.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let uri =
        format!("/apis/roomrobot.dev/v1alpha1/namespaces/{}/roomrobots?includeObject=None", world.namespace);
    let accept = "application/json;as=Table;v=v1;g=meta.k8s.io";
    let request = hyper::Request::get(uri).header("Accept", accept).body(Vec::new()).unwrap();
    let table: Value = world.client.request(request).await.unwrap();
    let cells = |row: &Value| {
        let cells = row["cells"].as_array().unwrap().iter();
        cells.map(|cell| cell.as_str().unwrap_or_default().to_owned()).collect()
    };
    table["rows"].as_array().unwrap().iter().map(cells).collect()
}

/// Runs a hook to its end, and returns what it said and its peak of memory.
async fn hook(world: &World, args: &[&str]) -> (Output, u64) {
    let mut child = Command::new(binary())
        .arg("hook")
        .args(args)
        .env("KUBECONFIG", world.plane.admin_kubeconfig())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    while child.try_wait().unwrap().is_none() {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        peak = peak.max(kib.unwrap_or_default() * 1024);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    (child.wait_with_output().unwrap(), peak)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_peak_at_a_start_does_not_follow_what_others_stored() {
    // Its etcd keeps all that was ever written.
    let world = &World::on(Plane::own().await).await;
    world.look_away();
    world.secret(&world.app, json!({"secretKey": crate::harness::KEY})).await;
    world.application(&world.app, json!({})).await;
    let bytes = store(world).await;
    assert!(bytes > 50 * 1024 * 1024, "{bytes} bytes are no ballast");
    let operator = world.operator().await.with_most_memory(MOST_MEMORY);
    let (ready, deletion) = (4, 6);
    testbed::control_plane::wait_for(LONG, "all to be accepted", || async {
        let rows = rows(world).await;
        rows.len() == ROBOTS && rows.iter().all(|row| row[ready] == "True")
    })
    .await
    .unwrap();
    let (_, start) = operator.memory().unwrap();

    let (said, guard) = hook(world, &["uninstall-guard"]).await;
    let text = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(text.contains(&format!("{ROBOTS} RoomRobots remain")), "{text}");
    assert!(text.contains("(Adopted)") && text.contains("more\n"), "{text}");
    let url = operator.url("");
    let (said, check) = hook(world, &["check", "--url", url.trim_end_matches('/')]).await;
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    let values = json!([{"name": "from-values", "spec": {"sdkAppId": 7, "credentials": {"secretRef": {"name": "s"}}}}]);
    let (said, apply) = hook(world, &["apply-applications", "--applications", &values.to_string()]).await;
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));

    futures::stream::iter(0..ROBOTS)
        .for_each_concurrent(8, |number| async move {
            let deleted = world.robots().delete(&format!("r-{number}"), &DeleteParams::default()).await;
            assert!(deleted.is_ok(), "{deleted:?}");
        })
        .await;
    testbed::control_plane::wait_for(LONG, "all to be let go", || async {
        let rows = rows(world).await;
        // What others hold is theirs to let go.
        for row in rows.iter().filter(|row| row[deletion] == "Deleted") {
            let none = Patch::Merge(json!({"metadata": {"finalizers": null}}));
            let _ = world.robots().patch_metadata(&row[0], &PatchParams::default(), &none).await;
        }
        rows.is_empty()
    })
    .await
    .unwrap();
    assert_eq!(world.simulator.calls().len(), ROBOTS);
    assert_eq!(world.simulator.population(), 0);
    let (_, end) = operator.memory().unwrap();
    println!(
        "{bytes} bytes stored; peaks: start {start}, end {end}, guard {guard}, check {check}, apply {apply}"
    );
    for (what, peak) in [("start", start), ("end", end), ("guard", guard), ("check", check), ("apply", apply)]
    {
        assert!(peak < MOST_MEMORY, "{what}: {} KiB", peak / 1024);
    }
}
