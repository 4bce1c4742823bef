//! Whether this process may act, from when it may call, and what it makes of the one that acted before.

use super::{Before, Effect, Engine, Now};
use crate::{
    index::State,
    plan::{Attempt, Memory},
    write_trouble::WriteTrouble,
};
use std::time::Duration;

/// What no two processes call in: what they send together then keeps the quota.
pub const HANDOVER_GAP: Duration = Duration::from_secs(1);

/// How long a process that takes an expired Lease waits for records of the one that had it before its own first call. That
/// one has at most the answers of a fifth of a second without a record, and writes them down as soon as the API server is
/// there again.
const TAKEOVER_WAIT: Duration = Duration::from_secs(2);

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
        self.first_call = match before {
            Before::Finished => now,
            Before::Unknown => now + HANDOVER_GAP,
            Before::Vanished => now + TAKEOVER_WAIT,
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

    /// No call before this time.
    pub(super) const fn first_call(&self) -> Duration {
        self.first_call
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
            entry.write_trouble = WriteTrouble::default();
            let memory = &entry.memory;
            let kept =
                memory.final_answer().or(memory.unrecorded()).is_some_and(|last| last.class.is_final());
            if entry.state != State::Calling && !kept {
                entry.memory = Memory::default();
            }
            self.recount(id, now);
        }
        let names: Vec<_> = self.applications.keys().cloned().collect();
        for name in names {
            self.application_afresh(&name);
        }
        self.reconcile_everything(now);
    }
}
