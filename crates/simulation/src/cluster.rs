//! The API server: objects with revisions, and what it makes of writes. It answers as the real one does; what an answer
//! means is the operator's own code.

use k8s_openapi::jiff::Timestamp;
use kube::core::{
    Status,
    response::{StatusCause, StatusDetails},
};
use roomrobot_core::{
    api_server,
    application::{Labels, StoredApplication},
    crd::{ROBOT_FINALIZER, RtcApplication},
    endpoint::Allowed,
    engine::{Change, StoredObject, Write},
    robot::{Robot, Stored},
};
use serde::Deserialize as _;
use serde_json::{Value, json};
use std::{collections::BTreeMap, rc::Rc, time::Duration};

/// The label that tells the shards apart.
pub const SHARD: &str = "shard";

/// The label that the selective application asks for.
pub const TEAM: &str = "team";

/// A stored RoomRobot.
#[derive(Debug)]
pub struct Object {
    /// As JSON.
    pub json: Value,
    /// As the operator reads it.
    pub robot: Robot,
    /// Its shard.
    pub shard: u8,
}

impl Object {
    fn new(json: Value) -> Self {
        let robot = Robot::from(Stored::deserialize(&json).expect("a stored RoomRobot can be read"));
        let shard = u8::from(json["metadata"]["labels"][SHARD] == "1");
        Self { json, robot, shard }
    }

    /// `namespace/name`
    pub fn key(&self) -> String {
        self.robot.key.to_string()
    }

    pub fn uid(&self) -> &str {
        &self.robot.uid
    }

    /// Whether the last finalizer of an object that is being deleted is gone.
    fn is_free(&self) -> bool {
        self.robot.deleting_since.is_some() && self.robot.finalizers.count == 0
    }
}

/// A stored RtcApplication.
#[derive(Debug)]
pub struct App {
    pub json: Value,
    pub spec: StoredApplication,
}

impl App {
    fn new(json: Value) -> Self {
        let stored = RtcApplication::deserialize(&json).expect("a stored RtcApplication can be read");
        Self { spec: StoredApplication::read(stored, &Allowed::default()), json }
    }

    fn is_free(&self) -> bool {
        self.spec.deleting && self.spec.finalizer_names.is_empty()
    }
}

/// A namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Namespace {
    pub labels: Labels,
    pub terminating: bool,
}

/// One change of what is stored.
#[derive(Clone, Debug)]
pub enum Changed {
    Robot { before: Option<Rc<Object>>, after: Option<Rc<Object>> },
    Application { name: String, after: Option<Rc<App>> },
    Namespace { name: String, after: Option<Namespace> },
    Secret { name: String },
}

/// Everything that is stored.
#[derive(Default)]
pub struct Cluster {
    pub revision: u64,
    pub robots: BTreeMap<String, Rc<Object>>,
    pub applications: BTreeMap<String, Rc<App>>,
    pub namespaces: BTreeMap<String, Namespace>,
    /// Every change, with its time: watches follow it.
    pub log: Vec<(Duration, Changed)>,
    /// Changes that nobody has looked at yet, by their places in the log.
    pub news: usize,
    pub now: Duration,
    pub wall: i64,
}

impl Cluster {
    fn next(&mut self) -> u64 {
        self.revision += 1;
        self.revision
    }

    pub fn changed(&mut self, changed: Changed) {
        self.log.push((self.now, changed));
    }

    // RoomRobots.

    /// Stores a new RoomRobot; false where the API server refuses it.
    pub fn create(
        &mut self,
        namespace: &str,
        name: &str,
        spec: Value,
        finalizers: &[&str],
        shard: u8,
    ) -> bool {
        let key = format!("{namespace}/{name}");
        let open = self.namespaces.get(namespace).is_some_and(|namespace| !namespace.terminating);
        if !open || self.robots.contains_key(&key) {
            return false;
        }
        let version = self.next();
        let mut object = json!({
            "apiVersion": "roomrobot.dev/v1alpha1",
            "kind": "RoomRobot",
            "metadata": {
                "namespace": namespace, "name": name, "uid": format!("{name}-{version}"), "generation": 1,
                "resourceVersion": version.to_string(), "labels": {SHARD: shard.to_string()},
            },
            "spec": spec,
        });
        if !finalizers.is_empty() {
            object["metadata"]["finalizers"] = json!(finalizers);
        }
        let object = Rc::new(Object::new(object));
        self.robots.insert(key, Rc::clone(&object));
        self.changed(Changed::Robot { before: None, after: Some(object) });
        true
    }

    /// Changes a RoomRobot as a person does; false where there is none.
    pub fn edit(&mut self, key: &str, change: impl FnOnce(&mut Value)) -> bool {
        let Some(before) = self.robots.get(key).cloned() else { return false };
        let mut json = before.json.clone();
        change(&mut json);
        self.put(&before, json);
        true
    }

    /// Begins to delete a RoomRobot.
    pub fn delete(&mut self, key: &str) {
        let since = Timestamp::from_second(self.wall).unwrap_or_default().to_string();
        let live = self.robots.get(key).is_some_and(|object| object.robot.deleting_since.is_none());
        if live {
            self.edit(key, |object| object["metadata"]["deletionTimestamp"] = since.into());
        }
    }

    /// Stores the next version of an object, unless it is the same.
    fn put(&mut self, before: &Rc<Object>, mut json: Value) -> Rc<Object> {
        if json == before.json {
            return Rc::clone(before);
        }
        let version = self.next();
        let meta = &mut json["metadata"];
        meta["resourceVersion"] = version.to_string().into();
        if json["spec"] != before.json["spec"]
            || json["metadata"].get("deletionTimestamp") != before.json["metadata"].get("deletionTimestamp")
        {
            let generation = before.json["metadata"]["generation"].as_i64().unwrap_or_default();
            json["metadata"]["generation"] = (generation + 1).into();
        }
        let after = Rc::new(Object::new(json));
        let key = after.key();
        if after.is_free() {
            self.robots.remove(&key);
            self.changed(Changed::Robot { before: Some(Rc::clone(before)), after: None });
            let namespace = &after.robot.key.namespace;
            self.sweep(namespace);
        } else {
            self.robots.insert(key, Rc::clone(&after));
            self.changed(Changed::Robot { before: Some(Rc::clone(before)), after: Some(Rc::clone(&after)) });
        }
        after
    }

    /// Takes a write of the operator whose finalizer on RtcApplications is `finalizer`.
    pub fn write(&mut self, write: &Write, finalizer: &str) -> Result<StoredObject, Status> {
        let missing = |resource| not_found(resource, &write.name);
        match &write.namespace {
            None => {
                let before = self.applications.get(&*write.name).cloned();
                let before = before.ok_or_else(|| missing("rtcapplications"))?;
                let json = patched(&before.json, &write.uid, &write.change, finalizer)?;
                let after = self.put_application(&write.name, &before, json);
                Ok(StoredObject::Application(Box::new(after.spec.clone())))
            }
            Some(namespace) if !self.namespaces.contains_key(&**namespace) => {
                Err(not_found("namespaces", namespace))
            }
            Some(_) => {
                let before = self.robots.get(&write.key()).cloned().ok_or_else(|| missing("roomrobots"))?;
                let json = patched(&before.json, &write.uid, &write.change, ROBOT_FINALIZER)?;
                Ok(StoredObject::Robot(Box::new(self.put(&before, json).robot.clone())))
            }
        }
    }

    // RtcApplications.

    pub fn create_application(&mut self, name: &str, spec: Value) {
        if self.applications.contains_key(name) {
            return;
        }
        let version = self.next();
        let app = Rc::new(App::new(json!({
            "apiVersion": "roomrobot.dev/v1alpha1",
            "kind": "RtcApplication",
            "metadata": {
                "name": name, "uid": format!("{name}-{version}"), "resourceVersion": version.to_string(), "generation": 1,
            },
            "spec": spec,
        })));
        self.applications.insert(name.to_owned(), Rc::clone(&app));
        self.changed(Changed::Application { name: name.to_owned(), after: Some(app) });
    }

    pub fn edit_application(&mut self, name: &str, change: impl FnOnce(&mut Value)) {
        if let Some(before) = self.applications.get(name).cloned() {
            let mut json = before.json.clone();
            change(&mut json);
            self.put_application(name, &before, json);
        }
    }

    pub fn delete_application(&mut self, name: &str) {
        self.edit_application(name, |app| {
            app["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        });
    }

    fn put_application(&mut self, name: &str, before: &Rc<App>, mut json: Value) -> Rc<App> {
        if json == before.json {
            return Rc::clone(before);
        }
        let version = self.next();
        json["metadata"]["resourceVersion"] = version.to_string().into();
        if json["spec"] != before.json["spec"]
            || json["metadata"].get("deletionTimestamp").is_some() != before.spec.deleting
        {
            json["metadata"]["generation"] = (before.spec.generation + 1).into();
        }
        let after = Rc::new(App::new(json));
        let gone = after.is_free();
        if gone {
            self.applications.remove(name);
        } else {
            self.applications.insert(name.to_owned(), Rc::clone(&after));
        }
        self.changed(Changed::Application {
            name: name.to_owned(),
            after: (!gone).then(|| Rc::clone(&after)),
        });
        after
    }

    // Namespaces.

    pub fn set_namespace(&mut self, name: &str, namespace: Option<Namespace>) {
        match &namespace {
            Some(namespace) => drop(self.namespaces.insert(name.to_owned(), namespace.clone())),
            None => drop(self.namespaces.remove(name)),
        }
        self.changed(Changed::Namespace { name: name.to_owned(), after: namespace });
    }

    /// The keys of the RoomRobots in a namespace.
    pub fn keys_in(&self, namespace: &str) -> Vec<String> {
        let within = |object: &&Rc<Object>| &*object.robot.key.namespace == namespace;
        self.robots.values().filter(within).map(|object| object.key()).collect()
    }

    /// A namespace that is being deleted goes with the last of its RoomRobots.
    pub fn sweep(&mut self, name: &str) {
        let terminating = self.namespaces.get(name).is_some_and(|namespace| namespace.terminating);
        if terminating && !self.robots.values().any(|object| &*object.robot.key.namespace == name) {
            self.set_namespace(name, None);
        }
    }
}

fn status(code: u16, reason: &str, message: impl Into<String>) -> Status {
    Status { code, reason: reason.to_owned(), message: message.into(), ..Status::default() }
}

fn details() -> StatusDetails {
    StatusDetails {
        name: String::new(),
        group: String::new(),
        kind: String::new(),
        uid: String::new(),
        causes: Vec::new(),
        retry_after_seconds: 0,
    }
}

fn not_found(kind: &str, name: &str) -> Status {
    let details = StatusDetails { kind: kind.to_owned(), name: name.to_owned(), ..details() };
    let message = format!("{kind} \"{name}\" not found");
    Status { details: Some(details), ..status(404, "NotFound", message) }
}

/// The answers of an API server, and of what stands in front of it, that refuse a write.
pub fn refusal(how: crate::story::Refusal) -> Option<Status> {
    use crate::story::Refusal;
    Some(match how {
        Refusal::Policy => status(
            422,
            "Invalid",
            "ValidatingAdmissionPolicy 'team' with binding 'team' denied request: no label team",
        ),
        Refusal::Forbidden => status(403, "Forbidden", "roomrobots.roomrobot.dev is forbidden: no right"),
        Refusal::Unauthorized => status(401, "Unauthorized", "Unauthorized"),
        Refusal::Webhook => {
            status(409, "Conflict", "admission webhook \"w.example.org\" denied the request: no")
        }
        Refusal::WebhookFails => {
            status(500, "InternalError", "Internal error occurred: failed calling webhook \"w.example.org\"")
        }
        Refusal::TooMany => status(429, "TooManyRequests", "too many requests"),
        Refusal::Internal => status(500, "InternalError", "Internal error occurred: etcd is slow"),
        Refusal::Proxy404 => status(404, "", "404 page not found"),
        Refusal::Conflict => status(409, "Conflict", "the object has been modified"),
        Refusal::Unreachable
        | Refusal::ReplyLost
        | Refusal::ReplyLate
        | Refusal::Hangs
        | Refusal::Overtaken => return None,
    })
}

/// What a patch makes of an object, or why the API server refuses it.
fn patched(before: &Value, uid: &str, change: &Change, finalizer: &str) -> Result<Value, Status> {
    let refused = || status(422, "Invalid", "the server rejected our request due to an error in our request");
    let mut operations = api_server::operations(uid, change, finalizer);
    // A test for null passes there where nothing stands.
    let mut absent = true;
    if let Some(list) = operations.as_array_mut() {
        list.retain(|step| {
            let null = step["op"] == "test" && step["value"].is_null();
            if null {
                let found = step["path"].as_str().and_then(|path| before.pointer(path));
                absent &= found.is_none_or(Value::is_null);
            }
            !null
        });
    }
    let patch: json_patch::Patch = serde_json::from_value(operations).map_err(|_| refused())?;
    let mut after = before.clone();
    if !absent || json_patch::patch(&mut after, &patch).is_err() {
        return Err(refused());
    }
    let version = |object: &Value| object["metadata"]["resourceVersion"].clone();
    if version(&after) != version(before) {
        return Err(status(
            409,
            "Conflict",
            "the object has been modified; please apply your changes to the latest version",
        ));
    }
    if let Change::Status(_) = change {
        let told = after["status"].take();
        after = before.clone();
        after["status"] = told;
        return Ok(after);
    }
    let finalizers = |object: &Value| object["metadata"]["finalizers"].as_array().map_or(0, Vec::len);
    if before["metadata"].get("deletionTimestamp").is_some() && finalizers(&after) > finalizers(before) {
        let cause = StatusCause {
            reason: "FieldValueForbidden".to_owned(),
            message: "no new finalizers can be added if the object is being deleted".to_owned(),
            field: "metadata.finalizers".to_owned(),
        };
        let details = StatusDetails { causes: vec![cause], ..details() };
        return Err(Status { details: Some(details), ..status(422, "Invalid", "is invalid") });
    }
    if finalizers(&after) == 0
        && let Some(meta) = after["metadata"].as_object_mut()
    {
        meta.remove("finalizers");
    }
    Ok(after)
}
