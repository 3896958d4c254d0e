//! A `GitRepository` whose artifact is served on loopback, as source-controller does.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex};

use super::kubectl;
use crate::support::TestEnv;
use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio_util::task::AbortOnDropHandle;

type Archives = Arc<Mutex<BTreeMap<String, Vec<u8>>>>;

/// The source of all Kustomizations; dropping it stops its server.
pub struct Source {
    origin: String,
    archives: Archives,
    files: BTreeMap<String, String>,
    _server: AbortOnDropHandle<()>,
}

impl Source {
    /// Starts the server.
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let archives = Archives::default();
        let served = archives.clone();
        let router = Router::new().fallback(move |request: Request| {
            let found = served.lock().unwrap().get(request.uri().path()).cloned();
            async move { found.ok_or(StatusCode::NOT_FOUND) }
        });
        let server = AbortOnDropHandle::new(tokio::spawn(async move { axum::serve(listener, router).await.unwrap() }));
        Self { origin, archives, files: BTreeMap::new(), _server: server }
    }

    /// Adds, replaces or removes files.
    pub fn commit(&mut self, files: &[(&str, Option<&str>)]) {
        for (path, content) in files {
            match content {
                Some(content) => self.files.insert((*path).to_owned(), (*content).to_owned()),
                None => self.files.remove(*path),
            };
        }
    }

    /// Publishes the files as the artifact of `gitrepository/maps`.
    pub fn publish(&self, env: &TestEnv) {
        let folder = tempfile::tempdir().unwrap();
        for (path, content) in &self.files {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        let tar =
            std::process::Command::new("tar").arg("-C").arg(folder.path()).args(["-czf", "-", "."]).output().unwrap();
        assert!(tar.status.success());
        let mut digest = String::new();
        for byte in Sha256::digest(&tar.stdout) {
            write!(digest, "{byte:02x}").unwrap();
        }
        let path = format!("/{digest}.tar.gz");
        let size = tar.stdout.len();
        self.archives.lock().unwrap().insert(path.clone(), tar.stdout);
        let now = jiff::Timestamp::now().to_string();
        let status = json!({"status": {
            "observedGeneration": 1,
            "conditions": [{"type": "Ready", "status": "True", "reason": "Succeeded", "message": "stored",
                            "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": 1}],
            "artifact": {"digest": format!("sha256:{digest}"), "lastUpdateTime": now, "path": path, "size": size,
                         "revision": format!("main@sha1:{}", &digest[..40]), "url": format!("{}{path}", self.origin)},
        }});
        let patch =
            ["patch", "gitrepository", "maps", "--subresource=status", "--type=merge", "-p", &status.to_string()];
        kubectl(env, &patch, "");
    }
}
