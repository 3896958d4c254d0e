//! The node, and what runs on it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use arcgis_credential_operator::api::ArcGisAppCredential;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, Secret};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::portal::ExpiringPortal;
use crate::support::SECRET;
use crate::support::tools::{run, tool};

pub const NAME: &str = "arcgis-credential-operator";
const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/chart");
/// The namespace of the workload.
pub const MAPS: &str = "maps";
/// The resource, and the app of the same name.
pub const RESOURCE: &str = "basemaps";
pub const TARGET: &str = "basemaps-token";
/// The `ConfigMap` with the CA of the portal.
pub const CA: &str = "portal-ca";

pub struct Cluster {
    /// The state of the node.
    folder: PathBuf,
    pub client: Client,
    pub portal: ExpiringPortal,
}

impl Cluster {
    /// Connects to the node that `make e2e` has started, and starts the portal on the host.
    pub async fn connect() -> Self {
        let variable = |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run `make e2e`"));
        let folder = PathBuf::from(variable("NODE"));
        let client = testkit::control_plane::client(&folder.join("kubeconfig")).await.unwrap();
        let host = format!("10.{}.0.1", variable("NODE_NET")).parse().unwrap();
        Self { folder, client, portal: ExpiringPortal::start(host).await }
    }

    pub fn api<K: Resource<DynamicType = (), Scope = NamespaceResourceScope>>(&self, namespace: &str) -> Api<K> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// Creates a namespace that enforces the Pod Security Standard `restricted`, with the CA of the portal.
    pub async fn restricted_namespace(&self, name: &str) {
        let labels = json!({"pod-security.kubernetes.io/enforce": "restricted"});
        self.create::<Namespace>(Api::all(self.client.clone()), json!({"metadata": {"name": name, "labels": labels}}))
            .await;
        let ca = json!({"metadata": {"name": CA}, "data": {"ca.crt": self.portal.portal.ca()}});
        self.create::<ConfigMap>(self.api(name), ca).await;
    }

    /// Writes the credentials of the app with this name.
    pub async fn credentials(&self, namespace: &str, app: &str) {
        let secret = json!({"metadata": {"name": format!("{app}-oauth")},
                            "stringData": {"client_id": app, "client_secret": SECRET}});
        self.create::<Secret>(self.api(namespace), secret).await;
    }

    /// Creates a resource, and the credentials of the app with its name.
    pub async fn resource(&self, name: &str) {
        self.credentials(MAPS, name).await;
        let resource = json!({
            "apiVersion": "credentials.arcgis.dev/v1alpha1", "kind": "ArcGisAppCredential",
            "metadata": {"name": name},
            "spec": {"portal": {"url": self.portal.portal.url()}, "credentialsRef": {"name": format!("{name}-oauth")},
                     "target": {"name": format!("{name}-token")}},
        });
        self.create::<ArcGisAppCredential>(self.api(MAPS), resource).await;
    }

    async fn create<K>(&self, api: Api<K>, object: Value)
    where
        K: Clone + std::fmt::Debug + serde::Serialize + DeserializeOwned,
    {
        api.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap();
    }

    pub fn resources(&self) -> Api<ArcGisAppCredential> {
        self.api(MAPS)
    }

    /// Requests a new token, as a user does.
    pub async fn request_token(&self, mark: &str) {
        let change = json!({"metadata": {"annotations": {"credentials.arcgis.dev/requested-at": mark}}});
        self.resources().patch(RESOURCE, &PatchParams::default(), &Patch::Merge(&change)).await.unwrap();
    }

    /// Returns the values of the release, with these in addition.
    pub fn values(&self, more: Value) -> Value {
        let url = self.portal.portal.url();
        let mut values = json!({
            "image": {"repository": "arcgis-credential-operator", "pullPolicy": "Never"}, "allowedPortals": [&url], "trust": {"configMap": {"name": CA}},
            "probe": {"credentialsSecret": format!("{RESOURCE}-oauth"), "portal": &url},
        });
        let Value::Object(more) = more else { panic!("not an object") };
        values.as_object_mut().unwrap().extend(more);
        values
    }

    /// Runs a command of Helm for the release; returns its output.
    pub fn helm(&self, arguments: &[&str], values: Option<&Value>) -> String {
        let mut helm = Command::new(tool("helm"));
        for home in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
            helm.env(home, self.folder.join("helm").join(home));
        }
        helm.env("KUBECONFIG", self.folder.join("kubeconfig")).args(arguments).args(["--namespace", NAME]);
        let input = values.map(ToString::to_string).unwrap_or_default();
        if values.is_some() {
            helm.args([CHART, "--values=-"]);
        }
        let printed = run(&mut helm, &input);
        assert!(printed.success, "{arguments:?}: {}{}", printed.err, printed.out);
        printed.out
    }

    /// Installs or upgrades the release, and waits until its pods are ready.
    pub fn upgrade(&self, more: Value) {
        let wait = ["--wait", "--timeout=90s"];
        self.helm(&[&["upgrade", "--install", NAME], &wait[..]].concat(), Some(&self.values(more)));
    }

    /// Returns the pods of the operator that are not being deleted.
    pub async fn operators(&self) -> Vec<Pod> {
        let labels = format!("app.kubernetes.io/name={NAME}");
        let pods = self.api::<Pod>(NAME).list(&kube::api::ListParams::default().labels(&labels)).await.unwrap();
        pods.items.into_iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()).collect()
    }

    /// Kills the process of the operator's only pod.
    pub async fn kill_operator(&self) {
        let uid = self.operators().await[0].metadata.uid.clone().unwrap();
        let read = |folder: &Path, name: &str| std::fs::read_to_string(folder.join(name)).unwrap_or_default();
        let is_operator = |folder: &Path| {
            read(folder, "cgroup").contains(&uid) && read(folder, "cmdline").starts_with(&format!("/{NAME}\0"))
        };
        let mut processes = std::fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
        let process = processes.find(|folder| is_operator(folder)).expect("no process of the pod");
        let mut kill = Command::new("kill");
        assert!(kill.arg("-KILL").arg(process.file_name().unwrap()).status().unwrap().success());
    }

    /// Waits until a process of a pod that stays holds the Lease, and not this one; returns the process and the pod.
    pub async fn leader_after(&self, last: &str, limit: Duration) -> (String, String) {
        let until = Instant::now() + limit;
        loop {
            let lease = self.api::<Lease>(NAME).get(NAME).await.unwrap().spec.unwrap();
            // The name of the pod is the first part of the identity.
            if let Some(holder) = lease.holder_identity.filter(|holder| holder != last) {
                let names = self.operators().await.into_iter().filter_map(|pod| pod.metadata.name);
                if let Some(pod) = names.into_iter().find(|name| holder.starts_with(name)) {
                    return (holder, pod);
                }
            }
            assert!(Instant::now() < until, "no leader within {limit:?}");
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Returns how many calls the API server has logged of the operator's service account, by the pod that the token of
    /// the call is bound to.
    pub fn calls(&self) -> BTreeMap<String, usize> {
        let log = std::fs::read_to_string(self.folder.join("audit.log")).unwrap();
        let events = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let account = format!("system:serviceaccount:{NAME}:{NAME}");
        let mut calls = BTreeMap::new();
        for event in events.filter(|event| event["user"]["username"] == account.as_str()) {
            let pod = event["user"]["extra"]["authentication.kubernetes.io/pod-name"][0].as_str();
            *calls.entry(pod.unwrap_or_default().to_owned()).or_default() += 1;
        }
        calls
    }

    /// Adds a line to the configuration of the kubelet, and kills the kubelet. It is then started again.
    pub async fn restart_kubelet(&self, configuration: &str) {
        let file = self.folder.join("kubelet.yaml");
        let mut text = std::fs::read_to_string(&file).unwrap();
        writeln!(text, "{configuration}").unwrap();
        std::fs::write(file, text).unwrap();
        let read = |name: &str| std::fs::read_to_string(self.folder.join("run").join(name)).unwrap();
        let last =
            read("pids").lines().filter_map(|line| line.strip_suffix(" kubelet")).next_back().unwrap().to_owned();
        let init = read("init.pid");
        let killed = jiff::Timestamp::now();
        let mut kill = Command::new("nsenter");
        kill.args(["--target", init.trim(), "--pid", "kill", "-KILL", &last]);
        assert!(kill.status().unwrap().success());
        let leases = self.api::<Lease>("kube-node-lease");
        let until = Instant::now() + Duration::from_mins(1);
        loop {
            let lease = &leases.list(&kube::api::ListParams::default()).await.unwrap().items[0];
            // The kubelet that was killed may have renewed it in the same second.
            if lease.spec.as_ref().unwrap().renew_time.as_ref().unwrap().0 > killed + Duration::from_secs(1) {
                return;
            }
            assert!(Instant::now() < until, "the kubelet does not renew its lease");
            sleep(Duration::from_millis(200)).await;
        }
    }
}
