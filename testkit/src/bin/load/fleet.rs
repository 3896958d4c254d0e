//! Many resources in several namespaces, each with its own credentials, and unrelated objects beside them.

use std::ops::Range;
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret};
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind, PartialObjectMeta};
use kube::runtime::watcher::{Config, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use testkit::portal::{App, Portal};
use testkit::{Error, doing};

use crate::tracker::{Key, Tracker};

/// The limit for all of them together.
const LIMIT: Duration = Duration::from_mins(10);
const LARGE: usize = 100 * 1024;
const LARGE_EVERY: usize = 20;
const DIGEST: &str = "credentials.arcgis.dev/token-digest";

pub struct Fleet<'a> {
    client: Client,
    portal: &'a Portal,
    namespaces: usize,
    concurrency: usize,
    kind: ApiResource,
    /// The resources that are ready, and the tokens in targets.
    ready: Tracker,
    tokens: Tracker,
}

fn ready(resource: &DynamicObject) -> Option<String> {
    let conditions = resource.data.pointer("/status/conditions")?.as_array()?;
    let ready = conditions.iter().any(|c| c["type"] == "Ready" && c["status"] == "True");
    ready.then(|| "Ready".to_owned())
}

fn app(n: usize, version: &str) -> App {
    App { secret: format!("secret-{n}-{version}"), ..App::default() }
}

impl<'a> Fleet<'a> {
    pub async fn new(client: Client, portal: &'a Portal, namespaces: usize, concurrency: usize) -> Result<Self, Error> {
        let gvk = GroupVersionKind::gvk("credentials.arcgis.dev", "v1alpha1", "ArcGisAppCredential");
        let kind = ApiResource::from_gvk_with_plural(&gvk, "arcgisappcredentials");
        let resources = Api::<DynamicObject>::all_with(client.clone(), &kind);
        let targets = Api::<PartialObjectMeta<Secret>>::all(client.clone());
        let ours = Config::default().labels("app.kubernetes.io/managed-by=arcgis-credential-operator");
        let fleet = Self {
            ready: Tracker::follow(watcher(resources, Config::default()), ready),
            tokens: Tracker::follow(watcher(targets, ours), |target| target.annotations().get(DIGEST).cloned()),
            client,
            portal,
            namespaces,
            concurrency,
            kind,
        };
        for n in 0..namespaces {
            let body: Namespace = object(json!({"metadata": {"name": fleet.namespace(n)}}))?;
            create(&Api::all(fleet.client.clone()), &body).await?;
        }
        Ok(fleet)
    }

    fn namespace(&self, n: usize) -> String {
        format!("load-{}", n % self.namespaces)
    }

    fn api<K: Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>>(&self, n: usize) -> Api<K> {
        Api::namespaced(self.client.clone(), &self.namespace(n))
    }

    /// Creates Secrets and ConfigMaps alternately that no resource names.
    pub async fn foreign(&self, count: usize) -> Result<(), Error> {
        self.each(0..count, None, async |n| {
            let size = if n % LARGE_EVERY < 2 { LARGE } else { 100 };
            let body = json!({"metadata": {"name": format!("foreign-{n}")}});
            let text = "x".repeat(size);
            if n.is_multiple_of(2) {
                let mut secret: Secret = object(body)?;
                secret.string_data = Some([("data".to_owned(), text)].into());
                create(&self.api(n), &secret).await
            } else {
                let mut map: ConfigMap = object(body)?;
                map.data = Some([("data".to_owned(), text)].into());
                create(&self.api(n), &map).await
            }
        })
        .await
        .map(drop)
    }

    /// Creates credentials Secrets.
    pub async fn credentials(&self, range: Range<usize>) -> Result<(), Error> {
        self.each(range, None, async |n| {
            let app = app(n, "first");
            let text = json!({"client_id": format!("app-{n}"), "client_secret": app.secret});
            self.portal.app(&format!("app-{n}"), app);
            let body = json!({"metadata": {"name": format!("r{n}-oauth")}, "stringData": text});
            create(&self.api(n), &object::<Secret>(body)?).await
        })
        .await
        .map(drop)
    }

    /// Creates resources, as fast as possible or one per `pace`; returns when each request was sent.
    pub async fn create(&self, range: Range<usize>, pace: Option<Duration>) -> Result<Vec<(Key, Instant)>, Error> {
        let sent = self.each(range, pace, async |n| {
            let body: DynamicObject = object(json!({
                "apiVersion": "credentials.arcgis.dev/v1alpha1", "kind": "ArcGisAppCredential",
                "metadata": {"name": format!("r{n}")},
                "spec": {"portal": {"url": self.portal.url()}, "credentialsRef": {"name": format!("r{n}-oauth")},
                         "target": {"name": format!("r{n}-token")}},
            }))?;
            create(&Api::namespaced_with(self.client.clone(), &self.namespace(n), &self.kind), &body).await
        });
        Ok(sent.await?.into_iter().map(|(n, at)| ((self.namespace(n), format!("r{n}")), at)).collect())
    }

    /// Waits until all of these are ready; returns how long each took.
    pub async fn ready(&self, created: &[(Key, Instant)]) -> Result<Vec<Duration>, Error> {
        self.ready.since(created, LIMIT).await
    }

    /// Changes the client secret of each app at the portal and in its Secret; returns when each request was sent.
    pub async fn rotate(&self, range: Range<usize>, pace: Option<Duration>) -> Result<Vec<(Key, Instant)>, Error> {
        let sent = self.each(range, pace, async |n| {
            let app = app(n, "second");
            let change = json!({"stringData": {"client_secret": app.secret}});
            self.portal.app(&format!("app-{n}"), app);
            let api: Api<Secret> = self.api(n);
            let changed = api.patch(&format!("r{n}-oauth"), &PatchParams::default(), &Patch::Merge(change)).await;
            changed.map(drop).map_err(doing("changing a Secret"))
        });
        Ok(sent.await?.into_iter().map(|(n, at)| ((self.namespace(n), format!("r{n}-token")), at)).collect())
    }

    /// Waits until each target holds a new token; returns how long each took.
    pub async fn renewed(&self, rotated: &[(Key, Instant)]) -> Result<Vec<Duration>, Error> {
        self.tokens.since(rotated, LIMIT).await
    }

    async fn each(
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

fn object<T: DeserializeOwned>(value: Value) -> Result<T, Error> {
    serde_json::from_value(value).map_err(doing("making an object"))
}

async fn create<K: Serialize + DeserializeOwned + Clone + std::fmt::Debug>(
    api: &Api<K>,
    body: &K,
) -> Result<(), Error> {
    api.create(&PostParams::default(), body).await.map(drop).map_err(doing("creating an object"))
}
