//! Many resources in several namespaces, each with its own credentials, and unrelated objects beside them.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind, PartialObjectMeta};
use kube::runtime::watcher::{Config, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use testkit::portal::{App, Portal};
use testkit::{Error, doing};

use crate::Args;
use crate::tracker::{Key, Tracker};

/// The limit for all of them together.
const LIMIT: Duration = Duration::from_mins(10);
/// What ArcGIS grants.
pub const DEFAULT_LIFETIME: u64 = 7200;
const DIGEST: &str = "credentials.arcgis.dev/token-digest";

/// How a portal answers the requests of an app.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Answers {
    /// So that only the operator and the API server are measured.
    AtOnce,
    /// After 50 to 150 ms, as ArcGIS does.
    Later,
}

/// Resources, their credentials and their apps.
pub struct Fleet<'a> {
    client: Client,
    portals: &'a [Portal],
    namespaces: usize,
    concurrency: usize,
    verification: bool,
    /// The seconds that portals grant.
    lifetime: AtomicU64,
    kind: ApiResource,
    /// The resources that are ready, and the tokens in targets.
    ready: Tracker,
    tokens: Tracker,
}

/// Returns the uid of a resource that is ready: one that was created again becomes ready again.
fn ready(resource: &DynamicObject) -> Option<String> {
    let conditions = resource.data.pointer("/status/conditions")?.as_array()?;
    let ready = conditions.iter().any(|c| c["type"] == "Ready" && c["status"] == "True");
    ready.then(|| resource.uid()).flatten()
}

impl<'a> Fleet<'a> {
    pub async fn new(client: Client, portals: &'a [Portal], args: &Args) -> Result<Self, Error> {
        let gvk = GroupVersionKind::gvk("credentials.arcgis.dev", "v1alpha1", "ArcGisAppCredential");
        let kind = ApiResource::from_gvk_with_plural(&gvk, "arcgisappcredentials");
        let resources = Api::<DynamicObject>::all_with(client.clone(), &kind);
        let targets = Api::<PartialObjectMeta<Secret>>::all(client.clone());
        let ours = Config::default().labels("app.kubernetes.io/managed-by=arcgis-credential-operator");
        let fleet = Self {
            ready: Tracker::follow(watcher(resources, Config::default()), ready),
            tokens: Tracker::follow(watcher(targets, ours), |target| target.annotations().get(DIGEST).cloned()),
            client,
            portals,
            namespaces: args.namespaces.unwrap_or(args.resources / 20).max(1),
            concurrency: args.concurrency,
            verification: args.verification,
            lifetime: AtomicU64::new(DEFAULT_LIFETIME),
            kind,
        };
        for n in 0..fleet.namespaces {
            let body: Namespace = object(json!({"metadata": {"name": fleet.namespace(n)}}))?;
            create(&Api::all(fleet.client.clone()), &body).await?;
        }
        Ok(fleet)
    }

    pub fn namespace(&self, n: usize) -> String {
        format!("bench-{}", n % self.namespaces)
    }

    pub fn api<K: Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>>(&self, n: usize) -> Api<K> {
        Api::namespaced(self.client.clone(), &self.namespace(n))
    }

    pub fn resources(&self, n: usize) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &self.namespace(n), &self.kind)
    }

    fn portal(&self, n: usize) -> &Portal {
        &self.portals[n % self.portals.len()]
    }

    /// Registers an app with its portal; returns its secret.
    fn app(&self, n: usize, version: &str, portal: Answers) -> String {
        let secret = format!("secret-{n}-{version}");
        let delay = if portal == Answers::Later { u64::try_from(50 + n * 37 % 101).unwrap_or(100) } else { 0 };
        let lifetime = Some(self.lifetime.load(Ordering::Relaxed));
        self.portal(n).app(&format!("app-{n}"), App { secret: secret.clone(), delay, lifetime, ..App::default() });
        secret
    }

    /// Lets portals grant this lifetime, in seconds, to all that exist.
    pub fn set_lifetime(&self, seconds: u64) {
        self.lifetime.store(seconds, Ordering::Relaxed);
        for portal in self.portals {
            portal.change_apps(|app| app.lifetime = Some(seconds));
        }
    }

    /// Deletes resources, their credentials and their targets.
    pub async fn delete(&self, range: Range<usize>) -> Result<(), Error> {
        let deleted = self.each(range, None, async |n| {
            let (secrets, resources, none) = (self.api::<Secret>(n), self.resources(n), DeleteParams::default());
            let deleted = resources.delete(&format!("r{n}"), &none).await;
            deleted.map_err(doing("deleting a resource"))?;
            for secret in ["oauth", "token"] {
                // The target of a deleted resource may be gone already.
                match secrets.delete(&format!("r{n}-{secret}"), &none).await {
                    Err(kube::Error::Api(status)) if status.is_not_found() => {}
                    deleted => deleted.map(drop).map_err(doing("deleting a Secret"))?,
                }
            }
            Ok(())
        });
        deleted.await.map(drop)
    }

    /// Labels resources with the shard that processes them.
    pub async fn assign(&self, range: Range<usize>, shard: impl Fn(usize) -> usize) -> Result<(), Error> {
        let labels = |n| json!({"labels": {"shard": shard(n).to_string()}});
        self.change(range, None, labels).await.map(drop)
    }

    /// Changes the metadata of resources; returns when each request was sent.
    async fn change(
        &self,
        range: Range<usize>,
        pace: Option<Duration>,
        metadata: impl Fn(usize) -> Value,
    ) -> Result<Vec<(usize, Instant)>, Error> {
        let changed = self.each(range, pace, async |n| {
            let (api, change) = (self.resources(n), json!({"metadata": metadata(n)}));
            let changed = api.patch(&format!("r{n}"), &PatchParams::default(), &Patch::Merge(&change)).await;
            changed.map(drop).map_err(doing("changing a resource"))
        });
        changed.await
    }

    /// Creates Secrets that no resource names, with annotations of this size.
    pub async fn foreign(&self, range: Range<usize>, annotations: usize) -> Result<(), Error> {
        self.each(range, None, async |n| {
            let text = "x".repeat(annotations);
            let body = json!({"metadata": {"name": format!("foreign-{n}"), "annotations": {"text": text}},
                              "stringData": {"data": "x".repeat(100)}});
            create(&self.api(n), &object::<Secret>(body)?).await
        })
        .await
        .map(drop)
    }

    /// Creates credentials Secrets.
    pub async fn credentials(&self, range: Range<usize>, portal: Answers) -> Result<(), Error> {
        self.each(range, None, async |n| {
            let text = json!({"client_id": format!("app-{n}"), "client_secret": self.app(n, "first", portal)});
            let body = json!({"metadata": {"name": format!("r{n}-oauth")}, "stringData": text});
            create(&self.api(n), &object::<Secret>(body)?).await
        })
        .await
        .map(drop)
    }

    /// Creates resources, as fast as possible or one per `pace`; returns when each request was sent.
    pub async fn create(&self, range: Range<usize>, pace: Option<Duration>) -> Result<Vec<(Key, Instant)>, Error> {
        let sent = self.each(range, pace, async |n| {
            let mut body = json!({
                "apiVersion": "credentials.arcgis.dev/v1alpha1", "kind": "ArcGisAppCredential",
                "metadata": {"name": format!("r{n}")},
                "spec": {"portal": {"url": self.portal(n).url()}, "credentialsRef": {"name": format!("r{n}-oauth")},
                         "target": {"name": format!("r{n}-token")}},
            });
            if self.verification {
                body["spec"]["verification"] = json!({});
            }
            create(&self.resources(n), &object(body)?).await
        });
        Ok(sent.await?.into_iter().map(|(n, at)| ((self.namespace(n), format!("r{n}")), at)).collect())
    }

    /// Returns when new tokens are due for the targets of resources that are ready.
    pub async fn due(&self, range: Range<usize>) -> Result<Vec<(Key, Instant)>, Error> {
        let mut due = Vec::new();
        for n in range {
            let resource = self.resources(n).get(&format!("r{n}")).await.map_err(doing("reading a resource"))?;
            let time = resource.data.pointer("/status/token/renewalTime").and_then(Value::as_str);
            let time: jiff::Timestamp = time.unwrap_or_default().parse().map_err(doing("reading a renewalTime"))?;
            let wait = Duration::try_from(time.duration_since(jiff::Timestamp::now())).unwrap_or_default();
            due.push((n, Instant::now() + wait));
        }
        Ok(self.targets(due))
    }

    /// Waits until all of these are ready; returns how long each took.
    pub async fn ready(&self, created: &[(Key, Instant)]) -> Result<Vec<Duration>, Error> {
        self.ready.since(created, LIMIT).await
    }

    /// Changes the client secret of each app at the portal and in its Secret; returns when each request was sent.
    pub async fn rotate(&self, range: Range<usize>, pace: Duration) -> Result<Vec<(Key, Instant)>, Error> {
        let sent = self.each(range, Some(pace), async |n| {
            let change = json!({"stringData": {"client_secret": self.app(n, "second", Answers::AtOnce)}});
            let api: Api<Secret> = self.api(n);
            let changed = api.patch(&format!("r{n}-oauth"), &PatchParams::default(), &Patch::Merge(change)).await;
            changed.map(drop).map_err(doing("changing a Secret"))
        });
        Ok(self.targets(sent.await?))
    }

    /// Requests a new token for each resource, as fast as possible or one per `pace`; returns when each request was sent.
    pub async fn request_tokens(
        &self,
        range: Range<usize>,
        pace: Option<Duration>,
    ) -> Result<Vec<(Key, Instant)>, Error> {
        let now = jiff::Timestamp::now().to_string();
        let requested = |_| json!({"annotations": {"credentials.arcgis.dev/requested-at": now}});
        Ok(self.targets(self.change(range, pace, requested).await?))
    }

    fn targets(&self, sent: Vec<(usize, Instant)>) -> Vec<(Key, Instant)> {
        sent.into_iter().map(|(n, at)| ((self.namespace(n), format!("r{n}-token")), at)).collect()
    }

    /// Waits until each target holds a new token; returns how long each took.
    pub async fn renewed(&self, changed: &[(Key, Instant)]) -> Result<Vec<Duration>, Error> {
        self.tokens.since(changed, LIMIT).await
    }

    pub async fn each(
        &self,
        range: Range<usize>,
        pace: Option<Duration>,
        act: impl AsyncFn(usize) -> Result<(), Error>,
    ) -> Result<Vec<(usize, Instant)>, Error> {
        let began = Instant::now();
        let first = range.start;
        let act = &act;
        let sent = stream::iter(range).map(|n| async move {
            if let Some(pace) = pace {
                let offset = pace * u32::try_from(n - first).unwrap_or(u32::MAX);
                tokio::time::sleep_until((began + offset).into()).await;
            }
            let sent = Instant::now();
            act(n).await.map(|()| (n, sent))
        });
        sent.buffer_unordered(self.concurrency).try_collect().await
    }
}

/// Makes a typed object.
pub fn object<T: DeserializeOwned>(value: Value) -> Result<T, Error> {
    serde_json::from_value(value).map_err(doing("making an object"))
}

pub async fn create<K: Serialize + DeserializeOwned + Clone + std::fmt::Debug>(
    api: &Api<K>,
    body: &K,
) -> Result<(), Error> {
    api.create(&PostParams::default(), body).await.map(drop).map_err(doing("creating an object"))
}
