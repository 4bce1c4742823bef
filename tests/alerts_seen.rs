//! Each alert of the chart, seen firing in the state that it is for, and silent otherwise: a real Prometheus looks at a
//! real operator and evaluates the chart's own rules, in which each minute is a second.

use crate::harness::{KEY, World, create, eventually, leads, unique};
use futures::StreamExt as _;
use hyper::Method;
use k8s_openapi::{api::coordination::v1::Lease, jiff::Timestamp};
use kube::{
    Api, ResourceExt as _,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    time::{Duration, Instant},
};
use testbed::{
    control_plane::OPERATOR_NAMESPACE,
    operator::{Operator, account_token},
    prometheus::Prometheus,
    proxy::{Action, Proxy, Rule},
    simulator::{Fault, Kind, Settings},
};

const RULES: &str = "charts/roomrobot-operator/files/alerts.yaml";

/// How often Prometheus looks: once in half a minute of the rules.
const INTERVAL: Duration = Duration::from_millis(500);

/// How long all of them may take.
const LIMIT: Duration = Duration::from_secs(90);

/// The chart's rules with a second for each minute: in ranges, in `for`, and in the two thresholds that are times.
fn hurried(rules: &str) -> String {
    let mut rules = rules.to_owned();
    for minutes in [2, 5, 10, 15] {
        rules = rules.replace(&format!("for: {minutes}m\n"), &format!("for: {minutes}s\n"));
        rules = rules.replace(&format!("[{minutes}m]"), &format!("[{minutes}s]"));
    }
    for (metric, seconds) in [
        (
            "max by (application, reason) (roomrobot_deletion_waiting_seconds{reason!~\"Throttled|Suspended\"})",
            900,
        ),
        ("max by (application) (roomrobot_deletion_oldest_seconds)", 900),
        ("max by (application, command) (roomrobot_quota_eta_seconds)", 600),
    ] {
        let (from, to) = (format!("{metric} > {seconds}"), format!("{metric} > {}", seconds / 60));
        assert!(rules.contains(&from), "{from}");
        rules = rules.replace(&from, &to);
    }
    assert!(!rules.contains("m]") && !rules.contains("m\n        labels:"), "a time is left:\n{rules}");
    rules
}

/// An alert and what it is about, so that it can be compared.
fn name_of(alert: &Value) -> (String, String) {
    let label = |name: &str| alert["labels"][name].as_str().unwrap_or_default().to_owned();
    let about = label("application");
    // Only one of the application's two commands is used here.
    assert!(label("command").is_empty() || label("command") == "delete_robot", "{alert}");
    (label("alertname"), about)
}

/// The applications of this test, each with its trouble, by a short name.
struct Applications<'a> {
    world: &'a World,
    names: BTreeMap<&'static str, (String, u32)>,
}

impl<'a> Applications<'a> {
    /// Short name, calls a second, robots.
    const ALL: [(&'static str, u32, usize); 7] = [
        ("well", 200, 5),
        ("stuck", 200, 1),
        ("refused", 200, 1),
        ("saturated", 1, 45),
        ("throttled", 10, 70),
        ("failing", 200, 20),
        ("denied", 200, 4),
    ];

    async fn new(world: &'a World) -> Self {
        let mut names = BTreeMap::new();
        for (at, (short, rate, count)) in (1..).zip(Self::ALL) {
            let (name, sdk_app_id) = (unique(short), world.sdk_app_id + at);
            world.simulator.add_app(sdk_app_id, KEY);
            world.secret(&name, json!({"secretKey": KEY})).await;
            let more = json!({"sdkAppId": sdk_app_id, "requestsPerSecond": rate,
                "credentials": {"secretRef": {"name": name}}});
            world.application(&name, more).await;
            let robots: Vec<String> = (0..count).map(|n| format!("{short}-{n}")).collect();
            futures::stream::iter(robots)
                .for_each_concurrent(8, |robot| {
                    let name = &name;
                    async move {
                        world.simulator.add_members(sdk_app_id, &robot, [robot.as_str()]);
                        world.robot_with(&robot, json!({"applicationRef": {"name": name}})).await;
                    }
                })
                .await;
            names.insert(short, (name, sdk_app_id));
        }
        Self { world, names }
    }

    fn name(&self, short: &str) -> &str {
        &self.names[short].0
    }

    fn sdk_app_id(&self, short: &str) -> u32 {
        self.names[short].1
    }

    /// An alert about the application of that short name; an empty one is about none.
    fn alert(&self, name: &str, short: &str) -> (String, String) {
        let about = if short.is_empty() { String::new() } else { self.name(short).to_owned() };
        (name.to_owned(), about)
    }

    fn alerts(&self, wanted: &[(&str, &str)]) -> BTreeSet<(String, String)> {
        wanted.iter().map(|(name, short)| self.alert(name, short)).collect()
    }

    async fn make_trouble(&self, proxy: &Proxy) {
        let simulator = &self.world.simulator;
        simulator.set(|settings| settings.quota = 2);
        simulator.fail(Fault::always(Kind::Code(100_006)).app(self.sdk_app_id("stuck")));
        simulator.fail(Fault::always(Kind::Code(100_001)).app(self.sdk_app_id("failing")));
        self.world.secret(self.name("refused"), json!({"secretKey": "wrong"})).await;
        let answer = |method, path, code| {
            proxy.add(Rule { method, path, times: u32::MAX, action: Action::Answer(code) });
        };
        answer(Method::POST, "/events", 500);
        // As where a policy denies it.
        for path in
            ["/roomrobots/denied-0", "/roomrobots/denied-1", "/roomrobots/denied-2", "/roomrobots/denied-3"]
        {
            answer(Method::PATCH, path, 403);
        }
    }

    async fn mend(&self, proxy: &Proxy) {
        proxy.heal();
        self.world.simulator.heal();
        self.world.simulator.set(|settings| settings.quota = Settings::default().quota);
        self.world.secret(self.name("refused"), json!({"secretKey": KEY})).await;
        let (params, patch) =
            (PatchParams::default(), Patch::Merge(json!({"spec": {"requestsPerSecond": 200}})));
        for short in ["saturated", "throttled"] {
            let applications = self.world.applications();
            applications.patch(self.name(short), &params, &patch).await.unwrap();
        }
        // Any change of their spec tries at once; some of them go in the middle of it.
        let robots = self.world.robots();
        for robot in robots.list(&ListParams::default()).await.unwrap() {
            let name = robot.name_any();
            for suspend in [true, false] {
                let patch = Patch::Merge(json!({"spec": {"suspend": suspend}}));
                match robots.patch(&name, &params, &patch).await {
                    Err(kube::Error::Api(status)) if status.is_not_found() => {}
                    other => drop(other.unwrap()),
                }
            }
        }
    }
}

/// Waits until all of `wanted` have fired; what fires beside them is one of `allowed`.
async fn fire(
    prometheus: &Prometheus<'_>,
    wanted: &BTreeSet<(String, String)>,
    allowed: &BTreeSet<(String, String)>,
) {
    let mut seen = BTreeSet::new();
    let start = Instant::now();
    while !seen.is_superset(wanted) {
        for alert in prometheus.firing().await.unwrap() {
            let name = name_of(&alert);
            assert!(wanted.contains(&name) || allowed.contains(&name), "fires without a cause: {alert}");
            let summary = alert["annotations"]["summary"].as_str().unwrap();
            assert!(!summary.contains("{{") && !summary.contains("no value"), "{summary}");
            if name.0 == "RoomRobotApplicationRefused" {
                assert_eq!(alert["labels"]["reason"], "CredentialsRejected");
            }
            seen.insert(name);
        }
        let missing: Vec<_> = wanted.difference(&seen).collect();
        assert!(start.elapsed() < LIMIT, "never fired: {missing:?}; fired: {seen:?}");
        tokio::time::sleep(INTERVAL).await;
    }
}

async fn silent(prometheus: &Prometheus<'_>) {
    eventually("no alert fires", || async { prometheus.firing().await.unwrap().is_empty() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_alert_fires_in_the_state_that_it_is_for_and_is_silent_otherwise() {
    let world = World::bare().await;
    let proxy = Proxy::start(&world.plane).await.unwrap();
    let token = account_token(&world.plane).await.unwrap();
    let kubeconfig = world.plane.kubeconfig_through(&proxy.server(), &token).unwrap();
    // Another has just led, and does not any more: nobody leads until its Lease has run out.
    let leases = Api::<Lease>::namespaced(world.client.clone(), OPERATOR_NAMESPACE);
    let now = Timestamp::now().to_string();
    let held =
        json!({"holderIdentity": "gone", "leaseDurationSeconds": 12, "acquireTime": now, "renewTime": now});
    create(&leases, json!({"metadata": {"name": "roomrobot-operator"}, "spec": held})).await;
    let endpoint = world.simulator.endpoint();
    let env = [("KUBECONFIG", kubeconfig.to_str().unwrap())];
    let args = ["--allow-endpoint", &endpoint, "--log-format", "json"];
    let operator = Operator::spawn(&world.plane, crate::harness::binary(), &args, &env).await.unwrap();
    let rules = hurried(&fs::read_to_string(RULES).unwrap());
    let prometheus = Prometheus::start(&world.plane, &operator, INTERVAL, Some(&rules)).await.unwrap();
    let nobody = BTreeSet::from([("RoomRobotNoLeader".to_owned(), String::new())]);
    let none = BTreeSet::new();
    let (applications, ()) = tokio::join!(Applications::new(&world), fire(&prometheus, &nobody, &none));

    eventually("it leads", || async { leads(&operator) }).await;
    world.all_ready(Applications::ALL.iter().map(|(_, _, count)| count).sum()).await;
    for n in 0..4 {
        world.delete(&format!("well-{n}")).await;
        world.gone(&format!("well-{n}")).await;
    }
    silent(&prometheus).await;

    applications.make_trouble(&proxy).await;
    world.delete_all().await;
    let wanted = applications.alerts(&[
        ("RoomRobotDeletionStuck", "stuck"),
        ("RoomRobotApplicationRefused", "refused"),
        ("RoomRobotQuotaSaturated", "saturated"),
        ("RoomRobotThrottled", "throttled"),
        ("RoomRobotErrors", "failing"),
        ("RoomRobotWritesFail", ""),
        ("RoomRobotWritesRefused", ""),
    ]);
    // All of these wait for long for something else than their turn, and a slow line is a long one.
    let allowed = applications.alerts(&[
        ("RoomRobotDeletionStuck", "refused"),
        ("RoomRobotDeletionStuck", "failing"),
        ("RoomRobotDeletionStuck", "denied"),
        ("RoomRobotQuotaSaturated", "throttled"),
    ]);
    fire(&prometheus, &wanted, &allowed).await;

    applications.mend(&proxy).await;
    world.all_gone(LIMIT).await;
    silent(&prometheus).await;

    // Nothing to look at is no leader, too.
    operator.kill();
    fire(&prometheus, &nobody, &none).await;
}
