//! TLS in front of a server that speaks plain HTTP.

use crate::{Error, Result};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::Arc,
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::AbortHandle,
};
use tokio_rustls::TlsAcceptor;

/// A running front; it ends with the value.
#[derive(Debug)]
pub struct Front {
    /// Where it listens, on 127.0.0.1.
    pub port: u16,
    task: AbortHandle,
}

impl Front {
    /// Passes what comes over TLS on to `server`; shows the certificates of the PEM file `certificates`.
    ///
    /// # Errors
    /// If the certificate or the key cannot be used, or no port can be bound.
    pub async fn start(certificates: &Path, key: &Path, server: SocketAddr) -> Result<Self> {
        let why = |error: &dyn std::error::Error| Error::new(certificates.display(), error);
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(certificates)
            .and_then(Iterator::collect)
            .map_err(|error| why(&error))?;
        let key = PrivateKeyDer::from_pem_file(key).map_err(|error| why(&error))?;
        let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key);
        let acceptor = TlsAcceptor::from(Arc::new(config.map_err(|error| why(&error))?));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(|error| why(&error))?;
        let port = listener.local_addr().map_err(|error| why(&error))?.port();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let Ok(mut outside) = acceptor.accept(stream).await else { return };
                    let Ok(mut inside) = TcpStream::connect(server).await else { return };
                    let _ = copy_bidirectional(&mut outside, &mut inside).await;
                });
            }
        });
        Ok(Self { port, task: task.abort_handle() })
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.task.abort();
    }
}
