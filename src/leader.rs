//! Which replica acts: the holder of a Lease.
//!
//! Touches one Lease. Taking, renewing and releasing it is the library's work; here is what the library leaves to its
//! user: noticing a release at once, stopping before a Lease that could not be renewed can be taken by another, and
//! knowing whether the one before has finished.

use crate::{
    engine::Before,
    kubernetes::{self, FIELD_MANAGER},
    watch::{Complaint, Waits, short_hash},
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
    /// Another replica leads, or nobody: also where this one led, and could not keep its Lease.
    Standby,
    /// This one leads.
    Leading {
        /// For this long at least.
        until: Instant,
        /// Who led before.
        before: Before,
        /// Counts up each time that this one has lost its Lease.
        term: u32,
    },
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
    /// Takes part in the election of `lease` for the Pod `pod`.
    #[must_use]
    pub fn stand(client: Client, namespace: String, lease: String, pod: String) -> Self {
        let (tell, standing) = watch::channel(Standing::Standby);
        let (resign, resigned) = oneshot::channel();
        let identity = identity(&pod);
        let last = Last { held_until: None, before: Before::Finished };
        let election = Election { client, namespace, lease, pod, identity, tell, last, term: 0 };
        Self { standing, resign, task: tokio::spawn(election.hold(resigned)) }
    }

    /// Gives the Lease back, so that another replica need not wait for its end.
    pub async fn resign(self) {
        drop(self.resign);
        let _ = timeout(RELEASE, self.task).await;
    }
}

/// Another one each time that a replica stands: a Lease that it has lost is not its own any more.
fn identity(pod: &str) -> String {
    format!("{pod}-{:08x}", fastrand::u32(..))
}

struct Election {
    client: Client,
    namespace: String,
    lease: String,
    pod: String,
    identity: String,
    tell: watch::Sender<Standing>,
    last: Last,
    term: u32,
}

/// What is known of the last holder of the Lease before this replica.
struct Last {
    /// When its Lease ends, while it is held.
    held_until: Option<Instant>,
    /// What to think of it.
    before: Before,
}

/// What a stored Lease says.
enum Seen {
    /// It is ours, and ends then.
    Ours(Instant),
    /// It is somebody else's, and ends then.
    Theirs(Instant),
    /// It is nobody's.
    Free,
    /// There is none any more.
    Deleted,
}

impl Election {
    /// Takes the Lease when it is free and keeps it, until `resigned` is closed. Where it is lost, stands again.
    async fn hold(mut self, mut resigned: oneshot::Receiver<()>) {
        let api = Api::<Lease>::namespaced(self.client.clone(), &self.namespace);
        let config = watcher::Config::default().fields(&format!("metadata.name={}", self.lease));
        let mut leases = watcher(api, config).backoff(Waits::short()).boxed();
        let mut complaint = String::new();
        // Who holds it now is to be known first.
        let mut silent = Complaint::default();
        loop {
            let event = tokio::select! {
                _ = &mut resigned => return,
                event = leases.next() => event,
            };
            if let Some(Err(error)) = &event {
                silent.about::<Lease>(error);
            }
            if matches!(event, Some(Ok(Event::InitDone))) {
                break silent.over::<Lease>();
            }
            self.see(event);
        }
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
                    Standing::Leading { until, .. } => Some(until),
                    Standing::Standby => None,
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
                        self.lose();
                        continue 'stand;
                    }
                    event = leases.next() => match (self.see(event), leading) {
                        (Some(Seen::Ours(end)), Some(_)) => self.lead(end - SAFETY),
                        // The library does not say so before its own request is answered.
                        (Some(Seen::Ours(end)), None) => ours = Some(end - SAFETY),
                        // One that somebody has deleted can be taken by another at once.
                        (Some(Seen::Theirs(_) | Seen::Deleted), Some(_)) => {
                            self.lose();
                            continue 'stand;
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
                                self.lead(until.unwrap_or(now + DURATION - SAFETY - Duration::from_secs(1)));
                            }
                            Ok(false) if leading.is_some() => {
                                self.lose();
                                continue 'stand;
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

    fn lead(&self, until: Instant) {
        let _ = self.tell.send(Standing::Leading { until, before: self.last.before, term: self.term });
    }

    /// Stands as another from now on, and takes itself for one that vanished: it may be so for others.
    fn lose(&mut self) {
        let _ = self.tell.send(Standing::Standby);
        self.identity = identity(&self.pod);
        self.term += 1;
        self.last.before = Before::Vanished;
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

    /// What an event of the watch says of the Lease; keeps what is known of its last holder.
    fn see(&mut self, event: Option<watcher::Result<Event<Lease>>>) -> Option<Seen> {
        let seen = self.read(event)?;
        match seen {
            Seen::Ours(_) => {}
            Seen::Theirs(end) => (self.last.held_until, self.last.before) = (Some(end), Before::Vanished),
            // Whoever takes an expired Lease frees it first; its holder gives it back long before that.
            Seen::Free => {
                if self.last.held_until.take().is_some_and(|end| Instant::now() + SAFETY / 2 < end) {
                    self.last.before = Before::Finished;
                }
            }
            Seen::Deleted => self.last.held_until = None,
        }
        Some(seen)
    }

    fn read(&self, event: Option<watcher::Result<Event<Lease>>>) -> Option<Seen> {
        let lease = match event? {
            Ok(Event::InitApply(lease) | Event::Apply(lease)) => lease,
            Ok(Event::Delete(_)) => return Some(Seen::Deleted),
            Ok(Event::Init | Event::InitDone) | Err(_) => return None,
        };
        let spec = lease.spec.unwrap_or_default();
        let holder = spec.holder_identity.filter(|holder| !holder.is_empty());
        let Some(holder) = holder else {
            return Some(Seen::Free);
        };
        let age = spec.renew_time.map(|renewed| Timestamp::now().duration_since(renewed.0));
        let age = age.and_then(|age| Duration::try_from(age).ok()).unwrap_or_default();
        let lasts = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
        let end = Instant::now() + lasts.map_or(DURATION, Duration::from_secs).saturating_sub(age);
        Some(if holder == self.identity { Seen::Ours(end) } else { Seen::Theirs(end) })
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
