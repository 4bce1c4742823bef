//! Policies, webhooks and quotas that stand in the operator's way, taken away with the value: a control plane is used by
//! other tests as well.

use crate::harness::{World, eventually, unique};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    Request, Response, StatusCode,
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use std::{
    convert::Infallible,
    fs,
    sync::{Arc, Mutex},
};
use testbed::{
    control_plane::{OPERATOR_ACCOUNT, OPERATOR_NAMESPACE},
    tls::Front,
};
use tokio::{net::TcpListener, task::AbortHandle};

/// Objects of the whole cluster that exist as long as the value.
pub struct Guard<'a> {
    world: &'a World,
    names: Vec<String>,
}

impl<'a> Guard<'a> {
    fn new(world: &'a World, objects: &[Value]) -> Self {
        let name = |object: &Value| {
            let text = |path| object.pointer(path).and_then(Value::as_str).unwrap().to_owned();
            format!("{}/{}", text("/kind").to_lowercase(), text("/metadata/name"))
        };
        // Before they are created: what comes after may fail.
        let this = Self { world, names: objects.iter().map(name).collect() };
        for object in objects {
            world.plane.kubectl_apply(&object.to_string()).unwrap();
        }
        this
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        let mut args = vec!["delete", "--ignore-not-found", "--wait=false"];
        args.extend(self.names.iter().map(String::as_str));
        let gone = self.world.plane.run_kubectl(&args, None);
        assert!(gone.is_ok() || std::thread::panicking(), "{gone:?}");
    }
}

/// What the policies here say.
pub const WORDS: &str = "label team is missing";

/// A `ValidatingAdmissionPolicy` that denies updates of `resources` without a label `team`, in the test's namespace or, for
/// RtcApplications, of the object `only`.
pub fn policy<'a>(world: &'a World, resources: &[&str], only: Option<&str>) -> Guard<'a> {
    let name = unique("team-label");
    let mut validation = "has(object.metadata.labels) && 'team' in object.metadata.labels".to_owned();
    let mut bound = json!({"policyName": name, "validationActions": ["Deny"]});
    match only {
        Some(only) => validation = format!("object.metadata.name != '{only}' || {validation}"),
        None => bound["matchResources"] = json!({"namespaceSelector": selector(&world.namespace)}),
    }
    Guard::new(
        world,
        &[
            json!({
                "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
                "metadata": {"name": name},
                "spec": {
                    "failurePolicy": "Fail",
                    "matchConstraints": {"resourceRules": [{"apiGroups": ["roomrobot.dev"], "apiVersions": ["*"],
                        "operations": ["UPDATE"], "resources": resources}]},
                    "validations": [{"expression": validation, "message": WORDS}],
                },
            }),
            json!({
                "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
                "metadata": {"name": name}, "spec": bound,
            }),
        ],
    )
}

fn selector(namespace: &str) -> Value {
    json!({"matchLabels": {"kubernetes.io/metadata.name": namespace}})
}

/// Waits until an update of the robot `probe` by the administrator is refused, or is not. Nothing is stored.
pub async fn until_refused(world: &World, probe: &str, refused: bool) {
    let dry_run = PatchParams { dry_run: true, ..PatchParams::default() };
    let patch = Patch::Merge(json!({"metadata": {"annotations": {"probe": "yes"}}}));
    eventually("the refusal is in force, or over", || async {
        world.robots().patch(probe, &dry_run, &patch).await.is_err() == refused
    })
    .await;
}

/// How a webhook answers.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Denies with this status.
    Deny(Value),
    /// HTTP 500.
    Broken,
    /// Never.
    Hang,
}

/// A running webhook server; it ends with the value.
pub struct Webhook {
    front: Front,
    answer: Arc<Mutex<Answer>>,
    task: AbortHandle,
}

impl Drop for Webhook {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Webhook {
    /// Starts one with the certificate of the API server, which is for this address as well and its own authority.
    pub async fn start(world: &World, answer: Answer) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let answer = Arc::new(Mutex::new(answer));
        let state = Arc::clone(&answer);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let state = Arc::clone(&state);
                tokio::spawn(async move {
                    let service = service_fn(move |request| {
                        let answer = state.lock().unwrap().clone();
                        async move { Ok::<_, Infallible>(respond(request, answer).await) }
                    });
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        let folder = world.plane.folder().join("certificates");
        let (certificate, key) = (folder.join("apiserver.crt"), folder.join("apiserver.key"));
        let front = Front::start(&certificate, &key, address).await.unwrap();
        Self { front, answer, task: task.abort_handle() }
    }

    /// How it answers from now on.
    pub fn set(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }

    /// Has it asked about updates of the RoomRobots of `namespace`, and not of their status.
    pub fn install<'a>(&self, world: &'a World, namespace: &str, seconds: u32) -> Guard<'a> {
        let certificate = fs::read(world.plane.folder().join("certificates/apiserver.crt")).unwrap();
        let name = unique("guard");
        Guard::new(
            world,
            &[json!({
                "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
                "metadata": {"name": name},
                "webhooks": [{
                    "name": "guard.example.com", "failurePolicy": "Fail", "sideEffects": "None",
                    "admissionReviewVersions": ["v1"], "timeoutSeconds": seconds,
                    "namespaceSelector": selector(namespace),
                    "clientConfig": {"url": format!("https://127.0.0.1:{}/", self.front.port),
                        "caBundle": k8s_openapi::ByteString(certificate)},
                    "rules": [{"apiGroups": ["roomrobot.dev"], "apiVersions": ["*"], "operations": ["UPDATE"],
                        "resources": ["roomrobots"]}],
                }],
            })],
        )
    }
}

async fn respond(request: Request<Incoming>, answer: Answer) -> Response<Full<Bytes>> {
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let review: Value = serde_json::from_slice(&body).unwrap();
    let mut response = json!({"uid": review["request"]["uid"], "allowed": true});
    match answer {
        Answer::Deny(status) => {
            response["allowed"] = json!(false);
            response["status"] = status;
        }
        Answer::Broken => {
            let mut broken = Response::new(Full::from("out of order"));
            *broken.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            return broken;
        }
        Answer::Hang => std::future::pending().await,
    }
    let review =
        json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response});
    Response::new(Full::from(review.to_string()))
}

/// A quota of the test's namespace in which there is room neither for RoomRobots nor for Events; it goes with the namespace.
pub fn full_quota(world: &World) {
    let none = json!({"count/roomrobots.roomrobot.dev": "0", "count/events.events.k8s.io": "0"});
    let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "full"},
        "spec": {"hard": none}});
    let kubectl = |args: &[&str], input: Option<&str>| {
        let args = [args, &["-n", &world.namespace]].concat();
        world.plane.run_kubectl(&args, input).unwrap();
    };
    kubectl(&["apply", "-f", "-"], Some(&quota.to_string()));
    // The controller that counts does not run here.
    let counted = json!({"status": {"hard": none, "used": none}}).to_string();
    kubectl(
        &["patch", "resourcequota", "full", "--subresource=status", "--type=merge", "-p", &counted],
        None,
    );
}

/// The operator's rights, whole again with the end of the value.
pub struct Rights<'a>(&'a World);

impl<'a> Rights<'a> {
    /// Takes away the right to patch `resource`, such as `roomrobots/status`, and waits until it is gone.
    pub async fn without(world: &'a World, resource: &str) -> Self {
        let role = world.plane.run_kubectl(&["get", "clusterrole", "roomrobot-operator", "-o", "json"], None);
        let mut role: Value = serde_json::from_str(&role.unwrap()).unwrap();
        for rule in role["rules"].as_array_mut().unwrap() {
            if rule["resources"] == json!([resource]) {
                rule["verbs"] = json!(["list", "watch"]);
            }
        }
        let this = Self(world);
        world.plane.run_kubectl(&["replace", "-f", "-"], Some(&role.to_string())).unwrap();
        let user = format!("--as=system:serviceaccount:{OPERATOR_NAMESPACE}:{OPERATOR_ACCOUNT}");
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        let subresource = format!("--subresource={subresource}");
        let asked = ["auth", "can-i", "patch", resource, &subresource, &user];
        // It exits with 1 where the answer is no.
        eventually("the right is gone", || async { world.plane.run_kubectl(&asked, None).is_err() }).await;
        this
    }
}

impl Drop for Rights<'_> {
    fn drop(&mut self) {
        let back = self.0.plane.install_rights();
        assert!(back.is_ok() || std::thread::panicking(), "{back:?}");
    }
}
