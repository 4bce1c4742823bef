//! The life of a release on a real API server: install, work, upgrade, rollback, uninstall.

use super::{
    helm::{Cluster, NAMESPACE, RELEASE, Said, chart, documents, file, template},
    rights, values,
};
use crate::harness::{
    KEY, PATIENCE, Plane, World, binary, create, create_namespace, eventually, is_true, leads, manifest,
    reason_of, unique,
};
use clap::Parser as _;
use k8s_openapi::{
    api::{apps::v1::Deployment, core::v1::PodSpec},
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams},
};
use roomrobot_core::crd::{ROBOT_FINALIZER, RoomRobot};
use roomrobot_operator::cli::Cli;
use serde_json::{Value, json};
use std::{
    fs, iter,
    path::{Path, PathBuf},
    process::Command,
};
use tempfile::TempDir;
use testbed::{operator::Operator, tool::labelled};

/// What a user installs the release with: one application, its key inline as for a trial.
pub struct Install {
    chart: PathBuf,
    values: String,
    _folder: TempDir,
}

impl Install {
    #[allow(clippy::needless_pass_by_value, reason = "made on the spot at every call")]
    pub fn new(world: &World, more: Value) -> Self {
        let mut values = json!({
            "allowEndpoints": [world.simulator.endpoint()],
            "applications": [{
                "name": world.app,
                "spec": {"sdkAppId": world.sdk_app_id, "endpoint": world.simulator.endpoint()},
                "secret": {"secretKey": KEY},
            }],
        });
        for (key, value) in more.as_object().unwrap() {
            values[key] = value.clone();
        }
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("values.json");
        fs::write(&path, values.to_string()).unwrap();
        Self { chart: chart(), values: path.display().to_string(), _folder: folder }
    }

    pub fn args(&self, verb: &'static str) -> Vec<&str> {
        vec![verb, RELEASE, self.chart.to_str().unwrap(), "-f", &self.values]
    }
}

pub async fn deployment(world: &World) -> Deployment {
    Api::<Deployment>::namespaced(world.client.clone(), NAMESPACE).get(RELEASE).await.unwrap()
}

async fn pod_spec(world: &World) -> PodSpec {
    deployment(world).await.spec.unwrap().template.spec.unwrap()
}

async fn start(world: &World) -> Operator<'_> {
    let pod = pod_spec(world).await;
    let operator = Operator::spawn_pod(&world.plane, binary(), NAMESPACE, &pod).await.unwrap();
    operator.wait_ready().await.unwrap();
    operator
}

/// A robot of the world's application in any namespace, born with these labels, and in a room of the same name.
async fn robot_in(world: &World, namespace: &str, name: &str, labels: Value) -> RoomRobot {
    world.simulator.add_members(world.sdk_app_id, name, [name]);
    let spec = json!({"roomId": name, "memberAccount": name, "applicationRef": {"name": world.app}});
    let mut robot = manifest::<RoomRobot>(name, spec);
    robot["metadata"]["labels"] = labels;
    create(&Api::<RoomRobot>::namespaced(world.client.clone(), namespace), robot).await
}

/// Whether a RoomRobot of this namespace and these labels would be born with its finalizer.
async fn is_born_with_it(world: &World, namespace: &str, labels: &Value) -> bool {
    let name = unique("probe");
    let api = Api::<RoomRobot>::namespaced(world.client.clone(), namespace);
    let robot = robot_in(world, namespace, &name, labels.clone()).await;
    api.delete(&name, &DeleteParams::default()).await.unwrap();
    let _ = api
        .patch(&name, &PatchParams::default(), &Patch::Merge(json!({"metadata": {"finalizers": null}})))
        .await;
    robot.finalizers() == [ROBOT_FINALIZER]
}

/// What a release leaves in the cluster: its definitions, and the keys of these applications.
fn only_these_are_left(world: &World, applications: &[&str]) {
    let mut wanted: Vec<String> = ["roomrobots", "rtcapplications"]
        .map(|kind| format!("customresourcedefinition.apiextensions.k8s.io/{kind}.roomrobot.dev"))
        .into();
    wanted.extend(applications.iter().map(|name| format!("secret/{RELEASE}-{name}")));
    assert_eq!(labelled(RELEASE, |args| world.plane.run_kubectl(args, None)).unwrap(), wanted);
}

fn only(ran: &[Said]) -> &Said {
    let [one] = ran else { panic!("{ran:?}") };
    one
}

/// One `helm install`, with an application: then everything works, under the rights of the chart.
#[tokio::test(flavor = "multi_thread")]
async fn the_life_of_a_release() {
    let world = World::on(Plane::bare().await).await;
    let mut cluster = Cluster { world: &world, service: None };
    cluster.create_namespace().await;
    let install = Install::new(&world, json!({}));
    let (said, ran) = cluster.helm(&install.args("install")).await;
    let notes = said.quietly();
    assert!(notes.contains(&format!("kubectl get rtcapplications {}", world.app)), "{notes}");
    assert_eq!(only(&ran).out, format!("RtcApplication {} applied\n", world.app));

    // The cluster serves the policy, so `auto` has it.
    let policy = ["get", "mutatingadmissionpolicies,mutatingadmissionpolicybindings", RELEASE, "-o", "name"];
    assert_eq!(world.plane.run_kubectl(&policy, None).unwrap().lines().count(), 2);

    // What the Deployment says, as processes: two replicas, of which one acts.
    let stored = deployment(&world).await;
    assert_eq!(stored.spec.as_ref().unwrap().replicas, Some(2));
    cluster.admit(RELEASE, &pod_spec(&world).await);
    let first = start(&world).await;
    eventually("the first leads", || async { leads(&first) }).await;
    let second = start(&world).await;

    // `helm test`.
    cluster.service = Some(first.address());
    let (said, ran) = cluster.helm(&["test", RELEASE]).await;
    said.quietly();
    let checked = &only(&ran).out;
    for line in [
        "The resources are served.",
        "The operator is ready.",
        &format!("RtcApplication {} is ready", world.app),
    ] {
        assert!(checked.contains(line), "{checked}");
    }

    // The main job, before and after a change of the leader.
    for name in ["before", "after"] {
        world.robot(name).await;
        world.ready(name).await;
    }
    world.delete("before").await;
    assert_eq!(reason_of(&world.gone("before").await, "RobotDeleted"), Some("Deleted"));
    first.ask_to_end().unwrap();
    eventually("the second leads", || async { leads(&second) }).await;
    drop(first);
    world.delete("after").await;
    assert_eq!(reason_of(&world.gone("after").await, "RobotDeleted"), Some("Deleted"));
    assert_eq!(world.simulator.calls().len(), 2);

    // An upgrade brings a change of the values to the application.
    let changed = Install::new(
        &world,
        json!({"applications": [{
            "name": world.app,
            "spec": {"sdkAppId": world.sdk_app_id, "endpoint": world.simulator.endpoint(), "requestsPerSecond": 50},
            "secret": {"secretKey": KEY},
        }]}),
    );
    let (said, ran) = cluster.helm(&changed.args("upgrade")).await;
    said.quietly();
    assert!(only(&ran).ok);
    assert_eq!(world.applications().get(&world.app).await.unwrap().spec.requests_per_second, 50);
    let (said, _) = cluster.helm(&["rollback", RELEASE, "1"]).await;
    said.quietly();
    // What the values no longer say goes back to the default.
    assert_eq!(world.applications().get(&world.app).await.unwrap().spec.requests_per_second, 200);

    // Uninstall stops with a list, as often as it is tried, and everything stays.
    for name in ["stays", "waits"] {
        world.robot(name).await;
        world.ready(name).await;
    }
    for _ in 0..2 {
        let (said, ran) = cluster.helm(&["uninstall", RELEASE]).await;
        assert!(!said.ok && said.err.contains("Job/roomrobot-system/roomrobot-operator-guard"), "{said:?}");
        let list = &only(&ran).err;
        assert!(list.contains("2 RoomRobots remain") && list.contains("kubectl delete roomrobots"), "{list}");
        for name in ["stays", "waits"] {
            assert!(list.contains(&format!("  {}/{name}  (Adopted)\n", world.namespace)), "{list}");
        }
        deployment(&world).await;
    }
    // A person who thinks better of it: Helm takes the release for one that is going, until it is rolled back to itself.
    let (said, _) = cluster.helm(&changed.args("upgrade")).await;
    assert!(!said.ok && said.err.contains("has no deployed releases"), "{said:?}");
    cluster.helm(&["rollback", RELEASE, "3"]).await.0.quietly();
    cluster.helm(&changed.args("upgrade")).await.0.quietly();

    world.delete_all().await;
    world.gone("stays").await;
    world.gone("waits").await;
    rights::nothing_was_refused(&world);
    let (said, ran) = cluster.helm(&["uninstall", RELEASE]).await;
    assert!(said.ok, "{said:?}");
    assert_eq!(only(&ran).out, "No RoomRobot remains: the operator can go.\n");
    let client = world.client.clone();
    // The definitions stay, and with them what was made from the values; nothing holds it any more.
    let application = world.applications().get(&world.app).await.unwrap();
    assert_eq!(application.finalizers(), [] as [String; 0]);
    only_these_are_left(&world, &[&world.app]);

    // And it can be installed again over what stayed.
    let (said, ran) = cluster.helm(&install.args("install")).await;
    said.quietly();
    assert!(only(&ran).ok);
    // With definitions that do not stay, all goes.
    let mut args = install.args("upgrade");
    args.extend(["--set", "crds.keep=false"]);
    cluster.helm(&args).await.0.quietly();
    let (said, _) = cluster.helm(&["uninstall", RELEASE]).await;
    assert!(said.ok, "{said:?}");
    eventually("the definitions are gone", || async {
        let crds = Api::<CustomResourceDefinition>::all(client.clone());
        crds.get_opt("roomrobots.roomrobot.dev").await.unwrap().is_none()
            && crds.get_opt("rtcapplications.roomrobot.dev").await.unwrap().is_none()
    })
    .await;
    drop(second);
}

/// All that a release does but its end.
async fn a_robots_life(world: &World, cluster: &Cluster<'_>) {
    cluster.helm(&["test", RELEASE]).await.0.quietly();
    world.robot("r").await;
    world.ready("r").await;
    world.delete("r").await;
    world.gone("r").await;
    // The robot's end becomes an Event, and the application is let go.
    world.announced("r", "Deleted").await;
    eventually("the application is let go", || async {
        world.applications().get(&world.app).await.unwrap().finalizers().is_empty()
    })
    .await;
}

/// The rights are compared where the whole of the release's life is in the audit log but nothing of its end.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_granted_is_what_is_used() {
    let world = World::on(Plane::bare().await).await;
    let mut cluster = Cluster { world: &world, service: None };
    cluster.create_namespace().await;
    let install = Install::new(&world, json!({}));
    cluster.helm(&install.args("install")).await.0.quietly();
    let operator = start(&world).await;
    cluster.service = Some(operator.address());
    a_robots_life(&world, &cluster).await;
    // It is created once, and patched from then on.
    eventually("the Lease is renewed", || async { rights::uses(&world, "leases", "patch") }).await;
    rights::compare(&world, 17).await;
    rights::people_learn_about_robots(&world).await;
}

/// The same for a release that serves one namespace and elects nobody.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_granted_for_one_namespace_is_what_is_used() {
    let world = World::on(Plane::bare().await).await;
    let mut cluster = Cluster { world: &world, service: None };
    cluster.create_namespace().await;
    let part = json!({"watchNamespaces": [world.namespace], "replicaCount": 1, "leaderElection": {"enabled": false}});
    cluster.helm(&Install::new(&world, part).args("install")).await.0.quietly();
    let operator = start(&world).await;
    cluster.service = Some(operator.address());
    a_robots_life(&world, &cluster).await;
    rights::compare(&world, 13).await;
}

/// A watched namespace can be deleted with robots in it, and the others are served without it, by the next process as well.
#[tokio::test(flavor = "multi_thread")]
async fn a_watched_namespace_can_be_deleted() {
    let world = World::on(Plane::bare().await).await;
    let cluster = Cluster { world: &world, service: None };
    cluster.create_namespace().await;
    let doomed = unique("doomed");
    create_namespace(&world.client, &doomed).await;
    let watched = Install::new(&world, json!({"watchNamespaces": [world.namespace, doomed]}));
    cluster.helm(&watched.args("install")).await.0.quietly();
    let operator = start(&world).await;
    let robots = Api::<RoomRobot>::namespaced(world.client.clone(), &doomed);
    for name in ["one", "two"] {
        robot_in(&world, &doomed, name, json!({})).await;
        eventually("it is Ready", || async { is_true(&robots.get(name).await.unwrap(), "Ready") }).await;
    }
    world.plane.run_kubectl(&["delete", "namespace", &doomed, "--timeout=120s"], None).unwrap();
    for name in ["one", "two"] {
        let calls = world.simulator.calls_about(name, name);
        assert_eq!(calls.iter().map(|call| call.code).collect::<Vec<_>>(), [Some(0)]);
    }

    operator.terminate(PATIENCE).await.unwrap();
    let _operator = start(&world).await;
    world.robot("elsewhere").await;
    world.ready("elsewhere").await;
    world.delete("elsewhere").await;
    assert_eq!(reason_of(&world.gone("elsewhere").await, "RobotDeleted"), Some("Deleted"));
    rights::nothing_was_refused(&world);
}

/// Upgrades that take something away: the election of a leader, an application.
#[tokio::test(flavor = "multi_thread")]
async fn upgrades_take_the_election_away_and_leave_applications_their_keys() {
    let world = World::on(Plane::bare().await).await;
    let cluster = Cluster { world: &world, service: None };
    cluster.create_namespace().await;
    let both = Install::new(&world, json!({}));
    cluster.helm(&both.args("install")).await.0.quietly();
    let alone = json!({"replicaCount": 1, "leaderElection": {"enabled": false}, "applications": []});
    cluster.helm(&Install::new(&world, alone).args("upgrade")).await.0.quietly();
    let strategy = || async {
        let strategy = deployment(&world).await.spec.unwrap().strategy.unwrap();
        (strategy.type_.unwrap(), strategy.rolling_update.is_some())
    };
    assert_eq!(strategy().await, ("Recreate".to_owned(), false));
    // The application is there, and so is its key.
    let _operator = start(&world).await;
    world.application_until("CredentialsLoaded").await;
    cluster.helm(&both.args("upgrade")).await.0.quietly();
    assert_eq!(strategy().await, ("RollingUpdate".to_owned(), true));
}

/// As docs/upgrade-and-removal.md has it under "Changing what an operator watches".
#[tokio::test(flavor = "multi_thread")]
async fn an_operator_can_be_given_other_robots_to_watch() {
    let world = World::on(Plane::bare().await).await;
    let cluster = Cluster { world: &world, service: None };
    cluster.create_namespace().await;
    let before = Install::new(&world, json!({"selector": "shard=a"}));
    cluster.helm(&before.args("install")).await.0.quietly();
    let operator = start(&world).await;
    robot_in(&world, &world.namespace, "r", json!({"shard": "a"})).await;
    world.ready("r").await;
    let held_by = |count: usize| {
        let world = &world;
        async move {
            eventually("the application is held", || async {
                world.applications().get(&world.app).await.unwrap().finalizers().len() == count
            })
            .await;
            world.applications().get(&world.app).await.unwrap().finalizers().to_vec()
        }
    };
    let former = held_by(1).await.remove(0);

    let mut none = before.args("upgrade");
    none.extend(["--set", "replicaCount=0"]);
    cluster.helm(&none).await.0.quietly();
    assert_eq!(deployment(&world).await.spec.unwrap().replicas, Some(0));
    operator.terminate(PATIENCE).await.unwrap();
    cluster.helm(&Install::new(&world, json!({})).args("upgrade")).await.0.quietly();
    let _operator = start(&world).await;
    world.robot("other").await;
    world.ready("other").await;
    assert_eq!(held_by(2).await[0], former);
    let first = "/metadata/finalizers/0";
    let patch =
        json!([{"op": "test", "path": first, "value": former}, {"op": "remove", "path": first}]).to_string();
    let off = ["patch", "rtcapplication", &world.app, "--type", "json", "-p", &patch];
    world.plane.run_kubectl(&off, None).unwrap();
    world.delete_all().await;
    for name in ["r", "other"] {
        world.gone(name).await;
    }
    let (said, ran) = cluster.helm(&["uninstall", RELEASE]).await;
    assert!(said.ok && only(&ran).ok, "{said:?}");
}

/// A release of an older chart, with older definitions and robots stored under them.
#[tokio::test(flavor = "multi_thread")]
async fn an_older_chart_is_upgraded_and_an_upgrade_rolled_back() {
    let world = World::on(Plane::bare().await).await;
    let cluster = Cluster { world: &world, service: None };
    cluster.create_namespace().await;
    let folder = TempDir::new().unwrap();
    let old = folder.path().join("roomrobot-operator");
    copy(&chart(), &old);
    let chart_yaml = fs::read_to_string(old.join("Chart.yaml")).unwrap();
    fs::write(old.join("Chart.yaml"), chart_yaml.replace("\nversion: 0.1.0", "\nversion: 0.0.1")).unwrap();
    fs::copy(file("tests/data/first-crd.yaml"), old.join("files/crds/roomrobots.yaml")).unwrap();
    let mut before = Install::new(&world, json!({}));
    before.chart = old;
    cluster.helm(&before.args("install")).await.0.quietly();
    let robot = json!({"apiVersion": "roomrobot.dev/v1alpha1", "kind": "RoomRobot",
        "metadata": {"name": "old", "namespace": world.namespace},
        "spec": {"roomId": "old", "memberAccount": "old", "applicationRef": {"name": world.app}, "note": "older"}});
    // The storage behind a new resource takes a moment.
    eventually("the older robot is stored", || async {
        world.plane.run_kubectl(&["create", "-f", "-"], Some(&robot.to_string())).is_ok()
    })
    .await;

    let now = Install::new(&world, json!({}));
    cluster.helm(&now.args("upgrade")).await.0.quietly();
    let schema = |text: &str| {
        let client = world.client.clone();
        let text = text.to_owned();
        async move {
            let crd =
                Api::<CustomResourceDefinition>::all(client).get("roomrobots.roomrobot.dev").await.unwrap();
            serde_json::to_string(&crd.spec).unwrap().contains(&text)
        }
    };
    assert!(schema("deletionPolicy").await && !schema("\"note\"").await);
    let operator = start(&world).await;
    world.simulator.add_members(world.sdk_app_id, "old", ["old"]);
    world.ready("old").await;

    // Back, and a robot that the newer version took charge of still leaves by the rules.
    cluster.helm(&["rollback", RELEASE, "1"]).await.0.quietly();
    assert!(!schema("deletionPolicy").await);
    operator.kill();
    let _operator = start(&world).await;
    world.delete("old").await;
    // A change of the definition ends every watch; so the room engine is asked, not the harness's watch.
    world.all_gone(PATIENCE).await;
    let calls = world.simulator.calls_about("old", "old");
    assert_eq!(calls.iter().map(|call| call.code).collect::<Vec<_>>(), [Some(0)]);
}

/// The guard where nothing is left but what the operator has not let go of, and where it is turned off.
#[tokio::test(flavor = "multi_thread")]
async fn the_guard_looks_where_the_operator_looks() {
    let world = World::on(Plane::bare().await).await;
    let cluster = Cluster { world: &world, service: None };
    cluster.create_namespace().await;
    let shard = Install::new(&world, json!({"selector": "shard=a", "watchNamespaces": [world.namespace]}));
    cluster.helm(&shard.args("install")).await.0.quietly();
    let operator = start(&world).await;
    // The admission policy looks there, too. It takes a moment to work.
    let ours = json!({"shard": "a"});
    eventually("ours are born with their finalizer", || is_born_with_it(&world, &world.namespace, &ours))
        .await;
    assert!(!is_born_with_it(&world, &world.namespace, &json!({"shard": "b"})).await);
    assert!(!is_born_with_it(&world, "default", &ours).await);
    // Another's robot is in nobody's way.
    world.robot("theirs").await;
    robot_in(&world, &world.namespace, "ours", ours).await;
    world.ready("ours").await;
    let (said, ran) = cluster.helm(&["uninstall", RELEASE]).await;
    let list = &only(&ran).err;
    assert!(!said.ok && list.contains("1 RoomRobot remains") && list.contains("/ours "), "{list}");
    assert!(!list.contains("theirs"), "{list}");
    world.delete("ours").await;
    world.gone("ours").await;
    rights::nothing_was_refused(&world);
    cluster.helm(&["uninstall", RELEASE]).await.0.quietly();
    drop(operator);

    // Turned off, or left out, nothing asks.
    let off = Install::new(&world, json!({"uninstallGuard": {"enabled": false}}));
    cluster.helm(&off.args("install")).await.0.quietly();
    let (said, ran) = cluster.helm(&["uninstall", RELEASE]).await;
    assert!(said.ok && ran.is_empty(), "{said:?}");
    let install = Install::new(&world, json!({}));
    cluster.helm(&install.args("install")).await.0.quietly();
    let (said, ran) = cluster.helm(&["uninstall", RELEASE, "--no-hooks"]).await;
    assert!(said.ok && ran.is_empty(), "{said:?}");
    assert!(world.robots().get_opt("theirs").await.unwrap().is_some());
    world.robots().delete("theirs", &DeleteParams::default()).await.unwrap();
}

/// The server takes all of it without a warning, in a namespace of the level `restricted`.
#[tokio::test(flavor = "multi_thread")]
async fn the_server_warns_of_nothing() {
    let world = World::on(Plane::bare().await).await;
    let cluster = Cluster { world: &world, service: None };
    cluster.create_namespace().await;
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("values.json");
    fs::write(&path, values::everything().to_string()).unwrap();
    for kind in ["servicemonitors", "podmonitors", "prometheusrules"] {
        let crd =
            fs::read_to_string(file(&format!("tests/installation/prometheus-operator/{kind}.yaml"))).unwrap();
        world.plane.kubectl_apply(&crd).unwrap();
    }
    world.plane.run_kubectl(&["wait", "--for=condition=Established", "crd", "--all"], None).unwrap();
    world.plane.run_kubectl(&["create", "namespace", "event"], None).unwrap();
    // What is stored in the end, as `kubectl` would send it; resources of definitions that come with it are apart.
    let chart = chart();
    let chart = chart.to_str().unwrap();
    let served = ["--api-versions", "admissionregistration.k8s.io/v1/MutatingAdmissionPolicy"];
    for more in [&[][..], &["-f", path.to_str().unwrap()]] {
        let (said, ran) =
            cluster.helm(&[&["install", RELEASE, chart, "--dry-run=server"], more].concat()).await;
        said.quietly();
        assert!(ran.is_empty());
        let rendered = template(&[&served[..], more].concat()).quietly();
        let args = ["apply", "--server-side", "--dry-run=server", "--warnings-as-errors", "-f", "-"];
        world.plane.run_kubectl(&args, Some(&rendered)).unwrap();
        // Each Pod of them would be let in, not only taken as a template.
        for (_, object) in documents(&rendered) {
            let spec = match object["kind"].as_str() {
                Some("Deployment" | "Job") => &object["spec"]["template"]["spec"],
                _ => continue,
            };
            let spec: PodSpec = serde_json::from_value(spec.clone()).unwrap();
            cluster.admit(object["metadata"]["name"].as_str().unwrap(), &spec);
            // And the program takes its arguments.
            for container in &spec.containers {
                let words = container.args.iter().flatten().map(String::as_str);
                let env = container.env.iter().flatten().filter(|it| it.name == "ROOMROBOT_APPLICATIONS");
                let given: Vec<String> =
                    env.map(|it| format!("--applications={}", it.value.as_deref().unwrap())).collect();
                let words = words.chain(given.iter().map(String::as_str));
                Cli::try_parse_from(iter::once("roomrobot-operator").chain(words)).unwrap();
            }
        }
    }
    // The whole of it is then installed, and removed.
    let (said, ran) = cluster.helm(&["install", RELEASE, chart, "-f", path.to_str().unwrap()]).await;
    said.quietly();
    assert_eq!(only(&ran).out, "RtcApplication a applied\nRtcApplication b applied\n");
    for name in ["a", "b"] {
        assert!(world.applications().get_opt(name).await.unwrap().is_some());
    }
    cluster.helm(&["uninstall", RELEASE]).await.0.quietly();
    only_these_are_left(&world, &["b"]);
}

/// The way without Helm: two commands, and the same operator.
#[tokio::test(flavor = "multi_thread")]
async fn plain_manifests_work_as_well() {
    let world = World::on(Plane::bare().await).await;
    // The README's line that names the image, on a copy.
    let folder = TempDir::new().unwrap();
    let copied = folder.path().join("deploy");
    copy(&file("deploy"), &copied);
    let readme = fs::read_to_string(file("README.md")).unwrap();
    let sed = readme.lines().find(|line| line.starts_with("sed -i 's|newName")).unwrap();
    assert!(Command::new("sh").args(["-c", sed]).current_dir(&folder).status().unwrap().success());
    let apply = ["apply", "--server-side", "--warnings-as-errors", "-k", copied.to_str().unwrap()];
    world.plane.run_kubectl(&apply, None).unwrap();
    let pod = pod_spec(&world).await;
    let image = format!("YOUR/roomrobot-operator:{}", env!("CARGO_PKG_VERSION"));
    assert_eq!(pod.containers[0].image, Some(image));
    Cluster { world: &world, service: None }.admit(RELEASE, &pod);
    let operator = start(&world).await;

    // What is shown elsewhere is what the server takes.
    world.plane.run_kubectl(&["create", "namespace", "event"], None).unwrap();
    let about: Value =
        serde_saphyr::from_str(&fs::read_to_string(chart().join("Chart.yaml")).unwrap()).unwrap();
    let examples: Value =
        serde_saphyr::from_str(about["annotations"]["artifacthub.io/crdsExamples"].as_str().unwrap())
            .unwrap();
    let waves = fs::read_to_string(file("deploy/samples/argocd-waves.yaml")).unwrap();
    for text in [json!({"apiVersion": "v1", "kind": "List", "items": examples}).to_string(), waves] {
        let check = ["apply", "--dry-run=server", "--warnings-as-errors", "-f", "-"];
        assert_eq!(world.plane.run_kubectl(&check, Some(&text)).unwrap().lines().count(), 2);
    }

    // The samples as they are.
    for sample in ["secret.yaml", "application.yaml", "robot.yaml", "many-robots"] {
        let path = file(&format!("deploy/samples/{sample}"));
        let flag = if path.is_file() { "-f" } else { "-k" };
        let args = ["apply", "--warnings-as-errors", "-n", &world.namespace, flag, path.to_str().unwrap()];
        let outside = ["secret.yaml", "application.yaml"].contains(&sample);
        let args = if outside { [&args[..2], &args[4..]].concat() } else { args.to_vec() };
        world.plane.run_kubectl(&args, None).unwrap();
    }
    world.all_ready(13).await;
    // Their endpoint is the vendor's: nobody may be there who would call it.
    drop(operator);
    let delete = ["delete", "roomrobots", "-n", &world.namespace, "-l", "robots=evening", "--wait=false"];
    let text = world.plane.run_kubectl(&delete, None).unwrap();
    assert_eq!(text.lines().count(), 12, "{text}");
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}
