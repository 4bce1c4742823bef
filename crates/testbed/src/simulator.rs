//! The room engine, simulated over real HTTP: `delete_robot` and `add_robot` with real UserSig checks, rooms and
//! members, the quota with its throttle answers, RequestIds, and faults that a user can script.
//!
//! A library for the tests and the demo; `room-engine-simulator` is the same as a program. Source: the vendor's pages,
//! as `docs/reference.md` has them. Where no page says what happens, the choice is a field of [`Settings`].

mod faults;
mod http;
mod usersig;

pub use faults::{Fault, Kind};

use crate::{Error, Result};
use roomrobot_core::codes;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};
use tokio::{net::TcpListener, task::AbortHandle};

/// An application that the simulator knows.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct App {
    /// The SDKAppID.
    pub sdk_app_id: u32,
    /// Its key.
    pub secret_key: String,
    /// Its App administrators.
    #[serde(default = "administrators")]
    pub administrators: BTreeSet<String>,
}

fn administrators() -> BTreeSet<String> {
    BTreeSet::from(["administrator".to_owned()])
}

/// What can be chosen.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Calls a second for each SDKAppID and command.
    pub quota: usize,
    /// Robots that a room takes.
    pub robots_per_room: usize,
    /// What a second `add_robot` of the same robot answers; no page says.
    pub second_add: i64,
    /// Time that every answer takes.
    pub latency: Duration,
    /// The most seconds that a UserSig may have been signed ahead of the simulator's clock; no page says that it matters.
    pub ahead: i64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            quota: 200,
            robots_per_room: 1_000_000,
            second_add: 0,
            latency: Duration::ZERO,
            ahead: i64::MAX,
        }
    }
}

/// A call that came in.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Call {
    /// Microseconds since the simulator started.
    pub at: u64,
    /// `delete_robot` or `add_robot`.
    pub command: String,
    /// The SDKAppID of the query.
    pub sdk_app_id: u32,
    /// `RoomId`
    pub room: String,
    /// `Member_Account`
    pub member: String,
    /// The ErrorCode; absent where a fault took its place.
    pub code: Option<i64>,
    /// Whether a member left or came.
    pub effect: bool,
    /// Whether the reply was sent whole.
    pub delivered: bool,
    /// The RequestId; empty where the reply had none.
    pub request_id: String,
}

#[derive(Debug, Default)]
struct State {
    apps: BTreeMap<u32, App>,
    rooms: BTreeMap<(u32, String), BTreeSet<String>>,
    recent: BTreeMap<(u32, String), VecDeque<Instant>>,
    bad_signatures: BTreeMap<u32, VecDeque<Instant>>,
    faults: Vec<Fault>,
    calls: Vec<Call>,
    randoms: BTreeSet<u32>,
    repeated_randoms: usize,
    sequence: u64,
    settings: Settings,
    /// Added to the clock that UserSigs are checked by.
    clock_skew: i64,
}

/// A running simulator; it ends with the value.
#[derive(Debug)]
pub struct Simulator {
    address: SocketAddr,
    shared: Shared,
    task: AbortHandle,
}

#[derive(Clone, Debug)]
struct Shared {
    state: Arc<Mutex<State>>,
    start: Instant,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Simulator {
    /// Starts one on `address`; port 0 takes a free one.
    ///
    /// # Errors
    /// If the address cannot be bound.
    pub async fn start(address: SocketAddr, settings: Settings) -> Result<Self> {
        let listener = TcpListener::bind(address).await.map_err(|error| Error::new(address, error))?;
        let address = listener.local_addr().map_err(|error| Error::new(address, error))?;
        let state = State { settings, ..State::default() };
        let shared = Shared { state: Arc::new(Mutex::new(state)), start: Instant::now() };
        let task = tokio::spawn(http::serve(listener, shared.clone())).abort_handle();
        Ok(Self { address, shared, task })
    }

    /// Starts one on a free loopback port.
    ///
    /// # Errors
    /// If there is none.
    pub async fn local() -> Result<Self> {
        Self::start(SocketAddr::from(([127, 0, 0, 1], 0)), Settings::default()).await
    }

    /// Where it listens, as an endpoint.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Adds or replaces an application.
    pub fn add_app(&self, sdk_app_id: u32, secret_key: &str) {
        let app = App { sdk_app_id, secret_key: secret_key.to_owned(), administrators: administrators() };
        self.shared.lock().apps.insert(sdk_app_id, app);
    }

    /// Changes what can be chosen.
    pub fn set(&self, change: impl FnOnce(&mut Settings)) {
        change(&mut self.shared.lock().settings);
    }

    /// Adds `members` to a room, which is made if need be.
    pub fn add_members<'a>(&self, sdk_app_id: u32, room: &str, members: impl IntoIterator<Item = &'a str>) {
        let mut state = self.shared.lock();
        let room = state.rooms.entry((sdk_app_id, room.to_owned())).or_default();
        room.extend(members.into_iter().map(str::to_owned));
    }

    /// The members of a room, or `None` where there is no such room.
    #[must_use]
    pub fn members(&self, sdk_app_id: u32, room: &str) -> Option<BTreeSet<String>> {
        self.shared.lock().rooms.get(&(sdk_app_id, room.to_owned())).cloned()
    }

    /// Members in all rooms.
    #[must_use]
    pub fn population(&self) -> usize {
        self.shared.lock().rooms.values().map(BTreeSet::len).sum()
    }

    /// Scripts a fault.
    pub fn fail(&self, fault: Fault) {
        self.shared.lock().faults.push(fault);
    }

    /// Takes all faults away.
    pub fn heal(&self) {
        self.shared.lock().faults.clear();
    }

    /// The clock that UserSigs are checked by, against this machine's.
    pub fn skew_clock(&self, seconds: i64) {
        self.shared.lock().clock_skew = seconds;
    }

    /// Microseconds since the simulator started, as calls have them.
    #[must_use]
    pub fn elapsed(&self) -> u64 {
        u64::try_from(self.shared.start.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Every call so far.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        self.shared.lock().calls.clone()
    }

    /// The calls about one robot.
    #[must_use]
    pub fn calls_about(&self, room: &str, member: &str) -> Vec<Call> {
        self.calls().into_iter().filter(|call| call.room == room && call.member == member).collect()
    }

    /// Queries whose `random` had been there before.
    #[must_use]
    pub fn repeated_randoms(&self) -> usize {
        self.shared.lock().repeated_randoms
    }

    /// The most calls of one SDKAppID and command in any second.
    #[must_use]
    pub fn most_in_a_second(&self) -> usize {
        let mut by_quota: BTreeMap<(u32, String), Vec<u64>> = BTreeMap::new();
        for call in self.calls() {
            by_quota.entry((call.sdk_app_id, call.command)).or_default().push(call.at);
        }
        by_quota.values().map(|times| promises::most_in(times, 1_000_000)).max().unwrap_or_default()
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// ErrorInfo: what the code means, from the operator's own table, and what this very request lacks.
fn error_info(code: Option<i64>, detail: &str) -> String {
    let meaning = code.filter(|code| *code != 0).and_then(codes::look_up).map(|row| row.meaning);
    match (meaning, detail) {
        (Some(meaning), "") => meaning.to_owned(),
        (Some(meaning), detail) => format!("{meaning} ({detail})"),
        (None, detail) => detail.to_owned(),
    }
}

/// What a request asks for, once its query is understood.
#[derive(Clone, Debug, Default)]
struct Request {
    command: String,
    sdk_app_id: u32,
    identifier: String,
    user_sig: String,
    random: Option<u32>,
    room: String,
    member: String,
}

impl State {
    fn next_request_id(&mut self) -> String {
        self.sequence += 1;
        format!("Id-{:016x}{:016x}-O-Seq-{}", fastrand::u64(..), fastrand::u64(..), self.sequence)
    }

    /// The ErrorCode and ErrorInfo for `request`, and whether it changed a room; the effect happens here.
    fn judge(&mut self, request: &Request, wall: i64) -> (i64, String, bool) {
        let refuse = |code: i64, why: &str| (code, why.to_owned(), false);
        if let Err((code, why)) = self.check_caller(request, wall) {
            return refuse(code, &why);
        }
        if !self.within_quota(request) {
            return refuse(60011, "request frequency limit of the SDKAppID");
        }
        let limits = [(&request.room, 48), (&request.member, 32)];
        let printable = |text: &str| text.bytes().all(|byte| (0x20..=0x7e).contains(&byte));
        if limits.iter().any(|(text, most)| text.is_empty() || text.len() > *most || !printable(text)) {
            return refuse(100_002, "RoomId or Member_Account is invalid");
        }
        let settings = self.settings;
        let Some(members) = self.rooms.get_mut(&(request.sdk_app_id, request.room.clone())) else {
            return refuse(100_004, "the room does not exist");
        };
        match request.command.as_str() {
            "delete_robot" if members.remove(&request.member) => (0, String::new(), true),
            "delete_robot" => refuse(100_005, "non-room member"),
            _ if members.contains(&request.member) => refuse(settings.second_add, ""),
            _ if members.len() >= settings.robots_per_room => refuse(100_700, "robot limit of the room"),
            _ => {
                members.insert(request.member.clone());
                (0, String::new(), true)
            }
        }
    }

    fn check_caller(&mut self, request: &Request, wall: i64) -> Result<(), (i64, String)> {
        let refuse = |code: i64, why: &str| Err((code, why.to_owned()));
        let Some(random) = request.random else {
            return refuse(60002, "random is missing");
        };
        if !self.randoms.insert(random) {
            self.repeated_randoms += 1;
        }
        let Some(app) = self.apps.get(&request.sdk_app_id) else {
            return refuse(70020, "no such SDKAppID");
        };
        let verdict = usersig::check(
            &request.user_sig,
            app,
            &request.identifier,
            wall + self.clock_skew,
            self.settings.ahead,
        );
        if let Err((code, why)) = verdict {
            let bad = self.bad_signatures.entry(request.sdk_app_id).or_default();
            bad.push_back(Instant::now());
            bad.retain(|at| at.elapsed() < Duration::from_secs(60));
            // How many the vendor takes is not known; the text of 70050 says that there is a limit.
            return if bad.len() > 10 {
                refuse(70050, "too many bad signatures")
            } else {
                refuse(code, &why)
            };
        }
        if !app.administrators.contains(&request.identifier) {
            return refuse(60010, "the identifier is no App administrator");
        }
        Ok(())
    }

    fn within_quota(&mut self, request: &Request) -> bool {
        let recent = self.recent.entry((request.sdk_app_id, request.command.clone())).or_default();
        while recent.front().is_some_and(|at| at.elapsed() >= Duration::from_secs(1)) {
            recent.pop_front();
        }
        let within = recent.len() < self.settings.quota;
        if within {
            recent.push_back(Instant::now());
        }
        within
    }
}

#[cfg(test)]
mod tests {
    use super::{App, Request, Settings, State, administrators, error_info};
    use roomrobot_core::codes;

    /// The simulator answers with codes that the operator's table explains, in the table's words.
    #[test]
    fn every_code_that_is_answered_is_in_the_table() {
        let settings = Settings { quota: 1, robots_per_room: 0, second_add: 100_002, ..Settings::default() };
        let mut state = State { settings, ..State::default() };
        let app = App { sdk_app_id: 1, secret_key: "k".to_owned(), administrators: administrators() };
        state.apps.insert(1, app);
        let bad = Request { sdk_app_id: 1, random: Some(1), ..Request::default() };
        let unknown = Request { sdk_app_id: 2, ..bad.clone() };
        let bare = Request { random: None, ..bad.clone() };
        let mut answers = vec![state.judge(&bare, 0), state.judge(&unknown, 0)];
        answers.extend((0..12).map(|_| state.judge(&bad, 0)));
        let mut codes_seen = std::collections::BTreeSet::new();
        for (code, detail, effect) in answers {
            let row = codes::look_up(code).unwrap_or_else(|| panic!("{code} is not in the table"));
            assert!(error_info(Some(code), &detail).starts_with(row.meaning) && !effect);
            codes_seen.insert(code);
        }
        assert_eq!(codes_seen, [60002, 70002, 70020, 70050].into());
        assert_eq!(error_info(Some(0), ""), "");
        assert_eq!(error_info(Some(424_242), ""), "");
        assert_eq!(error_info(None, ""), "");
    }
}
