//! A running Pontual with providers and clients in it, made through commands.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use domain::actor::{Actor, Role};
use domain::hours::{Confirmation, Policy, Zone};
use domain::ids::ProviderId;
use domain::provider::OpenProvider;
use end_to_end::registrar::{Keys, Registrar};
use event_log::EventLog;
use event_log::executor::Origin;
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
        let keys = Keys::new();
        let mut command = Command::new(peer::program()?);
        command
            .arg("serve")
            .env("PONTUAL_DATA_DIR", &folder)
            .env("PONTUAL_LISTEN", &address)
            .env("PONTUAL_METRICS_LISTEN", format!("127.0.0.1:{}", end_to_end::free_port()))
            .envs(keys.settings())
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

        let registrar = Arc::new(Registrar::of(&url, PUBLIC_URL, &keys).await?);
        let mut making = tokio::task::JoinSet::new();
        for n in 0..providers {
            let registrar = registrar.clone();
            making.spawn(async move {
                let account =
                    registrar.account(NAME, &format!("provider{n}@bench.localhost")).await?;
                let open = opening(&format!("provider-{n}"))?;
                let owner = Actor::Account { id: account, roles: vec![Role::Client] };
                let opened = registrar.executor().execute(open, Origin::of(owner, "bench")).await?;
                anyhow::Ok(opened.outcome.provider)
            });
        }
        let mut ids = Vec::new();
        while let Some(made) = making.join_next().await {
            ids.push(made??);
        }
        let mut tokens = Vec::new();
        for n in 0..clients {
            let account = registrar.account(NAME, &format!("client{n}@bench.localhost")).await?;
            tokens.push(registrar.token(account)?);
        }
        let log = registrar.executor().log().clone();
        Ok(Self { address, log, providers: ids, tokens, _process: process })
    }
}

const NAME: &str = "Bench Mark";

/// Opens a shop of the classic profile that can be booked for two years.
fn opening(slug: &str) -> anyhow::Result<OpenProvider> {
    Ok(OpenProvider {
        business_name: "Bench & Sons".parse()?,
        slug: slug.parse()?,
        zone: Zone::SAO_PAULO,
        hourly_rate: None,
        weekly: None,
        policy: Some(Policy {
            confirmation: Confirmation::Manual,
            horizon_days: 730,
            ..Policy::classic()
        }),
        service: None,
    })
}
