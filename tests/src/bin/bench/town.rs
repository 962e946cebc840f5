//! A running Pontual with providers and clients in it, made through commands.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use base64::Engine;
use domain::account::{ConfirmEmail, RegisterAccount};
use domain::actor::{Actor, Role};
use domain::command::{ClaimHasher, ClaimKind};
use domain::hours::{Confirmation, Policy, Zone};
use domain::ids::{AccountId, Id, ProviderId, RoutingSlot, SessionId, shape};
use domain::locale::Locale;
use domain::provider::OpenProvider;
use event_log::executor::{Executor, Origin};
use event_log::{EventLog, LogOptions, MasterKey, SystemClock};
use http_kit::auth::{Names, Signer};
use tokio::process::{Child, Command};

use crate::{load, peer};

/// A running Pontual.
pub(crate) struct Town {
    /// Where it listens, as in `127.0.0.1:41234`.
    pub(crate) address: String,
    /// Its log.
    pub(crate) log: EventLog,
    /// The providers.
    pub(crate) providers: Vec<ProviderId>,
    /// The clients' access tokens.
    pub(crate) tokens: Vec<String>,
    _process: Child,
}

const MASTER_KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const PUBLIC_URL: &str = "http://bench.localhost";

impl Town {
    /// Starts `pontual serve` on a new database, with so many providers and clients.
    pub(crate) async fn found(
        providers: usize,
        clients: usize,
        full: bool,
    ) -> anyhow::Result<Self> {
        let url = peer::database("pontual").await?;
        let folder =
            std::env::temp_dir().join(format!("pontual-bench-{:x}", rand::random::<u64>()));
        tokio::fs::create_dir_all(&folder).await?;
        let address = format!("127.0.0.1:{}", end_to_end::free_port());
        let pem = signing_key();
        let mut command = Command::new(peer::program()?);
        command
            .arg("serve")
            .env("PONTUAL_DATA_DIR", &folder)
            .env("PONTUAL_LISTEN", &address)
            .env("PONTUAL_METRICS_LISTEN", format!("127.0.0.1:{}", end_to_end::free_port()))
            .env("PONTUAL_MASTER_KEY", MASTER_KEY)
            .env("PONTUAL_SIGNING_KEY", &pem)
            .env("PONTUAL_PUBLIC_URL", PUBLIC_URL)
            .env("PONTUAL_RATE_LIMITS", "off")
            .env("PONTUAL_LOG", "warn")
            .env("DATABASE_URL", &url)
            .env_remove("REDIS_URL")
            .env_remove("MONGODB_URL")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .kill_on_drop(true);
        if full {
            command.env("REDIS_URL", std::env::var("REDIS_URL").context("REDIS_URL is not set")?);
            let mongo = std::env::var("MONGODB_URL").context("MONGODB_URL is not set")?;
            let name = format!("bench_{:x}", rand::random::<u64>());
            command.env("MONGODB_URL", format!("{}/{name}", mongo.trim_end_matches('/')));
        }
        let process = command.spawn().context("pontual does not start")?;
        load::until("pontual is ready", Duration::from_secs(60), || async {
            tokio::net::TcpStream::connect(&address).await.is_ok()
        })
        .await?;

        let pool = sqlx::postgres::PgPoolOptions::new().max_connections(8).connect(&url).await?;
        let clock = Arc::new(SystemClock);
        let log = EventLog::open(pool, MasterKey::parse(MASTER_KEY)?, clock, LogOptions::default())
            .await?;
        let executor = Arc::new(Executor::new(log.clone()));
        let names = Names::of(PUBLIC_URL);
        let signer = Signer::from_pem(
            pem.as_bytes(),
            names,
            Arc::new(|| event_log::Clock::now(&SystemClock)),
        )?;

        let mut making = tokio::task::JoinSet::new();
        for n in 0..providers {
            let executor = executor.clone();
            making.spawn(async move {
                let account = account(&executor, &format!("provider{n}@bench.localhost")).await?;
                let open = OpenProvider {
                    business_name: format!("Provider {n}").parse()?,
                    slug: format!("provider-{n}").parse()?,
                    zone: Zone::SAO_PAULO,
                    hourly_rate: None,
                    weekly: None,
                    policy: Some(Policy {
                        confirmation: Confirmation::Manual,
                        horizon_days: 730,
                        ..Policy::classic()
                    }),
                    service: None,
                };
                Ok::<_, anyhow::Error>(
                    executor.execute(open, origin(account)).await?.outcome.provider,
                )
            });
        }
        let mut ids = Vec::new();
        while let Some(made) = making.join_next().await {
            ids.push(made??);
        }
        let mut tokens = Vec::new();
        for n in 0..clients {
            let account = account(&executor, &format!("client{n}@bench.localhost")).await?;
            let session = SessionId::trusted(shape(rand::random(), RoutingSlot::from_bits(0)));
            tokens.push(signer.issue(account, session, 0, &[Role::Client])?.token);
        }
        Ok(Self { address, log, providers: ids, tokens, _process: process })
    }
}

fn origin(account: AccountId) -> Origin {
    Origin::of(Actor::Account { id: account, roles: vec![Role::Client] }, "bench")
}

/// Registers and confirms an account. Its password hash is nobody's: benchmarks do not sign in.
async fn account(executor: &Executor, email: &str) -> anyhow::Result<AccountId> {
    let register = RegisterAccount {
        name: "Bench Mark".parse()?,
        email: email.parse()?,
        phone: None,
        locale: Locale::En,
        zone: None,
        as_provider: false,
        password_hash: "$none".to_owned(),
    };
    executor.execute(register, Origin::of(Actor::Anonymous, "bench")).await?;
    let log = executor.log();
    let owner = log.claim_owner(log.claim_key(ClaimKind::Email, email)).await?;
    let account = AccountId::trusted(owner.context("the account was not registered")?);
    executor.execute(ConfirmEmail { account }, Origin::of(Actor::Anonymous, "bench")).await?;
    Ok(account)
}

/// An Ed25519 key in PKCS#8 PEM form (RFC 8410): a fixed prefix and 32 random bytes.
fn signing_key() -> String {
    let mut der = vec![
        0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04,
        0x20,
    ];
    der.extend(rand::random::<[u8; 32]>());
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n")
}
