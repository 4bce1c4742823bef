//! The engine's state at one moment, as gauges show it.

use super::{Engine, Now, counts::RobotCounts};
use crate::{
    application::Breaker,
    codes::{Operation, PerOperation},
    plan::Step,
    robot::Key,
    status::{Kind, Reason},
};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

/// The engine's state at one moment, for the gauges.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Whether this process acts.
    pub leading: bool,
    /// Times that a robot was looked at.
    pub reconciles: u64,
    /// Entries in each line.
    pub queues: [(&'static str, usize); 7],
    /// What is under way.
    pub in_flight: [(&'static str, usize); 2],
    /// One for each application that there is, and one named [`UNKNOWN`] where robots refer to others.
    pub applications: Vec<ApplicationSnapshot>,
}

/// Stands for every application that robots refer to and that there is not: a name that anybody may write is no label.
pub const UNKNOWN: &str = "(unknown)";

/// An application, and the robots that refer to its name.
#[derive(Clone, Debug)]
pub struct ApplicationSnapshot {
    /// The name.
    pub name: Arc<str>,
    /// RoomRobots that refer to it.
    pub robots: usize,
    /// Deletions that wait.
    pub pending: Vec<PendingSnapshot>,
    /// Seconds since the oldest of them was asked for.
    pub oldest: i64,
    /// Its part of the quota, for each command; empty where there is no such application.
    pub quotas: Vec<QuotaSnapshot>,
    /// Whether its calls go out.
    pub breaker: Option<Breaker>,
    /// The reason of its stored `Ready`, and whether that is True.
    pub ready: Option<(Reason, bool)>,
}

/// The deletions of one application that wait for the same reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PendingSnapshot {
    /// The reason of their condition; `None` is in line for its first call.
    pub reason: Option<Reason>,
    /// How many they are.
    pub robots: usize,
    /// Seconds since the first of them was told, without those that are in line for their next call.
    pub told: i64,
}

/// The quota of one SDKAppID and command, as one application sees it.
#[derive(Clone, Copy, Debug)]
pub struct QuotaSnapshot {
    /// The command.
    pub operation: Operation,
    /// Robots of this application in line for the call.
    pub waiting: usize,
    /// Calls a second that are allowed.
    pub limit: u32,
    /// Calls a second at the moment.
    pub pace: f64,
    /// Seconds until the line of the whole SDKAppID is empty; `None` while nothing may be called.
    pub eta: Option<f64>,
}

/// What one application's unfinished robots wait for.
#[derive(Default)]
struct Waiting {
    robots: usize,
    pending: Vec<PendingSnapshot>,
    oldest: i64,
    /// In line for each of [`Operation::ALL`].
    in_line: PerOperation<usize>,
}

/// What the applications of one SDKAppID share.
struct Shared {
    limit: u32,
    /// In line for each of [`Operation::ALL`].
    in_line: PerOperation<usize>,
}

impl Engine {
    /// The state that gauges show.
    #[must_use]
    pub fn snapshot(&self, now: Now) -> Snapshot {
        let unknown: Arc<str> = UNKNOWN.into();
        let mut walked: BTreeMap<&Arc<str>, Waiting> =
            self.applications.keys().map(|name| (name, Waiting::default())).collect();
        for (name, counts) in self.applications.all_counts() {
            let name = if self.applications.contains(name) { name } else { &unknown };
            self.walk(counts, walked.entry(name).or_default(), now);
        }
        let calls = walked.values().flat_map(|waiting| waiting.in_line).sum();
        let shared = self.shared(&walked);
        let applications = walked.iter().map(|(name, waiting)| {
            let state = self.applications.get(name);
            let ready = state.and_then(|state| {
                let conditions = &state.application.spec.conditions;
                conditions.reason(Kind::Ready).map(|reason| (reason, conditions.is_true(Kind::Ready)))
            });
            ApplicationSnapshot {
                name: Arc::clone(name),
                robots: waiting.robots,
                pending: waiting.pending.clone(),
                oldest: waiting.oldest,
                quotas: self.quotas(name, waiting, &shared, now),
                breaker: state.map(|state| state.application.breaker()),
                ready,
            }
        });
        let [records, ends, released, waiting, told, live] = self.writes.depths();
        Snapshot {
            leading: self.leadership.is_elected(),
            reconciles: self.reconciles,
            applications: applications.collect(),
            queues: [
                ("write_final", records + ends),
                ("write_released", released),
                ("write_waiting", waiting),
                ("write_told", told),
                ("write_live", live),
                ("call", calls),
                ("timer", self.robots.timers()),
            ],
            in_flight: [("call", self.calls.in_flight()), ("write", self.writes.under_way())],
        }
    }

    /// What would be done next for the robot of `key`, as far as it is known now.
    #[must_use]
    pub fn would_do(&self, key: &Key, now: Now) -> Option<Step> {
        self.step(self.robots.find(key)?, now.since_start)
    }

    /// Counts the unfinished robots of one name. A walk at each scrape, some hundred nanoseconds a robot, costs
    /// less than counters that every change of every robot would keep.
    fn walk(&self, counts: &RobotCounts, waiting: &mut Waiting, now: Now) {
        let wall = now.wall.as_second();
        waiting.robots += counts.robots;
        for entry in counts.unfinished.iter().filter_map(|id| self.robots.get(*id)) {
            let queued = usize::from(entry.in_line());
            let [deletions, additions] = &mut waiting.in_line;
            let Some(since) = entry.robot.deleting_since else {
                *additions += queued;
                continue;
            };
            *deletions += queued;
            waiting.oldest = waiting.oldest.max(wall - since);
            let conditions = &entry.robot.conditions;
            let reason = conditions.reason(Kind::RobotDeleted);
            let told = conditions.since(Kind::RobotDeleted).filter(|_| !entry.in_line());
            let told = told.map_or(0, |since| wall - since);
            match waiting.pending.iter_mut().find(|known| known.reason == reason) {
                Some(known) => {
                    known.robots += 1;
                    known.told = known.told.max(told);
                }
                None => waiting.pending.push(PendingSnapshot { reason, robots: 1, told }),
            }
        }
    }

    /// The quota of each SDKAppID: what all its applications share.
    fn shared(&self, walked: &BTreeMap<&Arc<str>, Waiting>) -> HashMap<u32, Shared> {
        let mut all: HashMap<u32, Shared> = HashMap::new();
        for (name, waiting) in walked {
            let Some(state) = self.applications.get(name) else { continue };
            let spec = &state.application.spec;
            let shared = all
                .entry(spec.sdk_app_id)
                .or_insert(Shared { limit: u32::MAX, in_line: PerOperation::default() });
            shared.limit = shared.limit.min(spec.requests_per_second);
            for (all, own) in shared.in_line.iter_mut().zip(waiting.in_line) {
                *all += own;
            }
        }
        all
    }

    fn quotas(
        &self,
        name: &Arc<str>,
        own: &Waiting,
        all: &HashMap<u32, Shared>,
        now: Now,
    ) -> Vec<QuotaSnapshot> {
        let Some(state) = self.applications.get(name) else { return Vec::new() };
        let sdk_app_id = state.application.spec.sdk_app_id;
        let Some(shared) = all.get(&sdk_app_id) else { return Vec::new() };
        let quota = |((operation, in_line), waiting)| {
            let calls = self.leadership.leads() && state.application.calls(operation);
            let pace = self.calls.limiter(sdk_app_id, operation);
            let pace = pace.map_or(f64::from(shared.limit), |pace| pace.rate_at(now.since_start));
            let in_line = u32::try_from(in_line).unwrap_or(u32::MAX);
            QuotaSnapshot {
                operation,
                waiting,
                limit: shared.limit,
                pace: if calls { pace } else { 0.0 },
                eta: calls.then(|| f64::from(in_line) / pace),
            }
        };
        Operation::ALL.into_iter().zip(shared.in_line).zip(own.in_line).map(quota).collect()
    }
}
