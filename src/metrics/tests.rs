use super::*;
use roomrobot_core::{
    application::Breaker,
    call::{Reply, TroubleKind},
    engine::{ApplicationSnapshot, PendingSnapshot, QuotaSnapshot},
    robot::Stored,
    status::Reason,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

fn application(name: &str) -> ApplicationSnapshot {
    let quota = |operation| QuotaSnapshot { operation, waiting: 7, limit: 200, pace: 100.0, eta: Some(0.07) };
    ApplicationSnapshot {
        name: name.into(),
        robots: 9,
        pending: [(None, 3, 0), (Some(Reason::Throttled), 4, 21)].map(pending).into(),
        oldest: 61,
        quotas: [Operation::DeleteRobot, Operation::AddRobot].map(quota).into(),
        breaker: Some(Breaker::Open),
        ready: Some((Reason::CredentialsRejected, false)),
    }
}

fn pending((reason, robots, told): (Option<Reason>, usize, i64)) -> PendingSnapshot {
    PendingSnapshot { reason, robots, told }
}

fn snapshot(applications: Vec<ApplicationSnapshot>) -> Snapshot {
    let queues =
        ["write_final", "write_released", "write_waiting", "write_told", "write_live", "call", "timer"]
            .map(|queue| (queue, 5));
    let in_flight = [("call", 1), ("write", 2)];
    Snapshot { leading: true, reconciles: 42, queues, in_flight, applications }
}

fn deleted(name: &str) -> Robot {
    let json = serde_json::json!({
        "metadata": {"name": name, "namespace": "ns", "deletionTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"applicationRef": {"name": "app"}},
        "status": {"conditions": [
            {"type": "Accepted", "status": "True", "reason": "Accepted"},
            {"type": "RobotDeleted", "status": "True", "reason": "Deleted"},
        ]},
    });
    serde_json::from_value::<Stored>(json).unwrap().into()
}

/// Everything counted at least once.
fn counted() -> Metrics {
    let metrics = Metrics::default();
    let reply = |code| Outcome::Reply(Reply { code, info: String::new(), request_id: None });
    let took = Duration::from_millis(3);
    for outcome in [reply(0), reply(70009), reply(424_242), Outcome::failed(TroubleKind::Timeout)] {
        metrics.granted("app", Operation::DeleteRobot);
        metrics.called("app", Operation::DeleteRobot, &outcome, took);
    }
    metrics.wrote("roomrobots", &Change::DropFinalizer { at: 0, version: 1 }, &Ok(()));
    metrics.wrote("rtcapplications", &Change::FirstFinalizer, &Err::<(), _>(WriteError::NotFound));
    metrics.announced(&Ok(()));
    metrics.finished(&deleted("r"), 1_767_225_600 + 7);
    metrics.views().whole("roomrobots", "");
    metrics
}

/// The labels of each sample of the text but `le`, by the name of the sample.
fn samples(text: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (series, _) = line.rsplit_once(' ').unwrap();
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let labels = labels.trim_end_matches('}').split(',').filter_map(|label| label.split_once('='));
        let labels = labels.map(|(label, _)| label.to_owned()).filter(|label| label != "le");
        found.entry(name.to_owned()).or_default().extend(labels);
    }
    found
}

/// What is documented is what a scrape brings, and the other way round: names, types and labels.
#[test]
fn the_table_is_what_is_registered() {
    let text = counted().text(&snapshot(vec![application("app")])).unwrap();
    let samples = samples(&text);
    let mut expected = BTreeSet::new();
    for row in ROWS {
        let ends: &[&str] = if row.kind == Kind::Histogram { &["_bucket", "_sum", "_count"] } else { &[""] };
        for end in ends {
            let name = format!("{}{end}", row.sample());
            let labels = samples.get(&name).unwrap_or_else(|| panic!("{name} is not there:\n{text}"));
            let own: BTreeSet<String> = row.labels.iter().map(|label| (*label).to_owned()).collect();
            assert_eq!(*labels, own, "{name}");
            expected.insert(name);
        }
        let family = row.sample();
        let family = family.trim_end_matches("_total").trim_end_matches("_info");
        assert!(text.contains(&format!("# TYPE {family} {}\n", row.kind.as_str())), "{family}:\n{text}");
    }
    let there: BTreeSet<String> = samples.into_keys().collect();
    assert_eq!(there, expected);
}

#[test]
fn the_numbers_are_those_of_the_engine_and_old_ones_go() {
    let metrics = counted();
    let text = metrics.text(&snapshot(vec![application("app")])).unwrap();
    for line in [
        r#"roomrobot_calls_total{application="app",command="delete_robot",code="70009",class="credentials"} 1"#,
        r#"roomrobot_calls_total{application="app",command="delete_robot",code="undocumented",class="unknown"} 1"#,
        r#"roomrobot_calls_total{application="app",command="delete_robot",code="none",class="retry"} 1"#,
        r#"roomrobot_call_duration_seconds_bucket{le="0.005",application="app"} 4"#,
        r#"roomrobot_deletions_pending{application="app",reason="Queued"} 3"#,
        r#"roomrobot_deletion_waiting_seconds{application="app",reason="Throttled"} 21"#,
        r#"roomrobot_deletion_oldest_seconds{application="app"} 61"#,
        r#"roomrobot_deletion_duration_seconds_sum{application="app"} 7.0"#,
        r#"roomrobot_deletions_finished_total{application="app",reason="Deleted"} 1"#,
        r#"roomrobot_quota_granted_total{application="app",command="delete_robot"} 4"#,
        r#"roomrobot_quota_pace{application="app",command="delete_robot"} 100.0"#,
        r#"roomrobot_breaker{application="app",state="open"} 1"#,
        r#"roomrobot_breaker{application="app",state="closed"} 0"#,
        r#"roomrobot_application_ready{application="app",reason="CredentialsRejected"} 0"#,
        r#"roomrobot_writes_total{verb="create",resource="events",change="event",result="ok"} 1"#,
        "roomrobot_reconciles_total 42",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    let text = metrics.text(&snapshot(Vec::new())).unwrap();
    assert!(!text.contains("roomrobot_deletions_pending{") && !text.contains("roomrobot_breaker{"), "{text}");
    assert!(text.contains("roomrobot_calls_total{"), "what was counted stays");
    assert!(!text.contains(r#"waiting_seconds{application="app",reason="Queued"}"#), "{text}");
}

/// Anybody who may create a RoomRobot may write any name there.
#[test]
fn names_that_no_application_has_become_no_labels() {
    let metrics = Metrics::default();
    for n in 0..100 {
        let mut robot = deleted("r");
        robot.conditions = roomrobot_core::status::Conditions::default();
        robot.application = format!("made-up-{n}").into();
        metrics.finished(&robot, 1_767_225_600 + 7);
    }
    let text = metrics.text(&snapshot(Vec::new())).unwrap();
    assert!(!text.contains("made-up"), "{text}");
    let line = r#"roomrobot_deletions_finished_total{application="(unknown)",reason="None"} 100"#;
    assert!(text.lines().any(|found| found == line), "{text}");
}

#[test]
fn the_system_tells_of_this_process() {
    let text = Metrics::default().text(&snapshot(Vec::new())).unwrap();
    let number = |name: &str| -> f64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().parse().unwrap()
    };
    assert!(number("process_resident_memory_bytes ") > 1e6);
    assert!(number("process_open_fds ") >= 3.0 && number("process_max_fds ") >= number("process_open_fds "));
    assert!(number("process_threads ") >= 1.0);
    let now = k8s_openapi::jiff::Timestamp::now().as_second();
    let age = f64::from(u32::try_from(now).unwrap()) - number("process_start_time_seconds ");
    assert!((-2.0..86_400.0).contains(&age), "{age} s old");
}

/// The text for fifty applications, each with ten codes, is a matter of milliseconds also in a debug build.
#[test]
fn fifty_applications_cost_little() {
    let metrics = Metrics::default();
    let mut applications = Vec::new();
    for n in 0..50 {
        let name = format!("application-{n}");
        for code in roomrobot_core::codes::CODES.iter().take(10) {
            let reply = Outcome::Reply(Reply { code: code.code, info: String::new(), request_id: None });
            metrics.called(&name, Operation::DeleteRobot, &reply, Duration::from_millis(20));
        }
        applications.push(application(&name));
    }
    let snapshot = snapshot(applications);
    let least = (0..5)
        .map(|_| {
            let start = Instant::now();
            let text = metrics.text(&snapshot).unwrap();
            assert!(text.len() < 512 * 1024, "{} bytes", text.len());
            start.elapsed()
        })
        .min()
        .unwrap();
    assert!(least < Duration::from_millis(200), "{least:?}");
}

/// Ten thousand deletions that wait, in fifty applications, each of which has met with a dozen codes: what counting and
/// scraping take of the processor, and what they keep of memory.
/// `cargo test --release --lib ten_thousand -- --nocapture` shows the numbers of a release build.
#[test]
fn a_scrape_of_ten_thousand_robots_and_fifty_applications_is_quick_and_small() {
    const MOST_KIB: u64 = 1000;
    const ALONE: &str = "ROOMROBOT_MEASURED_ALONE";
    if std::env::var_os(ALONE).is_none() {
        // Memory is that of a process: the tests beside this one must not be in it.
        let test =
            "metrics::tests::a_scrape_of_ten_thousand_robots_and_fifty_applications_is_quick_and_small";
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args([test, "--exact", "--nocapture", "--test-threads", "1"])
            .env(ALONE, "1")
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stdout);
        println!("{told}");
        assert!(output.status.success(), "{told}{}", String::from_utf8_lossy(&output.stderr));
        assert!(told.contains("1 passed"), "{told}");
        return;
    }
    let (engine, now) = ten_thousand_waiting();
    // Without the pages of the program itself, which are read in as they are first needed.
    let resident = || procfs::process::Process::myself().unwrap().status().unwrap().rssanon.unwrap();
    let before = resident();
    let metrics = Metrics::default();
    let names: Vec<String> = (0..50).map(|n| format!("app-{n}")).collect();
    let mut robot = deleted("r");
    let start = Instant::now();
    for name in &names {
        robot.application = name.as_str().into();
        for code in roomrobot_core::codes::CODES.iter().take(12) {
            count_a_deletion(&metrics, name, code.code, &robot);
        }
    }
    let a_deletion = start.elapsed() / 600;
    let kept = resident().saturating_sub(before);
    let times: Vec<Duration> = (0..20)
        .map(|_| {
            let start = Instant::now();
            let text = metrics.text(&engine.snapshot(now)).unwrap();
            let line = r#"roomrobot_deletions_pending{application="app-0",reason="InternalError"} 200"#;
            assert!(text.contains(line));
            start.elapsed()
        })
        .collect();
    let scraped = resident().saturating_sub(before);
    let least = times.iter().min().copied().unwrap();
    // 200 deletions a second, and a scrape every 5 s.
    let share = a_deletion.as_secs_f64() * 200.0 + least.as_secs_f64() / 5.0;
    println!(
        "a deletion: {a_deletion:?}; a scrape: {least:?} at best, {:?} at worst; {:.2} % of a core at the full quota \
         and a scrape every 5 s; memory: {kept} KiB by counting, {scraped} KiB after 20 scrapes",
        times.iter().max(),
        share * 100.0
    );
    let slow = if cfg!(debug_assertions) { 10 } else { 1 };
    assert!(least < Duration::from_millis(20 * slow), "{times:?}");
    assert!(share < 0.02 * f64::from(u32::try_from(slow).unwrap()), "{share} of a core");
    assert!(scraped < MOST_KIB, "{scraped} KiB");
}

/// What a deletion with this answer counts.
fn count_a_deletion(metrics: &Metrics, application: &str, code: i64, robot: &Robot) {
    let reply = Outcome::Reply(Reply { code, info: String::new(), request_id: None });
    metrics.granted(application, Operation::DeleteRobot);
    metrics.called(application, Operation::DeleteRobot, &reply, Duration::from_millis(20));
    metrics.wrote("roomrobots", &Change::Status(Vec::new()), &Ok(()));
    metrics.wrote("roomrobots", &Change::DropFinalizer { at: 0, version: 1 }, &Ok(()));
    metrics.finished(robot, 1_767_225_600 + 7);
}

/// An engine with ten thousand deletions that wait, in fifty applications.
fn ten_thousand_waiting() -> (roomrobot_core::engine::Engine, roomrobot_core::engine::Now) {
    use roomrobot_core::{
        endpoint::Allowed,
        engine::{Engine, Input, Now, Settings},
    };
    let settings =
        Settings { allowed: Allowed::default(), namespace: "ns".into(), concurrency: 32, shard: None };
    let mut engine = Engine::new(settings, 1, 0);
    let now = Now {
        since_start: Duration::from_secs(1),
        wall: k8s_openapi::jiff::Timestamp::from_second(1_767_225_661).unwrap(),
    };
    for n in 0..50 {
        let json = serde_json::json!({
            "metadata": {"name": format!("app-{n}"), "uid": format!("app-{n}"), "generation": 1, "resourceVersion": "1"},
            "spec": {"sdkAppId": 1_400_000_000 + n, "credentials": {"secretRef": {"name": "key"}}},
        });
        let application = serde_json::from_value(json).unwrap();
        let application =
            roomrobot_core::application::StoredApplication::read(application, &Allowed::default());
        engine.handle(Input::Application(Box::new(application)), now);
    }
    engine.handle(Input::RobotsListing(None, 1), now);
    for n in 0..10_000 {
        let json = serde_json::json!({
            "metadata": {"name": format!("r{n}"), "namespace": "ns", "uid": n.to_string(), "generation": 2,
                "deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["roomrobot.dev/delete-robot"]},
            "spec": {"roomId": "r", "memberAccount": n.to_string(), "applicationRef": {"name": format!("app-{}", n % 50)}},
            "status": {"conditions": [
                {"type": "Accepted", "status": "True", "reason": "Accepted"},
                {"type": "RobotDeleted", "status": "False", "reason": (["InternalError", "Throttled"][n % 2])}]},
        });
        let robot = serde_json::from_value::<Stored>(json).unwrap().into();
        engine.handle(Input::Robot(Box::new(robot)), now);
    }
    (engine, now)
}
