//! A world in which a story takes place: replicas with the real engine and election, an API server, a room engine, and a
//! clock that jumps from one thing that is due to the next. Nothing in it is drawn by chance.

use crate::{
    checks::{Arrival, Checks, Identity, Knew},
    cluster::{self, App, Changed, Cluster, Namespace, Object},
    orders::{self, Orders},
    replica::{Open, Phase, Replica, START, Shows, State, Stream},
    story::{self, Action, Meets, Of, Refusal, Secret, Setup, Step, Story, Which},
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use roomrobot_operator::{
    application::Credentials,
    codes::Operation,
    crd::ROBOT_FINALIZER,
    election,
    engine::{
        Answer, ApplicationWrite, Call, Change, Effect, Input, LAST_SECOND, Write, WriteError,
        application_finalizer,
    },
    kubernetes,
    right::Standing,
    room_engine::{Outcome, Reply, Trouble, TroubleKind},
    usersig::Sensitive,
};
use serde_json::{Value, json};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    fmt::Write as _,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

mod people;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// How long a call waits for its answer, as the operator's client does.
const CALL_TIMEOUT: Duration = Duration::from_secs(8);

/// How long a list waits for its answer.
const LIST_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a Secret that was never read may be unanswered, or fail, before that is told; as in `watch::secret`.
const UNANSWERED: Duration = Duration::from_secs(6);
const UNREAD: Duration = Duration::from_secs(3);

/// How long nothing may be heard of a watch that failed; as in `watch`.
const UNHEARD: Duration = Duration::from_secs(5);

/// How long a process that ends waits for what is under way.
const DRAIN: Duration = Duration::from_secs(10);

/// The SDKAppID of the first application.
const SDK_APP_ID: u32 = 1_400_000_000;

/// What a run comes to.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// RoomRobots that left.
    pub deletions: u64,
    /// Events of the simulation.
    pub events: u64,
    /// Simulated time.
    pub time: Duration,
    /// Machine time of the engines.
    pub engines: Duration,
    /// How often a RoomRobot was looked at for each input.
    pub looks: f64,
    /// Which promise was broken, and how.
    pub broken: Option<String>,
    /// What happened, in words, where it was asked for.
    pub told: Vec<String>,
}

enum Event {
    Step(usize),
    Start(usize),
    Wake(usize, u32),
    Election(usize, u32, Box<election::Input>),
    Told(usize, u32, Box<Input>),
    Stream(usize, u32, usize, u32, Do),
    Request(Box<Request>),
    Reply(usize, u32, u64, Box<Input>),
    GiveUp(usize, u32, u64),
    Lease(usize, u32, election::Ticket, Box<election::Request>),
    Arrive(Box<InFlight>),
    CallGiveUp(Box<InFlight>),
    Heard(Box<InFlight>, Box<Outcome>),
    Resign(usize, u32),
    Controller(&'static str),
    NamespaceBack(&'static str),
    Sample,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Do {
    Begin,
    Snapshot,
    Deliver,
    Tick,
    Fail,
    Resume,
    Unheard,
    Unanswered,
}

enum What {
    Robot(Write),
    Application(ApplicationWrite),
}

struct Request {
    replica: usize,
    process: u32,
    id: u64,
    what: What,
    knew: Knew,
}

#[derive(Clone)]
struct InFlight {
    replica: usize,
    process: u32,
    id: u64,
    call: Rc<Call>,
    way: Duration,
    sent: Duration,
}

struct WriteFault {
    ns: u8,
    which: Which,
    how: Refusal,
    times: u8,
    until: Duration,
}

struct RoomFault {
    app: String,
    add: Option<bool>,
    how: Meets,
    times: u8,
    until: Duration,
}

struct Due(Duration, u64, Event);

impl Event {
    /// Tells what is on its way from other things.
    fn fingerprint(&self) -> u64 {
        let text = match self {
            Self::Step(n) => format!("step {n}"),
            Self::Start(n) => format!("start {n}"),
            Self::Wake(n, _) => format!("wake {n}"),
            Self::Election(n, _, input) => format!("election {n} {input:?}"),
            Self::Told(n, _, input) => format!("told {n} {input:?}"),
            Self::Stream(n, _, stream, generation, what) => {
                format!("stream {n} {stream} {generation} {what:?}")
            }
            Self::Request(request) => match &request.what {
                What::Robot(write) => format!("request {} {write:?}", request.replica),
                What::Application(write) => format!("request {} {write:?}", request.replica),
            },
            Self::Reply(n, _, _, input) => format!("reply {n} {input:?}"),
            Self::GiveUp(n, ..) => format!("give up {n}"),
            Self::Lease(n, _, _, request) => format!("lease {n} {request:?}"),
            Self::Arrive(flight) => format!("arrive {:?}", flight.call.key),
            Self::CallGiveUp(flight) => format!("call given up {:?}", flight.call.key),
            Self::Heard(flight, outcome) => format!("heard {:?} {outcome:?}", flight.call.key),
            Self::Resign(n, _) => format!("resign {n}"),
            Self::Controller(name) => format!("controller {name}"),
            Self::NamespaceBack(name) => format!("namespace {name}"),
            Self::Sample => "sample".to_owned(),
        };
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        hasher.finish()
    }
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}
impl Eq for Due {}
impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

struct World {
    setup: Setup,
    steps: Vec<Step>,
    now: Duration,
    events: BinaryHeap<Reverse<Due>>,
    sequence: u64,
    handled: u64,
    cluster: Cluster,
    leases: BTreeMap<u8, election::Record>,
    replicas: Vec<Replica>,
    secrets: BTreeMap<String, Secret>,
    checks: Checks,
    /// What is stored now is stored by this process, which knew so much.
    by: Option<Knew>,
    // What goes wrong.
    writes: Vec<WriteFault>,
    overtaken: Vec<(String, Request)>,
    rooms: Vec<RoomFault>,
    stalled: Duration,
    slow_calls: (Duration, Duration),
    slow_writes: (Duration, Duration),
    slow_lists: (Duration, Duration),
    alternate: bool,
    /// When something was last wrong with the API server, by namespace and for all.
    api_trouble: BTreeMap<&'static str, Duration>,
    all_api_trouble: Duration,
    /// When something was last wrong with an application's calls.
    app_trouble: BTreeMap<(String, bool), Duration>,
    last_call: BTreeMap<u32, Duration>,
    most_rate: u32,
    least_rate: u32,
    /// When somebody deleted the Lease.
    lease_deleted: Option<Duration>,
    request_ids: u64,
    crowds: u32,
    sampling: bool,
    slow_classes: bool,
    leaderless: u32,
    app_untold: BTreeMap<String, u32>,
    inputs: u64,
    told: Option<Vec<String>>,
    orders: Orders,
    engines: Duration,
    /// Looks of processes that are gone.
    looked: u64,
    wrote: u64,
    called: u64,
}

/// Lets a story take place, and looks whether every promise is kept.
#[must_use]
pub fn run(story: &Story, tell: bool) -> Report {
    run_in(story, Orders::default(), tell).0
}

/// The same, where what is due at the same moment comes in one of many orders.
#[must_use]
pub fn run_in(story: &Story, orders: Orders, tell: bool) -> (Report, Orders) {
    let mut world = World::new(story, tell);
    world.orders = orders;
    world.whole();
    let report = Report {
        deletions: world.checks.deletions,
        events: world.handled,
        time: world.now,
        engines: world.engines,
        looks: world.looks() as f64 / (world.inputs.max(1)) as f64,
        broken: world.checks.violation,
        told: world.told.unwrap_or_default(),
    };
    (report, world.orders)
}

impl World {
    fn new(story: &Story, tell: bool) -> Self {
        let setup = story.setup;
        let each = if setup.elects() { setup.replicas.clamp(1, 3) } else { 1 };
        let mut replicas = Vec::new();
        for shard in 0..setup.shards() {
            for _ in 0..each {
                replicas.push(Replica::new(replicas.len(), shard, &setup));
            }
        }
        let mut world = Self {
            setup,
            steps: story.steps.clone(),
            now: Duration::ZERO,
            events: BinaryHeap::new(),
            sequence: 0,
            handled: 0,
            cluster: Cluster { wall: START, ..Cluster::default() },
            leases: BTreeMap::new(),
            replicas,
            secrets: BTreeMap::new(),
            checks: Checks::default(),
            by: None,
            writes: Vec::new(),
            overtaken: Vec::new(),
            rooms: Vec::new(),
            stalled: Duration::ZERO,
            slow_calls: Default::default(),
            slow_writes: Default::default(),
            slow_lists: Default::default(),
            alternate: false,
            api_trouble: BTreeMap::new(),
            all_api_trouble: Duration::ZERO,
            app_trouble: BTreeMap::new(),
            last_call: BTreeMap::new(),
            most_rate: u32::from(setup.rate.max(1)),
            least_rate: u32::from(setup.rate.max(1)),
            lease_deleted: None,
            request_ids: 0,
            crowds: 0,
            sampling: false,
            slow_classes: false,
            leaderless: 0,
            app_untold: BTreeMap::new(),
            inputs: 0,
            told: tell.then(Vec::new),
            orders: Orders::default(),
            engines: Duration::ZERO,
            looked: 0,
            wrote: 0,
            called: 0,
        };
        world.checks.moves = setup.sharded;
        for name in story::NAMESPACES {
            world.cluster.set_namespace(name, Some(labelled(true)));
        }
        for app in 0..2 {
            world.secrets.insert(secret_of(app), Secret::Right);
            world.create_application(app);
        }
        for replica in 0..world.replicas.len() {
            // One after the other, as a Deployment starts them.
            world.at(MS * 300 * u32::try_from(replica).unwrap_or_default(), Event::Start(replica));
        }
        let mut at = 2 * SECOND;
        for (n, step) in story.steps.iter().enumerate() {
            at += MS * step.after;
            world.at(at, Event::Step(n));
        }
        world
    }

    /// The story, then what follows when everything is well again.
    fn whole(&mut self) {
        let end = 2 * SECOND + MS * self.steps.iter().map(|step| step.after).sum::<u32>();
        self.run(end);
        if self.orders.known {
            return;
        }
        self.heal();
        // A deletion that was refused because of its own spec is tried again after an hour.
        let bound = if self.slow_classes { 80 * MINUTE } else { 16 * MINUTE };
        let waits = |world: &Self| {
            let mut unfinished = world.checks.unfinished.iter().filter_map(|uid| world.checks.lives.get(uid));
            unfinished.find(|life| life.is_deleting()).map(|life| life.key.clone())
        };
        self.run_until(bound, "its deletion", waits);
        self.run_until(bound, "what Ready says", |world| {
            let mut unfinished = world.checks.unfinished.iter().filter_map(|uid| world.checks.lives.get(uid));
            unfinished.find(|life| world.can_be_ready(&life.last)).map(|life| life.key.clone())
        });
        self.quiet();
        for key in self.cluster.robots.keys().cloned().collect::<Vec<_>>() {
            self.cluster.delete(&key);
        }
        self.stored();
        self.run_until(bound, "its deletion", waits);
        for name in story::APPLICATIONS {
            self.cluster.delete_application(name);
        }
        self.stored();
        self.run_until(4 * MINUTE, "its RoomRobots, and there are none", |world| {
            world.cluster.applications.keys().next().map(|name| format!("RtcApplication {name}"))
        });
        self.run(self.now + 10 * SECOND);
        for replica in &self.replicas {
            if replica.alive() && replica.engine.robots().len() > 0 {
                let kept = replica.engine.robots().len();
                self.checks
                    .broken(format!("replica {} keeps {kept} RoomRobots that are gone", replica.number));
            }
        }
        self.checks.verify_rooms();
        let looks = self.looks();
        let most = 5 * self.inputs + 1_000;
        if looks > most {
            self.checks.broken(format!("RoomRobots were looked at {looks} times for {} inputs", self.inputs));
        }
    }

    fn looks(&self) -> u64 {
        self.looked + self.replicas.iter().map(|replica| replica.engine.reconciles()).sum::<u64>()
    }

    /// Whether nothing stands in the way of a RoomRobot that is not being deleted, in a healthy world.
    fn can_be_ready(&self, object: &Object) -> bool {
        let robot = &object.robot;
        let Some(app) = self.cluster.applications.get(&*robot.application) else { return false };
        let labelled = |name: &str| {
            self.cluster
                .namespaces
                .get(name)
                .is_some_and(|namespace| namespace.labels.contains_key(cluster::TEAM))
        };
        let admitted = !self.setup.selective
            || app.spec.allowed_namespaces == Ok(None)
            || labelled(&robot.key.namespace);
        robot.deleting_since.is_none() && !app.spec.deleting && admitted
    }

    /// What was wrong is not told any more when it is over.
    fn look_for_old_complaints(&mut self) {
        const OVER: [&str; 6] = [
            "WriteRefused",
            "SecretNotFound",
            "SecretInvalid",
            "Suspended",
            "EndpointNotAllowed",
            "DeletionsStalled",
        ];
        let told =
            |app: &Rc<App>| promises::reason(&app.json, "Ready").is_some_and(|reason| OVER.contains(&reason));
        let found = self.cluster.applications.values().find(|app| told(app));
        if let Some(app) = found {
            let ready = promises::condition(&app.json, "Ready").map(Value::to_string).unwrap_or_default();
            self.checks.broken(format!("RtcApplication {} tells of what is over: {ready}", app.spec.name));
        }
    }

    /// In a world in which everything is settled nothing is written and nobody is called, a restart included.
    fn quiet(&mut self) {
        self.run(self.now + 100 * SECOND);
        if self.checks.unfinished.is_empty() {
            self.look_for_old_complaints();
        }
        let ready = |app: &Rc<App>| {
            promises::condition(&app.json, "Ready").is_none_or(|ready| ready["status"] != "False")
        };
        let settled = self.checks.unfinished.is_empty() && self.cluster.applications.values().all(ready);
        if self.checks.violation.is_some()
            || !settled
            || self.checks.lives.values().all(|life| life.is_gone())
        {
            return;
        }
        let (wrote, called) = (self.wrote, self.called);
        self.run(self.now + 2 * MINUTE);
        self.kill(0, 500);
        self.run(self.now + 90 * SECOND);
        if self.wrote > wrote || self.called > called {
            let (writes, calls) = (self.wrote - wrote, self.called - called);
            self.checks.broken(format!("{writes} writes and {calls} calls though nothing was left to do"));
        }
    }

    fn run_until(&mut self, bound: Duration, what: &str, waits: impl Fn(&Self) -> Option<String>) {
        let end = self.now + bound;
        while let Some(who) = waits(self) {
            if self.now >= end {
                let last = self.cluster.robots.get(&who).map(|object| object.json["status"].to_string());
                let about = last.unwrap_or_default();
                self.checks.broken(format!(
                    "{who} still waits for {what} after {bound:?} of a healthy world: {about}"
                ));
            }
            if self.checks.violation.is_some() || self.orders.known {
                return;
            }
            self.run(self.now + 2 * SECOND);
        }
    }

    fn run(&mut self, end: Duration) {
        while self.checks.violation.is_none()
            && !self.orders.known
            && self.events.peek().is_some_and(|Reverse(due)| due.0 <= end)
            && let Some((at, event)) = self.next()
        {
            self.now = self.now.max(at);
            self.cluster.now = self.now;
            self.cluster.wall = START + i64::try_from(self.now.as_secs()).unwrap_or_default();
            self.handled += 1;
            self.take(event);
            self.stored();
        }
        if self.checks.violation.is_none() {
            self.now = self.now.max(end);
            self.cluster.now = self.now;
        }
    }

    /// What happens next: the first thing that is due, or where orders are gone through, one of those.
    fn next(&mut self) -> Option<(Duration, Event)> {
        let Reverse(Due(at, number, event)) = self.events.pop()?;
        if at < self.orders.from || at > self.orders.to {
            return Some((at, event));
        }
        let mut due = vec![Due(at, number, event)];
        while self.events.peek().is_some_and(|Reverse(next)| next.0 == at)
            && let Some(Reverse(next)) = self.events.pop()
        {
            due.push(next);
        }
        // People do one thing after the other.
        let mut steps = 0;
        let (mut open, shut): (Vec<_>, Vec<_>) = due.into_iter().partition(|due| {
            steps += usize::from(matches!(due.2, Event::Step(_)));
            !matches!(due.2, Event::Step(_)) || steps == 1
        });
        let chosen = if open.len() > 1 {
            let many = open.len();
            let mut orders = std::mem::take(&mut self.orders);
            let chosen = orders.choose(many, || self.state(&open));
            self.orders = orders;
            chosen?
        } else {
            0
        };
        let Due(at, _, event) = open.remove(chosen);
        self.events.extend(open.into_iter().chain(shut).map(Reverse));
        Some((at, event))
    }

    /// Everything that what follows depends on.
    fn state(&self, open: &[Due]) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.now, &self.leases.len(), self.checks.members.len()).hash(&mut hasher);
        for object in self.cluster.robots.values() {
            object.json.to_string().hash(&mut hasher);
        }
        for app in self.cluster.applications.values() {
            app.json.to_string().hash(&mut hasher);
        }
        for replica in &self.replicas {
            orders::canonical(&format!("{:#?}", replica.engine)).hash(&mut hasher);
            format!("{:?}{:?}{:?}", replica.phase, replica.paused, replica.election).hash(&mut hasher);
            for stream in &replica.streams {
                (stream.at, stream.generation, stream.ticking, stream.state as u8).hash(&mut hasher);
            }
        }
        let mut waiting: Vec<u64> = open.iter().map(|due| due.2.fingerprint()).collect();
        waiting.sort_unstable();
        waiting.hash(&mut hasher);
        (self.events.len(), self.writes.len(), self.rooms.len(), self.overtaken.len()).hash(&mut hasher);
        hasher.finish()
    }

    fn at(&mut self, at: Duration, event: Event) {
        self.sequence += 1;
        self.events.push(Reverse(Due(at, self.sequence, event)));
    }

    fn later(&mut self, wait: Duration, event: Event) {
        self.at(self.now + wait, event);
    }

    fn say(&mut self, what: impl FnOnce(&Self) -> String) {
        if self.told.is_some() {
            let line = format!("{:>10.3} s  {}", self.now.as_secs_f64(), what(self));
            self.told.get_or_insert_default().push(line);
        }
    }

    fn take(&mut self, event: Event) {
        let target = match &event {
            Event::Wake(replica, process)
            | Event::Election(replica, process, _)
            | Event::Told(replica, process, _)
            | Event::Stream(replica, process, ..)
            | Event::Reply(replica, process, ..)
            | Event::GiveUp(replica, process, _)
            | Event::Resign(replica, process) => Some((*replica, *process)),
            Event::CallGiveUp(call) | Event::Heard(call, _) => Some((call.replica, call.process)),
            _ => None,
        };
        if let Some((n, process)) = target {
            let Some(replica) = self.replicas.get(n) else { return };
            if !replica.alive() || replica.process != process {
                return;
            }
            if replica.paused > self.now {
                return self.at(replica.paused, event);
            }
        }
        match event {
            Event::Step(n) => {
                if let Some(step) = self.steps.get(n).copied() {
                    self.say(|_| format!("* {}", step.action));
                    self.act(step.action);
                }
            }
            Event::Start(n) => self.start(n),
            Event::Wake(n, _) => {
                if let Some(replica) = self.replicas.get_mut(n)
                    && replica.wake.is_some_and(|wake| wake <= self.now)
                {
                    replica.wake = None;
                    self.elect(n, election::Input::Tick);
                    self.tell(n, None);
                }
            }
            Event::Election(n, _, input) => self.elect(n, *input),
            Event::Told(n, _, input) => self.tell(n, Some(*input)),
            Event::Stream(n, _, stream, generation, what) => self.stream(n, stream, generation, what),
            Event::Request(request) => self.request(*request),
            Event::Reply(n, _, id, input) => self.reply(n, id, *input),
            Event::GiveUp(n, _, id) => self.give_up(n, id),
            Event::Lease(n, process, ticket, request) => self.lease(n, process, ticket, &request),
            Event::Arrive(call) => self.arrive(&call),
            Event::CallGiveUp(call) => self.hear(&call, Outcome::failed(TroubleKind::Timeout)),
            Event::Heard(call, outcome) => self.hear(&call, *outcome),
            Event::Resign(n, _) => {
                if let Some(replica) = self.replicas.get_mut(n) {
                    replica.until = replica.until.min(self.now);
                }
                self.elect(n, election::Input::Resign);
            }
            Event::Controller(name) => {
                for key in self.cluster.keys_in(name) {
                    self.cluster.delete(&key);
                }
                self.cluster.sweep(name);
            }
            Event::NamespaceBack(name) => {
                if !self.cluster.namespaces.contains_key(name) {
                    self.cluster.set_namespace(name, Some(labelled(true)));
                }
            }
            Event::Sample => {
                self.sampling = false;
                self.sample();
            }
        }
    }

    /// Looks at what was stored since the last time: the promises, and watches.
    fn stored(&mut self) {
        let by = self.by.take();
        while let Some((_, changed)) = self.cluster.log.get(self.cluster.news).cloned() {
            self.cluster.news += 1;
            self.say(|world| world.in_words(&changed));
            let twin = self.setup.twin;
            self.checks.stored(&changed, by, |object| identity(object, twin), self.now);
            for n in 0..self.replicas.len() {
                self.ring(n);
            }
            if matches!(changed, Changed::Robot { .. }) && !self.sampling {
                self.sampling = true;
                self.later(SECOND, Event::Sample);
            }
        }
    }

    fn in_words(&self, changed: &Changed) -> String {
        match changed {
            Changed::Robot { before, after: Some(after) } => {
                let mut text = format!("  {} is stored", after.key());
                let all = after.json["status"]["conditions"].as_array().into_iter().flatten();
                for one in all {
                    let word = |field: &str| one[field].as_str().unwrap_or_default().to_owned();
                    let _ = write!(text, ", {}={}/{}", word("type"), word("status"), word("reason"));
                }
                let held = |object: &Object| object.json["metadata"]["finalizers"].clone();
                if before.as_ref().is_none_or(|before| held(before) != held(after)) {
                    let _ = write!(text, ", finalizers {}", held(after));
                }
                if after.robot.deleting_since.is_some() {
                    text.push_str(", being deleted");
                }
                text
            }
            Changed::Robot { before, after: None } => {
                format!("  {} is gone", before.as_ref().map(|object| object.key()).unwrap_or_default())
            }
            Changed::Application { name, after: None } => format!("  application {name} is gone"),
            Changed::Application { name, after: Some(app) } => {
                let ready = promises::reason(&app.json, "Ready").unwrap_or("-");
                format!("  application {name} is stored, {ready}, finalizers {:?}", app.spec.finalizer_names)
            }
            Changed::Namespace { name, after: Some(namespace) } => {
                format!(
                    "  namespace {name} is stored{}",
                    if namespace.terminating { ", being deleted" } else { "" }
                )
            }
            Changed::Namespace { name, after: None } => format!("  namespace {name} is gone"),
            Changed::Secret { name } => format!("  Secret {name} is stored"),
        }
    }

    // Processes.

    fn start(&mut self, n: usize) {
        let (setup, now) = (self.setup, self.now);
        let Some(replica) = self.replicas.get_mut(n) else { return };
        if replica.alive() {
            return;
        }
        self.looked += replica.engine.reconciles();
        replica.start(&setup, now);
        self.say(|_| format!("  replica {n} starts"));
        let first =
            self.replicas.get_mut(n).filter(|_| !setup.elects()).map(|replica| replica.right.take_for_ever());
        if let Some(first) = first {
            self.tell(n, Some(first));
        }
        self.elect(n, election::Input::Tick);
        let Some(replica) = self.replicas.get(n) else { return };
        for stream in 0..replica.streams.len() {
            self.begin(n, stream);
        }
        self.tell(n, None);
    }

    fn kill(&mut self, n: usize, down: u16) {
        let Some(replica) = self.replicas.get_mut(n) else { return };
        if replica.alive() {
            replica.phase = Phase::Dead;
            replica.until = replica.until.min(self.now);
            replica.open.clear();
            self.later(MS * u32::from(down), Event::Start(n));
        }
    }

    /// Feeds an engine with an input, or with nothing but the time, and does what follows.
    fn tell(&mut self, n: usize, input: Option<Input>) {
        let now = self.now;
        let Some(replica) = self.replicas.get_mut(n) else { return };
        if !matches!(replica.phase, Phase::Running | Phase::Ending(_)) {
            return;
        }
        let boot = replica.boot_moment(now);
        let moment = replica.moment(now);
        let begun = Instant::now();
        let fed = input.is_some();
        if fed {
            self.inputs += 1;
        }
        if let Some(lost) = replica.right.pass(replica.engine.elected(), boot) {
            replica.engine.handle(lost, moment);
        }
        if let Some(input) = input {
            if matches!(input, Input::Answered(_)) {
                replica.answered = Some(now);
            }
            if matches!(input, Input::Leading(_)) {
                replica.elected = now;
            }
            replica.engine.handle(input, moment);
        }
        let looks = replica.engine.reconciles();
        let effects = replica.engine.advance(moment);
        self.engines += begun.elapsed();
        let busy = fed || !effects.is_empty() || replica.engine.reconciles() != looks;
        let moved = std::mem::replace(&mut replica.looked, now) < now;
        replica.idle = if busy || moved { 0 } else { replica.idle + 1 };
        for effect in effects {
            self.carry_out(n, effect);
        }
        self.schedule(n);
        let Some(replica) = self.replicas.get_mut(n) else { return };
        if replica.idle > 50 && replica.wake.is_some_and(|wake| wake <= now) {
            self.checks
                .broken(format!("replica {n} says that something is due and does nothing: it would spin"));
        }
        let Some(replica) = self.replicas.get_mut(n) else { return };
        if let Phase::Ending(since) = replica.phase
            && (replica.engine.drained() || now >= since + DRAIN)
        {
            let rest = replica.answered.map_or(Duration::ZERO, |at| (at + LAST_SECOND).saturating_sub(now));
            let process = replica.process;
            if replica.election.is_some() {
                (replica.phase, replica.until) = (Phase::Resigning, replica.until.min(now + rest));
                self.later(rest, Event::Resign(n, process));
            } else {
                let down = replica.down;
                self.kill(n, down);
            }
        }
    }

    /// When it has something to do again.
    fn schedule(&mut self, n: usize) {
        let now = self.now;
        let Some(replica) = self.replicas.get_mut(n) else { return };
        let runs = matches!(replica.phase, Phase::Running | Phase::Ending(_));
        let due = replica.engine.next_due(replica.since_start(now)).filter(|_| runs);
        let due = due.map(|due| due + replica.started + replica.slept);
        let election = replica
            .election
            .as_ref()
            .map(|election| replica.true_time(election.due()) + Duration::from_nanos(2000));
        let end = if let Phase::Ending(since) = replica.phase { Some(since + DRAIN) } else { None };
        let Some(next) = due.into_iter().chain(election).chain(end).min() else { return };
        let next = next.max(now);
        if replica.wake.is_none_or(|wake| next < wake || wake < now) {
            replica.wake = Some(next);
            let process = replica.process;
            self.at(next, Event::Wake(n, process));
        }
    }

    fn elect(&mut self, n: usize, input: election::Input) {
        let now = self.now;
        let Some(replica) = self.replicas.get_mut(n) else { return };
        let boot = replica.boot(now);
        let process = replica.process;
        let Some(election) = replica.election.as_mut() else { return };
        let effects = election.handle(input, boot);
        for effect in effects {
            match effect {
                election::Effect::Send(ticket, request) => {
                    self.later(
                        MS * u32::from(self.setup.api),
                        Event::Lease(n, process, ticket, Box::new(request)),
                    );
                }
                election::Effect::Unanswered => {}
                election::Effect::Lead { until, before, term } => {
                    let standing = Standing::Leading {
                        until: roomrobot_operator::clock::Moment::new(until),
                        before,
                        term,
                    };
                    self.stands(n, standing);
                    let Some(replica) = self.replicas.get_mut(n) else { return };
                    replica.until = replica.true_time(until);
                    let (until, shard) = (replica.until, replica.shard);
                    if let Some(other) = self.leads_beside(n, shard) {
                        self.checks.broken(format!("replicas {other} and {n} lead at once, until {until:?}"));
                    }
                }
                election::Effect::Lose => {
                    if let Some(replica) = self.replicas.get_mut(n) {
                        replica.until = replica.until.min(now);
                    }
                    self.stands(n, Standing::Standby);
                }
                election::Effect::End(_) => {
                    let down = self.replicas.get(n).map_or(0, |replica| replica.down);
                    self.kill(n, down);
                    return;
                }
            }
        }
        self.schedule(n);
    }

    fn stands(&mut self, n: usize, standing: Standing) {
        let now = self.now;
        let Some(replica) = self.replicas.get_mut(n) else { return };
        let boot = replica.boot_moment(now);
        let inputs = replica.right.stand(standing, replica.engine.elected(), boot);
        for input in inputs {
            let word = if matches!(input, Input::Lost) { "has lost the Lease" } else { "leads" };
            self.say(|_| format!("  replica {n} {word}"));
            self.tell(n, Some(input));
        }
    }

    /// Another replica that leads beside this one.
    fn leads_beside(&self, n: usize, shard: u8) -> Option<usize> {
        // Who starts or wakes up while there is no Lease cannot know that somebody has deleted it under its holder.
        let new = |deleted: Duration| {
            self.now < deleted + 20 * SECOND
                && self
                    .replicas
                    .iter()
                    .any(|one| one.started.max(one.paused).max(one.cut.0) + 12 * SECOND > deleted)
        };
        if self.lease_deleted.is_some_and(new) {
            return None;
        }
        let beside = |other: &&Replica| {
            other.number != n && other.shard == shard && other.alive() && other.until > self.now
        };
        self.replicas.iter().find(beside).map(|other| other.number)
    }

    fn can_reach(&self, n: usize) -> Result<(), bool> {
        match self.replicas.get(n) {
            Some(replica) if replica.cut.0 > self.now => Err(replica.cut.1),
            _ => Ok(()),
        }
    }

    fn lease(&mut self, n: usize, process: u32, ticket: election::Ticket, request: &election::Request) {
        let back = MS * u32::from(self.setup.api);
        let answer =
            |answer| Event::Election(n, process, Box::new(election::Input::Answered(ticket, answer)));
        match self.can_reach(n) {
            Err(true) => return,
            Err(false) => return self.later(MS, answer(election::Answer::Failed)),
            Ok(()) => {}
        }
        let Some(replica) = self.replicas.get(n) else { return };
        let (shard, wall) = (replica.shard, replica.wall(self.now));
        let stored = self.leases.get(&shard).cloned();
        let spec = request.patch(wall).map(|patch| patch["spec"].clone());
        let next = match (request, &stored) {
            (election::Request::Read, stored) => {
                let event = answer(election::Answer::Stored(stored.clone()));
                return self.later(back, event);
            }
            (election::Request::Create { holder }, None) => {
                let spec = election::Request::created(holder, wall);
                election::Record {
                    holder: spec.holder_identity,
                    lasts: Duration::from_secs(
                        spec.lease_duration_seconds.unwrap_or_default().unsigned_abs().into(),
                    ),
                    renewed: spec.renew_time.map(|time| time.0),
                    ..election::Record::default()
                }
            }
            (
                election::Request::Claim { record, .. }
                | election::Request::Renew { record }
                | election::Request::Release { record },
                Some(stored),
            ) if record.version == stored.version => patched_lease(stored, &spec.unwrap_or_default()),
            _ => return self.later(back, answer(election::Answer::Conflict)),
        };
        self.cluster.revision += 1;
        let record = election::Record { version: self.cluster.revision.to_string(), ..next };
        self.say(|_| {
            format!("  the Lease is stored, held by {}", record.holder.as_deref().unwrap_or("nobody"))
        });
        self.leases.insert(shard, record.clone());
        self.show_lease(shard, &election::Shown::Version(record.version.clone()));
        self.later(back, answer(election::Answer::Stored(Some(record))));
    }

    fn show_lease(&mut self, shard: u8, shown: &election::Shown) {
        for n in 0..self.replicas.len() {
            let Some(replica) = self.replicas.get(n) else { continue };
            let mute = replica.streams.first().is_some_and(|stream| stream.mute > self.now);
            if replica.shard == shard && replica.alive() && !mute && replica.cut.0 <= self.now {
                let (process, lag) = (replica.process, self.lag(n));
                let input = election::Input::Changed(shown.clone());
                self.later(lag, Event::Election(n, process, Box::new(input)));
            }
        }
    }

    fn lag(&self, n: usize) -> Duration {
        MS * u32::from(self.setup.lag) * u32::try_from(n % 3 + 1).unwrap_or(1)
    }

    // Lists and watches.

    fn with_stream<T>(&mut self, n: usize, stream: usize, with: impl FnOnce(&mut Stream) -> T) -> Option<T> {
        self.replicas.get_mut(n)?.streams.get_mut(stream).map(with)
    }

    /// A list begins.
    fn begin(&mut self, n: usize, stream: usize) {
        let now = self.now;
        let shown = self.shown_by(n, stream);
        let Some((generation, shows)) = self.with_stream(n, stream, |stream| {
            stream.generation += 1;
            (stream.state, stream.silent, stream.ticking) = (State::Listing, None, false);
            stream.shown = shown;
            (stream.generation, stream.shows.clone())
        }) else {
            return;
        };
        let Some(replica) = self.replicas.get(n) else { return };
        let (process, round) = (replica.process, replica.round);
        let input = match &shows {
            Shows::Robots(scope) => Some(Input::RobotsListing(scope.clone(), round)),
            Shows::Applications => Some(Input::ApplicationsListing(round)),
            Shows::Namespaces => None,
            Shows::Secret(_) => {
                let read = self.with_stream(n, stream, |stream| stream.read) == Some(true);
                if !read {
                    self.later(UNANSWERED, Event::Stream(n, process, stream, generation, Do::Unanswered));
                }
                None
            }
        };
        let (until, takes) = self.slow_lists;
        let takes = if until > now { takes } else { MS * u32::from(self.setup.list) };
        self.later(takes, Event::Stream(n, process, stream, generation, Do::Snapshot));
        if let Some(input) = input {
            self.tell(n, Some(input));
        }
    }

    fn stream(&mut self, n: usize, stream: usize, generation: u32, what: Do) {
        let now = self.now;
        let Some((current, state)) = self.with_stream(n, stream, |stream| (stream.generation, stream.state))
        else {
            return;
        };
        if current != generation || state == State::Over {
            return;
        }
        let Some(process) = self.replicas.get(n).map(|replica| replica.process) else { return };
        match what {
            Do::Begin => self.begin(n, stream),
            Do::Snapshot => self.snapshot(n, stream, generation),
            Do::Deliver => self.deliver(n, stream),
            Do::Tick => {
                self.with_stream(n, stream, |stream| stream.ticking = false);
                if state == State::Watching {
                    self.show(n, stream);
                    self.ring(n);
                }
            }
            Do::Fail if state == State::Watching || state == State::Cut => {
                let first = self.with_stream(n, stream, |stream| {
                    stream.state = State::Cut;
                    stream.failures += 1;
                    let first = stream.silent.is_none();
                    stream.silent.get_or_insert(now);
                    first
                });
                if first == Some(true) {
                    self.later(UNHEARD, Event::Stream(n, process, stream, generation, Do::Unheard));
                }
                self.later(300 * MS, Event::Stream(n, process, stream, generation, Do::Resume));
                self.cut_view(n, stream);
            }
            Do::Fail => {}
            Do::Resume => match self.can_reach(n) {
                Err(_) => self.later(700 * MS, Event::Stream(n, process, stream, generation, Do::Fail)),
                Ok(()) => {
                    self.with_stream(n, stream, |stream| stream.state = State::Watching);
                    self.ring(n);
                }
            },
            Do::Unheard => {
                // A new list tells.
                let silent = self.with_stream(n, stream, |stream| stream.silent.is_some());
                if silent == Some(true) {
                    self.begin(n, stream);
                }
            }
            Do::Unanswered => {
                let unread = self.with_stream(n, stream, |stream| !std::mem::replace(&mut stream.read, true));
                if unread == Some(true)
                    && let Some(Shows::Secret(name)) =
                        self.with_stream(n, stream, |stream| stream.shows.clone())
                {
                    let why = "the API server has not answered for 6 s".to_owned();
                    self.tell(n, Some(Input::Secret(name, Credentials::Unreadable(why))));
                }
            }
        }
    }

    fn cut_view(&mut self, n: usize, stream: usize) {
        if let Some(Shows::Robots(scope)) = self.with_stream(n, stream, |stream| stream.shows.clone()) {
            self.tell(n, Some(Input::RobotsCut(scope)));
        }
    }

    fn snapshot(&mut self, n: usize, stream: usize, generation: u32) {
        let now = self.now;
        let Some(replica) = self.replicas.get(n) else { return };
        let process = replica.process;
        let begin = Event::Stream(n, process, stream, generation, Do::Begin);
        let Some(shows) = self.with_stream(n, stream, |stream| stream.shows.clone()) else { return };
        let secret = match &shows {
            Shows::Secret(name) => self.secrets.get(&**name).copied(),
            _ => None,
        };
        let failure = match (self.can_reach(n), secret) {
            (Err(false), _) | (Ok(()), Some(Secret::Failing)) => Some("it fails"),
            (Err(true), _) | (Ok(()), Some(Secret::Hanging)) => {
                return self.later(LIST_TIMEOUT, begin);
            }
            (Ok(()), Some(Secret::Forbidden)) => Some("forbidden"),
            (Ok(()), _) => None,
        };
        let Some(why) = failure else {
            let at = self.cluster.log.len();
            self.with_stream(n, stream, |stream| stream.at = at);
            let (until, takes) = self.slow_lists;
            let takes = if until > now { takes } else { MS * u32::from(self.setup.list) };
            return self.later(takes, Event::Stream(n, process, stream, generation, Do::Deliver));
        };
        let since = self.with_stream(n, stream, |stream| {
            stream.failures += 1;
            stream.begun
        });
        self.later(500 * MS, begin);
        self.cut_view(n, stream);
        if let Shows::Secret(name) = shows
            && (why == "forbidden" || since.is_some_and(|since| now >= since + UNREAD))
        {
            self.with_stream(n, stream, |stream| stream.read = true);
            self.tell(n, Some(Input::Secret(name, Credentials::Unreadable(why.to_owned()))));
        }
    }

    /// Everything that the snapshot shows, and that the list is complete.
    fn deliver(&mut self, n: usize, stream: usize) {
        let Some((shows, at)) = self.with_stream(n, stream, |stream| (stream.shows.clone(), stream.at))
        else {
            return;
        };
        if self.can_reach(n).is_err() {
            let Some(replica) = self.replicas.get(n) else { return };
            let process = replica.process;
            let generation = replica.streams.get(stream).map_or(0, |stream| stream.generation);
            self.cut_view(n, stream);
            return self.later(500 * MS, Event::Stream(n, process, stream, generation, Do::Begin));
        }
        // Back from what is stored now to what was stored then.
        let mut inputs = Vec::new();
        match &shows {
            Shows::Robots(scope) => {
                let mut then: BTreeMap<String, Rc<Object>> = self.cluster.robots.clone();
                for (_, changed) in self.cluster.log.iter().skip(at).rev() {
                    if let Changed::Robot { before, after } = changed {
                        let Some(key) = before.as_ref().or(after.as_ref()).map(|object| object.key()) else {
                            continue;
                        };
                        match before {
                            Some(before) => drop(then.insert(key, Rc::clone(before))),
                            None => drop(then.remove(&key)),
                        }
                    }
                }
                for object in then.values().filter(|object| self.sees(n, scope.as_deref(), object)) {
                    inputs.push(Input::Robot(Box::new(object.robot.clone())));
                }
                inputs.push(Input::RobotsListed(scope.clone()));
            }
            Shows::Applications => {
                // They are few and change seldom: what came after is shown again by the watch.
                for app in self.cluster.applications.values() {
                    inputs.push(Input::Application(Box::new(app.spec.clone())));
                }
                let names = self.cluster.applications.keys().map(|name| Arc::from(name.as_str()));
                inputs.push(Input::ApplicationsListed(names.collect()));
            }
            Shows::Namespaces => {
                for (name, namespace) in &self.cluster.namespaces {
                    inputs.push(Input::Namespace(
                        name.as_str().into(),
                        namespace.labels.clone(),
                        namespace.terminating,
                    ));
                }
                let names = self.cluster.namespaces.keys().map(|name| Arc::from(name.as_str()));
                inputs.push(Input::NamespacesListed(names.collect()));
            }
            Shows::Secret(name) => inputs.push(Input::Secret(Arc::clone(name), self.credentials(name))),
        }
        let end = self.cluster.log.len();
        self.with_stream(n, stream, |stream| {
            (stream.state, stream.failures, stream.silent, stream.read) = (State::Watching, 0, None, true);
            if !matches!(stream.shows, Shows::Robots(_)) {
                stream.at = end;
            }
        });
        for input in inputs {
            self.tell(n, Some(input));
        }
        self.ring(n);
    }

    fn sees(&self, n: usize, scope: Option<&str>, object: &Object) -> bool {
        let shard = self.replicas.get(n).map_or(0, |replica| replica.shard);
        scope.is_none_or(|namespace| &*object.robot.key.namespace == namespace)
            && (!self.setup.sharded || object.shard == shard)
    }

    fn credentials(&self, secret: &str) -> Credentials {
        match self.secrets.get(secret).copied().unwrap_or(Secret::Missing) {
            Secret::Wrong => Credentials::UserSig(Sensitive::new("wrong".to_owned())),
            Secret::Empty => Credentials::Invalid("it has neither secretKey nor userSig".to_owned()),
            Secret::Missing => Credentials::Missing,
            // What cannot be listed may still be right.
            Secret::Right | Secret::Forbidden | Secret::Failing | Secret::Hanging => {
                Credentials::UserSig(Sensitive::new("right".to_owned()))
            }
        }
    }

    /// What the next thing is that a watch has to show, and when.
    fn next_shown(&self, n: usize, stream: usize) -> Option<(usize, Duration)> {
        let stream = self.replicas.get(n)?.streams.get(stream)?;
        let from = self.cluster.log.get(stream.at..)?;
        let place = from.iter().position(|(_, changed)| match (&stream.shows, changed) {
            (Shows::Robots(scope), Changed::Robot { before, after }) => {
                let seen = |object: &Option<Rc<Object>>| {
                    object.as_ref().is_some_and(|object| self.sees(n, scope.as_deref(), object))
                };
                seen(before) || seen(after)
            }
            (Shows::Applications, Changed::Application { .. })
            | (Shows::Namespaces, Changed::Namespace { .. }) => true,
            (Shows::Secret(name), Changed::Secret { name: changed }) => **name == **changed,
            _ => false,
        })?;
        let (at, _) = from.get(place)?;
        Some((stream.at + place, (*at + self.lag(n)).max(stream.mute)))
    }

    /// Sets an alarm for whatever watches have to show.
    fn ring(&mut self, n: usize) {
        let Some(replica) = self.replicas.get(n).filter(|replica| replica.alive()) else { return };
        let process = replica.process;
        for stream in 0..replica.streams.len() {
            let Some((ready, generation)) = self.with_stream(n, stream, |stream| {
                (stream.state == State::Watching && !stream.ticking, stream.generation)
            }) else {
                continue;
            };
            if !ready {
                continue;
            }
            if let Some((_, at)) = self.next_shown(n, stream) {
                self.with_stream(n, stream, |stream| stream.ticking = true);
                self.at(at.max(self.now), Event::Stream(n, process, stream, generation, Do::Tick));
            } else {
                let end = self.cluster.log.len();
                self.with_stream(n, stream, |stream| stream.at = end);
            }
        }
    }

    /// Shows everything that is due.
    fn show(&mut self, n: usize, stream: usize) {
        while let Some((place, at)) = self.next_shown(n, stream)
            && at <= self.now
        {
            let Some(shows) = self.with_stream(n, stream, |stream| {
                (stream.at, stream.silent, stream.failures) = (place + 1, None, 0);
                stream.shows.clone()
            }) else {
                return;
            };
            let Some((_, changed)) = self.cluster.log.get(place).cloned() else { return };
            let input = match (changed, shows) {
                (Changed::Robot { before, after }, Shows::Robots(scope)) => {
                    let seen = |object: &Option<Rc<Object>>| {
                        object.as_ref().filter(|object| self.sees(n, scope.as_deref(), object)).cloned()
                    };
                    match (seen(&before), seen(&after)) {
                        (_, Some(after)) => Input::Robot(Box::new(after.robot.clone())),
                        (Some(before), None) => {
                            Input::RobotGone(before.robot.key.clone(), Arc::clone(&before.robot.uid))
                        }
                        (None, None) => continue,
                    }
                }
                (Changed::Application { after: Some(app), .. }, _) => {
                    Input::Application(Box::new(app.spec.clone()))
                }
                (Changed::Application { name, after: None }, _) => Input::ApplicationGone(name.into()),
                (Changed::Namespace { name, after: Some(namespace) }, _) => {
                    Input::Namespace(name.into(), namespace.labels, namespace.terminating)
                }
                (Changed::Namespace { name, after: None }, _) => Input::NamespaceGone(name.into()),
                (Changed::Secret { name }, _) => {
                    let credentials = self.credentials(&name);
                    Input::Secret(name.into(), credentials)
                }
                _ => continue,
            };
            self.tell(n, Some(input));
        }
    }

    /// Until when everything that was stored has been shown to this replica.
    fn shown(&self, n: usize) -> Duration {
        let Some(replica) = self.replicas.get(n) else { return Duration::ZERO };
        let robots =
            replica.streams.iter().enumerate().filter(|(_, stream)| matches!(stream.shows, Shows::Robots(_)));
        robots.map(|(at, _)| self.shown_by(n, at)).min().unwrap_or_default()
    }

    fn shown_by(&self, n: usize, stream: usize) -> Duration {
        let Some(now) = self.replicas.get(n).and_then(|replica| replica.streams.get(stream)) else {
            return Duration::ZERO;
        };
        if now.state == State::Listing {
            return now.shown;
        }
        let next = self.next_shown(n, stream).and_then(|(place, _)| self.cluster.log.get(place));
        next.map_or(self.now, |(at, _)| at.saturating_sub(Duration::from_nanos(1)))
    }

    fn knew(&self, n: usize) -> Knew {
        let shown = self.shown(n);
        self.replicas.get(n).map_or(Knew { process: (n, 0), until: shown }, |replica| replica.knew(shown))
    }

    // Effects of the engine.

    fn carry_out(&mut self, n: usize, effect: Effect) {
        let knew = self.knew(n);
        let Some(replica) = self.replicas.get_mut(n) else { return };
        let process = replica.process;
        match effect {
            Effect::Write(write) => {
                self.wrote += 1;
                self.request_ids += 1;
                let id = self.request_ids;
                replica.open.insert(id, Open::Robot(write.id, write.uid.to_string()));
                self.send(Request { replica: n, process, id, what: What::Robot(*write), knew });
            }
            Effect::WriteApplication(write) => {
                self.wrote += 1;
                self.request_ids += 1;
                let id = self.request_ids;
                replica.open.insert(id, Open::Application(Arc::clone(&write.name)));
                self.send(Request { replica: n, process, id, what: What::Application(*write), knew });
            }
            Effect::Call(call) => self.call(n, call, knew),
            Effect::ListAgain(round) => {
                replica.round = round;
                let streams: Vec<usize> = replica
                    .streams
                    .iter()
                    .enumerate()
                    .filter(|(_, stream)| matches!(stream.shows, Shows::Robots(_) | Shows::Applications))
                    .map(|(at, _)| at)
                    .collect();
                for stream in streams {
                    let shown = self.shown_by(n, stream);
                    let generation = self.with_stream(n, stream, |stream| {
                        stream.generation += 1;
                        (stream.state, stream.shown) = (State::Listing, shown);
                        stream.generation
                    });
                    let begin = Event::Stream(n, process, stream, generation.unwrap_or_default(), Do::Begin);
                    self.later(Duration::ZERO, begin);
                }
            }
            Effect::Announce(_) => {}
            Effect::WatchSecret(name) => {
                replica.streams.push(Stream::new(Shows::Secret(name), self.now));
                let (stream, generation) = (replica.streams.len() - 1, 0);
                self.later(Duration::ZERO, Event::Stream(n, process, stream, generation, Do::Begin));
            }
            Effect::ForgetSecret(name) => {
                for stream in &mut replica.streams {
                    if stream.shows == Shows::Secret(Arc::clone(&name)) {
                        stream.state = State::Over;
                    }
                }
            }
        }
    }

    // Writes.

    fn send(&mut self, request: Request) {
        let (until, takes) = self.slow_writes;
        let way = if until > self.now { takes } else { MS * u32::from(self.setup.api) };
        self.later(kubernetes::WRITE_TIMEOUT, Event::GiveUp(request.replica, request.process, request.id));
        self.later(way, Event::Request(Box::new(request)));
    }

    fn request(&mut self, request: Request) {
        let (n, process, id) = (request.replica, request.process, request.id);
        let back = MS * u32::from(self.setup.api);
        let cut = self.can_reach(n);
        let fault = match cut {
            Err(true) => Some(Refusal::Hangs),
            Err(false) => Some(Refusal::Unreachable),
            Ok(()) => self.fault(&request.what),
        };
        let unreachable = |why: &str| WriteError::Unreachable(why.to_owned());
        let reply = |input: Input| Event::Reply(n, process, id, Box::new(input));
        let refused = fault.and_then(cluster::refusal);
        match fault {
            Some(Refusal::Hangs) => {}
            Some(Refusal::Overtaken) => {
                let key = match &request.what {
                    What::Robot(write) => write.key.to_string(),
                    What::Application(write) => write.name.to_string(),
                };
                self.say(|_| format!("  a write to {key} is held up on its way"));
                self.overtaken.push((key, request));
            }
            Some(Refusal::Unreachable) => {
                let input = failed(&request.what, unreachable("connection refused"));
                self.later(back, reply(input));
            }
            Some(Refusal::ReplyLost) => {
                self.store(&request);
                let input = failed(&request.what, unreachable("the connection broke"));
                self.later(back, reply(input));
            }
            Some(Refusal::ReplyLate) => {
                let input = self.store(&request);
                self.later(back + 4 * SECOND, reply(input));
            }
            _ => {
                let input = match refused {
                    Some(status) => failed(&request.what, kubernetes::classify(&status)),
                    None => self.store(&request),
                };
                self.later(back, reply(input));
            }
        }
    }

    /// What goes wrong with this write.
    fn fault(&mut self, what: &What) -> Option<Refusal> {
        let now = self.now;
        self.writes.retain(|fault| fault.until > now && fault.times > 0);
        let fault = self.writes.iter_mut().find(|fault| {
            let within = |write: &Write| fault.ns == 3 || story::namespace(fault.ns) == &*write.key.namespace;
            match (what, fault.which) {
                (What::Application(_), which) => which == Which::Applications,
                (What::Robot(write), Which::Robots) => within(write),
                (What::Robot(write), Which::Finalizers) => {
                    within(write) && !matches!(write.change, Change::Status(_))
                }
                (What::Robot(write), Which::Statuses) => {
                    within(write) && matches!(write.change, Change::Status(_))
                }
                (What::Robot(_), Which::Applications) => false,
            }
        })?;
        if fault.times < u8::MAX {
            fault.times -= 1;
        }
        Some(fault.how)
    }

    /// Stores it, if what is stored allows it, and whatever it has overtaken.
    fn store(&mut self, request: &Request) -> Input {
        self.by = Some(request.knew);
        let input = match &request.what {
            What::Robot(write) => {
                let result = self.cluster.write(write).map_err(|status| kubernetes::classify(&status));
                Input::Written(write.id, Box::new(result))
            }
            What::Application(write) => {
                let shard = self.replicas.get(request.replica).map_or(0, |replica| replica.shard);
                let part = (self.setup.sharded || self.setup.by_namespace).then(|| format!("shard-{shard}"));
                let finalizer = application_finalizer(part.as_deref());
                let result = self.cluster.write_application(write, &finalizer);
                let result = result.map_err(|status| kubernetes::classify(&status));
                Input::ApplicationWritten(Arc::clone(&write.name), Box::new(result))
            }
        };
        self.stored();
        let key = match &request.what {
            What::Robot(write) => write.key.to_string(),
            What::Application(write) => write.name.to_string(),
        };
        if let Some(place) = self.overtaken.iter().position(|(of, _)| *of == key) {
            let (_, late) = self.overtaken.remove(place);
            self.say(|_| format!("  the write to {key} that was held up arrives"));
            self.store(&late);
        }
        input
    }

    fn reply(&mut self, n: usize, id: u64, input: Input) {
        let Some(open) = self.replicas.get_mut(n).and_then(|replica| replica.open.remove(&id)) else {
            return;
        };
        let failed = match &input {
            Input::Written(_, result) => result.as_ref().as_ref().err(),
            _ => None,
        };
        if let (Open::Robot(_, uid), Some(_)) = (&open, failed) {
            self.checks.write_failed(uid, self.now);
        }
        self.say(|_| match &input {
            Input::Written(_, result) => match result.as_ref() {
                Ok(_) => String::new(),
                Err(error) => format!("  replica {n}: a write failed: {error:?}"),
            },
            _ => String::new(),
        });
        self.tell(n, Some(input));
    }

    fn give_up(&mut self, n: usize, id: u64) {
        let open = self.replicas.get_mut(n).and_then(|replica| replica.open.remove(&id));
        match open {
            Some(Open::Robot(robot, uid)) => {
                self.checks.write_failed(&uid, self.now);
                self.tell(n, Some(Input::Written(robot, Box::new(Err(WriteError::Late)))));
            }
            Some(Open::Application(name)) => {
                self.tell(n, Some(Input::ApplicationWritten(name, Box::new(Err(WriteError::Late)))));
            }
            Some(Open::Call) | None => {}
        }
    }

    // Calls.

    fn call(&mut self, n: usize, call: Box<Call>, knew: Knew) {
        let now = self.now;
        let Some(replica) = self.replicas.get(n) else { return };
        let process = replica.process;
        if replica.right.until().passed_at(replica.boot_moment(now)) {
            return self.later(Duration::ZERO, Event::Told(n, process, Box::new(Input::Unsent(call))));
        }
        let shard = replica.shard;
        if let Some(other) = self.leads_beside(n, shard) {
            self.checks.broken(format!("replica {n} calls for {} while replica {other} leads", call.key));
        }
        self.called += 1;
        self.say(|_| format!("  replica {n} calls {} for {}", call.operation, call.key));
        self.checks.calls(&call.uid, call.operation, knew, now);
        self.last_call.insert(call.caller.sdk_app_id, now);
        self.request_ids += 1;
        let id = self.request_ids;
        if let Some(replica) = self.replicas.get_mut(n) {
            replica.open.insert(id, Open::Call);
        }
        let (until, takes) = self.slow_calls;
        let way = if until > now { takes } else { MS * u32::from(self.setup.room) };
        let flight = InFlight { replica: n, process, id, call: Rc::from(call), way, sent: now };
        let unsent = self.rooms.iter().any(|fault| {
            fault.how == Meets::Refused
                && fault.until > now
                && fault.times > 0
                && fault.app == *flight.call.application
        });
        if unsent {
            self.room_trouble(&flight.call.application, None, MINUTE);
            return self.answered(&flight, Outcome::failed(TroubleKind::Refused), MS);
        }
        self.later(CALL_TIMEOUT, Event::CallGiveUp(Box::new(flight.clone())));
        let arrives = (now + way).max(self.stalled);
        self.at(arrives, Event::Arrive(Box::new(flight)));
    }

    fn room_trouble(&mut self, app: &str, add: Option<bool>, time: Duration) {
        for of in [false, true] {
            if add.is_none_or(|add| add == of) {
                let until = self.app_trouble.entry((app.to_owned(), of)).or_default();
                *until = (*until).max(self.now + time);
            }
        }
    }

    fn arrive(&mut self, flight: &InFlight) {
        let now = self.now;
        let call = &flight.call;
        let sdk = call.caller.sdk_app_id;
        let limit = self.most_rate * u32::from(self.setup.shards());
        let held_up = now > flight.sent + flight.way;
        let process = (flight.replica, flight.process);
        self.checks.arrives(sdk, call.operation, limit, Arrival { at: now, process, held_up });
        let add = call.operation == Operation::AddRobot;
        self.rooms.retain(|fault| fault.until > now && fault.times > 0);
        let fault = self.rooms.iter_mut().find(|fault| {
            fault.app == *call.application
                && fault.add.is_none_or(|of| of == add)
                && fault.how != Meets::Refused
        });
        let how = fault.map(|fault| {
            if fault.times < u8::MAX {
                fault.times -= 1;
            }
            fault.how
        });
        self.request_ids += 1;
        let request_id = format!("Id-{}", self.request_ids);
        let reply = |code: i64| {
            Outcome::Reply(Reply { code, info: String::new(), request_id: Some(request_id.clone()) })
        };
        let uid = call.uid.to_string();
        let code = match how {
            _ if call.caller.user_sig.expose() != "right" => Some(70009),
            Some(Meets::Code(code)) => Some(i64::from(code)),
            Some(Meets::Alternating) => {
                self.alternate = !self.alternate;
                Some(if self.alternate { 70009 } else { 70050 })
            }
            _ => None,
        };
        if let Some(code) = code {
            let class = roomrobot_operator::codes::class(call.operation, code);
            self.slow_classes |= matches!(
                class,
                roomrobot_operator::codes::Class::Invalid | roomrobot_operator::codes::Class::RobotPermission
            );
            if class.is_final() {
                // The room is gone, or the robot is: whatever was there is there no more.
                self.checks.carried_out(&uid, Operation::DeleteRobot, true, None, "");
            }
            self.checks.carried_out(&uid, call.operation, false, Some(code), &request_id);
            let trouble = if class.stops_application() { 12 * MINUTE } else { 45 * SECOND };
            let whole = class == roomrobot_operator::codes::Class::Credentials
                || class == roomrobot_operator::codes::Class::Expired;
            if !class.is_final()
                && (class.stops_application() || class == roomrobot_operator::codes::Class::Throttled)
            {
                self.room_trouble(&call.application.clone(), if whole { None } else { Some(add) }, trouble);
            }
            return self.answered(flight, reply(code), flight.way);
        }
        match how {
            Some(Meets::Http(status)) => {
                let trouble =
                    Trouble { kind: TroubleKind::Http, http_status: Some(status), request_id: None };
                self.slow_classes |= status == 413;
                self.room_trouble(&call.application.clone(), None, 12 * MINUTE);
                return self.answered(flight, Outcome::Trouble(trouble), flight.way);
            }
            Some(Meets::Broken) => {
                return self.answered(flight, Outcome::failed(TroubleKind::Broken), flight.way);
            }
            Some(Meets::Lost) => {
                self.room_trouble(&call.application.clone(), None, 3 * MINUTE);
                return;
            }
            _ => {}
        }
        let lost = matches!(how, Some(Meets::BrokenAfter | Meets::LostAfter));
        let (told, id) = if lost { (None, "") } else { (Some(0), request_id.as_str()) };
        let there = self.checks.carried_out(&uid, call.operation, true, None, "");
        let code = if there { 0 } else { 100_005 };
        self.checks.carried_out(&uid, call.operation, false, told.map(|_| code), id);
        self.say(|_| {
            format!("  the room engine carries {} out for {}: {code}", flight.call.operation, flight.call.key)
        });
        match how {
            Some(Meets::BrokenAfter) => {
                self.answered(flight, Outcome::failed(TroubleKind::Broken), flight.way)
            }
            Some(Meets::LostAfter) => self.room_trouble(&flight.call.application.clone(), None, 3 * MINUTE),
            _ => self.answered(flight, reply(code), flight.way),
        }
    }

    /// The outcome is on its way to the process that called.
    fn answered(&mut self, flight: &InFlight, outcome: Outcome, way: Duration) {
        self.later(way, Event::Heard(Box::new(flight.clone()), Box::new(outcome)));
    }

    /// The process that called hears how its call ended, unless it has given up.
    fn hear(&mut self, flight: &InFlight, outcome: Outcome) {
        let now = self.now;
        let InFlight { replica: n, process, id, call, way, .. } = flight;
        let Some(replica) = self.replicas.get_mut(*n) else { return };
        if replica.open.remove(id).is_none() {
            return;
        }
        let class = outcome.class(call.operation);
        let app = call.application.to_string();
        if matches!(&outcome, Outcome::Trouble(Trouble { kind: TroubleKind::Timeout, .. })) {
            self.room_trouble(&app, None, 3 * MINUTE);
        }
        self.say(|_| {
            let words = outcome.code().map_or_else(|| format!("{outcome:?}"), |code| code.to_string());
            format!("  {} for {} is answered: {words}", call.operation, call.key)
        });
        self.checks.heard(&call.uid, call.operation, Some(class), (*n, *process), now);
        let rate = self.most_rate;
        let most = 2 * (rate / 10).max(8) + 4;
        let on_the_way = (2.0 * way.max(&self.slow_calls.1).as_secs_f64() + 0.1) * f64::from(rate);
        let unrecorded = self.checks.unrecorded((*n, *process), &app);
        let held_up = self.stalled + 3 * SECOND > now;
        if !held_up && unrecorded as f64 > f64::from(most) + on_the_way {
            self.checks.broken(format!(
                "{unrecorded} final answers of {app} wait for their records: a kill would lose them"
            ));
        }
        let input = Input::Answered(Answer {
            id: call.id,
            application: Arc::clone(&call.application),
            sdk_app_id: call.caller.sdk_app_id,
            operation: call.operation,
            signature: call.signature,
            started: call.started,
            outcome,
        });
        self.tell(*n, Some(input));
    }
}

fn labelled(labelled: bool) -> Namespace {
    let labels = [("name".to_owned(), "any".to_owned())].into_iter();
    let team = labelled.then(|| (cluster::TEAM.to_owned(), "yes".to_owned()));
    Namespace { labels: labels.chain(team).collect(), terminating: false }
}

fn secret_of(app: u8) -> String {
    format!("{}-secret", story::application(app))
}

fn sdk_app_id(app: &str, twin: bool) -> u32 {
    if app == story::APPLICATIONS[0] || twin { SDK_APP_ID } else { SDK_APP_ID + 1 }
}

/// Which robot of the room engine an object stands for.
fn identity(object: &Object, twin: bool) -> Identity {
    let robot = &object.robot;
    (sdk_app_id(&robot.application, twin), robot.room_id.to_string(), robot.member_account.to_string())
}

/// The end of a write that failed.
fn failed(what: &What, error: WriteError) -> Input {
    match what {
        What::Robot(write) => Input::Written(write.id, Box::new(Err(error))),
        What::Application(write) => Input::ApplicationWritten(Arc::clone(&write.name), Box::new(Err(error))),
    }
}

/// A Lease after a merge patch of its spec.
fn patched_lease(stored: &election::Record, spec: &Value) -> election::Record {
    let mut next = stored.clone();
    if let Some(holder) = spec.get("holderIdentity") {
        next.holder = holder.as_str().map(str::to_owned);
    }
    if let Some(lasts) = spec.get("leaseDurationSeconds") {
        next.lasts = lasts.as_u64().map_or(election::DURATION, Duration::from_secs);
    }
    if let Some(renewed) = spec.get("renewTime") {
        next.renewed = serde_json::from_value::<MicroTime>(renewed.clone()).ok().map(|time| time.0);
    }
    if let Some(transitions) = spec.get("leaseTransitions").and_then(Value::as_i64) {
        next.transitions = i32::try_from(transitions).unwrap_or_default();
    }
    next
}
