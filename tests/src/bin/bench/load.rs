//! Keep-alive HTTP clients that send as fast as they are answered, and what they measured.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use hdrhistogram::Histogram;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// One keep-alive connection. No more of HTTP/1.1 than a server of ours needs to be asked, for what the load costs is
/// taken from what is measured: everything runs on the same cores.
pub(crate) struct Client {
    stream: TcpStream,
    /// What was received and not yet looked at.
    received: Vec<u8>,
}

/// An answer's status and body.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

impl Client {
    /// Connects to `127.0.0.1:port`.
    pub(crate) async fn connect(address: &str) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, received: Vec::with_capacity(4096) })
    }

    /// Sends a request, as it goes over the wire, and reads the whole answer.
    pub(crate) async fn send(&mut self, request: &[u8]) -> anyhow::Result<Answer> {
        self.stream.write_all(request).await?;
        let head = loop {
            if let Some(end) = find(&self.received, b"\r\n\r\n") {
                break end + 4;
            }
            self.receive().await?;
        };
        let (status, length) = status_and_length(&self.received[..head])?;
        while self.received.len() < head + length {
            self.receive().await?;
        }
        let body = self.received[head..head + length].to_vec();
        self.received.drain(..head + length);
        Ok(Answer { status, body })
    }

    async fn receive(&mut self) -> anyhow::Result<()> {
        let read = self.stream.read_buf(&mut self.received).await?;
        anyhow::ensure!(read > 0, "the server closed the connection");
        Ok(())
    }
}

/// Of an answer's head. One without `Content-Length` would be chunked; none of those that are measured is.
fn status_and_length(head: &[u8]) -> anyhow::Result<(u16, usize)> {
    let head = std::str::from_utf8(head)?;
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.get(9..12)).context("no status")?.parse()?;
    let length = lines
        .filter_map(|line| line.split_once(": "))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .context("an answer without its length")?;
    Ok((status, length.1.parse()?))
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|window| window == wanted)
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

/// Runs `clients` connections for so long; `request` makes the n-th request of all, as it goes over the wire.
pub(crate) async fn run<F>(
    address: &str,
    clients: usize,
    time: Duration,
    wanted: u16,
    request: F,
) -> anyhow::Result<Measured>
where
    F: Fn(u64) -> Option<String> + Send + Sync + 'static,
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
                let answer = client.send(request.as_bytes()).await?;
                if answer.status == wanted {
                    latencies.record(u64::try_from(sent.elapsed().as_micros())?)?;
                } else {
                    if others == 0 {
                        println!(
                            "  an answer was {}: {}",
                            answer.status,
                            String::from_utf8_lossy(&answer.body)
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

/// `GET path`.
pub(crate) fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: bench.localhost\r\n\r\n")
}

/// A booking of a signed-in client.
pub(crate) fn booking(token: &str, body: &str) -> String {
    format!(
        "POST /api/appointments HTTP/1.1\r\nhost: bench.localhost\r\nauthorization: Bearer {token}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
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
