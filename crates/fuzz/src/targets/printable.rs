//! Text of objects and servers on its way to a terminal, a log or a condition. First line: a limit; then the text.
//!
//! - Nothing hidden is left, and a second time changes nothing.
//! - What is cut is within its limit, and keeps its beginning and its end.
//! - A value in a line of the log reads back; what a condition says is what is stored of it.

use super::{head, hides};
use k8s_openapi::jiff::Timestamp;
use roomrobot_core::{
    printable::{printable, shortened},
    quoted::{quote, unquote},
    status::{Conditions, Is, Kind, Reason, Wanted, with_reference},
};

pub fn check(bytes: &[u8]) {
    let (most, text) = head(bytes);
    let most = String::from_utf8_lossy(most).trim().parse::<usize>().unwrap_or(64).clamp(16, 4096);
    let text = String::from_utf8_lossy(text);
    let shown = printable(&text);
    assert!(!hides(&shown), "{text:?}");
    assert_eq!(printable(&shown), shown);
    let cut = shortened(&text, most);
    assert!(cut.len() <= most && !hides(&cut), "{text:?}");
    assert_eq!(shortened(&cut, most), cut);
    if shown.len() <= most {
        assert_eq!(cut, shown);
    } else {
        // The text may have such a mark of its own.
        let kept = |(at, mark): (usize, &str)| {
            shown.starts_with(&cut[..at]) && shown.ends_with(&cut[at + mark.len()..])
        };
        assert!(cut.match_indices('…').any(kept), "{cut}");
    }
    let line = format!("{} code=0", quote(text.clone().into_owned()));
    assert!(!hides(&line), "{line:?}");
    assert_eq!(unquote(&line), Some((text.clone().into_owned(), " code=0")), "{line}");
    let message = with_reference(&text, "ErrorCode 100006, RequestId Id-1");
    let wanted = Wanted::new(Kind::Ready, Is::False, Reason::PermissionDenied, message);
    assert!(!hides(&wanted.message) && wanted.message.ends_with("ErrorCode 100006, RequestId Id-1"));
    let stored = Conditions::default().with(std::slice::from_ref(&wanted), 1, Timestamp::UNIX_EPOCH);
    assert!(stored[0].message.len() <= 2048);
    assert!(Conditions::read(Some(stored)).say(&[wanted], 1));
}
