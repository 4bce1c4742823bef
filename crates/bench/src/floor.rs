//! The machine's limit: the same calls and patches, with the operator's own clients, and no controller at all.
//!
//! A process of its own, so that its CPU time can be told from the bench's. What it has is a list of robots, and what
//! it does with each is a call, the record of its answer, and the removal of the finalizer.

use crate::{facts, measure};
use futures::{StreamExt as _, stream};
use k8s_openapi::jiff::Timestamp;
use kube::{Api, Client, api::ListParams};
use roomrobot_client::{errors::explain, room_engine::RoomEngine};
use roomrobot_core::{
    call::{Caller, Outcome, Target},
    codes::Operation,
    crd::{APPLICATION_FINALIZER, GROUP, ROBOT_FINALIZER},
    endpoint::Allowed,
    engine::{self, Change, Now, StoredObject, Write},
    index::{Id, Index},
    plan::{self, Attempt, Memory, Step},
    right::Until,
    robot::{Robot, Stored},
    usersig::{self, Sensitive},
};
use roomrobot_operator::{kubernetes, operator};
use serde::{Deserialize, Serialize};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use testbed::{Error, Result};
use tokio::task::AbortHandle;

/// What the loop is to do.
#[derive(Clone, Debug, clap::Args)]
pub struct Job {
    /// The simulator.
    #[arg(long)]
    pub endpoint: String,
    /// The application.
    #[arg(long)]
    pub sdk_app_id: u32,
    /// Its key in the simulator.
    #[arg(long)]
    pub key: String,
    /// Lives at once.
    #[arg(long)]
    pub at_once: usize,
    /// Have a watch open meanwhile, and throw away what it shows.
    #[arg(long)]
    pub watch: bool,
}

/// How it went.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Done {
    /// Robots that were deleted.
    pub lives: usize,
    /// From the first call to the last removal.
    pub seconds: f64,
    /// CPU time of the loop.
    pub cpu_ms: f64,
    /// From the start of each call to the end of its last write, in milliseconds.
    pub latencies: Vec<f64>,
    /// Resident memory at most, in bytes.
    pub peak: u64,
}

/// Deletes every robot that is being deleted.
///
/// # Errors
/// If a call or a write does not succeed.
pub async fn run(job: Job) -> Result<Done> {
    let client = operator::connect().await.map_err(|error| Error::new("floor", error))?;
    let room_engine = RoomEngine::new(Until::default()).map_err(|error| Error::new("floor", error))?;
    let user_sig = usersig::sign(
        &Sensitive::new(job.key),
        job.sdk_app_id,
        "administrator",
        Timestamp::now().as_second(),
        usersig::LIFETIME,
    );
    let caller = Caller {
        endpoint: job.endpoint.parse().map_err(|error| Error::new("floor", error))?,
        sdk_app_id: job.sdk_app_id,
        identifier: "administrator".into(),
        user_sig: Arc::new(user_sig),
    };
    let (robots, version) = pending(&client).await?;
    let watching = if job.watch { Some(watch(&client, &version).await?) } else { None };
    let pid = std::process::id();
    let (start, cpu) = (Instant::now(), measure::cpu(pid).unwrap_or_default());
    let lives = stream::iter(&robots).map(|(id, robot)| life(&client, &room_engine, &caller, *id, robot));
    let latencies: Vec<Result<f64>> = lives.buffer_unordered(job.at_once).collect().await;
    let seconds = start.elapsed().as_secs_f64();
    let used = measure::cpu(pid).unwrap_or_default().saturating_sub(cpu);
    if let Some(watching) = watching {
        watching.abort();
    }
    Ok(Done {
        lives: robots.len(),
        seconds,
        cpu_ms: used.as_secs_f64() * 1e3,
        latencies: latencies.into_iter().collect::<Result<_>>()?,
        peak: measure::memory(pid).map_or(0, |(_, most)| most),
    })
}

/// Reads a watch of all robots from `version` on, as bytes: what it costs the API server, and nobody else anything.
async fn watch(client: &Client, version: &str) -> Result<AbortHandle> {
    let why = |error: &dyn std::fmt::Display| Error::new("floor: watch", error);
    let path = format!("/apis/{GROUP}/v1alpha1/roomrobots?watch=true&resourceVersion={version}");
    let request = hyper::Request::get(path).body(Vec::new()).map_err(|error| why(&error))?;
    let bytes = client.request_stream(request).await.map_err(|error| why(&explain(&error)))?;
    let read = async move {
        let _ = futures::io::copy(bytes, &mut futures::io::sink()).await;
    };
    Ok(tokio::spawn(read).abort_handle())
}

/// The robots that are being deleted with an id for each, and the version of the list.
async fn pending(client: &Client) -> Result<(Vec<(Id, Robot)>, String)> {
    let api = Api::<Stored>::all(client.clone());
    let mut index = Index::default();
    let mut robots = Vec::new();
    let mut params = ListParams::default().limit(500);
    loop {
        let page = api.list(&params).await.map_err(|error| Error::new("floor", explain(&error)))?;
        let version = page.metadata.resource_version.clone().unwrap_or_default();
        for robot in page.items.into_iter().map(Robot::from) {
            if robot.deleting_since.is_some() {
                robots.push((index.insert(robot.clone(), 0), robot));
            }
        }
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params.continue_token = Some(token),
            None => return Ok((robots, version)),
        }
    }
}

async fn life(
    client: &Client,
    room_engine: &RoomEngine,
    caller: &Caller,
    id: Id,
    robot: &Robot,
) -> Result<f64> {
    let start = Instant::now();
    let target =
        Target { room_id: robot.room_id.to_string(), member_account: robot.member_account.to_string() };
    let operation = Operation::DeleteRobot;
    let outcome = room_engine.call(operation, caller, &target).await;
    let outcome = outcome.map_err(|error| Error::new("floor", error))?;
    if outcome.code() != Some(0) {
        return Err(Error(format!("floor: the call was answered {:?}", outcome.code())));
    }
    let told = write(client, id, robot, Change::Status(record(robot, outcome)?)).await?;
    let ours = robot.finalizers.ours.ok_or_else(|| Error(format!("floor: no {ROBOT_FINALIZER}")))?;
    write(client, id, robot, Change::DropFinalizer { at: ours, version: told.resource_version }).await?;
    Ok(start.elapsed().as_secs_f64() * 1e3)
}

/// The status that the operator writes after this answer.
fn record(robot: &Robot, outcome: Outcome) -> Result<Vec<serde_json::Value>> {
    let operation = Operation::DeleteRobot;
    let now = Now { since_start: Duration::ZERO, wall: Timestamp::now() };
    let class = outcome.class(operation);
    let attempt = Attempt {
        operation,
        outcome,
        class,
        at: now.wall.as_second(),
        recorded: false,
        settled: Duration::ZERO,
    };
    let memory = Memory { last: Some(Box::new(attempt)), ..Memory::default() };
    match plan::plan(&facts(robot, &memory)) {
        Step::Report(wanted) => Ok(engine::status_patch(robot, &wanted, memory.last.as_deref(), now)),
        step => Err(Error(format!("floor: nothing to record, but {step:?}"))),
    }
}

async fn write(client: &Client, id: Id, robot: &Robot, change: Change) -> Result<Robot> {
    let write = Write::to_robot(id, robot, change);
    match kubernetes::write(client, &write, &Allowed::default(), APPLICATION_FINALIZER).await {
        Ok(StoredObject::Robot(robot)) => Ok(*robot),
        other => Err(Error(format!("floor: a write failed: {other:?}"))),
    }
}
