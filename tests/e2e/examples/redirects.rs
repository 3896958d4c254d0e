//! A service that redirects to another host: the token does not go there.

use std::sync::{Arc, Mutex};

use super::Mount;
use super::processes::Process;
use axum::Router;
use axum::extract::Request;
use axum::response::{IntoResponse, Redirect, Response};
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

/// A server that records the requests that it gets.
struct Server {
    origin: String,
    requests: Arc<Mutex<Vec<String>>>,
    _task: AbortOnDropHandle<()>,
}

impl Server {
    /// Starts it with this host in its URL; it redirects to another one, or has a layer without features.
    async fn start(host: &str, to: Option<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{host}:{}", listener.local_addr().unwrap().port());
        let requests = Arc::<Mutex<Vec<String>>>::default();
        let seen = requests.clone();
        let answer = move |request: Request| {
            seen.lock().unwrap().push(format!("{request:?}"));
            let to = to.clone();
            async move { to.map_or_else(|| r#"{"features":[]}"#.into_response(), |to| redirect(&to, &request)) }
        };
        let serve = axum::serve(listener, Router::new().fallback(answer)).into_future();
        let task = AbortOnDropHandle::new(tokio::spawn(async { serve.await.unwrap() }));
        Self { origin, requests, _task: task }
    }

    /// Returns how many requests it has got, and how many of them with this text.
    fn count(&self, text: &str) -> (usize, usize) {
        let requests = self.requests.lock().unwrap();
        (requests.len(), requests.iter().filter(|request| request.contains(text)).count())
    }
}

fn redirect(to: &str, request: &Request) -> Response {
    Redirect::temporary(&format!("{to}{}", request.uri())).into_response()
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_and_python_do_not_send_the_token_to_the_target_of_a_redirect() {
    let keys = [
        ("access_token", "the-token"),
        ("headers", "X-Esri-Authorization: Bearer the-token\n"),
        ("arcgis.env", "ARCGIS_ACCESS_TOKEN=the-token\n"),
    ];
    let mount = Mount::new(&keys.map(|(key, text)| (key.to_owned(), text.to_owned())).into());
    for command in [
        &["examples/consumers/curl/read.sh"][..],
        &["examples/consumers/shell/read.sh"],
        &["python3", "examples/consumers/python/read.py"],
    ] {
        let other = Server::start("localhost", None).await;
        let service = Server::start("127.0.0.1", Some(other.origin.clone())).await;
        let variables = [
            ("TOKEN_DIR", mount.path().display().to_string()),
            ("LAYER_URL", format!("{}/FeatureServer/0", service.origin)),
            ("EVERY", "0.1".to_owned()),
        ];
        let _process = Process::start(&command.join(" "), command, &variables);
        crate::support::fleet::poll_until("three requests", super::processes::TIMEOUT, async || {
            (service.count("").0 >= 3).then_some(())
        })
        .await;
        let (all, with_token) = service.count("the-token");
        assert_eq!(all, with_token, "{command:?}");
        assert_eq!(other.count("the-token").1, 0, "{command:?} sends the token to another host");
    }
}
