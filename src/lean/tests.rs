use super::{
    rules::{FIELD, OTHER_CONDITION, Others, TEXT, is_our_condition},
    *,
};
use hyper::Method;
use roomrobot_core::crd::{ROBOT_FINALIZER, RtcApplication};
use serde_json::{Value, json};
use std::collections::VecDeque;

/// What comes out where the input comes in these pieces.
fn reduce_pieces<'a>(
    rule: &'static Rule,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> Result<Vec<u8>, Malformed> {
    let mut reducer = Reducer::new(rule);
    let mut out = Vec::new();
    for piece in pieces {
        out.extend(reducer.push(piece)?);
    }
    if reducer.is_complete() { Ok(out) } else { Err(Malformed::Short) }
}

fn reduce(rule: &'static Rule, document: &str) -> String {
    String::from_utf8(reduce_pieces(rule, [document.as_bytes()]).unwrap()).unwrap()
}

fn read(rule: &'static Rule, document: &str) -> Value {
    let out = reduce(rule, document);
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"))
}

/// Texts that a scan must not fall over: quotes, backslashes, brackets, control characters, many scripts, pairs.
fn text() -> String {
    const PIECES: [&str; 16] = [
        "\"", "\\", "{", "}", "[", "]", ",", ":", "\n", "\u{1}", "ö", "大", "🤖", "\\\"", "items", "\u{2028}",
    ];
    (0..fastrand::usize(..12)).map(|_| *fastrand::choice(&PIECES).unwrap()).collect()
}

fn value(depth: usize) -> Value {
    match fastrand::u8(..if depth == 0 { 5 } else { 7 }) {
        0 => Value::Null,
        1 => fastrand::bool().into(),
        2 => fastrand::i64(..).into(),
        3 => (f64::from(fastrand::i32(..)) / 8.0).into(),
        4 => text().into(),
        5 => (0..fastrand::usize(..4)).map(|_| value(depth - 1)).collect(),
        _ => object(depth - 1, &["a", "metadata", "name"]),
    }
}

/// An object with some of these fields, and others.
fn object(depth: usize, fields: &[&str]) -> Value {
    let mut object = serde_json::Map::new();
    for field in fields.iter().filter(|_| fastrand::u8(..4) > 0) {
        object.insert((*field).to_owned(), value(depth));
    }
    for _ in 0..fastrand::usize(..3) {
        object.insert(text(), value(depth));
    }
    object.into()
}

fn condition() -> Value {
    let mut condition = object(1, &["status", "message", "observedGeneration", "lastTransitionTime"]);
    let kinds = ["Ready", "Accepted", "Audited", "ready", "Ready ", "RobotDeleted", ""];
    if fastrand::u8(..8) > 0 {
        condition["type"] = (*fastrand::choice(&kinds).unwrap()).into();
    }
    condition
}

fn robot() -> Value {
    let mut robot = object(3, &["apiVersion", "kind", "metadata", "spec", "status"]);
    if fastrand::u8(..8) > 0 {
        robot["metadata"] = object(2, &["name", "labels", "annotations", "managedFields", "generation"]);
        let names = [ROBOT_FINALIZER, "example.com/a", "roomrobot.dev/other"];
        robot["metadata"]["finalizers"] =
            (0..fastrand::usize(..5)).map(|_| *fastrand::choice(&names).unwrap()).collect();
    }
    if fastrand::u8(..8) > 0 {
        robot["spec"] = object(2, &["roomId", "memberAccount", "applicationRef", "suspend", "note"]);
    }
    if fastrand::u8(..8) > 0 {
        robot["status"] = object(2, &["observedGeneration", "lastRequest", "other"]);
        robot["status"]["conditions"] = (0..fastrand::usize(..6)).map(|_| condition()).collect();
    }
    robot
}

/// What `rule` says of a value, in the plainest way.
fn model(rule: &Rule, value: &Value) -> Value {
    let cut = |text: &str, limit: usize| -> Value {
        // The limit is one of bytes of JSON; random texts are shorter.
        assert!(serde_json::to_string(text).unwrap().len() < limit);
        text.into()
    };
    match (rule, value) {
        (Rule::Fields(fields, others), Value::Object(object)) => object
            .iter()
            .filter_map(|(name, value)| {
                let known = fields.iter().find(|(known, _)| known == name);
                let rule = known.map_or(*others, |(_, rule)| rule);
                (!matches!(rule, Rule::Drop)).then(|| (name.clone(), model(rule, value)))
            })
            .collect(),
        (Rule::Each(rule), Value::Array(list)) => list.iter().map(|value| model(rule, value)).collect(),
        (Rule::Ours(rule, is_ours, others), Value::Array(list)) => {
            let mut kept: Vec<Value> = Vec::new();
            for element in list {
                let name = element.as_str().or_else(|| element["type"].as_str()).unwrap_or_default();
                match (is_ours(name.as_bytes()), others) {
                    (true, _) => kept.push(model(rule, element)),
                    (false, Others::Each(bytes)) => kept.push(serde_json::from_slice(bytes).unwrap()),
                    (false, Others::Count) => match kept.last_mut() {
                        Some(Value::Number(count)) => *count = (count.as_u64().unwrap() + 1).into(),
                        _ => kept.push(1.into()),
                    },
                }
            }
            kept.into()
        }
        (Rule::Text(limit), Value::String(text)) => cut(text, *limit),
        (Rule::Name, Value::String(text)) => cut(text, TEXT),
        _ => value.clone(),
    }
}

/// Random documents, in random pieces down to single bytes, in the shapes in which the API server sends them.
#[test]
fn what_is_kept_is_what_the_rules_say_wherever_the_pieces_end() {
    for round in 0..3_000 {
        fastrand::seed(round);
        let list = json!({
            "apiVersion": "v1", "kind": text(), "items": (0..fastrand::usize(..4)).map(|_| robot()).collect::<Value>(),
            "metadata": {"continue": text(), "resourceVersion": "7", "remainingItemCount": 3}, "more": value(3),
        });
        let (rule, document) = match round % 5 {
            0 => (&ROBOTS.list, list),
            1 => (&APPLICATIONS.list, list),
            2 => (&NAMESPACES.list, list),
            3 => (&ROBOTS.object, robot()),
            _ => (&ROBOTS.event, json!({"type": "MODIFIED", "object": robot()})),
        };
        let text = if fastrand::bool() {
            serde_json::to_string(&document).unwrap()
        } else {
            serde_json::to_string_pretty(&document).unwrap()
        };
        let mut rest = text.as_bytes();
        let longest = *fastrand::choice(&[1, 3, 50, 5_000]).unwrap();
        let mut pieces = Vec::new();
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(fastrand::usize(1..=longest).min(rest.len()));
            pieces.push(piece);
            rest = after;
        }
        let out = reduce_pieces(rule, pieces).unwrap();
        let out: Value = serde_json::from_slice(&out)
            .unwrap_or_else(|error| panic!("round {round}: {error}: {}", String::from_utf8_lossy(&out)));
        assert_eq!(out, model(rule, &document), "round {round}: {text}");
    }
}

/// An end in the middle is never taken for the end.
#[test]
fn no_beginning_of_a_document_is_complete() {
    let document = json!({"kind": "List", "items": [
        {"metadata": {"name": "a", "annotations": {"b": "\"\\"}}, "status": {"conditions": [{"type": "Ready"}]}}]})
    .to_string();
    for end in 1..document.len() {
        let result = reduce_pieces(&ROBOTS.list, [&document.as_bytes()[..end]]);
        assert_eq!(result, Err(Malformed::Short), "{}", &document[..end]);
    }
    assert!(reduce_pieces(&ROBOTS.list, [document.as_bytes()]).is_ok());
}

#[test]
fn what_is_no_list_and_no_object_stays_as_it_is() {
    let status = r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"too old","reason":"Expired","details":{"causes":[]},"code":410}"#;
    for rule in [&ROBOTS.list, &ROBOTS.object, &APPLICATIONS.object, &NAMESPACES.list] {
        assert_eq!(reduce(rule, status), format!("{status}\n"));
        for other in
            ["<html>{\"items\":[]}</html>", "[1, {\"a\": 2}]", "\"text\"", "null", "No such page {", ""]
        {
            assert_eq!(reduce(rule, other), other);
        }
    }
    let event = format!(r#"{{"type":"ERROR","object":{status}}}"#);
    assert_eq!(reduce(&ROBOTS.event, &format!("{event}\n{event}\n")), format!("{event}\n{event}\n"));
    for broken in [r#"{"items":[}"#, r#"{"items" [1]}"#, r#"{"a":1]"#] {
        let result = reduce_pieces(&ROBOTS.list, [broken.as_bytes()]);
        let parsed = result.map(|out| serde_json::from_slice::<Value>(&out).is_ok());
        assert_ne!(parsed, Ok(true), "{broken}");
    }
    let long = format!(r#"{{"{}":1}}"#, "x".repeat(FIELD + 1));
    assert_eq!(reduce_pieces(&ROBOTS.list, [long.as_bytes()]), Err(Malformed::LongField));
}

/// Each event is handed on with the end of its line, not with the beginning of the next.
#[test]
fn an_event_is_complete_when_its_line_is() {
    let mut reducer = Reducer::new(&ROBOTS.event);
    let event =
        r#"{"type":"ADDED","object":{"kind":"RoomRobot","metadata":{"labels":{"a":"b"},"name":"r"}}}"#;
    let out = reducer.push(event.as_bytes()).unwrap();
    assert_eq!(
        out,
        b"{\"type\":\"ADDED\",\"object\":{\"kind\":\"RoomRobot\",\"metadata\":{\"name\":\"r\"}}}\n"
    );
    assert!(reducer.push(b"\n").unwrap().is_empty() && reducer.is_complete());
}

#[test]
fn what_others_stored_costs_nothing_and_the_places_are_kept() {
    let others = |count: usize, kind: &str| {
        (0..count).map(|n| json!({"type": format!("{kind}{n}"), "message": "x"})).collect::<Vec<_>>()
    };
    let ours = json!({"type": "Ready", "status": "True", "reason": "Adopted", "message": "m"});
    let conditions = [others(20_000, "A"), vec![ours], others(3, "B")].concat();
    let mut finalizers: Vec<String> = (0..10_000).map(|n| format!("example.com/{n}")).collect();
    finalizers.insert(7, ROBOT_FINALIZER.to_owned());
    let labels: Value =
        (0..10_000).map(|n| (format!("l{n}"), json!("v"))).collect::<serde_json::Map<_, _>>().into();
    let robot = json!({
        "metadata": {"name": "r", "annotations": {"a": "x".repeat(1_000_000)}, "labels": labels,
            "finalizers": finalizers, "ownerReferences": [{"name": "x"}]},
        "spec": {"roomId": "room", "memberAccount": "m", "note": "x".repeat(100_000)},
        "status": {"conditions": conditions, "lastRequest": {"errorInfo": "x".repeat(1000)}},
    });
    let out = reduce(&ROBOTS.object, &robot.to_string());
    assert!(out.len() < 300, "{out}");
    let read: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(read["metadata"]["finalizers"], json!([7, ROBOT_FINALIZER, 9_993]));
    assert_eq!(read["status"]["conditions"][0], 20_000);
    assert_eq!(read["status"]["conditions"][2], 3);
    assert_eq!(read["status"]["lastRequest"], json!({}), "an ErrorInfo is not looked at");
    let application = json!({"metadata": {"name": "a"}, "spec": {"sdkAppId": 1},
        "status": {"conditions": [{"type": "Audited", "message": "x"}, {"type": "Ready"}], "robots": 3}});
    let out = self::read(&APPLICATIONS.object, &application.to_string());
    let other: Value = serde_json::from_slice(OTHER_CONDITION).unwrap();
    assert_eq!(out["status"], json!({"conditions": [other, {"type": "Ready"}], "robots": 3}));
    assert_eq!(out["spec"], application["spec"]);
    let namespace = json!({"metadata": {"name": "n", "labels": {"a": "b"}, "annotations": {"c": "d"}}});
    let out = self::read(&NAMESPACES.object, &namespace.to_string());
    assert_eq!(out, json!({"metadata": {"name": "n", "labels": {"a": "b"}}}));
}

/// Administrators and other controllers may write conditions of their own.
#[test]
fn an_application_with_conditions_of_others_is_read() {
    let condition = |kind: &str| json!({"type": kind, "status": "True", "reason": "R", "message": "m", "lastTransitionTime": "2026-01-01T00:00:00Z"});
    let application = json!({
        "apiVersion": "roomrobot.dev/v1alpha1", "kind": "RtcApplication", "metadata": {"name": "a"},
        "spec": {"sdkAppId": 1, "credentials": {"secretRef": {"name": "s"}}},
        "status": {"conditions": [condition("Audited"), condition("Ready")]},
    });
    let lean = read(&APPLICATIONS.object, &application.to_string());
    let lean: RtcApplication = serde_json::from_value(lean).unwrap();
    let conditions = lean.status.unwrap().conditions;
    assert_eq!((conditions.len(), conditions[1].type_.as_str()), (2, "Ready"));
    assert!(!is_our_condition(conditions[0].type_.as_bytes()));
}

/// Within no character, no escape and no pair of escapes.
#[test]
fn a_long_text_is_cut_between_two_characters() {
    for unit in ["x", "ö", "大", "🤖", r"\n", r"\\", r#"\""#, r"\u00e9", r"\uD83E\uDD16", r"a\ud83e\udd16\t"]
    {
        for lead in 0..14 {
            let raw = format!("{}{}", "-".repeat(lead), unit.repeat(2000));
            let whole: String = serde_json::from_str(&format!("\"{raw}\"")).unwrap();
            let document = format!(r#"{{"spec":{{"roomId":"{raw}","suspend":true}}}}"#);
            for pieces in [1, 5, 100_000] {
                let out = reduce_pieces(&ROBOTS.object, document.as_bytes().chunks(pieces)).unwrap();
                assert!(out.len() < TEXT + 100, "{unit}");
                let read: Value = serde_json::from_slice(&out).unwrap_or_else(|error| {
                    panic!("{unit} {lead}: {error}: {}", String::from_utf8_lossy(&out))
                });
                assert_eq!(read["spec"]["suspend"], true);
                let cut = read["spec"]["roomId"].as_str().unwrap();
                assert!(whole.starts_with(cut) && !cut.is_empty() && cut.len() > 100, "{unit}");
            }
        }
    }
}

/// Escapes that JSON allows and the API server does not write.
#[test]
fn names_are_compared_by_what_they_say() {
    let document = r#"{"sp\u0065c":{"r\u006fomId":"a","x\u0022":1},"status":{"conditions":[{"type":"Re\u0061dy"},{"type":"A"}]}}"#;
    let read = read(&ROBOTS.object, document);
    assert_eq!(read, json!({"spec": {"roomId": "a"}, "status": {"conditions": [{"type": "Ready"}, 1]}}));
}

#[test]
fn lists_watches_and_single_objects_of_three_kinds_are_reduced_and_nothing_else() {
    let shape = |method: &Method, uri: &str| rule(method, &uri.parse().unwrap());
    let is = |found: Option<&'static Rule>, wanted: &'static Rule| {
        found.is_some_and(|it| std::ptr::eq(it, wanted))
    };
    let all = "/apis/roomrobot.dev/v1alpha1";
    let within = "/apis/roomrobot.dev/v1alpha1/namespaces/team-a";
    for base in [all, within] {
        assert!(is(shape(&Method::GET, &format!("{base}/roomrobots?&limit=500")), &ROBOTS.list));
        assert!(is(
            shape(&Method::GET, &format!("{base}/roomrobots?&watch=true&resourceVersion=1")),
            &ROBOTS.event
        ));
        for path in ["roomrobots/r?&fieldManager=f", "roomrobots/r/status"] {
            assert!(is(shape(&Method::PATCH, &format!("{base}/{path}")), &ROBOTS.object));
        }
    }
    assert!(is(shape(&Method::GET, &format!("{all}/rtcapplications")), &APPLICATIONS.list));
    assert!(is(shape(&Method::PATCH, &format!("{all}/rtcapplications/a")), &APPLICATIONS.object));
    assert!(is(shape(&Method::GET, "/api/v1/namespaces?&limit=500"), &NAMESPACES.list));
    assert!(is(shape(&Method::GET, "https://host:6443/api/v1/namespaces?watch=true"), &NAMESPACES.event));
    for uri in [
        "/",
        "/api",
        "/readyz",
        "/api/v1/namespaces/a/secrets",
        "/apis/roomrobot.dev/v1alpha1",
        "/apis/roomrobot.dev",
        "/apis/roomrobot.dev/v1alpha1/others",
        "/apis/coordination.k8s.io/v1/namespaces/a/leases/roomrobots",
    ] {
        assert!(shape(&Method::GET, uri).is_none(), "{uri}");
    }
    assert!(shape(&Method::DELETE, &format!("{within}/roomrobots/r")).is_none());
}

/// A body of these frames.
struct Frames(VecDeque<Result<&'static [u8], BoxError>>);

impl Body for Frames {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Poll::Ready(self.0.pop_front().map(|frame| frame.map(|data| Frame::data(data.into()))))
    }
}

async fn answered(
    uri: &str,
    head: Response<()>,
    frames: Vec<Result<&'static [u8], BoxError>>,
) -> Result<String, String> {
    use http_body_util::BodyExt as _;
    use tower::ServiceExt as _;
    let mut answer = Some(head.map(|()| Frames(frames.into())));
    let service = tower::service_fn(move |_: Request<()>| {
        std::future::ready(Ok::<_, BoxError>(answer.take().unwrap()))
    });
    let answer = LeanLayer.layer(service).oneshot(Request::get(uri).body(()).unwrap()).await.unwrap();
    let body = answer.into_body().collect().await.map_err(|error| error.to_string())?;
    Ok(String::from_utf8(body.to_bytes().to_vec()).unwrap())
}

#[tokio::test]
async fn an_answer_is_reduced_or_ends_with_an_error() {
    const LIST: &str = "/apis/roomrobot.dev/v1alpha1/roomrobots";
    const BODY: &str = r#"{"items":[{"metadata":{"name":"a","labels":{"b":"c"}}}]}"#;
    const LEAN: &str = "{\"items\":[{\"metadata\":{\"name\":\"a\"}}]}\n";
    let json = || Response::builder().header(CONTENT_TYPE, "application/json");
    let ok = || json().body(()).unwrap();
    let (first, second) = BODY.as_bytes().split_at(30);
    assert_eq!(answered(LIST, ok(), vec![Ok(first), Ok(second)]).await.unwrap(), LEAN);
    // Neither short nor without the reason.
    assert_eq!(answered(LIST, ok(), vec![Ok(first)]).await.unwrap_err(), "its answer ended in the middle");
    let reset = || Err(BoxError::from("connection reset"));
    assert_eq!(answered(LIST, ok(), vec![Ok(first), reset()]).await.unwrap_err(), "connection reset");
    assert_eq!(answered(LIST, ok(), vec![Ok(b"{]")]).await.unwrap_err(), "its answer is not JSON");
    // The rest of an event comes with the next watch.
    let event = r#"{"type":"ADDED","object":{"metadata":{"name":"a"#;
    let cut = answered(&format!("{LIST}?watch=true"), ok(), vec![Ok(event.as_bytes())]).await.unwrap();
    assert_eq!(cut, event);
    for other in [
        json().status(403).body(()).unwrap(),
        Response::new(()),
        json().header(CONTENT_ENCODING, "gzip").body(()).unwrap(),
    ] {
        assert_eq!(answered(LIST, other, vec![Ok(BODY.as_bytes())]).await.unwrap(), BODY);
    }
    assert_eq!(answered("/api/v1/pods", ok(), vec![Ok(BODY.as_bytes())]).await.unwrap(), BODY);
}
