//! Faults that a user can script: which calls, how often, what happens instead.

use serde::{Deserialize, Serialize};

/// A fault.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Fault {
    /// Only this command.
    pub command: Option<String>,
    /// Only this SDKAppID.
    pub sdk_app_id: Option<u32>,
    /// Only this room.
    pub room: Option<String>,
    /// Only this member.
    pub member: Option<String>,
    /// How often it happens; absent means always.
    pub times: Option<u32>,
    /// What happens.
    pub kind: Kind,
}

/// What happens instead of, or after, what would have happened.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    /// Nothing out of the ordinary.
    #[default]
    None,
    /// This ErrorCode, without effect.
    Code(i64),
    /// This HTTP status, with a page instead of a reply, without effect.
    Http(u16),
    /// The ordinary answer, after this many milliseconds.
    DelayMs(u64),
    /// No answer, ever.
    Hang,
    /// The connection is reset at once; it happens after this many milliseconds.
    Late(u64),
    /// The connection is reset before anything happens.
    ResetBefore,
    /// It happens; the connection is reset before the reply.
    ResetAfter,
    /// It happens; half of the reply comes, then the connection ends.
    Truncated,
    /// HTTP 200 with this body, without effect.
    Body(String),
    /// HTTP 200 with a body of this many bytes, without effect.
    Huge(u64),
    /// The same, and then nothing more: the body does not end.
    Stall(u64),
    /// The ordinary answer without its RequestId.
    NoRequestId,
    /// A page in HTML under HTTP 200, without effect.
    Html,
}

impl Fault {
    /// `kind` for every call, always.
    #[must_use]
    pub fn always(kind: Kind) -> Self {
        Self { kind, ..Self::default() }
    }

    /// `kind` for the next `times` calls.
    #[must_use]
    pub fn times(kind: Kind, times: u32) -> Self {
        Self { kind, times: Some(times), ..Self::default() }
    }

    /// Only for calls of `command`.
    #[must_use]
    pub fn command(self, command: &str) -> Self {
        Self { command: Some(command.to_owned()), ..self }
    }

    /// Only for calls about `room`.
    #[must_use]
    pub fn room(self, room: &str) -> Self {
        Self { room: Some(room.to_owned()), ..self }
    }

    /// Only for calls of `sdk_app_id`.
    #[must_use]
    pub fn app(self, sdk_app_id: u32) -> Self {
        Self { sdk_app_id: Some(sdk_app_id), ..self }
    }

    pub(super) fn concerns(&self, request: &super::Request) -> bool {
        let same = |wanted: &Option<String>, is: &str| wanted.as_deref().is_none_or(|wanted| wanted == is);
        same(&self.command, &request.command)
            && same(&self.room, &request.room)
            && same(&self.member, &request.member)
            && self.sdk_app_id.is_none_or(|id| id == request.sdk_app_id)
            && self.times != Some(0)
    }
}
