//! The operator's calls, counted from the API server's audit log.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::time::SystemTime;

use serde::Deserialize;
use testkit::control_plane::ControlPlane;

const USER: &str = "system:serviceaccount:arcgis-credential-operator:arcgis-credential-operator";

/// The number of calls by verb and resource.
pub type Counts = BTreeMap<String, usize>;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    verb: String,
    user: User,
    object_ref: Option<Object>,
    request_received_timestamp: jiff::Timestamp,
    stage: String,
}

#[derive(Deserialize)]
struct User {
    username: String,
}

#[derive(Deserialize)]
struct Object {
    resource: String,
    subresource: Option<String>,
}

pub struct Calls {
    folder: PathBuf,
}

impl Calls {
    pub fn new(plane: &ControlPlane) -> Self {
        Self { folder: plane.dir().to_owned() }
    }

    /// Returns the calls received since a time. The log is rotated at 100 MB, so every file that was written since then
    /// is read.
    pub fn since(&self, since: jiff::Timestamp) -> std::io::Result<Counts> {
        let mut counts = Counts::new();
        for file in std::fs::read_dir(&self.folder)? {
            let file = file?;
            let is_log = file.file_name().to_string_lossy().starts_with("audit")
                && file.path().extension().is_some_and(|e| e == "log");
            if !is_log || file.metadata()?.modified()? < SystemTime::from(since) {
                continue;
            }
            for line in BufReader::new(std::fs::File::open(file.path())?).lines() {
                // The last line may be incomplete.
                let Ok(event) = serde_json::from_str::<Event>(&line?) else { continue };
                // A watch is logged twice.
                let counted = event.stage != "ResponseStarted" || event.verb == "watch";
                let twice = event.stage == "ResponseComplete" && event.verb == "watch";
                if event.user.username == USER && event.request_received_timestamp >= since && counted && !twice {
                    let of = event.object_ref.map(|o| [Some(o.resource), o.subresource].into_iter().flatten());
                    let of: Vec<String> = of.into_iter().flatten().collect();
                    *counts.entry(format!("{} {}", event.verb, of.join("/"))).or_default() += 1;
                }
            }
        }
        Ok(counts)
    }
}
