//! How fast the API server takes the operator's calls from a client that does nothing else.

use std::ops::Range;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::ResourceExt;
use kube::api::{GetParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use testkit::{Error, doing};

use crate::calls::{Counts, single};
use crate::fleet::{Fleet, create, object};

/// Calls that fewer than one of so many resources needed are left out.
const RARE: usize = 100;

/// The calls for a number of resources, in their order, and what they write.
pub struct Script {
    resources: usize,
    calls: Vec<(Call, usize)>,
    target: Value,
    status: Value,
}

/// What the operator calls for a resource, in its order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Call {
    Read,
    ReadFromCache,
    TryToCreate,
    Create,
    WriteStatus,
    Event,
}

impl Call {
    fn of(call: &str) -> Result<Self, Error> {
        Ok(match call {
            "get secrets" => Self::Read,
            "get secrets from the cache" => Self::ReadFromCache,
            "create secrets as a dry run" => Self::TryToCreate,
            "create secrets" => Self::Create,
            "patch arcgisappcredentials/status" => Self::WriteStatus,
            "create events" => Self::Event,
            call => return Err(Error(format!("the operator calls {call}: add it to {}", file!()))),
        })
    }
}

impl Script {
    /// How often a call is made for the resource with this number: as often as for all of them on average.
    fn times(&self, total: usize, n: usize) -> usize {
        (n + 1) * total / self.resources - n * total / self.resources
    }
}

impl Fleet<'_> {
    /// Returns the calls that the operator made for resources, with the target and the status of the first of them.
    pub async fn script(&self, range: Range<usize>, counted: &Counts) -> Result<Script, Error> {
        let resources = range.len();
        let calls = single(counted).filter(|(_, times)| **times > resources / RARE);
        let calls = calls.map(|(call, times)| Ok((Call::of(call)?, *times))).collect::<Result<Vec<_>, Error>>();
        let mut calls = calls?;
        calls.sort_unstable();
        let (n, name) = (range.start, format!("r{}", range.start));
        let target = self.api::<Secret>(n).get(&format!("{name}-token")).await.map_err(doing("reading a target"))?;
        let resource = self.resources(n).get(&name).await.map_err(doing("reading a resource"))?;
        let metadata = json!({"labels": target.labels(), "annotations": target.annotations()});
        let target = json!({"metadata": metadata, "data": target.data, "type": target.type_});
        Ok(Script { resources, calls, target, status: resource.data["status"].clone() })
    }

    /// Makes these calls for each resource as fast as the API server takes them; returns how long it took. The operator
    /// must not run.
    pub async fn replay(&self, range: Range<usize>, script: &Script) -> Result<Duration, Error> {
        let began = Instant::now();
        let first = range.start;
        self.each(range, None, async |n| {
            for (call, total) in &script.calls {
                for _ in 0..script.times(*total, n - first) {
                    self.call(*call, n, script).await?;
                }
            }
            Ok(())
        })
        .await?;
        Ok(began.elapsed())
    }

    async fn call(&self, call: Call, n: usize, script: &Script) -> Result<(), Error> {
        let (secrets, credentials) = (self.api::<Secret>(n), format!("r{n}-oauth"));
        match call {
            Call::Read => secrets.get(&credentials).await.map(drop).map_err(doing("reading a Secret")),
            Call::ReadFromCache => {
                secrets.get_with(&credentials, &GetParams::any()).await.map(drop).map_err(doing("reading a Secret"))
            }
            Call::TryToCreate | Call::Create => {
                let mut target = script.target.clone();
                target["metadata"]["name"] = json!(format!("r{n}-token"));
                let params = PostParams { dry_run: call == Call::TryToCreate, ..PostParams::default() };
                secrets.create(&params, &object(target)?).await.map(drop).map_err(doing("creating a Secret"))
            }
            Call::WriteStatus => self.write_status(n, &script.status).await,
            Call::Event => {
                let event = json!({"metadata": {"generateName": "replay-"}, "action": "Reconcile", "reason": "Replay",
                                   "eventTime": MicroTime(jiff::Timestamp::now()),
                                   "reportingController": "bench", "reportingInstance": "bench", "type": "Normal",
                                   "regarding": {"kind": "ArcGisAppCredential", "namespace": self.namespace(n)}});
                create(&self.api::<Event>(n), &object(event)?).await
            }
        }
    }

    /// Creates as many Secrets and writes as many statuses as fast as the API server takes them; returns how long it took.
    /// The resources must exist, and the operator must not run.
    pub async fn write_pairs(&self, range: Range<usize>) -> Result<Duration, Error> {
        let began = Instant::now();
        self.each(range, None, async |n| {
            let text = json!({"access_token": "x".repeat(200)});
            let secret: Secret = object(json!({"metadata": {"name": format!("r{n}-token")}, "stringData": text}))?;
            create(&self.api(n), &secret).await?;
            self.write_status(n, &json!({"observedGeneration": 1, "portal": "calibration"})).await
        })
        .await?;
        Ok(began.elapsed())
    }

    async fn write_status(&self, n: usize, status: &Value) -> Result<(), Error> {
        let patch = object(json!([{"op": "add", "path": "/status", "value": status}]))?;
        let (api, name) = (self.resources(n), format!("r{n}"));
        let patched = api.patch_status(&name, &PatchParams::default(), &Patch::<()>::Json(patch)).await;
        patched.map(drop).map_err(doing("patching a status"))
    }
}
