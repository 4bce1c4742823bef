//! What each reason of a condition means and what a person can do about it: one table.
//!
//! Pure data and look-ups, as [`crate::codes`] is for ErrorCodes. `kubectl roomrobot` and `docs/reference.md` read the
//! same rows.

use crate::status::{Is, Kind, Reason};

/// The kind of object that a condition stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A RoomRobot.
    RoomRobot,
    /// An RtcApplication.
    RtcApplication,
}

/// What a reason means.
#[derive(Clone, Copy, Debug)]
pub struct Explanation {
    /// The kind of object.
    pub subject: Subject,
    /// The condition.
    pub kind: Kind,
    /// Its status.
    pub is: Is,
    /// The reasons that this is about; several where they differ in nothing but their name.
    pub reasons: &'static [Reason],
    /// When the condition has this reason, as one clause.
    pub when: &'static str,
    /// What a person can do, as one clause; empty where another condition says it.
    pub remedy: &'static str,
    /// The condition that says what to do, where this one does not.
    pub see: Option<Kind>,
    /// What a person can type, the most likely first. What does not fit the object at hand is left out there.
    pub steps: &'static [Step],
}

/// Something that a person can type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Set `spec.suspend` of the RoomRobot to false.
    ResumeRobot,
    /// Set `spec.suspend` of the RtcApplication to false.
    ResumeApplication,
    /// Create the RtcApplication.
    CreateApplication,
    /// Change the RtcApplication.
    EditApplication,
    /// Change how many calls a second the RtcApplication may make.
    Pace,
    /// Create the Secret.
    CreateSecret,
    /// Put another key into the Secret, in place of all that is there.
    ReplaceSecret,
    /// Label the namespace as the RtcApplication selects it.
    LabelNamespace,
    /// Check everything that a call needs.
    Doctor,
    /// Try at once, without waiting for the next attempt.
    TryNow,
    /// See what else waits.
    List,
    /// Say that the robot is in its room: nothing is called before its deletion.
    Adopt,
    /// Delete the RoomRobot, to create another.
    Delete,
    /// List the RequestIds for the vendor.
    Requests,
    /// See which replica acts and what it says.
    OperatorLog,
    /// See who holds the object: another finalizer.
    Finalizers,
    /// See which policies and webhooks may refuse the operator's writes.
    Policies,
    /// Let the object go and leave the robot in its room.
    Release,
}

impl Step {
    /// What it is good for, as a clause.
    #[must_use]
    pub const fn purpose(self) -> &'static str {
        match self {
            Self::ResumeRobot => "let the operator call for this robot again",
            Self::ResumeApplication => "let the operator call for this application again",
            Self::CreateApplication => "create the RtcApplication again",
            Self::EditApplication => "correct the RtcApplication",
            Self::Pace => "change the calls a second that the operator keeps to; N is a number",
            Self::CreateSecret => "create the Secret; KEYFILE holds the key and nothing else",
            Self::ReplaceSecret => "put the right key into the Secret; KEYFILE holds nothing else",
            Self::LabelNamespace => "label the namespace as the RtcApplication selects it",
            Self::Doctor => "check everything that a call needs",
            Self::TryNow => "try at once",
            Self::List => "see what waits, the oldest first",
            Self::Adopt => {
                "or, if you see the robot in its room, say so; nothing is called before its deletion"
            }
            Self::Delete => "delete it, and create another with the right roomId and memberAccount",
            Self::Requests => "list the RequestIds that the vendor's support asks for",
            Self::OperatorLog => "see what the operator says",
            Self::Finalizers => "see whose finalizers are left",
            Self::Policies => {
                "see the policies and webhooks of the cluster; the message names the one that refuses"
            }
            Self::Release => "let it go and leave the robot in its room; the vendor goes on billing it",
        }
    }

    /// The command, with `{name}`, `{namespace}`, `{application}`, `{secret}` and `{operator}` (its namespace) to be
    /// filled in.
    #[must_use]
    pub const fn command(self) -> &'static str {
        match self {
            Self::ResumeRobot => {
                r#"kubectl patch roomrobot {name} -n {namespace} --type merge -p '{"spec":{"suspend":false}}'"#
            }
            Self::ResumeApplication => {
                r#"kubectl patch rtcapplication {application} --type merge -p '{"spec":{"suspend":false}}'"#
            }
            Self::CreateApplication => "kubectl apply -f RTCAPPLICATION.yaml",
            Self::EditApplication => "kubectl edit rtcapplication {application}",
            Self::Pace => {
                r#"kubectl patch rtcapplication {application} --type merge -p '{"spec":{"requestsPerSecond":N}}'"#
            }
            Self::CreateSecret => {
                "kubectl create secret generic {secret} -n {operator} --from-file=secretKey=KEYFILE"
            }
            // `apply` would leave a userSig where `kubectl create` put it.
            Self::ReplaceSecret => {
                "kubectl create secret generic {secret} -n {operator} --from-file=secretKey=KEYFILE --dry-run=client -o yaml | kubectl replace -f -"
            }
            Self::LabelNamespace => "kubectl label namespace {namespace} KEY=VALUE",
            Self::Doctor => "kubectl roomrobot doctor {application}",
            Self::TryNow => {
                r#"for s in true false; do kubectl patch roomrobot {name} -n {namespace} --type merge -p "{\"spec\":{\"suspend\":$s}}"; done"#
            }
            Self::List => "kubectl roomrobot list",
            Self::Adopt => {
                r#"kubectl patch roomrobot {name} -n {namespace} --type merge -p '{"spec":{"creationPolicy":"Adopt"}}'"#
            }
            Self::Delete => "kubectl delete roomrobot {name} -n {namespace}",
            Self::Requests => "kubectl roomrobot requests -n {namespace} --since 1h",
            Self::OperatorLog => {
                "kubectl logs -n {operator} -l app.kubernetes.io/name=roomrobot-operator --tail=50"
            }
            Self::Finalizers => {
                "kubectl get roomrobot {name} -n {namespace} -o jsonpath='{.metadata.finalizers}'"
            }
            Self::Policies => {
                "kubectl get validatingadmissionpolicies,validatingwebhookconfigurations,mutatingwebhookconfigurations"
            }
            Self::Release => "kubectl roomrobot release {name} -n {namespace} --reason TEXT",
        }
    }
}

const fn row(
    subject: Subject,
    kind: Kind,
    is: Is,
    reasons: &'static [Reason],
    when: &'static str,
    remedy: &'static str,
    steps: &'static [Step],
) -> Explanation {
    Explanation { subject, kind, is, reasons, when, remedy, see: None, steps }
}

const fn see(kind: Kind, is: Is, reasons: &'static [Reason], when: &'static str, see: Kind) -> Explanation {
    Explanation {
        subject: Subject::RoomRobot,
        kind,
        is,
        reasons,
        when,
        remedy: "",
        see: Some(see),
        steps: &[],
    }
}

const NOTHING: &str = "nothing";
const TRIES_AGAIN: &str = "nothing; the operator tries again by itself";

use Kind::{Accepted, Ready, RobotDeleted, Stalled};
use Reason as R;
use Subject::{RoomRobot, RtcApplication};

/// Every reason of every condition, in the order in which the reference shows them.
#[rustfmt::skip]
pub const EXPLANATIONS: &[Explanation] = &[
    row(RoomRobot, Accepted, Is::True, &[R::Accepted],
        "the application exists, the namespace is allowed, the finalizer is set", NOTHING, &[]),
    row(RoomRobot, Accepted, Is::False, &[R::ApplicationNotFound],
        "there is no RtcApplication of that name, or it is being deleted",
        "create it, or delete the RoomRobot",
        &[Step::CreateApplication]),
    row(RoomRobot, Accepted, Is::False, &[R::NamespaceNotAllowed],
        "`spec.allowedNamespaces` of the RtcApplication does not select the namespace",
        "label the namespace, change the selector, or delete the RoomRobot",
        &[Step::LabelNamespace, Step::EditApplication]),

    row(RoomRobot, Accepted, Is::False, &[R::WriteRefused],
        "the cluster refuses the finalizer on the RoomRobot or on its RtcApplication: a policy, a webhook, a quota or a missing right",
        "the message has the cluster's words; change what stands in the way; the operator tries again every 30 s",
        &[Step::Policies, Step::TryNow, Step::OperatorLog]),

    row(RoomRobot, Ready, Is::True, &[R::Adopted], "accepted, `creationPolicy: Adopt`", NOTHING, &[]),
    row(RoomRobot, Ready, Is::True, &[R::Added],
        "`creationPolicy: Create`, and `add_robot` answered 0", NOTHING, &[]),
    row(RoomRobot, Ready, Is::Unknown, &[R::Adding],
        "`creationPolicy: Create`, and `add_robot` is due or was not answered yet", NOTHING, &[Step::OperatorLog]),
    see(Ready, Is::False, &[R::Deleting], "the object is being deleted", RobotDeleted),
    see(Ready, Is::False, &[R::ApplicationNotFound, R::NamespaceNotAllowed], "not accepted", Accepted),
    row(RoomRobot, Ready, Is::False, &[R::WriteRefused],
        "the cluster refuses to put the finalizer on, or to take it off at the end of a deletion",
        "the message has the cluster's words; change what stands in the way; the operator tries again every 30 s",
        &[Step::Policies, Step::TryNow, Step::OperatorLog]),
    row(RoomRobot, Ready, Is::False, &[R::RoomNotFound],
        "`add_robot` answered 100004", "create the room; the operator tries again", &[Step::TryNow]),
    row(RoomRobot, Ready, Is::False, &[R::RoomFull],
        "`add_robot` answered 100008", TRIES_AGAIN, &[Step::TryNow]),
    row(RoomRobot, Ready, Is::False, &[R::RobotLimitReached],
        "`add_robot` answered 100700", "remove another robot from the room", &[Step::TryNow]),
    row(RoomRobot, Ready, Is::False, &[R::AccountNotImported],
        "`add_robot` answered 70107",
        "import the account, or correct `memberAccount` in a new RoomRobot", &[Step::TryNow, Step::Delete]),
    see(Ready, Is::False,
        &[R::InternalError, R::InvalidParameter, R::PermissionDenied, R::CredentialsRejected, R::ApplicationNotReady,
          R::Throttled, R::Unreachable, R::UnexpectedReply, R::UnknownErrorCode, R::Suspended],
        "`creationPolicy: Create`, and `add_robot` did not succeed, or may not be called now; Unknown where the robot may be in the room or not",
        RobotDeleted),

    see(Stalled, Is::True, &[R::WriteRefused], "the cluster refuses a write that the operator has to make", Ready),

    row(RoomRobot, RobotDeleted, Is::True, &[R::Deleted],
        "`delete_robot` answered 0", NOTHING, &[Step::Finalizers]),
    row(RoomRobot, RobotDeleted, Is::True, &[R::RoomNotFound],
        "it answered 100004: no such room, or dismissed", NOTHING, &[Step::Finalizers]),
    row(RoomRobot, RobotDeleted, Is::True, &[R::NotInRoom],
        "it answered 100005: not a member; or `add_robot` was never sent for this resource, so nothing was called",
        NOTHING, &[Step::Finalizers]),
    row(RoomRobot, RobotDeleted, Is::True, &[R::Retained],
        "`deletionPolicy` is `Retain`; no call follows, and the last one before, if any, stays named",
        NOTHING, &[Step::Finalizers]),
    row(RoomRobot, RobotDeleted, Is::False, &[R::StillClaimed],
        "another live, accepted RoomRobot stands for the same robot, would delete it, and may have a robot to remove; no call follows and the object leaves",
        "nothing; deleting the last of them removes the robot", &[Step::Finalizers]),
    row(RoomRobot, RobotDeleted, Is::False, &[R::InternalError],
        "100001, or another error of the service's own", TRIES_AGAIN, &[Step::TryNow, Step::Requests]),
    row(RoomRobot, RobotDeleted, Is::False, &[R::Throttled],
        "too many calls, or HTTP 429",
        "nothing; the operator slows down by itself; if it stays, lower `spec.requestsPerSecond`",
        &[Step::Pace]),
    row(RoomRobot, RobotDeleted, Is::False, &[R::Unreachable],
        "no answer: name, connection, certificate, timeout, broken connection",
        "nothing at first; if it stays, check `spec.endpoint` and the way out of the cluster",
        &[Step::Doctor, Step::TryNow]),
    row(RoomRobot, RobotDeleted, Is::False, &[R::UnexpectedReply],
        "an HTTP error, a body that is no reply of the room engine, or a code that makes no sense for the command",
        "nothing at first; if it stays, check `spec.endpoint` and what stands between",
        &[Step::Doctor, Step::TryNow]),
    row(RoomRobot, RobotDeleted, Is::False, &[R::InvalidParameter],
        "100002, or another complaint about this robot's spec",
        "check `roomId` and `memberAccount`, which cannot be changed; if they are wrong, `Retain`",
        &[Step::Delete]),
    row(RoomRobot, RobotDeleted, Is::False, &[R::PermissionDenied],
        "100006 (this room), or the application may not do this (60010 and others)",
        "100006: see the vendor's console, then try again; 60010: make `spec.identifier` an App administrator, or name another",
        &[Step::TryNow, Step::EditApplication]),
    row(RoomRobot, RobotDeleted, Is::False, &[R::CredentialsRejected],
        "the application cannot prove who it is: wrong key, identifier, data centre or clock",
        "correct the Secret, `spec.identifier` or `spec.endpoint`; all its deletions then go on at once, after 70050 in a minute",
        &[Step::ReplaceSecret, Step::EditApplication, Step::Doctor]),
    row(RoomRobot, RobotDeleted, Is::False, &[R::UnknownErrorCode],
        "a code that the vendor does not document", "ask the vendor's support, with the RequestId",
        &[Step::Requests]),
    row(RoomRobot, RobotDeleted, Is::False, &[R::Suspended],
        "`spec.suspend` of the robot or of its application is true", "set it to false",
        &[Step::ResumeRobot, Step::ResumeApplication]),
    row(RoomRobot, RobotDeleted, Is::False, &[R::ApplicationNotReady],
        "the application is gone, its Secret is missing or unusable, its endpoint is not allowed, or its package or billing stops it",
        "the message names it",
        &[Step::CreateApplication, Step::CreateSecret, Step::ReplaceSecret, Step::EditApplication, Step::Doctor]),

    row(RtcApplication, Ready, Is::False, &[R::Suspended],
        "`spec.suspend` is true", "set it to false", &[Step::ResumeApplication]),
    row(RtcApplication, Ready, Is::False, &[R::EndpointNotAllowed],
        "`spec.endpoint` is not one of the vendor's https hosts, and no `--allow-endpoint` names it",
        "correct it, or allow it", &[Step::EditApplication]),
    row(RtcApplication, Ready, Is::False, &[R::SecretNotFound],
        "the Secret does not exist in the operator's namespace", "create it", &[Step::CreateSecret]),
    row(RtcApplication, Ready, Is::False, &[R::SecretInvalid],
        "the Secret has no usable key, or has both, or cannot be read", "the message says which; correct it",
        &[Step::ReplaceSecret, Step::Doctor]),
    row(RtcApplication, Ready, Is::False, &[R::CredentialsRejected],
        "the room engine does not take the signature; calls stop, one probe a minute",
        "correct the Secret, `spec.identifier` or `spec.endpoint`",
        &[Step::ReplaceSecret, Step::EditApplication, Step::Doctor]),
    row(RtcApplication, Ready, Is::False, &[R::PermissionDenied],
        "the application may not use a command; calls of that command stop, one probe a minute; the other command goes on",
        "make `spec.identifier` an App administrator, or see the message", &[Step::EditApplication]),
    row(RtcApplication, Ready, Is::False, &[R::PlanExceeded],
        "package or billing; calls of the command that was refused stop, one probe a minute; the other command goes on", "renew or upgrade the package", &[]),
    row(RtcApplication, Ready, Is::False, &[R::WriteRefused],
        "the cluster refuses to put the finalizer on the RtcApplication, or to take it off",
        "the message has the cluster's words; change what stands in the way; the operator tries again every 30 s",
        &[Step::Policies, Step::OperatorLog]),
    row(RtcApplication, Ready, Is::False, &[R::DeletionsStalled],
        "deletions of its robots wait for a person, or for more than 5 minutes; up to 30 s late",
        "see why: `kubectl roomrobot why -A`, or the conditions `RobotDeleted` of its RoomRobots", &[]),
    row(RtcApplication, Ready, Is::True, &[R::Verified],
        "the room engine accepted a call with these credentials", NOTHING, &[]),
    row(RtcApplication, Ready, Is::True, &[R::CredentialsLoaded],
        "the credentials are there; no call was made with them yet", NOTHING, &[]),
];

/// The row of `reason` in a condition, and the one that it refers to for what to do, if it does.
#[must_use]
pub fn look_up(subject: Subject, kind: Kind, reason: Reason) -> Option<&'static Explanation> {
    let found = EXPLANATIONS
        .iter()
        .find(|row| row.subject == subject && row.kind == kind && row.reasons.contains(&reason))?;
    match found.see {
        Some(other) => look_up(subject, other, reason).or(Some(found)),
        None => Some(found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_reason_that_is_written_is_explained() {
        let explained: HashSet<Reason> = EXPLANATIONS.iter().flat_map(|row| row.reasons).copied().collect();
        for reason in Reason::ALL {
            assert!(explained.contains(reason), "{reason} has no row");
        }
        for (at, row) in EXPLANATIONS.iter().enumerate() {
            for reason in row.reasons {
                let again = EXPLANATIONS[at + 1..].iter().find(|other| {
                    (other.subject, other.kind) == (row.subject, row.kind) && other.reasons.contains(reason)
                });
                assert!(again.is_none(), "{reason} of {:?} has two rows", row.kind);
            }
            assert_eq!(row.remedy.is_empty(), row.see.is_some(), "{:?}", row.reasons);
        }
    }

    #[test]
    fn a_reason_that_refers_to_another_condition_is_explained_there() {
        for (kind, reason, there) in [
            (Kind::Ready, Reason::NamespaceNotAllowed, Kind::Accepted),
            (Kind::Ready, Reason::CredentialsRejected, Kind::RobotDeleted),
            (Kind::RobotDeleted, Reason::RoomNotFound, Kind::RobotDeleted),
            (Kind::Ready, Reason::RoomNotFound, Kind::Ready),
        ] {
            let found = look_up(Subject::RoomRobot, kind, reason).unwrap();
            assert_eq!(found.kind, there, "{reason}");
            assert!(!found.remedy.is_empty());
        }
        assert!(look_up(Subject::RtcApplication, Kind::RobotDeleted, Reason::Deleted).is_none());
    }

    /// Whatever a person must mend has something to type; what ends or mends itself need not.
    #[test]
    fn what_waits_for_a_person_says_what_to_type() {
        for row in EXPLANATIONS.iter().filter(|row| row.kind == Kind::RobotDeleted && row.is == Is::False) {
            assert!(!row.steps.is_empty(), "{:?}", row.reasons);
        }
    }
}
