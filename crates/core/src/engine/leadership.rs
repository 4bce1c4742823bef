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
pub const HANDOVER_GAP: Duration = Duration::from_secs(1);

/// How long a process that takes an expired Lease listens for records of the one that had it before its own first call.
/// That one has at most as many answers without a record as it calls in a second, and writes them down as soon as the
/// API server is there again.
const TAKEOVER_WAIT: Duration = Duration::from_secs(2);

/// How long it goes on listening after each such record.
const RECORD_GAP: Duration = Duration::from_secs(1);

/// It listens no longer than this in all.
const LONGEST_TAKEOVER_WAIT: Duration = Duration::from_secs(10);

/// Whether a process that is `leading`, or has been, writes down `attempt`. One that may not act any more does so with a
/// final answer only: whatever else it knows, the one that acts may know better.
pub(super) const fn records(leading: bool, attempt: &Attempt) -> bool {
    leading || attempt.class.is_final()
}

/// Whether this process may act, and from when it may call.
#[derive(Debug, Default)]
pub(super) struct Leadership {
    /// Counts how often this process was elected. Lists of an earlier round may be older than its right to act.
    round: u32,
    /// It has the Lease, or there is no election.
    elected: bool,
    /// It is elected, and its view is as new as that.
    leading: bool,
    /// It leads, or has led, and knows everything.
    active: bool,
    /// When it was elected.
    since: Duration,
    /// No call before this time: what a process before this one sent may still count in the quota, and what that was
    /// answered may still be on its way to be recorded.
    first_call: Duration,
    /// Until then each answer that another process records puts off the first call.
    takeover_deadline: Duration,
    stopping: bool,
}

impl Leadership {
    /// Whether this process is the one that acts, or is about to.
    pub(super) const fn is_elected(&self) -> bool {
        self.elected
    }

    /// Whether this process acts.
    pub(super) const fn leads(&self) -> bool {
        self.leading
    }

    /// Whether it acts, or has, and knows everything: it finishes and records what it began.
    pub(super) const fn is_active(&self) -> bool {
        self.active
    }

    pub(super) const fn is_stopping(&self) -> bool {
        self.stopping
    }

    /// Whether nothing new is begun: this process is about to end, or another may act.
    pub(super) const fn only_records(&self) -> bool {
        self.stopping || !self.leading
    }

    pub(super) const fn round(&self) -> u32 {
        self.round
    }

    /// When it was elected.
    pub(super) const fn since(&self) -> Duration {
        self.since
    }

    /// It may act. Returns the round of the lists that it has to see before, unless it could act already.
    fn elect(&mut self, before: Before, now: Duration) -> Option<u32> {
        if self.elected {
            return None;
        }
        self.elected = true;
        self.round += 1;
        self.since = now;
        (self.first_call, self.takeover_deadline) = match before {
            Before::Finished => (now, now),
            Before::Unknown => (now + HANDOVER_GAP, now),
            Before::Vanished => (now + TAKEOVER_WAIT, now + LONGEST_TAKEOVER_WAIT),
        };
        Some(self.round)
    }

    /// It acts from now on. Returns whether it has done so before.
    fn begin(&mut self) -> bool {
        self.leading = true;
        std::mem::replace(&mut self.active, true)
    }

    /// Another process may act.
    pub(super) fn lose(&mut self) {
        (self.elected, self.leading) = (false, false);
    }

    /// This process is about to end.
    pub(super) fn stop(&mut self) {
        self.stopping = true;
    }

    /// More records of the process before may be on their way.
    fn put_off_first_call(&mut self, now: Duration) {
        self.first_call = self.first_call.max((now + RECORD_GAP).min(self.takeover_deadline));
    }

    /// No call before this time; `blind` without the watch, where nobody sees what the process before records.
    fn no_call_before(&self, blind: bool) -> Duration {
        if blind { self.first_call.max(self.takeover_deadline) } else { self.first_call }
    }
}

impl Engine {
    /// This process may act. Its view may be older than that: the process before it may have seen, and done, what this one
    /// has not seen yet. So it begins with lists of its own.
    pub(super) fn elect(&mut self, before: Before, now: Now) {
        if let Some(round) = self.leadership.elect(before, now.since_start) {
            self.effects.push(Effect::ListAgain(round));
        }
    }

    /// This process begins to act.
    pub(super) fn begin(&mut self, now: Now) {
        self.applications.values_mut().for_each(|state| state.application.take_over());
        if self.leadership.begin() {
            self.on_reelected(now);
        } else {
            // What an application holds was counted when its robots were seen; it may have changed since.
            for id in self.ids_where(|_| true) {
                self.recount(id, now);
            }
            self.reconcile_everything(now);
        }
    }

    /// Another process may have acted meanwhile: what this one learnt before counts no more than if it had just started,
    /// but for calls that are still under way and for final answers.
    fn on_reelected(&mut self, now: Now) {
        for id in self.ids_where(|_| true) {
            let Some(entry) = self.robots.get_mut(id) else { continue };
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
        let names: Vec<_> = self.applications.keys().cloned().collect();
        for name in names {
            self.application_afresh(&name);
        }
        self.reconcile_everything(now);
    }

    /// Puts the first call off where `robot` shows that the process before this one still records its answers.
    pub(super) fn observe_predecessor(&mut self, robot: &Robot, now: Now) {
        self.watch_tells_of(&robot.key.namespace, now);
        if now.since_start >= self.leadership.takeover_deadline {
            return;
        }
        let told = |robot: &Robot| {
            robot.conditions.is_true(Kind::RobotDeleted)
                || robot.conditions.reason(Kind::Ready) == Some(Reason::Added)
        };
        let known = self.robots.find(&robot.key).and_then(|id| self.robots.get(id));
        if known.is_some_and(|known| known.state != State::Writing && !told(&known.robot) && told(robot)) {
            self.leadership.put_off_first_call(now.since_start);
        }
    }

    /// The watch has told something of this namespace.
    pub(super) fn watch_tells_of(&mut self, namespace: &Arc<str>, now: Now) {
        if self.views.watch_is_back(namespace) {
            self.leadership.put_off_first_call(now.since_start);
        }
    }

    /// No call before this time.
    pub(super) fn no_call_before(&self) -> Duration {
        self.leadership.no_call_before(self.views.is_cut())
    }
}
