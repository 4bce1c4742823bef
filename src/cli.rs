//! The command line: `run`, `crds`, and `hook` for the Helm chart. Every flag has an environment variable
//! `ROOMROBOT_<FLAG>`.

use clap::{Args, Parser, Subcommand, ValueEnum};
use roomrobot_core::endpoint::Endpoint;
use serde::Deserialize;
use std::net::SocketAddr;

/// Kubernetes operator that makes the removal of Tencent RTC room robots declarative and certain.
#[derive(Debug, Parser)]
#[command(name = "roomrobot-operator", version, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the program can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the operator against the cluster of the Pod, else of KUBECONFIG.
    Run(Box<Run>),
    /// Print the CustomResourceDefinitions as YAML.
    Crds,
    /// What the Helm chart's hooks run.
    #[command(subcommand)]
    Hook(Hook),
}

/// What the Helm chart's hooks run.
#[derive(Debug, Subcommand)]
pub enum Hook {
    /// Create or update RtcApplications.
    ApplyApplications {
        /// The applications, as a JSON list of names and specs.
        #[arg(long, env = "ROOMROBOT_APPLICATIONS", value_name = "JSON", value_parser = manifests)]
        applications: Manifests,
    },
    /// Fail with a list while RoomRobots remain.
    UninstallGuard(Guard),
    /// Fail if the operator does not do its work.
    Check(Check),
}

/// Whose RoomRobots the guard looks for: those that the operator watches.
#[derive(Debug, Args)]
pub struct Guard {
    /// A namespace to look in; repeatable [default: all namespaces].
    #[arg(long, env = "ROOMROBOT_WATCH_NAMESPACE", value_name = "NAMESPACE", value_delimiter = ',', value_parser = name)]
    pub watch_namespace: Vec<String>,

    /// Labels of the RoomRobots to look for.
    #[arg(long, env = "ROOMROBOT_SELECTOR", value_name = "LABELS", value_parser = selector)]
    pub selector: Option<String>,
}

/// What the check asks.
#[derive(Debug, Args)]
pub struct Check {
    /// Where the operator's Service is.
    #[arg(long, env = "ROOMROBOT_URL")]
    pub url: String,

    /// The applications that must be ready, as a JSON list of names and specs.
    #[arg(long, env = "ROOMROBOT_APPLICATIONS", value_name = "JSON", value_parser = manifests, default_value = "[]")]
    pub applications: Manifests,
}

/// Several applications.
pub type Manifests = std::sync::Arc<[Manifest]>;

/// An RtcApplication from the chart's values.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Its name.
    pub name: String,
    /// Its spec; the API server checks it.
    pub spec: serde_json::Value,
}

/// How the operator runs.
#[derive(Clone, Debug, Args)]
pub struct Run {
    /// The operator's own namespace: Secrets, Lease, Events without another place
    /// [default: the ServiceAccount's namespace, else roomrobot-system].
    #[arg(long, env = "ROOMROBOT_NAMESPACE", value_parser = name)]
    pub namespace: Option<String>,

    /// A namespace whose RoomRobots are watched; repeatable [default: all namespaces].
    #[arg(long, env = "ROOMROBOT_WATCH_NAMESPACE", value_name = "NAMESPACE", value_delimiter = ',', value_parser = name)]
    pub watch_namespace: Vec<String>,

    /// Labels of the RoomRobots that are watched, one shard each, such as `shard=a`.
    #[arg(long, env = "ROOMROBOT_SELECTOR", value_name = "LABELS", value_parser = selector)]
    pub selector: Option<String>,

    /// An endpoint that calls may go to, besides the vendor's https hosts; repeatable. Scheme, host and port count.
    /// The only way to plain http.
    #[arg(long, env = "ROOMROBOT_ALLOW_ENDPOINT", value_name = "URL", value_delimiter = ',', value_parser = endpoint)]
    pub allow_endpoint: Vec<Endpoint>,

    /// Whether only one of several replicas acts, the holder of the Lease `roomrobot-operator`.
    #[arg(
        long, env = "ROOMROBOT_LEADER_ELECT", default_value_t = true, action = clap::ArgAction::Set,
        num_args = 0..=1, default_missing_value = "true", value_name = "BOOL"
    )]
    pub leader_elect: bool,

    /// Where /livez, /readyz and /metrics are served.
    #[arg(long, env = "ROOMROBOT_LISTEN", default_value = "0.0.0.0:8080", value_name = "ADDRESS")]
    pub listen: SocketAddr,

    /// The most writes to the API server that are under way at once; fewer where it answers slowly.
    #[arg(long, env = "ROOMROBOT_CONCURRENCY", default_value_t = 32, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub concurrency: u16,

    /// The OpenTelemetry collector that traces go to, over OTLP/HTTP to its path /v1/traces [default: no traces].
    #[cfg(feature = "otlp")]
    #[arg(long, env = "ROOMROBOT_OTLP_ENDPOINT", value_name = "URL", value_parser = endpoint)]
    pub otlp_endpoint: Option<Endpoint>,

    /// How log lines look.
    #[arg(long, env = "ROOMROBOT_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

fn name(text: &str) -> Result<String, String> {
    let label = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let edges = [text.chars().next(), text.chars().next_back()];
    let well_formed = text.len() <= 63
        && edges.iter().all(|c| c.is_some_and(label))
        && text.chars().all(|c| label(c) || c == '-');
    if well_formed { Ok(text.to_owned()) } else { Err("it is not the name of a namespace".to_owned()) }
}

fn manifests(text: &str) -> Result<Manifests, String> {
    serde_json::from_str::<Vec<Manifest>>(text).map(Into::into).map_err(|why| why.to_string())
}

fn endpoint(text: &str) -> Result<Endpoint, String> {
    text.parse::<Endpoint>().map_err(|why| why.to_string())
}

/// A label selector as `kubectl -l` takes it, checked as far as it would otherwise fail at the first list only.
fn selector(text: &str) -> Result<String, String> {
    let well_formed = |c: char| c.is_ascii_alphanumeric() || "-_./=!,() ".contains(c);
    if text.trim().is_empty() || !text.chars().all(well_formed) {
        return Err("it is not a label selector, such as shard=a".to_owned());
    }
    Ok(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    fn run(args: &[&str]) -> Result<Run, String> {
        let args = ["roomrobot-operator", "run"].iter().chain(args);
        match Cli::try_parse_from(args).map_err(|error| error.to_string())?.command {
            Command::Run(run) => Ok(*run),
            other => Err(format!("{other:?}")),
        }
    }

    #[test]
    fn every_flag_has_its_environment_variable() {
        let cli = Cli::command();
        let run = cli.find_subcommand("run").unwrap();
        let flags: Vec<_> = run.get_arguments().filter(|arg| arg.get_id() != "help").collect();
        assert_eq!(flags.len(), 8 + usize::from(cfg!(feature = "otlp")));
        for flag in flags {
            let expected = format!("ROOMROBOT_{}", flag.get_long().unwrap().to_uppercase().replace('-', "_"));
            assert_eq!(flag.get_env().unwrap().to_str(), Some(expected.as_str()));
        }
    }

    #[test]
    fn defaults_are_those_of_the_contract() {
        let run = run(&[]).unwrap();
        assert!(run.leader_elect && run.namespace.is_none() && run.watch_namespace.is_empty());
        assert_eq!(run.listen.to_string(), "0.0.0.0:8080");
        assert_eq!(run.log_format, LogFormat::Text);
    }

    #[test]
    fn bad_values_are_refused_with_the_flag_and_the_reason() {
        for (args, flag, why) in [
            (
                ["--allow-endpoint", "https://x.example/path"],
                "--allow-endpoint",
                "only scheme, host and port",
            ),
            (["--namespace", "Not_A_Name"], "--namespace", "not the name of a namespace"),
            (["--selector", "a==b;c"], "--selector", "not a label selector"),
            (["--concurrency", "0"], "--concurrency", "1..=1024"),
            (["--listen", "nowhere"], "--listen", "invalid socket address"),
            (["--log-format", "xml"], "--log-format", "text, json"),
        ] {
            let error = run(&args).unwrap_err();
            assert!(error.contains(flag) && error.contains(why), "{error}");
        }
    }

    #[test]
    fn repeatable_flags_take_lists() {
        let run =
            run(&["--watch-namespace", "a", "--watch-namespace", "b,c", "--leader-elect=false"]).unwrap();
        assert_eq!(run.watch_namespace, ["a", "b", "c"]);
        assert!(!run.leader_elect);
    }
}
