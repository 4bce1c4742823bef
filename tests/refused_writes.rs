//! The cluster refuses the operator's own writes, on a real API server: by a policy, a webhook, a quota, a missing right.
//! It is told wherever it can be, it is tried again, and what was answered is not asked for again.

mod guards;
mod words;

use crate::{
    harness::{
        PATIENCE, World, create, create_namespace, eventually, is_empty, is_true, manifest, message_of,
        reason_of, unique,
    },
    plugin::roomrobot,
};
use guards::{Answer, Rights, WORDS, Webhook, full_quota, policy, until_refused};
use k8s_openapi::api::events::v1::Event;
use kube::{
    Api,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use roomrobot_core::crd::RoomRobot;
use serde_json::json;
use std::time::{Duration, Instant};
use testbed::operator::Operator;

/// The longest wait between two attempts, and a moment for what follows.
const NEXT_ATTEMPT: Duration = Duration::from_secs(31);

/// How many writes of `labels` the operator has counted.
fn writes(operator: &Operator<'_>, labels: [&str; 2]) -> u64 {
    let text = operator.get("/metrics").unwrap();
    let lines = text.lines().filter(|line| line.starts_with("roomrobot_writes_total{"));
    let of_labels = lines.filter(|line| labels.iter().all(|label| line.contains(label)));
    of_labels.map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap()).sum()
}

async fn refusals(world: &World, name: &str) -> Vec<Event> {
    let events = world.events_about(name).await;
    events.into_iter().filter(|event| event.reason.as_deref() == Some("WriteRefused")).collect()
}

fn stalled(robot: &RoomRobot) -> bool {
    reason_of(robot, "Stalled") == Some("WriteRefused")
}

/// What `why` says of a robot that a person has to look after.
fn why(world: &World, name: &str) -> String {
    let ran = roomrobot(world, &["why", name, "-n", &world.namespace]);
    assert_eq!(ran.code, 4, "{}{}", ran.out, ran.err);
    ran.out
}

fn says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part} is not in:\n{text}");
    }
}

/// Adopted robots of these names, one of them to try the policies with.
async fn ready(world: &World, names: &[&str]) {
    for name in names {
        world.robot(name).await;
        world.ready(name).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_keeps_the_finalizer_on_is_told_and_the_call_is_not_repeated() {
    let world = World::new().await;
    let operator = world.operator().await;
    ready(&world, &["r", "probe"]).await;
    let policy = policy(&world, &["roomrobots"], None);
    until_refused(&world, "probe", true).await;
    world.delete("r").await;
    let told = world.robot_until("r", "WriteRefused", stalled).await;
    let id = world.simulator.calls_about("r", "r")[0].request_id.clone();
    assert!(is_true(&told, "RobotDeleted"), "the record stays: {told:?}");
    assert_eq!(reason_of(&told, "RobotDeleted"), Some("Deleted"));
    says(message_of(&told, "RobotDeleted"), &[&id]);
    assert_eq!(reason_of(&told, "Ready"), Some("WriteRefused"));
    says(message_of(&told, "Stalled"), &["ValidatingAdmissionPolicy 'team-label-", WORDS]);
    says(world.announced("r", "WriteRefused").await.note.as_deref().unwrap(), &["its finalizer", WORDS]);
    let denied = || {
        let attempts = world.attempts();
        let of_robot = attempts.iter().filter(|entry| entry.object_ref.name == "r");
        of_robot.filter(|entry| entry.response_status.code == 422).count()
    };
    eventually("it is tried again and again", || async { denied() >= 5 }).await;
    says(
        &why(&world, "r"),
        &[
            "is over (Deleted), but the cluster refuses to let it go",
            "Stalled=True WriteRefused",
            WORDS,
            &id,
            "kubectl get validatingadmissionpolicies",
        ],
    );
    let list = roomrobot(&world, &["list", "-n", &world.namespace, "-o", "json"]).json();
    assert_eq!((&list[0]["reason"], &list[0]["needsAPerson"]), (&json!("WriteRefused"), &json!(true)));
    assert!(writes(&operator, [r#"change="drop_finalizer""#, r#"result="refused""#]) >= 4);
    drop(policy);
    until_refused(&world, "probe", false).await;
    let start = Instant::now();
    let gone = world.gone("r").await;
    assert!(start.elapsed() < NEXT_ATTEMPT, "gone after {:?}", start.elapsed());
    says(message_of(&gone, "RobotDeleted"), &[&id]);
    assert_eq!(world.simulator.calls_about("r", "r").len(), 1);
    assert_eq!(refusals(&world, "r").await.len(), 1, "told once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_robot_that_a_policy_keeps_from_being_accepted_says_why() {
    let world = World::new().await;
    let operator = world.operator().await;
    ready(&world, &["probe"]).await;
    let policy = policy(&world, &["roomrobots"], None);
    until_refused(&world, "probe", true).await;
    world.robot("r").await;
    let told = world.robot_until("r", "WriteRefused", stalled).await;
    for condition in ["Accepted", "Ready"] {
        assert!(
            !is_true(&told, condition) && reason_of(&told, condition) == Some("WriteRefused"),
            "{told:?}"
        );
        says(message_of(&told, condition), &["on this RoomRobot", WORDS]);
    }
    says(&why(&world, "r"), &["The cluster refuses the operator's writes for RoomRobot", WORDS]);
    world.announced("r", "WriteRefused").await;
    assert!(writes(&operator, [r#"change="add_finalizer""#, r#"result="refused""#]) >= 1);
    drop(policy);
    until_refused(&world, "probe", false).await;
    let accepted = world.robot_until("r", "is Ready", |robot| is_true(robot, "Ready")).await;
    assert_eq!(reason_of(&accepted, "Stalled"), None);
    world.delete("r").await;
    world.gone("r").await;
    assert_eq!(world.simulator.calls_about("r", "r").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_whose_finalizer_is_refused_says_so_and_so_do_its_robots() {
    let world = World::new().await;
    let _operator = world.operator().await;
    let policy = policy(&world, &["rtcapplications"], Some(&world.app));
    let dry_run = PatchParams { dry_run: true, ..PatchParams::default() };
    let patch = Patch::Merge(json!({"metadata": {"annotations": {"probe": "yes"}}}));
    eventually("the policy is in force", || async {
        world.applications().patch(&world.app, &dry_run, &patch).await.is_err()
    })
    .await;
    world.robot("r").await;
    let told = world.robot_until("r", "WriteRefused", stalled).await;
    says(message_of(&told, "Accepted"), &["on RtcApplication", &world.app, WORDS]);
    world.application_until("WriteRefused").await;
    says(&why(&world, "r"), &[WORDS, "is not ready (WriteRefused)"]);
    drop(policy);
    world.ready("r").await;
    world.application_until("CredentialsLoaded").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_robot_that_takes_no_write_at_all_is_told_by_event_metric_and_log() {
    let world = World::new().await;
    let operator = world.operator().await;
    ready(&world, &["r", "probe"]).await;
    let policy = policy(&world, &["roomrobots", "roomrobots/status"], None);
    until_refused(&world, "probe", true).await;
    world.delete("r").await;
    let note = world.announced("r", "WriteRefused").await.note.unwrap();
    says(&note, &["its status", WORDS]);
    says(&operator.log(), &["the cluster refuses a write to the RoomRobot", WORDS]);
    says(&why(&world, "r"), &["the cluster refuses the operator's writes", "an Event: WriteRefused", WORDS]);
    let refused = || writes(&operator, [r#"change="status""#, r#"result="refused""#]);
    eventually("it is tried again and again", || async { refused() >= 5 }).await;
    assert_eq!(world.simulator.calls_about("r", "r").len(), 1);
    drop(policy);
    until_refused(&world, "probe", false).await;
    let start = Instant::now();
    assert_eq!(reason_of(&world.gone("r").await, "RobotDeleted"), Some("Deleted"));
    assert!(start.elapsed() < NEXT_ATTEMPT, "gone after {:?}", start.elapsed());
    assert_eq!(world.simulator.calls_about("r", "r").len(), 1);
    assert_eq!(refusals(&world, "r").await.len(), 1, "told once");
}

/// Creates robots in another namespace, which no webhook looks at.
async fn neighbours(world: &World, count: usize) -> Api<RoomRobot> {
    let namespace = unique("neighbour");
    create_namespace(&world.client, &namespace).await;
    let robots = Api::<RoomRobot>::namespaced(world.client.clone(), &namespace);
    for n in 0..count {
        let name = format!("n-{n}");
        let spec = json!({"roomId": name, "memberAccount": name, "applicationRef": {"name": world.app}});
        create(&robots, manifest::<RoomRobot>(&name, spec)).await;
    }
    eventually("the neighbours are ready", || async {
        let list = robots.list(&ListParams::default()).await.unwrap();
        list.iter().all(|robot| is_true(robot, "Ready"))
    })
    .await;
    robots
}

/// Deletes them; they have to be gone long before anything that hangs is given up.
async fn leave(robots: &Api<RoomRobot>) {
    let start = Instant::now();
    robots.delete_collection(&DeleteParams::default(), &ListParams::default()).await.unwrap();
    eventually("the neighbours are gone", || async { is_empty(robots).await }).await;
    assert!(start.elapsed() < Duration::from_secs(12), "gone after {:?}", start.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_that_hangs_fails_or_denies_is_named_and_delays_nobody_else() {
    let world = World::new().await;
    let _operator = world.operator().await;
    ready(&world, &["hangs", "fails", "denies", "probe"]).await;
    let neighbours = neighbours(&world, 20).await;
    let webhook = Webhook::start(&world, Answer::Broken).await;
    let guard = webhook.install(&world, &world.namespace, 3);
    until_refused(&world, "probe", true).await;
    let denial = json!({"code": 403, "message": "ask\u{1b}[2J\nteam red"});
    for (name, answer, words) in [
        ("fails", Answer::Broken, r#"failed calling webhook "guard.example.com""#),
        ("denies", Answer::Deny(denial), r"denied the request: ask\u{1b}[2J\nteam red"),
        ("hangs", Answer::Hang, "context deadline exceeded"),
    ] {
        webhook.set(answer);
        world.delete(name).await;
        if name == "hangs" {
            leave(&neighbours).await;
        }
        let told = world.robot_until(name, "WriteRefused", stalled).await;
        says(message_of(&told, "Stalled"), &[words]);
        assert!(is_true(&told, "RobotDeleted"));
        says(&why(&world, name), &["but the cluster refuses to let it go", "guard.example.com"]);
    }
    drop(guard);
    for name in ["hangs", "fails", "denies"] {
        world.gone(name).await;
        assert_eq!(world.simulator.calls_about(name, name).len(), 1, "{name}");
    }
}

/// The API server itself says nothing within the time that the operator waits.
#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_that_hangs_for_longer_than_the_operator_waits_is_told() {
    let world = World::new().await;
    let _operator = world.operator().await;
    ready(&world, &["r"]).await;
    let neighbours = neighbours(&world, 20).await;
    let webhook = Webhook::start(&world, Answer::Broken).await;
    let guard = webhook.install(&world, &world.namespace, 30);
    until_refused(&world, "r", true).await;
    webhook.set(Answer::Hang);
    world.delete("r").await;
    world.waits_for("r", "Deleted").await;
    leave(&neighbours).await;
    let told = world.robot_until("r", "WriteRefused", stalled).await;
    says(message_of(&told, "Stalled"), &["does not answer such writes in time"]);
    drop(guard);
    world.gone("r").await;
    assert_eq!(world.simulator.calls_about("r", "r").len(), 1);
}

/// A quota counts what is created, and the operator creates nothing but Events.
#[tokio::test(flavor = "multi_thread")]
async fn a_quota_that_is_full_is_in_nobodys_way() {
    let world = World::new().await;
    let operator = world.operator().await;
    ready(&world, &["r"]).await;
    full_quota(&world);
    let spec = json!({"roomId": "x", "memberAccount": "x", "applicationRef": {"name": world.app}});
    let robot: RoomRobot = serde_json::from_value(manifest::<RoomRobot>("x", spec)).unwrap();
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    eventually("the quota is in force", || async { world.robots().create(&dry_run, &robot).await.is_err() })
        .await;
    world.delete("r").await;
    assert_eq!(reason_of(&world.gone("r").await, "RobotDeleted"), Some("Deleted"));
    assert_eq!(world.simulator.calls_about("r", "r").len(), 1);
    // The API server counts no Events, whatever a quota says.
    world.announced("r", "Deleted").await;
    assert_eq!(writes(&operator, ["", r#"result="refused""#]), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_that_is_taken_away_in_the_middle_is_told_and_it_goes_on_with_it() {
    let world = World::new().await;
    let operator = world.operator().await;
    ready(&world, &["r"]).await;
    let rights = Rights::without(&world, "roomrobots/status").await;
    world.delete("r").await;
    let note = world.announced("r", "WriteRefused").await.note.unwrap();
    says(&note, &["its status", "cannot patch resource", "roomrobots/status"]);
    says(&why(&world, "r"), &["the cluster refuses the operator's writes", "cannot patch resource"]);
    assert!(writes(&operator, [r#"change="status""#, r#"result="refused""#]) >= 1);
    drop(rights);
    let start = Instant::now();
    world.gone("r").await;
    assert!(start.elapsed() < PATIENCE.min(NEXT_ATTEMPT), "gone after {:?}", start.elapsed());
    assert_eq!(world.simulator.calls_about("r", "r").len(), 1);
}
