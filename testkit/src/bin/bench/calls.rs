//! The operator's calls, counted from the API server's audit log.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::time::SystemTime;

use serde::Deserialize;
use testkit::control_plane::{ControlPlane, USER};

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
    #[serde(rename = "requestURI")]
    request_uri: String,
}

impl Event {
    /// Returns the verb and the resource of a call of the operator since a time. A watch is logged twice and counted once.
    fn call(self, since: jiff::Timestamp) -> Option<String> {
        let counted = if self.verb == "watch" { "ResponseStarted" } else { "ResponseComplete" };
        let counts = self.stage == counted && self.user.username == USER && self.request_received_timestamp >= since;
        let of = self.object_ref.map(|of| [Some(of.resource), of.subresource].into_iter().flatten());
        let of: Vec<String> = of.into_iter().flatten().collect();
        let (dry, cached) = ("dryRun=All", "resourceVersion=");
        let how = match self.verb.as_str() {
            "create" if self.request_uri.contains(dry) => " as a dry run",
            "get" if self.request_uri.contains(cached) => " from the cache",
            _ => "",
        };
        counts.then(|| format!("{} {}{how}", self.verb, of.join("/")))
    }
}

/// Returns the calls that are made for single resources: lists and watches are per kind, and the Lease is renewed anyway.
pub fn single(counts: &Counts) -> impl Iterator<Item = (&String, &usize)> {
    counts.iter().filter(|(call, _)| {
        !["list ", "watch ", "create selfsubject"].iter().any(|kind| call.starts_with(kind))
            && !call.ends_with("leases")
    })
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

    /// Returns the calls received since a time.
    pub fn since(&self, since: jiff::Timestamp) -> std::io::Result<Counts> {
        let mut counts = Counts::new();
        self.each(since, |call, _| *counts.entry(call).or_default() += 1)?;
        Ok(counts)
    }

    /// Returns when the last call since a time was received, renewals of the Lease aside.
    pub fn last(&self, since: jiff::Timestamp) -> std::io::Result<Option<jiff::Timestamp>> {
        let mut last = None;
        self.each(since, |call, at| {
            if !call.ends_with("leases") {
                last = last.max(Some(at));
            }
        })?;
        Ok(last)
    }

    fn each(&self, since: jiff::Timestamp, mut seen: impl FnMut(String, jiff::Timestamp)) -> std::io::Result<()> {
        for path in self.files(since)? {
            for line in BufReader::new(std::fs::File::open(path)?).lines() {
                // The last line may be incomplete.
                let Ok(event) = serde_json::from_str::<Event>(&line?) else { continue };
                let at = event.request_received_timestamp;
                if let Some(call) = event.call(since) {
                    seen(call, at);
                }
            }
        }
        Ok(())
    }

    /// Returns the files of the log that were written since a time: it is rotated at 100 MB.
    fn files(&self, since: jiff::Timestamp) -> std::io::Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for file in std::fs::read_dir(&self.folder)? {
            let (path, modified) = file.and_then(|file| Ok((file.path(), file.metadata()?.modified()?)))?;
            let is_log = path.extension().is_some_and(|extension| extension == "log");
            let is_audit = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("audit"));
            if is_log && is_audit && modified >= SystemTime::from(since) {
                files.push(path);
            }
        }
        Ok(files)
    }
}
