//! A kubeconfig that cannot be read: what is said of it is one line, and shows nothing of the token that stands in it.

use super::hides;
use kube::config::Kubeconfig;
use roomrobot_client::errors::explain_config;

/// As it stands in a kubeconfig, behind bytes that may make it none.
const USERS: &str = "\nusers:\n- name: u\n  user: {token: k8s-aws-v1.secret}\n";

pub fn check(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if text.contains("secret") {
        return;
    }
    if let Err(error) = Kubeconfig::from_yaml(&format!("{text}{USERS}")) {
        let said = explain_config(&error);
        assert!(!said.contains("secret") && !hides(&said), "{said:?}");
    }
}
