//! A world in memory: streams as the JSON they are stored as, claims, secrets, and a clock that stands still.
//!
//! It runs a command as the executor does: with nothing loaded at first, again and again while the command
//! stops for something missing, then appends everything or nothing. On the way it asserts what holds for
//! every command: each stream has the version it was decided at, and nobody's personal data is written
//! before they have a key.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use domain::account::{Account, ConfirmEmail, RegisterAccount};
use domain::actor::{Actor, Role};
use domain::agenda::Agenda;
use domain::aggregate::{Aggregate, StreamId, StreamKind, Version};
use domain::appointment::{Appointment, AppointmentStands, BookAppointment};
use domain::category::Category;
use domain::command::{
    self, ClaimHasher, ClaimKey, ClaimKind, Command, Facts, Loaded, SecretKey, Stop, Target, View,
};
use domain::event::Event;
use domain::hold::Hold;
use domain::hours::{Policy, WeeklyHours, Windows, Zone};
use domain::ids::{
    AccountId, AgendaId, AppointmentId, Id, Mint, ProviderId, RoutingSlot, ServiceId, SubjectId,
};
use domain::locale::Locale;
use domain::notification_feed::NotificationFeed;
use domain::provider::{Offer, OpenProvider, Provider};
use domain::series::Series;
use domain::session::Session;
use domain::waitlist::Waitlist;
use domain::{Instant, Refusal};
use uuid::Uuid;

/// Streams by what they are called, claims, secrets and the time.
pub(crate) struct World {
    pub(crate) now: Instant,
    streams: HashMap<StreamId, Vec<String>>,
    pub(crate) claims: HashMap<ClaimKey, Uuid>,
    pub(crate) secrets: BTreeMap<SecretKey, Vec<u8>>,
    subjects: BTreeSet<SubjectId>,
    pub(crate) erased: BTreeSet<SubjectId>,
    commands: u64,
}

/// What an accepted command did.
#[derive(Debug)]
pub(crate) struct Done<O> {
    pub(crate) outcome: O,
    /// Its events, by stream in the order of the append.
    pub(crate) events: Vec<(StreamId, Event)>,
    /// What it read and did not write.
    pub(crate) required: BTreeMap<StreamId, Version>,
    /// How often it was run.
    pub(crate) rounds: usize,
    /// Where its command row lives.
    pub(crate) slot: RoutingSlot,
    /// Whose data the sender's address is, where nobody is signed in.
    pub(crate) origin_of: Option<SubjectId>,
}

impl<O> Done<O> {
    pub(crate) fn names(&self) -> Vec<&'static str> {
        let mut names: Vec<_> = self.events.iter().map(|(_, event)| event.kind().0).collect();
        names.sort_unstable();
        names
    }
}

/// No secret here: the world is open.
pub(crate) struct PlainHasher;

impl ClaimHasher for PlainHasher {
    fn claim_key(&self, kind: ClaimKind, value: &str) -> ClaimKey {
        let mut hash = [0_u8; 32];
        for (i, byte) in kind.as_str().bytes().chain([0]).chain(value.bytes()).enumerate() {
            let cell = &mut hash[i % 32];
            *cell = cell.wrapping_mul(31).wrapping_add(byte);
        }
        ClaimKey { kind, hash }
    }
}

pub(crate) fn instant(text: &str) -> Instant {
    text.parse().unwrap()
}

impl World {
    /// Monday, 07:00 in São Paulo.
    pub(crate) fn new() -> Self {
        Self::at("2026-03-02T10:00:00Z")
    }

    pub(crate) fn at(now: &str) -> Self {
        Self {
            now: instant(now),
            streams: HashMap::new(),
            claims: HashMap::new(),
            secrets: BTreeMap::new(),
            subjects: BTreeSet::new(),
            erased: BTreeSet::new(),
            commands: 0,
        }
    }

    /// Runs a new command.
    pub(crate) fn run<C: Command>(
        &mut self,
        actor: &Actor,
        command: &C,
    ) -> Result<Done<C::Outcome>, Refusal> {
        self.commands += 1;
        self.run_as(self.commands, actor, command)
    }

    /// Runs the command of that number, once more if need be: it mints the same ids each time.
    pub(crate) fn run_as<C: Command>(
        &mut self,
        number: u64,
        actor: &Actor,
        command: &C,
    ) -> Result<Done<C::Outcome>, Refusal> {
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&number.to_be_bytes());
        let mut loaded: HashMap<StreamId, Loaded> = HashMap::new();
        let mut claims: HashMap<ClaimKey, Option<Uuid>> = HashMap::new();
        for rounds in 1..=16 {
            let facts = Facts {
                now: self.now,
                actor,
                if_match: None,
                mint: Mint::new(seed),
                claims_by: &PlainHasher,
                streams: &loaded,
                claims: &claims,
            };
            let view = View::new(&facts);
            let slot = command.target(&view).slot;
            let result = command::run(command, &view);
            let changes = view.into_changes();
            match result {
                Err(Stop::Refused(refusal)) => return Err(refusal),
                Err(Stop::Missing) => {
                    let (mut streams, keys) = (changes.missing_streams, changes.missing_claims);
                    streams.extend(changes.begun);
                    assert!(!streams.is_empty() || !keys.is_empty(), "it stopped for nothing");
                    if rounds == 1 {
                        let first = command::first_reads(command, actor);
                        loaded.extend(first.into_iter().map(|id| (id, self.load(id))));
                    }
                    loaded.extend(streams.into_iter().map(|id| (id, self.load(id))));
                    claims.extend(keys.into_iter().map(|k| (k, self.claims.get(&k).copied())));
                }
                Ok(outcome) => {
                    self.subjects.extend(changes.new_subjects);
                    assert!(self.subjects.is_disjoint(&self.erased), "an erased person got a key");
                    for (key, owner) in changes.take {
                        assert_eq!(self.claims.insert(key, owner), None, "it took a taken claim");
                    }
                    for (key, owner) in changes.release {
                        assert_eq!(self.claims.remove(&key), Some(owner));
                    }
                    for key in changes.drop {
                        assert!(!changes.put.contains_key(&key), "it puts and drops a secret");
                        self.secrets.remove(&key);
                    }
                    self.secrets.extend(changes.put);
                    let mut events = Vec::new();
                    for (stream, (version, new)) in changes.appends {
                        assert!(!new.is_empty() && !changes.required.contains_key(&stream));
                        assert_eq!(self.version(stream), version);
                        for event in new {
                            self.store(stream, &event);
                            events.push((stream, event));
                        }
                    }
                    for subject in changes.erase {
                        self.subjects.remove(&subject);
                        self.erased.insert(subject);
                    }
                    // What a retry or a client is told comes out of the log as it went in.
                    let json = serde_json::to_string(&outcome).unwrap();
                    let outcome = serde_json::from_str(&json).unwrap();
                    let (required, origin_of) = (changes.required, changes.origin_of);
                    return Ok(Done { outcome, events, required, rounds, slot, origin_of });
                }
            }
        }
        panic!("{} never had all it asked for", C::NAME);
    }

    /// What a command is about, for whoever sends it.
    pub(crate) fn target_of<C: Command>(&self, actor: &Actor, command: &C) -> Target {
        let facts = Facts {
            now: self.now,
            actor,
            if_match: None,
            mint: Mint::new([0; 32]),
            claims_by: &PlainHasher,
            streams: &HashMap::new(),
            claims: &HashMap::new(),
        };
        command.target(&View::new(&facts))
    }

    fn store(&mut self, stream: StreamId, event: &Event) {
        assert_eq!(event.stream_kind(), stream.kind);
        let payload = serde_json::to_value(event).unwrap();
        self.assert_sealable(&payload);
        self.streams.entry(stream).or_default().push(payload.to_string());
    }

    fn assert_sealable(&self, payload: &serde_json::Value) {
        use serde_json::Value;
        match payload {
            Value::Object(fields) => {
                for (name, value) in fields {
                    if name == "$personal" {
                        let subject = serde_json::from_value(value["subject"].clone()).unwrap();
                        assert!(self.subjects.contains(&subject), "{subject} has no key");
                    }
                    self.assert_sealable(value);
                }
            }
            Value::Array(items) => items.iter().for_each(|item| self.assert_sealable(item)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    pub(crate) fn version(&self, stream: StreamId) -> Version {
        self.streams.get(&stream).map_or(0, |events| events.len().try_into().unwrap())
    }

    pub(crate) fn load(&self, stream: StreamId) -> Loaded {
        let version = self.version(stream);
        match stream.kind {
            StreamKind::Account => Loaded::new(version, self.get::<Account>(stream.id)),
            StreamKind::Provider => Loaded::new(version, self.get::<Provider>(stream.id)),
            StreamKind::Agenda => Loaded::new(version, self.get::<Agenda>(stream.id)),
            StreamKind::Appointment => Loaded::new(version, self.get::<Appointment>(stream.id)),
            StreamKind::NotificationFeed => {
                Loaded::new(version, self.get::<NotificationFeed>(stream.id))
            }
            StreamKind::Session => Loaded::new(version, self.get::<Session>(stream.id)),
            StreamKind::Category => Loaded::new(version, self.get::<Category>(stream.id)),
            StreamKind::Hold => Loaded::new(version, self.get::<Hold>(stream.id)),
            StreamKind::Series => Loaded::new(version, self.get::<Series>(stream.id)),
            StreamKind::Waitlist => Loaded::new(version, self.get::<Waitlist>(stream.id)),
        }
    }

    /// The aggregate as its stored events make it.
    pub(crate) fn get<A: Folded>(&self, id: impl Into<Uuid>) -> A {
        let stream = StreamId { kind: A::KIND, id: id.into() };
        let mut state = A::default();
        for payload in self.streams.get(&stream).into_iter().flatten() {
            state.evolve(A::own(&Event::from_payload_str(stream.kind, payload).unwrap()).unwrap());
        }
        state
    }

    /// All events of a stream.
    pub(crate) fn history(&self, stream: StreamId) -> Vec<Event> {
        let stored = self.streams.get(&stream).into_iter().flatten();
        stored.map(|payload| Event::from_payload_str(stream.kind, payload).unwrap()).collect()
    }

    // ── People and shops ────────────────────────────────────────────────────────────────────────────────

    /// Somebody who registered but did not confirm their address.
    pub(crate) fn registered(&mut self, name: &str) -> Actor {
        let done = self.run(&Actor::Anonymous, &registration(name)).unwrap();
        let (stream, _) = done.events[0];
        Actor::Account { id: AccountId::trusted(stream.id), roles: vec![Role::Client] }
    }

    /// Somebody who may act.
    pub(crate) fn person(&mut self, name: &str) -> Actor {
        let actor = self.registered(name);
        let account = actor.account().unwrap();
        self.run(&Actor::Anonymous, &ConfirmEmail { account }).unwrap();
        actor
    }

    /// A shop and its owner.
    pub(crate) fn shop(&mut self, open: OpenProvider) -> Shop {
        let owner = self.person(&format!("owner of {}", open.slug).replace(['-', ' '], ""));
        let done = self.run(&owner, &open).unwrap();
        Shop { owner, id: done.outcome.provider, service: done.outcome.service }
    }

    /// A classic shop: one hour, 08:00–18:00 in São Paulo, bookings wait for the provider.
    pub(crate) fn classic(&mut self) -> Shop {
        self.shop(classic())
    }

    /// Books the only service.
    pub(crate) fn book(
        &mut self,
        actor: &Actor,
        shop: &Shop,
        start: &str,
    ) -> Result<Done<AppointmentStands>, Refusal> {
        let start = instant(start);
        self.run(
            actor,
            &BookAppointment { provider: shop.id, service: None, start, notes: None, hold: None },
        )
    }

    pub(crate) fn agenda(&self, shop: &Shop, day: &str) -> Agenda {
        self.get::<Agenda>(AgendaId::of(shop.id, day.parse().unwrap()))
    }

    pub(crate) fn appointment(&self, id: AppointmentId) -> domain::appointment::Booking {
        self.get::<Appointment>(id).booking.unwrap()
    }
}

/// A shop one can book with.
pub(crate) struct Shop {
    pub(crate) owner: Actor,
    pub(crate) id: ProviderId,
    pub(crate) service: ServiceId,
}

pub(crate) fn registration(name: &str) -> RegisterAccount {
    RegisterAccount {
        name: name.parse().unwrap(),
        email: format!("{name}@example.com").parse().unwrap(),
        phone: None,
        locale: Locale::PtBr,
        zone: None,
        as_provider: false,
        password_hash: format!("$argon2id${name}"),
    }
}

/// Opens a classic shop.
pub(crate) fn classic() -> OpenProvider {
    OpenProvider {
        business_name: "Salão da Bia".parse().unwrap(),
        slug: "salao-da-bia".parse().unwrap(),
        zone: Zone::SAO_PAULO,
        hourly_rate: None,
        weekly: None,
        policy: None,
        service: None,
    }
}

pub(crate) fn zone(name: &str) -> Zone {
    name.parse().unwrap()
}

pub(crate) fn policy(change: impl FnOnce(&mut Policy)) -> Option<Policy> {
    let mut policy = Policy::classic();
    change(&mut policy);
    Some(policy)
}

pub(crate) fn offer(change: impl FnOnce(&mut Offer)) -> Option<Offer> {
    let mut offer = Offer::classic(Locale::En);
    change(&mut offer);
    Some(offer)
}

pub(crate) fn windows(pairs: &[(&str, &str)]) -> Windows {
    let json: Vec<_> =
        pairs.iter().map(|(from, to)| serde_json::json!({ "from": from, "to": to })).collect();
    serde_json::from_value(json.into()).unwrap()
}

pub(crate) fn every_day(pairs: &[(&str, &str)]) -> WeeklyHours {
    let day = || windows(pairs);
    WeeklyHours {
        monday: day(),
        tuesday: day(),
        wednesday: day(),
        thursday: day(),
        friday: day(),
        saturday: day(),
        sunday: day(),
    }
}

/// The way from an event of any stream to one of this aggregate's.
pub(crate) trait Folded: Aggregate {
    fn own(event: &Event) -> Option<&Self::Event>;
}

macro_rules! folded {
    ($($aggregate:ident)*) => {$(
        impl Folded for $aggregate {
            fn own(event: &Event) -> Option<&Self::Event> {
                if let Event::$aggregate(event) = event { Some(event) } else { None }
            }
        }
    )*};
}

folded!(Account Provider Agenda Appointment NotificationFeed Session Category Hold Series Waitlist);
