//! Keep-alive HTTP clients that send as fast as they are answered, or at a rate, and what they measured.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use hdrhistogram::Histogram;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

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

/// Of some turns the one in the middle, by rate.
pub(crate) fn median(mut turns: Vec<Measured>) -> Measured {
    turns.sort_by(|a, b| a.rate.total_cmp(&b.rate));
    turns.swap_remove(turns.len() / 2)
}

impl Measured {
    /// None yet.
    pub(crate) fn nothing() -> anyhow::Result<Self> {
        Ok(Self { rate: 0.0, others: 0, latencies: Histogram::new(3)? })
    }

    /// Notes an answer to a request that was to be sent then.
    fn answered(&mut self, answer: &Answer, wanted: u16, sent: Instant) -> anyhow::Result<()> {
        if answer.status == wanted {
            self.latencies.record(u64::try_from(sent.elapsed().as_micros())?)?;
            return Ok(());
        }
        if self.others == 0 {
            let body = String::from_utf8_lossy(&answer.body);
            println!("  an answer was {}: {body}", answer.status);
        }
        self.others += 1;
        Ok(())
    }

    /// What all of these measured together, since then.
    async fn all(
        mut running: JoinSet<anyhow::Result<Self>>,
        started: Instant,
    ) -> anyhow::Result<Self> {
        let mut all = Self::nothing()?;
        while let Some(ended) = running.join_next().await {
            all.add(ended??)?;
        }
        let count = u32::try_from(all.latencies.len()).context("too many answers to count")?;
        all.rate = f64::from(count) / started.elapsed().as_secs_f64();
        Ok(all)
    }

    /// `12345/s, p50 1.2 ms, p99 4.5 ms`.
    pub(crate) fn line(&self) -> String {
        format!("{:.0}/s, {}", self.rate, self.quantiles())
    }

    /// `p50 1.2 ms, p99 4.5 ms`.
    pub(crate) fn quantiles(&self) -> String {
        let quantile = |q| millis(self.latencies.value_at_quantile(q));
        format!("p50 {} ms, p99 {} ms", quantile(0.5), quantile(0.99))
    }

    /// With what another measured.
    pub(crate) fn add(&mut self, other: Self) -> anyhow::Result<()> {
        self.latencies.add(&other.latencies)?;
        self.others += other.others;
        Ok(())
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
    let mut running = JoinSet::new();
    for _ in 0..clients {
        let (request, next) = (request.clone(), next.clone());
        let mut client = Client::connect(address).await?;
        running.spawn(async move {
            let mut measured = Measured::nothing()?;
            while Instant::now() < deadline {
                let Some(request) = request(next.fetch_add(1, Ordering::Relaxed)) else { break };
                let sent = Instant::now();
                let answer = client.send(request.as_bytes()).await?;
                measured.answered(&answer, wanted, sent)?;
            }
            anyhow::Ok(measured)
        });
    }
    Measured::all(running, started).await
}

/// How often requests become due: what is late by that is not seen to be late.
const TICK: Duration = Duration::from_micros(250);

/// Sends so many requests a second for so long, whether those before are answered or not. A latency begins when the request
/// was to be sent: what waits behind a slow answer, for want of a connection, counts as waiting.
pub(crate) async fn run_at<F>(
    address: &str,
    clients: usize,
    (rate, time): (u32, Duration),
    wanted: u16,
    request: F,
) -> anyhow::Result<Measured>
where
    F: Fn(u64) -> Option<String> + Send + Sync + 'static,
{
    let count = u64::from(rate) * time.as_secs();
    let (request, next) = (Arc::new(request), Arc::new(AtomicU64::new(0)));
    let mut connections = Vec::new();
    for _ in 0..clients {
        connections.push(Client::connect(address).await?);
    }
    let (due, started) = (Arc::new(Semaphore::new(0)), Instant::now());
    let mut running = JoinSet::new();
    for mut client in connections {
        let (request, next, due) = (request.clone(), next.clone(), due.clone());
        running.spawn(async move {
            let mut measured = Measured::nothing()?;
            loop {
                due.acquire().await?.forget();
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= count {
                    return anyhow::Ok(measured);
                }
                let Some(request) = request(n) else { return Ok(measured) };
                let was_due =
                    started + Duration::from_nanos((n + 1) * 1_000_000_000 / u64::from(rate));
                let answer = client.send(request.as_bytes()).await?;
                measured.answered(&answer, wanted, was_due)?;
            }
        });
    }
    // A thread of its own: the runtime's timers tick in milliseconds.
    std::thread::spawn(move || {
        let mut released = 0;
        while released < count {
            std::thread::sleep(TICK);
            let so_far = started.elapsed().as_micros() * u128::from(rate) / 1_000_000;
            let so_far = u64::try_from(so_far).unwrap_or(count).min(count);
            due.add_permits(usize::try_from(so_far - released).unwrap_or_default());
            released = so_far;
        }
        // They find that there is no more.
        due.add_permits(clients);
    });
    Measured::all(running, started).await
}

/// `GET path`.
pub(crate) fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: bench.localhost\r\n\r\n")
}

/// A booking of a signed-in client.
pub(crate) fn booking(token: &str, body: &str) -> String {
    post("/api/appointments", token, body)
}

/// `POST path`, signed in.
pub(crate) fn post(path: &str, token: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nhost: bench.localhost\r\nauthorization: Bearer {token}\r\n\
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
