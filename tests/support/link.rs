//! TCP links between the operator and its servers, which tests cut, silence and redirect.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::TestEnv;

/// A server behind an address of its own.
pub struct Link {
    address: SocketAddr,
    cut: watch::Sender<bool>,
    /// Connections that were opened before it last changed carry nothing more.
    epoch: watch::Sender<u64>,
    server: watch::Sender<SocketAddr>,
}

impl Link {
    pub async fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let link = Self {
            address,
            cut: watch::channel(false).0,
            epoch: watch::channel(0).0,
            server: watch::channel(server).0,
        };
        let (cuts, epochs, servers) = (link.cut.subscribe(), link.epoch.subscribe(), link.server.subscribe());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (cuts, mut epochs, mut servers) = (cuts.clone(), epochs.clone(), servers.clone());
                epochs.mark_unchanged();
                servers.mark_unchanged();
                tokio::spawn(forward(client, cuts, epochs, servers));
            }
        });
        link
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Lets every open connection go silent; new ones work.
    pub fn silence(&self) {
        self.epoch.send_modify(|epoch| *epoch += 1);
    }

    /// While it is cut, nothing is forwarded, and nothing is refused.
    pub fn cut(&self, cut: bool) {
        self.cut.send_replace(cut);
    }

    /// Closes every connection; new ones work.
    pub fn close_connections(&self) {
        self.server.send_modify(|_| {});
    }

    /// Closes every connection; new ones are of this server.
    pub fn redirect(&self, server: SocketAddr) {
        self.server.send_replace(server);
    }
}

async fn forward(
    mut client: TcpStream,
    mut cuts: watch::Receiver<bool>,
    mut epochs: watch::Receiver<u64>,
    mut servers: watch::Receiver<SocketAddr>,
) {
    let address = *servers.borrow_and_update();
    // A server that is down refuses; the client then finds a closed connection.
    let Ok(mut server) = TcpStream::connect(address).await else { return };
    tokio::select! {
        _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
        () = async { drop(cuts.wait_for(|cut| *cut).await) } => {}
        // Not a byte more, and neither end is closed.
        changed = epochs.changed() => if changed.is_ok() { std::future::pending().await },
        _ = servers.changed() => return,
    }
    // A cut connection hangs until the link is restored, and is then closed.
    let _ = cuts.wait_for(|cut| !*cut).await;
}

/// A link to the API server, with a kubeconfig that connects through it.
pub struct ApiLink {
    pub kubeconfig: PathBuf,
    link: Link,
}

impl ApiLink {
    pub async fn start(env: &TestEnv) -> Self {
        Self::start_for(env, &TestEnv::restricted()).await
    }

    /// Starts a link to the server of a kubeconfig, for its account.
    pub async fn start_for(env: &TestEnv, account: &Path) -> Self {
        let text = std::fs::read_to_string(account).unwrap();
        let config: serde_json::Value = serde_json::from_str(&text).unwrap();
        let server = config["clusters"][0]["cluster"]["server"].as_str().unwrap();
        let link = Link::start(server.trim_start_matches("https://").parse().unwrap()).await;
        let kubeconfig = env.plane.dir().join(format!("{}-link-{}", env.namespace, link.port()));
        let here = format!("https://127.0.0.1:{}", link.port());
        std::fs::write(&kubeconfig, text.replace(server, &here)).unwrap();
        Self { kubeconfig, link }
    }
}

impl std::ops::Deref for ApiLink {
    type Target = Link;

    fn deref(&self) -> &Link {
        &self.link
    }
}
