//! The simulator as a program: what it says at its start, and that it answers as the room engine does.

// A panic is how a test reports.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use serde_json::{Value, json};
use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
};
use testbed::guardian::Guardian;

const PROGRAM: &str = env!("CARGO_BIN_EXE_room-engine-simulator");

#[tokio::test]
async fn it_says_where_it_listens_and_refuses_who_has_no_signature() {
    rustls::crypto::ring::default_provider().install_default().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let guardian = Guardian::new(folder.path()).unwrap();
    let mut command = Command::new(PROGRAM);
    command.args(["--listen=127.0.0.1:0", "--app=1400000000=KEY"]).stdout(Stdio::piped());
    let mut program = guardian.spawn(&mut command).unwrap();
    let mut line = String::new();
    BufReader::new(program.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let endpoint = line.trim().strip_prefix("listening on ").unwrap_or_else(|| panic!("{line}"));
    let url = format!(
        "{endpoint}/v4/room_engine_http_srv/delete_robot?sdkappid=1400000000&identifier=administrator&usersig=none&random=1&contenttype=json"
    );
    let body = json!({"RoomId": "lobby", "Member_Account": "robot"}).to_string();
    let answer = reqwest::Client::new().post(url).body(body).send().await.unwrap().text().await.unwrap();
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(answer["ActionStatus"], "FAIL");
    assert_eq!(answer["ErrorCode"], 70003, "{answer}");
    assert!(answer["RequestId"].as_str().is_some_and(|id| !id.is_empty()));
    guardian.end(&mut program);
}

#[test]
fn an_application_without_its_key_is_one_clear_error() {
    let output = Command::new(PROGRAM).arg("--app=1400000000").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("it is not SDKAPPID=KEY"), "{said}");
}
