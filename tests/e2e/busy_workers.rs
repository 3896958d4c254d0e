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

#[tokio::test(flavor = "multi_thread")]
async fn a_request_whose_turn_comes_is_sent_while_all_workers_are_busy() {
    let mut env = TestEnv::without_operator(&["--concurrency=1"]).await;
    env.add_api_proxy().await;
    env.start().await;
    env.ready("renewed").await;
    let answers = |name: &str, app| {
        env.portal.app(name, App { secret: SECRET.to_owned(), ..app });
    };
    // Eight requests are in flight at the host, of which one is answered.
    answers("renewed", App { delay: 5000, ..App::default() });
    for n in 0..7 {
        let name = format!("slow{n}");
        answers(&name, App { hang: true, ..App::default() });
        env.credentials(&format!("{name}-oauth"), &name, SECRET).await;
        env.apply(&env.manifest(&name, &format!("{name}-oauth"))).await;
    }
    env.request_token("renewed", "now").await;
    env.portal.wait_for_requests("renewed", 2, SOON).await.unwrap();
    answers("next", App::default());
    env.credentials("next-oauth", "next", SECRET).await;
    env.apply(&env.manifest("next", "next-oauth")).await;
    env.api_proxy()
        .inject(1, InjectedFault::Delayed(SOON), |call| call.method == "PATCH" && call.path.contains("/secrets/"));
    env.api_proxy().wait_for_faults(1, SOON).await.unwrap();
    env.portal.wait_for_requests("next", 1, Duration::from_secs(5)).await.unwrap();
}
