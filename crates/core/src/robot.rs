//! A `RoomRobot` as the operator keeps it: what decisions need of the stored object, and nothing else.
//!
//! Pure. [`Stored`] reads any stored object, also one that a stricter or older schema would refuse: an object that
//! cannot be read is an object that cannot be deleted. Annotations, labels, managed fields, and the conditions and
//! finalizers of others are skipped, so that memory does not follow what tenants store beside the spec.

use crate::{
    crd::{CreationPolicy, DeletionPolicy, GROUP, ROBOT_FINALIZER, RoomRobot},
    sparse::{Owned, Sparse},
    status::{Conditions, Kind, Reason},
};
use k8s_openapi::{
    NamespaceResourceScope,
    apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta, Time},
    jiff::Timestamp,
};
use kube::Resource;
use serde::Deserialize;
use std::{borrow::Cow, fmt, sync::Arc};

/// Namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// `metadata.namespace`
    pub namespace: Arc<str>,
    /// `metadata.name`
    pub name: Arc<str>,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// The finalizers of an object, as far as adding and removing ours needs them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Finalizers {
    /// Where ours stands, if it does.
    pub ours: Option<usize>,
    /// How many there are.
    pub count: usize,
}

impl Finalizers {
    /// Looks for `ours` in the stored list.
    #[must_use]
    pub fn read(list: &[String], ours: &str) -> Self {
        let mut finalizers = Self::default();
        for name in list {
            finalizers.push(name == ours);
        }
        finalizers
    }

    /// Takes the next of the stored list.
    fn push(&mut self, ours: bool) {
        if ours {
            self.ours.get_or_insert(self.count);
        }
        self.count += 1;
    }
}

/// The name of a finalizer of a `RoomRobot`.
#[derive(Clone, Debug, Deserialize)]
#[serde(transparent)]
struct FinalizerName(String);

impl Owned for FinalizerName {
    fn is_ours(&self) -> bool {
        self.0 == ROBOT_FINALIZER
    }
}

impl From<Sparse<FinalizerName>> for Finalizers {
    fn from(list: Sparse<FinalizerName>) -> Self {
        Self { ours: list.ours.first().map(|(at, _)| *at), count: list.count }
    }
}

/// What decisions need of a stored `RoomRobot`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Robot {
    /// Namespace and name.
    pub key: Key,
    /// `metadata.uid`
    pub uid: Arc<str>,
    /// `metadata.resourceVersion`, as the number that Kubernetes guarantees it to be for this resource.
    pub resource_version: u64,
    /// `metadata.generation`
    pub generation: i64,
    /// Unix seconds of `metadata.deletionTimestamp`.
    pub deleting_since: Option<i64>,
    /// `metadata.finalizers`
    pub finalizers: Finalizers,
    /// `spec.applicationRef.name`
    pub application: Arc<str>,
    /// `spec.roomId`
    pub room_id: Box<str>,
    /// `spec.memberAccount`
    pub member_account: Box<str>,
    /// `spec.creationPolicy`
    pub creation_policy: CreationPolicy,
    /// `spec.deletionPolicy`
    pub deletion_policy: DeletionPolicy,
    /// `spec.suspend`
    pub suspend: bool,
    /// `status.observedGeneration`
    pub observed_generation: Option<i64>,
    /// `status.conditions`
    pub conditions: Conditions,
    /// `status.lastRequest`: the last call that was answered or failed, of whichever process.
    pub last_request: Option<Box<LastRequest>>,
}

/// The last call that is stored, as far as a message names it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LastRequest {
    /// The command.
    pub operation: String,
    /// The room engine's RequestId, where there was one.
    pub request_id: Option<String>,
    /// The room engine's ErrorCode, where there was one.
    pub error_code: Option<i64>,
}

impl LastRequest {
    /// The longest text that is kept of each: others may write the status, too.
    const LIMIT: usize = 256;

    fn cut(mut self) -> Self {
        let cut = |text: &mut String| text.truncate(text.floor_char_boundary(Self::LIMIT));
        cut(&mut self.operation);
        self.request_id.as_mut().map(cut);
        self
    }
}

impl Robot {
    /// Whether the operator has taken charge of it.
    #[must_use]
    pub fn accepted(&self) -> bool {
        self.conditions.is_true(Kind::Accepted)
    }

    /// Whether `Retain` let it go, and was taken back while the object is still there: that chooses anew.
    #[must_use]
    pub fn took_retain_back(&self) -> bool {
        let retained = self.conditions.reason(Kind::RobotDeleted) == Some(Reason::Retained);
        retained && self.deletion_policy == DeletionPolicy::Delete
    }

    /// The reason that its deletion ended for; `None` where it was never accepted.
    #[must_use]
    pub fn ended_as(&self) -> &'static str {
        self.conditions.reason(Kind::RobotDeleted).map_or("None", Reason::as_str)
    }

    /// Whether it stands for the same robot as `other`, under the same name of application.
    #[must_use]
    pub fn same_robot(&self, other: &Self) -> bool {
        self.room_id == other.room_id && self.member_account == other.member_account
    }
}

/// A stored `RoomRobot`, read as leniently as can be.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Stored {
    #[serde(default)]
    metadata: Meta,
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Option<Status>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    room_id: String,
    member_account: String,
    application_ref: crate::crd::ApplicationRef,
    creation_policy: Option<String>,
    deletion_policy: Option<String>,
    suspend: Option<bool>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    observed_generation: Option<i64>,
    conditions: Option<Sparse<LeanCondition>>,
    last_request: Option<LastRequest>,
}

/// A condition whose times need not be times: one that cannot be read must not hide its robot.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct LeanCondition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
    reason: String,
    message: String,
    observed_generation: Option<i64>,
    last_transition_time: Option<serde_json::Value>,
}

impl Owned for LeanCondition {
    fn is_ours(&self) -> bool {
        Kind::ALL.iter().any(|kind| kind.as_str() == self.kind)
    }
}

impl From<LeanCondition> for Condition {
    fn from(lean: LeanCondition) -> Self {
        let time = lean.last_transition_time.and_then(|time| serde_json::from_value(time).ok());
        Self {
            type_: lean.kind,
            status: lean.status,
            reason: lean.reason,
            message: lean.message,
            observed_generation: lean.observed_generation,
            last_transition_time: time.unwrap_or(Time(Timestamp::UNIX_EPOCH)),
        }
    }
}

/// The part of `ObjectMeta` that is used; the rest is skipped without being built.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LeanMeta {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    generation: Option<i64>,
    deletion_timestamp: Option<Time>,
    finalizers: Option<Sparse<FinalizerName>>,
}

/// The metadata as `kube` wants it, without finalizers, and those.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(from = "LeanMeta")]
struct Meta {
    object: ObjectMeta,
    finalizers: Sparse<FinalizerName>,
}

impl From<LeanMeta> for Meta {
    fn from(lean: LeanMeta) -> Self {
        let object = ObjectMeta {
            name: lean.name,
            namespace: lean.namespace,
            uid: lean.uid,
            resource_version: lean.resource_version,
            generation: lean.generation,
            deletion_timestamp: lean.deletion_timestamp,
            ..ObjectMeta::default()
        };
        Self { object, finalizers: lean.finalizers.unwrap_or_default() }
    }
}

impl Resource for Stored {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        RoomRobot::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        GROUP.into()
    }

    fn version((): &()) -> Cow<'_, str> {
        RoomRobot::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        RoomRobot::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata.object
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata.object
    }
}

impl From<Stored> for Robot {
    fn from(stored: Stored) -> Self {
        let Stored { metadata: Meta { object: meta, finalizers }, spec, status } = stored;
        let conditions = status.as_ref().map_or_else(Conditions::default, |_| Conditions::none());
        let status = status.unwrap_or_default();
        let conditions = status.conditions.map_or(conditions, |list| {
            Conditions::read_sparse(list.ours.into_iter().map(|(at, one)| (at, one.into())), list.count)
        });
        let text = |text: Option<String>| -> Arc<str> { text.unwrap_or_default().into() };
        Self {
            key: Key { namespace: text(meta.namespace), name: text(meta.name) },
            uid: text(meta.uid),
            resource_version: meta
                .resource_version
                .and_then(|version| version.parse().ok())
                .unwrap_or_default(),
            generation: meta.generation.unwrap_or_default(),
            deleting_since: meta.deletion_timestamp.map(|time| time.0.as_second()),
            finalizers: finalizers.into(),
            application: spec.application_ref.name.into(),
            room_id: spec.room_id.into(),
            member_account: spec.member_account.into(),
            // A value from a later version must not turn into the destructive one.
            creation_policy: match spec.creation_policy.as_deref() {
                Some("Create") => CreationPolicy::Create,
                _ => CreationPolicy::Adopt,
            },
            deletion_policy: match spec.deletion_policy.as_deref() {
                None | Some("Delete") => DeletionPolicy::Delete,
                Some(_) => DeletionPolicy::Retain,
            },
            suspend: spec.suspend.unwrap_or_default(),
            observed_generation: status.observed_generation,
            last_request: status.last_request.map(|last| Box::new(last.cut())),
            conditions,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: serde_json::Value) -> Robot {
        serde_json::from_value::<Stored>(json).unwrap().into()
    }

    #[test]
    fn any_stored_object_can_be_read() {
        let bare = read(
            serde_json::json!({"apiVersion": "roomrobot.dev/v1alpha1", "kind": "RoomRobot", "metadata": {}}),
        );
        assert_eq!(&*bare.application, "default");
        assert_eq!(bare.deletion_policy, DeletionPolicy::Delete);
        let odd = read(serde_json::json!({
            "metadata": {"name": "a", "namespace": "b", "uid": "u", "resourceVersion": "7", "generation": 2,
                "deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["x/y", "roomrobot.dev/delete-robot"],
                "annotations": {"big": "x".repeat(50_000)}, "labels": {"größe": "1"}, "managedFields": [{"odd": 1}]},
            "spec": {"roomId": "r", "memberAccount": "m", "applicationRef": {}, "deletionPolicy": "Archive", "new": {}},
            "status": {"conditions": null, "new": []}
        }));
        assert_eq!(odd.key.to_string(), "b/a");
        assert_eq!(odd.finalizers, Finalizers { ours: Some(1), count: 2 });
        assert_eq!(odd.deletion_policy, DeletionPolicy::Retain, "an unknown policy does not delete");
        assert_eq!((odd.resource_version, odd.generation), (7, 2));
        assert!(odd.deleting_since.is_some() && !odd.accepted());
    }

    /// `kube` asks by these for the objects.
    #[test]
    fn stored_objects_are_asked_for_as_room_robots() {
        assert_eq!(Stored::kind(&()), "RoomRobot");
        assert_eq!(Stored::group(&()), "roomrobot.dev");
        assert_eq!(Stored::version(&()), "v1alpha1");
        assert_eq!(Stored::plural(&()), "roomrobots");
        let mut stored: Stored =
            serde_json::from_value(serde_json::json!({"metadata": {"name": "a", "namespace": "b"}})).unwrap();
        assert_eq!(stored.meta().name.as_deref(), Some("a"));
        stored.meta_mut().name = Some("c".to_owned());
        assert_eq!(stored.meta().name.as_deref(), Some("c"));
    }

    /// Anybody who may write a status may fill it.
    #[test]
    fn of_the_conditions_of_others_nothing_is_kept() {
        let other = |n: usize| serde_json::json!({"type": format!("Other{n}"), "status": "True"});
        let mut conditions: Vec<_> = (0..1000).map(other).collect();
        conditions.insert(500, serde_json::json!({"type": "Ready", "status": "True", "reason": "Adopted"}));
        let stored: Stored =
            serde_json::from_value(serde_json::json!({"status": {"conditions": conditions}})).unwrap();
        let list = stored.status.unwrap().conditions.unwrap();
        assert_eq!(list.count, 1001);
        assert_eq!(list.ours.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [500]);
    }
}
