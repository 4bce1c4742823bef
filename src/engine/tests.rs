//! The engine, driven by hand: a world of stored objects and a scripted room engine, and a clock that jumps from one
//! thing that is due to the next.

#![allow(clippy::needless_pass_by_value, reason = "what a test hands over is made on the spot")]
#![allow(clippy::similar_names, reason = "a robot and its room, a call and its calls")]

use super::*;
use crate::{
    application::Spec,
    crd::{ROBOT_FINALIZER, RoomRobot, RtcApplication},
    robot::Stored,
    room_engine::{Outcome, Reply, TroubleKind},
    usersig::Sensitive,
};
use k8s_openapi::jiff::Timestamp;
use serde::Deserialize as _;
use serde_json::{Value, json};
use std::{cell::RefCell, rc::Rc};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const START: i64 = 1_700_000_000;

/// How the scripted room engine meets a call.
enum Says {
    Code(i64),
    Fails(TroubleKind),
    /// No answer for as long as the test lasts.
    Hangs,
}

/// What the scripted API server does with a write that it should take.
enum Fault {
    Refused(WriteError),
    /// It is stored, but nobody hears of it.
    ReplyLost,
}

/// Something that is still on its way.
enum Coming {
    Input(Input),
    Write(Box<Write>),
    ApplicationWrite(Box<ApplicationWrite>),
}

#[derive(Debug)]
struct Called {
    at: Duration,
    robot: String,
    application: String,
    operation: Operation,
}

#[derive(Debug)]
struct Wrote {
    /// When it was sent.
    at: Duration,
    name: String,
    change: Change,
}

type RoomEngine = Box<dyn FnMut(&Call, Duration) -> Says>;
type Faults = Box<dyn FnMut(&str, &Change, Duration) -> Option<Fault>>;

struct World {
    engine: Engine,
    scopes: Vec<Option<&'static str>>,
    concurrency: usize,
    now: Duration,
    // What is stored.
    version: u64,
    robots: BTreeMap<String, Value>,
    /// The last stored view of each robot that is gone.
    gone: BTreeMap<String, Value>,
    applications: BTreeMap<String, Value>,
    namespaces: BTreeMap<String, (Labels, bool)>,
    secrets: BTreeMap<String, Credentials>,
    watched: BTreeSet<String>,
    // How others behave.
    room_engine: RoomEngine,
    faults: Faults,
    call_takes: Duration,
    write_takes: Duration,
    /// From the storing of a write to its reply.
    reply_takes: Duration,
    watch_takes: Duration,
    // What is under way, and what has been.
    coming: BTreeMap<(Duration, u64), Coming>,
    sequence: u64,
    /// When each watch last said something: it keeps the order of what it shows.
    told: HashMap<&'static str, Duration>,
    writing: usize,
    calls: Vec<Called>,
    writes: Vec<Wrote>,
    application_writes: Vec<Wrote>,
    events: Vec<Announcement>,
    secret_watches: Vec<String>,
}

fn fresh(concurrency: usize, scopes: usize) -> Engine {
    let allowed = Allowed::default();
    let (shard, first_call) = (None, Duration::ZERO);
    Engine::new(Settings { allowed, namespace: "operator".into(), concurrency, shard, first_call }, scopes, 7)
}

fn key(text: &str) -> Credentials {
    Credentials::Key(Sensitive::new(text.to_owned()))
}

/// A signature that is sent as it is, so that the scripted room engine can tell one from another.
fn user_sig(text: &str) -> Credentials {
    Credentials::UserSig(Sensitive::new(text.to_owned()))
}

impl World {
    /// One application `app` with its Secret; nobody leads, and nothing is listed yet.
    fn new() -> Self {
        let mut world = Self {
            engine: fresh(64, 1),
            scopes: vec![None],
            concurrency: 64,
            now: SECOND,
            version: 100,
            robots: BTreeMap::new(),
            gone: BTreeMap::new(),
            applications: BTreeMap::new(),
            namespaces: BTreeMap::new(),
            secrets: BTreeMap::new(),
            watched: BTreeSet::new(),
            room_engine: Box::new(|_, _| Says::Code(0)),
            faults: Box::new(|_, _, _| None),
            call_takes: 50 * MS,
            write_takes: 5 * MS,
            reply_takes: Duration::ZERO,
            watch_takes: 8 * MS,
            coming: BTreeMap::new(),
            sequence: 0,
            told: HashMap::new(),
            writing: 0,
            calls: Vec::new(),
            writes: Vec::new(),
            application_writes: Vec::new(),
            events: Vec::new(),
            secret_watches: Vec::new(),
        };
        world.secrets.insert("app-secret".into(), key("a key"));
        world.application("app", json!({}));
        world
    }

    /// The same, with this process acting.
    fn led() -> Self {
        let mut world = Self::new();
        world.lead();
        world.run(100 * MS);
        world
    }

    /// The same for an operator that has only this part of the robots.
    fn led_as(shard: Option<&str>) -> Self {
        let mut world = Self::new();
        let settings = Settings { shard: shard.map(str::to_owned), ..world.engine.settings.clone() };
        world.engine = Engine::new(settings, 1, 7);
        world.lead();
        world.run(100 * MS);
        world
    }

    /// The same with so many writes at once.
    fn led_with(concurrency: usize) -> Self {
        let mut world = Self::new();
        world.concurrency = concurrency;
        world.engine = fresh(concurrency, 1);
        world.lead();
        world.run(100 * MS);
        world
    }

    fn answering(&mut self, room_engine: impl FnMut(&Call, Duration) -> Says + 'static) {
        self.room_engine = Box::new(room_engine);
    }

    fn failing(&mut self, faults: impl FnMut(&str, &Change, Duration) -> Option<Fault> + 'static) {
        self.faults = Box::new(faults);
    }

    fn healthy(&mut self) {
        self.answering(|_, _| Says::Code(0));
        self.failing(|_, _, _| None);
    }

    // The lists.

    /// Hands all lists over and lets this process lead.
    fn lead(&mut self) {
        self.list_robots();
        self.list_others();
        self.input(Input::Leading);
    }

    fn list_robots(&mut self) {
        // A new list ends the watch before it: what that one had not told yet is not told any more.
        self.coming
            .retain(|_, coming| !matches!(coming, Coming::Input(Input::Robot(_) | Input::RobotGone(..))));
        self.told.remove("robots");
        for scope in self.scopes.clone() {
            let list = || scope.map(Arc::from);
            self.input(Input::RobotsListing(list()));
            let robots: Vec<_> = self.robots.values().filter(|robot| within(robot, scope)).cloned().collect();
            for robot in robots {
                self.input(Input::Robot(Box::new(read(&robot))));
            }
            self.input(Input::RobotsListed(list()));
        }
    }

    fn list_others(&mut self) {
        for (name, (labels, dying)) in self.namespaces.clone() {
            self.input(Input::Namespace(name.as_str().into(), labels, dying));
        }
        let names = self.namespaces.keys().map(|name| name.as_str().into()).collect();
        self.input(Input::NamespacesListed(names));
        for application in self.applications.values().cloned().collect::<Vec<_>>() {
            self.input(Input::Application(Box::new(read_application(&application))));
        }
        let names = self.applications.keys().map(|name| name.as_str().into()).collect();
        self.input(Input::ApplicationsListed(names));
    }

    /// Another process takes over: what was under way in this one is lost to it.
    fn restart(&mut self) {
        let writes: Vec<_> = std::mem::take(&mut self.coming).into_values().collect();
        for coming in writes {
            // A request that was sent arrives though nobody waits for its reply any more.
            match coming {
                Coming::Write(write) => drop(self.store(&write.key.to_string(), &write.uid, &write.change)),
                Coming::ApplicationWrite(write) => {
                    drop(self.store_application(&write.name, &write.uid, &write.change));
                }
                Coming::Input(_) => {}
            }
        }
        self.coming.clear();
        self.told.clear();
        self.writing = 0;
        self.watched.clear();
        self.secret_watches.clear();
        self.engine = fresh(self.concurrency, self.scopes.len());
        self.lead();
    }

    // What people do.

    fn application(&mut self, name: &str, spec: Value) {
        let version = self.next_version();
        let mut object = json!({
            "apiVersion": "roomrobot.dev/v1alpha1",
            "kind": "RtcApplication",
            "metadata": {
                "name": name, "uid": format!("uid-{name}-{version}"), "resourceVersion": version.to_string(), "generation": 1,
            },
            "spec": {"sdkAppId": 1_400_000_000, "credentials": {"secretRef": {"name": "app-secret"}}},
        });
        merge(&mut object["spec"], &spec);
        self.applications.insert(name.to_owned(), object);
        self.show_application(name);
    }

    /// Changes the spec of an application.
    fn configure(&mut self, name: &str, spec: Value) {
        let version = self.next_version();
        let object = self.applications.get_mut(name).unwrap();
        merge(&mut object["spec"], &spec);
        renew(object, version, true);
        self.show_application(name);
    }

    fn delete_application(&mut self, name: &str) {
        let version = self.next_version();
        let object = self.applications.get_mut(name).unwrap();
        object["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        renew(object, version, true);
        self.show_application(name);
        self.sweep_application(name);
    }

    /// Takes an application away whatever holds it.
    fn force_application(&mut self, name: &str) {
        assert!(self.applications.remove(name).is_some());
        self.tell(Input::ApplicationGone(name.into()));
    }

    fn secret(&mut self, name: &str, credentials: Credentials) {
        self.secrets.insert(name.to_owned(), credentials.clone());
        if self.watched.contains(name) {
            self.tell(Input::Secret(name.into(), credentials));
        }
    }

    fn namespace(&mut self, name: &str, labels: &[(&str, &str)], dying: bool) {
        let labels: Labels =
            labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        self.namespaces.insert(name.to_owned(), (labels.clone(), dying));
        self.tell(Input::Namespace(name.into(), labels, dying));
    }

    /// Creates a RoomRobot; it stands for a robot of its own name unless `spec` says otherwise.
    fn robot(&mut self, key: &str, spec: Value) {
        self.robot_of(key, json!({}), spec);
    }

    fn robot_of(&mut self, key: &str, meta: Value, spec: Value) {
        let (namespace, name) = key.split_once('/').unwrap();
        if !self.namespaces.contains_key(namespace) {
            self.namespace(namespace, &[], false);
        }
        let version = self.next_version();
        let mut object = json!({
            "apiVersion": "roomrobot.dev/v1alpha1",
            "kind": "RoomRobot",
            "metadata": {
                "namespace": namespace, "name": name, "uid": format!("uid-{name}-{version}"),
                "resourceVersion": version.to_string(), "generation": 1,
            },
            "spec": {"roomId": format!("room-{name}"), "memberAccount": name, "applicationRef": {"name": "app"}},
        });
        merge(&mut object["metadata"], &meta);
        merge(&mut object["spec"], &spec);
        assert!(self.robots.insert(key.to_owned(), object).is_none());
        self.show(key);
    }

    /// Creates `count` robots `prefix-N` and waits until they are taken in charge.
    fn crowd(&mut self, prefix: &str, count: usize, spec: Value) -> Vec<String> {
        let keys: Vec<String> = (0..count).map(|n| format!("{prefix}-{n:04}")).collect();
        for key in &keys {
            self.robot(key, spec.clone());
        }
        self.run(10 * SECOND);
        for key in &keys {
            assert!(read(&self.robots[key]).accepted(), "{key}");
        }
        keys
    }

    fn edit(&mut self, key: &str, change: Value) {
        let version = self.next_version();
        let object = self.robots.get_mut(key).unwrap();
        let before = object["spec"].clone();
        merge(object, &change);
        let changed = object["spec"] != before;
        renew(object, version, changed);
        self.show(key);
    }

    fn delete(&mut self, key: &str) {
        let since = Timestamp::from_second(self.wall()).unwrap().to_string();
        let version = self.next_version();
        let object = self.robots.get_mut(key).unwrap();
        object["metadata"]["deletionTimestamp"] = since.into();
        renew(object, version, true);
        self.show(key);
        self.sweep(key);
    }

    fn delete_all(&mut self) {
        for key in self.robots.keys().cloned().collect::<Vec<_>>() {
            self.delete(&key);
        }
    }

    /// Takes a robot away whatever holds it; the watch says so unless it is `silent`.
    fn force(&mut self, key: &str, silent: bool) {
        let robot = read(&self.robots.remove(key).unwrap());
        if !silent {
            self.tell(Input::RobotGone(robot.key, robot.uid));
        }
    }

    // The API server.

    fn next_version(&mut self) -> u64 {
        self.version += 1;
        self.version
    }

    fn show(&mut self, key: &str) {
        let robot = read(&self.robots[key]);
        self.tell(Input::Robot(Box::new(robot)));
    }

    fn show_application(&mut self, name: &str) {
        let spec = read_application(&self.applications[name]);
        self.tell(Input::Application(Box::new(spec)));
    }

    /// An object that is being deleted goes with its last finalizer.
    fn sweep(&mut self, key: &str) {
        if unheld(&self.robots[key]) {
            let object = self.robots.remove(key).unwrap();
            let robot = read(&object);
            self.gone.entry(key.to_owned()).or_insert(object);
            self.tell(Input::RobotGone(robot.key, robot.uid));
        }
    }

    fn sweep_application(&mut self, name: &str) {
        if unheld(&self.applications[name]) {
            self.force_application(name);
        }
    }

    fn store(&mut self, key: &str, uid: &str, change: &Change) -> Result<Robot, WriteError> {
        let version = self.version + 1;
        let before = self.robots.get(key).ok_or(WriteError::NotFound)?;
        let mut object = before.clone();
        apply(&mut object, uid, change, ROBOT_FINALIZER)?;
        if object == *before {
            return Ok(read(&object));
        }
        self.version = version;
        renew(&mut object, version, false);
        serde_json::from_value::<RoomRobot>(object.clone()).expect("a robot that the schema would refuse");
        // The last view that anybody gets is the one before this write.
        self.gone.insert(key.to_owned(), before.clone());
        self.robots.insert(key.to_owned(), object.clone());
        if unheld(&object) {
            let robot = read(&object);
            self.robots.remove(key);
            self.tell(Input::RobotGone(robot.key, robot.uid));
        } else {
            self.gone.remove(key);
            self.show(key);
        }
        Ok(read(&object))
    }

    fn store_application(&mut self, name: &str, uid: &str, change: &Change) -> Result<Spec, WriteError> {
        let version = self.version + 1;
        let before = self.applications.get(name).ok_or(WriteError::NotFound)?;
        let mut object = before.clone();
        apply(&mut object, uid, change, &self.engine.settings.application_finalizer())?;
        if object != *before {
            self.version = version;
            renew(&mut object, version, false);
            serde_json::from_value::<RtcApplication>(object.clone())
                .expect("an application that the schema would refuse");
            self.applications.insert(name.to_owned(), object.clone());
            self.show_application(name);
            self.sweep_application(name);
        }
        Ok(read_application(&object))
    }

    // Time.

    fn wall(&self) -> i64 {
        START + i64::try_from(self.now.as_secs()).unwrap()
    }

    fn moment(&self) -> Now {
        Now { since_start: self.now, wall: Timestamp::from_second(self.wall()).unwrap() }
    }

    fn send(&mut self, after: Duration, coming: Coming) {
        self.sequence += 1;
        self.coming.insert((self.now + after, self.sequence), coming);
    }

    fn input(&mut self, input: Input) {
        self.send(Duration::ZERO, Coming::Input(input));
    }

    /// Lets a watch tell of something, in the order in which things were stored.
    fn tell(&mut self, input: Input) {
        let watch = match &input {
            Input::Robot(_) | Input::RobotGone(..) => "robots",
            Input::Application(_) | Input::ApplicationGone(_) => "applications",
            Input::Secret(..) => "secrets",
            _ => "namespaces",
        };
        let before = self.told.get(watch).copied().unwrap_or_default();
        let at = before.max(self.now + self.watch_takes);
        self.told.insert(watch, at);
        self.send(at - self.now, Coming::Input(input));
    }

    /// Lets `span` pass.
    fn run(&mut self, span: Duration) {
        let end = self.now + span;
        let mut idle = 0;
        loop {
            let due = self.engine.next_due(self.now);
            let event = self.coming.first_key_value().map(|((at, _), _)| *at);
            let Some(at) = due.into_iter().chain(event).min().filter(|at| *at <= end) else { break };
            let moved = at > self.now;
            self.now = self.now.max(at);
            let mut busy = moved;
            while let Some(first) = self.coming.first_entry().filter(|first| first.key().0 <= self.now) {
                let coming = first.remove();
                self.arrive(coming);
                busy = true;
            }
            for effect in self.engine.advance(self.moment()) {
                self.carry_out(effect);
                busy = true;
            }
            idle = if busy { 0 } else { idle + 1 };
            assert!(idle < 10, "the engine says that something is due and does nothing: it would spin");
        }
        self.now = end;
    }

    fn arrive(&mut self, coming: Coming) {
        let now = self.moment();
        let input = match coming {
            Coming::Input(input) => input,
            Coming::Write(write) => {
                let key = write.key.to_string();
                let result = match (self.faults)(&key, &write.change, self.now) {
                    None => self.store(&key, &write.uid, &write.change),
                    Some(Fault::Refused(error)) => Err(error),
                    Some(Fault::ReplyLost) => {
                        drop(self.store(&key, &write.uid, &write.change));
                        Err(WriteError::Other("the reply was lost".into()))
                    }
                };
                let written = Input::Written(write.id, Box::new(result));
                return self.send(self.reply_takes, Coming::Input(written));
            }
            Coming::ApplicationWrite(write) => {
                let result = match (self.faults)(&write.name, &write.change, self.now) {
                    None => self.store_application(&write.name, &write.uid, &write.change),
                    Some(Fault::Refused(error)) => Err(error),
                    Some(Fault::ReplyLost) => {
                        drop(self.store_application(&write.name, &write.uid, &write.change));
                        Err(WriteError::Other("the reply was lost".into()))
                    }
                };
                let written = Input::ApplicationWritten(write.name, Box::new(result));
                return self.send(self.reply_takes, Coming::Input(written));
            }
        };
        if matches!(input, Input::Written(..) | Input::ApplicationWritten(..)) {
            self.writing -= 1;
        }
        self.engine.handle(input, now);
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Call(call) => {
                self.calls.push(Called {
                    at: self.now,
                    robot: call.key.to_string(),
                    application: call.application.to_string(),
                    operation: call.operation,
                });
                let outcome = match (self.room_engine)(&call, self.now) {
                    Says::Hangs => return,
                    Says::Code(code) => {
                        let request_id = Some(format!("Id-{}", self.calls.len()));
                        Outcome::Reply(Reply { code, info: String::new(), request_id })
                    }
                    Says::Fails(kind) => Outcome::failed(kind),
                };
                let answer = answer(&call, outcome);
                self.send(self.call_takes, Coming::Input(answer));
            }
            Effect::Write(write) => {
                let (name, change) = (write.key.to_string(), write.change.clone());
                self.writes.push(Wrote { at: self.now, name, change });
                self.begin_write(Coming::Write(write));
            }
            Effect::WriteApplication(write) => {
                let (name, change) = (write.name.to_string(), write.change.clone());
                self.application_writes.push(Wrote { at: self.now, name, change });
                self.begin_write(Coming::ApplicationWrite(write));
            }
            Effect::Announce(event) => self.events.push(*event),
            Effect::WatchSecret(name) => {
                assert!(self.watched.insert(name.to_string()), "{name} is watched already");
                self.secret_watches.push(name.to_string());
                let found = self.secrets.get(&*name).cloned().unwrap_or(Credentials::Missing);
                self.tell(Input::Secret(name, found));
            }
            Effect::ForgetSecret(name) => assert!(self.watched.remove(&*name), "{name} was not watched"),
        }
    }

    fn begin_write(&mut self, coming: Coming) {
        self.writing += 1;
        // An application's own write may come on top: there are few of those.
        let most = self.concurrency + self.applications.len();
        assert!(self.writing <= most, "{} writes at once", self.writing);
        self.send(self.write_takes, coming);
    }

    // What can be seen.

    fn calls_about(&self, key: &str) -> usize {
        self.calls.iter().filter(|call| call.robot == key).count()
    }

    fn called_by(&self, application: &str) -> Vec<Duration> {
        self.calls.iter().filter(|call| call.application == application).map(|call| call.at).collect()
    }

    /// What was written to a robot, in order.
    fn changes(&self, key: &str) -> Vec<&'static str> {
        self.writes.iter().filter(|write| write.name == key).map(|write| word(&write.change)).collect()
    }

    fn application_changes(&self, name: &str) -> Vec<&'static str> {
        self.application_writes
            .iter()
            .filter(|write| write.name == name)
            .map(|write| word(&write.change))
            .collect()
    }

    /// A condition of a robot, or of its last view, as status and reason.
    #[track_caller]
    fn condition(&self, key: &str, kind: &str) -> Option<(String, String)> {
        let object = self.robots.get(key).or_else(|| self.gone.get(key)).expect("no such robot");
        condition(object, kind).map(|found| (text(&found["status"]), text(&found["reason"])))
    }

    #[track_caller]
    fn assert_waits(&self, key: &str, reason: &str) {
        assert!(self.robots.contains_key(key), "{key} is gone");
        assert_eq!(self.condition(key, "RobotDeleted"), Some(("False".into(), reason.into())), "{key}");
    }

    #[track_caller]
    fn assert_gone(&self, key: &str, reason: &str) {
        assert!(
            !self.robots.contains_key(key),
            "{key} is still there: {:?}",
            self.condition(key, "RobotDeleted")
        );
        let is = if reason == "StillClaimed" { "False" } else { "True" };
        assert_eq!(self.condition(key, "RobotDeleted"), Some((is.into(), reason.into())), "{key}");
    }

    fn application_ready(&self, name: &str) -> (String, String) {
        let ready = condition(&self.applications[name], "Ready").expect("no condition yet");
        (text(&ready["status"]), text(&ready["reason"]))
    }
}

fn answer(call: &Call, outcome: Outcome) -> Input {
    Input::Answered(Answer {
        id: call.id,
        application: Arc::clone(&call.application),
        sdk_app_id: call.caller.sdk_app_id,
        operation: call.operation,
        signature: call.signature,
        started: call.started,
        outcome,
    })
}

fn word(change: &Change) -> &'static str {
    match change {
        Change::FirstFinalizer | Change::MoreFinalizer => "hold",
        Change::DropFinalizer(_) => "drop",
        Change::Status(_) => "status",
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    object["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind)
}

fn read(object: &Value) -> Robot {
    Stored::deserialize(object).unwrap().into()
}

fn read_application(object: &Value) -> Spec {
    Spec::read(RtcApplication::deserialize(object).unwrap(), &Allowed::default())
}

fn within(robot: &Value, scope: Option<&str>) -> bool {
    scope.is_none_or(|namespace| robot["metadata"]["namespace"] == namespace)
}

fn unheld(object: &Value) -> bool {
    let meta = &object["metadata"];
    !meta["deletionTimestamp"].is_null() && meta["finalizers"].as_array().is_none_or(Vec::is_empty)
}

fn renew(object: &mut Value, version: u64, spec_changed: bool) {
    let meta = &mut object["metadata"];
    meta["resourceVersion"] = version.to_string().into();
    if spec_changed {
        meta["generation"] = (meta["generation"].as_i64().unwrap() + 1).into();
    }
}

/// A JSON merge patch.
fn merge(target: &mut Value, patch: &Value) {
    let Some(fields) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    let object = target.as_object_mut().unwrap();
    for (name, value) in fields {
        if value.is_null() {
            object.remove(name);
        } else {
            merge(object.entry(name.clone()).or_insert(Value::Null), value);
        }
    }
}

/// What the API server makes of a write, or why it refuses it.
fn apply(object: &mut Value, uid: &str, change: &Change, finalizer: &str) -> Result<(), WriteError> {
    let refuse = |why: &str| Err(WriteError::Conflict(why.to_owned()));
    let deleting = !object["metadata"]["deletionTimestamp"].is_null();
    if object["metadata"]["uid"] != uid {
        return refuse("another object of the same name");
    }
    let meta = object["metadata"].as_object_mut().unwrap();
    match change {
        Change::Status(status) => {
            if !object["status"].is_object() {
                object["status"] = json!({});
            }
            merge(&mut object["status"], status);
        }
        Change::FirstFinalizer | Change::MoreFinalizer if deleting => return refuse("it is being deleted"),
        Change::FirstFinalizer => {
            if meta.contains_key("finalizers") {
                return refuse("there are finalizers already");
            }
            meta.insert("finalizers".into(), json!([finalizer]));
        }
        Change::MoreFinalizer => match meta.get_mut("finalizers").and_then(Value::as_array_mut) {
            Some(list) => list.push(finalizer.into()),
            None => return refuse("there is no list"),
        },
        Change::DropFinalizer(at) => {
            let Some(list) = meta.get_mut("finalizers").and_then(Value::as_array_mut) else {
                return refuse("there is no list");
            };
            if list.get(*at).is_none_or(|found| found != finalizer) {
                return refuse("another finalizer stands there");
            }
            list.remove(*at);
            if list.is_empty() {
                meta.remove("finalizers");
            }
        }
    }
    Ok(())
}

fn most_in_a_second(times: &[Duration]) -> usize {
    times
        .iter()
        .enumerate()
        .map(|(at, first)| times[at..].iter().take_while(|time| **time < *first + SECOND).count())
        .max()
        .unwrap_or(0)
}

// The start.

#[test]
fn nothing_happens_before_leading_and_all_lists() {
    let scopes: [Option<Arc<str>>; 2] = [Some("a".into()), Some("b".into())];
    let robot = |key: &str| {
        let mut world = World::new();
        world.robot(key, json!({}));
        Box::new(read(&world.robots[key]))
    };
    let mut application = read_application(&World::new().applications["app"]);
    application.finalizer_names = vec![crate::crd::APPLICATION_FINALIZER.to_owned()];
    // Each gate in its turn is the last to open.
    for last in 0..5 {
        let mut engine = fresh(64, 2);
        let now = Now { since_start: SECOND, wall: Timestamp::from_second(START).unwrap() };
        let mut order: Vec<usize> = (0..5).filter(|gate| *gate != last).collect();
        order.push(last);
        for gate in order {
            let inputs = match gate {
                0 => vec![Input::Leading],
                1 => vec![
                    Input::Application(Box::new(application.clone())),
                    Input::ApplicationsListed(BTreeSet::from(["app".into()])),
                ],
                2 => vec![Input::NamespacesListed(BTreeSet::new())],
                scope => {
                    let scope = scopes[scope - 3].clone();
                    let key = format!("{}/robot", scope.as_deref().unwrap());
                    vec![
                        Input::RobotsListing(scope.clone()),
                        Input::Robot(robot(&key)),
                        Input::RobotsListed(scope),
                    ]
                }
            };
            for input in inputs {
                engine.handle(input, now);
            }
            let secret = |effect: &Effect| matches!(effect, Effect::WatchSecret(_));
            let effects = engine.advance(now);
            if gate == last {
                let writes = effects.iter().filter(|effect| matches!(effect, Effect::Write(_))).count();
                assert_eq!(writes, 2, "gate {last}: {effects:?}");
            } else {
                assert!(effects.iter().all(secret), "before gate {last}: {effects:?}");
                assert!(gate == last || !(engine.synced() && last != 0));
            }
        }
        assert!(engine.synced());
    }
}

#[test]
fn a_whole_life_is_four_writes_and_one_call() {
    let mut world = World::led();
    let keys = world.crowd("team/r", 20, json!({}));
    world.run(MINUTE);
    assert_eq!(world.calls.len(), 0, "no call for a robot that is in the room by other means");
    world.delete_all();
    world.run(10 * SECOND);
    for key in &keys {
        assert_eq!(world.changes(key), ["hold", "status", "status", "drop"], "{key}");
        assert_eq!(world.calls_about(key), 1, "{key}");
        world.assert_gone(key, "Deleted");
        let last = &world.gone[key];
        let request = &last["status"]["lastRequest"];
        assert_eq!((&request["operation"], &request["errorCode"]), (&"delete_robot".into(), &0.into()));
        assert_eq!(request["httpStatus"], 200);
        let told = text(&condition(last, "RobotDeleted").unwrap()["message"]);
        let end = format!("ErrorCode 0, RequestId {}", text(&request["requestId"]));
        assert!(told.ends_with(&end), "{told}");
        assert_eq!(last["status"]["observedGeneration"], last["metadata"]["generation"]);
    }
    world.run(10 * MINUTE);
    assert_eq!((world.writes.len(), world.calls.len()), (80, 20));
    assert_eq!(world.engine.robots().len(), 0);
    let mut told: Vec<_> =
        world.events.iter().filter(|event| event.kind == "RoomRobot").map(|event| event.reason).collect();
    told.dedup();
    assert_eq!(told, [Reason::Adopted, Reason::Deleted], "an Event for each change of the reason");
}

/// A policy of the cluster adds the finalizer at creation: one write less.
#[test]
fn finalizers_of_others_and_our_own_from_birth_are_taken_as_they_come() {
    let mut world = World::led();
    world.robot_of("team/born", json!({"finalizers": [ROBOT_FINALIZER]}), json!({}));
    world.robot_of("team/shared", json!({"finalizers": ["example.com/backup"]}), json!({}));
    world.run(SECOND);
    assert_eq!(
        world.robots["team/shared"]["metadata"]["finalizers"],
        json!(["example.com/backup", ROBOT_FINALIZER])
    );
    world.delete_all();
    world.run(SECOND);
    assert_eq!(world.changes("team/born"), ["status", "status", "drop"]);
    assert_eq!(world.changes("team/shared"), ["hold", "status", "status", "drop"]);
    assert_eq!(world.robots["team/shared"]["metadata"]["finalizers"], json!(["example.com/backup"]));
    world.run(MINUTE);
    assert_eq!((world.writes.len(), world.calls.len()), (7, 2), "what others wait for is not ours");
}

#[test]
fn a_finalizer_that_moved_is_dropped_where_it_stands_now() {
    let mut world = World::led();
    world.robot_of("team/r", json!({"finalizers": ["example.com/a", ROBOT_FINALIZER]}), json!({}));
    world.run(SECOND);
    world.delete("team/r");
    while world.changes("team/r").last() != Some(&"drop") {
        world.run(MS);
    }
    // Somebody else's goes while ours is on its way out.
    world.edit("team/r", json!({"metadata": {"finalizers": [ROBOT_FINALIZER]}}));
    world.run(SECOND);
    world.assert_gone("team/r", "Deleted");
    assert_eq!(world.changes("team/r"), ["status", "status", "drop", "drop"]);
    assert_eq!(world.calls.len(), 1);
}

#[test]
fn a_finalizer_that_was_dropped_is_put_back() {
    let mut world = World::led();
    world.crowd("team/r", 1, json!({}));
    world.edit("team/r-0000", json!({"metadata": {"finalizers": null}}));
    world.run(SECOND);
    assert_eq!(world.robots["team/r-0000"]["metadata"]["finalizers"], json!([ROBOT_FINALIZER]));
    assert_eq!(world.changes("team/r-0000"), ["hold", "status", "hold"]);
}

// Restarts.

#[test]
fn a_restart_over_settled_robots_does_nothing_but_watch_secrets() {
    let mut world = World::led();
    world.crowd("team/r", 800, json!({}));
    world.crowd("team/c", 200, json!({"creationPolicy": "Create"}));
    // The counts are told with the next round.
    world.run(MINUTE);
    assert_eq!(world.applications["app"]["status"]["robots"], 1000);
    let before = (world.writes.len(), world.application_writes.len(), world.calls.len(), world.events.len());
    world.restart();
    world.run(Duration::from_secs(3600));
    let after = (world.writes.len(), world.application_writes.len(), world.calls.len(), world.events.len());
    assert_eq!(before, after);
    assert_eq!(world.secret_watches, ["app-secret"]);
    assert_eq!(world.engine.next_due(world.now), None, "nothing is due ever");
    assert_eq!(world.engine.robots().len(), 1000);
}

#[test]
fn a_list_over_settled_robots_does_nothing_either() {
    let mut world = World::led();
    world.crowd("team/r", 50, json!({}));
    world.run(MINUTE);
    let before = (world.writes.len(), world.application_writes.len());
    for _ in 0..3 {
        world.list_robots();
        world.list_others();
        world.run(MINUTE);
    }
    assert_eq!(
        (world.writes.len(), world.application_writes.len(), world.calls.len()),
        (before.0, before.1, 0)
    );
}

#[test]
fn a_restart_repeats_only_the_calls_whose_answers_were_not_recorded() {
    let mut world = World::led_with(16);
    let keys = world.crowd("team/r", 200, json!({}));
    world.write_takes = 200 * MS;
    world.delete_all();
    // Some answers are stored, some are on their way, some calls are out, some wait.
    world.run(700 * MS);
    let told = |world: &World, key: &str| {
        world.robots.get(key).is_none_or(|robot| condition(robot, "RobotDeleted").is_some())
    };
    world.restart();
    let recorded: Vec<bool> = keys.iter().map(|key| told(&world, key)).collect();
    let before: Vec<usize> = keys.iter().map(|key| world.calls_about(key)).collect();
    world.answering(|_, _| Says::Code(100_005));
    world.run(MINUTE);
    assert!(recorded.contains(&true) && recorded.contains(&false));
    for ((key, recorded), before) in keys.iter().zip(recorded).zip(before) {
        assert!(!world.robots.contains_key(key), "{key}");
        assert_eq!(world.calls_about(key), before + usize::from(!recorded), "{key}");
    }
}

#[test]
fn at_start_deletions_go_before_everything_else() {
    let mut world = World::led_with(4);
    let ended = world.crowd("team/ended", 50, json!({}));
    let waiting = world.crowd("team/waiting", 20, json!({"suspend": true}));
    for key in &ended {
        // Told by the process before, which ended before it could drop the finalizer.
        world.failing(|_, change, _| match change {
            Change::DropFinalizer(_) => Some(Fault::Refused(WriteError::Other("later".into()))),
            _ => None,
        });
        world.delete(key);
    }
    world.run(5 * SECOND);
    let live: Vec<String> = (0..100).map(|n| format!("team/live-{n:04}")).collect();
    world.watch_takes = Duration::from_secs(3600);
    for key in &live {
        world.robot(key, json!({}));
    }
    for key in &waiting {
        world.delete(key);
    }
    world.coming.clear();
    world.failing(|_, _, _| None);
    world.watch_takes = 8 * MS;
    let before = world.writes.len();
    world.restart();
    world.run(MINUTE);
    let group = |name: &str| name.trim_start_matches("team/").split('-').next().unwrap().to_owned();
    let mut order: Vec<String> = world.writes[before..].iter().map(|write| group(&write.name)).collect();
    assert_eq!(order.len(), 50 + 20 + 200);
    order.dedup();
    assert_eq!(order, ["ended", "waiting", "live"]);
    // Live robots never take the last quarter of the hands.
    let live = world.writes[before..].iter().filter(|write| group(&write.name) == "live");
    let begun: Vec<Duration> = live.map(|write| write.at).collect();
    for (n, at) in begun.iter().enumerate() {
        let under_way = begun[..=n].iter().filter(|before| **before + world.write_takes > *at).count();
        assert!(under_way <= 3, "{under_way} at once");
    }
}

#[test]
fn a_deletion_overtakes_live_robots_that_wait_for_their_writes() {
    let mut world = World::led_with(4);
    world.write_takes = 50 * MS;
    world.crowd("team/old", 1, json!({}));
    for n in 0..200 {
        world.robot(&format!("team/live-{n:04}"), json!({}));
    }
    world.run(200 * MS);
    world.delete("team/old-0000");
    world.run(500 * MS);
    world.assert_gone("team/old-0000", "Deleted");
    assert!(world.writes.len() < 60, "the live robots are far from done");
}

// Pace.

#[test]
fn a_drain_keeps_the_quota_in_every_second_and_takes_little_longer_than_it_must() {
    let mut world = World::led();
    let keys = world.crowd("team/r", 2000, json!({}));
    world.delete_all();
    let begun = world.now;
    world.run(15 * SECOND);
    assert_eq!(world.engine.robots().len(), 0);
    for key in &keys {
        assert_eq!(world.calls_about(key), 1, "{key}");
        assert_eq!(world.changes(key).len(), 4, "{key}");
    }
    let times = world.called_by("app");
    assert_eq!(times.len(), 2000);
    assert!(most_in_a_second(&times) <= 200, "{} in a second", most_in_a_second(&times));
    let took = *times.last().unwrap() - begun;
    assert!(took < Duration::from_millis(10_900), "{took:?} for 2 000 at 200 a second");
}

#[test]
fn a_lower_rate_is_kept_from_the_moment_it_is_set() {
    let mut world = World::led();
    world.crowd("team/r", 300, json!({}));
    world.delete_all();
    world.run(500 * MS);
    world.configure("app", json!({"requestsPerSecond": 10}));
    world.run(500 * MS);
    let from = world.calls.len();
    assert!((80..150).contains(&from), "{from}");
    world.run(10 * SECOND);
    let times = world.called_by("app").split_off(from);
    assert!(most_in_a_second(&times) <= 10 && times.len() >= 90, "{} calls", times.len());
}

#[test]
fn applications_of_one_sdk_app_id_share_the_lower_rate_by_turns() {
    let mut world = World::led();
    world.application("slow", json!({"requestsPerSecond": 20}));
    world.run(SECOND);
    world.crowd("team/a", 100, json!({}));
    world.crowd("team/b", 100, json!({"applicationRef": {"name": "slow"}}));
    world.delete_all();
    world.run(2 * SECOND);
    let (fast, slow) = (world.called_by("app").len(), world.called_by("slow").len());
    assert!(fast.abs_diff(slow) <= 2 && slow >= 15, "{fast} and {slow}");
    world.run(20 * SECOND);
    assert_eq!(world.engine.robots().len(), 0);
    let times: Vec<_> = world.calls.iter().map(|call| call.at).collect();
    assert!(most_in_a_second(&times) <= 20);
}

#[test]
fn an_application_of_another_sdk_app_id_has_a_pace_of_its_own() {
    let mut world = World::led();
    world.application("slow", json!({"requestsPerSecond": 1, "sdkAppId": 2}));
    world.run(SECOND);
    world.crowd("team/a", 300, json!({}));
    world.crowd("team/b", 20, json!({"applicationRef": {"name": "slow"}}));
    world.delete_all();
    world.run(3 * SECOND);
    assert_eq!(world.called_by("app").len(), 300);
    assert!((2..=3).contains(&world.called_by("slow").len()));
}

#[test]
fn the_hanging_calls_of_one_application_do_not_slow_another() {
    for same in [false, true] {
        let mut world = World::led();
        let sdk_app_id = if same { 1_400_000_000 } else { 2 };
        world.application("other", json!({"sdkAppId": sdk_app_id}));
        world.run(SECOND);
        world.crowd("team/a", 1000, json!({}));
        world.crowd("team/b", 400, json!({"applicationRef": {"name": "other"}}));
        // The first call proves the application; from then on none is answered.
        let mut answered = false;
        world.answering(move |call, _| match &*call.application {
            "app" if std::mem::replace(&mut answered, true) => Says::Hangs,
            _ => Says::Code(0),
        });
        world.delete_all();
        // Where they share a pace, every other call is the hanging one's until 256 of its calls hang.
        let expected = if same { 5 * SECOND } else { 3 * SECOND };
        world.run(expected);
        assert_eq!(world.called_by("other").len(), 400, "same SDKAppID: {same}");
        assert_eq!(world.robots.len(), 999);
        world.run(MINUTE);
        assert_eq!(world.called_by("app").len(), 1 + 256, "calls that wait for an answer are bounded");
    }
}

#[test]
fn the_drain_of_one_namespace_does_not_keep_another_waiting() {
    let mut world = World::led();
    world.crowd("big/r", 1500, json!({}));
    let small = world.crowd("small/r", 10, json!({}));
    for key in world.robots.keys().filter(|key| key.starts_with("big/")).cloned().collect::<Vec<_>>() {
        world.delete(&key);
    }
    world.run(SECOND);
    for key in &small {
        world.delete(key);
    }
    world.run(300 * MS);
    for key in &small {
        world.assert_gone(key, "Deleted");
    }
    assert!(world.robots.len() > 1000);
}

/// The room engine is faster than the API server: what waits in the end are writes.
#[test]
fn writes_that_pile_up_keep_neither_another_application_nor_another_namespace_waiting() {
    let mut world = World::led_with(4);
    world.application("other", json!({"sdkAppId": 2}));
    world.run(SECOND);
    world.crowd("big/r", 600, json!({}));
    world.crowd("small/same", 1, json!({}));
    world.crowd("small/other", 1, json!({"applicationRef": {"name": "other"}}));
    // Four at once of 50 ms each are 80 a second, where the calls need 400.
    world.write_takes = 50 * MS;
    for n in 0..600 {
        world.delete(&format!("big/r-{n:04}"));
    }
    world.run(3 * SECOND);
    assert!(world.robots.len() > 450, "writes pile up");
    // The one of the same application also waits until its call is due, as its application has answers enough.
    for (key, within) in [("small/other-0000", 300 * MS), ("small/same-0000", 400 * MS)] {
        world.delete(key);
        world.run(within);
        world.assert_gone(key, "Deleted");
    }
    assert!(world.robots.len() > 400, "the drain is far from over");
}

/// A process that is killed asks again for every answer that is not recorded: there are never many of them.
#[test]
fn calls_do_not_run_ahead_of_what_is_recorded() {
    let mut world = World::led_with(4);
    world.application("other", json!({"sdkAppId": 2}));
    world.run(SECOND);
    world.application("app", json!({"requestsPerSecond": 20}));
    let team = world.crowd("team/r", 400, json!({}));
    world.crowd("team/other", 40, json!({"applicationRef": {"name": "other"}}));
    world.write_takes = 100 * MS;
    world.delete_all();
    let mut most = 0;
    while world.robots.len() > 300 {
        world.run(50 * MS);
        let told = |key: &&String| {
            world.robots.get(*key).is_none_or(|robot| condition(robot, "RobotDeleted").is_some())
        };
        most = most.max(world.called_by("app").len() - team.iter().filter(told).count());
    }
    assert_eq!(world.called_by("other").len(), 40, "its answers wait for nobody else's");
    // In line, where removals of finalizers stand as well, being written, and out at the room engine.
    assert!((10..=20 + 4 + 12).contains(&most), "{most} answers were not recorded");
    world.write_takes = 5 * MS;
    world.run(MINUTE);
    assert!(world.robots.is_empty());
    assert_eq!(world.calls.len(), 440);
}

/// Where the API server refuses the writes of some robots for long, the others are none of its business.
#[test]
fn answers_that_cannot_be_recorded_hold_nobody_back() {
    let mut world = World::led_with(4);
    world.crowd("refused/r", 100, json!({}));
    world.crowd("team/r", 100, json!({}));
    world.failing(|key, _, _| {
        key.starts_with("refused/").then(|| Fault::Refused(WriteError::Other("a webhook says no".into())))
    });
    world.delete_all();
    world.run(MINUTE);
    assert_eq!(world.robots.len(), 100, "the others are gone");
    world.healthy();
    world.run(MINUTE);
    assert!(world.robots.is_empty());
    assert_eq!(world.calls.len(), 200);
}

/// What stands in an application's status is no reason to look at the robots that wait for it.
#[test]
fn a_status_of_an_application_is_no_reason_to_look_at_its_robots() {
    let mut world = World::led();
    world.crowd("team/r", 100, json!({}));
    world.configure("app", json!({"suspend": true}));
    world.delete_all();
    world.run(MINUTE);
    world.assert_waits("team/r-0000", "Suspended");
    let looked = world.engine.looks;
    let version = world.next_version();
    let object = world.applications.get_mut("app").unwrap();
    object["status"]["deleting"] = 7.into();
    renew(object, version, false);
    world.show_application("app");
    world.run(MINUTE);
    assert_eq!(world.applications["app"]["status"]["deleting"], 100, "it is put right");
    assert_eq!(world.engine.looks, looked, "robots were looked at");
    world.configure("app", json!({"suspend": false}));
    world.run(SECOND);
    world.assert_gone("team/r-0000", "Deleted");
}

#[test]
fn a_deletion_costs_as_many_looks_among_five_hundred_robots_as_among_twenty() {
    let looks = |settled: usize| {
        let mut world = World::led();
        world.crowd("team/r", settled, json!({}));
        world.run(MINUTE);
        let before = world.engine.looks;
        world.delete("team/r-0000");
        world.run(10 * SECOND);
        world.assert_gone("team/r-0000", "Deleted");
        world.engine.looks - before
    };
    let few = looks(20);
    assert!(few > 0 && few < 20, "{few}");
    assert_eq!(few, looks(500));
}

#[test]
fn a_throttle_answer_halves_the_pace_which_then_recovers() {
    let mut world = World::led();
    world.crowd("team/r", 4000, json!({}));
    world.delete_all();
    world.run(2 * SECOND);
    let rate = |world: &mut World| {
        let before = world.calls.len();
        world.run(SECOND);
        world.calls.len() - before
    };
    assert!((190..=200).contains(&rate(&mut world)));
    let throttled = world.now;
    world.answering(move |_, now| if now < throttled + 30 * MS { Says::Code(60011) } else { Says::Code(0) });
    // The answers come after 50 ms; all of them speak of the same moment, and halve once.
    world.run(90 * MS);
    let mut waits = world.robots.clone();
    waits.retain(|_, robot| condition(robot, "RobotDeleted").is_some_and(|is| is["reason"] == "Throttled"));
    assert!(waits.len() > 3);
    assert_eq!(world.application_ready("app"), ("True".into(), "Verified".into()), "the pace is no fault");
    let slow = rate(&mut world);
    assert!((90..=115).contains(&slow), "{slow} in the second after");
    let mut before = slow;
    for _ in 0..9 {
        let now = rate(&mut world);
        assert!(now + 2 >= before && now <= before + 22, "from {before} to {now}");
        before = now;
    }
    assert!(rate(&mut world) >= 190, "recovered");
    world.run(20 * SECOND);
    assert_eq!(world.robots.len(), 0);
    assert!(waits.keys().all(|key| world.calls_about(key) == 2), "no robot backs off by itself");
    assert!(most_in_a_second(&world.called_by("app")) <= 200);
}

// One call.

#[test]
fn what_the_watch_says_late_changes_nothing() {
    let mut world = World::led();
    // Each view comes 5 s after it was stored: long after this process has written more.
    world.watch_takes = 5 * SECOND;
    let keys: Vec<String> = (0..50).map(|n| format!("team/r-{n}")).collect();
    for key in &keys {
        world.robot(key, json!({}));
    }
    world.run(30 * SECOND);
    world.delete_all();
    world.run(MINUTE);
    for key in &keys {
        assert_eq!(world.changes(key), ["hold", "status", "status", "drop"], "{key}");
        assert_eq!(world.calls_about(key), 1, "{key}");
    }
}

#[test]
fn a_view_that_is_older_than_what_is_known_is_not_taken() {
    let mut world = World::led();
    world.robot("team/r", json!({}));
    world.run(SECOND);
    let accepted = read(&world.robots["team/r"]);
    world.delete("team/r");
    world.run(20 * MS);
    let deleting = read(&world.robots["team/r"]);
    // The answer is in and told; the finalizer's removal does not get through.
    world.failing(|_, change, _| match change {
        Change::DropFinalizer(_) => Some(Fault::Refused(WriteError::Other("down".into()))),
        _ => None,
    });
    world.run(SECOND);
    assert_eq!(world.condition("team/r", "RobotDeleted").unwrap().1, "Deleted");
    let before = world.changes("team/r").iter().filter(|change| **change == "status").count();
    for old in [&accepted, &deleting] {
        world.input(Input::Robot(Box::new(old.clone())));
        world.run(SECOND);
    }
    assert_eq!(world.calls.len(), 1);
    assert_eq!(world.changes("team/r").iter().filter(|change| **change == "status").count(), before);
    world.healthy();
    world.run(MINUTE);
    world.assert_gone("team/r", "Deleted");
    assert_eq!(world.engine.robots().len(), 0);
}

#[test]
fn a_final_answer_whose_record_fails_is_not_asked_for_again() {
    for error in [WriteError::Other("down".into()), WriteError::Conflict("changed".into())] {
        for code in [0, 100_004, 100_005] {
            let mut world = World::led();
            world.crowd("team/r", 1, json!({}));
            let (mut failures, refusal) = (0, error.clone());
            world.answering(move |_, _| Says::Code(code));
            world.failing(move |key, _, _| {
                failures += usize::from(key == "team/r-0000");
                (failures <= 20 && key == "team/r-0000").then(|| Fault::Refused(refusal.clone()))
            });
            world.delete("team/r-0000");
            world.run(20 * MINUTE);
            assert_eq!(world.calls.len(), 1);
            assert!(world.robots.is_empty());
            let times: Vec<_> = world.writes.iter().skip(2).map(|write| write.at).collect();
            assert_eq!(times.len(), 20 + 2, "twenty failures, the record, the finalizer");
            let waits: Vec<_> = times.windows(2).map(|pair| pair[1] - pair[0]).take(20).collect();
            for (n, wait) in waits.iter().enumerate() {
                let longest = (100 * MS * (1 << n.min(10))).min(30 * SECOND);
                let fits = *wait >= longest / 2 && *wait <= longest + world.write_takes;
                assert!(fits, "{wait:?} after failure {}", n + 1);
            }
        }
    }
}

#[test]
fn a_change_of_the_spec_tries_a_failed_write_again_at_once() {
    let mut world = World::led();
    world.crowd("team/r", 1, json!({}));
    world.failing(|_, _, _| Some(Fault::Refused(WriteError::Other("down".into()))));
    world.delete("team/r-0000");
    world.run(5 * MINUTE);
    world.healthy();
    world.edit("team/r-0000", json!({"spec": {"deletionPolicy": "Retain"}}));
    world.run(100 * MS);
    world.assert_gone("team/r-0000", "Deleted");
    assert_eq!(world.calls.len(), 1, "what is done is not undone by a policy");
}

#[test]
fn a_write_whose_reply_is_lost_costs_no_second_call() {
    let mut world = World::led();
    let keys = world.crowd("team/r", 30, json!({}));
    let mut n = 0;
    world.failing(move |name, _, _| {
        n += usize::from(name != "app");
        (name != "app" && n % 2 == 0).then_some(Fault::ReplyLost)
    });
    world.delete_all();
    world.run(MINUTE);
    for key in &keys {
        world.assert_gone(key, "Deleted");
        assert_eq!(world.calls_about(key), 1, "{key}");
    }
    assert_eq!(world.engine.robots().len(), 0);
}

#[test]
fn what_was_seen_while_a_write_was_under_way_counts_when_it_is_over() {
    let mut world = World::led();
    let keys = world.crowd("team/r", 1, json!({}));
    world.edit(&keys[0], json!({"spec": {"suspend": true}}));
    world.reply_takes = 3 * SECOND;
    world.delete(&keys[0]);
    world.run(SECOND);
    world.assert_waits(&keys[0], "Suspended");
    // The watch shows the change before the reply to that write comes, which is older than the change.
    world.edit(&keys[0], json!({"spec": {"suspend": false}}));
    world.reply_takes = Duration::ZERO;
    world.run(3 * SECOND);
    world.assert_gone(&keys[0], "Deleted");
}

#[test]
fn a_write_that_gets_through_ends_the_growing_of_the_waits() {
    let mut world = World::led();
    world.crowd("team/r", 1, json!({}));
    let (mut statuses, mut drops) = (0, 0);
    world.failing(move |_, change, _| {
        let tries = if matches!(change, Change::DropFinalizer(_)) { &mut drops } else { &mut statuses };
        *tries += 1;
        let failures = if matches!(change, Change::DropFinalizer(_)) { 1 } else { 8 };
        (*tries <= failures).then(|| Fault::Refused(WriteError::Other("down".into())))
    });
    world.delete_all();
    world.run(5 * MINUTE);
    assert!(world.robots.is_empty());
    let drops: Vec<_> =
        world.writes.iter().filter(|write| word(&write.change) == "drop").map(|write| write.at).collect();
    assert_eq!(drops.len(), 2);
    assert!(drops[1] - drops[0] <= 110 * MS, "{:?}", drops[1] - drops[0]);
}

#[test]
fn an_object_that_is_not_found_is_left_alone() {
    let mut world = World::led();
    world.crowd("team/r", 2, json!({}));
    world.delete("team/r-0000");
    world.run(20 * MS);
    // Gone by force, and the watch does not say so.
    world.force("team/r-0000", true);
    world.run(10 * MINUTE);
    assert_eq!(world.changes("team/r-0000"), ["hold", "status", "status"], "one write that did not find it");
    assert_eq!(world.calls.len(), 1);
    assert_eq!(world.engine.robots().len(), 2);
    world.list_robots();
    world.run(MINUTE);
    assert_eq!(world.engine.robots().len(), 1);
    // A new object of the same name is another one.
    world.robot("team/r-0000", json!({}));
    world.run(SECOND);
    world.delete("team/r-0000");
    world.run(SECOND);
    world.assert_gone("team/r-0000", "Deleted");
    assert_eq!(world.calls.len(), 2);
}

#[test]
fn an_object_that_was_not_found_and_shows_again_is_served_again() {
    let mut world = World::led();
    let keys = world.crowd("team/r", 1, json!({}));
    // An API server behind another one that has not heard of the object yet.
    world.failing(|_, _, _| Some(Fault::Refused(WriteError::NotFound)));
    world.delete_all();
    world.run(MINUTE);
    assert_eq!(world.changes(&keys[0]), ["hold", "status", "status"]);
    world.failing(|_, _, _| None);
    world.edit(&keys[0], json!({"metadata": {"labels": {"seen": "again"}}}));
    world.run(SECOND);
    world.assert_gone(&keys[0], "Deleted");
    assert_eq!(world.calls.len(), 1);
}

#[test]
fn a_name_that_is_used_again_is_another_robot() {
    let mut world = World::led();
    world.crowd("team/r", 1, json!({}));
    world.call_takes = 5 * SECOND;
    world.delete("team/r-0000");
    world.run(SECOND);
    // Gone by force while its call is under way, and there again; of all that the watch tells only the end.
    world.force("team/r-0000", true);
    world.robot("team/r-0000", json!({}));
    world.run(10 * SECOND);
    assert!(read(&world.robots["team/r-0000"]).accepted());
    assert_eq!(world.condition("team/r-0000", "RobotDeleted"), None, "the answer was not about this one");
    world.delete("team/r-0000");
    world.run(10 * SECOND);
    world.assert_gone("team/r-0000", "Deleted");
    assert_eq!(world.calls.len(), 2);
}

#[test]
fn the_end_of_an_object_is_not_the_end_of_another_of_its_name() {
    let mut world = World::led();
    world.robot("team/r", json!({}));
    world.run(SECOND);
    let before = read(&world.robots["team/r"]);
    world.force("team/r", true);
    world.robot("team/r", json!({}));
    world.run(SECOND);
    world.input(Input::RobotGone(before.key, before.uid));
    world.run(SECOND);
    assert_eq!(world.engine.robots().len(), 1);
    let now = read(&world.robots["team/r"]);
    world.input(Input::RobotGone(now.key, now.uid));
    world.run(SECOND);
    assert_eq!(world.engine.robots().len(), 0);
}

#[test]
fn answers_that_are_not_final_wait_longer_each_time_and_a_changed_spec_does_not_wait() {
    let mut world = World::led();
    let keys = world.crowd("team/r", 1, json!({}));
    world.answering(|_, _| Says::Code(100_001));
    world.delete_all();
    world.run(Duration::from_secs(3600));
    world.assert_waits(&keys[0], "InternalError");
    let times = world.called_by("app");
    for (n, pair) in times.windows(2).enumerate() {
        let longest = (SECOND * (1 << n.min(16))).min(5 * MINUTE);
        let wait = pair[1] - pair[0] - world.call_takes;
        assert!(
            wait >= 200 * MS && wait <= longest.max(200 * MS) + 20 * MS,
            "{wait:?} before attempt {}",
            n + 2
        );
    }
    assert!((15..60).contains(&times.len()), "{} attempts in an hour", times.len());
    let statuses = world.changes(&keys[0]).iter().filter(|change| **change == "status").count();
    assert_eq!(statuses, 1 + times.len(), "one for the acceptance and one for each answer");
    world.healthy();
    world.edit(&keys[0], json!({"spec": {"suspend": true}}));
    world.run(SECOND);
    world.assert_waits(&keys[0], "Suspended");
    world.edit(&keys[0], json!({"spec": {"suspend": false}}));
    world.run(200 * MS);
    world.assert_gone(&keys[0], "Deleted");
}

#[test]
fn what_only_a_person_can_mend_is_asked_again_after_an_hour() {
    for (code, reason, wait) in [
        (100_002, "InvalidParameter", 60 * MINUTE),
        (100_006, "PermissionDenied", 60 * MINUTE),
        (424_242, "UnknownErrorCode", MINUTE),
    ] {
        let mut world = World::led();
        let keys = world.crowd("team/r", 1, json!({}));
        world.answering(move |_, _| Says::Code(code));
        world.delete_all();
        world.run(wait.mul_f64(0.85));
        world.assert_waits(&keys[0], reason);
        assert_eq!(world.condition(&keys[0], "Stalled").unwrap().1, reason);
        assert_eq!(world.calls.len(), 1);
        world.run(wait.mul_f64(0.3));
        assert_eq!(world.calls.len(), 2);
    }
}

#[test]
fn retain_releases_a_waiting_deletion_at_once() {
    let mut world = World::led();
    let keys = world.crowd("team/r", 2, json!({}));
    world.answering(|_, _| Says::Fails(TroubleKind::Timeout));
    world.delete_all();
    world.run(5 * MINUTE);
    let calls = world.calls.len();
    world.secret("app-secret", Credentials::Missing);
    world.edit(&keys[0], json!({"spec": {"deletionPolicy": "Retain"}}));
    world.run(100 * MS);
    world.assert_gone(&keys[0], "Retained");
    world.assert_waits(&keys[1], "ApplicationNotReady");
    assert_eq!(world.calls.len(), calls);
}

#[test]
fn two_resources_of_one_robot_cost_one_call() {
    let same = |application: &str| json!({"roomId": "room", "memberAccount": "m", "applicationRef": {"name": application}});
    for (application, sdk_app_id, claimed) in
        [("app", 0, true), ("twin", 1_400_000_000, true), ("twin", 2, false)]
    {
        let mut world = World::led();
        if application == "twin" {
            world.application("twin", json!({"sdkAppId": sdk_app_id}));
        }
        world.robot("a/r", same("app"));
        world.robot("b/r", same(application));
        world.run(SECOND);
        world.delete("a/r");
        world.run(SECOND);
        world.assert_gone("a/r", if claimed { "StillClaimed" } else { "Deleted" });
        world.delete("b/r");
        world.run(SECOND);
        world.assert_gone("b/r", "Deleted");
        assert_eq!(world.calls.len(), if claimed { 1 } else { 2 }, "{application} of {sdk_app_id}");
    }
}

#[test]
fn a_resource_that_was_never_accepted_claims_nothing() {
    let mut world = World::led();
    world.configure("app", json!({"allowedNamespaces": {"selector": {"matchLabels": {"rtc": "yes"}}}}));
    world.namespace("yes", &[("rtc", "yes")], false);
    world.run(SECOND);
    let same = json!({"roomId": "room", "memberAccount": "m"});
    world.robot("yes/r", same.clone());
    world.robot_of("no/r", json!({"finalizers": [ROBOT_FINALIZER]}), same);
    world.run(SECOND);
    world.delete("yes/r");
    world.run(SECOND);
    world.assert_gone("yes/r", "Deleted");
}

#[test]
fn a_robot_that_is_claimed_again_releases_a_deletion_that_waits() {
    let mut world = World::led();
    let keys = world.crowd("team/r", 1, json!({"suspend": true}));
    world.delete_all();
    world.run(SECOND);
    world.assert_waits(&keys[0], "Suspended");
    world.robot("other/again", json!({"roomId": "room-r-0000", "memberAccount": "r-0000"}));
    world.run(SECOND);
    world.assert_gone(&keys[0], "StillClaimed");
    assert_eq!(world.calls.len(), 0);
}

#[test]
fn an_expired_signature_costs_one_more_call_and_no_word() {
    let mut world = World::led();
    let keys = world.crowd("team/r", 20, json!({}));
    let mut first = None;
    world.answering(move |call, _| {
        if call.signature == *first.get_or_insert(call.signature) { Says::Code(70001) } else { Says::Code(0) }
    });
    world.delete_all();
    world.run(5 * SECOND);
    for key in &keys {
        world.assert_gone(key, "Deleted");
        assert_eq!(world.changes(key).len(), 4, "{key}");
    }
    assert_eq!(world.calls.len(), 21, "only the first was signed with the old one");
    assert_eq!(world.calls[0].robot, world.calls[1].robot, "it goes before the others");
    assert_eq!(world.application_ready("app"), ("True".into(), "Verified".into()));
}

// Additions.

#[test]
fn a_robot_that_is_created_is_added_and_later_deleted() {
    let mut world = World::led();
    let keys = world.crowd("team/r", 3, json!({"creationPolicy": "Create"}));
    for key in &keys {
        assert_eq!(world.condition(key, "Ready"), Some(("True".into(), "Added".into())));
        assert_eq!(world.changes(key), ["hold", "status", "status"]);
        assert_eq!(world.robots[key]["status"]["lastRequest"]["operation"], "add_robot");
    }
    world.restart();
    world.run(MINUTE);
    assert_eq!(world.calls.len(), 3, "not added again");
    world.delete_all();
    world.run(SECOND);
    let operations: Vec<_> = world.calls.iter().map(|call| call.operation).collect();
    assert_eq!(operations, [[Operation::AddRobot; 3], [Operation::DeleteRobot; 3]].concat());
    assert!(world.robots.is_empty());
}

#[test]
fn a_robot_that_was_never_added_is_not_deleted() {
    let mut world = World::led();
    world.configure("app", json!({"suspend": true}));
    let keys = world.crowd("team/r", 1, json!({"creationPolicy": "Create"}));
    world.delete_all();
    world.run(SECOND);
    world.assert_gone(&keys[0], "NotInRoom");
    assert_eq!(world.calls.len(), 0);
}

/// What one policy knows does not hold under the other: the robot may have come by other means.
#[test]
fn a_robot_whose_creation_policy_was_changed_is_deleted_in_any_case() {
    for policies in
        [["Adopt", "Create", "Create"], ["Create", "Adopt", "Create"], ["Create", "Adopt", "Adopt"]]
    {
        let mut world = World::led();
        world.configure("app", json!({"suspend": true}));
        let keys = world.crowd("team/r", 1, json!({"creationPolicy": policies[0]}));
        for policy in &policies[1..] {
            world.edit(&keys[0], json!({"spec": {"creationPolicy": policy}}));
            world.run(SECOND);
        }
        world.delete_all();
        world.run(SECOND);
        world.assert_waits(&keys[0], "Suspended");
        world.configure("app", json!({"suspend": false}));
        world.run(SECOND);
        world.assert_gone(&keys[0], "Deleted");
        assert_eq!(world.calls.len(), 1, "{policies:?}");
    }
}

/// A robot that is deleted while `add_robot` is under way, which is answered `code` then.
fn deleted_while_added(code: i64) -> World {
    let mut world = World::led();
    world.call_takes = 2 * SECOND;
    world.answering(move |call, _| match call.operation {
        Operation::AddRobot => Says::Code(code),
        Operation::DeleteRobot => Says::Code(0),
    });
    world.robot("team/r", json!({"creationPolicy": "Create"}));
    world.run(SECOND);
    world.delete("team/r");
    world.run(10 * SECOND);
    world
}

#[test]
fn a_deletion_that_comes_while_the_addition_is_under_way_follows_it() {
    for code in [0, 60011, 100_001] {
        let world = deleted_while_added(code);
        world.assert_gone("team/r", "Deleted");
        let operations: Vec<_> = world.calls.iter().map(|call| call.operation).collect();
        assert_eq!(operations, [Operation::AddRobot, Operation::DeleteRobot], "{code}");
    }
}

/// The change of the spec was seen before the answer came: the answer's own wait, an hour after 100002, must not hold
/// the deletion.
#[test]
fn a_deletion_does_not_wait_for_what_the_addition_would_have_waited_for() {
    for code in [100_002, 100_004, 100_700, 424_242] {
        deleted_while_added(code).assert_gone("team/r", "Deleted");
    }
}

/// A lost reply: the room engine may still carry the addition out, for 3 s by its own account, and a deletion that
/// overtook it would find nobody there.
#[test]
fn a_deletion_follows_a_lost_addition_when_that_can_do_nothing_more() {
    for (says, waits) in [
        (TroubleKind::Broken, true),
        (TroubleKind::Timeout, true),
        (TroubleKind::Http, true),
        (TroubleKind::Refused, false),
        (TroubleKind::Name, false),
    ] {
        for deleted_meanwhile in [true, false] {
            let mut world = World::led();
            // What the process before may have sent is over.
            world.run(5 * SECOND);
            world.call_takes = 500 * MS;
            world.answering(move |call, _| match call.operation {
                Operation::AddRobot => Says::Fails(says),
                Operation::DeleteRobot => Says::Code(0),
            });
            world.robot("team/r", json!({"creationPolicy": "Create"}));
            world.run(if deleted_meanwhile { 300 * MS } else { 600 * MS });
            assert_eq!(world.calls.len(), 1);
            world.delete("team/r");
            world.run(20 * SECOND);
            world.assert_gone("team/r", "Deleted");
            assert_eq!(world.calls.len(), 2);
            let gap = world.calls[1].at - world.calls[0].at - world.call_takes;
            let expected = if waits { 5 * SECOND..6 * SECOND } else { Duration::ZERO..SECOND };
            assert!(expected.contains(&gap), "{says:?}: {gap:?}");
        }
    }
}

/// The same with a second addition that was answered meanwhile: the first one may still come.
#[test]
fn a_lost_addition_is_waited_for_though_a_later_one_was_answered() {
    let mut world = World::led();
    let mut first = true;
    world.answering(move |_, _| {
        if std::mem::take(&mut first) { Says::Fails(TroubleKind::Broken) } else { Says::Code(0) }
    });
    world.robot("team/r", json!({"creationPolicy": "Create"}));
    world.run(2 * SECOND);
    assert_eq!(world.condition("team/r", "Ready"), Some(("True".into(), "Added".into())));
    world.delete("team/r");
    world.run(20 * SECOND);
    world.assert_gone("team/r", "Deleted");
    let operations: Vec<_> = world.calls.iter().map(|call| call.operation).collect();
    assert_eq!(operations, [Operation::AddRobot, Operation::AddRobot, Operation::DeleteRobot]);
    assert!(world.calls[2].at >= world.calls[0].at + 5 * SECOND);
}

/// Killed with an addition under way: the next process gives it the same time, and no other robot waits for that.
#[test]
fn after_a_restart_a_deletion_follows_an_addition_that_may_be_under_way() {
    let mut world = World::led();
    let added = world.crowd("team/added", 1, json!({"creationPolicy": "Create"}));
    let adopted = world.crowd("team/adopted", 1, json!({}));
    world.call_takes = 2 * SECOND;
    world.robot("team/r", json!({"creationPolicy": "Create"}));
    world.run(SECOND);
    assert_eq!(world.calls_about("team/r"), 1);
    world.delete_all();
    world.restart();
    let began = world.now;
    world.run(20 * SECOND);
    for key in [&added[0], &adopted[0], "team/r"] {
        world.assert_gone(key, "Deleted");
        let last = world.calls.iter().rfind(|call| call.robot == *key).unwrap();
        assert_eq!(last.operation, Operation::DeleteRobot);
        assert_eq!(last.at >= began + 5 * SECOND, key == "team/r", "{key} after {:?}", last.at - began);
    }
    assert_eq!(world.calls.len(), 5);
}

/// What is stored tells the next process that nobody can have called.
#[test]
fn a_robot_that_was_never_added_is_not_deleted_by_another_process_either() {
    let mut world = World::led();
    world.configure("app", json!({"suspend": true}));
    let keys = world.crowd("team/r", 1, json!({"creationPolicy": "Create"}));
    world.delete_all();
    world.restart();
    world.run(10 * SECOND);
    world.assert_gone(&keys[0], "NotInRoom");
    // Stored with its finalizer, and deleted while nobody was there to accept it.
    let finalizer = json!({"finalizers": [ROBOT_FINALIZER]});
    world.configure("app", json!({"suspend": false}));
    world.engine = fresh(64, 1);
    world.robot_of("team/early", finalizer, json!({"creationPolicy": "Create"}));
    world.delete("team/early");
    world.restart();
    world.run(10 * SECOND);
    world.assert_gone("team/early", "NotInRoom");
    assert_eq!(world.calls.len(), 0);
}

/// A robot whose addition is in line again, at a pace that has become slow: its deletion has another pace.
#[test]
fn a_deletion_does_not_wait_in_the_line_of_additions() {
    let mut world = World::led();
    world.answering(|call, _| match call.operation {
        Operation::AddRobot => Says::Code(60011),
        Operation::DeleteRobot => Says::Code(0),
    });
    let keys = world.crowd("team/r", 100, json!({"creationPolicy": "Create"}));
    world.run(MINUTE);
    world.delete_all();
    world.run(5 * SECOND);
    assert!(world.robots.is_empty(), "{} of {} left", world.robots.len(), keys.len());
}

/// Additions that nobody answers fill their own places only, of calls and of writes.
#[test]
fn additions_that_hang_take_no_place_of_a_deletion() {
    let mut world = World::led();
    let old = world.crowd("team/old", 20, json!({}));
    world.delete(&old[0]);
    world.run(SECOND);
    world.answering(|call, _| match call.operation {
        Operation::AddRobot => Says::Hangs,
        Operation::DeleteRobot => Says::Code(0),
    });
    for n in 0..1000 {
        world.robot(&format!("team/new-{n}"), json!({"creationPolicy": "Create"}));
    }
    world.run(20 * SECOND);
    let additions = world.calls.iter().filter(|call| call.operation == Operation::AddRobot).count();
    assert_eq!(additions, 256, "as many as may be under way at once");
    for key in &old[1..] {
        world.delete(key);
    }
    world.run(SECOND);
    for key in &old {
        world.assert_gone(key, "Deleted");
    }
    // And with an application that has to prove itself first.
    world.restart();
    world.robot("team/late", json!({}));
    world.run(SECOND);
    world.delete("team/late");
    world.run(SECOND);
    world.assert_gone("team/late", "Deleted");
}

#[test]
fn records_of_additions_leave_places_for_what_ends_a_deletion() {
    let mut world = World::led_with(8);
    let old = world.crowd("team/old", 1, json!({}));
    world.answering(|_, _| Says::Code(0));
    world.call_takes = 3 * SECOND;
    for n in 0..200 {
        world.robot(&format!("team/new-{n}"), json!({"creationPolicy": "Create"}));
    }
    world.run(3 * SECOND);
    // The API server hardly moves while the answers come in.
    world.write_takes = 10 * SECOND;
    world.run(2 * SECOND);
    let written = world.writes.len();
    world.call_takes = 50 * MS;
    world.delete(&old[0]);
    world.run(500 * MS);
    let writes: Vec<_> = world.writes[written..].iter().map(|write| write.name.clone()).collect();
    assert_eq!(writes, old, "a place was free for it");
}

#[test]
fn additions_wait_for_their_room_and_never_slow_deletions() {
    let mut world = World::led();
    world.crowd("team/old", 100, json!({}));
    world.answering(|call, _| match call.operation {
        Operation::AddRobot => Says::Code(100_004),
        Operation::DeleteRobot => Says::Code(0),
    });
    for n in 0..100 {
        world.robot(&format!("team/new-{n}"), json!({"creationPolicy": "Create"}));
    }
    world.run(500 * MS);
    for n in 0..100 {
        world.delete(&format!("team/old-{n:04}"));
    }
    world.run(800 * MS);
    assert!(world.robots.keys().all(|key| key.starts_with("team/new")), "the deletions are over");
    world.run(50 * SECOND);
    let additions = world.calls.iter().filter(|call| call.operation == Operation::AddRobot).count();
    assert_eq!(additions, 100, "the next attempt takes minutes");
    assert_eq!(world.condition("team/new-7", "Ready"), Some(("False".into(), "RoomNotFound".into())));
    assert_eq!(world.condition("team/new-7", "Stalled"), None);
    world.healthy();
    world.run(30 * SECOND);
    assert_eq!(world.condition("team/new-7", "Ready"), Some(("True".into(), "Added".into())));
}

// Applications.

#[test]
fn an_application_is_held_before_it_takes_a_robot_and_let_go_a_second_after_the_last() {
    let mut world = World::led();
    assert_eq!(world.application_changes("app"), ["status"], "nobody refers to it");
    world.robot("team/r", json!({}));
    world.run(SECOND);
    assert_eq!(world.applications["app"]["metadata"]["finalizers"], json!([APPLICATION_FINALIZER]));
    assert_eq!(world.application_changes("app")[1], "hold");
    assert!(world.application_writes[1].at < world.writes[0].at, "its finalizer comes first");
    world.delete("team/r");
    let mut last = world.now;
    while !world.engine.robots().is_empty() {
        world.run(MS);
        last = world.now;
    }
    world.run(990 * MS);
    assert!(!world.application_changes("app").contains(&"drop"));
    world.run(20 * MS);
    let dropped = world.application_writes.iter().find(|write| word(&write.change) == "drop").unwrap();
    assert!(dropped.at >= last + 990 * MS && dropped.at <= last + SECOND);
    world.run(MINUTE);
    assert_eq!(world.applications["app"]["metadata"].get("finalizers"), None);
    assert_eq!(world.applications["app"]["status"]["robots"], 0);
}

#[test]
fn an_application_in_use_gets_its_finalizer_back() {
    let mut world = World::led();
    world.crowd("team/r", 1, json!({}));
    let version = world.next_version();
    let object = world.applications.get_mut("app").unwrap();
    object["metadata"].as_object_mut().unwrap().remove("finalizers");
    renew(object, version, false);
    world.show_application("app");
    world.run(SECOND);
    assert_eq!(world.applications["app"]["metadata"]["finalizers"], json!([APPLICATION_FINALIZER]));
}

/// What only others use is theirs to tell about, and theirs to let go of.
#[test]
fn an_application_that_only_other_shards_use_is_left_alone() {
    let mut world = World::led_as(Some("0a1b2c3d"));
    let others = json!([APPLICATION_FINALIZER, "roomrobot.dev/in-use-ffffffff"]);
    world.applications.get_mut("app").unwrap()["metadata"]["finalizers"] = others;
    world.show_application("app");
    world.run(10 * MINUTE);
    assert!(world.application_writes.is_empty());
    assert_eq!(world.engine.next_due(world.now), None);
}

#[test]
fn each_shard_holds_an_application_by_a_finalizer_of_its_own() {
    let mut world = World::led_as(Some("0a1b2c3d"));
    let others = json!([APPLICATION_FINALIZER, "roomrobot.dev/in-use-ffffffff"]);
    world.applications.get_mut("app").unwrap()["metadata"]["finalizers"] = others.clone();
    world.show_application("app");
    world.crowd("team/r", 1, json!({}));
    let finalizers = |world: &World| world.applications["app"]["metadata"]["finalizers"].clone();
    let all =
        json!([APPLICATION_FINALIZER, "roomrobot.dev/in-use-ffffffff", "roomrobot.dev/in-use-0a1b2c3d"]);
    assert_eq!(finalizers(&world), all);
    world.delete_application("app");
    world.delete_all();
    world.run(MINUTE);
    assert!(world.robots.is_empty());
    assert_eq!(finalizers(&world), others);
}

#[test]
fn an_application_between_two_robots_is_not_let_go() {
    let mut world = World::led();
    for n in 0..5 {
        world.robot(&format!("team/r-{n}"), json!({}));
        world.run(SECOND);
        world.delete(&format!("team/r-{n}"));
        world.run(900 * MS);
    }
    assert_eq!(world.application_changes("app").iter().filter(|change| **change != "status").count(), 1);
    // Finalizers of others are left as they are.
    let mut shared = World::new();
    shared.applications.get_mut("app").unwrap()["metadata"]["finalizers"] = json!(["example.com/a"]);
    shared.coming.clear();
    shared.lead();
    shared.robot("team/r", json!({}));
    shared.run(SECOND);
    assert_eq!(
        shared.applications["app"]["metadata"]["finalizers"],
        json!(["example.com/a", APPLICATION_FINALIZER])
    );
    shared.delete("team/r");
    shared.run(MINUTE);
    assert_eq!(shared.applications["app"]["metadata"]["finalizers"], json!(["example.com/a"]));
}

#[test]
fn an_application_that_is_being_deleted_serves_deletions_and_takes_no_new_robot() {
    let mut world = World::led();
    world.crowd("team/r", 3, json!({}));
    world.delete_application("app");
    world.robot("team/late", json!({}));
    world.run(MINUTE);
    assert_eq!(
        world.condition("team/late", "Accepted"),
        Some(("False".into(), "ApplicationNotFound".into()))
    );
    let told = text(&condition(&world.applications["app"], "Ready").unwrap()["message"]);
    assert!(told.contains("is being deleted and waits for 4 RoomRobots, one of them team/"), "{told}");
    world.delete_all();
    world.run(SECOND);
    assert!(world.robots.is_empty());
    assert_eq!(world.calls.len(), 3, "the one that was never accepted goes without a call");
    assert!(world.applications.is_empty(), "it goes with the last of them, at once");
    assert!(world.watched.is_empty(), "and its Secret is not watched any more");
}

#[test]
fn no_finalizer_is_put_on_an_application_that_is_being_deleted() {
    let mut world = World::led();
    world.applications.get_mut("app").unwrap()["metadata"]["finalizers"] = json!(["example.com/a"]);
    world.delete_application("app");
    world.robot("team/r", json!({}));
    world.run(MINUTE);
    assert!(!world.application_changes("app").contains(&"hold"));
    assert_eq!(world.condition("team/r", "Accepted"), Some(("False".into(), "ApplicationNotFound".into())));
}

#[test]
fn an_application_that_is_missing_is_waited_for() {
    let mut world = World::led();
    world.robot("team/r", json!({"applicationRef": {"name": "later"}}));
    world.run(SECOND);
    assert_eq!(world.condition("team/r", "Accepted"), Some(("False".into(), "ApplicationNotFound".into())));
    world.application("later", json!({}));
    world.run(SECOND);
    assert_eq!(world.condition("team/r", "Ready"), Some(("True".into(), "Adopted".into())));
    // Taken away by force while deletions are under way.
    let keys = world.crowd("team/more", 50, json!({"applicationRef": {"name": "later"}, "suspend": false}));
    world.answering(|_, _| Says::Fails(TroubleKind::Refused));
    world.delete_all();
    world.run(SECOND);
    world.force_application("later");
    world.run(20 * SECOND);
    for key in &keys {
        world.assert_waits(key, "ApplicationNotReady");
    }
    let calls = world.calls.len();
    world.run(MINUTE);
    assert_eq!(world.calls.len(), calls);
    world.healthy();
    world.application("later", json!({}));
    world.run(5 * SECOND);
    assert!(world.robots.is_empty());
    assert_eq!(world.calls.len(), calls + 51);
}

/// An SDKAppID is mended by creating the application again; a late 70009 about the one before must not stop it.
#[test]
fn a_late_answer_about_an_application_before_says_nothing_about_the_one_that_took_its_name() {
    let mut world = World::led();
    world.crowd("team/r", 2, json!({}));
    world.call_takes = 5 * SECOND;
    world.answering(|call, _| if call.caller.sdk_app_id == 2 { Says::Code(0) } else { Says::Code(70009) });
    world.delete("team/r-0000");
    world.run(SECOND);
    world.force_application("app");
    world.run(SECOND);
    world.application("app", json!({"sdkAppId": 2}));
    world.run(SECOND);
    world.delete("team/r-0001");
    // The first answer comes in while the second call is out.
    world.run(3 * SECOND);
    assert_eq!(world.application_ready("app"), ("True".into(), "CredentialsLoaded".into()));
    world.run(20 * SECOND);
    assert!(world.robots.is_empty());
    assert_eq!(world.calls.len(), 3);
}

#[test]
fn namespaces_are_admitted_when_their_labels_say_so() {
    let mut world = World::led();
    world.configure("app", json!({"allowedNamespaces": {"selector": {"matchLabels": {"rtc": "yes"}}}}));
    world.namespace("yes", &[("rtc", "yes")], false);
    world.namespace("no", &[], false);
    world.run(SECOND);
    world.robot("yes/r", json!({}));
    world.robot("no/r", json!({}));
    world.run(SECOND);
    assert_eq!(world.condition("yes/r", "Ready"), Some(("True".into(), "Adopted".into())));
    assert_eq!(world.condition("no/r", "Accepted"), Some(("False".into(), "NamespaceNotAllowed".into())));
    world.namespace("no", &[("rtc", "yes")], false);
    world.run(SECOND);
    assert_eq!(world.condition("no/r", "Ready"), Some(("True".into(), "Adopted".into())));
    // Charge is not given back.
    world.namespace("no", &[], false);
    world.configure("app", json!({"allowedNamespaces": {"selector": {"matchLabels": {"rtc": "never"}}}}));
    world.run(SECOND);
    world.delete_all();
    world.run(SECOND);
    assert_eq!(world.calls.len(), 2);
}

#[test]
fn a_robot_may_be_seen_before_its_namespace_is() {
    let mut world = World::led();
    world.configure("app", json!({"allowedNamespaces": {"selector": {"matchLabels": {"rtc": "yes"}}}}));
    world.run(SECOND);
    world.watch_takes = 5 * SECOND;
    world.namespace("slow", &[("rtc", "yes")], false);
    world.watch_takes = 8 * MS;
    world.robot("slow/r", json!({}));
    world.run(4 * SECOND);
    assert_eq!(world.changes("slow/r"), [""; 0], "neither accepted nor refused");
    world.run(2 * SECOND);
    assert_eq!(world.changes("slow/r"), ["hold", "status"]);
}

#[test]
fn secrets_are_watched_by_name_for_as_long_as_somebody_uses_them() {
    let mut world = World::led();
    world.application("twin", json!({}));
    world
        .application("other", json!({"sdkAppId": 2, "credentials": {"secretRef": {"name": "other-secret"}}}));
    world.run(SECOND);
    assert_eq!(world.secret_watches, ["app-secret", "other-secret"]);
    assert_eq!(world.application_ready("other"), ("False".into(), "SecretNotFound".into()));
    world.secret("other-secret", Credentials::Invalid("it is odd".into()));
    world.run(SECOND);
    assert_eq!(world.application_ready("other"), ("False".into(), "SecretInvalid".into()));
    world.secret("other-secret", key("k"));
    world.run(SECOND);
    assert_eq!(world.application_ready("other"), ("True".into(), "CredentialsLoaded".into()));
    world.configure("other", json!({"credentials": {"secretRef": {"name": "app-secret"}}}));
    world.run(SECOND);
    assert_eq!(world.watched, BTreeSet::from(["app-secret".to_owned()]));
    assert_eq!(world.application_ready("other"), ("True".into(), "CredentialsLoaded".into()));
    for name in ["app", "twin"] {
        world.delete_application(name);
    }
    world.run(SECOND);
    assert!(world.watched.contains("app-secret"));
    world.delete_application("other");
    world.run(SECOND);
    assert!(world.watched.is_empty());
}

#[test]
fn counts_are_told_at_most_every_half_minute() {
    let mut world = World::led();
    for n in 0..180 {
        world.robot(&format!("team/r-{n}"), json!({}));
        world.run(SECOND);
    }
    world.run(MINUTE);
    let counts: Vec<_> = world
        .application_writes
        .iter()
        .filter_map(|write| match &write.change {
            Change::Status(status) => Some((write.at, status["robots"].as_i64().unwrap())),
            _ => None,
        })
        .collect();
    assert!((6..=9).contains(&counts.len()), "{counts:?}");
    for pair in counts.windows(2) {
        assert!(pair[1].0 - pair[0].0 >= 30 * SECOND && pair[1].1 > pair[0].1, "{pair:?}");
    }
    assert_eq!(world.applications["app"]["status"]["robots"], 180);
    world.answering(|_, _| Says::Fails(TroubleKind::Timeout));
    world.delete_all();
    world.run(MINUTE);
    assert_eq!(world.applications["app"]["status"]["deleting"], 180);
}

/// Another writer insists on `status` of the application for a minute; how often was it written to?
fn writes_against(world: &mut World, status: &Value) -> usize {
    let before = world.application_writes.len();
    for _ in 0..600 {
        let version = world.version + 1;
        let object = world.applications.get_mut("app").unwrap();
        let was = object["status"].clone();
        merge(&mut object["status"], status);
        if object["status"] != was {
            renew(object, version, false);
            world.version = version;
            world.show_application("app");
        }
        world.run(100 * MS);
    }
    world.application_writes.len() - before
}

/// With shards two operators may each have robots of one application, and neither counts those of the other.
#[test]
fn two_who_count_differently_do_not_answer_each_other_without_end() {
    for shard in [None, Some("0a1b2c3d")] {
        let mut world = World::led_as(shard);
        world.crowd("team/r", 1, json!({}));
        let writes = writes_against(&mut world, &json!({"robots": 20}));
        assert!(writes <= 3, "{writes} writes in a minute, shard {shard:?}");
    }
}

// A defect once, and kept out by this: with shards each operator knows only its own calls. One has Verified the credentials, the other has
// made no call yet, and each writes its own `Ready` over the other's as soon as the watch shows it, without end. The
// same goes for CredentialsRejected against Verified after a probe. A Ready that differs should be written over at most
// once in each `COARSE` unless this process has learnt something since it was last written.
#[test]
fn two_who_know_differently_do_not_answer_each_other_without_end() {
    let mut world = World::led_as(Some("0a1b2c3d"));
    world.crowd("team/r", 2, json!({}));
    assert_eq!(world.application_ready("app"), ("True".into(), "CredentialsLoaded".into()));
    let other = world.applications["app"]["status"]["conditions"].clone();
    world.delete("team/r-0000");
    world.run(MINUTE);
    assert_eq!(world.application_ready("app"), ("True".into(), "Verified".into()));
    let writes = writes_against(&mut world, &json!({"conditions": other}));
    assert!(writes <= 3, "{writes} writes in a minute");
}

#[test]
fn deletions_that_wait_for_a_person_or_long_show_on_the_application() {
    let mut world = World::led();
    let keys = world.crowd("team/r", 3, json!({}));
    world.answering(|_, _| Says::Code(100_001));
    world.delete("team/r-0000");
    world.run(4 * MINUTE);
    assert_eq!(world.application_ready("app"), ("True".into(), "Verified".into()));
    world.run(2 * MINUTE);
    assert_eq!(world.application_ready("app"), ("False".into(), "DeletionsStalled".into()));
    world.edit(&keys[1], json!({"spec": {"suspend": true}}));
    world.delete(&keys[1]);
    world.run(MINUTE);
    let told = text(&condition(&world.applications["app"], "Ready").unwrap()["message"]);
    assert!(told.contains("The deletion of RoomRobot team/r-000") && told.contains("and 1 more"), "{told}");
    world.healthy();
    world.edit(&keys[1], json!({"spec": {"suspend": false}}));
    world.run(10 * MINUTE);
    assert_eq!(world.application_ready("app"), ("True".into(), "Verified".into()));
    assert_eq!(world.robots.len(), 1);
}

/// There is nothing left to write, and so no retry that would be due for ever.
#[test]
fn an_application_whose_write_was_stored_though_its_reply_was_lost_is_at_rest() {
    let mut world = World::new();
    let mut lost = false;
    world.failing(move |name, _, _| {
        (name == "app" && !std::mem::replace(&mut lost, true)).then_some(Fault::ReplyLost)
    });
    world.lead();
    world.run(10 * MINUTE);
    assert_eq!(world.application_ready("app"), ("True".into(), "CredentialsLoaded".into()));
    assert_eq!(world.application_writes.len(), 1);
}

#[test]
fn writes_to_an_application_that_fail_are_tried_again() {
    let mut world = World::led();
    let mut failures = 0;
    world.failing(move |name, _, _| {
        failures += usize::from(name == "app");
        (name == "app" && failures <= 5).then(|| Fault::Refused(WriteError::Other("down".into())))
    });
    world.robot("team/r", json!({}));
    world.run(10 * SECOND);
    assert_eq!(world.applications["app"]["metadata"]["finalizers"], json!([APPLICATION_FINALIZER]));
    assert!(read(&world.robots["team/r"]).accepted());
    let tries = world.application_changes("app").iter().filter(|change| **change == "hold").count();
    assert_eq!(tries, 6);
}

// The breaker.

#[test]
fn a_deletion_goes_before_an_addition_where_only_one_may_go() {
    let mut world = World::led();
    world.crowd("team/old", 5, json!({}));
    world.answering(|_, _| Says::Hangs);
    world.watch_takes = Duration::from_secs(3600);
    for n in 0..5 {
        world.robot(&format!("team/new-{n}"), json!({"creationPolicy": "Create"}));
        world.delete(&format!("team/old-000{n}"));
    }
    world.watch_takes = 8 * MS;
    world.restart();
    world.run(5 * SECOND);
    let operations: Vec<_> = world.calls.iter().map(|call| call.operation).collect();
    assert_eq!(operations, [Operation::DeleteRobot]);
}

#[test]
fn a_refused_application_does_not_stop_another_of_its_sdk_app_id() {
    let mut world = World::led();
    world.secret("other-secret", user_sig("wrong"));
    world.application("other", json!({"credentials": {"secretRef": {"name": "other-secret"}}}));
    world.run(SECOND);
    world.crowd("team/a", 100, json!({}));
    world.crowd("team/b", 100, json!({"applicationRef": {"name": "other"}}));
    world.answering(|call, _| match call.caller.user_sig.expose() {
        "wrong" => Says::Code(70009),
        _ => Says::Code(0),
    });
    world.delete_all();
    world.run(2 * SECOND);
    assert_eq!((world.called_by("app").len(), world.called_by("other").len()), (100, 1));
    assert_eq!(world.robots.len(), 100);
}

#[test]
fn a_deletion_waits_for_its_applications_secret_and_goes_on_with_it() {
    let mut world = World::led();
    world.secret("app-secret", Credentials::Missing);
    let keys = world.crowd("team/r", 20, json!({}));
    world.delete_all();
    world.run(MINUTE);
    for key in &keys {
        world.assert_waits(key, "ApplicationNotReady");
        assert_eq!(world.changes(key).len(), 3, "{key} says so once");
    }
    world.secret("app-secret", key("a key"));
    world.run(SECOND);
    assert!(world.robots.is_empty());
    assert_eq!(world.calls.len(), 20);
}

#[test]
fn a_wrong_key_costs_a_call_a_minute_and_a_word_to_each_robot() {
    let mut world = World::new();
    world.secret("app-secret", user_sig("wrong"));
    world.lead();
    let keys = world.crowd("team/r", 500, json!({}));
    world.answering(|call, _| match call.caller.user_sig.expose() {
        "right" => Says::Code(0),
        _ => Says::Code(70009),
    });
    world.delete_all();
    let begun = world.now;
    world.run(MINUTE);
    assert!((1..=3).contains(&world.calls.len()), "{} calls in the first minute", world.calls.len());
    for key in &keys {
        world.assert_waits(key, "CredentialsRejected");
        assert_eq!(world.changes(key), ["hold", "status", "status"], "{key}");
    }
    let warnings = world.events.iter().filter(|event| event.warning && event.kind == "RoomRobot").count();
    assert!((1..=20).contains(&warnings), "{warnings} Events");
    assert_eq!(world.application_ready("app"), ("False".into(), "CredentialsRejected".into()));
    world.run(3 * MINUTE);
    let probes: Vec<_> = world.calls.iter().map(|call| (call.at - begun).as_secs()).collect();
    assert_eq!(probes, [0, 60, 120, 180]);
    let probed: BTreeSet<_> = world.calls[1..].iter().map(|call| call.robot.clone()).collect();
    assert_eq!(probed.len(), 3, "another robot each time: the trouble could be one robot's");
    let before = world.calls.len();
    world.secret("app-secret", user_sig("right"));
    world.run(3 * SECOND);
    assert_eq!(world.calls.len(), before + 500);
    assert!(most_in_a_second(&world.called_by("app")) <= 200);
    world.run(MINUTE);
    assert!(world.robots.is_empty());
    assert_eq!(world.application_ready("app"), ("True".into(), "Verified".into()));
}

#[test]
fn what_a_call_teaches_shows_at_once_on_the_application_and_on_its_robots() {
    for (code, ready) in [(0, ("True", "Verified")), (70009, ("False", "CredentialsRejected"))] {
        let mut world = World::led();
        world.crowd("team/r", 1, json!({}));
        world.answering(move |_, _| Says::Code(code));
        world.delete_all();
        world.run(100 * MS);
        assert_eq!(world.application_ready("app"), (ready.0.into(), ready.1.into()));
    }
    // Also where the application itself cannot be written to.
    let mut world = World::led();
    let keys = world.crowd("team/r", 20, json!({}));
    world.answering(|call, _| match call.caller.user_sig.expose() {
        "right" => Says::Code(0),
        _ => Says::Code(70009),
    });
    world
        .failing(|name, _, _| (name == "app").then(|| Fault::Refused(WriteError::Other("forbidden".into()))));
    world.delete_all();
    world.run(100 * MS);
    for key in &keys {
        world.assert_waits(key, "CredentialsRejected");
    }
    world.secret("app-secret", user_sig("right"));
    world.run(SECOND);
    assert!(world.robots.is_empty());
}

#[test]
fn a_probe_that_is_accepted_brings_all_back() {
    for code in [60010, 60020] {
        let mut world = World::led();
        world.crowd("team/r", 100, json!({}));
        world.answering(move |_, now| if now < 5 * MINUTE { Says::Code(code) } else { Says::Code(0) });
        world.delete_all();
        world.run(4 * MINUTE);
        assert_eq!(world.robots.len(), 100);
        assert!(world.calls.len() <= 5);
        world.run(2 * MINUTE);
        assert!(world.robots.is_empty());
    }
}

#[test]
fn an_application_that_is_refused_is_looked_at_by_additions_too() {
    let mut world = World::led();
    world.answering(|_, now| if now < 5 * MINUTE { Says::Code(60010) } else { Says::Code(0) });
    for n in 0..20 {
        world.robot(&format!("team/r-{n}"), json!({"creationPolicy": "Create"}));
    }
    world.run(4 * MINUTE);
    assert!((2..=5).contains(&world.calls.len()), "{}", world.calls.len());
    assert_eq!(world.condition("team/r-0", "Ready"), Some(("False".into(), "PermissionDenied".into())));
    world.run(3 * MINUTE);
    for n in 0..20 {
        assert_eq!(world.condition(&format!("team/r-{n}"), "Ready"), Some(("True".into(), "Added".into())));
    }
}

#[test]
fn a_refused_application_without_a_waiting_robot_is_at_rest() {
    let mut world = World::led();
    world.crowd("team/r", 1, json!({}));
    world.answering(|_, _| Says::Code(70009));
    world.delete_all();
    world.run(SECOND);
    world.edit("team/r-0000", json!({"spec": {"deletionPolicy": "Retain"}}));
    world.run(5 * MINUTE);
    assert_eq!(world.calls.len(), 1);
    assert_eq!(world.engine.next_due(world.now), None);
    // The next robot is the next probe.
    world.healthy();
    world.crowd("team/s", 1, json!({}));
    world.delete_all();
    world.run(2 * MINUTE);
    assert!(world.robots.is_empty());
    assert_eq!(world.application_ready("app"), ("True".into(), "Verified".into()));
}

/// It is put back in line, from which nothing is taken while the application is refused: the next probe must find it.
#[test]
fn a_probe_whose_signature_has_expired_is_not_the_last_one() {
    let mut world = World::led();
    world.crowd("team/r", 1, json!({}));
    let mut codes = vec![0, 70001, 60010];
    world.answering(move |_, _| Says::Code(codes.pop().unwrap_or_default()));
    world.delete_all();
    world.run(5 * MINUTE);
    assert!(world.robots.is_empty(), "{} calls and then none", world.calls.len());
}

#[test]
fn too_many_bad_signatures_hold_the_right_key_off_for_a_minute() {
    let mut world = World::new();
    world.secret("app-secret", user_sig("wrong"));
    world.lead();
    world.crowd("team/r", 5, json!({}));
    world.answering(|call, _| match call.caller.user_sig.expose() {
        "right" => Says::Code(0),
        _ => Says::Code(70050),
    });
    world.delete_all();
    world.run(5 * SECOND);
    world.secret("app-secret", user_sig("right"));
    world.run(50 * SECOND);
    assert_eq!(world.calls.len(), 1);
    // Nothing else happens that would wake it.
    world.run(10 * SECOND);
    assert!(world.robots.is_empty());
    assert_eq!(world.calls.len(), 6);
}

#[test]
fn a_dead_endpoint_shows_on_every_robot_and_is_tried_again_until_it_lives() {
    let mut world = World::led();
    let keys = world.crowd("team/r", 100, json!({}));
    world.call_takes = 8 * SECOND;
    world.answering(|_, _| Says::Fails(TroubleKind::Timeout));
    world.delete_all();
    world.run(8 * SECOND);
    assert_eq!(world.calls.len(), 1, "nothing is proven yet");
    world.run(2 * MINUTE);
    for key in &keys {
        world.assert_waits(key, "Unreachable");
        assert_eq!(world.condition(key, "Stalled"), None);
    }
    world.call_takes = 50 * MS;
    world.healthy();
    world.run(6 * MINUTE);
    assert!(world.robots.is_empty());
}

#[test]
fn the_brake_stops_a_drain_and_lets_it_go_on() {
    let mut world = World::led();
    let keys = world.crowd("team/r", 600, json!({}));
    world.delete_all();
    world.run(SECOND);
    world.configure("app", json!({"suspend": true}));
    world.run(SECOND);
    let calls = world.calls.len();
    assert!((190..210).contains(&calls), "{calls}");
    let left: Vec<_> = keys.iter().filter(|key| world.robots.contains_key(*key)).cloned().collect();
    assert!(left.len() > 380);
    for key in &left {
        world.assert_waits(key, "Suspended");
        assert_eq!(world.changes(key).len(), 3, "{key} says so once");
    }
    world.run(MINUTE);
    assert_eq!(world.calls.len(), calls);
    assert_eq!(world.application_ready("app"), ("False".into(), "Suspended".into()));
    world.configure("app", json!({"suspend": false}));
    world.run(4 * SECOND);
    assert!(world.robots.is_empty());
    assert_eq!(world.calls.len(), 600);
}

// The end of a process.

#[test]
fn after_stop_nothing_is_begun_and_everything_is_recorded() {
    let mut world = World::led();
    world.crowd("team/r", 300, json!({}));
    world.call_takes = 2 * SECOND;
    world.answering(|_, _| Says::Code(0));
    world.delete_all();
    world.run(2500 * MS);
    let calls = world.calls.len();
    assert!(calls > 1 && world.robots.len() > 100);
    world.robot("team/new", json!({}));
    world.input(Input::Stop);
    world.run(100 * MS);
    assert!(!world.engine.drained(), "answers are still to come");
    world.run(5 * SECOND);
    assert!(world.engine.drained());
    assert_eq!(world.calls.len(), calls, "no new call");
    assert_eq!(world.changes("team/new"), [""; 0], "no new charge");
    assert_eq!(world.gone.len(), calls, "what was answered is recorded and let go");
    for key in world.gone.keys() {
        world.assert_gone(key, "Deleted");
    }
}

#[test]
fn after_stop_an_answer_that_was_not_final_is_recorded_too() {
    let mut world = World::led();
    let keys = world.crowd("team/r", 1, json!({}));
    world.call_takes = 2 * SECOND;
    world.answering(|_, _| Says::Code(100_001));
    world.delete_all();
    world.run(SECOND);
    world.input(Input::Stop);
    world.run(20 * SECOND);
    assert!(world.engine.drained());
    world.assert_waits(&keys[0], "InternalError");
    assert_eq!(world.calls.len(), 1, "its next attempt is another process's");
}

/// Else the next process calls `add_robot` again, whose second answer is unknown.
#[test]
fn after_stop_the_answer_to_an_addition_is_recorded_too() {
    let mut world = World::led();
    world.call_takes = 2 * SECOND;
    world.robot("team/r", json!({"creationPolicy": "Create"}));
    world.run(SECOND);
    assert_eq!(world.calls.len(), 1);
    world.input(Input::Stop);
    world.run(10 * SECOND);
    assert!(world.engine.drained());
    assert_eq!(world.condition("team/r", "Ready"), Some(("True".into(), "Added".into())));
}

/// Else the next process calls again for a robot that is gone.
#[test]
fn after_stop_a_final_answer_whose_write_failed_is_waited_for() {
    let mut world = World::led();
    let keys = world.crowd("team/r", 1, json!({}));
    let mut failures = 0;
    world.failing(move |_, _, _| {
        failures += 1;
        (failures <= 3).then(|| Fault::Refused(WriteError::Other("restarting".into())))
    });
    world.delete_all();
    world.run(80 * MS);
    assert_eq!(world.calls.len(), 1);
    world.input(Input::Stop);
    world.run(5 * MS);
    assert!(!world.engine.drained(), "an answer is in memory and nowhere else");
    world.run(5 * SECOND);
    world.assert_gone(&keys[0], "Deleted");
    assert!(world.engine.drained());
}

/// Else SIGTERM takes all of its ten seconds.
#[test]
fn after_stop_nothing_is_waited_for_that_no_write_will_record() {
    type Change = fn(&mut World);
    let meanwhile: [(&str, &str, Change); 4] = [
        ("a deletion of a robot that is being added", "Create", |world| world.delete("team/r")),
        ("another policy for one that is being added", "Create", |world| {
            world.edit("team/r", json!({"spec": {"creationPolicy": "Adopt"}}));
        }),
        ("a finalizer that somebody drops", "Adopt", |world| {
            world.edit("team/r", json!({"metadata": {"finalizers": ["example.com/a"]}}));
        }),
        ("an object that goes by force", "Adopt", |world| world.force("team/r", true)),
    ];
    let mut stuck = Vec::new();
    for (what, policy, change) in meanwhile {
        for code in [0, 100_001] {
            let mut world = World::led();
            world.call_takes = 2 * SECOND;
            world.answering(move |_, _| Says::Code(code));
            world.robot("team/r", json!({"creationPolicy": policy}));
            world.run(SECOND);
            if policy == "Adopt" {
                world.delete("team/r");
            }
            world.run(200 * MS);
            assert_eq!(world.calls.len(), 1);
            change(&mut world);
            world.run(200 * MS);
            world.input(Input::Stop);
            world.run(5 * SECOND);
            if !world.engine.drained() {
                stuck.push((what, code));
            }
        }
    }
    assert_eq!(stuck, []);
}

#[test]
fn an_engine_that_never_led_is_drained() {
    let mut world = World::new();
    world.robot("team/r", json!({}));
    world.run(SECOND);
    assert!(world.engine.drained());
    world.input(Input::Stop);
    world.run(SECOND);
    assert!(world.engine.drained());
}

// Lists.

#[test]
fn a_list_without_a_robot_forgets_it_and_what_it_counted_for() {
    let mut world = World::led();
    let keys = world.crowd("team/r", 10, json!({}));
    world.answering(|_, _| Says::Hangs);
    for key in &keys[..6] {
        world.delete(key);
    }
    world.run(MINUTE);
    let counts = |world: &World| {
        let status = &world.applications["app"]["status"];
        (status["robots"].as_i64().unwrap(), status["deleting"].as_i64().unwrap())
    };
    assert_eq!(counts(&world), (10, 6));
    let snapshot = world.engine.snapshot(world.moment());
    assert_eq!(snapshot.applications[0].robots, 10);
    assert_eq!(snapshot.applications[0].pending, [(None, 6)]);
    assert!((50..70).contains(&snapshot.applications[0].oldest));
    for key in &keys[3..] {
        world.force(key, true);
    }
    world.list_robots();
    world.run(MINUTE);
    assert_eq!(world.engine.robots().len(), 3);
    assert_eq!(counts(&world), (3, 3));
    for key in &keys[..3] {
        world.force(key, true);
    }
    world.list_robots();
    world.run(MINUTE);
    assert_eq!(counts(&world), (0, 0));
    let snapshot = world.engine.snapshot(world.moment());
    assert_eq!((snapshot.applications[0].robots, snapshot.applications[0].pending.len()), (0, 0));
    assert_eq!(world.applications["app"]["metadata"].get("finalizers"), None, "nobody holds it any more");
}

/// A list may come from an API server that is behind: it forgets nobody that it shows.
#[test]
fn a_list_that_shows_older_views_forgets_nobody() {
    let mut world = World::led();
    world.robot("team/r", json!({}));
    let old = read(&world.robots["team/r"]);
    world.run(SECOND);
    world.input(Input::RobotsListing(None));
    world.input(Input::Robot(Box::new(old)));
    world.input(Input::RobotsListed(None));
    world.run(SECOND);
    assert_eq!(world.engine.robots().len(), 1);
    assert_eq!(world.changes("team/r"), ["hold", "status"]);
}

#[test]
fn the_list_of_one_namespace_says_nothing_about_another() {
    let mut world = World::new();
    world.scopes = vec![Some("a"), Some("b")];
    world.engine = fresh(64, 2);
    world.robot("a/r", json!({}));
    world.robot("b/r", json!({}));
    world.lead();
    world.run(SECOND);
    assert_eq!(world.engine.robots().len(), 2);
    for scope in ["a", "b"] {
        world.input(Input::RobotsListing(Some(scope.into())));
        let robot = read(&world.robots[&format!("{scope}/r")]);
        world.input(Input::Robot(Box::new(robot)));
        world.input(Input::RobotsListed(Some(scope.into())));
        world.run(SECOND);
        assert_eq!(world.engine.robots().len(), 2);
    }
}

/// With several `--watch-namespace` the first lists always do.
#[test]
fn lists_of_two_namespaces_may_come_in_together() {
    let mut world = World::new();
    world.scopes = vec![Some("a"), Some("b")];
    world.engine = fresh(64, 2);
    for key in ["a/1", "a/2", "b/1", "b/2"] {
        world.robot(key, json!({}));
    }
    world.coming.clear();
    let show = |world: &mut World, key: &str| {
        let robot = read(&world.robots[key]);
        world.input(Input::Robot(Box::new(robot)));
    };
    world.list_others();
    world.input(Input::RobotsListing(Some("a".into())));
    show(&mut world, "a/1");
    world.input(Input::RobotsListing(Some("b".into())));
    show(&mut world, "b/1");
    show(&mut world, "a/2");
    world.input(Input::RobotsListed(Some("a".into())));
    show(&mut world, "b/2");
    world.input(Input::RobotsListed(Some("b".into())));
    world.input(Input::Leading);
    world.run(SECOND);
    assert_eq!(world.engine.robots().len(), 4);
}

// Events.

#[test]
fn events_keep_their_budget_and_deletions_do_not_wait_for_them() {
    let mut world = World::led();
    world.crowd("team/r", 1000, json!({}));
    world.delete_all();
    world.run(10 * SECOND);
    assert!(world.robots.is_empty());
    let mut seconds: HashMap<(i64, Reason), usize> = HashMap::new();
    for event in &world.events {
        *seconds.entry((event.at.as_second(), event.reason)).or_default() += 1;
    }
    let most = |reason| seconds.iter().filter(|((_, of), _)| *of == reason).map(|(_, count)| *count).max();
    // What the application has to tell comes out of the same budget as good news of robots.
    assert!(matches!(most(Reason::Adopted), Some(5..=10)), "{seconds:?}");
    assert_eq!(most(Reason::Deleted), Some(10));
    let deleted = world.events.iter().filter(|event| event.reason == Reason::Deleted).count();
    assert!((50..=70).contains(&deleted), "{deleted} in some six seconds");
}

/// An Event about what went well is a write like any other: it does not take the place of one that waits.
#[test]
fn good_news_waits_for_no_write_and_no_write_for_good_news() {
    let mut world = World::led_with(4);
    world.crowd("team/r", 300, json!({}));
    world.run(MINUTE);
    world.events.clear();
    world.write_takes = 50 * MS;
    world.delete_all();
    world.run(4 * SECOND);
    let told = world.events.len();
    assert!(world.gone.len() > 50 && told < 8, "{told} Events beside {} ends", world.gone.len());
    world.run(10 * SECOND);
    assert_eq!(world.engine.robots().len(), 0);
    world.write_takes = 5 * MS;
    world.crowd("team/s", 5, json!({}));
    world.events.clear();
    world.delete_all();
    world.run(5 * SECOND);
    assert_eq!(world.events.len(), 5, "told where nothing waits");
}

#[test]
fn an_event_is_about_a_change_and_is_stored_where_that_is_possible() {
    events_of_a_change(Duration::ZERO);
}

#[test]
fn an_event_does_not_get_lost_where_the_watch_is_quicker_than_the_reply() {
    events_of_a_change(50 * MS);
}

fn events_of_a_change(reply_takes: Duration) {
    let mut world = World::led();
    world.reply_takes = reply_takes;
    world.namespace("dying", &[], true);
    let keys = world.crowd("team/r", 1, json!({}));
    world.crowd("dying/r", 1, json!({}));
    world.answering(|_, _| Says::Code(100_001));
    world.delete_all();
    world.run(2 * MINUTE);
    world.healthy();
    world.run(10 * MINUTE);
    let about = |namespace: &str| -> Vec<_> {
        let of = world.events.iter().filter(|event| event.regarding_namespace.as_deref() == Some(namespace));
        of.map(|event| (&*event.namespace, event.reason, event.warning, event.action)).collect()
    };
    let expected = |stored| {
        vec![
            (stored, Reason::Adopted, false, "AcceptRobot"),
            (stored, Reason::InternalError, true, "DeleteRobot"),
            (stored, Reason::Deleted, false, "DeleteRobot"),
        ]
    };
    assert_eq!(about("team"), expected("team"));
    assert_eq!(about("dying"), expected("operator"), "a namespace that is being deleted takes nothing new");
    let last =
        world.events.iter().rfind(|event| event.regarding_namespace.as_deref() == Some("team")).unwrap();
    assert_eq!(&*last.name, "r-0000");
    assert_eq!(&*last.uid, text(&world.gone[&keys[0]]["metadata"]["uid"]));
    let told = text(&condition(&world.gone[&keys[0]], "RobotDeleted").unwrap()["message"]);
    assert_eq!(last.note, told, "with code and RequestId");
    let applications: Vec<_> = world
        .events
        .iter()
        .filter(|event| event.kind == "RtcApplication")
        .map(|event| (&*event.namespace, event.reason, event.warning))
        .collect();
    let first = ("default", Reason::CredentialsLoaded, false);
    assert_eq!(applications[..2], [first, ("default", Reason::Verified, false)]);
}

// Everything at once.

/// What the room engine of a chaotic world knows.
#[derive(Default)]
struct Ledger {
    /// The process that is alive, by its number.
    process: u32,
    /// Who is in a room.
    members: BTreeSet<String>,
    /// Final answers by UID, with the process that asked.
    ended: HashMap<String, u32>,
    /// UIDs that `add_robot` was called for.
    added: BTreeSet<String>,
    /// Nothing fails any more.
    healed: bool,
}

/// Random creations, deletions, changes, restarts, lost and refused writes, and faults of the room engine, for some
/// minutes; then everything is well and all that is left is deleted.
#[test]
fn whatever_goes_wrong_nothing_is_lost_and_no_final_answer_is_asked_for_twice() {
    let (mut restarts, mut deletions, mut additions) = (0, 0, 0);
    for seed in 0..24 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut world = World::led_with(8);
        world.secret("app-secret", user_sig("right"));
        let ledger = Rc::new(RefCell::new(Ledger::default()));
        world.answering(room_engine(&ledger, seed));
        world.failing(api_server(&ledger, seed));
        let mut retained = BTreeSet::new();
        for n in 0..200 {
            let keys: Vec<String> = world.robots.keys().cloned().collect();
            let one = (!keys.is_empty()).then(|| keys[random.usize(..keys.len())].clone());
            let live = one.clone().filter(|key| world.robots[key]["metadata"]["deletionTimestamp"].is_null());
            match (random.u32(..14), one, live) {
                (0..5, _, _) => {
                    let key = format!("team-{}/r-{n}", n % 3);
                    let adopted = random.bool();
                    let policy = if adopted { "Adopt" } else { "Create" };
                    if adopted {
                        ledger.borrow_mut().members.insert(format!("r-{n}"));
                    }
                    world.robot(&key, json!({"creationPolicy": policy}));
                }
                (5..8, _, Some(key)) => world.delete(&key),
                (8, Some(key), _) => world.edit(&key, json!({"spec": {"suspend": random.bool()}})),
                (9, Some(key), _) if random.u32(..3) == 0 => {
                    retained.insert(key.split_once('/').unwrap().1.to_owned());
                    world.edit(&key, json!({"spec": {"deletionPolicy": "Retain"}}));
                }
                (10, _, _) => world.configure("app", json!({"suspend": random.u32(..4) == 0})),
                (11, _, _) => {
                    world.secret("app-secret", user_sig(if random.bool() { "right" } else { "wrong" }));
                }
                (12, _, _) => world.list_robots(),
                (13, _, _) => {
                    restarts += 1;
                    ledger.borrow_mut().process += 1;
                    world.restart();
                }
                _ => {}
            }
            world.watch_takes = MS * random.u32(1..3000);
            world.call_takes = MS * random.u32(10..4000);
            world.run(MS * random.u32(1..2000));
        }
        ledger.borrow_mut().healed = true;
        world.watch_takes = 8 * MS;
        world.secret("app-secret", user_sig("right"));
        world.configure("app", json!({"suspend": false}));
        for key in world.robots.keys().cloned().collect::<Vec<_>>() {
            world.edit(&key, json!({"spec": {"suspend": false}}));
        }
        world.run(MINUTE);
        for key in world.robots.keys().cloned().collect::<Vec<_>>() {
            if world.robots[&key]["metadata"]["deletionTimestamp"].is_null() {
                world.delete(&key);
            }
        }
        world.run(20 * MINUTE);
        assert_eq!(world.robots.keys().collect::<Vec<_>>(), [""; 0], "seed {seed}");
        assert_eq!(world.engine.robots().len(), 0, "seed {seed}");
        let ledger = ledger.borrow();
        let lost: Vec<_> = ledger.members.iter().filter(|member| !retained.contains(*member)).collect();
        for member in lost {
            // Only one that was never accepted may stay behind.
            let (key, last) =
                world.gone.iter().find(|(key, _)| key.ends_with(&format!("/{member}"))).unwrap();
            assert!(!read(last).accepted(), "seed {seed}: {key} left its robot in the room: {last}");
        }
        for (key, last) in &world.gone {
            let ended = ledger.ended.contains_key(&text(&last["metadata"]["uid"]));
            let robot = read(last);
            let reason = robot.conditions.reason(Kind::RobotDeleted);
            match reason {
                Some(Reason::Deleted | Reason::RoomNotFound) => assert!(ended, "seed {seed}: {key}"),
                Some(Reason::NotInRoom) => {
                    assert!(ended || !ledger.added.contains(&*robot.uid), "seed {seed}: {key}");
                }
                Some(Reason::Retained) => {}
                other => assert!(!robot.accepted(), "seed {seed}: {key} left with {other:?}"),
            }
        }
        deletions += ledger.ended.len();
        additions += ledger.added.len();
    }
    assert!(restarts > 100 && deletions > 500 && additions > 200, "{restarts} {deletions} {additions}");
}

fn room_engine(ledger: &Rc<RefCell<Ledger>>, seed: u64) -> impl FnMut(&Call, Duration) -> Says + 'static {
    let (ledger, mut random) = (Rc::clone(ledger), fastrand::Rng::with_seed(seed ^ 1));
    move |call, _| {
        let mut ledger = ledger.borrow_mut();
        let (uid, member) = (call.uid.to_string(), call.target.member_account.clone());
        let process = ledger.process;
        let before = ledger.ended.get(&uid);
        assert!(
            before != Some(&process),
            "seed {seed}: {} has had its answer, and is asked about again",
            call.key
        );
        if call.caller.user_sig.expose() != "right" {
            return Says::Code(70009);
        }
        let luck = if ledger.healed { 99 } else { random.u32(..100) };
        match luck {
            0..8 => return Says::Code(100_001),
            8..11 => return Says::Code(60011),
            11..13 => return Says::Code(60020),
            13..15 => return Says::Code(424_242),
            15..20 => return Says::Fails(TroubleKind::Refused),
            _ => {}
        }
        let was_there = match call.operation {
            Operation::AddRobot => {
                ledger.added.insert(uid.clone());
                ledger.members.insert(member);
                true
            }
            Operation::DeleteRobot => ledger.members.remove(&member),
        };
        // It took effect, and nobody hears of it.
        if luck < 30 {
            return Says::Fails(TroubleKind::Timeout);
        }
        if call.operation == Operation::DeleteRobot {
            ledger.ended.insert(uid, process);
        }
        Says::Code(if was_there { 0 } else { 100_005 })
    }
}

fn api_server(
    ledger: &Rc<RefCell<Ledger>>,
    seed: u64,
) -> impl FnMut(&str, &Change, Duration) -> Option<Fault> + 'static {
    let (ledger, mut random) = (Rc::clone(ledger), fastrand::Rng::with_seed(seed ^ 2));
    move |_, _, _| match random.u32(..100) {
        _ if ledger.borrow().healed => None,
        0..10 => Some(Fault::Refused(WriteError::Other("down".into()))),
        10..15 => Some(Fault::Refused(WriteError::Conflict("changed".into()))),
        15..25 => Some(Fault::ReplyLost),
        _ => None,
    }
}

// What gauges show.

#[test]
fn a_snapshot_tells_the_line_the_pace_and_when_it_is_empty() {
    let mut world = World::led();
    let keys = world.crowd("team/r", 400, json!({}));
    world.run(SECOND);
    let at_rest = world.engine.snapshot(world.moment());
    assert!(at_rest.reconciles >= 400);
    let application = &at_rest.applications[0];
    assert_eq!((application.breaker, application.oldest), (Some(crate::application::Breaker::Trial), 0));
    assert_eq!(application.quotas[0].eta, Some(0.0));
    for key in &keys {
        world.delete(key);
    }
    world.run(SECOND);
    let draining = world.engine.snapshot(world.moment());
    let application = &draining.applications[0];
    assert_eq!(application.breaker, Some(crate::application::Breaker::Closed));
    let quota = application.quotas[0];
    assert!((150..=250).contains(&quota.waiting), "{quota:?}");
    assert_eq!((quota.limit, quota.operation), (200, Operation::DeleteRobot));
    assert!((quota.pace - 200.0).abs() < 1e-9);
    assert!(
        (quota.eta.unwrap() - f64::from(u32::try_from(quota.waiting).unwrap()) / 200.0).abs() < 1e-9,
        "{quota:?}"
    );
    assert!(draining.queues.contains(&("call", quota.waiting)), "{draining:?}");
    world.run(MINUTE);
    let over = world.engine.snapshot(world.moment());
    assert_eq!(over.applications[0].quotas[0].waiting, 0);
}
