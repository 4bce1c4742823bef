//! The two resources of `roomrobot.dev/v1alpha1`: their types, their schema, their limits.
//!
//! Touches nothing: types and text only. Every CEL rule is guarded with `has()`, because a rule that raises on an
//! object stored under an older schema blocks its status writes and the removal of its finalizer.

mod room_robot;
mod rtc_application;

pub use room_robot::{
    ApplicationRef, CreationPolicy, DeletionPolicy, LastRequest, RoomRobot, RoomRobotSpec, RoomRobotStatus,
};
pub use rtc_application::{
    AllowedNamespaces, Credentials, RtcApplication, RtcApplicationSpec, RtcApplicationStatus, SecretRef,
};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

/// API group of both resources.
pub const GROUP: &str = "roomrobot.dev";

/// The finalizer that holds a `RoomRobot` until its robot is known to be gone.
pub const ROBOT_FINALIZER: &str = "roomrobot.dev/delete-robot";

/// The finalizer that holds an `RtcApplication` while a `RoomRobot` refers to it.
pub const APPLICATION_FINALIZER: &str = "roomrobot.dev/in-use";

/// Both definitions with the file name each is kept under in `crds/`.
#[must_use]
pub fn crds() -> [(&'static str, CustomResourceDefinition); 2] {
    [("roomrobots.yaml", RoomRobot::crd()), ("rtcapplications.yaml", RtcApplication::crd())]
}

/// Both definitions as one YAML stream, what `roomrobot-operator crds` prints.
///
/// # Errors
/// If a definition cannot be written as YAML, which no released version should do.
pub fn to_yaml() -> Result<String, serde_saphyr::ser::Error> {
    let mut text = String::new();
    for (_, crd) in crds() {
        text.push_str("---\n");
        text.push_str(&document(&crd)?);
    }
    Ok(text)
}

/// One definition as YAML, with a final newline.
///
/// # Errors
/// As [`to_yaml`].
pub fn document(crd: &CustomResourceDefinition) -> Result<String, serde_saphyr::ser::Error> {
    let mut text = serde_saphyr::to_string(crd)?;
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(text)
}

#[cfg(test)]
mod tests;
