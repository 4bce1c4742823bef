//! What the plugin reads of a cluster. Touches the API server, with the user's own rights.

mod leaders;
mod seen;
mod texts;

pub use leaders::{Leader, nobody};
pub(crate) use seen::seen;
pub use seen::{Seen, SeenCondition, at, condition};
pub use texts::{gauge, http_date};

use super::{Error, Result, cli::Common, output::Out};
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        coordination::v1::Lease,
        core::v1::{Namespace, Pod},
        events::v1::Event,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
    jiff::Timestamp,
};
use kube::{
    Api, Client, Config, Resource, ResourceExt as _,
    api::{ApiResource, DynamicObject, ListParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use leaders::{leader, without_lease};
use roomrobot_client::errors::explain_config;
use roomrobot_core::crd::{RoomRobot, RtcApplication};
use serde::de::DeserializeOwned;
use std::{collections::BTreeSet, fmt::Debug, path::Path, time::Duration};

/// Where the operator lives if nobody says otherwise.
const OPERATOR_NAMESPACE: &str = "roomrobot-system";

/// The Lease of an operator without shards, and the beginning of those of shards; the label of its Pods, too.
const OPERATOR: &str = roomrobot_core::api_server::FIELD_MANAGER;

/// Objects of a page.
const PAGE: u32 = 500;

/// The longest that one answer of the API server may take.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// The longest that the operator's metrics may take: they are a help, not the matter.
const METRICS_TIMEOUT: Duration = Duration::from_secs(3);

/// A cluster, as the user reaches it.
pub struct Cluster {
    /// The client.
    pub client: Client,
    /// The namespace that was asked for; `None` for all of them.
    pub scope: Option<String>,
    /// The namespace of the context.
    pub default_namespace: String,
    /// Whether the user named a namespace.
    pub named: bool,
    /// The operator's own, as the user names it or as it was found.
    pub operator_namespace: String,
    /// Whether the user named it.
    pub operator_named: bool,
    /// Who acts, or why that is not known; [`Cluster::locate`] looks.
    pub acting: Result<Vec<Leader>, String>,
    /// What commands to type need of this run's arguments.
    pub flags: Flags,
    metrics: Option<String>,
}

/// The arguments of this run that every command to type next needs as well.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    kubectl: String,
    plugin: String,
}

impl Flags {
    fn of(common: &Common) -> Self {
        let flag = |name: &str, value: Option<&str>| {
            value.map_or_else(String::new, |value| format!(" --{name} {}", quoted(value)))
        };
        let kubectl = flag("context", common.context.as_deref())
            + &flag("kubeconfig", common.kubeconfig.as_deref().and_then(Path::to_str));
        let plugin = flag("operator-namespace", common.operator_namespace.as_deref());
        Self { plugin: format!("{kubectl}{plugin}"), kubectl }
    }

    /// Puts them into every command of `text`.
    #[must_use]
    pub fn put(&self, text: &str) -> String {
        const PLUGIN: &str = "kubectl roomrobot ";
        let plugin = format!("kubectl roomrobot{} ", self.plugin);
        let parts =
            text.split(PLUGIN).map(|part| part.replace("kubectl ", &format!("kubectl{} ", self.kubectl)));
        parts.collect::<Vec<_>>().join(&plugin)
    }
}

/// As a shell takes it for one word.
#[must_use]
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@=".contains(c);
    if word.chars().all(plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

/// Which RoomRobots are read; by default all.
#[derive(Clone, Copy, Debug, Default)]
pub struct Choice<'a> {
    /// Only those that these labels select.
    pub labels: Option<&'a str>,
    /// Only those of this name.
    pub name: Option<&'a str>,
    /// Only those that this holds for: the others are forgotten page by page.
    pub keep: Option<fn(&Seen) -> bool>,
}

/// Who acts, or why that is not known.
pub type Acting<'a> = Result<&'a [Leader], &'a str>;

impl Cluster {
    /// Connects as the arguments say.
    ///
    /// # Errors
    /// If there is no kubeconfig, or none that can be used.
    pub async fn connect(common: &Common) -> Result<Self> {
        let options = KubeConfigOptions { context: common.context.clone(), ..KubeConfigOptions::default() };
        let config = match &common.kubeconfig {
            Some(path) => {
                let read = Kubeconfig::read_from(path).map_err(|error| Error(explain_config(&error)))?;
                Config::from_custom_kubeconfig(read, &options).await
            }
            None => Config::from_kubeconfig(&options).await,
        };
        let mut config = config.map_err(|error| {
            let why = explain_config(&error);
            Error(format!("no cluster to ask: {why}; set KUBECONFIG, or name one with --kubeconfig"))
        })?;
        roomrobot_client::proxy::spare(&mut config);
        config.default_retry = false;
        config.read_timeout = Some(READ_TIMEOUT);
        let default_namespace = common.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        Ok(Self {
            client: Client::try_from(config)?,
            scope: (!common.all_namespaces).then(|| default_namespace.clone()),
            default_namespace,
            named: common.namespace.is_some(),
            operator_namespace: common.operator_namespace.clone().unwrap_or(OPERATOR_NAMESPACE.to_owned()),
            operator_named: common.operator_namespace.is_some(),
            acting: Err("not looked at".to_owned()),
            flags: Flags::of(common),
            metrics: common.metrics.clone(),
        })
    }

    /// RoomRobots of `scope`, or of all namespaces.
    ///
    /// # Errors
    /// If they cannot be listed.
    pub async fn robots(&self, scope: Option<&str>, choice: Choice<'_>, out: &Out) -> Result<Vec<Seen>> {
        self.list_robots(scope, choice, out).await.map_err(|error| self.missing_crd(&error))
    }

    /// RoomRobots of all namespaces, and `true`; where the user may not read those, of `namespaces`, and `false`.
    ///
    /// # Errors
    /// If they cannot be listed for another reason, or these neither.
    pub async fn readable_robots(
        &self,
        namespaces: &BTreeSet<String>,
        choice: Choice<'_>,
        out: &Out,
    ) -> Result<(Vec<Seen>, bool)> {
        match self.list_robots(None, choice, out).await {
            Ok(robots) => Ok((robots, true)),
            Err(error) if forbidden(&error) => {
                let mut robots = Vec::new();
                for namespace in namespaces {
                    robots.extend(self.robots(Some(namespace), choice, out).await?);
                }
                Ok((robots, false))
            }
            Err(error) => Err(self.missing_crd(&error)),
        }
    }

    fn missing_crd(&self, error: &kube::Error) -> Error {
        match error {
            kube::Error::Api(status) if status.code == 404 => Error(self.flags.put(
                "the CustomResourceDefinitions are not installed; `kubectl roomrobot doctor` says what else is missing",
            )),
            error => Error(roomrobot_client::errors::explain(error)),
        }
    }

    async fn list_robots(
        &self,
        scope: Option<&str>,
        choice: Choice<'_>,
        out: &Out,
    ) -> kube::Result<Vec<Seen>> {
        let resource = ApiResource::erase::<RoomRobot>(&());
        let api: Api<DynamicObject> = match scope {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        };
        let mut params =
            ListParams { label_selector: choice.labels.map(str::to_owned), ..ListParams::default() };
        params.field_selector = choice.name.map(|name| format!("metadata.name={name}"));
        let keep =
            |object: DynamicObject| seen(&object).filter(|seen| choice.keep.is_none_or(|keep| keep(seen)));
        let robots = pages(&api, params, keep, |read| out.progress(&format!("read {read} RoomRobots"))).await;
        out.progress_over();
        robots
    }

    /// Events that `fields` select, of a namespace or of all; `None` where the user may not read them.
    ///
    /// # Errors
    /// If they cannot be listed for another reason.
    pub async fn events(&self, scope: Option<&str>, fields: &str) -> Result<Option<Vec<Event>>> {
        let api = match scope {
            None => Api::<Event>::all(self.client.clone()),
            Some(namespace) => Api::namespaced(self.client.clone(), namespace),
        };
        match pages(&api, ListParams::default().fields(fields), Some, |_| {}).await {
            Ok(events) => Ok(Some(events)),
            Err(error) if forbidden(&error) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Every RtcApplication; `None` where the user may not read them, as where somebody has rights in one namespace only.
    ///
    /// # Errors
    /// If they cannot be listed for another reason.
    pub async fn readable_applications(&self) -> Result<Option<Vec<RtcApplication>>> {
        let list = Api::<RtcApplication>::all(self.client.clone()).list(&ListParams::default()).await;
        match list {
            Ok(applications) => Ok(Some(applications.items)),
            Err(error) if forbidden(&error) => Ok(None),
            Err(error) => Err(self.missing_crd(&error)),
        }
    }

    /// The namespaces; where the user may not list them, those of `names`, and of one that may not be read the name.
    ///
    /// # Errors
    /// If the API server does not say for another reason.
    pub async fn namespaces(&self, names: &BTreeSet<String>) -> Result<Vec<Namespace>> {
        let api = Api::<Namespace>::all(self.client.clone());
        match api.list(&ListParams::default()).await {
            Ok(list) => return Ok(list.items),
            Err(error) if forbidden(&error) => {}
            Err(error) => return Err(error.into()),
        }
        let mut namespaces = Vec::new();
        for name in names {
            match api.get_opt(name).await {
                Ok(found) => namespaces.extend(found),
                Err(error) if forbidden(&error) => namespaces.push(Namespace {
                    metadata: ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() },
                    ..Namespace::default()
                }),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(namespaces)
    }

    /// Looks who acts: the holders of the operator's Leases, else Pods that need none. Where the user has not named the
    /// operator's namespace, it is the one where they are.
    ///
    /// # Errors
    /// If the API server cannot be reached.
    pub async fn locate(&mut self) -> Result<()> {
        let now = self.now().await?;
        let own = self.operator_namespace.clone();
        let places = [Some(&*own), None];
        let places = if self.operator_named { &places[..1] } else { &places[..] };
        for place in places {
            let found = list::<Lease>(&self.client, *place, &ListParams::default()).await?;
            if found.is_none() && place.is_some() {
                self.acting = Err("you may not read its Lease".to_owned());
                return Ok(());
            }
            let leases = found.into_iter().flatten();
            if self.take(leases.filter_map(|lease| Some((lease.namespace()?, leader(&lease, now)?)))) {
                return Ok(());
            }
        }
        let params = ListParams::default().labels(&format!("app.kubernetes.io/name={OPERATOR}"));
        for place in places {
            // Pods of hooks and tests have the label too, but do not come from a Deployment.
            let deployed = |pod: &Pod| pod.owner_references().iter().any(|owner| owner.kind == "ReplicaSet");
            let pods =
                list::<Pod>(&self.client, *place, &params).await?.into_iter().flatten().filter(deployed);
            if self.take(pods.filter_map(|pod| Some((pod.namespace()?, without_lease(&pod))))) {
                return Ok(());
            }
        }
        self.acting = Err(format!(
            "not known: there is no Lease {OPERATOR} in {own}; name its namespace with --operator-namespace, or see whether its leader election is off"
        ));
        Ok(())
    }

    /// Takes those of one namespace, best one where somebody acts.
    fn take(&mut self, found: impl Iterator<Item = (String, Leader)>) -> bool {
        let found: Vec<_> = found.collect();
        let Some((place, _)) = found.iter().find(|(_, leader)| leader.acts).or(found.first()) else {
            return false;
        };
        self.operator_namespace.clone_from(place);
        let place = &self.operator_namespace;
        let there = found.iter().filter(|(namespace, _)| namespace == place);
        self.acting = Ok(there.map(|(_, leader)| leader.clone()).collect());
        true
    }

    /// Who acts, or why that is not known.
    pub fn acting(&self) -> Acting<'_> {
        self.acting.as_deref().map_err(String::as_str)
    }

    /// The operator's metrics, of each leader of which they can be had.
    pub async fn metrics(&self) -> Vec<String> {
        if let Some(url) = &self.metrics {
            let get = async { reqwest::get(url).await.ok()?.text().await.ok() };
            return tokio::time::timeout(METRICS_TIMEOUT, get).await.ok().flatten().into_iter().collect();
        }
        let namespace = &self.operator_namespace;
        let mut texts = Vec::new();
        for pod in
            self.acting.iter().flatten().filter(|leader| leader.acts).filter_map(|leader| leader.pod.as_ref())
        {
            let path = format!("/api/v1/namespaces/{namespace}/pods/{pod}:8080/proxy/metrics");
            let Ok(request) = hyper::Request::get(path).body(Vec::new()) else { continue };
            if let Ok(Ok(text)) =
                tokio::time::timeout(METRICS_TIMEOUT, self.client.request_text(request)).await
            {
                texts.push(text);
            }
        }
        texts
    }

    /// Now, by the API server's clock: this machine's may be wrong.
    ///
    /// # Errors
    /// If the API server cannot be reached.
    pub async fn now(&self) -> Result<Timestamp> {
        let request = hyper::Request::get("/version").body(kube::client::Body::empty());
        let response = self.client.send(request.map_err(|error| Error(error.to_string()))?).await?;
        let date = response.headers().get(hyper::header::DATE).and_then(|date| date.to_str().ok());
        Ok(date.and_then(http_date).unwrap_or_else(Timestamp::now))
    }
}

/// All of a kind; `None` where the user may not list them.
async fn list<K>(client: &Client, scope: Option<&str>, params: &ListParams) -> Result<Option<Vec<K>>>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
{
    let api = match scope {
        Some(namespace) => Api::<K>::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    match api.list(params).await {
        Ok(list) => Ok(Some(list.items)),
        Err(error) if forbidden(&error) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// What `keep` makes of every object, read page by page; `read` hears after each how many there were.
async fn pages<K, T>(
    api: &Api<K>,
    params: ListParams,
    keep: impl Fn(K) -> Option<T>,
    read: impl Fn(usize),
) -> kube::Result<Vec<T>>
where
    K: Clone + DeserializeOwned + Debug,
{
    let mut params = params.limit(PAGE);
    let (mut kept, mut count) = (Vec::new(), 0);
    loop {
        let page = api.list(&params).await?;
        count += page.items.len();
        kept.extend(page.items.into_iter().filter_map(&keep));
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(kept),
        }
        read(count);
    }
}

const fn forbidden(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 403)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn lease(name: &str, holder: &str, renewed: i64, written: i64) -> Lease {
        let time = |second| Timestamp::from_second(second).unwrap().to_string();
        let renewed = time(renewed).replace('Z', ".000000Z");
        serde_json::from_value(json!({
            "metadata": {"name": name, "managedFields": [{"time": time(written)}]},
            "spec": {"holderIdentity": holder, "leaseDurationSeconds": 15, "renewTime": renewed},
        }))
        .unwrap()
    }

    /// Neither the operator's clock nor this machine's decides whether a Lease has run out.
    #[test]
    fn a_lease_runs_out_by_the_clock_of_the_api_server() {
        let now = Timestamp::from_second(10_000).unwrap();
        let of =
            |renewed, written| leader(&lease(OPERATOR, "pod-1-0a1b2c3d", renewed, written), now).unwrap();
        for (renewed, written, acts, ahead) in [
            (9_998, 9_998, true, 0),
            (6_400, 9_998, true, -3_598),
            (13_600, 9_998, true, 3_602),
            (13_600, 9_970, false, 3_630),
        ] {
            let leader = of(renewed, written);
            assert_eq!((leader.acts, leader.ahead), (acts, Some(ahead)));
            assert_eq!(leader.pod.as_deref(), Some("pod-1"));
        }
        let free = leader(&lease(OPERATOR, "", 9_998, 9_998), now).unwrap();
        assert!(!free.acts && free.tell().contains("nobody holds its Lease"));
    }

    #[test]
    fn only_leases_of_the_operator_and_its_shards_count() {
        let counts = |name: &str| leader(&lease(name, "p-1", 0, 0), Timestamp::UNIX_EPOCH).is_some();
        assert!(counts("roomrobot-operator") && counts("roomrobot-operator-0a1b2c3d"));
        assert!(!counts("roomrobot-operator-backup") && !counts("roomrobot-operators") && !counts("other"));
    }

    #[test]
    fn commands_to_type_keep_the_arguments_of_this_run() {
        let flags = Flags {
            kubectl: " --context c".to_owned(),
            plugin: " --context c --operator-namespace o".to_owned(),
        };
        assert_eq!(
            flags.put("kubectl get x | kubectl replace -f - ; kubectl roomrobot list"),
            "kubectl --context c get x | kubectl --context c replace -f - ; kubectl roomrobot --context c --operator-namespace o list"
        );
        assert_eq!(
            Flags::default().put("kubectl roomrobot why a; kubectl get b"),
            "kubectl roomrobot why a; kubectl get b"
        );
        assert_eq!((quoted("/a/b.c"), quoted("it's")), ("/a/b.c".to_owned(), r"'it'\''s'".to_owned()));
    }
}
