//! The alerts and the dashboard, with the tools of those who read them: promtool says whether each query is one, and
//! whether each alert fires when it should and is silent when it should not.

use serde_json::Value;
use std::{fmt::Write as _, fs, path::Path, process::Command};

const ALERTS: &str = "charts/roomrobot-operator/files/alerts.yaml";
const DASHBOARD: &str = "charts/roomrobot-operator/files/dashboard.json";

fn promtool(args: &[&str]) {
    let promtool = testbed::assets::promtool().unwrap();
    let output = Command::new(promtool).args(args).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{args:?}\n{}{}", text(&output.stdout), text(&output.stderr));
}

#[test]
fn each_alert_fires_when_it_should_and_is_silent_when_not() {
    promtool(&["check", "rules", "--lint=all", "--lint-fatal", ALERTS]);
    for file in fs::read_dir("tests/alerts").unwrap() {
        promtool(&["test", "rules", file.unwrap().path().to_str().unwrap()]);
    }
}

/// Each alert is tested, and its runbook has a section for it.
#[test]
fn each_alert_has_a_test_and_a_section_in_the_runbook() {
    let alerts = fs::read_to_string(ALERTS).unwrap();
    let tests = fs::read_to_string("tests/alerts/alerts.yaml").unwrap();
    let runbook = fs::read_to_string("docs/runbook.md").unwrap();
    let anchors: Vec<String> = runbook
        .lines()
        .filter_map(|line| line.strip_prefix("## "))
        .map(|title| title.to_lowercase().replace(' ', "-"))
        .collect();
    let names: Vec<&str> = alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert_eq!(names.len(), 8);
    for name in &names {
        assert!(
            tests.contains(&format!("alertname: {name}"))
                || tests.contains(&format!("alertname=\"{name}\", alertstate=\"firing\"")),
            "{name}"
        );
        assert!(runbook.contains(&format!("`{name}`")), "{name}");
    }
    let links: Vec<&str> =
        alerts.lines().filter_map(|line| line.trim().strip_prefix("runbook_url: docs/runbook.md#")).collect();
    assert_eq!(links.len(), names.len());
    for link in links {
        assert!(anchors.iter().any(|anchor| anchor == link), "{link} is not in {anchors:?}");
    }
}

/// The dashboard's queries are queries, about metrics that there are.
#[test]
fn the_dashboards_queries_can_be_asked() {
    let dashboard: Value = serde_json::from_str(&fs::read_to_string(DASHBOARD).unwrap()).unwrap();
    let mut rules = String::from("groups:\n  - name: dashboard\n    rules:\n");
    let mut count = 0;
    for target in
        dashboard["panels"].as_array().unwrap().iter().flat_map(|panel| panel["targets"].as_array().unwrap())
    {
        let query =
            target["expr"].as_str().unwrap().replace("$__rate_interval", "1m").replace("$application", ".*");
        let query = serde_json::to_string(&query).unwrap();
        let _ = writeln!(rules, "      - record: q:{count}\n        expr: {query}");
        count += 1;
    }
    assert!(count >= 15);
    let titles: Vec<&str> = dashboard["panels"]
        .as_array()
        .unwrap()
        .iter()
        .map(|panel| panel["title"].as_str().unwrap())
        .collect();
    for title in [
        "Deletions that wait",
        "Gone in",
        "Backlog by reason",
        "Time until the line is empty",
        "Calls by code",
        "Latency of calls",
        "Pace against quota",
        "Oldest deletion",
    ] {
        assert!(titles.contains(&title), "{title} is not in {titles:?}");
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rules.yaml");
    fs::write(&file, rules.replace("q:", "roomrobot:q")).unwrap();
    promtool(&["check", "rules", file.to_str().unwrap()]);
    for file in [ALERTS, DASHBOARD] {
        let text = fs::read_to_string(Path::new(file)).unwrap();
        for word in text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
            if word.starts_with("roomrobot_") || word.starts_with("process_") {
                let base = word.trim_end_matches("_bucket");
                let known = roomrobot_operator::metrics::ROWS.iter().any(|row| row.sample() == base);
                assert!(known, "{file}: {word}");
            }
        }
    }
}
