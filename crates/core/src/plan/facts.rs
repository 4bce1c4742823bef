//! What a decision depends on.

use super::Additions;
use crate::{
    call::Outcome,
    codes::{Class, Operation},
    robot::{Key, Robot},
    status::Reason,
};
use std::time::Duration;

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
}

impl Memory {
    /// A spec or the credentials changed: whatever was waited for, try at once. A final answer stays one.
    pub fn start_afresh(&mut self) {
        self.attempts = 0;
        self.not_before = Duration::ZERO;
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
        /// The cluster refuses to put that finalizer on, with these words.
        refused: Option<&'a str>,
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
    /// The room engine refused, or does not answer: robots stay in line for their call, as a probe may end this at any
    /// time.
    pub refusal: bool,
    /// A person has to act.
    pub person: bool,
}

/// Everything that a decision depends on.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The object.
    pub robot: &'a Robot,
    /// Its application.
    pub application: Application<'a>,
    /// Another RoomRobot that stands for the same robot and would delete it: see [`may_inherit`](super::may_inherit).
    pub heir: Option<&'a Key>,
    /// Another one is being taken in charge that will be an heir then: see [`is_to_inherit`](super::is_to_inherit).
    pub heir_comes: bool,
    /// Only a list that is not complete yet has shown that it is being deleted.
    pub half_listed: bool,
    /// The cluster refuses to put the finalizer on, or to take it off, with these words.
    pub refused: Option<&'a str>,
    /// What this process remembers.
    pub memory: &'a Memory,
    /// By then no call of the process before this one is under way at the room engine any more.
    pub settled: Duration,
    /// Time since the process started.
    pub now: Duration,
}
