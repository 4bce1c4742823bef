//! What a deletion would call, of stored objects of any age that the operator's own engine is fed with. Each line is one of
//! them: a RoomRobot, an RtcApplication or a Namespace.
//!
//! - Each RoomRobot has one fate.
//! - Nothing is called for one without the finalizer, or whose policy is not `Delete`, or that is suspended.
//! - It says the same however often it is asked.

use k8s_openapi::{api::core::v1::Namespace, jiff::Timestamp};
use kubectl_roomrobot::{
    cluster::Seen,
    forecast::{Stored, forecast},
};
use roomrobot_core::{
    crd::{DeletionPolicy, RtcApplication},
    robot::{Robot, Stored as StoredRobot},
    status::Kind,
};
use serde_json::{Value, from_value};
use std::collections::BTreeMap;

pub fn check(bytes: &[u8]) {
    let mut robots: BTreeMap<_, Seen> = BTreeMap::new();
    let mut applications: BTreeMap<String, RtcApplication> = BTreeMap::new();
    let mut namespaces: Vec<Namespace> = Vec::new();
    for line in bytes.split(|byte| *byte == b'\n').take(12) {
        let Ok(value) = serde_json::from_slice::<Value>(line) else { continue };
        match value["kind"].as_str() {
            Some("RoomRobot") => {
                let Ok(robot) = from_value::<StoredRobot>(value.clone()).map(Robot::from) else { continue };
                robots.insert(robot.key.clone(), Seen { robot, finalizers: Vec::new(), value });
            }
            Some("RtcApplication") => {
                let Ok(application) = from_value::<RtcApplication>(value) else { continue };
                applications.insert(application.metadata.name.clone().unwrap_or_default(), application);
            }
            Some("Namespace") => namespaces.extend(from_value(value)),
            _ => {}
        }
    }
    // One whose name begins so lives on, and may take over.
    let doomed = robots.keys().filter(|key| !key.name.starts_with("heir")).cloned().collect();
    let robots: Vec<Seen> = robots.into_values().collect();
    let applications = Some(applications.into_values().collect()).filter(|list: &Vec<_>| !list.is_empty());
    let stored = Stored { robots, applications, namespaces, secrets: BTreeMap::new() };
    let now = Timestamp::from_second(1_800_000_000).unwrap();
    let told = serde_json::to_value(forecast(&stored, &doomed, now)).unwrap();
    let number = |field: &str| usize::try_from(told[field].as_u64().unwrap()).unwrap();
    let fates = told["robots"].as_array().unwrap();
    let gone: Vec<&Seen> = stored.robots.iter().filter(|seen| doomed.contains(&seen.robot.key)).collect();
    assert_eq!(fates.len(), gone.len());
    assert_eq!(number("calls") + number("withoutACall") + number("waiting"), fates.len(), "{told}");
    for (fate, Seen { robot, .. }) in fates.iter().zip(gone) {
        assert_eq!(fate["name"].as_str(), Some(&*robot.key.name));
        if fate["call"].is_null() {
            continue;
        }
        assert_eq!(fate["call"], "delete_robot");
        assert_eq!(robot.deletion_policy, DeletionPolicy::Delete, "{fate}");
        assert!(robot.finalizers.ours.is_some() && !robot.suspend, "{fate}");
        assert!(!robot.conditions.is_true(Kind::RobotDeleted), "{fate}");
    }
    assert_eq!(serde_json::to_value(forecast(&stored, &doomed, now)).unwrap(), told);
}
