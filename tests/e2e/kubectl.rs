//! What `kubectl get` shows and selects.

use crate::support::{TestEnv, WRONG_SECRET, is};

pub async fn kubectl(env: &TestEnv, arguments: &[&str]) -> String {
    let mut command = tokio::process::Command::new(env.plane.tool("kubectl"));
    command.args(["-n", &env.namespace]).args(arguments).env("KUBECONFIG", env.plane.kubeconfig());
    let output = command.output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_columns_of_kubectl_get_fit_on_a_line_of_120_characters() {
    let env = TestEnv::new().await;
    env.ready("basemaps-of-the-public-viewer").await;
    env.credentials("wrong-oauth", "app", WRONG_SECRET).await;
    env.apply(&env.manifest("places-of-the-public-viewer", "wrong-oauth")).await;
    env.wait("places-of-the-public-viewer", |r| is(r, "Stalled", "True", "ClientSecretRejected")).await;
    let table = kubectl(&env, &["get", "agc"]).await;
    let columns: Vec<&str> = table.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(columns, ["NAME", "READY", "REASON", "PROBLEM", "EXPIRES", "AGE"]);
    assert!(table.contains("TokenValid") && table.contains("ClientSecretRejected"), "{table}");
    assert!(table.lines().all(|line| line.trim_end().len() <= 120), "{table}");
    let wide = kubectl(&env, &["get", "agc", "-o", "wide"]).await;
    for column in ["RENEWS", "PORTAL", "TARGET"] {
        assert!(wide.lines().next().unwrap().contains(column), "{wide}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn resources_can_be_selected_by_their_secrets() {
    let env = TestEnv::without_operator(&[]).await;
    for name in ["a", "b"] {
        env.apply(&env.manifest(name, &format!("{name}-oauth"))).await;
    }
    for selector in ["spec.target.name=a-token", "spec.credentialsRef.name=a-oauth"] {
        let found = env.resources().list(&kube::api::ListParams::default().fields(selector)).await.unwrap().items;
        assert_eq!(found.iter().map(|r| r.metadata.name.as_deref()).collect::<Vec<_>>(), [Some("a")], "{selector}");
    }
}
