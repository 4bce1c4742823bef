//! The session in `docs/kubectl.md` is a real one: its commands are run again, and compared in shape.
//! `UPDATE_DOCS=1` writes the output of this run.

use super::{led, roomrobot};
use crate::harness::{KEY, Plane, World, create_namespace};
use serde_json::json;
use std::{collections::BTreeSet, env, fmt::Write as _, fs, time::Duration};
use testbed::simulator::{Fault, Kind};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/kubectl.md");
const PROMPT: &str = "$ kubectl roomrobot ";

/// What stays the same from run to run: every word with a digit in it is one for all, spaces count once.
fn shape(text: &str) -> String {
    let word = |word: &str| {
        let varies = word.chars().any(|c| c.is_ascii_digit()) || word.starts_with("operator-");
        if varies { "#".to_owned() } else { word.to_owned() }
    };
    let line = |line: &str| line.split_whitespace().map(word).collect::<Vec<_>>().join(" ");
    text.trim().lines().map(line).collect::<Vec<_>>().join("\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_session_in_the_docs_is_what_the_program_says() {
    let mut world = World::on(Plane::own().await).await;
    world.plane.install_admission_policy().await.unwrap();
    world.namespace = "event".to_owned();
    world.app = "default".to_owned();
    create_namespace(&world.client, &world.namespace).await;
    world.secret("default", json!({"secretKey": KEY})).await;
    world.application("default", json!({})).await;
    let operator = world.operator().await;
    led(&world, &operator).await;
    // `shut` was shut to us by its host, `spare` is kept, `paused` has a brake on; the others are as they should be.
    world.simulator.fail(Fault::always(Kind::Code(100_006)).room("shut"));
    world.robot("shut").await;
    world.robot("greeter").await;
    world.robot_with("spare", json!({"deletionPolicy": "Retain"})).await;
    world.robot_with("paused", json!({"suspend": true})).await;
    world.all_ready(4).await;
    // In different seconds: `list` has the oldest first, and deletion timestamps are whole seconds.
    world.delete("paused").await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    world.delete("shut").await;
    world.waits_for("shut", "PermissionDenied").await;
    world.waits_for("paused", "Suspended").await;
    // Every application that waits for long says so within half a minute: the session is the one from then on.
    world.application_until_within("DeletionsStalled", Duration::from_secs(40)).await;

    let text = fs::read_to_string(FILE).unwrap();
    let mut written = String::new();
    let mut commands = BTreeSet::new();
    let mut parts = text.split("```");
    written.push_str(parts.next().unwrap());
    while let (Some(block), Some(after)) = (parts.next(), parts.next()) {
        let told = block.strip_prefix("console\n").and_then(|block| block.strip_prefix(PROMPT));
        let Some(told) = told else {
            let _ = write!(written, "```{block}```{after}");
            continue;
        };
        let (command, told) = told.split_once('\n').unwrap();
        let endpoint = world.simulator.endpoint();
        let args: Vec<&str> = command.split_whitespace().collect();
        let ran = match args.first() {
            Some(&"doctor") => roomrobot(&world, &[&args[..], &["--allow-endpoint", &endpoint]].concat()),
            _ => roomrobot(&world, &args),
        };
        commands.extend(args.first().map(|&word| word.to_owned()));
        let said = format!("{}{}", ran.out, ran.err);
        if env::var_os("UPDATE_DOCS").is_none() {
            assert_eq!(shape(&said), shape(told), "`{command}`: stale, run it with UPDATE_DOCS=1\n{said}");
        }
        let _ = write!(written, "```console\n{PROMPT}{command}\n{said}```{after}");
    }
    let commands: Vec<&str> = commands.iter().map(String::as_str).collect();
    assert_eq!(commands, ["doctor", "list", "plan", "why"]);
    if env::var_os("UPDATE_DOCS").is_some() {
        fs::write(FILE, written).unwrap();
    }
}

/// What README shows of `why` is the session's screen, with some lines left out and some cut at `…`.
#[test]
fn the_readme_shows_a_part_of_the_session() {
    let readme = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let (_, shown) = readme.split_once("```\nkubectl roomrobot why -n NS\n```\n\n```\n").unwrap();
    let (shown, _) = shown.split_once("```").unwrap();
    let session = fs::read_to_string(FILE).unwrap();
    let (_, screen) = session.split_once(&format!("{PROMPT}why shut -n event\n")).unwrap();
    let (screen, _) = screen.split_once("```").unwrap();
    let (shown, screen) = (shape(shown), shape(screen));
    let mut rest = screen.lines();
    for line in shown.lines() {
        let start = line.trim_end_matches('…').trim_end();
        let found = rest.any(|full| if line.ends_with('…') { full.starts_with(start) } else { full == line });
        assert!(found, "README.md: `{line}` is not in the session, or not in this order:\n{screen}");
    }
}
