//! Processes: how they start, what they are told, how they lead and end.

use super::*;
use roomrobot_core::application::StoredApplication;

impl World {
    pub(super) fn start(&mut self, n: usize) {
        let (setup, now) = (self.setup, self.now);
        let Some(replica) = self.replicas.get_mut(n) else { return };
        if replica.alive() {
            return;
        }
        self.looked += replica.engine.reconciles();
        replica.start(&setup, now);
        self.say(|_| format!("  replica {n} starts"));
        let first =
            self.replicas.get_mut(n).filter(|_| !setup.elects()).map(|replica| replica.right.take_for_ever());
        if let Some(first) = first {
            self.tell(n, Some(first));
        }
        self.elect(n, election::Input::Tick);
        let Some(replica) = self.replicas.get(n) else { return };
        for stream in 0..replica.streams.len() {
            self.begin(n, stream);
        }
        self.tell(n, None);
    }

    pub(super) fn kill(&mut self, n: usize, down: u16) {
        let Some(replica) = self.replicas.get_mut(n) else { return };
        if replica.alive() {
            replica.phase = Phase::Dead;
            replica.until = replica.until.min(self.now);
            replica.open.clear();
            self.later(MS * u32::from(down), Event::Start(n));
        }
    }

    /// Feeds an engine with an input, or with nothing but the time, and does what follows.
    pub(super) fn tell(&mut self, n: usize, input: Option<Input>) {
        let now = self.now;
        let Some(replica) = self.replicas.get_mut(n) else { return };
        if !matches!(replica.phase, Phase::Running | Phase::Ending(_)) {
            return;
        }
        let boot = replica.boot_moment(now);
        let moment = replica.moment(now);
        let begun = self.engines.map(|_| time_of_this_thread());
        let fed = input.is_some();
        if fed {
            self.inputs += 1;
        }
        if let Some(lost) = replica.right.pass(replica.engine.elected(), boot) {
            replica.engine.handle(lost, moment);
        }
        let process = replica.process();
        let generations = &mut self.generations;
        let afresh = match &input {
            Some(Input::Application(spec)) => is_new(generations, process, spec),
            // The reply to its own write may show what the watch has not told yet.
            Some(Input::Written(_, Ok(StoredObject::Application(spec)))) => {
                is_new(generations, process, spec)
            }
            Some(Input::Secret(..) | Input::ApplicationGone(_) | Input::Leading(_)) => true,
            _ => false,
        };
        if afresh {
            // What was refused before is tried at once.
            self.refusals.retain(|(of, ..), _| *of != process);
            self.afresh.insert(process, now);
        }
        if let Some(input) = input {
            if matches!(input, Input::Answered(_)) {
                replica.answered = Some(now);
            }
            if matches!(input, Input::Leading(_)) {
                replica.elected = now;
            }
            replica.engine.handle(input, moment);
        }
        let looks = replica.engine.reconciles();
        let effects = replica.engine.advance(moment);
        if let Some((engines, begun)) = self.engines.as_mut().zip(begun) {
            *engines += time_of_this_thread().saturating_sub(begun);
        }
        let busy = fed || !effects.is_empty() || replica.engine.reconciles() != looks;
        let moved = std::mem::replace(&mut replica.looked, now) < now;
        replica.idle = if busy || moved { 0 } else { replica.idle + 1 };
        for effect in effects {
            self.carry_out(n, effect);
        }
        self.schedule(n);
        let Some(replica) = self.replicas.get_mut(n) else { return };
        if replica.idle > 50 && replica.wake.is_some_and(|wake| wake <= now) {
            self.checks
                .broken(format!("replica {n} says that something is due and does nothing: it would spin"));
        }
        let Some(replica) = self.replicas.get_mut(n) else { return };
        if let Phase::Ending(since) = replica.phase
            && (replica.engine.drained() || now >= since + DRAIN)
        {
            let rest = replica.answered.map_or(Duration::ZERO, |at| (at + HANDOVER_GAP).saturating_sub(now));
            let process = replica.process;
            if replica.election.is_some() {
                (replica.phase, replica.until) = (Phase::Resigning, replica.until.min(now + rest));
                self.later(rest, Event::Resign(n, process));
            } else {
                let down = replica.down;
                self.kill(n, down);
            }
        }
    }

    /// When it has something to do again.
    pub(super) fn schedule(&mut self, n: usize) {
        let now = self.now;
        let Some(replica) = self.replicas.get_mut(n) else { return };
        let runs = matches!(replica.phase, Phase::Running | Phase::Ending(_));
        let due = replica.engine.next_due(replica.since_start(now)).filter(|_| runs);
        let due = due.map(|due| due + replica.started + replica.slept);
        let election = replica
            .election
            .as_ref()
            .map(|election| replica.true_time(election.due()) + Duration::from_nanos(2000));
        let end = if let Phase::Ending(since) = replica.phase { Some(since + DRAIN) } else { None };
        let Some(next) = due.into_iter().chain(election).chain(end).min() else { return };
        let next = next.max(now);
        if replica.wake.is_none_or(|wake| next < wake || wake < now) {
            replica.wake = Some(next);
            let process = replica.process;
            self.at(next, Event::Wake(n, process));
        }
    }

    pub(super) fn elect(&mut self, n: usize, input: election::Input) {
        let now = self.now;
        let Some(replica) = self.replicas.get_mut(n) else { return };
        let boot = replica.boot(now);
        let process = replica.process;
        let Some(election) = replica.election.as_mut() else { return };
        let effects = election.handle(input, boot);
        for effect in effects {
            match effect {
                election::Effect::Send(ticket, request) => {
                    self.later(
                        MS * u32::from(self.setup.api),
                        Event::Lease(n, process, ticket, Box::new(request)),
                    );
                }
                election::Effect::Unanswered => {}
                election::Effect::Lead { until, before, term } => {
                    let standing =
                        Standing::Leading { until: roomrobot_core::right::Moment::new(until), before, term };
                    self.stands(n, standing);
                    let Some(replica) = self.replicas.get_mut(n) else { return };
                    replica.until = replica.true_time(until);
                    let (until, shard) = (replica.until, replica.shard);
                    if let Some(other) = self.leads_beside(n, shard) {
                        self.checks.broken(format!("replicas {other} and {n} lead at once, until {until:?}"));
                    }
                }
                election::Effect::Lose => {
                    if let Some(replica) = self.replicas.get_mut(n) {
                        replica.until = replica.until.min(now);
                    }
                    self.stands(n, Standing::Standby);
                }
                election::Effect::End(_) => {
                    let down = self.replicas.get(n).map_or(0, |replica| replica.down);
                    self.kill(n, down);
                    return;
                }
            }
        }
        self.schedule(n);
    }

    pub(super) fn stands(&mut self, n: usize, standing: Standing) {
        let now = self.now;
        let Some(replica) = self.replicas.get_mut(n) else { return };
        let boot = replica.boot_moment(now);
        let inputs = replica.right.stand(standing, replica.engine.elected(), boot);
        for input in inputs {
            let word = if matches!(input, Input::Lost) { "has lost the Lease" } else { "leads" };
            self.say(|_| format!("  replica {n} {word}"));
            self.tell(n, Some(input));
        }
    }

    /// Another replica that leads beside this one.
    pub(super) fn leads_beside(&self, n: usize, shard: u8) -> Option<usize> {
        if self.lease_was_deleted_unseen() {
            return None;
        }
        let beside = |other: &&Replica| {
            other.number != n && other.shard == shard && other.alive() && other.until > self.now
        };
        self.replicas.iter().find(beside).map(|other| other.number)
    }

    /// Who starts or wakes up while there is no Lease cannot know that somebody has deleted it under its holder.
    pub(super) fn lease_was_deleted_unseen(&self) -> bool {
        self.lease_deleted.is_some_and(|deleted| {
            let new = |one: &Replica| one.started.max(one.paused).max(one.cut.0) + 12 * SECOND > deleted;
            self.now < deleted + 20 * SECOND && self.replicas.iter().any(new)
        })
    }

    pub(super) fn can_reach(&self, n: usize) -> Result<(), bool> {
        match self.replicas.get(n) {
            Some(replica) if replica.cut.0 > self.now => Err(replica.cut.1),
            _ => Ok(()),
        }
    }

    pub(super) fn lease(
        &mut self,
        n: usize,
        process: u32,
        ticket: election::Ticket,
        request: &election::Request,
    ) {
        let back = MS * u32::from(self.setup.api);
        let answer =
            |answer| Event::Election(n, process, Box::new(election::Input::Answered(ticket, answer)));
        match self.can_reach(n) {
            Err(true) => return,
            Err(false) => return self.later(MS, answer(election::Answer::Failed)),
            Ok(()) => {}
        }
        let Some(replica) = self.replicas.get(n) else { return };
        let (shard, wall) = (replica.shard, replica.wall(self.now));
        let stored = self.leases.get(&shard).cloned();
        let spec = request.patch(wall).map(|patch| patch["spec"].clone());
        let next = match (request, &stored) {
            (election::Request::Read, stored) => {
                let event = answer(election::Answer::Stored(stored.clone()));
                return self.later(back, event);
            }
            (election::Request::Create { holder }, None) => {
                let spec = election::Request::created(holder, wall);
                election::Record {
                    holder: spec.holder_identity,
                    lasts: Duration::from_secs(
                        spec.lease_duration_seconds.unwrap_or_default().unsigned_abs().into(),
                    ),
                    renewed: spec.renew_time.map(|time| time.0),
                    ..election::Record::default()
                }
            }
            (
                election::Request::Claim { record, .. }
                | election::Request::Renew { record }
                | election::Request::Release { record },
                Some(stored),
            ) if record.version == stored.version => patched_lease(stored, &spec.unwrap_or_default()),
            _ => return self.later(back, answer(election::Answer::Conflict)),
        };
        self.cluster.revision += 1;
        let record = election::Record { version: self.cluster.revision.to_string(), ..next };
        self.say(|_| {
            format!("  the Lease is stored, held by {}", record.holder.as_deref().unwrap_or("nobody"))
        });
        self.leases.insert(shard, record.clone());
        self.show_lease(shard, &election::Shown::Version(record.version.clone()));
        self.later(back, answer(election::Answer::Stored(Some(record))));
    }

    pub(super) fn show_lease(&mut self, shard: u8, shown: &election::Shown) {
        for n in 0..self.replicas.len() {
            let Some(replica) = self.replicas.get(n) else { continue };
            let mute = replica.streams.first().is_some_and(|stream| stream.mute > self.now);
            if replica.shard == shard && replica.alive() && !mute && replica.cut.0 <= self.now {
                let (process, lag) = (replica.process, self.lag(n));
                let input = election::Input::Changed(shown.clone());
                self.later(lag, Event::Election(n, process, Box::new(input)));
            }
        }
    }

    pub(super) fn lag(&self, n: usize) -> Duration {
        MS * u32::from(self.setup.lag) * u32::try_from(n % 3 + 1).unwrap_or(1)
    }
}

/// Whether a process has not seen this spec before.
fn is_new(known: &mut HashMap<(Process, String), i64>, process: Process, spec: &StoredApplication) -> bool {
    known.insert((process, spec.name.to_string()), spec.generation) != Some(spec.generation)
}

/// The processor's time that this thread has had: what other programs do meanwhile counts little.
fn time_of_this_thread() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}
