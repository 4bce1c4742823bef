//! RtcApplications: their Secrets, their finalizer, their condition and counts.

use super::{
    Change, Effect, Engine, Now, ObjectRef, State, Write,
    application_state::{ApplicationState, Applications},
    writes::Pending,
};
use crate::{
    application::{Application, Credentials, StoredApplication},
    codes::PerOperation,
    robot::Finalizers,
    status::Kind,
    write_trouble::{Part, WriteTrouble},
};
use std::{collections::BTreeSet, sync::Arc, time::Duration};

/// How long an application is unused before its finalizer goes: not each robot of a row costs two writes.
const UNUSED: Duration = Duration::from_secs(1);

impl Engine {
    pub(super) fn store_application(&mut self, mut spec: StoredApplication, now: Now) {
        spec.name = self.robots.intern(&spec.name);
        spec.finalizers = Finalizers::read(&spec.finalizer_names, &self.settings.application_finalizer());
        let name = Arc::clone(&spec.name);
        let sdk_app_id = spec.sdk_app_id;
        let what_decides =
            |spec: &StoredApplication| (spec.generation, spec.deleting, spec.finalizers.ours.is_some());
        let (mut decides, mut afresh) = (true, true);
        match self.applications.get_mut(&name) {
            Some(state) if state.application.spec.uid == spec.uid => {
                let before = &state.application.spec;
                if spec.resource_version < before.resource_version {
                    return;
                }
                decides = what_decides(before) != what_decides(&spec);
                afresh = state.application.update(spec);
                if afresh {
                    state.status.recorded.clear();
                }
            }
            known => {
                // Created again under its name: nothing that was learnt about the one before counts.
                let lines = known.map(|state| {
                    (std::mem::take(&mut state.deletions), std::mem::take(&mut state.additions))
                });
                let (deletions, additions) = lines.unwrap_or_default();
                let state = ApplicationState::new(Application::new(spec), deletions, additions);
                let before = self.applications.states.insert(Arc::clone(&name), state);
                if let Some(before) = before.map(|state| state.application.spec.sdk_app_id) {
                    self.share_paces(before);
                }
            }
        }
        if let Some(state) = self.applications.get_mut(&name) {
            let spec = &state.application.spec;
            state.status.overwritten = !state.status.recorded.is_empty()
                && !spec.conditions.say(&state.status.recorded, spec.generation);
        }
        if decides {
            self.share_paces(sdk_app_id);
            self.look_up_secret(&name);
            self.forget_secrets();
        }
        if afresh {
            self.forget_waits(&name);
        }
        if self.leadership.is_active() {
            if decides {
                // Acceptance, holds and rivals all depend on the application, but on nothing of its status.
                self.recount_and_reconcile_where(now, |entry| {
                    entry.robot.application == name
                        && (!entry.robot.accepted() || entry.robot.deleting_since.is_some())
                });
                self.reconcile_unfinished(&name, now);
            }
            self.application_robots_changed(&name, now);
        }
    }

    /// Another process has acted meanwhile: what calls and writes taught this one no longer counts.
    pub(super) fn application_afresh(&mut self, name: &Arc<str>) {
        let Some(state) = self.applications.get_mut(name) else {
            return;
        };
        state.application.start_afresh();
        state.status.recorded.clear();
        state.recount();
        (state.prober, state.telling_robots) = (None, PerOperation::default());
        state.write_trouble = WriteTrouble::default();
    }

    pub(super) fn forget_application(&mut self, name: &Arc<str>, now: Now) {
        let Some(state) = self.applications.states.remove(name) else {
            return;
        };
        self.share_paces(state.application.spec.sdk_app_id);
        self.forget_secrets();
        if self.leadership.is_active() {
            // Those in line for a call stood in a line that is gone.
            let lost: Vec<_> = self
                .robots
                .iter()
                .filter(|(_, entry)| entry.robot.application == *name)
                .map(|(id, _)| id)
                .collect();
            for id in lost {
                if let Some(entry) = self.robots.get_mut(id) {
                    entry.in_lines = PerOperation::default();
                    if matches!(entry.state, State::CallQueued(_)) {
                        entry.state = State::Idle;
                    }
                }
                self.recount(id, now);
                self.reconcile(id, now);
            }
        }
    }

    pub(super) fn applications_listed(&mut self, names: &BTreeSet<Arc<str>>, now: Now) {
        let gone: Vec<_> = self.applications.keys().filter(|name| !names.contains(*name)).cloned().collect();
        for name in gone {
            self.forget_application(&name, now);
        }
        self.views.applications_end();
    }

    /// Asks for the application's Secret, or takes what is known of it.
    fn look_up_secret(&mut self, name: &Arc<str>) {
        let Applications { states, secrets, .. } = &mut self.applications;
        let Some(state) = states.get_mut(name) else {
            return;
        };
        let secret = Arc::clone(&state.application.spec.secret);
        if let Some(credentials) = secrets.get(&secret) {
            state.application.set_credentials(credentials.clone());
        } else {
            secrets.insert(Arc::clone(&secret), Credentials::Unknown);
            self.effects.push(Effect::WatchSecret(secret));
        }
    }

    /// Stops watching Secrets that no application names.
    fn forget_secrets(&mut self) {
        let used: BTreeSet<_> =
            self.applications.values().map(|state| Arc::clone(&state.application.spec.secret)).collect();
        let unused: Vec<_> =
            self.applications.secrets.keys().filter(|name| !used.contains(*name)).cloned().collect();
        for name in unused {
            self.applications.secrets.remove(&name);
            self.effects.push(Effect::ForgetSecret(name));
        }
    }

    pub(super) fn store_secret(&mut self, secret: &Arc<str>, credentials: &Credentials, now: Now) {
        let Some(known) = self.applications.secrets.get_mut(secret) else { return };
        let unread = matches!(known, Credentials::Unknown | Credentials::Unreadable(_));
        if matches!(credentials, Credentials::Unreadable(_)) && !unread {
            // What was read before is as good as it was.
            return;
        }
        known.clone_from(credentials);
        let users: Vec<_> = self
            .applications
            .states
            .iter_mut()
            .filter(|(_, state)| state.application.spec.secret == *secret)
            .filter_map(|(name, state)| {
                state.application.set_credentials(credentials.clone()).then(|| Arc::clone(name))
            })
            .collect();
        for name in users {
            self.forget_waits(&name);
            self.reconcile_unfinished(&name, now);
            self.reconcile_application(&name, now);
        }
    }

    /// What calls go out with has changed: whichever robot waits because of earlier answers is tried at once.
    fn forget_waits(&mut self, name: &Arc<str>) {
        for id in self.applications.counts(name).into_iter().flat_map(|counts| &counts.unfinished) {
            if let Some(entry) = self.robots.get_mut(*id) {
                entry.memory.start_afresh();
            }
        }
        if let Some(state) = self.applications.get_mut(name) {
            // What robots say meanwhile is not what they were told.
            (state.prober, state.telling_robots) = (None, PerOperation::default());
        }
    }

    /// Whether the application has to stay for one of its robots.
    fn holds(&self, name: &Arc<str>) -> bool {
        self.applications.counts(name).is_some_and(|counts| counts.holding > 0)
    }

    /// Robots came to refer to the application, or stopped.
    pub(super) fn application_robots_changed(&mut self, name: &Arc<str>, now: Now) {
        let used = self.holds(name);
        let Some(state) = self.applications.get_mut(name) else {
            return;
        };
        state.recount();
        state.unused_since = if used { None } else { state.unused_since.or(Some(now.since_start)) };
        self.reconcile_application(name, now);
    }

    /// Does what is due for the applications.
    pub(super) fn tick_applications(&mut self, now: Now) {
        let due: Vec<_> = self
            .applications
            .iter()
            .filter(|(_, state)| self.application_due(state).is_some_and(|at| at <= now.since_start))
            .map(|(name, _)| Arc::clone(name))
            .collect();
        for name in due {
            self.reconcile_application(&name, now);
        }
    }

    pub(super) fn applications_due(&self) -> Option<Duration> {
        self.applications.values().filter_map(|state| self.application_due(state)).min()
    }

    fn application_due(&self, state: &ApplicationState) -> Option<Duration> {
        if self.leadership.only_records() {
            return None;
        }
        let spec = &state.application.spec;
        let waiting = self.applications.counts(&spec.name).is_some_and(|counts| counts.deleting > 0);
        let news = state.status.coarse.dirty
            || waiting
            || state.status.overwritten
            || spec.counts != state.status.coarse.counts();
        let not_before = |part| state.write_trouble.not_before(part);
        let tells = news && self.tells_about(state);
        let counts = tells.then(|| state.status.coarse.next.max(not_before(Part::Status)));
        let held = spec.finalizers.ours.is_some();
        let unused = state.unused_since.filter(|_| held);
        let unused = unused.map(|since| (since + UNUSED).max(not_before(Part::Finalizer)));
        let failed = Part::BOTH.into_iter().filter(|part| state.write_trouble.failures(*part) > 0);
        let due = counts.into_iter().chain(unused).chain(failed.map(not_before)).min()?;
        // What has nothing due, as most have, is not looked up.
        let object = ObjectRef::Application(Arc::clone(&spec.name));
        (!self.writes.is_under_way(&object)).then_some(due)
    }

    /// Looks at the application again: its finalizer first, then its status.
    pub(super) fn reconcile_application(&mut self, name: &Arc<str>, now: Now) {
        if !self.leadership.is_active() || self.leadership.only_records() {
            return;
        }
        let object = ObjectRef::Application(Arc::clone(name));
        if self.writes.is_under_way(&object) {
            return;
        }
        let used = self.holds(name);
        let Some(state) = self.applications.get_mut(name) else {
            return;
        };
        let spec = &state.application.spec;
        let change = match (spec.finalizers.ours, used) {
            (None, true) if !spec.deleting && spec.finalizers.count == 0 => Some(Change::FirstFinalizer),
            (None, true) if !spec.deleting => Some(Change::MoreFinalizer),
            (Some(at), false) => {
                let unused = state.unused_since.get_or_insert(now.since_start);
                let gone = spec.deleting || now.since_start >= *unused + UNUSED;
                gone.then_some(Change::DropFinalizer { at, version: spec.resource_version })
            }
            _ => None,
        };
        if change.is_none() {
            // What was refused is stored by now, or is not needed any more.
            state.write_trouble.clear(Part::Finalizer);
        }
        let [due, status_due] =
            Part::BOTH.map(|part| state.write_trouble.not_before(part) <= now.since_start);
        let finalizer = change.filter(|_| due).map(|change| (change, Vec::new()));
        // What is refused is told first, where that can be.
        let refused = state.write_trouble.refused(Part::Finalizer).is_some();
        let mut status = || if status_due { self.application_status(name, now) } else { None };
        let next = if refused { status().or(finalizer) } else { finalizer.or_else(status) };
        let Some(state) = self.applications.get_mut(name) else { return };
        let Some((change, wanted)) = next else {
            // Nothing is left to write: a write whose reply was lost has been seen to be stored.
            if status_due {
                state.write_trouble.clear(Part::Status);
            }
            return;
        };
        let write = Write::to_application(&state.application.spec, change);
        let before = state.application.spec.conditions.reason(Kind::Ready);
        let pending = Pending::new(&write, wanted, before, now);
        self.begin_write(write, pending);
    }
}
