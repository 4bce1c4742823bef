//! `RoomRobot`: one robot in one room.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One robot in one room of a Tencent RTC application. Deleting the resource removes the robot from its room:
/// the object leaves Kubernetes only after the room engine said that the robot is deleted or already gone.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[kube(
    group = "roomrobot.dev",
    version = "v1alpha1",
    kind = "RoomRobot",
    plural = "roomrobots",
    shortname = "rr",
    category = "rtc",
    namespaced,
    status = "RoomRobotStatus",
    doc = "One robot in one room of a Tencent RTC application. Deleting the resource removes the robot from its room.",
    selectable = ".spec.roomId",
    selectable = ".spec.applicationRef.name",
    printcolumn(name = "Room", type_ = "string", json_path = ".spec.roomId"),
    printcolumn(name = "Robot", type_ = "string", json_path = ".spec.memberAccount"),
    printcolumn(name = "Application", type_ = "string", json_path = ".spec.applicationRef.name"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason"
    ),
    printcolumn(
        name = "Deletion",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"RobotDeleted\")].reason"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "RequestId",
        type_ = "string",
        priority = 1,
        json_path = ".status.lastRequest.requestId"
    )
)]
#[x_kube(
    validation = Rule::new("!has(oldSelf.roomId) || (has(self.roomId) && self.roomId == oldSelf.roomId)")
        .message("roomId is immutable: delete this RoomRobot and create another for the other room"),
    validation = Rule::new("!has(oldSelf.memberAccount) || (has(self.memberAccount) && self.memberAccount == oldSelf.memberAccount)")
        .message("memberAccount is immutable: delete this RoomRobot and create another for the other robot"),
    validation = Rule::new("!has(oldSelf.applicationRef) || !has(oldSelf.applicationRef.name) || (has(self.applicationRef) && has(self.applicationRef.name) && self.applicationRef.name == oldSelf.applicationRef.name)")
        .message("applicationRef.name is immutable: delete this RoomRobot and create another under the other RtcApplication"),
)]
#[serde(rename_all = "camelCase")]
pub struct RoomRobotSpec {
    /// The room's ID (`RoomId`): 1 to 48 bytes of printable ASCII, with no blank at either end. Immutable.
    #[schemars(length(min = 1, max = 48))]
    #[x_kube(validation = Rule::new("self.matches('^[!-~]([ -~]*[!-~])?$')")
        .message("roomId must be 1 to 48 bytes of printable ASCII, with no blank at either end"))]
    pub room_id: String,

    /// The robot's ID (`Member_Account`): 1 to 32 bytes of printable ASCII, with no blank at either end. Immutable.
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(validation = Rule::new("self.matches('^[!-~]([ -~]*[!-~])?$')")
        .message("memberAccount must be 1 to 32 bytes of printable ASCII, with no blank at either end"))]
    pub member_account: String,

    /// The RtcApplication that the room belongs to. Immutable.
    #[serde(default)]
    pub application_ref: ApplicationRef,

    /// `Adopt`: the robot is in the room by other means and this resource owns its removal; nothing is called before
    /// the deletion. `Create`: the operator brings the robot in with `add_robot`.
    #[serde(default)]
    pub creation_policy: CreationPolicy,

    /// `Delete`: deleting this resource removes the robot from the room. `Retain`: deleting this resource leaves the
    /// robot where it is, at once and without a call. May be changed at any time, also while the deletion waits.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,

    /// No call at all for this robot while true; a deletion waits, and its condition says so.
    #[serde(default)]
    pub suspend: bool,
}

/// A reference to a cluster-scoped RtcApplication.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct ApplicationRef {
    /// Name of the RtcApplication, a DNS subdomain name.
    #[serde(default = "default_application")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')")
        .message("applicationRef.name must be the name of an RtcApplication: lower-case letters, digits, '-' and '.', with a letter or digit at either end and beside each '.'"))]
    pub name: String,
}

impl Default for ApplicationRef {
    fn default() -> Self {
        Self { name: default_application() }
    }
}

fn default_application() -> String {
    "default".to_owned()
}

/// How the robot comes into the room.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CreationPolicy {
    /// By other means; the resource owns its removal.
    #[default]
    Adopt,
    /// By the operator, with `add_robot`.
    Create,
}

/// What deleting the resource does to the robot.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeletionPolicy {
    /// The robot is removed from the room.
    #[default]
    Delete,
    /// The robot stays in the room.
    Retain,
}

/// What the operator last saw and did.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RoomRobotStatus {
    /// The `metadata.generation` that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// `Accepted`, `Ready`, `Stalled` (only where a person must act) and `RobotDeleted` (only while deleting).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,

    /// The last answered or failed call to the room engine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_request: Option<LastRequest>,
}

/// One call to the room engine, as far as it went.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct LastRequest {
    /// The command: `delete_robot` or `add_robot`.
    #[schemars(length(max = 64))]
    pub operation: String,
    /// The room engine's RequestId; absent where no answer carried one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub request_id: Option<String>,
    /// The room engine's ErrorCode; absent where there was no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_code: Option<i64>,
    /// The room engine's ErrorInfo, cut at 256 characters, or why there was no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub error_info: Option<String>,
    /// The HTTP status; absent where there was no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_status: Option<i32>,
    /// When the answer came, or when the call was given up.
    pub time: Time,
}
