//! What `/metrics` shows. Labels come from fixed sets and application names only.
//!
//! Counted as it happens: calls, writes, ends of deletions. Looked up when somebody asks: all gauges, from the
//! engine's [`Snapshot`] and from the system. [`ROWS`] names every metric; nothing else is registered.

mod process;
mod table;

pub use table::{Kind, ROWS, Row};

use crate::watch::Views;
use process::ProcessMetrics;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
        info::Info,
    },
    registry::{Metric, Registry, Unit},
};
use roomrobot_core::{
    call::Outcome,
    codes::Operation,
    engine::{ApplicationSnapshot, Change, Snapshot, UNKNOWN, WriteError},
    robot::Robot,
    status::Reason,
};
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// Upper ends of the times that a deletion takes: from under a second to more than a day.
const DELETION_BUCKETS: [f64; 14] =
    [0.5, 1.5, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 180.0, 300.0, 900.0, 3600.0, 14_400.0, 86_400.0];

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
    verb: &'static str,
    resource: &'static str,
    change: &'static str,
    result: &'static str,
}

/// An application and a reason.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    application: String,
    reason: &'static str,
}

/// An application and a command.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CommandLabels {
    application: String,
    command: &'static str,
}

/// An application and the state of its breaker.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    application: String,
    state: &'static str,
}

/// Labels of an application.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ApplicationLabels {
    application: String,
}

/// Labels of a line.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QueueLabels {
    queue: &'static str,
}

/// Labels of what is under way.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FlightLabels {
    what: &'static str,
}

/// Labels of what is known of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResourceLabels {
    resource: &'static str,
}

/// A gauge of numbers that are not whole.
type Float = Gauge<f64, AtomicU64>;

/// A histogram for each application.
type Times = Family<ApplicationLabels, Histogram, fn() -> Histogram>;

/// What is counted as it happens, and what is looked up when somebody asks.
#[derive(Clone, Debug)]
pub struct Metrics {
    calls: Family<CallLabels, Counter>,
    call_seconds: Times,
    writes: Family<WriteLabels, Counter>,
    finished: Family<ReasonLabels, Counter>,
    deletion_seconds: Times,
    granted: Family<CommandLabels, Counter>,
    gauges: Gauges,
    registry: Arc<Registry>,
    /// One scrape at a time, as the gauges are those of one snapshot; with the length of the last text in bytes.
    scrape: Arc<Mutex<usize>>,
}

/// What is looked up when somebody asks.
#[derive(Clone, Debug, Default)]
struct Gauges {
    pending: Family<ReasonLabels, Gauge>,
    told: Family<ReasonLabels, Gauge>,
    oldest: Family<ApplicationLabels, Gauge>,
    robots: Family<ApplicationLabels, Gauge>,
    waiting: Family<CommandLabels, Gauge>,
    limit: Family<CommandLabels, Gauge>,
    pace: Family<CommandLabels, Float>,
    eta: Family<CommandLabels, Float>,
    breaker: Family<StateLabels, Gauge>,
    ready: Family<ReasonLabels, Gauge>,
    leader: Gauge,
    reconciles: Counter,
    queue: Family<QueueLabels, Gauge>,
    in_flight: Family<FlightLabels, Gauge>,
    process: ProcessMetrics,
    view_cut: Family<ResourceLabels, Float>,
    views: Views,
}

impl Default for Metrics {
    fn default() -> Self {
        let call_seconds: fn() -> Histogram = || Histogram::new(exponential_buckets(0.005, 2.0, 12));
        let deletion_seconds: fn() -> Histogram = || Histogram::new(DELETION_BUCKETS);
        let mut this = Self {
            calls: Family::default(),
            call_seconds: Family::new_with_constructor(call_seconds),
            writes: Family::default(),
            finished: Family::default(),
            deletion_seconds: Family::new_with_constructor(deletion_seconds),
            granted: Family::default(),
            gauges: Gauges::default(),
            registry: Arc::default(),
            scrape: Arc::default(),
        };
        this.registry = Arc::new(this.registry());
        this
    }
}

/// Registers `metric` under the name of `row`.
fn register(registry: &mut Registry, row: &Row, metric: impl Metric) {
    match row.unit {
        "seconds" => registry.register_with_unit(row.name, row.help, Unit::Seconds, metric),
        "bytes" => registry.register_with_unit(row.name, row.help, Unit::Bytes, metric),
        _ => registry.register(row.name, row.help, metric),
    }
}

impl Metrics {
    fn registry(&self) -> Registry {
        let mut registry = Registry::default();
        let to = &mut registry;
        register(to, &table::CALLS, self.calls.clone());
        register(to, &table::CALL_SECONDS, self.call_seconds.clone());
        register(to, &table::PENDING, self.gauges.pending.clone());
        register(to, &table::TOLD, self.gauges.told.clone());
        register(to, &table::OLDEST, self.gauges.oldest.clone());
        register(to, &table::DELETION_SECONDS, self.deletion_seconds.clone());
        register(to, &table::FINISHED, self.finished.clone());
        register(to, &table::ROBOTS, self.gauges.robots.clone());
        register(to, &table::GRANTED, self.granted.clone());
        register(to, &table::WAITING, self.gauges.waiting.clone());
        register(to, &table::LIMIT, self.gauges.limit.clone());
        register(to, &table::PACE, self.gauges.pace.clone());
        register(to, &table::ETA, self.gauges.eta.clone());
        register(to, &table::BREAKER, self.gauges.breaker.clone());
        register(to, &table::READY, self.gauges.ready.clone());
        register(to, &table::LEADER, self.gauges.leader.clone());
        register(to, &table::RECONCILES, self.gauges.reconciles.clone());
        register(to, &table::QUEUE, self.gauges.queue.clone());
        register(to, &table::IN_FLIGHT, self.gauges.in_flight.clone());
        register(to, &table::WRITES, self.writes.clone());
        register(to, &table::VIEW_CUT, self.gauges.view_cut.clone());
        register(to, &table::BUILD, Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]));
        self.gauges.process.register(to);
        registry
    }

    /// Which views of the cluster are cut.
    #[must_use]
    pub fn views(&self) -> Views {
        self.gauges.views.clone()
    }

    /// Counts a call that starts.
    pub fn granted(&self, application: &str, operation: Operation) {
        let labels = CommandLabels { application: application.to_owned(), command: operation.as_str() };
        self.granted.get_or_create(&labels).inc();
    }

    /// Counts a call that ended.
    pub fn called(&self, application: &str, operation: Operation, outcome: &Outcome, took: Duration) {
        let code = outcome.code().map_or_else(
            || "none".to_owned(),
            |code| match roomrobot_core::codes::look_up(code) {
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
        let labels = ApplicationLabels { application: application.to_owned() };
        self.call_seconds.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// Counts a write to an object of `resource`.
    pub fn wrote<T>(&self, resource: &'static str, change: &Change, result: &Result<T, WriteError>) {
        let change = match change {
            Change::FirstFinalizer | Change::MoreFinalizer => "add_finalizer",
            Change::DropFinalizer { .. } => "drop_finalizer",
            Change::Status(_) => "status",
        };
        self.count_write("patch", resource, change, result);
    }

    /// Counts an Event.
    pub fn announced(&self, result: &Result<(), WriteError>) {
        self.count_write("create", "events", "event", result);
    }

    fn count_write<T>(
        &self,
        verb: &'static str,
        resource: &'static str,
        change: &'static str,
        result: &Result<T, WriteError>,
    ) {
        let result = match result {
            Ok(_) => "ok",
            Err(WriteError::NotFound) => "not_found",
            Err(WriteError::Conflict(_)) => "conflict",
            Err(WriteError::Refused(_)) => "refused",
            Err(WriteError::Unreachable(_) | WriteError::Late | WriteError::Other(_)) => "error",
        };
        self.writes.get_or_create(&WriteLabels { verb, resource, change, result }).inc();
    }

    /// Counts a robot whose finalizer was taken off at `wall` (Unix seconds).
    pub fn finished(&self, robot: &Robot, wall: i64) {
        // Only once it was accepted there certainly was such an application.
        let application = if robot.accepted() { &robot.application } else { UNKNOWN }.to_owned();
        let reason = robot.ended_as();
        if let Some(since) = robot.deleting_since {
            let took = u32::try_from(wall.saturating_sub(since)).unwrap_or_default();
            let labels = ApplicationLabels { application: application.clone() };
            self.deletion_seconds.get_or_create(&labels).observe(f64::from(took));
        }
        self.finished.get_or_create(&ReasonLabels { application, reason }).inc();
    }

    /// The text of `/metrics` for the engine's state `now`.
    ///
    /// # Errors
    /// If the text cannot be made, which a fixed set of metrics should not do.
    pub fn text(&self, now: &Snapshot) -> Result<String, std::fmt::Error> {
        let mut length = self.scrape.lock().unwrap_or_else(PoisonError::into_inner);
        self.gauges.show(now);
        // A text that grows by doubling leaves as much behind as it has in the end.
        let mut text = String::with_capacity(*length + *length / 8);
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        *length = text.len();
        Ok(text)
    }
}

impl Gauges {
    fn show(&self, now: &Snapshot) {
        self.leader.set(now.leading.into());
        self.reconciles.inner().store(now.reconciles, Ordering::Relaxed);
        for (queue, depth) in now.queues {
            self.queue.get_or_create(&QueueLabels { queue }).set(count(depth));
        }
        for (what, under_way) in now.in_flight {
            self.in_flight.get_or_create(&FlightLabels { what }).set(count(under_way));
        }
        self.pending.clear();
        self.told.clear();
        self.oldest.clear();
        self.robots.clear();
        self.waiting.clear();
        self.limit.clear();
        self.pace.clear();
        self.eta.clear();
        self.breaker.clear();
        self.ready.clear();
        for application in &now.applications {
            self.show_application(application);
        }
        for (resource, age) in self.views.cut_for() {
            self.view_cut.get_or_create(&ResourceLabels { resource }).set(age.as_secs_f64());
        }
        self.process.look();
    }

    fn show_application(&self, now: &ApplicationSnapshot) {
        let application = || now.name.to_string();
        let labels = ApplicationLabels { application: application() };
        self.robots.get_or_create(&labels).set(count(now.robots));
        self.oldest.get_or_create(&labels).set(now.oldest);
        for pending in &now.pending {
            let reason = pending.reason.map_or("Queued", Reason::as_str);
            let labels = ReasonLabels { application: application(), reason };
            self.pending.get_or_create(&labels).set(count(pending.robots));
            if pending.reason.is_some() {
                self.told.get_or_create(&labels).set(pending.told);
            }
        }
        for quota in &now.quotas {
            let labels = CommandLabels { application: application(), command: quota.operation.as_str() };
            self.waiting.get_or_create(&labels).set(count(quota.waiting));
            self.limit.get_or_create(&labels).set(quota.limit.into());
            self.pace.get_or_create(&labels).set(quota.pace);
            if let Some(eta) = quota.eta {
                self.eta.get_or_create(&labels).set(eta);
            }
        }
        if let Some(breaker) = now.breaker {
            for state in roomrobot_core::application::Breaker::ALL {
                let labels = StateLabels { application: application(), state: state.as_str() };
                self.breaker.get_or_create(&labels).set((state == breaker).into());
            }
        }
        if let Some((reason, ready)) = now.ready {
            let labels = ReasonLabels { application: application(), reason: reason.as_str() };
            self.ready.get_or_create(&labels).set(ready.into());
        }
    }
}

fn count(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
