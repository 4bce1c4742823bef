//! The engine's state at one moment, as gauges show it.

use super::{Engine, Now, Tally};
use crate::{
    application::Breaker,
    codes::Operation,
    index::State,
    status::{Kind, Reason},
};
use std::{
    collections::{BTreeSet, HashMap},
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
    pub queues: [(&'static str, usize); 5],
    /// What is under way.
    pub in_flight: [(&'static str, usize); 2],
    /// One for each application that there is or that robots refer to.
    pub applications: Vec<ApplicationSnapshot>,
}

/// An application, and the robots that refer to its name.
#[derive(Clone, Debug)]
pub struct ApplicationSnapshot {
    /// The name.
    pub name: Arc<str>,
    /// RoomRobots that refer to it.
    pub robots: usize,
    /// Deletions that wait, by the reason of their condition; `None` is in line for its first call.
    pub pending: Vec<(Option<Reason>, usize)>,
    /// Seconds since the oldest of them was asked for.
    pub oldest: i64,
    /// Its part of the quota, for each command; empty where there is no such application.
    pub quotas: Vec<QuotaSnapshot>,
    /// Whether its calls go out.
    pub breaker: Option<Breaker>,
    /// The reason of its stored `Ready`, and whether that is True.
    pub ready: Option<(Reason, bool)>,
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
    pending: Vec<(Option<Reason>, usize)>,
    oldest: i64,
    /// In line for each of [`OPERATIONS`].
    in_line: [usize; 2],
}

/// What the applications of one SDKAppID share.
struct Shared {
    limit: u32,
    /// In line for each of [`OPERATIONS`].
    in_line: [usize; 2],
}

/// The commands, in the order of the lines.
const OPERATIONS: [Operation; 2] = [Operation::DeleteRobot, Operation::AddRobot];

impl Engine {
    /// The state that gauges show.
    #[must_use]
    pub fn snapshot(&self, now: Now) -> Snapshot {
        let names: BTreeSet<&Arc<str>> = self.tallies.keys().chain(self.seats.keys()).collect();
        let walked: Vec<(&Arc<str>, Waiting)> = names
            .into_iter()
            .map(|name| (name, self.tallies.get(name).map(|tally| self.walk(tally, now)).unwrap_or_default()))
            .collect();
        let calls = walked.iter().flat_map(|(_, waiting)| waiting.in_line).sum();
        let shared = self.shared(&walked);
        let applications = walked.iter().map(|(name, waiting)| {
            let seat = self.seats.get(*name);
            let ready = seat.and_then(|seat| {
                let conditions = &seat.application.spec.conditions;
                conditions.reason(Kind::Ready).map(|reason| (reason, conditions.is_true(Kind::Ready)))
            });
            ApplicationSnapshot {
                name: Arc::clone(name),
                robots: self.tallies.get(*name).map_or(0, |tally| tally.robots),
                pending: waiting.pending.clone(),
                oldest: waiting.oldest,
                quotas: self.quotas(name, waiting, &shared, now),
                breaker: seat.map(|seat| seat.application.breaker()),
                ready,
            }
        });
        let [last, waiting, told, live] = self.lines.depths();
        Snapshot {
            leading: self.leading,
            reconciles: self.reconciles,
            applications: applications.collect(),
            queues: [
                ("write_final", last),
                ("write_waiting", waiting),
                ("write_live", told + live),
                ("call", calls),
                ("timer", self.timers.len()),
            ],
            in_flight: [("call", self.calls_in_flight), ("write", self.writes_in_flight)],
        }
    }

    /// Counts the unfinished robots of one application. A walk at each scrape, some hundred nanoseconds a robot, costs
    /// less than counters that every change of every robot would keep.
    fn walk(&self, tally: &Tally, now: Now) -> Waiting {
        let mut waiting = Waiting::default();
        for entry in tally.unfinished.iter().filter_map(|id| self.index.get(*id)) {
            let queued = usize::from(matches!(entry.state, State::CallQueued(_)));
            let [deletions, additions] = &mut waiting.in_line;
            let Some(since) = entry.robot.deleting_since else {
                *additions += queued;
                continue;
            };
            *deletions += queued;
            waiting.oldest = waiting.oldest.max(now.wall.as_second() - since);
            let reason = entry.robot.conditions.reason(Kind::RobotDeleted);
            match waiting.pending.iter_mut().find(|(known, _)| *known == reason) {
                Some((_, robots)) => *robots += 1,
                None => waiting.pending.push((reason, 1)),
            }
        }
        waiting
    }

    /// The quota of each SDKAppID: what all its applications share.
    fn shared(&self, walked: &[(&Arc<str>, Waiting)]) -> HashMap<u32, Shared> {
        let mut all: HashMap<u32, Shared> = HashMap::new();
        for (name, waiting) in walked {
            let Some(seat) = self.seats.get(*name) else { continue };
            let spec = &seat.application.spec;
            let shared = all.entry(spec.sdk_app_id).or_insert(Shared { limit: u32::MAX, in_line: [0; 2] });
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
        let Some(seat) = self.seats.get(name) else { return Vec::new() };
        let sdk_app_id = seat.application.spec.sdk_app_id;
        let Some(shared) = all.get(&sdk_app_id) else { return Vec::new() };
        let calls = self.leading && matches!(seat.application.breaker(), Breaker::Closed | Breaker::Trial);
        let quota = |((operation, in_line), waiting)| {
            let pace = self.paces.get(&(sdk_app_id, operation));
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
        OPERATIONS.into_iter().zip(shared.in_line).zip(own.in_line).map(quota).collect()
    }
}
