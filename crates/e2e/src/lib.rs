//! An installation as users have it, on any cluster: images, Helm, Pods, the main job, and removal: `make e2e`.
//!
//! - [`cluster`]: `kubectl`, `helm` and a client for the cluster of `KUBECONFIG`; what is made there, and its end
//! - [`room_engine`]: the simulator as a Pod, scripted and read through the API server
//! - [`pods`]: what the operator's Pods are and how they are shut in
//! - [`jobs`]: what the operator is for: removal, a drain while the leader goes, the end of a namespace
//! - [`plugin`]: `kubectl roomrobot` reads the metrics of a Pod
//! - [`release`]: install, upgrade, uninstall
//! - [`image`]: the container images, built and run: `make image`

pub mod cluster;
pub mod image;
pub mod jobs;
pub mod plugin;
pub mod pods;
pub mod release;
pub mod room_engine;

use std::time::Duration;

/// The Helm release.
pub const RELEASE: &str = "roomrobot-operator";

/// The operator's namespace.
pub const SYSTEM: &str = "roomrobot-e2e";

/// The namespace of the simulator.
pub const SIMULATOR: &str = "roomrobot-e2e-simulator";

/// The namespace of most robots.
pub const ROBOTS: &str = "roomrobot-e2e-robots";

/// The namespace that is deleted with robots in it.
pub const DOOMED: &str = "roomrobot-e2e-doomed";

/// The RtcApplication of the release.
pub const APPLICATION: &str = "e2e";

/// Its SDKAppID.
pub const SDK_APP_ID: u32 = 1_400_000_000;

/// Its key, which must appear nowhere.
pub const KEY: &str = "the-key-of-the-e2e-application-3f9c2a";

/// Its share of the quota: low enough for a drain to be under way for 20 seconds, since a busy kubelet takes some to send a
/// SIGTERM.
pub const REQUESTS_PER_SECOND: usize = 25;

/// How long anything may take that should not take long; clusters in CI are slow.
pub const PATIENCE: Duration = Duration::from_secs(120);
