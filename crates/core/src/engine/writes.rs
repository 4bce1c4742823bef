//! Writes to RoomRobots: which goes out next, what it says, and what its end means.

use super::{
    Change, Effect, Engine, Now, Write, WriteError,
    concurrency_limit::ConcurrencyLimit,
    events::{Topic, headline},
    leadership,
    patches::status_patch,
    queue::{PRIORITIES, Place, Rank, WriteQueue},
    robots::From,
    write_health::WriteHealth,
};
use crate::{
    crd::CreationPolicy,
    index::{Id, Priority, Refused, State},
    plan::{self, Additions, Step},
    robot::Robot,
    status::{Is, Kind, Reason, Wanted},
};
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

/// The share of the writes that may be under way in [`Priority::Live`], in quarters: the rest is always for the others.
const LIVE_QUARTERS: usize = 3;

/// A write that takes longer takes no place of another one. Its namespace has one at a time from then on, until one is
/// answered soon enough: as behind an admission webhook that does not answer, nobody else is to wait for it.
const LATE: Duration = Duration::from_secs(2);

/// What is written for a robot, to know on success what it was.
#[derive(Debug)]
struct Pending {
    /// The conditions, if it was a status.
    wanted: Vec<Wanted>,
    /// The status carried the last attempt.
    attempt: bool,
    /// No `add_robot` was ever sent for the robot, which is to be added.
    to_add: bool,
    /// The reason that was stored before, of the condition that counts.
    before: Option<Reason>,
    /// When it went out.
    started: Duration,
    /// The priority it came from.
    priority: Priority,
    /// Whose it is.
    place: Place,
    /// It puts the finalizer on, or takes it off.
    of_finalizer: bool,
}

impl Pending {
    fn late(&self, now: Duration) -> bool {
        now >= self.started + LATE
    }
}

/// The wait after the first failed write, and the longest.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));

/// What stands for the cluster's words where it gives none.
pub(super) const HANGS: &str =
    "the API server does not answer such writes in time, as where an admission webhook hangs";

/// The most characters that are kept of the words with which the API server refuses a write.
const MOST_WORDS: usize = 1000;

/// The wait after failed write number `failures` of an object: doubling, and spread by `jitter` over 0..1.
pub(super) fn retry_delay(failures: u32, jitter: f64) -> Duration {
    let (first, longest) = RETRY;
    first.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(longest).mul_f64(0.5 + jitter / 2.0)
}

/// Writes in line and under way.
#[derive(Debug)]
pub(super) struct Writes {
    queue: WriteQueue,
    limit: ConcurrencyLimit,
    /// The most that are ever under way at once.
    concurrency: usize,
    /// Those to RoomRobots that are under way.
    pending: HashMap<Id, Pending>,
    /// Those to applications, one at a time for each: they take no place of robots'.
    of_applications: usize,
    health: WriteHealth,
    /// Places whose writes hang or have hung, each with one write at a time until one is answered.
    suspects: HashSet<Place>,
}

impl Writes {
    pub(super) fn new(concurrency: usize) -> Self {
        Self {
            queue: WriteQueue::default(),
            limit: ConcurrencyLimit::new(concurrency),
            concurrency,
            pending: HashMap::new(),
            of_applications: 0,
            health: WriteHealth::default(),
            suspects: HashSet::new(),
        }
    }

    /// Whether fewer stand in line than may be under way.
    pub(super) fn have_room(&self) -> bool {
        self.queue.waiting() < self.concurrency
    }

    /// Whether more stand in line than may be under way.
    pub(super) fn are_behind(&self) -> bool {
        self.queue.waiting() > self.concurrency
    }

    /// How many stand in each priority, the most urgent first.
    pub(super) fn depths(&self) -> [usize; PRIORITIES] {
        self.queue.depths()
    }

    pub(super) fn under_way(&self) -> usize {
        self.pending.len() + self.of_applications
    }

    pub(super) const fn health(&self) -> &WriteHealth {
        &self.health
    }

    /// Namespaces of an application in which writes hang.
    pub(super) fn hanging_of(&self, application: &Arc<str>) -> impl Iterator<Item = &Arc<str>> {
        let of_application = move |[_, name]: &&Place| name == application;
        self.suspects.iter().filter(of_application).map(|[namespace, _]| namespace)
    }

    /// A write to an application has begun.
    pub(super) fn begin_application(&mut self) {
        self.of_applications += 1;
    }

    /// One has ended.
    pub(super) fn end_application(&mut self) {
        self.of_applications = self.of_applications.saturating_sub(1);
    }

    #[cfg(test)]
    pub(super) fn limit(&self) -> usize {
        self.limit.size()
    }
}

impl Engine {
    /// Puts `id` in line for the write that `step` needs.
    pub(super) fn queue_write(&mut self, id: Id, step: &Step) {
        let Some(entry) = self.robots.get_mut(id) else {
            return;
        };
        let unrecorded = entry.memory.unrecorded().is_some();
        let ends = match step {
            Step::DropFinalizer => true,
            Step::Report(wanted) => wanted.iter().any(|want| {
                want.kind == Kind::RobotDeleted
                    && (want.is == Is::True || want.reason == Reason::StillClaimed)
            }),
            _ => false,
        };
        let answered = entry.memory.final_answer().is_some()
            || matches!(
                entry.robot.conditions.reason(Kind::RobotDeleted),
                Some(Reason::Deleted | Reason::RoomNotFound | Reason::NotInRoom)
            );
        let priority = match (entry.robot.deleting_since.is_some(), ends) {
            (false, _) if unrecorded => Priority::Told,
            (false, _) => Priority::Live,
            (true, true) if answered => Priority::Final,
            // Whoever chose `Retain` waits for the object to go, not for the room engine.
            (true, true) => Priority::Released,
            (true, false) => Priority::Waiting,
        };
        if entry.state != State::WriteQueued(priority) {
            entry.state = State::WriteQueued(priority);
            let rank = if unrecorded { Rank::Answer } else { Rank::Rest };
            self.writes.queue.push(priority, &entry.robot.application, &entry.robot.key.namespace, id, rank);
        }
    }

    pub(super) fn send_writes(&mut self, now: Now) {
        let all = self.writes.concurrency;
        let most = match self.writes.health.next_try() {
            None => self.writes.limit.size(),
            Some(at) => usize::from(at <= now.since_start),
        };
        let mut hanging = 0;
        for write in self.writes.pending.values().filter(|write| write.late(now.since_start)) {
            hanging += 1;
            if !self.writes.suspects.contains(&write.place) {
                self.writes.suspects.insert(write.place.clone());
            }
        }
        while self.writes.queue.waiting() > 0 && self.writes.pending.len() < all.min(most + hanging) {
            let mut live = 0;
            let mut places: HashMap<&Place, usize> = HashMap::new();
            for write in self.writes.pending.values() {
                live += usize::from(write.priority == Priority::Live);
                *places.entry(&write.place).or_default() += 1;
            }
            // Answers are recorded where nothing else is begun.
            let live = live * 4 < most * LIVE_QUARTERS && !self.leadership.only_records();
            // Not all that may ever be under way are for one place, whose writes may hang.
            let full = places
                .into_iter()
                .filter(|(place, writes)| *writes >= all - all / 8 || self.writes.suspects.contains(*place));
            let but: Vec<&[Arc<str>]> = full.map(|(place, _)| place.as_slice()).collect();
            let Some((priority, id)) = self.writes.queue.pop(live, &but) else {
                break;
            };
            let queued = self.robots.get(id).is_some_and(|entry| entry.state == State::WriteQueued(priority));
            if queued {
                self.send_write(id, priority, now);
            }
        }
    }

    /// When a write that is under way makes room because it is late, or the next one tries whether there is a way.
    pub(super) fn writes_due(&self, now: Duration) -> Option<Duration> {
        let late = self.writes.pending.values().map(|write| write.started + LATE);
        let again = self.writes.health.next_try().filter(|_| self.writes.queue.waiting() > 0);
        late.chain(again).filter(|at| *at > now).min()
    }

    fn send_write(&mut self, id: Id, priority: Priority, now: Now) {
        self.set_state(id, State::Idle);
        let step = self.step(id, now.since_start);
        let (leading, only_records) = (self.leadership.leads(), self.leadership.only_records());
        let Some(entry) = self.robots.get_mut(id) else {
            return;
        };
        let robot = &entry.robot;
        let before = robot.conditions.reason(headline(robot));
        let (wanted, attempt, to_add, started) = (Vec::new(), false, false, now.since_start);
        let place = [Arc::clone(&robot.key.namespace), Arc::clone(&robot.application)];
        let of_finalizer = matches!(step, Some(Step::AddFinalizer | Step::DropFinalizer));
        let mut pending = Pending { wanted, attempt, to_add, before, started, priority, place, of_finalizer };
        let change = match step {
            Some(Step::AddFinalizer) if only_records => return,
            Some(Step::AddFinalizer) if robot.finalizers.count == 0 => Change::FirstFinalizer,
            Some(Step::AddFinalizer) => Change::MoreFinalizer,
            // The next process sees that it is due, and makes no call for it: thousands of them would keep it waiting.
            Some(Step::DropFinalizer)
                if !leading
                    || self.leadership.is_stopping()
                        && self.writes.queue.waiting() > self.writes.concurrency =>
            {
                return;
            }
            Some(Step::DropFinalizer) => match robot.finalizers.ours {
                Some(at) => Change::DropFinalizer { at, version: robot.resource_version },
                None => return,
            },
            Some(Step::Report(wanted)) => {
                let attempt = entry.memory.unrecorded();
                let records = attempt.is_some_and(|attempt| leadership::records(leading, attempt));
                if only_records && !records {
                    return;
                }
                pending.attempt = attempt.is_some();
                pending.to_add = plan::never_added(robot, &entry.memory);
                let status = status_patch(robot, &wanted, attempt, now);
                let accepts = wanted.iter().any(|want| want.kind == Kind::Accepted && want.is == Is::True);
                if accepts && !robot.accepted() {
                    entry.accepting = robot.resource_version;
                }
                pending.wanted = wanted;
                Change::Status(status)
            }
            // Something else is due meanwhile.
            _ => return self.reconcile(id, now),
        };
        entry.state = State::Writing;
        let robot = &entry.robot;
        let write = Write {
            id,
            key: robot.key.clone(),
            uid: Arc::clone(&robot.uid),
            deleting: robot.deleting_since.is_some(),
            change,
        };
        self.writes.pending.insert(id, pending);
        self.effects.push(Effect::Write(Box::new(write)));
    }

    pub(super) fn written(&mut self, id: Id, result: Result<Robot, WriteError>, now: Now) {
        let pending = self.writes.pending.remove(&id);
        if let Some(pending) = &pending {
            let took = now.since_start.saturating_sub(pending.started);
            self.writes.limit.answered(
                took,
                result.is_ok(),
                self.writes.queue.waiting() > 0,
                now.since_start,
            );
            if !pending.late(now.since_start) {
                self.writes.suspects.remove(&pending.place);
            }
        }
        let jitter = self.random.f64();
        self.writes.health.record_reachability(&result, jitter, now.since_start);
        let Some(entry) = self.robots.get_mut(id) else {
            return;
        };
        entry.state = State::Idle;
        self.writes.health.ended(&result, &entry.robot.key.namespace);
        let of_finalizer = pending.as_ref().is_some_and(|pending| pending.of_finalizer);
        let result = match result {
            // Twice in a row for the same object it is no accident.
            Err(WriteError::Late) if of_finalizer && (entry.refused.is_some() || entry.failed_writes > 0) => {
                Err(WriteError::Refused(HANGS.to_owned()))
            }
            result => result,
        };
        match result {
            Ok(robot) => {
                entry.failed_writes = 0;
                entry.blocked_until = Duration::ZERO;
                if let Some(pending) = pending {
                    if pending.of_finalizer {
                        entry.refused = None;
                    } else {
                        entry.status_refused = false;
                    }
                    if pending.attempt
                        && let Some(last) = entry.memory.last.as_deref_mut()
                    {
                        last.recorded = true;
                    }
                    if pending.to_add && robot.creation_policy == CreationPolicy::Create {
                        entry.memory.additions = Additions::None;
                    }
                    self.publish(&robot, pending.wanted, pending.before, now);
                }
                self.store(robot, From::Reply, now);
                // Something newer may be known already, and was looked at while this write was under way.
                self.reconcile(id, now);
            }
            Err(WriteError::NotFound) => {
                // Gone: by force, or because our own removal of the finalizer got through though its reply did not.
                entry.state = State::Vanished;
            }
            // It goes out again when there is a way, and waits for nothing else.
            Err(WriteError::Unreachable(_)) => {
                self.recount(id, now);
                self.reconcile(id, now);
            }
            Err(WriteError::Refused(words)) => {
                self.write_refused(id, of_finalizer, &words, jitter, now);
                self.recount(id, now);
                self.reconcile(id, now);
            }
            Err(error) => {
                entry.failed_writes = entry.failed_writes.saturating_add(1);
                entry.blocked_until = now.since_start + retry_delay(entry.failed_writes, jitter);
                let robot = &entry.robot.key;
                if let Some(reason) = error.news(entry.failed_writes) {
                    tracing::warn!(%robot, %reason, "could not write to the RoomRobot; trying again");
                }
                self.recount(id, now);
                self.reconcile(id, now);
            }
        }
    }

    /// The cluster does not let this process write to the object. It is told in the log and by an Event once, and in the
    /// object's conditions where its status can be written.
    fn write_refused(&mut self, id: Id, of_finalizer: bool, words: &str, jitter: f64, now: Now) {
        let Some(entry) = self.robots.get_mut(id) else { return };
        let words: String = words.chars().take(MOST_WORDS).collect();
        let news;
        if of_finalizer {
            let tries = entry.refused.as_deref().map_or(0, |refused| refused.tries).saturating_add(1);
            news = tries == 1;
            let not_before = now.since_start + retry_delay(tries, jitter);
            entry.refused = Some(Box::new(Refused { words: words.clone(), tries, not_before }));
        } else {
            news = !std::mem::replace(&mut entry.status_refused, true);
            entry.failed_writes = entry.failed_writes.saturating_add(1);
            entry.blocked_until = now.since_start + retry_delay(entry.failed_writes, jitter);
        }
        if !news {
            return;
        }
        let what = if of_finalizer { "its finalizer" } else { "its status" };
        if self.events.take(Topic::Warning, now.since_start) {
            let robot = &entry.robot.key;
            tracing::warn!(%robot, refused = what, reason = %words, "the cluster refuses a write to the RoomRobot; trying again at least every 30 s");
            let note = plan::write_refused(&format!("The cluster refuses a write of {what}"), &words);
            let robot = self.robots.get(id).map(|entry| &entry.robot);
            let event = robot.map(|robot| {
                self.event_about(robot, Reason::WriteRefused, true, "WriteRoomRobot", note, now)
            });
            self.effects.extend(event.map(Box::new).map(Effect::Publish));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_writes_wait_longer_each_time_up_to_half_a_minute() {
        assert_eq!(retry_delay(1, 1.0), Duration::from_millis(100));
        assert_eq!(retry_delay(3, 1.0), Duration::from_millis(400));
        assert_eq!(retry_delay(u32::MAX, 1.0), Duration::from_secs(30));
        assert_eq!(retry_delay(1, 0.0), Duration::from_millis(50));
    }
}
