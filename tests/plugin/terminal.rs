//! On a terminal: colours, and progress while many are read.

use super::roomrobot;
use crate::harness::World;
use futures::StreamExt as _;
use serde_json::json;
use std::process::{Command, Stdio};

/// What the plugin shows on a terminal: both of its outputs.
fn on_a_terminal(world: &World, args: &str) -> String {
    let command = format!("{} {args}", env!("CARGO_BIN_EXE_kubectl-roomrobot"));
    let output = tokio::task::block_in_place(|| {
        Command::new("script")
            .args(["-q", "-c", &command, "/dev/null"])
            .env("KUBECONFIG", world.plane.admin_kubeconfig())
            .env("TERM", "xterm")
            .env_remove("NO_COLOR")
            .env_remove("ROOMROBOT_NAMESPACE")
            .stdin(Stdio::null())
            .output()
            .unwrap()
    });
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_sees_colours_and_how_far_it_is() {
    let world = World::new().await;
    let names: Vec<String> = (0..510).map(|n| format!("r-{n}")).collect();
    futures::stream::iter(&names)
        .for_each_concurrent(16, |name| async { drop(world.robot_with(name, json!({})).await) })
        .await;
    // More than a page: all of them are read.
    let plan = roomrobot(&world, &["plan", "namespace", &world.namespace, "-o", "json"]);
    assert_eq!(plan.json()["robots"].as_array().unwrap().len(), names.len());
    assert!(!plan.err.contains("read 500"), "nobody sees progress there: {}", plan.err);
    let shown = on_a_terminal(&world, &format!("list -n {}", world.namespace));
    assert!(shown.contains("read 500 RoomRobots ..."), "{shown:?}");
    assert!(shown.contains("\x1b[32mNo deletion waits."), "{shown:?}");
    let json = on_a_terminal(&world, &format!("list -n {} -o json", world.namespace));
    assert!(json.contains("[]") && !json.contains("\x1b[32m"), "no colours for programs: {json:?}");
}
