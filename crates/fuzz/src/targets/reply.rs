//! What the room engine, or whoever answers in its place, sends back. First line: the HTTP status; then the body.
//!
//! - A final class comes from HTTP 200 with a reply of ErrorCode 0 that does not say FAIL, 100004 or 100005 alone.
//! - What is kept of it is one line within its limit, and shows no UserSig.

use super::{head, hides};
use roomrobot_core::{
    call::judge,
    codes::{Class, Operation},
    usersig::Sensitive,
};
use serde_json::Value;

/// What a server may send back of the request.
const USER_SIG: &str = "eJyrVgrx";

pub fn check(bytes: &[u8]) {
    let (status, body) = head(bytes);
    let status: u16 = String::from_utf8_lossy(status).trim().parse().unwrap_or(200);
    let outcome = judge(status, body).without(&Sensitive::new(USER_SIG.to_owned()));
    // Read another way. What is no JSON only within fields that nobody reads, such as a text of another encoding, is a
    // reply all the same.
    let Ok(value) = serde_json::from_str::<Value>(&String::from_utf8_lossy(body)) else {
        let begins = body.trim_ascii().starts_with(b"{") && body.trim_ascii().ends_with(b"}");
        assert!(begins || !outcome.class(Operation::DeleteRobot).is_final(), "{outcome:?}");
        return;
    };
    let code = value["ErrorCode"].as_i64().filter(|_| status == 200);
    for operation in Operation::ALL {
        let class = outcome.class(operation);
        assert_eq!(class.is_final(), matches!(class, Class::Done | Class::Gone));
        if class.is_final() {
            let finals: &[i64] = match operation {
                Operation::DeleteRobot => &[0, 100_004, 100_005],
                Operation::AddRobot => &[0],
            };
            assert!(code.is_some_and(|code| finals.contains(&code)), "{operation}: {outcome:?}");
            let says = value["ActionStatus"].as_str().unwrap_or("OK");
            assert!(code != Some(0) || says == "OK", "{outcome:?}");
            assert!(!outcome.leaves_open(operation));
        }
        assert!(!hides(&outcome.sentence(operation)));
    }
    if outcome.code().is_some() {
        assert_eq!(outcome.code(), code);
        assert_eq!(outcome.http_status(), Some(200));
    } else {
        assert_eq!(outcome.http_status(), Some(status));
    }
    let info = outcome.info().unwrap_or_default();
    assert!(!hides(info) && info.chars().count() <= 256, "{info:?}");
    let id = outcome.request_id();
    assert!(id.is_none_or(|id| !id.is_empty() && !hides(id) && id.chars().count() <= 128), "{id:?}");
    let shown = format!("{outcome:?} {} {info} {id:?}", outcome.reference());
    assert!(!shown.contains(USER_SIG), "{shown}");
    // A URL that is sent back: nothing follows the name of its parameter.
    for text in [info, id.unwrap_or_default()] {
        let lower = text.to_ascii_lowercase();
        let after = lower.split_once("usersig=").map_or("<redacted>", |(_, after)| after);
        assert!("<redacted>".starts_with(after), "{text:?}");
    }
}
