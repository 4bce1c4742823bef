//! What is stored in Kubernetes, as inputs for the engine.
//!
//! Touches the API server, reading only. One stream for each list; a stream that fails starts again by itself.

mod scope;
mod secret;

pub use scope::{Scope, short_hash};
pub use secret::secret;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client, Resource, ResourceExt as _,
    core::PartialObjectMeta,
    runtime::{
        WatchStreamExt as _,
        utils::Backoff,
        watcher::{self, Event, watcher},
    },
};
use roomrobot_client::errors::explain;
use roomrobot_core::{
    application::StoredApplication,
    crd::{GROUP, RtcApplication},
    endpoint::Allowed,
    engine::Input,
    robot::{Robot, Stored},
};
use serde::de::DeserializeOwned;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::{sync::mpsc::Sender, task::JoinSet};

/// Pages of a list: small enough for the memory, large enough for the API server.
const PAGE: u32 = 500;

/// Secrets, each watched by its name: one that cannot be read is the matter of the applications that use it.
pub const SECRETS: &str = "secrets";

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

/// The round that lists belong to. With a new one all lists of RoomRobots and RtcApplications begin again: see
/// [`roomrobot_core::engine::Effect::ListAgain`].
pub type Rounds = tokio::sync::watch::Receiver<u32>;

/// Where inputs of watches go, and what else they tell.
#[derive(Clone, Debug)]
pub struct Told {
    /// Inputs for the engine.
    pub inputs: Sender<Input>,
    /// Which views are cut.
    pub views: Views,
}

/// Which views of the cluster are cut: their watch fails, and what is known of them grows old.
#[derive(Clone, Debug, Default)]
pub struct Views(Arc<Mutex<BTreeMap<View, Option<Instant>>>>);

/// A resource, and the part of it that is watched.
type View = (&'static str, String);

impl Views {
    /// The view of this resource, or of a part of it, is cut.
    fn cut(&self, resource: &'static str, part: &str) {
        let mut views = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        views.entry((resource, part.to_owned())).or_default().get_or_insert_with(Instant::now);
    }

    /// It is whole.
    pub(crate) fn whole(&self, resource: &'static str, part: &str) {
        let mut views = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match views.get_mut(&(resource, part.to_owned())) {
            Some(since) => *since = None,
            None => drop(views.insert((resource, part.to_owned()), None)),
        }
    }

    /// It is not looked at any more.
    fn forget(&self, resource: &'static str, part: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&(resource, part.to_owned()));
    }

    /// For how long the view of each resource has been cut, its worst part: zero where it is whole.
    #[must_use]
    pub fn cut_for(&self) -> BTreeMap<&'static str, Duration> {
        let views = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut resources = BTreeMap::new();
        for ((resource, _), since) in &*views {
            let age = since.map_or(Duration::ZERO, |since| since.elapsed());
            let longest: &mut Duration = resources.entry(*resource).or_default();
            *longest = age.max(*longest);
        }
        resources
    }
}

/// Starts all streams but those of Secrets; they end with the set, or when nobody takes their inputs.
pub fn start(
    tasks: &mut JoinSet<()>,
    client: &Client,
    scope: &Scope,
    allowed: &Allowed,
    rounds: &Rounds,
    told: &Told,
) {
    for list in scope.lists() {
        let api = match &list {
            None => Api::<Stored>::all(client.clone()),
            Some(namespace) => Api::namespaced(client.clone(), namespace),
        };
        let config = watcher::Config { label_selector: scope.selector.clone(), ..watcher::Config::default() };
        tasks.spawn(robots(api, config, list, rounds.clone(), told.clone()));
    }
    let allowed = allowed.clone();
    tasks.spawn(follow(
        Api::<RtcApplication>::all(client.clone()),
        Some(rounds.clone()),
        told.clone(),
        Inputs {
            begins: |round| Some(Input::ApplicationsListing(round)),
            seen: move |application| {
                Input::Application(Box::new(StoredApplication::read(application, &allowed)))
            },
            gone: Input::ApplicationGone,
            listed: Input::ApplicationsListed,
        },
    ));
    tasks.spawn(follow(
        Api::<PartialObjectMeta<Namespace>>::all(client.clone()),
        None,
        told.clone(),
        Inputs {
            begins: |_| None,
            seen: |namespace: PartialObjectMeta<Namespace>| {
                let meta = namespace.metadata;
                Input::Namespace(
                    meta.name.unwrap_or_default().into(),
                    meta.labels.unwrap_or_default(),
                    meta.deletion_timestamp.is_some(),
                )
            },
            gone: Input::NamespaceGone,
            listed: Input::NamespacesListed,
        },
    ));
}

/// After a failure a watch goes on where it was, and tells nothing while nothing changes: nobody can say then whether the
/// view is whole. Where nothing is heard for so long, a new list tells.
const UNHEARD: Duration = Duration::from_secs(5);

/// Since when a watch has failed and told nothing.
#[derive(Default)]
struct Silence(Option<tokio::time::Instant>);

impl Silence {
    /// A list that fails begins again by itself.
    fn after<K>(&mut self, event: &watcher::Result<Event<K>>) {
        match event {
            Ok(_) | Err(watcher::Error::InitialListFailed(_)) => self.0 = None,
            Err(_) => drop(self.0.get_or_insert_with(tokio::time::Instant::now)),
        }
    }

    /// Waits until it has lasted too long.
    async fn lasts(&self) {
        match self.0 {
            Some(since) => tokio::time::sleep_until(since + UNHEARD).await,
            None => std::future::pending().await,
        }
    }
}

/// Waits for a new round; for ever where there are none.
async fn new_round(rounds: Option<&mut Rounds>) -> bool {
    match rounds {
        Some(rounds) => rounds.changed().await.is_ok(),
        None => std::future::pending().await,
    }
}

async fn robots(
    api: Api<Stored>,
    config: watcher::Config,
    list: Option<Arc<str>>,
    mut rounds: Rounds,
    told: Told,
) {
    let part = list.as_deref().unwrap_or_default();
    let mut silent = Complaint::default();
    loop {
        let round = *rounds.borrow_and_update();
        let mut stream = watcher(api.clone(), config.clone().page_size(PAGE)).backoff(Waits::short()).boxed();
        let mut silence = Silence::default();
        loop {
            let event = tokio::select! {
                biased;
                more = new_round(Some(&mut rounds)) => if more { break } else { return },
                event = stream.next() => event,
                () = silence.lasts() => break,
            };
            let Some(event) = event else { return };
            silence.after(&event);
            let input = match event {
                // The list begins after this, so it is of the round.
                Ok(Event::Init) => Input::RobotsListing(list.clone(), round),
                Ok(Event::InitApply(robot) | Event::Apply(robot)) => {
                    Input::Robot(Box::new(Robot::from(robot)))
                }
                Ok(Event::Delete(robot)) => {
                    let robot = Robot::from(robot);
                    Input::RobotGone(robot.key, robot.uid)
                }
                Ok(Event::InitDone) => Input::RobotsListed(list.clone()),
                Err(error) => {
                    silent.about::<Stored>(&error);
                    told.views.cut("roomrobots", part);
                    continue;
                }
            };
            if !matches!(input, Input::RobotsListing(..)) {
                silent.over::<Stored>();
                told.views.whole("roomrobots", part);
            }
            if told.inputs.send(input).await.is_err() {
                return;
            }
        }
    }
}

/// What becomes of the events of a list.
struct Inputs<B, S, G, L> {
    /// A list begins, in this round.
    begins: B,
    seen: S,
    gone: G,
    listed: L,
}

/// Follows a small list by name.
async fn follow<K, B, S, G, L>(
    api: Api<K>,
    mut rounds: Option<Rounds>,
    told: Told,
    inputs: Inputs<B, S, G, L>,
) where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
    B: Fn(u32) -> Option<Input>,
    S: Fn(K) -> Input,
    G: Fn(Arc<str>) -> Input,
    L: Fn(BTreeSet<Arc<str>>) -> Input,
{
    let resource = if K::kind(&()) == "Namespace" { "namespaces" } else { "rtcapplications" };
    let mut silent = Complaint::default();
    loop {
        let round = rounds.as_mut().map_or(0, |rounds| *rounds.borrow_and_update());
        let config = watcher::Config::default().page_size(PAGE);
        let mut stream = watcher(api.clone(), config).backoff(Waits::default()).boxed();
        let mut names = BTreeSet::new();
        let mut silence = Silence::default();
        loop {
            let event = tokio::select! {
                biased;
                more = new_round(rounds.as_mut()) => if more { break } else { return },
                event = stream.next() => event,
                () = silence.lasts() => break,
            };
            let Some(event) = event else { return };
            silence.after(&event);
            let input = match event {
                Ok(Event::Init) => {
                    names.clear();
                    let Some(input) = (inputs.begins)(round) else { continue };
                    input
                }
                Ok(Event::InitApply(object)) => {
                    names.insert(object.name_any().into());
                    (inputs.seen)(object)
                }
                Ok(Event::Apply(object)) => (inputs.seen)(object),
                Ok(Event::Delete(object)) => (inputs.gone)(object.name_any().into()),
                Ok(Event::InitDone) => (inputs.listed)(std::mem::take(&mut names)),
                Err(error) => {
                    silent.about::<K>(&error);
                    told.views.cut(resource, "");
                    continue;
                }
            };
            if !matches!(input, Input::ApplicationsListing(_)) {
                silent.over::<K>();
                told.views.whole(resource, "");
            }
            if told.inputs.send(input).await.is_err() {
                return;
            }
        }
    }
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
