//! The running operator: feeds the engine, does what it says, and ends in good order.
//!
//! Touches everything; decides nothing.

use crate::{
    cli,
    effects::{Effects, Reporter},
    kubernetes,
    leader::{Candidate, lease_name},
    metrics::Metrics,
    server::Server,
    traces::{self, Traces},
    watch::{self, Scope},
};
use k8s_openapi::jiff::Timestamp;
use kube::{Client, Config};
use roomrobot_client::{
    clock, errors, proxy,
    room_engine::{RoomEngine, SetupError},
};
use roomrobot_core::{
    endpoint::Allowed,
    engine::{Engine, HANDOVER_GAP, Input, Now, Settings, Snapshot},
    right::{Right, Standing},
};
use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::{sleep, timeout},
};

/// How long what is under way may take to finish and be recorded after SIGTERM.
const DRAIN: Duration = Duration::from_secs(10);

/// How long the last traces may take after everything else has ended.
const LAST_TRACES: Duration = Duration::from_secs(2);

/// Time to connect to the API server.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Where the ServiceAccount's namespace stands in a Pod.
const SERVICE_ACCOUNT_NAMESPACE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

/// How long the engine's task sleeps when nothing at all is due.
const IDLE: Duration = Duration::from_secs(3600);

/// How long the first lists wait for what becomes of the Lease.
const FIRST_LOOK: Duration = Duration::from_secs(1);

/// The most inputs that are taken before their effects are carried out.
const BATCH: usize = 256;

/// Why the operator ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No way to a cluster.
    #[error(
        "no Kubernetes cluster to work for: {}; run in a Pod with a ServiceAccount, or set KUBECONFIG",
        errors::explain_config(.0)
    )]
    Config(#[source] kube::config::InferConfigError),
    /// The client could not be set up.
    #[error("cannot set up the Kubernetes client: {0}")]
    Client(#[source] kube::Error),
    /// TLS for the room engine could not be set up.
    #[error(transparent)]
    RoomEngine(#[from] SetupError),
    /// Traces could not be set up.
    #[error(transparent)]
    Traces(#[from] traces::SetupError),
    /// The address of `--listen` is not to be had.
    #[error("cannot listen on {address}: {source}; choose another address with --listen")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// Signals cannot be received.
    #[error("cannot receive signals: {0}")]
    Signals(#[source] io::Error),
    /// Its task is gone, so that nobody renews the Lease.
    #[error("the leader election has ended; this is a defect of the operator")]
    Election,
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// If it cannot start.
pub async fn run(args: cli::Run) -> Result<(), Error> {
    let mut signals = Signals::new()?;
    let client = connect().await?;
    let namespace = own_namespace(args.namespace.as_deref());
    let scope = Scope { namespaces: args.watch_namespace.clone(), selector: args.selector.clone() };
    let listener =
        Server::bind(args.listen).map_err(|source| Error::Listen { address: args.listen, source })?;
    let mut operator = Operator::new(&args, &scope, client.clone(), &namespace)?;
    let (snapshots, asked) = mpsc::channel(4);
    let server =
        Server { ready: Arc::clone(&operator.ready), metrics: operator.effects.metrics.clone(), snapshots };
    tokio::spawn(server.serve(listener));

    let lease = lease_name(args.selector.as_deref());
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"), %namespace, %lease, leader_elect = args.leader_elect,
        listen = %args.listen, selector = args.selector,
        watched = if scope.namespaces.is_empty() { "all namespaces".to_owned() } else { scope.namespaces.join(",") },
        "roomrobot-operator starts"
    );
    let pod = operator.effects.reporter.pod.clone();
    let mut candidate = args.leader_elect.then(|| Candidate::stand(client.clone(), &namespace, lease, &pod));
    // Whoever begins to act lists everything anew. One that acts from its start lists once.
    match candidate.as_mut() {
        None => {
            let leads = operator.right.take_for_ever();
            operator.act([leads]);
        }
        Some(candidate) => {
            if let Ok(standing) = timeout(FIRST_LOOK, next_standing(Some(candidate))).await {
                operator.stand(standing?);
            }
        }
    }
    operator.take(None);
    let mut watches = JoinSet::new();
    let rounds = operator.effects.rounds.subscribe();
    watch::start(&mut watches, &client, &scope, &operator.effects.allowed, &rounds, &operator.effects.seen);
    let end = operator.work(&mut signals, candidate.as_mut(), asked).await;
    if let Some(candidate) = candidate {
        // The next one's calls do not fall into the same second.
        sleep(operator.rest_of_last_second()).await;
        candidate.resign().await;
    }
    let traces = operator.effects.traces;
    // It blocks, and is not worth an error.
    let _ = tokio::task::spawn_blocking(move || traces.end(LAST_TRACES)).await;
    end
}

#[cfg(feature = "otlp")]
fn traces(args: &cli::Run, namespace: &str, pod: &str) -> Result<Traces, traces::SetupError> {
    args.otlp_endpoint.as_ref().map_or_else(|| Ok(Traces::default()), |to| Traces::to(to, namespace, pod))
}

#[cfg(not(feature = "otlp"))]
#[expect(clippy::unnecessary_wraps, reason = "as with the feature")]
fn traces(_: &cli::Run, _: &str, _: &str) -> Result<Traces, traces::SetupError> {
    Ok(Traces::default())
}

/// The signals that end the process in good order.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> Result<Self, Error> {
        let listen = |kind| signal(kind).map_err(Error::Signals);
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    async fn any(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// The client for the cluster of the Pod, else of `KUBECONFIG`.
///
/// # Errors
/// If there is no cluster, or its client cannot be set up.
pub async fn connect() -> Result<Client, Error> {
    let mut config = match Config::incluster() {
        Ok(config) => config,
        // Not in a Pod; this looks there again only to say so if there is no kubeconfig either.
        Err(_) => Config::infer().await.map_err(Error::Config)?,
    };
    proxy::spare(&mut config);
    // The engine is the retry loop; retries inside the client would hide minutes.
    config.default_retry = false;
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    kubernetes::client(config).map_err(Error::Client)
}

/// The engine, what feeds it and what acts for it.
struct Operator {
    engine: Engine,
    effects: Effects,
    watched: mpsc::Receiver<Input>,
    results: mpsc::UnboundedReceiver<Input>,
    ready: Arc<AtomicBool>,
    start: Instant,
    synced: bool,
    right: Right,
    /// Since when it is ending.
    ending: Option<Instant>,
    /// When a call was last answered or failed.
    answered: Option<Instant>,
}

impl Operator {
    fn new(args: &cli::Run, scope: &Scope, client: Client, namespace: &str) -> Result<Self, Error> {
        let allowed = Allowed::new(args.allow_endpoint.iter().cloned());
        let (seen, watched) = mpsc::channel(BATCH);
        let (done, results) = mpsc::unbounded_channel();
        let settings = Settings {
            allowed: allowed.clone(),
            namespace: namespace.into(),
            concurrency: args.concurrency.into(),
            shard: scope.shard(),
        };
        let right = Right::default();
        let until = right.until();
        let pod = std::env::var("HOSTNAME").unwrap_or_else(|_| "roomrobot-operator".to_owned());
        let metrics = Metrics::default();
        let views = metrics.views();
        let effects = Effects {
            client,
            room_engine: RoomEngine::new(until.clone())?,
            allowed,
            metrics,
            traces: traces(args, namespace, &pod)?,
            reporter: Reporter { namespace: namespace.to_owned(), pod },
            done,
            seen: watch::Told { inputs: seen, views },
            rounds: tokio::sync::watch::Sender::new(0),
            secrets: HashMap::new(),
            until,
            application_finalizer: settings.application_finalizer(),
        };
        Ok(Self {
            engine: Engine::new(settings, scope.lists().len(), fastrand::u64(..)),
            effects,
            watched,
            results,
            ready: Arc::default(),
            start: Instant::now(),
            synced: false,
            right,
            ending: None,
            answered: None,
        })
    }

    fn now(&self) -> Now {
        Now { since_start: self.start.elapsed(), wall: Timestamp::now() }
    }

    /// Takes news of the election.
    fn stand(&mut self, standing: Standing) {
        let inputs = self.right.stand(standing, self.engine.elected(), clock::now());
        self.act(inputs);
    }

    /// What the engine is told about the right to act.
    fn act(&mut self, inputs: impl IntoIterator<Item = Input>) {
        for input in inputs {
            if let Input::Leading(before) = &input {
                tracing::info!(?before, "this replica leads");
            } else {
                tracing::warn!(
                    "the Lease was lost: no call from now on; what was answered is still recorded"
                );
            }
            self.engine.handle(input, self.now());
        }
    }

    async fn work(
        &mut self,
        signals: &mut Signals,
        mut candidate: Option<&mut Candidate>,
        mut asked: mpsc::Receiver<oneshot::Sender<Snapshot>>,
    ) -> Result<(), Error> {
        loop {
            let wait = self.wait();
            let input = tokio::select! {
                biased;
                () = signals.any(), if self.ending.is_none() => {
                    self.stop();
                    None
                }
                standing = next_standing(candidate.as_deref_mut()) => {
                    self.stand(standing?);
                    None
                }
                Some(input) = self.results.recv() => Some(input),
                Some(input) = self.watched.recv() => Some(input),
                Some(reply) = asked.recv() => {
                    let _ = reply.send(self.engine.snapshot(self.now()));
                    None
                }
                () = sleep(wait) => None,
            };
            let ended = self.right.pass(self.engine.elected(), clock::now());
            self.act(ended);
            self.take(input);
            if let Some(since) = self.ending
                && (self.engine.drained() || since.elapsed() >= DRAIN)
            {
                return Ok(());
            }
        }
    }

    /// How long the last call is less than a second ago.
    fn rest_of_last_second(&self) -> Duration {
        self.answered.map_or(Duration::ZERO, |at| HANDOVER_GAP.saturating_sub(at.elapsed()))
    }

    /// How long there is nothing to do, if nothing happens.
    fn wait(&self) -> Duration {
        let due =
            self.engine.next_due(self.start.elapsed()).map(|due| due.saturating_sub(self.start.elapsed()));
        let end = self.ending.map(|since| DRAIN.saturating_sub(since.elapsed()));
        due.into_iter().chain(end).min().unwrap_or(IDLE)
    }

    fn stop(&mut self) {
        tracing::info!("ending: no new call; what is under way is finished and recorded");
        self.ending = Some(Instant::now());
        self.ready.store(false, Ordering::Relaxed);
        self.engine.handle(Input::Stop, self.now());
    }

    /// Feeds the engine with `input` and whatever else is there, and does what follows.
    fn take(&mut self, input: Option<Input>) {
        let now = self.now();
        let more =
            std::iter::from_fn(|| self.results.try_recv().ok().or_else(|| self.watched.try_recv().ok()));
        for input in input.into_iter().chain(more.take(BATCH)) {
            if matches!(input, Input::Answered(_)) {
                self.answered = Some(Instant::now());
            }
            self.engine.handle(input, now);
        }
        for effect in self.engine.advance(now) {
            self.effects.carry_out(effect);
        }
        if !self.synced && self.engine.synced() {
            self.synced = true;
            let robots = self.engine.robots().len();
            tracing::info!(robots, after = ?self.start.elapsed(), "the first lists are in");
            self.ready.store(self.ending.is_none(), Ordering::Relaxed);
        }
    }
}

/// The next news about the election; never comes where there is none.
async fn next_standing(candidate: Option<&mut Candidate>) -> Result<Standing, Error> {
    let Some(candidate) = candidate else {
        return std::future::pending().await;
    };
    candidate.standing.changed().await.map_err(|_| Error::Election)?;
    Ok(*candidate.standing.borrow_and_update())
}

/// The namespace of `--namespace`, else of the ServiceAccount, else the usual one.
fn own_namespace(given: Option<&str>) -> String {
    let mounted =
        || std::fs::read_to_string(SERVICE_ACCOUNT_NAMESPACE).ok().map(|text| text.trim().to_owned());
    given
        .map(str::to_owned)
        .or_else(mounted)
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "roomrobot-system".to_owned())
}
