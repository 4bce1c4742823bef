//! Whoever opens connections to the operator's port keeps no probe waiting.

use crate::harness::{World, eventually};
use futures::StreamExt as _;
use serde_json::json;
use std::{
    fs,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use testbed::operator::Operator;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    task::JoinSet,
    time::{interval, timeout},
};

/// The longest that a probe may take.
const IN_TIME: Duration = Duration::from_millis(200);

/// What it may have of memory with 150 applications and a debug build, and what of that for all connections: less than 32
/// texts of the metrics.
const MOST_MEMORY: u64 = 48 * 1024 * 1024;
const MORE_MEMORY: u64 = 12 * 1024 * 1024;

/// What a GET of `path` is answered, and how long that took.
async fn get(operator: &Operator<'_>, path: &str) -> (String, Duration) {
    let start = Instant::now();
    let answer = async {
        let mut stream = TcpStream::connect(operator.address()).await?;
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        std::io::Result::Ok(text)
    };
    let text = timeout(Duration::from_secs(10), answer).await;
    (
        text.map_or_else(|_| "no answer".to_owned(), |text| text.unwrap_or_else(|e| e.to_string())),
        start.elapsed(),
    )
}

/// How many connections to its port the operator has open.
fn connections(operator: &Operator<'_>) -> usize {
    let address: SocketAddr = operator.address().parse().unwrap();
    let port = format!(":{:04X}", address.port());
    let table = fs::read_to_string(format!("/proc/{}/net/tcp", operator.pid())).unwrap();
    // Local address, remote address, state, and the inode, which is 0 once no process has the connection.
    let open = |line: &&str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        fields[1].ends_with(&port) && ["01", "08"].contains(&fields[3]) && fields[9] != "0"
    };
    table.lines().skip(1).filter(open).count()
}

/// Reads `/metrics` a byte a second for longer than an answer may take, and then what is left; counts those that had been
/// cut, and begins again.
async fn read_slowly(address: String, cut: Arc<AtomicUsize>) {
    loop {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(1).unwrap();
        let mut stream = socket.connect(address.parse().unwrap()).await.unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut second = interval(Duration::from_secs(1));
        for _ in 0..12 {
            second.tick().await;
            let _ = stream.read_u8().await;
        }
        let cut_off = stream.read_to_end(&mut Vec::new()).await.is_err();
        cut.fetch_add(cut_off.into(), Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_are_answered_in_time_whatever_else_is_connected() {
    let world = World::new().await;
    // So the text of the metrics does not fit into what the kernel keeps for a reader.
    let names: Vec<String> = (0..150).map(|n| format!("{}-{n}-{}", world.app, "a".repeat(150))).collect();
    futures::stream::iter(&names)
        .for_each_concurrent(16, |name| async { drop(world.application(name, json!({})).await) })
        .await;
    let operator = world.operator().await.with_most_memory(MOST_MEMORY);
    eventually("the metrics tell of all applications", || async {
        let (text, _) = get(&operator, "/metrics").await;
        names.iter().all(|name| text.contains(name.as_str())) && text.len() > 400_000
    })
    .await;
    let (before, _) = operator.memory().unwrap();

    let mut neighbours = JoinSet::new();
    let cut = Arc::new(AtomicUsize::new(0));
    for _ in 0..32 {
        neighbours.spawn(read_slowly(operator.address(), Arc::clone(&cut)));
    }
    let mut silent = Vec::new();
    for _ in 0..500 {
        silent.push(TcpStream::connect(operator.address()).await.unwrap());
    }
    let address = operator.address();
    neighbours.spawn(async move {
        let mut often = interval(Duration::from_millis(50));
        loop {
            often.tick().await;
            silent.push(TcpStream::connect(&address).await.unwrap());
        }
    });

    // All of them have been accepted before this one.
    assert!(get(&operator, "/livez").await.0.ends_with("\r\n\r\nok\n"));
    let mut late = Vec::new();
    let mut open = 0;
    let mut probes = interval(Duration::from_millis(100));
    for n in 0..50 {
        probes.tick().await;
        let path = if n % 2 == 0 { "/livez" } else { "/readyz" };
        let (answer, took) = get(&operator, path).await;
        if !answer.ends_with("\r\n\r\nok\n") || took > IN_TIME {
            late.push((path, took, answer));
        }
        open = open.max(connections(&operator));
    }
    // A busy machine lets a process wait, too, but not one time after the other.
    assert!(late.len() <= 4, "{} of 50: {late:?}", late.len());
    assert!((32..256).contains(&open), "{open} open connections");
    let (scraped, took) = get(&operator, "/metrics").await;
    assert!(scraped.ends_with("# EOF\n"), "no scrape within {took:?}");
    eventually("slow readers are cut", || async { cut.load(Ordering::Relaxed) >= 32 }).await;
    let (_, most) = operator.memory().unwrap();
    assert!(most < before + MORE_MEMORY, "{} KiB before, {} KiB at most", before / 1024, most / 1024);
}
