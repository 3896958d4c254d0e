//! A server that answers each request with arbitrary bytes, at any speed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::server::TlsStream;
use tokio_util::task::AbortOnDropHandle;

use crate::https::{Certificate, Protocol, accept, identity};
use crate::{Error, doing};

/// The bytes that are sent after a request.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    pub bytes: Vec<u8>,
    /// The pause between two bytes.
    pub pause: Option<Duration>,
    /// Sent repeatedly after `bytes`, until the client disconnects.
    pub endless: Vec<u8>,
}

/// A running server; dropping it stops it.
pub struct HostileServer {
    address: SocketAddr,
    ca: String,
    sent: Arc<AtomicUsize>,
    _server: AbortOnDropHandle<()>,
}

impl HostileServer {
    /// Starts it on a free port of loopback.
    pub async fn start(answer: Answer) -> Result<Self, Error> {
        crate::init_crypto();
        let (ca, tls) = identity(Certificate::Good, Protocol::Any)?;
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(doing("listening"))?;
        let address = listener.local_addr().map_err(doing("listening"))?;
        let sent = Arc::new(AtomicUsize::new(0));
        let counted = sent.clone();
        let server = tokio::spawn(accept(listener, tls, move |stream| {
            let (answer, sent) = (answer.clone(), counted.clone());
            async move {
                // The client may disconnect at any time.
                let _ = serve(stream, &answer, &sent).await;
            }
        }));
        Ok(Self { address, ca, sent, _server: AbortOnDropHandle::new(server) })
    }

    /// Returns its base URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://localhost:{}", self.address.port())
    }

    /// Returns the CA that signed its certificate, in PEM.
    #[must_use]
    pub fn ca(&self) -> &str {
        &self.ca
    }

    /// Returns how many bytes of responses were sent.
    #[must_use]
    pub fn sent(&self) -> usize {
        self.sent.load(Ordering::Relaxed)
    }
}

async fn serve(mut stream: TlsStream<TcpStream>, answer: &Answer, sent: &AtomicUsize) -> std::io::Result<()> {
    let mut request = vec![0; 16 * 1024];
    // The form fits in one read.
    let _ = stream.read(&mut request).await?;
    if let Some(pause) = answer.pause {
        for byte in &answer.bytes {
            stream.write_all(std::slice::from_ref(byte)).await?;
            stream.flush().await?;
            sent.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(pause).await;
        }
    } else {
        stream.write_all(&answer.bytes).await?;
        sent.fetch_add(answer.bytes.len(), Ordering::Relaxed);
    }
    while !answer.endless.is_empty() {
        stream.write_all(&answer.endless).await?;
        sent.fetch_add(answer.endless.len(), Ordering::Relaxed);
    }
    stream.shutdown().await
}
