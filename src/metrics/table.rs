//! Every metric with its type, labels and meaning: one table, from which they are registered and documented.

use prometheus_client::registry::Unit;

/// The type of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only rises; its sample ends in `_total`.
    Counter,
    /// It rises and falls.
    Gauge,
    /// Its samples end in `_bucket`, `_sum` and `_count`.
    Histogram,
    /// Always 1; its labels tell.
    Info,
}

impl Kind {
    /// The type as the text format names it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Info => "info",
        }
    }
}

/// One metric.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Its name, without the unit and without what its type adds.
    pub name: &'static str,
    /// `seconds` or `bytes`, which the name ends in; else empty.
    pub unit: &'static str,
    /// Its type.
    pub kind: Kind,
    /// Its labels.
    pub labels: &'static [&'static str],
    /// What it says, without a full stop.
    pub help: &'static str,
}

impl Row {
    pub(super) fn unit(&self) -> Option<Unit> {
        match self.unit {
            "seconds" => Some(Unit::Seconds),
            "bytes" => Some(Unit::Bytes),
            _ => None,
        }
    }

    /// The name as a query has it; of a histogram, the part that its samples share.
    #[must_use]
    pub fn sample(&self) -> String {
        let Self { name, unit, kind, .. } = self;
        let joint = if unit.is_empty() { "" } else { "_" };
        let end = match kind {
            Kind::Counter => "_total",
            Kind::Info => "_info",
            Kind::Gauge | Kind::Histogram => "",
        };
        format!("{name}{joint}{unit}{end}")
    }
}

macro_rules! rows {
    ($($name:ident: $kind:ident $text:literal $unit:literal [$($label:literal),*] $help:literal;)*) => {
        $(#[doc = $help] pub(super) const $name: Row = Row {
            name: $text, unit: $unit, kind: Kind::$kind, labels: &[$($label),*], help: $help,
        };)*

        /// Every metric, in the order of the documentation.
        pub const ROWS: &[Row] = &[$($name),*];
    };
}

rows! {
    CALLS: Counter "roomrobot_calls" "" ["application", "command", "code", "class"]
        "Calls to the room engine that were answered or failed; `code` is `none` without an ErrorCode and `undocumented` for a code that is not in the table";
    CALL_SECONDS: Histogram "roomrobot_call_duration" "seconds" ["application"]
        "Time from the start of a call to its answer or failure";
    PENDING: Gauge "roomrobot_deletions_pending" "" ["application", "reason"]
        "RoomRobots that are being deleted, by the reason of their `RobotDeleted` condition; `Queued` before the first answer; where that was final, until the finalizer goes";
    TOLD: Gauge "roomrobot_deletion_waiting" "seconds" ["application", "reason"]
        "Time since the `RobotDeleted` condition of one of these first said that it waits, or that it is answered: of the one that waits longest, without those in line for their next call";
    OLDEST: Gauge "roomrobot_deletion_oldest" "seconds" ["application"]
        "Age of the oldest deletion; 0 where there is none";
    DELETION_SECONDS: Histogram "roomrobot_deletion_duration" "seconds" ["application"]
        "Time from deletionTimestamp, which has whole seconds, to the removal of the finalizer by this process";
    FINISHED: Counter "roomrobot_deletions_finished" "" ["application", "reason"]
        "RoomRobots whose finalizer this process removed, by the reason of their `RobotDeleted` condition; `None` of the application `(unknown)` where they were never accepted";
    ROBOTS: Gauge "roomrobot_robots" "" ["application"]
        "RoomRobots that are watched; `(unknown)` stands for every application that there is not";
    GRANTED: Counter "roomrobot_quota_granted" "" ["application", "command"]
        "Calls that the pace let start";
    WAITING: Gauge "roomrobot_quota_waiting" "" ["application", "command"]
        "RoomRobots in line for a call";
    LIMIT: Gauge "roomrobot_quota_limit" "" ["application", "command"]
        "Calls a second that the SDKAppID may make: the lowest `requestsPerSecond` of the applications that share it";
    PACE: Gauge "roomrobot_quota_pace" "" ["application", "command"]
        "Calls a second at the moment; under the limit after a throttle answer; 0 while nothing may be called";
    ETA: Gauge "roomrobot_quota_eta" "seconds" ["application", "command"]
        "Time until the line of the SDKAppID is empty at the current pace; absent while nothing may be called";
    BREAKER: Gauge "roomrobot_breaker" "" ["application", "state"]
        "1 for the state that the application is in: `closed` calls go out, `trial` few at a time until the first verdict, `open` refused, one probe a minute, `off` suspended or without what a call needs";
    READY: Gauge "roomrobot_application_ready" "" ["application", "reason"]
        "1 where the stored `Ready` condition of the RtcApplication is True, else 0, with its reason";
    LEADER: Gauge "roomrobot_leader" "" []
        "1 where this process acts, 0 where it stands by";
    RECONCILES: Counter "roomrobot_reconciles" "" []
        "Times that the engine looked at a RoomRobot to decide its next step";
    QUEUE: Gauge "roomrobot_queue_depth" "" ["queue"]
        "Entries in line: `write_final` (the record of an answer, and the end that follows from it), `write_released` (ends without a call), `write_waiting`, `write_told` (the answer to an addition) and `write_live` for a write, `call` for a call, `timer` for a time; one that has become needless is counted until its turn";
    IN_FLIGHT: Gauge "roomrobot_in_flight" "" ["what"]
        "What is under way: `call`, `write`";
    WRITES: Counter "roomrobot_writes" "" ["verb", "resource", "change", "result"]
        "Writes to the API server: `patch` of roomrobots or rtcapplications (`status`, `add_finalizer`, `drop_finalizer`), `create` of events (`event`); `refused` is the result where a policy, a webhook, a quota or a missing right stands in the way";
    VIEW_CUT: Gauge "roomrobot_view_cut" "seconds" ["resource"]
        "For how long the watch of `roomrobots`, `rtcapplications`, `namespaces` or `secrets` has failed, so that what is known grows old; 0 while it is whole; after 30 s the process is not ready";
    BUILD: Info "roomrobot_build" "" ["version"]
        "The version of the program";
    CPU: Counter "process_cpu" "seconds" []
        "User and system CPU time";
    RESIDENT: Gauge "process_resident_memory" "bytes" []
        "Resident memory";
    VIRTUAL: Gauge "process_virtual_memory" "bytes" []
        "Virtual memory";
    START: Gauge "process_start_time" "seconds" []
        "Start of the process since the Unix epoch";
    OPEN_FDS: Gauge "process_open_fds" "" []
        "Open file descriptors";
    MAX_FDS: Gauge "process_max_fds" "" []
        "The most open file descriptors that are allowed";
    THREADS: Gauge "process_threads" "" []
        "Threads";
}
