//! The resources as the API server takes them: limits, immutability, defaults, columns, selectable fields.

use crate::harness::{World, manifest};
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use roomrobot_core::crd::{RoomRobot, RtcApplication};
use serde_json::{Value, json};

/// The API server's refusal of a robot with this spec, or `None` if it takes it.
async fn refusal(world: &World, spec: Value) -> Option<String> {
    let robot: RoomRobot = serde_json::from_value(manifest::<RoomRobot>("r", spec)).unwrap();
    let params = PostParams { dry_run: true, ..PostParams::default() };
    world.robots().create(&params, &robot).await.err().map(|error| error.to_string())
}

async fn application_refusal(world: &World, spec: Value) -> Option<String> {
    let application: RtcApplication = serde_json::from_value(manifest::<RtcApplication>("a", spec)).unwrap();
    let params = PostParams { dry_run: true, ..PostParams::default() };
    world.applications().create(&params, &application).await.err().map(|error| error.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_robot_over_the_limits_is_refused_with_the_field_and_the_limit() {
    let world = World::bare().await;
    let spec = |room: &str, member: &str| json!({"roomId": room, "memberAccount": member});
    assert_eq!(refusal(&world, spec(&"r".repeat(48), &"m".repeat(32))).await, None);
    assert_eq!(refusal(&world, spec("all ~printable !ASCII", "@RBT#_robot")).await, None);
    for (spec, says) in [
        (spec("", "m"), "spec.roomId"),
        (spec("r", ""), "spec.memberAccount"),
        (spec(&"r".repeat(49), "m"), "48"),
        (spec("r", &"m".repeat(33)), "32"),
        (spec("räum", "m"), "roomId must be 1 to 48 bytes of printable ASCII, with no blank at either end"),
        (
            spec("r", "m\n"),
            "memberAccount must be 1 to 32 bytes of printable ASCII, with no blank at either end",
        ),
        (spec(" r", "m"), "roomId must be"),
        (spec("r ", "m"), "roomId must be"),
        (spec(" ", "m"), "roomId must be"),
        (spec("r\t", "m"), "roomId must be"),
        (spec("\u{a0}r", "m"), "roomId must be"),
        (spec("r", " m"), "memberAccount must be"),
        (spec("r", "m "), "memberAccount must be"),
    ] {
        let refused = refusal(&world, spec.clone()).await.unwrap_or_else(|| panic!("{spec} was taken"));
        assert!(refused.contains(says), "{refused}");
    }
}

/// Names that Kubernetes itself would refuse for the object that they refer to.
const NO_NAMES: [&str; 14] = [
    "Live",
    "-live",
    "live-",
    ".live",
    "live.",
    "a..b",
    "a.-b",
    "a-.b",
    "li_ve",
    "li ve",
    "live\n",
    "\u{1b}]0;x\u{7}",
    "\u{202e}evil",
    "größe",
];

#[tokio::test(flavor = "multi_thread")]
async fn what_names_another_object_is_a_dns_subdomain_name() {
    let world = World::bare().await;
    let robot = |name: &str| json!({"roomId": "r", "memberAccount": "m", "applicationRef": {"name": name}});
    let application = |name: &str| json!({"sdkAppId": 1, "credentials": {"secretRef": {"name": name}}});
    let longest = [["a"; 63].concat(), ["b"; 63].concat(), ["c"; 63].concat(), ["d"; 61].concat()].join(".");
    assert_eq!(longest.len(), 253);
    for name in ["a", "0", "live", "live-1.team-a.example", "a--b", &longest] {
        assert_eq!(refusal(&world, robot(name)).await, None, "{name}");
        assert_eq!(application_refusal(&world, application(name)).await, None, "{name}");
    }
    for name in NO_NAMES {
        let refused = refusal(&world, robot(name)).await.unwrap_or_else(|| panic!("{name:?} was taken"));
        assert!(refused.contains("applicationRef.name must be the name of an RtcApplication"), "{refused}");
        let refused = application_refusal(&world, application(name)).await;
        let refused = refused.unwrap_or_else(|| panic!("{name:?} was taken"));
        assert!(refused.contains("secretRef.name must be the name of a Secret"), "{refused}");
    }
    for (name, says) in [("", "applicationRef.name"), (&*"a".repeat(254), "253")] {
        let refused = refusal(&world, robot(name)).await.unwrap();
        assert!(refused.contains(says), "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_names_the_robot_cannot_be_changed_and_what_steers_it_can() {
    let world = World::bare().await;
    world.robot_with("r", json!({})).await;
    for (patch, says) in [
        (json!({"roomId": "other"}), "roomId is immutable"),
        (json!({"memberAccount": "other"}), "memberAccount is immutable"),
        (json!({"applicationRef": {"name": "other"}}), "applicationRef.name is immutable"),
        (json!({"deletionPolicy": "Keep"}), "Unsupported value"),
    ] {
        let patch = Patch::Merge(json!({"spec": patch}));
        let error = world.robots().patch("r", &PatchParams::default(), &patch).await.unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
    world.patch("r", json!({"spec": {"deletionPolicy": "Retain", "suspend": true}})).await;
    world.application(&world.app, json!({})).await;
    let patch = Patch::Merge(json!({"spec": {"sdkAppId": 5}}));
    let error = world
        .applications()
        .patch(&world.app, &PatchParams::default(), &patch)
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("sdkAppId is immutable"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn defaults_are_those_of_the_contract() {
    let world = World::bare().await;
    let robot = crate::harness::create(
        &world.robots(),
        manifest::<RoomRobot>("r", json!({"roomId": "r", "memberAccount": "m"})),
    )
    .await;
    assert_eq!(
        serde_json::to_value(&robot.spec).unwrap(),
        json!({"roomId": "r", "memberAccount": "m", "applicationRef": {"name": "default"},
            "creationPolicy": "Adopt", "deletionPolicy": "Delete", "suspend": false})
    );
    let spec = json!({"sdkAppId": 1, "credentials": {"secretRef": {"name": "s"}}});
    let name = crate::harness::unique("defaults");
    let application =
        crate::harness::create(&world.applications(), manifest::<RtcApplication>(&name, spec)).await;
    assert_eq!(
        serde_json::to_value(&application.spec).unwrap(),
        json!({"sdkAppId": 1, "identifier": "administrator", "endpoint": "https://console.tim.qq.com",
            "credentials": {"secretRef": {"name": "s"}}, "requestsPerSecond": 200, "suspend": false})
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_is_scheme_host_and_port() {
    let world = World::bare().await;
    let spec = |endpoint: &str| json!({"sdkAppId": 1, "endpoint": endpoint, "credentials": {"secretRef": {"name": "s"}}});
    for endpoint in
        ["https://console.tim.qq.com", "http://127.0.0.1:9000", "http://[::1]:9000", "http://simulator"]
    {
        assert_eq!(application_refusal(&world, spec(endpoint)).await, None, "{endpoint}");
    }
    for endpoint in [
        "console.tim.qq.com",
        "ftp://console.tim.qq.com",
        "https://console.tim.qq.com/v4",
        "https://console.tim.qq.com/",
        "https://console.tim.qq.com?a=b",
        "https://user@console.tim.qq.com",
        "https://user:word@console.tim.qq.com",
        "https://console.tim.qq.com:port",
        "https://",
    ] {
        let refused = application_refusal(&world, spec(endpoint))
            .await
            .unwrap_or_else(|| panic!("{endpoint} was taken"));
        assert!(refused.contains("endpoint must be scheme, host and optional port"), "{refused}");
    }
    for (more, says) in [
        (json!({"sdkAppId": 0}), "spec.sdkAppId"),
        (json!({"sdkAppId": 4_294_967_296_i64}), "4294967295"),
        (json!({"requestsPerSecond": 0}), "spec.requestsPerSecond"),
        (json!({"requestsPerSecond": 201}), "200"),
        (json!({"identifier": "i".repeat(33)}), "32"),
        (json!({"identifier": "ä"}), "identifier must be"),
        (json!({"identifier": " admin"}), "identifier must be"),
        (json!({"identifier": "admin "}), "with no blank at either end"),
    ] {
        let mut spec = spec("https://console.tim.qq.com");
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let refused =
            application_refusal(&world, spec.clone()).await.unwrap_or_else(|| panic!("{spec} was taken"));
        assert!(refused.contains(says), "{refused}");
    }
}

/// What a person sees with `kubectl`.
#[tokio::test(flavor = "multi_thread")]
async fn kubectl_shows_the_columns_and_finds_by_room() {
    let world = World::new().await;
    let _operator = world.operator().await;
    world.robot("lobby").await;
    world.robot("stage").await;
    world.all_ready(2).await;
    let kubectl = |args: &[&str]| {
        let args = [args, &["-n", &world.namespace]].concat();
        world.plane.run_kubectl(&args, None).unwrap()
    };
    let table = kubectl(&["get", "rr", "lobby"]);
    let words = |line: usize| -> Vec<String> {
        table.lines().nth(line).unwrap().split_whitespace().map(str::to_owned).collect()
    };
    assert_eq!(words(0), ["NAME", "ROOM", "ROBOT", "APPLICATION", "READY", "REASON", "DELETION", "AGE"]);
    assert_eq!(words(1)[..6], ["lobby", "lobby", "lobby", &world.app, "True", "Adopted"]);
    assert!(kubectl(&["get", "rr", "-o", "wide"]).lines().next().unwrap().contains("REQUESTID"));
    assert_eq!(
        kubectl(&["get", "roomrobots", "--field-selector", "spec.roomId=stage", "-o", "name"])
            .lines()
            .count(),
        1
    );
    let by_application = format!("spec.applicationRef.name={}", world.app);
    let list = world.robots().list(&ListParams::default().fields(&by_application)).await.unwrap();
    assert_eq!(list.items.len(), 2);
    assert!(kubectl(&["get", "rtc"]).contains("rtcapplication"));
    assert!(world.plane.run_kubectl(&["get", "rtcapp", &world.app], None).unwrap().contains("ROBOTS"));
    kubectl(&["wait", "--for=condition=Ready", "roomrobot/lobby", "--timeout=5s"]);
}
