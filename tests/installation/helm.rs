//! Helm as a process with a home of its own, and what it rendered.

use crate::harness::{World, binary, create};
use k8s_openapi::{
    api::{
        batch::v1::Job,
        core::v1::{Namespace, Pod, PodSpec},
    },
    jiff::Timestamp,
};
use kube::{
    Api, ResourceExt as _,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};
use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::LazyLock,
    time::Duration,
};
use tempfile::TempDir;
use testbed::{assets, operator::container};

/// The release of the tests, and by it the name of its resources.
pub const RELEASE: &str = "roomrobot-operator";

/// Its namespace.
pub const NAMESPACE: &str = "roomrobot-system";

static HELM: LazyLock<PathBuf> = LazyLock::new(|| assets::helm().unwrap());

/// A file of the repository.
pub fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The chart.
pub fn chart() -> PathBuf {
    file("charts/roomrobot-operator")
}

/// How Helm ended, and what it said.
#[derive(Debug)]
pub struct Said {
    pub ok: bool,
    pub out: String,
    pub err: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        // Helm minds that others may read the testbed's kubeconfig.
        let minded = |line: &&str| !line.contains("-readable. This is insecure");
        let err = text(&output.stderr).lines().filter(minded).collect::<Vec<_>>().join("\n");
        Self { ok: output.status.success(), out: text(&output.stdout), err }
    }
}

impl Said {
    /// Its output, where it went well and warned of nothing.
    #[track_caller]
    pub fn quietly(self) -> String {
        assert!(self.ok && self.err.is_empty(), "{}\n{}", self.err, self.out);
        self.out
    }
}

/// Runs Helm without a cluster.
pub fn helm(args: &[&str]) -> Said {
    run(args, Path::new("/nonexistent/kubeconfig"))
}

fn run(args: &[&str], kubeconfig: &Path) -> Said {
    let home = TempDir::new().unwrap();
    let mut command = Command::new(&*HELM);
    command.args(args).env("KUBECONFIG", kubeconfig);
    for folder in ["CACHE", "CONFIG", "DATA"] {
        command.env(format!("HELM_{folder}_HOME"), home.path().join(folder));
    }
    command.output().unwrap().into()
}

/// `helm template` of the release with more arguments.
pub fn template(args: &[&str]) -> Said {
    let chart = chart();
    helm(&[&["template", RELEASE, chart.to_str().unwrap(), "-n", NAMESPACE], args].concat())
}

/// The documents of a stream of YAML, each with its text.
pub fn documents(yaml: &str) -> Vec<(String, Value)> {
    let texts = yaml.split("\n---\n").map(|part| part.strip_prefix("---\n").unwrap_or(part));
    texts
        .filter(|text| text.lines().any(|line| !line.is_empty() && !line.starts_with('#')))
        .map(|text| (format!("{}\n", text.trim_end()), serde_saphyr::from_str(text).unwrap()))
        .collect()
}

/// Helm on a world's cluster, where somebody runs the containers of hooks.
pub struct Cluster<'a> {
    pub world: &'a World,
    /// Where the operator's Service would lead to.
    pub service: Option<String>,
}

impl Cluster<'_> {
    /// The release's namespace, where only Pods of the level `restricted` are let in.
    pub async fn create_namespace(&self) {
        let level = |mode: &str| (format!("pod-security.kubernetes.io/{mode}"), json!("restricted"));
        let labels: serde_json::Map<String, Value> =
            ["enforce", "warn", "audit"].map(level).into_iter().collect();
        let api = Api::<Namespace>::all(self.world.client.clone());
        create(&api, json!({"metadata": {"name": NAMESPACE, "labels": labels}})).await;
    }

    /// Runs Helm, and meanwhile the hooks that it waits for; what they said comes second.
    pub async fn helm(&self, args: &[&str]) -> (Said, Vec<Said>) {
        let kubeconfig = self.world.plane.admin_kubeconfig();
        let args: Vec<String> =
            args.iter().chain(&["-n", NAMESPACE, "--timeout", "60s"]).map(ToString::to_string).collect();
        let mut helm = tokio::task::spawn_blocking(move || {
            run(&args.iter().map(String::as_str).collect::<Vec<_>>(), &kubeconfig)
        });
        let (mut ran, mut seen) = (Vec::new(), HashSet::new());
        loop {
            tokio::select! {
                said = &mut helm => return (said.unwrap(), ran),
                () = tokio::time::sleep(Duration::from_millis(50)) => {
                    self.run_jobs(&mut ran, &mut seen).await;
                    self.run_pods(&mut ran, &mut seen).await;
                }
            }
        }
    }

    async fn run_jobs(&self, ran: &mut Vec<Said>, seen: &mut HashSet<String>) {
        let api = Api::<Job>::namespaced(self.world.client.clone(), NAMESPACE);
        for job in api.list(&ListParams::default()).await.unwrap() {
            let done = job.status.as_ref().is_some_and(|status| status.start_time.is_some());
            if done || !seen.insert(job.uid().unwrap()) {
                continue;
            }
            let name = job.name_any();
            let template = job.spec.unwrap().template;
            self.admit(&name, &template.spec.clone().unwrap());
            let said = self.run_container(&name, template.spec.unwrap()).await;
            let now = Timestamp::now().to_string();
            let condition = |kind: &str, reason: &str| {
                json!({"type": kind, "status": "True", "reason": reason, "message": "", "lastTransitionTime": now,
                    "lastProbeTime": now})
            };
            // As the Job controller would leave it.
            let status = if said.ok {
                json!({"startTime": now, "completionTime": now, "succeeded": 1, "conditions": [
                    condition("SuccessCriteriaMet", "CompletionsReached"), condition("Complete", "CompletionsReached")]})
            } else {
                json!({"startTime": now, "failed": 1, "conditions": [
                    condition("FailureTarget", "BackoffLimitExceeded"), condition("Failed", "BackoffLimitExceeded")]})
            };
            let patch = Patch::Merge(json!({"status": status}));
            api.patch_status(&name, &PatchParams::default(), &patch).await.unwrap();
            ran.push(said);
        }
    }

    async fn run_pods(&self, ran: &mut Vec<Said>, seen: &mut HashSet<String>) {
        let api = Api::<Pod>::namespaced(self.world.client.clone(), NAMESPACE);
        for pod in api.list(&ListParams::default()).await.unwrap() {
            if !seen.insert(pod.uid().unwrap()) {
                continue;
            }
            let name = pod.name_any();
            let said = self.run_container(&name, pod.spec.unwrap()).await;
            let phase = if said.ok { "Succeeded" } else { "Failed" };
            let patch = Patch::Merge(json!({"status": {"phase": phase}}));
            api.patch_status(&name, &PatchParams::default(), &patch).await.unwrap();
            ran.push(said);
        }
    }

    /// Pod Security looks at Pods, not at Jobs: asks whether the Pod of a Job would be let in.
    pub fn admit(&self, name: &str, spec: &PodSpec) {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": format!("{name}-pod")},
            "spec": spec});
        let args = ["create", "--dry-run=server", "-n", NAMESPACE, "--warnings-as-errors", "-f", "-"];
        self.world.plane.run_kubectl(&args, Some(&pod.to_string())).unwrap();
    }

    async fn run_container(&self, name: &str, mut spec: PodSpec) -> Said {
        // Names of Services resolve in Pods only.
        for arg in spec.containers.iter_mut().flat_map(|container| container.args.iter_mut().flatten()) {
            if arg.starts_with("--url=") {
                assert_eq!(arg, &format!("--url=http://{RELEASE}.{NAMESPACE}:8080"));
                *arg = format!("--url=http://{}", self.service.as_deref().unwrap());
            }
        }
        let mut command = container(&self.world.plane, binary(), NAMESPACE, name, &spec).await.unwrap();
        tokio::task::spawn_blocking(move || command.output().unwrap().into()).await.unwrap()
    }
}
