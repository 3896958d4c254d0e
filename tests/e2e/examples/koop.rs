//! Koop as a feature service that admits tokens of the test portal.

use std::path::{Path, PathBuf};

use super::processes::{Process, bundle};
use crate::support::TestEnv;
use crate::support::packages::install;
use testkit::pki::Authority;

/// A running Koop.
pub struct Koop {
    pub origin: String,
    /// The CAs of Koop and of the portal.
    pub bundle: PathBuf,
    pub folder: tempfile::TempDir,
    _process: Process,
}

impl Koop {
    /// Starts Koop, if its packages are installed.
    pub async fn start(env: &TestEnv) -> Option<Self> {
        let example = install(&["npm", "examples/koop"]).await?;
        let authority = Authority::new("services").unwrap();
        let server = authority.issue_server("localhost").unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("tls.crt"), &server.certificate).unwrap();
        std::fs::write(folder.path().join("tls.key"), &server.key).unwrap();
        let bundle = bundle(env, &authority);
        let script = example.join("server.mjs").display().to_string();
        let mut process = Process::start(
            "Koop",
            &["node", &script],
            &[
                ("PORTAL_URL", env.portal.url()),
                ("TLS_DIR", folder.path().display().to_string()),
                ("NODE_EXTRA_CA_CERTS", bundle.display().to_string()),
                ("SUPPRESS_NO_CONFIG_WARNING", "1".to_owned()),
                ("HOST", "127.0.0.1".to_owned()),
                ("PORT", "0".to_owned()),
            ],
        );
        process.wait_for(&["listening on port"], 1).await;
        let line = process.line("listening on port").unwrap();
        let origin = format!("https://localhost:{}", line.rsplit(' ').next().unwrap());
        Some(Self { origin, bundle, folder, _process: process })
    }

    pub fn layer(&self) -> String {
        format!("{}/server/rest/services/Places/FeatureServer/0", self.origin)
    }

    /// Returns the file with its certificate.
    pub fn certificate(&self) -> PathBuf {
        Path::new(self.folder.path()).join("tls.crt")
    }
}
