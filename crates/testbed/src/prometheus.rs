//! A real Prometheus that looks at an operator.

use crate::{
    Error, Result, assets,
    control_plane::{ControlPlane, free_port, wait_for},
    operator::Operator,
};
use serde_json::{Value, json};
use std::{
    fs,
    process::{Child, Command, Stdio},
    time::Duration,
};

/// How long it may take to become ready.
const START: Duration = Duration::from_secs(30);

/// A running Prometheus; it ends with the value.
#[derive(Debug)]
pub struct Prometheus<'a> {
    plane: &'a ControlPlane,
    child: Child,
    url: String,
}

impl<'a> Prometheus<'a> {
    /// Starts one that scrapes `operator`, and evaluates `rules` where there are any, each `interval`.
    ///
    /// # Errors
    /// If it cannot be built or does not become ready.
    pub async fn start(
        plane: &'a ControlPlane,
        operator: &Operator<'_>,
        interval: Duration,
        rules: Option<&str>,
    ) -> Result<Self> {
        let binary = tokio::task::spawn_blocking(assets::prometheus)
            .await
            .map_err(|error| Error::new("prometheus", error))??;
        let folder = plane.folder().join(format!("prometheus-{:08x}", fastrand::u32(..)));
        let why = |error: std::io::Error| Error::new("prometheus", error);
        fs::create_dir_all(&folder).map_err(why)?;
        if let Some(rules) = rules {
            fs::write(folder.join("rules.yaml"), rules).map_err(why)?;
        }
        let interval = format!("{}ms", interval.as_millis());
        let config = json!({
            "global": {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval},
            "rule_files": [folder.join("rules*.yaml")],
            "scrape_configs": [{"job_name": "roomrobot-operator", "static_configs": [{
                "targets": [operator.address()],
                "labels": {"instance": "operator", "namespace": "roomrobot-system"},
            }]}],
        });
        let file = folder.join("prometheus.json");
        fs::write(&file, config.to_string()).map_err(why)?;
        let address = format!("127.0.0.1:{}", free_port()?);
        let log = folder.join("log");
        let mut command = Command::new(binary);
        command
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log).map_err(why)?);
        let child = plane.guardian().spawn(&mut command)?;
        let this = Self { plane, child, url: format!("http://{address}") };
        wait_for(START, "Prometheus", || async {
            let ready = reqwest::get(format!("{}/-/ready", this.url)).await;
            ready.is_ok_and(|answer| answer.status().is_success())
        })
        .await
        .map_err(|error| Error::new(error, fs::read_to_string(&log).unwrap_or_default()))?;
        Ok(this)
    }

    /// Where it answers queries.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The alerts that fire now, as its API tells them.
    ///
    /// # Errors
    /// If it does not answer.
    pub async fn firing(&self) -> Result<Vec<Value>> {
        let why = |error: &dyn std::error::Error| Error::new("Prometheus", error);
        let answer =
            reqwest::get(format!("{}/api/v1/alerts", self.url)).await.map_err(|error| why(&error))?;
        let text = answer.text().await.map_err(|error| why(&error))?;
        let mut answer: Value = serde_json::from_str(&text).map_err(|error| why(&error))?;
        let Some(Value::Array(alerts)) = answer.pointer_mut("/data/alerts").map(Value::take) else {
            return Err(Error::new("Prometheus", answer));
        };
        let fires = |alert: &Value| alert.get("state").is_some_and(|state| state == "firing");
        Ok(alerts.into_iter().filter(fires).collect())
    }
}

impl Drop for Prometheus<'_> {
    fn drop(&mut self) {
        self.plane.guardian().end(&mut self.child);
    }
}
