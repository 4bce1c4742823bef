//! Which Events are published. They are best effort: beyond their budget the log line stands alone.

use super::{Announcement, Effect, Engine, Now};
use crate::{
    crd::CreationPolicy,
    robot::Robot,
    status::{Is, Kind, Reason, Wanted},
};
use std::{sync::Arc, time::Duration};

/// What an Event tells of, for its share of the budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Topic {
    /// A deletion that is over; thousands of them may come at once.
    Ended,
    /// What else goes as it should.
    News,
    /// What does not.
    Warning,
}

/// How many Events were published in this second.
#[derive(Debug, Default)]
pub(super) struct Events {
    used: [Budget; 3],
}

/// Ten Events a second.
#[derive(Clone, Copy, Debug, Default)]
struct Budget {
    second: u64,
    used: u32,
}

impl Budget {
    const EVENTS_PER_SECOND: u32 = 10;

    fn take(&mut self, now: Duration) -> bool {
        if self.second != now.as_secs() {
            *self = Self { second: now.as_secs(), used: 0 };
        }
        self.used += 1;
        self.used <= Self::EVENTS_PER_SECOND
    }
}

impl Events {
    /// Whether one more Event of this topic is published.
    pub(super) fn take(&mut self, topic: Topic, now: Duration) -> bool {
        self.used.get_mut(topic as usize).is_some_and(|budget| budget.take(now))
    }
}

impl Engine {
    /// An Event for a change of the reason that counts.
    pub(super) fn publish(&mut self, stored: &Robot, wanted: Vec<Wanted>, before: Option<Reason>, now: Now) {
        let kind = headline(stored);
        let Some(want) = wanted.into_iter().find(|want| want.kind == kind) else {
            return;
        };
        if before == Some(want.reason) {
            return;
        }
        let warning = want.is == Is::False && want.reason != Reason::StillClaimed;
        // In a drain good news would take the place of a write that waits; the log line has it.
        if !warning && self.writes.are_behind() {
            return;
        }
        let topic = match (kind, warning) {
            (_, true) => Topic::Warning,
            (Kind::RobotDeleted, false) => Topic::Ended,
            (_, false) => Topic::News,
        };
        if !self.events.take(topic, now.since_start) {
            return;
        }
        let action = match kind {
            Kind::RobotDeleted => "DeleteRobot",
            _ if stored.accepted() && stored.creation_policy == CreationPolicy::Create => "AddRobot",
            _ => "AcceptRobot",
        };
        let event = self.event_about(stored, want.reason, warning, action, want.message, now);
        self.effects.push(Effect::Publish(Box::new(event)));
    }

    pub(super) fn event_about(
        &self,
        robot: &Robot,
        reason: Reason,
        warning: bool,
        action: &'static str,
        note: String,
        now: Now,
    ) -> Announcement {
        let key = robot.key.clone();
        // A namespace that is being deleted, or that is not known any more, takes no new object.
        let dying = self.namespaces.get(&key.namespace).is_none_or(|namespace| namespace.terminating);
        let namespace = if dying { &self.settings.namespace } else { &key.namespace };
        Announcement {
            namespace: Arc::clone(namespace),
            kind: "RoomRobot",
            regarding_namespace: Some(key.namespace),
            name: key.name,
            uid: Arc::clone(&robot.uid),
            warning,
            reason,
            action,
            note,
            at: now.wall,
        }
    }

    /// An Event for `ready`, a Ready condition with another reason than before.
    pub(super) fn publish_about_application(&mut self, name: &Arc<str>, uid: &str, ready: Wanted, now: Now) {
        let well = ready.is == Is::True;
        if !self.events.take(if well { Topic::News } else { Topic::Warning }, now.since_start) {
            return;
        }
        self.effects.push(Effect::Publish(Box::new(Announcement {
            // The API takes an Event about a cluster-scoped object in this namespace only.
            namespace: "default".into(),
            kind: "RtcApplication",
            regarding_namespace: None,
            name: Arc::clone(name),
            uid: uid.into(),
            warning: !well,
            reason: ready.reason,
            action: "CheckApplication",
            note: ready.message,
            at: now.wall,
        })));
    }
}

/// The condition whose reason tells most: `RobotDeleted` while deleting, else `Ready`.
pub(super) fn headline(robot: &Robot) -> Kind {
    if robot.deleting_since.is_some() { Kind::RobotDeleted } else { Kind::Ready }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_topic_has_ten_events_a_second() {
        let mut events = Events::default();
        for second in [7, 8] {
            let now = Duration::from_millis(second * 1000 + 900);
            for topic in [Topic::Ended, Topic::News, Topic::Warning] {
                let taken = (0..25).filter(|_| events.take(topic, now)).count();
                assert_eq!(taken, 10, "{topic:?}");
            }
        }
    }
}
