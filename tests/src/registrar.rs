//! Accounts by the dozen: made through commands and signed in by a token that is signed here, so that no password is hashed and
//! no mail is read. For what needs many people, such as races and benchmarks.
//!
//! A registrar is one more process on the log, with the keys of the Pontual it makes people for; what that process decides
//! it sees as it would see anybody's.

use std::sync::Arc;

use anyhow::Context;
use base64::Engine;
use domain::account::{ConfirmEmail, RegisterAccount};
use domain::actor::{Actor, Role};
use domain::command::{ClaimHasher, ClaimKind};
use domain::ids::{AccountId, Id, RoutingSlot, SessionId, shape};
use domain::locale::Locale;
use event_log::executor::{Executor, Origin};
use event_log::{Clock, EventLog, LogOptions, MasterKey, SystemClock};
use http_kit::auth::{Names, Signer};

/// The keys that a Pontual and its registrar share.
pub struct Keys {
    master: String,
    signing: String,
}

impl Keys {
    /// New ones.
    pub fn new() -> Self {
        let master: String =
            rand::random::<[u8; 32]>().iter().map(|byte| format!("{byte:02x}")).collect();
        Self { master, signing: signing_key() }
    }

    /// The settings by which a Pontual uses them.
    pub fn settings(&self) -> [(&str, &str); 2] {
        [("PONTUAL_MASTER_KEY", &self.master), ("PONTUAL_SIGNING_KEY", &self.signing)]
    }
}

impl Default for Keys {
    fn default() -> Self {
        Self::new()
    }
}

/// Makes accounts and their tokens.
pub struct Registrar {
    executor: Executor,
    signer: Signer,
}

impl Registrar {
    /// For the Pontual with this database, public URL and keys, which has created its log.
    pub async fn of(database_url: &str, public_url: &str, keys: &Keys) -> anyhow::Result<Self> {
        let executor = executor(database_url, keys, Arc::new(SystemClock)).await?;
        let now = || SystemClock.now();
        let signer =
            Signer::from_pem(keys.signing.as_bytes(), Names::of(public_url), Arc::new(now))?;
        Ok(Self { executor, signer })
    }

    /// Runs commands as anybody.
    pub fn executor(&self) -> &Executor {
        &self.executor
    }

    /// Registers and confirms an account. It has no password that anybody could know.
    pub async fn account(&self, name: &str, email: &str) -> anyhow::Result<AccountId> {
        let register = RegisterAccount {
            name: name.parse()?,
            email: email.parse()?,
            phone: None,
            locale: Locale::En,
            zone: None,
            as_provider: false,
            password_hash: "$none".to_owned(),
        };
        let anybody = || Origin::of(Actor::Anonymous, "registrar");
        self.executor.execute(register, anybody()).await?;
        let log = self.executor.log();
        let owner = log.claim_owner(log.claim_key(ClaimKind::Email, email)).await?;
        let account = AccountId::trusted(owner.context("the account was not registered")?);
        self.executor.execute(ConfirmEmail { account }, anybody()).await?;
        Ok(account)
    }

    /// An access token for an account, of a session that never began.
    pub fn token(&self, account: AccountId) -> anyhow::Result<String> {
        let session = SessionId::trusted(shape(rand::random(), RoutingSlot::from_bits(0)));
        Ok(self.signer.issue(account, session, 0, &[Role::Client])?.token)
    }
}

/// Runs commands on the log of a Pontual with these keys, by a clock.
pub async fn executor(
    database_url: &str,
    keys: &Keys,
    clock: Arc<dyn Clock>,
) -> anyhow::Result<Executor> {
    let pool =
        sqlx::postgres::PgPoolOptions::new().max_connections(8).connect(database_url).await?;
    let master = MasterKey::parse(&keys.master)?;
    let log = EventLog::open(pool, master, clock, LogOptions::default()).await?;
    Ok(Executor::new(log))
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
