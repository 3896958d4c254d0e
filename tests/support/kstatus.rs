//! The status of a resource as kstatus computes it.

use std::path::PathBuf;
use std::process::Stdio;

use kube::Api;
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use tokio::process::Command;
use tokio::sync::OnceCell;

use super::TestEnv;
use super::tools::go_build;

static KSTATUS: OnceCell<PathBuf> = OnceCell::const_new();

impl TestEnv {
    /// Creates an environment for `kstatus`, whose program is built before anything is timed.
    #[track_caller]
    pub fn with_kstatus() -> impl Future<Output = Self> {
        let env = Self::new();
        async {
            KSTATUS.get_or_init(async || go_build("hack/kstatus", ".")).await;
            env.await
        }
    }

    /// Returns the kstatus of a resource, computed by the library that Flux uses.
    pub async fn kstatus(&self, name: &str) -> String {
        let tool = KSTATUS.get_or_init(async || go_build("hack/kstatus", ".")).await;
        let gvk = GroupVersionKind::gvk("credentials.arcgis.dev", "v1alpha1", "ArcGisAppCredential");
        let kind = ApiResource::from_gvk_with_plural(&gvk, "arcgisappcredentials");
        let api = Api::<DynamicObject>::namespaced_with(self.client.clone(), &self.namespace, &kind);
        let object = serde_json::to_vec(&api.get(name).await.unwrap()).unwrap();
        let mut child = Command::new(tool).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut child.stdin.take().unwrap(), &object).await.unwrap();
        let output = child.wait_with_output().await.unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap().split(' ').next().unwrap().to_owned()
    }
}
