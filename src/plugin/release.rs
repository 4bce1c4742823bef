//! `release`: lets RoomRobots go and leaves their robots in their rooms, with a record of why and by whom.

use super::{
    Error, Finding, Result,
    cluster::Cluster,
    output::{Out, Tone},
};
use crate::crd::RoomRobot;
use clap::Args;
use k8s_openapi::{
    api::{
        authentication::v1::SelfSubjectReview,
        core::v1::{Namespace, ObjectReference},
        events::v1::Event,
    },
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::Timestamp,
};
use kube::{
    Api, Resource as _, ResourceExt as _,
    api::{Patch, PatchParams, PostParams},
};
use serde::Serialize;
use serde_json::json;

/// The most bytes of the reason: the note of an Event takes 1024.
const LONGEST: usize = 600;

/// Who is released, and why.
#[derive(Debug, Args)]
pub struct Target {
    /// The RoomRobots.
    #[arg(required_unless_present = "all")]
    names: Vec<String>,
    /// Every RoomRobot of the namespace that is being deleted.
    #[arg(long, conflicts_with = "names")]
    all: bool,
    /// Why; kept in an Event.
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    reason: String,
}

fn reason(text: &str) -> Result<String, String> {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    match text.trim() {
        "" => Err("say why: whoever finds the robot in its room will ask".to_owned()),
        text if text.len() > LONGEST => Err(format!("it has more than {LONGEST} bytes")),
        text => Ok(text.to_owned()),
    }
}

/// What was done about one RoomRobot.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Released {
    namespace: String,
    name: String,
    /// Where the Event with the reason is.
    event: String,
    deleting: bool,
}

/// Records the reason, then sets `Retain`.
///
/// # Errors
/// If either cannot be done. Without a record nothing is released.
pub async fn run(cluster: &Cluster, target: &Target, out: &mut Out) -> Result<Finding> {
    let namespace = &cluster.default_namespace;
    let api = Api::<RoomRobot>::namespaced(cluster.client.clone(), namespace);
    let names = if target.all {
        let robots = cluster.robots(Some(namespace), None, out).await?;
        let deleting = robots.iter().filter(|seen| seen.robot.deleting_since.is_some());
        deleting.map(|seen| seen.robot.key.name.to_string()).collect()
    } else {
        target.names.clone()
    };
    let user = user(cluster).await;
    let mut done = Vec::new();
    for (at, name) in names.iter().enumerate() {
        if at % 50 == 49 {
            out.progress(&format!("released {at} of {}", names.len()));
        }
        let seen = cluster.robot(namespace, name).await?;
        let seen = seen.ok_or_else(|| Error(format!("there is no RoomRobot {namespace}/{name}")))?;
        let event = record(cluster, name, &seen.robot.uid, &target.reason, &user).await?;
        // Bound to the UID: another object of the same name is another decision.
        let patch = json!({
            "metadata": {"uid": &*seen.robot.uid}, "spec": {"deletionPolicy": "Retain"},
        });
        api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await?;
        done.push(Released {
            namespace: namespace.clone(),
            name: name.clone(),
            event,
            deleting: seen.robot.deleting_since.is_some(),
        });
    }
    out.progress_over();
    if !out.for_people() {
        out.value(&done)?;
        return Ok(Finding::Fine);
    }
    for Released { namespace, name, event, deleting } in &done {
        let then = if *deleting { "it goes now" } else { "it goes when it is deleted" };
        out.toned(
            &format!("RoomRobot {namespace}/{name} is released; {then}, and its robot stays in its room."),
            Tone::Good,
        );
        out.line(&format!("  The reason is kept in Event {event}."));
    }
    if done.is_empty() {
        out.line("Nothing is being deleted there.");
    } else {
        out.note("The vendor goes on billing these robots: remove them by other means.");
    }
    Ok(Finding::Fine)
}

/// Who asks, as the API server knows the user.
async fn user(cluster: &Cluster) -> String {
    let api = Api::<SelfSubjectReview>::all(cluster.client.clone());
    let answer = api.create(&PostParams::default(), &SelfSubjectReview::default()).await;
    let user = answer.ok().and_then(|review| review.status?.user_info?.username);
    user.unwrap_or_else(|| "somebody".to_owned())
}

/// Makes the Event; in the operator's namespace where the robot's is being deleted and takes no new object.
async fn record(cluster: &Cluster, name: &str, uid: &str, reason: &str, user: &str) -> Result<String> {
    let namespace = &cluster.default_namespace;
    let known = Api::<Namespace>::all(cluster.client.clone()).get(namespace).await;
    let goes = known.is_ok_and(|namespace| namespace.metadata.deletion_timestamp.is_some());
    let mut places = vec![namespace, &cluster.operator_namespace];
    if goes {
        places.remove(0);
    }
    let mut refusal = String::new();
    for place in places {
        let event = Event {
            metadata: ObjectMeta {
                name: Some(format!("{name}.{:016x}", fastrand::u64(..))),
                namespace: Some(place.clone()),
                ..ObjectMeta::default()
            },
            event_time: Some(MicroTime(Timestamp::now())),
            reporting_controller: Some("kubectl-roomrobot".to_owned()),
            reporting_instance: Some(user.chars().take(128).collect()),
            action: Some("ReleaseRobot".to_owned()),
            reason: Some("Released".to_owned()),
            type_: Some("Normal".to_owned()),
            note: Some(format!("Released by {user}, the robot stays in its room: {reason}")),
            regarding: Some(ObjectReference {
                api_version: Some(RoomRobot::api_version(&()).into_owned()),
                kind: Some("RoomRobot".to_owned()),
                namespace: Some(namespace.clone()),
                name: Some(name.to_owned()),
                uid: Some(uid.to_owned()),
                ..ObjectReference::default()
            }),
            ..Event::default()
        };
        let api = Api::<Event>::namespaced(cluster.client.clone(), place);
        match api.create(&PostParams::default(), &event).await {
            Ok(event) => return Ok(format!("{place}/{}", event.name_any())),
            Err(error) => refusal = crate::kubernetes::explain(&error),
        }
    }
    Err(Error(format!("the reason cannot be recorded, so nothing is released: {refusal}")))
}
