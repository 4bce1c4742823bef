//! The main job from nothing to the end, each step told in a line: `make demo`.

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::{api::core::v1::Secret, jiff::Timestamp};
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, ListParams, PostParams, WatchEvent, WatchParams},
};
use roomrobot_core::crd::{RoomRobot, RtcApplication};
use serde_json::json;
use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};
use testbed::{
    Error, Result,
    control_plane::{ControlPlane, OPERATOR_NAMESPACE},
    operator::Operator,
    simulator::{Fault, Kind, Simulator},
};

const SDK_APP_ID: u32 = 1_400_000_000;
const NAMESPACE: &str = "event";
const PATIENCE: Duration = Duration::from_secs(60);

/// Name, room, member account, and what is special about it.
const ROBOTS: [(&str, &str, &str, &str); 4] = [
    ("greeter", "lobby", "robot-greeter", "in its room, to be deleted normally"),
    ("closed-room", "yesterday", "robot-closing", "its room is gone"),
    ("already-left", "lobby", "robot-left", "it is not in its room any more"),
    ("second-try", "stage", "robot-stage", "the first answer will be 100001, an internal error"),
];

#[tokio::main]
async fn main() -> ExitCode {
    let keep = env::args().any(|arg| arg == "--keep");
    tokio::select! {
        result = demo(keep) => match result {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("demo: {error}");
                ExitCode::FAILURE
            }
        },
        _ = tokio::signal::ctrl_c() => {
            println!("\nstopped; everything that was started is ended");
            ExitCode::from(130)
        }
    }
}

/// Numbers the steps and tells how long each took.
struct Steps {
    number: usize,
    start: Instant,
}

impl Steps {
    fn done(&mut self, what: &str) {
        self.number += 1;
        println!("{:>2}. {what}  [{:.1} s]", self.number, self.start.elapsed().as_secs_f32());
    }
}

async fn demo(keep: bool) -> Result<()> {
    let start = Instant::now();
    let mut steps = Steps { number: 0, start };
    println!(
        "Removing room robots with Kubernetes: a demo on a control plane of its own, on this machine only.\n"
    );

    let plane = ControlPlane::start().await?;
    steps.done("A Kubernetes control plane is up: etcd, kube-apiserver, kube-controller-manager");
    plane.install_crds().await?;
    plane.install_rights()?;
    plane.install_admission_policy().await?;
    steps.done("The resources RoomRobot and RtcApplication are installed, and the operator's rights");

    let simulator = Simulator::local().await?;
    simulator.add_app(SDK_APP_ID, "demo-key");
    simulator.add_members(SDK_APP_ID, "lobby", ["robot-greeter"]);
    simulator.add_members(SDK_APP_ID, "stage", ["robot-stage"]);
    simulator.fail(Fault::times(Kind::Code(100_001), 1).room("stage"));
    steps.done("A simulated room engine is up: two rooms with a robot each; it checks every signature");

    let endpoint = simulator.endpoint();
    let operator = Operator::start(&plane, &operator_binary()?, &["--allow-endpoint", &endpoint]).await?;
    steps.done("The operator is up and ready");

    let client = plane.client().await?;
    apply_application(&client, &endpoint).await?;
    steps.done("Applied: RtcApplication `default`, and the Secret with its key in the operator's namespace");
    apply_robots(&plane)?;
    let robots = Api::<RoomRobot>::namespaced(client.clone(), NAMESPACE);
    wait(|| async {
        Ok(robots.list(&ListParams::default()).await.map_err(told)?.items.iter().all(is_ready))
    })
    .await?;
    steps.done("Applied: four RoomRobots; the operator has taken charge of each, without a call:");
    for (name, room, member, about) in ROBOTS {
        println!("      {name:<13} robot {member} in room {room}: {about}");
    }

    let ends = delete_all(&robots).await?;
    steps.done("Deleted, as `kubectl delete roomrobots --all` does; what the last stored condition of each said before it went:");
    for (name, end) in &ends {
        println!("      {name:<13} {:<13} {}", end.reason, end.message);
    }
    let calls = simulator.calls();
    steps.done(&format!(
        "All gone. The room engine got {} delete_robot calls and has {} robots left:",
        calls.len(),
        simulator.population()
    ));
    for call in &calls {
        let code = call.code.map_or_else(|| "no answer".to_owned(), |code| code.to_string());
        println!("      {:<9} {:<13} {code:>6}  {}", call.room, call.member, call.request_id);
    }
    println!(
        "\nEach RequestId above stood in the resource's status before the resource went: ask the vendor with it."
    );
    if keep {
        wait_for_person(&plane, &simulator, &operator).await?;
    }
    let status = operator.terminate(Duration::from_secs(15)).await?;
    if !status.success() {
        return Err(Error::new("the operator did not end well", status));
    }
    println!(
        "Done in {:.0} s. `make demo KEEP=1` leaves everything running for you to try.",
        start.elapsed().as_secs_f32()
    );
    Ok(())
}

/// The operator's binary, built beside this one.
fn operator_binary() -> Result<PathBuf> {
    let this = env::current_exe().map_err(|error| Error::new("this program", error))?;
    let binary = this.with_file_name("roomrobot-operator");
    if binary.is_file() {
        Ok(binary)
    } else {
        Err(Error("roomrobot-operator is not built; run `make demo`".to_owned()))
    }
}

async fn apply_application(client: &Client, endpoint: &str) -> Result<()> {
    let read = |error: serde_json::Error| Error::new("manifest", error);
    let secret: Secret = serde_json::from_value(json!({
        "metadata": {"name": "rtc-key"}, "stringData": {"secretKey": "demo-key"}
    }))
    .map_err(read)?;
    let application: RtcApplication = serde_json::from_value(json!({
        "apiVersion": "roomrobot.dev/v1alpha1", "kind": "RtcApplication", "metadata": {"name": "default"},
        "spec": {"sdkAppId": SDK_APP_ID, "endpoint": endpoint, "credentials": {"secretRef": {"name": "rtc-key"}}}
    }))
    .map_err(read)?;
    let params = PostParams::default();
    Api::namespaced(client.clone(), OPERATOR_NAMESPACE).create(&params, &secret).await.map_err(told)?;
    Api::all(client.clone()).create(&params, &application).await.map_err(told)?;
    Ok(())
}

fn apply_robots(plane: &ControlPlane) -> Result<()> {
    let mut yaml = format!("apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {NAMESPACE}\n");
    for (name, room, member, _) in ROBOTS {
        yaml.push_str(&manifest(name, room, member));
    }
    plane.kubectl_apply(&yaml).map(drop)
}

fn manifest(name: &str, room: &str, member: &str) -> String {
    format!(
        "---\napiVersion: roomrobot.dev/v1alpha1\nkind: RoomRobot\nmetadata:\n  name: {name}\n  namespace: {NAMESPACE}\n\
         spec:\n  roomId: {room}\n  memberAccount: {member}\n"
    )
}

fn is_ready(robot: &RoomRobot) -> bool {
    let conditions = robot.status.iter().flat_map(|status| &status.conditions);
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// How a deletion ended, as a watcher saw it.
#[derive(Default)]
struct End {
    reason: String,
    message: String,
}

/// Deletes all robots and watches until each is gone; returns what the DELETED events carried.
async fn delete_all(robots: &Api<RoomRobot>) -> Result<BTreeMap<String, End>> {
    let list = robots.list(&ListParams::default()).await.map_err(told)?;
    let version = list.metadata.resource_version.unwrap_or_default();
    let mut events = robots.watch(&WatchParams::default(), &version).await.map_err(told)?.boxed();
    let mut left: BTreeSet<String> = list.items.iter().map(kube::ResourceExt::name_any).collect();
    robots.delete_collection(&DeleteParams::default(), &ListParams::default()).await.map_err(told)?;
    let mut ends = BTreeMap::new();
    let watch = async {
        while !left.is_empty() {
            let Some(event) = events.try_next().await.map_err(told)? else {
                break;
            };
            if let WatchEvent::Deleted(robot) = event {
                left.remove(&robot.name_any());
                ends.insert(robot.name_any(), end(&robot));
            }
        }
        Ok(())
    };
    tokio::time::timeout(PATIENCE, watch)
        .await
        .map_err(|_| Error("the deletions did not end".to_owned()))??;
    Ok(ends)
}

fn end(robot: &RoomRobot) -> End {
    let conditions = robot.status.iter().flat_map(|status| &status.conditions);
    let last = conditions.into_iter().find(|condition| condition.type_ == "RobotDeleted");
    last.map(|last| End { reason: last.reason.clone(), message: last.message.clone() }).unwrap_or_default()
}

async fn wait<F: Future<Output = Result<bool>>>(mut done: impl FnMut() -> F) -> Result<()> {
    let start = Instant::now();
    while !done().await? {
        if start.elapsed() > PATIENCE {
            return Err(Error("the operator did not take charge".to_owned()));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// Puts robots back and waits for Ctrl-C.
async fn wait_for_person(plane: &ControlPlane, simulator: &Simulator, operator: &Operator<'_>) -> Result<()> {
    simulator.add_members(SDK_APP_ID, "lobby", ["robot-greeter"]);
    plane.kubectl_apply(&manifest("greeter", "lobby", "robot-greeter"))?;
    // One whose room may not be touched: its deletion hangs.
    simulator.add_members(SDK_APP_ID, "shut", ["robot-shut"]);
    simulator.fail(Fault::always(Kind::Code(100_006)).room("shut"));
    plane.kubectl_apply(&manifest("shut", "shut", "robot-shut"))?;
    println!(
        "\nEverything keeps running until Ctrl-C, since {}. In another terminal:\n",
        Timestamp::now().strftime("%H:%M:%S UTC")
    );
    println!("  export KUBECONFIG={}", plane.admin_kubeconfig().display());
    let plugin = operator_binary()?;
    let folders = [plugin.parent(), plane.kubectl().parent()]
        .map(|folder| folder.map_or_else(String::new, |folder| folder.display().to_string()));
    println!("  export PATH={}:$PATH\n", folders.join(":"));
    println!("  kubectl get roomrobots -n {NAMESPACE} -o wide");
    println!("  kubectl delete roomrobot greeter -n {NAMESPACE}\n");
    println!("This one hangs; the next line says why, and what to type:\n");
    println!("  kubectl delete roomrobot shut -n {NAMESPACE} --wait=false");
    println!("  kubectl roomrobot why -n {NAMESPACE}\n");
    println!("The room engine's calls: curl {}/simulator/calls   The operator's log:", simulator.endpoint());
    println!("{}", operator.log());
    std::future::pending().await
}

#[allow(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
fn told(error: kube::Error) -> Error {
    Error(roomrobot_client::errors::explain(&error))
}
