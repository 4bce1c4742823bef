//! What `/metrics` shows. Labels come from fixed sets and application names only.

use crate::{
    codes::Operation,
    engine::{Change, Snapshot, WriteError},
    room_engine::Outcome,
    status::Reason,
};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};
use std::{sync::Arc, time::Duration};

/// Labels of a call.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    application: String,
    command: &'static str,
    code: String,
    class: &'static str,
}

/// Labels of a write.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WriteLabels {
    change: &'static str,
    result: &'static str,
}

/// Labels of the deletions that wait.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PendingLabels {
    application: String,
    reason: &'static str,
}

/// Labels of an application.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ApplicationLabels {
    application: String,
}

/// What is counted as it happens, and what is looked up when somebody asks.
#[derive(Clone, Debug)]
pub struct Metrics {
    calls: Family<CallLabels, Counter>,
    call_seconds: Histogram,
    writes: Family<WriteLabels, Counter>,
    pending: Family<PendingLabels, Gauge>,
    oldest: Family<ApplicationLabels, Gauge>,
    robots: Family<ApplicationLabels, Gauge>,
    leader: Gauge,
    registry: Arc<Registry>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("roomrobot");
        let this = Self {
            calls: Family::default(),
            call_seconds: Histogram::new(exponential_buckets(0.005, 2.0, 12)),
            writes: Family::default(),
            pending: Family::default(),
            oldest: Family::default(),
            robots: Family::default(),
            leader: Gauge::default(),
            registry: Arc::default(),
        };
        registry.register(
            "calls",
            "Calls to the room engine that were answered or failed",
            this.calls.clone(),
        );
        registry.register_with_unit(
            "call_duration",
            "Time from the start of a call to its answer or failure",
            Unit::Seconds,
            this.call_seconds.clone(),
        );
        registry.register("writes", "Writes to RoomRobots and RtcApplications", this.writes.clone());
        registry.register(
            "deletions_pending",
            "RoomRobots whose deletion waits, by the reason of their RobotDeleted condition",
            this.pending.clone(),
        );
        registry.register_with_unit(
            "deletion_oldest",
            "Age of the oldest deletion that waits",
            Unit::Seconds,
            this.oldest.clone(),
        );
        registry.register("robots", "RoomRobots that are watched", this.robots.clone());
        registry.register("leader", "1 where this process acts, 0 where it stands by", this.leader.clone());
        Self { registry: Arc::new(registry), ..this }
    }
}

impl Metrics {
    /// Counts a call.
    pub fn called(&self, application: &str, operation: Operation, outcome: &Outcome, took: Duration) {
        let code = outcome.code().map_or_else(
            || "none".to_owned(),
            |code| match crate::codes::look_up(code) {
                Some(_) => code.to_string(),
                None => "undocumented".to_owned(),
            },
        );
        let labels = CallLabels {
            application: application.to_owned(),
            command: operation.as_str(),
            code,
            class: outcome.class(operation).as_str(),
        };
        self.calls.get_or_create(&labels).inc();
        self.call_seconds.observe(took.as_secs_f64());
    }

    /// Counts a write.
    pub fn wrote<T>(&self, change: &Change, result: &Result<T, WriteError>) {
        let labels = WriteLabels {
            change: match change {
                Change::FirstFinalizer | Change::MoreFinalizer => "add_finalizer",
                Change::DropFinalizer(_) => "drop_finalizer",
                Change::Status(_) => "status",
            },
            result: match result {
                Ok(_) => "ok",
                Err(WriteError::NotFound) => "not_found",
                Err(WriteError::Conflict(_)) => "conflict",
                Err(WriteError::Other(_)) => "error",
            },
        };
        self.writes.get_or_create(&labels).inc();
    }

    /// The text of `/metrics` for the engine's state `now`.
    ///
    /// # Errors
    /// If the text cannot be made, which a fixed set of metrics should not do.
    pub fn text(&self, now: &Snapshot) -> Result<String, std::fmt::Error> {
        self.leader.set(now.leading.into());
        self.pending.clear();
        self.oldest.clear();
        self.robots.clear();
        for application in &now.applications {
            let labels = ApplicationLabels { application: application.name.to_string() };
            self.robots.get_or_create(&labels).set(count(application.robots));
            self.oldest.get_or_create(&labels).set(application.oldest);
            for (reason, robots) in &application.pending {
                let reason = reason.map_or("Queued", Reason::as_str);
                let labels = PendingLabels { application: application.name.to_string(), reason };
                self.pending.get_or_create(&labels).set(count(*robots));
            }
        }
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

fn count(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
