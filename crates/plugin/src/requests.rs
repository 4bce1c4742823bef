//! `requests`: RequestIds of a time span, ready to send to the vendor: from statuses, Events and audit lines.

use super::{
    Error, Finding, Result, cli,
    cluster::{Choice, Cluster, Seen, at},
    output::{Out, Tone},
};
use clap::Args;
use k8s_openapi::{api::events::v1::Event, jiff::Timestamp};
use roomrobot_core::{
    api_server::FIELD_MANAGER,
    codes::{self, Operation},
    quoted::unquote,
};
use serde::Serialize;
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufRead, BufReader},
    path::PathBuf,
    time::Duration,
};

/// Where RequestIds are looked for, and of when.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  kubectl logs -n roomrobot-system -l app.kubernetes.io/name=roomrobot-operator --tail=-1 | kubectl roomrobot requests -A --since 2h -"
)]
pub struct Source {
    /// The operator's log, text or JSON; `-` reads standard input.
    file: Option<PathBuf>,
    /// Not older than this: 90s, 15m, 2h, 3d.
    #[arg(long, default_value = "1h", value_name = "SPAN", value_parser = cli::span)]
    since: Duration,
    /// Not before this time, such as 2026-01-31T12:00:00Z; in place of --since.
    #[arg(long, value_name = "TIME", conflicts_with = "since")]
    from: Option<Timestamp>,
    /// Not after this time [default: now].
    #[arg(long, value_name = "TIME")]
    to: Option<Timestamp>,
    /// Only answers that were no success.
    #[arg(long)]
    failed: bool,
    /// Read the file only and ask no cluster.
    #[arg(long, requires = "file")]
    pub offline: bool,
}

/// One answered call.
#[derive(Clone, Debug, Default, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    time: String,
    #[serde(rename = "requestId")]
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_code: Option<i64>,
    #[serde(skip_serializing_if = "String::is_empty")]
    operation: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    application: String,
    namespace: String,
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    room: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    robot: String,
    /// `audit`, `status` or `event`
    source: &'static str,
}

/// Reads and prints.
///
/// # Errors
/// If the file cannot be read, or the cluster cannot be asked.
pub async fn run(cluster: Option<&Cluster>, source: &Source, out: &mut Out) -> Result<Finding> {
    let now = Timestamp::now();
    let to = source.to.unwrap_or(now);
    let from = source.from.unwrap_or_else(|| {
        let seconds = i64::try_from(source.since.as_secs()).unwrap_or(i64::MAX);
        Timestamp::from_second(now.as_second().saturating_sub(seconds)).unwrap_or(Timestamp::MIN)
    });
    // The richest source first: what is known already is not taken from a poorer one.
    let mut found: BTreeMap<String, Request> = BTreeMap::new();
    let mut take = |request: Request| {
        let at = request.time.parse::<Timestamp>();
        let within = at.is_ok_and(|at| (from..=to).contains(&at));
        let success =
            request.error_code.is_some_and(|code| codes::class(operation(&request), code).is_final());
        if within && !(source.failed && success) {
            found.entry(request.id.clone()).or_insert(request);
        }
    };
    if let Some(path) = &source.file {
        let why = |error: std::io::Error| Error(format!("{}: {error}", path.display()));
        let lines: Box<dyn BufRead> = if path.as_os_str() == "-" {
            Box::new(std::io::stdin().lock())
        } else {
            Box::new(BufReader::new(File::open(path).map_err(why)?))
        };
        for (at, line) in lines.split(b'\n').enumerate() {
            if at % 100_000 == 99_999 {
                out.progress(&format!("read {at} lines"));
            }
            if let Some(request) = audit_line(&String::from_utf8_lossy(&line.map_err(why)?)) {
                take(request);
            }
        }
        out.progress_over();
    }
    if let Some(cluster) = cluster {
        let scope = cluster.scope.as_deref();
        for seen in cluster.robots(scope, Choice::default(), out).await? {
            from_status(&seen).map(&mut take);
        }
        // Events of namespaces that are being deleted go to the operator's.
        let places =
            if scope.is_some() { vec![scope, Some(&cluster.operator_namespace)] } else { vec![None] };
        let about = scope.map_or_else(String::new, |namespace| format!(",regarding.namespace={namespace}"));
        let fields = format!("reportingController={FIELD_MANAGER},regarding.kind=RoomRobot{about}");
        for place in places {
            match cluster.events(place, &fields).await? {
                Some(events) => events.iter().filter_map(from_event).for_each(&mut take),
                None => out.note(&format!(
                    "You may not read Events in {}; they are left out.",
                    place.unwrap_or("all namespaces")
                )),
            }
        }
    }
    let mut list: Vec<Request> = found.into_values().collect();
    list.sort_by(|a, b| (&a.time, &a.id).cmp(&(&b.time, &b.id)));
    if !out.for_people() {
        out.value(&list)?;
        return Ok(Finding::Fine);
    }
    if list.is_empty() {
        out.line(&format!("No RequestId between {from} and {to}."));
        out.note("Events live for an hour in most clusters; the operator's log has every call: give its lines on standard input.");
        return Ok(Finding::Fine);
    }
    let heads = [
        "TIME",
        "REQUESTID",
        "CODE",
        "COMMAND",
        "APPLICATION",
        "NAMESPACE",
        "NAME",
        "ROOM",
        "ROBOT",
        "SOURCE",
    ];
    let rows: Vec<Vec<super::output::Cell>> = list
        .iter()
        .map(|request| {
            let code = request.error_code.map_or_else(|| "-".to_owned(), |code| code.to_string());
            let or = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
            vec![
                request.time.as_str().into(),
                super::output::Cell::new(request.id.as_str(), Tone::Heading),
                code.into(),
                or(&request.operation).into(),
                or(&request.application).into(),
                request.namespace.as_str().into(),
                request.name.as_str().into(),
                or(&request.room).into(),
                or(&request.robot).into(),
                request.source.into(),
            ]
        })
        .collect();
    out.table(&heads, &rows);
    Ok(Finding::Fine)
}

/// The command that was answered: deletions are the rule, and an older Event does not say.
fn operation(request: &Request) -> Operation {
    if request.operation == Operation::AddRobot.as_str() {
        Operation::AddRobot
    } else {
        Operation::DeleteRobot
    }
}

fn from_status(seen: &Seen) -> Option<Request> {
    let call = at(&seen.value, "/status/lastRequest");
    let robot = &seen.robot;
    Some(Request {
        time: at(call, "/time").as_str()?.to_owned(),
        id: at(call, "/requestId").as_str()?.to_owned(),
        error_code: at(call, "/errorCode").as_i64(),
        operation: at(call, "/operation").as_str().unwrap_or_default().to_owned(),
        application: robot.application.to_string(),
        namespace: robot.key.namespace.to_string(),
        name: robot.key.name.to_string(),
        room: robot.room_id.to_string(),
        robot: robot.member_account.to_string(),
        source: "status",
    })
}

/// The note of an Event ends as every message does: `ErrorCode N, RequestId X`. Names within it are other people's words,
/// so the RequestId is what the note ends with, and nothing that is followed by more.
#[must_use]
pub fn from_event(event: &Event) -> Option<Request> {
    let about = event.regarding.as_ref()?;
    let note = event.note.as_deref()?;
    let (before, id) = note.rsplit_once("RequestId ").filter(|(_, id)| !id.contains(char::is_whitespace))?;
    let code =
        before.rsplit_once("ErrorCode ").and_then(|(_, code)| code.trim_end_matches([',', ' ']).parse().ok());
    let operation = match event.action.as_deref() {
        Some("DeleteRobot") => "delete_robot",
        Some("AddRobot") => "add_robot",
        _ => "",
    };
    Some(Request {
        time: event.event_time.as_ref()?.0.to_string(),
        id: id.to_owned(),
        error_code: code,
        operation: operation.to_owned(),
        namespace: about.namespace.clone()?,
        name: about.name.clone()?,
        source: "event",
        ..Request::default()
    })
}

/// The fields of an audit line, in their order.
const FIELDS: [&str; 13] = [
    "namespace",
    "name",
    "uid",
    "application",
    "room",
    "robot",
    "operation",
    "code",
    "request_id",
    "verdict",
    "http_status",
    "info",
    "took_ms",
];

/// A line of the operator's log, text or JSON, also behind the prefix that `kubectl logs --prefix` puts.
#[must_use]
pub fn audit_line(line: &str) -> Option<Request> {
    let fields = match text_line(line) {
        Some((time, said)) => text_fields(time, said.strip_prefix("audit: call ")?)?,
        None => json_fields(line.get(line.find("{\"")?..)?)?,
    };
    let get = |name: &str| fields.get(name).cloned().unwrap_or_default();
    let id = get("request_id");
    (!id.is_empty()).then(|| Request {
        time: get("timestamp"),
        id,
        error_code: get("code").parse().ok(),
        operation: get("operation"),
        application: get("application"),
        namespace: get("namespace"),
        name: get("name"),
        room: get("room"),
        robot: get("robot"),
        source: "audit",
    })
}

fn json_fields(text: &str) -> Option<BTreeMap<String, String>> {
    let Value::Object(object) = serde_json::from_str(text).ok()? else { return None };
    object.get("target").filter(|target| *target == "audit")?;
    let text = |value: Value| match value {
        Value::String(text) => text,
        other => other.to_string(),
    };
    Some(object.into_iter().map(|(key, value)| (key, text(value))).collect())
}

/// The time of a line of text, and what follows its level. Only a prefix stands before them, never a text of others.
fn text_line(line: &str) -> Option<(&str, &str)> {
    let is_time = |word: &str| word.parse::<Timestamp>().is_ok();
    let mut rest = line.trim();
    let mut time = None;
    while let Some((word, more)) = rest.split_once(' ') {
        match time {
            // `kubectl logs --timestamps` puts another one before ours.
            _ if is_time(word) => time = Some(word),
            Some(time) => {
                return ["ERROR", "WARN", "INFO", "DEBUG", "TRACE"].contains(&word).then_some((time, more));
            }
            None if word.contains("{\"") => return None,
            None => {}
        }
        rest = more.trim_start();
    }
    None
}

/// The fields of an audit line. Each value is bare or quoted. Older operators wrote the names of rooms and robots as
/// they are, blanks included: there each ends where the next field begins, and what follows the robot is read from the
/// last place that can be read to its end.
fn text_fields(time: &str, said: &str) -> Option<BTreeMap<String, String>> {
    let said = format!(" {said}");
    let older = || {
        let ends = said.match_indices(" operation=").filter_map(|(at, _)| {
            let (begin, end) = said.split_at_checked(at)?;
            Some((begin, exact_fields(end)?))
        });
        let (begin, mut fields) = ends.last()?;
        fields.extend(loose_fields(begin));
        Some(fields)
    };
    let mut fields = exact_fields(&said).or_else(older)?;
    fields.insert("timestamp".to_owned(), time.to_owned());
    Some(fields)
}

/// ` name=value` to the end of the line, each field once at most and in its order.
fn exact_fields(mut text: &str) -> Option<BTreeMap<String, String>> {
    let mut fields = BTreeMap::new();
    let mut names = FIELDS.iter();
    while !text.is_empty() {
        let (name, rest) = text.strip_prefix(' ')?.split_once('=')?;
        names.find(|field| **field == name)?;
        let (value, rest) = unquote(rest)?;
        fields.insert(name.to_owned(), value);
        text = rest;
    }
    Some(fields)
}

/// ` name=value` as older operators wrote it, up to the robot: a value ends where the next field begins.
fn loose_fields(text: &str) -> BTreeMap<String, String> {
    let mut fields = BTreeMap::new();
    let mut last: Option<(&str, &str)> = None;
    for field in FIELDS.into_iter().take_while(|field| *field != "operation") {
        let rest = last.map_or(text, |(_, rest)| rest);
        let Some((before, after)) = rest.split_once(&format!(" {field}=")) else { continue };
        if let Some((name, _)) = last {
            fields.insert(name.to_owned(), before.to_owned());
        }
        last = Some((field, after));
    }
    fields.extend(last.map(|(name, rest)| (name.to_owned(), rest.to_owned())));
    fields
}

#[cfg(test)]
mod tests {
    use super::*;
    use roomrobot_core::quoted::quote;

    const ID: &str = "Id-ead4d1d6c88049ba54922168032df0b3-O-Seq-3";

    #[test]
    fn audit_lines_are_read_in_both_formats() {
        let text = format!(
            "2026-11-23T06:44:28.799578Z  INFO audit: call namespace=event name=greeter uid=0a80bf3c application=default room=main lobby robot=robot name=x operation=delete_robot code=0 request_id=\"{ID}\" verdict=\"done\" http_status=200 took_ms=2"
        );
        let json = format!(
            r#"{{"timestamp":"2026-11-23T06:44:28.799578Z","level":"INFO","message":"call","namespace":"event","name":"greeter","uid":"u","application":"default","room":"main lobby","robot":"robot name=x","operation":"delete_robot","code":0,"request_id":"{ID}","verdict":"done","target":"audit"}}"#
        );
        let prefixed = format!("[pod/roomrobot-operator-1/operator] {json}");
        for line in [&text, &json, &prefixed, &format!("[pod/x/operator] {text}")] {
            let request = audit_line(line).unwrap_or_else(|| panic!("{line}"));
            assert_eq!(request.time, "2026-11-23T06:44:28.799578Z", "{line}");
            assert_eq!((request.room.as_str(), request.robot.as_str()), ("main lobby", "robot name=x"));
            assert_eq!((request.name.as_str(), request.error_code), ("greeter", Some(0)));
            assert_eq!((request.id.as_str(), request.operation.as_str()), (ID, "delete_robot"));
        }
    }

    /// A line as this operator writes it.
    fn written(room: &str, robot: &str) -> String {
        let (room, robot) = (quote(room.to_owned()), quote(robot.to_owned()));
        format!(
            "2026-11-23T06:44:28.799578Z  INFO audit: call namespace=event name=greeter uid=0a80bf3c application=default room={room} robot={robot} operation=delete_robot code=100001 request_id=\"{ID}\" verdict=\"retry\" http_status=200 took_ms=2"
        )
    }

    /// The same as operators before wrote it.
    fn written_before(room: &str, robot: &str) -> String {
        format!(
            "2026-11-23T06:44:28.799578Z  INFO audit: call namespace=event name=greeter uid=0a80bf3c application=default room={room} robot={robot} operation=delete_robot code=100001 request_id=\"{ID}\" verdict=\"retry\" http_status=200 took_ms=2"
        )
    }

    const FORGED: [(&str, &str); 8] = [
        ("a robot=b code=0", "c"),
        ("a operation=delete_robot code=0 request_id=Id-x", "c"),
        ("a operation=delete_robot code=0 request_id=\"Id-x\" took_ms=1", "c"),
        ("a", "b operation=delete_robot code=0 request_id=\"Id-x\" verdict=\"done\" info=\""),
        ("a", "b operation=delete_robot code=0 request_id=\"Id-x\" info=\"\\"),
        ("\"a\" robot=\"b\" operation=add_robot code=0", "c"),
        ("a audit: call namespace=x operation=add_robot", "c took_ms=1"),
        ("{\"target\":\"audit\",\"request_id\":\"Id-x\"}", "{\""),
    ];

    #[test]
    fn names_of_rooms_and_robots_cannot_look_like_other_fields() {
        for (room, robot) in FORGED {
            let line = written(room, robot);
            let request = audit_line(&line).unwrap_or_else(|| panic!("{line}"));
            assert_eq!((request.room.as_str(), request.robot.as_str()), (room, robot), "{line}");
            assert_eq!((request.id.as_str(), request.error_code), (ID, Some(100_001)), "{line}");
            assert_eq!((request.operation.as_str(), request.name.as_str()), ("delete_robot", "greeter"));
        }
        let line = written("größe\u{1b}\n\\", "\"");
        let request = audit_line(&line).unwrap();
        assert_eq!((request.room.as_str(), request.robot.as_str()), ("größe\u{1b}\n\\", "\""), "{line}");
    }

    /// What a room's name looked like there cannot be told any more; code and RequestId are true all the same.
    #[test]
    fn lines_of_older_operators_have_their_own_code() {
        for (room, robot) in FORGED {
            let line = written_before(room, robot);
            let request = audit_line(&line).unwrap_or_else(|| panic!("{line}"));
            assert_eq!((request.id.as_str(), request.error_code), (ID, Some(100_001)), "{line}");
            assert_eq!((request.operation.as_str(), request.name.as_str()), ("delete_robot", "greeter"));
        }
        let request = audit_line(&written_before("main lobby", "robot name=x \"y\"")).unwrap();
        assert_eq!((request.room.as_str(), request.robot.as_str()), ("main lobby", "robot name=x \"y\""));
    }

    #[test]
    fn a_text_within_another_line_is_no_audit_line() {
        let audit = written("a", "b");
        let json = format!(r#"{{"timestamp":"2026-11-23T06:44:28Z","target":"audit","request_id":"{ID}"}}"#);
        for line in [
            format!("2026-11-23T06:44:28.799578Z  WARN roomrobot_operator::watch: waiting reason={audit}"),
            format!("2026-11-23T06:44:28.799578Z  WARN roomrobot_operator::watch: waiting reason={json}"),
            format!("2026-11-23T06:44:28.799578Z  INFO audit: other {audit}"),
            format!(r#"{{"timestamp":"2026-11-23T06:44:28Z","target":"x","fields":{json}}}"#),
            format!(
                r#"{{"timestamp":"2026-11-23T06:44:28Z","target":"x","room":"a {}"}}"#,
                audit.replace('"', "")
            ),
        ] {
            assert_eq!(audit_line(&line), None, "{line}");
        }
        let stamped = format!("2026-11-23T06:44:29.1Z {audit}");
        assert_eq!(audit_line(&stamped), audit_line(&audit));
        assert!(audit_line(&audit).is_some());
    }

    #[test]
    fn a_request_id_within_an_event_is_none() {
        let event = |note: String| -> Event {
            serde_json::from_value(serde_json::json!({
                "metadata": {"name": "e"}, "eventTime": "2026-01-31T12:00:00.000000Z", "action": "AcceptRobot",
                "regarding": {"kind": "RoomRobot", "namespace": "n", "name": "r"}, "note": note,
            }))
            .unwrap()
        };
        let forged = format!("RtcApplication x: ErrorCode 0, RequestId {ID} does not exist; create it");
        assert_eq!(from_event(&event(forged.clone())), None);
        let request = from_event(&event(format!("{forged}: ErrorCode 100001, RequestId Id-2"))).unwrap();
        assert_eq!((request.id.as_str(), request.error_code), ("Id-2", Some(100_001)));
    }

    #[test]
    fn an_event_tells_which_command_was_answered() {
        for (action, told) in
            [("DeleteRobot", "delete_robot"), ("AddRobot", "add_robot"), ("AcceptRobot", "")]
        {
            let event: Event = serde_json::from_value(serde_json::json!({
                "metadata": {"name": "e"}, "eventTime": "2026-01-31T12:00:00.000000Z", "action": action,
                "regarding": {"kind": "RoomRobot", "namespace": "n", "name": "r"},
                "note": format!("no such room: ErrorCode 100004, RequestId {ID}"),
            }))
            .unwrap();
            let request = from_event(&event).unwrap();
            assert_eq!((request.operation.as_str(), request.error_code), (told, Some(100_004)));
            assert_eq!(request.id, ID);
            let success = codes::class(operation(&request), 100_004).is_final();
            assert_eq!(success, told != "add_robot", "100004 is no success of an addition");
        }
    }

    #[test]
    fn other_lines_and_calls_without_an_answer_have_no_request_id() {
        for line in [
            "",
            "{",
            "2026-11-23T06:44:28.799578Z  INFO roomrobot_operator::operator: this replica leads",
            r#"{"timestamp":"2026-11-23T06:44:28Z","target":"roomrobot_operator","request_id":"Id-1"}"#,
            r#"{"timestamp":"2026-11-23T06:44:28Z","target":"audit","namespace":"n","name":"m"}"#,
            "2026-11-23T06:44:28.799578Z  INFO audit: call namespace=event name=greeter operation=delete_robot verdict=\"retry\"",
        ] {
            assert_eq!(audit_line(line), None, "{line}");
        }
    }
}
