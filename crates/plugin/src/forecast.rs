//! `plan`: what a deletion would call. Asks the operator's own engine, fed with what is stored; nothing is written and
//! nothing is called.

mod chosen;

pub use chosen::{Chosen, Target, choose_from};

use super::{
    Finding, Result,
    cluster::{Choice, Cluster, Seen},
    output::{Cell, Out, Tone},
};
use k8s_openapi::{
    api::core::v1::{Namespace, Secret},
    jiff::Timestamp,
};
use kube::{Api, ResourceExt as _};
use roomrobot_core::{
    application::{Credentials, StoredApplication},
    codes::Operation,
    crd::{APPLICATION_FINALIZER, Credentials as Reference, RtcApplication, RtcApplicationSpec, SecretRef},
    endpoint::{Allowed, Endpoint},
    engine::{Before, Engine, Input, Now, Settings},
    plan::Step,
    robot::Key,
    status::{Is, Kind, Reason},
};
use serde::Serialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

/// What would become of one RoomRobot.
#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Fate {
    namespace: String,
    name: String,
    application: String,
    room: String,
    robot: String,
    /// What would be called, if anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    call: Option<&'static str>,
    /// Whether the object would wait.
    waits: bool,
    /// Why there is no call.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    /// The same in words.
    #[serde(skip_serializing_if = "String::is_empty")]
    message: String,
}

/// What would become of all of them.
#[derive(Clone, Debug, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Forecast {
    robots: Vec<Fate>,
    calls: usize,
    without_a_call: usize,
    waiting: usize,
    /// Seconds that the calls take at the agreed pace, by application.
    seconds: BTreeMap<String, f64>,
    notes: Vec<String>,
}

/// What is stored, as far as a deletion depends on it.
#[derive(Debug, Default)]
pub struct Stored {
    /// Every RoomRobot that can be seen: others may stand for the same robot.
    pub robots: Vec<Seen>,
    /// Every RtcApplication; `None` where the user may not read them.
    pub applications: Option<Vec<RtcApplication>>,
    /// The namespaces.
    pub namespaces: Vec<Namespace>,
    /// Secrets of the operator's namespace that could be read: `None` where there is no such Secret.
    pub secrets: BTreeMap<String, Option<Secret>>,
}

impl Stored {
    fn application(&self, name: &str) -> Option<&RtcApplication> {
        self.applications.iter().flatten().find(|application| application.name_any() == *name)
    }

    /// The applications; those that may not be read with nothing against a call.
    fn assumed(&self) -> Vec<RtcApplication> {
        let ready = |name: &str| {
            let credentials = Reference { secret_ref: SecretRef { name: name.to_owned() } };
            let spec = RtcApplicationSpec {
                sdk_app_id: 1,
                identifier: String::new(),
                endpoint: "https://console.tim.qq.com".to_owned(),
                credentials,
                requests_per_second: 1,
                allowed_namespaces: None,
                suspend: false,
            };
            RtcApplication::new(name, spec)
        };
        let referred: BTreeSet<&str> = self.robots.iter().map(|seen| &*seen.robot.application).collect();
        self.applications.clone().unwrap_or_else(|| referred.into_iter().map(ready).collect())
    }
}

/// What would become of the `doomed`, decided by the engine.
#[must_use]
pub fn forecast(stored: &Stored, doomed: &BTreeSet<Key>, now: Timestamp) -> Forecast {
    let now = Now { since_start: Duration::from_secs(1), wall: now };
    let mut engine = engine(stored, doomed, now);
    engine.handle(Input::Leading(Before::Finished), now);
    let mut fates = Vec::new();
    let mut calls: BTreeMap<String, usize> = BTreeMap::new();
    for seen in stored.robots.iter().filter(|seen| doomed.contains(&seen.robot.key)) {
        let fate = fate(seen, engine.would_do(&seen.robot.key, now));
        if fate.call.is_some() {
            *calls.entry(fate.application.clone()).or_default() += 1;
        }
        fates.push(fate);
    }
    let mut notes = Vec::new();
    let seconds = seconds(stored, &calls);
    for name in calls.keys() {
        if let Some((reason, message)) = refused(stored, name) {
            notes.push(format!(
                "RtcApplication {name} is refused at present ({reason}), so its calls would wait: {message}"
            ));
        }
        let unknown = stored.application(name).is_some_and(|application| {
            !stored.secrets.contains_key(&application.spec.credentials.secret_ref.name)
        });
        if stored.applications.is_none() {
            notes.push(format!("You may not read RtcApplication {name}; it is taken for ready"));
        } else if unknown {
            notes.push(format!("You may not read the Secret of RtcApplication {name}; it is taken for good"));
        }
    }
    Forecast {
        calls: calls.values().sum(),
        waiting: fates.iter().filter(|fate| fate.waits).count(),
        without_a_call: fates.iter().filter(|fate| fate.call.is_none() && !fate.waits).count(),
        robots: fates,
        seconds,
        notes,
    }
}

/// How long the `calls` of each application take. Applications of one SDKAppID share its pace, at the lowest of their
/// rates.
fn seconds(stored: &Stored, calls: &BTreeMap<String, usize>) -> BTreeMap<String, f64> {
    let same =
        |id: i64| stored.applications.iter().flatten().filter(move |other| other.spec.sdk_app_id == id);
    let of = |name: &String| {
        let id = stored.application(name)?.spec.sdk_app_id;
        let count: usize = same(id).filter_map(|other| calls.get(&other.name_any())).sum();
        let rate = same(id).map(|other| other.spec.requests_per_second).min()?;
        Some((name.clone(), f64::from(u32::try_from(count).unwrap_or(u32::MAX)) / f64::from(rate.max(1))))
    };
    calls.keys().filter_map(of).collect()
}

/// What the room engine holds against an application, as its stored condition says.
fn refused<'a>(stored: &'a Stored, name: &str) -> Option<(&'a str, &'a str)> {
    let application = stored.application(name)?;
    let ready = application.status.as_ref()?.conditions.iter().find(|found| found.type_ == "Ready")?;
    let refusals = [Reason::CredentialsRejected, Reason::PermissionDenied, Reason::PlanExceeded];
    let is = refusals.iter().any(|reason| reason.as_str() == ready.reason);
    is.then_some((ready.reason.as_str(), ready.message.as_str()))
}

/// An engine that knows what is stored, with the `doomed` being deleted.
fn engine(stored: &Stored, doomed: &BTreeSet<Key>, now: Now) -> Engine {
    // The operator's flags are not known here, but its verdict on each endpoint is.
    let applications = stored.assumed();
    let allowed = Allowed::new(applications.iter().filter_map(|application| {
        let status = application.status.iter().flat_map(|status| &status.conditions);
        let refused = status.into_iter().any(|found| found.reason == Reason::EndpointNotAllowed.as_str());
        application.spec.endpoint.parse::<Endpoint>().ok().filter(|_| !refused)
    }));
    let settings = Settings { allowed: allowed.clone(), namespace: "".into(), concurrency: 1, shard: None };
    let mut engine = Engine::new(settings, 1, 0);
    let mut input = |input| engine.handle(input, now);
    let mut names = BTreeSet::new();
    for namespace in &stored.namespaces {
        let name: Arc<str> = namespace.name_any().into();
        names.insert(Arc::clone(&name));
        let goes = namespace.metadata.deletion_timestamp.is_some();
        input(Input::Namespace(name, namespace.labels().clone(), goes));
    }
    input(Input::NamespacesListed(names));
    input(Input::ApplicationsListing(1));
    let mut names = BTreeSet::new();
    for mut application in applications {
        // Its in-use finalizer is on as soon as a robot refers to it; whether it already is, decides nothing here.
        application.metadata.finalizers = Some(vec![APPLICATION_FINALIZER.to_owned()]);
        names.insert(application.name_any().into());
        input(Input::Application(Box::new(StoredApplication::read(application, &allowed))));
    }
    input(Input::ApplicationsListed(names));
    for (name, secret) in &stored.secrets {
        let credentials = match secret {
            None => Credentials::Missing,
            Some(secret) => {
                let data = secret
                    .data
                    .as_ref()
                    .map(|data| data.iter().map(|(key, value)| (key.clone(), value.0.clone())).collect());
                Credentials::read(data.as_ref())
            }
        };
        input(Input::Secret(name.as_str().into(), credentials));
    }
    input(Input::RobotsListing(None, 1));
    for seen in &stored.robots {
        let mut robot = seen.robot.clone();
        if doomed.contains(&robot.key) && robot.deleting_since.is_none() {
            robot.deleting_since = Some(now.wall.as_second());
            robot.generation += 1;
        }
        input(Input::Robot(Box::new(robot)));
    }
    input(Input::RobotsListed(None));
    engine
}

fn fate(seen: &Seen, step: Option<Step>) -> Fate {
    let robot = &seen.robot;
    let fate = Fate {
        namespace: robot.key.namespace.to_string(),
        name: robot.key.name.to_string(),
        application: robot.application.to_string(),
        room: robot.room_id.to_string(),
        robot: robot.member_account.to_string(),
        call: None,
        waits: false,
        reason: None,
        message: String::new(),
    };
    match step {
        Some(Step::Call(operation)) => Fate { call: Some(operation.as_str()), ..fate },
        Some(Step::Wait(_)) => Fate { call: Some(Operation::DeleteRobot.as_str()), ..fate },
        Some(Step::Report(wanted)) => {
            let Some(end) = wanted.into_iter().find(|want| want.kind == Kind::RobotDeleted) else {
                return fate;
            };
            let over = end.is == Is::True || end.reason == Reason::StillClaimed;
            Fate { waits: !over, reason: Some(end.reason.as_str()), message: end.message, ..fate }
        }
        Some(Step::DropFinalizer) if robot.conditions.is_true(Kind::RobotDeleted) => Fate {
            reason: robot.conditions.reason(Kind::RobotDeleted).map(Reason::as_str),
            message: "its deletion is over; the finalizer goes now".to_owned(),
            ..fate
        },
        Some(Step::DropFinalizer) => {
            Fate { message: "it was never accepted, so nothing is owned".to_owned(), ..fate }
        }
        Some(Step::Rest) if robot.conditions.reason(Kind::RobotDeleted).is_some() => Fate {
            waits: robot.finalizers.ours.is_some(),
            reason: robot.conditions.reason(Kind::RobotDeleted).map(Reason::as_str),
            message: super::cluster::condition(&seen.value, "RobotDeleted")
                .map(|told| told.message)
                .unwrap_or_default(),
            ..fate
        },
        Some(Step::Rest | Step::AddFinalizer) | None => {
            Fate { message: "it has no finalizer of the operator, so it goes at once".to_owned(), ..fate }
        }
    }
}

/// Reads, asks and prints.
///
/// # Errors
/// If it cannot be read, or the arguments name nothing.
pub async fn run(cluster: &Cluster, target: &Target, out: &mut Out) -> Result<Finding> {
    let chosen = chosen::choose(cluster, target, out).await?;
    let places = chosen.places();
    let (robots, all) = cluster.readable_robots(&places, Choice::default(), out).await?;
    let applications = cluster.readable_applications().await?;
    let mut secrets = BTreeMap::new();
    let api = Api::<Secret>::namespaced(cluster.client.clone(), &cluster.operator_namespace);
    for application in applications.iter().flatten() {
        let name = &application.spec.credentials.secret_ref.name;
        if let Ok(secret) = api.get_opt(name).await {
            secrets.insert(name.clone(), secret);
        }
    }
    let namespaces = cluster.namespaces(&places).await?;
    let stored = Stored { robots, applications, namespaces, secrets };
    let doomed = chosen.keys(&stored.robots);
    for name in &chosen.missing(&stored.robots) {
        out.note(&format!("there is no RoomRobot {name}"));
    }
    let mut forecast = forecast(&stored, &doomed, Timestamp::now());
    if !all {
        forecast.notes.push(
            "You may not read the RoomRobots of other namespaces; one that stands for the same robot saves the call"
                .to_owned(),
        );
    }
    forecast.notes.extend(chosen.notes);
    if out.for_people() {
        print(&forecast, out);
    } else {
        out.value(&forecast)?;
    }
    Ok(Finding::Fine)
}

fn print(forecast: &Forecast, out: &mut Out) {
    if forecast.robots.is_empty() {
        out.line("No RoomRobot would be deleted.");
    } else {
        let rows: Vec<Vec<Cell>> = forecast
            .robots
            .iter()
            .map(|fate| {
                let what = match fate {
                    Fate { call: Some(call), .. } => Cell::new(format!("calls {call}"), Tone::Plain),
                    Fate { waits: true, reason, .. } => {
                        Cell::new(format!("waits: {}", reason.unwrap_or_default()), Tone::Bad)
                    }
                    Fate { reason: Some(reason), .. } => {
                        Cell::new(format!("goes without a call: {reason}"), Tone::Good)
                    }
                    Fate { .. } => Cell::new("goes without a call", Tone::Good),
                };
                let (room, robot) = (fate.room.as_str(), fate.robot.as_str());
                vec![
                    fate.namespace.as_str().into(),
                    fate.name.as_str().into(),
                    fate.application.as_str().into(),
                    room.into(),
                    robot.into(),
                    what,
                    fate.message.as_str().into(),
                ]
            })
            .collect();
        let heads = ["NAMESPACE", "NAME", "APPLICATION", "ROOM", "ROBOT", "DELETION", "BECAUSE"];
        out.table(&heads, &rows);
        out.line("");
    }
    let Forecast { calls, without_a_call, waiting, .. } = forecast;
    out.toned(
        &format!(
            "Calls of delete_robot: {calls}. Gone without a call: {without_a_call}. Would wait: {waiting}."
        ),
        Tone::Heading,
    );
    for (application, seconds) in &forecast.seconds {
        out.line(&format!("RtcApplication {application}: about {seconds:.1} s at its pace."));
    }
    for note in &forecast.notes {
        out.line(&format!("Note: {note}."));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn applications_of_one_sdk_app_id_share_its_pace() {
        let application = |name: &str, id: i64, rate: i32| -> RtcApplication {
            serde_json::from_value(json!({
                "apiVersion": "roomrobot.dev/v1alpha1", "kind": "RtcApplication", "metadata": {"name": name},
                "spec": {"sdkAppId": id, "requestsPerSecond": rate, "credentials": {"secretRef": {"name": "s"}}},
            }))
            .unwrap()
        };
        let applications = vec![application("a", 1, 100), application("b", 1, 50), application("c", 2, 100)];
        let stored = Stored { applications: Some(applications), ..Stored::default() };
        let calls = [("a", 100), ("b", 100), ("c", 100)].map(|(name, calls)| (name.to_owned(), calls));
        let seconds: Vec<f64> = seconds(&stored, &BTreeMap::from(calls)).into_values().collect();
        assert_eq!(seconds, [4.0, 4.0, 1.0]);
    }
}
