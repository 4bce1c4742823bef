//! When the next call may start: one pace for each SDKAppID and command.
//!
//! Pure: time comes in as the duration since the process started. Starts are evenly spaced. Between its start and its
//! arrival at the room engine a call can be held up for any time, and then all that were held up arrive at once; so a call
//! that is not answered counts as one that may arrive at any moment, and a start waits until no more than the quota can
//! arrive within one second of it.
//!
//! Where nothing is answered any more, a few calls are kept back: they find out, at growing intervals, whether the
//! connection is open again.
//!
//! The way itself costs nothing: where even the quickest answer takes `quickest`, a call that was answered at `t` had
//! arrived so much earlier, less the time that a new one takes to get there; the two together are `quickest`, or a
//! little less, as the quickest way there and the quickest way back need not have been those of one call.

use crate::min_rtt::MinRtt;
use std::{collections::VecDeque, time::Duration};

/// The span that the quota counts in.
const SECOND: Duration = Duration::from_secs(1);

/// The part of the quota that starts are spaced for.
const MARGIN: f64 = 0.995;

/// How far behind its schedule a start may be and still keep the next one on it: timers wake late.
const CATCH_UP: Duration = Duration::from_millis(50);

/// A call that was given up without an answer may still arrive for this long: what is between here and the room engine
/// may have kept it.
const LINGER: Duration = Duration::from_secs(60);

/// The part of the quota, one in so many, that is kept back for finding out whether calls are answered again.
const RESERVE: usize = 20;

/// So much of it at least, of a quota of twice that or more.
const LEAST_RESERVE: usize = 3;

/// Between two calls that find that out, at first and at most; each interval is half as long again as the one before.
const PROBES: (Duration, Duration) = (Duration::from_secs(8), Duration::from_secs(60));

/// The quickest answer counts for this long, and for as long again.
const QUICKEST_OF: Duration = Duration::from_secs(5);

/// The quickest of fewer answers than these says too little of how quick the next can be.
const QUICKEST_OF_AT_LEAST: u32 = 100;

/// So much of the quickest answer is not counted on: on a busy machine even that one has waited for its turn, and the next
/// call need not. It costs next to nothing: by their spacing alone as many starts as the quota has take 5 ms more than a
/// second.
const RTT_MARGIN: Duration = Duration::from_millis(10);

/// After a throttle answer the pace is left alone for this long, before it halves again or recovers by a step.
const STEP: Duration = SECOND;

/// The steps from nothing to the full pace.
const STEPS: f64 = 20.0;

/// The pace never falls below one call a second.
const SLOWEST: f64 = 1.0;

/// A schedule of starts.
#[derive(Clone, Debug)]
pub struct RateLimiter {
    /// Calls a second that are allowed.
    limit: u32,
    /// Calls a second at the moment; under the limit after a throttle answer.
    rate: f64,
    /// When the next call may start, by the spacing alone.
    next: Duration,
    /// When the rate last changed because of an answer, or recovered by a step.
    changed: Duration,
    /// The calls that may have arrived within the last second, or may still, by their starts.
    recent: VecDeque<Sent>,
    /// When the quota has room for one more, as far as is known from `recent`; `None` where an answer has to come first.
    room_at: Option<Duration>,
    /// What the last answers say of the round trip.
    min_rtt: MinRtt,
    /// When the last call started.
    started: Duration,
    /// When a call was last answered.
    heard: Duration,
    /// Calls in a row that were to find out whether any is answered.
    probes: i32,
}

/// How a call ended, as far as its arrival at the room engine goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// It was answered, or its connection was closed from the other end: it has arrived.
    Known,
    /// It was never sent.
    Never,
    /// It was given up: it may have arrived, or may still.
    Unknown,
}

/// A call that went out.
#[derive(Clone, Copy, Debug)]
struct Sent {
    started: Duration,
    at: Place,
}

/// Where a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Not answered yet.
    OnTheWay,
    /// Given up then.
    GivenUp(Duration),
    /// At the room engine, since then at the latest.
    Arrived(Duration),
}

impl RateLimiter {
    /// A pace of at most `limit` calls a second.
    #[must_use]
    pub fn new(limit: u32) -> Self {
        let limit = limit.max(1);
        Self {
            limit,
            rate: f64::from(limit),
            next: Duration::ZERO,
            changed: Duration::ZERO,
            recent: VecDeque::new(),
            room_at: Some(Duration::ZERO),
            min_rtt: MinRtt::within(QUICKEST_OF),
            started: Duration::ZERO,
            heard: Duration::ZERO,
            probes: 0,
        }
    }

    /// Changes the limit; a pace that is slowed down stays so.
    pub fn set_limit(&mut self, limit: u32) {
        let limit = limit.max(1);
        if limit != self.limit {
            let slowed = self.rate < f64::from(self.limit);
            self.limit = limit;
            self.rate = if slowed { self.rate.min(f64::from(limit)) } else { f64::from(limit) };
            self.look_for_room();
        }
    }

    /// When the next call may start, as far as is known now; `None` where one that is under way has to end first.
    #[must_use]
    pub fn next(&self) -> Option<Duration> {
        self.room_at.map(|room_at| self.next.max(room_at))
    }

    /// Whether calls were given up since one was last answered: only now and then another goes out.
    #[must_use]
    pub fn unheard(&self) -> bool {
        self.recent.iter().any(|sent| matches!(sent.at, Place::GivenUp(at) if at > self.heard))
    }

    /// Looks for the moment in which the quota has room for one more. Looked for when a call goes out or ends, and not each
    /// time that somebody asks.
    fn look_for_room(&mut self) {
        let limit = self.limit as usize;
        let mut arrived: Vec<Duration> = Vec::with_capacity(self.recent.len());
        let mut given_up: Vec<Duration> = Vec::new();
        for sent in &self.recent {
            match sent.at {
                Place::Arrived(at) => arrived.push(at),
                Place::GivenUp(at) => given_up.push(at),
                Place::OnTheWay => {}
            }
        }
        let held = self.recent.len() - arrived.len();
        let Some(free) = limit.checked_sub(held).filter(|free| *free > 0) else {
            self.room_at = given_up.into_iter().min().map(|at| at + LINGER);
            return;
        };
        // All but `free - 1` of those that have arrived have to be a second old.
        let room_at = arrived.len().checked_sub(free).map_or(Duration::ZERO, |nth| {
            let (_, nth, _) = arrived.select_nth_unstable(nth);
            let known = self.min_rtt.of() >= QUICKEST_OF_AT_LEAST;
            let way = if known { self.min_rtt.took().saturating_sub(RTT_MARGIN) } else { Duration::ZERO };
            (*nth + SECOND).saturating_sub(way)
        });
        let unheard = given_up.into_iter().max().is_some_and(|at| at > self.heard);
        let kept_back = (limit / RESERVE).max(LEAST_RESERVE).min(limit / 2);
        let probe_at =
            if unheard || free <= kept_back { self.started + self.probe_interval() } else { room_at };
        self.room_at = Some(room_at.max(probe_at));
    }

    fn probe_interval(&self) -> Duration {
        let (first, longest) = PROBES;
        first.mul_f64(1.5_f64.powi(self.probes.min(16))).min(longest)
    }

    /// Calls a second at the moment.
    #[must_use]
    pub const fn rate(&self) -> f64 {
        self.rate
    }

    /// Calls a second that a start at `now` would go by.
    #[must_use]
    pub fn rate_at(&self, now: Duration) -> f64 {
        let limit = f64::from(self.limit);
        let steps = (now.saturating_sub(self.changed).as_secs_f64() / STEP.as_secs_f64()).floor();
        (self.rate + steps * limit / STEPS).min(limit)
    }

    /// Takes the next start, if it may be now.
    pub fn take(&mut self, now: Duration) -> bool {
        self.forget(now);
        if self.next().is_none_or(|next| now < next) {
            return false;
        }
        self.recover(now);
        let interval = Duration::from_secs_f64(1.0 / (self.rate * MARGIN));
        // A late start keeps the schedule; a start after a rest begins a new one.
        let late = now - self.next <= CATCH_UP;
        self.next = if late { self.next } else { now } + interval;
        if self.unheard() {
            self.probes += 1;
        }
        self.started = now;
        self.recent.push_back(Sent { started: now, at: Place::OnTheWay });
        self.look_for_room();
        true
    }

    /// Lets go of calls that count no more.
    fn forget(&mut self, now: Duration) {
        let before = self.recent.len();
        self.recent.retain(|sent| match sent.at {
            Place::OnTheWay => true,
            Place::GivenUp(at) => at + LINGER > now,
            Place::Arrived(at) => at + SECOND > now,
        });
        if self.recent.len() < before {
            self.look_for_room();
        }
    }

    /// The call that started at `started` has ended.
    pub fn ended(&mut self, started: Duration, arrival: Arrival, now: Duration) {
        let waits = |sent: &Sent| sent.started == started && sent.at == Place::OnTheWay;
        let Some(place) = self.recent.iter().position(waits) else { return };
        match arrival {
            Arrival::Never => drop(self.recent.remove(place)),
            Arrival::Unknown => {
                if let Some(sent) = self.recent.get_mut(place) {
                    sent.at = Place::GivenUp(now);
                }
            }
            Arrival::Known => {
                (self.heard, self.probes) = (now, 0);
                self.min_rtt.learn(now.saturating_sub(started), now);
                for (n, sent) in self.recent.iter_mut().enumerate() {
                    match sent.at {
                        // What was given up before this one started has arrived by now, or never will.
                        Place::GivenUp(at) if at <= started => sent.at = Place::Arrived(now),
                        _ if n == place => sent.at = Place::Arrived(now),
                        _ => {}
                    }
                }
            }
        }
        self.look_for_room();
    }

    /// A call that started at `started` was throttled: halves the pace, once for all calls of the same moment.
    pub fn throttled(&mut self, started: Duration, now: Duration) {
        if started < self.changed {
            return;
        }
        self.rate = (self.rate / 2.0).max(SLOWEST);
        self.changed = now;
        // What is scheduled already was so at the old pace.
        self.next = self.next.max(now + Duration::from_secs_f64(1.0 / (self.rate * MARGIN)));
    }

    /// One step back towards the limit for each [`STEP`] since the last change.
    fn recover(&mut self, now: Duration) {
        let limit = f64::from(self.limit);
        while self.rate < limit && now.saturating_sub(self.changed) >= STEP {
            self.rate = (self.rate + limit / STEPS).min(limit);
            self.changed += STEP;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Starts within `span` when the caller looks every `tick`, and each call is answered after `latency`.
    fn starts_with(
        pace: &mut RateLimiter,
        from: Duration,
        span: Duration,
        tick: Duration,
        latency: Duration,
    ) -> Vec<Duration> {
        let mut now = from;
        let mut starts: Vec<Duration> = Vec::new();
        let mut answered = 0;
        while now < from + span {
            while let Some(start) = starts.get(answered).filter(|start| **start + latency <= now) {
                pace.ended(*start, Arrival::Known, *start + latency);
                answered += 1;
            }
            if pace.take(now) {
                starts.push(now);
            } else {
                now += tick;
            }
        }
        starts
    }

    fn starts(pace: &mut RateLimiter, from: Duration, span: Duration, tick: Duration) -> Vec<Duration> {
        starts_with(pace, from, span, tick, MS)
    }

    fn most_in_a_second(starts: &[Duration]) -> usize {
        starts
            .iter()
            .enumerate()
            .map(|(at, first)| {
                starts[at..].iter().take_while(|start| **start < *first + Duration::from_secs(1)).count()
            })
            .max()
            .unwrap_or(0)
    }

    #[test]
    fn never_more_than_the_quota_in_any_second_and_little_less() {
        for limit in [1, 2, 3, 10, 50, 199, 200] {
            for tick in [MS, 3 * MS, 7 * MS, 12 * MS] {
                let starts = starts(&mut RateLimiter::new(limit), 5000 * MS, 30_000 * MS, tick);
                let most = most_in_a_second(&starts);
                assert!(
                    most <= limit as usize,
                    "{most} starts in a second of {limit}, looking every {tick:?}"
                );
                let least = f64::from(limit) * 30.0 * 0.98 - 1.0;
                let count = f64::from(u32::try_from(starts.len()).unwrap());
                assert!(count >= least, "{count} starts of {limit} each {tick:?}");
            }
        }
    }

    /// Calls are held up on their way by up to a fifth of a second, each by its own time.
    #[test]
    fn no_second_sees_more_arrivals_than_the_quota_however_they_are_held_up() {
        for (limit, seed) in [(1, 1), (20, 2), (200, 3), (200, 4)] {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut pace = RateLimiter::new(limit);
            let mut on_the_way: Vec<(Duration, Duration)> = Vec::new();
            let mut arrivals = Vec::new();
            let mut stalled = Duration::ZERO;
            for ms in 0..20_000 {
                let now = Duration::from_millis(ms);
                on_the_way.retain(|(started, arrival)| {
                    let there = *arrival <= now;
                    if there {
                        arrivals.push(*arrival);
                        pace.ended(*started, Arrival::Known, now);
                    }
                    !there
                });
                // Now and then everything stands still for a while, and then goes out at once.
                if random.u32(..300) == 0 {
                    stalled = now + Duration::from_millis(random.u64(..200));
                }
                while pace.take(now) {
                    on_the_way.push((now, now.max(stalled) + Duration::from_millis(random.u64(1..20))));
                }
            }
            arrivals.sort();
            let most = most_in_a_second(&arrivals);
            assert!(most <= limit as usize, "{most} arrivals in a second of {limit}");
            assert!(arrivals.len() >= limit as usize * 16, "{} arrivals of {limit} in 20 s", arrivals.len());
        }
    }

    /// The way there and the way back take some milliseconds together, of which now the one has more and now the other, and
    /// calls are held back now and then, so that many start as soon as they may. A busy machine makes eight of what takes one.
    #[test]
    fn no_second_sees_more_arrivals_than_the_quota_where_each_way_takes_a_moment_of_its_own() {
        const TICK: Duration = Duration::from_micros(100);
        for (seed, both_ways) in (0..4).flat_map(|seed| [(seed, 3), (seed, 8)]) {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut pace = RateLimiter::new(200);
            let (mut on_the_way, mut arrivals) = (Vec::new(), Vec::new());
            let mut held_back = Duration::ZERO;
            for tick in 0..150_000 {
                let now = TICK * tick;
                on_the_way.retain(|(started, answer)| {
                    let there = *answer <= now;
                    if there {
                        pace.ended(*started, Arrival::Known, now);
                    }
                    !there
                });
                if random.u32(..3_000) == 0 {
                    held_back = now + Duration::from_millis(random.u64(..40));
                }
                while now >= held_back && pace.take(now) {
                    arrivals.push(now + Duration::from_micros(random.u64(..both_ways * 1_000)));
                    on_the_way.push((now, now + Duration::from_millis(both_ways)));
                }
            }
            arrivals.sort();
            let most = most_in_a_second(&arrivals);
            assert!(most <= 200, "{most} arrivals in a second");
            assert!(arrivals.len() >= 15 * 190, "{} arrivals in 15 s", arrivals.len());
        }
    }

    /// The way to the room engine and back takes its time: the quota is used up all the same.
    #[test]
    fn a_long_way_costs_no_part_of_the_quota() {
        for latency in [20, 100, 300, 900].map(Duration::from_millis) {
            let starts = starts_with(&mut RateLimiter::new(200), 5000 * MS, 30_000 * MS, MS, latency);
            assert!(most_in_a_second(&starts) <= 200);
            // The first calls are answered late, so that nothing is known of the way yet.
            let later: Vec<_> = starts.iter().filter(|start| **start >= 8000 * MS).collect();
            assert!(later.len() >= 5300, "{} starts in 27 s where answers take {latency:?}", later.len());
        }
    }

    /// The room engine, or the way there, stands still for most of a second, and then takes all at once.
    #[test]
    fn what_piles_up_on_the_way_keeps_the_quota() {
        for stall in [200, 400, 600, 900] {
            let mut pace = RateLimiter::new(200);
            let (mut waiting, mut arrivals) = (Vec::new(), Vec::new());
            for ms in 0..12_000_u64 {
                let now = Duration::from_millis(ms);
                while pace.take(now) {
                    waiting.push(now);
                }
                let stands_still = ms % 3000 > 3000 - stall;
                if !stands_still {
                    for started in waiting.drain(..) {
                        arrivals.push(now);
                        pace.ended(started, Arrival::Known, now + 2 * MS);
                    }
                }
            }
            let most = most_in_a_second(&arrivals);
            assert!(most <= 200, "{most} arrivals in a second around a stall of {stall} ms");
        }
    }

    /// The connection stalls, the client gives its calls up, and all that were sent arrive when it opens again.
    #[test]
    fn what_piles_up_on_the_way_keeps_the_quota_however_long_it_does() {
        const GIVEN_UP: Duration = Duration::from_secs(8);
        const TICK: Duration = Duration::from_millis(5);
        let stalls = [(200, 1), (200, 3), (200, 9), (200, 60), (200, 240), (10, 20), (10, 60), (1, 20)];
        for (limit, stall) in stalls.map(|(limit, seconds)| (limit, Duration::from_secs(seconds))) {
            let mut pace = RateLimiter::new(limit);
            // Sent and not arrived; sent and neither answered nor given up.
            let (mut held, mut open): (Vec<Duration>, Vec<Duration>) = (Vec::new(), Vec::new());
            let mut arrivals = Vec::new();
            let (from, end) = (5 * SECOND, 5 * SECOND + stall);
            let quiet = end + LINGER + 2 * GIVEN_UP;
            let mut now = Duration::ZERO;
            while now < quiet + 10 * SECOND {
                now += TICK;
                if !(from..end).contains(&now) {
                    for started in held.drain(..) {
                        arrivals.push(now);
                        if open.contains(&started) {
                            pace.ended(started, Arrival::Known, now + MS);
                            open.retain(|one| *one != started);
                        }
                    }
                }
                open.retain(|started| {
                    let over = *started + GIVEN_UP <= now;
                    if over {
                        pace.ended(*started, Arrival::Unknown, now);
                    }
                    !over
                });
                while pace.take(now) {
                    held.push(now);
                    open.push(now);
                }
            }
            let most = most_in_a_second(&arrivals);
            assert!(most <= limit as usize, "{most} arrivals in a second of {limit} after {stall:?}");
            let back = arrivals.iter().find(|at| **at > end + SECOND).unwrap().saturating_sub(end);
            // A small quota has few calls to find out with whether any is answered.
            let longest = if limit < 100 {
                LINGER + GIVEN_UP
            } else {
                (9 * SECOND + stall / 2).min(PROBES.1 + GIVEN_UP)
            };
            assert!(back <= longest, "calls go on {back:?} after {stall:?} at {limit}");
            let last = arrivals.iter().filter(|at| **at >= quiet).count();
            assert!(last >= limit as usize * 9, "{last} in the last ten seconds after {stall:?} at {limit}");
        }
    }

    #[test]
    fn a_long_rest_is_no_credit() {
        let mut pace = RateLimiter::new(200);
        assert!(pace.take(Duration::ZERO));
        let starts = starts(&mut pace, Duration::from_secs(3600), 1000 * MS, MS);
        assert!(starts.len() <= 200);
        assert!(starts[3] > starts[0], "four starts at once after a rest");
    }

    #[test]
    fn a_throttle_answer_halves_once_and_the_pace_recovers_by_steps() {
        let mut pace = RateLimiter::new(200);
        let now = Duration::from_secs(10);
        for _ in 0..50 {
            pace.throttled(now - 5 * MS, now);
        }
        assert!((pace.rate() - 100.0).abs() < 1e-9, "{}", pace.rate());
        pace.throttled(now + 1500 * MS, now + 1500 * MS);
        assert!((pace.rate() - 50.0).abs() < 1e-9);
        let mut before = pace.rate();
        for second in 3..18 {
            pace.take(now + Duration::from_secs(second));
            assert!(pace.rate() >= before && pace.rate() - before <= 20.0 + 1e-9);
            before = pace.rate();
        }
        pace.take(now + Duration::from_secs(40));
        assert!((pace.rate() - 200.0).abs() < 1e-9);
    }

    #[test]
    fn the_rate_that_is_shown_is_the_one_that_the_next_start_goes_by() {
        let mut pace = RateLimiter::new(200);
        let now = Duration::from_secs(10);
        pace.throttled(now, now);
        for ms in [0, 999, 1000, 2500, 9_000, 60_000] {
            let at = now + Duration::from_millis(ms);
            let shown = pace.rate_at(at);
            let mut taken = pace.clone();
            taken.recover(at);
            assert!((shown - taken.rate()).abs() < 1e-9, "{shown} after {ms} ms");
        }
        assert!((pace.rate_at(now) - 100.0).abs() < 1e-9);
    }

    #[test]
    fn starts_are_spaced_a_little_wider_than_the_quota_asks() {
        let mut pace = RateLimiter::new(200);
        assert!(pace.take(SECOND));
        assert_eq!(pace.next(), Some(SECOND + Duration::from_secs_f64(1.0 / 199.0)));
        pace.throttled(SECOND, SECOND);
        assert_eq!(pace.next(), Some(SECOND + Duration::from_secs_f64(1.0 / 99.5)));
        // A call that went out as the pace had been halved says that it is too fast still.
        pace.throttled(SECOND, 2 * SECOND);
        assert!((pace.rate() - 50.0).abs() < 1e-9);
        // Late by as much as timers are: the schedule stays. Later than that: a new one begins.
        for (late, from) in [(50, 0), (51, 51)] {
            let mut pace = RateLimiter::new(200);
            assert!(pace.take(SECOND));
            let second = SECOND + Duration::from_secs_f64(1.0 / 199.0);
            assert!(pace.take(second + late * MS));
            assert_eq!(
                pace.next(),
                Some(second + from * MS + Duration::from_secs_f64(1.0 / 199.0)),
                "{late}"
            );
        }
    }

    #[test]
    fn a_throttle_answer_counts_however_long_all_went_well() {
        let mut pace = RateLimiter::new(10);
        assert!(pace.take(SECOND) && pace.take(5 * SECOND));
        pace.throttled(SECOND, 5 * SECOND);
        assert!((pace.rate() - 5.0).abs() < 1e-9);
    }

    /// What keeps one call may let a later one by: only who started after it was given up proves that it is over.
    #[test]
    fn what_was_given_up_has_arrived_when_one_that_started_later_is_answered() {
        let given_up = |pace: &RateLimiter| {
            pace.recent.iter().filter(|sent| matches!(sent.at, Place::GivenUp(_))).count()
        };
        let mut pace = RateLimiter::new(40);
        let second = 1100 * MS;
        assert!(pace.take(SECOND) && pace.take(second));
        pace.ended(second, Arrival::Unknown, 8 * SECOND);
        pace.ended(SECOND, Arrival::Known, 9 * SECOND);
        assert_eq!(given_up(&pace), 1);
        assert!(pace.take(12 * SECOND));
        pace.ended(12 * SECOND, Arrival::Known, 13 * SECOND);
        assert_eq!(given_up(&pace), 0);
    }

    #[test]
    fn what_is_given_up_as_another_is_answered_holds_nothing_back() {
        let mut pace = RateLimiter::new(40);
        let second = 1100 * MS;
        assert!(pace.take(SECOND) && pace.take(second));
        pace.ended(second, Arrival::Unknown, 9 * SECOND);
        assert_eq!(pace.next(), Some(second + PROBES.0));
        pace.ended(SECOND, Arrival::Known, 9 * SECOND);
        assert!(pace.next() < Some(2 * SECOND), "{:?}", pace.next());
    }

    #[test]
    fn it_never_stops_altogether() {
        let mut pace = RateLimiter::new(200);
        for second in 0..60 {
            pace.throttled(Duration::from_secs(second), Duration::from_secs(second));
        }
        assert!((pace.rate() - SLOWEST).abs() < 1e-9);
        assert!(pace.next().unwrap() <= Duration::from_secs(61));
    }

    #[test]
    fn a_lower_limit_counts_at_once() {
        let mut pace = RateLimiter::new(200);
        pace.set_limit(10);
        assert_eq!(starts(&mut pace, Duration::ZERO, 1000 * MS, MS).len(), 10);
        pace.throttled(Duration::from_secs(2), Duration::from_secs(2));
        pace.set_limit(200);
        assert!(pace.rate() < 10.0);
    }
}
