//! The benchmarks: each measures Pontual beside its limit in the same run, and prints the ratio.
//!
//! ```text
//! scripts/bench.sh append      the log alone, beside pgbench's bare inserts
//! scripts/bench.sh book        bookings over HTTP, beside the same
//! scripts/bench.sh slots       free slots over HTTP, beside a bare handler with one Redis GET
//! scripts/bench.sh month       free days of a month at half of the saturating rate, beside the same
//! ```
//!
//! Reads `DATABASE_URL` (a superuser's), `REDIS_URL`, `MONGODB_URL` and `BENCH_PONTUAL` (the program), which
//! `scripts/bench.sh` sets. Each run makes databases of its own and leaves them to their server's end.

#![expect(clippy::print_stdout, reason = "a benchmark prints")]

mod append;
mod book;
mod load;
mod month;
mod peer;
mod slots;
mod town;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let name = std::env::args().nth(1).unwrap_or_default();
    match name.as_str() {
        "append" => append::run().await,
        "book" => book::run().await,
        "slots" => slots::run().await,
        "month" => month::run(std::env::args().nth(2)).await,
        other => anyhow::bail!("no benchmark {other:?}: append, book, slots or month"),
    }
}
