//! What the Helm chart's hooks run: `hook apply-applications`, `hook uninstall-guard`, `hook check`.
//!
//! Touches the API server with rights of its own, and standard output; nothing of the running operator.

use crate::{
    cli::{Check, Guard, Hook, Manifest},
    operator::{self, connect},
    watch::Scope,
};
use kube::{
    Api, Client, ResourceExt,
    api::{ListParams, Patch, PatchParams},
};
use roomrobot_client::{errors::explain, errors::root_cause};
use roomrobot_core::{
    crd::{APPLICATION_FINALIZER, RtcApplication},
    engine::application_finalizer,
    printable::printable,
    robot::{Robot, Stored},
    status::{Kind, Reason},
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

/// RoomRobots and RtcApplications that the guard names; it counts the rest.
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
    let mut left = Named::default();
    for namespace in scope.lists() {
        let api = match &namespace {
            None => Api::<Stored>::all(client.clone()),
            Some(namespace) => Api::namespaced(client.clone(), namespace),
        };
        let name = |robot: Stored| left.add(|| describe(&robot.into()));
        pages(&api, "RoomRobots", scope.selector.as_deref(), name).await?;
    }
    if left.count > 0 {
        return Err(Error::Remaining(remaining(&left)));
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
        let mut held = Named::default();
        pages(&api, "RtcApplications", None, |application| add_held(&mut held, &application, holds)).await?;
        if held.count == 0 {
            return Ok("No RoomRobot remains: the operator can go.\n".to_owned());
        }
        if start.elapsed() > PATIENCE {
            return Err(Error::Remaining(not_let_go(&held)));
        }
        sleep(PAUSE).await;
    }
}

/// Objects that stand in the way: how many, and the first of them as lines. The rest is not kept, since there may be very
/// many.
#[derive(Default)]
struct Named {
    count: usize,
    lines: String,
}

impl Named {
    fn add(&mut self, line: impl FnOnce() -> String) {
        if self.count < NAMED {
            let _ = writeln!(self.lines, "  {}", line());
        }
        self.count += 1;
    }

    /// The lines, with one for the rest.
    fn text(&self) -> String {
        match self.count.saturating_sub(NAMED) {
            0 => self.lines.clone(),
            more => format!("{}  and {more} more\n", self.lines),
        }
    }
}

/// Adds an application that finalizers of operators still hold.
fn add_held(held: &mut Named, application: &RtcApplication, holds: impl Fn(&String) -> bool) {
    let finalizers: Vec<&str> =
        application.finalizers().iter().filter(|it| holds(it)).map(String::as_str).collect();
    if !finalizers.is_empty() {
        held.add(|| format!("{}  ({})", application.name_any(), finalizers.join(", ")));
    }
}

/// The applications that are still held, and what to do.
fn not_let_go(held: &Named) -> String {
    format!(
        "No RoomRobot remains, but these RtcApplications have not been let go, and could never be deleted:\n\n{}\n\
         Is the operator running? One that was given another selector or other namespaces since has left its former \
         finalizer behind. If no operator is there any more that would take it off, do so by:\n\
         \x20 kubectl edit rtcapplication NAME\n\
         Then run helm uninstall again.",
        held.text()
    )
}

/// A robot that remains, and how it stands.
fn describe(robot: &Robot) -> String {
    let reason = |kind| robot.conditions.reason(kind).map(Reason::as_str);
    let state = match (robot.deleting_since, reason(Kind::RobotDeleted)) {
        (None, _) => reason(Kind::Ready).unwrap_or("not seen yet").to_owned(),
        (Some(_), None) => "Deleting".to_owned(),
        (Some(_), Some(reason)) => format!("Deleting, {reason}"),
    };
    format!("{}  ({state})", robot.key)
}

/// The robots that remain, and what to do.
fn remaining(left: &Named) -> String {
    let (remain, them) = match left.count {
        1 => ("1 RoomRobot remains".to_owned(), "it"),
        count => (format!("{count} RoomRobots remain"), "them"),
    };
    format!(
        "{remain}. Without the operator nothing deletes {them}, and nothing lets {them} go:\n\n{}\n\
         Delete them, which removes the robots from their rooms:\n\
         \x20 kubectl delete roomrobots --all -n NAMESPACE\n\
         or leave the robots in their rooms; do this first, then delete:\n\
         \x20 kubectl get roomrobots -n NAMESPACE -o name | xargs -I{{}} kubectl patch {{}} -n NAMESPACE --type merge -p '{{\"spec\":{{\"deletionPolicy\":\"Retain\"}}}}'\n\
         Then run helm uninstall again.",
        left.text()
    )
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
    let robots = Api::<Stored>::all(client.clone()).list(&one).await;
    robots.map_err(|error| refused("RoomRobots".to_owned(), &error))?;
    let mut stored = Vec::new();
    pages(&Api::<RtcApplication>::all(client.clone()), "RtcApplications", None, |application| {
        if check.applications.iter().any(|wanted| application.name_any() == wanted.name) {
            stored.push(application);
        }
    })
    .await?;
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

/// Hands over each object of a list, page by page; none where the kind is not served.
async fn pages<K>(
    api: &Api<K>,
    what: &str,
    selector: Option<&str>,
    mut take: impl FnMut(K),
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
        page.items.into_iter().for_each(&mut take);
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
    fn robot(name: usize, more: Value) -> Robot {
        let mut object = json!({
            "apiVersion": "roomrobot.dev/v1alpha1", "kind": "RoomRobot",
            "metadata": {"name": format!("r-{name}"), "namespace": "event"},
            "spec": {"roomId": "a", "memberAccount": "b"},
        });
        for (key, value) in more.as_object().unwrap() {
            object[key] = value.clone();
        }
        from_value::<Stored>(object).unwrap().into()
    }

    fn guard(robots: &[Robot]) -> String {
        let mut left = Named::default();
        for robot in robots {
            left.add(|| describe(robot));
        }
        remaining(&left)
    }

    #[test]
    fn the_guard_names_each_robot_with_its_state_and_says_what_to_do() {
        let condition = |kind: &str, reason: &str| {
            json!({"conditions": [{"type": kind, "status": "False", "reason": reason, "message": "",
                "lastTransitionTime": "2026-01-01T00:00:00Z"}]})
        };
        let deleting =
            json!({"name": "r-2", "namespace": "event", "deletionTimestamp": "2026-01-01T00:00:00Z"});
        let text = guard(&[
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
        let text = guard(&[robot(0, json!({"status": reason}))]);
        assert!(text.contains("  event/r-0  (Other)\n") && !text.contains("All is well"), "{text}");
    }

    #[test]
    fn the_guard_names_the_finalizers_that_hold_an_application() {
        let application = from_value(json!({
            "apiVersion": "roomrobot.dev/v1alpha1", "kind": "RtcApplication",
            "metadata": {"name": "evening", "finalizers": ["example.com/a", "roomrobot.dev/in-use-0a1b2c3d"]},
            "spec": {"sdkAppId": 1, "credentials": {"secretRef": {"name": "k"}}},
        }));
        let mut held = Named::default();
        add_held(&mut held, &application.unwrap(), |name| name.starts_with(APPLICATION_FINALIZER));
        let text = not_let_go(&held);
        assert!(text.contains("\n  evening  (roomrobot.dev/in-use-0a1b2c3d)\n"), "{text}");
        assert!(text.contains("kubectl edit rtcapplication NAME"), "{text}");
    }

    #[test]
    fn a_long_list_is_cut_and_counted() {
        let robots: Vec<Robot> = (0..NAMED + 7).map(|n| robot(n, json!({}))).collect();
        let text = guard(&robots);
        assert_eq!(text.matches("event/r-").count(), NAMED);
        assert!(text.contains("and 7 more"));
        assert!(guard(&robots[..1]).starts_with("1 RoomRobot remains. "));
    }
}
