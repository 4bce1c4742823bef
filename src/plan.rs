//! What to do next for one robot, decided from what is known of it.
//!
//! Pure: no client, no clock, no async. [`plan`] is asked again after everything that happens to a robot or to its
//! application, so it never has to remember where it was.

use crate::{
    codes::{Class, Operation},
    crd::{CreationPolicy, DeletionPolicy},
    robot::Robot,
    room_engine::Outcome,
    status::{self, Is, Kind, Reason, Wanted},
};
use std::time::Duration;

/// How long the room engine may still carry out a call after nobody waits for its answer any more: it gives up after 3 s
/// by its own account, and the rest is for the way there.
pub const AFTERMATH: Duration = Duration::from_secs(5);

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

/// What this process remembers of a robot and no cache may overrule. Freed when the object is seen deleted.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// The last answered or failed call.
    pub last: Option<Box<Attempt>>,
    /// Answers of the same class in a row.
    pub attempts: u32,
    /// No call before this time.
    pub not_before: Duration,
    /// What this process knows of the robot's additions.
    pub additions: Additions,
    /// It is counted among the deleting robots of its application.
    pub counted_deleting: bool,
    /// It is counted among its robots whose last answer is not recorded.
    pub counted_unrecorded: bool,
}

impl Memory {
    /// A spec or the credentials changed: whatever was waited for, try at once. A final answer stays one.
    pub fn start_afresh(&mut self) {
        self.attempts = 0;
        self.not_before = Duration::ZERO;
    }

    /// Another process has acted meanwhile: only what is stored counts.
    pub fn forget(&mut self) {
        let Self { counted_deleting, counted_unrecorded, .. } = *self;
        *self = Self { counted_deleting, counted_unrecorded, ..Self::default() };
    }

    /// The last answer or failure, where no write has told of it yet.
    #[must_use]
    pub fn unrecorded(&self) -> Option<&Attempt> {
        self.last.as_deref().filter(|attempt| !attempt.recorded)
    }

    /// The answer that ends the deletion, where one came.
    #[must_use]
    pub fn final_answer(&self) -> Option<&Attempt> {
        let last = self.last.as_deref();
        last.filter(|attempt| attempt.operation == Operation::DeleteRobot && attempt.class.is_final())
    }
}

/// What a process knows of the calls of `add_robot` for one robot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Additions {
    /// Nothing but what is stored.
    #[default]
    Untold,
    /// There was none: this process wrote that the first is due, so nobody else can have called.
    None,
    /// Each one so far was refused, as far as anybody knows.
    Refused,
    /// One may have taken effect though no answer says so.
    InDoubt,
}

/// What is known of the additions of a robot that the next one is about to be sent for.
#[must_use]
pub fn additions_before_call(robot: &Robot, memory: &Memory) -> Additions {
    if in_doubt(robot, memory) { Additions::InDoubt } else { Additions::Refused }
}

/// What is known after `outcome`, where `before` was known.
#[must_use]
pub fn additions_after_answer(before: Additions, outcome: &Outcome) -> Additions {
    match outcome.class(Operation::AddRobot) {
        // That it succeeded is told in the condition.
        Class::Done => Additions::Untold,
        // Without its room the robot is nowhere, whatever an earlier call did.
        _ if outcome.code() == Some(100_004) => Additions::Refused,
        _ if outcome.leaves_open(Operation::AddRobot) => Additions::InDoubt,
        // Refused, which says nothing about an earlier call.
        _ => before,
    }
}

/// Whether the robot may be in the room though no answer says so.
fn in_doubt(robot: &Robot, memory: &Memory) -> bool {
    match memory.additions {
        // Unknown: a call was due when the process before ended. True: it came by other means, under the other policy.
        Additions::Untold => robot.accepted() && robot.conditions.is(Kind::Ready) != Some(Is::False),
        Additions::None | Additions::Refused => false,
        Additions::InDoubt => true,
    }
}

/// Whether `add_robot` was certainly never sent for a robot that nobody else brings in. Before the first call the stored
/// `Ready` is Unknown, and after its answer there is a `lastRequest`: where neither is so, no process has called.
#[must_use]
pub fn never_added(robot: &Robot, memory: &Memory) -> bool {
    let stored = !robot.called
        && match robot.conditions.is(Kind::Ready) {
            _ if !robot.accepted() => true,
            Some(Is::False) => robot.conditions.reason(Kind::Ready) != Some(Reason::Deleting),
            _ => false,
        };
    robot.creation_policy == CreationPolicy::Create
        && match memory.additions {
            Additions::None => true,
            Additions::Untold => stored,
            Additions::Refused | Additions::InDoubt => false,
        }
}

/// One call that was answered or failed.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// The command.
    pub operation: Operation,
    /// How it ended.
    pub outcome: Outcome,
    /// What that means.
    pub class: Class,
    /// Unix seconds of its end.
    pub at: i64,
    /// Whether it stands in the stored status.
    pub recorded: bool,
    /// By then no addition of this process is under way at the room engine any more.
    pub settled: Duration,
}

/// What is known of a robot's application.
#[derive(Clone, Copy, Debug)]
pub enum Application<'a> {
    /// There is none of this name.
    Missing,
    /// There is one.
    Found {
        /// It is being deleted: it serves deletions and takes no new robot.
        deleting: bool,
        /// Whether it may take robots of this namespace; `None` while the namespace is not known yet.
        admits: Option<bool>,
        /// Its in-use finalizer is on.
        held: bool,
        /// Why it makes no call.
        hold: Option<&'a Hold>,
    },
}

/// Why an application makes no call at the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// The reason that each waiting robot shows.
    pub reason: Reason,
    /// The message that each waiting robot shows.
    pub message: String,
    /// The room engine refused: the robot that was refused itself says so in its own words.
    pub refusal: bool,
}

/// Everything that a decision depends on.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The object.
    pub robot: &'a Robot,
    /// Its application.
    pub application: Application<'a>,
    /// Another live, accepted RoomRobot that stands for the same robot.
    pub claimed_by: Option<&'a str>,
    /// What this process remembers.
    pub memory: &'a Memory,
    /// By then no call of the process before this one is under way at the room engine any more.
    pub settled: Duration,
    /// Time since the process started.
    pub now: Duration,
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
        let (deleting, admits, held) = match application {
            Application::Missing => return refuse(robot, Reason::ApplicationNotFound, missing(robot)),
            Application::Found { deleting, admits, held, .. } => (*deleting, *admits, *held),
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
            Some(true) if !held => return Step::Rest,
            Some(true) => {}
        }
    }
    if robot.finalizers.ours.is_none() {
        return Step::AddFinalizer;
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
    if let Some(attempt) = memory.last.as_deref().filter(|attempt| attempt.operation == Operation::AddRobot) {
        let reason = status::addition_reason(&attempt.outcome);
        if attempt.class == Class::Done {
            let text =
                status::with_reference("The robot was added to the room", &attempt.outcome.reference());
            return say(vec![accepted(robot), ready(Is::True, reason, text)], Step::Rest);
        }
        let text = waiting(
            if in_doubt { "The robot may be in the room or not" } else { "The robot is not added yet" },
            attempt,
        );
        let mut wanted = vec![accepted(robot), ready(is, reason, text.clone())];
        if needs_a_person(attempt.class) {
            wanted.push(Wanted::new(Kind::Stalled, Is::True, reason, text));
        }
        if !attempt.recorded {
            // Also where the conditions say the same already: `lastRequest` does not.
            return Step::Report(wanted);
        }
    } else if robot.conditions.reason(Kind::Ready) == Some(Reason::Added)
        && robot.conditions.is_true(Kind::Ready)
    {
        // Added before this process started: the message holds that call's RequestId and stays as it is.
        let text = robot.conditions.added().unwrap_or_default();
        return say(vec![accepted(robot), ready(Is::True, Reason::Added, text)], Step::Rest);
    }
    if let Some(hold) = hold(facts) {
        if tells_itself(facts, &hold, Kind::Ready) {
            return Step::Rest;
        }
        let wanted = vec![
            accepted(robot),
            ready(is, hold.reason, hold.message.clone()),
            Wanted::new(Kind::Stalled, Is::True, hold.reason, hold.message),
        ];
        return say(wanted, Step::Rest);
    }
    // Before the first call it is stored that one may follow: another process could not know else.
    let foretold = match robot.conditions.is(Kind::Ready) {
        Some(Is::Unknown) => true,
        Some(Is::False) => robot.called,
        Some(Is::True) | None => false,
    };
    if !robot.accepted() || !foretold {
        let text = "add_robot is due and has not been answered yet";
        return say(vec![accepted(robot), ready(Is::Unknown, Reason::Adding, text)], Step::Rest);
    }
    due(memory.not_before, facts.now, Operation::AddRobot)
}

fn deleting(facts: &Facts<'_>) -> Step {
    let Facts { robot, application, claimed_by, memory, .. } = facts;
    if robot.finalizers.ours.is_none() {
        // Putting it back on an object that is being deleted is refused; it waits for others, or is gone.
        return Step::Rest;
    }
    if robot.conditions.is_true(Kind::RobotDeleted) {
        return Step::DropFinalizer;
    }
    if let Some(attempt) = memory.final_answer() {
        let reason = status::deletion_reason(&attempt.outcome);
        let text = match reason {
            Reason::Deleted => "The robot was removed from the room",
            Reason::RoomNotFound => "The room does not exist or has been dismissed, so the robot is gone",
            _ => "The robot is not a member of the room, so it is gone",
        };
        return end(robot, Is::True, reason, status::with_reference(text, &attempt.outcome.reference()));
    }
    if robot.deletion_policy == DeletionPolicy::Retain {
        let text = released(memory, "deletionPolicy is Retain and the robot stays in the room");
        return end(robot, Is::True, Reason::Retained, text);
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
    if let Some(other) = claimed_by {
        let what = format!("RoomRobot {other} stands for the same robot and owns its removal from now on");
        let text = released(memory, &what);
        return end(robot, Is::False, Reason::StillClaimed, text);
    }
    if never_added(robot, memory) {
        let text = "add_robot was never sent for this resource, so there is no robot to remove";
        return end(robot, Is::True, Reason::NotInRoom, text);
    }
    if let Some(attempt) =
        memory.last.as_deref().filter(|last| last.operation == Operation::DeleteRobot && !last.recorded)
    {
        let reason = status::deletion_reason(&attempt.outcome);
        let text = waiting("The robot is not deleted yet", attempt);
        // Also where the conditions say the same already: `lastRequest` does not.
        return Step::Report(pending(robot, reason, text, needs_a_person(attempt.class)));
    }
    if let Some(hold) = hold(facts) {
        if tells_itself(facts, &hold, Kind::RobotDeleted) {
            return Step::Rest;
        }
        return report(robot, pending(robot, hold.reason, hold.message, true), Step::Rest);
    }
    due(memory.not_before.max(settled(facts)), facts.now, Operation::DeleteRobot)
}

/// The call, or the wait before it.
fn due(from: Duration, now: Duration, operation: Operation) -> Step {
    if now < from { Step::Wait(from) } else { Step::Call(operation) }
}

/// When a deletion can no longer be overtaken by an addition of the same robot that nobody waits for any more.
fn settled(facts: &Facts<'_>) -> Duration {
    let Facts { robot, memory, .. } = facts;
    let ready = robot.conditions.is(Kind::Ready);
    let added = ready == Some(Is::True) && robot.conditions.reason(Kind::Ready) == Some(Reason::Added);
    let adding = robot.creation_policy == CreationPolicy::Create && !added;
    // Of another policy too, if it was changed while the call was under way.
    let before = if adding || ready == Some(Is::Unknown) { facts.settled } else { Duration::ZERO };
    memory.last.as_deref().map_or(before, |last| last.settled.max(before))
}

/// Why no call may be made for this robot, its own reasons first.
fn hold(facts: &Facts<'_>) -> Option<Hold> {
    let robot = facts.robot;
    if robot.suspend {
        let message = "spec.suspend is true, so nothing is called; set it to false to go on".to_owned();
        return Some(Hold { reason: Reason::Suspended, message, refusal: false });
    }
    match facts.application {
        Application::Missing => {
            let message = format!(
                "RtcApplication {} does not exist any more; create it again, or set deletionPolicy to Retain",
                robot.application
            );
            Some(Hold { reason: Reason::ApplicationNotReady, message, refusal: false })
        }
        Application::Found { hold, .. } => hold.cloned(),
    }
}

/// Whether the robot's own call was refused for the reason of `hold`, and its condition says so with its own RequestId.
fn tells_itself(facts: &Facts<'_>, hold: &Hold, kind: Kind) -> bool {
    let Facts { robot, memory, .. } = facts;
    hold.refusal
        && memory.last.as_deref().is_some_and(|last| last.class.stops_application())
        && robot.conditions.reason(kind) == Some(hold.reason)
        && robot.observed_generation == Some(robot.generation)
}

/// Whether nothing but a person can change the answer.
#[must_use]
pub const fn needs_a_person(class: Class) -> bool {
    matches!(
        class,
        Class::Invalid
            | Class::RobotPermission
            | Class::Credentials
            | Class::Expired
            | Class::Permission
            | Class::Plan
            | Class::Unknown
    )
}

/// Why the object goes without a final answer, and whether anything was called before.
fn released(memory: &Memory, why: &str) -> String {
    match memory.last.as_deref().filter(|last| last.operation == Operation::DeleteRobot) {
        Some(last) => status::with_reference(why, &last.outcome.reference()),
        None => format!("{why}; nothing was called"),
    }
}

/// `what`, why, and what follows, ending with the code and the RequestId.
fn waiting(what: &str, attempt: &Attempt) -> String {
    let remedy = status::remedy(&attempt.outcome);
    // What ends a deletion has no remedy; as the answer to an addition it is waited out.
    let follows = if remedy.is_empty() { "the operator tries again by itself" } else { &remedy };
    let text = format!("{what}; {}; {follows}", attempt.outcome.sentence(attempt.operation));
    status::with_reference(&text, &attempt.outcome.reference())
}

fn missing(robot: &Robot) -> String {
    format!("RtcApplication {} does not exist; create it, or delete this RoomRobot", robot.application)
}

fn accepted(robot: &Robot) -> Wanted {
    let text = format!("RtcApplication {} is in charge of this robot's removal", robot.application);
    Wanted::new(Kind::Accepted, Is::True, Reason::Accepted, text)
}

fn ready(is: Is, reason: Reason, message: impl Into<String>) -> Wanted {
    Wanted::new(Kind::Ready, is, reason, message)
}

/// Not accepted, and why.
fn refuse(robot: &Robot, reason: Reason, message: String) -> Step {
    let wanted = vec![
        Wanted::new(Kind::Accepted, Is::False, reason, message.clone()),
        ready(Is::False, reason, message.clone()),
        Wanted::new(Kind::Stalled, Is::True, reason, message),
    ];
    report(robot, wanted, Step::Rest)
}

/// The deletion waits.
fn pending(robot: &Robot, reason: Reason, message: String, stalled: bool) -> Vec<Wanted> {
    let mut wanted = vec![accepted(robot), not_ready()];
    if stalled {
        wanted.push(Wanted::new(Kind::Stalled, Is::True, reason, message.clone()));
    }
    wanted.push(Wanted::new(Kind::RobotDeleted, Is::False, reason, message));
    wanted
}

/// The deletion is over: the record first, then the finalizer.
fn end(robot: &Robot, is: Is, reason: Reason, message: impl Into<String>) -> Step {
    let mut wanted = vec![not_ready(), Wanted::new(Kind::RobotDeleted, is, reason, message)];
    if robot.accepted() || reason != Reason::Retained {
        wanted.insert(0, accepted(robot));
    }
    report(robot, wanted, Step::DropFinalizer)
}

fn not_ready() -> Wanted {
    ready(Is::False, Reason::Deleting, "The RoomRobot is being deleted")
}

/// `wanted`, or `then` where the stored status already says so.
fn report(robot: &Robot, wanted: Vec<Wanted>, then: Step) -> Step {
    let settled = robot.observed_generation == Some(robot.generation)
        && robot.conditions.say(&wanted, robot.generation);
    if settled { then } else { Step::Report(wanted) }
}

#[cfg(test)]
mod tests;
