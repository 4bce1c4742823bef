//! What the Helm chart's hooks run: `hook apply-applications`, `hook uninstall-guard`, `hook check`.
//!
//! Touches the API server with rights of its own, and standard output; nothing of the running operator.

use crate::{
    cli::{Check, Guard, Hook, Manifest},
    crd::{APPLICATION_FINALIZER, RoomRobot, RtcApplication},
    engine::application_finalizer,
    kubernetes::explain,
    operator::{self, connect},
    printable::printable,
    telemetry::root_cause,
    watch::Scope,
};
use kube::{
    Api, Client, ResourceExt,
    api::{ListParams, Patch, PatchParams},
};
use serde::de::DeserializeOwned;
use serde_json::json;
use std::{
    fmt::{Debug, Write as _},
    time::Duration,
};
use tokio::time::{Instant, sleep, timeout};

/// The manager of the fields that come from the chart's values.
const FIELD_MANAGER: &str = "roomrobot-operator-chart";

/// How long the definitions may take to be served after an install created them, the operator to let go of its
/// applications, and the checks to come out well.
const PATIENCE: Duration = Duration::from_secs(60);

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(500);

/// The longest that one look may take.
const LOOK: Duration = Duration::from_secs(10);

/// Pages of a list.
const PAGE: u32 = 500;

/// RoomRobots that the guard names; it counts the rest.
const NAMED: usize = 50;

/// Why a hook failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No way to the cluster.
    #[error(transparent)]
    Connect(#[from] operator::Error),
    /// The API server refused something, or did not answer.
    #[error("{0}: {1}")]
    Kubernetes(String, String),
    /// RoomRobots or held applications remain; the text says which, and what to do.
    #[error("{0}")]
    Remaining(String),
    /// A check did not come out well.
    #[error("{0}")]
    Check(String),
}

/// Runs `hook`, and returns what to print.
///
/// # Errors
/// As [`Error`] has them.
pub async fn run(hook: Hook) -> Result<String, Error> {
    let client = connect().await?;
    match hook {
        Hook::ApplyApplications { applications } => apply(&client, &applications).await,
        Hook::UninstallGuard(guard) => guard_uninstall(&client, guard).await,
        Hook::Check(check) => self::check(&client, &check).await,
    }
}

/// Applies the applications of the chart's values; waits until their definition is served.
async fn apply(client: &Client, applications: &[Manifest]) -> Result<String, Error> {
    let api = Api::<RtcApplication>::all(client.clone());
    let params = PatchParams::apply(FIELD_MANAGER).force();
    let mut said = String::new();
    for Manifest { name, spec } in applications {
        let object = json!({
            "apiVersion": "roomrobot.dev/v1alpha1", "kind": "RtcApplication",
            "metadata": {"name": name}, "spec": spec,
        });
        let start = Instant::now();
        loop {
            match api.patch(name, &params, &Patch::Apply(&object)).await {
                Ok(_) => break,
                // The definition is stored and not served yet.
                Err(error) if is_not_found(&error) && start.elapsed() < PATIENCE => sleep(PAUSE).await,
                Err(error) => return Err(refused(format!("RtcApplication {name}"), &error)),
            }
        }
        let _ = writeln!(said, "RtcApplication {name} applied");
    }
    Ok(said)
}

/// Fails with a list while RoomRobots remain, or while the operator still holds an application.
async fn guard_uninstall(client: &Client, guard: Guard) -> Result<String, Error> {
    let scope = Scope { namespaces: guard.watch_namespace, selector: guard.selector };
    let mut left = Left::default();
    for namespace in scope.lists() {
        let api = match &namespace {
            None => Api::<RoomRobot>::all(client.clone()),
            Some(namespace) => Api::namespaced(client.clone(), namespace),
        };
        pages(&api, "RoomRobots", scope.selector.as_deref(), |page| left.add(&page)).await?;
    }
    if left.count > 0 {
        return Err(Error::Remaining(left.text()));
    }
    // With the last robot the operator lets go of the application; taken away before that, it never would.
    let shard = scope.shard();
    let finalizer = application_finalizer(shard.as_deref());
    let holds = |name: &String| match shard {
        Some(_) => *name == finalizer,
        // The definitions may go with the release, so no part's finalizer may be left.
        None => name.starts_with(APPLICATION_FINALIZER),
    };
    let api = Api::<RtcApplication>::all(client.clone());
    let start = Instant::now();
    loop {
        let mut held = all(&api, "RtcApplications", None).await?;
        held.retain(|application| application.finalizers().iter().any(holds));
        if held.is_empty() {
            return Ok("No RoomRobot remains: the operator can go.\n".to_owned());
        }
        if start.elapsed() > PATIENCE {
            return Err(Error::Remaining(not_let_go(&held, holds)));
        }
        sleep(PAUSE).await;
    }
}

/// The applications that finalizers of operators still hold, and what to do.
fn not_let_go(held: &[RtcApplication], holds: impl Fn(&String) -> bool) -> String {
    let mut lines = String::new();
    for application in held {
        let finalizers: Vec<&str> =
            application.finalizers().iter().filter(|it| holds(it)).map(String::as_str).collect();
        let _ = writeln!(lines, "  {}  ({})", application.name_any(), finalizers.join(", "));
    }
    format!(
        "No RoomRobot remains, but these RtcApplications have not been let go, and could never be deleted:\n\n{lines}\n\
         Is the operator running? One that was given another selector or other namespaces since has left its former \
         finalizer behind. If no operator is there any more that would take it off, do so by:\n\
         \x20 kubectl edit rtcapplication NAME\n\
         Then run helm uninstall again."
    )
}

/// RoomRobots that remain: how many, and the first of them as lines. The rest is not kept, since there may be very many.
#[derive(Default)]
struct Left {
    count: usize,
    lines: String,
}

impl Left {
    fn add(&mut self, robots: &[RoomRobot]) {
        for robot in robots.iter().take(NAMED.saturating_sub(self.count)) {
            let conditions =
                robot.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
            let reason =
                |kind: &str| conditions.iter().find(|it| it.type_ == kind).map(|it| it.reason.as_str());
            let state = match (&robot.metadata.deletion_timestamp, reason("RobotDeleted")) {
                (None, _) => reason("Ready").unwrap_or("not seen yet").to_owned(),
                (Some(_), None) => "Deleting".to_owned(),
                (Some(_), Some(reason)) => format!("Deleting, {reason}"),
            };
            let namespace = robot.namespace().unwrap_or_default();
            // A reason may be anybody's who may write the status.
            let _ = writeln!(self.lines, "  {namespace}/{}  ({})", robot.name_any(), printable(&state));
        }
        self.count += robots.len();
    }

    /// The list, and what to do.
    fn text(&self) -> String {
        let (remain, them) = match self.count {
            1 => ("1 RoomRobot remains".to_owned(), "it"),
            count => (format!("{count} RoomRobots remain"), "them"),
        };
        let more = match self.count.saturating_sub(NAMED) {
            0 => String::new(),
            more => format!("  and {more} more\n"),
        };
        format!(
            "{remain}. Without the operator nothing deletes {them}, and nothing lets {them} go:\n\n{}{more}\n\
             Delete them, which removes the robots from their rooms:\n\
             \x20 kubectl delete roomrobots --all -n NAMESPACE\n\
             or leave the robots in their rooms; do this first, then delete:\n\
             \x20 kubectl get roomrobots -n NAMESPACE -o name | xargs -I{{}} kubectl patch {{}} -n NAMESPACE --type merge -p '{{\"spec\":{{\"deletionPolicy\":\"Retain\"}}}}'\n\
             Then run helm uninstall again.",
            self.lines
        )
    }
}

/// Whether the release does its work: definitions served, the operator ready, the applications of the values as well.
async fn check(client: &Client, check: &Check) -> Result<String, Error> {
    let start = Instant::now();
    loop {
        match look(client, check).await {
            Ok(said) => return Ok(said),
            Err(error) if start.elapsed() > PATIENCE => return Err(error),
            Err(_) => sleep(PAUSE).await,
        }
    }
}

async fn look(client: &Client, check: &Check) -> Result<String, Error> {
    let one = ListParams::default().limit(1);
    let robots = Api::<RoomRobot>::all(client.clone()).list(&one).await;
    robots.map_err(|error| refused("RoomRobots".to_owned(), &error))?;
    let stored = all(&Api::<RtcApplication>::all(client.clone()), "RtcApplications", None).await?;
    let mut said = String::from("The resources are served.\n");
    ready(&check.url).await?;
    let _ = writeln!(said, "The operator is ready.");
    for Manifest { name, .. } in &*check.applications {
        let found = stored.iter().find(|application| application.name_any() == *name);
        let application =
            found.ok_or_else(|| Error::Check(format!("RtcApplication {name} does not exist")))?;
        let conditions =
            application.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
        match conditions.iter().find(|condition| condition.type_ == "Ready") {
            Some(ready) if ready.status == "True" => {
                let _ = writeln!(said, "RtcApplication {name} is ready: {}.", printable(&ready.reason));
            }
            Some(not) => {
                let (reason, message) = (printable(&not.reason), printable(&not.message));
                return Err(Error::Check(format!("RtcApplication {name} is not ready: {reason}: {message}")));
            }
            None => return Err(Error::Check(format!("RtcApplication {name} has no status yet"))),
        }
    }
    Ok(said)
}

/// Asks the operator's Service.
async fn ready(url: &str) -> Result<(), Error> {
    let url = format!("{}/readyz", url.trim_end_matches('/'));
    let why = |why: String| Error::Check(format!("{url}: {why}"));
    let answer = timeout(LOOK, reqwest::get(&url)).await.map_err(|_| why("no answer".to_owned()))?;
    let answer = answer.map_err(|error| why(root_cause(&error.without_url())))?;
    if answer.status().is_success() { Ok(()) } else { Err(why(format!("answered {}", answer.status()))) }
}

/// Everything of a list; nothing where the kind is not served.
async fn all<K>(api: &Api<K>, what: &str, selector: Option<&str>) -> Result<Vec<K>, Error>
where
    K: Clone + DeserializeOwned + Debug,
{
    let mut items = Vec::new();
    pages(api, what, selector, |page| items.extend(page)).await?;
    Ok(items)
}

/// Hands a list over page by page; nothing where the kind is not served.
async fn pages<K>(
    api: &Api<K>,
    what: &str,
    selector: Option<&str>,
    mut take: impl FnMut(Vec<K>),
) -> Result<(), Error>
where
    K: Clone + DeserializeOwned + Debug,
{
    let mut params = ListParams::default().limit(PAGE);
    params.label_selector = selector.map(str::to_owned);
    loop {
        let page = match api.list(&params).await {
            Ok(page) => page,
            Err(error) if is_not_found(&error) => return Ok(()),
            Err(error) => return Err(refused(what.to_owned(), &error)),
        };
        take(page.items);
        match page.metadata.continue_ {
            Some(token) if !token.is_empty() => params = params.continue_token(&token),
            _ => return Ok(()),
        }
    }
}

fn is_not_found(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

fn refused(what: String, error: &kube::Error) -> Error {
    Error::Kubernetes(what, explain(error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, from_value};

    #[allow(clippy::needless_pass_by_value, reason = "made on the spot at every call")]
    fn robot(name: usize, more: Value) -> RoomRobot {
        let mut object = json!({
            "apiVersion": "roomrobot.dev/v1alpha1", "kind": "RoomRobot",
            "metadata": {"name": format!("r-{name}"), "namespace": "event"},
            "spec": {"roomId": "a", "memberAccount": "b"},
        });
        for (key, value) in more.as_object().unwrap() {
            object[key] = value.clone();
        }
        from_value(object).unwrap()
    }

    fn remaining(robots: &[RoomRobot]) -> String {
        let mut left = Left::default();
        for page in robots.chunks(20) {
            left.add(page);
        }
        left.text()
    }

    #[test]
    fn the_guard_names_each_robot_with_its_state_and_says_what_to_do() {
        let condition = |kind: &str, reason: &str| {
            json!({"conditions": [{"type": kind, "status": "False", "reason": reason, "message": "",
                "lastTransitionTime": "2026-01-01T00:00:00Z"}]})
        };
        let deleting =
            json!({"name": "r-2", "namespace": "event", "deletionTimestamp": "2026-01-01T00:00:00Z"});
        let text = remaining(&[
            robot(0, json!({})),
            robot(1, json!({"status": condition("Ready", "Adopted")})),
            robot(2, json!({"metadata": deleting, "status": condition("RobotDeleted", "Throttled")})),
        ]);
        assert!(text.starts_with("3 RoomRobots remain. "), "{text}");
        for line in ["event/r-0  (not seen yet)", "event/r-1  (Adopted)", "event/r-2  (Deleting, Throttled)"]
        {
            assert!(text.contains(&format!("  {line}\n")), "{text}");
        }
        assert!(text.contains("kubectl delete roomrobots") && text.contains("Retain"), "{text}");
    }

    #[test]
    fn no_line_of_the_guard_is_another_persons() {
        let reason = json!({"conditions": [{"type": "Ready", "status": "True", "reason": "x)\nAll is well\u{1b}[2J",
            "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]});
        let text = remaining(&[robot(0, json!({"status": reason}))]);
        assert!(text.contains("  event/r-0  (x)\\nAll is well\\u{1b}[2J)\n"), "{text}");
    }

    #[test]
    fn the_guard_names_the_finalizers_that_hold_an_application() {
        let application = from_value(json!({
            "apiVersion": "roomrobot.dev/v1alpha1", "kind": "RtcApplication",
            "metadata": {"name": "evening", "finalizers": ["example.com/a", "roomrobot.dev/in-use-0a1b2c3d"]},
            "spec": {"sdkAppId": 1, "credentials": {"secretRef": {"name": "k"}}},
        }));
        let text = not_let_go(&[application.unwrap()], |name| name.starts_with(APPLICATION_FINALIZER));
        assert!(text.contains("\n  evening  (roomrobot.dev/in-use-0a1b2c3d)\n"), "{text}");
        assert!(text.contains("kubectl edit rtcapplication NAME"), "{text}");
    }

    #[test]
    fn a_long_list_is_cut_and_counted() {
        let robots: Vec<RoomRobot> = (0..NAMED + 7).map(|n| robot(n, json!({}))).collect();
        let text = remaining(&robots);
        assert_eq!(text.matches("event/r-").count(), NAMED);
        assert!(text.contains("and 7 more"));
        assert!(remaining(&robots[..1]).starts_with("1 RoomRobot remains. "));
    }
}
