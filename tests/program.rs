//! The program: bad flags, no cluster, an unreachable one, missing CRDs, an occupied port, SIGTERM.

use crate::harness::{Plane, World, binary, eventually};
use std::{
    net::TcpListener,
    process::{Command, Output},
    time::{Duration, Instant},
};
use testbed::{
    control_plane::{ControlPlane, free_port},
    operator::Operator,
};

fn run(args: &[&str], env: &[(&str, &str)]) -> Output {
    Command::new(binary()).args(args).env_remove("KUBECONFIG").envs(env.iter().copied()).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn bad_flags_are_one_clear_error_and_a_non_zero_exit() {
    for (args, says) in [
        (&["run", "--allow-endpoint", "https://x.example/path"][..], "only scheme, host and port"),
        (&["run", "--no-such-flag"], "--no-such-flag"),
        (&["walk"], "walk"),
        (&[], "Usage"),
    ] {
        let output = run(args, &[]);
        assert!(!output.status.success(), "{args:?}");
        assert!(stderr(&output).contains(says), "{}", stderr(&output));
    }
    let output = run(&["run"], &[("ROOMROBOT_LISTEN", "nowhere")]);
    assert!(!output.status.success() && stderr(&output).contains("--listen"), "{}", stderr(&output));
}

#[test]
fn without_a_cluster_it_says_so_and_ends() {
    let output = run(
        &["run", "--listen=127.0.0.1:0"],
        &[("KUBECONFIG", "/nonexistent/kubeconfig"), ("HOME", "/nonexistent")],
    );
    assert!(!output.status.success());
    let text = stderr(&output);
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.contains("no Kubernetes cluster to work for") && text.contains("set KUBECONFIG"), "{text}");
}

#[test]
fn the_crds_are_printed_as_they_are_kept() {
    let output = run(&["crds"], &[]);
    assert!(output.status.success());
    let kept = ["roomrobots", "rtcapplications"]
        .map(|name| format!("---\n{}", std::fs::read_to_string(format!("crds/{name}.yaml")).unwrap()))
        .concat();
    assert_eq!(String::from_utf8_lossy(&output.stdout), kept);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_occupied_port_is_named() {
    let plane = Plane::take().await;
    let occupied = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = occupied.local_addr().unwrap().to_string();
    let kubeconfig = plane.admin_kubeconfig();
    let output = run(&["run", "--listen", &address], &[("KUBECONFIG", kubeconfig.to_str().unwrap())]);
    assert!(!output.status.success());
    assert!(stderr(&output).contains(&format!("cannot listen on {address}")), "{}", stderr(&output));
}

/// A cluster that is not there yet, and resources that are not installed yet: it waits, and says for what.
#[tokio::test(flavor = "multi_thread")]
async fn it_waits_for_the_api_server_and_for_the_crds() {
    let nobody = format!("https://127.0.0.1:{}", free_port().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = folder.path().join("kubeconfig");
    let config = serde_json::json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": nobody, "insecure-skip-tls-verify": true}}],
        "users": [{"name": "c", "user": {"token": "t"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}],
    });
    std::fs::write(&kubeconfig, config.to_string()).unwrap();
    let log = folder.path().join("log");
    let mut child = Command::new(binary())
        .args(["run", "--listen=127.0.0.1:0"])
        .env("KUBECONFIG", &kubeconfig)
        .stderr(std::fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    eventually("it says what it waits for", || async {
        let text = std::fs::read_to_string(&log).unwrap();
        text.contains("waiting for the API server") && text.contains("Connection refused")
    })
    .await;
    assert!(child.try_wait().unwrap().is_none(), "it waits");
    child.kill().unwrap();
    child.wait().unwrap();

    let plane = ControlPlane::start().await.unwrap();
    plane.install_rights().unwrap();
    let operator = Operator::spawn(&plane, binary(), &[], &[]).await.unwrap();
    eventually("it says that a CRD is missing", || async {
        operator.log().contains("the CustomResourceDefinition roomrobots.roomrobot.dev is not installed")
    })
    .await;
    assert!(operator.get("/livez").unwrap().contains(" 200 "));
    assert!(operator.get("/readyz").unwrap().contains(" 503 "));
    plane.install_crds().await.unwrap();
    operator.wait_ready().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_ends_it_well_and_frees_the_lease_for_the_next() {
    let world = World::new().await;
    let mut operator = world.operator().await;
    let mut quickest = Duration::MAX;
    // Where others keep the machine busy, one may be late.
    for n in 0..3 {
        let name = format!("r-{n}");
        world.robot(&name).await;
        world.ready(&name).await;
        let start = Instant::now();
        let status = operator.terminate(Duration::from_secs(15)).await.unwrap();
        assert!(status.success(), "{status}");
        quickest = quickest.min(start.elapsed());
        let start = Instant::now();
        operator = world.operator().await;
        world.delete(&name).await;
        world.gone(&name).await;
        // Nobody could take a Lease that was not freed for 11 s at least.
        assert!(start.elapsed() < Duration::from_secs(10), "the next one waited for {:?}", start.elapsed());
        if quickest < Duration::from_secs(2) {
            break;
        }
    }
    assert!(quickest < Duration::from_secs(2), "it ended after {quickest:?}");
    world.verify(0).await;
}
