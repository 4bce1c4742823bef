//! Writes: which goes out next, and what it says. What its end means is in `written`.

use super::{
    Change, Effect, Engine, Now, ObjectRef, Write, WriteError,
    concurrency_limit::ConcurrencyLimit,
    events::headline,
    leadership,
    patches::status_patch,
    queue::{PRIORITIES, Place, WriteQueue},
    write_health::WriteHealth,
};
use crate::{
    index::{Id, Priority, State},
    plan::{self, Step},
    status::{Is, Kind, Reason, Wanted},
    write_trouble::Part,
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

/// A write that is under way, and what has to be known when it ends.
#[derive(Debug)]
pub(super) struct Pending {
    /// The UID of its object.
    pub(super) uid: Arc<str>,
    /// What it changes.
    pub(super) part: Part,
    /// When it went out.
    pub(super) started: Duration,
    /// The conditions, if it is a status.
    pub(super) wanted: Vec<Wanted>,
    /// The reason that was stored before, of the condition that counts.
    pub(super) before: Option<Reason>,
    /// The status carries the last attempt.
    pub(super) attempt: bool,
    /// No `add_robot` was ever sent for the robot, which is to be added.
    pub(super) to_add: bool,
    /// The priority that it came from, and whose it is. Writes to applications, one at a time for each, stand in no line and
    /// take no place of robots'.
    pub(super) turn: Option<(Priority, Place)>,
}

impl Pending {
    pub(super) fn new(write: &Write, wanted: Vec<Wanted>, before: Option<Reason>, now: Now) -> Self {
        Self {
            uid: Arc::clone(&write.uid),
            part: write.change.part(),
            started: now.since_start,
            wanted,
            before,
            attempt: false,
            to_add: false,
            turn: None,
        }
    }

    fn late(&self, now: Duration) -> bool {
        now >= self.started + LATE
    }
}

/// Writes that are under way and came from the line, with their turns.
fn in_turn(pending: &HashMap<ObjectRef, Pending>) -> impl Iterator<Item = (&Pending, &Priority, &Place)> {
    pending.values().filter_map(|write| {
        let (priority, place) = write.turn.as_ref()?;
        Some((write, priority, place))
    })
}

/// Writes in line and under way.
#[derive(Debug)]
pub(super) struct Writes {
    queue: WriteQueue,
    limit: ConcurrencyLimit,
    /// The most that are ever under way at once.
    concurrency: usize,
    /// Those that are under way, one for each object.
    pending: HashMap<ObjectRef, Pending>,
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
        self.pending.len()
    }

    /// Whether one to this object is under way.
    pub(super) fn is_under_way(&self, object: &ObjectRef) -> bool {
        self.pending.contains_key(object)
    }

    pub(super) const fn health(&self) -> &WriteHealth {
        &self.health
    }

    /// Namespaces of an application in which writes hang.
    pub(super) fn hanging_of(&self, application: &Arc<str>) -> impl Iterator<Item = &Arc<str>> {
        let of_application = move |[_, name]: &&Place| name == application;
        self.suspects.iter().filter(of_application).map(|[namespace, _]| namespace)
    }

    /// A write has ended: what that says of the API server. Returns what it was.
    pub(super) fn end<T>(
        &mut self,
        object: &ObjectRef,
        result: &Result<T, WriteError>,
        jitter: f64,
        now: Duration,
    ) -> Option<Pending> {
        let pending = self.pending.remove(object)?;
        if let Some((_, place)) = &pending.turn {
            let (took, behind) = (now.saturating_sub(pending.started), self.queue.waiting() > 0);
            self.limit.answered(took, result.is_ok(), behind, now);
            if !pending.late(now) {
                self.suspects.remove(place);
            }
            let [namespace, _] = place;
            self.health.ended(result, namespace);
            self.health.record_reachability(result, jitter, now);
        }
        Some(pending)
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
        let ends = |want: &Wanted| {
            want.kind == Kind::RobotDeleted && (want.is == Is::True || want.reason == Reason::StillClaimed)
        };
        let answered = entry.memory.final_answer().is_some()
            || matches!(
                entry.robot.conditions.reason(Kind::RobotDeleted),
                Some(Reason::Deleted | Reason::RoomNotFound | Reason::NotInRoom)
            );
        let priority = match step {
            _ if entry.robot.deleting_since.is_none() && unrecorded => Priority::Told,
            _ if entry.robot.deleting_since.is_none() => Priority::Live,
            Step::DropFinalizer if answered => Priority::Final,
            // Whoever chose `Retain` waits for the object to go, not for the room engine.
            Step::DropFinalizer => Priority::Released,
            _ if unrecorded => Priority::Record,
            Step::Report(wanted) if wanted.iter().any(ends) => Priority::Released,
            _ => Priority::Waiting,
        };
        if entry.state != State::WriteQueued(priority) {
            entry.state = State::WriteQueued(priority);
            self.writes.queue.push(priority, &entry.robot.application, &entry.robot.key.namespace, id);
        }
    }

    pub(super) fn send_writes(&mut self, now: Now) {
        let all = self.writes.concurrency;
        let most = match self.writes.health.next_try() {
            None => self.writes.limit.size(),
            Some(at) => usize::from(at <= now.since_start),
        };
        let Writes { pending, suspects, .. } = &mut self.writes;
        let mut hanging = 0;
        for (_, _, place) in in_turn(pending).filter(|(write, ..)| write.late(now.since_start)) {
            hanging += 1;
            if !suspects.contains(place) {
                suspects.insert(place.clone());
            }
        }
        let most_now = all.min(most + hanging);
        while self.writes.queue.waiting() > 0 && in_turn(&self.writes.pending).count() < most_now {
            let mut live = 0;
            let mut places: HashMap<&Place, usize> = HashMap::new();
            for (_, priority, place) in in_turn(&self.writes.pending) {
                live += usize::from(*priority == Priority::Live);
                *places.entry(place).or_default() += 1;
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
        let late = in_turn(&self.writes.pending).map(|(write, ..)| write.started + LATE);
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
        let mut wanted = Vec::new();
        let (mut attempt, mut to_add) = (false, false);
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
            Some(Step::Report(conditions)) => {
                let unrecorded = entry.memory.unrecorded();
                let records = unrecorded.is_some_and(|attempt| leadership::records(leading, attempt));
                if only_records && !records {
                    return;
                }
                attempt = unrecorded.is_some();
                to_add = plan::never_added(robot, &entry.memory);
                let status = status_patch(robot, &conditions, unrecorded, now);
                let accepts =
                    conditions.iter().any(|want| want.kind == Kind::Accepted && want.is == Is::True);
                if accepts && !robot.accepted() {
                    entry.accepting = robot.resource_version;
                }
                wanted = conditions;
                Change::Status(status)
            }
            // Something else is due meanwhile.
            _ => return self.reconcile(id, now),
        };
        entry.state = State::Writing;
        let robot = &entry.robot;
        let before = robot.conditions.reason(headline(robot));
        let place = [Arc::clone(&robot.key.namespace), Arc::clone(&robot.application)];
        let write = Write::to_robot(id, robot, change);
        let turn = Some((priority, place));
        let pending = Pending { attempt, to_add, turn, ..Pending::new(&write, wanted, before, now) };
        self.begin_write(write, pending);
    }

    pub(super) fn begin_write(&mut self, write: Write, pending: Pending) {
        self.writes.pending.insert(write.object.clone(), pending);
        self.effects.push(Effect::Write(Box::new(write)));
    }
}
