//! The Helm release from its first install to its end.

use super::{
    APPLICATION, KEY, PATIENCE, RELEASE, REQUESTS_PER_SECOND, ROBOTS, SDK_APP_ID, SYSTEM,
    cluster::Cluster,
    jobs, pods,
    room_engine::{self, RoomEngine},
};
use crate::image::build::repository;
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ListParams},
};
use roomrobot_core::crd::RtcApplication;
use serde_json::{Value, json};
use std::time::Instant;
use testbed::{
    Error, Result,
    control_plane::wait_for,
    observe::{Departures, all_ready, told},
    report::ensure,
    tool::labelled,
};

/// The chart's values for `image`. With `by_name`, the operator looks the API server up by its name in the cluster's
/// DNS, in place of the address that the kubelet puts into the environment.
fn values(image: &str, by_name: bool) -> Value {
    let (repository, tag) = image.rsplit_once(':').unwrap_or((image, "latest"));
    let env = json!([{"name": "KUBERNETES_SERVICE_HOST", "value": "kubernetes.default.svc"}]);
    json!({
        "image": {"repository": repository, "tag": tag, "pullPolicy": "IfNotPresent"},
        "logFormat": "text",
        "allowEndpoints": [room_engine::endpoint()],
        "applications": [{"name": APPLICATION, "secret": {"secretKey": KEY}, "spec": {
            "sdkAppId": SDK_APP_ID, "endpoint": room_engine::endpoint(), "requestsPerSecond": REQUESTS_PER_SECOND,
        }}],
        "extraEnv": if by_name { env } else { json!([]) },
    })
}

/// The version of the chart that the release is upgraded to.
const NEXT: &str = "99.0.0-e2e";

fn chart() -> String {
    repository().join("charts/roomrobot-operator").display().to_string()
}

/// The same chart under a later version, which changes labels of every resource, as a real upgrade does.
fn next_chart(cluster: &Cluster) -> Result<String> {
    cluster.helm.run(&["package", &chart(), "--version", NEXT, "-d", "target/e2e"])?;
    Ok(format!("target/e2e/roomrobot-operator-{NEXT}.tgz"))
}

fn helm(cluster: &Cluster, verb: &str, chart: &str, values: &Value) -> Result<String> {
    let args = [verb, RELEASE, chart, "-n", SYSTEM, "-f", "-", "--wait", "--timeout", "180s"];
    let (done, out, err) = cluster.helm.outcome(&args, &values.to_string())?;
    ensure(done, || format!("helm {verb}: {err}{out}"))?;
    ensure(!err.to_lowercase().contains("podsecurity"), || format!("helm {verb} warns: {err}"))?;
    Ok(out)
}

/// One `helm install` on a cluster that knows nothing of this yet, with the application among its values.
///
/// # Errors
/// If it fails, or the application does not become Ready.
pub async fn install(cluster: &Cluster, image: &str) -> Result<Vec<String>> {
    let start = Instant::now();
    helm(cluster, "install", &chart(), &values(image, true))?;
    let took = start.elapsed();
    let api = Api::<RtcApplication>::all(cluster.client.clone());
    wait_for(PATIENCE, "the RtcApplication to be Ready", || async {
        api.get(APPLICATION).await.ok().and_then(|application| application.status).is_some_and(|status| {
            status.conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
        })
    })
    .await?;
    let pdb = cluster.kubectl.run(&[
        "get",
        "pdb",
        "-n",
        SYSTEM,
        "-o",
        "jsonpath={.items[*].status.disruptionsAllowed}",
    ])?;
    Ok(vec![
        format!(
            "one `helm install --wait`: {:.1} s; RtcApplication {APPLICATION} is Ready; disruptions allowed: {pdb}",
            took.as_secs_f32()
        ),
        "the API server is looked up as kubernetes.default.svc, with the mounted token".to_owned(),
    ])
}

/// The chart's own test.
///
/// # Errors
/// If it fails.
pub fn test(cluster: &Cluster) -> Result<Vec<String>> {
    let out = cluster.helm.run(&["test", RELEASE, "-n", SYSTEM, "--timeout", "120s"])?;
    ensure(out.contains("Succeeded"), || out.clone())?;
    Ok(out.lines().filter(|line| line.contains("Phase:")).map(|line| line.trim().to_owned()).collect())
}

/// An upgrade to another version of the chart, with robots at rest and one that is deleted meanwhile; then back.
///
/// # Errors
/// If a robot at rest is called about or written to, or the deletion is lost.
pub async fn upgrade(cluster: &Cluster, engine: &RoomEngine<'_>, image: &str) -> Result<Vec<String>> {
    let own = |text: &str| text.to_owned();
    let members = ["rest-1", "rest-2", "leaves"].map(own);
    engine.put_room("upgrade-room", &members).await?;
    let robots: Vec<_> =
        members.iter().map(|member| (member.clone(), own("upgrade-room"), member.clone())).collect();
    jobs::create(cluster, ROBOTS, &robots)?;
    all_ready(&cluster.client, ROBOTS, robots.len(), PATIENCE).await?;
    let before = versions(cluster).await?;
    let old = pods::operators(cluster).await?;
    let departures = Departures::watch(&cluster.client, ROBOTS).await?;

    let start = Instant::now();
    let (upgrading, chart, changed) = (cluster.clone(), next_chart(cluster)?, values(image, false));
    let upgrade = tokio::task::spawn_blocking(move || helm(&upgrading, "upgrade", &chart, &changed));
    // Deleted once the first new Pod is there: in the middle of the roll-out.
    let new_pod = || async {
        pods::operators(cluster)
            .await
            .is_ok_and(|now| now.iter().any(|pod| !old.iter().any(|old| old.name_any() == pod.name_any())))
    };
    wait_for(PATIENCE, "the roll-out", new_pod).await?;
    cluster.robots(ROBOTS).delete("leaves", &DeleteParams::default()).await.map_err(told)?;
    upgrade.await.map_err(|error| Error::new("helm upgrade", error))??;
    let took = start.elapsed();
    departures.wait(1, PATIENCE).await?;
    pods::healthy(cluster, 2).await?;
    let now = pods::operators(cluster).await?;
    ensure(now.iter().all(|pod| !old.iter().any(|old| old.name_any() == pod.name_any())), || {
        "an old Pod is still there".to_owned()
    })?;

    let label = format!("helm.sh/chart=roomrobot-operator-{NEXT}");
    let upgraded = cluster.kubectl.run(&["get", "deployment", "-n", SYSTEM, "-l", &label, "-o", "name"])?;
    ensure(!upgraded.is_empty(), || format!("no Deployment of the chart's version {NEXT}"))?;

    cluster.helm.run(&["rollback", RELEASE, "1", "-n", SYSTEM, "--wait", "--timeout", "180s"])?;
    pods::healthy(cluster, 2).await?;
    let calls = engine.calls("upgrade-").await?;
    ensure(
        calls.len() == 1 && calls.iter().all(|call| call.member == "leaves" && call.code == Some(0)),
        || format!("the room engine got {calls:?}"),
    )?;
    let after = versions(cluster).await?;
    let touched: Vec<_> = after.iter().filter(|robot| !before.contains(robot)).collect();
    ensure(touched.is_empty() && after.len() == 2, || {
        format!("robots at rest were written to: {touched:?}")
    })?;
    let history = cluster.helm.run(&["history", RELEASE, "-n", SYSTEM, "-o", "json"])?;
    let revisions = history.matches("\"revision\"").count();
    Ok(vec![
        format!(
            "`helm upgrade --wait` to the chart's version {NEXT} {:.1} s, then `helm rollback`; {revisions} revisions; every Pod is new, none was restarted",
            took.as_secs_f32()
        ),
        "the robot that was deleted meanwhile had one call; the two at rest had no call and no write"
            .to_owned(),
        "in between, the API server was reached by its address".to_owned(),
    ])
}

/// Name and resourceVersion of the robots.
async fn versions(cluster: &Cluster) -> Result<Vec<(String, String)>> {
    let robots = cluster.robots(ROBOTS).list(&ListParams::default()).await.map_err(told)?;
    Ok(robots
        .items
        .iter()
        .map(|robot| (robot.name_any(), robot.resource_version().unwrap_or_default()))
        .collect())
}

/// `helm uninstall` with robots still there: it stops, with their names, and all goes on.
///
/// # Errors
/// If it does not stop, or the operator does not work afterwards.
pub async fn guard(cluster: &Cluster) -> Result<Vec<String>> {
    let start = Instant::now();
    let args = ["uninstall", RELEASE, "-n", SYSTEM, "--wait", "--timeout", "120s"];
    let (done, out, err) = cluster.helm.outcome(&args, "")?;
    ensure(!done, || format!("it went through with RoomRobots left: {out}"))?;
    let mut said = format!("{out}\n{err}");
    if !said.contains("rest-1") {
        // Helm before 3.18 does not print what a hook says.
        let job = format!("job/{RELEASE}-guard");
        said.push_str(&cluster.kubectl.run(&["logs", &job, "-n", SYSTEM]).unwrap_or_default());
    }
    for name in ["rest-1", "rest-2"] {
        ensure(said.contains(name), || format!("it stopped without naming {name}: {said}"))?;
    }
    let took = start.elapsed();
    pods::healthy(cluster, 2).await?;
    let list = said.lines().filter(|line| line.contains("rest-") || line.contains("RoomRobot"));
    let mut facts =
        vec![format!("it stopped after {:.1} s, the operator still runs; Helm printed:", took.as_secs_f32())];
    facts.extend(list.map(|line| format!("  {}", line.trim())));
    Ok(facts)
}

/// `helm uninstall` once the robots are gone: nothing of the release stays but the CRDs and what is in the namespace by itself.
///
/// # Errors
/// If it does not end, or something stays.
pub async fn uninstall(cluster: &Cluster, engine: &RoomEngine<'_>) -> Result<Vec<String>> {
    cluster.kubectl.run(&["delete", "roomrobots", "--all", "-n", ROBOTS, "--timeout=60s"])?;
    let calls = engine.calls("upgrade-").await?;
    ensure(calls.len() == 3, || {
        format!("three robots of this room were deleted, with {} calls", calls.len())
    })?;
    let start = Instant::now();
    cluster.helm.run(&["uninstall", RELEASE, "-n", SYSTEM, "--wait", "--timeout", "120s"])?;
    let took = start.elapsed();
    wait_for(PATIENCE, "the operator's Pods to end", || async {
        pods::operators(cluster).await.is_ok_and(|pods| pods.is_empty())
    })
    .await?;
    // What the cluster makes of the release's objects, such as ReplicaSets, goes a moment later.
    let stay = [
        "customresourcedefinition.apiextensions.k8s.io/roomrobots.roomrobot.dev".to_owned(),
        "customresourcedefinition.apiextensions.k8s.io/rtcapplications.roomrobot.dev".to_owned(),
        format!("secret/{RELEASE}-{APPLICATION}"),
    ];
    let left = || labelled(RELEASE, |args| cluster.kubectl.run(args));
    let clean =
        wait_for(PATIENCE, "the rest to go", || async { left().is_ok_and(|left| left == stay) }).await;
    ensure(clean.is_ok(), || format!("left in the cluster: {:?}", left()))?;
    Ok(vec![format!(
        "clean after {:.1} s; the CRDs and the application's key are kept, nothing else of any kind",
        took.as_secs_f32()
    )])
}
