//! The admin port under connections that never finish a request.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::support::TestEnv;
use futures::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{interval, sleep, timeout};

/// Connections that are tried, and how many of them the test keeps open at once.
const TRIED: usize = 5000;
const HELD: usize = 400;
const ATTACKERS: usize = 8;
const SPAN: Duration = Duration::from_secs(8);
const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread")]
async fn probes_are_answered_while_5000_connections_are_tried_and_few_are_kept() {
    let env = TestEnv::new().await;
    let (admin, pid) = (env.admin, env.operator.as_ref().unwrap().id().unwrap());
    let open_files = move || std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    let before = open_files();
    let attack = tokio::spawn(join_all((0..ATTACKERS).map(move |_| async move {
        let mut hanging = VecDeque::new();
        let mut pace = interval(SPAN / u32::try_from(TRIED / ATTACKERS).unwrap());
        for n in 0..TRIED / ATTACKERS {
            pace.tick().await;
            let mut stream = TcpStream::connect(admin).await.unwrap();
            if n % 2 == 0 {
                let _ = stream.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n").await;
            }
            hanging.push_back(stream);
            if hanging.len() > HELD / ATTACKERS {
                hanging.pop_front();
            }
        }
        hanging
    })));
    let (mut times, mut most) = (Vec::new(), 0);
    while !attack.is_finished() {
        let started = Instant::now();
        for path in ["/livez", "/readyz"] {
            let answer = env.http_get(path).await;
            assert!(answer.as_ref().is_some_and(|answer| answer.starts_with("HTTP/1.1 200")), "{path}: {answer:?}");
        }
        times.push(started.elapsed());
        most = most.max(open_files());
        // The processor is the operator's, too.
        sleep(Duration::from_millis(20)).await;
    }
    let (slowest, slow) = (times.iter().max().unwrap(), times.iter().filter(|time| **time > SECOND).count());
    println!("{} pairs of probes, the slowest took {slowest:?}; {most} open files, {before} before", times.len());
    // What the kernel drops of a connection is sent again after a second. Few probes may meet that.
    assert!(times.len() > 20 && slow * 50 <= times.len(), "{slow} of {} took longer, {slowest:?}", times.len());
    assert!(most <= before + 262, "{most} open files, {before} before");
    for mut stream in attack.await.unwrap().into_iter().flatten() {
        let mut answer = Vec::new();
        // Closed with or without an answer.
        let closed = timeout(Duration::from_secs(15), stream.read_to_end(&mut answer)).await;
        assert!(closed.is_ok(), "a connection is kept");
    }
    assert!(open_files() < before + 50, "open files are left");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_scrapes_at_once_are_all_answered() {
    let env = TestEnv::new().await;
    let scrapes = join_all((0..20).map(|_| env.http_get("/metrics"))).await;
    assert!(scrapes.iter().all(|text| text.as_ref().is_some_and(|text| text.contains("arcgis_credential_leader 1"))));
}
