//! The running operator: feeds the engine, does what it says, and ends in good order.
//!
//! Touches everything; decides nothing.

use crate::{
    cli,
    endpoint::Allowed,
    engine::{Answer, Call, Effect, Engine, Input, Now, Settings},
    kubernetes,
    leader::{Candidate, lease_name},
    metrics::Metrics,
    room_engine::{RoomEngine, SetupError},
    server::Server,
    watch::{self, Scope},
};
use k8s_openapi::jiff::Timestamp;
use kube::{Client, Config};
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
    signal::unix::{SignalKind, signal},
    sync::{mpsc, oneshot},
    task::{AbortHandle, JoinSet},
    time::sleep,
};

/// How long what is under way may take to finish and be recorded after SIGTERM.
const DRAIN: Duration = Duration::from_secs(10);

/// Time to connect to the API server.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Where the ServiceAccount's namespace stands in a Pod.
const SERVICE_ACCOUNT_NAMESPACE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

/// The most inputs that are taken before their effects are carried out.
const BATCH: usize = 256;

/// Why the operator ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No way to a cluster.
    #[error("no Kubernetes cluster to work for: {0}; run in a Pod with a ServiceAccount, or set KUBECONFIG")]
    Config(#[source] kube::config::InferConfigError),
    /// The client could not be set up.
    #[error("cannot set up the Kubernetes client: {0}")]
    Client(#[source] kube::Error),
    /// TLS for the room engine could not be set up.
    #[error(transparent)]
    RoomEngine(#[from] SetupError),
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
    /// Another replica may act now.
    #[error("the Lease was lost; ending, so that no two replicas act")]
    LeaseLost,
}

/// Runs until SIGTERM or SIGINT, or until the Lease is lost.
///
/// # Errors
/// If it cannot start, or the Lease was lost.
pub async fn run(args: cli::Run) -> Result<(), Error> {
    let start = Instant::now();
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::Signals)?;

    let mut config = Config::infer().await.map_err(Error::Config)?;
    // The engine is the retry loop; hidden retries inside the client would hide minutes.
    config.default_retry = false;
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    let client = Client::try_from(config).map_err(Error::Client)?;
    let namespace: Arc<str> = own_namespace(args.namespace.as_deref()).into();
    let listener =
        Server::bind(args.listen).await.map_err(|source| Error::Listen { address: args.listen, source })?;

    let allowed = Allowed::new(args.allow_endpoint.iter().cloned());
    let scope = Scope { namespaces: args.watch_namespace.clone(), selector: args.selector.clone() };
    let pod = std::env::var("HOSTNAME").unwrap_or_else(|_| "roomrobot-operator".to_owned());
    let metrics = Metrics::default();
    let ready = Arc::new(AtomicBool::new(false));
    let (snapshots, mut asked) = mpsc::channel(4);
    tokio::spawn(Server { ready: Arc::clone(&ready), metrics: metrics.clone(), snapshots }.serve(listener));

    let settings =
        Settings { allowed: allowed.clone(), namespace: Arc::clone(&namespace), concurrency: args.concurrency.into() };
    let mut engine = Engine::new(settings, scope.lists().len(), fastrand::u64(..));
    let (seen, mut watched) = mpsc::channel(BATCH);
    let (done, mut results) = mpsc::unbounded_channel();
    let mut watches = JoinSet::new();
    watch::start(&mut watches, &client, &scope, &allowed, &seen);
    let mut hands = Hands {
        client: client.clone(),
        room_engine: RoomEngine::new()?,
        allowed,
        metrics,
        namespace: namespace.to_string(),
        pod: pod.clone(),
        done,
        seen,
        secrets: HashMap::new(),
    };

    let lease = lease_name(args.selector.as_deref());
    let identity = format!("{pod}-{:08x}", fastrand::u32(..));
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"), %namespace, leader_elect = args.leader_elect, listen = %args.listen,
        watched = if scope.namespaces.is_empty() { "all namespaces".to_owned() } else { scope.namespaces.join(",") },
        selector = scope.selector.as_deref().unwrap_or_default(),
        "roomrobot-operator starts"
    );
    let standing = async {
        if args.leader_elect { Some(Candidate::stand(&client, &namespace, &lease, &identity).await) } else { None }
    };
    tokio::pin!(standing);
    let mut election = Election::Standing;

    let now = || Now { since_start: start.elapsed(), wall: Timestamp::now() };
    let mut synced = false;
    let mut ending: Option<Instant> = None;
    let result = loop {
        let due = engine.next_due(start.elapsed());
        let wait = match (due, ending) {
            (Some(due), None) => due.saturating_sub(start.elapsed()),
            (None, None) => Duration::from_secs(3600),
            (due, Some(ending)) => due
                .map_or(DRAIN, |due| due.saturating_sub(start.elapsed()))
                .min((ending + DRAIN).saturating_duration_since(Instant::now())),
        };
        let input = tokio::select! {
            biased;
            _ = terminate.recv(), if ending.is_none() => Some(Input::Stop),
            _ = interrupt.recv(), if ending.is_none() => Some(Input::Stop),
            candidate = &mut standing, if matches!(election, Election::Standing) && ending.is_none() => {
                election = match candidate {
                    None => Election::Without,
                    Some(candidate) => Election::Candidate(candidate),
                };
                matches!(election, Election::Without).then_some(Input::Leading)
            }
            leading = election.changed() => match leading {
                Some(true) => {
                    tracing::info!(%lease, "this replica leads");
                    Some(Input::Leading)
                }
                Some(false) => None,
                None if ending.is_some() => None,
                None => break Err(Error::LeaseLost),
            },
            Some(input) = results.recv() => Some(input),
            Some(input) = watched.recv() => Some(input),
            Some(reply) = asked.recv() => {
                let reply: oneshot::Sender<_> = reply;
                let _ = reply.send(engine.snapshot(now()));
                None
            }
            () = sleep(wait) => None,
        };
        if matches!(input, Some(Input::Stop)) {
            tracing::info!("ending: no new call; what is under way is finished and recorded");
            ending = Some(Instant::now());
            ready.store(false, Ordering::Relaxed);
        }
        let moment = now();
        let more = std::iter::from_fn(|| results.try_recv().ok().or_else(|| watched.try_recv().ok()));
        for input in input.into_iter().chain(more.take(BATCH)) {
            engine.handle(input, moment);
        }
        for effect in engine.advance(moment) {
            hands.carry_out(effect);
        }
        if !synced && engine.synced() {
            synced = true;
            tracing::info!(robots = engine.robots().len(), after = ?start.elapsed(), "the first lists are in");
            ready.store(ending.is_none(), Ordering::Relaxed);
        }
        if let Some(since) = ending
            && (engine.drained() || since.elapsed() >= DRAIN)
        {
            break Ok(());
        }
    };
    watches.abort_all();
    if result.is_ok()
        && let Election::Candidate(candidate) = election
    {
        candidate.resign().await;
    }
    result
}

/// Where this process stands in the election.
enum Election {
    /// It is not in it yet.
    Standing,
    /// There is none.
    Without,
    /// It takes part.
    Candidate(Candidate),
}

impl Election {
    /// The next news: `Some(true)` leading, `Some(false)` standing by, `None` lost.
    async fn changed(&mut self) -> Option<bool> {
        let Self::Candidate(candidate) = self else { return std::future::pending().await };
        let before = *candidate.leading.borrow();
        if candidate.leading.changed().await.is_err() {
            return None;
        }
        match (before, *candidate.leading.borrow_and_update()) {
            (true, false) => None,
            (_, leading) => Some(leading),
        }
    }
}

/// The namespace of `--namespace`, else of the ServiceAccount, else the usual one.
fn own_namespace(given: Option<&str>) -> String {
    let mounted = || std::fs::read_to_string(SERVICE_ACCOUNT_NAMESPACE).ok().map(|text| text.trim().to_owned());
    given
        .map(str::to_owned)
        .or_else(mounted)
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "roomrobot-system".to_owned())
}

/// What carries out the engine's effects.
struct Hands {
    client: Client,
    room_engine: RoomEngine,
    allowed: Allowed,
    metrics: Metrics,
    namespace: String,
    pod: String,
    /// Results of calls and writes.
    done: mpsc::UnboundedSender<Input>,
    /// Inputs of watches.
    seen: mpsc::Sender<Input>,
    /// The watched Secrets.
    secrets: HashMap<Arc<str>, AbortHandle>,
}

impl Hands {
    fn carry_out(&mut self, effect: Effect) {
        let (client, done, metrics) = (self.client.clone(), self.done.clone(), self.metrics.clone());
        match effect {
            Effect::Call(call) => {
                let room_engine = self.room_engine.clone();
                tokio::spawn(async move {
                    let begun = Instant::now();
                    let outcome = room_engine.call(call.operation, &call.caller, &call.target).await;
                    metrics.called(&call.application, call.operation, &outcome, begun.elapsed());
                    audit(&call, &outcome, begun.elapsed());
                    let _ = done.send(Input::Answered(Answer {
                        id: call.id,
                        application: call.application,
                        sdk_app_id: call.caller.sdk_app_id,
                        operation: call.operation,
                        signature: call.signature,
                        started: call.started,
                        outcome,
                    }));
                });
            }
            Effect::Write(write) => {
                tokio::spawn(async move {
                    let result = kubernetes::write_robot(&client, &write).await;
                    metrics.wrote(&write.change, &result);
                    let _ = done.send(Input::Written(write.id, Box::new(result)));
                });
            }
            Effect::WriteApplication(write) => {
                let allowed = self.allowed.clone();
                tokio::spawn(async move {
                    let result = kubernetes::write_application(&client, &write, &allowed).await;
                    metrics.wrote(&write.change, &result);
                    let _ = done.send(Input::ApplicationWritten(write.name, Box::new(result)));
                });
            }
            Effect::Announce(announcement) => {
                let pod = self.pod.clone();
                tokio::spawn(async move { kubernetes::announce(&client, &announcement, &pod).await });
            }
            Effect::WatchSecret(name) => {
                let follow = watch::secret(client, self.namespace.clone(), Arc::clone(&name), self.seen.clone());
                let task = tokio::spawn(follow).abort_handle();
                if let Some(before) = self.secrets.insert(name, task) {
                    before.abort();
                }
            }
            Effect::ForgetSecret(name) => {
                if let Some(task) = self.secrets.remove(&name) {
                    task.abort();
                }
            }
        }
    }
}

/// One line for each call: what a person needs who asks the vendor why.
fn audit(call: &Call, outcome: &crate::room_engine::Outcome, took: Duration) {
    tracing::info!(
        target: "audit",
        namespace = %call.key.namespace,
        name = %call.key.name,
        uid = %call.uid,
        application = %call.application,
        room = %call.target.room_id,
        robot = %call.target.member_account,
        operation = %call.operation,
        code = outcome.code(),
        request_id = outcome.request_id(),
        verdict = outcome.class(call.operation).as_str(),
        http_status = outcome.http_status(),
        info = outcome.info(),
        took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        "call"
    );
}
