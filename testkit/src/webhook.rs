//! An admission webhook that refuses whatever it is asked about.

use std::net::SocketAddr;

use axum::Router;
use axum::extract::Json;
use axum::routing::post;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

use crate::https::{Certificate, Protocol, identity, serve};
use crate::{Error, doing};

/// A running webhook; dropping it stops it.
pub struct Webhook {
    address: SocketAddr,
    ca: String,
    _server: AbortOnDropHandle<()>,
}

impl Webhook {
    /// Starts one that refuses with this message.
    pub async fn start(message: &'static str) -> Result<Self, Error> {
        crate::init_crypto();
        let (ca, tls) = identity(Certificate::Good, Protocol::Any)?;
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(doing("listening"))?;
        let address = listener.local_addr().map_err(doing("listening"))?;
        let review = move |Json(review): Json<Value>| async move {
            Json(json!({
                "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
                "response": {"uid": review["request"]["uid"], "allowed": false, "status": {"message": message}},
            }))
        };
        let server = AbortOnDropHandle::new(tokio::spawn(serve(listener, tls, Router::new().fallback(post(review)))));
        Ok(Self { address, ca, _server: server })
    }

    /// Its URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://localhost:{}/", self.address.port())
    }

    /// The CA that signed its certificate, in PEM.
    #[must_use]
    pub fn ca(&self) -> &str {
        &self.ca
    }
}
