//! The plugin as a program, without a cluster: what it says, and by which exit code.

// A panic is how a test reports.
#![allow(clippy::unwrap_used, missing_docs)]

use std::process::{Command, Output};

fn roomrobot(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_kubectl-roomrobot"))
        .args(args)
        .env("KUBECONFIG", "/nonexistent/kubeconfig")
        .env_remove("KUBERNETES_SERVICE_HOST")
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn help_names_every_command() {
    let help = roomrobot(&["--help"]);
    let said = text(&help.stdout);
    assert!(help.status.success());
    for command in ["why", "list", "plan", "doctor", "release", "requests", "completion"] {
        assert!(said.lines().any(|line| line.trim_start().starts_with(command)), "{command}: {said}");
    }
}

#[test]
fn without_a_cluster_it_says_so_in_one_line() {
    let list = roomrobot(&["list"]);
    let said = text(&list.stderr);
    assert_eq!((list.status.code(), said.lines().count()), (Some(1), 1), "{said}");
    assert!(said.starts_with("kubectl roomrobot: "), "{said}");
}
