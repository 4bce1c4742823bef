//! The life of a release on a real API server: install, work, upgrade, rollback, uninstall.

use super::{
    helm::{Cluster, NAMESPACE, RELEASE, Said, chart, documents, file, template},
    rights, values,
};
use crate::harness::{KEY, PATIENCE, Plane, World, binary, eventually, leads, reason_of};
use k8s_openapi::{
    api::{apps::v1::Deployment, core::v1::PodSpec, rbac::v1::ClusterRole},
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::{Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
};
use tempfile::TempDir;
use testbed::operator::Operator;

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
    let deployments = Api::<Deployment>::namespaced(client.clone(), NAMESPACE);
    assert!(deployments.get_opt(RELEASE).await.unwrap().is_none());
    assert!(Api::<ClusterRole>::all(client.clone()).get_opt(RELEASE).await.unwrap().is_none());
    // The definitions stay, and with them what was made from the values; nothing holds it any more.
    let application = world.applications().get(&world.app).await.unwrap();
    assert_eq!(application.finalizers(), [] as [String; 0]);

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
    // The second term of the Lease is a renewal.
    eventually("the Lease is renewed", || async { rights::uses(&world, "leases", "get") }).await;
    rights::compare(&world).await;
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
    // Another's robot is in nobody's way.
    world.robot("theirs").await;
    let label = Patch::Merge(json!({"metadata": {"labels": {"shard": "a"}}}));
    world.robot("ours").await;
    world.robots().patch("ours", &PatchParams::default(), &label).await.unwrap();
    world.ready("ours").await;
    let (said, ran) = cluster.helm(&["uninstall", RELEASE]).await;
    let list = &only(&ran).err;
    assert!(!said.ok && list.contains("1 RoomRobot remains") && list.contains("/ours "), "{list}");
    assert!(!list.contains("theirs"), "{list}");
    // The rights are in the watched namespace only, and are enough.
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
            cluster.admit(
                object["metadata"]["name"].as_str().unwrap(),
                &serde_json::from_value(spec.clone()).unwrap(),
            );
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
}

/// The way without Helm: two commands, and the same operator.
#[tokio::test(flavor = "multi_thread")]
async fn plain_manifests_work_as_well() {
    let world = World::on(Plane::bare().await).await;
    let folder = file("deploy");
    let apply = ["apply", "--server-side", "--warnings-as-errors", "-k", folder.to_str().unwrap()];
    world.plane.run_kubectl(&apply, None).unwrap();
    let image = format!("deployment/{RELEASE}");
    let set = ["set", "image", "-n", NAMESPACE, &image, "operator=registry.example.com/op:1"];
    world.plane.run_kubectl(&set, None).unwrap();
    let pod = pod_spec(&world).await;
    assert_eq!(pod.containers[0].image.as_deref(), Some("registry.example.com/op:1"));
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
