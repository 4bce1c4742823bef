//! Who acts: the plugin finds the operator wherever it is, believes no clock but the API server's, and says nothing that
//! it cannot know.

use super::{
    doctor::{doctor, finds, none},
    roomrobot,
};
use crate::harness::{World, create, create_namespace, unique};
use k8s_openapi::{
    api::{apps::v1::ReplicaSet, coordination::v1::Lease, core::v1::Pod},
    jiff::Timestamp,
};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::{Value, json};

const SYSTEM: &str = "roomrobot-system";

/// A Lease that `holder` renewed this many seconds ago, by its own clock.
async fn lease(world: &World, namespace: &str, name: &str, holder: &str, ago: i64) {
    let api = Api::<Lease>::namespaced(world.client.clone(), namespace);
    let _ = api.delete(name, &DeleteParams::default()).await;
    let renewed = Timestamp::from_second(Timestamp::now().as_second() - ago).unwrap();
    let renewed = renewed.to_string().replace('Z', ".000000Z");
    let spec = json!({"holderIdentity": holder, "leaseDurationSeconds": 15, "renewTime": renewed});
    create(&api, json!({"metadata": {"name": name}, "spec": spec})).await;
}

async fn no_lease(world: &World, namespace: &str, name: &str) {
    let api = Api::<Lease>::namespaced(world.client.clone(), namespace);
    api.delete(name, &DeleteParams::default()).await.unwrap();
}

/// The checks of `doctor` about something.
fn about(world: &World, what: &str, more: &[&str]) -> Vec<Value> {
    let checks = doctor(world, more).json();
    checks.as_array().unwrap().iter().filter(|check| check["about"] == what).cloned().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_said_to_be_dead_who_was_only_not_found() {
    let world = World::new().await;
    world.robot("r").await;
    let why = |more: &[&str]| roomrobot(&world, &[&["why", "r", "-n", &world.namespace], more].concat());

    // No Lease at all: nobody was installed, or leader election is off, or the operator is elsewhere.
    let ran = why(&[]);
    assert!(
        ran.code == 3 && ran.out.contains("is new; the operator has not said anything yet"),
        "{}",
        ran.out
    );
    assert!(
        ran.out.contains("not known: there is no Lease roomrobot-operator in roomrobot-system"),
        "{}",
        ran.out
    );
    none(&doctor(&world, &[]));
    assert_eq!(about(&world, "operator", &[])[0]["verdict"], "note");

    // In another namespace.
    let other = unique("robots-operator");
    create_namespace(&world.client, &other).await;
    lease(&world, &other, "roomrobot-operator", "op-1-0a1b2c3d", 0).await;
    let ran = why(&[]);
    assert!(ran.code == 3 && ran.out.contains("op-1 acts"), "{}", ran.out);
    finds(
        &doctor(&world, &[]),
        "Secret",
        &format!("does not exist in {other}"),
        &format!("kubectl create secret generic {} -n {other} --from-file", world.app),
    );
    let named = why(&["--operator-namespace", SYSTEM]);
    assert!(named.out.contains("not known: there is no Lease"), "who names one means it: {}", named.out);
    no_lease(&world, &other, "roomrobot-operator").await;

    // A clock that is off is found, in both directions, and no reason to say that nobody acts.
    for (ago, side) in [(3600, "behind the API server"), (-3600, "ahead of the API server")] {
        lease(&world, SYSTEM, "roomrobot-operator", "op-1-0a1b2c3d", ago).await;
        finds(&doctor(&world, &[]), "operator's clock", side, "set the clock of its node");
        assert_eq!(about(&world, "operator", &[])[0]["verdict"], "ok");
        assert_eq!(why(&[]).code, 3);
    }

    // The Lease that a shard left is no fault while another acts. A Lease of somebody else is not looked at.
    lease(&world, SYSTEM, "roomrobot-operator", "op-1-0a1b2c3d", 0).await;
    lease(&world, SYSTEM, "roomrobot-operator-0a1b2c3d", "", 0).await;
    lease(&world, SYSTEM, "roomrobot-operator-of-others", "x-1", 0).await;
    none(&doctor(&world, &[]));
    let told = about(&world, "operator", &[]);
    assert_eq!(told.len(), 2, "{told:?}");
    let left = told.iter().find(|check| check["verdict"] == "note").unwrap()["text"].as_str().unwrap();
    assert!(left.contains("kubectl delete lease roomrobot-operator-0a1b2c3d -n roomrobot-system"), "{left}");
    assert!(why(&[]).out.contains("op-1 acts, of Lease roomrobot-operator-0a1b2c3d"));
    for name in ["roomrobot-operator", "roomrobot-operator-0a1b2c3d", "roomrobot-operator-of-others"] {
        no_lease(&world, SYSTEM, name).await;
    }
}

/// `leaderElection.enabled: false`: a Pod stands for the Lease, and needs no right to it. Its ServiceAccount is the one
/// whose rights count.
#[tokio::test(flavor = "multi_thread")]
async fn without_leader_election_a_ready_pod_acts() {
    let world = World::new().await;
    let api = Api::<Pod>::namespaced(world.client.clone(), SYSTEM);
    // A Pod whose owner is not there is removed.
    let template =
        json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "o", "image": "x"}]}});
    let spec = json!({"replicas": 0, "selector": {"matchLabels": {"a": "b"}}, "template": template});
    let sets = Api::<ReplicaSet>::namespaced(world.client.clone(), SYSTEM);
    let owner = create(&sets, json!({"metadata": {"generateName": "op-"}, "spec": spec})).await;
    let (owner, uid) = (owner.name_any(), owner.metadata.uid.unwrap());
    let pod = |account: &str| {
        json!({
            "metadata": {
                "name": "op-1",
                "labels": {"app.kubernetes.io/name": "roomrobot-operator"},
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": owner, "uid": uid}],
            },
            "spec": {
                "serviceAccountName": account,
                "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
                "containers": [{
                    "name": "operator",
                    "image": "x",
                    "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
                }],
            },
        })
    };
    create(&api, pod("roomrobot-operator")).await;
    finds(&doctor(&world, &[]), "operator", "op-1 is not ready, and there is no Lease", "kubectl logs");
    let ready = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
    api.patch_status("op-1", &PatchParams::default(), &Patch::Merge(&ready)).await.unwrap();
    none(&doctor(&world, &[]));
    assert_eq!(about(&world, "operator", &[])[0]["text"], "op-1 acts, without leader election");
    let rights = about(&world, "operator's rights", &[]);
    assert!(rights[0]["text"].as_str().unwrap().contains("(13 rights)"), "{rights:?}");

    let at_once = DeleteParams::default().grace_period(0);
    api.delete("op-1", &at_once).await.unwrap();
    create(&api, pod("another")).await;
    api.patch_status("op-1", &PatchParams::default(), &Patch::Merge(&ready)).await.unwrap();
    finds(&doctor(&world, &[]), "operator's rights", ":roomrobot-system:another may not list", "rbac.yaml");
    sets.delete(&owner, &DeleteParams::default()).await.unwrap();
    let _ = api.delete("op-1", &at_once).await;
}
