//! What every test needs: a control plane to itself, a simulator, a namespace, an application, the operator.

use futures::StreamExt as _;
use k8s_openapi::api::{
    coordination::v1::Lease,
    core::v1::{Namespace, Secret},
    events::v1,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{
    Api, Client, Config, Resource, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
    runtime::watcher::{self, Event, watcher},
};
use roomrobot_core::{
    codes::{CODES, Code},
    crd::{RoomRobot, RtcApplication},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Condvar, Mutex, OnceLock},
    time::Duration,
};
use testbed::{
    audit::{AuditLog, Entry},
    control_plane::{self, ControlPlane, OPERATOR_NAMESPACE},
    operator::Operator,
    simulator::{Fault, Kind, Simulator},
};
use tokio::task::AbortHandle;

/// How long anything may take that should not take long.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The key of the test's application.
pub const KEY: &str = "5bd2850fff3ecb11d7c805251c51ee463a25727bddc2385f3fa8bfee1bb93b5e";

/// An endpoint whose name is not found, which is known at once even where there is no DNS server.
pub const NOWHERE: &str =
    "http://a-label-may-have-63-bytes-and-this-one-has-more-so-that-no-dns-server-is-asked.invalid";

/// What the operator may have of memory whatever happens; a debug build is larger than what is shipped.
const MOST_MEMORY: u64 = 40 * 1024 * 1024;

/// Control planes at once: tests mostly wait, but each costs some hundred MB.
const PLANES: usize = 5;

/// The operator's user name in the audit log.
const OPERATOR: &str = "system:serviceaccount:roomrobot-system:roomrobot-operator";

struct Pool {
    idle: Vec<ControlPlane>,
    made: usize,
}

static POOL: Mutex<Pool> = Mutex::new(Pool { idle: Vec::new(), made: 0 });
static RETURNED: Condvar = Condvar::new();

/// A control plane that nobody else uses at the moment.
pub struct Plane {
    plane: Option<ControlPlane>,
    /// It goes back to the pool; one that a test changes for good does not.
    pooled: bool,
}

impl Plane {
    /// Takes an idle one, or starts one more.
    pub async fn take() -> Self {
        let idle = {
            let mut pool = POOL.lock().unwrap();
            while pool.idle.is_empty() && pool.made >= PLANES {
                pool = RETURNED.wait(pool).unwrap();
            }
            let idle = pool.idle.pop();
            pool.made += usize::from(idle.is_none());
            idle
        };
        let plane = match idle {
            Some(plane) => plane,
            None => ControlPlane::start().await.unwrap(),
        };
        // The operator under test needs its namespace and rights before anything else.
        plane.install_rights().unwrap();
        let this = Self { plane: Some(plane), pooled: true };
        this.install_crds_and_clean().await;
        this
    }

    /// Starts one for this test alone.
    pub async fn own() -> Self {
        let plane = ControlPlane::start().await.unwrap();
        plane.install_rights().unwrap();
        plane.install_crds().await.unwrap();
        Self { plane: Some(plane), pooled: false }
    }

    /// Starts one for this test alone, with nothing installed.
    pub async fn bare() -> Self {
        Self { plane: Some(ControlPlane::start().await.unwrap()), pooled: false }
    }

    async fn install_crds_and_clean(&self) {
        self.install_crds().await.unwrap();
        let client = self.client().await.unwrap();
        let none = Patch::Merge(json!({"metadata": {"finalizers": null}}));
        let params = PatchParams::default();
        let robots = Api::<RoomRobot>::all(client.clone());
        for robot in robots.list(&ListParams::default()).await.unwrap() {
            let api = Api::<RoomRobot>::namespaced(client.clone(), &robot.namespace().unwrap());
            let _ = api.delete(&robot.name_any(), &DeleteParams::default()).await;
            let _ = api.patch(&robot.name_any(), &params, &none).await;
        }
        let applications = Api::<RtcApplication>::all(client.clone());
        for application in applications.list(&ListParams::default()).await.unwrap() {
            let _ = applications.delete(&application.name_any(), &DeleteParams::default()).await;
            let _ = applications.patch(&application.name_any(), &params, &none).await;
        }
        let _ = Api::<Lease>::namespaced(client.clone(), OPERATOR_NAMESPACE)
            .delete_collection(&DeleteParams::default(), &ListParams::default())
            .await;
        let _ = Api::<Secret>::namespaced(client, OPERATOR_NAMESPACE)
            .delete_collection(&DeleteParams::default(), &ListParams::default())
            .await;
    }
}

impl std::ops::Deref for Plane {
    type Target = ControlPlane;

    fn deref(&self) -> &ControlPlane {
        self.plane.as_ref().unwrap()
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        if self.pooled {
            if let Ok(mut pool) = POOL.lock() {
                pool.idle.extend(self.plane.take());
            }
            RETURNED.notify_one();
        }
    }
}

/// One test's world.
pub struct World {
    pub plane: Plane,
    pub client: Client,
    pub simulator: Simulator,
    pub namespace: String,
    pub app: String,
    pub sdk_app_id: u32,
    pub audit: AuditLog,
    seen: Arc<Mutex<Seen>>,
    watch: AbortHandle,
}

impl Drop for World {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

/// A random name that starts with `prefix`.
pub fn unique(prefix: &str) -> String {
    format!("{prefix}-{:08x}", fastrand::u32(..))
}

impl World {
    /// A control plane with the resources, a simulator that knows the application, a namespace, and the application
    /// with its Secret; no operator yet.
    pub async fn new() -> Self {
        let this = Self::bare().await;
        this.secret(&this.app, json!({"secretKey": KEY})).await;
        this.application(&this.app, json!({})).await;
        this
    }

    /// The same without application and Secret.
    pub async fn bare() -> Self {
        Self::on(Plane::take().await).await
    }

    /// The same on this control plane.
    pub async fn on(plane: Plane) -> Self {
        let client = plane.client().await.unwrap();
        let simulator = Simulator::local().await.unwrap();
        let sdk_app_id = 1_400_000_000 + fastrand::u32(..1_000_000);
        simulator.add_app(sdk_app_id, KEY);
        let namespace = unique("t");
        create_namespace(&client, &namespace).await;
        let audit = plane.audit_log();
        let seen = Arc::default();
        let watch = watch_robots(&plane, Arc::clone(&seen)).await;
        Self { plane, client, simulator, namespace, app: unique("app"), sdk_app_id, audit, seen, watch }
    }

    /// Ends this test's own watch, whose every view would be kept: for objects that are too large for that.
    pub fn look_away(&self) {
        self.watch.abort();
    }

    /// Starts the operator and waits until it is ready.
    pub async fn operator(&self) -> Operator<'_> {
        self.operator_with(&[]).await
    }

    /// The same with more arguments.
    pub async fn operator_with(&self, args: &[&str]) -> Operator<'_> {
        let operator = self.spawn_operator(args).await;
        operator.wait_ready().await.unwrap();
        operator
    }

    /// The same with environment variables, which replace what the flags would say.
    pub async fn operator_with_env(&self, args: &[&str], env: &[(&str, &str)]) -> Operator<'_> {
        let operator = self.spawn_with_env(args, env).await;
        operator.wait_ready().await.unwrap();
        operator
    }

    /// The same without waiting.
    pub async fn spawn_with_env(&self, args: &[&str], env: &[(&str, &str)]) -> Operator<'_> {
        let endpoint = self.simulator.endpoint();
        let all = [&[("ROOMROBOT_ALLOW_ENDPOINT", endpoint.as_str()), ("ROOMROBOT_LOG_FORMAT", "json")], env]
            .concat();
        self.launch(args, &all).await
    }

    /// Starts the operator without waiting.
    pub async fn spawn_operator(&self, args: &[&str]) -> Operator<'_> {
        let endpoint = self.simulator.endpoint();
        let all = [&["--allow-endpoint", &endpoint, "--log-format", "json"], args].concat();
        self.launch(&all, &[]).await
    }

    async fn launch(&self, args: &[&str], env: &[(&str, &str)]) -> Operator<'_> {
        let operator = Operator::spawn(&self.plane, binary(), args, env).await.unwrap();
        operator.with_most_memory(MOST_MEMORY)
    }

    /// Creates or replaces a Secret in the operator's namespace.
    pub async fn secret(&self, name: &str, data: Value) {
        let api = Api::<Secret>::namespaced(self.client.clone(), OPERATOR_NAMESPACE);
        let _ = api.delete(name, &DeleteParams::default()).await;
        create(&api, json!({"metadata": {"name": name}, "stringData": data})).await;
    }

    /// Creates an application for the simulator, with `more` in its spec.
    pub async fn application(&self, name: &str, more: Value) -> RtcApplication {
        let mut spec = json!({
            "sdkAppId": self.sdk_app_id,
            "endpoint": self.simulator.endpoint(),
            "credentials": {"secretRef": {"name": self.app}},
        });
        merge(&mut spec, more);
        create(&self.applications(), manifest::<RtcApplication>(name, spec)).await
    }

    pub fn applications(&self) -> Api<RtcApplication> {
        Api::all(self.client.clone())
    }

    pub fn robots(&self) -> Api<RoomRobot> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Puts a robot into a room of the simulator, and creates the resource for it: `name` is room and member, too.
    pub async fn robot(&self, name: &str) -> RoomRobot {
        self.simulator.add_members(self.sdk_app_id, name, [name]);
        self.robot_with(name, json!({})).await
    }

    /// Creates the resource only, with `more` in its spec.
    pub async fn robot_with(&self, name: &str, more: Value) -> RoomRobot {
        let mut spec = json!({"roomId": name, "memberAccount": name, "applicationRef": {"name": self.app}});
        merge(&mut spec, more);
        let robot = create(&self.robots(), manifest::<RoomRobot>(name, spec)).await;
        self.seen.lock().unwrap().created(&robot);
        robot
    }

    /// Creates `count` robots named `prefix-N`, in the simulator as well, and waits until all are accepted.
    pub async fn crowd(&self, prefix: &str, count: usize) -> Vec<String> {
        let names: Vec<String> = (0..count).map(|n| format!("{prefix}-{n}")).collect();
        futures::stream::iter(&names)
            .for_each_concurrent(16, |name| async { drop(self.robot(name).await) })
            .await;
        self.all_ready(count).await;
        names
    }

    /// Waits until `count` robots of the namespace are Ready.
    pub async fn all_ready(&self, count: usize) {
        eventually("all robots are Ready", || async {
            let list = self.robots().list(&ListParams::default()).await.unwrap();
            list.items.iter().filter(|robot| is_true(robot, "Ready")).count() == count
        })
        .await;
    }

    /// Waits until the operator has taken charge.
    pub async fn ready(&self, name: &str) {
        self.robot_until(name, "is Ready", |robot| is_true(robot, "Ready")).await;
    }

    /// Waits until the stored robot is as `wanted`, and returns it.
    pub async fn robot_until(
        &self,
        name: &str,
        what: &str,
        wanted: impl Fn(&RoomRobot) -> bool,
    ) -> RoomRobot {
        let mut last = None;
        let start = std::time::Instant::now();
        while start.elapsed() < PATIENCE {
            last = self.robots().get_opt(name).await.unwrap();
            if let Some(robot) = last.as_ref().filter(|robot| wanted(robot)) {
                return robot.clone();
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!(
            "robot {name}: never {what}; last: {:?}",
            last.map(|robot| serde_json::json!([robot.metadata.finalizers, robot.status]).to_string())
        );
    }

    /// Waits until the deletion waits for `reason`.
    pub async fn waits_for(&self, name: &str, reason: &str) -> RoomRobot {
        self.robot_until(name, reason, |robot| reason_of(robot, "RobotDeleted") == Some(reason)).await
    }

    /// Adopts a robot and deletes it, which the room engine always answers with `kind`: the deletion waits for `reason`.
    pub async fn stuck(&self, name: &str, kind: Kind, reason: &str) -> RoomRobot {
        self.simulator.fail(Fault::always(kind).room(name));
        self.robot(name).await;
        self.ready(name).await;
        self.delete(name).await;
        self.waits_for(name, reason).await
    }

    /// Waits until the application's Ready has `reason`.
    pub async fn application_until(&self, reason: &str) -> RtcApplication {
        self.application_until_within(reason, PATIENCE).await
    }

    /// The same with a limit of its own.
    pub async fn application_until_within(&self, reason: &str, limit: Duration) -> RtcApplication {
        let mut last = None;
        let start = std::time::Instant::now();
        while start.elapsed() < limit {
            let application = self.applications().get(&self.app).await.unwrap();
            let conditions = application.status.clone().unwrap_or_default().conditions;
            if conditions.iter().any(|condition| condition.type_ == "Ready" && condition.reason == reason) {
                return application;
            }
            last = Some(conditions);
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("application never {reason}; last: {last:#?}");
    }

    /// Deletes the application though robots refer to it.
    pub async fn delete_application_by_force(&self) {
        self.applications().delete(&self.app, &DeleteParams::default()).await.unwrap();
        self.patch_application(json!({"metadata": {"finalizers": null}})).await;
        eventually("the application is gone", || async {
            self.applications().get_opt(&self.app).await.unwrap().is_none()
        })
        .await;
    }

    /// Asks for the deletion of a robot and does not wait.
    pub async fn delete(&self, name: &str) {
        self.robots().delete(name, &DeleteParams::default()).await.unwrap();
    }

    /// Asks for the deletion of all robots of the namespace, one by one as `kubectl delete --all` does: the API server
    /// deletes a collection with one hand, and gives up on a large one after a minute.
    pub async fn delete_all(&self) {
        let robots = self.robots();
        let list = robots.list_metadata(&ListParams::default()).await.unwrap();
        futures::stream::iter(list.items)
            .for_each_concurrent(16, |robot| {
                let robots = robots.clone();
                async move {
                    match robots.delete(&robot.name_any(), &DeleteParams::default()).await {
                        Ok(_) => {}
                        Err(kube::Error::Api(status)) if status.is_not_found() => {}
                        Err(error) => panic!("{}: {error}", robot.name_any()),
                    }
                }
            })
            .await;
    }

    /// Asks for the deletion of all robots of the namespace, and lets them go at `rate` a second only once all of them
    /// are being deleted: however slow the machine is, what a test does next happens in the drain.
    pub async fn drain_at(&self, rate: u32) {
        self.patch_application(json!({"spec": {"requestsPerSecond": 1}})).await;
        self.delete_all().await;
        self.patch_application(json!({"spec": {"requestsPerSecond": rate}})).await;
    }

    /// Waits until a robot is gone, and returns what the DELETED event carried.
    pub async fn gone(&self, name: &str) -> RoomRobot {
        let found = || self.deleted(name);
        let start = std::time::Instant::now();
        while start.elapsed() < PATIENCE {
            if let Some(robot) = found() {
                return robot;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        let last = self.robots().get_opt(name).await.unwrap();
        panic!(
            "robot {name} is not gone; last: {:?}",
            last.map(|robot| serde_json::json!([robot.metadata.finalizers, robot.status]).to_string())
        );
    }

    /// Waits until no robot of the namespace is left.
    pub async fn all_gone(&self, limit: Duration) {
        let robots = self.robots();
        control_plane::wait_for(limit, "all robots to be gone", || async {
            robots
                .list_metadata(&ListParams::default().limit(1))
                .await
                .is_ok_and(|list| list.items.is_empty())
        })
        .await
        .unwrap();
    }

    fn deleted(&self, name: &str) -> Option<RoomRobot> {
        let of_this = |robot: &&RoomRobot| {
            robot.name_any() == name && robot.namespace().as_deref() == Some(&self.namespace)
        };
        self.seen.lock().unwrap().deleted.iter().find(of_this).cloned()
    }

    /// The last views of all robots of all namespaces that were deleted while somebody watched.
    pub fn all_deleted(&self) -> Vec<RoomRobot> {
        self.seen.lock().unwrap().deleted.clone()
    }

    /// Every view of a robot that a watcher had, the last one first seen as DELETED.
    pub fn views(&self, name: &str) -> Vec<RoomRobot> {
        let seen = self.seen.lock().unwrap();
        seen.views.iter().filter(|robot| robot.name_any() == name).cloned().collect()
    }

    /// Waits until every robot that is not stored any more has been seen to be gone; returns what was seen of all.
    pub async fn seen(&self) -> Seen {
        let start = std::time::Instant::now();
        loop {
            let list = Api::<RoomRobot>::all(self.client.clone()).list_metadata(&ListParams::default()).await;
            let stored: BTreeSet<String> = list.unwrap().iter().filter_map(ResourceExt::uid).collect();
            let seen = self.seen.lock().unwrap().clone();
            let missed: Vec<String> = seen
                .present
                .values()
                .filter(|robot| !stored.contains(&uid(robot)))
                .map(ResourceExt::name_any)
                .collect();
            if missed.is_empty() {
                return seen;
            }
            assert!(start.elapsed() < PATIENCE, "nobody saw these leave: {missed:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub async fn patch(&self, name: &str, patch: Value) {
        self.robots().patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    }

    pub async fn patch_application(&self, patch: Value) {
        self.applications().patch(&self.app, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    }

    /// What the operator wrote to RoomRobots, and got through.
    pub fn robot_writes(&self) -> Vec<Entry> {
        self.writes().into_iter().filter(|entry| entry.object_ref.resource == "roomrobots").collect()
    }

    /// What the operator wrote, and got through, but for its Lease; in the order in which it came in. The log has it in
    /// the order in which its lines were written, a moment after the answers.
    pub fn writes(&self) -> Vec<Entry> {
        self.attempts().into_iter().filter(|entry| entry.response_status.code < 300).collect()
    }

    /// As [`World::writes`], with those that failed.
    pub fn attempts(&self) -> Vec<Entry> {
        let entries = self.audit.entries().unwrap();
        let by_operator = entries.into_iter().filter(|entry| entry.user.username == OPERATOR);
        let mut writes: Vec<Entry> = by_operator
            .filter(|entry| matches!(entry.verb.as_str(), "create" | "update" | "patch" | "delete"))
            .filter(|entry| entry.object_ref.resource != "leases")
            .collect();
        writes.sort_by_key(|entry| entry.request_received_timestamp.0);
        writes
    }

    /// What the operator tried to create where nothing can be created, as in a namespace that dies.
    pub fn refused_creations(&self) -> usize {
        let refused = |entry: &&Entry| entry.verb == "create" && entry.response_status.code == 403;
        self.attempts().iter().filter(refused).count()
    }

    /// Waits until there is an Event about an object that has `reason`, and returns it. Ten a second are published of
    /// each kind, and others not at all: where many end at once, not every one has its Event.
    pub async fn announced(&self, name: &str, reason: &str) -> v1::Event {
        let start = std::time::Instant::now();
        let mut seen = Vec::new();
        while start.elapsed() < PATIENCE {
            let events = self.events_about(name).await;
            if let Some(event) = events.iter().find(|event| event.reason.as_deref() == Some(reason)) {
                return event.clone();
            }
            seen = events.into_iter().filter_map(|event| event.reason).collect();
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("no Event {reason} about {name}; there is {seen:?}");
    }

    /// Events about an object of this test's namespace, or about one of the cluster, wherever they are stored. Those of
    /// the tests before are still there.
    pub async fn events_about(&self, name: &str) -> Vec<v1::Event> {
        let list = Api::<v1::Event>::all(self.client.clone()).list(&ListParams::default()).await.unwrap();
        let about = |event: &v1::Event| {
            event.regarding.as_ref().is_some_and(|object| {
                object.name.as_deref() == Some(name)
                    && object.namespace.as_ref().is_none_or(|namespace| *namespace == self.namespace)
            })
        };
        list.items.into_iter().filter(about).collect()
    }
}

/// The operator's binary.
pub fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_roomrobot-operator"))
}

/// The kubectl plugin, which is built where it is not: cargo builds the programs of the test's own package only.
pub fn plugin() -> &'static Path {
    static PLUGIN: OnceLock<PathBuf> = OnceLock::new();
    PLUGIN.get_or_init(|| {
        let built = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--locked", "--workspace", "--bin", "kubectl-roomrobot"])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status();
        assert!(built.unwrap().success(), "kubectl-roomrobot cannot be built");
        binary().with_file_name("kubectl-roomrobot")
    })
}

pub async fn create_namespace(client: &Client, name: &str) {
    let api = Api::<Namespace>::all(client.clone());
    create(&api, json!({"metadata": {"name": name}})).await;
}

/// What a watcher saw of the robots of all namespaces, and which ones the test created.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Every view, in the order in which they came.
    views: Vec<RoomRobot>,
    /// The last view of each that is there, by UID.
    pub present: BTreeMap<String, RoomRobot>,
    /// What the DELETED events carried.
    pub deleted: Vec<RoomRobot>,
    /// The last views of those that left while the watch was cut.
    pub vanished: BTreeMap<String, RoomRobot>,
    listed: BTreeSet<String>,
    begun: bool,
}

impl Seen {
    /// A robot that may be gone before the watch has it.
    fn created(&mut self, robot: &RoomRobot) {
        if !self.deleted.iter().chain(self.vanished.values()).any(|gone| uid(gone) == uid(robot)) {
            self.present.entry(uid(robot)).or_insert_with(|| robot.clone());
        }
    }

    fn stored(&mut self, robot: RoomRobot) {
        // One that was created during a list and is not in it.
        self.vanished.remove(&uid(&robot));
        let before = self.present.insert(uid(&robot), robot.clone());
        if before.is_none_or(|before| before.resource_version() != robot.resource_version()) {
            self.views.push(robot);
        }
    }

    fn take(&mut self, event: Event<RoomRobot>) {
        match event {
            Event::Init => self.listed.clear(),
            Event::InitApply(robot) => {
                self.listed.insert(uid(&robot));
                self.stored(robot);
            }
            Event::InitDone => {
                let gone = self.present.extract_if(.., |uid, _| !self.listed.contains(uid));
                self.vanished.extend(gone);
                self.begun = true;
            }
            Event::Apply(robot) => self.stored(robot),
            Event::Delete(robot) => {
                self.present.remove(&uid(&robot));
                self.vanished.remove(&uid(&robot));
                self.views.push(robot.clone());
                self.deleted.push(robot);
            }
        }
    }
}

/// Watches from now on. An API server that was restarted forgets what it could have told; then all are listed anew.
async fn watch_robots(plane: &ControlPlane, seen: Arc<Mutex<Seen>>) -> AbortHandle {
    let kubeconfig = Kubeconfig::read_from(plane.admin_kubeconfig()).unwrap();
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    // A client that waits longer each time would miss what happens meanwhile.
    config.default_retry = false;
    roomrobot_client::proxy::spare(&mut config);
    let client = Client::try_from(config).unwrap();
    let api = Api::<RoomRobot>::all(client);
    let installed = api.list_metadata(&ListParams::default().limit(1)).await.is_ok();
    let notes = Arc::clone(&seen);
    let task = tokio::spawn(async move {
        let mut events = watcher(api, watcher::Config::default()).boxed();
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => notes.lock().unwrap().take(event),
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    });
    if installed {
        eventually("the watch begins", || async { seen.lock().unwrap().begun }).await;
    }
    task.abort_handle()
}

pub fn uid(robot: &RoomRobot) -> String {
    robot.uid().unwrap()
}

/// Creates an object from its JSON.
pub async fn create<K>(api: &Api<K>, object: Value) -> K
where
    K: Clone + Serialize + DeserializeOwned + Debug,
{
    api.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap()
}

/// An object of ours with this spec.
#[allow(clippy::needless_pass_by_value, reason = "made on the spot at every call")]
pub fn manifest<K: Resource<DynamicType = ()>>(name: &str, spec: Value) -> Value {
    json!({"apiVersion": K::api_version(&()), "kind": K::kind(&()), "metadata": {"name": name}, "spec": spec})
}

fn merge(into: &mut Value, more: Value) {
    let Value::Object(more) = more else { panic!("not an object: {more}") };
    for (key, value) in more {
        into[key] = value;
    }
}

/// Each code that stops its application, and how often it has to come: an expired UserSig is signed anew once.
/// 70050, which forbids new attempts for a minute, has tests of its own.
pub fn codes_that_stop() -> impl Iterator<Item = (&'static Code, u32)> {
    let stopping = CODES.iter().filter(|row| row.class.stops_application() && row.code != 70050);
    stopping.map(|row| (row, if row.code == 70001 { 2 } else { 1 }))
}

pub fn conditions(robot: &RoomRobot) -> &[Condition] {
    robot.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default()
}

pub fn condition<'a>(robot: &'a RoomRobot, kind: &str) -> Option<&'a Condition> {
    conditions(robot).iter().find(|condition| condition.type_ == kind)
}

pub fn is_true(robot: &RoomRobot, kind: &str) -> bool {
    condition(robot, kind).is_some_and(|condition| condition.status == "True")
}

pub fn reason_of<'a>(robot: &'a RoomRobot, kind: &str) -> Option<&'a str> {
    condition(robot, kind).map(|condition| condition.reason.as_str())
}

pub fn message_of<'a>(robot: &'a RoomRobot, kind: &str) -> &'a str {
    condition(robot, kind).map(|condition| condition.message.as_str()).unwrap_or_default()
}

/// Whether no RoomRobot is left. Asked again and again, so it costs little.
pub async fn is_empty(robots: &Api<RoomRobot>) -> bool {
    robots.list_metadata(&ListParams::default().limit(1)).await.unwrap().items.is_empty()
}

/// Whether an operator acts.
pub fn leads(operator: &Operator<'_>) -> bool {
    operator.get("/metrics").is_some_and(|text| text.lines().any(|line| line == "roomrobot_leader 1"))
}

/// Waits until `done` says so.
pub async fn eventually<F: Future<Output = bool>>(what: &str, done: impl FnMut() -> F) {
    control_plane::wait_for(PATIENCE, what, done).await.unwrap();
}
