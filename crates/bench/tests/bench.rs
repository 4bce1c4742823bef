//! The bench with a handful of robots: that it runs, and what must hold at any size. No figure of time is looked at.

// A panic is how a test reports.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use serde_json::Value;
use std::{path::Path, process::Command};

#[test]
fn every_scenario_runs_and_keeps_what_holds_at_any_size() {
    let bench = Path::new(env!("CARGO_BIN_EXE_bench"));
    // Built with the workspace, beside the bench.
    let operator = bench.with_file_name("roomrobot-operator");
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("bench.json");
    let output = Command::new(bench)
        .args(["--n", "20", "--singles", "3", "--operator"])
        .arg(&operator)
        .arg("--json")
        .arg(&json)
        .env_remove("BENCH")
        .env_remove("N")
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    let report: Value = serde_json::from_str(&std::fs::read_to_string(&json).unwrap()).unwrap();
    let rows = report["rows"].as_array().unwrap();
    let scenarios: Vec<&str> = rows.iter().map(|row| row["scenario"].as_str().unwrap()).collect();
    assert_eq!(
        scenarios,
        ["floor", "floor, watched", "a pending", "b live", "c restart", "d beside", "e growth"]
    );
    for row in rows {
        let scenario = row["scenario"].as_str().unwrap();
        assert!(row["rssPeak"].as_u64().unwrap() > 1_000_000, "{row:#}");
        if scenario == "c restart" {
            assert_eq!(
                (row["calls"].as_u64(), row["writesPerLife"].as_object().unwrap().len()),
                (Some(0), 0)
            );
            let others: Vec<&String> = row["otherWrites"].as_object().unwrap().keys().collect();
            assert!(others.iter().all(|write| write.ends_with(" leases")), "{row:#}");
            continue;
        }
        assert_eq!(row["callsPerDeletion"], 1.0, "{row:#}");
        assert!(row["mostCallsInASecond"].as_u64().unwrap() <= 200, "{row:#}");
        let share = row["callsShareOfLimit"].as_f64();
        assert_eq!(share.is_some_and(|share| share > 0.0), !scenario.starts_with("floor"), "{row:#}");
        let writes: f64 =
            row["writesPerLife"].as_object().unwrap().values().map(|count| count.as_f64().unwrap()).sum();
        // Two to take a robot in charge, two to end its deletion.
        let expected = if scenario == "b live" { 4.0 } else { 2.0 };
        assert!((writes - expected).abs() < 1e-9, "{row:#}");
    }
    let engine = report["engine"].as_array().unwrap();
    assert_eq!(engine.len(), 2);
    let table = String::from_utf8_lossy(&output.stdout);
    assert!(
        table.contains("% quota") && table.contains("% limit, calls") && table.contains("a pending"),
        "{table}"
    );
}
