//! The simulator as a process of its own, scripted over HTTP as any user would.

use reqwest::Client;
use serde_json::json;
use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};
use testbed::{Error, Result, guardian::Guardian, simulator::Call};

/// A running simulator; it ends with the value.
#[derive(Debug)]
pub struct RoomEngineProcess<'a> {
    guardian: &'a Guardian,
    child: Child,
    endpoint: String,
    http: Client,
}

impl<'a> RoomEngineProcess<'a> {
    /// Starts `program` with a quota and the applications of `apps`, each with its key.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(
        guardian: &'a Guardian,
        http: Client,
        program: &Path,
        quota: u32,
        apps: &[(u32, &str)],
    ) -> Result<Self> {
        let mut command = Command::new(program);
        command
            .args(["--listen=127.0.0.1:0", &format!("--quota={quota}")])
            .args(apps.iter().map(|(id, key)| format!("--app={id}={key}")))
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let mut child = guardian.spawn(&mut command)?;
        let mut line = String::new();
        let told = child.stdout.take().map(|out| BufReader::new(out).read_line(&mut line));
        let endpoint = line.trim().strip_prefix("listening on ").map(str::to_owned);
        if let (Some(Ok(_)), Some(endpoint)) = (told, endpoint) {
            return Ok(Self { guardian, child, endpoint, http });
        }
        guardian.end(&mut child);
        Err(Error(format!("the simulator did not start: {line}")))
    }

    /// Where it listens.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Puts `members` into a room of an application.
    ///
    /// # Errors
    /// If it cannot be told.
    pub async fn fill(&self, sdk_app_id: u32, room: &str, members: &[String]) -> Result<()> {
        let body = json!({"sdkAppId": sdk_app_id, "room": room, "members": members}).to_string();
        let request = self.http.put(format!("{}/simulator/rooms", self.endpoint)).body(body);
        let why = |error: reqwest::Error| Error::new("simulator", error);
        request.send().await.and_then(reqwest::Response::error_for_status).map(drop).map_err(why)
    }

    /// Every call so far, in the order in which they came in.
    ///
    /// # Errors
    /// If it cannot be asked.
    pub async fn calls(&self) -> Result<Vec<Call>> {
        let why = |error: reqwest::Error| Error::new("simulator", error);
        let response =
            self.http.get(format!("{}/simulator/calls", self.endpoint)).send().await.map_err(why)?;
        let text = response.text().await.map_err(why)?;
        let mut calls: Vec<Call> =
            serde_json::from_str(&text).map_err(|error| Error::new("simulator", error))?;
        calls.sort_by_key(|call| call.at);
        Ok(calls)
    }
}

impl Drop for RoomEngineProcess<'_> {
    fn drop(&mut self) {
        self.guardian.end(&mut self.child);
    }
}

/// The most calls of one SDKAppID and command in any sliding second.
#[must_use]
pub fn most_in_a_second(calls: &[Call]) -> usize {
    let mut by_quota: BTreeMap<(u32, &str), Vec<u64>> = BTreeMap::new();
    for call in calls {
        by_quota.entry((call.sdk_app_id, &call.command)).or_default().push(call.at);
    }
    by_quota.values().map(|times| promises::most_in(times, 1_000_000)).max().unwrap_or_default()
}
