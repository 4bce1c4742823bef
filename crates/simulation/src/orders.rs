//! Every order of a small world: whatever is due at the same moment may happen in any order, and each of these is gone
//! through. A state that was seen before is not gone through again.

use crate::{
    story::{Action, HEALTHY, Meets, Of, Refusal, Setup, Step, Story, Which},
    world,
};
use std::{
    collections::{HashMap, HashSet},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    ops::Range,
    time::{Duration, Instant},
};

/// The choices of one run.
#[derive(Debug, Default)]
pub struct Orders {
    /// From this moment on.
    pub from: Duration,
    /// To this one.
    pub to: Duration,
    /// What is chosen first.
    pub prefix: Vec<usize>,
    /// What was chosen, of how many.
    pub taken: Vec<(usize, usize)>,
    /// The states at which something was chosen.
    pub seen: HashSet<u64>,
    /// A state was seen before: the rest of this run is known.
    pub known: bool,
}

impl Orders {
    /// Which of `many` things that are due comes first in this state; `None` where what follows is known.
    pub fn choose(&mut self, many: usize, state: impl FnOnce() -> u64) -> Option<usize> {
        let chosen = match self.prefix.get(self.taken.len()) {
            Some(chosen) => *chosen,
            None if self.seen.insert(state()) => 0,
            None => {
                self.known = true;
                return None;
            }
        };
        self.taken.push((chosen, many));
        Some(chosen)
    }
}

/// What going through a small world came to.
#[derive(Debug)]
pub struct Count {
    /// Its name.
    pub name: String,
    /// Runs.
    pub orders: u64,
    /// States at which there was something to choose.
    pub states: usize,
    /// Every order was gone through.
    pub complete: bool,
    /// The story that breaks a promise, why, and what happened.
    pub broken: Option<(Story, String, Vec<String>)>,
}

/// Goes through every order of a story from the moment `from` on, within `patience`.
#[must_use]
pub fn every(name: &str, story: &Story, from: Duration, patience: Duration) -> Count {
    let begun = Instant::now();
    let mut seen = HashSet::new();
    let mut open: Vec<Vec<usize>> = vec![Vec::new()];
    let mut count = Count { name: name.to_owned(), orders: 0, states: 0, complete: true, broken: None };
    while let Some(prefix) = open.pop() {
        if begun.elapsed() > patience {
            count.complete = false;
            break;
        }
        // What comes after the story comes in one order: the world is made well then.
        let to = from + Duration::from_millis(90);
        let orders = Orders { from, to, prefix: prefix.clone(), seen, ..Orders::default() };
        let (report, orders) = world::run_in(story, orders, false);
        seen = orders.seen;
        count.orders += 1;
        if let Some(why) = report.broken {
            let prefix = orders.taken.iter().map(|(chosen, _)| *chosen).collect();
            let again = Orders { from, to, prefix, ..Orders::default() };
            let (told, _) = world::run_in(story, again, true);
            count.broken = Some((story.clone(), why, told.told));
            break;
        }
        for depth in prefix.len()..orders.taken.len() {
            let (_, many) = orders.taken.get(depth).copied().unwrap_or_default();
            for other in 1..many {
                let before = orders.taken.iter().take(depth).map(|(chosen, _)| *chosen);
                open.push(before.chain([other]).collect());
            }
        }
    }
    count.states = seen.len();
    count
}

/// Two RoomRobots of one robot, one application, two replicas, and one thing that goes wrong.
#[must_use]
pub fn small_worlds() -> Vec<(String, Story)> {
    let setup = Setup { replicas: 2, rate: 200, api: 0, room: 0, lag: 0, list: 0, ..HEALTHY };
    let step = |after: u32, action: Action| Step { after, action };
    let create = |name: u8, create: bool, retain: bool| Action::Create {
        ns: 0,
        name,
        of: Of::Shared(0),
        app: 0,
        create,
        retain,
        born: false,
        suspend: false,
    };
    let delete = |name: u8| Action::Delete { ns: 0, name };
    let writes = |which, how| Action::Writes { ns: 3, which, how, times: 1, time: 400 };
    let room = |how| Action::Room { app: 0, add: Some(false), how, times: 1, time: 400 };
    let mishaps = [
        ("nothing", Action::Wait),
        ("the leader is killed", Action::Kill { replica: 0, down: 300 }),
        ("the leader is ended", Action::End { replica: 0, down: 300 }),
        ("a reply is lost", writes(Which::Robots, Refusal::ReplyLost)),
        ("a status is held up", writes(Which::Statuses, Refusal::Overtaken)),
        ("a policy denies a finalizer", writes(Which::Finalizers, Refusal::Policy)),
        ("the watches begin anew", Action::Watches { replica: 0, gone: true, mute: 0 }),
        ("a call has its effect and no answer", room(Meets::BrokenAfter)),
        ("a call is refused for its application", room(Meets::Code(60010))),
    ];
    let mut worlds = Vec::new();
    for (name, mishap) in mishaps {
        for (rival, second) in
            [("another", create(1, false, false)), ("one that stays", create(1, false, true))]
        {
            // Both are in charge, then everything happens at once.
            let steps = vec![
                step(0, create(0, false, false)),
                step(0, second),
                step(500, delete(0)),
                step(0, delete(1)),
                step(0, mishap),
                step(100, Action::Wait),
            ];
            worlds.push((format!("beside {rival}, {name}"), Story { setup, steps }));
        }
    }
    worlds
}

/// Where revisions begin when orders are gone through: in a text, such a number is one.
pub const REVISIONS: Range<u64> = 1_000_000_000..1_001_000_000;

/// Where the numbers of calls begin.
pub const IDS: Range<u64> = 2_000_000_000..2_001_000_000;

/// How many versions of its object each revision is behind the one that is stored.
#[derive(Debug)]
pub struct Versions(HashMap<u64, String>);

impl Versions {
    /// From the objects that changed, with their revisions, in the order of time.
    pub fn of(log: impl DoubleEndedIterator<Item = (String, u64)>) -> Self {
        let mut newer: HashMap<String, u32> = HashMap::new();
        let mut labels = HashMap::new();
        for (key, revision) in log.rev() {
            let behind = newer.entry(key.clone()).or_default();
            // Which of the older ones it is makes no difference.
            labels.insert(revision, format!("{key}~{}", (*behind).min(3)));
            *behind += 1;
        }
        Self(labels)
    }

    /// `text` without what depends on the order in which other objects were written or called for.
    #[must_use]
    pub fn plain(&self, text: &str) -> String {
        let mut plain = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(begin) = rest.find(|letter: char| letter.is_ascii_digit()) {
            let (before, from) = rest.split_at(begin);
            let end = from.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(from.len());
            let (digits, after) = from.split_at(end);
            plain.push_str(before);
            match digits.parse::<u64>() {
                Ok(number) if IDS.contains(&number) => plain.push('#'),
                Ok(number) if REVISIONS.contains(&number) => {
                    plain.push_str(self.0.get(&number).map_or("~", String::as_str));
                }
                _ => plain.push_str(digits),
            }
            rest = after;
        }
        plain.push_str(rest);
        plain
    }
}

/// The hash of a text.
#[must_use]
pub fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

/// The same for every order of the fields of a struct or the entries of a map in the debug output `text`.
#[must_use]
pub fn canonical(text: &str) -> u64 {
    let lines: Vec<&str> = text.lines().filter(|line| !is_noise(line)).collect();
    let mut place = 0;
    block(&lines, &mut place, 0)
}

/// Counters that say nothing of what follows.
fn is_noise(line: &str) -> bool {
    let line = line.trim_start();
    ["reconciles:", "looks:", "epoch:", "last_ticket:", "per_hasher_seed:"]
        .iter()
        .any(|field| line.starts_with(field))
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

/// The hash of the lines from `place` on that are at least `depth` deep.
fn block(lines: &[&str], place: &mut usize, depth: usize) -> u64 {
    let mut parts = Vec::new();
    let mut ordered = false;
    while let Some(line) = lines.get(*place).filter(|line| indent(line) >= depth) {
        let mut hasher = DefaultHasher::new();
        line.trim().hash(&mut hasher);
        *place += 1;
        if lines.get(*place).is_some_and(|next| indent(next) > depth) {
            block(lines, place, depth + 4).hash(&mut hasher);
            ordered |= line.trim_end().ends_with('[');
        }
        parts.push(hasher.finish());
    }
    if !ordered {
        parts.sort_unstable();
    }
    let mut hasher = DefaultHasher::new();
    parts.hash(&mut hasher);
    hasher.finish()
}
