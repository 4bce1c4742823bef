//! What the status of an RtcApplication says: its condition, and counts that may be some seconds old.

use super::{Change, Engine, Now, application_state::ApplicationState, patches};
use crate::{
    application::Told,
    crd::APPLICATION_FINALIZER,
    index::Entry,
    status::{Is, Kind, Wanted},
    write_trouble::Part,
};
use serde_json::json;
use std::{fmt::Write as _, sync::Arc, time::Duration};

/// Between two writes that only tell new counts.
const COARSE: Duration = Duration::from_secs(30);

/// A deletion that waits for longer than this since that was told is told on its application, too; in seconds.
const LONG: i64 = 300;

/// What is told of an application's robots at most every 30 s.
#[derive(Clone, Debug, Default)]
pub(super) struct Coarse {
    /// Something may have changed since it was taken.
    pub(super) dirty: bool,
    /// Not taken again before this time.
    pub(super) next: Duration,
    pub(super) robots: usize,
    pub(super) deleting: usize,
    pub(super) stalled: Option<String>,
    pub(super) held_by: Option<String>,
}

impl Coarse {
    /// The counts as they stand in the status.
    pub(super) fn counts(&self) -> (Option<i64>, Option<i64>) {
        (i64::try_from(self.robots).ok(), i64::try_from(self.deleting).ok())
    }
}

/// What the status of an application says, and is to say.
#[derive(Debug, Default)]
pub(super) struct ApplicationStatus {
    pub(super) coarse: Coarse,
    /// The conditions that were written last.
    pub(super) recorded: Vec<Wanted>,
    /// What is stored is not what was written last.
    pub(super) overwritten: bool,
}

impl Engine {
    /// Whether the status is this operator's to write: of several shards that use an application, the one whose finalizer
    /// stands first tells about it. What each of them counts differs, and they would write for ever. Where none holds it,
    /// each of them may tell that a complaint is over.
    pub(super) fn tells_about(&self, state: &ApplicationState) -> bool {
        let spec = &state.application.spec;
        let first = spec.finalizer_names.iter().position(|name| name.starts_with(APPLICATION_FINALIZER));
        let used = self.applications.counts(&spec.name).is_some();
        let complains = spec.conditions.is(Kind::Ready) == Some(Is::False);
        let unheld = used || complains || self.settings.shard.is_none();
        let ours = first.map_or(unheld, |first| spec.finalizers.ours == Some(first));
        state.application.known() && ours
    }

    /// The status to write, if it is not stored already.
    pub(super) fn application_status(&mut self, name: &Arc<str>, now: Now) -> Option<(Change, Vec<Wanted>)> {
        let state = self.applications.get(name)?;
        if !self.tells_about(state) {
            return None;
        }
        let fresh = (now.since_start >= state.status.coarse.next).then(|| self.count(name, now));
        let counted = fresh.is_some();
        let waits = self.applications.counts(name).is_some_and(|counts| counts.deleting > 0);
        let state = self.applications.get_mut(name)?;
        if let Some(fresh) = fresh {
            state.status.coarse = fresh;
        }
        if !waits {
            // That nothing waits any more is told at once.
            state.status.coarse.stalled = None;
        }
        let coarse = &state.status.coarse;
        let wanted = state.application.wanted(&Told {
            stalled: coarse.stalled.as_deref(),
            held_by: coarse.held_by.as_deref(),
            refused: state.write_trouble.refused(Part::Finalizer),
        });
        let spec = &state.application.spec;
        let (robots, deleting) = coarse.counts();
        let counts_differ = spec.counts != (robots, deleting);
        let conditions_differ = !spec.conditions.say(&wanted, spec.generation);
        // What another writer says is not answered before the next count, so that two cannot talk without end; what is
        // new here is told at once.
        let at_once = conditions_differ && wanted != state.status.recorded;
        if !at_once && !(counted && (counts_differ || conditions_differ)) {
            return None;
        }
        let fields = [("robots", json!(robots)), ("deleting", json!(deleting))];
        let patch = spec.conditions.patch(&wanted, spec.generation, fields, now.wall);
        Some((Change::Status(patches::of_version(spec.resource_version, patch)), wanted))
    }

    /// Counts the application's robots, and finds those that wait for a person or for long.
    pub(super) fn count(&self, name: &Arc<str>, now: Now) -> Coarse {
        let mut coarse = Coarse { next: now.since_start + COARSE, ..Coarse::default() };
        let Some(counts) = self.applications.counts(name) else {
            return coarse;
        };
        coarse.robots = counts.robots;
        coarse.deleting = counts.deleting;
        let wall = now.wall.as_second();
        let stalled = counts.unfinished.iter().filter_map(|id| self.robots.get(*id)).filter_map(|entry| {
            entry.robot.deleting_since?;
            let conditions = &entry.robot.conditions;
            let (reason, told) =
                conditions.reason(Kind::RobotDeleted).zip(conditions.since(Kind::RobotDeleted))?;
            // In a long drain there is always somebody who has met with something that passes, and is in line again.
            let waits = conditions.is_true(Kind::Stalled) || (wall - told > LONG && !entry.in_line());
            waits.then_some((entry, reason))
        });
        // The same one for every process, so that the next one has nothing new to say.
        let stalled: Vec<_> = stalled.collect();
        if let Some((entry, reason)) = stalled.iter().min_by_key(|(entry, _)| &entry.robot.key) {
            let more = stalled.len() - 1;
            let mut text = format!("The deletion of RoomRobot {} waits ({reason})", entry.robot.key);
            if more != 0 {
                let _ = write!(text, ", and {more} more");
            }
            text.push_str("; see its RobotDeleted condition");
            coarse.stalled = Some(text);
        }
        if self.applications.get(name).is_some_and(|state| state.application.spec.deleting) {
            let holds = |entry: &Entry| entry.robot.application == *name && entry.counted.holding;
            let held_by = self.robots.iter().map(|(_, entry)| entry).filter(|entry| holds(entry));
            let one = held_by.min_by_key(|entry| &entry.robot.key);
            coarse.held_by = one.map(|entry| match counts.holding {
                1 => format!("RoomRobot {}", entry.robot.key),
                robots => format!("{robots} RoomRobots, one of them {}", entry.robot.key),
            });
        }
        coarse
    }
}
