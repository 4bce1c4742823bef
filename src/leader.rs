//! Which replica acts: the holder of a Lease.
//!
//! Touches one Lease. The lease's arithmetic is the library's; here is only when to ask and when to stop.

use crate::kubernetes::FIELD_MANAGER;
use kube::Client;
use kube_lease_manager::{LeaseManager, LeaseManagerBuilder, LeaseManagerError};
use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    time::Duration,
};
use tokio::{sync::watch, task::JoinHandle};

/// How long a Lease holds without being renewed: what a crash of the leader costs.
const DURATION: u64 = 15;

/// How long before its end a Lease is renewed.
const GRACE: u64 = 5;

/// Between two attempts to reach the Lease at all.
const RETRY: Duration = Duration::from_secs(1);

/// How long releasing the Lease may take at the end.
const RELEASE: Duration = Duration::from_secs(3);

/// The name of the Lease; a shard has one of its own.
#[must_use]
pub fn lease_name(selector: Option<&str>) -> String {
    match selector {
        None => FIELD_MANAGER.to_owned(),
        Some(selector) => {
            let mut hasher = DefaultHasher::new();
            selector.hash(&mut hasher);
            format!("{FIELD_MANAGER}-{:08x}", hasher.finish() & 0xffff_ffff)
        }
    }
}

/// Taking part in an election.
#[derive(Debug)]
pub struct Candidate {
    /// Whether this process holds the Lease.
    pub leading: watch::Receiver<bool>,
    task: JoinHandle<Result<LeaseManager, LeaseManagerError>>,
}

impl Candidate {
    /// Takes part in the election of `lease`; waits until the Lease can be reached.
    pub async fn stand(client: &Client, namespace: &str, lease: &str, identity: &str) -> Self {
        loop {
            let manager = LeaseManagerBuilder::new(client.clone(), lease)
                .with_namespace(namespace)
                .with_identity(identity)
                .with_duration(DURATION)
                .with_grace(GRACE)
                .build()
                .await;
            match manager {
                Ok(manager) => {
                    let (leading, task) = manager.watch().await;
                    return Self { leading, task };
                }
                Err(error) => {
                    tracing::warn!(%namespace, %lease, reason = %error, "waiting for the Lease");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    /// Gives the Lease back, so that another replica need not wait for its end.
    pub async fn resign(self) {
        let Self { leading, task } = self;
        drop(leading);
        match tokio::time::timeout(RELEASE, task).await {
            Ok(Ok(Ok(_))) => tracing::info!("the Lease is released"),
            _ => tracing::warn!("the Lease could not be released; it ends by itself in {DURATION} s"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_shard_has_a_lease_of_its_own() {
        assert_eq!(lease_name(None), "roomrobot-operator");
        assert_ne!(lease_name(Some("shard=a")), lease_name(Some("shard=b")));
        assert!(lease_name(Some("shard=a")).starts_with("roomrobot-operator-"));
    }
}
