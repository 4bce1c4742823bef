//! The conditions that a step reports, and their words.

use super::{Facts, Hold, Step};
use crate::{
    plan::Attempt,
    robot::Robot,
    status::{self, Is, Kind, Reason, Wanted},
};

/// `wanted`, which tells of `hold`, or `then` where the stored status tells of it. One refusal is told once, whatever its
/// code and RequestId: a robot that was refused itself keeps its own, and thousands that wait are not written to again.
pub(super) fn blocked(facts: &Facts<'_>, hold: &Hold, wanted: Vec<Wanted>, kind: Kind, then: Step) -> Step {
    let Facts { robot, memory, .. } = facts;
    let itself = || memory.last.as_deref().is_some_and(|last| last.class.stops_application());
    let told = hold.refusal
        && robot.conditions.reason(kind) == Some(hold.reason)
        && robot.observed_generation == Some(robot.generation)
        // `ApplicationNotReady` has causes that differ in what a person has to do: there the words count.
        && (itself()
            || hold.reason != Reason::ApplicationNotReady
                && (robot.conditions.is_true(Kind::Stalled) || !hold.person));
    if told { then } else { report(robot, wanted, then) }
}

/// Why the object goes without a final answer, and the last call that was made for it, by whichever process.
pub(super) fn released(facts: &Facts<'_>, why: &str) -> String {
    let Facts { robot, memory, .. } = facts;
    let (operation, reference) = match (memory.last.as_deref(), robot.last_request.as_deref()) {
        (Some(last), _) => (last.operation.as_str(), last.outcome.reference()),
        (None, Some(last)) => {
            (last.operation.as_str(), status::reference(last.error_code, last.request_id.as_deref()))
        }
        (None, None) => return format!("{why}; nothing was called"),
    };
    if reference.is_empty() {
        return format!("{why}; {operation} was called before and not answered");
    }
    status::with_reference(&format!("{why}; {operation} was called before"), &reference)
}

/// `what`, why, and what follows, ending with the code and the RequestId.
pub(super) fn waiting(what: &str, attempt: &Attempt) -> String {
    let remedy = status::remedy(&attempt.outcome);
    // What ends a deletion has no remedy; as the answer to an addition it is waited out.
    let follows = if remedy.is_empty() { "the operator tries again by itself" } else { &remedy };
    let text = format!("{what}; {}; {follows}", attempt.outcome.sentence(attempt.operation));
    status::with_reference(&text, &attempt.outcome.reference())
}

pub(super) fn missing(robot: &Robot) -> String {
    format!("RtcApplication {} does not exist; create it, or delete this RoomRobot", robot.application)
}

pub(super) fn accepted(robot: &Robot) -> Wanted {
    let text = format!("RtcApplication {} is in charge of this robot's removal", robot.application);
    Wanted::new(Kind::Accepted, Is::True, Reason::Accepted, text)
}

pub(super) fn ready(is: Is, reason: Reason, message: impl Into<String>) -> Wanted {
    Wanted::new(Kind::Ready, is, reason, message)
}

/// Not accepted, and why.
pub(super) fn refuse(robot: &Robot, reason: Reason, message: String) -> Step {
    let wanted = vec![
        Wanted::new(Kind::Accepted, Is::False, reason, message.clone()),
        ready(Is::False, reason, message.clone()),
        Wanted::new(Kind::Stalled, Is::True, reason, message),
    ];
    report(robot, wanted, Step::Rest)
}

/// The deletion waits.
pub(super) fn pending(robot: &Robot, reason: Reason, message: String, stalled: bool) -> Vec<Wanted> {
    let mut wanted = vec![accepted(robot), not_ready()];
    if stalled {
        wanted.push(Wanted::new(Kind::Stalled, Is::True, reason, message.clone()));
    }
    wanted.push(Wanted::new(Kind::RobotDeleted, Is::False, reason, message));
    wanted
}

/// The deletion is over: the record first, then the finalizer. Where the cluster refuses to take that off, it is told
/// beside the record, which stays.
pub(super) fn end(facts: &Facts<'_>, deleted: Wanted) -> Step {
    let Facts { robot, refused, .. } = facts;
    let charge = (robot.accepted() || deleted.reason != Reason::Retained).then(|| accepted(robot));
    let Some(words) = refused else {
        let wanted = charge.into_iter().chain([not_ready(), deleted]).collect();
        return report(robot, wanted, Step::DropFinalizer);
    };
    let text =
        write_refused("The deletion is over, and the cluster refuses to take the finalizer off", words);
    let stalled = Wanted::new(Kind::Stalled, Is::True, Reason::WriteRefused, text.clone());
    let ready = ready(Is::False, Reason::WriteRefused, text);
    report(robot, charge.into_iter().chain([ready, stalled, deleted]).collect(), Step::DropFinalizer)
}

/// What the cluster refuses, in its own words, and what follows.
#[must_use]
pub fn write_refused(what: &str, words: &str) -> String {
    format!(
        "{what}: {words}; change the policy, webhook, quota or right that stands in the way; the operator tries again every 30 s"
    )
}

fn not_ready() -> Wanted {
    ready(Is::False, Reason::Deleting, "The RoomRobot is being deleted")
}

/// `wanted`, or `then` where the stored status already says so.
pub(super) fn report(robot: &Robot, wanted: Vec<Wanted>, then: Step) -> Step {
    let settled = robot.observed_generation == Some(robot.generation)
        && robot.conditions.say(&wanted, robot.generation);
    if settled { then } else { Step::Report(wanted) }
}
