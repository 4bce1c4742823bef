//! Calls to the room engine: who may call, when, and what an answer means.

use super::{Answer, Call, Effect, Engine, Now, application_state::ApplicationState, queue::Line as _};
use crate::{
    application, backoff,
    call::{Outcome, Target, Trouble, TroubleKind},
    codes::{Operation, PerOperation},
    index::{Id, State},
    plan::{self, Attempt, Step},
    rate_limiter::{Arrival, RateLimiter},
    write_trouble::Part,
};
use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

/// What calls share beyond one application: the quota of an SDKAppID.
#[derive(Debug, Default)]
pub(super) struct Calls {
    limiters: HashMap<(u32, Operation), RateLimiter>,
    /// How many applications share an SDKAppID.
    sharers: HashMap<u32, u32>,
    /// Whose turn it is among the applications of one SDKAppID.
    turns: HashMap<u32, usize>,
    in_flight: usize,
}

impl Calls {
    pub(super) const fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// The pace of one SDKAppID and command, where it is known.
    pub(super) fn limiter(&self, sdk_app_id: u32, operation: Operation) -> Option<&RateLimiter> {
        self.limiters.get(&(sdk_app_id, operation))
    }

    fn limiter_mut(&mut self, sdk_app_id: u32, operation: Operation) -> &mut RateLimiter {
        self.limiters.entry((sdk_app_id, operation)).or_insert_with(|| RateLimiter::new(1))
    }

    /// Sets the limiters of one SDKAppID to the lowest of the `limits` of the applications that share them.
    fn share(&mut self, sdk_app_id: u32, limits: &[u32]) {
        let Some(limit) = limits.iter().copied().min() else {
            // What went out for the last of them still counts for the next.
            self.sharers.remove(&sdk_app_id);
            return;
        };
        self.sharers.insert(sdk_app_id, u32::try_from(limits.len()).unwrap_or(u32::MAX));
        for operation in Operation::ALL {
            self.limiter_mut(sdk_app_id, operation).set_limit(limit);
        }
    }

    /// How many applications share this SDKAppID.
    pub(super) fn sharers(&self, sdk_app_id: u32) -> u32 {
        self.sharers.get(&sdk_app_id).copied().unwrap_or(1)
    }
}

impl Engine {
    pub(super) fn queue_call(&mut self, id: Id, operation: Operation, front: bool) {
        let Some(entry) = self.robots.get(id) else { return };
        let held = self
            .applications
            .get(&entry.robot.application)
            .and_then(|state| self.held_in_line(state, operation));
        let Some(entry) = self.robots.get_mut(id) else { return };
        entry.state = State::CallQueued(operation);
        let Some(placed) = entry.in_lines.get_mut(operation as usize) else { return };
        if *placed && !front {
            // It keeps the place that it has.
            return;
        }
        let namespace = Arc::clone(&entry.robot.key.namespace);
        let Some(state) = self.applications.get_mut(&entry.robot.application) else { return };
        // Who was made ready to probe does so before another one is made ready.
        let front = front || state.prober == Some(id);
        *placed = true;
        state.line(operation).push(&namespace, id, front);
        if let Some(Some(telling)) = state.telling_robots.get_mut(operation as usize) {
            // Who comes while this is refused is told on coming; who comes meanwhile has to be told the next time.
            telling.complete &= held == Some(telling.reason);
        }
    }

    pub(super) fn send_calls(&mut self, now: Now) {
        if self.leadership.only_records() || now.since_start < self.leadership.first_call() {
            return;
        }
        for sdk_app_id in self.in_line() {
            for operation in Operation::ALL {
                while self
                    .calls
                    .limiter_mut(sdk_app_id, operation)
                    .next()
                    .is_some_and(|at| at <= now.since_start)
                {
                    let Some(id) = self.next_caller(sdk_app_id, operation, now) else {
                        break;
                    };
                    if self.send_call(id, sdk_app_id, operation, now) {
                        self.calls.limiter_mut(sdk_app_id, operation).take(now.since_start);
                    } else {
                        // No signature to be had: looked at again when its application can call.
                        self.set_state(id, State::Idle);
                    }
                }
            }
        }
    }

    /// The SDKAppIDs that somebody is in line for.
    fn in_line(&self) -> BTreeSet<u32> {
        let waits = |state: &&ApplicationState| !state.deletions.is_empty() || !state.additions.is_empty();
        self.applications.values().filter(waits).map(|state| state.application.spec.sdk_app_id).collect()
    }

    /// Sets the limiters of one SDKAppID to the lowest rate of the applications that share them.
    pub(super) fn share_paces(&mut self, sdk_app_id: u32) {
        let sharers = self
            .applications
            .values()
            .map(|state| &state.application.spec)
            .filter(|spec| spec.sdk_app_id == sdk_app_id);
        let limits: Vec<u32> = sharers.map(|spec| spec.requests_per_second).collect();
        self.calls.share(sdk_app_id, &limits);
    }

    /// The next robot to call for, among the applications of one SDKAppID in turn.
    fn next_caller(&mut self, sdk_app_id: u32, operation: Operation, now: Now) -> Option<Id> {
        let names: Vec<Arc<str>> = self
            .applications
            .iter()
            .filter(|(_, state)| state.application.spec.sdk_app_id == sdk_app_id)
            .map(|(name, _)| Arc::clone(name))
            .collect();
        let first = self.calls.turns.get(&sdk_app_id).copied().unwrap_or_default();
        for turn in 0..names.len() {
            let place = (first + turn) % names.len();
            let Some(name) = names.get(place) else { continue };
            if let Some(id) = self.next_of(name, operation, now) {
                self.calls.turns.insert(sdk_app_id, place + 1);
                return Some(id);
            }
        }
        None
    }

    /// The next robot of one application that still needs the call when its turn comes.
    fn next_of(&mut self, name: &Arc<str>, operation: Operation, now: Now) -> Option<Id> {
        let state = self.applications.get(name)?;
        let probe = state.application.probe_at(operation);
        let may_go = match probe {
            Some(at) => now.since_start >= at,
            None => state.application.may_call(operation, now.since_start),
        };
        // It finds out whether what stands in the way of the others still does.
        let probes = probe.is_some() || self.unheard(state, operation);
        if !may_go || probes && self.prepares_probe(state, operation) {
            return None;
        }
        if !self.has_share(state, operation)
            || self.has_backlog(state, operation)
            || self.retry_after(state).is_some_and(|until| now.since_start < until)
        {
            return None;
        }
        let (full, _) = self.full_namespaces(state, operation, now.since_start);
        let full: Vec<&[Arc<str>]> = full.iter().map(std::slice::from_ref).collect();
        loop {
            let id = self.applications.get_mut(name)?.line(operation).next(&full)?;
            let Some(entry) = self.robots.get_mut(id) else { continue };
            if let Some(placed) = entry.in_lines.get_mut(operation as usize) {
                *placed = false;
            }
            if entry.state != State::CallQueued(operation) {
                continue;
            }
            let step = self.step_under(id, now.since_start, !probes);
            if step == Some(Step::Call(operation)) {
                return Some(id);
            }
            self.set_state(id, State::Idle);
            if probes && matches!(step, Some(Step::Report(_))) {
                // It was never called for: that a call may follow has to be stored first.
                self.applications.get_mut(name)?.prober = Some(id);
                self.reconcile(id, now);
                return None;
            }
            self.reconcile(id, now);
        }
    }

    fn send_call(&mut self, id: Id, sdk_app_id: u32, operation: Operation, now: Now) -> bool {
        let Some(entry) = self.robots.get_mut(id) else {
            return false;
        };
        let Some(state) = self.applications.get_mut(&entry.robot.application) else {
            return false;
        };
        debug_assert_eq!(state.application.spec.sdk_app_id, sdk_app_id);
        let Some((caller, signature)) = state.application.caller(now.wall.as_second()) else {
            return false;
        };
        state.application.sent(operation, now.since_start);
        state.prober = state.prober.filter(|prober| *prober != id);
        state.called_at = now.since_start;
        self.calls.in_flight += 1;
        entry.state = State::Calling;
        if operation == Operation::AddRobot {
            entry.memory.additions = plan::additions_before_call(&entry.robot, &entry.memory);
        }
        self.effects.push(Effect::Call(Box::new(Call {
            id,
            key: entry.robot.key.clone(),
            uid: Arc::clone(&entry.robot.uid),
            application: Arc::clone(&entry.robot.application),
            application_uid: Arc::clone(&state.application.spec.uid),
            operation,
            caller,
            signature,
            target: Target {
                room_id: entry.robot.room_id.to_string(),
                member_account: entry.robot.member_account.to_string(),
            },
            started: now.since_start,
        })));
        true
    }

    /// The call was not sent after all: as if it had not been tried.
    pub(super) fn unsent(&mut self, call: &Call, now: Now) {
        self.calls.in_flight = self.calls.in_flight.saturating_sub(1);
        if let Some(state) = self.applications.get_of(&call.application, &call.application_uid) {
            state.application.ended(call.operation, call.signature);
        }
        self.set_state(call.id, State::Idle);
        self.reconcile(call.id, now);
    }

    pub(super) fn answered(&mut self, answer: Answer, now: Now) {
        let Answer { id, application: name, application_uid, .. } = answer;
        let Answer { sdk_app_id, operation, signature, started, outcome, .. } = answer;
        self.calls.in_flight = self.calls.in_flight.saturating_sub(1);
        let class = outcome.class(operation);
        let arrived = match &outcome {
            Outcome::Trouble(trouble) if trouble.kind.is_unsent() => Arrival::Never,
            // Where the head of an answer came, the call had arrived.
            Outcome::Trouble(Trouble { kind: TroubleKind::Timeout, http_status: None, .. }) => {
                Arrival::Unknown
            }
            Outcome::Reply(_) | Outcome::Trouble(_) => Arrival::Known,
        };
        self.calls.limiter_mut(sdk_app_id, operation).ended(started, arrived, now.since_start);
        if class.rule().slows_down {
            self.calls.limiter_mut(sdk_app_id, operation).throttled(started, now.since_start);
        }
        let caller = self.applications.get_of(&name, &application_uid);
        let effect = caller.map_or(application::Effect::None, |state| {
            let wall = now.wall.as_second();
            state.application.answered(operation, &outcome, signature, started, now.since_start, wall)
        });
        let jitter = self.random.f64();
        if let Some(entry) = self.robots.get_mut(id) {
            entry.state = State::Idle;
            if effect == application::Effect::SignedAnew {
                // Not an answer to the command: the same call goes out again with the new signature.
                self.queue_call(id, operation, true);
                // Unless something else has come up meanwhile.
                self.reconcile(id, now);
            } else {
                let memory = &mut entry.memory;
                let same = memory
                    .last
                    .as_deref()
                    .is_some_and(|last| last.class == class && last.operation == operation);
                memory.attempts = if same { memory.attempts.saturating_add(1) } else { 1 };
                memory.not_before = now.since_start + backoff::delay(class, memory.attempts, jitter);
                if operation == Operation::AddRobot && entry.robot.deleting_since.is_some() {
                    // The deletion came while the addition was under way; it does not wait for the room to be ready.
                    memory.start_afresh();
                }
                let mut settled = memory.last.as_deref().map_or(Duration::ZERO, |last| last.settled);
                if operation == Operation::AddRobot {
                    memory.additions = plan::additions_after_answer(memory.additions, &outcome);
                    if outcome.leaves_open(operation) {
                        settled = now.since_start + plan::AFTERMATH;
                    }
                }
                memory.last = Some(Box::new(Attempt {
                    operation,
                    outcome,
                    class,
                    at: now.wall.as_second(),
                    recorded: false,
                    settled,
                }));
                // Whatever failed before, the record of this is another write: it is tried at once, and counts among those
                // that no write has failed to store.
                entry.write_trouble.renew(Part::Status);
                self.recount(id, now);
                self.reconcile(id, now);
            }
        }
        if arrived == Arrival::Unknown {
            let sharers: Vec<_> = self.names_of_same_sdk_app_id(&name).cloned().collect();
            for name in sharers {
                self.tell_robots_of(&name, operation);
            }
        }
        if effect == application::Effect::Changed {
            self.tell_robots_of(&name, operation);
            self.reconcile_application(&name, now);
        }
    }

    /// Looks again at every robot that waits for its application.
    pub(super) fn reconcile_unfinished(&mut self, name: &Arc<str>, now: Now) {
        let waiting: Vec<Id> = self
            .applications
            .counts(name)
            .map(|counts| counts.unfinished.iter().copied().collect())
            .unwrap_or_default();
        for id in waiting {
            self.reconcile(id, now);
        }
        // Nobody who was in line for an application that can make no call is in line any more.
        let Some(state) =
            self.applications.get_mut(name).filter(|state| state.application.unable().is_some())
        else {
            return;
        };
        let in_line: Vec<Id> = state.deletions.clear().chain(state.additions.clear()).collect();
        for id in in_line {
            if let Some(entry) = self.robots.get_mut(id) {
                entry.in_lines = PerOperation::default();
            }
        }
    }

    /// When a call can go out next.
    pub(super) fn calls_due(&self, now: Duration) -> Option<Duration> {
        if self.leadership.only_records() {
            return None;
        }
        let first = self
            .applications
            .values()
            .flat_map(|state| Operation::ALL.map(|operation| (state, operation)))
            .filter_map(|(state, operation)| {
                let application = &state.application;
                let line = match operation {
                    Operation::DeleteRobot => &state.deletions,
                    Operation::AddRobot => &state.additions,
                };
                let (full, until) = self.full_namespaces(state, operation, now);
                let ready = match application.probe_at(operation) {
                    // The next write or call that is answered makes room.
                    _ if line.is_empty()
                        || self.has_backlog(state, operation)
                        || !self.has_share(state, operation) =>
                    {
                        return None;
                    }
                    probe
                        if (probe.is_some() || self.unheard(state, operation))
                            && self.prepares_probe(state, operation) =>
                    {
                        return None;
                    }
                    _ if line.only(&full) => until?,
                    Some(at) => at,
                    None if application.may_call(operation, now) => Duration::ZERO,
                    None => application.held_off_until(now)?,
                };
                let ready = self.retry_after(state).map_or(ready, |until| ready.max(until));
                let pace = self.calls.limiter(application.spec.sdk_app_id, operation);
                let next = pace.map_or(Some(Duration::ZERO), RateLimiter::next)?;
                Some(ready.max(next))
            })
            .min();
        first.map(|at| at.max(self.leadership.first_call()))
    }
}

impl ApplicationState {
    fn line(&mut self, operation: Operation) -> &mut super::queue::CallLine {
        match operation {
            Operation::DeleteRobot => &mut self.deletions,
            Operation::AddRobot => &mut self.additions,
        }
    }
}
