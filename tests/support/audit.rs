//! The operator's calls, as the audit log of the API server has them.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::sync::Mutex;

use serde_json::Value;
use testkit::control_plane::USER;

/// A call as (verb, resource, subresource, dry run). The verb of a list that is streamed is `list`, once.
pub type AuditedCall = (String, String, String, bool);

/// The operator's calls about one namespace, except for Leases. The log has those of all tests, so it is read on from where
/// the last reading ended.
pub struct AuditLog {
    path: PathBuf,
    namespace: String,
    /// How far it was read, and the calls until there with their URLs.
    seen: Mutex<(u64, Vec<(AuditedCall, String)>)>,
}

impl AuditLog {
    /// Begins at the current end of the log.
    pub fn new(path: PathBuf, namespace: String) -> Self {
        let end = std::fs::metadata(&path).map_or(0, |file| file.len());
        Self { path, namespace, seen: Mutex::new((end, Vec::new())) }
    }

    /// Returns all calls since the beginning.
    pub fn calls(&self) -> Vec<AuditedCall> {
        self.read_on().into_iter().map(|(call, _)| call).collect()
    }

    /// Returns the URLs of all reads of one object since the beginning.
    pub fn reads(&self) -> Vec<String> {
        self.read_on().into_iter().filter(|((verb, ..), _)| verb == "get").map(|(_, url)| url).collect()
    }

    fn read_on(&self) -> Vec<(AuditedCall, String)> {
        let mut seen = self.seen.lock().unwrap();
        let mut file = File::open(&self.path).unwrap();
        file.seek(SeekFrom::Start(seen.0)).unwrap();
        let mut text = Vec::new();
        file.read_to_end(&mut text).unwrap();
        // The last line may be incomplete.
        text.truncate(text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1));
        seen.0 += u64::try_from(text.len()).unwrap();
        let text = String::from_utf8(text).unwrap();
        seen.1.extend(text.lines().filter_map(|line| self.call(line)));
        seen.1.clone()
    }

    fn call(&self, line: &str) -> Option<(AuditedCall, String)> {
        // Most lines are of other tests, and decoding one takes longer.
        if !line.contains(&self.namespace) || !line.contains(USER) {
            return None;
        }
        let event: Value = serde_json::from_str(line).ok()?;
        let of = |path: &str| event.pointer(path).and_then(Value::as_str).unwrap_or_default();
        let concerns = of("/objectRef/namespace") == self.namespace && of("/objectRef/resource") != "leases";
        let url = of("/requestURI").to_owned();
        let dry = url.contains("dryRun=All");
        let call = ["/verb", "/objectRef/resource", "/objectRef/subresource"].map(|path| of(path).to_owned());
        let [mut verb, resource, subresource] = call;
        if url.contains("sendInitialEvents=true") && of("/stage") == "ResponseStarted" {
            "list".clone_into(&mut verb);
        }
        (concerns && of("/user/username") == USER).then_some(((verb, resource, subresource, dry), url))
    }
}
