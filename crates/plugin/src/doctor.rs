//! `doctor`: everything that a call needs, checked one after the other; each fault names its mend.
//!
//! Calls nobody's room engine but for the root of its endpoint, with nothing signed. It looks from where it runs: what
//! only the operator's Pod cannot reach stands in the operator's log, and in the reason `Unreachable`.

use super::{
    Error, Finding, Result,
    cluster::{Choice, Cluster, Flags, Seen, at, http_date},
    output::{Out, Tone},
};
use clap::Args;
use k8s_openapi::{
    api::{
        authorization::v1::{
            ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec, SubjectAccessReview,
            SubjectAccessReviewSpec,
        },
        core::v1::{Pod, Secret},
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::{CustomResourceDefinition, JSONSchemaProps},
    jiff::Timestamp,
};
use kube::{
    Api, ResourceExt,
    api::{ApiResource, DynamicObject, GroupVersionKind, ListParams, PostParams},
};
use roomrobot_client::room_engine::RoomEngine;
use roomrobot_core::right::Until;
use roomrobot_core::{
    application::Credentials,
    call::TroubleKind,
    crd::{self, GROUP, RtcApplication},
    endpoint::{Allowed, Endpoint},
    explain::{self, Step, Subject},
    status::{Is, Kind, Reason},
    usersig,
};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// What is checked.
#[derive(Debug, Args)]
pub struct Target {
    /// Only this RtcApplication [default: all of them].
    application: Option<String>,
    /// An endpoint that the operator's --allow-endpoint names; repeatable.
    #[arg(long, value_name = "URL", value_parser = endpoint)]
    allow_endpoint: Vec<Endpoint>,
    /// The operator's ServiceAccount, whose rights are checked [default: that of its Pod, else roomrobot-operator].
    #[arg(long, value_name = "NAME")]
    service_account: Option<String>,
    /// Do not ask the endpoints: no DNS, no TLS, no clock of theirs.
    #[arg(long)]
    no_network: bool,
}

fn endpoint(text: &str) -> Result<Endpoint, String> {
    text.parse::<Endpoint>().map_err(|why| why.to_string())
}

/// The most seconds that two clocks may differ: a UserSig lives for a day, but the vendor refuses one of the future.
const CLOCKS: i64 = 60;

/// How a check ended.
#[derive(Clone, Copy, Debug, Serialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// Could not be looked at, or is a matter of taste.
    Note,
    /// Wrong.
    Fault,
}

/// One check.
#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
pub struct Check {
    about: String,
    verdict: Verdict,
    text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    mend: Option<String>,
}

/// The checks so far; printed as they come, where a person waits for them.
struct Report<'a> {
    flags: &'a Flags,
    out: &'a mut Out,
    checks: Vec<Check>,
}

impl Report<'_> {
    fn add(&mut self, about: &str, verdict: Verdict, text: impl Into<String>, mend: Option<String>) {
        let (text, mend) = (self.flags.put(&text.into()), mend.map(|mend| self.flags.put(&mend)));
        let check = Check { about: about.to_owned(), verdict, text, mend };
        if self.out.for_people() {
            let (word, tone) = match verdict {
                Verdict::Ok => ("ok   ", Tone::Good),
                Verdict::Note => ("note ", Tone::Waiting),
                Verdict::Fault => ("FAULT", Tone::Bad),
            };
            self.out.progress_over();
            self.out.toned(&format!("{word} {}: {}", check.about, check.text), tone);
            if let Some(mend) = &check.mend {
                self.out.line(&format!("      mend: {mend}"));
            }
        }
        self.checks.push(check);
    }

    fn ok(&mut self, about: &str, text: impl Into<String>) {
        self.add(about, Verdict::Ok, text, None);
    }

    fn note(&mut self, about: &str, text: impl Into<String>) {
        self.add(about, Verdict::Note, text, None);
    }

    fn fault(&mut self, about: &str, text: impl Into<String>, mend: impl Into<String>) {
        self.add(about, Verdict::Fault, text, Some(mend.into()));
    }
}

/// Checks everything and prints.
///
/// # Errors
/// If the API server cannot be asked at all.
pub async fn run(cluster: &Cluster, target: &Target, out: &mut Out) -> Result<Finding> {
    let mut report = Report { flags: &cluster.flags, out, checks: Vec::new() };
    let server = cluster.client.apiserver_version().await?;
    report.ok("API server", format!("answers, Kubernetes {}", server.git_version));
    rights(cluster, target, &mut report).await;
    if crds(cluster, &mut report).await {
        policy(cluster, &mut report).await;
        operator(cluster, &mut report);
        let applications = cluster.readable_applications().await?;
        if applications.is_none() {
            report.note(
                "RtcApplications",
                "you may not read them, so neither Secrets nor endpoints are looked at; ask somebody who may to run this",
            );
        }
        let readable = applications.is_some();
        let applications = applications.unwrap_or_default();
        let chosen: Vec<&RtcApplication> = applications
            .iter()
            .filter(|found| target.application.as_ref().is_none_or(|name| found.name_any() == *name))
            .collect();
        if let Some(name) = target.application.as_ref().filter(|_| readable && chosen.is_empty()) {
            return Err(Error(format!("there is no RtcApplication {name}")));
        }
        if readable && chosen.is_empty() {
            report.fault(
                "RtcApplications",
                "there is none, so no robot can be taken in charge",
                "create one: docs/reference.md#rtcapplication",
            );
        }
        clocks(cluster, &mut report);
        let robots = if chosen.is_empty() {
            Vec::new()
        } else {
            let own = BTreeSet::from([cluster.default_namespace.clone()]);
            cluster.readable_robots(&own, Choice::default(), report.out).await?.0
        };
        for found in chosen {
            application(cluster, target, found, &robots, &mut report).await;
        }
    }
    let Report { out, checks, .. } = report;
    let faults = checks.iter().filter(|check| check.verdict == Verdict::Fault).count();
    if out.for_people() {
        out.line("");
        let tone = if faults == 0 { Tone::Good } else { Tone::Bad };
        out.toned(&format!("{} checks, {faults} faults.", checks.len()), tone);
    } else {
        out.value(&checks)?;
    }
    Ok(if faults == 0 { Finding::Fine } else { Finding::NeedsAPerson })
}

/// Group, resource, verb, and whether in the operator's namespace only: what `deploy/rbac.yaml` grants.
#[rustfmt::skip]
const RIGHTS: &[(&str, &str, &[&str], bool)] = &[
    (GROUP, "roomrobots", &["list", "watch", "patch"], false),
    (GROUP, "rtcapplications", &["list", "watch", "patch"], false),
    (GROUP, "roomrobots/status", &["patch"], false),
    (GROUP, "rtcapplications/status", &["patch"], false),
    ("", "namespaces", &["list", "watch"], false),
    ("events.k8s.io", "events", &["create"], false),
    ("", "secrets", &["list", "watch"], true),
    ("coordination.k8s.io", "leases", &["get", "watch", "create", "patch"], true),
];

/// The operator's rights by `SubjectAccessReview`, and one's own by `SelfSubjectAccessReview`.
async fn rights(cluster: &Cluster, target: &Target, report: &mut Report<'_>) {
    let namespace = &cluster.operator_namespace;
    let account = match &target.service_account {
        Some(name) => name.clone(),
        None => account(cluster).await.unwrap_or_else(|| "roomrobot-operator".to_owned()),
    };
    let account = format!("system:serviceaccount:{namespace}:{account}");
    let without_lease = cluster.acting.iter().flatten().any(|leader| leader.lease.is_none());
    let api = Api::<SubjectAccessReview>::all(cluster.client.clone());
    let mut missing = Vec::new();
    let mut asked = 0;
    for (group, resource, verbs, own) in RIGHTS.iter().filter(|right| !(without_lease && right.1 == "leases"))
    {
        for verb in *verbs {
            let review = SubjectAccessReview {
                spec: SubjectAccessReviewSpec {
                    user: Some(account.clone()),
                    groups: Some(vec![
                        "system:serviceaccounts".to_owned(),
                        format!("system:serviceaccounts:{namespace}"),
                        "system:authenticated".to_owned(),
                    ]),
                    resource_attributes: Some(attributes(group, resource, verb, own.then_some(namespace))),
                    ..SubjectAccessReviewSpec::default()
                },
                ..SubjectAccessReview::default()
            };
            let Ok(answer) = api.create(&PostParams::default(), &review).await else { continue };
            asked += 1;
            if !answer.status.is_some_and(|status| status.allowed) {
                missing.push(right(group, resource, verb, own.then_some(namespace)));
            }
        }
    }
    let about = "operator's rights";
    if !missing.is_empty() {
        report.fault(
            about,
            format!("{account} may not {}", missing.join(", ")),
            "install the chart's rights again, or `kubectl apply -f deploy/rbac.yaml`; with another ServiceAccount: --service-account",
        );
    } else if asked > 0 {
        report.ok(about, format!("{account} may do all that it does ({asked} rights)"));
    } else {
        report.note(about, "you may not ask for them (create subjectaccessreviews)");
    }
    let api = Api::<SelfSubjectAccessReview>::all(cluster.client.clone());
    let mut missing = Vec::new();
    for (group, resource, verb, namespace) in [
        (GROUP, "roomrobots", "list", None),
        (GROUP, "roomrobots", "patch", None),
        (GROUP, "rtcapplications", "list", None),
        ("", "secrets", "get", Some(namespace)),
        ("coordination.k8s.io", "leases", "list", Some(namespace)),
        ("", "pods/proxy", "get", Some(namespace)),
        ("events.k8s.io", "events", "create", None),
    ] {
        let review = SelfSubjectAccessReview {
            spec: SelfSubjectAccessReviewSpec {
                resource_attributes: Some(attributes(group, resource, verb, namespace)),
                ..SelfSubjectAccessReviewSpec::default()
            },
            ..SelfSubjectAccessReview::default()
        };
        let answer = api.create(&PostParams::default(), &review).await;
        if !answer.is_ok_and(|answer| answer.status.is_some_and(|status| status.allowed)) {
            missing.push(right(group, resource, verb, namespace));
        }
    }
    if missing.is_empty() {
        report.ok("your rights", "you may read and release everything");
    } else {
        report.note("your rights", format!("you may not {}; some checks are left out", missing.join(", ")));
    }
}

/// The ServiceAccount of the Pod that acts.
async fn account(cluster: &Cluster) -> Option<String> {
    let pod = cluster.acting.iter().flatten().find_map(|leader| leader.pod.as_ref())?;
    let api = Api::<Pod>::namespaced(cluster.client.clone(), &cluster.operator_namespace);
    api.get_opt(pod).await.ok()??.spec?.service_account_name
}

fn attributes(group: &str, resource: &str, verb: &str, namespace: Option<&String>) -> ResourceAttributes {
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    ResourceAttributes {
        group: Some(group.to_owned()),
        resource: Some(resource.to_owned()),
        subresource: Some(subresource.to_owned()),
        verb: Some(verb.to_owned()),
        namespace: namespace.cloned(),
        ..ResourceAttributes::default()
    }
}

fn right(group: &str, resource: &str, verb: &str, namespace: Option<&String>) -> String {
    let group = if group.is_empty() { String::new() } else { format!(".{group}") };
    let place = namespace.map_or_else(String::new, |namespace| format!(" in {namespace}"));
    format!("{verb} {resource}{group}{place}")
}

/// Both definitions, with every field of this program's; whether they are there at all.
async fn crds(cluster: &Cluster, report: &mut Report<'_>) -> bool {
    let api = Api::<CustomResourceDefinition>::all(cluster.client.clone());
    let mend = "install the ones of this version: upgrade the chart, or `roomrobot-operator crds | kubectl apply --server-side -f -`";
    let mut all = true;
    for (_, ours) in crd::crds() {
        let name = ours.name_any();
        let about = format!("CRD {name}");
        let stored = match api.get_opt(&name).await {
            Ok(Some(stored)) => stored,
            Ok(None) => {
                report.fault(&about, "is not installed", mend);
                all = false;
                continue;
            }
            Err(error) => {
                report.note(&about, format!("cannot be read: {}", roomrobot_client::errors::explain(&error)));
                continue;
            }
        };
        let there = fields(&stored);
        let missing: Vec<String> = fields(&ours).into_iter().filter(|field| !there.contains(field)).collect();
        if there.is_empty() {
            report.fault(&about, "does not serve v1alpha1", mend);
        } else if missing.is_empty() {
            report.ok(&about, "is the one of this version");
        } else {
            report.fault(
                &about,
                format!("is older than this program: it has no {}", missing.join(", ")),
                mend,
            );
        }
    }
    all
}

/// The paths of every field of `v1alpha1`, where it is served; with them, whether the status is a subresource.
fn fields(crd: &CustomResourceDefinition) -> BTreeSet<String> {
    let mut paths = BTreeSet::new();
    let Some(version) = crd.spec.versions.iter().find(|version| version.name == "v1alpha1" && version.served)
    else {
        return paths;
    };
    if let Some(schema) = version.schema.as_ref().and_then(|schema| schema.open_api_v3_schema.as_ref()) {
        for part in ["spec", "status"] {
            if let Some(schema) = schema.properties.as_ref().and_then(|parts| parts.get(part)) {
                walk(part, schema, &mut paths);
            }
        }
    }
    if version.subresources.as_ref().is_some_and(|resources| resources.status.is_some()) {
        paths.insert("subresource status".to_owned());
    }
    paths
}

fn walk(path: &str, schema: &JSONSchemaProps, paths: &mut BTreeSet<String>) {
    paths.insert(path.to_owned());
    for (name, field) in schema.properties.iter().flatten() {
        walk(&format!("{path}.{name}"), field, paths);
    }
}

/// The policy by which RoomRobots are born with their finalizer.
async fn policy(cluster: &Cluster, report: &mut Report<'_>) {
    let about = "admission policy";
    let list = |kind: &str, plural: &str| {
        let kind = GroupVersionKind::gvk("admissionregistration.k8s.io", "v1", kind);
        let resource = ApiResource::from_gvk_with_plural(&kind, plural);
        let api: Api<DynamicObject> = Api::all_with(cluster.client.clone(), &resource);
        async move { api.list(&ListParams::default()).await }
    };
    let policies = match list("MutatingAdmissionPolicy", "mutatingadmissionpolicies").await {
        Ok(policies) => policies,
        Err(kube::Error::Api(status)) if status.code == 404 => {
            return report.note(
                about,
                "this cluster does not serve MutatingAdmissionPolicy v1; a RoomRobot that is created and deleted while no operator runs leaves without a call",
            );
        }
        Err(error) => return report.note(about, roomrobot_client::errors::explain(&error)),
    };
    let ours = policies
        .items
        .iter()
        .find(|policy| at(&policy.data, "/spec/matchConstraints").to_string().contains(GROUP));
    let Some(ours) = ours.map(ResourceExt::name_any) else {
        return report.note(
            about,
            "is not installed; a RoomRobot that is created and deleted while no operator runs leaves without a call; install it: `kubectl apply -f deploy/admission-policy.yaml`, or the chart's value",
        );
    };
    let bindings = list("MutatingAdmissionPolicyBinding", "mutatingadmissionpolicybindings").await;
    match bindings {
        Ok(bindings)
            if !bindings.items.iter().any(|binding| *at(&binding.data, "/spec/policyName") == *ours) =>
        {
            report.fault(
                about,
                format!("{ours} has no binding, so it does nothing"),
                "`kubectl apply -f deploy/admission-policy.yaml`, or install the chart again",
            );
        }
        Ok(_) => report.ok(about, format!("{ours} is there and bound")),
        Err(_) => report.note(about, format!("{ours} is there; you may not see whether it is bound")),
    }
}

fn operator(cluster: &Cluster, report: &mut Report<'_>) {
    let namespace = &cluster.operator_namespace;
    let about = "operator";
    let leaders = match &cluster.acting {
        Ok(leaders) => leaders,
        Err(why) => return report.note(about, why.as_str()),
    };
    let somebody = leaders.iter().any(|leader| leader.acts);
    for leader in leaders {
        let lease = leader.lease.as_deref().unwrap_or_default();
        let told = leader.tell();
        match (leader.acts, &leader.lease) {
            (true, Some(_)) => {
                let pod = leader.pod.as_deref().unwrap_or_default();
                report.ok(about, format!("{pod} holds Lease {lease} and acts"));
            }
            (true, None) => report.ok(about, told),
            // The Lease of a shard that was taken away stays.
            (false, _) if somebody => report.note(
                about,
                format!("Lease {lease}: {told}; if its shard is gone for good: kubectl delete lease {lease} -n {namespace}"),
            ),
            (false, _) => report.fault(
                about,
                format!("Lease {lease} in {namespace}: {told}; no operator acts"),
                format!("start it, and see what it says: kubectl logs -n {namespace} -l app.kubernetes.io/name=roomrobot-operator"),
            ),
        }
    }
}

/// The operator's clock, as it stands in its Lease, against the API server's at the same moment.
fn clocks(cluster: &Cluster, report: &mut Report<'_>) {
    let about = "operator's clock";
    for leader in cluster.acting.iter().flatten() {
        let (Some(ahead), Some(pod)) = (leader.ahead, &leader.pod) else { continue };
        if ahead.abs() > CLOCKS {
            report.fault(
                about,
                format!("{pod} is {} s {} the API server", ahead.abs(), side(ahead)),
                "set the clock of its node (chrony, systemd-timesyncd)",
            );
        } else if leader.acts {
            report.ok(about, format!("{pod} agrees with the API server"));
        }
    }
}

const fn side(ahead: i64) -> &'static str {
    if ahead > 0 { "ahead of" } else { "behind" }
}

async fn application(
    cluster: &Cluster,
    target: &Target,
    found: &RtcApplication,
    robots: &[Seen],
    report: &mut Report<'_>,
) {
    let name = found.name_any();
    if found.spec.suspend {
        report.fault(
            &format!("{name}: suspend"),
            "is true, so nothing is called",
            format!(
                r#"kubectl patch rtcapplication {name} --type merge -p '{{"spec":{{"suspend":false}}}}'"#
            ),
        );
    }
    let credentials = secret(cluster, found, report).await;
    sign(found, credentials.as_ref(), report);
    if let Some(endpoint) = allowed(target, found, report)
        && !target.no_network
    {
        knock(&name, &endpoint, report).await;
    }
    verdict(found, report);
    of_robots(&name, robots, report);
}

async fn secret(cluster: &Cluster, found: &RtcApplication, report: &mut Report<'_>) -> Option<Credentials> {
    let (namespace, secret) = (&cluster.operator_namespace, &found.spec.credentials.secret_ref.name);
    let about = format!("{}: Secret", found.name_any());
    let mend = |step: Step| step.command().replace("{secret}", secret).replace("{operator}", namespace);
    let api = Api::<Secret>::namespaced(cluster.client.clone(), namespace);
    let stored = match api.get_opt(secret).await {
        Ok(Some(stored)) => stored,
        Ok(None) if cluster.acting.is_err() && !cluster.operator_named => {
            report.note(
                &about,
                format!("{secret} does not exist in {namespace}, and no operator is seen there: name its namespace with --operator-namespace"),
            );
            return None;
        }
        Ok(None) => {
            report.fault(&about, format!("{secret} does not exist in {namespace}"), mend(Step::CreateSecret));
            return None;
        }
        Err(error) => {
            let why = roomrobot_client::errors::explain(&error);
            report.note(&about, format!("{secret} cannot be read: {why}"));
            return None;
        }
    };
    let data: BTreeMap<String, Vec<u8>> =
        stored.data.into_iter().flatten().map(|(key, value)| (key, value.0)).collect();
    let credentials = Credentials::read(Some(&data));
    match &credentials {
        Credentials::Invalid(why) => {
            let keys: Vec<&str> = data.keys().map(String::as_str).collect();
            let keys = if keys.is_empty() { "none".to_owned() } else { keys.join(", ") };
            report.fault(
                &about,
                format!("{secret} cannot be used: {why} (its keys: {keys})"),
                mend(Step::ReplaceSecret),
            );
            None
        }
        Credentials::Key(_) => {
            report.ok(&about, format!("{secret} has a secretKey"));
            Some(credentials)
        }
        _ => {
            report.ok(&about, format!("{secret} has a userSig"));
            Some(credentials)
        }
    }
}

/// A signature is made; that it is genuine only the room engine can say.
fn sign(found: &RtcApplication, credentials: Option<&Credentials>, report: &mut Report<'_>) {
    let about = format!("{}: signature", found.name_any());
    let (identifier, id) = (&found.spec.identifier, found.spec.sdk_app_id);
    match credentials {
        Some(Credentials::Key(key)) => {
            let Ok(number) = u32::try_from(id) else {
                return report.fault(&about, "sdkAppId is out of range", "correct spec.sdkAppId");
            };
            let now = Timestamp::now().as_second();
            let made = usersig::sign(key, number, identifier, now, usersig::LIFETIME);
            report.ok(&about, format!("made for {identifier} of {id}, {} bytes", made.expose().len()));
        }
        Some(_) => report.note(&about, "was made elsewhere; the operator cannot renew it"),
        None => report.note(&about, "cannot be made without the Secret"),
    }
}

/// The endpoint, if a call may go there.
fn allowed(target: &Target, found: &RtcApplication, report: &mut Report<'_>) -> Option<Endpoint> {
    let name = found.name_any();
    let about = format!("{name}: endpoint");
    let endpoint = match found.spec.endpoint.parse::<Endpoint>() {
        Ok(endpoint) => endpoint,
        Err(why) => {
            report.fault(
                &about,
                format!("cannot be used: {why}"),
                format!("kubectl edit rtcapplication {name}"),
            );
            return None;
        }
    };
    let known = Allowed::new(target.allow_endpoint.iter().cloned()).contains(&endpoint);
    let told = ready(found).filter(|ready| ready.current).map(|ready| ready.reason);
    match told {
        Some(Reason::EndpointNotAllowed) => report.fault(
            &about,
            format!("{endpoint} is none of the vendor's https hosts, and the operator does not allow it"),
            format!(
                "correct it: kubectl edit rtcapplication {name}; or start the operator with --allow-endpoint {endpoint}"
            ),
        ),
        // A brake comes before the endpoint in what the operator says.
        None | Some(Reason::Suspended) if !known => report.note(
            &about,
            format!("{endpoint} is none of the vendor's https hosts, and the operator has not said whether it allows it"),
        ),
        _ => report.ok(&about, format!("{endpoint} is allowed")),
    }
    Some(endpoint)
}

/// DNS, connection, TLS and clock of the endpoint, from here.
async fn knock(name: &str, endpoint: &Endpoint, report: &mut Report<'_>) {
    let about = format!("{name}: way to the endpoint");
    report.out.progress(&format!("asking {endpoint}"));
    let engine = match RoomEngine::new(Until::default()) {
        Ok(engine) => engine,
        Err(error) => return report.note(&about, error.to_string()),
    };
    match engine.knock(endpoint).await {
        Ok(date) => {
            report.ok(&about, format!("{endpoint} answers here"));
            let about = format!("{name}: clock");
            let Some(theirs) = date.as_deref().and_then(http_date) else {
                return report.note(&about, format!("{endpoint} does not tell the time"));
            };
            let ahead = Timestamp::now().as_second() - theirs.as_second();
            if ahead.abs() > CLOCKS {
                report.fault(
                    &about,
                    format!("this machine is {} s {} {endpoint}; a UserSig is refused where the operator's is too", ahead.abs(), side(ahead)),
                    "set the clock (chrony, systemd-timesyncd), here and on the operator's node",
                );
            } else {
                report.ok(&about, format!("agrees with {endpoint}"));
            }
        }
        Err(kind) => {
            let mend = match kind {
                TroubleKind::Name => "correct spec.endpoint, or the cluster's DNS",
                TroubleKind::Certificate => {
                    "correct spec.endpoint, or find what stands between: a proxy with a certificate of its own"
                }
                TroubleKind::Refused | TroubleKind::Connect | TroubleKind::Timeout => {
                    "correct spec.endpoint, or open the way out: firewall, NetworkPolicy, proxy"
                }
                _ => "see what stands between",
            };
            report.fault(&about, format!("{endpoint}: {}", kind.meaning()), mend);
        }
    }
}

/// What the operator says of an application.
struct Told {
    status: String,
    reason: Reason,
    message: String,
    /// Whether it is about the stored spec.
    current: bool,
}

fn ready(found: &RtcApplication) -> Option<Told> {
    let conditions = found.status.iter().flat_map(|status| &status.conditions);
    let ready = conditions.into_iter().find(|condition| condition.type_ == Kind::Ready.as_str())?;
    Some(Told {
        status: ready.status.clone(),
        reason: Reason::parse(&ready.reason),
        message: ready.message.clone(),
        current: ready.observed_generation == found.metadata.generation,
    })
}

/// What the operator itself says of the application, where nothing above has said it.
fn verdict(found: &RtcApplication, report: &mut Report<'_>) {
    let about = format!("{}: Ready", found.name_any());
    let Some(Told { status, reason, message, .. }) = ready(found) else {
        return report.note(&about, "the operator has not said anything of it yet");
    };
    let row = explain::look_up(Subject::RtcApplication, Kind::Ready, reason);
    let said_above = matches!(
        reason,
        Reason::Suspended | Reason::SecretNotFound | Reason::SecretInvalid | Reason::EndpointNotAllowed
    );
    if status == Is::True.as_str() {
        report.ok(&about, format!("{reason}: {message}"));
    } else if said_above {
        report.note(&about, format!("{reason}: {message}"));
    } else {
        let mend = row.map_or_else(|| "see the message".to_owned(), |row| row.remedy.replace('`', ""));
        report.fault(&about, format!("{reason}: {message}"), mend);
    }
}

/// RoomRobots of the application that were refused or are suspended.
fn of_robots(name: &str, robots: &[Seen], report: &mut Report<'_>) {
    let own = || robots.iter().filter(|seen| &*seen.robot.application == name);
    let refused: BTreeSet<&str> = own()
        .filter(|seen| seen.robot.conditions.reason(Kind::Accepted) == Some(Reason::NamespaceNotAllowed))
        .map(|seen| &*seen.robot.key.namespace)
        .collect();
    for namespace in refused {
        report.fault(
            &format!("{name}: namespace {namespace}"),
            "is not allowed: allowedNamespaces of the RtcApplication selects by labels that it does not have",
            format!("kubectl label namespace {namespace} KEY=VALUE, as `kubectl get rtcapplication {name} -o jsonpath='{{.spec.allowedNamespaces}}'` says"),
        );
    }
    let suspended: Vec<String> =
        own().filter(|seen| seen.robot.suspend).map(|seen| seen.robot.key.to_string()).collect();
    if let Some(first) = suspended.first() {
        let (namespace, robot) = first.split_once('/').unwrap_or_default();
        report.fault(
            &format!("{name}: RoomRobots"),
            format!("suspended, so nothing is called for them: {}, the first is {first}", suspended.len()),
            format!(r#"kubectl patch roomrobot {robot} -n {namespace} --type merge -p '{{"spec":{{"suspend":false}}}}'"#),
        );
    }
}
