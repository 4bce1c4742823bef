//! Several replicas and one API server in simulated time: requests are late, lost, refused or hang, the watch is blind,
//! replicas are stopped, and each has a clock of its own.

use super::*;
use std::collections::BTreeMap;

/// How long things go wrong.
const TROUBLE: Duration = Duration::from_secs(240);

/// What is to happen to a replica.
enum Event {
    /// A request arrives at the API server.
    Arrives(Ticket, Request),
    /// The replica is told something.
    Told(Input),
}

struct One {
    election: Election,
    /// Counts the processes that were this replica.
    process: u32,
    /// How far its clock is ahead of the true one.
    ahead: Duration,
    /// Until when it may act, by the true clock.
    until: Duration,
    /// It is stopped until then.
    stopped: Duration,
}

struct World {
    random: fastrand::Rng,
    now: Duration,
    /// By time and number.
    events: BTreeMap<(Duration, u64), (usize, u32, Event)>,
    count: u64,
    stored: Option<Record>,
    version: u64,
    replicas: Vec<One>,
    /// How often one began to lead.
    turns: u32,
}

impl World {
    fn new(seed: u64, replicas: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let one = |n| One {
            election: Election::new(&format!("pod-{n}"), seed * 100 + n),
            process: 0,
            ahead: Duration::from_millis(random.u64(..1_000_000)),
            until: Duration::ZERO,
            stopped: Duration::ZERO,
        };
        let replicas: Vec<One> = (0..replicas).map(one).collect();
        let mut this = Self {
            random,
            now: Duration::ZERO,
            events: BTreeMap::new(),
            count: 0,
            stored: None,
            version: 0,
            replicas,
            turns: 0,
        };
        for n in 0..this.replicas.len() {
            this.later(Duration::ZERO, n, Event::Told(Input::Tick));
        }
        this
    }

    fn later(&mut self, wait: Duration, replica: usize, event: Event) {
        self.count += 1;
        let process = self.replicas[replica].process;
        self.events.insert((self.now + wait, self.count), (replica, process, event));
    }

    fn part(&mut self, most: Duration) -> Duration {
        most.mul_f64(self.random.f64())
    }

    /// One in `of`, while things go wrong.
    fn mishap(&mut self, of: u32) -> bool {
        self.now < TROUBLE && self.random.u32(..of) == 0
    }

    /// How long a message takes.
    fn way(&mut self) -> Duration {
        let late = self.mishap(4);
        self.part(if late { 8 * SECOND } else { 20 * MS })
    }

    fn run(&mut self, until: Duration) {
        while let Some(first) = self.events.first_entry()
            && first.key().0 <= until
        {
            let ((now, _), (replica, process, event)) = first.remove_entry();
            self.now = now;
            match event {
                Event::Arrives(ticket, request) => {
                    if let Some(answer) = self.serve(&request)
                        && process == self.replicas[replica].process
                    {
                        let way = self.way();
                        self.later(way, replica, Event::Told(Input::Answered(ticket, answer)));
                    }
                }
                Event::Told(input) if process == self.replicas[replica].process => self.tell(replica, input),
                Event::Told(_) => {}
            }
        }
        self.now = until;
    }

    /// The API server takes a request, unless it refuses it or it is lost; its answer may be lost, too.
    fn serve(&mut self, request: &Request) -> Option<Answer> {
        if self.mishap(15) {
            return None;
        }
        let answer = if self.mishap(15) { Answer::Failed } else { self.carry_out(request) };
        (!self.mishap(15)).then_some(answer)
    }

    fn carry_out(&mut self, request: &Request) -> Answer {
        let next = match (request, &self.stored) {
            (Request::Read, stored) => return Answer::Stored(stored.clone()),
            (Request::Create { holder }, None) => held("", holder),
            (Request::Claim { record, holder }, Some(stored)) if record == stored => held("", holder),
            (Request::Renew { record }, Some(stored)) if record == stored => stored.clone(),
            (Request::Release { record }, Some(stored)) if record == stored => free(""),
            _ => return Answer::Conflict,
        };
        self.version += 1;
        let version = self.version.to_string();
        self.stored = Some(Record { version: version.clone(), ..next });
        for replica in 0..self.replicas.len() {
            if !self.mishap(2) {
                let way = self.way();
                self.later(way, replica, Event::Told(Input::Changed(Shown::Version(version.clone()))));
            }
        }
        Answer::Stored(self.stored.clone())
    }

    fn tell(&mut self, n: usize, input: Input) {
        let stopped = self.replicas[n].stopped;
        if self.now < stopped {
            let wait = stopped - self.now;
            return self.later(wait, n, Event::Told(input));
        }
        let tick = input == Input::Tick;
        if input == Input::Resign {
            // It makes no call any more before it resigns.
            self.replicas[n].until = self.replicas[n].until.min(self.now);
        }
        let ahead = self.replicas[n].ahead;
        let effects = self.replicas[n].election.handle(input, self.now + ahead);
        for effect in effects {
            match effect {
                Effect::Send(ticket, request) => {
                    let way = self.way();
                    self.later(way, n, Event::Arrives(ticket, request));
                }
                Effect::Lead { until, .. } => {
                    let until = until - ahead;
                    for (other, one) in self.replicas.iter().enumerate() {
                        assert!(
                            other == n || one.until <= self.now,
                            "{other} and {n} lead at {:?}",
                            self.now
                        );
                    }
                    self.turns += u32::from(self.replicas[n].until <= self.now);
                    self.replicas[n].until = until;
                }
                Effect::Lose => self.replicas[n].until = self.replicas[n].until.min(self.now),
                Effect::End(_) => {
                    // Another Pod in its place.
                    let seed = self.random.u64(..);
                    self.replicas[n].election = Election::new(&format!("pod-{n}"), seed);
                    self.replicas[n].process += 1;
                    self.later(SECOND, n, Event::Told(Input::Tick));
                    return;
                }
                Effect::Unanswered => {}
            }
        }
        if tick {
            let wait = self.replicas[n].election.due().saturating_sub(self.now + ahead).clamp(MS, SECOND);
            self.later(wait, n, Event::Told(Input::Tick));
            self.disturb(n);
        }
    }

    fn disturb(&mut self, n: usize) {
        if !self.mishap(30) {
            return;
        }
        if self.random.bool() {
            let time = self.part(60 * SECOND);
            self.replicas[n].stopped = self.now + time;
        } else {
            self.later(Duration::ZERO, n, Event::Told(Input::Resign));
        }
    }

    fn leaders(&self) -> usize {
        self.replicas.iter().filter(|one| one.until > self.now).count()
    }
}

#[test]
fn never_two_lead_and_one_leads_soon_after_the_trouble() {
    let mut turns = 0;
    for seed in 0..500 {
        let mut world = World::new(seed, 2 + seed % 4);
        world.run(TROUBLE);
        // What was stopped, and what is on its way, may take a while longer.
        world.run(TROUBLE + 100 * SECOND);
        assert_eq!(world.leaders(), 1, "seed {seed}");
        turns += world.turns;
    }
    assert!(turns > 2500, "{turns} turns are not much of a test");
}

#[test]
fn a_leader_that_gives_its_lease_back_is_followed_within_three_seconds_though_the_watch_is_blind() {
    let mut world = World::new(1, 3);
    world.now = TROUBLE;
    world.events = std::mem::take(&mut world.events)
        .into_iter()
        .map(|((at, count), event)| ((at + TROUBLE, count), event))
        .collect();
    world.run(TROUBLE + 20 * SECOND);
    let leader = world.replicas.iter().position(|one| one.until > world.now).unwrap();
    world.later(Duration::ZERO, leader, Event::Told(Input::Resign));
    world.run(world.now + 3 * SECOND);
    assert_eq!(world.leaders(), 1);
    assert!(world.replicas[leader].until <= world.now);
}
