//! What `make plugin` packs is what krew installs: the right name, version, digest and binary.

use crate::harness;
use ring::digest::{SHA256, digest};
use serde_json::Value;
use std::{fs, process::Command};

const TEMPLATE: &str = "deploy/krew/roomrobot.yaml";

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_packed_plugin_is_the_one_that_krews_manifest_names() {
    let folder = tempfile::tempdir().unwrap();
    let (packed, unpacked) = (folder.path().join("packed"), folder.path().join("unpacked"));
    let binary = harness::plugin();
    run(Command::new("deploy/krew/pack")
        .arg(&packed)
        .args(["https://example.com/files", &format!("amd64={}", binary.display())]));
    let text = fs::read_to_string(packed.join("roomrobot.yaml")).unwrap();
    assert!(!text.contains('%'), "{text}");
    let manifest: Value = serde_saphyr::from_str(&text).unwrap();
    let version = concat!("v", env!("CARGO_PKG_VERSION"));
    assert_eq!(manifest["kind"], "Plugin");
    assert_eq!(manifest["metadata"]["name"], "roomrobot", "kubectl calls kubectl-roomrobot by this");
    assert_eq!(manifest["spec"]["version"], version);
    let platforms = manifest["spec"]["platforms"].as_array().unwrap();
    let [platform] = platforms.as_slice() else { panic!("only amd64 was packed: {text}") };
    assert_eq!(platform["selector"]["matchLabels"]["arch"], "amd64");
    let archive = format!("kubectl-roomrobot_{version}_linux_amd64.tar.gz");
    assert_eq!(platform["uri"], format!("https://example.com/files/{archive}"));
    let archive = packed.join(archive);
    let sum = digest(&SHA256, &fs::read(&archive).unwrap());
    let sum = sum.as_ref().iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    assert_eq!(platform["sha256"], sum);
    fs::create_dir(&unpacked).unwrap();
    run(Command::new("tar").arg("-C").arg(&unpacked).arg("-xzf").arg(&archive));
    assert!(unpacked.join("LICENSE").is_file());
    let said = run(Command::new(unpacked.join(platform["bin"].as_str().unwrap())).arg("--version"));
    assert_eq!(said.trim(), concat!("kubectl-roomrobot ", env!("CARGO_PKG_VERSION")));
    // kubectl runs this one, in the PATH beside the plugin, with the words so far.
    let path = format!("{}:{}", unpacked.display(), std::env::var("PATH").unwrap());
    let completed = run(Command::new(unpacked.join("kubectl_complete-roomrobot"))
        .args(["-n", "x", "do"])
        .env("PATH", path));
    assert!(completed.starts_with("doctor\t") && completed.ends_with(":4\n"), "{completed}");
}

/// No digest is committed: each belongs to an archive that somebody built.
#[test]
fn the_template_has_a_place_for_each_digest() {
    let text = fs::read_to_string(TEMPLATE).unwrap();
    let template: Value = serde_saphyr::from_str(&text).unwrap();
    for platform in template["spec"]["platforms"].as_array().unwrap() {
        assert_eq!(
            (&platform["sha256"], &platform["bin"]),
            (&"%SHA256%".into(), &"kubectl-roomrobot".into())
        );
    }
}
