//! Conditions: their types, their reasons, and how a new one replaces an old one.
//!
//! Pure. Of a stored condition only what decisions need is kept: its status, its reason, when it last changed, and a
//! digest that tells whether writing it again would change anything.

use crate::{
    codes::{self, Class, Operation},
    printable::shortened,
    room_engine::Outcome,
};
use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::Timestamp,
};
use std::{
    fmt,
    hash::{DefaultHasher, Hash as _, Hasher as _},
};

/// The longest message of a condition, in bytes. Kubernetes takes eight times as much.
const MESSAGE_LIMIT: usize = 4096;

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
    /// Its message: one plain sentence.
    pub message: String,
}

impl Wanted {
    /// A condition to be. Its message may hold text of others: it becomes one line, and it ends as it was meant to end.
    #[must_use]
    pub fn new(kind: Kind, is: Is, reason: Reason, message: impl Into<String>) -> Self {
        Self { kind, is, reason, message: shortened(&message.into(), MESSAGE_LIMIT) }
    }

    fn digest(&self, generation: i64) -> u64 {
        digest(self.is.as_str(), self.reason.as_str(), &self.message, generation)
    }
}

fn digest(is: &str, reason: &str, message: &str, generation: i64) -> u64 {
    let mut hasher = DefaultHasher::new();
    (is, reason, message, generation).hash(&mut hasher);
    hasher.finish()
}

/// A stored condition, as far as decisions need it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    is: Is,
    reason: Reason,
    /// Unix seconds of `lastTransitionTime`.
    since: i64,
    digest: u64,
}

/// The stored conditions of one object: a place for each [`Kind`], and what others wrote.
#[derive(Clone, Debug, Default)]
pub struct Conditions {
    ours: [Option<Stored>; 4],
    /// The message of a `Ready` that is `Added`: it holds a RequestId that is nowhere else any more.
    added: Option<Box<str>>,
    /// Conditions of other writers, kept because a merge patch replaces the whole list. Rare.
    others: Option<Box<[Condition]>>,
}

impl Conditions {
    /// Reads the stored list.
    #[must_use]
    pub fn read(list: impl IntoIterator<Item = Condition>) -> Self {
        let mut ours = [None; 4];
        let mut added = None;
        let mut others = Vec::new();
        for condition in list {
            if condition.type_ == "Ready" && condition.reason == Reason::Added.as_str() {
                added = Some(condition.message.as_str().into());
            }
            let place = Kind::ALL.iter().position(|kind| kind.as_str() == condition.type_);
            match place.and_then(|at| ours.get_mut(at)) {
                Some(place) => *place = Some(Stored::read(&condition)),
                None => others.push(condition),
            }
        }
        Self { ours, added, others: (!others.is_empty()).then(|| others.into_boxed_slice()) }
    }

    fn get(&self, kind: Kind) -> Option<&Stored> {
        self.ours.get(kind as usize).and_then(Option::as_ref)
    }

    /// Whether the condition is there and True.
    #[must_use]
    pub fn is_true(&self, kind: Kind) -> bool {
        self.get(kind).is_some_and(|stored| stored.is == Is::True)
    }

    /// The message of `Ready` where its reason is `Added`.
    #[must_use]
    pub fn added(&self) -> Option<&str> {
        self.added.as_deref()
    }

    /// The status of the condition, where it is there.
    #[must_use]
    pub fn is(&self, kind: Kind) -> Option<Is> {
        self.get(kind).map(|stored| stored.is)
    }

    /// The reason of the condition, where it is there.
    #[must_use]
    pub fn reason(&self, kind: Kind) -> Option<Reason> {
        self.get(kind).map(|stored| stored.reason)
    }

    /// Unix seconds since which the condition has its status, where it is there.
    #[must_use]
    pub fn since(&self, kind: Kind) -> Option<i64> {
        self.get(kind).map(|stored| stored.since)
    }

    /// Whether what is stored already says what is wanted, no more and no less.
    #[must_use]
    pub fn say(&self, wanted: &[Wanted], generation: i64) -> bool {
        Kind::ALL.iter().all(|kind| {
            let want = wanted.iter().find(|wanted| wanted.kind == *kind);
            match (want, self.get(*kind)) {
                (None, None) => true,
                (Some(want), Some(stored)) => want.digest(generation) == stored.digest,
                _ => false,
            }
        })
    }

    /// The whole list to be: what is wanted, and what others wrote. `lastTransitionTime` moves only with the status.
    #[must_use]
    pub fn with(&self, wanted: &[Wanted], generation: i64, now: Timestamp) -> Vec<Condition> {
        let ours = wanted.iter().map(|want| {
            let since = self
                .get(want.kind)
                .filter(|stored| stored.is == want.is)
                .and_then(|stored| Timestamp::from_second(stored.since).ok())
                .unwrap_or(now);
            Condition {
                type_: want.kind.as_str().to_owned(),
                status: want.is.as_str().to_owned(),
                reason: want.reason.as_str().to_owned(),
                message: want.message.clone(),
                observed_generation: Some(generation),
                last_transition_time: Time(since),
            }
        });
        ours.chain(self.others.iter().flatten().cloned()).collect()
    }
}

impl Stored {
    fn read(condition: &Condition) -> Self {
        let is = match condition.status.as_str() {
            "True" => Is::True,
            "False" => Is::False,
            _ => Is::Unknown,
        };
        Self {
            is,
            reason: Reason::parse(&condition.reason),
            since: condition.last_transition_time.0.as_second(),
            digest: digest(
                &condition.status,
                &condition.reason,
                &condition.message,
                condition.observed_generation.unwrap_or_default(),
            ),
        }
    }
}

/// The reason that a deletion waits for, or ended with, after `outcome`.
#[must_use]
pub fn deletion_reason(outcome: &Outcome) -> Reason {
    match (outcome.class(Operation::DeleteRobot), outcome) {
        (Class::Done, _) => Reason::Deleted,
        (Class::Gone, Outcome::Reply(reply)) if reply.code == 100_004 => Reason::RoomNotFound,
        (Class::Gone, _) => Reason::NotInRoom,
        (Class::Retry, Outcome::Reply(_)) => Reason::InternalError,
        (Class::Retry, Outcome::Trouble(trouble)) if trouble.kind.is_unreachable() => Reason::Unreachable,
        (Class::Retry | Class::Later, _) => Reason::UnexpectedReply,
        (Class::Throttled, _) => Reason::Throttled,
        (Class::Credentials | Class::Expired, _) => Reason::CredentialsRejected,
        (Class::Permission | Class::RobotPermission, _) => Reason::PermissionDenied,
        (Class::Plan, _) => Reason::ApplicationNotReady,
        (Class::Invalid, _) => Reason::InvalidParameter,
        (Class::Unknown, _) => Reason::UnknownErrorCode,
    }
}

/// The reason that an addition waits for after `outcome`, or that it succeeded.
#[must_use]
pub fn addition_reason(outcome: &Outcome) -> Reason {
    match (outcome.class(Operation::AddRobot), outcome.code()) {
        (Class::Done, _) => Reason::Added,
        (Class::Later, Some(100_004)) => Reason::RoomNotFound,
        (Class::Later, Some(100_008)) => Reason::RoomFull,
        (Class::Later, _) => Reason::RobotLimitReached,
        (Class::Invalid, Some(70107)) => Reason::AccountNotImported,
        (Class::Unknown, _) => Reason::UnknownErrorCode,
        _ => deletion_reason(outcome),
    }
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

/// `text`, then `reference` behind a colon where there is one: so every message ends with code and RequestId.
#[must_use]
pub fn with_reference(text: &str, reference: &str) -> String {
    if reference.is_empty() { text.to_owned() } else { format!("{text}: {reference}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::room_engine::{Reply, Trouble, TroubleKind};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn ready(is: Is, reason: Reason) -> Wanted {
        Wanted::new(Kind::Ready, is, reason, "why")
    }

    #[test]
    fn the_time_moves_only_with_the_status() {
        let first = Conditions::default().with(&[ready(Is::False, Reason::Unreachable)], 1, at(100));
        let second = Conditions::read(first).with(&[ready(Is::False, Reason::Throttled)], 2, at(200));
        assert_eq!(second[0].last_transition_time.0, at(100));
        assert_eq!((second[0].reason.as_str(), second[0].observed_generation), ("Throttled", Some(2)));
        let third = Conditions::read(second).with(&[ready(Is::True, Reason::Adopted)], 2, at(300));
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
                Conditions::read(Conditions::default().with(std::slice::from_ref(&wanted), 1, at(100)));
            let again = Wanted::new(Kind::Ready, Is::False, Reason::Unreachable, wanted.message);
            assert!(stored.say(&[again], 1), "what is stored is not made safe a second time");
        }
    }

    #[test]
    fn what_is_said_already_is_not_written_again() {
        let wanted = [ready(Is::True, Reason::Adopted)];
        let stored = Conditions::read(Conditions::default().with(&wanted, 1, at(100)));
        assert!(stored.say(&wanted, 1));
        assert!(!stored.say(&wanted, 2), "another generation");
        assert!(!stored.say(&[], 1), "a condition too many");
        assert!(!stored.say(&[ready(Is::True, Reason::Verified)], 1), "another reason");
        assert!(
            !stored.say(&[Wanted::new(Kind::Ready, Is::True, Reason::Adopted, "else")], 1),
            "another message"
        );
    }

    #[test]
    fn conditions_of_others_stay() {
        let mut list = Conditions::default().with(&[ready(Is::True, Reason::Adopted)], 1, at(100));
        list.push(Condition { type_: "Audited".into(), ..list[0].clone() });
        let stored = Conditions::read(list.clone());
        assert!(stored.say(&[ready(Is::True, Reason::Adopted)], 1));
        assert_eq!(stored.with(&[ready(Is::True, Reason::Adopted)], 1, at(200)), list);
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
