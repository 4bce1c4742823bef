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
//!   (`claims::who_takes_over_acts_on_a_view_as_new_as_its_lease`). It comes one by one: until it is complete, what it has
//!   not shown yet may be older than what it has
//!   (`claims::a_deletion_that_a_list_shows_waits_until_the_list_is_complete`).
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

mod application_state;
mod application_status;
mod applications;
mod backpressure;
mod calls;
mod claims;
mod concurrency_limit;
mod counts;
mod events;
mod leadership;
mod messages;
mod patches;
mod queue;
mod refusals;
mod robots;
mod snapshot;
#[cfg(test)]
mod tests;
mod views;
mod write_health;
mod writes;
mod written;

pub use leadership::HANDOVER_GAP;
pub use messages::{
    Announcement, Answer, Before, Call, Change, Effect, Input, Now, ObjectRef, StoredObject, Write,
    WriteError,
};
pub use patches::{of_version, status_patch};
pub use snapshot::{ApplicationSnapshot, PendingSnapshot, QuotaSnapshot, Snapshot, UNKNOWN};

use crate::{
    codes::Operation,
    crd::APPLICATION_FINALIZER,
    endpoint::Allowed,
    index::{Entry, Id, Index, State},
    plan::{self, Facts, Step},
    write_trouble::Part,
};
use application_state::Applications;
use calls::Calls;
use events::Events;
use leadership::Leadership;
use robots::{From, Namespace};
use std::{collections::HashMap, sync::Arc, time::Duration};
use views::Views;
use writes::Writes;

/// What the engine is started with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Endpoints that calls may go to.
    pub allowed: Allowed,
    /// The operator's own namespace, for Events that have no other place.
    pub namespace: Arc<str>,
    /// The most writes to the API server that are ever under way at once.
    pub concurrency: usize,
    /// The part of the RoomRobots that this operator has, where it has not all of them: the one that its label selector names.
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

/// Everything that is known and under way.
#[derive(Debug)]
pub struct Engine {
    settings: Settings,
    robots: Index,
    applications: Applications,
    namespaces: HashMap<Arc<str>, Namespace>,
    calls: Calls,
    writes: Writes,
    views: Views,
    leadership: Leadership,
    /// Times that a robot was looked at.
    reconciles: u64,
    events: Events,
    random: fastrand::Rng,
    effects: Vec<Effect>,
}

impl Engine {
    /// An engine that knows nothing yet. It acts once it is leading and every list is in; RoomRobots come as
    /// `robot_scopes` separate lists.
    #[must_use]
    pub fn new(settings: Settings, robot_scopes: usize, seed: u64) -> Self {
        Self {
            writes: Writes::new(settings.concurrency),
            settings,
            robots: Index::default(),
            applications: Applications::default(),
            namespaces: HashMap::new(),
            calls: Calls::default(),
            views: Views::new(robot_scopes),
            leadership: Leadership::default(),
            reconciles: 0,
            events: Events::default(),
            random: fastrand::Rng::with_seed(seed),
            effects: Vec::new(),
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
        self.calls.in_flight() == 0
            && self.writes.under_way() == 0
            && !(self.leadership.is_active() && self.robots.iter().any(waits))
    }

    /// The robots that are known.
    #[must_use]
    pub fn robots(&self) -> &Index {
        &self.robots
    }

    /// How often a robot was looked at.
    #[must_use]
    pub const fn reconciles(&self) -> u64 {
        self.reconciles
    }

    /// Takes one input.
    pub fn handle(&mut self, input: Input, now: Now) {
        match input {
            Input::RobotsListing(scope, round) => self.views.robots_begin(scope, round),
            Input::Robot(robot) => {
                self.store(*robot, From::View, now);
            }
            Input::RobotGone(key, uid) => {
                if let Some(id) = self.robots.find(&key)
                    && self.robots.get(id).is_some_and(|entry| entry.robot.uid == uid)
                {
                    self.forget(id, now);
                }
            }
            Input::RobotsListed(scope) => self.robots_listed(scope, now),
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
            Input::Written(object, result) => self.written(object, result, now),
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
        while let Some(id) = self.robots.take_due(now.since_start) {
            self.reconcile(id, now);
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
        let timer = self.robots.next_timer();
        if !self.leadership.is_active() {
            return timer;
        }
        let writes = self.writes_due(now).into_iter().chain(self.telling_due(now)).min();
        timer.into_iter().chain(self.applications_due()).chain(self.calls_due(now)).chain(writes).min()
    }

    fn reconcile_everything(&mut self, now: Now) {
        self.reconcile_where(now, |_| true);
        let names: Vec<_> = self.applications.keys().cloned().collect();
        for name in names {
            self.reconcile_application(&name, now);
        }
    }

    fn ids_where(&self, which: impl Fn(&Entry) -> bool) -> Vec<Id> {
        self.robots.iter().filter(|(_, entry)| which(entry)).map(|(id, _)| id).collect()
    }

    fn recount_and_reconcile_where(&mut self, now: Now, which: impl Fn(&Entry) -> bool) {
        for id in self.ids_where(which) {
            self.recount(id, now);
            self.reconcile(id, now);
        }
    }

    fn reconcile_where(&mut self, now: Now, which: impl Fn(&Entry) -> bool) {
        for id in self.ids_where(which) {
            self.reconcile(id, now);
        }
    }

    /// What to do next for `id`, as far as it is known now.
    fn step(&self, id: Id, now: Duration) -> Option<Step> {
        let name = &self.robots.get(id)?.robot.application;
        let probes = self.applications.get(name).is_some_and(|state| state.prober == Some(id));
        self.step_under(id, now, !probes)
    }

    /// As [`Engine::step`]; without `heeds_refusals` as if the room engine had refused nothing, to find a robot to probe with.
    fn step_under(&self, id: Id, now: Duration, heeds_refusals: bool) -> Option<Step> {
        let entry = self.robots.get(id)?;
        let robot = &entry.robot;
        let operation = Operation::of(robot.deleting_since.is_some());
        let state = self.applications.get(&robot.application);
        let hold = state
            .and_then(|state| self.hold(state, operation))
            .filter(|hold| heeds_refusals || !hold.refusal);
        let application = state.map_or(plan::Application::Missing, |state| {
            let application = &state.application;
            plan::Application::Found {
                deleting: application.spec.deleting,
                admits: application.admits(self.labels(&robot.key.namespace)),
                held: application.spec.finalizers.ours.is_some(),
                refused: state.write_trouble.refused(Part::Finalizer),
                hold: hold.as_ref(),
            }
        });
        let heir = robot.deleting_since.and_then(|_| self.heir(id, robot));
        // Where the status cannot be written either, the finalizer is tried for itself.
        let trouble = &entry.write_trouble;
        let refused = trouble.refused(Part::Finalizer).filter(|_| trouble.refused(Part::Status).is_none());
        Some(plan::plan(&Facts {
            robot,
            application,
            heir: heir.map(|heir| &heir.robot.key),
            heir_comes: robot.deleting_since.is_some() && heir.is_none() && self.heir_comes(id, robot),
            refused,
            half_listed: entry.half_listed,
            memory: &entry.memory,
            settled: self.leadership.since() + plan::AFTERMATH,
            now,
        }))
    }

    /// Looks at `id` again and puts it in the line that its next step needs.
    fn reconcile(&mut self, id: Id, now: Now) {
        if !self.leadership.is_active() {
            return;
        }
        self.reconciles += 1;
        let Some(entry) = self.robots.get(id) else { return };
        if matches!(entry.state, State::Writing | State::Calling | State::Vanished) {
            return;
        }
        let Some(step) = self.step(id, now.since_start) else {
            return;
        };
        let part = match step {
            Step::Rest => return self.set_state(id, State::Idle),
            Step::Wait(until) => return self.wait(id, until),
            Step::Call(operation) => return self.queue_call(id, operation, false),
            Step::AddFinalizer | Step::DropFinalizer => Part::Finalizer,
            Step::Report(_) => Part::Status,
        };
        let not_before = entry.write_trouble.not_before(part);
        if not_before > now.since_start {
            self.wait(id, not_before);
        } else {
            self.queue_write(id, &step);
        }
    }

    fn wait(&mut self, id: Id, until: Duration) {
        self.set_state(id, State::Idle);
        self.robots.set_timer(id, until);
    }

    fn set_state(&mut self, id: Id, state: State) {
        if let Some(entry) = self.robots.get_mut(id) {
            entry.state = state;
        }
    }
}
