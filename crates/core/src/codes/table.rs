//! Every ErrorCode of the vendor's pages: the rows.

use super::{Class, Code, Source};
use crate::status::Reason;

const fn row(code: i64, class: Class, source: Source, meaning: &'static str, remedy: &'static str) -> Code {
    Code {
        code,
        class,
        meaning,
        remedy,
        source,
        class_on_add: class,
        reasons: [None, None],
        no_room: false,
        holds_off: false,
    }
}

const WAIT: &str = "Nothing to do: the operator tries again by itself.";
const REGION: &str =
    "Check that spec.endpoint of the RtcApplication is the host of the SDKAppID's data centre.";
const KEY: &str = "Check that the Secret holds the key of this SDKAppID and that spec.sdkAppId is right.";
const IDENTIFIER: &str =
    "Check spec.identifier of the RtcApplication and, with a userSig, whom it was signed for.";
const ADMIN: &str =
    "Make spec.identifier of the RtcApplication an App administrator in the vendor's console.";
const ROOM: &str = "Find out in the vendor's console why spec.identifier may not touch this room; any change of the RoomRobot's spec then tries at once.";
const PACE: &str =
    "Nothing to do: the operator slows down by itself. If it stays, lower spec.requestsPerSecond.";
const SUPPORT: &str = "Ask the vendor's support, with the RequestId.";
const PLAN: &str = "Renew or upgrade the package of the SDKAppID in the vendor's console.";
const SPEC: &str =
    "Check roomId and memberAccount; if they are wrong, set deletionPolicy to Retain and create another.";

/// Every code that the vendor documents for the two commands, in ascending order.
pub const CODES: &[Code] = &[
    row(0, Class::Done, Source::DeleteRobot, "the command succeeded", ""),
    row(20004, Class::Retry, Source::RestApi, "a network error inside the service", WAIT),
    row(20005, Class::Retry, Source::RestApi, "an internal error of the service", WAIT),
    row(60002, Class::Credentials, Source::RestApi, "the request's URL could not be parsed", REGION),
    row(60003, Class::Invalid, Source::RestApi, "the request's JSON could not be parsed", SPEC),
    row(
        60004,
        Class::Credentials,
        Source::RestApi,
        "the account or the signature in the request is wrong",
        IDENTIFIER,
    ),
    row(
        60005,
        Class::Credentials,
        Source::RestApi,
        "the account or the signature in the request is wrong",
        IDENTIFIER,
    ),
    row(60006, Class::Credentials, Source::RestApi, "the SDKAppID is not valid", KEY),
    row(60007, Class::Throttled, Source::RestApi, "the REST API is called too often", PACE),
    row(60008, Class::Retry, Source::RestApi, "the service timed out", WAIT),
    row(60009, Class::Credentials, Source::RestApi, "the requested resource is wrong", REGION),
    row(60010, Class::Permission, Source::RestApi, "the request needs an App administrator", ADMIN),
    row(60011, Class::Throttled, Source::RestApi, "the SDKAppID's request frequency is over its limit", PACE),
    row(60012, Class::Credentials, Source::RestApi, "the request carries no SDKAppID", KEY),
    row(60013, Class::Retry, Source::RestApi, "the service's own answer could not be parsed", WAIT),
    row(60014, Class::Retry, Source::RestApi, "the service timed out while it looked the account up", WAIT),
    row(60015, Class::Invalid, Source::RestApi, "the account in the request has the wrong type", SPEC),
    row(60016, Class::Plan, Source::RestApi, "the SDKAppID is disabled", PLAN),
    row(60017, Class::Permission, Source::RestApi, "the request is disabled for this SDKAppID", SUPPORT),
    row(60018, Class::Throttled, Source::RestApi, "requests are too frequent", PACE),
    row(60019, Class::Throttled, Source::RestApi, "requests are too frequent", PACE),
    row(60020, Class::Plan, Source::RestApi, "the SDKAppID's package has expired and is stopped", PLAN),
    row(
        60021,
        Class::Permission,
        Source::RestApi,
        "calls from this source IP are not allowed",
        "Add the cluster's egress IP to the SDKAppID's allow list in the vendor's console.",
    ),
    row(
        70001,
        Class::Expired,
        Source::RestApi,
        "the UserSig has expired",
        "Check the clock of the node, or replace the userSig in the Secret.",
    ),
    row(70002, Class::Credentials, Source::RestApi, "the UserSig is empty", KEY),
    row(70003, Class::Credentials, Source::RestApi, "the UserSig could not be verified", KEY),
    row(70005, Class::Credentials, Source::RestApi, "the UserSig could not be verified", KEY),
    row(70009, Class::Credentials, Source::RestApi, "the UserSig was made with another SDKAppID's key", KEY),
    row(
        70013,
        Class::Credentials,
        Source::RestApi,
        "the identifier is not the one that the UserSig was made for",
        IDENTIFIER,
    ),
    row(
        70014,
        Class::Credentials,
        Source::RestApi,
        "the SDKAppID is not the one that the UserSig was made for",
        KEY,
    ),
    row(70016, Class::Credentials, Source::RestApi, "the SDKAppID has no key in this data centre", REGION),
    row(
        70020,
        Class::Credentials,
        Source::RestApi,
        "the SDKAppID does not exist in this data centre",
        REGION,
    ),
    row(70050, Class::Credentials, Source::RestApi, "the UserSig failed to verify too often", KEY)
        .holding_off(),
    row(
        70051,
        Class::Permission,
        Source::RestApi,
        "the account is on a block list",
        "Take the identifier off the block list in the vendor's console.",
    ),
    row(
        70107,
        Class::Invalid,
        Source::RestApi,
        "the account is not imported",
        "Import the account in the vendor's console, or check memberAccount.",
    )
    .on_add(Class::Invalid, Reason::AccountNotImported),
    row(70114, Class::Throttled, Source::RestApi, "requests are too frequent", PACE),
    row(70169, Class::Retry, Source::RestApi, "the service timed out inside", WAIT),
    row(70202, Class::Retry, Source::RestApi, "the service timed out inside", WAIT),
    row(70398, Class::Plan, Source::RestApi, "the number of accounts is over the package's limit", PLAN),
    row(70402, Class::Invalid, Source::RestApi, "a parameter is invalid", SPEC),
    row(70403, Class::Permission, Source::RestApi, "the request needs an App administrator", ADMIN),
    row(70500, Class::Retry, Source::RestApi, "an internal error of the service", WAIT),
    row(72000, Class::Plan, Source::RestApi, "the SDKAppID's package does not allow this", PLAN),
    row(100_001, Class::Retry, Source::DeleteRobot, "an internal error of the room engine", WAIT),
    row(100_002, Class::Invalid, Source::DeleteRobot, "a parameter is invalid", SPEC),
    // On `add_robot`, the room may yet be created.
    row(100_004, Class::Gone, Source::DeleteRobot, "the room does not exist or has been dismissed", "")
        .told_as(Reason::RoomNotFound)
        .on_add(Class::Later, Reason::RoomNotFound)
        .without_room(),
    // That it "is not a member" cannot be the answer to an addition.
    row(100_005, Class::Gone, Source::DeleteRobot, "the robot is not a member of the room", "")
        .on_add(Class::Unknown, Reason::UnknownErrorCode),
    row(
        100_006,
        Class::RobotPermission,
        Source::DeleteRobot,
        "the permissions do not suffice for this room",
        ROOM,
    ),
    row(100_007, Class::Plan, Source::RoomEngine, "the SDKAppID's package does not allow this", PLAN),
    row(
        100_008,
        Class::Later,
        Source::RoomEngine,
        "the room is full",
        "Nothing to do: the operator tries again when there may be a place.",
    )
    .on_add(Class::Later, Reason::RoomFull),
    row(100_012, Class::Throttled, Source::RoomEngine, "requests are too frequent", PACE),
    row(100_013, Class::Plan, Source::RoomEngine, "the SDKAppID's package does not allow this", PLAN),
    row(100_015, Class::Invalid, Source::RoomEngine, "a parameter is invalid", SPEC),
    row(
        100_700,
        Class::Later,
        Source::RoomEngine,
        "the room's limit of robots is reached",
        "Remove another robot from the room.",
    ),
];
