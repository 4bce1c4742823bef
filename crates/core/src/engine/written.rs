//! What the end of a write means, for the object and for what it was to tell.

use super::{
    Effect, Engine, Now, ObjectRef, StoredObject, WriteError, events::Topic, robots::From, writes::Pending,
};
use crate::{
    application::StoredApplication,
    crd::CreationPolicy,
    index::{Id, State},
    plan::{self, Additions},
    robot::Robot,
    status::{Is, Kind, Reason, Wanted},
    write_trouble::Part,
};
use std::sync::Arc;

/// What stands for the cluster's words where it gives none.
const HANGS: &str = "the API server does not answer such writes in time, as where an admission webhook hangs";

impl Engine {
    /// A write has ended.
    pub(super) fn written(&mut self, object: ObjectRef, result: Result<StoredObject, WriteError>, now: Now) {
        let jitter = self.random.f64();
        let Some(pending) = self.writes.end(&object, &result, jitter, now.since_start) else { return };
        let part = pending.part;
        let trouble = match &object {
            ObjectRef::Robot(id) => self.robots.get_mut(*id).map(|entry| &mut entry.write_trouble),
            ObjectRef::Application(name) => {
                self.applications.get_of(name, &pending.uid).map(|state| &mut state.write_trouble)
            }
        };
        let Some(trouble) = trouble else {
            // It is gone. Another one that has its name waits for this.
            if let ObjectRef::Application(name) = &object {
                self.reconcile_application(name, now);
            }
            return;
        };
        let result = match result {
            // Twice in a row for the same object it is no accident.
            Err(WriteError::Late) if part == Part::Finalizer && trouble.failures(part) > 0 => {
                Err(WriteError::Refused(HANGS.to_owned()))
            }
            result => result,
        };
        // Why it failed, where that is worth a word.
        let news = match &result {
            Ok(_) => {
                trouble.clear(part);
                None
            }
            // A robot's goes out again when there is a way, and waits for nothing else.
            Err(WriteError::NotFound | WriteError::Unreachable(_)) if pending.turn.is_some() => None,
            Err(error) => {
                trouble.fail(part, now.since_start, jitter);
                let (is_news, words) = match error {
                    WriteError::Refused(words) => (trouble.refuse(part, words), trouble.refused(part)),
                    error => (error.is_news(trouble.failures(part)), error.reason()),
                };
                words.filter(|_| is_news).map(str::to_owned)
            }
        };
        match (object, result) {
            (ObjectRef::Robot(id), Ok(StoredObject::Robot(robot))) => {
                self.robot_written(id, pending, *robot, now);
            }
            (ObjectRef::Robot(id), Err(error)) => self.robot_not_written(id, part, &error, news, now),
            (ObjectRef::Application(name), Ok(StoredObject::Application(stored))) => {
                self.application_written(&name, pending, *stored, now);
            }
            (ObjectRef::Application(name), Err(error)) => {
                self.application_not_written(&name, part, &error, news, now);
            }
            (ObjectRef::Robot(_), Ok(StoredObject::Application(_)))
            | (ObjectRef::Application(_), Ok(StoredObject::Robot(_))) => {}
        }
    }

    fn robot_written(&mut self, id: Id, pending: Pending, robot: Robot, now: Now) {
        let Some(entry) = self.robots.get_mut(id) else { return };
        entry.state = State::Idle;
        if pending.attempt
            && let Some(last) = entry.memory.last.as_deref_mut()
        {
            last.recorded = true;
        }
        if pending.to_add && robot.creation_policy == CreationPolicy::Create {
            entry.memory.additions = Additions::None;
        }
        self.publish(&robot, pending.wanted, pending.before, now);
        if !self.store(robot, From::Reply, now) {
            // Something newer is known already, and was not looked at while this write was under way.
            self.reconcile(id, now);
        }
    }

    /// What is refused is told in the log and by an Event once, and in the object's conditions where its status can be written.
    fn robot_not_written(&mut self, id: Id, part: Part, error: &WriteError, news: Option<String>, now: Now) {
        let Some(entry) = self.robots.get_mut(id) else { return };
        entry.state = match error {
            // By force, or because our own removal of the finalizer got through though its reply did not.
            WriteError::NotFound => return entry.state = State::Vanished,
            _ => State::Idle,
        };
        let robot = &entry.robot.key;
        match (error, news) {
            (WriteError::Refused(_), Some(words)) if self.events.take(Topic::Warning, now.since_start) => {
                let refused = if part == Part::Finalizer { "its finalizer" } else { "its status" };
                tracing::warn!(%robot, refused, reason = %words, "the cluster refuses a write to the RoomRobot; trying again at least every 30 s");
                let what = format!("The cluster refuses a write of {refused}");
                let note = plan::write_refused(&what, &words);
                let event = self.robots.get(id).map(|entry| {
                    let (robot, action) = (&entry.robot, "WriteRoomRobot");
                    self.event_about(robot, Reason::WriteRefused, true, action, note, now)
                });
                self.effects.extend(event.map(Box::new).map(Effect::Publish));
            }
            (WriteError::Refused(_), _) | (_, None) => {}
            (_, Some(reason)) => {
                tracing::warn!(%robot, %reason, "could not write to the RoomRobot; trying again");
            }
        }
        self.recount(id, now);
        self.reconcile(id, now);
    }

    fn application_written(
        &mut self,
        name: &Arc<str>,
        pending: Pending,
        stored: StoredApplication,
        now: Now,
    ) {
        if pending.part == Part::Status
            && let Some(state) = self.applications.get_mut(name)
        {
            state.status.recorded.clone_from(&pending.wanted);
            // Not compared with what is known by now: the watch may have been quicker than this reply.
            let ready = pending.wanted.into_iter().find(|want| want.kind == Kind::Ready);
            if let Some(ready) = ready.filter(|ready| Some(ready.reason) != pending.before) {
                self.publish_about_application(name, &pending.uid, ready, now);
            }
        }
        self.store_application(stored, now);
    }

    /// What is refused is told by the application's robots, or by an Event where it is the status.
    fn application_not_written(
        &mut self,
        name: &Arc<str>,
        part: Part,
        error: &WriteError,
        news: Option<String>,
        now: Now,
    ) {
        let Some(words) = news else { return };
        tracing::warn!(application = %name, reason = %words, "could not write to the RtcApplication; trying again");
        if !matches!(error, WriteError::Refused(_)) {
            return;
        }
        if part == Part::Finalizer {
            self.reconcile_where(now, |entry| entry.robot.application == *name && !entry.robot.accepted());
        } else if let Some(uid) = self.applications.get(name).map(|state| state.application.spec.uid.clone())
        {
            let what = format!("The cluster refuses a write of the status of RtcApplication {name}");
            let text = plan::write_refused(&what, &words);
            let ready = Wanted::new(Kind::Ready, Is::False, Reason::WriteRefused, text);
            self.publish_about_application(name, &uid, ready, now);
        }
    }
}
