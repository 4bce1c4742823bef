//! Every story that the search has found, each under what it says, and a minute of stories of the day.

#![allow(clippy::expect_used, clippy::panic, reason = "tests")]

use simulation::{
    search,
    story::{Action::*, *},
};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Tells a story, and fails with what happened in it where a promise is broken.
#[track_caller]
fn holds(setup: Setup, steps: &[Step]) {
    let story = Story { setup, steps: steps.to_vec() };
    let report = search::run(&story, false);
    if let Some(why) = report.broken {
        let told = search::run(&story, true).told.join("\n");
        panic!("{told}\n\n{why}");
    }
    assert!(report.events > 100, "nothing happened");
}
