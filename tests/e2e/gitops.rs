//! What docs/gitops.md shows, with Flux's real kustomize-controller and with the interpreter of Argo CD's health checks.

mod argocd;
mod flux;
mod source;

use std::path::Path;
use std::time::Duration;

use crate::support::TestEnv;
use crate::support::fences::fences;
use crate::support::tools::succeed;
use serde_json::Value;

/// A change of the credentials causes a token within seconds.
const LIMIT: Duration = Duration::from_mins(1);

/// Returns the manifests of one block of the page, for the namespace and the portal of this environment.
fn page(env: &TestEnv, word: &str) -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/gitops.md");
    let found = fences(&page).into_iter().find(|fence| fence.is("yaml", word));
    let text = found.unwrap_or_else(|| panic!("no block yaml {word}")).text;
    text.replace("namespace: maps", &format!("namespace: {}", env.namespace)).replace(
        "\nspec:\n  credentialsRef:",
        &format!("\nspec:\n  portal: {{url: \"{}\"}}\n  credentialsRef:", env.portal.url()),
    )
}

fn kubectl(env: &TestEnv, arguments: &[&str], input: &str) -> String {
    let mut command = std::process::Command::new(env.plane.tool("kubectl"));
    command.env("KUBECONFIG", env.plane.kubeconfig()).args(["-n", &env.namespace]).args(arguments);
    succeed(&mut command, input)
}

/// Returns an object as JSON.
fn get(env: &TestEnv, kind: &str, name: &str) -> Value {
    serde_json::from_str(&kubectl(env, &["get", kind, name, "-o", "json"], "")).unwrap()
}
