//! The cluster of `KUBECONFIG`: `kubectl` and `helm` as a user runs them, a client to watch with, and its tidying up.

use super::{DOOMED, RELEASE, ROBOTS, SIMULATOR, SYSTEM};
use k8s_openapi::{
    api::core::v1::Namespace, apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use roomrobot_core::crd::{RoomRobot, RtcApplication};
use serde_json::json;
use testbed::{Error, Result, observe::told, report::ensure, tool::Tool};

/// The label of every namespace that this makes.
const MARK: &str = "roomrobot.dev/e2e=true";

/// A way to a cluster.
#[derive(Clone)]
pub struct Cluster {
    /// `kubectl`
    pub kubectl: Tool,
    /// `helm`
    pub helm: Tool,
    /// For what is watched and counted.
    pub client: Client,
}

impl Cluster {
    /// The cluster that `kubectl` would speak to.
    ///
    /// # Errors
    /// If there is none.
    pub async fn connect() -> Result<Self> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::try_default().await.map_err(|error| Error::new("set KUBECONFIG", error))?;
        Ok(Self {
            kubectl: Tool::new("kubectl", "put it into the PATH"),
            helm: Tool::new("helm", "put Helm 3.17 or newer into the PATH"),
            client,
        })
    }

    /// What this cluster is; refuses one that has RoomRobots of somebody else, and removes what an earlier run left.
    ///
    /// # Errors
    /// If it cannot be reached, or is somebody's.
    pub async fn prepare(&self) -> Result<Vec<String>> {
        let version = self.client.apiserver_version().await.map_err(told)?;
        let context = self.kubectl.run(&["config", "current-context"]).unwrap_or_default();
        let nodes = self.kubectl.run(&["get", "nodes", "--no-headers", "-o", "wide"])?;
        let helm = self.helm.run(&["version", "--short"])?;
        let mut facts = vec![format!(
            "context {}, Kubernetes {}, Helm {}",
            context.trim(),
            version.git_version,
            helm.trim()
        )];
        facts.extend(
            nodes
                .lines()
                .map(|line| format!("node {}", line.split_whitespace().collect::<Vec<_>>().join(" "))),
        );
        let ours = !self.marked().await?.is_empty();
        let installed = self.has_crds().await?;
        ensure(ours || !installed, || {
            "this cluster has the kind RoomRobot already: e2e installs and removes it, so it takes a cluster without".to_owned()
        })?;
        if ours {
            self.tidy().await?;
            facts.push("an earlier run had left something; it is removed".to_owned());
        }
        for name in [SYSTEM, SIMULATOR, ROBOTS, DOOMED] {
            self.make_namespace(name)?;
        }
        facts.push(format!(
            "namespaces {SYSTEM}, {SIMULATOR}, {ROBOTS}, {DOOMED}: all enforce Pod Security `restricted`"
        ));
        Ok(facts)
    }

    /// A namespace that enforces Pod Security `restricted`.
    fn make_namespace(&self, name: &str) -> Result<()> {
        let level = |mode: &str| (format!("pod-security.kubernetes.io/{mode}"), json!("restricted"));
        let mut labels: serde_json::Map<_, _> = ["enforce", "warn", "audit"].map(level).into_iter().collect();
        labels.insert("roomrobot.dev/e2e".to_owned(), json!("true"));
        let namespace =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}});
        self.apply(&namespace.to_string()).map(drop)
    }

    /// `kubectl apply` of `manifest`; a warning of the API server is an error.
    ///
    /// # Errors
    /// If it is refused, or the API server warns.
    pub fn apply(&self, manifest: &str) -> Result<String> {
        let args = ["apply", "--server-side", "-f", "-"];
        let (done, out, err) = self.kubectl.outcome(&args, manifest)?;
        ensure(done && !err.contains("Warning"), || format!("kubectl apply: {err}{out}"))?;
        Ok(out)
    }

    /// Puts the Namespaces of this run, and whatever the release made for the whole cluster, away.
    ///
    /// # Errors
    /// If something stays.
    pub async fn tidy(&self) -> Result<()> {
        let marked: Vec<String> = self.marked().await?.iter().map(ResourceExt::name_any).collect();
        ensure(!marked.is_empty(), || "no earlier run has left anything here".to_owned())?;
        if self.has_crds().await? {
            let robots = Api::<RoomRobot>::all(self.client.clone())
                .list(&ListParams::default())
                .await
                .map_err(told)?;
            let foreign =
                robots.iter().find(|robot| !marked.contains(&robot.namespace().unwrap_or_default()));
            ensure(foreign.is_none(), || {
                "there are RoomRobots of somebody else: nothing is removed".to_owned()
            })?;
        }
        let _ = self.helm.run(&[
            "uninstall",
            RELEASE,
            "-n",
            SYSTEM,
            "--no-hooks",
            "--wait",
            "--timeout",
            "60s",
            "--ignore-not-found",
        ]);
        if self.has_crds().await? {
            let none = Patch::Merge(json!({"metadata": {"finalizers": null}}));
            let params = PatchParams::default();
            let robots = Api::<RoomRobot>::all(self.client.clone())
                .list(&ListParams::default())
                .await
                .map_err(told)?;
            for robot in robots {
                let api =
                    Api::<RoomRobot>::namespaced(self.client.clone(), &robot.namespace().unwrap_or_default());
                let _ = api.delete(&robot.name_any(), &DeleteParams::default()).await;
                let _ = api.patch(&robot.name_any(), &params, &none).await;
            }
            let applications = Api::<RtcApplication>::all(self.client.clone());
            for application in applications.list(&ListParams::default()).await.map_err(told)? {
                let _ = applications.delete(&application.name_any(), &DeleteParams::default()).await;
                let _ = applications.patch(&application.name_any(), &params, &none).await;
            }
        }
        self.kubectl.run(&["delete", "namespace", "-l", MARK, "--ignore-not-found", "--timeout=180s"])?;
        self.kubectl.run(&[
            "delete",
            "crd",
            "roomrobots.roomrobot.dev",
            "rtcapplications.roomrobot.dev",
            "--ignore-not-found",
            "--timeout=60s",
        ])?;
        Ok(())
    }

    async fn marked(&self) -> Result<Vec<Namespace>> {
        let params = ListParams::default().labels(MARK);
        Api::<Namespace>::all(self.client.clone()).list(&params).await.map(|list| list.items).map_err(told)
    }

    /// Whether the cluster has the kind RoomRobot.
    ///
    /// # Errors
    /// If the cluster cannot be asked.
    pub async fn has_crds(&self) -> Result<bool> {
        let api = Api::<CustomResourceDefinition>::all(self.client.clone());
        api.get_opt("roomrobots.roomrobot.dev").await.map(|crd| crd.is_some()).map_err(told)
    }

    /// The RoomRobots of a namespace.
    #[must_use]
    pub fn robots(&self, namespace: &str) -> Api<RoomRobot> {
        Api::namespaced(self.client.clone(), namespace)
    }
}
