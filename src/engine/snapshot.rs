//! The engine's state at one moment, as gauges show it.

use super::{Engine, Now};
use crate::status::{Kind, Reason};
use std::{collections::HashMap, sync::Arc};

/// The engine's state at one moment, for the gauges.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Whether this process acts.
    pub leading: bool,
    /// One for each application name that robots refer to.
    pub applications: Vec<ApplicationSnapshot>,
}

/// The robots of one application name.
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
}

impl Engine {
    /// The state that gauges show.
    #[must_use]
    pub fn snapshot(&self, now: Now) -> Snapshot {
        let applications = self.tallies.iter().map(|(name, tally)| {
            let mut pending: HashMap<Option<Reason>, usize> = HashMap::new();
            let mut oldest = 0;
            for entry in tally.unfinished.iter().filter_map(|id| self.index.get(*id)) {
                let Some(since) = entry.robot.deleting_since else {
                    continue;
                };
                *pending.entry(entry.robot.conditions.reason(Kind::RobotDeleted)).or_default() += 1;
                oldest = oldest.max(now.wall.as_second() - since);
            }
            let pending = pending.into_iter().collect();
            ApplicationSnapshot { name: Arc::clone(name), robots: tally.robots, pending, oldest }
        });
        Snapshot { leading: self.leading, applications: applications.collect() }
    }
}
