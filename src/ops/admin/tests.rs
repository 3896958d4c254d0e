//! What connections to the admin port get: on a real socket, or in virtual time and memory, as a paused clock waits for no socket.

#![allow(clippy::unwrap_used, reason = "a test may")]

use std::sync::Mutex;

use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::*;
use crate::cluster::LeanResource;
use crate::index::Index;

/// Their text does not fit into the buffers of a connection.
const RESOURCES: usize = 1500;
const NAME: usize = 4000;

/// The metrics of so many resources.
fn metrics(resources: usize) -> Arc<Metrics> {
    let mut index = Index::default();
    for n in 0..resources {
        let resource = json!({
            "metadata": {"namespace": "maps", "name": format!("{n:06}-{}", "x".repeat(NAME)), "uid": n.to_string()},
            "spec": {"credentialsRef": {"name": "oauth"}, "target": {"name": format!("{n}-token")}},
        });
        index.upsert(serde_json::from_value::<LeanResource>(resource).unwrap(), false);
    }
    Arc::new(Metrics::new(Arc::new(Mutex::new(index)), || jiff::Timestamp::UNIX_EPOCH).unwrap())
}

/// Serves on a real socket.
async fn start(resources: usize) -> (SocketAddr, JoinHandle<io::Result<()>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (address, tokio::spawn(serve(listener, metrics(resources), Arc::default(), CancellationToken::new())))
}

/// Serves in memory.
fn in_memory(resources: usize) -> Connections {
    let scrapes = Arc::new(Scrapes::new(metrics(resources)));
    Connections::new(router(scrapes.clone(), Arc::default()), scrapes, CancellationToken::new())
}

/// Opens a connection in memory.
async fn connect(connections: &mut Connections) -> DuplexStream {
    let (client, server) = duplex(4096);
    connections.add(server).await;
    client
}

/// Opens a connection with a small buffer, and sends a request.
async fn request(address: SocketAddr, path: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(address).await.unwrap();
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes()).await.unwrap();
    stream
}

/// Reads until the end, or until the connection is reset.
async fn rest(stream: &mut (impl AsyncRead + Unpin)) -> usize {
    let (mut bytes, mut buffer) = (0, vec![0; 1024 * 1024]);
    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
        bytes += read;
    }
    bytes
}

#[tokio::test]
async fn of_three_texts_the_readers_of_the_oldest_are_dropped() {
    let (address, _server) = start(RESOURCES).await;
    let mut readers = Vec::new();
    for _ in 0..3 {
        let reader = request(address, "/metrics").await;
        // Its text is rendered.
        reader.readable().await.unwrap();
        readers.push(reader);
        sleep(Duration::from_millis(1100)).await;
    }
    let mut read = Vec::new();
    for reader in &mut readers {
        read.push(timeout(Duration::from_secs(15), rest(reader)).await.unwrap());
    }
    let whole = RESOURCES * NAME;
    assert!(read[0] < whole && read[1] > whole && read[2] > whole, "{read:?}");
}

#[tokio::test(start_paused = true)]
async fn scrapes_within_a_second_share_a_text() {
    let (scrapes, reading) = (Scrapes::new(metrics(0)), Arc::default());
    let first = scrapes.text(&reading).await.unwrap();
    sleep(Duration::from_millis(900)).await;
    let second = scrapes.text(&reading).await.unwrap();
    assert_eq!(first.as_ptr(), second.as_ptr());
    sleep(Duration::from_millis(200)).await;
    assert_ne!(scrapes.text(&reading).await.unwrap().as_ptr(), first.as_ptr());
}

#[tokio::test(start_paused = true)]
async fn a_connection_ends_when_no_request_comes_and_after_its_time_in_any_case() {
    let mut connections = in_memory(0);
    for sent in ["", "GET /livez HTTP/1.1\r\n", "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"] {
        let (mut stream, opened) = (connect(&mut connections).await, Instant::now());
        stream.write_all(sent.as_bytes()).await.unwrap();
        rest(&mut stream).await;
        let seconds = opened.elapsed().as_secs();
        assert!((9..=11).contains(&seconds), "{sent:?}: {seconds} s");
    }
    let (mut stream, opened) = (connect(&mut connections).await, Instant::now());
    let mut answers = 0;
    while stream.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").await.is_ok()
        && stream.read(&mut [0; 4096]).await.is_ok_and(|bytes| bytes > 0)
    {
        answers += 1;
        sleep(Duration::from_secs(7)).await;
    }
    let seconds = opened.elapsed().as_secs();
    assert!((30..=41).contains(&seconds) && answers >= 5, "{seconds} s, {answers} answers");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_nothing_is_dropped_after_40_s() {
    let mut connections = in_memory(RESOURCES);
    let mut stream = connect(&mut connections).await;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let sent = Instant::now();
    connections.drain().await;
    assert_eq!(sent.elapsed().as_secs(), 40);
    let read = rest(&mut stream).await;
    assert!(read < RESOURCES * NAME, "{read} bytes");
}
