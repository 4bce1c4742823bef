use super::*;
use roomrobot_core::engine::ApplicationSnapshot;
use std::{sync::atomic::AtomicUsize, time::Instant};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};

/// A server whose `/metrics` tells of so many applications.
struct Served {
    address: SocketAddr,
    ready: Arc<AtomicBool>,
    /// How many texts were made.
    made: Arc<AtomicUsize>,
}

impl Served {
    fn with(applications: usize) -> Self {
        let (snapshots, mut asked) = mpsc::channel::<oneshot::Sender<Snapshot>>(4);
        let (ready, made) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicUsize::new(0)));
        let server = Server { ready: Arc::clone(&ready), metrics: Metrics::default(), snapshots };
        let listener = Server::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(server.serve(listener));
        let count = Arc::clone(&made);
        tokio::spawn(async move {
            while let Some(reply) = asked.recv().await {
                count.fetch_add(1, Ordering::Relaxed);
                let application = |n| ApplicationSnapshot {
                    name: format!("{n}-{}", "a".repeat(200)).into(),
                    robots: n,
                    pending: Vec::new(),
                    oldest: 0,
                    quotas: Vec::new(),
                    breaker: None,
                    ready: None,
                };
                let applications = (0..applications).map(application).collect();
                let _ = reply.send(Snapshot { applications, ..Snapshot::default() });
            }
        });
        Self { address, ready, made }
    }

    fn made(&self) -> usize {
        self.made.load(Ordering::Relaxed)
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// What comes back for `request`, until the server closes the connection.
    async fn ask(&self, request: &str) -> String {
        let mut stream = self.connect().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }

    async fn get(&self, path: &str) -> String {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")).await
    }

    /// A client that has read the begin of `/metrics`, and lets the rest wait.
    async fn slow_reader(&self) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(1).unwrap();
        let mut stream = socket.connect(self.address).await.unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut begin = [0; 15];
        stream.read_exact(&mut begin).await.unwrap();
        assert_eq!(&begin, b"HTTP/1.1 200 OK");
        stream
    }
}

#[tokio::test]
async fn each_path_has_its_answer_and_one_connection_has_one() {
    let served = Served::with(1);
    assert!(served.get("/livez").await.starts_with("HTTP/1.1 200 OK\r\n"));
    assert!(served.get("/readyz").await.ends_with("\r\n\r\nok\n"));
    assert!(served.get("/metrics").await.contains("\nroomrobot_leader 0\n"));
    assert!(served.get("/").await.starts_with("HTTP/1.1 404 "));
    for method in ["HEAD", "POST", "OPTIONS"] {
        let answer = served.ask(&format!("{method} /livez HTTP/1.1\r\nHost: x\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    }
    served.ready.store(false, Ordering::Relaxed);
    assert!(served.get("/readyz").await.starts_with("HTTP/1.1 503 "));
    assert!(served.get("/livez").await.starts_with("HTTP/1.1 200 OK\r\n"));
    // The second request of a pipeline has no answer: the first said that it would be the last.
    let both = served.ask(&"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n".repeat(2)).await;
    assert_eq!(both.matches("HTTP/1.1 ").count(), 1, "{both}");
    assert!(both.contains("connection: close\r\n"), "{both}");
    let large = format!("GET /livez HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "x".repeat(HEAD_LIMIT));
    assert!(served.ask(&large).await.starts_with("HTTP/1.1 431 "));
}

/// Probes come in between hundreds of connections that say nothing, begin a head, or let their answer wait.
#[tokio::test]
async fn probes_are_answered_beside_whoever_is_connected() {
    let served = Served::with(400);
    let mut others = Vec::new();
    for _ in 0..ANSWERED + 8 {
        others.push(served.slow_reader().await);
    }
    for n in 0..500 {
        let mut stream = served.connect().await;
        if n % 2 == 0 {
            stream.write_all(b"GET /livez HT").await.unwrap();
        }
        others.push(stream);
    }
    let mut late = Vec::new();
    for _ in 0..50 {
        for _ in 0..20 {
            others.push(served.connect().await);
        }
        for path in ["/livez", "/readyz"] {
            let start = Instant::now();
            assert!(served.get(path).await.ends_with("\r\n\r\nok\n"));
            late.extend(Some(start.elapsed()).filter(|took| *took > Duration::from_millis(200)));
        }
    }
    // A busy machine lets a process wait, too, but not one time after the other.
    assert!(late.len() <= 4, "{late:?}");
    assert!(served.get("/metrics").await.ends_with("# EOF\n"), "a scraper is answered, too");
}

#[tokio::test]
async fn the_oldest_silent_connections_are_closed_first() {
    let served = Served::with(0);
    let mut silent = Vec::new();
    for _ in 0..SILENT + 10 {
        silent.push(served.connect().await);
    }
    for stream in &mut silent[..10] {
        assert_eq!(timeout(HEAD_TIMEOUT / 2, stream.read(&mut [0])).await.unwrap().unwrap_or(0), 0);
    }
    let last = silent.last_mut().unwrap();
    last.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    last.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("\r\n\r\nok\n"), "{answer}");
}

#[tokio::test]
async fn slow_readers_share_a_few_texts() {
    let served = Served::with(400);
    let mut readers = Vec::new();
    for _ in 0..ANSWERED - 2 {
        readers.push(served.slow_reader().await);
    }
    assert_eq!(served.made(), TEXTS);
    assert!(served.get("/metrics").await.ends_with("# EOF\n"));
    assert_eq!(served.made(), TEXTS, "the last one, while no place is free");
    let mut rest = String::new();
    let mut whole = readers.pop().unwrap();
    whole.read_to_string(&mut rest).await.unwrap();
    assert!(rest.ends_with("# EOF\n"), "a text that is shared is whole");
    drop(readers);
    let start = Instant::now();
    while served.made() == TEXTS {
        assert!(start.elapsed() < Duration::from_secs(5), "no text is made any more");
        assert!(served.get("/metrics").await.ends_with("# EOF\n"));
    }
}
