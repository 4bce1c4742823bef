//! Conditions: their types, their reasons, and how a new one replaces an old one.
//!
//! Pure. Of a stored condition only what decisions need is kept: its status, its reason, when it last changed, and a
//! digest that tells whether writing it again would change anything.

mod conditions;

pub use conditions::{Conditions, Stored};

use crate::{
    call::Outcome,
    codes::{self, Execution, Operation},
    printable::shortened,
};
use conditions::digest;
use std::fmt;

/// The longest message of a condition, in bytes. Kubernetes takes sixteen times as much.
const MESSAGE_LIMIT: usize = 2048;

/// The condition types that the operator writes; any other stays as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The operator has taken charge; it never goes back to False.
    Accepted,
    /// All is as the spec wants it.
    Ready,
    /// A person must act; present only then.
    Stalled,
    /// How the deletion stands; present only while deleting.
    RobotDeleted,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Accepted, Self::Ready, Self::Stalled, Self::RobotDeleted];

    /// The `type` of the condition.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "Accepted",
            Self::Ready => "Ready",
            Self::Stalled => "Stalled",
            Self::RobotDeleted => "RobotDeleted",
        }
    }
}

/// The `status` of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Is {
    /// `True`
    True,
    /// `False`
    False,
    /// `Unknown`
    Unknown,
}

impl Is {
    /// The status as it stands in the condition.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// The `reason` of a condition.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Reason {
            $($(#[$doc])* $name,)*
            /// A reason that this version does not write.
            Other,
        }

        impl Reason {
            /// Every reason that is written.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The reason as it stands in the condition.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                    Self::Other => "Other",
                }
            }

            /// The reason that a condition names.
            #[must_use]
            pub fn parse(text: &str) -> Self {
                match text {
                    $(stringify!($name) => Self::$name,)*
                    _ => Self::Other,
                }
            }
        }
    };
}

reasons! {
    /// The operator has taken charge.
    Accepted,
    /// The robot is in the room by other means; its removal is owned.
    Adopted,
    /// `add_robot` answered 0.
    Added,
    /// `add_robot` is due, or its answer is not known.
    Adding,
    /// The room's limit of robots is reached.
    RobotLimitReached,
    /// The room is full.
    RoomFull,
    /// The robot's account is not imported.
    AccountNotImported,
    /// No such RtcApplication, or one that is being deleted.
    ApplicationNotFound,
    /// The RtcApplication's `allowedNamespaces` does not select the namespace.
    NamespaceNotAllowed,
    /// The object is being deleted.
    Deleting,
    /// `delete_robot` answered 0.
    Deleted,
    /// `delete_robot` answered 100004.
    RoomNotFound,
    /// `delete_robot` answered 100005.
    NotInRoom,
    /// `deletionPolicy` is `Retain`.
    Retained,
    /// 100001 or another error of the service's own.
    InternalError,
    /// 100002 or another complaint about this robot's spec.
    InvalidParameter,
    /// 100006, or the application may not do this.
    PermissionDenied,
    /// The application cannot prove who it is.
    CredentialsRejected,
    /// Too many calls; the application slows down.
    Throttled,
    /// No answer.
    Unreachable,
    /// An answer that is not the room engine's.
    UnexpectedReply,
    /// An ErrorCode that is not documented.
    UnknownErrorCode,
    /// `suspend` is true, of the robot or of its application.
    Suspended,
    /// The application lacks what a call needs.
    ApplicationNotReady,
    /// Another RoomRobot stands for the same robot.
    StillClaimed,
    /// The application's credentials are loaded; nothing was called with them yet.
    CredentialsLoaded,
    /// A call with the application's credentials was accepted.
    Verified,
    /// The application's Secret does not exist.
    SecretNotFound,
    /// The application's Secret has no usable key.
    SecretInvalid,
    /// The application's endpoint is none that the operator may call.
    EndpointNotAllowed,
    /// Billing or package.
    PlanExceeded,
    /// Deletions of the application's robots wait for a person, or have waited long.
    DeletionsStalled,
    /// The cluster refuses a write that the operator has to make.
    WriteRefused,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A condition to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Its type.
    pub kind: Kind,
    /// Its status.
    pub is: Is,
    /// Its reason.
    pub reason: Reason,
    /// Its message: one plain sentence. Empty where the stored one stays.
    pub message: String,
    /// The stored condition stays as it is, but for the generation that it speaks of.
    pub kept: bool,
}

impl Wanted {
    /// A condition to be. Its message may hold text of others: it becomes one line, and it ends as it was meant to end.
    #[must_use]
    pub fn new(kind: Kind, is: Is, reason: Reason, message: impl Into<String>) -> Self {
        Self { kind, is, reason, message: shortened(&message.into(), MESSAGE_LIMIT), kept: false }
    }

    fn digest(&self) -> u64 {
        digest(self.is.as_str(), self.reason.as_str(), &self.message)
    }
}

/// The reason that a deletion waits for, or ended with, after `outcome`.
#[must_use]
pub fn deletion_reason(outcome: &Outcome) -> Reason {
    reason(outcome, Operation::DeleteRobot)
}

fn reason(outcome: &Outcome, operation: Operation) -> Reason {
    let rule = outcome.class(operation).rule();
    let of_class = || rule.reasons.get(operation as usize).copied().unwrap_or(Reason::UnexpectedReply);
    match outcome {
        Outcome::Reply(reply) => codes::look_up(reply.code)
            .and_then(|row| row.reasons.get(operation as usize).copied().flatten())
            .unwrap_or_else(of_class),
        // The class says how long to wait; what came says why.
        Outcome::Trouble(_) if rule.execution != Execution::Unknown => of_class(),
        Outcome::Trouble(trouble) if trouble.kind.is_unreachable() => Reason::Unreachable,
        Outcome::Trouble(_) => Reason::UnexpectedReply,
    }
}

/// The reason that an addition waits for after `outcome`, or that it succeeded.
#[must_use]
pub fn addition_reason(outcome: &Outcome) -> Reason {
    reason(outcome, Operation::AddRobot)
}

/// What a person can do after `outcome`, as a clause; empty where there is nothing to do.
#[must_use]
pub fn remedy(outcome: &Outcome) -> String {
    let text = match outcome {
        Outcome::Reply(reply) => codes::look_up(reply.code)
            .map_or("The operator tries again every few minutes; ask the vendor's support.", |row| {
                row.remedy
            }),
        Outcome::Trouble(trouble) => trouble.kind.remedy(),
    };
    clause(text)
}

/// A sentence as a clause: small first letter, no full stop.
fn clause(sentence: &str) -> String {
    let sentence = sentence.trim_end_matches('.').replace(". ", "; ");
    let mut letters = sentence.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

/// `ErrorCode N, RequestId X`, as far as there was an answer; empty where there was none.
#[must_use]
pub fn reference(code: Option<i64>, request_id: Option<&str>) -> String {
    match (code, request_id) {
        (Some(code), Some(id)) => format!("ErrorCode {code}, RequestId {id}"),
        (Some(code), None) => format!("ErrorCode {code}, no RequestId"),
        (None, Some(id)) => format!("RequestId {id}"),
        (None, None) => String::new(),
    }
}

/// `text`, then `reference` behind a colon where there is one: so every message ends with code and RequestId.
#[must_use]
pub fn with_reference(text: &str, reference: &str) -> String {
    if reference.is_empty() { text.to_owned() } else { format!("{text}: {reference}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::{Reply, Trouble, TroubleKind};
    use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Condition, jiff::Timestamp};
    use serde_json::json;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn ready(is: Is, reason: Reason) -> Wanted {
        Wanted::new(Kind::Ready, is, reason, "why")
    }

    #[test]
    fn the_time_moves_only_with_the_status() {
        let first = Conditions::default().with(&[ready(Is::False, Reason::Unreachable)], 1, at(100));
        let second = Conditions::read(Some(first)).with(&[ready(Is::False, Reason::Throttled)], 2, at(200));
        assert_eq!(second[0].last_transition_time.0, at(100));
        assert_eq!((second[0].reason.as_str(), second[0].observed_generation), ("Throttled", Some(2)));
        let third = Conditions::read(Some(second)).with(&[ready(Is::True, Reason::Adopted)], 2, at(300));
        assert_eq!(third[0].last_transition_time.0, at(300));
    }

    #[test]
    fn a_message_is_one_line_and_ends_with_its_reference() {
        let end = ": ErrorCode 100006, RequestId Id-1";
        for foreign in ["a\nErrorCode 0, RequestId Id-x\u{1b}[2J\u{202e}".to_owned(), "é\n".repeat(20_000)] {
            let text = with_reference(&format!("RtcApplication {foreign}"), &end[2..]);
            let wanted = Wanted::new(Kind::Ready, Is::False, Reason::Unreachable, text);
            assert!(wanted.message.ends_with(end) && wanted.message.len() <= MESSAGE_LIMIT);
            assert!(
                !wanted.message.contains(|c: char| c.is_control() || c == '\u{202e}'),
                "{}",
                wanted.message
            );
            let stored =
                Conditions::read(Some(Conditions::default().with(std::slice::from_ref(&wanted), 1, at(100))));
            let again = Wanted::new(Kind::Ready, Is::False, Reason::Unreachable, wanted.message);
            assert!(stored.say(&[again], 1), "what is stored is not made safe a second time");
        }
    }

    #[test]
    fn what_is_said_already_is_not_written_again() {
        let wanted = [ready(Is::True, Reason::Adopted)];
        let stored = Conditions::read(Some(Conditions::default().with(&wanted, 1, at(100))));
        assert!(stored.say(&wanted, 1));
        assert!(!stored.say(&wanted, 2), "another generation");
        assert!(!stored.say(&[], 1), "a condition too many");
        assert!(!stored.say(&[ready(Is::True, Reason::Verified)], 1), "another reason");
        assert!(
            !stored.say(&[Wanted::new(Kind::Ready, Is::True, Reason::Adopted, "else")], 1),
            "another message"
        );
    }

    /// What the API server makes of a list and a patch for it.
    fn patched(list: &[Condition], wanted: &[Wanted], now: Timestamp) -> Vec<Condition> {
        let patch = Conditions::read(Some(list.to_vec())).patch(wanted, 2, [], now);
        let mut object = json!({"status": {"conditions": list}});
        let patch: json_patch::Patch = serde_json::from_value(json!(patch)).unwrap();
        json_patch::patch(&mut object, &patch).unwrap();
        serde_json::from_value(object["status"]["conditions"].take()).unwrap()
    }

    #[test]
    fn conditions_of_others_stay_in_their_places() {
        let other = |kind: &str| Condition {
            type_: kind.into(),
            ..Conditions::default().with(&[ready(Is::True, Reason::Adopted)], 1, at(100)).remove(0)
        };
        let all = [
            Wanted::new(Kind::Accepted, Is::True, Reason::Accepted, "a"),
            ready(Is::False, Reason::Deleting),
            Wanted::new(Kind::Stalled, Is::True, Reason::Suspended, "s"),
            Wanted::new(Kind::RobotDeleted, Is::False, Reason::Suspended, "d"),
        ];
        // Every subset of ours stored, in two orders, with those of others between; every subset wanted.
        for stored in 0..16_usize {
            let chosen = |of: usize| {
                all.iter().enumerate().filter(move |(n, _)| of & (1 << n) != 0).map(|(_, want)| want)
            };
            let mut list = vec![other("First")];
            for want in chosen(stored) {
                list.extend(Conditions::default().with(std::slice::from_ref(want), 1, at(100)));
                list.push(other(&format!("Other{}", want.reason)));
            }
            for list in [list.clone(), list.into_iter().rev().collect()] {
                for wanted in 0..16 {
                    let wanted: Vec<Wanted> = chosen(wanted).cloned().collect();
                    let after = patched(&list, &wanted, at(200));
                    let foreign = |list: &[Condition]| -> Vec<Condition> {
                        let ours = |one: &&Condition| Kind::ALL.iter().all(|kind| kind.as_str() != one.type_);
                        list.iter().filter(ours).cloned().collect()
                    };
                    assert_eq!(foreign(&after), foreign(&list));
                    assert!(Conditions::read(Some(after)).say(&wanted, 2));
                }
            }
        }
    }

    #[test]
    fn conditions_of_others_stay_where_none_of_ours_is_stored_yet() {
        let wanted = [ready(Is::True, Reason::Adopted)];
        let mut object = json!({"status": {"conditions": [{"type": "First"}, {"type": "Second"}]}});
        let patch = Conditions::read_sparse([], 2).patch(&wanted, 2, [], at(200));
        json_patch::patch(&mut object, &serde_json::from_value::<json_patch::Patch>(json!(patch)).unwrap())
            .unwrap();
        let kinds: Vec<_> = object["status"]["conditions"].as_array().unwrap().iter().collect();
        assert_eq!(kinds.len(), 3, "{kinds:?}");
    }

    #[test]
    fn a_condition_that_is_kept_changes_its_generation_only() {
        let list = Conditions::default().with(&[ready(Is::True, Reason::Added)], 1, at(100));
        let kept = Conditions::read(Some(list.clone())).kept(Kind::Ready).unwrap();
        let after = patched(&list, std::slice::from_ref(&kept), at(200));
        assert_eq!(after, [Condition { observed_generation: Some(2), ..list[0].clone() }]);
        assert!(Conditions::read(Some(after)).say(&[kept], 2));
    }

    #[test]
    fn a_status_that_is_not_there_is_made() {
        let wanted = [ready(Is::True, Reason::Adopted)];
        let nobody = json!({"status": {"robots": 1, "conditions": []}});
        for (stored, object) in [
            (Conditions::default(), json!({})),
            (Conditions::none(), json!({"status": {"robots": 1}})),
            (Conditions::read(Some([])), nobody.clone()),
            (Conditions::read_sparse([], 0), nobody),
        ] {
            let robots = object["status"]["robots"].clone();
            let patch = stored.patch(&wanted, 2, [("observedGeneration", json!(2))], at(200));
            let mut object = object;
            json_patch::patch(
                &mut object,
                &serde_json::from_value::<json_patch::Patch>(json!(patch)).unwrap(),
            )
            .unwrap();
            assert_eq!(object["status"]["observedGeneration"], 2);
            assert_eq!(object["status"]["robots"], robots, "what else is stored stays");
            let list: Vec<Condition> = serde_json::from_value(object["status"]["conditions"].take()).unwrap();
            assert!(Conditions::read(Some(list)).say(&wanted, 2));
        }
    }

    #[test]
    fn reasons_read_back_as_they_are_written() {
        for reason in Reason::ALL {
            assert_eq!(Reason::parse(reason.as_str()), *reason);
        }
        assert_eq!(Reason::parse("FromTheFuture"), Reason::Other);
    }

    #[test]
    fn each_outcome_has_its_own_reason() {
        let reply =
            |code| Outcome::Reply(Reply { code, info: String::new(), request_id: Some("Id-1".into()) });
        let http = |kind, status| Outcome::Trouble(Trouble { kind, http_status: status, request_id: None });
        for (outcome, reason) in [
            (reply(0), Reason::Deleted),
            (reply(100_004), Reason::RoomNotFound),
            (reply(100_005), Reason::NotInRoom),
            (reply(100_001), Reason::InternalError),
            (reply(60008), Reason::InternalError),
            (reply(100_002), Reason::InvalidParameter),
            (reply(100_006), Reason::PermissionDenied),
            (reply(60010), Reason::PermissionDenied),
            (reply(70009), Reason::CredentialsRejected),
            (reply(70001), Reason::CredentialsRejected),
            (reply(60011), Reason::Throttled),
            (reply(60020), Reason::ApplicationNotReady),
            (reply(100_008), Reason::UnexpectedReply),
            (reply(424_242), Reason::UnknownErrorCode),
            (Outcome::failed(TroubleKind::Timeout), Reason::Unreachable),
            (http(TroubleKind::Broken, Some(200)), Reason::Unreachable),
            (http(TroubleKind::Http, Some(502)), Reason::UnexpectedReply),
            (http(TroubleKind::Http, Some(429)), Reason::Throttled),
            (http(TroubleKind::NotAReply, Some(200)), Reason::UnexpectedReply),
            (http(TroubleKind::TooLarge, Some(200)), Reason::UnexpectedReply),
        ] {
            assert_eq!(deletion_reason(&outcome), reason, "{outcome:?}");
        }
    }
}
