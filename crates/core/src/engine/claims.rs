//! Who else stands for the same robot, and takes over its removal.

use super::{Engine, Now};
use crate::{
    index::{Entry, Id},
    plan,
    robot::Robot,
    write_trouble::Part,
};
use std::sync::Arc;

impl Engine {
    /// A robot that may take over a removal releases the deletions of others that stand for the same robot. Where others
    /// could take over already, they have been released.
    pub(super) fn release_rivals(&mut self, id: Id, now: Now) {
        let Some(entry) = self.robots.get(id) else { return };
        let robot = &entry.robot;
        let rivals: Vec<Id> = self
            .names_of_same_sdk_app_id(&robot.application)
            .flat_map(|name| self.robots.claimants(name, robot))
            .filter(|other| *other != id)
            .filter(|other| self.robots.get(*other).is_some_and(|other| other.robot.deleting_since.is_some()))
            .collect();
        for rival in rivals {
            self.reconcile(rival, now);
        }
    }

    /// The names of the applications that have the SDKAppID of `name`, itself included.
    pub(super) fn names_of_same_sdk_app_id<'a>(
        &'a self,
        name: &'a Arc<str>,
    ) -> impl Iterator<Item = &'a Arc<str>> {
        let sdk_app_id = self.applications.get(name).map(|state| state.application.spec.sdk_app_id);
        let others = self.applications.iter().filter(move |(other, state)| {
            Some(state.application.spec.sdk_app_id) == sdk_app_id && *other != name
        });
        [name].into_iter().chain(others.map(|(other, _)| other))
    }

    /// Another RoomRobot that takes over the removal of the same robot of the same SDKAppID.
    pub(super) fn heir(&self, id: Id, robot: &Robot) -> Option<&Entry> {
        self.names_of_same_sdk_app_id(&robot.application).find_map(|name| self.robots.heir(name, robot, id))
    }

    /// Whether another one that stands for the same robot is being taken in charge, and nothing is known to stand in the way.
    pub(super) fn heir_comes(&self, id: Id, robot: &Robot) -> bool {
        let comes = |entry: &Entry| {
            let state = self.applications.get(&entry.robot.application).filter(|state| {
                let application = &state.application;
                let takes = application.admits(self.labels(&entry.robot.key.namespace)) == Some(true);
                takes && !application.spec.deleting && state.write_trouble.refused(Part::Finalizer).is_none()
            });
            entry.write_trouble.is_none() && state.is_some() && plan::is_to_inherit(&entry.robot)
        };
        self.names_of_same_sdk_app_id(&robot.application)
            .flat_map(|name| self.robots.latest_claimants(name, robot))
            .filter(|other| *other != id)
            .filter_map(|other| self.robots.get(other))
            .any(comes)
    }
}
