//! Every value changes what it says, and a value that means nothing is refused with its path.

use super::{
    generated,
    helm::{chart, documents, helm, template},
};
use serde_json::{Value, json};
use std::{collections::BTreeSet, fs};
use tempfile::TempDir;

/// A value, what to set with it, and what is then rendered that was not before; with `!` what is no longer.
#[allow(clippy::too_many_lines, reason = "a table")]
fn table() -> Vec<(&'static str, Value, Value, &'static str)> {
    let none = json!({});
    let network = json!({"networkPolicy": {"enabled": true}});
    let service = json!({"serviceMonitor": {"enabled": true}});
    let pod = json!({"podMonitor": {"enabled": true}});
    let alerts = json!({"prometheusRule": {"enabled": true}});
    let dashboard = json!({"dashboard": {"enabled": true}});
    let rules = json!([{"action": "labeldrop", "regex": "unwanted"}]);
    vec![
        ("nameOverride", json!("other"), none.clone(), "app.kubernetes.io/name: other"),
        ("fullnameOverride", json!("other"), none.clone(), "kind: Deployment\nmetadata:\n  name: other\n"),
        ("image.repository", json!("mine/op"), none.clone(), "image: \"mine/op:0.1.0\""),
        ("image.tag", json!("v9"), none.clone(), "image: \"roomrobot-operator:v9\""),
        (
            "image.digest",
            json!(format!("sha256:{}", "a".repeat(64))),
            none.clone(),
            "image: \"roomrobot-operator@sha256:aaaa",
        ),
        ("image.pullPolicy", json!("Always"), none.clone(), "imagePullPolicy: Always"),
        (
            "imagePullSecrets",
            json!([{"name": "pull"}]),
            none.clone(),
            "imagePullSecrets:\n        - name: pull",
        ),
        ("replicaCount", json!(3), none.clone(), "replicas: 3"),
        ("leaderElection.enabled", json!(false), json!({"replicaCount": 1}), "--leader-elect=false"),
        ("watchNamespaces", json!(["event"]), none.clone(), "- --watch-namespace=event"),
        ("selector", json!("shard=a"), none.clone(), "- \"--selector=shard=a\""),
        ("allowEndpoints", json!(["http://sim:80"]), none.clone(), "- \"--allow-endpoint=http://sim:80\""),
        ("logFormat", json!("text"), none.clone(), "- --log-format=text"),
        ("logLevel", json!("debug"), none.clone(), "- name: RUST_LOG\n              value: \"debug\""),
        ("concurrency", json!(8), none.clone(), "- --concurrency=8"),
        ("otlpEndpoint", json!("http://c:4318"), none.clone(), "- \"--otlp-endpoint=http://c:4318\""),
        (
            "applications",
            json!([{"name": "a", "spec": {"sdkAppId": 1}, "existingSecret": "k"}]),
            none.clone(),
            "kind: Job\nmetadata:\n  name: roomrobot-operator-apps",
        ),
        ("crds.enabled", json!(false), none.clone(), "!kind: CustomResourceDefinition"),
        ("crds.keep", json!(false), none.clone(), "!helm.sh/resource-policy: keep"),
        ("crds.annotations", json!({"a": "b"}), none.clone(), "annotations:\n    a: b\n"),
        ("admissionPolicy.enabled", json!(true), none.clone(), "kind: MutatingAdmissionPolicy"),
        ("uninstallGuard.enabled", json!(false), none.clone(), "!helm.sh/hook: pre-delete"),
        ("uninstallGuard.timeoutSeconds", json!(77), none.clone(), "activeDeadlineSeconds: 77"),
        (
            "serviceAccount.create",
            json!(false),
            json!({"serviceAccount": {"name": "mine"}}),
            "!kind: ServiceAccount\nmetadata:\n  name: mine",
        ),
        ("serviceAccount.name", json!("mine"), none.clone(), "serviceAccountName: mine"),
        ("serviceAccount.annotations", json!({"a": "b"}), none.clone(), "annotations:\n    a: b"),
        ("rbac.create", json!(false), none.clone(), "!kind: RoleBinding"),
        ("rbac.aggregate", json!(false), none.clone(), "!aggregate-to-view"),
        ("service.enabled", json!(false), none.clone(), "!kind: Service\n"),
        ("service.port", json!(9000), none.clone(), "port: 9000"),
        ("service.annotations", json!({"a": "b"}), none.clone(), "annotations:\n    a: b"),
        ("resources.requests.cpu", json!("1"), none.clone(), "cpu: \"1\""),
        ("resources.requests.memory", json!("1Gi"), none.clone(), "memory: 1Gi"),
        ("resources.limits.memory", json!("1Gi"), none.clone(), "memory: 1Gi"),
        ("podDisruptionBudget.enabled", json!(false), none.clone(), "!kind: PodDisruptionBudget"),
        ("podDisruptionBudget.maxUnavailable", json!("50%"), none.clone(), "maxUnavailable: 50%"),
        ("topologySpread.enabled", json!(false), none.clone(), "!topologySpreadConstraints"),
        (
            "topologySpreadConstraints",
            json!([{"topologyKey": "rack"}]),
            none.clone(),
            "topologySpreadConstraints:\n        - topologyKey: rack",
        ),
        ("priorityClassName", json!("high"), none.clone(), "priorityClassName: high"),
        ("nodeSelector", json!({"a": "b"}), none.clone(), "nodeSelector:\n        a: b"),
        (
            "tolerations",
            json!([{"operator": "Exists"}]),
            none.clone(),
            "tolerations:\n        - operator: Exists",
        ),
        ("affinity", json!({"nodeAffinity": {}}), none.clone(), "affinity:\n        nodeAffinity: {}"),
        ("commonLabels", json!({"team": "rtc"}), none.clone(), "    team: rtc"),
        ("podLabels", json!({"a": "b"}), none.clone(), "        a: b\n"),
        ("podAnnotations", json!({"a": "b"}), none.clone(), "annotations:\n        a: b"),
        ("podSecurityContext", json!({"runAsUser": 1000}), none.clone(), "runAsUser: 1000"),
        ("securityContext", json!({"privileged": false}), none.clone(), "privileged: false"),
        ("terminationGracePeriodSeconds", json!(44), none.clone(), "terminationGracePeriodSeconds: 44"),
        ("livenessProbe.periodSeconds", json!(44), none.clone(), "periodSeconds: 44"),
        ("livenessProbe.failureThreshold", json!(44), none.clone(), "failureThreshold: 44"),
        ("readinessProbe.periodSeconds", json!(44), none.clone(), "periodSeconds: 44"),
        ("readinessProbe.failureThreshold", json!(44), none.clone(), "failureThreshold: 44"),
        ("networkPolicy.enabled", json!(true), none.clone(), "kind: NetworkPolicy"),
        (
            "networkPolicy.metricsFrom",
            json!([{"namespaceSelector": {}}]),
            network.clone(),
            "- namespaceSelector: {}",
        ),
        ("networkPolicy.egressPorts", json!([8443]), network.clone(), "- port: 8443"),
        ("networkPolicy.dnsPorts", json!([5353]), network.clone(), "- port: 5353\n          protocol: UDP"),
        ("otlpEndpoint", json!("http://c:4318"), network.clone(), "- port: 4318"),
        (
            "networkPolicy.extraEgress",
            json!([{"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}]),
            network,
            "cidr: 10.0.0.0/8",
        ),
        ("serviceMonitor.enabled", json!(true), json!({}), "kind: ServiceMonitor"),
        ("serviceMonitor.interval", json!("7s"), service.clone(), "interval: 7s"),
        ("serviceMonitor.scrapeTimeout", json!("7s"), service.clone(), "scrapeTimeout: 7s"),
        ("serviceMonitor.labels", json!({"a": "b"}), service.clone(), "    a: b"),
        (
            "serviceMonitor.metricRelabelings",
            rules.clone(),
            service.clone(),
            "metricRelabelings:\n        - action: labeldrop",
        ),
        ("serviceMonitor.relabelings", rules.clone(), service, "relabelings:\n        - action: labeldrop"),
        ("podMonitor.enabled", json!(true), json!({}), "kind: PodMonitor"),
        ("podMonitor.interval", json!("7s"), pod.clone(), "interval: 7s"),
        ("podMonitor.scrapeTimeout", json!("7s"), pod.clone(), "scrapeTimeout: 7s"),
        ("podMonitor.labels", json!({"a": "b"}), pod.clone(), "    a: b"),
        (
            "podMonitor.metricRelabelings",
            rules.clone(),
            pod.clone(),
            "metricRelabelings:\n        - action: labeldrop",
        ),
        ("podMonitor.relabelings", rules, pod, "relabelings:\n        - action: labeldrop"),
        // Of several releases, each misses its own.
        (
            "prometheusRule.enabled",
            json!(true),
            none.clone(),
            "absent(roomrobot_leader{namespace=\"roomrobot-system\"})",
        ),
        ("prometheusRule.labels", json!({"select": "me"}), alerts.clone(), "    select: me\n"),
        ("prometheusRule.ruleLabels", json!({"severity": "wake"}), alerts.clone(), "severity: wake"),
        (
            "prometheusRule.disabled",
            json!(["RoomRobotNoLeader"]),
            alerts.clone(),
            "!alert: RoomRobotNoLeader",
        ),
        (
            "prometheusRule.runbookBase",
            json!("https://git.example/op/"),
            alerts.clone(),
            "runbook_url: https://git.example/op/docs/runbook.md#",
        ),
        (
            "prometheusRule.additionalRules",
            json!([{"alert": "Mine", "expr": "vector(1)"}]),
            alerts,
            "- alert: Mine",
        ),
        ("dashboard.enabled", json!(true), none, "name: roomrobot-operator-dashboard"),
        (
            "dashboard.namespace",
            json!("grafana"),
            dashboard.clone(),
            "name: roomrobot-operator-dashboard\n  namespace: grafana",
        ),
        (
            "dashboard.labels",
            json!({"grafana_dashboard": "2"}),
            dashboard.clone(),
            "grafana_dashboard: \"2\"",
        ),
        ("dashboard.annotations", json!({"folder": "rtc"}), dashboard, "  annotations:\n    folder: rtc\n"),
        ("extraArgs", json!(["--listen=[::]:8080"]), json!({}), "- \"--listen=[::]:8080\""),
        ("extraEnv", json!([{"name": "A", "value": "b"}]), json!({}), "- name: A\n              value: b"),
        (
            "extraVolumes",
            json!([{"name": "v", "emptyDir": {}}]),
            json!({}),
            "volumes:\n        - emptyDir: {}",
        ),
        (
            "extraVolumeMounts",
            json!([{"name": "v", "mountPath": "/v"}]),
            json!({}),
            "volumeMounts:\n            - mountPath: /v",
        ),
        (
            "extraObjects",
            json!([{"kind": "ConfigMap", "metadata": {"name": "{{ .Release.Name }}-x"}}]),
            json!({}),
            "name: 'roomrobot-operator-x'",
        ),
    ]
}

/// `base` with `value` at `path`.
fn with(base: &Value, path: &str, value: &Value) -> Value {
    let mut all = base.clone();
    let mut at = &mut all;
    for key in path.split('.') {
        if at.is_null() {
            *at = json!({});
        }
        at = &mut at[key];
    }
    *at = value.clone();
    all
}

pub fn render(values: &Value) -> super::helm::Said {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("values.json");
    fs::write(&path, values.to_string()).unwrap();
    template(&["-f", path.to_str().unwrap()])
}

#[test]
fn every_value_does_what_it_says() {
    let table = table();
    let tested: BTreeSet<&str> = table.iter().map(|(path, ..)| *path).collect();
    for (path, ..) in generated::values() {
        assert!(tested.contains(path.as_str()), "no test of the value {path}");
    }
    for (path, value, base, wanted) in table {
        let (before, after) = (render(&base).quietly(), render(&with(&base, path, &value)).quietly());
        let (text, gone) = wanted.strip_prefix('!').map_or((wanted, false), |text| (text, true));
        assert_eq!((before.contains(text), after.contains(text)), (gone, !gone), "{path}: {text}\n{after}");
    }
}

#[test]
fn lint_is_silent() {
    let chart = chart();
    let folder = TempDir::new().unwrap();
    let all = folder.path().join("all.json");
    fs::write(&all, everything().to_string()).unwrap();
    for more in [&[][..], &["-f", all.to_str().unwrap()]] {
        let said = helm(&[&["lint", "--strict", chart.to_str().unwrap()], more].concat());
        assert!(said.ok && said.out.contains("0 chart(s) failed"), "{}{}", said.out, said.err);
        assert!(!said.out.contains("[WARNING]"), "{}", said.out);
    }
}

/// Everything on that can be on at once.
pub fn everything() -> Value {
    let mut all = json!({});
    for (path, value, ..) in table() {
        let skipped = [
            "nameOverride",
            "fullnameOverride",
            "image.",
            "crds.keep",
            "admissionPolicy",
            "serviceAccount.name",
        ];
        let fits_no_cluster = [
            "topologySpreadConstraints",
            "podSecurityContext",
            "securityContext",
            "priorityClassName",
            "extraObjects",
            "dashboard.namespace",
        ];
        if value == json!(false) || skipped.iter().chain(&fits_no_cluster).any(|it| path.starts_with(it)) {
            continue;
        }
        all = with(&all, path, &value);
    }
    all["admissionPolicy"] = json!({"enabled": true});
    all["priorityClassName"] = json!("system-cluster-critical");
    all["extraObjects"] = json!([
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "{{ .Release.Name }}-object"}},
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {{ .Release.Name }}-text\n",
    ]);
    all["applications"] = json!([
        {"name": "a", "spec": {"sdkAppId": 4_294_967_295_u32}, "existingSecret": "k"},
        {"name": "b", "spec": {"sdkAppId": 1, "identifier": "admin", "endpoint": "https://rtc.example.com",
            "requestsPerSecond": 10, "suspend": true, "allowedNamespaces": {"selector": {
                "matchLabels": {"team": "rtc"},
                "matchExpressions": [{"key": "tier", "operator": "In", "values": ["gold"]}]}}},
         "secret": {"userSig": "signed"}},
    ]);
    all
}

#[test]
fn a_typo_is_refused_with_its_path() {
    let application = |more: Value| {
        let mut it = json!({"name": "a", "spec": {"sdkAppId": 1}, "existingSecret": "k"});
        for (key, value) in more.as_object().unwrap() {
            if value.is_null() {
                it.as_object_mut().unwrap().remove(key);
            } else {
                it[key] = value.clone();
            }
        }
        json!({"applications": [it]})
    };
    let namespaces =
        |allowed: Value| application(json!({"spec": {"sdkAppId": 1, "allowedNamespaces": allowed}}));
    let mut cases = vec![
        (json!({"replicas": 3}), "additional properties 'replicas' not allowed"),
        (json!({"replicaCount": "two"}), "/replicaCount"),
        (json!({"watchNamespaces": "event"}), "/watchNamespaces"),
        (json!({"watchNamespaces": ["Not_A_Name"]}), "/watchNamespaces/0"),
        (json!({"allowEndpoints": ["https://x.example/path"]}), "/allowEndpoints/0"),
        (json!({"logFormat": "xml"}), "/logFormat"),
        (json!({"concurrency": 0}), "/concurrency"),
        (json!({"otlpEndpoint": "collector:4318"}), "/otlpEndpoint"),
        (json!({"admissionPolicy": {"enabled": "maybe"}}), "/admissionPolicy/enabled"),
        (application(json!({"spec": {"sdkAppId": 1, "requestPerSecond": 5}})), "/applications/0/spec"),
        (application(json!({"spec": {"sdkAppId": 0}})), "/applications/0/spec/sdkAppId"),
        (application(json!({"existingsecret": "k"})), "/applications/0"),
        (application(json!({"existingSecret": null, "secret": {"key": "k"}})), "/applications/0/secret"),
        (application(json!({"existingSecret": null})), "either existingSecret or secret"),
        (application(json!({"secret": {"secretKey": "k"}})), "either existingSecret or secret"),
        (json!({"leaderElection": {"enabled": false}}), "leaderElection.enabled"),
        (namespaces(json!({"selectors": {}})), "/applications/0/spec/allowedNamespaces"),
        (namespaces(json!({"selector": {"team": "rtc"}})), "/applications/0/spec/allowedNamespaces/selector"),
        (
            namespaces(json!({"selector": {"matchExpressions": [{"key": "team", "operator": "in"}]}})),
            "/allowedNamespaces/selector/matchExpressions/0/operator",
        ),
        (json!({"serviceMonitor": {"enabled": true}, "service": {"enabled": false}}), "service.enabled"),
    ];
    let text = fs::read_to_string(chart().join("values.yaml")).unwrap();
    let all: Value = serde_saphyr::from_str(&text).unwrap();
    // Whatever has fields of its own in values.yaml takes no others.
    let groups: Vec<String> = all
        .as_object()
        .unwrap()
        .iter()
        .filter(|(name, value)| {
            value.as_object().is_some_and(|it| !it.is_empty()) && !name.ends_with("ecurityContext")
        })
        .map(|(name, _)| name.clone())
        .collect();
    assert!(groups.len() > 12);
    let paths: Vec<String> = groups.iter().map(|group| format!("/{group}")).collect();
    for (group, path) in groups.iter().zip(&paths) {
        cases.push((json!({group: {"enabledd": true}}), path.as_str()));
    }
    for (values, path) in cases {
        let said = render(&values);
        assert!(!said.ok && said.err.contains(path), "{values}: {path}: {}", said.err);
    }
}

/// Of these values, the one document from `template` of the kind.
fn one(values: &Value, template: &str, kind: &str) -> Option<Value> {
    let source = format!("/templates/{template}\n");
    let rendered = documents(&render(values).quietly());
    rendered.into_iter().find(|(text, it)| text.contains(&source) && it["kind"] == kind).map(|(_, it)| it)
}

#[test]
fn values_that_only_work_together() {
    // One replica needs no budget, which would block drains; without an election it is never beside another.
    let alone = json!({"replicaCount": 1});
    assert!(one(&json!({}), "poddisruptionbudget.yaml", "PodDisruptionBudget").is_some());
    assert!(one(&alone, "poddisruptionbudget.yaml", "PodDisruptionBudget").is_none());
    let strategy =
        |values: &Value| one(values, "deployment.yaml", "Deployment").unwrap()["spec"]["strategy"].clone();
    assert_eq!(strategy(&alone)["type"], "RollingUpdate");
    let nobody = with(&alone, "leaderElection.enabled", &json!(false));
    assert_eq!(strategy(&nobody), json!({"type": "Recreate"}));

    // Ports of endpoints, and who may read metrics: the test Pod still may.
    let network = json!({
        "networkPolicy": {"enabled": true, "metricsFrom": [{"namespaceSelector": {}}]},
        "allowEndpoints": ["https://a.example:8443", "http://b.example", "http://[fd00::1]:8080"],
    });
    let policy = one(&network, "networkpolicy.yaml", "NetworkPolicy").unwrap();
    let ports: Vec<&Value> =
        policy["spec"]["egress"][1]["ports"].as_array().unwrap().iter().map(|it| &it["port"]).collect();
    assert_eq!(ports, [443, 6443, 8443, 80, 8080]);
    let test = one(&network, "tests/test.yaml", "Pod").unwrap();
    let from = policy["spec"]["ingress"][0]["from"].as_array().unwrap();
    assert_eq!(from[0], json!({"namespaceSelector": {}}));
    assert_eq!(from[1]["podSelector"]["matchLabels"], test["metadata"]["labels"]);

    // Pods of hooks go where the operator's go, and are marked like them.
    let scheduled = json!({
        "applications": [{"name": "a", "spec": {"sdkAppId": 1}, "existingSecret": "k"}],
        "nodeSelector": {"pool": "rtc"}, "tolerations": [{"operator": "Exists"}],
        "affinity": {"nodeAffinity": {}}, "priorityClassName": "high",
        "podLabels": {"team": "rtc"}, "podAnnotations": {"a": "b"},
        // As OpenShift wants it.
        "podSecurityContext": {"runAsUser": null, "runAsGroup": null},
    });
    let job = |name: &str| one(&scheduled, name, "Job").unwrap()["spec"]["template"].clone();
    let operator = one(&scheduled, "deployment.yaml", "Deployment").unwrap()["spec"]["template"].clone();
    let test = one(&scheduled, "tests/test.yaml", "Pod").unwrap();
    for pod in [job("applications-job.yaml"), job("uninstall-guard.yaml"), test, operator] {
        for key in ["nodeSelector", "tolerations", "affinity", "priorityClassName"] {
            assert_eq!(pod["spec"][key], scheduled[key], "{pod:#}");
        }
        let marks = (&pod["metadata"]["labels"]["team"], &pod["metadata"]["annotations"]["a"]);
        assert_eq!(marks, (&json!("rtc"), &json!("b")), "{pod:#}");
        let context = &pod["spec"]["securityContext"];
        assert!(context["runAsNonRoot"] == true && context.get("runAsUser").is_none(), "{context}");
    }

    // No name makes a label that is too long.
    let long = json!({"nameOverride": "n".repeat(63)});
    let test = one(&long, "tests/test.yaml", "Pod").unwrap();
    let label = test["metadata"]["labels"]["app.kubernetes.io/name"].as_str().unwrap();
    assert_eq!(label, format!("{}-hooks", "n".repeat(57)));
}

#[test]
fn the_policy_comes_where_it_is_served_and_the_notes_say_what_to_do() {
    let served = ["--api-versions", "admissionregistration.k8s.io/v1/MutatingAdmissionPolicy"];
    assert!(template(&served).quietly().contains("kind: MutatingAdmissionPolicy\n"));
    assert!(!template(&[]).quietly().contains("kind: MutatingAdmissionPolicy\n"));
    let off = [&served[..], &["--set", "admissionPolicy.enabled=false"]].concat();
    assert!(!template(&off).quietly().contains("kind: MutatingAdmissionPolicy\n"));

    // Only what this release serves is born with its finalizer.
    let policy = |selector: &str| {
        let on = ["--set", "admissionPolicy.enabled=true", "--set-literal", selector];
        template(&[&on[..], &["--show-only", "templates/admissionpolicy.yaml"]].concat())
    };
    let said = policy("selector=shard=a, tier==gold").quietly();
    assert!(said.contains("matchLabels:\n        shard: \"a\"\n        tier: \"gold\"\n"), "{said}");
    assert!(policy("selector=shard in (a,b)").err.contains("admissionPolicy.enabled"));

    // The notes say the next command.
    let chart = chart();
    let notes = helm(&["install", "x", chart.to_str().unwrap(), "--dry-run=client", "-n", "rtc"]).quietly();
    let notes = notes.split_once("NOTES:").unwrap().1;
    assert!(notes.contains("kubectl -n rtc rollout status deployment/x-roomrobot-operator"), "{notes}");
    assert!(
        notes.contains("kubectl -n rtc create secret generic rtc-key")
            && notes.contains("leaves out the admission policy"),
        "{notes}"
    );
    let shard = [
        "install",
        "x",
        chart.to_str().unwrap(),
        "--dry-run=client",
        "-n",
        "rtc",
        "--set",
        "selector=shard=a,applications[0].name=a,applications[0].spec.sdkAppId=1,applications[0].existingSecret=k",
    ];
    let of_a_shard = helm(&shard).quietly();
    assert!(of_a_shard.contains("    labels:\n      shard: \"a\"\n  spec:\n"), "{of_a_shard}");
    assert!(of_a_shard.contains("kubectl -n rtc create secret generic k "), "{of_a_shard}");
    for line in [
        "No image is published: `roomrobot-operator:",
        "helm test x -n rtc",
        "kubectl -n rtc logs job/x-roomrobot-operator-guard",
    ] {
        assert!(notes.contains(line), "{line}: {notes}");
    }
}
