use super::{matter::OTHERS, *};
use crate::cluster::seen;
use kube::api::DynamicObject;
use serde_json::{Value, json};

const FINALIZER: &str = roomrobot_core::crd::ROBOT_FINALIZER;

/// A RoomRobot that is being deleted, with `RobotDeleted` of this status and reason, and the code of its last call.
fn robot(told: Option<(&str, &str)>, code: Option<i64>, more: &Value) -> Seen {
    let conditions: Vec<Value> = told
        .into_iter()
        .map(|(status, reason)| json!({"type": "RobotDeleted", "status": status, "reason": reason, "message": "m"}))
        .collect();
    let mut object = json!({
        "apiVersion": "roomrobot.dev/v1alpha1", "kind": "RoomRobot",
        "metadata": {"name": "r", "namespace": "n", "uid": "u", "deletionTimestamp": "2026-01-01T00:00:00Z",
            "finalizers": [FINALIZER]},
        "spec": {"roomId": "room", "memberAccount": "robot"},
        "status": {"conditions": conditions},
    });
    if let Some(code) = code {
        object["status"]["lastRequest"] =
            json!({"operation": "delete_robot", "errorCode": code, "time": "2026-01-01T00:00:00Z"});
    }
    for (path, value) in more.as_object().into_iter().flatten() {
        *object.pointer_mut(path).unwrap() = value.clone();
    }
    seen(&serde_json::from_value::<DynamicObject>(object).unwrap()).unwrap()
}

fn leader(acts: bool) -> Leader {
    Leader { lease: Some("roomrobot-operator".to_owned()), pod: Some("p".to_owned()), acts, ahead: Some(0) }
}

fn screen(seen: &Seen, acting: Acting<'_>) -> Screen {
    screen_with(seen, acting, None)
}

fn screen_with(seen: &Seen, acting: Acting<'_>, refused: Option<&str>) -> Screen {
    explain(&Facts {
        seen,
        application: None,
        may_read_applications: false,
        namespace_goes: false,
        acting,
        metrics: &[],
        line: Some(&[0, 1, i64::MAX]),
        refused,
        more: 0,
        operator_namespace: "o",
        flags: &Flags::default(),
        now: "2026-01-01T00:01:00Z".parse().unwrap(),
    })
}

fn said<'a>(screen: &'a Screen, about: &str) -> Vec<&'a str> {
    screen.details.iter().filter(|detail| detail.about == about).map(|detail| detail.text.as_str()).collect()
}

fn types(screen: &Screen, part: &str) -> bool {
    screen.next.iter().any(|next| next.command.contains(part))
}

const RELEASE: &str = "kubectl roomrobot release";
const TRY: &str = "for s in true false";

#[test]
fn the_last_code_is_advised_only_while_it_is_what_stands_in_the_way() {
    let acting = [leader(true)];
    for (reason, code, own) in [
        ("PermissionDenied", 100_006, true),
        ("InternalError", 100_001, true),
        ("Suspended", 100_001, false),
        ("ApplicationNotReady", 70009, false),
        ("Unreachable", 100_002, false),
    ] {
        let screen = screen(&robot(Some(("False", reason)), Some(code), &json!({})), Ok(&acting));
        let row = explain::look_up(Subject::RoomRobot, Kind::RobotDeleted, Reason::parse(reason)).unwrap();
        let remedy =
            if own { codes::look_up(code).unwrap().remedy.to_owned() } else { row.remedy.replace('`', "") };
        assert_eq!(said(&screen, "what to do"), [remedy], "{reason} after {code}");
        assert_eq!(said(&screen, "ErrorCode").len(), 1, "the code is told all the same");
    }
    let retained =
        robot(Some(("True", "Retained")), Some(100_006), &json!({"/spec": {"deletionPolicy": "Retain"}}));
    assert_eq!(said(&screen(&retained, Ok(&acting)), "what to do"), ["nothing"]);
}

#[test]
fn where_nobody_acts_that_comes_first_and_nothing_is_offered_that_needs_an_operator() {
    let acting = [leader(false)];
    for (reason, code) in [("InternalError", 100_001), ("PermissionDenied", 100_006), ("Unreachable", 0)] {
        let screen = screen(&robot(Some(("False", reason)), Some(code), &json!({})), Ok(&acting));
        assert_eq!(screen.finding, "person");
        let todo = said(&screen, "what to do");
        assert!(todo[0].starts_with("start the operator"), "{todo:?}");
        assert!(todo.iter().all(|text| !text.to_lowercase().starts_with("nothing")), "{todo:?}");
        assert!(screen.next[0].command.starts_with("kubectl logs -n o "), "{:?}", screen.next);
        assert!(!types(&screen, RELEASE) && !types(&screen, TRY), "{:?}", screen.next);
    }
    let unknown =
        screen(&robot(Some(("False", "InternalError")), Some(100_001), &json!({})), Err("not known"));
    assert_eq!((unknown.finding, said(&unknown, "operator")), ("waits", vec!["not known"]));
    assert!(types(&unknown, RELEASE) && types(&unknown, TRY));
}

#[test]
fn a_finalizer_of_somebody_else_is_what_is_to_be_done_about() {
    let acting = [leader(true)];
    let held = json!({"/metadata/finalizers": ["example.com/x"]});
    for told in [("True", "Deleted"), ("True", "Retained"), ("False", "StillClaimed")] {
        let screen = screen(&robot(Some(told), Some(0), &held), Ok(&acting));
        assert_eq!(screen.finding, "person");
        assert_eq!(said(&screen, "what to do"), [OTHERS.1], "{told:?}");
        assert!(screen.next[0].command.contains("metadata.finalizers") && !types(&screen, RELEASE));
    }
}

/// `Retain` let it go, and somebody took that back while a finalizer of another controller kept the object: a call is due.
#[test]
fn a_deletion_whose_retain_was_taken_back_is_in_line_again() {
    let acting = [leader(true)];
    let taken_back = screen(&robot(Some(("True", "Retained")), None, &json!({})), Ok(&acting));
    assert!(taken_back.summary.contains("in line for its first call"), "{}", taken_back.summary);
    assert!(types(&taken_back, RELEASE));
    let retained = json!({"/spec": {"deletionPolicy": "Retain"}});
    let kept = screen(&robot(Some(("True", "Retained")), None, &retained), Ok(&acting));
    assert!(kept.summary.contains("is over") && !types(&kept, RELEASE), "{}", kept.summary);
}

#[test]
fn what_is_over_is_not_released() {
    let acting = [leader(true)];
    for told in [("True", "Deleted"), ("True", "NotInRoom"), ("False", "StillClaimed")] {
        let screen = screen(&robot(Some(told), None, &json!({})), Ok(&acting));
        assert!(screen.summary.contains("is over") && !types(&screen, RELEASE), "{}", screen.summary);
    }
    assert!(types(&screen(&robot(Some(("False", "Suspended")), None, &json!({})), Ok(&acting)), RELEASE));
}

/// The cluster's words come first, from the condition or, where the status cannot be written, from an Event.
#[test]
fn what_the_cluster_refuses_is_said_first() {
    let acting = [leader(true)];
    let stalled = json!([
        {"type": "RobotDeleted", "status": "True", "reason": "Deleted", "message": "m"},
        {"type": "Stalled", "status": "True", "reason": "WriteRefused", "message": "label team is missing"},
    ]);
    let told = robot(Some(("True", "Deleted")), Some(0), &json!({"/status/conditions": stalled}));
    assert_eq!((told.waits_for(), told.silent()), ("WriteRefused", false));
    let shown = screen(&told, Ok(&acting));
    assert_eq!((shown.finding, shown.reason.as_deref()), ("person", Some("WriteRefused")));
    assert!(shown.summary.contains("is over (Deleted), but the cluster refuses"), "{}", shown.summary);
    assert_eq!(shown.details[0].text, "Stalled=True WriteRefused: label team is missing");
    assert!(types(&shown, "validatingadmissionpolicies") && !types(&shown, RELEASE), "{:?}", shown.next);
    let silent = robot(None, None, &json!({}));
    assert!(silent.silent() && robot(Some(("True", "Deleted")), None, &json!({})).silent());
    assert!(!robot(Some(("False", "Suspended")), None, &json!({})).silent(), "it says what it waits for");
    let shown = screen_with(&silent, Ok(&acting), Some("the status: label team is missing"));
    assert_eq!(shown.finding, "person");
    assert_eq!(shown.details[0].text, "an Event: WriteRefused: the status: label team is missing");
    let nobody = screen(&told, Ok(&[leader(false)]));
    assert!(nobody.summary.ends_with("no operator acts"), "{}", nobody.summary);
}

#[test]
fn the_place_in_line_is_told_of_what_has_no_answer_yet() {
    let acting = [leader(true)];
    let screen = |told| said(&screen(&robot(told, None, &json!({})), Ok(&acting)), "place").join("");
    assert_eq!(screen(None), "about 2 of 3 in line are older; namespaces take turns");
    assert_eq!(screen(Some(("False", "Suspended"))), "");
}

/// A Lease that a shard left is no fault while another acts; it is told, since it may be this robot's.
#[test]
fn the_lease_of_a_shard_that_has_run_out_is_told_beside_the_one_that_acts() {
    let mut dead = leader(false);
    dead.lease = Some("roomrobot-operator-0a1b2c3d".to_owned());
    let acting = [leader(true), dead];
    let screen = screen(&robot(None, None, &json!({})), Ok(&acting));
    assert_eq!(screen.finding, "waits");
    let operator = said(&screen, "operator")[0];
    assert!(operator.starts_with("p acts, of Lease roomrobot-operator-0a1b2c3d, a shard's:"), "{operator}");
}
