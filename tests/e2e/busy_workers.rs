//! More reconciles than workers.

use std::time::Duration;

use crate::support::fleet::handled;
use crate::support::{SECRET, TestEnv, is};
use testkit::api_proxy::InjectedFault;
use testkit::portal::App;

const SOON: Duration = Duration::from_secs(20);
const RENEWED: [&str; 4] = ["one", "two", "three", "four"];

#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_wait_to_be_written_delay_no_new_resource() {
    let mut env = TestEnv::without_operator(&["--concurrency=1"]).await;
    env.add_api_proxy().await;
    env.start().await;
    for name in RENEWED {
        env.ready(name).await;
        env.portal.app(name, App { secret: SECRET.to_owned(), delay: 1000, ..App::default() });
    }
    env.credentials("oauth", "app", SECRET).await;
    let writes = || env.calls().iter().filter(|(verb, of, ..)| verb == "patch" && of == "secrets").count();
    let before = writes();
    env.api_proxy().inject(4, InjectedFault::Delayed(Duration::from_secs(1)), |call| {
        call.method == "PATCH" && call.path.contains("/secrets/")
    });
    for name in RENEWED {
        env.request_token(name, "now").await;
    }
    env.api_proxy().wait_for_faults(1, SOON).await.unwrap();
    env.apply(&env.manifest("new", "oauth")).await;
    env.wait("new", |r| is(r, "Ready", "True", "TokenValid")).await;
    let written = writes() - before;
    assert!(written <= 2, "{written} of four tokens were written before");
    for name in RENEWED {
        env.wait(name, |r| handled(r, "now")).await;
    }
    assert_eq!(writes() - before, RENEWED.len());
}
