//! Commands that span streams: load, authorize, decide, as one pure function that is simply run again
//! until everything it asked for is there.
//!
//! A [`Command`] sees the world through a [`View`]. When it asks for a stream that is not loaded yet, the
//! view notes it and answers [`Stop::Missing`]; `?` ends the run, the executor (in `event-log`) loads what
//! was noted and runs the command again. So a command needs no `await`, no trait for storage, and no mock:
//! `BookAppointment` asks for its provider, then for the agendas its time touches, then emits to them.
//!
//! What a run did is collected in [`Changes`]: events per stream with the version they were decided at,
//! streams that must not have moved, claims, and secrets. The executor appends it all or nothing.

use std::any::Any;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::actor::Actor;
use crate::aggregate::{Aggregate, Context, StreamId, Version};
use crate::event::Event;
use crate::ids::{Mint, RoutingSlot, SubjectId};
use crate::{Instant, Refusal};

/// An order that may read and write several streams.
pub trait Command: Send + Sync + 'static {
    /// Its name, which is also its operationId: `BookAppointment`.
    const NAME: &'static str;

    /// Ids and versions, kept with the command for retries. Never personal data, never tokens.
    type Outcome: Serialize + DeserializeOwned + Clone + Send + Sync + 'static;

    /// What it is aimed at: the command's own row lives in that slot's partition.
    fn target(&self, view: &View<'_>) -> Target;

    /// Streams it will surely ask for, so that one round trip loads them all. A hint, nothing more.
    fn reads(&self) -> Vec<StreamId> {
        Vec::new()
    }

    /// The stream most racers for the same thing meet at: commands that name the same one queue in the
    /// process, so that none starves.
    fn queue(&self) -> Option<StreamId> {
        None
    }

    /// Who may do this to that: the one rule of this command.
    fn authorize(&self, view: &View<'_>) -> Result<(), Stop>;

    /// Guards, then changes.
    fn decide(&self, view: &View<'_>) -> Result<Self::Outcome, Stop>;
}

/// One run of a command: the standing of whoever asks, the command's own rule, the version that was asked for, its
/// decision. There is no other way to run one, so a deactivated account gets nothing done, whatever its token still says;
/// and whoever may not know a thing does not hear its version.
pub fn run<C: Command>(command: &C, view: &View<'_>) -> Result<C::Outcome, Stop> {
    crate::account::in_good_standing(view)?;
    command.authorize(view)?;
    view.at_the_version_asked_for(command.target(view).stream)?;
    command.decide(view)
}

/// What [`run`] will surely ask for.
pub fn first_reads<C: Command>(command: &C, actor: &Actor) -> BTreeSet<StreamId> {
    let sender = actor.account().map(StreamId::of::<crate::account::Account>);
    command.reads().into_iter().chain(sender).collect()
}

/// All of what is asked for, or why not; everything is asked for before stopping, so that one round trip brings it.
pub(crate) fn every<T>(asked: impl IntoIterator<Item = Result<T, Stop>>) -> Result<Vec<T>, Stop> {
    let (mut all, mut missing) = (Vec::new(), false);
    for one in asked {
        match one {
            Ok(one) => all.push(one),
            Err(Stop::Missing) => missing = true,
            Err(refused @ Stop::Refused(_)) => return Err(refused),
        }
    }
    if missing { Err(Stop::Missing) } else { Ok(all) }
}

/// What a command is aimed at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Routes the command's row.
    pub slot: RoutingSlot,
    /// Names the target within (actor, operation, target, key); an id or a keyed hash, never an address.
    pub name: String,
    /// The stream whose version `If-Match` names; `None` where the target has none.
    pub stream: Option<StreamId>,
}

impl Target {
    /// The aggregate the command is about.
    pub fn stream<A: Aggregate>(id: A::Id) -> Self {
        let stream = StreamId::of::<A>(id);
        Self { slot: stream.slot(), name: stream.to_string(), stream: Some(stream) }
    }

    /// Something without a stream: an address, a slug, nobody.
    pub fn named(slot: RoutingSlot, name: String) -> Self {
        Self { slot, name, stream: None }
    }
}

/// Why a run of a command ended without an outcome.
#[derive(Debug, Clone, PartialEq)]
pub enum Stop {
    /// Something it asked for is not loaded; the view knows what.
    Missing,
    /// It may not, or cannot, be done.
    Refused(Refusal),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// What may be claimed by one owner at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ClaimKind {
    /// An account's email address, lower case.
    Email,
    /// A provider's slug.
    Slug,
    /// An account's one shop; the value is the account's id.
    Shop,
    /// A category's slug.
    CategorySlug,
}

impl ClaimKind {
    /// As stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Email => "email",
            Self::Slug => "slug",
            Self::Shop => "shop",
            Self::CategorySlug => "category-slug",
        }
    }
}

/// A claim as it is stored: a kind and the keyed hash of the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClaimKey {
    /// What is claimed.
    pub kind: ClaimKind,
    /// The keyed hash; its first twelve bits are the claim's slot.
    pub hash: [u8; 32],
}

impl ClaimKey {
    /// The first half of the hash, for where a name will do.
    pub fn half(&self) -> [u8; 16] {
        let (half, _) = self.hash.split_first_chunk().expect("a hash has 32 bytes");
        *half
    }

    /// Where the claim lives.
    pub fn slot(&self) -> RoutingSlot {
        RoutingSlot::from_bits(u16::from_be_bytes([self.hash[0], self.hash[1]]) >> 4)
    }
}

/// Hashes claim values with a secret key, so that the table cannot be searched by guessing.
pub trait ClaimHasher: Send + Sync {
    /// The key of this claim.
    fn claim_key(&self, kind: ClaimKind, value: &str) -> ClaimKey;
}

/// Secrets kept beside the log, never in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SecretKind {
    /// An account's password hash, in PHC string form.
    PasswordHash,
    /// SHA-256 of the token in an account's last mail to reset its password.
    PasswordReset,
    /// A session's [`crate::session::RefreshRecord`].
    Refresh,
}

impl SecretKind {
    /// As stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PasswordHash => "password-hash",
            Self::PasswordReset => "password-reset",
            Self::Refresh => "refresh",
        }
    }
}

/// A secret's place: whose, and which.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SecretKey {
    /// Whose secret it is; its slot routes it.
    pub owner: Uuid,
    /// Which secret.
    pub kind: SecretKind,
}

/// Everything a run of a command may know.
pub struct Facts<'a> {
    /// The instant of the decision: the clock, but at least the last `recorded_at` that was read.
    pub now: Instant,
    /// Who asks.
    pub actor: &'a Actor,
    /// The version the target must have, if whoever asks insists on one (`If-Match`).
    pub if_match: Option<Version>,
    /// The command's ids.
    pub mint: Mint,
    /// Hashes claims.
    pub claims_by: &'a dyn ClaimHasher,
    /// Streams loaded so far.
    pub streams: &'a HashMap<StreamId, Loaded>,
    /// Claims looked up so far, with their owners.
    pub claims: &'a HashMap<ClaimKey, Option<Uuid>>,
}

/// One loaded stream.
#[derive(Clone)]
pub struct Loaded {
    /// How many events it has; 0 when it does not exist.
    pub version: Version,
    /// The aggregate, of the type its kind says.
    pub state: Arc<dyn Any + Send + Sync>,
}

impl Loaded {
    /// A loaded aggregate.
    pub fn new<A: Aggregate>(version: Version, state: A) -> Self {
        Self { version, state: Arc::new(state) }
    }
}

/// What a run wants to change, and what it lacked.
#[derive(Default)]
pub struct Changes {
    /// Events per stream, with the version they were decided at.
    pub appends: BTreeMap<StreamId, (Version, Vec<Event>)>,
    /// Streams that were read and must still have this version.
    pub required: BTreeMap<StreamId, Version>,
    /// Claims to take, with their owner.
    pub take: BTreeMap<ClaimKey, Uuid>,
    /// Claims to release, with the owner who holds them.
    pub release: BTreeMap<ClaimKey, Uuid>,
    /// Secrets to put.
    pub put: BTreeMap<SecretKey, Vec<u8>>,
    /// Secrets to drop.
    pub drop: BTreeSet<SecretKey>,
    /// Subjects whose data key must exist before this is appended (their first personal data).
    pub new_subjects: BTreeSet<SubjectId>,
    /// Subjects whose data key is destroyed with this append; they never get another.
    pub erase: BTreeSet<SubjectId>,
    /// Whose data the sender's address and user agent are, where nobody is signed in.
    pub origin_of: Option<SubjectId>,
    /// Streams it asked for that were not loaded.
    pub missing_streams: BTreeSet<StreamId>,
    /// Those whose id this command made: nobody else can have written them, so they need not be looked at. With a key
    /// for retries an earlier attempt may have; then that they are new is checked at append, like any version.
    pub begun: BTreeSet<StreamId>,
    /// Claims it asked about that were not looked up.
    pub missing_claims: BTreeSet<ClaimKey>,
}

/// Secrets are named, never printed.
impl fmt::Debug for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            appends,
            required,
            take,
            release,
            put,
            drop,
            new_subjects,
            erase,
            origin_of,
            missing_streams,
            begun,
            missing_claims,
        } = self;
        f.debug_struct("Changes")
            .field("appends", appends)
            .field("required", required)
            .field("take", take)
            .field("release", release)
            .field("put", &put.keys())
            .field("drop", drop)
            .field("new_subjects", new_subjects)
            .field("erase", erase)
            .field("origin_of", origin_of)
            .field("missing_streams", missing_streams)
            .field("begun", begun)
            .field("missing_claims", missing_claims)
            .finish()
    }
}

/// A command's window on the world.
pub struct View<'a> {
    facts: &'a Facts<'a>,
    changes: RefCell<Changes>,
}

impl<'a> View<'a> {
    /// A fresh run over these facts.
    pub fn new(facts: &'a Facts<'a>) -> Self {
        Self { facts, changes: RefCell::default() }
    }

    /// What the run did.
    pub fn into_changes(self) -> Changes {
        self.changes.into_inner()
    }

    /// The instant of the decision.
    pub fn now(&self) -> Instant {
        self.facts.now
    }

    /// Who asks.
    pub fn actor(&self) -> &'a Actor {
        self.facts.actor
    }

    /// The ids of this command.
    pub fn mint(&self) -> &'a Mint {
        &self.facts.mint
    }

    /// Reads a stream the decision depends on: at append it must still have this version. An aggregate
    /// that does not exist is its `Default`.
    pub fn load<A: Aggregate>(&self, id: A::Id) -> Result<&'a A, Stop> {
        let stream = StreamId::of::<A>(id);
        let (version, state) = self.read::<A>(id)?;
        let mut changes = self.changes.borrow_mut();
        if !changes.appends.contains_key(&stream) {
            changes.required.insert(stream, version);
        }
        Ok(state)
    }

    /// Reads a stream without requiring it to stay as it is; what it got wrong a reactor mends.
    pub fn consult<A: Aggregate>(&self, id: A::Id) -> Result<&'a A, Stop> {
        Ok(self.read::<A>(id)?.1)
    }

    /// The version of a stream, as loaded.
    pub fn version<A: Aggregate>(&self, id: A::Id) -> Result<Version, Stop> {
        Ok(self.read::<A>(id)?.0)
    }

    /// Decides one aggregate's command and emits its events.
    pub fn decide<A: Aggregate>(
        &self,
        id: A::Id,
        command: A::Command,
    ) -> Result<Vec<A::Event>, Stop>
    where
        Event: From<A::Event>,
    {
        debug_assert!(
            !self.changes.borrow().appends.contains_key(&StreamId::of::<A>(id)),
            "a stream is decided once per run: a second decision would not see the first one's events"
        );
        let events = self.load::<A>(id)?.decide(command, &Context { now: self.facts.now })?;
        self.emit::<A>(id, events.clone())?;
        Ok(events)
    }

    /// Emits events to a stream. Each stream is emitted to once per run.
    pub fn emit<A: Aggregate>(&self, id: A::Id, events: Vec<A::Event>) -> Result<(), Stop>
    where
        Event: From<A::Event>,
    {
        let stream = StreamId::of::<A>(id);
        let (version, _) = self.read::<A>(id)?;
        if events.is_empty() {
            return Ok(());
        }
        let mut changes = self.changes.borrow_mut();
        changes.required.remove(&stream);
        let entry = changes.appends.entry(stream).or_insert_with(|| (version, Vec::new()));
        entry.1.extend(events.into_iter().map(Event::from));
        Ok(())
    }

    /// The key of a claim.
    pub fn claim_key(&self, kind: ClaimKind, value: &str) -> ClaimKey {
        self.facts.claims_by.claim_key(kind, value)
    }

    /// Who holds a claim.
    pub fn claim_owner(&self, key: ClaimKey) -> Result<Option<Uuid>, Stop> {
        match self.facts.claims.get(&key) {
            Some(owner) => Ok(*owner),
            None => {
                self.changes.borrow_mut().missing_claims.insert(key);
                Err(Stop::Missing)
            }
        }
    }

    /// Takes a claim for `owner`. That nobody else holds it is checked now and again at append.
    pub fn take_claim(&self, key: ClaimKey, owner: Uuid) -> Result<(), Stop> {
        match self.claim_owner(key)? {
            Some(holder) if holder != owner => Err(Refusal::Claimed(key.kind).into()),
            Some(_) => Ok(()),
            None => {
                self.changes.borrow_mut().take.insert(key, owner);
                Ok(())
            }
        }
    }

    /// Releases a claim `owner` holds.
    pub fn release_claim(&self, key: ClaimKey, owner: Uuid) {
        self.changes.borrow_mut().release.insert(key, owner);
    }

    /// Stores a secret with the append.
    pub fn put_secret(&self, key: SecretKey, value: Vec<u8>) {
        self.changes.borrow_mut().put.insert(key, value);
    }

    /// Destroys a secret with the append.
    pub fn drop_secret(&self, key: SecretKey) {
        self.changes.borrow_mut().drop.insert(key);
    }

    /// Says that this run writes the first personal data of a subject, so that its data key is made in the
    /// same append.
    pub fn new_subject(&self, subject: impl Into<SubjectId>) {
        self.changes.borrow_mut().new_subjects.insert(subject.into());
    }

    /// Destroys a subject's data key with the append: nobody can read their data any more, and they never
    /// get another key.
    pub fn erase_subject(&self, subject: impl Into<SubjectId>) {
        self.changes.borrow_mut().erase.insert(subject.into());
    }

    /// Says whose data the sender's address and user agent are, where the sender proved who they are but is
    /// not signed in. Else they would be kept as nobody's, and outlive the person's erasure.
    pub fn sent_by(&self, subject: impl Into<SubjectId>) {
        self.changes.borrow_mut().origin_of = Some(subject.into());
    }

    /// That the target is at the version that was asked for, and stays there until the append.
    fn at_the_version_asked_for(&self, target: Option<StreamId>) -> Result<(), Stop> {
        let Some(wanted) = self.facts.if_match else { return Ok(()) };
        let Some(stream) = target else {
            return Err(Refusal::AnotherVersion { current: None }.into());
        };
        let mut changes = self.changes.borrow_mut();
        let Some(loaded) = self.facts.streams.get(&stream) else {
            changes.missing_streams.insert(stream);
            return Err(Stop::Missing);
        };
        if loaded.version != wanted {
            return Err(Refusal::AnotherVersion { current: Some(loaded.version) }.into());
        }
        changes.required.insert(stream, wanted);
        Ok(())
    }

    fn read<A: Aggregate>(&self, id: A::Id) -> Result<(Version, &'a A), Stop> {
        let stream = StreamId::of::<A>(id);
        let Some(loaded) = self.facts.streams.get(&stream) else {
            let mut changes = self.changes.borrow_mut();
            let begun = self.facts.mint.made(id);
            if begun { &mut changes.begun } else { &mut changes.missing_streams }.insert(stream);
            return Err(Stop::Missing);
        };
        let state = loaded.state.downcast_ref::<A>().expect("a stream's kind decides its type");
        Ok((loaded.version, state))
    }
}
