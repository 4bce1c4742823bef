//! `why`: one screen about a RoomRobot: what it waits for, since when, and what to type next.
//!
//! [`explain()`] is pure: it makes the screen of what was read. [`run`] reads and prints.

mod matter;
mod reads;

use matter::{Matter, matter};
pub use reads::run;

use super::{
    Finding,
    cluster::{Acting, Flags, Leader, Seen, SeenCondition, at, gauge, nobody, quoted},
    output::{self, Out, Tone},
};
use k8s_openapi::jiff::Timestamp;
use roomrobot_core::{
    call::{Outcome, Reply},
    codes::{self, Operation},
    crd::{CreationPolicy, DeletionPolicy, RtcApplication},
    explain::{self, Explanation, Step, Subject},
    status::{self, Kind, Reason},
};
use serde::Serialize;

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

#[cfg(test)]
mod tests;
