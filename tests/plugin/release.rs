//! `release`: says what it did and what it did not, whatever happens to single ones.

use super::{led, roomrobot, with_kubeconfig};
use crate::harness::{World, eventually, reason_of};
use hyper::Method;
use serde_json::{Value, json};
use testbed::{
    proxy::{Action, Proxy, Rule},
    simulator::{Fault, Kind},
};

async fn released(world: &World, name: &str) -> usize {
    let events = world.events_about(name).await;
    events.iter().filter(|event| event.reason.as_deref() == Some("Released")).count()
}

fn outcome<'a>(list: &'a Value, name: &str) -> &'a Value {
    let found = list.as_array().unwrap().iter().find(|row| row["name"] == name);
    found.unwrap_or_else(|| panic!("{name}: {list}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_cannot_be_released_stops_no_other_and_no_event_is_false() {
    let world = World::new().await;
    let operator = world.operator().await;
    led(&world, &operator).await;
    let namespace = &world.namespace;
    let long = "l".repeat(253);
    world.simulator.fail(Fault::always(Kind::Code(100_006)));
    for name in ["refused", "open", "foreign", &long] {
        world.robot_with(name, json!({"roomId": "room", "memberAccount": &name[..1]})).await;
        world.ready(name).await;
    }
    world.robot_with("kept", json!({"deletionPolicy": "Retain"})).await;
    world.ready("kept").await;
    let both = json!(["example.com/x", "roomrobot.dev/delete-robot"]);
    world
        .patch("foreign", json!({"metadata": {"finalizers": both}, "spec": {"deletionPolicy": "Retain"}}))
        .await;
    world.delete("foreign").await;
    world
        .robot_until("foreign", "is let go", |robot| reason_of(robot, "RobotDeleted") == Some("Retained"))
        .await;
    eventually("ours is gone", || async {
        world.robots().get("foreign").await.unwrap().metadata.finalizers.unwrap().len() == 1
    })
    .await;
    for name in ["refused", "open", &long] {
        world.delete(name).await;
        world.waits_for(name, "PermissionDenied").await;
    }

    let proxy = Proxy::start(&world.plane).await.unwrap();
    proxy.add(Rule {
        method: Method::PATCH,
        path: "/roomrobots/refused",
        times: 1,
        action: Action::Answer(500),
    });
    let through = world.plane.kubeconfig_through(&proxy.server(), world.plane.token()).unwrap();
    let names = ["refused", "foreign", "kept", "nobody", &long, "open"];
    let args = [&["release"], &names[..], &["-n", namespace, "--reason", "over", "-o", "json"]].concat();
    let ran = with_kubeconfig(&through, &args, None);
    assert_eq!(ran.code, 1, "{}", ran.err);
    let list = ran.json();
    for (name, expected) in [
        ("refused", "failed"),
        ("foreign", "over"),
        ("kept", "already"),
        ("nobody", "failed"),
        (&*long, "released"),
        ("open", "released"),
    ] {
        assert_eq!(outcome(&list, name)["outcome"], expected, "{name}");
        let events = usize::from(expected == "released");
        assert_eq!(released(&world, name).await, events, "{name}");
        assert_eq!(outcome(&list, name)["event"].is_string(), expected == "released");
    }
    assert!(
        ran.err.contains("refused is not released") && ran.err.contains("there is no RoomRobot"),
        "{}",
        ran.err
    );
    world.gone("open").await;
    world.gone(&long).await;

    // `--all` takes what waits, and has nothing to do twice.
    let all = ["release", "--all", "-n", namespace, "--reason", "over"];
    let ran = roomrobot(&world, &all);
    assert!(ran.code == 0 && ran.out.contains("refused is released; it goes now"), "{}{}", ran.out, ran.err);
    assert!(!ran.out.contains("/foreign") && !ran.out.contains("/kept"), "{}", ran.out);
    world.gone("refused").await;
    let ran = roomrobot(&world, &all);
    assert_eq!((ran.code, ran.out.as_str()), (0, "No deletion waits there.\n"), "{}", ran.err);
    assert_eq!(released(&world, "refused").await, 1);
    let everywhere = roomrobot(&world, &["release", "--all", "-A", "--reason", "over"]);
    assert!(everywhere.code == 2 && everywhere.err.contains("one namespace"), "{}", everywhere.err);

    // Many at once.
    world.simulator.heal();
    world.patch("foreign", json!({"metadata": {"finalizers": null}})).await;
    world.delete("kept").await;
    world.gone("kept").await;
    world.crowd("r", 40).await;
    world.simulator.fail(Fault::always(Kind::Code(100_006)));
    world.delete_all().await;
    eventually("all wait", || async {
        let list = world.robots().list(&kube::api::ListParams::default()).await.unwrap();
        list.items.iter().filter(|robot| reason_of(robot, "RobotDeleted") == Some("PermissionDenied")).count()
            == 40
    })
    .await;
    let ran = roomrobot(&world, &[&all[..], &["-o", "json"]].concat());
    assert_eq!((ran.code, ran.json().as_array().unwrap().len()), (0, 40), "{}", ran.err);
}
