//! What to do next for one robot, decided from what is known of it.
//!
//! Pure: no client, no clock, no async. [`plan`] is asked again after everything that happens to a robot or to its
//! application, so it never has to remember where it was.

mod additions;
mod facts;
mod reports;

pub use additions::{
    Additions, additions_after_answer, additions_before_call, is_to_inherit, may_inherit, never_added,
};
pub use facts::{Application, Attempt, Facts, Hold, Memory};
pub use reports::write_refused;

use additions::in_doubt;
use reports::{accepted, blocked, end, missing, pending, ready, refuse, released, report, waiting};

use crate::{
    codes::{Execution, Operation},
    crd::{CreationPolicy, DeletionPolicy},
    robot::Robot,
    status::{self, Is, Kind, Reason, Wanted},
};
use std::time::Duration;

/// How long the room engine may still carry out a call after nobody waits for its answer any more: it gives up after 3 s
/// by its own account, and the rest is for the way there.
pub const AFTERMATH: Duration = Duration::from_secs(5);

/// How often a deletion looks whether the one that would inherit is in charge by now; where it is, that is known at once.
const HEIR_COMES: Duration = Duration::from_secs(1);

/// The next thing to do for a robot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing until something changes.
    Rest,
    /// Nothing before this time (since the process started).
    Wait(Duration),
    /// Put the finalizer on.
    AddFinalizer,
    /// Take the finalizer off: the object goes.
    DropFinalizer,
    /// Write these conditions.
    Report(Vec<Wanted>),
    /// Call the room engine, as soon as the pace allows.
    Call(Operation),
}

/// The next step.
#[must_use]
pub fn plan(facts: &Facts<'_>) -> Step {
    match facts.robot.deleting_since {
        None => live(facts),
        Some(_) => deleting(facts),
    }
}

fn live(facts: &Facts<'_>) -> Step {
    let Facts { robot, application, .. } = facts;
    if !robot.accepted() {
        let (deleting, admits, held, refused) = match application {
            Application::Missing => return refuse(robot, Reason::ApplicationNotFound, missing(robot)),
            Application::Found { deleting, admits, held, refused, .. } => {
                (*deleting, *admits, *held, *refused)
            }
        };
        let name = &robot.application;
        if deleting {
            let message =
                format!("RtcApplication {name} is being deleted and takes no new robot; create it again");
            return refuse(robot, Reason::ApplicationNotFound, message);
        }
        match admits {
            None => return Step::Rest,
            Some(false) => {
                let message = format!(
                    "RtcApplication {name} does not allow namespace {}: its allowedNamespaces selects by labels that the namespace does not have",
                    robot.key.namespace
                );
                return refuse(robot, Reason::NamespaceNotAllowed, message);
            }
            Some(true) if held => {}
            Some(true) => {
                let Some(words) = refused else { return Step::Rest };
                let what = format!("The cluster refuses the finalizer on RtcApplication {name}");
                return refuse(robot, Reason::WriteRefused, write_refused(&what, words));
            }
        }
    }
    if robot.finalizers.ours.is_none() {
        let Some(words) = facts.refused else { return Step::AddFinalizer };
        let text = write_refused("The cluster refuses the finalizer on this RoomRobot", words);
        let stalled = Wanted::new(Kind::Stalled, Is::True, Reason::WriteRefused, text.clone());
        let wanted = if robot.accepted() {
            // Ready tells whether the robot was added: that is not to be lost.
            let kept =
                [Kind::Accepted, Kind::Ready].into_iter().filter_map(|kind| robot.conditions.kept(kind));
            kept.chain([stalled]).collect()
        } else {
            vec![
                Wanted::new(Kind::Accepted, Is::False, Reason::WriteRefused, text.clone()),
                ready(Is::False, Reason::WriteRefused, text),
                stalled,
            ]
        };
        return report(robot, wanted, Step::AddFinalizer);
    }
    match robot.creation_policy {
        CreationPolicy::Adopt => {
            let message = "The robot is in the room by other means; its removal is owned by this resource";
            report(robot, vec![accepted(robot), ready(Is::True, Reason::Adopted, message)], Step::Rest)
        }
        CreationPolicy::Create => addition(facts),
    }
}

/// The way of a robot that the operator brings in itself.
fn addition(facts: &Facts<'_>) -> Step {
    let Facts { robot, memory, .. } = facts;
    let say = |wanted: Vec<Wanted>, then| report(robot, wanted, then);
    let in_doubt = in_doubt(robot, memory);
    let is = if in_doubt { Is::Unknown } else { Is::False };
    let last = memory.last.as_deref().filter(|attempt| attempt.operation == Operation::AddRobot);
    if added(robot)
        && last.is_none_or(|attempt| attempt.recorded && attempt.class.rule().execution == Execution::Done)
    {
        // Told already, maybe by another process: the message holds that call's RequestId and stays as it is.
        let kept = robot.conditions.kept(Kind::Ready);
        return say([accepted(robot)].into_iter().chain(kept).collect(), Step::Rest);
    }
    if let Some(attempt) = last {
        let reason = status::addition_reason(&attempt.outcome);
        if attempt.class.rule().execution == Execution::Done {
            let text =
                status::with_reference("The robot was added to the room", &attempt.outcome.reference());
            return say(vec![accepted(robot), ready(Is::True, reason, text)], Step::Rest);
        }
        let text = waiting(
            if in_doubt { "The robot may be in the room or not" } else { "The robot is not added yet" },
            attempt,
        );
        let mut wanted = vec![accepted(robot), ready(is, reason, text.clone())];
        if attempt.class.rule().needs_a_person {
            wanted.push(Wanted::new(Kind::Stalled, Is::True, reason, text));
        }
        if !attempt.recorded {
            // Also where the conditions say the same already: `lastRequest` does not.
            return Step::Report(wanted);
        }
    }
    // Before the first call it is stored that one may follow: another process could not know else.
    let foretold = match robot.conditions.is(Kind::Ready) {
        Some(Is::Unknown) => true,
        Some(Is::False) => robot.last_request.is_some(),
        Some(Is::True) | None => false,
    };
    let foretold = robot.accepted() && foretold;
    if let Some(hold) = hold(facts) {
        let follows =
            if hold.refusal { due(memory.not_before, facts.now, Operation::AddRobot) } else { Step::Rest };
        // What was foretold is not taken back: the call could go out before that write is known to be stored, or not.
        let is = if robot.conditions.is(Kind::Ready) == Some(Is::Unknown) { Is::Unknown } else { is };
        let mut wanted = vec![accepted(robot), ready(is, hold.reason, hold.message.clone())];
        if hold.person {
            wanted.push(Wanted::new(Kind::Stalled, Is::True, hold.reason, hold.message.clone()));
        }
        return blocked(facts, &hold, wanted, Kind::Ready, follows);
    }
    if !foretold {
        let text = "add_robot is due and has not been answered yet";
        return say(vec![accepted(robot), ready(Is::Unknown, Reason::Adding, text)], Step::Rest);
    }
    due(memory.not_before, facts.now, Operation::AddRobot)
}

fn deleting(facts: &Facts<'_>) -> Step {
    let Facts { robot, application, heir, memory, .. } = facts;
    if robot.finalizers.ours.is_none() {
        // Putting it back on an object that is being deleted is refused; it waits for others, or is gone.
        return Step::Rest;
    }
    if robot.conditions.is_true(Kind::RobotDeleted) && !robot.took_retain_back() {
        if facts.refused.is_none() {
            return Step::DropFinalizer;
        }
        // Where this process has an answer of its own, which is about to be recorded, the condition tells of that.
        if memory.final_answer().is_none_or(|attempt| attempt.recorded) {
            let kept = robot.conditions.kept(Kind::RobotDeleted);
            return kept.map_or(Step::Rest, |deleted| end(facts, deleted));
        }
    }
    let over = |is, reason, text: String| end(facts, Wanted::new(Kind::RobotDeleted, is, reason, text));
    if let Some(attempt) = memory.final_answer() {
        let reason = status::deletion_reason(&attempt.outcome);
        let text = match reason {
            Reason::Deleted => "The robot was removed from the room",
            Reason::RoomNotFound => "The room does not exist or has been dismissed, so the robot is gone",
            _ => "The robot is not a member of the room, so it is gone",
        };
        return over(Is::True, reason, status::with_reference(text, &attempt.outcome.reference()));
    }
    if robot.deletion_policy == DeletionPolicy::Retain {
        let text = released(facts, "deletionPolicy is Retain and the robot stays in the room");
        return over(Is::True, Reason::Retained, text);
    }
    if !robot.accepted() {
        match application {
            Application::Missing | Application::Found { admits: Some(false), .. } => {
                return Step::DropFinalizer;
            }
            Application::Found { admits: None, .. } => return Step::Rest,
            // Refused already, because its application takes no new robot: nothing was ever owned.
            Application::Found { deleting: true, .. }
                if robot.conditions.reason(Kind::Accepted).is_some() =>
            {
                return Step::DropFinalizer;
            }
            // Stored with its finalizer while nobody was there to accept it: accepted on the way out.
            Application::Found { admits: Some(true), .. } => {}
        }
    }
    if facts.half_listed {
        // Who else stands for the robot may be about to be shown.
        return Step::Rest;
    }
    if let Some(heir) = heir {
        // What another tenant calls its objects is not for everybody to read.
        let what = if heir.namespace == robot.key.namespace {
            format!("RoomRobot {heir} stands for the same robot and owns its removal from now on")
        } else {
            "A RoomRobot in another namespace stands for the same robot and owns its removal from now on"
                .to_owned()
        };
        return over(Is::False, Reason::StillClaimed, released(facts, &what));
    }
    if never_added(robot, memory) {
        let text = "add_robot was never sent for this resource, so there is no robot to remove";
        return over(Is::True, Reason::NotInRoom, text.to_owned());
    }
    if let Some(attempt) =
        memory.last.as_deref().filter(|last| last.operation == Operation::DeleteRobot && !last.recorded)
    {
        let reason = status::deletion_reason(&attempt.outcome);
        let text = waiting("The robot is not deleted yet", attempt);
        // Also where the conditions say the same already: `lastRequest` does not.
        return Step::Report(pending(robot, reason, text, attempt.class.rule().needs_a_person));
    }
    let call = if facts.heir_comes {
        // Whoever renames an object creates one and deletes the other at the same moment.
        Step::Wait(facts.now + HEIR_COMES)
    } else {
        due(memory.not_before.max(settled(facts)), facts.now, Operation::DeleteRobot)
    };
    match hold(facts) {
        None => call,
        Some(hold) => {
            let follows = if hold.refusal { call } else { Step::Rest };
            let wanted = pending(robot, hold.reason, hold.message.clone(), hold.person);
            blocked(facts, &hold, wanted, Kind::RobotDeleted, follows)
        }
    }
}

/// The call, or the wait before it.
fn due(from: Duration, now: Duration, operation: Operation) -> Step {
    if now < from { Step::Wait(from) } else { Step::Call(operation) }
}

/// Whether the stored status says that `add_robot` has succeeded.
fn added(robot: &Robot) -> bool {
    robot.conditions.is_true(Kind::Ready) && robot.conditions.reason(Kind::Ready) == Some(Reason::Added)
}

/// When a deletion can no longer be overtaken by an addition of the same robot that nobody waits for any more.
fn settled(facts: &Facts<'_>) -> Duration {
    let Facts { robot, memory, .. } = facts;
    let adding = robot.creation_policy == CreationPolicy::Create && !added(robot);
    // Of another policy too, if it was changed while the call was under way.
    let before = if adding || robot.conditions.is(Kind::Ready) == Some(Is::Unknown) {
        facts.settled
    } else {
        Duration::ZERO
    };
    memory.last.as_deref().map_or(before, |last| last.settled.max(before))
}

/// Why no call may be made for this robot, its own reasons first.
fn hold(facts: &Facts<'_>) -> Option<Hold> {
    let robot = facts.robot;
    if robot.suspend {
        let message = "spec.suspend is true, so nothing is called; set it to false to go on".to_owned();
        return Some(Hold { reason: Reason::Suspended, message, refusal: false, person: true });
    }
    match facts.application {
        Application::Missing => {
            let message = format!(
                "RtcApplication {} does not exist any more; create it again, or set deletionPolicy to Retain",
                robot.application
            );
            Some(Hold { reason: Reason::ApplicationNotReady, message, refusal: false, person: true })
        }
        Application::Found { hold, .. } => hold.cloned(),
    }
}

#[cfg(test)]
mod tests;
