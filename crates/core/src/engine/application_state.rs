//! What is kept of each RtcApplication, and of the names that RoomRobots refer to.

use super::{
    application_status::{ApplicationStatus, Coarse},
    counts::RobotCounts,
    queue::CallLine,
    refusals::Telling,
    writes,
};
use crate::{
    application::{Application, Credentials},
    codes::PerOperation,
    index::Id,
};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

/// An application and what is under way for it.
#[derive(Debug)]
pub(super) struct ApplicationState {
    pub(super) application: Application,
    pub(super) deletions: CallLine,
    pub(super) additions: CallLine,
    /// A robot that is to probe though nobody is in line: it has to be foretold that a call may follow.
    pub(super) prober: Option<Id>,
    /// Who is to be told next that the room engine refuses, and why.
    pub(super) telling_robots: PerOperation<Option<Telling>>,
    /// When its last call went out.
    pub(super) called_at: Duration,
    pub(super) writes: ApplicationWrites,
    pub(super) status: ApplicationStatus,
    /// No robot has referred to it since then.
    pub(super) unused_since: Option<Duration>,
}

/// The one write to an application that may be under way, and what the last ones ended with.
#[derive(Debug, Default)]
pub(super) struct ApplicationWrites {
    pub(super) under_way: bool,
    /// What is being written is the finalizer.
    pub(super) of_finalizer: bool,
    /// The cluster refuses to put the finalizer on, or to take it off, with these words.
    pub(super) refused: Option<String>,
    /// The cluster refuses its status.
    pub(super) status_refused: bool,
    /// After writes of the finalizer that failed.
    pub(super) finalizer_retry: Retry,
    /// After writes of the status that failed.
    pub(super) status_retry: Retry,
}

impl ApplicationState {
    pub(super) fn new(application: Application, deletions: CallLine, additions: CallLine) -> Self {
        Self {
            application,
            deletions,
            additions,
            prober: None,
            telling_robots: PerOperation::default(),
            called_at: Duration::ZERO,
            writes: ApplicationWrites::default(),
            status: ApplicationStatus {
                coarse: Coarse { dirty: true, ..Coarse::default() },
                ..ApplicationStatus::default()
            },
            unused_since: None,
        }
    }

    /// With what words the cluster refuses its finalizer.
    pub(super) fn finalizer_refused(&self) -> Option<&str> {
        self.writes.refused.as_deref()
    }

    /// Its counts may have changed.
    pub(super) fn recount(&mut self) {
        self.status.coarse.dirty = true;
    }
}

/// The applications that are known, their Secrets, and the robots of each name, whether or not there is such an application.
#[derive(Debug, Default)]
pub(super) struct Applications {
    pub(super) states: BTreeMap<Arc<str>, ApplicationState>,
    pub(super) counts: HashMap<Arc<str>, RobotCounts>,
    pub(super) secrets: BTreeMap<Arc<str>, Credentials>,
}

impl Applications {
    pub(super) fn get(&self, name: &str) -> Option<&ApplicationState> {
        self.states.get(name)
    }

    pub(super) fn get_mut(&mut self, name: &str) -> Option<&mut ApplicationState> {
        self.states.get_mut(name)
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.states.contains_key(name)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &ApplicationState)> {
        self.states.iter()
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &ApplicationState> {
        self.states.values()
    }

    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut ApplicationState> {
        self.states.values_mut()
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &Arc<str>> {
        self.states.keys()
    }

    /// The robots of one name.
    pub(super) fn counts(&self, name: &str) -> Option<&RobotCounts> {
        self.counts.get(name)
    }

    pub(super) fn counts_mut(&mut self, name: &str) -> Option<&mut RobotCounts> {
        self.counts.get_mut(name)
    }

    pub(super) fn get_with_counts(
        &mut self,
        name: &str,
    ) -> (Option<&mut ApplicationState>, Option<&RobotCounts>) {
        (self.states.get_mut(name), self.counts.get(name))
    }

    pub(super) fn all_counts(&self) -> impl Iterator<Item = (&Arc<str>, &RobotCounts)> {
        self.counts.iter()
    }

    /// The same, which begins with the first robot of a name.
    pub(super) fn count_in(&mut self, name: &Arc<str>) -> &mut RobotCounts {
        self.counts.entry(Arc::clone(name)).or_default()
    }

    /// Nobody refers to this name any more.
    pub(super) fn forget_counts(&mut self, name: &str) {
        self.counts.remove(name);
    }
}

/// When a write that failed is tried again.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Retry {
    /// How often in a row it failed.
    pub(super) failed: u32,
    pub(super) not_before: Duration,
}

impl Retry {
    pub(super) fn is_due(&self, now: Duration) -> bool {
        now >= self.not_before
    }

    pub(super) fn fail(&mut self, now: Duration, jitter: f64) {
        self.failed = self.failed.saturating_add(1);
        self.not_before = now + writes::retry_delay(self.failed, jitter);
    }
}
