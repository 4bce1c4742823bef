//! What a scenario runs in: a control plane that is clean, a simulator in its own process, applications, and robots
//! in the thousands.

use super::{
    engine_room::RoomEngineProcess,
    etcd::Etcd,
    floor::Done,
    measure::{self, Audited},
};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, ListParams, ObjectList, PostParams},
    core::PartialObjectMeta,
};
use roomrobot_client::errors::explain;
use roomrobot_core::crd::{RoomRobot, RtcApplication};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::{
    fmt::Debug,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};
use testbed::{
    Error, Result,
    audit::AuditLog,
    control_plane::{ControlPlane, OPERATOR_NAMESPACE, wait_for},
    operator::{Operator, account_token},
};

/// The vendor's quota: calls a second for each SDKAppID and command.
pub const QUOTA: u32 = 200;

/// The applications: the one that has the load, and the one beside it.
pub const APPS: [(&str, u32, &str); 2] =
    [("event", 1_400_000_001, "bench-key"), ("beside", 1_400_000_002, "bench-key")];

/// Robots of one room.
const ROOM: usize = 100;

/// The longest that anything may take.
const PATIENCE: Duration = Duration::from_secs(900);

/// Between two looks at whether a drain is over; each look costs the API server something.
const LOOK: Duration = Duration::from_millis(200);

/// The programs that are measured.
#[derive(Clone, Debug)]
pub struct Programs {
    /// The operator, as it ships.
    pub operator: PathBuf,
    /// The simulator.
    pub simulator: PathBuf,
    /// The program that has the floor as a verb.
    pub floor: PathBuf,
}

/// A scenario's world.
#[allow(missing_debug_implementations, reason = "a client has none")]
pub struct World<'a> {
    plane: &'a ControlPlane,
    programs: &'a Programs,
    client: Client,
    etcd: Etcd,
    /// The room engine.
    pub room_engine: RoomEngineProcess<'a>,
}

/// A stored robot of an application, to be copied.
#[derive(Debug)]
pub struct Templates {
    settled: Value,
    pending: Value,
}

/// Robots to be put in place.
#[derive(Clone, Copy, Debug)]
pub struct Crowd<'a> {
    /// Their namespace.
    pub namespace: &'a str,
    /// How many.
    pub count: usize,
    /// Whether their deletion was asked for.
    pub pending: bool,
}

/// A running operator, and what is looked at from its start.
#[derive(Debug)]
pub struct Running<'a> {
    /// The process.
    pub operator: Operator<'a>,
    /// From its start until it was ready.
    pub ready: Duration,
    /// CPU time until then.
    pub cpu_at_ready: Duration,
}

impl<'a> World<'a> {
    /// Cleans the control plane and starts a simulator with this quota.
    ///
    /// # Errors
    /// If something cannot be cleaned, started or created.
    pub async fn new(plane: &'a ControlPlane, programs: &'a Programs, quota: u32) -> Result<Self> {
        let http = reqwest::Client::builder().build().map_err(|error| Error::new("HTTP", error))?;
        let client = plane.client().await?;
        let etcd = Etcd::new(http.clone(), plane.etcd_endpoint());
        for prefix in ["roomrobot.dev/", "events/", "leases/roomrobot-system/", "secrets/roomrobot-system/"] {
            etcd.delete(&format!("/registry/{prefix}")).await?;
        }
        let apps = APPS.map(|(_, id, key)| (id, key));
        let guardian = plane.guardian();
        let room_engine = RoomEngineProcess::start(guardian, http, &programs.simulator, quota, &apps)?;
        let this = Self { plane, programs, client, etcd, room_engine };
        this.until_robots(None, 0).await?;
        for (name, sdk_app_id, key) in APPS {
            let secret = json!({"metadata": {"name": name}, "stringData": {"secretKey": key}});
            let secrets = Api::<Secret>::namespaced(this.client.clone(), OPERATOR_NAMESPACE);
            create(&secrets, secret).await?;
            let application = json!({
                "apiVersion": "roomrobot.dev/v1alpha1", "kind": "RtcApplication", "metadata": {"name": name},
                "spec": {"sdkAppId": sdk_app_id, "endpoint": this.room_engine.endpoint(),
                    "credentials": {"secretRef": {"name": name}}},
            });
            create(&Api::<RtcApplication>::all(this.client.clone()), application).await?;
        }
        Ok(this)
    }

    /// The robots of one namespace, or of all.
    #[must_use]
    pub fn robots(&self, namespace: Option<&str>) -> Api<RoomRobot> {
        namespace.map_or_else(
            || Api::all(self.client.clone()),
            |namespace| Api::namespaced(self.client.clone(), namespace),
        )
    }

    /// Makes a namespace, if there is none of this name.
    ///
    /// # Errors
    /// If it cannot be made.
    pub async fn namespace(&self, name: &str) -> Result<()> {
        let api = Api::<Namespace>::all(self.client.clone());
        match api.get_opt(name).await.map_err(told)? {
            Some(_) => Ok(()),
            None => create(&api, json!({"metadata": {"name": name}})).await,
        }
    }

    /// Starts the operator and waits until it is ready.
    ///
    /// # Errors
    /// If it is not.
    pub async fn operator(&self) -> Result<Running<'a>> {
        let endpoint = self.room_engine.endpoint();
        let args = ["--allow-endpoint", endpoint, "--log-format", "json"];
        let operator = Operator::spawn(self.plane, &self.programs.operator, &args, &[]).await?;
        let start = Instant::now();
        while !operator.get("/readyz").is_some_and(|text| text.contains(" 200 ")) {
            if start.elapsed() > PATIENCE {
                return Err(Error::new("the operator is not ready", operator.log()));
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let ready = start.elapsed();
        let cpu_at_ready = measure::cpu(operator.pid()).unwrap_or_default();
        Ok(Running { operator, ready, cpu_at_ready })
    }

    /// Creates a robot through the API server; the simulator has it in its room, too.
    ///
    /// # Errors
    /// If it cannot be created.
    pub async fn create(&self, namespace: &str, name: &str, application: &str) -> Result<()> {
        let robot = json!({
            "apiVersion": "roomrobot.dev/v1alpha1", "kind": "RoomRobot",
            "metadata": {"name": name, "labels": {"app.kubernetes.io/part-of": "bench"}},
            "spec": {"roomId": room(namespace, 0), "memberAccount": name, "applicationRef": {"name": application}},
        });
        create(&self.robots(Some(namespace)), robot).await
    }

    /// Creates `count` robots through the API server, many at once.
    ///
    /// # Errors
    /// If one cannot be created.
    pub async fn create_many(&self, namespace: &str, count: usize, app: (&str, u32)) -> Result<()> {
        self.namespace(namespace).await?;
        let names: Vec<String> = (0..count).map(|n| format!("robot-{n:06}")).collect();
        self.room_engine.fill(app.1, &room(namespace, 0), &names).await?;
        stream::iter(&names)
            .map(|name| self.create(namespace, name, app.0))
            .buffer_unordered(32)
            .try_collect()
            .await
    }

    /// Lets the operator take a robot in charge, and keeps what is stored of it: settled, and with its deletion asked
    /// for. The application is held and trusted afterwards, and the operator is ended.
    ///
    /// # Errors
    /// If the robot is not taken in charge.
    pub async fn templates(&self) -> Result<Templates> {
        let namespace = "template";
        self.namespace(namespace).await?;
        self.create(namespace, "template", APPS[0].0).await?;
        let running = self.operator().await?;
        self.until_ready(namespace, 1).await?;
        let key = "/registry/roomrobot.dev/roomrobots/template/template";
        let settled = self.etcd.get(key).await?;
        end(running.operator).await?;
        self.robots(Some(namespace)).delete("template", &DeleteParams::default()).await.map_err(told)?;
        let pending = self.etcd.get(key).await?;
        self.etcd.delete("/registry/roomrobot.dev/roomrobots/").await?;
        self.until_robots(None, 0).await?;
        Ok(Templates { settled, pending })
    }

    /// Puts copies of the templates in place, and waits until the API server has them.
    ///
    /// # Errors
    /// If that cannot be done.
    pub async fn put(&self, templates: &Templates, crowd: Crowd<'_>) -> Result<()> {
        let Crowd { namespace, count, pending } = crowd;
        self.namespace(namespace).await?;
        let template = if pending { &templates.pending } else { &templates.settled };
        let copies = (0..count).map(|n| {
            let mut copy = template.clone();
            let name = format!("robot-{n:06}");
            let uid = uid();
            for (place, text) in [
                ("/metadata/name", name.as_str()),
                ("/metadata/namespace", namespace),
                ("/metadata/uid", uid.as_str()),
                ("/spec/roomId", room(namespace, n / ROOM).as_str()),
                ("/spec/memberAccount", name.as_str()),
            ] {
                if let Some(place) = copy.pointer_mut(place) {
                    *place = text.into();
                }
            }
            (format!("/registry/roomrobot.dev/roomrobots/{namespace}/{name}"), copy)
        });
        self.etcd.put(copies).await?;
        self.until_robots(Some(namespace), count).await
    }

    /// Lets the room engine have the robots of a crowd in their rooms.
    ///
    /// # Errors
    /// If it cannot be told.
    pub async fn fill(&self, crowd: Crowd<'_>, sdk_app_id: u32) -> Result<()> {
        let names: Vec<String> = (0..crowd.count).map(|n| format!("robot-{n:06}")).collect();
        for (n, members) in names.chunks(ROOM).enumerate() {
            self.room_engine.fill(sdk_app_id, &room(crowd.namespace, n), members).await?;
        }
        Ok(())
    }

    /// Waits until there are exactly `count` robots.
    ///
    /// # Errors
    /// If that takes too long.
    pub async fn until_robots(&self, namespace: Option<&str>, count: usize) -> Result<()> {
        let robots = self.robots(namespace);
        let start = Instant::now();
        while total(&robots.list_metadata(&ListParams::default().limit(1)).await.map_err(told)?) != count {
            if start.elapsed() > PATIENCE {
                return Err(Error(format!("there never were {count} robots in {namespace:?}")));
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// Waits until `count` deletions are over. Read off the audit log, so that looking costs the API server nothing.
    ///
    /// # Errors
    /// If that takes too long.
    pub async fn until_ended(&self, audit: &AuditLog, count: usize) -> Result<()> {
        let start = Instant::now();
        let (mut from, mut ended) = (0, 0);
        while ended < count {
            if start.elapsed() > PATIENCE {
                return Err(Error(format!("only {ended} of {count} deletions were over in time")));
            }
            tokio::time::sleep(LOOK).await;
            ended += audit.count(&mut from, &["\"op\":\"remove\"", "\"resource\":\"roomrobots\""])?;
        }
        Ok(())
    }

    /// Waits until the operator has taken `count` robots of the namespace in charge.
    ///
    /// # Errors
    /// If that takes too long.
    pub async fn until_ready(&self, namespace: &str, count: usize) -> Result<()> {
        let robots = self.robots(Some(namespace));
        let ready = |robot: &RoomRobot| {
            let conditions = robot.status.iter().flat_map(|status| &status.conditions);
            conditions.into_iter().any(|one| one.type_ == "Ready" && one.status == "True")
        };
        wait_for(PATIENCE, "the robots to be taken in charge", || async {
            let list = robots.list(&ListParams::default()).await;
            list.is_ok_and(|list| list.items.iter().filter(|robot| ready(robot)).count() == count)
        })
        .await
    }

    /// Waits until the application's status tells of `count` robots: nothing is left to be written.
    ///
    /// # Errors
    /// If that takes too long.
    pub async fn until_counted(&self, application: &str, count: usize) -> Result<()> {
        let api = Api::<RtcApplication>::all(self.client.clone());
        let wanted = i64::try_from(count).ok();
        wait_for(PATIENCE, "the application's counts", || async {
            let status = api.get(application).await.ok().and_then(|application| application.status);
            status.is_some_and(|status| status.robots == wanted && status.deleting == Some(0))
        })
        .await
    }

    /// Asks for the deletion of all robots of a namespace.
    ///
    /// # Errors
    /// If the API server refuses.
    pub async fn delete_all(&self, namespace: &str) -> Result<()> {
        let (params, all) = (DeleteParams::default(), ListParams::default());
        self.robots(Some(namespace)).delete_collection(&params, &all).await.map(drop).map_err(told)
    }

    /// Deletes the robots of a namespace one after the other, each when the one before is gone.
    ///
    /// # Errors
    /// If one does not go.
    pub async fn delete_singly(&self, namespace: &str) -> Result<()> {
        let robots = self.robots(Some(namespace));
        let list = robots.list_metadata(&ListParams::default()).await.map_err(told)?;
        for robot in &list.items {
            let name = robot.name_any();
            robots.delete(&name, &DeleteParams::default()).await.map_err(told)?;
            wait_for(PATIENCE, "a robot to be gone", || async {
                robots.get_metadata_opt(&name).await.is_ok_and(|robot| robot.is_none())
            })
            .await?;
        }
        Ok(())
    }

    /// What is written from now on.
    #[must_use]
    pub fn audit(&self) -> AuditLog {
        self.plane.audit_log()
    }

    /// Runs the floor over the robots that are being deleted, with a watch open beside it or without.
    ///
    /// # Errors
    /// If it fails.
    pub async fn floor(&self, at_once: usize, watch: bool) -> Result<(Done, Audited)> {
        let audit = self.audit();
        let token = account_token(self.plane).await?;
        let kubeconfig = self.plane.kubeconfig_for("floor", &token)?;
        let (_, sdk_app_id, key) = APPS[0];
        let mut command = Command::new(&self.programs.floor);
        command
            .args(["floor", "--endpoint", self.room_engine.endpoint(), "--key", key])
            .args(["--sdk-app-id", &sdk_app_id.to_string(), "--at-once", &at_once.to_string()])
            .args(watch.then_some("--watch"))
            .env("KUBECONFIG", kubeconfig)
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let child = self.plane.guardian().spawn(&mut command)?;
        let output = tokio::task::spawn_blocking(move || child.wait_with_output())
            .await
            .map_err(|error| Error::new("floor", error))?
            .map_err(|error| Error::new("floor", error))?;
        if !output.status.success() {
            return Err(Error::new("floor", output.status));
        }
        let done = serde_json::from_slice(&output.stdout).map_err(|error| Error::new("floor", error))?;
        Ok((done, Audited::read(&audit.entries()?)))
    }
}

/// Ends an operator in good order.
///
/// # Errors
/// If it does not end well.
pub async fn end(operator: Operator<'_>) -> Result<()> {
    let status = operator.terminate(Duration::from_secs(20)).await?;
    if status.success() { Ok(()) } else { Err(Error::new("the operator did not end well", status)) }
}

/// How many objects a list with a limit of one stands for.
fn total(list: &ObjectList<PartialObjectMeta<RoomRobot>>) -> usize {
    let more = list.metadata.remaining_item_count.and_then(|more| usize::try_from(more).ok());
    list.items.len() + more.unwrap_or_default()
}

/// A room's name: as long as they are in real life, and not the same for two namespaces.
fn room(namespace: &str, n: usize) -> String {
    format!("{namespace}-room-{n:05}")
}

/// A UID as the API server makes them.
fn uid() -> String {
    let mut digits = format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..));
    digits.replace_range(12..13, "4");
    digits.replace_range(16..17, "a");
    for place in [20, 16, 12, 8] {
        digits.insert(place, '-');
    }
    digits
}

async fn create<K>(api: &Api<K>, object: Value) -> Result<()>
where
    K: Clone + serde::Serialize + DeserializeOwned + Debug,
{
    let object = serde_json::from_value(object).map_err(|error| Error::new("object", error))?;
    api.create(&PostParams::default(), &object).await.map(drop).map_err(told)
}

#[allow(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
fn told(error: kube::Error) -> Error {
    Error(explain(&error))
}

/// The programs that stand beside this one.
///
/// # Errors
/// If this one does not know where it is.
pub fn beside(operator: &Path) -> Result<Programs> {
    let floor = std::env::current_exe().map_err(|error| Error::new("this program", error))?;
    let simulator = floor.with_file_name("room-engine-simulator");
    for program in [operator, &simulator] {
        if !program.is_file() {
            return Err(Error(format!("{} is not built; run `make bench`", program.display())));
        }
    }
    Ok(Programs { operator: operator.to_owned(), simulator, floor })
}
