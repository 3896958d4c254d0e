//! A real forward proxy, tinyproxy, which refuses in one way or another.

use std::process::Stdio;
use std::time::Duration;

use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::fleet::poll_until;
use super::free_address;
use super::packages::install;

/// A part of the text that it answers with.
pub const PROXY_CANARY: &str = "canary-proxy-text";

/// A running proxy; dropping it ends it.
pub struct Tinyproxy {
    pub port: u16,
    _child: Child,
    _folder: TempDir,
}

impl Tinyproxy {
    /// Starts one with these lines of configuration; `None` where it cannot be installed.
    pub async fn start(lines: &str) -> Option<Self> {
        let program = install(&["tinyproxy"]).await?;
        let folder = tempfile::tempdir().unwrap();
        let at = free_address();
        let page = folder.path().join("page.html");
        std::fs::write(&page, format!("<html>{PROXY_CANARY}</html>")).unwrap();
        let configuration = format!(
            "Port {}\nListen 127.0.0.1\nTimeout 20\nMaxClients 20\nViaProxyName \"{PROXY_CANARY}\"\n\
             DefaultErrorFile \"{}\"\n{lines}\n",
            at.port(),
            page.display()
        );
        std::fs::write(folder.path().join("tinyproxy.conf"), configuration).unwrap();
        let mut command = Command::new(program);
        command.args(["-d", "-c", "tinyproxy.conf"]).current_dir(&folder).stdin(Stdio::null());
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true).spawn().unwrap();
        poll_until("tinyproxy listens", Duration::from_secs(10), async || {
            tokio::net::TcpStream::connect(at).await.ok()
        })
        .await;
        Some(Self { port: at.port(), _child: child, _folder: folder })
    }
}
