//! Which replica acts: the holder of a Lease.
//!
//! Touches one Lease and decides nothing: [`roomrobot_core::election`] says what to send, and what to make of the answers. A watch
//! tells when to look at once. Nothing depends on the watch but how quick a hand-over is.

use crate::watch::{Waits, short_hash};
use futures::{
    FutureExt as _, StreamExt as _,
    future::{BoxFuture, OptionFuture},
};
use k8s_openapi::{api::coordination::v1::Lease, jiff::Timestamp};
use kube::{
    Api, Client,
    api::{ObjectMeta, Patch, PatchParams, PostParams, WatchEvent, WatchParams},
    runtime::utils::Backoff as _,
};
use roomrobot_client::{clock, errors};
use roomrobot_core::{
    api_server::FIELD_MANAGER,
    election::{Answer, DURATION, Effect, Election, End, Input, Record, Request, Shown, Ticket},
    right::{Moment, Standing},
};
use std::{pin::pin, time::Duration};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::{JoinHandle, JoinSet},
    time::{sleep, timeout},
};

/// The longest sleep of the loop: timers stand still while the machine sleeps, and it is to be noticed soon what has
/// ended meanwhile.
const SLEEP: Duration = Duration::from_secs(1);

/// How long the API server may take to begin a watch.
const BEGIN: Duration = Duration::from_secs(5);

/// How long a watch goes on, in seconds, and until it is ended from this side: its connection may be dead without a sign.
const WATCH: (u32, Duration) = (60, Duration::from_secs(65));

/// The name of the Lease; a shard has one of its own.
#[must_use]
pub fn lease_name(selector: Option<&str>) -> String {
    match selector {
        None => FIELD_MANAGER.to_owned(),
        Some(selector) => format!("{FIELD_MANAGER}-{}", short_hash(selector)),
    }
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
    pub fn stand(client: Client, namespace: &str, lease: String, pod: &str) -> Self {
        let (tell, standing) = watch::channel(Standing::Standby);
        let (resign, resigned) = oneshot::channel();
        let api = Api::namespaced(client, namespace);
        let seat = Seat { api, namespace: namespace.to_owned(), lease, tell, complaint: None };
        let election = Election::new(pod, fastrand::u64(..));
        Self { standing, resign, task: tokio::spawn(seat.hold(election, resigned)) }
    }

    /// Gives the Lease back, so that another replica need not wait for its end. Takes 3 s at most.
    pub async fn resign(self) {
        drop(self.resign);
        let _ = self.task.await;
    }
}

/// What carries out the effects of an election.
struct Seat {
    api: Api<Lease>,
    namespace: String,
    lease: String,
    tell: watch::Sender<Standing>,
    /// What was last complained of, and whether that was a write.
    complaint: Option<(bool, String)>,
}

/// A request under way.
struct Pending {
    writes: bool,
    answer: BoxFuture<'static, (Ticket, Result<Answer, String>)>,
}

impl Seat {
    /// Takes the Lease when it is free and keeps it, until `resigned` is closed. Where it is lost, stands again.
    async fn hold(mut self, mut election: Election, resigned: oneshot::Receiver<()>) {
        let mut resigned = resigned.fuse();
        let (seen, mut changes) = mpsc::channel(16);
        let mut watching = JoinSet::new();
        watching.spawn(follow(self.api.clone(), self.lease.clone(), seen));
        let mut pending: Option<Pending> = None;
        let mut input = Input::Tick;
        loop {
            for effect in election.handle(input, clock::now().since_start()) {
                match effect {
                    Effect::Send(ticket, request) => pending = Some(self.send(ticket, request)),
                    Effect::Unanswered => {
                        if let Some(pending) = pending.take() {
                            self.complain(pending.writes, "the API server did not answer in time".to_owned());
                        }
                    }
                    Effect::Lead { until, before, term } => {
                        let _ = self.tell.send(Standing::Leading { until: Moment::new(until), before, term });
                    }
                    Effect::Lose => {
                        let _ = self.tell.send(Standing::Standby);
                    }
                    Effect::End(end) => return tell(end),
                }
            }
            let wait = election.due().saturating_sub(clock::now().since_start());
            let answer = OptionFuture::from(pending.as_mut().map(|pending| &mut pending.answer));
            input = tokio::select! {
                biased;
                _ = &mut resigned => Input::Resign,
                Some((ticket, result)) = answer => {
                    let writes = pending.take().is_some_and(|pending| pending.writes);
                    let answer = match result {
                        Ok(answer) => {
                            self.complaint.take_if(|(wrote, _)| *wrote == writes);
                            answer
                        }
                        Err(reason) => {
                            self.complain(writes, reason);
                            Answer::Failed
                        }
                    };
                    Input::Answered(ticket, answer)
                }
                Some(shown) = changes.recv() => Input::Changed(shown),
                () = sleep(wait.min(SLEEP)) => Input::Tick,
            };
        }
    }

    fn send(&self, ticket: Ticket, request: Request) -> Pending {
        let (writes, answer) = (request.writes(), answer(self.api.clone(), self.lease.clone(), request));
        Pending { writes, answer: answer.map(move |answer| (ticket, answer)).boxed() }
    }

    /// Says once what is waited for.
    fn complain(&mut self, writes: bool, reason: String) {
        if self.complaint.as_ref().is_none_or(|(_, said)| *said != reason) {
            let (namespace, lease) = (&self.namespace, &self.lease);
            tracing::warn!(%namespace, %lease, %reason, "waiting for the Lease");
            self.complaint = Some((writes, reason));
        }
    }
}

fn tell(end: End) {
    match end {
        End::Released => tracing::info!("the Lease is released"),
        End::Unreleased => {
            let ends_in = DURATION.as_secs();
            tracing::warn!(ends_in, "the Lease could not be released; it ends by itself");
        }
        End::NotHeld => {}
    }
}

/// Sends `request` once; where it fails, why, as a clause.
async fn answer(api: Api<Lease>, name: String, request: Request) -> Result<Answer, String> {
    let now = Timestamp::now();
    let result = match &request {
        Request::Read => api.get(&name).await,
        Request::Create { holder } => {
            let metadata = ObjectMeta { name: Some(name), ..ObjectMeta::default() };
            let lease = Lease { metadata, spec: Some(Request::created(holder, now)) };
            let params =
                PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
            api.create(&params, &lease).await
        }
        Request::Claim { .. } | Request::Renew { .. } | Request::Release { .. } => {
            let params =
                PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
            api.patch(&name, &params, &Patch::Merge(request.patch(now))).await
        }
    };
    match result {
        Ok(lease) => Ok(Answer::Stored(Some(Record::from(lease)))),
        // Not what somebody on the way says, such as a load balancer.
        Err(kube::Error::Api(status))
            if status.reason == "NotFound" && !matches!(request, Request::Create { .. }) =>
        {
            Ok(if request.writes() { Answer::Conflict } else { Answer::Stored(None) })
        }
        Err(kube::Error::Api(status)) if status.code == 409 && request.writes() => Ok(Answer::Conflict),
        Err(error) => Err(errors::explain(&error)),
    }
}

/// Tells what a watch shows of the Lease. A watch that ends starts again.
async fn follow(api: Api<Lease>, name: String, tell: mpsc::Sender<Shown>) {
    let params = WatchParams::default().fields(&format!("metadata.name={name}")).timeout(WATCH.0);
    let mut waits = Waits::short();
    loop {
        // From whatever this API server has: what it shows is only a reason to look.
        if let Ok(Ok(events)) = timeout(BEGIN, api.watch(&params, "0")).await {
            let mut events = pin!(events.take_until(sleep(WATCH.1)));
            while let Some(Ok(event)) = events.next().await {
                let shown = match event {
                    WatchEvent::Added(lease) | WatchEvent::Modified(lease) => {
                        Shown::Version(Record::from(lease).version)
                    }
                    WatchEvent::Deleted(_) => Shown::Deleted,
                    WatchEvent::Bookmark(_) => continue,
                    WatchEvent::Error(_) => break,
                };
                waits.reset();
                if tell.send(shown).await.is_err() {
                    return;
                }
            }
        }
        sleep(waits.next().unwrap_or_default()).await;
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
