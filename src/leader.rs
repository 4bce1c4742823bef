//! Which replica acts: the holder of a Lease.
//!
//! Touches one Lease. Taking, renewing and releasing it is the library's work; here is what the library leaves to its
//! user: noticing a release at once, and stopping before a Lease that could not be renewed can be taken by another.

use crate::{
    kubernetes::{self, FIELD_MANAGER},
    watch::{Waits, short_hash},
};
use futures::StreamExt as _;
use k8s_openapi::{api::coordination::v1::Lease, jiff::Timestamp};
use kube::{
    Api, Client,
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event, watcher},
    },
};
use kube_lease_manager::{LeaseManager, LeaseManagerBuilder, LeaseManagerError};
use std::time::{Duration, Instant};
use tokio::{
    sync::{oneshot, watch},
    task::JoinHandle,
    time::{sleep, sleep_until, timeout},
};

/// How long a Lease holds without being renewed: what a crash of the leader costs.
const DURATION: Duration = Duration::from_secs(15);

/// How long before its end a Lease is renewed: every 4 s, so that a slow API server has 8 s more to take a renewal
/// before the Lease counts as lost.
const GRACE: Duration = Duration::from_secs(11);

/// How long before its end a Lease that could not be renewed counts as lost: clocks differ, and calls take time.
const SAFETY: Duration = Duration::from_secs(3);

/// Between two attempts to reach the Lease.
const RETRY: Duration = Duration::from_millis(500);

/// How long releasing the Lease may take at the end.
const RELEASE: Duration = Duration::from_secs(3);

/// The name of the Lease; a shard has one of its own.
#[must_use]
pub fn lease_name(selector: Option<&str>) -> String {
    match selector {
        None => FIELD_MANAGER.to_owned(),
        Some(selector) => format!("{FIELD_MANAGER}-{}", short_hash(selector)),
    }
}

/// Where a replica stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Another replica leads, or nobody yet.
    Standby,
    /// This one leads, for this long at least.
    Leading(Instant),
    /// It led, and another may lead now.
    Lost,
}

/// Taking part in an election.
#[derive(Debug)]
pub struct Candidate {
    /// Where this replica stands.
    pub standing: watch::Receiver<Standing>,
    resign: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Candidate {
    /// Takes part in the election of `lease`.
    #[must_use]
    pub fn stand(client: Client, namespace: String, lease: String, identity: String) -> Self {
        let (tell, standing) = watch::channel(Standing::Standby);
        let (resign, resigned) = oneshot::channel();
        let election = Election { client, namespace, lease, identity, tell };
        Self { standing, resign, task: tokio::spawn(election.hold(resigned)) }
    }

    /// Gives the Lease back, so that another replica need not wait for its end.
    pub async fn resign(self) {
        drop(self.resign);
        let _ = timeout(RELEASE, self.task).await;
    }
}

struct Election {
    client: Client,
    namespace: String,
    lease: String,
    identity: String,
    tell: watch::Sender<Standing>,
}

/// What a stored Lease says.
enum Seen {
    /// It is ours, until then.
    Ours(Instant),
    /// It is somebody else's.
    Theirs,
    /// It is nobody's.
    Free,
    /// There is none any more.
    Deleted,
}

impl Election {
    /// Takes the Lease when it is free and keeps it, until it is lost or `resigned` is closed.
    async fn hold(self, mut resigned: oneshot::Receiver<()>) {
        let api = Api::<Lease>::namespaced(self.client.clone(), &self.namespace);
        let config = watcher::Config::default().fields(&format!("metadata.name={}", self.lease));
        let mut leases = watcher(api, config).backoff(Waits::default()).boxed();
        let mut complaint = String::new();
        // Until when the Lease is ours, by what the watch last showed of it.
        let mut ours = None;
        'stand: loop {
            let manager = match self.manager().await {
                Ok(manager) => manager,
                Err(error) => {
                    self.complain(&mut complaint, &error);
                    tokio::select! {
                        _ = &mut resigned => return,
                        () = sleep(RETRY) => continue,
                    }
                }
            };
            let mut changed = Box::pin(manager.changed());
            loop {
                let leading = match *self.tell.borrow() {
                    Standing::Leading(until) => Some(until),
                    Standing::Standby | Standing::Lost => None,
                };
                tokio::select! {
                    biased;
                    _ = &mut resigned => {
                        drop(changed);
                        if leading.is_some() {
                            Self::release(&manager).await;
                        }
                        return;
                    }
                    () = sleep_until(leading.unwrap_or_else(Instant::now).into()), if leading.is_some() => {
                        let _ = self.tell.send(Standing::Lost);
                        return;
                    }
                    event = leases.next() => match (self.seen(event), leading) {
                        (Some(Seen::Ours(until)), Some(_)) => drop(self.tell.send(Standing::Leading(until))),
                        // The library does not say so before its own request is answered.
                        (Some(Seen::Ours(until)), None) => ours = Some(until),
                        // One that somebody has deleted can be taken by another at once.
                        (Some(Seen::Theirs | Seen::Deleted), Some(_)) => {
                            let _ = self.tell.send(Standing::Lost);
                            return;
                        }
                        // The library would sleep until the end that the released Lease had.
                        (Some(Seen::Free | Seen::Deleted), None) => continue 'stand,
                        _ => {}
                    },
                    result = &mut changed => {
                        match result {
                            // The watch tells the exact time; this is no later.
                            Ok(true) => {
                                complaint.clear();
                                let now = Instant::now();
                                let until = ours.take().filter(|until| *until > now);
                                let until = until.unwrap_or(now + DURATION - SAFETY - Duration::from_secs(1));
                                let _ = self.tell.send(Standing::Leading(until));
                            }
                            Ok(false) if leading.is_some() => {
                                let _ = self.tell.send(Standing::Lost);
                                return;
                            }
                            Ok(false) => {}
                            Err(error) => {
                                self.complain(&mut complaint, &error);
                                sleep(RETRY).await;
                            }
                        }
                        changed = Box::pin(manager.changed());
                    }
                }
            }
        }
    }

    async fn manager(&self) -> Result<LeaseManager, LeaseManagerError> {
        LeaseManagerBuilder::new(self.client.clone(), &self.lease)
            .with_namespace(&self.namespace)
            .with_identity(&self.identity)
            .with_duration(DURATION.as_secs())
            .with_grace(GRACE.as_secs())
            .build()
            .await
    }

    fn seen(&self, event: Option<watcher::Result<Event<Lease>>>) -> Option<Seen> {
        let lease = match event? {
            Ok(Event::InitApply(lease) | Event::Apply(lease)) => lease,
            Ok(Event::Delete(_)) => return Some(Seen::Deleted),
            Ok(Event::Init | Event::InitDone) | Err(_) => return None,
        };
        let spec = lease.spec.unwrap_or_default();
        match (spec.holder_identity, spec.renew_time) {
            (Some(holder), Some(renewed)) if holder == self.identity => {
                let age = Duration::try_from(Timestamp::now().duration_since(renewed.0)).unwrap_or_default();
                Some(Seen::Ours(Instant::now() + (DURATION - SAFETY).saturating_sub(age)))
            }
            (Some(holder), _) if !holder.is_empty() => Some(Seen::Theirs),
            _ => Some(Seen::Free),
        }
    }

    async fn release(manager: &LeaseManager) {
        if let Ok(Ok(())) = timeout(RELEASE, manager.release()).await {
            tracing::info!("the Lease is released");
        } else {
            let ends_in = DURATION.as_secs();
            tracing::warn!(ends_in, "the Lease could not be released; it ends by itself");
        }
    }

    /// Says once what is waited for.
    fn complain(&self, said: &mut String, error: &LeaseManagerError) {
        let reason = match error {
            LeaseManagerError::KubeError(error) => kubernetes::explain(error),
            other => other.to_string(),
        };
        if *said != reason {
            let (namespace, lease) = (&self.namespace, &self.lease);
            tracing::warn!(%namespace, %lease, %reason, "waiting for the Lease");
            *said = reason;
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
