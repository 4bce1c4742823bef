#![allow(clippy::needless_pass_by_value, reason = "what a test hands over is made on the spot")]

use super::*;
use crate::{
    call::{Outcome, Reply, Trouble, TroubleKind},
    crd::RtcApplication,
    endpoint::Allowed,
    status::{Conditions, Is, Kind, Wanted},
};
use serde_json::{Value, json};
use std::collections::BTreeMap;

const KEY: &str = "5bd2850fff3ecb11d7c805251c51ee463a25727bddc2385f3fa8bfee1bb93b5e";
const SECOND: Duration = Duration::from_secs(1);
const HALF_LIFE: i64 = 12 * 3600;
const WALL: i64 = 1_700_000_000;

fn key(text: &str) -> Credentials {
    Credentials::Key(Sensitive::new(text.to_owned()))
}

fn user_sig(text: &str) -> Credentials {
    Credentials::UserSig(Sensitive::new(text.to_owned()))
}

fn reply(code: i64) -> Outcome {
    Outcome::Reply(Reply { code, info: String::new(), request_id: Some(format!("Id-{code}")) })
}

/// The same code, answered another time.
fn reply_with(code: i64, request_id: &str) -> Outcome {
    Outcome::Reply(Reply { code, info: String::new(), request_id: Some(request_id.to_owned()) })
}

fn timeout() -> Outcome {
    Outcome::failed(TroubleKind::Timeout)
}

fn throttled() -> Outcome {
    Outcome::Trouble(Trouble { kind: TroubleKind::Http, http_status: Some(429), request_id: None })
}

/// A stored application with `spec` over what every one has.
fn stored(spec: Value) -> RtcApplication {
    let mut object = json!({
        "apiVersion": "roomrobot.dev/v1alpha1",
        "kind": "RtcApplication",
        "metadata": {"name": "app", "uid": "uid", "resourceVersion": "7", "generation": 1},
        "spec": {"sdkAppId": 1_400_000_000, "credentials": {"secretRef": {"name": "app-secret"}}},
    });
    object["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    serde_json::from_value(object).unwrap()
}

fn spec(changes: Value) -> StoredApplication {
    StoredApplication::read(stored(changes), &Allowed::default())
}

/// An application, and the time that its calls happen at.
struct Desk {
    application: Application,
    now: Duration,
}

impl Desk {
    fn with(credentials: Credentials) -> Self {
        let mut application = Application::new(spec(json!({})));
        assert!(application.set_credentials(credentials));
        Self { application, now: 10 * SECOND }
    }

    fn new() -> Self {
        Self::with(key(KEY))
    }

    /// Makes a call if one may go out, as the engine does; says the number of its signature.
    fn call(&mut self) -> Option<u64> {
        let probe = self.application.probe_at(Operation::DeleteRobot).is_some_and(|at| at <= self.now);
        if !probe && !self.application.may_call(Operation::DeleteRobot, self.now) {
            return None;
        }
        let (_, number) = self.application.caller(WALL)?;
        self.application.sent(Operation::DeleteRobot, self.now);
        Some(number)
    }

    /// Makes as many calls at once as may go out.
    fn calls(&mut self) -> Vec<u64> {
        std::iter::from_fn(|| self.call()).collect()
    }

    fn answer(&mut self, number: u64, outcome: &Outcome) -> Effect {
        self.answer_to(number, self.now - SECOND / 2, outcome)
    }

    /// The answer to a call that started then.
    fn answer_to(&mut self, number: u64, started: Duration, outcome: &Outcome) -> Effect {
        self.application.answered(Operation::DeleteRobot, outcome, number, started, self.now, WALL)
    }

    /// One call that must be possible, and its answer.
    #[track_caller]
    fn ask(&mut self, outcome: &Outcome) -> Effect {
        let number = self.call().expect("no call may go out");
        self.answer(number, outcome)
    }

    fn ready(&self) -> (Is, Reason) {
        let wanted = self.application.wanted(&Told::default());
        (wanted[0].is, wanted[0].reason)
    }
}

#[test]
fn a_secret_holds_one_key_or_one_signature() {
    let invalid = |why: &str| Credentials::Invalid(why.to_owned());
    for (data, expected) in [
        (vec![], invalid("it has neither secretKey nor userSig")),
        (vec![("other", b"x".as_slice())], invalid("it has neither secretKey nor userSig")),
        (vec![("secretKey", KEY.as_bytes())], key(KEY)),
        (vec![("secretKey", b" \tkey\r\n")], key("key")),
        (vec![("userSig", b"eJyrVgrx\n")], user_sig("eJyrVgrx")),
        (vec![("secretKey", b"k"), ("other", b"x")], key("k")),
        (
            vec![("secretKey", b"k"), ("userSig", b"s")],
            invalid("it has both secretKey and userSig; keep one"),
        ),
        (vec![("secretKey", b""), ("userSig", b"s")], invalid("it has both secretKey and userSig; keep one")),
        (vec![("secretKey", b"")], invalid("its secretKey is empty")),
        (vec![("secretKey", b" \n")], invalid("its secretKey is empty")),
        (vec![("userSig", b"\n")], invalid("its userSig is empty")),
        (vec![("secretKey", b"\xff\xfe")], invalid("its secretKey is not text")),
        (vec![("userSig", b"\xff")], invalid("its userSig is not text")),
        (vec![("SecretKey", b"k")], invalid("it has neither secretKey nor userSig")),
    ] {
        let data: BTreeMap<_, _> =
            data.into_iter().map(|(key, value)| (key.to_owned(), value.to_vec())).collect();
        assert_eq!(Credentials::read(Some(&data)), expected, "{:?}", data.keys());
    }
    assert_eq!(Credentials::read(None), invalid("it has neither secretKey nor userSig"));
}

#[test]
fn nothing_shows_what_is_signed_with() {
    let mut desk = Desk::new();
    desk.call();
    let given = Desk::with(user_sig("eJyrVgrx"));
    let text = format!("{:?} {:?}", desk.application, given.application);
    let (caller, _) = desk.application.caller(WALL).unwrap();
    for secret in [KEY, "eJyrVgrx", caller.user_sig.expose()] {
        assert!(!text.contains(secret), "{text}");
    }
}

#[test]
fn a_stored_application_is_read_with_its_defaults_and_within_its_limits() {
    let plain = spec(json!({}));
    assert_eq!((&*plain.name, &*plain.uid, plain.resource_version, plain.generation), ("app", "uid", 7, 1));
    assert_eq!((&*plain.identifier, plain.requests_per_second, plain.suspend), ("administrator", 200, false));
    assert_eq!(plain.endpoint.unwrap().to_string(), "https://console.tim.qq.com");
    for (rate, read) in [(1, 1), (200, 200), (0, 1), (-5, 1), (100_000, 200)] {
        assert_eq!(spec(json!({"requestsPerSecond": rate})).requests_per_second, read);
    }
    assert_eq!(spec(json!({"sdkAppId": 4_294_967_295_i64})).sdk_app_id, u32::MAX);
}

#[test]
fn an_endpoint_that_may_not_be_called_is_told_without_what_it_hides() {
    for (endpoint, why) in [
        ("http://console.tim.qq.com", "--allow-endpoint http://console.tim.qq.com"),
        ("https://example.com", "--allow-endpoint https://example.com"),
        ("https://me:hidden@console.tim.qq.com", "user part"),
        ("https://console.tim.qq.com/hidden", "a path"),
        ("hidden", "not a URL"),
    ] {
        let refused = spec(json!({"endpoint": endpoint})).endpoint.unwrap_err();
        assert!(refused.contains(why) && !refused.contains("hidden"), "{refused}");
    }
    let allowed = Allowed::new(["http://127.0.0.1:9000".parse().unwrap()]);
    assert!(
        StoredApplication::read(stored(json!({"endpoint": "http://127.0.0.1:9000"})), &allowed)
            .endpoint
            .is_ok()
    );
}

#[test]
fn namespaces_are_admitted_by_their_labels() {
    let selector = |selector: Value| json!({"allowedNamespaces": {"selector": selector}});
    let prod = selector(json!({"matchLabels": {"env": "prod"}}));
    let not_test =
        selector(json!({"matchExpressions": [{"key": "env", "operator": "NotIn", "values": ["test"]}]}));
    let odd = selector(json!({"matchExpressions": [{"key": "env", "operator": "Resembles"}]}));
    for (spec_of, labels, admitted) in [
        (json!({}), None, Some(true)),
        (json!({}), Some(("env", "test")), Some(true)),
        (selector(json!({})), Some(("env", "test")), Some(true)),
        (prod.clone(), Some(("env", "prod")), Some(true)),
        (prod.clone(), Some(("env", "test")), Some(false)),
        (prod.clone(), Some(("Env", "prod")), Some(false)),
        (prod, None, None),
        (not_test.clone(), Some(("env", "test")), Some(false)),
        (not_test, Some(("team", "a")), Some(true)),
        // A selector that cannot be read allows none, and needs no look at the namespace for that.
        (odd.clone(), Some(("env", "prod")), Some(false)),
        (odd, None, Some(false)),
    ] {
        let labels: Option<Labels> =
            labels.map(|(key, value)| Labels::from([(key.to_owned(), value.to_owned())]));
        let application = Application::new(spec(spec_of.clone()));
        assert_eq!(application.admits(labels.as_ref()), admitted, "{spec_of} {labels:?}");
    }
}

#[test]
fn an_application_says_why_it_makes_no_call() {
    let missing = || Some(Credentials::Missing);
    let invalid = || Some(Credentials::Invalid("its secretKey is empty".into()));
    let elsewhere = json!({"endpoint": "https://example.com"});
    let both = json!({"endpoint": "https://example.com", "suspend": true});
    for (spec_of, credentials, robots_say, reason, told) in [
        (json!({"suspend": true}), Some(key(KEY)), Reason::Suspended, Reason::Suspended, "is suspended"),
        (json!({"suspend": true}), missing(), Reason::Suspended, Reason::Suspended, "is suspended"),
        (both, missing(), Reason::Suspended, Reason::Suspended, "is suspended"),
        (
            elsewhere.clone(),
            None,
            Reason::ApplicationNotReady,
            Reason::EndpointNotAllowed,
            "--allow-endpoint",
        ),
        (elsewhere, missing(), Reason::ApplicationNotReady, Reason::EndpointNotAllowed, "--allow-endpoint"),
        (
            json!({}),
            missing(),
            Reason::ApplicationNotReady,
            Reason::SecretNotFound,
            "Secret app-secret does not exist",
        ),
        (json!({}), invalid(), Reason::ApplicationNotReady, Reason::SecretInvalid, "its secretKey is empty"),
    ] {
        let mut application = Application::new(spec(spec_of));
        if let Some(credentials) = credentials {
            application.set_credentials(credentials);
        }
        let hold = application.hold(Operation::DeleteRobot).unwrap();
        assert_eq!(hold.reason, robots_say);
        assert!(
            hold.message.contains(told) && hold.message.contains("RtcApplication app"),
            "{}",
            hold.message
        );
        assert!(application.known());
        assert!(
            !application.may_call(Operation::DeleteRobot, Duration::MAX)
                && application.probe_at(Operation::DeleteRobot).is_none()
        );
        let wanted = application.wanted(&Told { stalled: Some("waits"), ..Told::default() });
        assert_eq!(wanted[0], Wanted::new(Kind::Ready, Is::False, reason, hold.message.clone()));
        // The brake is the will of a person, and no fault.
        let stalled = wanted.get(1).map(|want| (want.kind, want.is, want.reason));
        let expected = (reason != Reason::Suspended).then_some((Kind::Stalled, Is::True, reason));
        assert_eq!((stalled, wanted.len()), (expected, 1 + usize::from(expected.is_some())));
    }
}

#[test]
fn before_the_secret_is_looked_at_nothing_is_called_and_nothing_is_told() {
    let mut application = Application::new(spec(json!({})));
    assert!(!application.known());
    assert_eq!(application.hold(Operation::DeleteRobot), None);
    assert!(!application.may_call(Operation::DeleteRobot, Duration::MAX));
    assert!(application.caller(WALL).is_none());
    assert!(application.set_credentials(key(KEY)));
    assert!(!application.set_credentials(key(KEY)), "the same again is no news");
    assert!(application.known() && application.may_call(Operation::DeleteRobot, Duration::ZERO));
}

#[test]
fn an_application_is_ready_with_its_key_and_verified_by_a_call() {
    let mut desk = Desk::new();
    assert_eq!(desk.ready(), (Is::True, Reason::CredentialsLoaded));
    assert_eq!(desk.ask(&reply(0)), Effect::Changed);
    assert_eq!(desk.ready(), (Is::True, Reason::Verified));
    assert_eq!(desk.application.wanted(&Told::default()).len(), 1, "nothing is stalled");
    let stalled = desk
        .application
        .wanted(&Told { stalled: Some("The deletion of RoomRobot a/b waits"), ..Told::default() });
    for (want, kind, is) in [(&stalled[0], Kind::Ready, Is::False), (&stalled[1], Kind::Stalled, Is::True)] {
        assert_eq!(
            *want,
            Wanted::new(kind, is, Reason::DeletionsStalled, "The deletion of RoomRobot a/b waits")
        );
    }
}

#[test]
fn an_application_that_is_being_deleted_names_who_holds_it() {
    let mut object = stored(json!({}));
    let message = |object: RtcApplication, held_by| {
        let mut application = Application::new(StoredApplication::read(object, &Allowed::default()));
        application.set_credentials(Credentials::Missing);
        application.wanted(&Told { held_by, ..Told::default() }).remove(0).message
    };
    let plain = message(object.clone(), None);
    assert_eq!(message(object.clone(), Some("RoomRobot a/b")), plain, "it is not being deleted");
    object.metadata.deletion_timestamp = serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
    assert_eq!(message(object.clone(), None), plain);
    let waits = format!("{plain}; it is being deleted and waits for RoomRobot a/b");
    assert_eq!(message(object.clone(), Some("RoomRobot a/b")), waits);
    let mut serving = Application::new(StoredApplication::read(object, &Allowed::default()));
    serving.set_credentials(key(KEY));
    assert!(
        serving.hold(Operation::DeleteRobot).is_none()
            && serving.may_call(Operation::DeleteRobot, Duration::ZERO),
        "it still serves deletions"
    );
    assert_eq!(serving.wanted(&Told { held_by: Some("RoomRobot a/b"), ..Told::default() })[0].is, Is::True);
}

// The breaker.

#[test]
fn an_application_without_proof_makes_one_call_at_a_time() {
    let mut desk = Desk::new();
    let mut calls = desk.calls();
    assert_eq!(calls.len(), 1, "a wrong key costs one call");
    // Each call that ends without a verdict lets twice as many out: a dead endpoint is told on every robot in time.
    for at_once in [2, 4, 8, 16, 32, 64, 128, 256, 256, 256] {
        assert_eq!(desk.answer(calls[0], &timeout()), Effect::None);
        calls.extend(desk.calls());
        assert_eq!(desk.application.under_way.all(), at_once);
    }
    assert_eq!(desk.ready(), (Is::True, Reason::CredentialsLoaded));
}

#[test]
fn a_throttled_call_proves_nothing() {
    for (outcome, at_once) in [(reply(60011), 1), (reply(100_012), 1), (throttled(), 2)] {
        let mut desk = Desk::new();
        assert_eq!(desk.ask(&outcome), Effect::None);
        assert_eq!(desk.calls().len(), at_once, "{outcome:?}: an HTTP 429 may come from anybody on the way");
        assert_eq!(desk.ready(), (Is::True, Reason::CredentialsLoaded));
    }
}

#[test]
fn the_first_verdict_opens_the_way() {
    for code in [0, 100_004, 100_005, 100_001, 100_002, 100_006, 100_008, 424_242] {
        let mut desk = Desk::new();
        assert_eq!(desk.ask(&reply(code)), Effect::Changed, "{code}");
        assert_eq!(desk.ready(), (Is::True, Reason::Verified));
        let calls = desk.calls();
        assert_eq!(calls.len(), 256, "{code}: and a hanging endpoint does not fill the memory");
        assert_eq!(desk.answer(calls[0], &reply(code)), Effect::None, "a second verdict is no news");
        assert_eq!(desk.application.under_way.all(), 255);
    }
}

/// The gateway answers 60008 and its like before anybody has looked at the signature: with a wrong key that must not
/// read as Verified. (100001 is the room engine's own: there the signature was taken.)
#[test]
fn trouble_inside_the_service_is_no_verdict_on_the_credentials() {
    for code in [20004, 20005, 60008, 60013, 60014, 70169, 70202, 70500] {
        let mut desk = Desk::new();
        desk.ask(&reply(70009));
        desk.now += PROBE;
        desk.ask(&reply(code));
        assert_eq!(desk.ready(), (Is::False, Reason::CredentialsRejected), "{code}");
    }
}

#[test]
fn each_refusal_of_an_application_stops_it_with_its_own_reason() {
    for (code, robots_say, reason) in [
        (60002, Reason::CredentialsRejected, Reason::CredentialsRejected),
        (70003, Reason::CredentialsRejected, Reason::CredentialsRejected),
        (70009, Reason::CredentialsRejected, Reason::CredentialsRejected),
        (70016, Reason::CredentialsRejected, Reason::CredentialsRejected),
        (70050, Reason::CredentialsRejected, Reason::CredentialsRejected),
        (60010, Reason::PermissionDenied, Reason::PermissionDenied),
        (60021, Reason::PermissionDenied, Reason::PermissionDenied),
        (70403, Reason::PermissionDenied, Reason::PermissionDenied),
        (60020, Reason::ApplicationNotReady, Reason::PlanExceeded),
        (72000, Reason::ApplicationNotReady, Reason::PlanExceeded),
        (100_007, Reason::ApplicationNotReady, Reason::PlanExceeded),
    ] {
        for proven in [false, true] {
            let mut desk = Desk::new();
            if proven {
                desk.ask(&reply(0));
            }
            assert_eq!(desk.ask(&reply(code)), Effect::Changed, "{code}");
            let hold = desk.application.hold(Operation::DeleteRobot).unwrap();
            assert_eq!(hold.reason, robots_say, "{code}");
            let end = format!(": ErrorCode {code}, RequestId Id-{code}");
            assert!(
                hold.message.contains("RtcApplication app") && hold.message.ends_with(&end),
                "{}",
                hold.message
            );
            let wanted = desk.application.wanted(&Told::default());
            assert_eq!(wanted[0], Wanted::new(Kind::Ready, Is::False, reason, hold.message.clone()));
            assert_eq!(wanted[1], Wanted::new(Kind::Stalled, Is::True, reason, hold.message));
            assert_eq!(desk.calls().len(), 0, "{code}");
        }
    }
    // What is about one robot stops no other.
    for code in [100_006, 100_002, 424_242] {
        let mut desk = Desk::new();
        desk.ask(&reply(code));
        assert_eq!(desk.application.hold(Operation::DeleteRobot), None, "{code}");
    }
}

#[test]
fn one_probe_goes_out_after_a_minute_and_not_before() {
    let mut desk = Desk::new();
    desk.ask(&reply(70009));
    let hold = desk.application.hold(Operation::DeleteRobot);
    for _ in 0..3 {
        let due = desk.now + PROBE;
        assert_eq!(PROBE, 60 * SECOND);
        assert_eq!(desk.application.probe_at(Operation::DeleteRobot), Some(due));
        desk.now = due - Duration::from_nanos(1);
        assert_eq!(desk.calls().len(), 0);
        desk.now = due;
        let probes = desk.calls();
        assert_eq!(probes.len(), 1, "one at a time");
        assert_eq!(desk.answer(probes[0], &reply(70009)), Effect::None, "the same refusal is no news");
        assert_eq!(desk.application.hold(Operation::DeleteRobot), hold, "waiting robots keep what they say");
    }
    desk.now += PROBE;
    assert_eq!(desk.ask(&reply(70013)), Effect::Changed, "another refusal is");
    assert!(desk.application.hold(Operation::DeleteRobot).unwrap().message.contains("ErrorCode 70013"));
}

/// Thousands may wait: each RequestId of a probe would be a write to each of them.
#[test]
fn waiting_robots_keep_the_words_of_the_first_refusal_of_a_code() {
    for code in [70009, 60010, 60020] {
        let mut desk = Desk::new();
        desk.ask(&reply_with(code, "first"));
        let hold = desk.application.hold(Operation::DeleteRobot);
        desk.now += PROBE;
        assert_eq!(desk.ask(&reply_with(code, "second")), Effect::None);
        assert_eq!(desk.application.hold(Operation::DeleteRobot), hold, "{code}");
        // What a person changed did not help.
        desk.application.start_afresh();
        assert_eq!(desk.ask(&reply_with(code, "third")), Effect::Changed);
        assert_eq!(desk.application.hold(Operation::DeleteRobot), hold, "{code}");
        let told = desk.application.wanted(&Told::default());
        assert!(told[0].message.ends_with("RequestId third"), "the application tells the latest: {told:?}");
    }
}

#[test]
fn calls_that_were_under_way_together_are_told_as_one_refusal() {
    for code in [70009, 60010] {
        let mut desk = Desk::new();
        desk.ask(&reply(0));
        let numbers = [desk.call().unwrap(), desk.call().unwrap()];
        assert_eq!(desk.answer(numbers[0], &reply_with(code, "first")), Effect::Changed);
        assert_eq!(desk.answer(numbers[1], &reply_with(code, "second")), Effect::None, "{code}");
        let told = desk.application.wanted(&Told::default());
        assert!(told[0].message.ends_with("RequestId first"), "{told:?}");
    }
}

#[test]
fn another_refusal_is_told_in_its_own_words() {
    for (code, another) in [(70009, 70013), (60010, 60021)] {
        let mut desk = Desk::new();
        desk.ask(&reply(code));
        desk.now += PROBE;
        assert_eq!(desk.ask(&reply(another)), Effect::Changed);
        let told = desk.application.wanted(&Told::default());
        assert!(told[0].message.ends_with(&format!("RequestId Id-{another}")), "{told:?}");
    }
}

/// What refuses the credentials and what refuses a command are two things, each with a minute of its own.
#[test]
fn a_refusal_of_another_kind_has_its_probe_a_minute_after_its_own_answer() {
    for (first, second) in [(70009, 60010), (60010, 70009)] {
        let mut desk = Desk::new();
        desk.ask(&reply(0));
        let numbers = [desk.call().unwrap(), desk.call().unwrap()];
        desk.answer(numbers[0], &reply(first));
        desk.now += PROBE / 2;
        assert_eq!(desk.answer(numbers[1], &reply(second)), Effect::Changed);
        assert_eq!(desk.application.probe_at(Operation::DeleteRobot), Some(desk.now + PROBE), "{first}");
    }
}

#[test]
fn a_call_that_was_sent_as_the_refusal_came_proves_nothing() {
    for code in [70009, 60010] {
        let mut desk = Desk::new();
        desk.ask(&reply(0));
        let numbers = [desk.call().unwrap(), desk.call().unwrap()];
        let refused = desk.now;
        desk.answer(numbers[0], &reply(code));
        desk.now += SECOND;
        desk.answer_to(numbers[1], refused, &reply(0));
        assert!(desk.application.hold(Operation::DeleteRobot).is_some(), "{code}");
    }
}

/// Whatever else is so: without what a call needs, no call goes out.
#[test]
fn the_breaker_shows_whether_calls_go_out() {
    let mut desk = Desk::new();
    assert_eq!(desk.application.breaker(), Breaker::Trial);
    desk.ask(&reply(0));
    assert_eq!(desk.application.breaker(), Breaker::Closed);
    for code in [70009, 60010] {
        let mut refused = Desk::new();
        refused.ask(&reply(0));
        refused.ask(&reply(code));
        assert_eq!(refused.application.breaker(), Breaker::Open, "{code}");
    }
    desk.application.set_credentials(Credentials::Missing);
    assert_eq!(desk.application.breaker(), Breaker::Off);
}

#[test]
fn a_probe_without_a_verdict_is_repeated_after_another_minute() {
    for outcome in [timeout(), throttled(), reply(60011)] {
        let mut desk = Desk::new();
        desk.ask(&reply(60010));
        let hold = desk.application.hold(Operation::DeleteRobot);
        desk.now += PROBE;
        assert_eq!(desk.ask(&outcome), Effect::None);
        assert_eq!(desk.application.hold(Operation::DeleteRobot), hold);
        assert_eq!(desk.application.probe_at(Operation::DeleteRobot), Some(desk.now + PROBE));
    }
    let mut nobody = Desk::new();
    nobody.ask(&reply(60010));
    nobody.now += PROBE;
    nobody.application.postpone_probe(Operation::DeleteRobot, nobody.now);
    assert_eq!(
        nobody.application.probe_at(Operation::DeleteRobot),
        Some(nobody.now + PROBE),
        "nobody to probe with: looked for later"
    );
}

#[test]
fn an_accepted_probe_brings_all_back() {
    for code in [0, 100_004, 100_005] {
        let mut desk = Desk::new();
        desk.ask(&reply(60020));
        desk.now += PROBE;
        assert_eq!(desk.ask(&reply(code)), Effect::Changed);
        assert_eq!(desk.application.hold(Operation::DeleteRobot), None);
        assert_eq!(desk.ready(), (Is::True, Reason::Verified));
        assert_eq!(desk.application.probe_at(Operation::DeleteRobot), None);
        assert_eq!(desk.calls().len(), 256);
    }
}

#[test]
fn what_a_person_mends_is_tried_at_once() {
    let mut desk = Desk::new();
    desk.ask(&reply(70009));
    assert!(desk.application.set_credentials(key("another")));
    assert_eq!(desk.application.hold(Operation::DeleteRobot), None);
    assert_eq!(desk.ready(), (Is::True, Reason::CredentialsLoaded));
    assert_eq!(desk.calls().len(), 1, "with the caution of a first call");

    let mut desk = Desk::new();
    desk.ask(&reply(60010));
    let mut newer = spec(json!({"identifier": "boss"}));
    newer.resource_version += 1;
    assert!(
        !desk.application.update(newer.clone()),
        "the same generation: somebody wrote a label or the status"
    );
    assert!(desk.application.hold(Operation::DeleteRobot).is_some());
    newer.generation += 1;
    assert!(desk.application.update(newer));
    assert_eq!(desk.application.hold(Operation::DeleteRobot), None);
    let (caller, _) = desk.application.caller(WALL).unwrap();
    assert_eq!(&*caller.identifier, "boss");
}

#[test]
fn a_brake_stops_probes_too() {
    let mut desk = Desk::new();
    desk.ask(&reply(70009));
    let mut braked = spec(json!({"suspend": true}));
    braked.generation += 1;
    desk.application.update(braked);
    desk.now += 10 * PROBE;
    assert_eq!((desk.application.probe_at(Operation::DeleteRobot), desk.calls().len()), (None, 0));
    assert_eq!(desk.ready(), (Is::False, Reason::Suspended));
    desk.application.set_credentials(Credentials::Missing);
    let mut released = spec(json!({}));
    released.generation += 2;
    desk.application.update(released);
    assert_eq!(desk.ready(), (Is::False, Reason::SecretNotFound));
}

#[test]
fn too_many_bad_signatures_hold_even_new_credentials_off_for_a_minute() {
    let mut desk = Desk::new();
    desk.ask(&reply(70050));
    let until = desk.now + PROBE;
    desk.now += SECOND;
    desk.application.set_credentials(key("right"));
    assert_eq!(desk.application.hold(Operation::DeleteRobot), None);
    assert_eq!(desk.application.held_off_until(desk.now), Some(until));
    desk.now = until - Duration::from_nanos(1);
    assert_eq!(desk.calls().len(), 0);
    desk.now = until;
    assert_eq!(desk.application.held_off_until(desk.now), None);
    assert_eq!(desk.ask(&reply(0)), Effect::Changed);
    assert_eq!(desk.ready(), (Is::True, Reason::Verified));
    // Any other refusal does not.
    let mut other = Desk::new();
    other.ask(&reply(70009));
    assert_eq!(other.application.held_off_until(other.now), None);
}

// Signatures.

#[test]
fn an_expired_signature_is_made_anew_once_and_then_refused() {
    let mut desk = Desk::new();
    desk.ask(&reply(0));
    let wave: Vec<u64> = (0..3).map(|_| desk.call().unwrap()).collect();
    assert!(wave.iter().all(|number| *number == wave[0]));
    // All three were signed with the old one: one new signature for all of them.
    for number in wave.clone() {
        assert_eq!(desk.answer(number, &reply(70001)), Effect::SignedAnew);
        assert_eq!(desk.application.hold(Operation::DeleteRobot), None);
    }
    let again = desk.call().unwrap();
    assert!(again > wave[0]);
    assert_eq!(desk.answer(again, &reply(70001)), Effect::Changed);
    assert_eq!(desk.ready(), (Is::False, Reason::CredentialsRejected));
    assert!(
        desk.application
            .hold(Operation::DeleteRobot)
            .unwrap()
            .message
            .ends_with("ErrorCode 70001, RequestId Id-70001")
    );
    assert_eq!(desk.calls().len(), 0);
}

#[test]
fn a_signature_that_somebody_else_made_cannot_be_made_anew() {
    let mut desk = Desk::with(user_sig("eJyrVgrx"));
    assert_eq!(desk.ask(&reply(70001)), Effect::Changed);
    assert_eq!(desk.ready(), (Is::False, Reason::CredentialsRejected));
    desk.application.set_credentials(user_sig("another"));
    assert_eq!(desk.ask(&reply(0)), Effect::Changed);
    assert_eq!(desk.ready(), (Is::True, Reason::Verified));
}

#[test]
fn an_answer_to_an_earlier_signature_proves_nothing() {
    for outcome in [reply(0), reply(70009), reply(70050), reply(60020), reply(100_004), timeout()] {
        let mut desk = Desk::new();
        let old = desk.call().unwrap();
        desk.application.set_credentials(key("another"));
        assert_eq!(desk.answer(old, &outcome), Effect::None, "{outcome:?}");
        assert_eq!(desk.ready(), (Is::True, Reason::CredentialsLoaded));
        assert_eq!(desk.application.held_off_until(desk.now), None);
        assert_eq!(desk.application.under_way.all(), 0, "it is over all the same");
        let new = desk.calls();
        assert_eq!(new.len(), 1, "not one more than before");
        assert!(new[0] > old);
        assert_eq!(desk.answer(old, &outcome), Effect::None);
        assert_eq!(desk.answer(new[0], &reply(0)), Effect::Changed);
    }
}

#[test]
fn a_new_key_is_tried_at_once_though_calls_with_the_old_one_hang() {
    let mut desk = Desk::new();
    desk.ask(&reply(0));
    let old = desk.calls();
    assert_eq!(old.len(), 256);
    desk.application.set_credentials(key("another"));
    let new = desk.calls();
    assert_eq!(new.len(), 1, "one, as any key that is not proven");
    desk.answer(old[0], &timeout());
    assert_eq!(desk.calls().len(), 0, "an answer to the old one makes no place for the new one");
    desk.answer(new[0], &reply(0));
    assert_eq!(desk.calls().len(), 1, "those that hang count among all of them, once it is proven");
    assert_eq!(desk.application.under_way.all(), 256);
}

#[test]
fn a_signature_is_renewed_at_half_its_life_and_when_the_clock_goes_back() {
    let mut desk = Desk::new();
    let mut at = |wall| {
        let (caller, number) = desk.application.caller(wall).unwrap();
        (number, caller.user_sig.expose().to_owned())
    };
    let first = at(WALL);
    assert_eq!(at(WALL + 1), first);
    assert_eq!(at(WALL + HALF_LIFE - 1), first);
    let second = at(WALL + HALF_LIFE);
    assert!(second.0 > first.0);
    assert_ne!(second.1, first.1);
    assert_eq!(at(WALL + HALF_LIFE), second);
    let back = at(WALL + HALF_LIFE - 1);
    assert!(back.0 > second.0, "signed in the future: the clock was set back");
    assert_eq!(at(WALL + HALF_LIFE), back);

    // A renewed one may expire again, and gets another chance.
    let mut desk = Desk::new();
    let number = desk.call().unwrap();
    assert_eq!(desk.answer(number, &reply(70001)), Effect::SignedAnew);
    let (_, renewed) = desk.application.caller(WALL + HALF_LIFE).unwrap();
    assert_eq!(desk.answer(renewed, &reply(70001)), Effect::SignedAnew);
}

#[test]
fn a_given_signature_is_sent_as_it_is() {
    let mut desk = Desk::with(user_sig("eJyrVgrx"));
    for wall in [WALL, WALL + HALF_LIFE, WALL - 5] {
        assert_eq!(desk.application.caller(wall).unwrap().0.user_sig.expose(), "eJyrVgrx");
    }
}

// Restarts.

/// An application whose stored condition says `reason`, as generation 1 of it was seen.
fn told(reason: Reason, generation: i64) -> StoredApplication {
    let mut object = stored(json!({}));
    let wanted = [Wanted::new(Kind::Ready, Is::True, reason, "told before")];
    let now = serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
    object.metadata.generation = Some(generation);
    object.status = Some(crate::crd::RtcApplicationStatus {
        conditions: Conditions::default().with(&wanted, 1, now),
        ..Default::default()
    });
    StoredApplication::read(object, &Allowed::default())
}

#[test]
fn verified_outlives_a_restart_but_not_another_secret() {
    let mut application = Application::new(told(Reason::Verified, 1));
    let reason = |application: &Application| application.wanted(&Told::default())[0].reason;
    assert!(application.set_credentials(key(KEY)));
    assert_eq!(reason(&application), Reason::Verified);
    assert!(application.under_way.all() == 0 && application.may_call(Operation::DeleteRobot, Duration::ZERO));
    assert!(application.set_credentials(key("another")));
    assert_eq!(reason(&application), Reason::CredentialsLoaded);

    let mut application = Application::new(told(Reason::CredentialsLoaded, 1));
    application.set_credentials(key(KEY));
    assert_eq!(reason(&application), Reason::CredentialsLoaded);

    // A Secret that was not there at first is another one when it comes.
    let mut application = Application::new(told(Reason::Verified, 1));
    application.set_credentials(Credentials::Missing);
    application.set_credentials(key(KEY));
    assert_eq!(reason(&application), Reason::CredentialsLoaded);

    // Proven only by the process before: this one starts with one call at a time all the same.
    let mut application = Application::new(told(Reason::Verified, 1));
    application.set_credentials(key(KEY));
    application.caller(WALL).unwrap();
    application.sent(Operation::DeleteRobot, 9 * SECOND);
    assert!(!application.may_call(Operation::DeleteRobot, Duration::ZERO));
}

#[test]
fn verified_ends_where_another_caller_begins() {
    for (changes, still) in [
        (json!({"identifier": "boss"}), false),
        (json!({"endpoint": "https://adminapisgp.im.qcloud.com"}), false),
        (json!({"credentials": {"secretRef": {"name": "other"}}}), false),
        (json!({"requestsPerSecond": 5}), true),
        (json!({"allowedNamespaces": {"selector": {}}}), true),
    ] {
        let mut desk = Desk::new();
        desk.ask(&reply(0));
        let mut newer = spec(changes.clone());
        newer.generation += 1;
        desk.application.update(newer);
        desk.application.set_credentials(key(KEY));
        let expected = if still { Reason::Verified } else { Reason::CredentialsLoaded };
        assert_eq!(desk.ready(), (Is::True, expected), "{changes}");
    }
}

#[test]
fn verified_is_read_from_ready_alone() {
    for (of, is, reason) in [
        (Kind::Stalled, Is::True, Reason::Verified),
        (Kind::Ready, Is::False, Reason::Verified),
        (Kind::Ready, Is::True, Reason::CredentialsLoaded),
    ] {
        let mut object = stored(json!({}));
        let now = serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
        object.status = Some(crate::crd::RtcApplicationStatus {
            conditions: Conditions::default().with(&[Wanted::new(of, is, reason, "told before")], 1, now),
            ..Default::default()
        });
        assert!(!StoredApplication::read(object, &Allowed::default()).verified, "{of:?} {is:?} {reason:?}");
    }
}

/// While no operator ran the spec may have come to name another identifier, endpoint or Secret.
#[test]
fn verified_does_not_outlive_a_change_of_the_spec_that_nobody_saw() {
    let mut application = Application::new(told(Reason::Verified, 2));
    application.set_credentials(key(KEY));
    assert_eq!(application.wanted(&Told::default())[0].reason, Reason::CredentialsLoaded);
}
