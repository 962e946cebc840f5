//! Asking a running Pontual how it is: one GET, by hand, so that a container needs no curl.

use std::net::SocketAddr;
use std::time::Duration;

use http::StatusCode;
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::net::TcpStream;

use crate::config::reachable;

/// Longer than that is not healthy.
const WITHIN: Duration = Duration::from_secs(5);

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum HealthError {
    /// Nobody listens, or the network failed.
    #[error("nobody answers at {address}")]
    Connect {
        /// Where.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// Somebody listens who does not speak HTTP.
    #[error("what answers at {address} is not HTTP")]
    Http {
        /// Where.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: hyper::Error,
    },
    /// The answer takes too long.
    #[error("no answer from {address} within 5 s")]
    Late {
        /// Where.
        address: SocketAddr,
    },
}

/// The status of `GET path` at a listening address; every interface is asked at this machine's own.
pub async fn get(listen: SocketAddr, path: &str) -> Result<StatusCode, HealthError> {
    let address = reachable(listen);
    let ask = async {
        let stream = TcpStream::connect(address)
            .await
            .map_err(|source| HealthError::Connect { address, source })?;
        let failed = |source| HealthError::Http { address, source };
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
        let connection = tokio::spawn(connection);
        let request = http::Request::get(path)
            .header(http::header::HOST, address.to_string())
            .header(http::header::USER_AGENT, "pontual-health")
            .body(String::new())
            .expect("a path of ours makes a request");
        let answer = sender.send_request(request).await.map_err(failed)?;
        connection.abort();
        Ok(answer.status())
    };
    tokio::time::timeout(WITHIN, ask).await.unwrap_or(Err(HealthError::Late { address }))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// Answers one connection with these bytes.
    async fn answering(with: &'static str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let read = stream.read(&mut request).await.unwrap();
            assert!(request[..read].starts_with(b"GET /health/ready HTTP/1.1\r\n"));
            stream.write_all(with.as_bytes()).await.unwrap();
        });
        address
    }

    #[tokio::test]
    async fn the_status_is_what_the_program_answers() {
        let ready = answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
        assert_eq!(get(ready, "/health/ready").await.unwrap(), StatusCode::OK);
        let busy = answering("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n").await;
        assert_eq!(get(busy, "/health/ready").await.unwrap(), StatusCode::SERVICE_UNAVAILABLE);
    }

    #[tokio::test]
    async fn another_protocol_and_nobody_at_all_are_errors() {
        let other = answering("220 smtp ready\r\n").await;
        assert!(matches!(get(other, "/health/ready").await, Err(HealthError::Http { .. })));
        let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        assert!(matches!(get(nobody, "/health/ready").await, Err(HealthError::Connect { .. })));
    }
}
