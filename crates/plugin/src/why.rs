//! `why`: one screen about a RoomRobot: what it waits for, since when, and what to type next.
//!
//! [`explain()`] is pure: it makes the screen of what was read. [`run`] reads and prints.

use super::{
    Error, Finding, Result,
    cluster::{
        Acting, Choice, Cluster, Flags, Leader, Seen, SeenCondition, at, condition, gauge, nobody, quoted,
    },
    output::{self, Out, Tone},
    release,
};
use k8s_openapi::{
    api::{core::v1::Namespace, events::v1::Event},
    jiff::Timestamp,
};
use kube::ResourceExt as _;
use roomrobot_core::api_server::FIELD_MANAGER;
use roomrobot_core::{
    call::{Outcome, Reply},
    codes::{self, Operation},
    crd::{CreationPolicy, DeletionPolicy, RtcApplication},
    explain::{self, Explanation, Step, Subject},
    status::{self, Kind, Reason},
};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// Everything that a screen is made of.
#[derive(Debug)]
pub struct Facts<'a> {
    /// The RoomRobot.
    pub seen: &'a Seen,
    /// Its application, where there is one.
    pub application: Option<&'a RtcApplication>,
    /// Whether RtcApplications may be read: they belong to the cluster, and a user of one namespace may not.
    pub may_read_applications: bool,
    /// Whether its namespace is being deleted.
    pub namespace_goes: bool,
    /// Who acts, or why that is not known.
    pub acting: Acting<'a>,
    /// The operator's metrics, of each leader of which they could be had.
    pub metrics: &'a [String],
    /// Deletions of its application that are in line for their first answer, where they were counted: since when.
    pub line: Option<&'a [i64]>,
    /// What an Event says of a write that the cluster refuses, where the status cannot say it.
    pub refused: Option<&'a str>,
    /// Other deletions that wait for the same reason.
    pub more: usize,
    /// The operator's namespace.
    pub operator_namespace: &'a str,
    /// What every command to type needs.
    pub flags: &'a Flags,
    /// Now.
    pub now: Timestamp,
}

/// A screen.
#[derive(Clone, Debug, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Screen {
    /// `namespace/name`
    pub robot: String,
    /// What is the matter, as one sentence.
    pub summary: String,
    /// `fine`, `waits` or `person`
    pub finding: &'static str,
    /// The reason of the condition that tells most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What that reason means and more, in the order in which it reads.
    pub details: Vec<Detail>,
    /// What to type, the most likely first.
    pub next: Vec<Next>,
}

/// A line of a screen.
#[derive(Clone, Debug, Serialize, PartialEq)]
pub struct Detail {
    /// What it is about.
    pub about: &'static str,
    /// What there is to say.
    pub text: String,
}

/// Something to type.
#[derive(Clone, Debug, Serialize, PartialEq)]
pub struct Next {
    /// What it is good for.
    pub purpose: &'static str,
    /// The command.
    pub command: String,
}

impl Screen {
    /// What the screen comes to.
    #[must_use]
    pub fn finding(&self) -> Finding {
        match self.finding {
            "fine" => Finding::Fine,
            "waits" => Finding::Waits,
            _ => Finding::NeedsAPerson,
        }
    }

    fn print(&self, out: &mut Out) {
        let tone = match self.finding() {
            Finding::Fine => Tone::Good,
            Finding::Waits => Tone::Waiting,
            Finding::NeedsAPerson => Tone::Bad,
        };
        out.toned(&self.summary, tone);
        out.line("");
        for Detail { about, text } in &self.details {
            out.line(&format!("  {about:<14} {text}"));
        }
        if !self.next.is_empty() {
            out.line("");
            out.toned("What to type next", Tone::Heading);
            for Next { purpose, command } in &self.next {
                out.line(&format!("  {purpose}:"));
                out.line(&format!("    {command}"));
            }
        }
    }
}

/// What a deletion without a condition waits for, and what to do.
const IN_LINE: (&str, &str) = (
    "its SDKAppID may make spec.requestsPerSecond calls a second, and others are before it; namespaces take turns",
    "nothing; if the vendor has agreed to more calls a second, raise spec.requestsPerSecond",
);

/// What it means that nobody acts, and what to do.
const NOBODY: (&str, &str) = (
    "nobody holds the operator's Lease, so nothing is called and nothing is let go",
    "start the operator, or see why it does not start",
);

/// What a finalizer that is not ours means, and what to do.
const OTHERS: (&str, &str) = (
    "the object waits for whoever else put a finalizer on it",
    "ask whose the finalizer is; the operator is done",
);

/// What is the matter with a robot.
struct Matter {
    summary: String,
    finding: Finding,
    kind: Kind,
    condition: Option<SeenCondition>,
    /// What it means and what to do, before what the reason says or where none says it.
    meaning: Option<(&'static str, &'static str)>,
    /// What to type though no reason names it; first, where there is a `meaning`.
    steps: &'static [Step],
}

/// The screen for `facts`.
#[must_use]
pub fn explain(facts: &Facts<'_>) -> Screen {
    let Facts { seen, application, now, .. } = facts;
    let matter = matter(facts);
    let reason = matter.condition.as_ref().map(|condition| condition.reason.clone());
    let explanation = reason
        .as_deref()
        .and_then(|reason| explain::look_up(Subject::RoomRobot, matter.kind, Reason::parse(reason)));
    let mut details = Vec::new();
    let mut say = |about, text: String| details.push(Detail { about, text });
    if let Some(condition) = &matter.condition {
        let SeenCondition { status, reason, message } = condition;
        say(
            "says",
            if status.is_empty() {
                format!("an Event: {reason}: {message}")
            } else {
                format!("{}={status} {reason}: {message}", matter.kind.as_str())
            },
        );
    }
    if let Some((means, todo)) = matter.meaning {
        say("means", means.to_owned());
        say("what to do", todo.to_owned());
    }
    if let Some(row) = explanation {
        say("means", row.when.replace('`', ""));
    }
    let call = at(&seen.value, "/status/lastRequest");
    let last = at(call, "/errorCode").as_i64();
    if let Some(code) = last {
        say("ErrorCode", explain_code(code));
    }
    // The last call may be about something else than what stands in the way now.
    let operation = at(call, "/operation").as_str();
    let code =
        last.filter(|code| reason.is_some() && reason_of(matter.kind, operation, *code) == reason.as_deref());
    if let Some(row) = explanation.filter(|row| !row.remedy.is_empty()) {
        let own = code.and_then(codes::look_up).map(|row| row.remedy).filter(|remedy| !remedy.is_empty());
        let todo = own.map_or_else(|| row.remedy.replace('`', ""), str::to_owned);
        if matter.meaning.is_none() || !todo.to_lowercase().starts_with("nothing") {
            say("what to do", todo);
        }
    }
    if let Some(operation) = operation {
        let id = at(call, "/requestId").as_str().unwrap_or("none");
        let ago = at(call, "/time").as_str().and_then(|time| time.parse::<Timestamp>().ok());
        let ago = ago.map_or_else(String::new, |at| {
            format!(", {} ago", output::span(now.as_second() - at.as_second()))
        });
        say("last call", format!("{operation}{ago}, RequestId {id}"));
    }
    say("robot", format!("{} in room {}", seen.robot.member_account, seen.robot.room_id));
    say(
        "application",
        if facts.may_read_applications {
            tell_application(&seen.robot.application, *application)
        } else {
            format!("{}, which you may not read", seen.robot.application)
        },
    );
    if let Some(text) = tell_quota(facts.metrics, seen) {
        say("quota", text);
    }
    if let (Some(line), Some(since), true) = (facts.line, seen.robot.deleting_since, seen.in_line()) {
        let older = line.iter().filter(|other| **other < since).count();
        say("place", format!("about {older} of {} in line are older; namespaces take turns", line.len()));
    }
    say("operator", tell_leaders(facts.acting));
    if facts.namespace_goes {
        say(
            "namespace",
            format!("{} is being deleted and waits for this RoomRobot", seen.robot.key.namespace),
        );
    }
    if facts.more > 0 {
        say("and more", format!("{} more wait for the same reason", facts.more));
    }
    let steps = steps(facts, &matter, explanation, code);
    Screen {
        robot: seen.robot.key.to_string(),
        summary: matter.summary,
        finding: match matter.finding {
            Finding::Fine => "fine",
            Finding::Waits => "waits",
            Finding::NeedsAPerson => "person",
        },
        reason,
        details,
        next: steps.into_iter().map(|step| next(step, facts)).collect(),
    }
}

/// What to type, the most likely first.
fn steps(facts: &Facts<'_>, matter: &Matter, row: Option<&Explanation>, code: Option<i64>) -> Vec<Step> {
    let seen = facts.seen;
    if matter.finding == Finding::Fine {
        return Vec::new();
    }
    // Retain needs somebody who drops the finalizer, and leaves alone what is over.
    let release = seen.goes()
        && seen.robot.finalizers.ours.is_some()
        && seen.robot.deletion_policy == DeletionPolicy::Delete
        && !(seen.over() || nobody(facts.acting));
    let own = row.map(|row| row.steps).unwrap_or_default();
    let ordered = if matter.meaning.is_some() { [matter.steps, own] } else { [own, matter.steps] };
    let mut steps: Vec<Step> = Vec::new();
    for step in ordered.into_iter().flatten() {
        if fits(*step, facts, code) && !steps.contains(step) {
            steps.push(*step);
        }
    }
    if release {
        steps.push(Step::Release);
    }
    steps
}

/// The reason that a condition has after `code`.
fn reason_of(kind: Kind, operation: Option<&str>, code: i64) -> Option<&'static str> {
    let outcome = Outcome::Reply(Reply { code, info: String::new(), request_id: None });
    let reason = match (kind, operation?) {
        (Kind::RobotDeleted, "delete_robot") => status::deletion_reason(&outcome),
        (Kind::Ready, "add_robot") => status::addition_reason(&outcome),
        _ => return None,
    };
    Some(reason.as_str())
}

/// What is the matter with one that is not being deleted.
fn of_living(facts: &Facts<'_>) -> Matter {
    let Seen { robot, value, .. } = facts.seen;
    let (key, nobody) = (&robot.key, nobody(facts.acting));
    let stalled = robot.conditions.is_true(Kind::Stalled);
    let person = if stalled { "and a person must act" } else { "and goes on by itself" };
    let finding = if stalled { Finding::NeedsAPerson } else { Finding::Waits };
    let shown = |kind: Kind| condition(value, kind.as_str());
    if let Some(told) = refusal(facts).filter(|_| !nobody) {
        let summary =
            format!("The cluster refuses the operator's writes for RoomRobot {key}, and a person must act");
        return of_refusal(summary, told);
    }
    let kind = if robot.accepted() { Kind::Ready } else { Kind::Accepted };
    let condition = shown(kind);
    let (summary, finding) = match &condition {
        None if nobody => (format!("RoomRobot {key} is new, and no operator acts"), Finding::NeedsAPerson),
        None => (format!("RoomRobot {key} is new; the operator has not said anything yet"), Finding::Waits),
        Some(ready) if ready.status == "True" => {
            (format!("RoomRobot {key} is well and nothing waits: it is not being deleted"), Finding::Fine)
        }
        Some(_) if nobody => {
            (format!("RoomRobot {key} is not ready, and no operator acts"), Finding::NeedsAPerson)
        }
        Some(ready) if ready.reason == Reason::Adding.as_str() => {
            (format!("RoomRobot {key} is being brought into its room and goes on by itself"), finding)
        }
        Some(ready) if ready.status == "Unknown" => {
            (format!("RoomRobot {key} may be in its room or not ({}), {person}", ready.reason), finding)
        }
        Some(ready) => (format!("RoomRobot {key} is not ready ({}), {person}", ready.reason), finding),
    };
    let adding = robot.creation_policy == CreationPolicy::Create;
    let doubt = condition
        .as_ref()
        .is_some_and(|ready| adding && ready.status == "Unknown" && ready.reason != Reason::Adding.as_str());
    let meaning = (nobody && finding == Finding::NeedsAPerson).then_some(NOBODY);
    let steps: &[Step] = match (nobody, doubt) {
        (true, _) => &[Step::OperatorLog],
        (false, true) => &[Step::Adopt],
        (false, false) => &[],
    };
    Matter { summary, finding, kind, condition, meaning, steps }
}

fn matter(facts: &Facts<'_>) -> Matter {
    let Facts { seen, now, .. } = facts;
    let Seen { robot, finalizers, value } = seen;
    let key = &robot.key;
    let nobody = nobody(facts.acting);
    let stalled = robot.conditions.is_true(Kind::Stalled);
    let person = if stalled { "and a person must act" } else { "and goes on by itself" };
    let finding = if stalled { Finding::NeedsAPerson } else { Finding::Waits };
    let shown = |kind: Kind| condition(value, kind.as_str());
    let Some(since) = robot.deleting_since else {
        return of_living(facts);
    };
    let waits = output::span(now.as_second() - since);
    let condition = shown(Kind::RobotDeleted).filter(|_| !robot.took_retain_back());
    let kind = Kind::RobotDeleted;
    if robot.finalizers.ours.is_none() {
        let others = finalizers.join(", ");
        let summary = format!(
            "RoomRobot {key} has waited for {waits} for somebody else: this operator is done with it, the finalizer {others} is not its own"
        );
        return Matter {
            summary,
            finding: Finding::NeedsAPerson,
            kind,
            condition,
            meaning: Some(OTHERS),
            steps: &[Step::Finalizers],
        };
    }
    if nobody {
        let summary = format!("The deletion of RoomRobot {key} has waited for {waits}, and no operator acts");
        let (meaning, steps) = (Some(NOBODY), &[Step::OperatorLog]);
        return Matter { summary, finding: Finding::NeedsAPerson, kind, condition, meaning, steps };
    }
    if let Some(told) = refusal(facts) {
        let summary = match condition.filter(|_| seen.over()) {
            Some(over) => format!(
                "The deletion of RoomRobot {key} is over ({}), but the cluster refuses to let it go, and a person must act",
                over.reason
            ),
            None => format!(
                "The deletion of RoomRobot {key} has waited for {waits}: the cluster refuses the operator's writes, and a person must act"
            ),
        };
        return of_refusal(summary, told);
    }
    match condition {
        None => Matter {
            summary: format!(
                "The deletion of RoomRobot {key} has been in line for its first call for {waits}, and goes on by itself"
            ),
            finding: Finding::Waits,
            kind,
            condition: None,
            meaning: Some(IN_LINE),
            steps: &[Step::List, Step::Pace, Step::OperatorLog],
        },
        Some(told) if seen.over() => Matter {
            summary: format!(
                "The deletion of RoomRobot {key} is over ({}); its finalizer goes now",
                told.reason
            ),
            finding: Finding::Waits,
            kind,
            condition: Some(told),
            meaning: None,
            steps: &[],
        },
        Some(told) => Matter {
            summary: format!(
                "The deletion of RoomRobot {key} has waited for {waits} ({}), {person}",
                told.reason
            ),
            finding,
            kind,
            condition: Some(told),
            meaning: None,
            steps: &[],
        },
    }
}

/// What says that the cluster refuses the operator's writes: the condition, or the Event, which has no status.
fn refusal(facts: &Facts<'_>) -> Option<SeenCondition> {
    let condition = condition(&facts.seen.value, Kind::Stalled.as_str());
    condition.filter(|_| facts.seen.told_refused()).or_else(|| {
        let reason = Reason::WriteRefused.as_str().to_owned();
        Some(SeenCondition { status: String::new(), reason, message: facts.refused?.to_owned() })
    })
}

fn of_refusal(summary: String, told: SeenCondition) -> Matter {
    let (finding, kind) = (Finding::NeedsAPerson, Kind::Stalled);
    Matter { summary, finding, kind, condition: Some(told), meaning: None, steps: &[] }
}

/// A code in one sentence.
#[must_use]
pub fn explain_code(code: i64) -> String {
    match codes::look_up(code) {
        Some(row) => format!("{code} ({}): {}", row.class.as_str(), row.meaning),
        None => format!("{code}: the vendor documents no such code"),
    }
}

fn tell_application(name: &str, application: Option<&RtcApplication>) -> String {
    let Some(application) = application else {
        return format!("{name} does not exist");
    };
    let ready = application.status.iter().flat_map(|status| &status.conditions);
    match ready.into_iter().find(|condition| condition.type_ == "Ready") {
        Some(ready) if ready.status == "True" => format!("{name} is ready ({})", ready.reason),
        Some(ready) => format!("{name} is not ready ({}): {}", ready.reason, ready.message),
        None => format!("{name}; the operator has not said anything of it yet"),
    }
}

/// The pace and the line, as the metrics of the leader have them that has the application's longest line.
fn tell_quota(texts: &[String], seen: &Seen) -> Option<String> {
    let operation = if seen.goes() || seen.robot.creation_policy == CreationPolicy::Adopt {
        Operation::DeleteRobot
    } else {
        Operation::AddRobot
    };
    let labels = [("application", &*seen.robot.application), ("command", operation.as_str())];
    let lines =
        texts.iter().filter_map(|text| Some((gauge(text, "roomrobot_quota_waiting", &labels)?, text)));
    let (waiting, text) = lines.max_by(|(a, _), (b, _)| a.total_cmp(b))?;
    let of = |name| gauge(text, name, &labels);
    let (pace, limit) = (of("roomrobot_quota_pace")?, of("roomrobot_quota_limit")?);
    let eta = match of("roomrobot_quota_eta_seconds") {
        Some(eta) => format!("the line is empty in about {:.0} s", eta.ceil()),
        None => "nothing may be called now".to_owned(),
    };
    Some(format!("{waiting} in line for a call, at {pace:.0} of {limit} a second; {eta}"))
}

fn tell_leaders(acting: Acting<'_>) -> String {
    let leaders = match acting {
        Err(why) => return why.to_owned(),
        Ok(leaders) => leaders,
    };
    let tell = |leader: &Leader| match &leader.lease {
        // Which shard a robot belongs to is not known here.
        Some(lease) if !leader.acts && leaders.len() > 1 => {
            format!("of Lease {lease}, a shard's: {}", leader.tell())
        }
        _ => leader.tell(),
    };
    leaders.iter().map(tell).collect::<Vec<_>>().join(", ")
}

/// Whether typing `step` makes sense for what is known.
fn fits(step: Step, facts: &Facts<'_>, code: Option<i64>) -> bool {
    let application = facts.application;
    let suspended = application.is_some_and(|application| application.spec.suspend);
    let ready = application
        .and_then(|application| application.status.as_ref())
        .and_then(|status| status.conditions.iter().find(|condition| condition.type_ == "Ready"))
        .map(|condition| Reason::parse(&condition.reason));
    match step {
        Step::ResumeRobot => facts.seen.robot.suspend,
        Step::ResumeApplication => suspended,
        Step::CreateApplication => application.is_none() && facts.may_read_applications,
        Step::CreateSecret => ready == Some(Reason::SecretNotFound),
        Step::ReplaceSecret => matches!(ready, Some(Reason::SecretInvalid | Reason::CredentialsRejected)),
        Step::EditApplication => application.is_some() && code != Some(100_006),
        Step::Doctor | Step::Pace => application.is_some(),
        // The application's refusals are not waited for by the robot: its own spec changes nothing.
        Step::TryNow if !nobody(facts.acting) => {
            code.is_none_or(|code| !codes::class(Operation::DeleteRobot, code).stops_application())
        }
        Step::TryNow => false,
        Step::Delete => !facts.seen.goes(),
        Step::LabelNamespace
        | Step::Adopt
        | Step::List
        | Step::Requests
        | Step::OperatorLog
        | Step::Finalizers
        | Step::Policies
        | Step::Release => true,
    }
}

fn next(step: Step, facts: &Facts<'_>) -> Next {
    let robot = &facts.seen.robot;
    let secret = facts.application.map_or("SECRET", |found| &found.spec.credentials.secret_ref.name);
    let mut command = step.command().to_owned();
    for (place, value) in [
        ("{name}", &*robot.key.name),
        ("{namespace}", &*robot.key.namespace),
        ("{application}", &*robot.application),
        ("{secret}", secret),
        ("{operator}", facts.operator_namespace),
    ] {
        // Not every name is one that the API server has checked.
        command = command.replace(place, &quoted(value));
    }
    Next { purpose: step.purpose(), command: facts.flags.put(&command) }
}

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

fn goes(namespace: &Namespace) -> bool {
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
async fn lines(cluster: &Cluster, out: &Out) -> Result<BTreeMap<String, Vec<i64>>> {
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

#[cfg(test)]
mod tests;
