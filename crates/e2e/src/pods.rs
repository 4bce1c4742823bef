//! The operator's Pods: running, ready, never restarted, and how the kernel shuts them in.

use super::{KEY, PATIENCE, RELEASE, ROBOTS, SYSTEM, cluster::Cluster};
use k8s_openapi::api::{coordination::v1::Lease, core::v1::Pod};
use kube::{Api, ResourceExt as _, api::ListParams};
use std::{
    fmt::Write as _,
    time::{Duration, Instant},
};
use testbed::{Error, Result, observe::told, report::ensure};
use tokio::time::sleep;

/// The operator's Lease.
const LEASE: &str = "roomrobot-operator";

/// The container in the Pod.
const CONTAINER: &str = "operator";

/// The operator's Pods that are not on their way out.
///
/// # Errors
/// If the cluster cannot be asked.
pub async fn operators(cluster: &Cluster) -> Result<Vec<Pod>> {
    let params = ListParams::default()
        .labels(&format!("app.kubernetes.io/name=roomrobot-operator,app.kubernetes.io/instance={RELEASE}"));
    let pods = Api::<Pod>::namespaced(cluster.client.clone(), SYSTEM).list(&params).await.map_err(told)?;
    // Pods of hooks and tests have the labels too, but do not come from the Deployment.
    let of_deployment = |pod: &Pod| pod.owner_references().iter().any(|owner| owner.kind == "ReplicaSet");
    Ok(pods
        .items
        .into_iter()
        .filter(|pod| of_deployment(pod) && pod.metadata.deletion_timestamp.is_none())
        .collect())
}

/// The name of the leader's Pod.
///
/// # Errors
/// If there is none.
pub async fn leader(cluster: &Cluster) -> Result<String> {
    let api = Api::<Lease>::namespaced(cluster.client.clone(), SYSTEM);
    let start = Instant::now();
    loop {
        let lease = api.get_opt(LEASE).await.map_err(told)?;
        let holder =
            lease.and_then(|lease| lease.spec).and_then(|spec| spec.holder_identity).unwrap_or_default();
        let pods = operators(cluster).await?;
        if let Some(pod) = pods.iter().find(|pod| holder.starts_with(&pod.name_any())) {
            return Ok(pod.name_any());
        }
        ensure(start.elapsed() < PATIENCE, || {
            format!("no Pod of the operator holds the Lease; its holder is {holder:?}")
        })?;
        sleep(Duration::from_millis(100)).await;
    }
}

/// All are Running and Ready, and no container was ever restarted.
///
/// # Errors
/// If one is not.
pub async fn healthy(cluster: &Cluster, count: usize) -> Result<Vec<String>> {
    let start = Instant::now();
    let pods = loop {
        let pods = operators(cluster).await?;
        let ready = pods.iter().filter(|pod| is_ready(pod)).count();
        if pods.len() == count && ready == count {
            break pods;
        }
        ensure(start.elapsed() < PATIENCE, || {
            format!("{ready} of {} Pods are Ready, {count} are wanted", pods.len())
        })?;
        sleep(Duration::from_millis(200)).await;
    };
    let leader = leader(cluster).await?;
    let mut facts = Vec::new();
    for pod in &pods {
        let name = pod.name_any();
        ensure(restarts(pod) == 0, || format!("{name} was restarted {} times", restarts(pod)))?;
        for path in ["readyz", "livez", "metrics"] {
            let url = format!("/api/v1/namespaces/{SYSTEM}/pods/{name}:8080/proxy/{path}");
            cluster.kubectl.run(&["get", "--raw", &url])?;
        }
        let part = if name == leader { "leader" } else { "standby" };
        facts.push(format!("{name}: Running, Ready, 0 restarts, {part}"));
    }
    Ok(facts)
}

fn is_ready(pod: &Pod) -> bool {
    let status = pod.status.as_ref();
    let running = status.and_then(|status| status.phase.as_deref()) == Some("Running");
    let conditions = status.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    running && conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn restarts(pod: &Pod) -> i32 {
    let status = pod.status.as_ref();
    let containers = status.and_then(|status| status.container_statuses.as_deref()).unwrap_or_default();
    containers.iter().map(|container| container.restart_count).sum()
}

/// What the kernel says of the operator's process: read by a second container in the same process namespace, since the
/// image has no shell. That container is made by `kubectl debug`, under Pod Security `restricted` like the Pod itself.
///
/// # Errors
/// If it is less confined than it should be.
pub async fn confinement(cluster: &Cluster, image: &str) -> Result<Vec<String>> {
    let name = leader(cluster).await?;
    let look = format!("look-{:04x}", fastrand::u16(..));
    cluster.kubectl.run(&[
        "debug",
        &format!("pod/{name}"),
        "-n",
        SYSTEM,
        &format!("--image={image}"),
        "--image-pull-policy=IfNotPresent",
        &format!("--target={CONTAINER}"),
        "--profile=restricted",
        "-c",
        &look,
        "--",
        "/show-file",
        "/proc/1/status",
        "/proc/1/mounts",
        "/proc/1/cmdline",
    ])?;
    let start = Instant::now();
    let text = loop {
        let text = cluster.kubectl.run(&["logs", &name, "-n", SYSTEM, "-c", &look]).unwrap_or_default();
        if text.contains("== /proc/1/cmdline") {
            break text;
        }
        ensure(start.elapsed() < PATIENCE, || format!("the second container says only: {text}"))?;
        sleep(Duration::from_millis(300)).await;
    };
    judge(&text)
}

fn judge(text: &str) -> Result<Vec<String>> {
    ensure(text.contains("/roomrobot-operator\0"), || format!("process 1 is not the operator: {text}"))?;
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let none = "0000000000000000";
    for (name, expected) in [
        ("CapInh:", none),
        ("CapPrm:", none),
        ("CapEff:", none),
        ("CapBnd:", none),
        ("CapAmb:", none),
        ("NoNewPrivs:", "1"),
        ("Seccomp:", "2"),
    ] {
        ensure(field(name) == expected, || format!("{name} {:?}, not {expected}", field(name)))?;
    }
    let user = field("Uid:");
    ensure(!user.is_empty() && user.split(' ').all(|id| id != "0"), || format!("Uid: {user}"))?;
    let root = text.lines().find(|line| line.split(' ').nth(1) == Some("/")).unwrap_or_default();
    let options = root.split(' ').nth(3).unwrap_or_default();
    ensure(options.split(',').any(|option| option == "ro"), || format!("its root is mounted so: {root}"))?;
    Ok(vec![
        format!(
            "/proc/1/status of the operator: Uid {user}, Seccomp 2 (a filter), NoNewPrivs 1, CapEff 0, CapBnd 0"
        ),
        format!("its root: {options}"),
    ])
}

/// The Pods' logs have no key; no container was restarted; what was complained about.
///
/// # Errors
/// If a log has a secret, or a container was restarted.
pub async fn logs(cluster: &Cluster, count: usize) -> Result<Vec<String>> {
    let mut facts = Vec::new();
    for pod in operators(cluster).await? {
        let name = pod.name_any();
        let text = cluster.kubectl.run(&["logs", &name, "-n", SYSTEM, "-c", CONTAINER])?;
        for secret in [KEY, "usersig=", "sdkappid="] {
            ensure(!text.contains(secret), || format!("the log of {name} has {secret:?}"))?;
        }
        let errors: Vec<&str> =
            text.lines().filter(|line| line.contains("ERROR") || line.contains("panicked")).collect();
        ensure(errors.is_empty(), || format!("{name}: {}", errors.join("\n")))?;
        let warnings = text.lines().filter(|line| line.contains(" WARN ")).count();
        facts.push(format!(
            "{name}: {} lines, {warnings} warnings, no secret, no error",
            text.lines().count()
        ));
    }
    for namespace in [SYSTEM, ROBOTS] {
        let everything = cluster.kubectl.run(&[
            "get",
            "roomrobots,rtcapplications,events",
            "-n",
            namespace,
            "-o",
            "json",
        ])?;
        ensure(!everything.contains(KEY), || format!("an object in {namespace} has the key"))?;
    }
    healthy(cluster, count).await?;
    Ok(facts)
}

/// The logs of all Pods of the operator, for a person who looks into a failure.
#[must_use]
pub fn tell_all(cluster: &Cluster) -> String {
    let mut text = String::new();
    for args in [
        &["get", "pods", "-n", SYSTEM, "-o", "wide"][..],
        &["get", "events", "-n", SYSTEM, "--sort-by=.lastTimestamp"],
        &[
            "logs",
            "-n",
            SYSTEM,
            "-l",
            "app.kubernetes.io/name=roomrobot-operator",
            "--tail=40",
            "--prefix",
            "--all-containers",
        ],
        &["get", "roomrobots,rtcapplications", "-A", "-o", "wide"],
    ] {
        let (_, out, err) = cluster
            .kubectl
            .outcome(args, "")
            .unwrap_or_else(|error: Error| (false, String::new(), error.to_string()));
        let lines: Vec<&str> = out.lines().chain(err.lines()).collect();
        let tail = lines.len().saturating_sub(60);
        let lines = lines.get(tail..).unwrap_or_default().join("\n");
        let _ = writeln!(text, "\n--- kubectl {}\n{lines}", args.join(" "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::judge;

    const GOOD: &str = "== /proc/1/status\nUid:\t65532\t65532\t65532\t65532\nCapInh:\t0000000000000000\nCapPrm:\t0000000000000000\n\
        CapEff:\t0000000000000000\nCapBnd:\t0000000000000000\nCapAmb:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t2\n\
        == /proc/1/mounts\noverlay / overlay ro,relatime 0 0\n== /proc/1/cmdline\n/roomrobot-operator\0run\0\n";

    #[test]
    fn each_way_to_be_less_confined_is_seen() {
        judge(GOOD).unwrap();
        for (from, to) in [
            ("CapBnd:\t0000000000000000", "CapBnd:\t00000000a80425fb"),
            ("Seccomp:\t2", "Seccomp:\t0"),
            ("NoNewPrivs:\t1", "NoNewPrivs:\t0"),
            ("Uid:\t65532\t65532", "Uid:\t65532\t0"),
            ("overlay ro,", "overlay rw,"),
            ("/roomrobot-operator", "/pause"),
        ] {
            assert!(GOOD.contains(from));
            judge(&GOOD.replace(from, to)).unwrap_err();
        }
    }
}
