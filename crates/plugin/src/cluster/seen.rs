//! A RoomRobot as the API server shows it, and what that says.

use k8s_openapi::jiff::Timestamp;
use kube::api::DynamicObject;
use roomrobot_core::{
    robot::{Robot, Stored},
    status::{Kind, Reason},
};
use serde_json::{Value, json};
use std::fmt::Debug;

/// A stored RoomRobot: as the operator reads it, and what it says.
#[derive(Clone, Debug)]
pub struct Seen {
    /// As the operator reads it.
    pub robot: Robot,
    /// `metadata.finalizers`: whose they are.
    pub finalizers: Vec<String>,
    /// The object, with nothing but its `status`.
    pub value: Value,
}

impl Seen {
    /// Whether it is being deleted.
    #[must_use]
    pub fn goes(&self) -> bool {
        self.robot.deleting_since.is_some()
    }

    /// Whether the operator is done with its deletion, but for the finalizer.
    #[must_use]
    pub fn over(&self) -> bool {
        let ended = self.robot.conditions.is_true(Kind::RobotDeleted);
        ended && !self.robot.took_retain_back() || self.reason() == Some(Reason::StillClaimed)
    }

    /// The reason of `RobotDeleted`, where it still holds.
    #[must_use]
    pub fn reason(&self) -> Option<Reason> {
        self.robot.conditions.reason(Kind::RobotDeleted).filter(|_| !self.robot.took_retain_back())
    }

    /// Whether its deletion is in line for its first answer.
    #[must_use]
    pub fn in_line(&self) -> bool {
        self.goes() && self.robot.finalizers.ours.is_some() && self.reason().is_none()
    }

    /// Whether its status says that the cluster refuses the operator's writes.
    #[must_use]
    pub fn told_refused(&self) -> bool {
        self.robot.conditions.reason(Kind::Stalled) == Some(Reason::WriteRefused)
    }

    /// Whether the operator should have written something by now and nothing says why it has not.
    #[must_use]
    pub fn silent(&self) -> bool {
        let conditions = &self.robot.conditions;
        let told = if self.goes() {
            self.robot.finalizers.ours.is_none() || self.reason().is_some() && !self.over()
        } else {
            conditions.reason(Kind::Accepted).is_some()
        };
        !told && !self.told_refused()
    }

    /// When its status last changed, as far as that is written there; in Unix seconds.
    #[must_use]
    pub fn last_told(&self) -> Option<i64> {
        let conditions = at(&self.value, "/status/conditions").as_array().into_iter().flatten();
        let times = conditions.filter_map(|condition| at(condition, "/lastTransitionTime").as_str());
        times.filter_map(|time| time.parse::<Timestamp>().ok()).map(Timestamp::as_second).max()
    }

    /// What its deletion waits for: a reason of `RobotDeleted`, or a word that stands for there being none.
    #[must_use]
    pub fn waits_for(&self) -> &'static str {
        match self.robot.conditions.reason(Kind::RobotDeleted) {
            // Whoever holds it, it is not this operator.
            _ if self.robot.finalizers.ours.is_none() => "OtherFinalizer",
            _ if self.told_refused() => Reason::WriteRefused.as_str(),
            Some(reason) => reason.as_str(),
            None => "Queued",
        }
    }
}

/// A condition of a stored object.
#[derive(Clone, Debug, Default)]
pub struct SeenCondition {
    /// `status`
    pub status: String,
    /// `reason`
    pub reason: String,
    /// `message`
    pub message: String,
}

/// The value at a path such as `/spec/roomId`; null where there is none.
#[must_use]
pub fn at<'a>(object: &'a Value, path: &str) -> &'a Value {
    object.pointer(path).unwrap_or(&Value::Null)
}

/// The condition of this type.
#[must_use]
pub fn condition(object: &Value, kind: &str) -> Option<SeenCondition> {
    let list = object.pointer("/status/conditions")?.as_array()?;
    let found = list.iter().find(|condition| at(condition, "/type") == kind)?;
    let text = |field: &str| found.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    Some(SeenCondition { status: text("status"), reason: text("reason"), message: text("message") })
}

pub(crate) fn seen(object: &DynamicObject) -> Option<Seen> {
    let finalizers = object.metadata.finalizers.clone().unwrap_or_default();
    let value = json!({"status": at(&object.data, "/status")});
    let robot = serde_json::from_value::<Stored>(serde_json::to_value(object).ok()?).ok()?.into();
    Some(Seen { robot, finalizers, value })
}
