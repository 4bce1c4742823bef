//! What is looked up when somebody asks: samples of gauges, from a snapshot of the engine and from the system.

use super::{
    Labels, labels, process,
    table::{self, Kind, Row},
};
use crate::watch::Views;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _, MetricEncoder},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};
use roomrobot_core::{
    application::Breaker,
    engine::{ApplicationSnapshot, Snapshot},
    status::Reason,
};
use std::fmt::Error;

/// The value of a sample; whole numbers are printed as such.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value {
    Whole(i64),
    Float(f64),
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Self::Float(number)
    }
}

/// All samples, those of one row together.
#[derive(Debug, Default)]
pub(super) struct Samples(Vec<(&'static Row, Labels, Value)>);

impl Samples {
    pub(super) fn of(now: &Snapshot, views: &Views) -> Self {
        let mut samples = Self::default();
        samples.count(&table::LEADER, &[], usize::from(now.leading));
        samples.whole(&table::RECONCILES, &[], i64::try_from(now.reconciles).unwrap_or(i64::MAX));
        for (queue, depth) in now.queues {
            samples.count(&table::QUEUE, &[queue], depth);
        }
        for (what, under_way) in now.in_flight {
            samples.count(&table::IN_FLIGHT, &[what], under_way);
        }
        for application in &now.applications {
            samples.of_application(application);
        }
        for (resource, age) in views.cut_for() {
            samples.add(&table::VIEW_CUT, &[resource], age.as_secs_f64());
        }
        process::look(&mut samples);
        samples.0.sort_by_key(|(row, ..)| row.name);
        samples
    }

    fn of_application(&mut self, now: &ApplicationSnapshot) {
        let name = &*now.name;
        self.count(&table::ROBOTS, &[name], now.robots);
        self.whole(&table::OLDEST, &[name], now.oldest);
        for pending in &now.pending {
            let reason = pending.reason.map_or("Queued", Reason::as_str);
            self.count(&table::PENDING, &[name, reason], pending.robots);
            if pending.reason.is_some() {
                self.whole(&table::TOLD, &[name, reason], pending.told);
            }
        }
        for quota in &now.quotas {
            let of = [name, quota.operation.as_str()];
            self.count(&table::WAITING, &of, quota.waiting);
            self.whole(&table::LIMIT, &of, quota.limit.into());
            self.add(&table::PACE, &of, quota.pace);
            if let Some(eta) = quota.eta {
                self.add(&table::ETA, &of, eta);
            }
        }
        if let Some(breaker) = now.breaker {
            for state in Breaker::ALL {
                self.count(&table::BREAKER, &[name, state.as_str()], usize::from(state == breaker));
            }
        }
        if let Some((reason, ready)) = now.ready {
            self.count(&table::READY, &[name, reason.as_str()], usize::from(ready));
        }
    }

    pub(super) fn add(&mut self, row: &'static Row, of: &[&str], value: impl Into<Value>) {
        self.0.push((row, labels(row, of), value.into()));
    }

    fn whole(&mut self, row: &'static Row, of: &[&str], value: i64) {
        self.add(row, of, Value::Whole(value));
    }

    fn count(&mut self, row: &'static Row, of: &[&str], count: usize) {
        self.whole(row, of, i64::try_from(count).unwrap_or(i64::MAX));
    }
}

impl Collector for Samples {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        for samples in self.0.chunk_by(|(one, ..), (other, ..)| one.name == other.name) {
            let Some((row, ..)) = samples.first() else { continue };
            let (help, unit) = (format!("{}.", row.help), row.unit());
            let kind = if row.kind == Kind::Counter { MetricType::Counter } else { MetricType::Gauge };
            let mut metric = encoder.encode_descriptor(row.name, &help, unit.as_ref(), kind)?;
            match samples {
                // With a set of no labels it would be printed with empty brackets.
                [(_, none, value)] if none.is_empty() => encode(row.kind, *value, metric)?,
                samples => {
                    for (_, labels, value) in samples {
                        encode(row.kind, *value, metric.encode_family(labels)?)?;
                    }
                }
            }
        }
        Ok(())
    }
}

fn encode(kind: Kind, value: Value, encoder: MetricEncoder<'_>) -> Result<(), Error> {
    match (kind, value) {
        (Kind::Counter, Value::Whole(n)) => ConstCounter::new(n.unsigned_abs()).encode(encoder),
        (Kind::Counter, Value::Float(n)) => ConstCounter::new(n).encode(encoder),
        (_, Value::Whole(n)) => ConstGauge::new(n).encode(encoder),
        (_, Value::Float(n)) => ConstGauge::new(n).encode(encoder),
    }
}
