//! How the API server words what it does not do, and what the operator takes that for.

use super::guards::{Answer, Rights, WORDS, Webhook, policy, until_refused};
use crate::harness::{World, eventually};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::{
    Api, Client, Config, ResourceExt as _,
    api::{DeleteParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use roomrobot_core::{
    crd::{APPLICATION_FINALIZER, RoomRobot},
    endpoint::Allowed,
    engine::{Change, ObjectRef, Write, WriteError},
    index::Id,
};
use roomrobot_operator::kubernetes::{self, client};
use serde_json::json;
use testbed::operator::{account_token, token};

/// Writes to `robot` as the operator does, with `token`.
async fn write(world: &World, token: &str, robot: &RoomRobot, change: Change) -> Result<(), WriteError> {
    let kubeconfig = world.plane.kubeconfig_for("writer", token).unwrap();
    let read = Kubeconfig::read_from(kubeconfig).unwrap();
    let mut config = Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await.unwrap();
    config.default_retry = false;
    roomrobot_client::proxy::spare(&mut config);
    let write = Write {
        object: ObjectRef::Robot(Id::default()),
        namespace: Some(robot.namespace().unwrap().into()),
        name: robot.name_any().into(),
        uid: robot.uid().unwrap().into(),
        deleting: false,
        change,
    };
    let client: Client = client(config).unwrap();
    kubernetes::write(&client, &write, &Allowed::default(), APPLICATION_FINALIZER).await.map(drop)
}

fn status(operations: serde_json::Value) -> Change {
    Change::Status(serde_json::from_value(operations).unwrap())
}

/// The removal of the finalizer at this place, decided on `robot` as it is given.
fn drop_finalizer(at: usize, robot: &RoomRobot) -> Change {
    Change::DropFinalizer { at, version: robot.resource_version().unwrap().parse().unwrap() }
}

fn refused(result: Result<(), WriteError>, words: &str) {
    match result {
        Err(WriteError::Refused(said)) => assert!(said.contains(words), "{words} is not in {said}"),
        other => panic!("{words}: {other:?}"),
    }
}

fn conflict(result: Result<(), WriteError>, words: &str) {
    match result {
        Err(WriteError::Conflict(said)) => assert!(said.contains(words), "{words} is not in {said}"),
        other => panic!("{words}: {other:?}"),
    }
}

/// What is stored has changed meanwhile: nobody is told, the next look decides.
#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_what_is_stored_is_a_conflict() {
    let world = World::new().await;
    let token = account_token(&world.plane).await.unwrap();
    let robot = world.robot("r").await;
    let write = async |robot: &RoomRobot, change| write(&world, &token, robot, change).await;
    let rejected = "the server rejected our request";
    // There is no list of finalizers, and then there is one.
    conflict(write(&robot, drop_finalizer(0, &robot)).await, rejected);
    conflict(write(&robot, Change::MoreFinalizer).await, rejected);
    write(&robot, Change::FirstFinalizer).await.unwrap();
    conflict(write(&robot, Change::FirstFinalizer).await, rejected);
    conflict(write(&robot, drop_finalizer(0, &robot)).await, "the object has been modified");
    conflict(write(&robot, drop_finalizer(1, &robot)).await, rejected);
    // Another object has its name by now.
    let mut other = robot.clone();
    other.metadata.uid = Some("other".into());
    conflict(write(&other, drop_finalizer(0, &other)).await, rejected);
    conflict(
        write(&robot, status(json!([{"op": "add", "path": "/status/a/b", "value": 1}]))).await,
        rejected,
    );
    let of_version = json!([
        {"op": "replace", "path": "/metadata/resourceVersion", "value": "1"},
        {"op": "add", "path": "/status", "value": {"conditions": []}},
    ]);
    conflict(write(&robot, status(of_version)).await, "the object has been modified");
    world.patch("r", json!({"metadata": {"finalizers": ["example.com/x"]}})).await;
    world.delete("r").await;
    conflict(write(&robot, Change::MoreFinalizer).await, "no new finalizers can be added");
    world.patch("r", json!({"metadata": {"finalizers": null}})).await;
    assert_eq!(write(&robot, drop_finalizer(0, &robot)).await, Err(WriteError::NotFound));
}

/// Whatever a webhook answers, its denial is one: not a conflict, not an overload, and not that the robot is gone.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_cluster_does_not_allow_is_refused() {
    let world = World::new().await;
    let operator = account_token(&world.plane).await.unwrap();
    let robot = world.robot("r").await;
    let write_with = async |token: &str, change| write(&world, token, &robot, change).await;
    let drop_it = async || drop_finalizer(0, &world.robots().get("r").await.unwrap());
    let write = async || write_with(&operator, drop_it().await).await;
    write_with(&operator, Change::FirstFinalizer).await.unwrap();
    {
        let _policy = policy(&world, &["roomrobots"], None);
        until_refused(&world, "r", true).await;
        refused(write().await, WORDS);
    }
    until_refused(&world, "r", false).await;
    let webhook = Webhook::start(&world, Answer::Deny(json!({}))).await;
    {
        let _guard = webhook.install(&world, &world.namespace, 1);
        until_refused(&world, "r", true).await;
        refused(write().await, "denied the request without explanation");
        for code in [200, 400, 401, 403, 404, 408, 409, 412, 422, 429, 500, 503, 504] {
            webhook.set(Answer::Deny(json!({"code": code, "message": "no\u{1b}[2J\nway"})));
            refused(write().await, r"denied the request: no\u{1b}[2J\nway");
        }
        for reason in ["NotFound", "Conflict", "Invalid"] {
            let details = json!({"causes": [{"field": "metadata.finalizers", "message": "m"}]});
            webhook.set(Answer::Deny(json!({"code": 404, "reason": reason, "details": details})));
            refused(write().await, reason);
        }
        webhook.set(Answer::Broken);
        refused(write().await, "failed calling webhook");
        webhook.set(Answer::Hang);
        refused(write().await, "failed calling webhook");
    }
    {
        let _guard = webhook.install(&world, &world.namespace, 1);
        drop(webhook);
        until_refused(&world, "r", true).await;
        refused(write().await, "failed calling webhook");
    }
    until_refused(&world, "r", false).await;
    let invalid = status(json!([{"op": "add", "path": "/status", "value": {"conditions": [{"type": "x"}]}}]));
    refused(write_with(&operator, invalid).await, "Required value");
    {
        let _rights = Rights::without(&world, "roomrobots").await;
        refused(write().await, "cannot patch resource");
    }
    refused(write_with("nobody's", drop_it().await).await, "Unauthorized");
    // A ServiceAccount that is gone has no valid token any more.
    let accounts = Api::<ServiceAccount>::namespaced(world.client.clone(), &world.namespace);
    let account = json!({"metadata": {"name": "short-lived"}});
    accounts.create(&PostParams::default(), &serde_json::from_value(account).unwrap()).await.unwrap();
    let short = token(&world.plane, &world.namespace, "short-lived").await.unwrap();
    accounts.delete("short-lived", &DeleteParams::default()).await.unwrap();
    eventually("its token is not valid any more", || async {
        let written = write_with(&short, drop_it().await).await;
        matches!(written, Err(WriteError::Refused(said)) if said.contains("Unauthorized"))
    })
    .await;
}
