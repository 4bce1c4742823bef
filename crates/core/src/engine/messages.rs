//! What goes in and out of the engine: inputs, effects, and what they carry.

use crate::{
    application::{Credentials, Labels, StoredApplication},
    call::{Caller, Outcome, Target},
    codes::Operation,
    index::Id,
    robot::{Key, Robot},
    status::Reason,
    write_trouble::Part,
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
    /// A write ended.
    Written(ObjectRef, Result<StoredObject, WriteError>),
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
    /// The application's UID: another one may have its name by now, which this says nothing about.
    pub application_uid: Arc<str>,
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

    /// Whether it is worth a word after so many failures in a row: once or twice a conflict is only somebody else's write that
    /// is not seen yet.
    pub(super) const fn is_news(&self, failures: u32) -> bool {
        match self {
            Self::NotFound => false,
            Self::Conflict(_) => failures >= 3,
            Self::Refused(_) | Self::Unreachable(_) | Self::Late | Self::Other(_) => true,
        }
    }
}

/// Something to do, for the task that has the clients.
#[derive(Debug)]
pub enum Effect {
    /// Call the room engine, then send [`Input::Answered`].
    Call(Box<Call>),
    /// Write to an object, then send [`Input::Written`].
    Write(Box<Write>),
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
    /// The application's UID.
    pub application_uid: Arc<str>,
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
            application_uid: Arc::clone(&self.application_uid),
            sdk_app_id: self.caller.sdk_app_id,
            operation: self.operation,
            signature: self.signature,
            started: self.started,
            outcome,
        }
    }
}

/// What is written to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ObjectRef {
    /// A RoomRobot.
    Robot(Id),
    /// The RtcApplication of this name.
    Application(Arc<str>),
}

impl ObjectRef {
    /// The name of its resource in the API.
    #[must_use]
    pub const fn resource(&self) -> &'static str {
        match self {
            Self::Robot(_) => "roomrobots",
            Self::Application(_) => "rtcapplications",
        }
    }
}

/// An object as a write left it.
#[derive(Debug)]
pub enum StoredObject {
    /// A RoomRobot.
    Robot(Box<Robot>),
    /// An RtcApplication.
    Application(Box<StoredApplication>),
}

/// A write to be made.
#[derive(Debug)]
pub struct Write {
    /// The object.
    pub object: ObjectRef,
    /// Its namespace, if it has one.
    pub namespace: Option<Arc<str>>,
    /// Its name.
    pub name: Arc<str>,
    /// Its UID: a write must not land on another object of the same name.
    pub uid: Arc<str>,
    /// Whether it is being deleted, as far as is known.
    pub deleting: bool,
    /// What to write.
    pub change: Change,
}

impl Write {
    /// A write to this RoomRobot.
    #[must_use]
    pub fn to_robot(id: Id, robot: &Robot, change: Change) -> Self {
        Self {
            object: ObjectRef::Robot(id),
            namespace: Some(Arc::clone(&robot.key.namespace)),
            name: Arc::clone(&robot.key.name),
            uid: Arc::clone(&robot.uid),
            deleting: robot.deleting_since.is_some(),
            change,
        }
    }

    /// A write to this RtcApplication.
    #[must_use]
    pub fn to_application(application: &StoredApplication, change: Change) -> Self {
        Self {
            object: ObjectRef::Application(Arc::clone(&application.name)),
            namespace: None,
            name: Arc::clone(&application.name),
            uid: Arc::clone(&application.uid),
            deleting: application.deleting,
            change,
        }
    }

    /// The object's key: its namespace and name, or its name alone.
    #[must_use]
    pub fn key(&self) -> String {
        self.namespace
            .as_ref()
            .map_or_else(|| self.name.to_string(), |namespace| format!("{namespace}/{}", self.name))
    }
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

impl Change {
    /// What of the object it changes.
    #[must_use]
    pub const fn part(&self) -> Part {
        match self {
            Self::Status(_) => Part::Status,
            Self::FirstFinalizer | Self::MoreFinalizer | Self::DropFinalizer { .. } => Part::Finalizer,
        }
    }
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
        assert_eq!([1, 2, 3, 4].map(|failures| conflict.is_news(failures)), [false, false, true, true]);
        assert!(WriteError::Other("down".to_owned()).is_news(1));
        assert!(!WriteError::NotFound.is_news(9));
    }
}
