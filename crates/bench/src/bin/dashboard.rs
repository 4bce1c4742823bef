//! Makes the picture of the dashboard in the README: a real drain with its troubles, scraped by a real Prometheus, drawn
//! by `crates/bench/dashboard/draw.py` from the dashboard's own queries.

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::{
    api::core::v1::{Namespace, Secret},
    jiff::Timestamp,
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use roomrobot_core::crd::{RoomRobot, RtcApplication};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::{
    env,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};
use testbed::{
    Error, Result, assets,
    control_plane::{ControlPlane, OPERATOR_NAMESPACE, wait_for},
    operator::Operator,
    prometheus::Prometheus,
    simulator::{Fault, Kind, Settings, Simulator},
    tool::Tool,
};
use tokio::time::sleep;

/// Name, SDKAppID, robots, calls a second.
const APPLICATIONS: [(&str, u32, usize, usize); 2] =
    [("asia", 1_400_000_001, 2000, 30), ("europe", 1_400_000_002, 1000, 15)];

/// The key of both.
const KEY: &str = "key";

/// Calls a second that another user of asia's quota leaves to it; europe needs less.
const LEFT: usize = 17;

/// How long the room engine takes, and how long when it is slow.
const QUICK: Duration = Duration::from_millis(25);
const SLOW: Duration = Duration::from_millis(180);

/// The host of this room does not let us touch it at first.
const SHUT: &str = "room-7";

/// RoomRobots in a room.
const ROOM: usize = 8;

const DASHBOARD: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../../charts/roomrobot-operator/files/dashboard.json");
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/dashboard/draw.py");
const PATIENCE: Duration = Duration::from_secs(240);

#[tokio::main]
async fn main() -> ExitCode {
    let Some(out) = env::args().nth(1) else {
        eprintln!("dashboard OUT.png");
        return ExitCode::from(2);
    };
    match picture(Path::new(&out)).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("dashboard: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn picture(out: &Path) -> Result<()> {
    let python =
        tokio::task::spawn_blocking(assets::python).await.map_err(|error| Error::new("python", error))??;
    let plane = ControlPlane::start().await?;
    plane.install_crds().await?;
    plane.install_rights()?;
    let simulator = Simulator::local().await?;
    simulator.set(|settings| settings.latency = QUICK);
    let endpoint = simulator.endpoint();
    let args = ["--allow-endpoint", &endpoint, "--leader-elect=false"];
    let operator = Operator::start(&plane, &operator_binary()?, &args).await?;
    let client = plane.client().await?;
    eprintln!("creating 3000 RoomRobots ...");
    create(&client, &simulator).await?;
    let prometheus = Prometheus::start(&plane, &operator, Duration::from_secs(1), None).await?;
    eprintln!("draining ...");
    sleep(Duration::from_secs(3)).await;
    let marks = drain(&client, &simulator).await?;
    sleep(Duration::from_secs(8)).await;
    let end = Timestamp::now().as_second();
    let start = marks.first().map_or(end, |(at, _)| *at);
    eprintln!("drawing ...");
    let series = operator_binary()?.with_file_name("dashboard-series.json");
    let script = |args: &[&OsStr]| {
        let args = [&[OsStr::new(SCRIPT)], args].concat();
        Tool::new(&python.to_string_lossy(), "see crates/bench/dashboard").run(&args).map(drop)
    };
    let (from, to, marks) = (start.to_string(), end.to_string(), json!(marks).to_string());
    let dashboard = OsStr::new(DASHBOARD);
    script(&[
        "ask".as_ref(),
        dashboard,
        series.as_ref(),
        prometheus.url().as_ref(),
        from.as_ref(),
        to.as_ref(),
        marks.as_ref(),
    ])?;
    if let Some(folder) = out.parent() {
        fs::create_dir_all(folder).map_err(|error| Error::new(folder.display(), error))?;
    }
    script(&["draw".as_ref(), dashboard, series.as_ref(), out.as_ref()])
}

/// The operator's binary, built beside this one.
fn operator_binary() -> Result<PathBuf> {
    let this = env::current_exe().map_err(|error| Error::new("this program", error))?;
    Ok(this.with_file_name("roomrobot-operator"))
}

#[allow(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
fn told(error: kube::Error) -> Error {
    Error(roomrobot_client::errors::explain(&error))
}

fn read<T: DeserializeOwned>(manifest: Value) -> Result<T> {
    serde_json::from_value(manifest).map_err(|error| Error::new("manifest", error))
}

async fn create(client: &Client, simulator: &Simulator) -> Result<()> {
    let params = PostParams::default();
    for (name, sdk_app_id, count, rate) in APPLICATIONS {
        simulator.add_app(sdk_app_id, KEY);
        let namespace: Namespace = read(json!({"metadata": {"name": name}}))?;
        Api::all(client.clone()).create(&params, &namespace).await.map_err(told)?;
        let secret: Secret = read(json!({"metadata": {"name": name}, "stringData": {"secretKey": KEY}}))?;
        Api::namespaced(client.clone(), OPERATOR_NAMESPACE).create(&params, &secret).await.map_err(told)?;
        let application: RtcApplication = read(json!({
            "apiVersion": "roomrobot.dev/v1alpha1", "kind": "RtcApplication", "metadata": {"name": name},
            "spec": {"sdkAppId": sdk_app_id, "endpoint": simulator.endpoint(), "requestsPerSecond": rate,
                "credentials": {"secretRef": {"name": name}}},
        }))?;
        Api::all(client.clone()).create(&params, &application).await.map_err(told)?;
        let robots = Api::<RoomRobot>::namespaced(client.clone(), name);
        futures::stream::iter(0..count)
            .for_each_concurrent(24, |n| {
                let (robots, params) = (robots.clone(), params.clone());
                async move {
                    // A few are gone already: their rooms, or they themselves.
                    let (room, member) = (format!("room-{}", n / ROOM), format!("robot-{n}"));
                    if n % 29 != 0 {
                        simulator.add_members(sdk_app_id, &room, [member.as_str()]);
                    }
                    let robot = serde_json::from_value(json!({
                        "apiVersion": "roomrobot.dev/v1alpha1", "kind": "RoomRobot", "metadata": {"name": member},
                        "spec": {"roomId": room, "memberAccount": member, "applicationRef": {"name": name}},
                    }));
                    if let Ok(robot) = robot {
                        let _ = robots.create(&params, &robot).await;
                    }
                }
            })
            .await;
        wait_for(PATIENCE, "the robots to be accepted", || async {
            let Ok(list) = robots.list(&ListParams::default()).await else { return false };
            list.items.iter().all(|robot| robot.metadata.finalizers.is_some() && robot.status.is_some())
        })
        .await?;
    }
    Ok(())
}

/// A moment of the drain and what happened.
type Mark = (i64, &'static str);

/// Deletes everything, and lets happen what happens to real ones, one after the other: somebody else takes half of one
/// quota, a Secret gets the wrong key and then the right one, the vendor has errors of its own and answers slowly, and
/// the host of a room opens it at last. Says what happened when; the first of it is where the picture begins.
async fn drain(client: &Client, simulator: &Simulator) -> Result<Vec<Mark>> {
    let [asia, europe] = APPLICATIONS;
    simulator.fail(Fault::always(Kind::Code(100_006)).app(asia.1).room(SHUT));
    let mut marks: Vec<Mark> = Vec::new();
    let mut mark = |what| marks.push((Timestamp::now().as_second(), what));
    let seconds = |n| sleep(Duration::from_secs(n));
    // However slow this machine is: the drain, and the picture, begin once all are being deleted.
    pace(client, |_| 1).await?;
    delete_all(client).await?;
    pace(client, |rate| rate).await?;
    seconds(2).await;
    mark("3000 deletions of two applications are in line");
    seconds(14).await;
    simulator.set(|settings| settings.quota = LEFT);
    mark("somebody else uses half of asia's quota");
    seconds(14).await;
    simulator.set(|settings| settings.quota = Settings::default().quota);
    seconds(8).await;
    set_key(client, europe.0, "another").await?;
    mark("europe's Secret gets a wrong key");
    seconds(18).await;
    set_key(client, europe.0, KEY).await?;
    mark("the right key");
    seconds(8).await;
    simulator.fail(Fault::times(Kind::Code(100_001), 60).app(europe.1));
    simulator.set(|settings| settings.latency = SLOW);
    mark("the vendor is slow and fails");
    seconds(8).await;
    simulator.set(|settings| settings.latency = QUICK);
    let left = |most: usize| async move {
        let all = Api::<RoomRobot>::all(client.clone()).list_metadata(&ListParams::default()).await;
        all.is_ok_and(|list| list.items.len() <= most)
    };
    wait_for(PATIENCE, "the drain", || left(ROOM)).await?;
    seconds(6).await;
    simulator.heal();
    mark("the host of a shut room opens it");
    // Any change of their spec tries at once.
    let robots = Api::<RoomRobot>::namespaced(client.clone(), asia.0);
    for robot in robots.list_metadata(&ListParams::default()).await.map_err(told)? {
        for suspend in [true, false] {
            let patch = Patch::Merge(json!({"spec": {"suspend": suspend}}));
            robots.patch(&robot.name_any(), &PatchParams::default(), &patch).await.map_err(told)?;
        }
    }
    wait_for(PATIENCE, "the shut room", || left(0)).await?;
    Ok(marks)
}

/// Deletes all RoomRobots, one by one: a collection of this size may take longer than the API server gives a request.
async fn delete_all(client: &Client) -> Result<()> {
    for (name, _, count, _) in APPLICATIONS {
        let robots = Api::<RoomRobot>::namespaced(client.clone(), name);
        futures::stream::iter((0..count).map(Ok))
            .try_for_each_concurrent(16, |n| {
                let robots = robots.clone();
                async move {
                    match robots.delete(&format!("robot-{n}"), &DeleteParams::default()).await {
                        Ok(_) => Ok(()),
                        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
                        Err(error) => Err(told(error)),
                    }
                }
            })
            .await?;
    }
    Ok(())
}

/// Sets the calls a second of both applications.
async fn pace(client: &Client, of: impl Fn(usize) -> usize) -> Result<()> {
    let applications = Api::<RtcApplication>::all(client.clone());
    for (name, _, _, rate) in APPLICATIONS {
        let patch = Patch::Merge(json!({"spec": {"requestsPerSecond": of(rate)}}));
        applications.patch(name, &PatchParams::default(), &patch).await.map_err(told)?;
    }
    Ok(())
}

/// Puts another key into the Secret of an application.
async fn set_key(client: &Client, name: &str, key: &str) -> Result<()> {
    let secrets = Api::<Secret>::namespaced(client.clone(), OPERATOR_NAMESPACE);
    let patch = Patch::Merge(json!({"stringData": {"secretKey": key}}));
    secrets.patch(name, &PatchParams::default(), &patch).await.map(drop).map_err(told)
}
