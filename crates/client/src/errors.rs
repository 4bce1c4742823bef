//! What went wrong with a request to the API server, in one clause and on one line.

use kube::config::KubeconfigError;
use roomrobot_core::{api_server::refusal, printable::printable};

/// Whether there was no way to the API server, or it was lost.
#[must_use]
pub const fn is_unreachable(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Service(_) | kube::Error::HyperError(_))
}

/// A `kube` error in one clause and on one line, without the debug output that its own `Display` adds.
#[must_use]
pub fn explain(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => refusal(status),
        error if is_unreachable(error) => {
            format!("the API server cannot be reached: {}", printable(&root_cause(error)))
        }
        other => printable(&other.to_string()).into_owned(),
    }
}

/// Why there is no configuration of a cluster, in one clause and on one line. A kubeconfig that cannot be read is told by the
/// place, without the lines around it that its own `Display` shows: a token may stand in them.
#[must_use]
pub fn explain_config(error: &(dyn std::error::Error + 'static)) -> String {
    let mut causes = std::iter::successors(Some(error), |error| error.source());
    let told = match causes.find_map(|error| error.downcast_ref()) {
        Some(KubeconfigError::Parse(error)) => {
            format!("the kubeconfig cannot be read: {}", error.without_snippet())
        }
        _ => error.to_string(),
    };
    printable(&told).into_owned()
}

/// What stands at the end of an error's chain of causes: there it says what happened, and above that only where.
#[must_use]
pub fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::Status;

    #[test]
    fn what_the_api_server_says_is_one_line() {
        let status =
            Status { code: 403, message: "denied:\nRtcApplication x\u{1b}[2J".into(), ..Status::default() };
        let said = r"the API server answered 403: denied:\nRtcApplication x\u{1b}[2J";
        assert_eq!(explain(&kube::Error::Api(status.boxed())), said);
    }

    #[test]
    fn what_is_wrong_with_a_kubeconfig_shows_nothing_of_it() {
        let text = "users:\n- name: u\n  user: {token: k8s-secret}\nclusters: [\n";
        let error = kube::config::Kubeconfig::from_yaml(text).unwrap_err();
        let said = explain_config(&error);
        assert!(said.starts_with("the kubeconfig cannot be read: ") && said.contains("line "), "{said}");
        assert!(!said.contains("secret") && said.lines().count() == 1, "{said}");
    }
}
