//! What robots are told while the room engine refuses their application, or does not answer.

use super::{Engine, Entry, Now, application_state::ApplicationState};
use crate::{
    codes::Operation,
    index::{Id, State},
    plan::Hold,
    rate_limiter::RateLimiter,
    status::Reason,
};
use std::{ops::Bound, sync::Arc, time::Duration};

/// What robots say that wait because calls are not answered.
const UNHEARD: &str = "The robot waits for its turn; the room engine does not answer the calls that were sent, and the operator tries one now and then";

/// So many robots are looked at in one go to be told that the room engine refuses.
const LOOKS: usize = 64;

/// A walk over the robots that wait, to tell each that the room engine refuses: as the writes allow, and once for each
/// reason.
#[derive(Clone, Copy, Debug)]
pub(super) struct Telling {
    pub(super) reason: Reason,
    /// The last one that was looked at.
    pub(super) after: Option<Id>,
    pub(super) over: bool,
    /// Nobody has come in line since it was over.
    pub(super) complete: bool,
}

impl Engine {
    /// Whether a robot is being foretold that a call may follow, to be the next probe. Deletions need not be.
    pub(super) fn prepares_probe(&self, state: &ApplicationState, operation: Operation) -> bool {
        if operation == Operation::DeleteRobot {
            return false;
        }
        let prober = state.prober.and_then(|id| self.robots.get(id));
        prober.is_some_and(|entry| matches!(entry.state, State::WriteQueued(_) | State::Writing))
    }

    /// Why the application makes no call of this command.
    pub(super) fn hold(&self, state: &ApplicationState, operation: Operation) -> Option<Hold> {
        state.application.hold(operation).or_else(|| {
            self.unheard(state, operation).then(|| Hold {
                reason: Reason::Unreachable,
                message: UNHEARD.to_owned(),
                refusal: true,
                person: false,
            })
        })
    }

    /// Whether calls of the application's SDKAppID are not answered any more.
    pub(super) fn unheard(&self, state: &ApplicationState, operation: Operation) -> bool {
        let pace = self.calls.limiter(state.application.spec.sdk_app_id, operation);
        pace.is_some_and(RateLimiter::unheard)
    }

    /// The reason of that where robots stay in line.
    pub(super) fn held_in_line(&self, state: &ApplicationState, operation: Operation) -> Option<Reason> {
        let refused = state.application.refused_for(operation);
        refused.or_else(|| {
            (state.application.unable().is_none() && self.unheard(state, operation))
                .then_some(Reason::Unreachable)
        })
    }

    /// Something is refused or goes on: whoever waits stays in line. Where it is refused, each is told in its turn.
    pub(super) fn tell_robots_of(&mut self, name: &Arc<str>, operation: Operation) {
        let Some(reason) = self.applications.get(name).and_then(|state| self.held_in_line(state, operation))
        else {
            return;
        };
        let Some(state) = self.applications.get_mut(name) else { return };
        let Some(telling) = state.telling_robots.get_mut(operation as usize) else { return };
        // Who was told for this reason says so still; the others are gone on with where that was left.
        if telling.is_none_or(|telling| telling.reason != reason || !telling.complete) {
            *telling = Some(Telling { reason, after: None, over: false, complete: true });
        }
    }

    /// Tells some of those who wait that the room engine refuses, as far as the line for writes is short.
    pub(super) fn tell_robots(&mut self, now: Now) {
        if self.leadership.only_records() {
            return;
        }
        let names: Vec<_> = self
            .applications
            .iter()
            .filter(|(_, state)| self.tells_any(state))
            .map(|(name, _)| Arc::clone(name))
            .collect();
        for name in names {
            for operation in Operation::ALL {
                for _ in 0..LOOKS {
                    if !self.writes.have_room() || !self.tell_next(&name, operation, now) {
                        break;
                    }
                }
            }
        }
    }

    fn tell_next(&mut self, name: &Arc<str>, operation: Operation, now: Now) -> bool {
        if !self.applications.get(name).is_some_and(|state| self.tells(state, operation)) {
            return false;
        }
        let (Some(state), counts) = self.applications.get_with_counts(name) else { return false };
        let Some(Some(telling)) = state.telling_robots.get_mut(operation as usize) else { return false };
        let from = telling.after.map_or(Bound::Unbounded, Bound::Excluded);
        let waiting = counts.map(|counts| counts.unfinished.range((from, Bound::Unbounded)));
        let Some(id) = waiting.into_iter().flatten().next().copied() else {
            telling.over = true;
            return false;
        };
        telling.after = Some(id);
        if self.robots.get(id).is_some_and(Entry::in_line) {
            self.reconcile(id, now);
        }
        true
    }

    /// When the next of them can be told.
    pub(super) fn telling_due(&self, now: Duration) -> Option<Duration> {
        let room = self.writes.have_room() && !self.leadership.only_records();
        (room && self.applications.values().any(|state| self.tells_any(state))).then_some(now)
    }

    fn tells_any(&self, state: &ApplicationState) -> bool {
        Operation::ALL.into_iter().any(|operation| self.tells(state, operation))
    }

    /// Whether robots in line for this command are to be told why they wait.
    pub(super) fn tells(&self, state: &ApplicationState, operation: Operation) -> bool {
        state.telling_robots.get(operation as usize).copied().flatten().is_some_and(|telling| {
            !telling.over && self.held_in_line(state, operation) == Some(telling.reason)
        })
    }
}
