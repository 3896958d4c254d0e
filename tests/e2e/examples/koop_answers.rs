//! What examples/koop answers while the portal cannot check a token: clients keep a token that no one has rejected.

use std::process::Command;

use super::issue;
use super::koop::Koop;
use crate::support::tools::succeed;
use crate::support::{SECRET, TestEnv};
use serde_json::{Value, json};
use testkit::portal::{Answer, App};

/// What a portal in trouble answers to `portals/self`, with its HTTP status.
fn troubles() -> Vec<(u16, String)> {
    let error = |code: u16| json!({"error": {"code": code, "message": "Unable to process the request."}}).to_string();
    vec![
        (200, error(500)),
        (200, error(504)),
        (200, error(429)),
        (200, json!({"status": "error", "messages": ["Could not access any portal machines."]}).to_string()),
        (200, json!({"code": 500, "message": "Error", "status": "failure"}).to_string()),
        (503, error(503)),
        (429, error(429)),
        (503, "<html>Service Unavailable</html>".to_owned()),
        (200, "<html>Sign in</html>".to_owned()),
        (200, "null".to_owned()),
    ]
}

impl Koop {
    /// Returns the code in the answer to a query of the layer, or null.
    async fn code(&self, token: &str) -> Value {
        let mut curl = Command::new("curl");
        curl.args(["-s", "--cacert"]).arg(&self.bundle).args(["-H", &format!("X-Esri-Authorization: Bearer {token}")]);
        curl.arg(format!("{}/query?where=1%3D1&f=json", self.layer()));
        let printed = tokio::task::spawn_blocking(move || succeed(&mut curl, "")).await.unwrap();
        serde_json::from_str::<Value>(&printed).unwrap()["error"]["code"].clone()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn koop_rejects_a_token_only_when_the_portal_does() {
    let env = TestEnv::new().await;
    let token = issue(&env, "app", None).await["access_token"].clone();
    let Some(koop) = Koop::start(&env).await else { return };
    assert_eq!(koop.code(&token).await, Value::Null);
    let app = || App { secret: SECRET.to_owned(), ..App::default() };
    for (status, body) in troubles() {
        let answer = Answer { status, body: body.clone(), ..Answer::default() };
        env.portal.app("app", App { answer_on_verify: Some(answer), ..app() });
        assert_eq!(koop.code(&token).await, 503, "{status} {body}");
    }
    env.portal.app("app", App { close_on_verify: true, ..app() });
    assert_eq!(koop.code(&token).await, 503, "the connection is closed");
    env.portal.app("app", app());
    assert_eq!(koop.code(&token).await, Value::Null);
    env.portal.expire(&token);
    assert_eq!(koop.code(&token).await, 498);
}
