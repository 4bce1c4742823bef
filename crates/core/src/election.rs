//! Who holds the Lease, and what this replica does about it.
//!
//! Pure: no client, no clock, no async. Inputs come in with the time, effects come out. The time is this replica's own
//! clock, which goes on while the machine sleeps. The clocks of two machines are never compared: another's Lease has
//! expired when this replica has not seen it change for as long as it lasts. What it lasts is what is stored in it, as in
//! client-go, because that is what its holder counts with: another version of the operator may hold it for longer.
//!
//! One request is under way at a time, and every write names the version that it was decided on, so that of two replicas
//! that claim at once the API server refuses one. Whatever fails is followed by a look at what is stored.
//!
//! | this replica | what happens | what it does |
//! | --- | --- | --- |
//! | stands by | one to two seconds have passed since it looked | reads |
//! | stands by | read: there is no Lease | creates it; where another's vanished, when that has ended for certain |
//! | stands by | read: it is nobody's | claims it |
//! | stands by | read: another's, unchanged for as long as it lasts | claims it |
//! | stands by | read: another's, which may still be valid | reads again, at its end at the latest |
//! | stands by | read: its own, as after a claim whose answer was lost | renews it |
//! | stands by | its write is stored | leads, for 12 s from the moment in which the write was sent |
//! | leads | 4 s since it sent the last write that was stored | renews |
//! | leads | its write is stored | leads for longer |
//! | leads | read: its own | renews when that is due, at once where somebody changed how long it lasts |
//! | leads | read: another's, or nobody's, or there is none | has lost |
//! | leads | 12 s since it sent the last write that was stored | has lost |
//! | either | the watch tells of a version that it has not seen | reads |
//! | either | a write meets another version | reads at once; the second time in a row, as after any failure |
//! | either | a request fails, or is not answered within 5 s | reads half a second later |
//! | has lost | | takes another name, and stands by |
//! | either | is to resign | waits for a write under way, releases what is its own, and ends, after 3 s at the latest |

mod candidate;
mod messages;

pub use messages::{Answer, Effect, End, Input, Record, Request, Shown, Ticket};

use crate::engine::Before;
use candidate::Candidate;
use std::time::Duration;

/// How long a Lease holds without being renewed: what a crash of the leader costs.
pub const DURATION: Duration = Duration::from_secs(15);

/// How long before its end a Lease that could not be renewed counts as lost: clocks do not run equally fast, and calls
/// take time.
pub const SAFETY: Duration = Duration::from_secs(3);

/// From one renewal to the next: a slow API server has 8 s more to take one before the Lease counts as lost.
const RENEW: Duration = Duration::from_secs(4);

/// How long a request may take. One that is not answered leaves time for another before the Lease counts as lost.
const REQUEST: Duration = Duration::from_secs(5);

/// From a failure to the next attempt, at least; half as much again at most.
const RETRY: Duration = Duration::from_millis(500);

/// From one look of a standby to the next, at most; half of it at least. The watch tells sooner, but may be blind.
const LOOK: Duration = Duration::from_secs(2);

/// How long after the end of another's Lease a standby looks, at most: not all of them at once.
const SPREAD: Duration = Duration::from_millis(500);

/// How long releasing the Lease may take at the end.
const RELEASE: Duration = Duration::from_secs(3);

/// What was last seen of the Lease, and since when it has been so.
#[derive(Clone, Debug)]
struct Seen {
    record: Option<Record>,
    since: Duration,
}

/// A request under way.
#[derive(Clone, Copy, Debug)]
struct Busy {
    ticket: Ticket,
    writes: bool,
    sent: Duration,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Read,
    /// What follows from what was last seen.
    Write,
}

/// For how long this replica leads, and after whom.
#[derive(Debug)]
struct Tenure {
    /// Until when it leads, if it does.
    until: Option<Duration>,
    /// When the last write that was stored was sent.
    renewed: Duration,
    /// Who led before.
    before: Before,
    /// How often it has lost the Lease.
    number: u32,
}

/// One replica's part in the election.
#[derive(Debug)]
pub struct Election {
    candidate: Candidate,
    seen: Option<Seen>,
    /// Another's Lease vanished that may be valid until then.
    vanished: Duration,
    busy: Option<Busy>,
    last_ticket: u64,
    next: (Step, Duration),
    /// What the watch told while a request was under way.
    heard: Option<Shown>,
    tenure: Tenure,
    /// Whether a write has failed since the last that was stored.
    failing: bool,
    /// Whether a write may have been stored without an answer.
    doubtful: bool,
    /// Since when it resigns.
    resigning: Option<Duration>,
    ended: bool,
}

impl Election {
    /// Stands for `pod`; names and waits are drawn with `seed`.
    #[must_use]
    pub fn new(pod: &str, seed: u64) -> Self {
        Self {
            candidate: Candidate::new(pod, seed),
            seen: None,
            vanished: Duration::ZERO,
            busy: None,
            last_ticket: 0,
            next: (Step::Read, Duration::ZERO),
            heard: None,
            tenure: Tenure { until: None, renewed: Duration::ZERO, before: Before::Finished, number: 0 },
            failing: false,
            doubtful: false,
            resigning: None,
            ended: false,
        }
    }

    /// When [`Input::Tick`] is due, if nothing else comes in.
    #[must_use]
    pub fn due(&self) -> Duration {
        let next = self.busy.map_or(self.next.1, |busy| busy.sent + REQUEST);
        let end = self.resigning.map(|since| since + RELEASE);
        self.tenure.until.into_iter().chain(end).fold(next, Duration::min)
    }

    /// Takes `input` at the time `now`.
    pub fn handle(&mut self, input: Input, now: Duration) -> Vec<Effect> {
        let mut effects = Vec::new();
        if self.ended {
            return effects;
        }
        // A process that was stopped past the end of its Lease has lost it, whatever else it is told when it goes on.
        self.pass(now, &mut effects);
        if self.ended {
            return effects;
        }
        match input {
            Input::Tick => {}
            Input::Changed(shown) if self.busy.is_some() => self.heard = Some(shown),
            Input::Changed(shown) => self.hear(&shown, now),
            Input::Answered(ticket, answer) => {
                if let Some(busy) = self.busy.take_if(|busy| busy.ticket == ticket) {
                    self.take(busy, answer, now, &mut effects);
                }
            }
            Input::Resign => self.resign(now, &mut effects),
        }
        self.go_on(now, &mut effects);
        effects
    }

    /// What the time alone brings.
    fn pass(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        if self.tenure.until.is_some_and(|until| now >= until) {
            self.lose(effects);
            self.busy = None;
            self.next = (Step::Read, now);
        }
        if let Some(busy) = self.busy.take_if(|busy| now >= busy.sent + REQUEST) {
            effects.push(Effect::Unanswered);
            self.fail(busy, now);
        }
        if self.resigning.is_some_and(|since| now >= since + RELEASE) {
            self.end(End::Unreleased, effects);
        }
    }

    /// Looks where the watch tells what was not known.
    fn hear(&mut self, shown: &Shown, now: Duration) {
        let known = self.seen.as_ref().is_some_and(|seen| match (&seen.record, shown) {
            (Some(record), Shown::Version(version)) => record.version == *version,
            (None, Shown::Deleted) => true,
            _ => false,
        });
        if !known {
            self.next = (Step::Read, now);
        }
    }

    fn take(&mut self, busy: Busy, answer: Answer, now: Duration, effects: &mut Vec<Effect>) {
        match answer {
            Answer::Failed => self.fail(busy, now),
            // Once is a race. Whoever answers so to every write is not to be asked again and again.
            Answer::Conflict if self.failing => self.retry(now),
            Answer::Conflict => (self.failing, self.next) = (true, (Step::Read, now)),
            Answer::Stored(record) => {
                self.doubtful = false;
                self.see(record, now);
                if self.resigning.is_some() && !self.is_ours() {
                    self.end(if busy.writes { End::Released } else { End::NotHeld }, effects);
                } else if busy.writes {
                    self.failing = false;
                    self.lead(busy.sent, effects);
                } else if self.tenure.until.is_some() && !self.is_ours() {
                    self.lose(effects);
                }
                self.decide(now);
            }
        }
        if let Some(shown) = self.heard.take() {
            self.hear(&shown, now);
        }
    }

    /// What is stored is not known any more.
    fn fail(&mut self, busy: Busy, now: Duration) {
        self.failing |= busy.writes;
        self.doubtful |= busy.writes;
        self.retry(now);
    }

    /// Looks again a little later.
    fn retry(&mut self, now: Duration) {
        self.next = (Step::Read, now + RETRY + self.candidate.part(RETRY / 2));
    }

    /// The Lease is its own from the moment in which the write was sent, at which it may have been stored.
    fn lead(&mut self, sent: Duration, effects: &mut Vec<Effect>) {
        if self.resigning.is_none() {
            let until = sent + DURATION - SAFETY;
            (self.tenure.renewed, self.tenure.until) = (sent, Some(until));
            effects.push(Effect::Lead { until, before: self.tenure.before, term: self.tenure.number });
        }
    }

    /// Stands as another from now on, and takes itself for one that vanished: it may be so for others.
    fn lose(&mut self, effects: &mut Vec<Effect>) {
        (self.tenure.until, self.doubtful) = (None, false);
        self.candidate.rename();
        self.tenure.number += 1;
        self.tenure.before = Before::Vanished;
        effects.push(Effect::Lose);
    }

    /// Keeps what is stored, and what it says about the last holder before this replica.
    fn see(&mut self, record: Option<Record>, now: Duration) {
        let same = |seen: &Seen| match (&seen.record, &record) {
            (Some(before), Some(after)) => before.version == after.version,
            (before, after) => before.is_none() && after.is_none(),
        };
        if self.seen.as_ref().is_some_and(same) {
            return;
        }
        let before = self.seen.replace(Seen { record, since: now });
        if let Some(Seen { record: Some(last), .. }) = &before
            && last.holder.as_ref().is_some_and(|holder| *holder != self.candidate.identity)
            && self.seen.as_ref().is_some_and(|seen| seen.record.is_none())
        {
            // Somebody deleted it. Its holder does not know that yet, and leads; it may have got it since the last look.
            self.vanished = now.saturating_add(last.lasts);
        }
        match self.holder() {
            Some(holder) if *holder == self.candidate.identity => {}
            Some(_) => self.tenure.before = Before::Vanished,
            // Version 0.1.0 frees an expired Lease before it takes it; its holder gives it back long before that.
            None => {
                let given_back = before.is_some_and(|seen| {
                    seen.record.is_some_and(|record| {
                        record.holder.is_some() && now + SAFETY / 2 < seen.since.saturating_add(record.lasts)
                    })
                });
                if given_back && self.seen.as_ref().is_some_and(|seen| seen.record.is_some()) {
                    self.tenure.before = Before::Finished;
                }
            }
        }
    }

    fn holder(&self) -> Option<&String> {
        self.seen.as_ref()?.record.as_ref()?.holder.as_ref()
    }

    fn is_ours(&self) -> bool {
        self.holder() == Some(&self.candidate.identity)
    }

    /// What follows from what was just seen.
    fn decide(&mut self, now: Duration) {
        let (look, spread) = (LOOK / 2 + self.candidate.part(LOOK / 2), self.candidate.part(SPREAD));
        let Some(Seen { record: Some(record), since }) = &self.seen else {
            let next = (now + look).min(self.vanished.saturating_add(spread));
            self.next = if now < self.vanished { (Step::Read, next) } else { (Step::Write, now) };
            return;
        };
        self.next = match &record.holder {
            None => (Step::Write, now),
            Some(holder) if *holder == self.candidate.identity => {
                let usual = self.tenure.until.is_some() && record.lasts == DURATION;
                (Step::Write, if usual { self.tenure.renewed + RENEW } else { now })
            }
            Some(_) => {
                let end = since.saturating_add(record.lasts);
                if now >= end {
                    (Step::Write, now)
                } else {
                    (Step::Read, (now + look).min(end.saturating_add(spread)))
                }
            }
        };
    }

    /// Sends what is due, if nothing is under way.
    fn go_on(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        let (step, due) = self.next;
        if self.ended || self.busy.is_some() || now < due {
            return;
        }
        let request = match step {
            Step::Read => Request::Read,
            Step::Write => self.write(),
        };
        self.last_ticket += 1;
        let ticket = Ticket(self.last_ticket);
        self.busy = Some(Busy { ticket, writes: request.writes(), sent: now });
        effects.push(Effect::Send(ticket, request));
    }

    fn write(&self) -> Request {
        let holder = self.candidate.identity.clone();
        let Some(record) = self.seen.as_ref().and_then(|seen| seen.record.clone()) else {
            return Request::Create { holder };
        };
        match (self.is_ours(), self.resigning) {
            (false, _) => Request::Claim { record, holder },
            (true, None) => Request::Renew { record },
            (true, Some(_)) => Request::Release { record },
        }
    }

    fn resign(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        if self.resigning.replace(now).is_some() {
            return;
        }
        self.tenure.until = None;
        if self.busy.is_some_and(|busy| busy.writes) {
            return;
        }
        self.busy = None;
        if self.is_ours() {
            self.next = (Step::Write, now);
        } else if self.doubtful {
            self.next = (Step::Read, now);
        } else {
            self.end(End::NotHeld, effects);
        }
    }

    fn end(&mut self, end: End, effects: &mut Vec<Effect>) {
        self.ended = true;
        effects.push(Effect::End(end));
    }
}

#[cfg(test)]
mod tests;
