//! The room engine simulator as a program, for development and staging.

use clap::Parser;
use std::{net::SocketAddr, process::ExitCode, time::Duration};
use testbed::simulator::{Settings, Simulator};

/// Simulates the two robot commands of the Tencent RTC room engine over HTTP.
///
/// Script it over HTTP too: PUT /simulator/apps, PUT /simulator/rooms, POST and DELETE /simulator/faults,
/// GET /simulator/calls and /simulator/rooms.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Where it listens.
    #[arg(long, env = "SIMULATOR_LISTEN", default_value = "127.0.0.1:9000")]
    listen: SocketAddr,

    /// An application that it knows, with its key; repeatable.
    #[arg(long = "app", value_name = "SDKAPPID=KEY", value_parser = app)]
    apps: Vec<(u32, String)>,

    /// Calls a second for each SDKAppID and command.
    #[arg(long, default_value_t = 200)]
    quota: usize,

    /// Robots that a room takes.
    #[arg(long, default_value_t = 1_000_000)]
    robots_per_room: usize,

    /// What a second `add_robot` of the same robot answers.
    #[arg(long, default_value_t = 0)]
    second_add: i64,

    /// Milliseconds that every answer takes.
    #[arg(long, default_value_t = 0)]
    latency_ms: u64,
}

fn app(text: &str) -> Result<(u32, String), String> {
    let (id, key) = text.split_once('=').ok_or("it is not SDKAPPID=KEY")?;
    Ok((id.parse().map_err(|_| "SDKAPPID is not a number from 1 to 4294967295")?, key.to_owned()))
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let settings = Settings {
        quota: args.quota,
        robots_per_room: args.robots_per_room,
        second_add: args.second_add,
        latency: Duration::from_millis(args.latency_ms),
        ..Settings::default()
    };
    let simulator = match Simulator::start(args.listen, settings).await {
        Ok(simulator) => simulator,
        Err(error) => {
            eprintln!("room-engine-simulator: {error}");
            return ExitCode::FAILURE;
        }
    };
    for (id, key) in &args.apps {
        simulator.add_app(*id, key);
    }
    println!("listening on {}", simulator.endpoint());
    ended().await;
    ExitCode::SUCCESS
}

/// Ctrl-C, or the SIGTERM by which a Pod is ended.
async fn ended() {
    use tokio::signal::{
        ctrl_c,
        unix::{SignalKind, signal},
    };
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => {
            tokio::select! {
                _ = ctrl_c() => {}
                _ = terminate.recv() => {}
            }
        }
        Err(_) => drop(ctrl_c().await),
    }
}
