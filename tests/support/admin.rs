//! The admin address of an operator: whether it is ready, and what its metrics say.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::fleet::{Replica, poll_until};
use super::{TIMEOUT, TestEnv};

impl TestEnv {
    /// Returns a response of the admin address with its headers.
    pub async fn http_get(&self, path: &str) -> Option<String> {
        http_get(self.admin, path).await
    }

    pub async fn is_ready(&self) -> bool {
        is_ready(self.http_get("/readyz").await)
    }

    /// Waits until the operator is ready.
    pub async fn wait_until_ready(&mut self) {
        timeout(TIMEOUT, async {
            while !self.is_ready().await {
                let ended = self.operator.as_mut().unwrap().try_wait().unwrap();
                assert!(ended.is_none(), "the operator ended: {ended:?}; see logs/{}.log", self.namespace);
                // Nothing can be awaited before the address is bound.
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
        .await
        .expect("the operator did not become ready");
    }

    /// Waits until the metrics contain these texts. They follow a status, of which a watch may tell the test first.
    pub async fn metrics_with(&self, texts: &[&str]) -> String {
        poll_until(&format!("metrics with {texts:?}"), TIMEOUT, async || {
            let metrics = self.http_get("/metrics").await?;
            texts.iter().all(|text| metrics.contains(text)).then_some(metrics)
        })
        .await
    }
}

impl Replica {
    /// Whether `/metrics` reports it as the leader; `None` if it does not respond.
    pub async fn is_leader(&self) -> Option<bool> {
        let answer = self.http_get("/metrics").await?;
        let line = answer.lines().find(|line| line.starts_with("arcgis_credential_leader "))?;
        Some(line.ends_with(" 1"))
    }

    pub async fn http_get(&self, path: &str) -> Option<String> {
        timeout(Duration::from_secs(1), http_get(self.admin, path)).await.ok()?
    }

    pub async fn is_ready(&self) -> bool {
        is_ready(self.http_get("/readyz").await)
    }
}

fn is_ready(answer: Option<String>) -> bool {
    answer.is_some_and(|answer| answer.starts_with("HTTP/1.1 200"))
}

async fn http_get(admin: SocketAddr, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(admin).await.ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    Some(answer)
}
