//! For development only: a real control plane in processes, the room engine simulator, and the operator as a process.
//!
//! - [`assets`]: the control plane's binaries, built once from pinned Go modules
//! - [`guardian`]: ends processes and removes folders when the testbed ends in whatever way
//! - [`control_plane`]: etcd, kube-apiserver and kube-controller-manager on loopback ports
//! - [`audit`]: what the API server says that its users wrote
//! - [`simulator`]: the room engine over HTTP, with faults that a user can script
//! - [`tls`]: TLS in front of a server that speaks plain HTTP
//! - [`proxy`]: what can go wrong between the operator and the API server
//! - [`operator`]: the operator as a process
//! - [`prometheus`]: a real one, for alerts and the dashboard's picture
//! - [`observe`], [`report`], [`tool`]: what these two share

pub mod assets;
pub mod audit;
pub mod control_plane;
pub mod guardian;
pub mod observe;
pub mod operator;
pub mod prometheus;
pub mod proxy;
pub mod report;
pub mod simulator;
pub mod tls;
pub mod tool;

/// An error of the testbed: always a sentence for a person.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Error(pub String);

impl Error {
    /// `what` failed, and why.
    pub fn new(what: impl std::fmt::Display, why: impl std::fmt::Display) -> Self {
        Self(format!("{what}: {why}"))
    }
}

/// A result of the testbed.
pub type Result<T, E = Error> = std::result::Result<T, E>;
