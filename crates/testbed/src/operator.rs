//! The operator as a process: its own arguments, its own ServiceAccount, its log in a file.

use crate::{
    Error, Result,
    control_plane::{ControlPlane, OPERATOR_ACCOUNT, OPERATOR_NAMESPACE, Paused, free_port, wait_for},
};
use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec},
    core::v1::{EnvVar, PodSpec, ServiceAccount},
};
use kube::{Api, api::PostParams};
use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

/// How long the operator may take to become ready.
const START: Duration = Duration::from_secs(30);

/// The lines of its log that a failed test shows.
const LOG_TAIL: usize = 60;

/// A running operator; it is killed with the value.
#[derive(Debug)]
pub struct Operator<'a> {
    plane: &'a ControlPlane,
    child: Child,
    log: PathBuf,
    port: u16,
    most_memory: u64,
}

impl<'a> Operator<'a> {
    /// Starts `binary run` with `args` and `env` as the operator's ServiceAccount, and does not wait for anything.
    ///
    /// # Errors
    /// If it cannot be started.
    pub async fn spawn(
        plane: &'a ControlPlane,
        binary: &Path,
        args: &[&str],
        env: &[(&str, &str)],
    ) -> Result<Self> {
        let name = format!("operator-{:08x}", fastrand::u32(..));
        let token = account_token(plane).await?;
        let kubeconfig = plane.kubeconfig_for(&name, &token)?;
        let log = plane.folder().join(format!("{name}.log"));
        let why = |error: std::io::Error| Error::new(log.display(), error);
        let file = File::create(&log).map_err(why)?;
        let port = free_port()?;
        let mut command = Command::new(binary);
        command
            .args(["run", "--namespace", OPERATOR_NAMESPACE])
            .arg(format!("--listen=127.0.0.1:{port}"))
            .args(args)
            .env("KUBECONFIG", &kubeconfig)
            .env("HOSTNAME", &name)
            // The simulator is on this machine, whatever proxy the user has.
            .env("NO_PROXY", "127.0.0.1,localhost")
            .env("no_proxy", "127.0.0.1,localhost")
            .envs(env.iter().copied())
            .stdin(Stdio::null())
            .stdout(file.try_clone().map_err(why)?)
            .stderr(file);
        let child = plane.guardian().spawn(&mut command)?;
        Ok(Self { plane, child, log, port, most_memory: u64::MAX })
    }

    /// Starts `binary` as the first container of a stored Pod spec says: its arguments, its environment, the token of
    /// its ServiceAccount. Only the address to listen on is another, as all are on one machine.
    ///
    /// # Errors
    /// If it cannot be started.
    pub async fn spawn_pod(
        plane: &'a ControlPlane,
        binary: &Path,
        namespace: &str,
        pod: &PodSpec,
    ) -> Result<Self> {
        let name = format!("operator-{:08x}", fastrand::u32(..));
        let log = plane.folder().join(format!("{name}.log"));
        let why = |error: std::io::Error| Error::new(log.display(), error);
        let file = File::create(&log).map_err(why)?;
        let port = free_port()?;
        let mut command = container(plane, binary, namespace, &name, pod).await?;
        command.arg(format!("--listen=127.0.0.1:{port}")).stdout(file.try_clone().map_err(why)?).stderr(file);
        let child = plane.guardian().spawn(&mut command)?;
        Ok(Self { plane, child, log, port, most_memory: u64::MAX })
    }

    /// Where it serves HTTP.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// As [`Operator::spawn`], and waits until it is ready.
    ///
    /// # Errors
    /// If it does not become ready; the end of its log is in the error.
    pub async fn start(plane: &'a ControlPlane, binary: &Path, args: &[&str]) -> Result<Self> {
        let this = Self::spawn(plane, binary, args, &[]).await?;
        this.wait_ready().await?;
        Ok(this)
    }

    /// Waits until `/readyz` says so.
    ///
    /// # Errors
    /// If that takes too long.
    pub async fn wait_ready(&self) -> Result<()> {
        wait_for(START, "the operator", || async {
            self.get("/readyz").is_some_and(|text| text.contains(" 200 "))
        })
        .await
        .map_err(|error| Error::new(error, self.log()))
    }

    /// The whole HTTP answer to a GET of `path`, or `None` where there is none.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: testbed\r\nConnection: close\r\n\r\n").ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        Some(text)
    }

    /// Where it serves HTTP.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// Its log so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Its name, which its Pod would have.
    #[must_use]
    pub fn name(&self) -> &str {
        self.log.file_stem().and_then(|name| name.to_str()).unwrap_or_default()
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Resident memory, and the most of it so far, in bytes.
    #[must_use]
    pub fn memory(&self) -> Option<(u64, u64)> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).ok()?;
        let field = |name: &str| -> Option<u64> {
            let line = status.lines().find(|line| line.starts_with(name))?;
            line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib * 1024)
        };
        Some((field("VmRSS:")?, field("VmHWM:")?))
    }

    /// The same, and it may never have more resident memory than this, in bytes: looked at when it is ended, which is a
    /// panic where it had more.
    #[must_use]
    pub fn with_most_memory(mut self, most_memory: u64) -> Self {
        self.most_memory = most_memory;
        self
    }

    /// Ends it at once.
    pub fn kill(self) {
        drop(self);
    }

    /// Stops it for as long as the guard lives.
    ///
    /// # Errors
    /// If the signal cannot be sent.
    pub fn pause(&self) -> Result<Paused> {
        Paused::new(self.pid())
    }

    /// Sends SIGTERM and waits for its end.
    ///
    /// # Errors
    /// If it does not end within `limit`.
    pub async fn terminate(mut self, limit: Duration) -> Result<ExitStatus> {
        self.ask_to_end()?;
        self.ended(limit).await
    }

    /// Sends SIGTERM.
    ///
    /// # Errors
    /// If the signal cannot be sent, or it had too much memory.
    pub fn ask_to_end(&self) -> Result<()> {
        self.check_memory()?;
        let pid = i32::try_from(self.pid()).ok().and_then(rustix::process::Pid::from_raw);
        let pid = pid.ok_or_else(|| Error::new("SIGTERM", "no process"))?;
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)
            .map_err(|error| Error::new("SIGTERM", error))
    }

    fn check_memory(&self) -> Result<()> {
        match self.memory() {
            Some((_, most)) if most > self.most_memory => {
                Err(Error(format!("the operator had {} KiB of memory", most / 1024)))
            }
            _ => Ok(()),
        }
    }

    /// The calls of its audit log whose answer had a RequestId: these.
    #[must_use]
    pub fn request_ids(&self) -> BTreeSet<String> {
        let lines = self.log();
        let audit = lines.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let audit = audit.filter(|line| line.get("target").is_some_and(|target| target == "audit"));
        audit.filter_map(|line| Some(line.get("request_id")?.as_str()?.to_owned())).collect()
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// If it does not end within `limit`.
    pub async fn ended(&mut self, limit: Duration) -> Result<ExitStatus> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().map_err(|error| Error::new("operator", error))? {
                return Ok(status);
            }
            if start.elapsed() > limit {
                return Err(Error::new("the operator did not end", self.log()));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Operator<'_> {
    fn drop(&mut self) {
        let memory = self.check_memory();
        self.plane.guardian().end(&mut self.child);
        // A test that failed is understood from what the operator said last.
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let left_out = lines.len().saturating_sub(LOG_TAIL);
            eprintln!("--- the operator's log, without its first {left_out} lines");
            for line in lines.iter().skip(left_out) {
                eprintln!("{line}");
            }
        } else {
            assert!(memory.is_ok(), "{memory:?}");
        }
    }
}

/// The command that the first container of a Pod runs, as a process: what a kubelet would give it, without a sandbox.
///
/// # Errors
/// If the Pod has something that this does not know, or its ServiceAccount gets no token.
pub async fn container(
    plane: &ControlPlane,
    binary: &Path,
    namespace: &str,
    name: &str,
    pod: &PodSpec,
) -> Result<Command> {
    let missing = |what: &str| Error::new(name, format!("the Pod has no {what}"));
    let container = pod.containers.first().ok_or_else(|| missing("container"))?;
    let account = pod.service_account_name.as_deref().ok_or_else(|| missing("ServiceAccount"))?;
    let token = token(plane, namespace, account).await?;
    let mut command = Command::new(binary);
    command.args(container.args.iter().flatten());
    for EnvVar { name: key, value, value_from } in container.env.iter().flatten() {
        let field = value_from.as_ref().and_then(|from| from.field_ref.as_ref());
        let value = match (value.as_deref(), field.map(|field| field.field_path.as_str())) {
            (Some(value), None) => value,
            (None, Some("metadata.namespace")) => namespace,
            (None, Some("metadata.name")) => name,
            other => return Err(Error::new(key, format!("unknown source {other:?}"))),
        };
        command.env(key, value);
    }
    command.env("KUBECONFIG", plane.kubeconfig_for(name, &token)?).env("HOSTNAME", name).stdin(Stdio::null());
    Ok(command)
}

/// A token of the operator's own ServiceAccount.
///
/// # Errors
/// If the API server refuses it.
pub async fn account_token(plane: &ControlPlane) -> Result<String> {
    token(plane, OPERATOR_NAMESPACE, OPERATOR_ACCOUNT).await
}

/// A token of any ServiceAccount.
///
/// # Errors
/// If the API server refuses it.
pub async fn token(plane: &ControlPlane, namespace: &str, account: &str) -> Result<String> {
    let why = |error: kube::Error| Error::new("TokenRequest", error);
    let api = Api::<ServiceAccount>::namespaced(plane.client().await?, namespace);
    let request = TokenRequest {
        spec: TokenRequestSpec { expiration_seconds: Some(24 * 3600), ..TokenRequestSpec::default() },
        ..TokenRequest::default()
    };
    let answer = api.create_token_request(account, &PostParams::default(), &request).await.map_err(why)?;
    answer.status.map(|status| status.token).ok_or_else(|| Error("TokenRequest: no token".to_owned()))
}
