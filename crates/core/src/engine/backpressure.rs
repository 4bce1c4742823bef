//! When no call is made because answers wait for their records, or other calls for their answers.

use super::{Engine, application_state::ApplicationState};
use crate::codes::{Operation, PerOperation};
use std::{sync::Arc, time::Duration};

/// So many answers may always wait for their records, however few calls a second there are.
const LEAST_UNRECORDED: usize = 8;

/// So many answers of one namespace may wait for their records where `requests_per_second` calls go out: those of a tenth
/// of a second. A process that is killed takes them with it, and the next one asks again. Where the API server answers a
/// write within a tenth of a second, the calls have their full pace all the same; where it is slower, robots leave their
/// rooms as fast as that can be recorded.
fn most_unrecorded(requests_per_second: u32) -> usize {
    (requests_per_second as usize / 10).max(LEAST_UNRECORDED)
}

impl Engine {
    /// Whether the application may have one more call without an answer. Each such call takes a place of the SDKAppID's quota,
    /// as it may still arrive: one application's calls that hang are to leave places for the others that share it.
    pub(super) fn has_share(&self, state: &ApplicationState, operation: Operation) -> bool {
        let spec = &state.application.spec;
        let sharers = self.calls.sharers(spec.sdk_app_id);
        state.application.unanswered(operation) < (spec.requests_per_second / sharers).max(1)
    }

    /// Whether this application makes no call because so many of its answers wait for their records. Those whose record has
    /// failed are not counted: where the API server refuses some robots, the calls of the others go on. Nor are those of
    /// namespaces whose writes hang.
    pub(super) fn has_backlog(&self, state: &ApplicationState, operation: Operation) -> bool {
        let spec = &state.application.spec;
        let Some(counts) = self.applications.counts(&spec.name) else { return false };
        let count =
            |counts: &PerOperation<usize>| counts.get(operation as usize).copied().unwrap_or_default();
        let hanging = self.writes.hanging_of(&spec.name);
        let hanging: usize = hanging.filter_map(|namespace| counts.fresh.get(namespace)).map(count).sum();
        // Twice as many as one namespace may have: one whose writes begin to hang leaves the others their calls.
        count(&counts.all_fresh).saturating_sub(hanging) >= 2 * most_unrecorded(spec.requests_per_second)
    }

    /// Until when this application makes no call because the API server takes nothing at all: one a second goes out, for a
    /// robot that it may take.
    pub(super) fn retry_after(&self, state: &ApplicationState) -> Option<Duration> {
        self.writes.health().takes_nothing().then(|| self.next_of_refused(state)).flatten()
    }

    fn next_of_refused(&self, state: &ApplicationState) -> Option<Duration> {
        let counts = self.applications.counts(&state.application.spec.name)?;
        (counts.unrecorded >= self.settings.concurrency).then_some(state.called_at + Duration::from_secs(1))
    }

    /// Namespaces for which no call is made now: so many of their own answers wait for their records, or the last writes in
    /// them all failed. And until when, where that is known.
    pub(super) fn full_namespaces(
        &self,
        state: &ApplicationState,
        operation: Operation,
        now: Duration,
    ) -> (Vec<Arc<str>>, Option<Duration>) {
        let spec = &state.application.spec;
        let most = most_unrecorded(spec.requests_per_second);
        let fresh = self.applications.counts(&spec.name).into_iter().flat_map(|counts| &counts.fresh);
        let full =
            fresh.filter(|(_, counts)| counts.get(operation as usize).is_some_and(|count| *count >= most));
        let mut full: Vec<Arc<str>> = full.map(|(namespace, _)| Arc::clone(namespace)).collect();
        let refused = self.writes.health().refused_namespaces();
        let until = refused.and_then(|_| self.next_of_refused(state)).filter(|until| now < *until);
        if until.is_some() {
            full.extend(refused.into_iter().flatten().cloned());
        }
        (full, until)
    }
}
