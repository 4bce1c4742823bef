//! Carries out what the engine says: calls, writes, Events, lists and watches of Secrets. One attempt each; what came of it goes
//! back as an input.

use crate::{crash, kubernetes, metrics::Metrics, traces::Traces, watch};
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use roomrobot_client::{clock, room_engine::RoomEngine};
use roomrobot_core::{
    endpoint::Allowed,
    engine::{Call, Change, Effect, Input, ObjectRef, StoredObject},
    right::Until,
    write_trouble::Part,
};
use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};
use tokio::{sync::mpsc, task::AbortHandle};

/// Who reports Events: this Pod, and the namespace for those that have no other place.
#[derive(Clone, Debug)]
pub struct Reporter {
    /// The operator's namespace.
    pub namespace: String,
    /// The name of the Pod.
    pub pod: String,
}

/// What carries out the engine's effects.
pub struct Effects {
    pub(crate) client: Client,
    pub(crate) room_engine: RoomEngine,
    pub(crate) allowed: Allowed,
    pub(crate) metrics: Metrics,
    pub(crate) traces: Traces,
    pub(crate) reporter: Reporter,
    /// Results of calls and writes.
    pub(crate) done: mpsc::UnboundedSender<Input>,
    /// Inputs of watches.
    pub(crate) seen: watch::Told,
    /// The round that lists belong to.
    pub(crate) rounds: tokio::sync::watch::Sender<u32>,
    /// The watched Secrets.
    pub(crate) secrets: HashMap<Arc<str>, AbortHandle>,
    pub(crate) until: Until,
    pub(crate) application_finalizer: String,
}

impl Effects {
    pub(crate) fn carry_out(&mut self, effect: Effect) {
        let (client, done, metrics) = (self.client.clone(), self.done.clone(), self.metrics.clone());
        match effect {
            Effect::Call(call) => {
                let (room_engine, until, traces) =
                    (self.room_engine.clone(), self.until.clone(), self.traces.clone());
                tokio::spawn(async move {
                    crash::Point::BeforeCall.pass();
                    // Between deciding and sending the process may have been stopped for long.
                    if until.passed_at(clock::now()) {
                        let _ = done.send(Input::Unsent(call));
                        return;
                    }
                    metrics.granted(&call.application, call.operation);
                    let (begun, start) = (Instant::now(), SystemTime::now());
                    let outcome = room_engine.call(call.operation, &call.caller, &call.target).await;
                    let Ok(outcome) = outcome else {
                        let _ = done.send(Input::Unsent(call));
                        return;
                    };
                    crash::Point::AfterCall.pass();
                    metrics.called(&call.application, call.operation, &outcome, begun.elapsed());
                    audit(&call, &outcome, begun.elapsed());
                    traces.called(&call, &outcome, start);
                    let _ = done.send(Input::Answered(call.answered(outcome)));
                });
            }
            Effect::Write(write) => {
                let (allowed, finalizer) = (self.allowed.clone(), self.application_finalizer.clone());
                let traces = self.traces.clone();
                tokio::spawn(async move {
                    let start = SystemTime::now();
                    let points = match (&write.object, write.change.part()) {
                        (ObjectRef::Application(_), _) => None,
                        (ObjectRef::Robot(_), Part::Status) => {
                            Some((crash::Point::BeforeStatus, crash::Point::AfterStatus))
                        }
                        (ObjectRef::Robot(_), Part::Finalizer) => {
                            Some((crash::Point::BeforeFinalizer, crash::Point::AfterFinalizer))
                        }
                    };
                    points.inspect(|(before, _)| before.pass());
                    let result = kubernetes::write(&client, &write, &allowed, &finalizer).await;
                    points.inspect(|(_, after)| after.pass());
                    metrics.wrote(write.object.resource(), &write.change, &result);
                    traces.wrote(&write, &result, start);
                    if let (Change::DropFinalizer { .. }, Ok(StoredObject::Robot(robot))) =
                        (&write.change, &result)
                    {
                        metrics.finished(robot, Timestamp::now().as_second());
                    }
                    let _ = done.send(Input::Written(write.object, result));
                });
            }
            Effect::Publish(announcement) => {
                let Reporter { namespace, pod } = self.reporter.clone();
                tokio::spawn(async move {
                    metrics.announced(&kubernetes::publish(&client, &announcement, &pod, &namespace).await);
                });
            }
            Effect::ListAgain(round) => drop(self.rounds.send_replace(round)),
            Effect::WatchSecret(name) => {
                let follow = watch::secret(
                    client,
                    self.reporter.namespace.clone(),
                    Arc::clone(&name),
                    self.seen.clone(),
                );
                let task = tokio::spawn(follow).abort_handle();
                if let Some(before) = self.secrets.insert(name, task) {
                    before.abort();
                }
            }
            Effect::ForgetSecret(name) => {
                if let Some(task) = self.secrets.remove(&name) {
                    task.abort();
                }
            }
        }
    }
}

/// One line for each call: what a person needs who asks the vendor why.
pub fn audit(call: &Call, outcome: &roomrobot_core::call::Outcome, took: Duration) {
    tracing::info!(
        target: "audit",
        namespace = %call.key.namespace,
        name = %call.key.name,
        uid = %call.uid,
        application = %call.application,
        room = %call.target.room_id,
        robot = %call.target.member_account,
        operation = %call.operation,
        code = outcome.code(),
        request_id = outcome.request_id(),
        verdict = outcome.class(call.operation).as_str(),
        http_status = outcome.http_status(),
        info = outcome.info(),
        took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        "call"
    );
}
