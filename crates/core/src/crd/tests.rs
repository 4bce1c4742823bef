use super::*;
use crate::robot::{Robot, Stored};
use serde_json::Value;
use std::{collections::BTreeMap, env, fs, path::PathBuf};

/// The formats of `OpenAPI` v2, which is what Kubernetes knows; it warns of any other.
const FORMATS: &[&str] = &["int32", "int64", "float", "double", "byte", "date", "date-time", "password"];

fn folder(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").join(name)
}

fn definitions() -> [Value; 2] {
    crds().map(|(_, crd)| serde_json::to_value(crd).unwrap())
}

fn version(definition: &Value) -> &Value {
    let versions = definition["spec"]["versions"].as_array().unwrap();
    assert_eq!(versions.len(), 1);
    &versions[0]
}

fn schema(definition: &Value) -> &Value {
    &version(definition)["schema"]["openAPIV3Schema"]
}

/// Every schema within `schema`, itself included, with the path of the field that it is of.
fn walk<'a>(schema: &'a Value, path: &str, visit: &mut impl FnMut(&str, &'a Value)) {
    visit(path, schema);
    if let Some(fields) = schema["properties"].as_object() {
        for (name, field) in fields {
            walk(field, &format!("{path}.{name}"), visit);
        }
    }
    for (inner, mark) in [("items", "[]"), ("additionalProperties", "{}")] {
        if schema[inner].is_object() {
            walk(&schema[inner], &format!("{path}{mark}"), visit);
        }
    }
}

fn texts<'a>(list: &'a Value, field: &str) -> Vec<&'a str> {
    list.as_array().unwrap().iter().map(|item| item[field].as_str().unwrap()).collect()
}

#[test]
fn the_committed_definitions_are_what_the_program_prints() {
    for (name, crd) in crds() {
        let path = folder("crds").join(name);
        let printed = document(&crd).unwrap();
        if env::var_os("UPDATE_CRDS").is_some() {
            fs::write(&path, &printed).unwrap();
        }
        let committed = fs::read_to_string(&path).unwrap_or_default();
        assert!(committed == printed, "{name} is stale: run UPDATE_CRDS=1 cargo test --lib crd");
    }
    let files = fs::read_dir(folder("crds")).unwrap().count();
    assert_eq!(files, crds().len(), "a file in crds/ that no definition belongs to");
}

#[test]
fn the_yaml_reads_back_as_the_same_definitions() {
    let printed = to_yaml().unwrap();
    let documents: Vec<&str> = printed.split("---\n").skip(1).collect();
    assert_eq!(documents.len(), 2);
    for (document, (_, crd)) in documents.into_iter().zip(crds()) {
        assert!(document.ends_with('\n') && !document.ends_with("\n\n"));
        let read: CustomResourceDefinition = serde_saphyr::from_str(document).unwrap();
        assert_eq!(read, crd, "the long rules and messages survive the quoting");
    }
}

#[test]
fn names_are_the_promised_ones() {
    for (definition, kind, plural, short, scope) in [
        (&definitions()[0], "RoomRobot", "roomrobots", "rr", "Namespaced"),
        (&definitions()[1], "RtcApplication", "rtcapplications", "rtcapp", "Cluster"),
    ] {
        let spec = &definition["spec"];
        assert_eq!(definition["metadata"]["name"], format!("{plural}.{GROUP}"));
        assert_eq!((&spec["group"], &spec["scope"]), (&"roomrobot.dev".into(), &scope.into()));
        let names = serde_json::json!({
            "kind": kind, "plural": plural, "singular": kind.to_lowercase(), "shortNames": [short], "categories": ["rtc"],
        });
        assert_eq!(spec["names"], names);
        let version = version(definition);
        assert_eq!(version["name"], "v1alpha1");
        assert_eq!((&version["served"], &version["storage"]), (&true.into(), &true.into()));
        assert_eq!(
            version["subresources"],
            serde_json::json!({"status": {}}),
            "a status of its own, and no scale"
        );
    }
    assert_eq!(ROBOT_FINALIZER, "roomrobot.dev/delete-robot");
    assert_eq!(APPLICATION_FINALIZER, "roomrobot.dev/in-use");
}

#[test]
fn columns_and_selectable_fields_are_the_promised_ones() {
    let [robots, applications] = definitions();
    let ready = |field| format!(".status.conditions[?(@.type==\"Ready\")].{field}");
    let columns = [
        ("Room", ".spec.roomId".to_owned(), false),
        ("Robot", ".spec.memberAccount".to_owned(), false),
        ("Application", ".spec.applicationRef.name".to_owned(), false),
        ("Ready", ready("status"), false),
        ("Reason", ready("reason"), false),
        ("Deletion", ".status.conditions[?(@.type==\"RobotDeleted\")].reason".to_owned(), false),
        ("Age", ".metadata.creationTimestamp".to_owned(), false),
        ("RequestId", ".status.lastRequest.requestId".to_owned(), true),
    ];
    let printed: Vec<_> = version(&robots)["additionalPrinterColumns"]
        .as_array()
        .unwrap()
        .iter()
        .map(|column| {
            let text = |field: &str| column[field].as_str().unwrap();
            (text("name"), text("jsonPath").to_owned(), column["priority"].as_i64().unwrap_or_default() > 0)
        })
        .collect();
    assert_eq!(printed, columns);
    assert_eq!(
        texts(&version(&robots)["selectableFields"], "jsonPath"),
        [".spec.roomId", ".spec.applicationRef.name"]
    );
    assert_eq!(version(&applications)["selectableFields"], Value::Null);
}

#[test]
fn no_format_is_one_that_kubernetes_does_not_know() {
    let mut seen = 0;
    for definition in definitions() {
        walk(schema(&definition), "", &mut |path, schema| {
            if let Some(format) = schema["format"].as_str() {
                seen += 1;
                assert!(FORMATS.contains(&format), "{path} has format {format}");
            }
        });
    }
    assert!(seen > 5, "the walk sees the formats there are");
}

/// What a rule costs is counted from the longest text there may be, and etcd must not be filled by one field.
#[test]
fn every_text_has_a_longest_length() {
    // Types of Kubernetes itself: their limits are theirs.
    let foreign = [".status.conditions[]", ".spec.allowedNamespaces.selector"];
    let mut seen = 0;
    for definition in definitions() {
        walk(schema(&definition), "", &mut |path, schema| {
            let bounded =
                schema["maxLength"].is_u64() || schema["enum"].is_array() || schema["format"].is_string();
            if schema["type"] == "string" && !foreign.iter().any(|foreign| path.starts_with(foreign)) {
                seen += 1;
                assert!(bounded, "{path} may be of any length");
            }
        });
    }
    assert!(seen >= 12, "the walk sees the texts there are");
}

#[test]
fn limits_and_defaults_are_the_promised_ones() {
    let [robots, applications] = definitions();
    let (robot, application) =
        (&schema(&robots)["properties"]["spec"], &schema(&applications)["properties"]["spec"]);
    let text = |field: &Value| (field["minLength"].as_u64(), field["maxLength"].as_u64());
    let number = |field: &Value| (field["minimum"].as_f64(), field["maximum"].as_f64());
    let of = |schema: &Value, field: &str| schema["properties"][field].clone();
    assert_eq!(text(&of(robot, "roomId")), (Some(1), Some(48)));
    assert_eq!(text(&of(robot, "memberAccount")), (Some(1), Some(32)));
    assert_eq!(text(&of(application, "identifier")), (Some(1), Some(32)));
    assert_eq!(number(&of(application, "sdkAppId")), (Some(1.0), Some(4_294_967_295.0)));
    assert_eq!(number(&of(application, "requestsPerSecond")), (Some(1.0), Some(200.0)));
    assert_eq!(of(robot, "creationPolicy")["enum"], serde_json::json!(["Adopt", "Create"]));
    assert_eq!(of(robot, "deletionPolicy")["enum"], serde_json::json!(["Delete", "Retain"]));
    assert_eq!(robot["required"], serde_json::json!(["memberAccount", "roomId"]));
    assert_eq!(application["required"], serde_json::json!(["credentials", "sdkAppId"]));
    let defaults = [
        (of(robot, "applicationRef"), serde_json::json!({"name": "default"})),
        (of(&of(robot, "applicationRef"), "name"), "default".into()),
        (of(robot, "creationPolicy"), "Adopt".into()),
        (of(robot, "deletionPolicy"), "Delete".into()),
        (of(robot, "suspend"), false.into()),
        (of(application, "identifier"), "administrator".into()),
        (of(application, "endpoint"), "https://console.tim.qq.com".into()),
        (of(application, "requestsPerSecond"), 200.into()),
        (of(application, "suspend"), false.into()),
    ];
    for (field, default) in defaults {
        assert_eq!(field["default"], default, "{}", field["description"]);
    }
}

#[test]
fn conditions_are_a_list_with_one_entry_for_each_type() {
    for definition in definitions() {
        let conditions = &schema(&definition)["properties"]["status"]["properties"]["conditions"];
        assert_eq!(conditions["x-kubernetes-list-type"], "map");
        assert_eq!(conditions["x-kubernetes-list-map-keys"], serde_json::json!(["type"]));
        let required = serde_json::json!(["lastTransitionTime", "message", "reason", "status", "type"]);
        assert_eq!(conditions["items"]["required"], required);
    }
}

/// The fields that `rule` reads, as paths from `self` or `oldSelf`, each with the place where it stands.
fn fields(rule: &str) -> Vec<(usize, Vec<&str>)> {
    let mut found = Vec::new();
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    for (at, _) in rule.match_indices(['s', 'o']) {
        let rest = &rule[at..];
        let begins = !rule[..at].ends_with(|c| word(c) || c == '.');
        if !begins || !(rest.starts_with("self.") || rest.starts_with("oldSelf.")) {
            continue;
        }
        let end = rest.find(|c| !word(c) && c != '.').unwrap_or(rest.len());
        let mut path: Vec<&str> = rest[..end].split('.').collect();
        if rest[end..].starts_with('(') {
            // A function of the field, not a field.
            path.pop();
        }
        found.push((at, path));
    }
    found
}

/// A rule that raises "no such key" on an object stored under an older schema blocks its status and its finalizer.
#[test]
fn no_rule_reads_a_field_before_it_asks_whether_it_is_there() {
    let mut rules = BTreeMap::new();
    for definition in definitions() {
        walk(schema(&definition), "", &mut |path, schema| {
            for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
                assert!(
                    rule["message"].as_str().is_some_and(|text| text.len() > 20),
                    "{rule} does not say what is wrong"
                );
                rules.insert(rule["rule"].as_str().unwrap().to_owned(), path.to_owned());
            }
        });
    }
    assert!(rules.len() >= 7, "the walk sees the rules there are");
    for (rule, at) in &rules {
        let read = fields(rule);
        // A rule of a text looks at nothing else: it is not asked where the text is not there.
        assert!(!read.is_empty() || rule.contains("self.matches("), "{rule}");
        for (place, path) in read {
            let asked = rule[..place].ends_with("has(");
            // Inside has() only what leads to the last field must be there.
            let needed = path.len() - usize::from(asked);
            for depth in 2..=needed {
                let guard = format!("has({})", path[..depth].join("."));
                let before = rule.find(&guard).is_some_and(|at| at < place);
                assert!(before, "{at}: {} is read before {guard} is asked in: {rule}", path.join("."));
            }
        }
    }
}

/// Kubernetes asks a rule again wherever its field was changed: one of the whole spec would refuse `Retain` to an object
/// whose room was stored when more was allowed.
#[test]
fn a_rule_of_one_field_stands_at_that_field() {
    for definition in definitions() {
        let spec = &schema(&definition)["properties"]["spec"];
        for rule in spec["x-kubernetes-validations"].as_array().unwrap() {
            let text = rule["rule"].as_str().unwrap();
            assert!(text.contains("oldSelf"), "{text} is asked again with each change of the spec");
        }
    }
}

#[test]
fn what_is_immutable_has_a_rule_that_says_so() {
    let [robots, applications] = definitions();
    for (definition, field) in [
        (&robots, "roomId"),
        (&robots, "memberAccount"),
        (&robots, "applicationRef.name"),
        (&applications, "sdkAppId"),
    ] {
        let rules = &schema(definition)["properties"]["spec"]["x-kubernetes-validations"];
        let found = rules.as_array().unwrap().iter().any(|rule| {
            let (text, message) = (rule["rule"].as_str().unwrap(), rule["message"].as_str().unwrap());
            text.contains(&format!("self.{field} == oldSelf.{field}")) && message.contains("immutable")
        });
        assert!(found, "{field} may be changed");
    }
}

/// An object that cannot be read is an object that cannot be deleted, and one such object fails the whole list.
#[test]
fn objects_of_other_times_are_still_read() {
    let mut read = BTreeMap::new();
    for file in fs::read_dir(folder("tests/data/old-objects")).unwrap() {
        let path = file.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let stored = serde_json::from_str::<Stored>(&text)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let robot = Robot::from(stored);
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        assert_eq!(robot.key.to_string(), format!("team-a/{name}"));
        assert_eq!((&*robot.room_id, &*robot.member_account), ("room-1", "robot-1"), "{name}");
        assert!(robot.resource_version > 100 && !robot.uid.is_empty() && robot.generation > 0, "{name}");
        read.insert(name, robot);
    }
    assert!(read.len() >= 4);
    for name in ["minimal", "without-defaults", "odd-status"] {
        let robot = &read[name];
        assert_eq!(&*robot.application, "default", "{name}");
        assert_eq!(robot.creation_policy, CreationPolicy::Adopt, "{name}");
        assert_eq!(robot.deletion_policy, DeletionPolicy::Delete, "{name}");
    }
    assert_eq!(read["minimal"].finalizers.ours, None);
    assert!(read["without-defaults"].deleting_since.is_some() && !read["without-defaults"].accepted());
    let later = &read["unknown-fields"];
    assert_eq!((&*later.application, later.finalizers.ours), ("live", Some(1)));
    assert_eq!(later.deletion_policy, DeletionPolicy::Retain, "a policy that is not known does not delete");
    assert!(read["odd-status"].accepted());
}

/// The schema takes times that jiff does not read (its year 9999 ends on 30 December), and one robot that cannot be read
/// fails the list of all.
#[test]
fn a_time_at_the_end_of_all_days_does_not_make_a_robot_unreadable() {
    for time in ["9999-12-31T23:59:59Z", "9999-12-31T00:00:00Z"] {
        let stored = serde_json::json!({
            "metadata": {"name": "a", "namespace": "b"},
            "status": {"conditions": [
                {"type": "Audited", "status": "True", "reason": "R", "message": "", "lastTransitionTime": time},
            ]},
        });
        let read = serde_json::from_value::<Stored>(stored);
        assert!(read.is_ok(), "{time}: {}", read.unwrap_err());
    }
}
