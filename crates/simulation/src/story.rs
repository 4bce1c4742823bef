//! A story: what the world is like at the start, and what people, machines and networks do in it, one thing after the
//! other. Nothing else is left to chance, so that the same story always goes the same way.
//!
//! Each value is small and means something whatever stands beside it, so that a story can be cut anywhere and is still one.

use std::{fmt, time::Duration};

/// The namespaces of RoomRobots.
pub const NAMESPACES: [&str; 3] = ["team-a", "team-b", "team-c"];

/// The applications. The second may have the SDKAppID of the first.
pub const APPLICATIONS: [&str; 2] = ["app", "twin"];

/// The world at the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setup {
    /// How many replicas each shard has; 1 to 3.
    pub replicas: u8,
    /// Two operators with half of the RoomRobots each, by a label.
    pub sharded: bool,
    /// Each namespace is watched for itself.
    pub by_namespace: bool,
    /// The second application has the SDKAppID of the first.
    pub twin: bool,
    /// The second application takes only labelled namespaces.
    pub selective: bool,
    /// Without `--leader-elect`; with one replica only.
    pub alone: bool,
    /// `requestsPerSecond`
    pub rate: u8,
    /// `--concurrency`
    pub concurrency: u8,
    /// Milliseconds from a request to the API server until it is stored, and from there to the reply.
    pub api: u16,
    /// Milliseconds from a call to the room engine until it is carried out, and from there to the answer.
    pub room: u16,
    /// Milliseconds from what is stored to what a watch shows; another replica sees it so much later again.
    pub lag: u16,
    /// Milliseconds from the begin of a list to its snapshot, and from there to the operator.
    pub list: u16,
    /// Seconds by which the clocks of two replicas differ.
    pub skew: i16,
}

/// A healthy small world.
pub const HEALTHY: Setup = Setup {
    replicas: 1,
    sharded: false,
    by_namespace: false,
    twin: false,
    selective: false,
    alone: false,
    rate: 50,
    concurrency: 16,
    api: 4,
    room: 20,
    lag: 5,
    list: 10,
    skew: 0,
};

impl Setup {
    /// Whether the replicas elect one that acts.
    #[must_use]
    pub const fn elects(&self) -> bool {
        !self.alone || self.sharded || self.replicas > 1
    }

    /// How many operators there are, each with a part of the RoomRobots.
    #[must_use]
    pub const fn shards(&self) -> u8 {
        if self.sharded { 2 } else { 1 }
    }
}

/// One thing that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Milliseconds after the step before.
    pub after: u32,
    /// What happens.
    pub action: Action,
}

/// Which robot of the room engine a RoomRobot stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    /// One of its own.
    Its,
    /// One that others may stand for, too.
    Shared(u8),
}

/// What a Secret holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secret {
    /// What the room engine takes.
    Right,
    /// What it does not take.
    Wrong,
    /// Neither key nor signature.
    Empty,
    /// There is none.
    Missing,
    /// The operator may not list it.
    Forbidden,
    /// Listing it fails.
    Failing,
    /// Listing it is not answered.
    Hanging,
}

/// Which writes to the API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// All of RoomRobots.
    Robots,
    /// Finalizers of RoomRobots.
    Finalizers,
    /// Statuses of RoomRobots.
    Statuses,
    /// Those to RtcApplications.
    Applications,
}

/// What becomes of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// 422 by an admission policy.
    Policy,
    /// 403 by a quota or for want of a right.
    Forbidden,
    /// 401
    Unauthorized,
    /// A webhook denies it, with the code 409.
    Webhook,
    /// 500, as the webhook fails.
    WebhookFails,
    /// 429
    TooMany,
    /// 500
    Internal,
    /// 404 of somebody on the way.
    Proxy404,
    /// 409
    Conflict,
    /// No way to the API server.
    Unreachable,
    /// It is stored, and the reply is lost.
    ReplyLost,
    /// It is stored, and the reply comes some seconds later.
    ReplyLate,
    /// No reply, and it is never stored.
    Hangs,
    /// No reply; it is stored right after the next write to the same object.
    Overtaken,
}

/// How the room engine meets a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meets {
    /// With this ErrorCode, and without effect.
    Code(u32),
    /// With an HTTP error.
    Http(u16),
    /// There is no connection.
    Refused,
    /// The connection breaks before it has an effect.
    Broken,
    /// It has its effect, and the connection breaks.
    BrokenAfter,
    /// It has no effect, and no answer.
    Lost,
    /// It has its effect, and no answer.
    LostAfter,
    /// One time with 70009, the other with 70050.
    Alternating,
}

/// What can happen. Namespaces, names, applications and replicas are numbers; those that there are not count from the
/// beginning again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing, for some time.
    Wait,
    /// A RoomRobot is created.
    Create {
        /// Namespace.
        ns: u8,
        /// Name.
        name: u8,
        /// The robot.
        of: Of,
        /// Application.
        app: u8,
        /// `creationPolicy: Create`, else `Adopt`.
        create: bool,
        /// `deletionPolicy: Retain`
        retain: bool,
        /// Born with the finalizer.
        born: bool,
        /// `suspend`
        suspend: bool,
    },
    /// Many RoomRobots are created at once.
    Crowd {
        /// Namespace.
        ns: u8,
        /// How many tens.
        tens: u8,
        /// Application.
        app: u8,
        /// `creationPolicy: Create`
        create: bool,
        /// All of them stand for the same robot.
        shared: bool,
    },
    /// A RoomRobot is deleted.
    Delete {
        /// Namespace.
        ns: u8,
        /// Name.
        name: u8,
    },
    /// All RoomRobots of a namespace are deleted.
    DeleteAll {
        /// Namespace.
        ns: u8,
    },
    /// One is created and another one deleted for the same robot: a rename in Git.
    Rename {
        /// Namespace.
        ns: u8,
        /// The old name.
        from: u8,
        /// The new one.
        to: u8,
    },
    /// `deletionPolicy` changes.
    Retain {
        /// Namespace.
        ns: u8,
        /// Name.
        name: u8,
        /// `Retain`, else `Delete`.
        on: bool,
    },
    /// `suspend` of a RoomRobot changes.
    Suspend {
        /// Namespace.
        ns: u8,
        /// Name.
        name: u8,
        /// Set.
        on: bool,
    },
    /// `creationPolicy` changes.
    Creation {
        /// Namespace.
        ns: u8,
        /// Name.
        name: u8,
        /// `Create`, else `Adopt`.
        create: bool,
    },
    /// A backup is restored: the object without its status, with its finalizer.
    Restore {
        /// Namespace.
        ns: u8,
        /// Name.
        name: u8,
        /// Application.
        app: u8,
    },
    /// A RoomRobot moves to the other shard.
    Move {
        /// Namespace.
        ns: u8,
        /// Name.
        name: u8,
    },
    /// Somebody takes our finalizer off.
    Strip {
        /// Namespace.
        ns: u8,
        /// Name.
        name: u8,
    },
    /// Another finalizer is put on in front of ours, or taken off.
    OtherFinalizer {
        /// Namespace.
        ns: u8,
        /// Name.
        name: u8,
        /// Put on.
        on: bool,
    },
    /// Another writer puts a condition in front of ours.
    OtherCondition {
        /// Namespace.
        ns: u8,
        /// Name.
        name: u8,
    },
    /// Another writer removes the status.
    WipeStatus {
        /// Namespace.
        ns: u8,
        /// Name.
        name: u8,
    },
    /// A namespace is deleted, with all that is in it.
    DeleteNamespace {
        /// Namespace.
        ns: u8,
    },
    /// A namespace is deleted by force, so that its RoomRobots stay behind, and is made again later.
    ForceNamespace {
        /// Namespace.
        ns: u8,
        /// Seconds until it is made again.
        back: u8,
    },
    /// The label that the selective application asks for.
    Label {
        /// Namespace.
        ns: u8,
        /// Set.
        on: bool,
    },
    /// `suspend` of an application changes.
    Brake {
        /// Application.
        app: u8,
        /// Set.
        on: bool,
    },
    /// `requestsPerSecond` changes.
    Rate {
        /// Application.
        app: u8,
        /// Calls a second.
        rate: u8,
    },
    /// An application is deleted.
    DeleteApplication {
        /// Application.
        app: u8,
    },
    /// An application is created again.
    CreateApplication {
        /// Application.
        app: u8,
    },
    /// Somebody takes all finalizers off an application.
    StripApplication {
        /// Application.
        app: u8,
    },
    /// A Secret changes, or can be read no more.
    Change {
        /// Application.
        app: u8,
        /// What it holds.
        secret: Secret,
    },
    /// A process is killed, and another one starts in its place.
    Kill {
        /// Replica.
        replica: u8,
        /// Milliseconds until the next one starts.
        down: u16,
    },
    /// A process is asked to end (SIGTERM), and another one starts in its place.
    End {
        /// Replica.
        replica: u8,
        /// Milliseconds until the next one starts.
        down: u16,
    },
    /// A process stands still (SIGSTOP).
    Pause {
        /// Replica.
        replica: u8,
        /// Milliseconds.
        time: u16,
    },
    /// A machine sleeps: its monotonic clock stands still.
    Sleep {
        /// Replica.
        replica: u8,
        /// Milliseconds.
        time: u16,
    },
    /// A machine's wall clock jumps.
    Clock {
        /// Replica.
        replica: u8,
        /// Seconds.
        by: i16,
    },
    /// Somebody deletes the Lease.
    DeleteLease,
    /// No way from a replica to the API server; from all of them with the number 3.
    Cut {
        /// Replica.
        replica: u8,
        /// Nothing is answered, else everything fails at once.
        hangs: bool,
        /// Milliseconds.
        time: u16,
    },
    /// A replica's watches fail.
    Watches {
        /// Replica.
        replica: u8,
        /// They cannot go on where they were.
        gone: bool,
        /// Milliseconds in which they tell nothing before.
        mute: u16,
    },
    /// Lists are slow.
    SlowLists {
        /// Milliseconds that each takes.
        takes: u16,
        /// Milliseconds.
        time: u16,
    },
    /// Writes to the API server go wrong.
    Writes {
        /// Namespace; of all with the number 3.
        ns: u8,
        /// Which of them.
        which: Which,
        /// How.
        how: Refusal,
        /// How many; without an end with 255.
        times: u8,
        /// Milliseconds.
        time: u16,
    },
    /// The API server is slow.
    SlowWrites {
        /// Milliseconds that each write takes.
        takes: u16,
        /// Milliseconds.
        time: u16,
    },
    /// The room engine meets calls like this.
    Room {
        /// Application.
        app: u8,
        /// `add_robot`, else `delete_robot`; both with `None`.
        add: Option<bool>,
        /// How.
        how: Meets,
        /// How many; without an end with 255.
        times: u8,
        /// Milliseconds.
        time: u32,
    },
    /// Calls are held up on their way, and then arrive at once.
    Stall {
        /// Milliseconds.
        time: u16,
    },
    /// Calls take longer.
    SlowCalls {
        /// Milliseconds there, and as many back.
        takes: u16,
        /// Milliseconds.
        time: u16,
    },
    /// A robot leaves its room by itself.
    Leave {
        /// Namespace.
        ns: u8,
        /// Name.
        name: u8,
    },
}

/// A story.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Story {
    /// The world.
    pub setup: Setup,
    /// What happens in it.
    pub steps: Vec<Step>,
}

impl Story {
    /// The story as a test: code that runs it again, with what it says in words beside each line.
    #[must_use]
    pub fn as_test(&self, name: &str, why: &str) -> String {
        use fmt::Write as _;
        let mut text = String::new();
        let _ = writeln!(text, "/// {}", why.replace('\n', "\n/// "));
        let _ = writeln!(text, "#[test]\nfn {name}() {{\n    holds(");
        let _ = writeln!(text, "        {:?},", self.setup);
        let _ = writeln!(text, "        &[");
        let mut at = Duration::ZERO;
        for step in &self.steps {
            at += Duration::from_millis(step.after.into());
            let _ = writeln!(text, "            // {:.3} s: {}", at.as_secs_f64(), step.action);
            let _ = writeln!(text, "            {step:?},");
        }
        let _ = writeln!(text, "        ],\n    );\n}}");
        text
    }
}

/// The key of a RoomRobot.
#[must_use]
pub fn key(ns: u8, name: u8) -> String {
    format!("{}/r{}", namespace(ns), name % 8)
}

/// The name of a namespace.
#[must_use]
pub fn namespace(ns: u8) -> &'static str {
    NAMESPACES.get(usize::from(ns) % NAMESPACES.len()).copied().unwrap_or_default()
}

/// The name of an application.
#[must_use]
pub fn application(app: u8) -> &'static str {
    APPLICATIONS.get(usize::from(app) % APPLICATIONS.len()).copied().unwrap_or_default()
}

fn span(milliseconds: impl Into<u64>) -> String {
    format!("{} s", Duration::from_millis(milliseconds.into()).as_secs_f64())
}

fn times(times: u8) -> String {
    if times == u8::MAX { "every one".to_owned() } else { format!("the next {times}") }
}

impl fmt::Display for Action {
    #[expect(clippy::too_many_lines, reason = "a line for each of them")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let on_off = |on: bool| if on { "set" } else { "cleared" };
        match *self {
            Self::Wait => f.write_str("nothing"),
            Self::Create { ns, name, of, app, create, retain, born, suspend } => {
                write!(f, "RoomRobot {} is created under {}", key(ns, name), application(app))?;
                match of {
                    Of::Its => {}
                    Of::Shared(n) => write!(f, " for the shared robot {}", n % 3)?,
                }
                write!(f, ", {}", if create { "Create" } else { "Adopt" })?;
                for (is, word) in
                    [(retain, ", Retain"), (born, ", born with the finalizer"), (suspend, ", suspended")]
                {
                    f.write_str(if is { word } else { "" })?;
                }
                Ok(())
            }
            Self::Crowd { ns, tens, app, create, shared } => write!(
                f,
                "{} RoomRobots are created in {} under {}, {}{}",
                u32::from(tens.max(1)) * 10,
                namespace(ns),
                application(app),
                if create { "Create" } else { "Adopt" },
                if shared { ", all for one robot" } else { "" }
            ),
            Self::Delete { ns, name } => write!(f, "RoomRobot {} is deleted", key(ns, name)),
            Self::DeleteAll { ns } => write!(f, "all RoomRobots in {} are deleted", namespace(ns)),
            Self::Rename { ns, from, to } => {
                write!(f, "RoomRobot {} is renamed to {}", key(ns, from), key(ns, to))
            }
            Self::Retain { ns, name, on } => {
                let policy = if on { "Retain" } else { "Delete" };
                write!(f, "deletionPolicy of {} is now {policy}", key(ns, name))
            }
            Self::Suspend { ns, name, on } => write!(f, "suspend of {} is {}", key(ns, name), on_off(on)),
            Self::Creation { ns, name, create } => {
                let policy = if create { "Create" } else { "Adopt" };
                write!(f, "creationPolicy of {} is now {policy}", key(ns, name))
            }
            Self::Restore { ns, name, app } => {
                write!(f, "RoomRobot {} is restored without status under {}", key(ns, name), application(app))
            }
            Self::Move { ns, name } => write!(f, "RoomRobot {} moves to the other shard", key(ns, name)),
            Self::Strip { ns, name } => write!(f, "somebody takes our finalizer off {}", key(ns, name)),
            Self::OtherFinalizer { ns, name, on } => {
                write!(f, "another finalizer of {} is {}", key(ns, name), on_off(on))
            }
            Self::OtherCondition { ns, name } => {
                write!(f, "another writer puts its condition in front of those of {}", key(ns, name))
            }
            Self::WipeStatus { ns, name } => {
                write!(f, "another writer removes the status of {}", key(ns, name))
            }
            Self::DeleteNamespace { ns } => write!(f, "namespace {} is deleted", namespace(ns)),
            Self::ForceNamespace { ns, back } => {
                write!(f, "namespace {} is removed by force, and made again {back} s later", namespace(ns))
            }
            Self::Label { ns, on } => write!(f, "the label of namespace {} is {}", namespace(ns), on_off(on)),
            Self::Brake { app, on } => {
                write!(f, "suspend of application {} is {}", application(app), on_off(on))
            }
            Self::Rate { app, rate } => {
                write!(f, "requestsPerSecond of application {} is {}", application(app), rate.max(1))
            }
            Self::DeleteApplication { app } => write!(f, "application {} is deleted", application(app)),
            Self::CreateApplication { app } => write!(f, "application {} is created again", application(app)),
            Self::StripApplication { app } => {
                write!(f, "somebody takes the finalizers off application {}", application(app))
            }
            Self::Change { app, secret } => {
                write!(f, "the Secret of application {} is now {secret:?}", application(app))
            }
            Self::Kill { replica, down } => {
                write!(f, "replica {replica} is killed, the next one starts {} later", span(down))
            }
            Self::End { replica, down } => {
                write!(f, "replica {replica} is ended, the next one starts {} later", span(down))
            }
            Self::Pause { replica, time } => write!(f, "replica {replica} stands still for {}", span(time)),
            Self::Sleep { replica, time } => {
                write!(f, "the machine of replica {replica} sleeps for {}", span(time))
            }
            Self::Clock { replica, by } => write!(f, "the wall clock of replica {replica} jumps by {by} s"),
            Self::DeleteLease => f.write_str("somebody deletes the Lease"),
            Self::Cut { replica, hangs, time } => {
                let what = if hangs { "hang" } else { "fail" };
                let whose = if replica == 3 { "all".to_owned() } else { format!("replica {replica}'s") };
                write!(f, "{whose} requests to the API server {what} for {}", span(time))
            }
            Self::Watches { replica, gone, mute } => write!(
                f,
                "the watches of replica {replica} tell nothing for {}, then fail{}",
                span(mute),
                if gone { " and are too old to go on" } else { "" }
            ),
            Self::SlowLists { takes, time } => {
                write!(f, "lists take {} for the next {}", span(takes), span(time))
            }
            Self::Writes { ns, which, how, times: n, time } => write!(
                f,
                "{} of the writes to {which:?} in {} in the next {} ends so: {how:?}",
                times(n),
                if ns == 3 { "all namespaces" } else { namespace(ns) },
                span(time)
            ),
            Self::SlowWrites { takes, time } => {
                write!(f, "writes take {} for the next {}", span(takes), span(time))
            }
            Self::Room { app, add, how, times: n, time } => write!(
                f,
                "{} of the calls {}of {} in the next {} is met so: {how:?}",
                times(n),
                match add {
                    None => "",
                    Some(true) => "of add_robot ",
                    Some(false) => "of delete_robot ",
                },
                application(app),
                span(time)
            ),
            Self::Stall { time } => {
                write!(f, "calls are held up for {}, and arrive at once then", span(time))
            }
            Self::SlowCalls { takes, time } => {
                write!(f, "calls take {} each way for the next {}", span(takes), span(time))
            }
            Self::Leave { ns, name } => write!(f, "the robot of {} leaves its room by itself", key(ns, name)),
        }
    }
}
