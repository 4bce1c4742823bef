//! What the room engine's answers mean: one table from ErrorCode to class, meaning and remedy.
//!
//! Pure data and look-ups. Changing the meaning of a code is changing its row here; conditions, logs, the docs and
//! the simulator read the same row. The rows come from the vendor's pages, named by [`Source`]. The rules of all classes stand
//! in one `match`, side by side, which makes this file long.

mod table;

pub use table::CODES;

use crate::status::Reason;
use std::fmt;

/// A command of the room engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// `delete_robot`
    DeleteRobot,
    /// `add_robot`
    AddRobot,
}

/// Something for each command, in the order of [`Operation::ALL`]. A third command changes its length, so that the compiler
/// names each place that has to say more.
pub type PerOperation<T> = [T; Operation::ALL.len()];

impl Operation {
    /// All of them, deletions first.
    pub const ALL: [Self; 2] = [Self::DeleteRobot, Self::AddRobot];

    /// The command that a robot needs which is being deleted, or which is not.
    #[must_use]
    pub const fn of(deleting: bool) -> Self {
        if deleting { Self::DeleteRobot } else { Self::AddRobot }
    }

    /// The command's name as it stands in the path.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DeleteRobot => "delete_robot",
            Self::AddRobot => "add_robot",
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What the operator does about a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// The command did what it says.
    Done,
    /// The robot is not there: for a deletion, success.
    Gone,
    /// The room engine's trouble: back off per robot.
    Retry,
    /// Too fast: the application's pace halves.
    Throttled,
    /// The application cannot prove who it is: its calls stop, one probe a minute.
    Credentials,
    /// The UserSig is past its life: signed anew once, then as [`Class::Credentials`].
    Expired,
    /// The application may not do this: as [`Class::Credentials`].
    Permission,
    /// This robot's room may not be touched by this application: hold this robot.
    RobotPermission,
    /// Billing or package: as [`Class::Credentials`].
    Plan,
    /// This robot's spec: hold this robot.
    Invalid,
    /// The room is not ready for this: slow retry.
    Later,
    /// Not in the table, or without sense for this command: never success, slow retry.
    Unknown,
}

/// What the room engine did where it answered with a class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Execution {
    /// What the command says.
    Done,
    /// Nothing: there was nothing to do.
    NotNeeded,
    /// Nothing: it refused.
    Refused,
    /// Perhaps what the command says, perhaps nothing.
    Unknown,
}

/// What an answer stops beside the call that it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stops {
    /// Nothing.
    Nothing,
    /// This command for all robots of the application, but for one probe a minute.
    Command,
    /// All calls of the application, but for one probe a minute.
    Application,
}

/// How long a robot waits before its next call; lengths and jitter are in [`crate::backoff`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Not by itself: it needs no call, or the application is what waits.
    Nothing,
    /// A second, growing to five minutes.
    Seconds,
    /// A minute, growing to ten.
    Minutes,
    /// An hour.
    Hour,
}

/// All that follows from a class. A new class is a new [`Rule`], which has to say all of it.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// The class in logs and metric labels.
    pub word: &'static str,
    /// What the room engine did.
    pub execution: Execution,
    /// What the answer stops.
    pub stops: Stops,
    /// Whether nothing but a person can change the answer.
    pub needs_a_person: bool,
    /// How long the robot waits.
    pub wait: Wait,
    /// The reason in `RobotDeleted`, and in `Ready` after `add_robot`, unless the code has one of its own.
    pub reasons: PerOperation<Reason>,
    /// Whether the application's pace halves.
    pub slows_down: bool,
    /// Whether a signature from a key is made anew, and the call repeated, before anybody hears of it.
    pub signs_anew: bool,
    /// Whether alerts count it as an error of calls. What stops an application or a command has alerts of its own.
    pub is_error: bool,
}

impl Class {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Done,
        Self::Gone,
        Self::Retry,
        Self::Throttled,
        Self::Credentials,
        Self::Expired,
        Self::Permission,
        Self::RobotPermission,
        Self::Plan,
        Self::Invalid,
        Self::Later,
        Self::Unknown,
    ];

    /// All that follows from this class.
    #[must_use]
    #[expect(clippy::too_many_lines, reason = "a table: each class says all of it")]
    pub const fn rule(self) -> Rule {
        match self {
            Self::Done => Rule {
                word: "done",
                execution: Execution::Done,
                stops: Stops::Nothing,
                needs_a_person: false,
                wait: Wait::Nothing,
                reasons: [Reason::Deleted, Reason::Added],
                slows_down: false,
                signs_anew: false,
                is_error: false,
            },
            Self::Gone => Rule {
                word: "gone",
                execution: Execution::NotNeeded,
                stops: Stops::Nothing,
                needs_a_person: false,
                wait: Wait::Nothing,
                reasons: [Reason::NotInRoom, Reason::NotInRoom],
                slows_down: false,
                signs_anew: false,
                is_error: false,
            },
            Self::Retry => Rule {
                word: "retry",
                execution: Execution::Unknown,
                stops: Stops::Nothing,
                needs_a_person: false,
                wait: Wait::Seconds,
                reasons: [Reason::InternalError, Reason::InternalError],
                slows_down: false,
                signs_anew: false,
                is_error: true,
            },
            Self::Throttled => Rule {
                word: "throttled",
                execution: Execution::Refused,
                stops: Stops::Nothing,
                needs_a_person: false,
                wait: Wait::Nothing,
                reasons: [Reason::Throttled, Reason::Throttled],
                slows_down: true,
                signs_anew: false,
                is_error: false,
            },
            Self::Credentials => Rule {
                word: "credentials",
                execution: Execution::Refused,
                stops: Stops::Application,
                needs_a_person: true,
                wait: Wait::Nothing,
                reasons: [Reason::CredentialsRejected, Reason::CredentialsRejected],
                slows_down: false,
                signs_anew: false,
                is_error: false,
            },
            Self::Expired => Rule {
                word: "expired",
                execution: Execution::Refused,
                stops: Stops::Application,
                needs_a_person: true,
                wait: Wait::Nothing,
                reasons: [Reason::CredentialsRejected, Reason::CredentialsRejected],
                slows_down: false,
                signs_anew: true,
                is_error: false,
            },
            Self::Permission => Rule {
                word: "permission",
                execution: Execution::Refused,
                stops: Stops::Command,
                needs_a_person: true,
                wait: Wait::Minutes,
                reasons: [Reason::PermissionDenied, Reason::PermissionDenied],
                slows_down: false,
                signs_anew: false,
                is_error: false,
            },
            Self::RobotPermission => Rule {
                word: "robot_permission",
                execution: Execution::Refused,
                stops: Stops::Nothing,
                needs_a_person: true,
                wait: Wait::Hour,
                reasons: [Reason::PermissionDenied, Reason::PermissionDenied],
                slows_down: false,
                signs_anew: false,
                is_error: true,
            },
            Self::Plan => Rule {
                word: "plan",
                execution: Execution::Refused,
                stops: Stops::Command,
                needs_a_person: true,
                wait: Wait::Minutes,
                reasons: [Reason::ApplicationNotReady, Reason::ApplicationNotReady],
                slows_down: false,
                signs_anew: false,
                is_error: false,
            },
            Self::Invalid => Rule {
                word: "invalid",
                execution: Execution::Refused,
                stops: Stops::Nothing,
                needs_a_person: true,
                wait: Wait::Hour,
                reasons: [Reason::InvalidParameter, Reason::InvalidParameter],
                slows_down: false,
                signs_anew: false,
                is_error: true,
            },
            Self::Later => Rule {
                word: "later",
                execution: Execution::Refused,
                stops: Stops::Nothing,
                needs_a_person: false,
                wait: Wait::Minutes,
                reasons: [Reason::UnexpectedReply, Reason::RobotLimitReached],
                slows_down: false,
                signs_anew: false,
                is_error: false,
            },
            Self::Unknown => Rule {
                word: "unknown",
                execution: Execution::Unknown,
                stops: Stops::Nothing,
                needs_a_person: true,
                wait: Wait::Minutes,
                reasons: [Reason::UnknownErrorCode, Reason::UnknownErrorCode],
                slows_down: false,
                signs_anew: false,
                is_error: true,
            },
        }
    }

    /// The class as a word for logs and metric labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.rule().word
    }

    /// Whether the command is over and well: it did what it says, or there was nothing to do.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self.rule().execution, Execution::Done | Execution::NotNeeded)
    }

    /// Whether the trouble is the application's, not one robot's.
    #[must_use]
    pub const fn stops_application(self) -> bool {
        !matches!(self.rule().stops, Stops::Nothing)
    }
}

// `Unknown` stays the last variant: so this counts them.
const _: () = assert!(Class::ALL.len() == Class::Unknown as usize + 1, "Class::ALL misses one");

/// The page of the vendor that a row comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// "Deleting a Robot": private codes of `delete_robot`.
    DeleteRobot,
    /// "Adding a Robot" and the room engine's other pages: private codes of the room engine.
    RoomEngine,
    /// The common error codes of the REST API (600xx and 700xx).
    RestApi,
}

impl Source {
    /// The page's name.
    #[must_use]
    pub const fn page(self) -> &'static str {
        match self {
            Self::DeleteRobot => "Deleting a Robot",
            Self::RoomEngine => "Room engine error codes",
            Self::RestApi => "REST API common error codes",
        }
    }
}

/// One ErrorCode.
#[derive(Clone, Copy, Debug)]
pub struct Code {
    /// The ErrorCode.
    pub code: i64,
    /// Its class on `delete_robot`.
    pub class: Class,
    /// What it means, as one clause without a full stop.
    pub meaning: &'static str,
    /// What a person can do about it, as one sentence; empty where there is nothing to do.
    pub remedy: &'static str,
    /// Where the vendor says so.
    pub source: Source,
    /// Its class on `add_robot`.
    pub class_on_add: Class,
    /// The reasons of its own, in the order of [`Rule::reasons`].
    pub reasons: PerOperation<Option<Reason>>,
    /// There is no room, so whatever was called before, the robot is nowhere.
    pub no_room: bool,
    /// The application makes no call at all for a minute, also with other credentials.
    pub holds_off: bool,
}

impl Code {
    /// Read on `add_robot` as `class`, with `reason`.
    const fn on_add(mut self, class: Class, reason: Reason) -> Self {
        self.class_on_add = class;
        self.reasons = [self.reasons[0], Some(reason)];
        self
    }

    /// With `reason` in `RobotDeleted`.
    const fn told_as(mut self, reason: Reason) -> Self {
        self.reasons = [Some(reason), self.reasons[1]];
        self
    }

    const fn without_room(mut self) -> Self {
        self.no_room = true;
        self
    }

    const fn holding_off(mut self) -> Self {
        self.holds_off = true;
        self
    }

    /// Its class as the answer to `operation`.
    #[must_use]
    pub const fn class_on(&self, operation: Operation) -> Class {
        match operation {
            Operation::DeleteRobot => self.class,
            Operation::AddRobot => self.class_on_add,
        }
    }

    /// Whether it proves that the room engine accepts the signature: not where the gateway in front of it failed.
    #[must_use]
    pub fn proves_the_signature(&self) -> bool {
        !(self.source == Source::RestApi && self.class.rule().execution == Execution::Unknown)
    }
}

/// The row of `code`, or `None` where the vendor documents no such code.
#[must_use]
pub fn look_up(code: i64) -> Option<&'static Code> {
    CODES.binary_search_by_key(&code, |row| row.code).ok().and_then(|at| CODES.get(at))
}

/// What `code` means as the answer to `operation`.
#[must_use]
pub fn class(operation: Operation, code: i64) -> Class {
    look_up(code).map_or(Class::Unknown, |row| row.class_on(operation))
}

/// What an HTTP status other than 200 means where the body is no reply of the room engine.
#[must_use]
pub fn http_class(status: u16) -> Class {
    if status == 429 { Class::Throttled } else { Class::Retry }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The reference table, written out a second time: a row that moves by accident is seen here.
    const REFERENCE: &[(Class, &[i64])] = &[
        (Class::Done, &[0]),
        (Class::Gone, &[100_004, 100_005]),
        (Class::Retry, &[100_001, 20004, 20005, 60008, 60013, 60014, 70169, 70202, 70500]),
        (Class::Throttled, &[60007, 60011, 60018, 60019, 70114, 100_012]),
        (
            Class::Credentials,
            &[
                60002, 60004, 60005, 60006, 60009, 60012, 70002, 70003, 70005, 70009, 70013, 70014, 70016,
                70020, 70050,
            ],
        ),
        (Class::Expired, &[70001]),
        (Class::Permission, &[60010, 60017, 60021, 70051, 70403]),
        (Class::RobotPermission, &[100_006]),
        (Class::Plan, &[60016, 60020, 70398, 72000, 100_007, 100_013]),
        (Class::Invalid, &[100_002, 100_015, 60003, 60015, 70107, 70402]),
        (Class::Later, &[100_008, 100_700]),
    ];

    #[test]
    fn every_code_has_the_class_of_the_reference() {
        let mut seen = 0;
        for (expected, codes) in REFERENCE {
            for code in *codes {
                assert_eq!(class(Operation::DeleteRobot, *code), *expected, "delete_robot answered {code}");
                seen += 1;
            }
        }
        assert_eq!(
            seen,
            CODES.len(),
            "a code of the table is missing in the reference or the other way round"
        );
    }

    #[test]
    fn the_table_is_sorted_for_the_look_up() {
        assert!(CODES.is_sorted_by(|a, b| a.code < b.code));
        for row in CODES {
            assert_eq!(look_up(row.code).unwrap().code, row.code);
            assert!(!row.meaning.is_empty() && !row.meaning.ends_with('.'), "{}", row.code);
            assert_eq!(row.remedy.is_empty(), row.class.is_final(), "{}", row.code);
        }
    }

    #[test]
    fn what_is_not_in_the_table_is_unknown_and_never_success() {
        for code in [-1, 1, 100_000, 100_003, 100_009, 60001, i64::MAX, i64::MIN] {
            assert_eq!(class(Operation::DeleteRobot, code), Class::Unknown);
            assert_eq!(class(Operation::AddRobot, code), Class::Unknown);
        }
    }

    #[test]
    fn an_addition_reads_gone_its_own_way() {
        assert_eq!(class(Operation::AddRobot, 100_004), Class::Later);
        assert_eq!(class(Operation::AddRobot, 100_005), Class::Unknown);
        assert_eq!(class(Operation::AddRobot, 100_700), Class::Later);
    }

    #[test]
    fn a_final_answer_is_over_for_everybody() {
        for class in Class::ALL {
            let rule = class.rule();
            assert_eq!(Class::ALL.iter().filter(|other| other.as_str() == rule.word).count(), 1, "{class:?}");
            if class.is_final() {
                let Rule { stops, needs_a_person, wait, slows_down, signs_anew, is_error, .. } = rule;
                assert_eq!((stops, wait), (Stops::Nothing, Wait::Nothing), "{class:?}");
                assert!(!(needs_a_person || slows_down || signs_anew || is_error), "{class:?}");
            }
            // Whoever waits because of the application is told by that.
            assert!(!(class.stops_application() && rule.is_error), "{class:?}");
        }
    }

    #[test]
    fn http_trouble_is_retried_and_429_slows_down() {
        assert_eq!(http_class(429), Class::Throttled);
        for status in [301, 400, 403, 404, 408, 500, 502, 503, 504] {
            assert_eq!(http_class(status), Class::Retry);
        }
    }
}
