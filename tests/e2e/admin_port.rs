//! The admin port under connections that never finish a request.

use std::time::{Duration, Instant};

use crate::support::TestEnv;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

#[tokio::test(flavor = "multi_thread")]
async fn probes_are_answered_while_400_connections_hang_and_each_is_closed_in_time() {
    let env = TestEnv::new().await;
    let mut hanging = Vec::new();
    for _ in 0..400 {
        let mut stream = TcpStream::connect(env.admin).await.unwrap();
        stream.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n").await.unwrap();
        hanging.push(stream);
    }
    let started = Instant::now();
    assert!(env.http_get("/livez").await.unwrap().starts_with("HTTP/1.1 200"));
    assert!(env.http_get("/readyz").await.unwrap().starts_with("HTTP/1.1 200"));
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    for mut stream in hanging {
        let mut answer = Vec::new();
        // Closed with or without an answer.
        let closed = timeout(Duration::from_secs(15), stream.read_to_end(&mut answer)).await;
        assert!(closed.is_ok(), "a connection is kept");
    }
    let files = std::fs::read_dir(format!("/proc/{}/fd", env.operator.as_ref().unwrap().id().unwrap())).unwrap();
    assert!(files.count() < 100, "open files are left");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_scrapes_at_once_are_all_answered() {
    let env = TestEnv::new().await;
    let scrapes = futures::future::join_all((0..20).map(|_| env.http_get("/metrics"))).await;
    assert!(scrapes.iter().all(|text| text.as_ref().is_some_and(|text| text.contains("arcgis_credential_leader 1"))));
}
