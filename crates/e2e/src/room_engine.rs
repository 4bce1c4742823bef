//! The simulator as a Pod, scripted and read through the API server's proxy for Services.

use super::{KEY, PATIENCE, SDK_APP_ID, SIMULATOR, cluster::Cluster};
use hyper::{Method, Request};
use serde::Deserialize;
use serde_json::{Value, json};
use testbed::{Error, Result, control_plane::wait_for, observe::told};

const PORT: u16 = 9000;

/// The endpoint of the simulator inside the cluster.
#[must_use]
pub fn endpoint() -> String {
    format!("http://room-engine.{SIMULATOR}.svc:{PORT}")
}

/// A call that came in.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Call {
    /// Microseconds since the simulator started.
    pub at: u64,
    /// `delete_robot` or `add_robot`.
    pub command: String,
    /// `RoomId`
    pub room: String,
    /// `Member_Account`
    pub member: String,
    /// The ErrorCode.
    pub code: Option<i64>,
    /// The RequestId.
    pub request_id: String,
}

/// The simulator of a cluster.
pub struct RoomEngine<'a>(pub &'a Cluster);

impl RoomEngine<'_> {
    /// Starts it and makes the application known to it.
    ///
    /// # Errors
    /// If it does not start.
    pub async fn start(&self, image: &str) -> Result<Vec<String>> {
        self.0.apply(&manifest(image).to_string())?;
        let timeout = format!("--timeout={}s", PATIENCE.as_secs());
        self.0.kubectl.run(&["rollout", "status", "deployment/room-engine", "-n", SIMULATOR, &timeout])?;
        let app = json!({"sdkAppId": SDK_APP_ID, "secretKey": KEY});
        // The Service has its endpoints a moment after the Pod is Ready.
        wait_for(PATIENCE, "the simulator's Service", || async {
            self.send(&Method::PUT, "apps", &app).await.is_ok()
        })
        .await?;
        Ok(vec![format!("{} answers, through the API server too", endpoint())])
    }

    /// Puts `members` into a room, which has nobody else then.
    ///
    /// # Errors
    /// If it does not answer.
    pub async fn put_room(&self, room: &str, members: &[String]) -> Result<()> {
        let room = json!({"sdkAppId": SDK_APP_ID, "room": room, "members": members});
        self.send(&Method::PUT, "rooms", &room).await.map(drop)
    }

    /// Scripts a fault.
    ///
    /// # Errors
    /// If it does not answer.
    pub async fn fail(&self, fault: Value) -> Result<()> {
        self.send(&Method::POST, "faults", &fault).await.map(drop)
    }

    /// Every call so far whose room starts with `prefix`.
    ///
    /// # Errors
    /// If it does not answer.
    pub async fn calls(&self, prefix: &str) -> Result<Vec<Call>> {
        let text = self.send(&Method::GET, "calls", &Value::Null).await?;
        let calls: Vec<Call> = serde_json::from_str(&text).map_err(|error| Error::new("calls", error))?;
        Ok(calls.into_iter().filter(|call| call.room.starts_with(prefix)).collect())
    }

    /// How many members are in rooms whose name starts with `prefix`.
    ///
    /// # Errors
    /// If it does not answer.
    pub async fn population(&self, prefix: &str) -> Result<usize> {
        let text = self.send(&Method::GET, "rooms", &Value::Null).await?;
        let rooms: Vec<Value> = serde_json::from_str(&text).map_err(|error| Error::new("rooms", error))?;
        let ours =
            rooms.iter().filter(|room| room["room"].as_str().is_some_and(|name| name.starts_with(prefix)));
        Ok(ours.filter_map(|room| room["members"].as_array()).map(Vec::len).sum())
    }

    async fn send(&self, method: &Method, what: &str, body: &Value) -> Result<String> {
        let path =
            format!("/api/v1/namespaces/{SIMULATOR}/services/http:room-engine:{PORT}/proxy/simulator/{what}");
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .body(body)
            .map_err(|error| Error::new(what, error))?;
        self.0.client.request_text(request).await.map_err(told)
    }
}

fn manifest(image: &str) -> Value {
    let labels = json!({"app.kubernetes.io/name": "room-engine-simulator"});
    json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "room-engine", "namespace": SIMULATOR},
         "spec": {"selector": labels, "ports": [{"name": "http", "port": PORT, "targetPort": "http"}]}},
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "room-engine", "namespace": SIMULATOR, "labels": labels},
         "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": {
            "automountServiceAccountToken": false,
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": "simulator", "image": image, "imagePullPolicy": "IfNotPresent",
                "env": [{"name": "SIMULATOR_LISTEN", "value": format!("0.0.0.0:{PORT}")}],
                "ports": [{"name": "http", "containerPort": PORT}],
                "readinessProbe": {"httpGet": {"path": "/simulator/rooms", "port": "http"}, "periodSeconds": 1},
                "securityContext": {"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]}},
                "resources": {"requests": {"cpu": "100m", "memory": "32Mi"}, "limits": {"memory": "128Mi"}},
            }],
         }}}},
    ]})
}
