//! Whose deletion it is may see no more than a namespace; each command then tells what it can, and what it cannot see.

use super::{led, with_kubeconfig};
use crate::harness::{World, eventually};
use serde_json::json;
use testbed::{operator::token, simulator::Kind};

#[tokio::test(flavor = "multi_thread")]
async fn a_user_of_one_namespace_is_told_as_much() {
    let world = World::new().await;
    let operator = world.operator().await;
    led(&world, &operator).await;
    world.stuck("shut", Kind::Code(100_006), "PermissionDenied").await;
    world.robot("open").await;
    world.ready("open").await;
    let namespace = &world.namespace;
    let kubectl = |args: &[&str]| world.plane.run_kubectl(args, None).unwrap();
    kubectl(&["create", "serviceaccount", "tenant", "-n", namespace]);
    let account = format!("--serviceaccount={namespace}:tenant");
    kubectl(&["create", "rolebinding", "tenant", "-n", namespace, "--clusterrole=view", &account]);
    let tenant = token(&world.plane, namespace, "tenant").await.unwrap();
    let kubeconfig = world.plane.kubeconfig_for("tenant", &tenant).unwrap();
    let run = |args: &[&str]| with_kubeconfig(&kubeconfig, args, None);
    // The roles of the chart become a part of `view` a moment after they are there.
    eventually("the tenant may read", || async { run(&["list", "-n", namespace]).code != 1 }).await;

    let why = run(&["why", "-n", namespace]);
    assert_eq!(why.code, 4, "{}", why.err);
    for text in [
        "100006 (robot_permission)",
        "RequestId Id-",
        &format!("{}, which you may not read", world.app),
        "you may not read its Lease",
        "What to type next",
        "kubectl roomrobot release shut",
    ] {
        assert!(why.out.contains(text), "{text} is not in:\n{}", why.out);
    }

    let list = run(&["list", "-n", namespace, "-o", "json"]).json();
    assert_eq!((list.as_array().unwrap().len(), &list[0]["name"]), (1, &json!("shut")), "{list}");
    let everywhere = run(&["list", "-A"]);
    assert!(everywhere.code == 1 && everywhere.err.contains("forbidden"), "{}", everywhere.err);

    // Without `-n`, as `why` prints it: what the tenant may see, and a word about the rest.
    let config = kubeconfig.to_str().unwrap();
    kubectl(&["config", "set-context", "--current", "--kubeconfig", config, "--namespace", namespace]);
    let own = run(&["list"]);
    assert!(own.code == 4 && own.out.contains("shut"), "{}{}", own.out, own.err);
    assert!(own.err.contains(&format!("these are of {namespace}")), "{}", own.err);
    let requests = run(&["requests", "-n", namespace, "--since", "1h"]);
    let id = &world.simulator.calls_about("shut", "shut")[0].request_id;
    assert!(requests.code == 0 && requests.out.contains(id), "{}{}", requests.out, requests.err);
    assert!(requests.err.contains("You may not read Events in roomrobot-system"), "{}", requests.err);
    // Of one that is gone, not to see Events is not the same as none being left.
    let gone = run(&["why", "nobody", "-n", namespace]);
    assert!(gone.code == 1 && gone.err.contains("you may not read Events in"), "{}", gone.err);

    let plan = run(&["plan", "namespace", namespace, "-o", "json"]);
    assert_eq!(plan.code, 0, "{}", plan.err);
    let plan = plan.json();
    assert_eq!(plan["calls"], 2, "{plan}");
    assert_eq!(plan["seconds"], json!({}), "the pace is not known: {plan}");
    let notes = plan["notes"].to_string();
    for text in [
        format!("You may not read RtcApplication {}; it is taken for ready", world.app),
        "You may not read the RoomRobots of other namespaces".to_owned(),
    ] {
        assert!(notes.contains(&text), "{text} is not in {notes}");
    }
    let one = run(&["plan", "open", "-n", namespace]);
    assert!(one.out.contains("Calls of delete_robot: 1."), "{}{}", one.out, one.err);

    let doctor = run(&["doctor", "-n", namespace, "-o", "json"]);
    assert_eq!(doctor.code, 0, "{}{}", doctor.out, doctor.err);
    let said = doctor.json();
    let note = |about: &str| {
        let found = said.as_array().unwrap().iter().find(|check| check["about"] == about);
        let found = found.unwrap_or_else(|| panic!("{about}: {said}"));
        assert_eq!(found["verdict"], "note", "{found}");
        found["text"].as_str().unwrap().to_owned()
    };
    assert!(note("RtcApplications").contains("ask somebody who may"));
    assert!(note("your rights").contains("list rtcapplications.roomrobot.dev"));
    note("operator's rights");
}

/// Where the reason cannot be recorded nothing is released, and the way that needs no record is named.
#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_record_a_reason_is_told_the_other_way() {
    let world = World::new().await;
    let operator = world.operator().await;
    led(&world, &operator).await;
    world.stuck("shut", Kind::Code(100_006), "PermissionDenied").await;
    let namespace = &world.namespace;
    let kubectl = |args: &[&str]| world.plane.run_kubectl(args, None).unwrap();
    kubectl(&["create", "serviceaccount", "tenant", "-n", namespace]);
    let account = format!("--serviceaccount={namespace}:tenant");
    // The chart's own roles: RoomRobots and nothing else.
    for role in ["view", "edit"] {
        let cluster_role = format!("--clusterrole=roomrobot-operator-{role}");
        kubectl(&["create", "rolebinding", role, "-n", namespace, &cluster_role, &account]);
    }
    let tenant = token(&world.plane, namespace, "tenant").await.unwrap();
    let kubeconfig = world.plane.kubeconfig_for("editor", &tenant).unwrap();
    let args = ["release", "shut", "-n", namespace, "--reason", "over"];
    let config = kubeconfig.to_str().unwrap();
    let ran = with_kubeconfig(&kubeconfig, &[&args[..], &["--kubeconfig", config]].concat(), None);
    assert!(ran.code == 1 && ran.err.contains("so nothing is released"), "{}", ran.err);
    let (_, command) = ran.err.trim().rsplit_once("it goes by: ").unwrap();
    assert!(world.robots().get("shut").await.is_ok());
    // As printed, in a shell.
    super::shell(&world, command);
    world.gone("shut").await;
    assert!(world.events_about("shut").await.iter().all(|event| event.reason.as_deref() != Some("Released")));
}
