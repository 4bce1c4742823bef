//! What goes in and out of the engine: inputs, effects, and what they carry.

use crate::{
    application::{Credentials, Labels, StoredApplication},
    call::{Caller, Outcome, Target},
    codes::Operation,
    index::Id,
    robot::{Key, Robot},
    status::Reason,
};
use k8s_openapi::jiff::Timestamp;
use std::{collections::BTreeSet, sync::Arc, time::Duration};

/// The moment of an input.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Since the process started; decides what is due.
    pub since_start: Duration,
    /// Wall clock; only written down.
    pub wall: Timestamp,
}

/// Something that happened.
#[derive(Debug)]
pub enum Input {
    /// A list of RoomRobots of one namespace, or of all, begins, in this round: see [`Effect::ListAgain`].
    RobotsListing(Option<Arc<str>>, u32),
    /// A RoomRobot as it is stored now.
    Robot(Box<Robot>),
    /// A RoomRobot is gone.
    RobotGone(Key, Arc<str>),
    /// The list is complete: what it did not show is gone.
    RobotsListed(Option<Arc<str>>),
    /// The watch of RoomRobots of one namespace, or of all, has failed. It goes on where it was, and says so with the next
    /// thing that it tells.
    RobotsCut(Option<Arc<str>>),
    /// An RtcApplication as it is stored now.
    Application(Box<StoredApplication>),
    /// An RtcApplication is gone.
    ApplicationGone(Arc<str>),
    /// A list of all RtcApplications begins, in this round: see [`Effect::ListAgain`].
    ApplicationsListing(u32),
    /// A list of all RtcApplications is complete, with these names.
    ApplicationsListed(BTreeSet<Arc<str>>),
    /// A namespace as it is stored now: its labels, and whether it is being deleted.
    Namespace(Arc<str>, Labels, bool),
    /// A namespace is gone.
    NamespaceGone(Arc<str>),
    /// A list of all namespaces is complete, with these names.
    NamespacesListed(BTreeSet<Arc<str>>),
    /// What a watched Secret of the operator's namespace holds now.
    Secret(Arc<str>, Credentials),
    /// A call ended.
    Answered(Answer),
    /// A write to a RoomRobot ended.
    Written(Id, Box<Result<Robot, WriteError>>),
    /// A write to an RtcApplication ended.
    ApplicationWritten(Arc<str>, Box<Result<StoredApplication, WriteError>>),
    /// A call was not sent after all: this process might not act any more.
    Unsent(Box<Call>),
    /// This process may act from now on.
    Leading(Before),
    /// It may not any more, and another may: no call and no new charge. Final answers that it has are still recorded,
    /// so that nobody asks for them again.
    Lost,
    /// No call and no new charge from now on; what is under way is finished and recorded.
    Stop,
}

/// Who acted before this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    /// Nobody, or one that had finished.
    Finished,
    /// Where nobody is elected: perhaps one that ended a moment ago, in the middle of its calls.
    Unknown,
    /// One that did not give its Lease back: it may be gone, or still have answers to record.
    Vanished,
}

/// A call that ended.
#[derive(Debug)]
pub struct Answer {
    /// The robot.
    pub id: Id,
    /// Its application.
    pub application: Arc<str>,
    /// The application's SDKAppID.
    pub sdk_app_id: u32,
    /// The command.
    pub operation: Operation,
    /// The number of the signature that was used.
    pub signature: u64,
    /// When the call started.
    pub started: Duration,
    /// How it ended.
    pub outcome: Outcome,
}

/// Why a write failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WriteError {
    /// There is no such object.
    NotFound,
    /// The cluster does not let the operator write, by a policy, a webhook, a quota, a missing right or namespace, and its
    /// words. A person has to act.
    Refused(String),
    /// The API server refused the write because of what is stored, and why.
    Conflict(String),
    /// There is no way to the API server at the moment, and why.
    Unreachable(String),
    /// The API server did not answer in time; what became of the write is not known.
    Late,
    /// Anything else.
    Other(String),
}

impl WriteError {
    /// Why, where there is more to say than that there is no such object.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::NotFound => None,
            Self::Late => Some("the API server did not answer in time"),
            Self::Refused(reason)
            | Self::Conflict(reason)
            | Self::Unreachable(reason)
            | Self::Other(reason) => Some(reason),
        }
    }

    /// Why, where that is worth a word after so many failures in a row: once or twice a conflict is only somebody else's
    /// write that is not seen yet.
    pub(super) fn news(&self, failures: u32) -> Option<&str> {
        match self {
            Self::Conflict(_) if failures < 3 => None,
            _ => self.reason(),
        }
    }
}

/// Something to do, for the task that has the clients.
#[derive(Debug)]
pub enum Effect {
    /// Call the room engine, then send [`Input::Answered`].
    Call(Box<Call>),
    /// Write to a RoomRobot, then send [`Input::Written`].
    Write(Box<Write>),
    /// Write to an RtcApplication, then send [`Input::ApplicationWritten`].
    WriteApplication(Box<ApplicationWrite>),
    /// List RoomRobots and RtcApplications anew, as this round: whoever begins to act acts on a view that is at least as new
    /// as the moment in which it got the right to.
    ListAgain(u32),
    /// Publish an Event, if it can be done.
    Publish(Box<Announcement>),
    /// Watch this Secret, and send [`Input::Secret`] for each state of it.
    WatchSecret(Arc<str>),
    /// Watch this Secret no more.
    ForgetSecret(Arc<str>),
}

/// A call to be made.
#[derive(Debug)]
pub struct Call {
    /// The robot.
    pub id: Id,
    /// Its key, for the audit line.
    pub key: Key,
    /// Its UID, for the audit line.
    pub uid: Arc<str>,
    /// Its application.
    pub application: Arc<str>,
    /// The command.
    pub operation: Operation,
    /// Who calls.
    pub caller: Caller,
    /// The number of the caller's signature.
    pub signature: u64,
    /// Whom it is about.
    pub target: Target,
    /// When it was taken off the line.
    pub started: Duration,
}

impl Call {
    /// Its end.
    #[must_use]
    pub fn answered(&self, outcome: Outcome) -> Answer {
        Answer {
            id: self.id,
            application: Arc::clone(&self.application),
            sdk_app_id: self.caller.sdk_app_id,
            operation: self.operation,
            signature: self.signature,
            started: self.started,
            outcome,
        }
    }
}

/// A write to a RoomRobot.
#[derive(Debug)]
pub struct Write {
    /// The robot.
    pub id: Id,
    /// Its key.
    pub key: Key,
    /// Its UID: a write must not land on another object of the same name.
    pub uid: Arc<str>,
    /// Whether the robot is being deleted, as far as is known.
    pub deleting: bool,
    /// What to write.
    pub change: Change,
}

/// A write to an RtcApplication.
#[derive(Debug)]
pub struct ApplicationWrite {
    /// Its name.
    pub name: Arc<str>,
    /// Its UID.
    pub uid: String,
    /// What to write.
    pub change: Change,
}

/// What to change of an object.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Put the finalizer on; there are no others yet.
    FirstFinalizer,
    /// Put the finalizer on, behind others.
    MoreFinalizer,
    /// Take the finalizer at this place off.
    DropFinalizer {
        /// Its place among the finalizers.
        at: usize,
        /// The `resourceVersion` for which that was decided. A removal that comes late is not of use any more: who had it
        /// released may have chosen anew since.
        version: u64,
    },
    /// Patch the status by these operations (JSON Patch). They begin with the `resourceVersion` that they were made for: a
    /// write that comes late never takes the place of a newer one.
    Status(Vec<serde_json::Value>),
}

/// An Event to be published.
#[derive(Debug)]
pub struct Announcement {
    /// The namespace that the Event is stored in.
    pub namespace: Arc<str>,
    /// The kind of the object that it is about.
    pub kind: &'static str,
    /// The object's namespace, if it has one.
    pub regarding_namespace: Option<Arc<str>>,
    /// The object's name.
    pub name: Arc<str>,
    /// The object's UID.
    pub uid: Arc<str>,
    /// Whether it is a warning.
    pub warning: bool,
    /// The condition's reason.
    pub reason: Reason,
    /// What the operator did, as a verb.
    pub action: &'static str,
    /// The condition's message.
    pub note: String,
    /// When.
    pub at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_fails_says_why() {
        let words = "denied".to_owned();
        for error in [
            WriteError::Refused(words.clone()),
            WriteError::Conflict(words.clone()),
            WriteError::Unreachable(words.clone()),
            WriteError::Other(words.clone()),
        ] {
            assert_eq!(error.reason(), Some("denied"), "{error:?}");
        }
        assert_eq!(WriteError::Late.reason(), Some("the API server did not answer in time"));
        assert_eq!(WriteError::NotFound.reason(), None);
    }

    #[test]
    fn a_conflict_is_news_the_third_time_in_a_row() {
        let conflict = WriteError::Conflict("changed".to_owned());
        assert_eq!(
            [1, 2, 3, 4].map(|failures| conflict.news(failures)),
            [None, None, Some("changed"), Some("changed")]
        );
        assert_eq!(WriteError::Other("down".to_owned()).news(1), Some("down"));
    }
}
