//! Calls to the room engine: who may call, when, and what an answer means.

use super::{Answer, Call, Effect, Engine, Now, Seat};
use crate::{
    application, backoff,
    codes::{Class, Operation},
    index::{Id, Lane, State},
    pace::Pace,
    plan::{self, Attempt, Step},
    room_engine::Target,
};
use std::{collections::BTreeSet, sync::Arc, time::Duration};

/// So many writes that fail in a row are taken for an API server that takes nothing at all.
const TAKES_NOTHING: u32 = 8;

/// Deletions first; each command has a quota of its own.
const OPERATIONS: [Operation; 2] = [Operation::DeleteRobot, Operation::AddRobot];

impl Engine {
    pub(super) fn queue_call(&mut self, id: Id, operation: Operation, front: bool) {
        let Some(entry) = self.index.get_mut(id) else {
            return;
        };
        if entry.state == State::CallQueued(operation) && !front {
            return;
        }
        // It may still stand in the line for the other call; that shows when its turn comes there.
        entry.state = State::CallQueued(operation);
        let namespace = Arc::clone(&entry.robot.key.namespace);
        if let Some(seat) = self.seats.get_mut(&entry.robot.application) {
            seat.line(operation).push(&namespace, id, front);
        }
    }

    pub(super) fn send_calls(&mut self, now: Now) {
        if self.only_records() || now.since_start < self.no_call_before() {
            return;
        }
        for sdk_app_id in self.in_line(now.since_start) {
            for operation in OPERATIONS {
                while self.pace(sdk_app_id, operation).next() <= now.since_start {
                    let Some(id) = self.next_caller(sdk_app_id, operation, now) else {
                        break;
                    };
                    if self.send_call(id, sdk_app_id, operation, now) {
                        self.pace(sdk_app_id, operation).take(now.since_start);
                    } else {
                        // No signature to be had: looked at again when its application can call.
                        self.set_state(id, State::Idle);
                    }
                }
            }
        }
    }

    /// The SDKAppIDs that somebody is in line for.
    fn in_line(&self, now: Duration) -> BTreeSet<u32> {
        let waits = |seat: &&Seat| {
            !seat.deletions.is_empty()
                || !seat.additions.is_empty()
                || seat.application.probe_at().is_some_and(|at| at <= now)
        };
        self.seats.values().filter(waits).map(|seat| seat.application.spec.sdk_app_id).collect()
    }

    /// The pace of one SDKAppID and command.
    fn pace(&mut self, sdk_app_id: u32, operation: Operation) -> &mut Pace {
        self.paces.entry((sdk_app_id, operation)).or_insert_with(|| Pace::new(1))
    }

    /// Sets the paces of one SDKAppID to the lowest rate of the applications that share them.
    pub(super) fn share_paces(&mut self, sdk_app_id: u32) {
        let sharers = self
            .seats
            .values()
            .map(|seat| &seat.application.spec)
            .filter(|spec| spec.sdk_app_id == sdk_app_id);
        let Some(limit) = sharers.map(|spec| spec.requests_per_second).min() else {
            // What went out for the last of them still counts for the next.
            return;
        };
        for operation in OPERATIONS {
            self.pace(sdk_app_id, operation).set_limit(limit);
        }
    }

    /// The next robot to call for, among the applications of one SDKAppID in turn.
    fn next_caller(&mut self, sdk_app_id: u32, operation: Operation, now: Now) -> Option<Id> {
        let names: Vec<Arc<str>> = self
            .seats
            .iter()
            .filter(|(_, seat)| seat.application.spec.sdk_app_id == sdk_app_id)
            .map(|(name, _)| Arc::clone(name))
            .collect();
        let first = self.turns.get(&sdk_app_id).copied().unwrap_or_default();
        for turn in 0..names.len() {
            let place = (first + turn) % names.len();
            let Some(name) = names.get(place) else { continue };
            if let Some(id) = self.next_of(name, operation, now) {
                self.turns.insert(sdk_app_id, place + 1);
                return Some(id);
            }
        }
        None
    }

    /// The next robot of one application that still needs the call when its turn comes.
    fn next_of(&mut self, name: &Arc<str>, operation: Operation, now: Now) -> Option<Id> {
        let seat = self.seats.get(name)?;
        if let Some(at) = seat.application.probe_at() {
            return (at <= now.since_start).then(|| self.prober(name, operation, now)).flatten();
        }
        if !seat.application.may_call(operation, now.since_start)
            || self.held_back(seat, operation).is_some_and(|until| now.since_start < until)
        {
            return None;
        }
        loop {
            let id = self.seats.get_mut(name)?.line(operation).pop()?;
            if self.index.get(id).is_none_or(|entry| entry.state != State::CallQueued(operation)) {
                continue;
            }
            if self.step(id, now.since_start) == Some(Step::Call(operation)) {
                return Some(id);
            }
            self.set_state(id, State::Idle);
            self.touch(id, now);
        }
    }

    /// Until when this application makes no call because so many of its answers wait for the API server that more of them
    /// would only be more to ask again after a crash. As many as its calls of a second may stand in line, so that the quota
    /// is used where the API server can follow at all; then the next write that is answered makes room. Those whose write
    /// has failed are not in that line: where the API server refuses some robots, the calls of the others go on. Where it
    /// takes nothing at all there is one call a second, for a robot that it may take.
    fn held_back(&self, seat: &Seat, operation: Operation) -> Option<Duration> {
        let spec = &seat.application.spec;
        let most = (spec.requests_per_second as usize).max(self.settings.concurrency);
        let lane = match operation {
            Operation::DeleteRobot => Lane::Final,
            Operation::AddRobot => Lane::Told,
        };
        if self.lines.answers_of(lane, &spec.name) >= most {
            return Some(Duration::MAX);
        }
        let unrecorded = self.tallies.get(&spec.name).map_or(0, |tally| tally.unrecorded);
        let takes_nothing = self.refusals >= TAKES_NOTHING || self.cut_off.is_some();
        (takes_nothing && unrecorded >= self.settings.concurrency)
            .then_some(seat.called_at + Duration::from_secs(1))
    }

    /// A robot that would call if its application were trusted: the one after the last that probed.
    fn prober(&mut self, name: &Arc<str>, operation: Operation, now: Now) -> Option<Id> {
        let waiting = &self.tallies.get(name)?.unfinished;
        let start = self.seats.get(name)?.prober;
        let after = waiting.iter().filter(|id| start.is_none_or(|start| **id > start));
        let before = waiting.iter().filter(|id| start.is_some_and(|start| **id <= start));
        let found = after.chain(before).copied().find(|id| {
            let idle = self.index.get(*id).is_some_and(|entry| {
                matches!(entry.state, State::Idle | State::WriteQueued(_) | State::CallQueued(_))
            });
            idle && self.step_under(*id, now.since_start, false) == Some(Step::Call(operation))
        });
        let seat = self.seats.get_mut(name)?;
        match found {
            Some(id) => seat.prober = Some(id),
            // Additions are looked at last: nobody at all can probe.
            None if operation == Operation::AddRobot => seat.application.postpone_probe(now.since_start),
            None => {}
        }
        found
    }

    fn send_call(&mut self, id: Id, sdk_app_id: u32, operation: Operation, now: Now) -> bool {
        let Some(entry) = self.index.get_mut(id) else {
            return false;
        };
        let Some(seat) = self.seats.get_mut(&entry.robot.application) else {
            return false;
        };
        debug_assert_eq!(seat.application.spec.sdk_app_id, sdk_app_id);
        let Some((caller, signature)) = seat.application.caller(now.wall.as_second()) else {
            return false;
        };
        self.signatures.insert(Arc::clone(&entry.robot.application), signature);
        seat.application.sent(operation);
        seat.called_at = now.since_start;
        self.calls_in_flight += 1;
        entry.state = State::Calling;
        if operation == Operation::AddRobot {
            entry.memory.additions = plan::additions_before_call(&entry.robot, &entry.memory);
        }
        self.effects.push(Effect::Call(Box::new(Call {
            id,
            key: entry.robot.key.clone(),
            uid: Arc::clone(&entry.robot.uid),
            application: Arc::clone(&entry.robot.application),
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
        self.calls_in_flight = self.calls_in_flight.saturating_sub(1);
        if let Some(seat) = self.seats.get_mut(&call.application) {
            seat.application.ended(call.operation, call.signature);
        }
        self.set_state(call.id, State::Idle);
        self.touch(call.id, now);
    }

    pub(super) fn answered(&mut self, answer: Answer, now: Now) {
        let Answer { id, application: name, sdk_app_id, operation, signature, started, outcome } = answer;
        self.calls_in_flight = self.calls_in_flight.saturating_sub(1);
        let class = outcome.class(operation);
        self.pace(sdk_app_id, operation).answered(started, now.since_start);
        if class == Class::Throttled {
            self.pace(sdk_app_id, operation).throttled(started, now.since_start);
        }
        let effect = self.seats.get_mut(&name).map_or(application::Effect::None, |seat| {
            seat.application.answered(operation, &outcome, signature, now.since_start, now.wall.as_second())
        });
        let jitter = self.random.f64();
        if let Some(entry) = self.index.get_mut(id) {
            entry.state = State::Idle;
            if effect == application::Effect::SignedAnew {
                // Not an answer to the command: the same call goes out again with the new signature.
                self.queue_call(id, operation, true);
                // Unless something else has come up meanwhile.
                self.touch(id, now);
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
                self.recount(id);
                self.touch(id, now);
            }
        }
        if effect == application::Effect::Changed {
            self.touch_unfinished(&name, now);
            self.touch_application(&name, now);
        }
    }

    /// Looks again at every robot that waits for its application.
    pub(super) fn touch_unfinished(&mut self, name: &Arc<str>, now: Now) {
        let waiting: Vec<Id> = self
            .tallies
            .get(name)
            .map(|tally| tally.unfinished.iter().copied().collect())
            .unwrap_or_default();
        for id in waiting {
            self.touch(id, now);
        }
        if let Some(seat) = self.seats.get_mut(name)
            && seat.application.hold().is_some()
        {
            // Nobody is in line any more. Those who once were are not kept, as each of them comes again.
            (seat.deletions, seat.additions) = Default::default();
        }
    }

    /// When a call can go out next.
    pub(super) fn calls_due(&self, now: Duration) -> Option<Duration> {
        if self.only_records() {
            return None;
        }
        let first = self
            .seats
            .values()
            .flat_map(|seat| OPERATIONS.map(|operation| (seat, operation)))
            .filter_map(|(seat, operation)| {
                let application = &seat.application;
                let line = match operation {
                    Operation::DeleteRobot => &seat.deletions,
                    Operation::AddRobot => &seat.additions,
                };
                let ready = match application.probe_at() {
                    Some(at) => {
                        let waiting = self
                            .tallies
                            .get(&application.spec.name)
                            .is_some_and(|tally| !tally.unfinished.is_empty());
                        waiting.then_some(at)?
                    }
                    None if line.is_empty() => return None,
                    None if application.may_call(operation, now) => match self.held_back(seat, operation) {
                        None => Duration::ZERO,
                        // The next write that is answered makes room.
                        Some(Duration::MAX) => return None,
                        Some(until) => until,
                    },
                    None => application.held_off_until(now)?,
                };
                let pace = self.paces.get(&(application.spec.sdk_app_id, operation));
                Some(ready.max(pace.map_or(Duration::ZERO, Pace::next)))
            })
            .min();
        first.map(|at| at.max(self.no_call_before()))
    }
}

impl super::Seat {
    fn line(&mut self, operation: Operation) -> &mut super::lines::CallLine {
        match operation {
            Operation::DeleteRobot => &mut self.deletions,
            Operation::AddRobot => &mut self.additions,
        }
    }
}
