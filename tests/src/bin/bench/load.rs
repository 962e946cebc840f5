//! Keep-alive HTTP clients that send as fast as they are answered, and what they measured.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use axum::body::Bytes;
use hdrhistogram::Histogram;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// One keep-alive connection.
pub(crate) struct Client {
    sender: http1::SendRequest<Full<Bytes>>,
}

impl Client {
    /// Connects to `127.0.0.1:port`.
    pub(crate) async fn connect(address: &str) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self { sender })
    }

    /// Sends a request and reads the whole answer.
    pub(crate) async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> anyhow::Result<Response<Bytes>> {
        self.sender.ready().await?;
        let (parts, body) = self.sender.send_request(request).await?.into_parts();
        Ok(Response::from_parts(parts, body.collect().await?.to_bytes()))
    }
}

/// What some clients measured.
pub(crate) struct Measured {
    /// Answers of the wanted status, per second.
    pub(crate) rate: f64,
    /// Answers of another status.
    pub(crate) others: u64,
    /// Latencies in microseconds.
    pub(crate) latencies: Histogram<u64>,
}

impl Measured {
    /// `12345/s, p50 1.2 ms, p99 4.5 ms`.
    pub(crate) fn line(&self) -> String {
        let quantile = |q| millis(self.latencies.value_at_quantile(q));
        format!("{:.0}/s, p50 {} ms, p99 {} ms", self.rate, quantile(0.5), quantile(0.99))
    }
}

fn millis(micros: u64) -> String {
    format!("{}.{:02}", micros / 1000, micros % 1000 / 10)
}

/// Runs `clients` connections for so long; `request` makes the n-th request of all.
pub(crate) async fn run<F>(
    address: &str,
    clients: usize,
    time: Duration,
    wanted: u16,
    request: F,
) -> anyhow::Result<Measured>
where
    F: Fn(u64) -> Option<Request<Full<Bytes>>> + Send + Sync + 'static,
{
    let (request, next) = (Arc::new(request), Arc::new(AtomicU64::new(0)));
    let started = Instant::now();
    let deadline = started + time;
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..clients {
        let (request, next) = (request.clone(), next.clone());
        let mut client = Client::connect(address).await?;
        running.spawn(async move {
            let mut latencies = Histogram::<u64>::new(3)?;
            let mut others = 0_u64;
            while Instant::now() < deadline {
                let Some(request) = request(next.fetch_add(1, Ordering::Relaxed)) else { break };
                let sent = Instant::now();
                let answer = client.send(request).await?;
                if answer.status().as_u16() == wanted {
                    latencies.record(u64::try_from(sent.elapsed().as_micros())?)?;
                } else {
                    if others == 0 {
                        println!(
                            "  an answer was {}: {}",
                            answer.status(),
                            String::from_utf8_lossy(answer.body())
                        );
                    }
                    others += 1;
                }
            }
            anyhow::Ok((latencies, others))
        });
    }
    let mut measured = Measured { rate: 0.0, others: 0, latencies: Histogram::new(3)? };
    while let Some(ended) = running.join_next().await {
        let (latencies, others) = ended??;
        measured.latencies.add(&latencies)?;
        measured.others += others;
    }
    let count = u32::try_from(measured.latencies.len()).context("too many answers to count")?;
    measured.rate = f64::from(count) / started.elapsed().as_secs_f64();
    Ok(measured)
}

/// Polls until `ready`, for at most so long.
pub(crate) async fn until<F: Future<Output = bool>>(
    what: &str,
    time: Duration,
    ready: impl Fn() -> F,
) -> anyhow::Result<Duration> {
    let started = Instant::now();
    while !ready().await {
        anyhow::ensure!(started.elapsed() < time, "{what}: not within {} s", time.as_secs());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(started.elapsed())
}
