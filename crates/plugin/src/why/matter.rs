//! What stands in the way of one RoomRobot: the first line of its screen, and what follows from it.

use super::Facts;
use crate::{
    Finding,
    cluster::{Seen, SeenCondition, condition, nobody},
    output,
};
use roomrobot_core::{
    crd::CreationPolicy,
    explain::Step,
    status::{Kind, Reason},
};

/// What a deletion without a condition waits for, and what to do.
const IN_LINE: (&str, &str) = (
    "its SDKAppID may make spec.requestsPerSecond calls a second, and others are before it; namespaces take turns",
    "nothing; if the vendor has agreed to more calls a second, raise spec.requestsPerSecond",
);

/// What it means that nobody acts, and what to do.
const NOBODY: (&str, &str) = (
    "nobody holds the operator's Lease, so nothing is called and nothing is let go",
    "start the operator, or see why it does not start",
);

/// What a finalizer that is not ours means, and what to do.
pub(super) const OTHERS: (&str, &str) = (
    "the object waits for whoever else put a finalizer on it",
    "ask whose the finalizer is; the operator is done",
);

/// What is the matter with a robot.
pub(super) struct Matter {
    pub(super) summary: String,
    pub(super) finding: Finding,
    pub(super) kind: Kind,
    pub(super) condition: Option<SeenCondition>,
    /// What it means and what to do, before what the reason says or where none says it.
    pub(super) meaning: Option<(&'static str, &'static str)>,
    /// What to type though no reason names it; first, where there is a `meaning`.
    pub(super) steps: &'static [Step],
}

/// What is the matter with one that is not being deleted.
fn of_living(facts: &Facts<'_>) -> Matter {
    let Seen { robot, value, .. } = facts.seen;
    let (key, nobody) = (&robot.key, nobody(facts.acting));
    let stalled = robot.conditions.is_true(Kind::Stalled);
    let person = if stalled { "and a person must act" } else { "and goes on by itself" };
    let finding = if stalled { Finding::NeedsAPerson } else { Finding::Waits };
    let shown = |kind: Kind| condition(value, kind.as_str());
    if let Some(told) = refusal(facts).filter(|_| !nobody) {
        let summary =
            format!("The cluster refuses the operator's writes for RoomRobot {key}, and a person must act");
        return of_refusal(summary, told);
    }
    let kind = if robot.accepted() { Kind::Ready } else { Kind::Accepted };
    let condition = shown(kind);
    let (summary, finding) = match &condition {
        None if nobody => (format!("RoomRobot {key} is new, and no operator acts"), Finding::NeedsAPerson),
        None => (format!("RoomRobot {key} is new; the operator has not said anything yet"), Finding::Waits),
        Some(ready) if ready.status == "True" => {
            (format!("RoomRobot {key} is well and nothing waits: it is not being deleted"), Finding::Fine)
        }
        Some(_) if nobody => {
            (format!("RoomRobot {key} is not ready, and no operator acts"), Finding::NeedsAPerson)
        }
        Some(ready) if ready.reason == Reason::Adding.as_str() => {
            (format!("RoomRobot {key} is being brought into its room and goes on by itself"), finding)
        }
        Some(ready) if ready.status == "Unknown" => {
            (format!("RoomRobot {key} may be in its room or not ({}), {person}", ready.reason), finding)
        }
        Some(ready) => (format!("RoomRobot {key} is not ready ({}), {person}", ready.reason), finding),
    };
    let adding = robot.creation_policy == CreationPolicy::Create;
    let doubt = condition
        .as_ref()
        .is_some_and(|ready| adding && ready.status == "Unknown" && ready.reason != Reason::Adding.as_str());
    let meaning = (nobody && finding == Finding::NeedsAPerson).then_some(NOBODY);
    let steps: &[Step] = match (nobody, doubt) {
        (true, _) => &[Step::OperatorLog],
        (false, true) => &[Step::Adopt],
        (false, false) => &[],
    };
    Matter { summary, finding, kind, condition, meaning, steps }
}

pub(super) fn matter(facts: &Facts<'_>) -> Matter {
    let Facts { seen, now, .. } = facts;
    let Seen { robot, finalizers, value } = seen;
    let key = &robot.key;
    let nobody = nobody(facts.acting);
    let stalled = robot.conditions.is_true(Kind::Stalled);
    let person = if stalled { "and a person must act" } else { "and goes on by itself" };
    let finding = if stalled { Finding::NeedsAPerson } else { Finding::Waits };
    let shown = |kind: Kind| condition(value, kind.as_str());
    let Some(since) = robot.deleting_since else {
        return of_living(facts);
    };
    let waits = output::span(now.as_second() - since);
    let condition = shown(Kind::RobotDeleted).filter(|_| !robot.took_retain_back());
    let kind = Kind::RobotDeleted;
    if robot.finalizers.ours.is_none() {
        let others = finalizers.join(", ");
        let summary = format!(
            "RoomRobot {key} has waited for {waits} for somebody else: this operator is done with it, the finalizer {others} is not its own"
        );
        return Matter {
            summary,
            finding: Finding::NeedsAPerson,
            kind,
            condition,
            meaning: Some(OTHERS),
            steps: &[Step::Finalizers],
        };
    }
    if nobody {
        let summary = format!("The deletion of RoomRobot {key} has waited for {waits}, and no operator acts");
        let (meaning, steps) = (Some(NOBODY), &[Step::OperatorLog]);
        return Matter { summary, finding: Finding::NeedsAPerson, kind, condition, meaning, steps };
    }
    if let Some(told) = refusal(facts) {
        let summary = match condition.filter(|_| seen.over()) {
            Some(over) => format!(
                "The deletion of RoomRobot {key} is over ({}), but the cluster refuses to let it go, and a person must act",
                over.reason
            ),
            None => format!(
                "The deletion of RoomRobot {key} has waited for {waits}: the cluster refuses the operator's writes, and a person must act"
            ),
        };
        return of_refusal(summary, told);
    }
    match condition {
        None => Matter {
            summary: format!(
                "The deletion of RoomRobot {key} has been in line for its first call for {waits}, and goes on by itself"
            ),
            finding: Finding::Waits,
            kind,
            condition: None,
            meaning: Some(IN_LINE),
            steps: &[Step::List, Step::Pace, Step::OperatorLog],
        },
        Some(told) if seen.over() => Matter {
            summary: format!(
                "The deletion of RoomRobot {key} is over ({}); its finalizer goes now",
                told.reason
            ),
            finding: Finding::Waits,
            kind,
            condition: Some(told),
            meaning: None,
            steps: &[],
        },
        Some(told) => Matter {
            summary: format!(
                "The deletion of RoomRobot {key} has waited for {waits} ({}), {person}",
                told.reason
            ),
            finding,
            kind,
            condition: Some(told),
            meaning: None,
            steps: &[],
        },
    }
}

/// What says that the cluster refuses the operator's writes: the condition, or the Event, which has no status.
fn refusal(facts: &Facts<'_>) -> Option<SeenCondition> {
    let condition = condition(&facts.seen.value, Kind::Stalled.as_str());
    condition.filter(|_| facts.seen.told_refused()).or_else(|| {
        let reason = Reason::WriteRefused.as_str().to_owned();
        Some(SeenCondition { status: String::new(), reason, message: facts.refused?.to_owned() })
    })
}

fn of_refusal(summary: String, told: SeenCondition) -> Matter {
    let (finding, kind) = (Finding::NeedsAPerson, Kind::Stalled);
    Matter { summary, finding, kind, condition: Some(told), meaning: None, steps: &[] }
}
