//! What is kept of each RtcApplication, and of the names that RoomRobots refer to.

use super::{
    application_status::{ApplicationStatus, Coarse},
    counts::RobotCounts,
    queue::CallLine,
    refusals::Telling,
};
use crate::{
    application::{Application, Credentials},
    codes::PerOperation,
    index::Id,
    write_trouble::WriteTrouble,
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
    pub(super) write_trouble: WriteTrouble,
    pub(super) status: ApplicationStatus,
    /// No robot has referred to it since then.
    pub(super) unused_since: Option<Duration>,
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
            write_trouble: WriteTrouble::default(),
            status: ApplicationStatus {
                coarse: Coarse { dirty: true, ..Coarse::default() },
                ..ApplicationStatus::default()
            },
            unused_since: None,
        }
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

    /// The application of this name, if it is the one that has this UID.
    pub(super) fn get_of(&mut self, name: &str, uid: &str) -> Option<&mut ApplicationState> {
        self.states.get_mut(name).filter(|state| *state.application.spec.uid == *uid)
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
