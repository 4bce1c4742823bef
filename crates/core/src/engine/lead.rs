//! Whether this process may act, from when it may call, and what it makes of the one that acted before.

use super::{Before, Effect, Engine, Now};
use crate::{
    index::State,
    plan::Attempt,
    robot::Robot,
    status::{Kind, Reason},
};
use std::{sync::Arc, time::Duration};

/// What no two processes call in: what they send together then keeps the quota.
pub const LAST_SECOND: Duration = Duration::from_secs(1);

/// How long a process that takes an expired Lease listens for records of the one that had it before its own first call.
/// That one has at most as many answers without a record as it calls in a second, and writes them down as soon as the
/// API server is there again.
const SILENCE: Duration = Duration::from_secs(2);

/// How long it goes on listening after each such record.
const PAUSE: Duration = Duration::from_secs(1);

/// It listens no longer than this in all.
const HEED: Duration = Duration::from_secs(10);

/// Whether a process that is `leading`, or has been, writes down `attempt`. One that may not act any more does so with a
/// final answer only: whatever else it knows, the one that acts may know better.
pub(super) const fn records(leading: bool, attempt: &Attempt) -> bool {
    leading || attempt.class.is_final()
}

impl Engine {
    /// Whether nothing new is begun: this process is about to end, or another may act.
    pub(super) const fn only_records(&self) -> bool {
        self.stopping || !self.leading
    }

    /// This process may act. Its view may be older than that: the process before it may have seen, and done, what this one
    /// has not seen yet. So it begins with lists of its own.
    pub(super) fn elect(&mut self, before: Before, now: Now) {
        if self.elected {
            return;
        }
        self.elected = true;
        self.round += 1;
        self.acting_since = now.since_start;
        self.effects.push(Effect::ListAgain(self.round));
        (self.first_call, self.heeding) = match before {
            Before::Finished => (now.since_start, now.since_start),
            Before::Unknown => (now.since_start + LAST_SECOND, now.since_start),
            Before::Vanished => (now.since_start + SILENCE, now.since_start + HEED),
        };
    }

    /// This process begins to act.
    pub(super) fn begin(&mut self, now: Now) {
        self.leading = true;
        self.seats.values_mut().for_each(|seat| seat.application.take_over());
        if self.active {
            self.lead_again(now);
        } else {
            self.active = true;
            // What an application holds was counted when its robots were seen; it may have changed since.
            for id in self.ids_where(|_| true) {
                self.recount(id, now);
            }
            self.touch_everything(now);
        }
    }

    /// Another process may have acted meanwhile: what this one learnt before counts no more than if it had just started,
    /// but for calls that are still under way and for final answers.
    fn lead_again(&mut self, now: Now) {
        for id in self.ids_where(|_| true) {
            let Some(entry) = self.index.get_mut(id) else { continue };
            (entry.blocked_until, entry.failed_writes) = (Duration::ZERO, 0);
            (entry.refused, entry.status_refused) = (None, false);
            let memory = &entry.memory;
            let kept =
                memory.final_answer().or(memory.unrecorded()).is_some_and(|last| last.class.is_final());
            if entry.state != State::Calling && !kept {
                entry.memory.forget();
            }
            self.recount(id, now);
        }
        let names: Vec<_> = self.seats.keys().cloned().collect();
        for name in names {
            self.application_afresh(&name);
        }
        self.touch_everything(now);
    }

    /// Puts the first call off where `robot` shows that the process before this one still records its answers.
    pub(super) fn heed(&mut self, robot: &Robot, now: Now) {
        self.seen_of(&robot.key.namespace, now);
        if now.since_start >= self.heeding {
            return;
        }
        let told = |robot: &Robot| {
            robot.conditions.is_true(Kind::RobotDeleted)
                || robot.conditions.reason(Kind::Ready) == Some(Reason::Added)
        };
        let known = self.index.find(&robot.key).and_then(|id| self.index.get(id));
        if known.is_some_and(|known| known.state != State::Writing && !told(&known.robot) && told(robot)) {
            self.put_off(now);
        }
    }

    /// The watch has told something of this namespace.
    pub(super) fn seen_of(&mut self, namespace: &Arc<str>, now: Now) {
        if !self.cut.is_empty() && (self.cut.remove(&None) | self.cut.remove(&Some(Arc::clone(namespace)))) {
            self.put_off(now);
        }
    }

    /// More may be on its way.
    fn put_off(&mut self, now: Now) {
        self.first_call = self.first_call.max((now.since_start + PAUSE).min(self.heeding));
    }

    /// No call before this time.
    pub(super) fn no_call_before(&self) -> Duration {
        // Without the watch nobody sees what the one before records.
        if self.cut.is_empty() { self.first_call } else { self.first_call.max(self.heeding) }
    }
}
