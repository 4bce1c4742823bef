//! Log lines: text or JSON on standard error, filtered by `RUST_LOG`; and what an error says in one of them.

use crate::cli::LogFormat;
use tracing_subscriber::{EnvFilter, fmt};

/// What is logged when `RUST_LOG` says nothing: our own lines, and what libraries warn of.
const DEFAULT: &str = "warn,roomrobot_operator=info,audit=info,kube_client=off,kube_runtime=off";

/// Starts logging.
pub fn start(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(DEFAULT));
    let lines = fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => lines.with_ansi(false).init(),
        LogFormat::Json => {
            lines.json().flatten_event(true).with_current_span(false).with_span_list(false).init();
        }
    }
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
