//! A query side on a database of its own.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use domain::account::{ConfirmEmail, RegisterAccount};
use domain::actor::{Actor, Role};
use domain::appointment::{AppointmentStands, BookAppointment};
use domain::command::{ClaimHasher as _, ClaimKind};
use domain::hours::Zone;
use domain::ids::{AccountId, Id, Mint, ProviderId, RoutingSlot, SessionId};
use domain::locale::Locale;
use domain::position::{Partition, Position, PositionToken};
use domain::provider::OpenProvider;
use event_log::testing::{FrozenClock, TestDatabase, options};
use event_log::{EventLog, Executed, Executor, Origin, checkpoints};
use http_body_util::BodyExt as _;
use http_kit::auth::{Names, Signer};
use http_kit::files::Files;
use http_kit::revocations::Revocations;
use query_api::QueryState;
use read_models::availability::{AvailabilityCache, CacheBatch, InProcessCache, InProcessOptions};
use read_models::fanout::InProcessFanout;
use read_models::freshness::TablesFreshness;
use read_models::notifications::PostgresFeed;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

/// It is Monday 2026-03-02, 09:00 in São Paulo.
const NOW: &str = "2026-03-02T12:00:00Z";
/// The log's only partition.
pub(crate) const P: Partition = Partition(0);

pub(crate) struct World {
    pub(crate) router: Router,
    pub(crate) executor: Executor,
    pub(crate) cache: Arc<InProcessCache>,
    pub(crate) feed: Arc<PostgresFeed>,
    pub(crate) fanout: InProcessFanout,
    pub(crate) stop: CancellationToken,
    pub(crate) revocations: Revocations,
    pub(crate) files: Files,
    pub(crate) clock: Arc<FrozenClock>,
    _database: TestDatabase,
}

/// An answer: status, headers, body.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) retry_after: Option<String>,
    pub(crate) body: Value,
}

impl Answer {
    /// The problem's type, less its directory.
    pub(crate) fn problem(&self) -> &str {
        self.body["type"].as_str().and_then(|kind| kind.rsplit('/').next()).unwrap_or_default()
    }
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::with_sockets(100).await
    }

    /// With room for so many sockets.
    pub(crate) async fn with_sockets(most: usize) -> Self {
        let database = TestDatabase::create().await;
        let clock = Arc::new(FrozenClock::at_text(NOW));
        let log = database.log_with(clock.clone(), options(1)).await;
        let cache = Arc::new(InProcessCache::new(log.partitions(), InProcessOptions::default()));
        let feed = Arc::new(PostgresFeed::new(log.pool().clone(), log.partitions()));
        let fanout = InProcessFanout::default();
        let stop = CancellationToken::new();
        let verifier = signer(&clock).verifier([]);
        let revocations = verifier.revocations().clone();
        let state = QueryState::new(
            log.clone(),
            TablesFreshness::new(log.pool().clone(), "read-tables"),
            cache.clone(),
            feed.clone(),
            verifier,
            &fanout,
            most,
            stop.clone(),
        );
        let files = Files::in_memory();
        let (router, _) = query_api::router(state.with_files(files.clone()));
        let executor = Executor::new(log);
        Self {
            router,
            executor,
            cache,
            feed,
            fanout,
            stop,
            revocations,
            files,
            clock,
            _database: database,
        }
    }

    pub(crate) fn log(&self) -> &EventLog {
        self.executor.log()
    }

    /// A token of this account that is good for so long.
    pub(crate) fn token(&self, account: AccountId, lifetime: Duration) -> String {
        let session: SessionId = Mint::new([4; 32]).id(account.slot(), 0);
        let signer = signer(&self.clock).with_lifetime(lifetime);
        signer.issue(account, session, 0, &[Role::Client]).unwrap().token
    }

    /// A token with these roles.
    pub(crate) fn token_as(&self, account: AccountId, roles: &[Role]) -> String {
        let session: SessionId = Mint::new([4; 32]).id(account.slot(), 0);
        signer(&self.clock).issue(account, session, 0, roles).unwrap().token
    }

    /// Somebody with a confirmed address.
    pub(crate) async fn person(&self, name: &str) -> AccountId {
        let email: domain::text::EmailAddress =
            format!("{}@example.com", name.to_lowercase()).parse().unwrap();
        let register = RegisterAccount {
            name: name.parse().unwrap(),
            email: email.clone(),
            phone: None,
            locale: Locale::En,
            zone: None,
            as_provider: false,
            password_hash: "$argon2id$".to_owned(),
        };
        self.executor.execute(register, Origin::of(Actor::Anonymous, "t")).await.unwrap();
        let claim = self.log().claim_key(ClaimKind::Email, email.as_str());
        let account = AccountId::trusted(self.log().claim_owner(claim).await.unwrap().unwrap());
        let confirm = ConfirmEmail { account };
        self.executor.execute(confirm, Origin::of(Actor::Anonymous, "t")).await.unwrap();
        account
    }

    /// A classic shop, and the position of its opening.
    pub(crate) async fn shop(&self, owner: AccountId, slug: &str) -> (ProviderId, PositionToken) {
        let open = OpenProvider {
            business_name: slug.parse().unwrap(),
            slug: slug.parse().unwrap(),
            zone: Zone::SAO_PAULO,
            hourly_rate: None,
            weekly: None,
            policy: None,
            service: None,
        };
        let opened = self.executor.execute(open, origin(owner)).await.unwrap();
        (opened.outcome.provider, opened.positions)
    }

    pub(crate) async fn book(
        &self,
        client: AccountId,
        provider: ProviderId,
        start: &str,
    ) -> Executed<AppointmentStands> {
        let start = start.parse().unwrap();
        let booking = BookAppointment { provider, service: None, start, notes: None, hold: None };
        self.executor.execute(booking, origin(client)).await.unwrap()
    }

    /// Says that the read tables are applied up to the head.
    pub(crate) async fn tables_at_head(&self) -> u64 {
        let pool = self.log().pool();
        let from = checkpoints::get(pool, "read-tables", P).await.unwrap();
        let to = self.log().head(P).await.unwrap();
        let mut connection = pool.acquire().await.unwrap();
        checkpoints::advance(&mut connection, "read-tables", P, from, to, None).await.unwrap();
        to
    }

    /// Says that the cache is applied up to the head, as a projector's heartbeat does.
    pub(crate) async fn cache_at_head(&self) -> u64 {
        let head = self.log().head(P).await.unwrap();
        self.cache.apply(CacheBatch::heartbeat(P, head)).await.unwrap();
        head
    }

    pub(crate) async fn get(&self, path: &str, after: &str, token: Option<&str>) -> Answer {
        let mut request = http::Request::get(path);
        if !after.is_empty() {
            request = request.header("pontual-after", after);
        }
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let request = request.body(Body::empty()).unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer {
            status: parts.status.as_u16(),
            retry_after: parts
                .headers
                .get("retry-after")
                .map(|value| value.to_str().unwrap().to_owned()),
            body: serde_json::from_slice(&body).unwrap_or(Value::Null),
        }
    }
}

pub(crate) fn at(number: u64) -> Position {
    Position { partition: P, number }
}

pub(crate) fn origin(account: AccountId) -> Origin {
    Origin::of(Actor::Account { id: account, roles: vec![Role::Client] }, "t")
}

/// The `n`-th account, whom nobody registered.
pub(crate) fn account(n: u32) -> AccountId {
    Mint::new([9; 32]).id(RoutingSlot::from_bits(1), n)
}

/// An Ed25519 key in PKCS#8 PEM form is a fixed prefix and a seed.
fn signer(clock: &Arc<FrozenClock>) -> Signer {
    let prefix = [
        0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04,
        0x20,
    ];
    let text = STANDARD.encode([&prefix[..], &[1; 32]].concat());
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n");
    let clock = clock.clone();
    let now = Arc::new(move || event_log::Clock::now(&*clock));
    Signer::from_pem(pem.as_bytes(), Names::of("https://pontual.test"), now).unwrap()
}
