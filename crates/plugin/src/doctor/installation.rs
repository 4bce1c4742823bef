//! Checks of the installation: rights, definitions, the admission policy, the operator and its clock.

use super::{CLOCKS, Report, Target};
use crate::cluster::{Cluster, at};
use k8s_openapi::{
    api::{
        authorization::v1::{
            ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec, SubjectAccessReview,
            SubjectAccessReviewSpec,
        },
        core::v1::Pod,
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::{CustomResourceDefinition, JSONSchemaProps},
};
use kube::{
    Api, ResourceExt,
    api::{ApiResource, DynamicObject, GroupVersionKind, ListParams, PostParams},
};
use roomrobot_core::crd::{self, GROUP};
use std::collections::BTreeSet;

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
pub(super) async fn rights(cluster: &Cluster, target: &Target, report: &mut Report<'_>) {
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

pub(super) fn right(group: &str, resource: &str, verb: &str, namespace: Option<&String>) -> String {
    let group = if group.is_empty() { String::new() } else { format!(".{group}") };
    let place = namespace.map_or_else(String::new, |namespace| format!(" in {namespace}"));
    format!("{verb} {resource}{group}{place}")
}

/// Both definitions, with every field of this program's; whether they are there at all.
pub(super) async fn crds(cluster: &Cluster, report: &mut Report<'_>) -> bool {
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
pub(super) async fn policy(cluster: &Cluster, report: &mut Report<'_>) {
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

pub(super) fn operator(cluster: &Cluster, report: &mut Report<'_>) {
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
pub(super) fn clocks(cluster: &Cluster, report: &mut Report<'_>) {
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

pub(super) const fn side(ahead: i64) -> &'static str {
    if ahead > 0 { "ahead of" } else { "behind" }
}
