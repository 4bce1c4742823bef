//! What is read off processes and off the audit log.

use k8s_openapi::jiff::Timestamp;
use serde::Serialize;
use std::{collections::BTreeMap, fs, time::Duration};
use testbed::audit::Entry;

/// The user that the operator and the floor are to the API server.
pub const OPERATOR: &str = "system:serviceaccount:roomrobot-system:roomrobot-operator";

/// A number as a float; what is counted here is far below where that loses anything.
#[must_use]
pub fn float(n: usize) -> f64 {
    u32::try_from(n).map_or(f64::INFINITY, f64::from)
}

/// CPU time that the process has used, in user and kernel.
#[must_use]
pub fn cpu(pid: u32) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in brackets, may hold anything.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    let in_a_second = rustix::param::clock_ticks_per_second();
    Some(Duration::from_micros(ticks * 1_000_000 / in_a_second))
}

/// Resident memory of the process, and the most of it so far, in bytes.
#[must_use]
pub fn memory(pid: u32) -> Option<(u64, u64)> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let field = |name: &str| -> Option<u64> {
        let line = status.lines().find(|line| line.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib * 1024)
    };
    Some((field("VmRSS:")?, field("VmHWM:")?))
}

/// A middle and an end of some times, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Spread {
    /// Half of them are no longer.
    pub p50: f64,
    /// 99 of 100 are no longer.
    pub p99: f64,
    /// The longest.
    pub max: f64,
}

impl Spread {
    /// The spread of `times`; `None` where there are none.
    #[must_use]
    pub fn of(mut times: Vec<f64>) -> Option<Self> {
        times.sort_by(f64::total_cmp);
        let last = times.len().checked_sub(1)?;
        let at = |part: usize| times.get(last * part / 100).copied();
        Some(Self { p50: at(50)?, p99: at(99)?, max: at(100)? })
    }
}

/// What an audit log says of a stretch of time.
#[derive(Debug, Default)]
pub struct Audited {
    /// Writes to RoomRobots that were stored, by what they changed.
    pub robot_writes: BTreeMap<String, usize>,
    /// Other writes that were stored, by verb and resource.
    pub other_writes: BTreeMap<String, usize>,
    /// Writes of any kind that were refused, by verb, resource and HTTP status.
    pub refused: BTreeMap<String, usize>,
    /// When each deletion was over, in microseconds, ascending.
    pub ends: Vec<i64>,
    /// When the first and the last robot was taken in charge.
    pub accepted: Option<(i64, i64)>,
    /// From the request for a deletion to its end, in milliseconds, where the log has both.
    pub latencies: BTreeMap<(String, String), f64>,
}

impl Audited {
    /// Reads the log's entries.
    #[must_use]
    pub fn read(entries: &[Entry]) -> Self {
        let mut this = Self::default();
        let mut asked: BTreeMap<(String, String), Timestamp> = BTreeMap::new();
        for entry in entries {
            let object = &entry.object_ref;
            let robot = object.resource == "roomrobots";
            let key = || (object.namespace.clone(), object.name.clone());
            if robot && entry.verb == "delete" && entry.response_status.code < 300 {
                asked.entry(key()).or_insert(entry.request_received_timestamp.0);
            }
            if entry.user.username != OPERATOR
                || !matches!(entry.verb.as_str(), "create" | "update" | "patch" | "delete")
            {
                continue;
            }
            let subresource = if object.subresource.is_empty() { "" } else { "/" };
            let what = format!("{} {}{subresource}{}", entry.verb, object.resource, object.subresource);
            let status = entry.response_status.code;
            if status >= 300 {
                *this.refused.entry(format!("{what}: {status}")).or_default() += 1;
                continue;
            }
            if !robot {
                *this.other_writes.entry(what).or_default() += 1;
                continue;
            }
            let at = entry.stage_timestamp.0;
            let change = Change::of(entry);
            *this.robot_writes.entry(format!("{what} ({})", change.as_str())).or_default() += 1;
            match change {
                Change::DropFinalizer => {
                    this.ends.push(at.as_microsecond());
                    if let Some(asked) = asked.get(&key()) {
                        let took = at.duration_since(*asked).as_secs_f64() * 1e3;
                        this.latencies.insert(key(), took);
                    }
                }
                Change::Accept => {
                    let at = at.as_microsecond();
                    let (first, last) = this.accepted.unwrap_or((at, at));
                    this.accepted = Some((first.min(at), last.max(at)));
                }
                Change::AddFinalizer | Change::Status => {}
            }
        }
        this.ends.sort_unstable();
        this
    }

    /// Ends of deletions in a second, from the first end to the last.
    #[must_use]
    pub fn rate(&self) -> Option<f64> {
        let (first, last) = (*self.ends.first()?, *self.ends.last()?);
        rate(self.ends.len(), u64::try_from(last - first).ok()?)
    }
}

/// Events in a second, of which `count` are spread over `span` microseconds with one at either end.
#[must_use]
pub fn rate(count: usize, span: u64) -> Option<f64> {
    let seconds = Duration::from_micros(span).as_secs_f64();
    (count > 1 && seconds > 0.0).then(|| float(count - 1) / seconds)
}

/// What a write to a RoomRobot changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    AddFinalizer,
    DropFinalizer,
    /// A status without the record of a deletion.
    Accept,
    Status,
}

impl Change {
    fn of(entry: &Entry) -> Self {
        if entry.object_ref.subresource == "status" {
            let deleting =
                entry.written_conditions().iter().any(|condition| condition["type"] == "RobotDeleted");
            return if deleting { Self::Status } else { Self::Accept };
        }
        let operations = entry.request_object.as_array();
        let removes = operations.is_some_and(|list| list.iter().any(|operation| operation["op"] == "remove"));
        if removes { Self::DropFinalizer } else { Self::AddFinalizer }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::AddFinalizer => "finalizer on",
            Self::DropFinalizer => "finalizer off",
            Self::Accept => "acceptance",
            Self::Status => "record",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spread_is_read_off_the_sorted_times() {
        assert_eq!(Spread::of(Vec::new()), None);
        let times = (1..=101).rev().map(f64::from).collect();
        assert_eq!(Spread::of(times), Some(Spread { p50: 51.0, p99: 100.0, max: 101.0 }));
        assert_eq!(Spread::of(vec![7.0]), Some(Spread { p50: 7.0, p99: 7.0, max: 7.0 }));
    }

    #[test]
    fn a_rate_counts_the_gaps() {
        assert_eq!(rate(3, 1_000_000), Some(2.0));
        assert_eq!(rate(1, 1_000_000), None);
    }

    #[test]
    fn this_process_has_used_some_memory() {
        let (now, most) = memory(std::process::id()).unwrap();
        assert!(now > 100_000 && most >= now);
        assert!(cpu(std::process::id()).is_some());
    }
}
