//! The plugin's arguments, and one run of it.

use super::{
    Error, Finding, Result, cluster::Cluster, complete::complete, doctor, forecast, list, output::Out,
    release, requests, why,
};
use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum, error::ErrorKind};
use clap_complete::Shell;
use std::{path::PathBuf, time::Duration};

/// What waits, why, and what to type: RoomRobots of roomrobot-operator.
///
/// Exit codes: 0 nothing waits and nothing is wrong; 1 it could not be done; 2 wrong arguments; 3 something waits and
/// goes on by itself; 4 a person must act.
#[derive(Debug, Parser)]
#[command(name = "kubectl-roomrobot", bin_name = "kubectl roomrobot", version, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Which cluster, and how to print.
    #[command(flatten)]
    pub common: Common,
}

/// What every command takes.
#[derive(Clone, Debug, Args)]
pub struct Common {
    /// The namespace [default: that of the kubeconfig's context].
    #[arg(short, long, global = true)]
    pub namespace: Option<String>,
    /// All namespaces.
    #[arg(short = 'A', long, global = true, conflicts_with = "namespace")]
    pub all_namespaces: bool,
    /// The context of the kubeconfig.
    #[arg(long, global = true)]
    pub context: Option<String>,
    /// The kubeconfig [default: $KUBECONFIG, else ~/.kube/config].
    #[arg(long, global = true, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// The operator's own namespace: its Lease, its Secrets, Events of namespaces that are being deleted [default:
    /// roomrobot-system, else where its Lease or its Pods are].
    #[arg(long, global = true, env = "ROOMROBOT_NAMESPACE", value_name = "NAMESPACE")]
    pub operator_namespace: Option<String>,
    /// Where the operator's metrics are, such as `http://127.0.0.1:8080/metrics` behind `kubectl port-forward`
    /// [default: port 8080 of the Pod that holds the Lease, through the API server].
    #[arg(long, global = true, value_name = "URL")]
    pub metrics: Option<String>,
    /// How to print.
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Table)]
    pub output: Format,
}

/// How to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// For programs.
    Json,
    /// For programs.
    Yaml,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Why a RoomRobot waits, and what to type next; without a name, one for each reason in the namespace.
    Why {
        /// The RoomRobot.
        name: Option<String>,
    },
    /// Deletions that wait, of all namespaces or of one, the oldest first.
    List,
    /// What deleting a namespace, RoomRobots or a file would call. Calls and changes nothing.
    Plan(forecast::Target),
    /// Check everything that a call needs: rights, CRDs, policy, operator, Secret, endpoint, clock, signature.
    Doctor(doctor::Target),
    /// Let RoomRobots go and leave their robots in their rooms: sets `deletionPolicy: Retain` and keeps the reason.
    Release(release::Target),
    /// RequestIds of a time span, for the vendor's support: from statuses, Events and audit lines.
    Requests(requests::Source),
    /// Print a script that completes this program's arguments in a shell.
    Completion {
        /// The shell.
        shell: Shell,
    },
    /// What kubectl asks to complete `kubectl roomrobot`.
    #[command(name = "__complete", hide = true)]
    Complete {
        /// The words so far; the last is begun.
        #[arg(last = true)]
        words: Vec<String>,
    },
}

/// Does what the arguments say.
///
/// # Errors
/// If it could not be done.
pub async fn run(cli: Cli, out: &mut Out) -> Result<Finding> {
    let Cli { command, common } = cli;
    if let Command::Completion { shell } = command {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "kubectl-roomrobot", &mut script);
        out.raw(&String::from_utf8_lossy(&script));
        return Ok(Finding::Fine);
    }
    if let Command::Complete { words } = &command {
        out.raw(&complete(Cli::command(), words));
        return Ok(Finding::Fine);
    }
    if matches!(command, Command::Release(_)) && common.all_namespaces {
        let why = "`release` is about one namespace: name it with -n";
        Cli::command().error(ErrorKind::ArgumentConflict, why).exit();
    }
    if let Command::Requests(source) = &command
        && source.offline
    {
        return requests::run(None, source, out).await;
    }
    let mut cluster = Cluster::connect(&common).await?;
    if !matches!(command, Command::List) {
        cluster.locate().await?;
    }
    match command {
        Command::Why { name } => why::run(&cluster, name.as_deref(), out).await,
        Command::List => list::run(&cluster, out).await,
        Command::Plan(target) => forecast::run(&cluster, &target, out).await,
        Command::Doctor(target) => doctor::run(&cluster, &target, out).await,
        Command::Release(target) => release::run(&cluster, &target, out).await,
        Command::Requests(source) => requests::run(Some(&cluster), &source, out).await,
        Command::Completion { .. } | Command::Complete { .. } => Err(Error("no such command".to_owned())),
    }
}

/// A span such as `90s`, `15m`, `2h` or `3d`.
///
/// # Errors
/// If it is none.
pub fn span(text: &str) -> Result<Duration, String> {
    let why = || "it is not a span such as 90s, 15m, 2h or 3d".to_owned();
    let unit = text.chars().next_back().ok_or_else(why)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        _ => return Err(why()),
    };
    let number: u64 = text.trim_end_matches(unit).parse().map_err(|_| why())?;
    number.checked_mul(seconds).map(Duration::from_secs).ok_or_else(why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_well_formed_and_complete_in_every_shell() {
        Cli::command().debug_assert();
        for shell in Shell::value_variants() {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "kubectl-roomrobot", &mut script);
            let script = String::from_utf8(script).unwrap();
            for command in ["why", "list", "plan", "doctor", "release", "requests"] {
                assert!(script.contains(command), "{shell}: {command}");
            }
        }
    }

    #[test]
    fn spans_are_read() {
        for (text, seconds) in [("90s", 90), ("15m", 900), ("2h", 7200), ("3d", 259_200)] {
            assert_eq!(span(text), Ok(Duration::from_secs(seconds)));
        }
        for text in ["", "h", "2", "2 h", "-1h", "2w", "99999999999999999999d"] {
            assert!(span(text).is_err(), "{text}");
        }
    }
}
