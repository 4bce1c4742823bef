//! What the plugin reads of a cluster. Touches the API server, with the user's own rights.

use super::{Error, Result, cli::Common, output::Out};
use crate::{
    crd::{RoomRobot, RtcApplication},
    robot::{Robot, Stored},
};
use k8s_openapi::{
    api::{coordination::v1::Lease, core::v1::Namespace},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
    jiff::Timestamp,
};
use kube::{
    Api, Client, Config, ResourceExt as _,
    api::{ApiResource, DynamicObject, ListParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::Value;
use std::{collections::BTreeSet, time::Duration};

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
    /// The operator's own.
    pub operator_namespace: String,
    metrics: Option<String>,
}

/// A stored RoomRobot: as the operator reads it, and as it is.
#[derive(Clone, Debug)]
pub struct Seen {
    /// As the operator reads it.
    pub robot: Robot,
    /// `metadata.labels`, for what selects by them.
    pub finalizers: Vec<String>,
    /// The whole object.
    pub value: Value,
}

/// A condition of a stored object.
#[derive(Clone, Debug, Default)]
pub struct SeenCondition {
    /// `status`
    pub status: String,
    /// `reason`
    pub reason: String,
    /// `message`
    pub message: String,
}

/// The value at a path such as `/spec/roomId`; null where there is none.
#[must_use]
pub fn at<'a>(object: &'a Value, path: &str) -> &'a Value {
    object.pointer(path).unwrap_or(&Value::Null)
}

/// The condition of this type.
#[must_use]
pub fn condition(object: &Value, kind: &str) -> Option<SeenCondition> {
    let list = object.pointer("/status/conditions")?.as_array()?;
    let found = list.iter().find(|condition| at(condition, "/type") == kind)?;
    let text = |field: &str| found.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    Some(SeenCondition { status: text("status"), reason: text("reason"), message: text("message") })
}

/// Who acts.
#[derive(Clone, Debug)]
pub struct Leader {
    /// The Lease's name.
    pub lease: String,
    /// The Pod that holds it.
    pub pod: String,
    /// When it was renewed, by the operator's clock.
    pub renewed: Timestamp,
    /// Whether it has run out.
    pub expired: bool,
}

impl Cluster {
    /// Connects as the arguments say.
    ///
    /// # Errors
    /// If there is no kubeconfig, or none that can be used.
    pub async fn connect(common: &Common) -> Result<Self> {
        let options = KubeConfigOptions { context: common.context.clone(), ..KubeConfigOptions::default() };
        let config = match &common.kubeconfig {
            Some(path) => {
                let read = Kubeconfig::read_from(path).map_err(|error| Error(error.to_string()))?;
                Config::from_custom_kubeconfig(read, &options).await
            }
            None => Config::from_kubeconfig(&options).await,
        };
        let mut config = config.map_err(|error| {
            Error(format!("no cluster to ask: {error}; set KUBECONFIG, or name one with --kubeconfig"))
        })?;
        config.default_retry = false;
        config.read_timeout = Some(READ_TIMEOUT);
        let default_namespace = common.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        Ok(Self {
            client: Client::try_from(config)?,
            scope: (!common.all_namespaces).then(|| default_namespace.clone()),
            default_namespace,
            named: common.namespace.is_some(),
            operator_namespace: common.operator_namespace.clone(),
            metrics: common.metrics.clone(),
        })
    }

    /// RoomRobots of `scope`, or of all namespaces, that `labels` select.
    ///
    /// # Errors
    /// If they cannot be listed.
    pub async fn robots(&self, scope: Option<&str>, labels: Option<&str>, out: &Out) -> Result<Vec<Seen>> {
        self.list_robots(scope, labels, out).await.map_err(|error| missing_crd(&error))
    }

    /// RoomRobots of all namespaces, and `true`; where the user may not read those, of `namespaces`, and `false`.
    ///
    /// # Errors
    /// If they cannot be listed for another reason, or these neither.
    pub async fn readable_robots(
        &self,
        namespaces: &BTreeSet<String>,
        out: &Out,
    ) -> Result<(Vec<Seen>, bool)> {
        match self.list_robots(None, None, out).await {
            Ok(robots) => Ok((robots, true)),
            Err(error) if forbidden(&error) => {
                let mut robots = Vec::new();
                for namespace in namespaces {
                    robots.extend(self.robots(Some(namespace), None, out).await?);
                }
                Ok((robots, false))
            }
            Err(error) => Err(missing_crd(&error)),
        }
    }

    async fn list_robots(
        &self,
        scope: Option<&str>,
        labels: Option<&str>,
        out: &Out,
    ) -> kube::Result<Vec<Seen>> {
        let resource = ApiResource::erase::<RoomRobot>(&());
        let api: Api<DynamicObject> = match scope {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        };
        let mut params = ListParams::default().limit(PAGE);
        if let Some(labels) = labels {
            params = params.labels(labels);
        }
        let mut robots = Vec::new();
        loop {
            let page = api.list(&params).await?;
            robots.extend(page.items.into_iter().filter_map(|object| seen(&object)));
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => break,
            }
            out.progress(&format!("read {} RoomRobots", robots.len()));
        }
        out.progress_over();
        Ok(robots)
    }

    /// One RoomRobot.
    ///
    /// # Errors
    /// If the API server does not say.
    pub async fn robot(&self, namespace: &str, name: &str) -> Result<Option<Seen>> {
        let resource = ApiResource::erase::<RoomRobot>(&());
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), namespace, &resource);
        Ok(api.get_opt(name).await?.and_then(|object| seen(&object)))
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
            Err(error) => Err(missing_crd(&error)),
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

    /// Who holds the operator's Leases, where that may be read.
    pub async fn leaders(&self) -> Option<Vec<Leader>> {
        let api = Api::<Lease>::namespaced(self.client.clone(), &self.operator_namespace);
        let leases = api.list(&ListParams::default()).await.ok()?.items;
        let leaders = leases.into_iter().filter(|lease| lease.name_any().starts_with("roomrobot-operator"));
        Some(leaders.filter_map(|lease| leader(&lease)).collect())
    }

    /// The operator's metrics, where they can be had.
    pub async fn metrics(&self, leaders: &[Leader]) -> Option<String> {
        if let Some(url) = &self.metrics {
            let get = async { reqwest::get(url).await.ok()?.text().await.ok() };
            return tokio::time::timeout(METRICS_TIMEOUT, get).await.ok().flatten();
        }
        let namespace = &self.operator_namespace;
        for leader in leaders {
            let path = format!("/api/v1/namespaces/{namespace}/pods/{}:8080/proxy/metrics", leader.pod);
            let Ok(request) = hyper::Request::get(path).body(Vec::new()) else { continue };
            let answer = tokio::time::timeout(METRICS_TIMEOUT, self.client.request_text(request)).await;
            if let Ok(Ok(text)) = answer {
                return Some(text);
            }
        }
        None
    }

    /// The API server's clock.
    pub async fn server_time(&self) -> Option<Timestamp> {
        let request = hyper::Request::get("/version").body(kube::client::Body::empty()).ok()?;
        let response = self.client.send(request).await.ok()?;
        http_date(response.headers().get(hyper::header::DATE)?.to_str().ok()?)
    }
}

/// The time of an HTTP `Date` header.
#[must_use]
pub fn http_date(text: &str) -> Option<Timestamp> {
    let zoned = k8s_openapi::jiff::fmt::rfc2822::parse(text).ok()?;
    Some(zoned.timestamp())
}

fn leader(lease: &Lease) -> Option<Leader> {
    let spec = lease.spec.as_ref()?;
    let holder = spec.holder_identity.clone().filter(|holder| !holder.is_empty())?;
    let renewed = spec.renew_time.as_ref()?.0;
    let age = Timestamp::now().as_second() - renewed.as_second();
    // The identity is the Pod's name and eight digits that tell one start from another.
    let pod = holder.rsplit_once('-').map_or(holder.as_str(), |(pod, _)| pod).to_owned();
    let expired = age > i64::from(spec.lease_duration_seconds.unwrap_or(15)) + 5;
    Some(Leader { lease: lease.name_any(), pod, renewed, expired })
}

fn seen(object: &DynamicObject) -> Option<Seen> {
    let finalizers = object.metadata.finalizers.clone().unwrap_or_default();
    let value = serde_json::to_value(object).ok()?;
    let robot = serde_json::from_value::<Stored>(value.clone()).ok()?.into();
    Some(Seen { robot, finalizers, value })
}

const fn forbidden(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 403)
}

fn missing_crd(error: &kube::Error) -> Error {
    match error {
        kube::Error::Api(status) if status.code == 404 => Error(
            "the CustomResourceDefinitions are not installed; `kubectl roomrobot doctor` says what else is missing"
                .to_owned(),
        ),
        error => Error(crate::kubernetes::explain(error)),
    }
}

/// The value of a gauge with these labels in the text of `/metrics`.
#[must_use]
pub fn gauge(text: &str, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let line = text.lines().find(|line| {
        line.strip_prefix(name).is_some_and(|rest| {
            rest.starts_with('{')
                && labels.iter().all(|(label, value)| rest.contains(&format!("{label}=\"{value}\"")))
        })
    })?;
    line.rsplit_once(' ')?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_and_gauges_are_read() {
        assert_eq!(http_date("Tue, 15 Nov 1994 08:12:31 GMT").unwrap().as_second(), 784_887_151);
        let text = "# TYPE x gauge\nx{application=\"a\",command=\"b\"} 1.5\nxy{application=\"a\"} 2\n";
        assert_eq!(gauge(text, "x", &[("application", "a"), ("command", "b")]), Some(1.5));
        assert_eq!(gauge(text, "x", &[("application", "c")]), None);
    }
}
