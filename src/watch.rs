//! What is stored in Kubernetes, as inputs for the engine.
//!
//! Touches the API server, reading only. One stream for each list; a stream that fails starts again by itself.

use crate::{
    application::{Credentials, Spec},
    crd::{GROUP, RtcApplication},
    endpoint::Allowed,
    engine::Input,
    kubernetes::explain,
    robot::{Robot, Stored},
};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::{
    Api, Client, Resource, ResourceExt as _,
    core::PartialObjectMeta,
    runtime::{
        WatchStreamExt as _,
        utils::Backoff,
        watcher::{self, Event, watcher},
    },
};
use serde::de::DeserializeOwned;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    sync::Arc,
    time::Duration,
};
use tokio::{sync::mpsc::Sender, task::JoinSet};

/// Pages of a list: small enough for the memory, large enough for the API server.
const PAGE: u32 = 500;

/// The waits after failures of a watch: from a fifth of a second to five, so that what comes back, or is installed
/// late, is seen soon.
#[derive(Debug)]
pub struct Waits {
    next: Duration,
    longest: Duration,
}

impl Default for Waits {
    fn default() -> Self {
        Self { next: Self::FIRST, longest: Duration::from_secs(5) }
    }
}

impl Waits {
    const FIRST: Duration = Duration::from_millis(200);

    /// Up to one second, for what decides whether a call may go out.
    #[must_use]
    pub fn short() -> Self {
        Self { longest: Duration::from_secs(1), ..Self::default() }
    }
}

impl Iterator for Waits {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let wait = self.next;
        self.next = (wait * 2).min(self.longest);
        Some(wait.mul_f64(0.75 + fastrand::f64() / 2.0))
    }
}

impl Backoff for Waits {
    fn reset(&mut self) {
        self.next = Self::FIRST;
    }
}

/// Eight hexadecimal digits for `text`, the same in every version: they stand in the names of stored things.
#[must_use]
pub fn short_hash(text: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    let first = digest.as_ref().first_chunk().copied().unwrap_or_default();
    format!("{:08x}", u32::from_be_bytes(first))
}

/// Which RoomRobots are watched.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// Only these namespaces; empty means all.
    pub namespaces: Vec<String>,
    /// Only these labels.
    pub selector: Option<String>,
}

impl Scope {
    /// What tells this part of the RoomRobots from others in names; `None` for all of them.
    #[must_use]
    pub fn shard(&self) -> Option<String> {
        if self.namespaces.is_empty() && self.selector.is_none() {
            return None;
        }
        let namespaces: BTreeSet<&str> = self.namespaces.iter().map(String::as_str).collect();
        let namespaces: Vec<&str> = namespaces.into_iter().collect();
        Some(short_hash(&format!(
            "{}|{}",
            self.selector.as_deref().unwrap_or_default(),
            namespaces.join(",")
        )))
    }

    /// The separate lists that this comes to.
    #[must_use]
    pub fn lists(&self) -> Vec<Option<Arc<str>>> {
        if self.namespaces.is_empty() {
            return vec![None];
        }
        let namespaces: BTreeSet<&str> = self.namespaces.iter().map(String::as_str).collect();
        namespaces.into_iter().map(|namespace| Some(namespace.into())).collect()
    }
}

/// Starts all streams but those of Secrets; they end with the set, or when nobody takes their inputs.
pub fn start(
    tasks: &mut JoinSet<()>,
    client: &Client,
    scope: &Scope,
    allowed: &Allowed,
    inputs: &Sender<Input>,
) {
    for list in scope.lists() {
        let api = match &list {
            None => Api::<Stored>::all(client.clone()),
            Some(namespace) => Api::namespaced(client.clone(), namespace),
        };
        let config = watcher::Config { label_selector: scope.selector.clone(), ..watcher::Config::default() };
        tasks.spawn(robots(api, config, list, inputs.clone()));
    }
    let allowed = allowed.clone();
    tasks.spawn(follow(
        Api::<RtcApplication>::all(client.clone()),
        inputs.clone(),
        move |application| Input::Application(Box::new(Spec::read(application, &allowed))),
        Input::ApplicationGone,
        Input::ApplicationsListed,
    ));
    tasks.spawn(follow(
        Api::<PartialObjectMeta<Namespace>>::all(client.clone()),
        inputs.clone(),
        |namespace| {
            let meta = namespace.metadata;
            Input::Namespace(
                meta.name.unwrap_or_default().into(),
                meta.labels.unwrap_or_default(),
                meta.deletion_timestamp.is_some(),
            )
        },
        Input::NamespaceGone,
        Input::NamespacesListed,
    ));
}

async fn robots(api: Api<Stored>, config: watcher::Config, list: Option<Arc<str>>, inputs: Sender<Input>) {
    let mut stream = watcher(api, config.page_size(PAGE)).backoff(Waits::short()).boxed();
    let mut silent = Complaint::default();
    while let Some(event) = stream.next().await {
        let input = match event {
            Ok(Event::Init) => Input::RobotsListing(list.clone()),
            Ok(Event::InitApply(robot) | Event::Apply(robot)) => Input::Robot(Box::new(Robot::from(robot))),
            Ok(Event::Delete(robot)) => {
                let robot = Robot::from(robot);
                Input::RobotGone(robot.key, robot.uid)
            }
            Ok(Event::InitDone) => Input::RobotsListed(list.clone()),
            Err(error) => {
                silent.about::<Stored>(&error);
                Input::RobotsCut(list.clone())
            }
        };
        if !matches!(input, Input::RobotsCut(_)) {
            silent.over::<Stored>();
        }
        if inputs.send(input).await.is_err() {
            return;
        }
    }
}

/// Follows a small list by name.
async fn follow<K>(
    api: Api<K>,
    inputs: Sender<Input>,
    seen: impl Fn(K) -> Input,
    gone: impl Fn(Arc<str>) -> Input,
    listed: impl Fn(BTreeSet<Arc<str>>) -> Input,
) where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let mut stream =
        watcher(api, watcher::Config::default().page_size(PAGE)).backoff(Waits::default()).boxed();
    let mut names = BTreeSet::new();
    let mut silent = Complaint::default();
    while let Some(event) = stream.next().await {
        let input = match event {
            Ok(Event::Init) => {
                names.clear();
                continue;
            }
            Ok(Event::InitApply(object)) => {
                names.insert(object.name_any().into());
                seen(object)
            }
            Ok(Event::Apply(object)) => seen(object),
            Ok(Event::Delete(object)) => gone(object.name_any().into()),
            Ok(Event::InitDone) => listed(std::mem::take(&mut names)),
            Err(error) => {
                silent.about::<K>(&error);
                continue;
            }
        };
        silent.over::<K>();
        if inputs.send(input).await.is_err() {
            return;
        }
    }
}

/// Follows one Secret; ends when nobody takes its inputs.
pub async fn secret(client: Client, namespace: String, name: Arc<str>, inputs: Sender<Input>) {
    let api = Api::<Secret>::namespaced(client, &namespace);
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut stream = watcher(api, config).backoff(Waits::default()).boxed();
    let mut found = false;
    let mut silent = Complaint::default();
    while let Some(event) = stream.next().await {
        let credentials = match event {
            Ok(Event::Init) => {
                found = false;
                continue;
            }
            Ok(Event::InitApply(secret) | Event::Apply(secret)) => {
                found = true;
                let data: Option<BTreeMap<_, _>> =
                    secret.data.map(|data| data.into_iter().map(|(key, value)| (key, value.0)).collect());
                Credentials::read(data.as_ref())
            }
            Ok(Event::InitDone) if found => continue,
            Ok(Event::InitDone | Event::Delete(_)) => Credentials::Missing,
            Err(watcher::Error::InitialListFailed(error)) if forbidden(&error) => {
                let why = explain(&error);
                silent.about::<Secret>(&watcher::Error::InitialListFailed(error));
                Credentials::Unreadable(why)
            }
            Err(error) => {
                silent.about::<Secret>(&error);
                continue;
            }
        };
        if !matches!(credentials, Credentials::Unreadable(_)) {
            silent.over::<Secret>();
        }
        let input = Input::Secret(Arc::clone(&name), credentials);
        if inputs.send(input).await.is_err() {
            return;
        }
    }
}

fn forbidden(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 403)
}

/// A watch that fails is told once, and told again when its reason changes or it is well again.
#[derive(Default)]
pub(crate) struct Complaint {
    last: Option<String>,
}

impl Complaint {
    pub(crate) fn about<K: Resource<DynamicType = ()>>(&mut self, error: &watcher::Error) {
        let kind = K::kind(&());
        let reason = match error {
            watcher::Error::InitialListFailed(kube::Error::Api(status))
                if status.code == 404 && K::group(&()) == GROUP =>
            {
                format!(
                    "the CustomResourceDefinition {}.{GROUP} is not installed; install it with the chart, or with `roomrobot-operator crds | kubectl apply -f -`",
                    K::plural(&())
                )
            }
            watcher::Error::InitialListFailed(error)
            | watcher::Error::WatchStartFailed(error)
            | watcher::Error::WatchFailed(error) => explain(error),
            // The list is too old to be continued: a new one follows, and nothing is lost.
            watcher::Error::WatchError(status) if status.code == 410 => return,
            watcher::Error::WatchError(status) => {
                format!("the API server answered {}: {}", status.code, status.message)
            }
            watcher::Error::NoResourceVersion => error.to_string(),
        };
        if self.last.as_ref() != Some(&reason) {
            tracing::warn!(%kind, %reason, "waiting for the API server");
            self.last = Some(reason);
        }
    }

    pub(crate) fn over<K: Resource<DynamicType = ()>>(&mut self) {
        if self.last.take().is_some() {
            tracing::info!(kind = %K::kind(&()), "the API server answers again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_the_robots_have_names_that_stay() {
        let scope = |namespaces: &[&str], selector: Option<&str>| Scope {
            namespaces: namespaces.iter().map(|name| (*name).to_owned()).collect(),
            selector: selector.map(str::to_owned),
        };
        assert_eq!(scope(&[], None).shard(), None);
        assert_eq!(scope(&["a", "b"], None).shard(), scope(&["b", "a", "a"], None).shard());
        assert_ne!(scope(&["a"], None).shard(), scope(&[], Some("a")).shard());
        // Stored in finalizers and Lease names: never to be changed.
        assert_eq!(short_hash("shard=a"), "3d8dfb26");
    }
}
