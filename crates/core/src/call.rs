//! A call of the room engine as values: who calls, about whom, how it ended, and what that means. Pure.

use crate::{
    codes::{self, Class, Execution, Operation},
    endpoint::Endpoint,
    printable::is_hidden,
    status,
    usersig::Sensitive,
};
use serde::Deserialize;
use std::sync::Arc;

/// The longest ErrorInfo that is kept, in characters.
const INFO_LIMIT: usize = 256;

/// The longest RequestId that is kept, in characters.
const REQUEST_ID_LIMIT: usize = 128;

/// Who calls, and where.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Where the call goes.
    pub endpoint: Endpoint,
    /// The SDKAppID.
    pub sdk_app_id: u32,
    /// The App administrator that the UserSig is for.
    pub identifier: Arc<str>,
    /// The signature.
    pub user_sig: Arc<Sensitive>,
}

/// Whom the call is about.
#[derive(Clone, Debug)]
pub struct Target {
    /// `RoomId`
    pub room_id: String,
    /// `Member_Account`
    pub member_account: String,
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The room engine gave its verdict.
    Reply(Reply),
    /// It did not.
    Trouble(Trouble),
}

/// The room engine's verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// `ErrorCode`
    pub code: i64,
    /// `ErrorInfo`, cut and without control characters or what else hides something.
    pub info: String,
    /// `RequestId`
    pub request_id: Option<String>,
}

/// A call without a verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// What went wrong.
    pub kind: TroubleKind,
    /// The HTTP status, where one came.
    pub http_status: Option<u16>,
    /// The RequestId, where the body carried one all the same.
    pub request_id: Option<String>,
}

/// What can go wrong on the way to a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TroubleKind {
    /// The host's name has no address.
    Name,
    /// Nobody listens there.
    Refused,
    /// The certificate is not one to trust.
    Certificate,
    /// No connection, for another reason.
    Connect,
    /// No answer in time.
    Timeout,
    /// The connection broke before the answer was whole.
    Broken,
    /// The answer is larger than any reply.
    TooLarge,
    /// HTTP status other than 200.
    Http,
    /// HTTP 200 with a body that is no reply of the room engine.
    NotAReply,
}

impl TroubleKind {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Name,
        Self::Refused,
        Self::Certificate,
        Self::Connect,
        Self::Timeout,
        Self::Broken,
        Self::TooLarge,
        Self::Http,
        Self::NotAReply,
    ];

    /// Whether the request cannot have left: there was no connection to send it over.
    #[must_use]
    pub const fn is_unsent(self) -> bool {
        matches!(self, Self::Name | Self::Refused | Self::Certificate | Self::Connect)
    }

    /// Whether the room engine may not have been reached at all.
    #[must_use]
    pub const fn is_unreachable(self) -> bool {
        !matches!(self, Self::TooLarge | Self::Http | Self::NotAReply)
    }

    /// What happened, as a clause.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Name => "the endpoint's host name could not be resolved",
            Self::Refused => "the endpoint refused the connection",
            Self::Certificate => "the endpoint's certificate is not trusted",
            Self::Connect => "no connection to the endpoint could be made",
            Self::Timeout => "the endpoint did not answer in time",
            Self::Broken => "the connection broke before the answer was whole",
            Self::TooLarge => "the answer is too large to be a reply of the room engine",
            Self::Http => "the answer is an HTTP error",
            Self::NotAReply => "the answer is not a reply of the room engine",
        }
    }

    /// What a person can do about it, as one sentence.
    #[must_use]
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::Name | Self::Refused | Self::Certificate | Self::Connect => {
                "The operator tries again by itself; if it stays, check spec.endpoint of the RtcApplication and the way out of the cluster."
            }
            Self::Timeout | Self::Broken | Self::TooLarge | Self::Http | Self::NotAReply => {
                "The operator tries again by itself."
            }
        }
    }
}

impl Outcome {
    /// No answer at all.
    #[must_use]
    pub const fn failed(kind: TroubleKind) -> Self {
        Self::Trouble(Trouble { kind, http_status: None, request_id: None })
    }

    /// Whether the command may have taken effect, or may still, though no answer says so: the room engine was asked and
    /// neither did it nor refused.
    #[must_use]
    pub fn leaves_open(&self, operation: Operation) -> bool {
        let unsent = matches!(self, Self::Trouble(trouble) if trouble.kind.is_unsent());
        !unsent && self.class(operation).rule().execution == Execution::Unknown
    }

    /// What the operator does about it.
    #[must_use]
    pub fn class(&self, operation: Operation) -> Class {
        match self {
            Self::Reply(reply) => codes::class(operation, reply.code),
            Self::Trouble(trouble) => trouble.http_status.map_or(Class::Retry, codes::http_class),
        }
    }

    /// The ErrorCode, where there is one.
    #[must_use]
    pub const fn code(&self) -> Option<i64> {
        match self {
            Self::Reply(reply) => Some(reply.code),
            Self::Trouble(_) => None,
        }
    }

    /// The RequestId, where there is one.
    #[must_use]
    pub fn request_id(&self) -> Option<&str> {
        match self {
            Self::Reply(reply) => reply.request_id.as_deref(),
            Self::Trouble(trouble) => trouble.request_id.as_deref(),
        }
    }

    /// The HTTP status, where there is one.
    #[must_use]
    pub const fn http_status(&self) -> Option<u16> {
        match self {
            Self::Reply(_) => Some(200),
            Self::Trouble(trouble) => trouble.http_status,
        }
    }

    /// ErrorInfo, or why there is none; `None` where the room engine had nothing to say.
    #[must_use]
    pub fn info(&self) -> Option<&str> {
        match self {
            Self::Reply(reply) if reply.info.is_empty() => None,
            Self::Reply(reply) => Some(&reply.info),
            Self::Trouble(trouble) => Some(trouble.kind.meaning()),
        }
    }

    /// What happened, as a sentence without its end: `delete_robot: the room does not exist …`.
    #[must_use]
    pub fn sentence(&self, operation: Operation) -> String {
        match self {
            Self::Reply(reply) => match codes::look_up(reply.code) {
                Some(row) => format!("{operation}: {}", row.meaning),
                None => format!("{operation}: the room engine answered with a code that is not documented"),
            },
            Self::Trouble(Trouble { kind: TroubleKind::Http, http_status: Some(status), .. }) => {
                format!("{operation}: the endpoint answered HTTP {status}")
            }
            Self::Trouble(trouble) => format!("{operation}: {}", trouble.kind.meaning()),
        }
    }

    /// The end of a condition's message: `ErrorCode N, RequestId X`, as far as there was an answer.
    #[must_use]
    pub fn reference(&self) -> String {
        status::reference(self.code(), self.request_id())
    }

    /// The same without a UserSig that a server may have sent back.
    #[must_use]
    pub fn without(mut self, user_sig: &Sensitive) -> Self {
        match &mut self {
            Self::Reply(reply) => {
                reply.info = scrub(&reply.info, user_sig, INFO_LIMIT);
                reply.request_id = reply.request_id.take().map(|id| scrub(&id, user_sig, REQUEST_ID_LIMIT));
            }
            Self::Trouble(trouble) => {
                trouble.request_id =
                    trouble.request_id.take().map(|id| scrub(&id, user_sig, REQUEST_ID_LIMIT));
            }
        }
        self
    }
}

/// One line of at most `limit` characters, with a blank for each that hides something, that shows neither the UserSig nor a URL's query.
fn scrub(text: &str, user_sig: &Sensitive, limit: usize) -> String {
    let mut text = if user_sig.expose().is_empty() {
        text.to_owned()
    } else {
        text.replace(user_sig.expose(), "<redacted>")
    };
    // A server that repeats the request's URL: everything from the query on goes.
    if let Some(at) = text.to_ascii_lowercase().find("usersig=") {
        text.truncate(at);
        text.push_str("usersig=<redacted>");
    }
    text.chars().map(|c| if is_hidden(c) { ' ' } else { c }).take(limit).collect()
}

/// The vendor's reply, read leniently: unknown fields, a missing `ErrorInfo`, a missing `RequestId`.
#[derive(Deserialize)]
struct Wire {
    #[serde(rename = "ErrorCode")]
    code: i64,
    #[serde(rename = "ErrorInfo", default)]
    info: Option<String>,
    #[serde(rename = "ActionStatus", default)]
    action_status: Option<String>,
    #[serde(rename = "RequestId", default)]
    request_id: Option<String>,
}

/// The outcome that `body` under HTTP `status` stands for.
#[must_use]
pub fn judge(status: u16, body: &[u8]) -> Outcome {
    // A list of values would be read as those of the fields, in their order.
    let object = body.trim_ascii_start().starts_with(b"{");
    let wire = serde_json::from_slice::<Wire>(body).ok().filter(|_| object);
    let request_id = wire.as_ref().and_then(|wire| wire.request_id.clone()).filter(|id| !id.is_empty());
    let trouble =
        |kind| Outcome::Trouble(Trouble { kind, http_status: Some(status), request_id: request_id.clone() });
    if status != 200 {
        return trouble(TroubleKind::Http);
    }
    match wire {
        // Code 0 under "FAIL" contradicts itself: not a success to build on.
        Some(wire)
            if wire.code == 0 && wire.action_status.as_deref().is_some_and(|status| status != "OK") =>
        {
            trouble(TroubleKind::NotAReply)
        }
        Some(wire) => {
            Outcome::Reply(Reply { code: wire.code, info: wire.info.unwrap_or_default(), request_id })
        }
        None => trouble(TroubleKind::NotAReply),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(body: &str) -> Option<i64> {
        judge(200, body.as_bytes()).code()
    }

    #[test]
    fn replies_are_read_leniently() {
        let page =
            r#"{"ErrorCode": 0,"ErrorInfo": "","ActionStatus": "OK","RequestId": "Id-52f0-O-Seq-56287"}"#;
        assert_eq!(
            judge(200, page.as_bytes()),
            Outcome::Reply(Reply {
                code: 0,
                info: String::new(),
                request_id: Some("Id-52f0-O-Seq-56287".into())
            })
        );
        assert_eq!(code(r#"{"ErrorCode": 100004}"#), Some(100_004));
        assert_eq!(code(r#"{"ErrorCode": 0, "Response": {"x": [1]}, "ErrorDisplay": null}"#), Some(0));
        assert_eq!(judge(200, br#"{"ErrorCode": 0, "RequestId": ""}"#).request_id(), None);
    }

    #[test]
    fn what_is_no_reply_is_never_success() {
        for body in [
            "",
            "{}",
            "null",
            "0",
            "[]",
            "[0]",
            r#"[100004, "", "OK", "Id-1"]"#,
            r#"{"ErrorCode": "0"}"#,
            r#"{"ErrorCode": 0.0}"#,
            r#"{"ErrorCode": null}"#,
            r#"{"errorcode": 0}"#,
            r#"{"ErrorCode": 0, "ErrorCode": 100004}"#,
            r#"{"ErrorCode": 0, "RequestId": 5}"#,
            r#"{"ErrorCode": 0, "ActionStatus": "FAIL"}"#,
            r#"{"ErrorCode": 99999999999999999999}"#,
            r#"{"ErrorCode": 0"#,
            r#"{"ErrorCode": 0} trailing"#,
            "<html>OK</html>",
        ] {
            let outcome = judge(200, body.as_bytes());
            assert_eq!(outcome.class(Operation::DeleteRobot), Class::Retry, "{body}");
            assert_eq!(outcome.code(), None, "{body}");
        }
    }

    #[test]
    fn what_is_told_of_an_answer_is_its_own_text_or_why_there_is_none() {
        assert_eq!(judge(200, br#"{"ErrorCode": 70009, "ErrorInfo": "bad sig"}"#).info(), Some("bad sig"));
        assert_eq!(judge(200, br#"{"ErrorCode": 0, "ErrorInfo": ""}"#).info(), None);
        let timeout = Outcome::failed(TroubleKind::Timeout);
        assert_eq!(timeout.info(), Some("the endpoint did not answer in time"));
    }

    #[test]
    fn an_http_error_is_no_success_whatever_its_body_says() {
        let body = br#"{"ErrorCode": 0, "ActionStatus": "OK", "RequestId": "Id-1"}"#;
        for status in [204, 301, 400, 404, 500, 502] {
            let outcome = judge(status, body);
            assert_eq!(outcome.class(Operation::DeleteRobot), Class::Retry);
            assert_eq!(outcome.request_id(), Some("Id-1"));
            assert_eq!(outcome.http_status(), Some(status));
        }
        assert_eq!(judge(429, body).class(Operation::DeleteRobot), Class::Throttled);
    }

    #[test]
    fn an_echoed_signature_is_not_kept() {
        let sig = Sensitive::new("eJyrVgrx".into());
        let outcome = judge(
            200,
            br#"{"ErrorCode": 60002, "ErrorInfo": "bad eJyrVgrx in /v4/x?identifier=a&UserSig=abc&random=1", "RequestId": "eJyrVgrx"}"#,
        )
        .without(&sig);
        let text = format!("{outcome:?}");
        assert!(!text.contains("eJyrVgrx") && !text.contains("abc"), "{text}");
        assert!(text.contains("bad <redacted>"), "{text}");
    }

    #[test]
    fn long_and_strange_texts_are_cut_to_one_line() {
        let long = format!(
            r#"{{"ErrorCode": 100002, "ErrorInfo": "a\n\u202e\u2028b{}", "RequestId": "{}"}}"#,
            "é".repeat(999),
            "i".repeat(999)
        );
        let outcome = judge(200, long.as_bytes()).without(&Sensitive::new("s".repeat(9)));
        let Outcome::Reply(reply) = outcome else { panic!("not a reply") };
        assert!(reply.info.starts_with("a   bé"));
        assert_eq!(reply.info.chars().count(), INFO_LIMIT);
        assert_eq!(reply.request_id.unwrap().len(), REQUEST_ID_LIMIT);
    }
}
