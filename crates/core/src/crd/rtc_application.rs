//! `RtcApplication`: one SDKAppID, its endpoint, its credentials, its share of the quota.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A Tencent RTC application (SDKAppID) whose robots this operator may remove.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "roomrobot.dev",
    version = "v1alpha1",
    kind = "RtcApplication",
    plural = "rtcapplications",
    shortname = "rtcapp",
    category = "rtc",
    status = "RtcApplicationStatus",
    doc = "A Tencent RTC application (SDKAppID): endpoint, credentials and quota for the RoomRobots that refer to it.",
    printcolumn(name = "SDKAppID", type_ = "integer", json_path = ".spec.sdkAppId"),
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
    printcolumn(name = "Robots", type_ = "integer", json_path = ".status.robots"),
    printcolumn(name = "Deleting", type_ = "integer", json_path = ".status.deleting"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Endpoint", type_ = "string", priority = 1, json_path = ".spec.endpoint"),
    printcolumn(
        name = "Message",
        type_ = "string",
        priority = 1,
        json_path = ".status.conditions[?(@.type==\"Ready\")].message"
    )
)]
#[x_kube(
    validation = Rule::new("!has(oldSelf.sdkAppId) || (has(self.sdkAppId) && self.sdkAppId == oldSelf.sdkAppId)")
        .message("sdkAppId is immutable: create another RtcApplication for the other SDKAppID"),
)]
#[serde(rename_all = "camelCase")]
pub struct RtcApplicationSpec {
    /// The SDKAppID, 1 to 4294967295. Immutable.
    #[schemars(range(min = 1, max = 4_294_967_295_i64))]
    pub sdk_app_id: i64,

    /// The account that calls the room engine; it must be an App administrator. 1 to 32 bytes of printable ASCII, with
    /// no blank at either end.
    #[serde(default = "default_identifier")]
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(validation = Rule::new("self.matches('^[!-~]([ -~]*[!-~])?$')")
        .message("identifier must be 1 to 32 bytes of printable ASCII, with no blank at either end"))]
    pub identifier: String,

    /// The room engine of the SDKAppID's data centre: scheme, host and optional port. The vendor's https hosts are
    /// allowed; any other must be allowed by the operator's `--allow-endpoint`.
    #[serde(default = "default_endpoint")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("isURL(self) && self.matches('^https?://([A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|\\\\[[0-9A-Fa-f:.]+\\\\])(:[0-9]{1,5})?$')")
        .message("endpoint must be scheme, host and optional port, such as https://console.tim.qq.com: no path, query or user part"))]
    pub endpoint: String,

    /// Where the operator finds what it signs with.
    pub credentials: Credentials,

    /// How much of the quota this operator may use, for each command: calls a second, 1 to 200.
    #[serde(default = "default_rate")]
    #[schemars(range(min = 1, max = 200))]
    pub requests_per_second: i32,

    /// Which namespaces may have RoomRobots under this application; absent means all. Checked when a RoomRobot is
    /// accepted, and never again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_namespaces: Option<AllowedNamespaces>,

    /// The emergency brake: no call for this application while true. Deletions wait, and say so.
    #[serde(default)]
    pub suspend: bool,
}

/// The credentials of an application.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Credentials {
    /// A Secret in the operator's own namespace.
    pub secret_ref: SecretRef,
}

/// A Secret in the operator's own namespace, with `secretKey` (the operator signs) or `userSig` (signed elsewhere).
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct SecretRef {
    /// Name of the Secret, a DNS subdomain name.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')")
        .message("secretRef.name must be the name of a Secret: lower-case letters, digits, '-' and '.', with a letter or digit at either end and beside each '.'"))]
    pub name: String,
}

/// Namespaces by their labels.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct AllowedNamespaces {
    /// Selects namespaces by their labels; an empty selector selects all.
    pub selector: LabelSelector,
}

fn default_identifier() -> String {
    "administrator".to_owned()
}

fn default_endpoint() -> String {
    "https://console.tim.qq.com".to_owned()
}

fn default_rate() -> i32 {
    200
}

/// What the operator last saw of the application.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RtcApplicationStatus {
    /// `Ready`, and `Stalled` only where a person must act.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,

    /// RoomRobots that refer to this application; written at most every 30 s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub robots: Option<i64>,

    /// RoomRobots of this application that are being deleted; written at most every 30 s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleting: Option<i64>,
}
