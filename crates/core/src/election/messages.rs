//! What goes in and out of the election: requests for the Lease, their answers, and what follows.

use super::DURATION;
use crate::engine::Before;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
    jiff::{SignedDuration, Timestamp},
};
use serde_json::{Value, json};
use std::time::Duration;

/// A stored Lease.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Its `resourceVersion`: where it is the same, nobody has renewed.
    pub version: String,
    /// Who holds it; `None` where nobody does.
    pub holder: Option<String>,
    /// How long it lasts after it was renewed.
    pub lasts: Duration,
    /// When its holder says that it was renewed, by a clock that proves nothing.
    pub renewed: Option<Timestamp>,
    /// How often it went from one holder to another.
    pub transitions: i32,
}

impl From<Lease> for Record {
    fn from(lease: Lease) -> Self {
        let spec = lease.spec.unwrap_or_default();
        let lasts = spec.lease_duration_seconds.filter(|seconds| *seconds > 0);
        let lasts = lasts.and_then(|seconds| u64::try_from(seconds).ok());
        Self {
            version: lease.metadata.resource_version.unwrap_or_default(),
            holder: spec.holder_identity.filter(|holder| !holder.is_empty()),
            lasts: lasts.map_or(DURATION, Duration::from_secs),
            renewed: spec.renew_time.map(|time| time.0),
            transitions: spec.lease_transitions.unwrap_or_default(),
        }
    }
}

/// Tells the answer to one request from those to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket(pub(super) u64);

/// What the API server is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// The stored Lease.
    Read,
    /// A new Lease.
    Create {
        /// Its holder.
        holder: String,
    },
    /// The Lease of nobody, or of one that is gone.
    Claim {
        /// What is stored.
        record: Record,
        /// Its next holder.
        holder: String,
    },
    /// The Lease for longer.
    Renew {
        /// What is stored.
        record: Record,
    },
    /// The Lease for whoever wants it.
    Release {
        /// What is stored.
        record: Record,
    },
}

impl Request {
    /// Whether it changes what is stored.
    #[must_use]
    pub const fn writes(&self) -> bool {
        !matches!(self, Self::Read)
    }

    /// The spec of a new Lease.
    #[must_use]
    pub fn created(holder: &str, now: Timestamp) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(holder.to_owned()),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            acquire_time: Some(MicroTime(now)),
            renew_time: Some(MicroTime(now)),
            lease_transitions: Some(0),
            ..LeaseSpec::default()
        }
    }

    /// The merge patch that does it, and is refused where another version is stored; `None` where none does. Other fields,
    /// labels and annotations stay.
    #[must_use]
    pub fn patch(&self, now: Timestamp) -> Option<Value> {
        let (record, spec) = match self {
            Self::Read | Self::Create { .. } => return None,
            Self::Claim { record, holder } => {
                let renewed = renewed(record, now);
                let transitions = record.transitions.saturating_add(1);
                let spec = json!({
                    "holderIdentity": holder,
                    "leaseDurationSeconds": DURATION.as_secs(),
                    "acquireTime": renewed,
                    "renewTime": renewed,
                    "leaseTransitions": transitions,
                });
                (record, spec)
            }
            Self::Renew { record } => {
                let spec =
                    json!({"leaseDurationSeconds": DURATION.as_secs(), "renewTime": renewed(record, now)});
                (record, spec)
            }
            // Version 0.1.0 takes at once what has none of these.
            Self::Release { record } => {
                let spec = json!({
                    "holderIdentity": null,
                    "leaseDurationSeconds": null,
                    "acquireTime": null,
                    "renewTime": null,
                });
                (record, spec)
            }
        };
        Some(json!({"metadata": {"resourceVersion": record.version}, "spec": spec}))
    }
}

/// Another time than the stored one, also where the machine's clock stands still or was put back: what changes nothing is
/// not stored, and nobody would see it.
fn renewed(record: &Record, now: Timestamp) -> MicroTime {
    let same = record.renewed.is_some_and(|last| last.as_microsecond() == now.as_microsecond());
    let next = now.checked_add(SignedDuration::from_micros(1));
    MicroTime(if same { next.unwrap_or(now) } else { now })
}

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// This is stored now; `None` where there is no Lease.
    Stored(Option<Record>),
    /// Nothing was written: another version is stored, or none.
    Conflict,
    /// It was refused, or there was no answer: what it should write may have been written.
    Failed,
}

/// What a watch shows of the Lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shown {
    /// It is stored at this version.
    Version(String),
    /// It was deleted.
    Deleted,
}

/// What the election is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Nothing but the time.
    Tick,
    /// The watch shows this; it may be late.
    Changed(Shown),
    /// A request has ended.
    Answered(Ticket, Answer),
    /// This replica is about to end.
    Resign,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// This is to be sent. The one before is not waited for any more.
    Send(Ticket, Request),
    /// The request under way was not answered in time.
    Unanswered,
    /// This replica leads.
    Lead {
        /// Until then.
        until: Duration,
        /// Who led before.
        before: Before,
        /// How often it has lost the Lease.
        term: u32,
    },
    /// It leads no more.
    Lose,
    /// The election is over for it.
    End(End),
}

/// How the election ends for a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The Lease is free.
    Released,
    /// The Lease may still be its own, and ends by itself.
    Unreleased,
    /// The Lease was not its own.
    NotHeld,
}
