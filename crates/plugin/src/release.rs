//! `release`: lets RoomRobots go and leaves their robots in their rooms, with a record of why and by whom.

use super::{
    Error, Finding, Result,
    cluster::{Choice, Cluster, Seen, nobody},
    output::{Out, Tone},
};
use clap::Args;
use futures::{StreamExt as _, stream};
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
use roomrobot_core::{
    api_server::event_name,
    crd::{DeletionPolicy, RoomRobot},
};
use serde::Serialize;
use serde_json::json;
use std::collections::BTreeMap;

/// The reporter of its Events.
pub(super) const REPORTER: &str = "kubectl-roomrobot";

/// The most bytes of the reason: the note of an Event takes 1024.
const LONGEST: usize = 600;

/// Who is released, and why.
#[derive(Debug, Args)]
pub struct Target {
    /// The RoomRobots.
    #[arg(required_unless_present = "all")]
    names: Vec<String>,
    /// Every RoomRobot in the namespace whose deletion waits.
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

/// How many are released at once.
const AT_ONCE: usize = 8;

/// What became of one RoomRobot.
#[derive(Clone, Copy, Debug, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
enum Outcome {
    /// It was released, and the reason is kept.
    Released,
    /// Its policy was Retain before.
    Already,
    /// Its deletion was over, or it was gone.
    Over,
    /// It could not be released, or the reason could not be kept.
    Failed,
}

/// What was done about one RoomRobot.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Released {
    namespace: String,
    name: String,
    outcome: Outcome,
    deleting: bool,
    /// Where the Event with the reason is.
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// Sets `Retain` where the reason can be kept, then keeps it. One that fails does not stop the others.
///
/// # Errors
/// If one could not be released or its reason not be kept; what was done is printed all the same.
pub async fn run(cluster: &Cluster, target: &Target, out: &mut Out) -> Result<Finding> {
    let namespace = &*cluster.default_namespace;
    let waits = |seen: &Seen| seen.goes() && seen.robot.finalizers.ours.is_some() && !seen.over();
    let choice = Choice { keep: target.all.then_some(waits), ..Choice::default() };
    let robots = match target.names.as_slice() {
        [name] => cluster.robots(Some(namespace), Choice { name: Some(name), ..choice }, out).await?,
        _ => cluster.robots(Some(namespace), choice, out).await?,
    };
    let mut robots: BTreeMap<String, Seen> =
        robots.into_iter().map(|seen| (seen.robot.key.name.to_string(), seen)).collect();
    let mut names = target.names.clone();
    if target.all {
        names.extend(robots.keys().cloned());
    }
    let chosen: Vec<(String, Option<Seen>)> =
        names.into_iter().map(|name| (name.clone(), robots.remove(&name))).collect();
    let mut done = Vec::new();
    if chosen.iter().any(|(_, seen)| seen.is_some()) {
        let record =
            Record::new(cluster, &target.reason).await.map_err(|why| refused(cluster, target, &why))?;
        let total = chosen.len();
        let work = stream::iter(chosen).map(|(name, seen)| release(cluster, name, seen, &record));
        let mut work = work.buffered(AT_ONCE);
        while let Some(released) = work.next().await {
            done.push(released);
            out.progress(&format!("released {} of {total}", done.len()));
        }
        out.progress_over();
    } else {
        done.extend(chosen.into_iter().map(|(name, _)| missing(namespace, name)));
    }
    if out.for_people() {
        print(&done, nobody(cluster.acting()), out);
    } else {
        out.value(&done)?;
    }
    let mut failed: Vec<&str> = done.iter().filter_map(|released| released.error.as_deref()).collect();
    let Some(last) = failed.pop() else { return Ok(Finding::Fine) };
    for why in failed {
        out.note(&format!("kubectl roomrobot: {why}"));
    }
    Err(Error(last.to_owned()))
}

fn missing(namespace: &str, name: String) -> Released {
    let error = Some(format!("there is no RoomRobot {namespace}/{name}"));
    let namespace = namespace.to_owned();
    Released { namespace, name, outcome: Outcome::Failed, deleting: false, event: None, error }
}

async fn release(cluster: &Cluster, name: String, seen: Option<Seen>, record: &Record<'_>) -> Released {
    let namespace = &*cluster.default_namespace;
    let Some(seen) = seen else { return missing(namespace, name) };
    let robot = &seen.robot;
    let end = |outcome, event, error| Released {
        namespace: namespace.to_owned(),
        name: name.clone(),
        outcome,
        deleting: seen.goes(),
        event,
        error,
    };
    if seen.goes() && (robot.finalizers.ours.is_none() || seen.over()) {
        return end(Outcome::Over, None, None);
    }
    if robot.deletion_policy == DeletionPolicy::Retain {
        return end(Outcome::Already, None, None);
    }
    // Bound to the UID: another object of the same name is another decision.
    let patch = json!({"metadata": {"uid": &*robot.uid}, "spec": {"deletionPolicy": "Retain"}});
    let api = Api::<RoomRobot>::namespaced(cluster.client.clone(), namespace);
    match api.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await {
        // It was quicker: gone, or gone and made anew.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => end(Outcome::Over, None, None),
        Err(error) => {
            let why = roomrobot_client::errors::explain(&error);
            end(Outcome::Failed, None, Some(format!("{namespace}/{name} is not released: {why}")))
        }
        Ok(_) => match record.keep(&name, &robot.uid, false).await {
            Ok(event) => end(Outcome::Released, Some(event), None),
            Err(why) => {
                let error =
                    format!("{namespace}/{name} is released, but the reason could not be kept: {why}");
                end(Outcome::Failed, None, Some(error))
            }
        },
    }
}

/// Why nothing is done, and the way that leaves no record.
fn refused(cluster: &Cluster, target: &Target, why: &str) -> Error {
    let namespace = &cluster.default_namespace;
    let name = target.names.first().map_or("NAME", String::as_str);
    let patch = cluster.flags.put(&format!(
        r#"kubectl patch roomrobot {name} -n {namespace} --type merge -p '{{"spec":{{"deletionPolicy":"Retain"}}}}'"#
    ));
    Error(format!(
        "the reason cannot be recorded, so nothing is released: {why}; without a record of the reason it goes by: {patch}"
    ))
}

fn print(done: &[Released], nobody: bool, out: &mut Out) {
    for Released { namespace, name, outcome, event, deleting, .. } in done {
        let then = match (deleting, nobody) {
            (true, false) => "it goes now",
            (true, true) => "it goes once an operator acts",
            (false, _) => "it goes when it is deleted",
        };
        let text = match outcome {
            Outcome::Released => format!("is released; {then}, and its robot stays in its room."),
            Outcome::Already => format!("was released before; {then}."),
            Outcome::Over => "is not held by this operator any more: nothing was done.".to_owned(),
            Outcome::Failed => continue,
        };
        let tone = if *outcome == Outcome::Released { Tone::Good } else { Tone::Plain };
        out.toned(&format!("RoomRobot {namespace}/{name} {text}"), tone);
        if let Some(event) = event {
            out.line(&format!("  The reason is kept in Event {event}."));
        }
    }
    if done.is_empty() {
        out.line("No deletion waits there.");
    } else if done.iter().any(|released| released.outcome == Outcome::Released) {
        out.note("The vendor goes on billing these robots: remove them by other means.");
    }
}

/// Who asks, as the API server knows the user.
async fn user(cluster: &Cluster) -> String {
    let api = Api::<SelfSubjectReview>::all(cluster.client.clone());
    let answer = api.create(&PostParams::default(), &SelfSubjectReview::default()).await;
    let user = answer.ok().and_then(|review| review.status?.user_info?.username);
    user.unwrap_or_else(|| "somebody".to_owned())
}

/// Keeps who released what, and why.
struct Record<'a> {
    cluster: &'a Cluster,
    reason: &'a str,
    user: String,
    place: String,
}

impl<'a> Record<'a> {
    /// Finds a place that takes the Events: the operator's namespace where the robots' is being deleted.
    async fn new(cluster: &'a Cluster, reason: &'a str) -> Result<Self, String> {
        let namespace = &cluster.default_namespace;
        let known = Api::<Namespace>::all(cluster.client.clone()).get(namespace).await;
        let goes = known.is_ok_and(|namespace| namespace.metadata.deletion_timestamp.is_some());
        let own = (!goes).then_some(namespace);
        let mut record = Self { cluster, reason, user: user(cluster).await, place: String::new() };
        let mut refusal = String::new();
        for place in own.into_iter().chain([&cluster.operator_namespace]) {
            record.place.clone_from(place);
            match record.keep("any", "", true).await {
                Ok(_) => return Ok(record),
                Err(why) => refusal = why,
            }
        }
        Err(refusal)
    }

    /// Makes the Event, or only sees whether it would be taken.
    async fn keep(&self, name: &str, uid: &str, dry_run: bool) -> Result<String, String> {
        let Self { cluster, reason, user, place } = self;
        let event = Event {
            metadata: ObjectMeta {
                name: Some(event_name(name)),
                namespace: Some(place.clone()),
                ..ObjectMeta::default()
            },
            event_time: Some(MicroTime(Timestamp::now())),
            reporting_controller: Some(REPORTER.to_owned()),
            reporting_instance: Some(user.chars().take(128).collect()),
            action: Some("ReleaseRobot".to_owned()),
            reason: Some("Released".to_owned()),
            type_: Some("Normal".to_owned()),
            note: Some(format!("Released by {user}, the robot stays in its room: {reason}")),
            regarding: Some(ObjectReference {
                api_version: Some(RoomRobot::api_version(&()).into_owned()),
                kind: Some("RoomRobot".to_owned()),
                namespace: Some(cluster.default_namespace.clone()),
                name: Some(name.to_owned()),
                uid: Some(uid.to_owned()),
                ..ObjectReference::default()
            }),
            ..Event::default()
        };
        let api = Api::<Event>::namespaced(cluster.client.clone(), place);
        match api.create(&PostParams { dry_run, ..PostParams::default() }, &event).await {
            Ok(event) => Ok(format!("{place}/{}", event.name_any())),
            Err(error) => Err(roomrobot_client::errors::explain(&error)),
        }
    }
}
