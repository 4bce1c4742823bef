//! `list`: deletions that wait, the oldest first.

use super::{
    Finding, Result,
    cluster::{Choice, Cluster, Seen, at, condition},
    output::{self, Cell, Out, Tone},
};
use roomrobot_core::status::{Kind, Reason};
use serde::Serialize;
use std::collections::BTreeSet;

/// A deletion that waits.
#[derive(Clone, Debug, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Waiting {
    namespace: String,
    name: String,
    application: String,
    /// How long.
    seconds: i64,
    reason: String,
    needs_a_person: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_code: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<String>,
    message: String,
}

/// Those of `robots` that wait, the oldest first.
#[must_use]
pub fn waiting(robots: &[Seen], now: i64) -> Vec<Waiting> {
    let mut list: Vec<Waiting> = robots
        .iter()
        .filter_map(|seen| {
            let robot = &seen.robot;
            let since = robot.deleting_since?;
            let call = at(&seen.value, "/status/lastRequest");
            let kind = if seen.told_refused() { Kind::Stalled } else { Kind::RobotDeleted };
            let told = condition(&seen.value, kind.as_str());
            let ours = robot.finalizers.ours.is_some();
            Some(Waiting {
                namespace: robot.key.namespace.to_string(),
                name: robot.key.name.to_string(),
                application: robot.application.to_string(),
                seconds: now - since,
                reason: seen.waits_for().to_owned(),
                needs_a_person: !ours || robot.conditions.is_true(Kind::Stalled),
                error_code: at(call, "/errorCode").as_i64(),
                request_id: at(call, "/requestId").as_str().map(str::to_owned),
                message: told.map(|told| told.message).unwrap_or_default(),
            })
        })
        .collect();
    list.sort_by(|a, b| {
        b.seconds.cmp(&a.seconds).then_with(|| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)))
    });
    list
}

/// Reads and prints.
///
/// # Errors
/// If the RoomRobots cannot be listed.
pub async fn run(cluster: &Cluster, out: &mut Out) -> Result<Finding> {
    let choice = Choice { keep: Some(Seen::goes), ..Choice::default() };
    // A person who looks for what hangs does not know where: all namespaces, unless one is named.
    let robots = match cluster.scope.as_deref() {
        Some(own) if !cluster.named => {
            let (robots, all) =
                cluster.readable_robots(&BTreeSet::from([own.to_owned()]), choice, out).await?;
            if !all {
                out.note(&format!("You may not list RoomRobots of all namespaces; these are of {own}."));
            }
            robots
        }
        scope => cluster.robots(scope, choice, out).await?,
    };
    let list = waiting(&robots, cluster.now().await?.as_second());
    let persons = list.iter().filter(|waiting| waiting.needs_a_person).count();
    if !out.for_people() {
        out.value(&list)?;
    } else if list.is_empty() {
        out.toned("No deletion waits.", Tone::Good);
    } else {
        let rows: Vec<Vec<Cell>> = list.iter().map(row).collect();
        let heads = ["NAMESPACE", "NAME", "APPLICATION", "WAITING", "REASON", "PERSON", "CODE", "REQUESTID"];
        out.table(&heads, &rows);
        let first = list.first().map(|first| format!("{} -n {}", first.name, first.namespace));
        let why = cluster.flags.put(&format!("kubectl roomrobot why {}", first.unwrap_or_default()));
        out.note("");
        out.note(&format!("{} wait, {persons} of them for a person. Why: {why}", list.len()));
    }
    Ok(match (list.len(), persons) {
        (0, _) => Finding::Fine,
        (_, 0) => Finding::Waits,
        _ => Finding::NeedsAPerson,
    })
}

fn row(waiting: &Waiting) -> Vec<Cell> {
    let over = [Reason::Deleted, Reason::RoomNotFound, Reason::NotInRoom, Reason::Retained]
        .iter()
        .any(|reason| reason.as_str() == waiting.reason);
    let tone = match waiting {
        Waiting { needs_a_person: true, .. } => Tone::Bad,
        _ if over => Tone::Good,
        _ => Tone::Waiting,
    };
    vec![
        waiting.namespace.as_str().into(),
        waiting.name.as_str().into(),
        waiting.application.as_str().into(),
        output::span(waiting.seconds).into(),
        Cell::new(waiting.reason.as_str(), tone),
        if waiting.needs_a_person { "yes" } else { "no" }.into(),
        waiting.error_code.map_or_else(|| "-".to_owned(), |code| code.to_string()).into(),
        waiting.request_id.as_deref().unwrap_or("-").into(),
    ]
}
