//! What the tests share: events that say little, a projector that does as it is told, a small world.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use domain::account::{ConfirmEmail, RegisterAccount};
use domain::actor::{Actor, Role};
use domain::agenda::{Agenda, AgendaEvent};
use domain::aggregate::StreamId;
use domain::command::{ClaimHasher as _, ClaimKind};
use domain::hours::Zone;
use domain::ids::{AccountId, AgendaId, Id, Mint, ProviderId, RoutingSlot};
use domain::locale::Locale;
use domain::position::{Partition, PositionToken};
use domain::provider::{OpenProvider, ProviderIsOpen};
use event_log::{Append, CommandRow, EventLog, Executor, Origin, Recorded, checkpoints};
use projectors::jobs::erasure::Eraser;
use projectors::runner::{ApplyError, Batch, Projector};
use read_models::availability::InProcessCache;
use read_models::notifications::PostgresFeed;
use tokio::sync::Notify;

/// A lease short enough to wait for.
pub(crate) const LEASE: Duration = Duration::from_millis(1500);

/// The URL of a real server.
pub(crate) fn server(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| panic!("{variable} is not set: run scripts/test.sh"))
}

/// Waits until a condition holds.
pub(crate) async fn until<F: AsyncFnMut() -> bool>(what: &str, mut holds: F) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while !holds().await {
        assert!(tokio::time::Instant::now() < deadline, "it never happened: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Purges on Postgres alone.
pub(crate) fn eraser(log: &EventLog) -> Eraser {
    let partitions = log.partitions();
    Eraser {
        executor: Executor::new(log.clone()),
        feed: Arc::new(PostgresFeed::new(log.pool().clone(), partitions)),
        availability: Arc::new(InProcessCache::new(partitions, Default::default())),
        projectors: Eraser::PROJECTORS.to_vec(),
    }
}

/// The `n`-th agenda of a slot.
pub(crate) fn agenda(bits: u16, n: u32) -> StreamId {
    let slot = RoutingSlot::from_bits(bits);
    StreamId::of::<Agenda>(Mint::new([1; 32]).id::<AgendaId>(slot, n))
}

/// Appends so many events that say nothing to a stream that has `version` events.
pub(crate) async fn append(log: &EventLog, stream: StreamId, version: u64, count: u32) {
    let provider: ProviderId = Mint::new([2; 32]).id(stream.slot(), 0);
    let event = |n| {
        let appointment = Mint::new([3; 32]).id(stream.slot(), n);
        AgendaEvent::SlotFreed { provider, day: "2026-03-03".parse().unwrap(), appointment }.into()
    };
    let row = CommandRow::without_key(stream.slot(), log.clock().now(), "{}");
    let events = (0..count).map(event).collect();
    log.append(Append::new(row).events(stream, version, events)).await.unwrap();
}

/// Waits until a projector whose checkpoint is in Postgres has come to the heads.
pub(crate) async fn caught_up(log: &EventLog, projector: &str) {
    let heads = log.heads().await.unwrap();
    until(&format!("{projector} is at {heads}"), async || {
        let at = checkpoints::all(log.pool(), projector).await.unwrap();
        reaches(&at, &heads)
    })
    .await;
}

pub(crate) fn reaches(at: &PositionToken, heads: &PositionToken) -> bool {
    heads.positions().all(|head| at.number(head.partition) >= head.number)
}

/// What an obedient projector does with an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Apply,
    BeAway,
    BePoisoned,
    Panic,
    /// Wait at the gate, then apply.
    Wait,
}

/// A projector that remembers what it applied, and fails when it is told to. Its checkpoint is in Postgres.
pub(crate) struct Obedient {
    log: EventLog,
    parks: bool,
    orders: Mutex<HashMap<StreamId, Order>>,
    /// By stream, the positions applied, in order.
    applied: Mutex<Vec<(StreamId, Partition, u64)>>,
    /// When batches were tried.
    pub(crate) tries: Mutex<Vec<std::time::Instant>>,
    /// Rung when it stands at the gate.
    pub(crate) waits: Notify,
    pub(crate) gate: Notify,
    /// How often it was told that it idles.
    pub(crate) idled: AtomicUsize,
}

impl Obedient {
    pub(crate) const NAME: &'static str = "obedient";

    pub(crate) fn new(log: &EventLog, parks: bool) -> Arc<Self> {
        Arc::new(Self {
            log: log.clone(),
            parks,
            orders: Mutex::default(),
            applied: Mutex::default(),
            tries: Mutex::default(),
            waits: Notify::new(),
            gate: Notify::new(),
            idled: AtomicUsize::new(0),
        })
    }

    pub(crate) fn order(&self, stream: StreamId, order: Order) {
        self.orders.lock().unwrap().insert(stream, order);
    }

    /// The positions applied of a stream, in order.
    pub(crate) fn of(&self, stream: StreamId) -> Vec<u64> {
        let applied = self.applied.lock().unwrap();
        applied.iter().filter(|(of, ..)| *of == stream).map(|(.., number)| *number).collect()
    }

    pub(crate) fn count(&self) -> usize {
        self.applied.lock().unwrap().len()
    }

    /// By partition, the positions applied, in order.
    pub(crate) fn by_partition(&self) -> HashMap<Partition, Vec<u64>> {
        let mut all: HashMap<Partition, Vec<u64>> = HashMap::new();
        for (_, partition, number) in &*self.applied.lock().unwrap() {
            all.entry(*partition).or_default().push(*number);
        }
        all
    }
}

#[async_trait]
impl Projector for Obedient {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn document(&self, event: &Recorded) -> Option<String> {
        Some(event.stream.to_string())
    }

    fn parks(&self) -> bool {
        self.parks
    }

    async fn position(&self, partition: Partition) -> Result<u64, ApplyError> {
        Ok(checkpoints::get(self.log.pool(), Self::NAME, partition).await?)
    }

    async fn apply(&self, batch: &Batch<'_>) -> Result<(), ApplyError> {
        self.tries.lock().unwrap().push(std::time::Instant::now());
        for event in &batch.events {
            let order = self.orders.lock().unwrap().get(&event.stream).copied();
            match order.unwrap_or(Order::Apply) {
                Order::Apply => {}
                Order::BeAway => return Err(ApplyError::Away("told to be away".into())),
                Order::BePoisoned => return Err(ApplyError::Poison("told to be poisoned".into())),
                Order::Panic => panic!("told to panic"),
                Order::Wait => {
                    self.waits.notify_one();
                    self.gate.notified().await;
                }
            }
        }
        let mut transaction = self.log.pool().begin().await?;
        batch.advance(&mut transaction, Self::NAME).await?;
        let done = batch.events.iter().map(|e| (e.stream, e.at.partition, e.at.number));
        let done: Vec<_> = done.collect();
        // Before the commit: whoever sees the checkpoint sees these, too.
        self.applied.lock().unwrap().extend(&done);
        let committed = transaction.commit().await;
        if committed.is_err() {
            self.applied.lock().unwrap().retain(|event| !done.contains(event));
        }
        Ok(committed?)
    }

    async fn idle(&self, _partition: Partition, _at: u64) -> Result<(), ApplyError> {
        self.idled.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

pub(crate) fn origin(actor: &Actor) -> Origin {
    Origin::of(actor.clone(), "trace-1")
}

/// Registers an account.
pub(crate) async fn register(executor: &Executor, name: &str) -> AccountId {
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
    executor.execute(register, origin(&Actor::Anonymous)).await.unwrap();
    let claim = executor.log().claim_key(ClaimKind::Email, email.as_str());
    AccountId::trusted(executor.log().claim_owner(claim).await.unwrap().unwrap())
}

/// Registers an account and confirms its address.
pub(crate) async fn person(executor: &Executor, name: &str) -> Actor {
    let id = register(executor, name).await;
    executor.execute(ConfirmEmail { account: id }, origin(&Actor::Anonymous)).await.unwrap();
    Actor::Account { id, roles: vec![Role::Client] }
}

/// Opens a classic shop of this account.
pub(crate) async fn shop(
    executor: &Executor,
    owner: &Actor,
    slug: &str,
    policy: Option<domain::hours::Policy>,
) -> ProviderIsOpen {
    let open = OpenProvider {
        business_name: slug.parse().unwrap(),
        slug: slug.parse().unwrap(),
        zone: Zone::SAO_PAULO,
        hourly_rate: None,
        weekly: None,
        policy,
        service: None,
    };
    executor.execute(open, origin(owner)).await.unwrap().outcome
}
