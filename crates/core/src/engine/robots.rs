//! What is known of RoomRobots and their namespaces: taken from views, counted, let go.

use super::{Engine, Now};
use crate::{
    application::Labels,
    index::{Counted, Entry, Id, State},
    plan,
    robot::Robot,
    status::Kind,
    write_trouble::Part,
};
use std::sync::Arc;

/// A namespace, as far as it is needed.
#[derive(Debug)]
pub(super) struct Namespace {
    pub(super) labels: Labels,
    pub(super) terminating: bool,
}

/// Where a view of an object comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum From {
    /// A list or a watch.
    View,
    /// The reply to a write of this process.
    Reply,
}

impl Engine {
    /// Takes a RoomRobot as it was stored, and looks at it; false where something newer is known.
    pub(super) fn store(&mut self, mut robot: Robot, from: From, now: Now) -> bool {
        robot.key.namespace = self.robots.intern(&robot.key.namespace);
        robot.application = self.robots.intern(&robot.application);
        let mut known = self.robots.find(&robot.key);
        if let Some(id) = known
            && let Some(entry) = self.robots.get(id)
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
                if let Some(entry) = self.robots.get_mut(id).filter(|_| from == From::View) {
                    entry.epoch = epoch;
                }
                return false;
            }
        }
        let half_listed = robot.deleting_since.is_some() && self.views.is_listing(&robot.key.namespace);
        let id = match known {
            None => {
                let counts = self.applications.count_in(&robot.application);
                counts.robots += 1;
                let id = self.robots.insert(robot, self.views.epoch());
                if let Some(entry) = self.robots.get_mut(id) {
                    entry.half_listed = half_listed;
                }
                id
            }
            Some(id) => {
                let epoch = self.views.epoch();
                let Some(entry) = self.robots.get_mut(id) else {
                    return false;
                };
                if entry.robot.generation != robot.generation {
                    entry.memory.start_afresh();
                    entry.write_trouble.try_at_once();
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
                    entry.write_trouble.clear(Part::Finalizer);
                }
                if entry.robot.deleting_since.is_none() {
                    entry.half_listed = half_listed;
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
            && let Some(name) = self.robots.get(id).map(|entry| Arc::clone(&entry.robot.application))
        {
            self.application_robots_changed(&name, now);
        }
        self.reconcile(id, now);
        true
    }

    pub(super) fn forget(&mut self, id: Id, now: Now) {
        let Some(entry) = self.robots.remove(id) else {
            return;
        };
        let Entry { robot, counted, .. } = entry;
        let name = robot.application;
        if let Some(counts) = self.applications.counts_mut(&name) {
            counts.robots = counts.robots.saturating_sub(1);
            counts.unfinished.remove(&id);
            counts.count(counted, Counted::default(), &robot.key.namespace);
            if counts.robots == 0 {
                self.applications.forget_counts(&name);
            }
        }
        self.application_robots_changed(&name, now);
        self.robots.forget_names();
    }

    /// Keeps the counts true for `id`, and whether it may take over the removal of its robot.
    pub(super) fn recount(&mut self, id: Id, now: Now) {
        let Some(entry) = self.robots.get(id) else { return };
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
            fresh: unrecorded.filter(|_| entry.write_trouble.failures(Part::Status) == 0),
        };
        let heir = plan::may_inherit(robot, &entry.memory);
        let (was, was_heir) = (entry.counted, entry.heir);
        if let Some(counts) = self.applications.counts_mut(&robot.application) {
            if deleting || adding {
                counts.unfinished.insert(id);
            } else {
                counts.unfinished.remove(&id);
            }
            counts.count(was, counted, &robot.key.namespace);
        }
        let name = Arc::clone(&robot.application);
        if let Some(entry) = self.robots.get_mut(id) {
            entry.counted = counted;
        }
        if was.deleting != deleting
            && let Some(state) = self.applications.get_mut(&name)
        {
            state.recount();
        }
        if was.holding != counted.holding {
            self.application_robots_changed(&name, now);
        }
        if heir != was_heir && self.robots.set_heir(id, heir) {
            self.release_rivals(id, now);
        }
    }

    /// Whether the application has to stay for this robot: one that it refused is nothing to wait for.
    fn holds_its_application(&self, robot: &Robot) -> bool {
        if robot.accepted() {
            return robot.deleting_since.is_none() || robot.finalizers.ours.is_some();
        }
        let Some(state) = self.applications.get(&robot.application) else { return true };
        let application = &state.application;
        let refused = robot.conditions.reason(Kind::Accepted).is_some();
        let going = robot.deleting_since.is_some() && robot.finalizers.ours.is_none();
        !going
            && application.admits(self.labels(&robot.key.namespace)) != Some(false)
            && !(application.spec.deleting && (refused || robot.deleting_since.is_none()))
    }

    pub(super) fn labels(&self, namespace: &Arc<str>) -> Option<&Labels> {
        self.namespaces.get(namespace).map(|namespace| &namespace.labels)
    }

    /// What the list did not show is gone. Only what a list or a watch showed counts: the reply to a write says that the
    /// object was there when it was written, and the object may have gone since, with nobody left to tell.
    pub(super) fn robots_listed(&mut self, scope: Option<Arc<str>>, now: Now) {
        let namespace = scope.clone();
        let begun = self.views.robots_end(scope);
        let listed = |entry: &Entry| {
            namespace.as_ref().is_none_or(|namespace| entry.robot.key.namespace == *namespace)
        };
        for id in self.ids_where(|entry| entry.epoch < begun && listed(entry)) {
            self.forget(id, now);
        }
        for id in self.ids_where(|entry| entry.half_listed && listed(entry)) {
            if let Some(entry) = self.robots.get_mut(id) {
                entry.half_listed = false;
            }
            self.reconcile(id, now);
        }
    }

    pub(super) fn store_namespace(&mut self, name: &Arc<str>, namespace: Namespace, now: Now) {
        let before = self.namespaces.get(name);
        let appeared = before.is_none();
        let changed = before.is_none_or(|before| before.labels != namespace.labels);
        self.namespaces.insert(Arc::clone(name), namespace);
        if !changed {
            return;
        }
        if appeared {
            // It may have been made again: writes to what was left in it were refused until now.
            self.robots
                .all_mut()
                .filter(|entry| entry.robot.key.namespace == *name)
                .for_each(|entry| entry.write_trouble.try_at_once());
        }
        self.recount_and_reconcile_where(now, |entry| {
            entry.robot.key.namespace == *name && (appeared || !entry.robot.accepted())
        });
    }
}
