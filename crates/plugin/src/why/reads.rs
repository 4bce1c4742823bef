//! What `why` reads of the cluster, and how it prints its screens.

use super::{Detail, Facts, Screen, explain};
use crate::{
    Error, Finding, Result,
    cluster::{Choice, Cluster, Seen},
    output::{Out, Tone},
    release,
};
use k8s_openapi::{
    api::{core::v1::Namespace, events::v1::Event},
    jiff::Timestamp,
};
use kube::ResourceExt as _;
use roomrobot_core::{
    api_server::FIELD_MANAGER,
    status::{Kind, Reason},
};
use std::collections::{BTreeMap, BTreeSet};

/// Reads and prints.
///
/// # Errors
/// If it cannot be read.
pub async fn run(cluster: &Cluster, name: Option<&str>, out: &mut Out) -> Result<Finding> {
    let scope = cluster.scope.as_deref();
    let waits = |seen: &Seen| seen.goes() || seen.robot.conditions.is_true(Kind::Stalled);
    let keep = name.is_none().then_some(waits as fn(&Seen) -> bool);
    let found = cluster.robots(scope, Choice { name, keep, ..Choice::default() }, out).await?;
    let chosen = match name {
        Some(name) if found.is_empty() => return gone(cluster, name, out).await,
        Some(_) => found.into_iter().map(|seen| (seen, 0)).collect(),
        None => one_for_each_reason(found),
    };
    let applications = cluster.readable_applications().await?;
    let may_read_applications = applications.is_some();
    let applications = applications.unwrap_or_default();
    let places = chosen.iter().map(|(seen, _)| seen.robot.key.namespace.to_string()).collect();
    let namespaces = cluster.namespaces(&places).await?.into_iter().filter(goes);
    let namespaces: Vec<String> = namespaces.map(|namespace| namespace.name_any()).collect();
    let metrics = cluster.metrics().await;
    let lines = if chosen.iter().any(|(seen, _)| seen.in_line()) {
        lines(cluster, out).await?
    } else {
        BTreeMap::new()
    };
    let now = cluster.now().await?;
    let mut refused = Vec::new();
    for (seen, _) in &chosen {
        refused.push(if seen.silent() { refusal_event(cluster, seen).await? } else { None });
    }
    let screens: Vec<Screen> = chosen
        .iter()
        .zip(&refused)
        .map(|((seen, more), refused)| {
            explain(&Facts {
                seen,
                application: applications.iter().find(|found| found.name_any() == *seen.robot.application),
                may_read_applications,
                namespace_goes: namespaces.iter().any(|name| *name == *seen.robot.key.namespace),
                acting: cluster.acting(),
                metrics: &metrics,
                line: lines.get(&*seen.robot.application).map(Vec::as_slice),
                refused: refused.as_deref(),
                more: *more,
                operator_namespace: &cluster.operator_namespace,
                flags: &cluster.flags,
                now,
            })
        })
        .collect();
    if !out.for_people() {
        match screens.as_slice() {
            [screen] if name.is_some() && scope.is_some() => out.value(screen)?,
            screens => out.value(&screens)?,
        }
    } else if screens.is_empty() {
        let place = scope.map_or_else(|| "any namespace".to_owned(), |own| format!("namespace {own}"));
        out.toned(&format!("Nothing waits in {place}."), Tone::Good);
    }
    if out.for_people() {
        for (at, screen) in screens.iter().enumerate() {
            if at > 0 {
                out.line("");
            }
            screen.print(out);
        }
    }
    Ok(screens.iter().map(Screen::finding).max().unwrap_or(Finding::Fine))
}

pub(super) fn goes(namespace: &Namespace) -> bool {
    namespace.metadata.deletion_timestamp.is_some()
}

/// Of everything that waits, the one that waits longest for each reason and application, and how many more do.
fn one_for_each_reason(robots: Vec<Seen>) -> Vec<(Seen, usize)> {
    let mut groups: BTreeMap<(String, String), (Seen, usize)> = BTreeMap::new();
    for seen in robots {
        let robot = &seen.robot;
        let ready = || robot.conditions.reason(Kind::Ready).map_or("New", Reason::as_str);
        let reason = if seen.goes() { seen.waits_for() } else { ready() }.to_owned();
        match groups.entry((reason, robot.application.to_string())) {
            std::collections::btree_map::Entry::Vacant(place) => drop(place.insert((seen, 0))),
            std::collections::btree_map::Entry::Occupied(mut place) => {
                let (longest, more) = place.get_mut();
                *more += 1;
                let since = |seen: &Seen| seen.robot.deleting_since.unwrap_or(i64::MAX);
                if since(&seen) < since(longest) {
                    *longest = seen;
                }
            }
        }
    }
    let mut groups: Vec<_> = groups.into_values().collect();
    groups.sort_by_key(|(seen, _)| seen.robot.deleting_since.unwrap_or(i64::MAX));
    groups
}

/// Since when deletions are in line for their first answer, by application, as far as the user may see them.
pub(super) async fn lines(cluster: &Cluster, out: &Out) -> Result<BTreeMap<String, Vec<i64>>> {
    let own = BTreeSet::from([cluster.default_namespace.clone()]);
    let choice = Choice { keep: Some(Seen::in_line), ..Choice::default() };
    let mut lines = BTreeMap::<String, Vec<i64>>::new();
    for seen in cluster.readable_robots(&own, choice, out).await?.0 {
        let line = lines.entry(seen.robot.application.to_string()).or_default();
        line.extend(seen.robot.deleting_since);
    }
    Ok(lines)
}

/// There is no such RoomRobot any more: what its last Event said, of those that this project's programs report. The API
/// server takes any reporter's name from whoever may create Events, so the screen names the reporter.
async fn gone(cluster: &Cluster, name: &str, out: &mut Out) -> Result<Finding> {
    let scope = cluster.scope.as_deref();
    let within = scope.map_or_else(String::new, |namespace| format!(",regarding.namespace={namespace}"));
    let fields = format!("regarding.kind=RoomRobot,regarding.name={name}{within}");
    let places = if scope.is_some() { vec![scope, Some(&cluster.operator_namespace)] } else { vec![None] };
    let (mut events, mut unread) = (Vec::new(), Vec::new());
    for place in places {
        match cluster.events(place, &fields).await? {
            Some(found) => events.extend(found.into_iter().filter(|event| reporter(event).is_some())),
            None => unread.push(place.unwrap_or("all namespaces")),
        }
    }
    let about = scope.map_or_else(|| name.to_owned(), |namespace| format!("{namespace}/{name}"));
    let time = |event: &Event| event.event_time.as_ref().map(|time| time.0);
    let Some(last) = events.into_iter().max_by_key(time) else {
        let left = if unread.is_empty() {
            "no Event of it is left".to_owned()
        } else {
            format!("you may not read Events in {}", unread.join(" and "))
        };
        return Err(Error(format!(
            "there is no RoomRobot {about}, and {left}; the operator's audit log has every call"
        )));
    };
    let reporter = reporter(&last).unwrap_or_default().to_owned();
    let robot = match (scope, last.regarding.and_then(|object| object.namespace)) {
        (None, Some(namespace)) => format!("{namespace}/{name}"),
        _ => about,
    };
    let summary = format!(
        "RoomRobot {robot} is gone; the last Event about it says {}",
        last.reason.as_deref().unwrap_or_default()
    );
    let says = Detail { about: "says", text: last.note.unwrap_or_default() };
    let details = vec![says, Detail { about: "reporter", text: reporter }];
    let screen = Screen { robot, summary, finding: "fine", reason: last.reason, details, next: Vec::new() };
    if out.for_people() {
        screen.print(out);
    } else {
        out.value(&screen)?;
    }
    Ok(Finding::Fine)
}

/// What the operator's last Event about a robot says of a write that the cluster refuses, where its status has not changed
/// since.
async fn refusal_event(cluster: &Cluster, seen: &Seen) -> Result<Option<String>> {
    let key = &seen.robot.key;
    let fields = format!(
        "regarding.kind=RoomRobot,regarding.namespace={},regarding.name={},reason={}",
        key.namespace,
        key.name,
        Reason::WriteRefused
    );
    let mut found = Vec::new();
    for place in [&*key.namespace, &cluster.operator_namespace] {
        found.extend(cluster.events(Some(place), &fields).await?.into_iter().flatten());
    }
    let about =
        |event: &Event| event.regarding.as_ref().and_then(|object| object.uid.as_deref().map(str::to_owned));
    let time = |event: &Event| event.event_time.as_ref().map(|time| time.0);
    let current = |event: &Event| {
        reporter(event) == Some(FIELD_MANAGER)
            && about(event).as_deref() == Some(&*seen.robot.uid)
            && time(event).map(Timestamp::as_second) >= seen.last_told()
    };
    Ok(found.into_iter().filter(current).max_by_key(time).and_then(|event| event.note))
}

/// Who reported an Event, where it is one of this project's programs.
fn reporter(event: &Event) -> Option<&str> {
    let reporter = event.reporting_controller.as_deref();
    reporter.filter(|reporter| [FIELD_MANAGER, release::REPORTER].contains(reporter))
}
