//! Lines of the operator's log. The parts of a call with `|` between them: room, robot, namespace, name, application,
//! RequestId, ErrorCode, ErrorInfo.
//!
//! - An audit line of either format is one line, and reads back as it was written.
//! - No other line is an audit line, whatever it tells of; nor are the bytes as they are taken for one without RequestId.

use super::hides;
use kubectl_roomrobot::requests::audit_line;
use roomrobot_core::{
    call::{Caller, Outcome, Reply, Target},
    codes::Operation,
    engine::Call,
    robot::Key,
    usersig::Sensitive,
};
use roomrobot_operator::{cli::LogFormat, effects::audit, telemetry::lines};
use serde_json::Value;
use std::{cell::RefCell, io, mem, sync::LazyLock, time::Duration};
use tracing::{Dispatch, dispatcher::with_default};
use tracing_subscriber::EnvFilter;

pub fn check(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let parts: Vec<&str> = text.split('|').collect();
    let part = |at: usize| parts.get(at).copied().unwrap_or_default();
    let call = Call {
        id: roomrobot_core::index::Id::default(),
        key: Key { namespace: part(2).into(), name: part(3).into() },
        uid: "0a80bf3c".into(),
        application: part(4).into(),
        application_uid: "0a80bf3d".into(),
        operation: if text.len().is_multiple_of(2) { Operation::DeleteRobot } else { Operation::AddRobot },
        caller: Caller {
            endpoint: "https://console.tim.qq.com".parse().unwrap(),
            sdk_app_id: 1,
            identifier: "administrator".into(),
            user_sig: Sensitive::new("eJyrVgrx-secret".to_owned()).into(),
        },
        signature: 1,
        target: Target { room_id: part(0).to_owned(), member_account: part(1).to_owned() },
        started: Duration::ZERO,
    };
    let id = Some(part(5).to_owned()).filter(|id| !id.is_empty());
    let code = part(6).parse().unwrap_or(100_001);
    let outcome = Outcome::Reply(Reply { code, info: part(7).to_owned(), request_id: id.clone() });
    for format in [&*TEXT, &*JSON] {
        let line = written(format, || audit(&call, &outcome, Duration::from_millis(2)));
        assert!(!line.contains("secret") || text.contains("secret"), "{line}");
        let Some(read) = audit_line(&line) else {
            assert_eq!(id, None, "{line}");
            continue;
        };
        assert_eq!(audit_line(&format!("[pod/operator-1/operator] {line}")), Some(read.clone()), "{line}");
        let read = serde_json::to_value(read).unwrap();
        let field = |name: &str| read.get(name).and_then(Value::as_str).unwrap_or_default();
        assert_eq!(field("requestId"), id.as_deref().unwrap_or_default(), "{line}");
        assert_eq!(read["errorCode"], code, "{line}");
        assert_eq!(field("operation"), call.operation.as_str());
        for (name, value) in [("room", 0), ("robot", 1), ("namespace", 2), ("name", 3), ("application", 4)] {
            assert_eq!(field(name), part(value), "{name} of {line}");
        }
        let other = written(format, || {
            tracing::warn!(namespace = part(2), reason = %text, text = &*text, "could not write: {text}");
        });
        assert_eq!(audit_line(&other), None, "{other}");
    }
    if let Some(read) = audit_line(&text) {
        assert!(serde_json::to_value(read).unwrap()["requestId"].as_str().is_some_and(|id| !id.is_empty()));
    }
}

static TEXT: LazyLock<Dispatch> = LazyLock::new(|| format(LogFormat::Text));
static JSON: LazyLock<Dispatch> = LazyLock::new(|| format(LogFormat::Json));

fn format(format: LogFormat) -> Dispatch {
    lines(format, EnvFilter::new("info"), || Writer)
}

thread_local! {
    static WRITTEN: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

struct Writer;

impl io::Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        WRITTEN.with_borrow_mut(|written| written.extend_from_slice(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The line that `work` writes.
fn written(format: &Dispatch, work: impl FnOnce()) -> String {
    with_default(format, work);
    let written = String::from_utf8(WRITTEN.with_borrow_mut(mem::take)).unwrap();
    let line = written.strip_suffix('\n').unwrap();
    // JSON is for programs: it has what is not of ASCII as it is.
    let one = if line.starts_with('{') { !line.contains(|c: char| c < ' ') } else { !hides(line) };
    assert!(one, "{line:?}");
    line.to_owned()
}
