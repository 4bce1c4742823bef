//! The operator's core: everything that is known, everything that is under way, and what follows from an input.
//!
//! One task owns it and nothing else touches it. Inputs come in with the time, effects come out; it knows no client
//! and no async, so that every decision can be tested without either. `plan` decides for one robot; this module
//! holds what many robots share: lines for writes and calls, paces, applications, timers.
//!
//! # What inputs can show
//!
//! Decisions rest on these and on nothing more; the tests that hold each are named.
//!
//! - A list shows every object that was stored when it began, as it was then or later. What it does not show is gone
//!   (`lists`). A list that began before this process was elected may be older than what the process before it did
//!   (`claims::who_takes_over_acts_on_a_view_as_new_as_its_lease`).
//! - A watch tells of every object in the order of its versions, late, and may leave versions out. A view with a lower
//!   `resourceVersion` than the known one is older, and is not taken (`one_call::a_view_that_is_older_than_what_is_known_is_not_taken`).
//! - A watch that tells that an object is gone says so of this UID (`one_call::the_end_of_an_object_is_not_the_end_of_another_of_its_name`).
//!   With a selector it may only have left the shard.
//! - The reply to a write shows the object as that write left it, and may come after newer views. It is no proof that the
//!   object is still there (`views::a_reply_to_an_own_write_is_no_proof_that_a_list_will_show_the_object`).
//! - A write without a reply may be stored, now or later; for a status only while nothing else is written first
//!   (`views::a_status_that_comes_late_never_takes_the_place_of_a_newer_one`).
//! - 404 for the object means that it is gone, and the watch will say so, or show it again
//!   (`one_call::an_object_that_was_not_found_and_shows_again_is_served_again`). 404 for the namespace does not
//!   (`views::a_missing_namespace_is_not_a_missing_object`).
//! - Other writers may change, remove or move anything: finalizers, conditions, labels (`start`,
//!   `views::other_writers_neither_lose_their_conditions_nor_stop_a_deletion`). An identity that changes all the same is
//!   another robot (`one_call::a_name_that_is_used_again_is_another_robot`).
//! - An answer of the room engine that was final stays final for this RoomRobot, whatever is stored (`one_call`).

mod applications;
mod calls;
mod events;
mod leadership;
mod lines;
mod messages;
mod names;
mod snapshot;
#[cfg(test)]
mod tests;
mod views;
mod window;
mod writes;

pub use leadership::HANDOVER_GAP;
pub use messages::{
    Announcement, Answer, ApplicationWrite, Before, Call, Change, Effect, Input, Now, Write, WriteError,
};
pub use snapshot::{ApplicationSnapshot, PendingSnapshot, QuotaSnapshot, Snapshot, UNKNOWN};
pub use writes::{of_version, status_patch};

use crate::{
    application::{Application, Credentials, Labels},
    codes::Operation,
    crd::APPLICATION_FINALIZER,
    endpoint::Allowed,
    index::{Entry, Id, Index, Lane, State},
    pace::Pace,
    plan::{self, Counted, Facts, Step},
    robot::Robot,
    status::{Kind, Reason, Wanted},
};
use events::Events;
use leadership::Leadership;
use lines::{Lines, Place};
use names::Names;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};
use views::Views;
use window::Window;

/// What the engine is started with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Endpoints that calls may go to.
    pub allowed: Allowed,
    /// The operator's own namespace, for Events that have no other place.
    pub namespace: Arc<str>,
    /// The most writes to the API server that are ever under way at once.
    pub concurrency: usize,
    /// The part of the RoomRobots that this operator has, where it has not all of them: see [`crate::watch::Scope`].
    pub shard: Option<String>,
}

impl Settings {
    /// The finalizer that holds an RtcApplication while a RoomRobot of this operator refers to it; a shard has one of
    /// its own, so that shards do not take it off one another's applications.
    #[must_use]
    pub fn application_finalizer(&self) -> String {
        application_finalizer(self.shard.as_deref())
    }
}

/// The finalizer on RtcApplications of the operator that has this shard of the RoomRobots.
#[must_use]
pub fn application_finalizer(shard: Option<&str>) -> String {
    match shard {
        None => APPLICATION_FINALIZER.to_owned(),
        Some(shard) => format!("{APPLICATION_FINALIZER}-{shard}"),
    }
}

/// A namespace, as far as it is needed.
#[derive(Debug)]
struct Namespace {
    labels: Labels,
    terminating: bool,
}

/// Where a view of an object comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum From {
    /// A list or a watch.
    View,
    /// The reply to a write of this process.
    Reply,
}

/// The robots of one application name, whether or not there is such an application.
#[derive(Debug, Default)]
struct Tally {
    robots: usize,
    /// Those that hold the application: it has not refused them.
    holding: usize,
    /// Being deleted and held by our finalizer, or still to be added: whoever waits for the application.
    unfinished: BTreeSet<Id>,
    /// Of those, the ones being deleted.
    deleting: usize,
    /// Those whose last answer is not recorded.
    unrecorded: usize,
    /// Of those, the ones whose record has not failed yet, by command, in each namespace that has any.
    fresh: HashMap<Arc<str>, [usize; 2]>,
    /// The same of all namespaces.
    all_fresh: [usize; 2],
}

impl Tally {
    /// Takes one robot's share from what it `was` to what it is `now`.
    fn count(&mut self, was: Counted, now: Counted, namespace: &Arc<str>) {
        let move_by = |count: &mut usize, was: bool, now: bool| {
            *count = (*count + usize::from(now)).saturating_sub(usize::from(was));
        };
        move_by(&mut self.deleting, was.deleting, now.deleting);
        move_by(&mut self.holding, was.holding, now.holding);
        move_by(&mut self.unrecorded, was.unrecorded, now.unrecorded);
        if was.fresh == now.fresh {
            return;
        }
        let of_namespace = self.fresh.entry(Arc::clone(namespace)).or_default();
        for operation in Operation::ALL {
            let [was, now] = [was.fresh, now.fresh].map(|fresh| fresh == Some(operation));
            for counts in [&mut *of_namespace, &mut self.all_fresh] {
                if let Some(count) = counts.get_mut(operation as usize) {
                    move_by(count, was, now);
                }
            }
        }
        if *of_namespace == [0, 0] {
            self.fresh.remove(namespace);
        }
    }
}

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
    /// The lane it came from.
    lane: Lane,
    /// Whose it is.
    place: Place,
    /// It puts the finalizer on, or takes it off.
    of_finalizer: bool,
}

/// An application and what is under way for it.
#[derive(Debug)]
struct Seat {
    application: Application,
    deletions: lines::CallLine,
    additions: lines::CallLine,
    /// A robot that is to probe though nobody is in line: it has to be foretold that a call may follow.
    prober: Option<Id>,
    /// Who is to be told next that the room engine refuses, and why.
    telling_robots: [Option<Telling>; 2],
    writing: bool,
    /// The cluster refuses to put the finalizer on, or to take it off, with these words.
    refused: Option<String>,
    /// The cluster refuses its status.
    status_refused: bool,
    /// What is being written is the finalizer.
    writing_finalizer: bool,
    /// After writes of the finalizer that failed.
    finalizer_retry: Retry,
    /// After writes of the status that failed.
    status_retry: Retry,
    coarse: applications::Coarse,
    /// The conditions that are being written, and those that were written last.
    telling: Vec<Wanted>,
    told: Vec<Wanted>,
    /// The reason of Ready that `telling` takes the place of.
    telling_after: Option<Reason>,
    /// What is stored is not what was written last.
    overwritten: bool,
    /// No robot has referred to it since then.
    unused_since: Option<Duration>,
    /// When its last call went out.
    called_at: Duration,
}

/// When a write that failed is tried again.
#[derive(Clone, Copy, Debug, Default)]
struct Retry {
    /// How often in a row it failed.
    failed: u32,
    not_before: Duration,
}

impl Retry {
    fn is_due(&self, now: Duration) -> bool {
        now >= self.not_before
    }

    fn fail(&mut self, now: Duration, jitter: f64) {
        self.failed = self.failed.saturating_add(1);
        self.not_before = now + writes::retry_delay(self.failed, jitter);
    }
}

/// A walk over the robots that wait, to tell each that the room engine refuses: as the writes allow, and once for each
/// reason.
#[derive(Clone, Copy, Debug)]
struct Telling {
    reason: Reason,
    /// The last one that was looked at.
    after: Option<Id>,
    over: bool,
    /// Nobody has come in line since it was over.
    complete: bool,
}

/// Everything that is known and under way.
#[derive(Debug)]
pub struct Engine {
    settings: Settings,
    index: Index,
    seats: BTreeMap<Arc<str>, Seat>,
    tallies: HashMap<Arc<str>, Tally>,
    namespaces: HashMap<Arc<str>, Namespace>,
    secrets: BTreeMap<Arc<str>, Credentials>,
    names: Names,
    /// The last signature of each application name, over its removal.
    signatures: HashMap<Arc<str>, u64>,
    paces: HashMap<(u32, Operation), Pace>,
    /// How many applications share an SDKAppID.
    sharers: HashMap<u32, u32>,
    /// Whose turn it is among the applications of one SDKAppID.
    turns: HashMap<u32, usize>,
    lines: Lines,
    window: Window,
    /// The writes that are under way.
    pending: HashMap<Id, Pending>,
    timers: BTreeSet<(Duration, Id)>,
    /// Writes to applications, one at a time for each: they take no place of robots'.
    application_writes: usize,
    calls_in_flight: usize,
    /// Writes in a row that failed for whatever the API server has, or cannot be reached for.
    refusals: u32,
    /// The namespaces of their robots.
    refusing: HashSet<Arc<str>>,
    /// There was no way to the API server when a write was last tried.
    cut_off: Option<writes::CutOff>,
    /// Namespaces whose writes hang or have hung, each with one write at a time until one is answered.
    suspects: HashSet<Place>,
    views: Views,
    leadership: Leadership,
    /// Times that a robot was looked at.
    reconciles: u64,
    events: Events,
    random: fastrand::Rng,
    effects: Vec<Effect>,
    /// How often a robot was looked at.
    #[cfg(test)]
    looks: usize,
}

impl Engine {
    /// An engine that knows nothing yet. It acts once it is leading and every list is in; RoomRobots come as
    /// `robot_scopes` separate lists.
    #[must_use]
    pub fn new(settings: Settings, robot_scopes: usize, seed: u64) -> Self {
        Self {
            window: Window::new(settings.concurrency),
            settings,
            index: Index::default(),
            seats: BTreeMap::new(),
            tallies: HashMap::new(),
            namespaces: HashMap::new(),
            secrets: BTreeMap::new(),
            names: Names::default(),
            signatures: HashMap::new(),
            paces: HashMap::new(),
            sharers: HashMap::new(),
            turns: HashMap::new(),
            lines: Lines::default(),
            pending: HashMap::new(),
            timers: BTreeSet::new(),
            application_writes: 0,
            calls_in_flight: 0,
            refusals: 0,
            refusing: HashSet::new(),
            cut_off: None,
            suspects: HashSet::new(),
            views: Views::new(robot_scopes),
            leadership: Leadership::default(),
            reconciles: 0,
            events: Events::default(),
            random: fastrand::Rng::with_seed(seed),
            effects: Vec::new(),
            #[cfg(test)]
            looks: 0,
        }
    }

    /// Whether every first list is in.
    #[must_use]
    pub fn synced(&self) -> bool {
        self.views.are_complete()
    }

    /// Whether this process is the one that acts, or is about to.
    #[must_use]
    pub const fn elected(&self) -> bool {
        self.leadership.is_elected()
    }

    /// Whether nothing is under way that a process which ends would leave without a record.
    #[must_use]
    pub fn drained(&self) -> bool {
        // An attempt that no write will tell of, such as an addition's when the deletion has come, is not waited for.
        let waits = |(id, entry): (Id, &Entry)| {
            entry
                .memory
                .unrecorded()
                .is_some_and(|attempt| leadership::records(self.leadership.leads(), attempt))
                && entry.state != State::Vanished
                && matches!(self.step(id, Duration::ZERO), Some(Step::Report(_)))
        };
        self.calls_in_flight == 0
            && self.pending.len() + self.application_writes == 0
            && !(self.leadership.is_active() && self.index.iter().any(waits))
    }

    /// The robots that are known.
    #[must_use]
    pub fn robots(&self) -> &Index {
        &self.index
    }

    /// How often a robot was looked at.
    #[must_use]
    pub const fn reconciles(&self) -> u64 {
        self.reconciles
    }

    /// Takes one input.
    pub fn handle(&mut self, input: Input, now: Now) {
        match input {
            Input::RobotsCut(scope) => self.views.robots_cut(scope),
            Input::RobotsListing(scope, round) => self.views.robots_begin(scope, round),
            Input::Robot(robot) => {
                self.observe_predecessor(&robot, now);
                self.store(*robot, From::View, now);
            }
            Input::RobotGone(key, uid) => {
                self.watch_tells_of(&key.namespace, now);
                if let Some(id) = self.index.find(&key)
                    && self.index.get(id).is_some_and(|entry| entry.robot.uid == uid)
                {
                    self.forget(id, now);
                }
            }
            Input::RobotsListed(scope) => self.robots_listed(&scope, now),
            Input::Application(spec) => self.store_application(*spec, now),
            Input::ApplicationGone(name) => self.forget_application(&name, now),
            Input::ApplicationsListing(round) => self.views.applications_begin(round),
            Input::ApplicationsListed(names) => self.applications_listed(&names, now),
            Input::Namespace(name, labels, terminating) => {
                self.store_namespace(&name, Namespace { labels, terminating }, now);
            }
            Input::NamespaceGone(name) => drop(self.namespaces.remove(&name)),
            Input::NamespacesListed(names) => {
                self.namespaces.retain(|name, _| names.contains(name));
                self.views.namespaces_end();
            }
            Input::Secret(name, credentials) => self.store_secret(&name, &credentials, now),
            Input::Answered(answer) => self.answered(answer, now),
            Input::Written(id, result) => self.written(id, *result, now),
            Input::ApplicationWritten(name, result) => self.application_written(&name, *result, now),
            Input::Unsent(call) => self.unsent(&call, now),
            Input::Leading(before) => self.elect(before, now),
            Input::Lost => self.leadership.lose(),
            Input::Stop => self.leadership.stop(),
        }
        let leadership = &self.leadership;
        if leadership.is_elected() && !leadership.leads() && self.views.are_of(leadership.round()) {
            self.begin(now);
        }
    }

    /// Does what is due, and hands out everything that is to be done.
    pub fn advance(&mut self, now: Now) -> Vec<Effect> {
        while let Some((at, id)) = self.timers.first().copied().filter(|(at, _)| *at <= now.since_start) {
            self.timers.remove(&(at, id));
            if let Some(entry) = self.index.get_mut(id) {
                entry.timer = None;
            }
            self.touch(id, now);
        }
        if self.leadership.is_active() {
            self.tick_applications(now);
            self.tell_robots(now);
            self.send_writes(now);
            self.send_calls(now);
            // Who was next to be called for may need a write instead.
            self.send_writes(now);
        }
        std::mem::take(&mut self.effects)
    }

    /// When [`Engine::advance`] has something to do again, if nothing else happens.
    #[must_use]
    pub fn next_due(&self, now: Duration) -> Option<Duration> {
        let timer = self.timers.first().map(|(at, _)| *at);
        if !self.leadership.is_active() {
            return timer;
        }
        let writes = self.writes_due(now).into_iter().chain(self.telling_due(now)).min();
        timer.into_iter().chain(self.applications_due()).chain(self.calls_due(now)).chain(writes).min()
    }

    /// Takes a RoomRobot as it was stored, unless something newer is known.
    fn store(&mut self, mut robot: Robot, from: From, now: Now) {
        robot.key.namespace = self.names.intern(&robot.key.namespace);
        robot.application = self.names.intern(&robot.application);
        let mut known = self.index.find(&robot.key);
        if let Some(id) = known
            && let Some(entry) = self.index.get(id)
        {
            let another = entry.robot.uid != robot.uid
                || !entry.robot.same_robot(&robot)
                || entry.robot.application != robot.application;
            if another {
                // The name was used again, or an identity that should be immutable has changed: a new start.
                self.forget(id, now);
                known = None;
            } else if robot.resource_version < entry.robot.resource_version {
                let epoch = self.views.epoch();
                if let Some(entry) = self.index.get_mut(id).filter(|_| from == From::View) {
                    entry.epoch = epoch;
                }
                return;
            }
        }
        let id = match known {
            None => {
                let tally = self.tallies.entry(Arc::clone(&robot.application)).or_default();
                tally.robots += 1;
                self.index.insert(robot, self.views.epoch())
            }
            Some(id) => {
                let epoch = self.views.epoch();
                let Some(entry) = self.index.get_mut(id) else {
                    return;
                };
                if entry.robot.generation != robot.generation {
                    entry.memory.start_afresh();
                    entry.try_writes_at_once();
                }
                if entry.robot.creation_policy != robot.creation_policy {
                    // Under the other policy the robot may have come by other means: it is removed in any case.
                    entry.memory.additions = plan::Additions::Untold;
                }
                if entry.state == State::Vanished {
                    entry.state = State::Idle;
                }
                if entry.robot.finalizers.ours.is_some() != robot.finalizers.ours.is_some() {
                    // What was refused is stored all the same.
                    entry.refused = None;
                }
                entry.robot = robot;
                if from == From::View {
                    entry.epoch = epoch;
                }
                id
            }
        };
        self.recount(id, now);
        if known.is_none()
            && let Some(name) = self.index.get(id).map(|entry| Arc::clone(&entry.robot.application))
        {
            self.application_robots_changed(&name, now);
        }
        self.touch(id, now);
    }

    /// A robot that may take over a removal releases the deletions of others that stand for the same robot. Where others
    /// could take over already, they have been released.
    fn release_rivals(&mut self, id: Id, now: Now) {
        let Some(entry) = self.index.get(id) else { return };
        let robot = &entry.robot;
        let rivals: Vec<Id> = self
            .names_of_same_sdk_app_id(&robot.application)
            .flat_map(|name| self.index.claimants(name, robot))
            .filter(|other| *other != id)
            .filter(|other| self.index.get(*other).is_some_and(|other| other.robot.deleting_since.is_some()))
            .collect();
        for rival in rivals {
            self.touch(rival, now);
        }
    }

    /// The names of the applications that have the SDKAppID of `name`, itself included.
    fn names_of_same_sdk_app_id<'a>(&'a self, name: &'a Arc<str>) -> impl Iterator<Item = &'a Arc<str>> {
        let sdk_app_id = self.seats.get(name).map(|seat| seat.application.spec.sdk_app_id);
        let others = self.seats.iter().filter(move |(other, seat)| {
            Some(seat.application.spec.sdk_app_id) == sdk_app_id && *other != name
        });
        [name].into_iter().chain(others.map(|(other, _)| other))
    }

    fn forget(&mut self, id: Id, now: Now) {
        let Some(entry) = self.index.remove(id) else {
            return;
        };
        if let Some(at) = entry.timer {
            self.timers.remove(&(at, id));
        }
        let Entry { robot, memory, .. } = entry;
        let name = robot.application;
        if let Some(tally) = self.tallies.get_mut(&name) {
            tally.robots = tally.robots.saturating_sub(1);
            tally.unfinished.remove(&id);
            tally.count(memory.counted, Counted::default(), &robot.key.namespace);
            if tally.robots == 0 {
                self.tallies.remove(&name);
            }
        }
        self.application_robots_changed(&name, now);
        self.names.forget();
    }

    /// Keeps the tally true for `id`, and whether it may take over the removal of its robot.
    fn recount(&mut self, id: Id, now: Now) {
        let Some(entry) = self.index.get(id) else { return };
        let robot = &entry.robot;
        let deleting = robot.deleting_since.is_some() && robot.finalizers.ours.is_some();
        let adding = robot.deleting_since.is_none()
            && robot.creation_policy == crate::crd::CreationPolicy::Create
            && !robot.conditions.is_true(Kind::Ready);
        let unrecorded = entry.memory.unrecorded().map(|attempt| attempt.operation);
        let counted = Counted {
            deleting,
            holding: entry.accepting == robot.resource_version && entry.accepting > 0
                || self.holds_its_application(robot),
            unrecorded: unrecorded.is_some(),
            fresh: unrecorded.filter(|_| entry.failed_writes == 0),
        };
        let heir = plan::may_inherit(robot, &entry.memory);
        let (was, was_heir) = (entry.memory.counted, entry.heir);
        if let Some(tally) = self.tallies.get_mut(&robot.application) {
            if deleting || adding {
                tally.unfinished.insert(id);
            } else {
                tally.unfinished.remove(&id);
            }
            tally.count(was, counted, &robot.key.namespace);
        }
        let name = Arc::clone(&robot.application);
        if let Some(entry) = self.index.get_mut(id) {
            entry.memory.counted = counted;
        }
        if was.deleting != deleting
            && let Some(seat) = self.seats.get_mut(&name)
        {
            seat.coarse.dirty = true;
        }
        if was.holding != counted.holding {
            self.application_robots_changed(&name, now);
        }
        if heir != was_heir && self.index.set_heir(id, heir) {
            self.release_rivals(id, now);
        }
    }

    /// Whether the application has to stay for this robot: one that it refused is nothing to wait for.
    fn holds_its_application(&self, robot: &Robot) -> bool {
        if robot.accepted() {
            return robot.deleting_since.is_none() || robot.finalizers.ours.is_some();
        }
        let Some(seat) = self.seats.get(&robot.application) else { return true };
        let application = &seat.application;
        let refused = robot.conditions.reason(Kind::Accepted).is_some();
        let going = robot.deleting_since.is_some() && robot.finalizers.ours.is_none();
        !going
            && application.admits(self.labels(&robot.key.namespace)) != Some(false)
            && !(application.spec.deleting && (refused || robot.deleting_since.is_none()))
    }

    fn labels(&self, namespace: &Arc<str>) -> Option<&Labels> {
        self.namespaces.get(namespace).map(|namespace| &namespace.labels)
    }

    /// What the list did not show is gone. Only what a list or a watch showed counts: the reply to a write says that the
    /// object was there when it was written, and the object may have gone since, with nobody left to tell.
    fn robots_listed(&mut self, scope: &Option<Arc<str>>, now: Now) {
        let begun = self.views.robots_end(scope.clone());
        let gone: Vec<Id> = self
            .index
            .iter()
            .filter(|(_, entry)| entry.epoch < begun)
            .filter(|(_, entry)| {
                scope.as_ref().is_none_or(|namespace| entry.robot.key.namespace == *namespace)
            })
            .map(|(id, _)| id)
            .collect();
        for id in gone {
            self.forget(id, now);
        }
    }

    fn store_namespace(&mut self, name: &Arc<str>, namespace: Namespace, now: Now) {
        let before = self.namespaces.get(name);
        let appeared = before.is_none();
        let changed = before.is_none_or(|before| before.labels != namespace.labels);
        self.namespaces.insert(Arc::clone(name), namespace);
        if !changed {
            return;
        }
        if appeared {
            // It may have been made again: writes to what was left in it were refused until now.
            self.index
                .all_mut()
                .filter(|entry| entry.robot.key.namespace == *name)
                .for_each(Entry::try_writes_at_once);
        }
        self.recount_and_touch_where(now, |entry| {
            entry.robot.key.namespace == *name && (appeared || !entry.robot.accepted())
        });
    }

    fn touch_everything(&mut self, now: Now) {
        self.touch_where(now, |_| true);
        let names: Vec<_> = self.seats.keys().cloned().collect();
        for name in names {
            self.touch_application(&name, now);
        }
    }

    fn ids_where(&self, which: impl Fn(&Entry) -> bool) -> Vec<Id> {
        self.index.iter().filter(|(_, entry)| which(entry)).map(|(id, _)| id).collect()
    }

    fn recount_and_touch_where(&mut self, now: Now, which: impl Fn(&Entry) -> bool) {
        for id in self.ids_where(which) {
            self.recount(id, now);
            self.touch(id, now);
        }
    }

    fn touch_where(&mut self, now: Now, which: impl Fn(&Entry) -> bool) {
        for id in self.ids_where(which) {
            self.touch(id, now);
        }
    }

    /// What to do next for `id`, as far as it is known now.
    fn step(&self, id: Id, now: Duration) -> Option<Step> {
        let name = &self.index.get(id)?.robot.application;
        let probes = self.seats.get(name).is_some_and(|seat| seat.prober == Some(id));
        self.step_under(id, now, !probes)
    }

    /// As [`Engine::step`]; without `heeds_refusals` as if the room engine had refused nothing, to find a robot to probe with.
    fn step_under(&self, id: Id, now: Duration, heeds_refusals: bool) -> Option<Step> {
        let entry = self.index.get(id)?;
        let robot = &entry.robot;
        let operation = Operation::of(robot.deleting_since.is_some());
        let seat = self.seats.get(&robot.application);
        let hold =
            seat.and_then(|seat| self.hold(seat, operation)).filter(|hold| heeds_refusals || !hold.refusal);
        let application = seat.map_or(plan::Application::Missing, |seat| {
            let application = &seat.application;
            plan::Application::Found {
                deleting: application.spec.deleting,
                admits: application.admits(self.labels(&robot.key.namespace)),
                held: application.spec.finalizers.ours.is_some(),
                refused: seat.refused.as_deref(),
                hold: hold.as_ref(),
            }
        });
        let heir = robot.deleting_since.and_then(|_| self.heir(id, robot));
        // Where the status cannot be written either, the finalizer is tried for itself.
        let refused = entry.refused.as_deref().filter(|_| !entry.status_refused);
        Some(plan::plan(&Facts {
            robot,
            application,
            heir: heir.map(|heir| &heir.robot.key),
            heir_comes: robot.deleting_since.is_some() && heir.is_none() && self.heir_comes(id, robot),
            refused: refused.map(|refused| refused.words.as_str()),
            memory: &entry.memory,
            settled: self.leadership.since() + plan::AFTERMATH,
            now,
        }))
    }

    /// Another RoomRobot that takes over the removal of the same robot of the same SDKAppID.
    fn heir(&self, id: Id, robot: &Robot) -> Option<&Entry> {
        self.names_of_same_sdk_app_id(&robot.application).find_map(|name| self.index.heir(name, robot, id))
    }

    /// Whether another one that stands for the same robot is being taken in charge, and nothing is known to stand in the way.
    fn heir_comes(&self, id: Id, robot: &Robot) -> bool {
        let comes = |entry: &Entry| {
            let healthy = entry.failed_writes == 0 && entry.refused.is_none() && !entry.status_refused;
            let seat = self.seats.get(&entry.robot.application).filter(|seat| {
                let application = &seat.application;
                let takes = application.admits(self.labels(&entry.robot.key.namespace)) == Some(true);
                takes && !application.spec.deleting && seat.refused.is_none()
            });
            healthy && seat.is_some() && plan::is_to_inherit(&entry.robot)
        };
        self.names_of_same_sdk_app_id(&robot.application)
            .flat_map(|name| self.index.latest_claimants(name, robot))
            .filter(|other| *other != id)
            .filter_map(|other| self.index.get(other))
            .any(comes)
    }

    /// Looks at `id` again and puts it in the line that its next step needs.
    fn touch(&mut self, id: Id, now: Now) {
        if !self.leadership.is_active() {
            return;
        }
        #[cfg(test)]
        {
            self.looks += 1;
        }
        let Some(entry) = self.index.get(id) else { return };
        if matches!(entry.state, State::Writing | State::Calling | State::Vanished) {
            return;
        }
        let Some(step) = self.step(id, now.since_start) else {
            return;
        };
        self.reconciles += 1;
        let of_finalizer = matches!(step, Step::AddFinalizer | Step::DropFinalizer);
        let refused = entry.refused.as_deref().filter(|_| of_finalizer);
        let blocked = refused.map_or(Duration::ZERO, |refused| refused.not_before).max(entry.blocked_until);
        let blocked = Some(blocked).filter(|until| *until > now.since_start);
        match step {
            Step::Rest => self.set_state(id, State::Idle),
            Step::Wait(until) => {
                self.set_state(id, State::Idle);
                self.set_timer(id, until);
            }
            Step::Call(operation) => self.queue_call(id, operation, false),
            Step::AddFinalizer | Step::DropFinalizer | Step::Report(_) => match blocked {
                Some(until) => {
                    self.set_state(id, State::Idle);
                    self.set_timer(id, until);
                }
                None => self.queue_write(id, &step),
            },
        }
    }

    fn set_state(&mut self, id: Id, state: State) {
        if let Some(entry) = self.index.get_mut(id) {
            entry.state = state;
        }
    }

    fn set_timer(&mut self, id: Id, at: Duration) {
        let Some(entry) = self.index.get_mut(id) else {
            return;
        };
        if let Some(before) = entry.timer.replace(at) {
            self.timers.remove(&(before, id));
        }
        self.timers.insert((at, id));
    }
}
