//! What `/metrics` shows. Labels come from fixed sets and application names only.
//!
//! Counted as it happens: calls, writes, ends of deletions. Looked up when somebody asks: all gauges, from the
//! engine's [`Snapshot`] and from the system. [`ROWS`] names every metric; there is no other.

mod process;
mod samples;
mod table;

pub use table::{Kind, ROWS, Row};

use crate::watch::Views;
use prometheus_client::{
    encoding::text::{encode, encode_registry},
    metrics::{
        counter::Counter,
        family::Family,
        histogram::{Histogram, exponential_buckets},
        info::Info,
    },
    registry::{Metric, Registry},
};
use roomrobot_core::{
    call::Outcome,
    codes::Operation,
    engine::{Change, Snapshot, UNKNOWN, WriteError},
    robot::Robot,
};
use samples::Samples;
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

/// Upper ends of the times that a deletion takes: from under a second to more than a day.
const DELETION_BUCKETS: [f64; 14] =
    [0.5, 1.5, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 180.0, 300.0, 900.0, 3600.0, 14_400.0, 86_400.0];

/// The labels of a sample, as its row names them.
type Labels = Vec<(&'static str, String)>;

fn labels(row: &Row, values: &[&str]) -> Labels {
    debug_assert_eq!(row.labels.len(), values.len(), "{}", row.name);
    row.labels.iter().copied().zip(values.iter().map(|value| (*value).to_owned())).collect()
}

/// A histogram for each application.
type Times = Family<Labels, Histogram, fn() -> Histogram>;

/// What is counted as it happens. What is looked up when somebody asks is in [`Samples`].
#[derive(Clone, Debug)]
pub struct Metrics {
    calls: Family<Labels, Counter>,
    call_seconds: Times,
    writes: Family<Labels, Counter>,
    finished: Family<Labels, Counter>,
    deletion_seconds: Times,
    granted: Family<Labels, Counter>,
    views: Views,
    registry: Arc<Registry>,
    /// The length of the last text in bytes.
    length: Arc<AtomicUsize>,
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
            views: Views::default(),
            registry: Arc::default(),
            length: Arc::default(),
        };
        let mut registry = Registry::default();
        register(&mut registry, &table::CALLS, this.calls.clone());
        register(&mut registry, &table::CALL_SECONDS, this.call_seconds.clone());
        register(&mut registry, &table::DELETION_SECONDS, this.deletion_seconds.clone());
        register(&mut registry, &table::FINISHED, this.finished.clone());
        register(&mut registry, &table::GRANTED, this.granted.clone());
        register(&mut registry, &table::WRITES, this.writes.clone());
        register(&mut registry, &table::BUILD, Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]));
        this.registry = Arc::new(registry);
        this
    }
}

/// Registers `metric` under the name of `row`.
fn register(registry: &mut Registry, row: &Row, metric: impl Metric) {
    match row.unit() {
        Some(unit) => registry.register_with_unit(row.name, row.help, unit, metric),
        None => registry.register(row.name, row.help, metric),
    }
}

impl Metrics {
    /// Which views of the cluster are cut.
    #[must_use]
    pub fn views(&self) -> Views {
        self.views.clone()
    }

    /// Counts a call that starts.
    pub fn granted(&self, application: &str, operation: Operation) {
        self.granted.get_or_create(&labels(&table::GRANTED, &[application, operation.as_str()])).inc();
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
        let class = outcome.class(operation).as_str();
        let values = [application, operation.as_str(), &code, class];
        self.calls.get_or_create(&labels(&table::CALLS, &values)).inc();
        let labels = labels(&table::CALL_SECONDS, &[application]);
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
        self.writes.get_or_create(&labels(&table::WRITES, &[verb, resource, change, result])).inc();
    }

    /// Counts a robot whose finalizer was taken off at `wall` (Unix seconds).
    pub fn finished(&self, robot: &Robot, wall: i64) {
        // Only once it was accepted there certainly was such an application.
        let application = if robot.accepted() { &robot.application } else { UNKNOWN };
        if let Some(since) = robot.deleting_since {
            let took = u32::try_from(wall.saturating_sub(since)).unwrap_or_default();
            let labels = labels(&table::DELETION_SECONDS, &[application]);
            self.deletion_seconds.get_or_create(&labels).observe(f64::from(took));
        }
        self.finished.get_or_create(&labels(&table::FINISHED, &[application, robot.ended_as()])).inc();
    }

    /// The text of `/metrics` for the engine's state `now`.
    ///
    /// # Errors
    /// If the text cannot be made, which a fixed set of metrics should not do.
    pub fn text(&self, now: &Snapshot) -> Result<String, std::fmt::Error> {
        let last = self.length.load(Ordering::Relaxed);
        // A text that grows by doubling leaves as much behind as it has in the end.
        let mut text = String::with_capacity(last + last / 8);
        encode_registry(&mut text, &self.registry)?;
        let mut looked_up = Registry::default();
        looked_up.register_collector(Box::new(Samples::of(now, &self.views)));
        encode(&mut text, &looked_up)?;
        self.length.store(text.len(), Ordering::Relaxed);
        Ok(text)
    }
}

#[cfg(test)]
mod tests;
