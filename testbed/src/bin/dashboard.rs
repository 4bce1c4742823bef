//! Makes the picture of the dashboard in the README: a real drain with its troubles, scraped by a real Prometheus, drawn
//! by `testbed/dashboard/draw.py` from the dashboard's own queries. `PYTHON` names a Python that has matplotlib.

use futures::StreamExt as _;
use k8s_openapi::{
    api::core::v1::{Namespace, Secret},
    jiff::Timestamp,
};
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, PostParams},
};
use roomrobot_operator::crd::{RoomRobot, RtcApplication};
use serde_json::json;
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    time::Duration,
};
use testbed::{
    Error, Result, assets,
    control_plane::{ControlPlane, OPERATOR_NAMESPACE, free_port, wait_for},
    operator::Operator,
    simulator::{Fault, Kind, Simulator},
};
use tokio::time::sleep;

/// Name, SDKAppID, robots.
const APPLICATIONS: [(&str, u32, usize); 2] = [("asia", 1_400_000_001, 1200), ("europe", 1_400_000_002, 600)];

const DASHBOARD: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/roomrobot-operator/files/dashboard.json");
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
    let prometheus = tokio::task::spawn_blocking(assets::prometheus)
        .await
        .map_err(|error| Error::new("prometheus", error))??;
    let plane = ControlPlane::start().await?;
    plane.install_crds().await?;
    plane.install_rights()?;
    let simulator = Simulator::local().await?;
    simulator.set(|settings| settings.latency = Duration::from_millis(25));
    let endpoint = simulator.endpoint();
    let args = ["--allow-endpoint", &endpoint, "--leader-elect=false"];
    let operator = Operator::start(&plane, &operator_binary()?, &args).await?;
    let client = plane.client().await?;
    create(&client, &simulator).await?;
    let url = scrape(&plane, &prometheus, &operator).await?;
    eprintln!("draining ...");
    let start = Timestamp::now();
    sleep(Duration::from_secs(6)).await;
    drain(&client, &simulator).await?;
    sleep(Duration::from_secs(6)).await;
    let end = Timestamp::now();
    let python = env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let status = Command::new(python)
        .arg(SCRIPT)
        .args([&url, DASHBOARD])
        .arg(out)
        .args([start.as_second().to_string(), end.as_second().to_string()])
        .status()
        .map_err(|error| Error::new("python", error))?;
    if status.success() { Ok(()) } else { Err(Error::new("draw.py", status)) }
}

/// The operator's binary, built beside this one.
fn operator_binary() -> Result<PathBuf> {
    let this = env::current_exe().map_err(|error| Error::new("this program", error))?;
    Ok(this.with_file_name("roomrobot-operator"))
}

#[allow(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
fn told(error: kube::Error) -> Error {
    Error(roomrobot_operator::kubernetes::explain(&error))
}

async fn create(client: &Client, simulator: &Simulator) -> Result<()> {
    let read = |error: serde_json::Error| Error::new("manifest", error);
    let params = PostParams::default();
    for (name, sdk_app_id, count) in APPLICATIONS {
        let rate = count / 40;
        simulator.add_app(sdk_app_id, "key");
        let namespace: Namespace =
            serde_json::from_value(json!({"metadata": {"name": name}})).map_err(read)?;
        Api::all(client.clone()).create(&params, &namespace).await.map_err(told)?;
        let secret: Secret =
            serde_json::from_value(json!({"metadata": {"name": name}, "stringData": {"secretKey": "key"}}))
                .map_err(read)?;
        Api::namespaced(client.clone(), OPERATOR_NAMESPACE).create(&params, &secret).await.map_err(told)?;
        let application: RtcApplication = serde_json::from_value(json!({
            "apiVersion": "roomrobot.dev/v1alpha1", "kind": "RtcApplication", "metadata": {"name": name},
            "spec": {"sdkAppId": sdk_app_id, "endpoint": simulator.endpoint(), "requestsPerSecond": rate,
                "credentials": {"secretRef": {"name": name}}},
        }))
        .map_err(read)?;
        Api::all(client.clone()).create(&params, &application).await.map_err(told)?;
        let robots = Api::<RoomRobot>::namespaced(client.clone(), name);
        futures::stream::iter(0..count)
            .for_each_concurrent(24, |n| {
                let (robots, params) = (robots.clone(), params.clone());
                async move {
                    // A few are gone already: their rooms, or they themselves.
                    let (room, member) = (format!("room-{}", n / 8), format!("robot-{n}"));
                    if n % 29 != 0 {
                        simulator.add_members(sdk_app_id, &room, [member.as_str()]);
                    }
                    let robot = serde_json::from_value(json!({
                        "apiVersion": "roomrobot.dev/v1alpha1", "kind": "RoomRobot", "metadata": {"name": format!("robot-{n}")},
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

/// Starts a Prometheus that looks at the operator every second.
async fn scrape(plane: &ControlPlane, binary: &Path, operator: &Operator<'_>) -> Result<String> {
    let folder = plane.folder().join("prometheus");
    let why = |error: std::io::Error| Error::new("prometheus", error);
    fs::create_dir_all(&folder).map_err(why)?;
    let target = operator.url("").replace("http://", "");
    let config = json!({
        "global": {"scrape_interval": "1s"},
        "scrape_configs": [{"job_name": "roomrobot-operator", "static_configs": [
            {"targets": [target], "labels": {"instance": "operator"}}]}],
    });
    let file = folder.join("prometheus.yaml");
    fs::write(&file, config.to_string()).map_err(why)?;
    let url = format!("127.0.0.1:{}", free_port()?);
    let mut command = Command::new(binary);
    command
        .arg(format!("--config.file={}", file.display()))
        .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
        .arg(format!("--web.listen-address={url}"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(fs::File::create(folder.join("log")).map_err(why)?);
    plane.guardian().spawn(&mut command)?;
    let url = format!("http://{url}");
    wait_for(Duration::from_secs(30), "Prometheus", || async {
        reqwest::get(format!("{url}/-/ready")).await.is_ok_and(|answer| answer.status().is_success())
    })
    .await?;
    Ok(url)
}

/// Deletes everything, and lets happen what happens to real ones: internal errors, throttling, slow answers, rooms
/// that may not be touched.
async fn drain(client: &Client, simulator: &Simulator) -> Result<()> {
    for room in ["room-7", "room-77"] {
        simulator.fail(Fault::always(Kind::Code(100_006)).room(room));
    }
    // One by one: a collection of this size may take longer than the API server gives a request.
    for (name, _, count) in APPLICATIONS {
        let robots = Api::<RoomRobot>::namespaced(client.clone(), name);
        tokio::spawn(futures::stream::iter(0..count).for_each_concurrent(8, move |n| {
            let robots = robots.clone();
            async move {
                let name = format!("robot-{n}");
                loop {
                    match robots.delete(&name, &DeleteParams::default()).await {
                        Ok(_) => break,
                        Err(kube::Error::Api(status)) if status.code == 404 => break,
                        Err(_) => sleep(Duration::from_millis(200)).await,
                    }
                }
            }
        }));
    }
    sleep(Duration::from_secs(8)).await;
    simulator.fail(Fault::times(Kind::Code(100_001), 120).app(APPLICATIONS[1].1));
    sleep(Duration::from_secs(8)).await;
    simulator.set(|settings| settings.quota = 8);
    sleep(Duration::from_secs(6)).await;
    simulator.set(|settings| (settings.quota, settings.latency) = (200, Duration::from_millis(180)));
    sleep(Duration::from_secs(8)).await;
    simulator.set(|settings| settings.latency = Duration::from_millis(25));
    wait_for(PATIENCE, "the drain", || async {
        let all = Api::<RoomRobot>::all(client.clone()).list_metadata(&ListParams::default()).await;
        all.is_ok_and(|list| list.items.len() <= 32)
    })
    .await
}
