//! What Argo CD and Flux say about resources in states that the real operator left them in; and that they find no difference
//! to write for ever.

use super::helm::file;
use crate::harness::{KEY, PATIENCE, Plane, World, eventually, is_true, reason_of, unique};
use kube::Resource;
use serde::Serialize;
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    env,
    fmt::Write as _,
    fs,
    io::Write as _,
    process::{Command, Stdio},
    time::Duration,
};
use testbed::{
    assets,
    simulator::{Fault, Kind},
};

/// Where Argo CD keeps its scripts, in the layout of its own repository.
const SCRIPTS: &str = "deploy/argocd/resource_customizations/roomrobot.dev";

/// What a judge says: status and message.
fn judge(args: &[&str], object: &Value) -> (String, String) {
    let mut command = Command::new(assets::health().unwrap());
    let mut child = command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(object.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |key: &str| said[key].as_str().unwrap_or_default().to_owned();
    (text("status"), text("message"))
}

fn argo(object: &Value) -> (String, String) {
    let script = file(SCRIPTS).join(object["kind"].as_str().unwrap()).join("health.lua");
    judge(&["argo", script.to_str().unwrap()], object)
}

fn flux(object: &Value) -> String {
    judge(&["flux"], object).0
}

fn json_of<K: Resource<DynamicType = ()> + Serialize>(object: &K) -> Value {
    let mut value = serde_json::to_value(object).unwrap();
    value["apiVersion"] = json!(K::api_version(&()));
    value["kind"] = json!(K::kind(&()));
    value
}

/// A state without what differs from run to run.
fn steady(world: &World, mut object: Value) -> Value {
    let metadata = object["metadata"].as_object_mut().unwrap();
    for key in ["managedFields", "resourceVersion", "uid"] {
        metadata.remove(key);
    }
    for key in ["creationTimestamp", "deletionTimestamp"] {
        if let Some(time) = metadata.get_mut(key) {
            *time = json!("2026-01-01T00:00:00Z");
        }
    }
    if let Some(conditions) = object.pointer_mut("/status/conditions").and_then(Value::as_array_mut) {
        for condition in conditions {
            condition["lastTransitionTime"] = json!("2026-01-01T00:00:00Z");
        }
    }
    if let Some(status) = object.get_mut("status").and_then(Value::as_object_mut) {
        if let Some(last) = status.get_mut("lastRequest") {
            last["time"] = json!("2026-01-01T00:00:00Z");
        }
        // Counts are written late and are no part of the verdict.
        status.remove("robots");
        status.remove("deleting");
    }
    let mut text = object.to_string();
    let sdk_app_id = world.sdk_app_id.to_string();
    for (from, to) in [
        (world.simulator.endpoint().as_str(), "https://rtc.example.com"),
        (&world.namespace, "event"),
        (&world.app, "default"),
        (&sdk_app_id, "1400000000"),
    ] {
        text = text.replace(from, to);
    }
    // RequestIds of the simulator: a hash and a number.
    while let Some(at) = text.find("Id-") {
        let end = text[at..].find(['"', ' ', ';', '.']).unwrap() + at;
        text.replace_range(at..end, "REQUEST");
    }
    serde_json::from_str(&text).unwrap()
}

/// States by the name of their file, each with the verdicts of Argo CD and Flux.
#[derive(Default)]
struct States(Vec<(&'static str, Value, &'static str)>);

impl States {
    fn add<K: Resource<DynamicType = ()> + Serialize>(
        &mut self,
        world: &World,
        name: &'static str,
        object: &K,
        kstatus: &'static str,
    ) {
        self.0.push((name, steady(world, json_of(object)), kstatus));
    }

    /// Judges them, and compares with what is kept.
    fn check(&self, kind: &str) {
        let folder = file(SCRIPTS).join(kind);
        let mut tests = String::from("tests:\n");
        let mut verdicts = BTreeSet::new();
        for (name, object, kstatus) in &self.0 {
            let (status, message) = argo(object);
            // The name begins with the verdict, as in Argo CD's own repository.
            assert!(name.starts_with(&status.to_lowercase()), "{name}: {status}: {message}\n{object:#}");
            assert_eq!(flux(object), *kstatus, "{name}: {object:#}");
            let message = serde_json::to_string(&message).unwrap();
            let _ = write!(
                tests,
                "- healthStatus:\n    status: {status}\n    message: {message}\n  inputPath: testdata/{name}.yaml\n"
            );
            verdicts.insert(status);
            keep(&folder.join(format!("testdata/{name}.yaml")), &serde_saphyr::to_string(object).unwrap());
        }
        assert_eq!(
            verdicts.into_iter().collect::<Vec<_>>(),
            ["Degraded", "Healthy", "Progressing", "Suspended"]
        );
        assert_eq!(fs::read_dir(folder.join("testdata")).unwrap().count(), self.0.len());
        keep(&folder.join("health_test.yaml"), &tests);
    }
}

fn keep(path: &std::path::Path, wanted: &str) {
    if env::var_os("UPDATE_MANIFESTS").is_some() {
        fs::write(path, wanted).unwrap();
    }
    let stored = fs::read_to_string(path).unwrap_or_default();
    assert!(
        stored == wanted,
        "{} is not what the operator leaves: run `make manifests`\n{wanted}",
        path.display()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn health_of_states_that_the_operator_leaves() {
    let world = World::new().await;
    let (mut robots, mut applications) = (States::default(), States::default());

    // Nobody has seen them yet. kstatus takes an object without a status for Current.
    let seen_by_nobody = world.robot("greeter").await;
    robots.add(&world, "progressing_not_seen_yet", &seen_by_nobody, "Current");
    let application = world.applications().get(&world.app).await.unwrap();
    applications.add(&world, "progressing_not_seen_yet", &application, "Current");

    let operator = world.operator().await;
    let robot = world.robot_until("greeter", "is Ready", |robot| is_true(robot, "Ready")).await;
    robots.add(&world, "healthy_adopted", &robot, "Current");
    let application = world.application_until("CredentialsLoaded").await;
    applications.add(&world, "healthy_credentials_loaded", &application, "Current");

    let stray = json!({"applicationRef": {"name": "no-such-application"}});
    world.robot_with("stray", stray).await;
    let robot = world.robot_until("stray", "is Stalled", |robot| is_true(robot, "Stalled")).await;
    robots.add(&world, "degraded_application_not_found", &robot, "Failed");

    world.robot_with("quiet", json!({"suspend": true})).await;
    let robot = world.robot_until("quiet", "is accepted", |robot| is_true(robot, "Accepted")).await;
    robots.add(&world, "suspended", &robot, "Current");

    // `Create`: it waits for its room, and then it is in.
    world.robot_with("newcomer", json!({"creationPolicy": "Create"})).await;
    let reason = |robot: &_| reason_of(robot, "Ready").map(str::to_owned);
    let waits = |robot: &_| reason(robot).as_deref() == Some("RoomNotFound");
    let robot = world.robot_until("newcomer", "waits for its room", waits).await;
    robots.add(&world, "progressing_room_not_found", &robot, "InProgress");
    world.simulator.add_members(world.sdk_app_id, "newcomer", [""; 0]);
    for suspend in [true, false] {
        world.patch("newcomer", json!({"spec": {"suspend": suspend}})).await;
    }
    let robot = world.robot_until("newcomer", "is Ready", |robot| is_true(robot, "Ready")).await;
    robots.add(&world, "healthy_added", &robot, "Current");

    // A spec that the operator has not spoken of yet.
    operator.terminate(PATIENCE).await.unwrap();
    world.patch("greeter", json!({"spec": {"deletionPolicy": "Retain"}})).await;
    let robot = world.robots().get("greeter").await.unwrap();
    robots.add(&world, "progressing_older_generation", &robot, "InProgress");
    world.patch("greeter", json!({"spec": {"deletionPolicy": "Delete"}})).await;
    let _operator = world.operator().await;

    // Deletions: one that waits for a person, and what the application says of it.
    world.simulator.fail(Fault::always(Kind::Code(100_006)).room("greeter"));
    world.delete("greeter").await;
    let robot = world.waits_for("greeter", "PermissionDenied").await;
    robots.add(&world, "degraded_deletion_stalled", &robot, "Terminating");
    let application = world.application_until_within("DeletionsStalled", Duration::from_secs(60)).await;
    applications.add(&world, "degraded_deletions_stalled", &application, "Failed");
    world.simulator.heal();

    world.patch_application(json!({"spec": {"suspend": true}})).await;
    let application = world.application_until("Suspended").await;
    applications.add(&world, "suspended", &application, "InProgress");
    world
        .patch_application(
            json!({"spec": {"suspend": false, "credentials": {"secretRef": {"name": "no-such-secret"}}}}),
        )
        .await;
    let application = world.application_until("SecretNotFound").await;
    applications.add(&world, "degraded_secret_not_found", &application, "Failed");

    robots.check("RoomRobot");
    applications.check("RtcApplication");
}

/// Two tools apply the same objects in turn, as `kubectl` and Argo CD do: nothing differs, and the operator owns no field of
/// a spec.
#[tokio::test(flavor = "multi_thread")]
async fn two_tools_and_the_operator_leave_no_difference() {
    leave_no_difference(World::bare().await).await;
}

/// The same where RoomRobots are born with a finalizer that neither tool knows.
#[tokio::test(flavor = "multi_thread")]
async fn two_tools_and_the_admission_policy_leave_no_difference() {
    let plane = Plane::own().await;
    plane.install_admission_policy().await.unwrap();
    leave_no_difference(World::on(plane).await).await;
}

async fn leave_no_difference(world: World) {
    world.secret(&world.app, json!({"secretKey": KEY})).await;
    let _operator = world.operator().await;
    let (app, namespace, other) = (&world.app, &world.namespace, unique("r"));
    let objects = json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "roomrobot.dev/v1alpha1", "kind": "RtcApplication", "metadata": {"name": app},
         "spec": {"sdkAppId": world.sdk_app_id, "endpoint": world.simulator.endpoint(),
                  "credentials": {"secretRef": {"name": app}}}},
        {"apiVersion": "roomrobot.dev/v1alpha1", "kind": "RoomRobot", "metadata": {"name": "r", "namespace": namespace},
         "spec": {"roomId": "r", "memberAccount": "r", "applicationRef": {"name": app}}},
        {"apiVersion": "roomrobot.dev/v1alpha1", "kind": "RoomRobot", "metadata": {"name": other, "namespace": namespace},
         "spec": {"roomId": "s", "memberAccount": "s", "applicationRef": {"name": app}, "deletionPolicy": "Retain"}},
    ]})
    .to_string();
    let tools = ["kubectl", "argocd-controller"];
    let apply = |manager: &str| {
        let manager = format!("--field-manager={manager}");
        world
            .plane
            .run_kubectl(
                &["apply", "--server-side", "--warnings-as-errors", &manager, "-f", "-"],
                Some(&objects),
            )
            .unwrap();
    };
    for tool in tools {
        apply(tool);
    }
    world.all_ready(2).await;
    world.application_until("CredentialsLoaded").await;
    eventually("the application is held", || async {
        world.applications().get(app).await.unwrap().metadata.finalizers.is_some()
    })
    .await;
    // The counts of an application are written late.
    eventually("the application's robots are counted", || async {
        world.applications().get(app).await.unwrap().status.is_some_and(|status| status.robots == Some(2))
    })
    .await;
    let versions = || async {
        let robots = world.robots().list(&kube::api::ListParams::default()).await.unwrap();
        let mut versions: Vec<_> =
            robots.items.iter().map(|robot| robot.metadata.resource_version.clone()).collect();
        versions.push(world.applications().get(app).await.unwrap().metadata.resource_version);
        versions
    };
    let before = versions().await;
    for tool in tools.iter().chain(&tools) {
        apply(tool);
        let manager = format!("--field-manager={tool}");
        // Ends with 1 where something differs.
        let diff =
            world.plane.run_kubectl(&["diff", "--server-side", &manager, "-f", "-"], Some(&objects)).unwrap();
        assert_eq!(diff, "");
    }
    assert_eq!(versions().await, before, "an apply without a change is no write");
    let mut managed = Vec::new();
    for robot in world.robots().list(&kube::api::ListParams::default()).await.unwrap() {
        managed.extend(robot.metadata.managed_fields.unwrap());
    }
    managed.extend(world.applications().get(app).await.unwrap().metadata.managed_fields.unwrap());
    let ours: Vec<_> =
        managed.iter().filter(|entry| entry.manager.as_deref() == Some("roomrobot-operator")).collect();
    // Each one's status, and the finalizer of the application.
    assert!(ours.len() >= 4);
    for entry in ours {
        let fields = serde_json::to_string(&entry.fields_v1).unwrap();
        assert!(!fields.contains("f:spec"), "{fields}");
    }
}
