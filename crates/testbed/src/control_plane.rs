//! etcd, kube-apiserver and kube-controller-manager as processes on free loopback ports, in a temporary folder.

use crate::{Error, Result, assets, audit::AuditLog, guardian::Guardian};
use kube::{
    Api, Client, Config,
    api::{ListParams, PostParams},
    config::Kubeconfig,
};
use roomrobot_core::crd::{self, RoomRobot, RtcApplication};
use serde_json::json;
use std::{
    fs::{self, File},
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Mutex,
    time::{Duration, Instant},
};
use tempfile::TempDir;
use tokio::time::sleep;

/// How long the API server may take to become ready.
const START: Duration = Duration::from_secs(90);

/// The namespace that the operator under test lives in.
pub const OPERATOR_NAMESPACE: &str = "roomrobot-system";

/// The ServiceAccount that the operator under test runs as.
pub const OPERATOR_ACCOUNT: &str = "roomrobot-operator";

/// The audit log has every write to our resources with its body, and nothing of Secrets.
const AUDIT_POLICY: &str = r#"{"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"], "rules": [
  {"level": "Request", "verbs": ["create", "update", "patch", "delete", "deletecollection"],
   "resources": [{"group": "roomrobot.dev"}, {"group": "events.k8s.io"}, {"group": "coordination.k8s.io"}]},
  {"level": "Metadata", "users": ["system:serviceaccount:roomrobot-system:roomrobot-operator",
    "system:serviceaccount:roomrobot-system:roomrobot-operator-hooks"]},
  {"level": "None"}]}"#;

/// A running control plane; it ends with the value.
#[derive(Debug)]
pub struct ControlPlane {
    folder: PathBuf,
    bin: PathBuf,
    port: u16,
    etcd_ports: (u16, u16),
    token: String,
    etcd: Mutex<Child>,
    api_server: Mutex<Child>,
    controller_manager: Child,
    guardian: Guardian,
    // After the guardian, which removes what is in it.
    _temporary: TempDir,
}

impl ControlPlane {
    /// Starts one; it is ready when this returns.
    ///
    /// # Errors
    /// If a binary cannot be built or started, or the API server does not become ready.
    pub async fn start() -> Result<Self> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let bin = tokio::task::spawn_blocking(assets::folder)
            .await
            .map_err(|error| Error::new("assets", error))??;
        let why = |error: std::io::Error| Error::new("temporary folder", error);
        let temporary = tempfile::Builder::new().prefix("roomrobot-testbed-").tempdir().map_err(why)?;
        let folder = temporary.path().to_owned();
        let guardian = Guardian::new(&folder)?;
        let (port, controller, etcd_ports) = (free_port()?, free_port()?, (free_port()?, free_port()?));
        let token = format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..));
        let controller_token = format!("{:016x}", fastrand::u64(..));

        fs::write(folder.join("audit-policy.json"), AUDIT_POLICY).map_err(why)?;
        fs::write(
            folder.join("tokens.csv"),
            format!("{token},admin,admin,\"system:masters\"\n{controller_token},system:kube-controller-manager,kcm,\"system:masters\"\n"),
        )
        .map_err(why)?;
        write_account_keys(&folder)?;

        let etcd = guardian.spawn(&mut etcd_command(&bin, &folder, etcd_ports)?)?;
        let api_server = guardian.spawn(&mut api_server_command(&bin, &folder, port, etcd_ports.0)?)?;
        // The API server makes its own certificate, which is its own authority.
        let certificate = folder.join("certificates/apiserver.crt");
        wait_for(START, "the API server's certificate", || async { certificate.is_file() }).await?;
        let kubeconfig = |token: &str| kubeconfig(&format!("https://127.0.0.1:{port}"), &certificate, token);
        fs::write(folder.join("controller-manager.kubeconfig"), kubeconfig(&controller_token)?)
            .map_err(why)?;
        fs::write(folder.join("admin.kubeconfig"), kubeconfig(&token)?).map_err(why)?;

        let mut command = Command::new(bin.join("kube-controller-manager"));
        command
            .arg(format!("--kubeconfig={}", folder.join("controller-manager.kubeconfig").display()))
            .arg("--controllers=namespace-controller,garbage-collector-controller,serviceaccount-controller,clusterrole-aggregation-controller")
            .args(["--leader-elect=false", "--kube-api-qps=500", "--kube-api-burst=1000"])
            .arg(format!("--secure-port={controller}"))
            .arg("--bind-address=127.0.0.1")
            .arg(format!("--cert-dir={}", folder.join("controller-certificates").display()));
        log_to(&mut command, &folder, "kube-controller-manager")?;
        let controller_manager = guardian.spawn(&mut command)?;

        let this = Self {
            folder,
            bin,
            port,
            etcd_ports,
            token,
            etcd: Mutex::new(etcd),
            api_server: Mutex::new(api_server),
            controller_manager,
            guardian,
            _temporary: temporary,
        };
        this.wait_ready().await?;
        Ok(this)
    }

    /// Waits until the API server says that it is ready.
    ///
    /// # Errors
    /// If that takes too long.
    pub async fn wait_ready(&self) -> Result<()> {
        let client = self.client().await?;
        wait_for(START, "the API server", || async {
            if self.api_server_ended() {
                return true;
            }
            let request = hyper::Request::get("/readyz").body(Vec::new());
            match request {
                Ok(request) => client.request_text(request).await.is_ok_and(|text| text == "ok"),
                Err(_) => false,
            }
        })
        .await
        .and_then(|()| {
            if self.api_server_ended() { Err(Error("the API server ended".to_owned())) } else { Ok(()) }
        })
        .map_err(|error| {
            let log = fs::read_to_string(self.folder.join("kube-apiserver.log")).unwrap_or_default();
            let tail: Vec<&str> = log.lines().rev().take(5).collect();
            Error::new(error, tail.join("\n"))
        })
    }

    fn api_server_ended(&self) -> bool {
        self.api_server.lock().is_ok_and(|mut child| matches!(child.try_wait(), Ok(Some(_))))
    }

    /// A client for the cluster's administrator.
    ///
    /// # Errors
    /// If the kubeconfig cannot be used.
    pub async fn client(&self) -> Result<Client> {
        client(&self.admin_kubeconfig()).await
    }

    /// The kubeconfig of the cluster's administrator.
    #[must_use]
    pub fn admin_kubeconfig(&self) -> PathBuf {
        self.folder.join("admin.kubeconfig")
    }

    /// Writes a kubeconfig that authenticates with `token`.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn kubeconfig_for(&self, name: &str, token: &str) -> Result<PathBuf> {
        let path = self.folder.join(format!("{name}.kubeconfig"));
        self.write_kubeconfig(&path, &format!("https://127.0.0.1:{}", self.port), token)?;
        Ok(path)
    }

    /// The same for a `server` in front of the API server.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn kubeconfig_through(&self, server: &str, token: &str) -> Result<PathBuf> {
        let path = self.folder.join(format!("through-{:08x}.kubeconfig", fastrand::u32(..)));
        self.write_kubeconfig(&path, server, token)?;
        Ok(path)
    }

    fn write_kubeconfig(&self, path: &Path, server: &str, token: &str) -> Result<()> {
        let text = kubeconfig(server, &self.folder.join("certificates/apiserver.crt"), token)?;
        fs::write(path, text).map_err(|error| Error::new(path.display(), error))
    }

    /// The folder that everything of this control plane is in.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The `kubectl` of the same version.
    #[must_use]
    pub fn kubectl(&self) -> PathBuf {
        self.bin.join("kubectl")
    }

    /// The port of the API server.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Where etcd serves its clients.
    #[must_use]
    pub fn etcd_endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.etcd_ports.0)
    }

    /// The administrator's token.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Ends what ends with this control plane.
    #[must_use]
    pub const fn guardian(&self) -> &Guardian {
        &self.guardian
    }

    /// What is written from now on.
    #[must_use]
    pub fn audit_log(&self) -> AuditLog {
        AuditLog::from_now(&self.folder.join("audit.log"))
    }

    /// Installs the CustomResourceDefinitions and waits until they are served.
    ///
    /// # Errors
    /// If the API server refuses them.
    pub async fn install_crds(&self) -> Result<()> {
        self.kubectl_apply(&crd::to_yaml().map_err(|error| Error::new("CRDs", error))?)?;
        let client = self.client().await?;
        wait_for(START, "the resources", || async {
            // Listed, not only discovered: the storage behind a new resource takes a moment longer.
            let list = ListParams::default().limit(1);
            Api::<RoomRobot>::all(client.clone()).list_metadata(&list).await.is_ok()
                && Api::<RtcApplication>::all(client.clone()).list_metadata(&list).await.is_ok()
        })
        .await
    }

    /// Installs the operator's namespace, ServiceAccount and rights.
    ///
    /// # Errors
    /// If the API server refuses them.
    pub fn install_rights(&self) -> Result<()> {
        self.kubectl_apply(include_str!("../../../deploy/namespace.yaml"))?;
        self.kubectl_apply(include_str!("../../../deploy/rbac.yaml")).map(drop)
    }

    /// Installs the policy by which RoomRobots are born with their finalizer, and waits until it works.
    ///
    /// # Errors
    /// If the API server refuses it, or it does not come to work.
    pub async fn install_admission_policy(&self) -> Result<()> {
        self.kubectl_apply(include_str!("../../../deploy/admission-policy.yaml"))?;
        let client = self.client().await?;
        let robot: RoomRobot = serde_json::from_value(json!({
            "apiVersion": "roomrobot.dev/v1alpha1", "kind": "RoomRobot", "metadata": {"name": "probe"},
            "spec": {"roomId": "probe", "memberAccount": "probe"},
        }))
        .map_err(|error| Error::new("probe", error))?;
        let robots = Api::<RoomRobot>::namespaced(client, "default");
        let dry_run = PostParams { dry_run: true, ..PostParams::default() };
        wait_for(START, "the admission policy", || async {
            let created = robots.create(&dry_run, &robot).await;
            created.is_ok_and(|robot| robot.metadata.finalizers.is_some())
        })
        .await
    }

    /// `kubectl apply` of `yaml`, as the administrator.
    ///
    /// # Errors
    /// If `kubectl` fails; its words are in the error.
    pub fn kubectl_apply(&self, yaml: &str) -> Result<String> {
        self.run_kubectl(&["apply", "--server-side", "--force-conflicts", "-f", "-"], Some(yaml))
    }

    /// Runs `kubectl`, as the administrator.
    ///
    /// # Errors
    /// If it fails; its words are in the error.
    pub fn run_kubectl(&self, args: &[&str], input: Option<&str>) -> Result<String> {
        use std::io::Write as _;
        let mut child = Command::new(self.kubectl())
            .args(args)
            .env("KUBECONFIG", self.admin_kubeconfig())
            .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| Error::new("kubectl", error))?;
        if let (Some(mut pipe), Some(input)) = (child.stdin.take(), input) {
            pipe.write_all(input.as_bytes()).map_err(|error| Error::new("kubectl", error))?;
        }
        let output = child.wait_with_output().map_err(|error| Error::new("kubectl", error))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() {
            Ok(text(&output.stdout))
        } else {
            Err(Error::new(format!("kubectl {}", args.join(" ")), text(&output.stderr)))
        }
    }

    /// Ends the API server without warning; [`ControlPlane::restart_api_server`] brings it back.
    ///
    /// # Errors
    /// If somebody who held it has panicked.
    pub fn stop_api_server(&self) -> Result<()> {
        let mut child = self.api_server.lock().map_err(|error| Error::new("kube-apiserver", error))?;
        self.guardian.end(&mut child);
        Ok(())
    }

    /// Ends the API server without warning, and starts it again on the same port.
    ///
    /// # Errors
    /// If it cannot be started again.
    pub async fn restart_api_server(&self) -> Result<()> {
        self.stop_api_server()?;
        {
            let mut child = self.api_server.lock().map_err(|error| Error::new("kube-apiserver", error))?;
            *child = self.guardian.spawn(&mut api_server_command(
                &self.bin,
                &self.folder,
                self.port,
                self.etcd_ports.0,
            )?)?;
        }
        self.wait_ready().await
    }

    /// Stops etcd for as long as the guard lives.
    ///
    /// # Errors
    /// If the signal cannot be sent.
    pub fn pause_etcd(&self) -> Result<Paused> {
        let pid = self.etcd.lock().map_err(|error| Error::new("etcd", error))?.id();
        Paused::new(pid)
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        for child in [&self.api_server, &self.etcd] {
            if let Ok(mut child) = child.lock() {
                self.guardian.end(&mut child);
            }
        }
        self.guardian.end(&mut self.controller_manager);
    }
}

/// A process that is stopped until the value is dropped.
#[derive(Debug)]
pub struct Paused(rustix::process::Pid);

impl Paused {
    /// Stops the process of `pid`.
    ///
    /// # Errors
    /// If the signal cannot be sent.
    pub fn new(pid: u32) -> Result<Self> {
        let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
        let pid = pid.ok_or_else(|| Error("no such process".to_owned()))?;
        rustix::process::kill_process(pid, rustix::process::Signal::STOP)
            .map_err(|error| Error::new("SIGSTOP", error))?;
        Ok(Self(pid))
    }
}

impl Drop for Paused {
    fn drop(&mut self) {
        let _ = rustix::process::kill_process(self.0, rustix::process::Signal::CONT);
    }
}

fn etcd_command(bin: &Path, folder: &Path, (client, peer): (u16, u16)) -> Result<Command> {
    let mut command = Command::new(bin.join("etcd"));
    let (client, peer) = (format!("http://127.0.0.1:{client}"), format!("http://127.0.0.1:{peer}"));
    command
        .arg(format!("--data-dir={}", folder.join("etcd").display()))
        .args(["--unsafe-no-fsync", "--log-level=error"])
        .arg(format!("--listen-client-urls={client}"))
        .arg(format!("--advertise-client-urls={client}"))
        .arg(format!("--listen-peer-urls={peer}"))
        .arg(format!("--initial-advertise-peer-urls={peer}"))
        .arg(format!("--initial-cluster=default={peer}"));
    log_to(&mut command, folder, "etcd")?;
    Ok(command)
}

fn api_server_command(bin: &Path, folder: &Path, port: u16, etcd: u16) -> Result<Command> {
    let path = |name: &str| folder.join(name).display().to_string();
    let mut command = Command::new(bin.join("kube-apiserver"));
    command
        // Less of the machine's time for more of its memory.
        .env("GOGC", "200")
        .arg(format!("--etcd-servers=http://127.0.0.1:{etcd}"))
        .arg(format!("--secure-port={port}"))
        .args(["--bind-address=127.0.0.1", "--endpoint-reconciler-type=none"])
        .arg(format!("--cert-dir={}", path("certificates")))
        .arg(format!("--service-account-key-file={}", path("service-account.pub")))
        .arg(format!("--service-account-signing-key-file={}", path("service-account.key")))
        .arg(format!("--service-account-issuer=https://127.0.0.1:{port}"))
        .arg(format!("--token-auth-file={}", path("tokens.csv")))
        .args(["--authorization-mode=RBAC", "--service-cluster-ip-range=10.0.0.0/24"])
        .arg("--disable-admission-plugins=ServiceAccount")
        .arg(format!("--audit-policy-file={}", path("audit-policy.json")))
        .arg(format!("--audit-log-path={}", path("audit.log")))
        // Megabytes: a log that is moved away while somebody reads it would hide writes.
        .arg("--audit-log-maxsize=100000")
        .args([
            "--audit-log-mode=blocking",
            "--max-requests-inflight=2000",
            "--max-mutating-requests-inflight=1000",
        ]);
    log_to(&mut command, folder, "kube-apiserver")?;
    Ok(command)
}

fn log_to(command: &mut Command, folder: &Path, name: &str) -> Result<()> {
    let path = folder.join(format!("{name}.log"));
    let why = |error: std::io::Error| Error::new(path.display(), error);
    let log = File::options().create(true).append(true).open(&path).map_err(why)?;
    command.stdin(Stdio::null()).stdout(log.try_clone().map_err(why)?).stderr(log);
    Ok(())
}

/// A client for the cluster of `kubeconfig`.
///
/// # Errors
/// If the kubeconfig cannot be used.
pub async fn client(kubeconfig: &Path) -> Result<Client> {
    let why = |error: &dyn std::error::Error| Error::new(kubeconfig.display(), error);
    let read = Kubeconfig::read_from(kubeconfig).map_err(|error| why(&error))?;
    let mut config = Config::from_custom_kubeconfig(read, &kube::config::KubeConfigOptions::default())
        .await
        .map_err(|error| why(&error))?;
    roomrobot_client::proxy::spare(&mut config);
    Client::try_from(config).map_err(|error| why(&error))
}

fn kubeconfig(server: &str, certificate: &Path, token: &str) -> Result<String> {
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "testbed",
        "clusters": [{"name": "testbed", "cluster": {
            "server": server, "certificate-authority": certificate}}],
        "users": [{"name": "user", "user": {"token": token}}],
        "contexts": [{"name": "testbed", "context": {"cluster": "testbed", "user": "user"}}],
    });
    serde_json::to_string_pretty(&config).map_err(|error| Error::new("kubeconfig", error))
}

/// The pair of keys that ServiceAccount tokens are signed and verified with.
fn write_account_keys(folder: &Path) -> Result<()> {
    use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
    /// `SubjectPublicKeyInfo` of a P-256 key, up to the point itself (RFC 5480).
    const P256: [u8; 26] = [
        0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
        0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
    ];
    let why = |_| Error("cannot make a key for ServiceAccount tokens".to_owned());
    let random = ring::rand::SystemRandom::new();
    let private = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).map_err(why)?;
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, private.as_ref(), &random)
        .map_err(|error| Error::new("key for ServiceAccount tokens", error))?;
    let public = [&P256, pair.public_key().as_ref()].concat();
    for (name, label, der) in [
        ("service-account.key", "PRIVATE KEY", private.as_ref()),
        ("service-account.pub", "PUBLIC KEY", &public),
    ] {
        fs::write(folder.join(name), pem(label, der)).map_err(|error| Error::new(name, error))?;
    }
    Ok(())
}

fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
}

/// A port that nobody listens on at the moment.
///
/// # Errors
/// If there is none.
pub fn free_port() -> Result<u16> {
    let listener =
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(|error| Error::new("free port", error))?;
    listener.local_addr().map(|address| address.port()).map_err(|error| Error::new("free port", error))
}

/// Waits until `done` says so, looking often.
///
/// # Errors
/// If that takes longer than `limit`.
pub async fn wait_for<F: Future<Output = bool>>(
    limit: Duration,
    what: &str,
    mut done: impl FnMut() -> F,
) -> Result<()> {
    let start = Instant::now();
    loop {
        let look = Instant::now();
        if done().await {
            return Ok(());
        }
        if start.elapsed() > limit {
            return Err(Error(format!("waited {} s in vain for {what}", limit.as_secs())));
        }
        // A look that takes the API server long, as a list of a thousand, is not to take most of its time.
        sleep((4 * look.elapsed()).clamp(Duration::from_millis(25), Duration::from_secs(1))).await;
    }
}
