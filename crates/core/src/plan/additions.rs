//! What is known of additions: whether a robot may be in its room, and who may take over its removal.

use super::Memory;
use crate::{
    call::Outcome,
    codes::{self, Execution, Operation},
    crd::{CreationPolicy, DeletionPolicy},
    robot::Robot,
    status::{Is, Kind, Reason},
};

/// What a process knows of the calls of `add_robot` for one robot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Additions {
    /// Nothing but what is stored.
    #[default]
    Untold,
    /// There was none: this process wrote that the first is due, so nobody else can have called.
    None,
    /// Each one so far was refused, as far as anybody knows.
    Refused,
    /// One may have taken effect though no answer says so.
    InDoubt,
}

/// What is known of the additions of a robot that the next one is about to be sent for.
#[must_use]
pub fn additions_before_call(robot: &Robot, memory: &Memory) -> Additions {
    if in_doubt(robot, memory) { Additions::InDoubt } else { Additions::Refused }
}

/// What is known after `outcome`, where `before` was known.
#[must_use]
pub fn additions_after_answer(before: Additions, outcome: &Outcome) -> Additions {
    match outcome.class(Operation::AddRobot) {
        // That it succeeded is told in the condition.
        class if class.rule().execution == Execution::Done => Additions::Untold,
        // Without its room the robot is nowhere, whatever an earlier call did.
        _ if outcome.code().and_then(codes::look_up).is_some_and(|row| row.no_room) => Additions::Refused,
        _ if outcome.leaves_open(Operation::AddRobot) => Additions::InDoubt,
        // Refused, which says nothing about an earlier call.
        _ => before,
    }
}

/// Whether the robot may be in the room though no answer says so.
pub(super) fn in_doubt(robot: &Robot, memory: &Memory) -> bool {
    match memory.additions {
        // Unknown: a call was due when the process before ended. True: it came by other means, under the other policy.
        Additions::Untold => robot.accepted() && robot.conditions.is(Kind::Ready) != Some(Is::False),
        Additions::None | Additions::Refused => false,
        Additions::InDoubt => true,
    }
}

/// Whether `add_robot` was certainly never sent for a robot that nobody else brings in. Before the first call the stored
/// `Ready` is Unknown, and after its answer there is a `lastRequest`: where neither is so, no process has called.
#[must_use]
pub fn never_added(robot: &Robot, memory: &Memory) -> bool {
    let called = memory.last.as_deref().is_some_and(|last| last.operation == Operation::AddRobot);
    let stored = robot.last_request.is_none()
        && !called
        && match robot.conditions.is(Kind::Ready) {
            _ if !robot.accepted() => true,
            // These two take the place of whatever stood there before.
            Some(Is::False) => {
                !matches!(robot.conditions.reason(Kind::Ready), Some(Reason::Deleting | Reason::WriteRefused))
            }
            _ => false,
        };
    robot.creation_policy == CreationPolicy::Create
        && match memory.additions {
            // Unless another process says that it has added it all the same.
            Additions::None => !robot.conditions.is_true(Kind::Ready),
            Additions::Untold => stored,
            Additions::Refused | Additions::InDoubt => false,
        }
}

/// Whether the removal of its robot passes to this RoomRobot when another one that stands for the same robot is deleted:
/// it is in charge, it would delete, and it may have a robot to remove. Once that is so it stays so for every process, or
/// a person has chosen otherwise: an addition that may have been sent is never taken for one that was not.
#[must_use]
pub fn may_inherit(robot: &Robot, memory: &Memory) -> bool {
    robot.deleting_since.is_none()
        && robot.finalizers.ours.is_some()
        && robot.accepted()
        && robot.deletion_policy == DeletionPolicy::Delete
        && !never_added(robot, memory)
}

/// Whether it [may inherit](may_inherit) as soon as it is taken in charge.
#[must_use]
pub fn is_to_inherit(robot: &Robot) -> bool {
    robot.deleting_since.is_none()
        && !(robot.finalizers.ours.is_some() && robot.accepted())
        && robot.deletion_policy == DeletionPolicy::Delete
        && robot.creation_policy == CreationPolicy::Adopt
}
