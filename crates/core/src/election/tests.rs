use super::*;
use k8s_openapi::{
    api::coordination::v1::Lease, apimachinery::pkg::apis::meta::v1::ObjectMeta, jiff::Timestamp,
};
use serde_json::{Value, json};
use std::collections::BTreeSet;

mod chaos;

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

/// A replica that is told one thing after the other.
struct Replica {
    election: Election,
    now: Duration,
    ticket: Option<Ticket>,
    /// What was sent last.
    sent: Option<Request>,
}

impl Replica {
    /// One that has just started, and reads.
    fn start() -> Self {
        let mut this =
            Self { election: Election::new("pod", 7), now: 1000 * SECOND, ticket: None, sent: None };
        assert_eq!(this.tell(Input::Tick), []);
        assert_eq!(this.sent, Some(Request::Read));
        this
    }

    /// One that leads since it sent its claim, just now. There was no Lease before.
    fn leader() -> Self {
        let mut this = Self::start();
        this.stored(None);
        assert!(matches!(this.sent, Some(Request::Create { .. })));
        let until = this.now + 12 * SECOND;
        let lead = Effect::Lead { until, before: Before::Finished, term: 0 };
        let own = this.own("1");
        assert_eq!(this.stored(Some(own)), [lead]);
        this
    }

    /// Its own Lease at this version.
    fn own(&self, version: &str) -> Record {
        held(version, &self.election.candidate.identity)
    }

    /// What follows, without what is sent.
    fn tell(&mut self, input: Input) -> Vec<Effect> {
        let effects = self.election.handle(input, self.now);
        let sends = |effect: &Effect| match effect {
            Effect::Send(ticket, request) => Some((*ticket, request.clone())),
            _ => None,
        };
        if let Some((ticket, request)) = effects.iter().find_map(sends) {
            (self.ticket, self.sent) = (Some(ticket), Some(request));
        }
        effects.into_iter().filter(|effect| sends(effect).is_none()).collect()
    }

    fn answer(&mut self, answer: Answer) -> Vec<Effect> {
        let ticket = self.ticket.take().expect("nothing is under way");
        self.sent = None;
        self.tell(Input::Answered(ticket, answer))
    }

    fn stored(&mut self, record: Option<Record>) -> Vec<Effect> {
        self.answer(Answer::Stored(record))
    }

    /// Lets time pass, until something is sent at the latest.
    fn wait(&mut self, time: Duration) -> Vec<Effect> {
        let (end, before) = (self.now + time, self.ticket);
        let mut effects = Vec::new();
        while self.now < end && self.ticket == before && !self.election.ended {
            self.now = self.election.due().clamp(self.now + MS, end);
            effects.extend(self.tell(Input::Tick));
        }
        effects
    }

    /// How long it takes until this record, which does not change, is claimed; nothing else is written.
    fn claims_after(&mut self, record: &Record) -> Duration {
        let start = self.now;
        self.stored(Some(record.clone()));
        while !matches!(self.sent, Some(Request::Claim { .. })) {
            assert!(self.now < start + 3600 * SECOND, "never");
            if self.sent.is_none() {
                self.wait(3600 * SECOND);
            }
            if self.sent == Some(Request::Read) {
                self.stored(Some(record.clone()));
            }
        }
        self.now - start
    }
}

fn held(version: &str, holder: &str) -> Record {
    Record {
        version: version.to_owned(),
        holder: Some(holder.to_owned()),
        lasts: DURATION,
        renewed: Some(Timestamp::UNIX_EPOCH),
        transitions: 3,
    }
}

fn version(version: &str) -> Shown {
    Shown::Version(version.to_owned())
}

fn free(version: &str) -> Record {
    Record { holder: None, renewed: None, ..held(version, "") }
}

#[test]
fn another_s_lease_is_taken_when_it_has_not_changed_for_as_long_as_it_lasts_whatever_any_clock_says() {
    let at = |seconds: i64| Timestamp::from_second(seconds).ok();
    let wall = Timestamp::now().as_second();
    let lasting = |seconds| Duration::from_secs(seconds);
    let cases = [
        ("clock right", at(wall), 15),
        ("clock 10 minutes ahead", at(wall + 600), 15),
        ("clock a year ahead", at(wall + 31_536_000), 15),
        ("clock 10 minutes behind, or gone for long", at(wall - 600), 15),
        ("no time at all", None, 15),
        ("another version's duration", at(wall), 40),
        ("a short duration", at(wall), 1),
    ];
    for (case, renewed, seconds) in cases {
        let lasts = lasting(seconds);
        let record = Record { lasts, renewed, ..held("1", "other-1") };
        let after = Replica::start().claims_after(&record);
        assert!((lasts..lasts + SPREAD + 2 * MS).contains(&after), "{case}: after {after:?}");
    }
}

#[test]
fn a_lease_that_is_nobody_s_is_taken_at_once() {
    assert_eq!(Replica::start().claims_after(&free("1")), Duration::ZERO);
    let mut replica = Replica::start();
    replica.stored(None);
    assert!(matches!(replica.sent, Some(Request::Create { .. })));
}

#[test]
fn a_lease_that_changes_is_never_taken() {
    let mut replica = Replica::start();
    for version in 0..1000 {
        assert_eq!(replica.sent, Some(Request::Read));
        // The holder's clock stands still: what changes is the version.
        assert_eq!(replica.stored(Some(held(&version.to_string(), "other-1"))), []);
        replica.wait(10 * SECOND);
    }
}

#[test]
fn a_standby_looks_each_one_or_two_seconds_and_at_once_when_the_watch_tells_something_new() {
    let mut replica = Replica::start();
    replica.stored(Some(held("1", "other-1")));
    for _ in 0..5 {
        let start = replica.now;
        replica.wait(10 * SECOND);
        let waited = replica.now - start;
        assert!((SECOND..=2 * SECOND).contains(&waited), "{waited:?}");
        replica.stored(Some(held("1", "other-1")));
    }
    replica.tell(Input::Changed(version("1")));
    assert_eq!(replica.sent, None, "that was known");
    for news in [version("2"), Shown::Deleted] {
        replica.tell(Input::Changed(news));
        assert_eq!(replica.sent, Some(Request::Read));
        replica.stored(Some(held("1", "other-1")));
        assert_eq!(replica.sent, None, "the watch was late: once is enough");
    }
}

#[test]
fn what_the_watch_tells_while_a_request_is_under_way_is_looked_at_afterwards() {
    for (news, looks) in [("1", false), ("2", true)] {
        let mut replica = Replica::start();
        replica.tell(Input::Changed(version(news)));
        replica.stored(Some(held("1", "other-1")));
        assert_eq!(replica.sent.is_some(), looks, "{news}");
    }
}

/// The machine slept for ten minutes, in which the other renewed or did not.
#[test]
fn a_standby_that_slept_looks_before_it_claims() {
    for (version, claims) in [("1", true), ("2", false)] {
        let mut replica = Replica::start();
        replica.stored(Some(held("1", "other-1")));
        replica.now += 600 * SECOND;
        replica.tell(Input::Tick);
        assert_eq!(replica.sent, Some(Request::Read));
        replica.stored(Some(held(version, "other-1")));
        assert_eq!(matches!(replica.sent, Some(Request::Claim { .. })), claims, "version {version}");
    }
}

#[test]
fn of_two_that_claim_at_once_the_one_that_is_refused_stands_by() {
    let mut replica = Replica::start();
    replica.stored(Some(free("1")));
    assert!(matches!(replica.sent, Some(Request::Claim { .. })));
    assert_eq!(replica.answer(Answer::Conflict), []);
    assert_eq!(replica.sent, Some(Request::Read));
    assert_eq!(replica.stored(Some(held("2", "other-1"))), []);
    assert_eq!(replica.sent, None);
}

#[test]
fn who_answers_every_write_with_a_conflict_is_not_asked_again_and_again() {
    let mut replica = Replica::start();
    let start = replica.now;
    let mut writes = 0;
    while replica.now < start + 60 * SECOND {
        match replica.sent {
            None => drop(replica.wait(SECOND)),
            Some(Request::Read) => drop(replica.stored(Some(free("1")))),
            Some(_) => {
                writes += 1;
                replica.answer(Answer::Conflict);
            }
        }
    }
    assert!((60..=121).contains(&writes), "{writes} writes in a minute");
}

#[test]
fn a_conflict_after_a_write_that_failed_is_no_race() {
    let mut replica = Replica::start();
    replica.stored(Some(free("1")));
    replica.answer(Answer::Failed);
    replica.wait(SECOND);
    replica.stored(Some(free("1")));
    assert!(matches!(replica.sent, Some(Request::Claim { .. })));
    replica.answer(Answer::Conflict);
    assert_eq!(replica.sent, None, "it waits as after any failure");
}

#[test]
fn what_fails_is_tried_again_after_half_a_second_and_half_as_much_again_at_most() {
    let mut replica = Replica::start();
    let mut waits = BTreeSet::new();
    for _ in 0..100 {
        replica.answer(Answer::Failed);
        assert_eq!(replica.sent, None);
        let failed = replica.now;
        replica.wait(10 * SECOND);
        waits.insert(replica.now - failed);
    }
    assert!(waits.iter().all(|wait| (RETRY..=RETRY * 3 / 2).contains(wait)), "{waits:?}");
    assert!(waits.len() > 50, "not all replicas at once: {waits:?}");
}

#[test]
fn that_a_lease_is_gone_which_was_never_there_brings_no_look_forward() {
    let mut replica = Replica::start();
    replica.stored(None);
    replica.answer(Answer::Failed);
    replica.tell(Input::Changed(Shown::Deleted));
    assert_eq!(replica.sent, None);
    replica.tell(Input::Changed(version("1")));
    assert_eq!(replica.sent, Some(Request::Read));
}

#[test]
fn a_lease_counts_from_the_moment_in_which_the_write_was_sent() {
    let mut replica = Replica::start();
    replica.stored(Some(free("1")));
    let sent = replica.now;
    replica.now += 3 * SECOND;
    let own = replica.own("2");
    let lead = |sent, before| Effect::Lead { until: sent + 12 * SECOND, before, term: 0 };
    assert_eq!(replica.stored(Some(own)), [lead(sent, Before::Finished)]);
    // So does the time of the next.
    replica.wait(10 * SECOND);
    assert_eq!(replica.now, sent + 4 * SECOND);
    assert_eq!(replica.sent, Some(Request::Renew { record: replica.own("2") }));
    replica.now += SECOND;
    let own = replica.own("3");
    assert_eq!(replica.stored(Some(own)), [lead(sent + 4 * SECOND, Before::Finished)]);
}

#[test]
fn a_claim_whose_answer_is_lost_is_renewed_before_it_counts() {
    let mut replica = Replica::start();
    replica.stored(Some(free("1")));
    assert_eq!(replica.wait(5 * SECOND), [Effect::Unanswered]);
    replica.wait(SECOND);
    assert_eq!(replica.sent, Some(Request::Read));
    let own = replica.own("2");
    assert_eq!(replica.stored(Some(own.clone())), []);
    assert_eq!(replica.sent, Some(Request::Renew { record: own }));
    let (sent, own) = (replica.now, replica.own("3"));
    let lead = Effect::Lead { until: sent + 12 * SECOND, before: Before::Finished, term: 0 };
    assert_eq!(replica.stored(Some(own)), [lead]);
}

/// An API server that hangs, refuses everything, or takes only what is read: the Lease is lost 12 s after the last
/// renewal was sent, the name is another one from then on, and a late answer changes nothing.
#[test]
fn a_lease_that_cannot_be_renewed_is_lost_three_seconds_before_its_end() {
    for case in ["hangs", "refuses", "only reads"] {
        let mut replica = Replica::leader();
        let (sent, own) = (replica.now, replica.own("1"));
        let mut late = None;
        let mut effects = Vec::new();
        while effects.is_empty() {
            effects = replica.wait(SECOND);
            effects.retain(|effect| *effect != Effect::Unanswered);
            late = replica.ticket.or(late);
            match (case, replica.sent.clone()) {
                ("hangs", _) | (_, None) => {}
                ("only reads", Some(Request::Read)) => effects.extend(replica.stored(Some(own.clone()))),
                (_, Some(_)) => effects.extend(replica.answer(Answer::Failed)),
            }
        }
        assert_eq!((effects, replica.now - sent), (vec![Effect::Lose], 12 * SECOND), "{case}");
        assert_ne!(Some(&replica.election.candidate.identity), own.holder.as_ref());
        let late = Input::Answered(late.expect("a renewal"), Answer::Stored(Some(own.clone())));
        if case == "hangs" {
            replica.ticket = None;
            assert_eq!(replica.tell(late), []);
        }
    }
}

/// Its own Lease is another's then, which it takes when it has expired.
#[test]
fn who_has_lost_its_lease_takes_it_again_by_another_name_and_says_so() {
    let mut replica = Replica::leader();
    let own = replica.own("1");
    while replica.election.tenure.number == 0 {
        replica.wait(SECOND);
    }
    // The API server answers again.
    let mut effects = Vec::new();
    while replica.election.tenure.until.is_none() {
        assert!(effects.is_empty(), "{effects:?}");
        replica.wait(SECOND);
        effects = match replica.sent.clone() {
            Some(Request::Read) => replica.stored(Some(own.clone())),
            Some(Request::Claim { record, holder }) => {
                assert_eq!(record, own);
                replica.stored(Some(held("2", &holder)))
            }
            other => {
                assert_eq!(other, None);
                continue;
            }
        };
    }
    let [Effect::Lead { before: Before::Vanished, term: 1, .. }] = effects[..] else { panic!("{effects:?}") };
}

/// It was stopped, or its machine slept, while its renewal was stored: its process goes on after the end.
#[test]
fn a_leader_that_goes_on_after_the_end_has_lost_whatever_it_is_told_first() {
    for input in ["answer", "watch", "tick"] {
        let mut replica = Replica::leader();
        replica.wait(5 * SECOND);
        let ticket = replica.ticket.unwrap();
        replica.now += 600 * SECOND;
        let own = replica.own("2");
        let effects = replica.tell(match input {
            "answer" => Input::Answered(ticket, Answer::Stored(Some(own))),
            "watch" => Input::Changed(version("2")),
            _ => Input::Tick,
        });
        assert_eq!(effects, [Effect::Lose], "{input}");
        assert_eq!(replica.sent, Some(Request::Read), "{input}");
    }
}

#[test]
fn a_lease_that_is_another_s_nobody_s_or_gone_under_our_feet_is_lost_at_once() {
    for (case, record) in
        [("another's", Some(held("2", "other-1"))), ("nobody's", Some(free("2"))), ("gone", None)]
    {
        for told in ["watch", "renewal"] {
            let mut replica = Replica::leader();
            if told == "watch" {
                replica.now += SECOND;
                replica.tell(Input::Changed(
                    record.as_ref().map_or(Shown::Deleted, |record| version(&record.version)),
                ));
            } else {
                replica.wait(5 * SECOND);
                assert_eq!(replica.answer(Answer::Conflict), [], "{case}, {told}");
            }
            assert_eq!(replica.sent, Some(Request::Read), "{case}, {told}");
            assert_eq!(replica.stored(record.clone()), [Effect::Lose], "{case}, {told}");
            let takes = match replica.sent {
                Some(Request::Create { .. }) => "gone",
                Some(Request::Claim { .. }) => "nobody's",
                None => "another's",
                _ => "",
            };
            assert_eq!(takes, case, "{told}");
        }
    }
}

#[test]
fn a_lease_that_somebody_edits_stays_ours() {
    let mut replica = Replica::leader();
    let start = replica.now;
    replica.now += SECOND;
    replica.tell(Input::Changed(version("2")));
    let own = replica.own("2");
    assert_eq!(replica.stored(Some(own.clone())), []);
    assert_eq!(replica.sent, None);
    replica.wait(10 * SECOND);
    assert_eq!((replica.now - start, &replica.sent), (4 * SECOND, &Some(Request::Renew { record: own })));
    // A renewal that meets another edit is sent again.
    replica.answer(Answer::Conflict);
    let own = replica.own("3");
    assert_eq!(replica.stored(Some(own.clone())), []);
    assert_eq!(replica.sent, Some(Request::Renew { record: own }));
    let own = replica.own("4");
    assert!(matches!(replica.stored(Some(own))[..], [Effect::Lead { .. }]));
    // Who shortens it lets others take it: it is set right at once.
    replica.tell(Input::Changed(version("5")));
    let short = Record { lasts: SECOND, ..replica.own("5") };
    assert_eq!(replica.stored(Some(short.clone())), []);
    assert_eq!(replica.sent, Some(Request::Renew { record: short }));
}

#[test]
fn who_resigns_frees_its_lease() {
    let mut leader = Replica::leader();
    assert_eq!(leader.tell(Input::Resign), []);
    assert_eq!(leader.sent, Some(Request::Release { record: leader.own("1") }));
    assert_eq!(leader.stored(Some(free("2"))), [Effect::End(End::Released)]);

    let mut renews = Replica::leader();
    renews.wait(5 * SECOND);
    assert_eq!(renews.tell(Input::Resign), []);
    assert!(matches!(renews.sent, Some(Request::Renew { .. })), "it is waited for");
    let own = renews.own("2");
    assert_eq!(renews.stored(Some(own.clone())), []);
    assert_eq!(renews.sent, Some(Request::Release { record: own }));

    let mut edited = Replica::leader();
    edited.tell(Input::Resign);
    edited.answer(Answer::Conflict);
    assert_eq!(edited.sent, Some(Request::Read));
    let own = edited.own("2");
    edited.stored(Some(own.clone()));
    assert_eq!(edited.sent, Some(Request::Release { record: own }));

    let mut claims = Replica::start();
    claims.stored(Some(free("1")));
    assert_eq!(claims.tell(Input::Resign), []);
    let own = claims.own("2");
    assert_eq!(claims.stored(Some(own.clone())), [], "it does not lead any more");
    assert_eq!(claims.sent, Some(Request::Release { record: own }));

    let mut doubts = Replica::start();
    doubts.stored(Some(free("1")));
    doubts.answer(Answer::Failed);
    assert_eq!(doubts.tell(Input::Resign), []);
    assert_eq!(doubts.sent, Some(Request::Read));
    assert_eq!(doubts.stored(Some(free("1"))), [Effect::End(End::NotHeld)]);

    // One that cannot even look any more still has to.
    let mut cut_off = Replica::start();
    cut_off.stored(Some(free("1")));
    cut_off.answer(Answer::Failed);
    cut_off.wait(SECOND);
    assert_eq!(cut_off.sent, Some(Request::Read));
    cut_off.answer(Answer::Failed);
    assert_eq!(cut_off.tell(Input::Resign), []);
    assert_eq!(cut_off.sent, Some(Request::Read));
    let own = cut_off.own("2");
    assert_eq!(cut_off.stored(Some(own.clone())), []);
    assert_eq!(cut_off.sent, Some(Request::Release { record: own }));
}

#[test]
fn who_resigns_ends_within_three_seconds() {
    for mut standby in [Replica::start(), {
        let mut looked = Replica::start();
        looked.stored(Some(held("1", "other-1")));
        looked
    }] {
        assert_eq!(standby.tell(Input::Resign), [Effect::End(End::NotHeld)]);
        assert_eq!(standby.tell(Input::Tick), []);
    }
    for hangs in [true, false] {
        let mut leader = Replica::leader();
        let start = leader.now;
        let mut effects = leader.tell(Input::Resign);
        assert_eq!(leader.election.due(), start + 3 * SECOND, "nothing is due before");
        while effects.is_empty() {
            if !hangs && leader.ticket.is_some() {
                effects = leader.answer(Answer::Failed);
            }
            effects.extend(leader.wait(SECOND));
        }
        assert_eq!((effects, leader.now - start), (vec![Effect::End(End::Unreleased)], 3 * SECOND));
    }
}

/// What is thought of the one before, by what was seen of the Lease.
#[test]
fn whether_the_one_before_has_finished() {
    type Step = (u32, Option<Record>);
    let theirs = |version| Some(held(version, "other-1"));
    let cases: [(&str, Vec<Step>, Before); 10] = [
        ("there was never one", vec![(0, None)], Before::Finished),
        ("it was free from the beginning", vec![(0, Some(free("1")))], Before::Finished),
        ("given back", vec![(0, theirs("1")), (5_000, Some(free("2")))], Before::Finished),
        ("expired", vec![(0, theirs("1")), (16_000, theirs("1"))], Before::Vanished),
        (
            "freed at its end by an old version",
            vec![(0, theirs("1")), (14_000, Some(free("2")))],
            Before::Vanished,
        ),
        ("given back late", vec![(0, theirs("1")), (13_499, Some(free("2")))], Before::Finished),
        (
            "freed so late that its holder has lost it",
            vec![(0, theirs("1")), (13_500, Some(free("2")))],
            Before::Vanished,
        ),
        ("freed after its end", vec![(0, theirs("1")), (20_000, Some(free("2")))], Before::Vanished),
        // Its holder does not know yet, and leads until then; it may be one that was never seen.
        (
            "deleted while it was held",
            vec![(0, theirs("1")), (5_000, None), (12_000, None), (18_000, None), (23_000, None)],
            Before::Vanished,
        ),
        (
            "two before: the first vanished, the second gave it back",
            vec![(0, theirs("1")), (16_000, Some(held("2", "third-1"))), (20_000, Some(free("3")))],
            Before::Finished,
        ),
    ];
    for (case, steps, expected) in cases {
        let mut replica = Replica::start();
        let start = replica.now;
        for (ms, record) in steps {
            replica.now = start + ms * MS;
            if replica.sent.is_none() {
                replica.tell(Input::Tick);
            }
            assert_eq!(replica.sent, Some(Request::Read), "{case}");
            replica.stored(record);
        }
        assert!(matches!(replica.sent, Some(Request::Create { .. } | Request::Claim { .. })), "{case}");
        let own = replica.own("9");
        let effects = replica.stored(Some(own));
        assert!(
            matches!(effects[..], [Effect::Lead { before, .. }] if before == expected),
            "{case}: {effects:?}"
        );
    }
}

#[test]
fn names_and_waits_differ_between_replicas() {
    let names: BTreeSet<String> =
        (0..100).map(|seed| Election::new("pod", seed).candidate.identity).collect();
    assert_eq!(names.len(), 100);
    let name = names.first().unwrap();
    assert!(name.strip_prefix("pod-").is_some_and(|digits| digits.len() == 8), "{name}");
}

#[test]
fn a_lease_with_missing_fields_is_read_all_the_same() {
    let lease = |spec: Value| {
        let spec = serde_json::from_value(spec).unwrap();
        let metadata = ObjectMeta { resource_version: Some("5".to_owned()), ..ObjectMeta::default() };
        Record::from(Lease { metadata, spec })
    };
    let nobody = Record { version: "5".to_owned(), lasts: DURATION, ..Record::default() };
    for spec in [json!(null), json!({}), json!({"holderIdentity": ""}), json!({"holderIdentity": null})] {
        assert_eq!(lease(spec.clone()), nobody, "{spec}");
    }
    let somebody = Record { holder: Some("a-1".to_owned()), ..nobody };
    for seconds in [json!(null), json!(0), json!(-1)] {
        assert_eq!(lease(json!({"holderIdentity": "a-1", "leaseDurationSeconds": seconds})), somebody);
    }
    let whole = lease(json!({
        "holderIdentity": "a-1", "leaseDurationSeconds": 40, "leaseTransitions": 7,
        "acquireTime": "2026-01-01T00:00:00.000000Z", "renewTime": "2026-01-01T00:00:00.000001Z",
    }));
    let renewed = "2026-01-01T00:00:00.000001Z".parse().ok();
    assert_eq!(whole, Record { lasts: 40 * SECOND, transitions: 7, renewed, ..somebody });
}

/// `acquireTime` and `leaseTransitions` change with the holder only, as in client-go.
#[test]
fn each_write_is_refused_where_another_version_is_stored() {
    let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    let (record, holder) = (held("5", "other-1"), "pod-1".to_owned());
    let written = |request: Request| request.patch(now).unwrap();
    assert_eq!(
        written(Request::Claim { record: record.clone(), holder: holder.clone() }),
        json!({"metadata": {"resourceVersion": "5"}, "spec": {
            "holderIdentity": "pod-1", "leaseDurationSeconds": 15, "leaseTransitions": 4,
            "acquireTime": "2026-01-01T00:00:00.000000Z", "renewTime": "2026-01-01T00:00:00.000000Z",
        }})
    );
    assert_eq!(
        written(Request::Renew { record: record.clone() }),
        json!({"metadata": {"resourceVersion": "5"}, "spec": {
            "leaseDurationSeconds": 15, "renewTime": "2026-01-01T00:00:00.000000Z",
        }})
    );
    assert_eq!(
        written(Request::Release { record: record.clone() }),
        json!({"metadata": {"resourceVersion": "5"}, "spec": {
            "holderIdentity": null, "leaseDurationSeconds": null, "acquireTime": null, "renewTime": null,
        }})
    );
    // The wall clock stands still: the API server would take the same time for no change, and others for no renewal.
    let standing = Request::Renew { record: Record { renewed: Some(now), ..record } };
    assert_eq!(standing.patch(now).unwrap()["spec"]["renewTime"], "2026-01-01T00:00:00.000001Z");
    assert_eq!(Request::Read.patch(now), None);
    let created = Request::created(&holder, now);
    assert_eq!((created.holder_identity, created.lease_duration_seconds), (Some(holder), Some(15)));
    assert_eq!((created.lease_transitions, created.acquire_time), (Some(0), created.renew_time));
}
