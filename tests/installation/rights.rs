//! The rights: what the chart grants is what the operator uses, verb by verb, and each verb is missed where it is not there.

use super::{
    helm::{Cluster, NAMESPACE, RELEASE},
    release::{Install, deployment},
};
use crate::harness::{Plane, World, binary, eventually, is_true};
use k8s_openapi::api::{
    authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec},
    coordination::v1::Lease,
    rbac::v1::{ClusterRole, PolicyRule, Role},
};
use kube::{
    Api,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::json;
use std::{collections::BTreeSet, time::Duration};
use testbed::{audit::AuditLog, operator::Operator};

/// The operator in the audit log.
const OPERATOR: &str = "system:serviceaccount:roomrobot-system:roomrobot-operator";

/// Its hooks.
const HOOKS: &str = "system:serviceaccount:roomrobot-system:roomrobot-operator-hooks";

type Right = (String, String, String);

fn rights(rules: &[PolicyRule]) -> BTreeSet<Right> {
    let mut found = BTreeSet::new();
    for rule in rules {
        for group in rule.api_groups.iter().flatten() {
            for resource in rule.resources.iter().flatten() {
                found.extend(rule.verbs.iter().map(|verb| (group.clone(), resource.clone(), verb.clone())));
            }
        }
    }
    found
}

/// What a user did or tried, and whether it was forbidden.
fn tried(audit: &AuditLog, user: &str) -> BTreeSet<(Right, bool)> {
    let entries = audit.entries().unwrap().into_iter().filter(|entry| entry.user.username == user);
    entries
        .filter(|entry| !entry.object_ref.resource.is_empty())
        .map(|entry| {
            let it = entry.object_ref;
            let resource = if it.subresource.is_empty() {
                it.resource
            } else {
                format!("{}/{}", it.resource, it.subresource)
            };
            ((it.api_group, resource, entry.verb), entry.response_status.code == 403)
        })
        .collect()
}

/// Whether the operator used `verb` on `resource`.
pub fn uses(world: &World, resource: &str, verb: &str) -> bool {
    tried(&world.audit, OPERATOR).iter().any(|((_, it, did), _)| it == resource && did == verb)
}

/// Nothing was refused.
pub fn nothing_was_refused(world: &World) {
    for user in [OPERATOR, HOOKS] {
        let tries = tried(&world.audit, user);
        assert!(!tries.is_empty() && !tries.iter().any(|(_, denied)| *denied), "{user}: {tries:?}");
    }
}

/// After a release lived its life: nothing was refused, and nothing is granted in vain. `count` rights are granted.
pub async fn compare(world: &World, count: usize) {
    let client = world.client.clone();
    let cluster = Api::<ClusterRole>::all(client.clone()).get(RELEASE).await.unwrap().rules.unwrap();
    let own = Api::<Role>::namespaced(client.clone(), NAMESPACE).get(RELEASE).await.unwrap().rules.unwrap();
    let own_only = |(_, resource, _): &Right| ["secrets", "leases"].contains(&resource.as_str());
    assert!(!rights(&cluster).iter().any(own_only), "{cluster:?}");
    let granted = &rights(&cluster) | &rights(&own);
    assert_eq!(granted.len(), count, "{granted:?}");
    let tries = tried(&world.audit, OPERATOR);
    assert_eq!(tries.iter().filter(|(_, denied)| *denied).collect::<Vec<_>>(), [] as [&(Right, bool); 0]);
    let used: BTreeSet<Right> = tries.into_iter().map(|(right, _)| right).collect();
    assert_eq!(used, granted, "used and granted differ");

    let hooks =
        Api::<ClusterRole>::all(client).get(&format!("{RELEASE}-hooks")).await.unwrap().rules.unwrap();
    let mut granted = rights(&hooks);
    // To apply an object that is not there yet takes this as well; the audit log has the patch only.
    assert!(granted.remove(&of_ours("rtcapplications", "create")));
    let tries = tried(&world.audit, HOOKS);
    assert!(!tries.iter().any(|(_, denied)| *denied), "{tries:?}");
    assert_eq!(tries.into_iter().map(|(right, _)| right).collect::<BTreeSet<_>>(), granted);
}

/// The cluster's own roles: who may view sees RoomRobots, who may edit writes them, and neither decides where calls go.
pub async fn people_learn_about_robots(world: &World) {
    for role in ["view", "edit"] {
        let bind = ["create", "clusterrolebinding", role, "--clusterrole", role, "--user", role];
        world.plane.run_kubectl(&bind, None).unwrap();
        for verb in ["get", "list", "watch"] {
            for resource in ["roomrobots", "roomrobots/status", "rtcapplications", "rtcapplications/status"] {
                until_allowed(world, role, &of_ours(resource, verb), true).await;
            }
        }
    }
    for verb in ["create", "update", "patch", "delete", "deletecollection"] {
        until_allowed(world, "edit", &of_ours("roomrobots", verb), true).await;
        for (role, resource) in [
            ("view", "roomrobots"),
            ("view", "rtcapplications"),
            ("edit", "rtcapplications"),
            ("edit", "roomrobots/status"),
        ] {
            assert!(!allowed(world, role, &of_ours(resource, verb)).await, "{role}: {verb} {resource}");
        }
    }
}

fn of_ours(resource: &str, verb: &str) -> Right {
    ("roomrobot.dev".to_owned(), resource.to_owned(), verb.to_owned())
}

/// Takes away one verb after the other: the operator then misses it in its main job.
#[tokio::test(flavor = "multi_thread")]
async fn one_verb_less_is_missed() {
    let world = World::on(Plane::bare().await).await;
    let install = Install::new(&world, json!({}));
    let cluster = Cluster { world: &world, service: None };
    cluster.create_namespace().await;
    cluster.helm(&install.args("install")).await.0.quietly();
    let deployment = deployment(&world).await;
    let pod = deployment.spec.unwrap().template.spec.unwrap();

    let everywhere = Api::<ClusterRole>::all(world.client.clone());
    let own = Api::<Role>::namespaced(world.client.clone(), NAMESPACE);
    let cluster_rules = everywhere.get(RELEASE).await.unwrap().rules.unwrap();
    let own_rules = own.get(RELEASE).await.unwrap().rules.unwrap();
    let mut missed = 0;
    for (rules, global) in [(&cluster_rules, true), (&own_rules, false)] {
        for right in rights(rules) {
            let less = Patch::Merge(json!({"rules": without(rules, &right)}));
            let all = Patch::Merge(json!({"rules": rules}));
            let params = PatchParams::default();
            if global {
                everywhere.patch(RELEASE, &params, &less).await.unwrap();
            } else {
                own.patch(RELEASE, &params, &less).await.unwrap();
            }
            until_allowed(&world, OPERATOR, &right, false).await;
            let name = format!("r-{missed}");
            misses(&world, &pod, &name, &right).await;
            if global {
                everywhere.patch(RELEASE, &params, &all).await.unwrap();
            } else {
                own.patch(RELEASE, &params, &all).await.unwrap();
            }
            until_allowed(&world, OPERATOR, &right, true).await;
            missed += 1;
        }
    }
    assert_eq!(missed, 17);
    // With all of them it does its job.
    let _operator = start(&world, &pod).await;
    world.robot("whole").await;
    world.ready("whole").await;
    world.delete("whole").await;
    world.gone("whole").await;
}

fn without(rules: &[PolicyRule], (group, resource, verb): &Right) -> Vec<PolicyRule> {
    let mut less = Vec::new();
    for rule in rules {
        for one in rule.resources.iter().flatten() {
            let mut rule = PolicyRule { resources: Some(vec![one.clone()]), ..rule.clone() };
            if one == resource && rule.api_groups.iter().flatten().any(|it| it == group) {
                rule.verbs.retain(|it| it != verb);
            }
            if !rule.verbs.is_empty() {
                less.push(rule);
            }
        }
    }
    less
}

/// The API server learns of changed rights by a watch of its own.
async fn until_allowed(world: &World, user: &str, right: &Right, wanted: bool) {
    let as_stored = || async { allowed(world, user, right).await == wanted };
    eventually("the rights are as they are stored", as_stored).await;
}

/// Whether `user` may do this in the operator's namespace.
async fn allowed(world: &World, user: &str, (group, resource, verb): &Right) -> bool {
    let api = Api::<SubjectAccessReview>::all(world.client.clone());
    let (resource, subresource) =
        resource.split_once('/').map_or((resource.as_str(), None), |(a, b)| (a, Some(b)));
    let review = SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: Some(user.to_owned()),
            resource_attributes: Some(ResourceAttributes {
                group: Some(group.clone()),
                resource: Some(resource.to_owned()),
                subresource: subresource.map(str::to_owned),
                verb: Some(verb.clone()),
                namespace: Some(NAMESPACE.to_owned()),
                ..ResourceAttributes::default()
            }),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    };
    api.create(&PostParams::default(), &review).await.unwrap().status.unwrap().allowed
}

async fn start<'a>(world: &'a World, pod: &k8s_openapi::api::core::v1::PodSpec) -> Operator<'a> {
    // The one before was killed; nobody waits for its Lease here.
    let leases = Api::<Lease>::namespaced(world.client.clone(), NAMESPACE);
    leases.delete_collection(&DeleteParams::default(), &ListParams::default()).await.unwrap();
    Operator::spawn_pod(&world.plane, binary(), NAMESPACE, pod).await.unwrap()
}

/// The main job, until the API server refused the operator what it wanted of `right`.
async fn misses(world: &World, pod: &k8s_openapi::api::core::v1::PodSpec, name: &str, right: &Right) {
    let audit = world.plane.audit_log();
    let refused = || tried(&audit, OPERATOR).contains(&(right.clone(), true));
    // What the one before wrote is to be written again.
    let status = Patch::Merge(json!({"status": {"conditions": null}}));
    world.applications().patch_status(&world.app, &PatchParams::default(), &status).await.unwrap();
    let operator = start(world, pod).await;
    world.robot(name).await;
    let start = std::time::Instant::now();
    let mut deleted = false;
    while !refused() {
        assert!(start.elapsed() < Duration::from_secs(30), "nobody missed {right:?}: {}", operator.log());
        if !deleted && world.robots().get(name).await.is_ok_and(|robot| is_true(&robot, "Ready")) {
            world.delete(name).await;
            deleted = true;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    operator.kill();
    // Whatever it left.
    let none = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    let _ = world.robots().delete(name, &DeleteParams::default()).await;
    let _ = world.robots().patch(name, &PatchParams::default(), &none).await;
    let _ = world.applications().patch(&world.app, &PatchParams::default(), &none).await;
    eventually("the robot is gone", || async { world.robots().get_opt(name).await.unwrap().is_none() }).await;
}
