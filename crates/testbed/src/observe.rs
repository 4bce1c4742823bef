//! RoomRobots as somebody with `kubectl` sees them: conditions, and the last view of each that left.

use crate::{Error, Result};
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{
    Api, Client, ResourceExt as _,
    api::ListParams,
    runtime::watcher::{self, watcher},
};
use roomrobot_core::crd::RoomRobot;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tokio::{task::AbortHandle, time::sleep};

/// An error of the client, without its debug print.
#[allow(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
#[must_use]
pub fn told(error: kube::Error) -> Error {
    Error(roomrobot_client::errors::explain(&error))
}

/// The condition of `robot` of that type.
#[must_use]
pub fn condition(robot: &RoomRobot, kind: &str) -> Option<Condition> {
    robot.status.as_ref()?.conditions.iter().find(|condition| condition.type_ == kind).cloned()
}

/// Whether a condition is True.
#[must_use]
pub fn is_true(robot: &RoomRobot, kind: &str) -> bool {
    condition(robot, kind).is_some_and(|condition| condition.status == "True")
}

/// Waits until `count` RoomRobots are in `namespace` and the operator has taken charge of each.
///
/// # Errors
/// If that takes longer than `limit`.
pub async fn all_ready(client: &Client, namespace: &str, count: usize, limit: Duration) -> Result<()> {
    let api = Api::<RoomRobot>::namespaced(client.clone(), namespace);
    let start = Instant::now();
    loop {
        let robots = api.list(&ListParams::default()).await.map_err(told)?.items;
        let ready = robots.iter().filter(|robot| is_true(robot, "Ready")).count();
        if ready == count && robots.len() == count {
            return Ok(());
        }
        if start.elapsed() > limit {
            let stuck = robots.iter().find(|robot| !is_true(robot, "Ready"));
            let why =
                stuck.map(|robot| format!("{}: {:?}", robot.name_any(), robot.status)).unwrap_or_default();
            return Err(Error(format!("{ready} of {count} RoomRobots are Ready after {limit:?}; {why}")));
        }
        sleep(Duration::from_millis(100)).await;
    }
}

#[derive(Debug, Default)]
struct Seen {
    ready: bool,
    last: BTreeMap<String, RoomRobot>,
    gone: BTreeMap<String, Condition>,
}

/// A watch of one namespace: what the DELETED events carried.
#[derive(Debug)]
pub struct Departures {
    seen: Arc<Mutex<Seen>>,
    task: AbortHandle,
}

impl Departures {
    /// Watches from now on; what is there now has been seen when this returns.
    ///
    /// # Errors
    /// If the watch does not start.
    pub async fn watch(client: &Client, namespace: &str) -> Result<Self> {
        let api = Api::<RoomRobot>::namespaced(client.clone(), namespace);
        let seen = Arc::new(Mutex::new(Seen::default()));
        let notes = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            let mut events = watcher(api, watcher::Config::default()).boxed();
            loop {
                let event = match events.try_next().await {
                    Ok(Some(event)) => event,
                    Ok(None) => return,
                    Err(_) => {
                        sleep(Duration::from_millis(200)).await;
                        continue;
                    }
                };
                let Ok(mut notes) = notes.lock() else { return };
                match event {
                    watcher::Event::Init => {}
                    watcher::Event::InitDone => notes.ready = true,
                    watcher::Event::InitApply(robot) | watcher::Event::Apply(robot) => {
                        notes.last.insert(robot.name_any(), robot);
                    }
                    watcher::Event::Delete(robot) => {
                        let end = condition(&robot, "RobotDeleted").unwrap_or_else(|| Condition {
                            last_transition_time: k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(
                                k8s_openapi::jiff::Timestamp::now(),
                            ),
                            message: "the last status had no condition RobotDeleted".to_owned(),
                            observed_generation: None,
                            reason: "None".to_owned(),
                            status: "Unknown".to_owned(),
                            type_: "RobotDeleted".to_owned(),
                        });
                        notes.last.remove(&robot.name_any());
                        notes.gone.insert(robot.name_any(), end);
                    }
                }
            }
        });
        let this = Self { seen, task: task.abort_handle() };
        let start = Instant::now();
        while !this.seen.lock().is_ok_and(|seen| seen.ready) {
            if start.elapsed() > Duration::from_secs(20) {
                return Err(Error("the watch of RoomRobots does not start".to_owned()));
            }
            sleep(Duration::from_millis(20)).await;
        }
        Ok(this)
    }

    /// How many have left.
    #[must_use]
    pub fn count(&self) -> usize {
        self.seen.lock().map(|seen| seen.gone.len()).unwrap_or_default()
    }

    /// Waits until `count` have left; returns the last condition `RobotDeleted` of each, by name.
    ///
    /// # Errors
    /// If that takes longer than `limit`; what the rest waits for is in the error.
    pub async fn wait(&self, count: usize, limit: Duration) -> Result<BTreeMap<String, Condition>> {
        let start = Instant::now();
        while self.count() < count {
            if start.elapsed() > limit {
                let left = self.seen.lock().map(|seen| {
                    let one = seen
                        .last
                        .values()
                        .next()
                        .map(|robot| (robot.name_any(), condition(robot, "RobotDeleted")));
                    (seen.last.len(), one)
                });
                return Err(Error(format!(
                    "only {} of {count} RoomRobots left in {limit:?}; still there: {left:?}",
                    self.count()
                )));
            }
            sleep(Duration::from_millis(20)).await;
        }
        Ok(self.seen.lock().map(|seen| seen.gone.clone()).unwrap_or_default())
    }
}

impl Drop for Departures {
    fn drop(&mut self) {
        self.task.abort();
    }
}
