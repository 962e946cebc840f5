//! Events → the notification feed: one document per recipient and event, and the marks of what was read.
//!
//! For example `AppointmentBooked` at 3:18 is a `new_booking` for the provider's account, named `3:18`. A
//! crash between data and checkpoint repeats the batch, and the same documents are the same: a notification
//! says what was true at its event, whenever it is written.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use domain::Instant;
use domain::aggregate::{StreamId, Version};
use domain::appointment::{Appointment, AppointmentEvent, Parties, Side, Status, Terms};
use domain::event::Event;
use domain::ids::{AccountId, AppointmentId, Id, ProviderId};
use domain::notification_feed::NotificationFeedEvent;
use domain::position::{Partition, Position};
use domain::provider::{Provider, ProviderEvent};
use domain::series::{BookedOccurrence, SeriesEvent};
use domain::waitlist::WaitlistEvent;
use event_log::{EventLog, Recorded};
use moka::sync::Cache;
use read_models::fanout::Fanout;
use read_models::notifications::{
    FeedBatch, NewNotification, NotificationFeed, NotificationKind, PartyName, ReadMark,
};
use uuid::Uuid;

use crate::push::notification_hints;
use crate::runner::{ApplyError, Batch, Move, Projector};

/// The projector. Its checkpoint is the feed's own, written with or after the data.
pub struct NotificationsProjector {
    log: EventLog,
    feed: Arc<dyn NotificationFeed>,
    /// Where hints go, when fan-out is shared; a process' own fan-out is fed by [`crate::push`].
    shared_fanout: Option<Arc<dyn Fanout>>,
    shops: Cache<ProviderId, Arc<ShopNames>>,
}

/// What a shop was called when. Opened personal data: kept for a minute at most.
#[derive(Clone, Default)]
struct ShopNames {
    /// How many of its events were looked at.
    version: Version,
    /// Up to which event of the partition it is complete.
    through: u64,
    /// Each name, and the event it begins with.
    names: Vec<(u64, Option<PartyName>)>,
}

/// How many shops' names are kept, and for how long.
const SHOPS: u64 = 10_000;
const KEEP: Duration = Duration::from_secs(60);
/// How many events of a shop are read at a time.
const PAGE: u32 = 500;

impl NotificationsProjector {
    /// Its name.
    pub const NAME: &'static str = "notifications";

    /// Into this feed.
    pub fn new(
        log: EventLog,
        feed: Arc<dyn NotificationFeed>,
        shared_fanout: Option<Arc<dyn Fanout>>,
    ) -> Self {
        let shops = Cache::builder().max_capacity(SHOPS).time_to_live(KEEP).build();
        Self { log, feed, shared_fanout, shops }
    }

    /// What a shop was called at an event; `until` is the last event of the batch. A later name is not told, so
    /// that a rebuild tells what was told the first time.
    async fn shop_name(
        &self,
        provider: ProviderId,
        at: Position,
        until: u64,
    ) -> Result<Option<PartyName>, ApplyError> {
        let mut shop = self.shops.get(&provider).unwrap_or_default();
        if shop.through < at.number {
            let known = Arc::make_mut(&mut shop);
            loop {
                let stream = StreamId::of::<Provider>(provider);
                let page = self.log.stream(stream, known.version, PAGE).await?;
                for recorded in &page {
                    known.version = recorded.sequence;
                    if let Event::Provider(
                        ProviderEvent::ProviderOpened { business_name, .. }
                        | ProviderEvent::ProfileChanged { business_name, .. },
                    ) = &recorded.event
                    {
                        let name = business_name.known().map(PartyName::from);
                        known.names.push((recorded.at.number, name));
                    }
                }
                if u32::try_from(page.len()).is_ok_and(|len| len < PAGE) {
                    break;
                }
            }
            known.through = until.max(at.number);
            self.shops.insert(provider, shop.clone());
        }
        let then = shop.names.iter().rev().find(|(since, _)| *since <= at.number);
        Ok(then.and_then(|(_, name)| name.clone()))
    }

    /// The notification of one notice, with what is needed from the appointment and the provider.
    async fn notification(
        &self,
        recorded: &Recorded,
        Told { notice, recipient, about }: Told,
        until: u64,
    ) -> Result<NewNotification, ApplyError> {
        let About { appointment, start, old_start } = about;
        let loaded;
        let terms: &Terms =
            if let Event::Appointment(AppointmentEvent::AppointmentBooked { terms, .. }) =
                &recorded.event
            {
                terms
            } else {
                loaded = self.log.load_at_least::<Appointment>(appointment, recorded.at).await?;
                let booking = loaded.state.booking.as_ref();
                &booking
                    .ok_or_else(|| ApplyError::Poison("the appointment was never booked".into()))?
                    .terms
            };
        let parties = terms.parties();
        let service_name = terms.service_name.known().cloned();
        let (other, other_name, service_name) = match notice.to {
            Side::Provider => {
                let name = terms.contact.known().map(|contact| PartyName::from(&contact.name));
                (parties.client.subject(), name, service_name)
            }
            Side::Client => {
                let name = self.shop_name(parties.provider, recorded.at, until).await?;
                // What a shop calls its services goes with its own name: a purge looks for both by that.
                let service_name = service_name.filter(|_| name.is_some());
                (parties.provider_account.into(), name, service_name)
            }
        };
        Ok(NewNotification {
            recipient,
            at: recorded.at,
            recorded_at: recorded.recorded_at,
            kind: notice.kind,
            appointment: Some(appointment),
            hold: None,
            provider: parties.provider,
            other,
            other_name,
            service_name,
            start,
            old_start,
            zone: terms.zone,
        })
    }
}

impl NotificationsProjector {
    /// The notification of an offer, with what the shop and its service were called then.
    async fn offer(
        &self,
        recorded: &Recorded,
        event: &WaitlistEvent,
    ) -> Result<Option<NewNotification>, ApplyError> {
        let WaitlistEvent::SlotOffered { provider, provider_account, zone, wait, offer } = event
        else {
            return Ok(None);
        };
        let then = self.log.load_until::<Provider>(*provider, recorded.at).await?.state;
        let shop = then.shop.as_ref().and_then(|shop| shop.business_name.known());
        let service = then.services.get(&wait.service).and_then(|service| service.name.known());
        Ok(Some(NewNotification {
            recipient: wait.account,
            at: recorded.at,
            recorded_at: recorded.recorded_at,
            kind: NotificationKind::WaitlistOffer,
            appointment: None,
            hold: Some(offer.hold),
            provider: *provider,
            other: (*provider_account).into(),
            other_name: shop.map(PartyName::from),
            service_name: service.filter(|_| shop.is_some()).cloned(),
            start: offer.slot.start,
            old_start: None,
            zone: *zone,
        }))
    }
}

#[async_trait]
impl Projector for NotificationsProjector {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn document(&self, event: &Recorded) -> Option<String> {
        match &event.event {
            Event::Appointment(_) | Event::Series(_) | Event::Waitlist(_) => {
                Some(event.at.to_string())
            }
            Event::NotificationFeed(_) => Some(event.stream.to_string()),
            Event::Account(_)
            | Event::Provider(_)
            | Event::Agenda(_)
            | Event::Session(_)
            | Event::Category(_)
            | Event::Hold(_) => None,
        }
    }

    async fn position(&self, partition: Partition) -> Result<u64, ApplyError> {
        Ok(self.feed.applied(partition).await?)
    }

    async fn apply(&self, batch: &Batch<'_>) -> Result<(), ApplyError> {
        let Move { from, to } = batch.checkpoint.unwrap_or(Move { from: 0, to: 0 });
        let (mut notifications, mut marks) = (Vec::new(), Vec::new());
        let until = batch.events.last().map_or(to, |last| last.at.number);
        for recorded in &batch.events {
            match &recorded.event {
                Event::Appointment(_) | Event::Series(_) => {
                    for told in told(&recorded.event, recorded.stream.id) {
                        notifications.push(self.notification(recorded, told, until).await?);
                    }
                }
                Event::Waitlist(event) => notifications.extend(self.offer(recorded, event).await?),
                Event::NotificationFeed(event) => marks.push(mark(recorded, event)),
                Event::Account(_)
                | Event::Provider(_)
                | Event::Agenda(_)
                | Event::Session(_)
                | Event::Category(_)
                | Event::Hold(_) => {}
            }
        }
        let partition = batch.partition;
        self.feed.apply(FeedBatch { partition, from, to, notifications, marks }).await?;
        if let Some(fanout) = &self.shared_fanout {
            fanout.publish(&notification_hints(&batch.events)).await;
        }
        Ok(())
    }
}

/// Who is told what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Notice {
    to: Side,
    kind: NotificationKind,
}

impl Notice {
    /// Whose feed it goes into: a guest has none.
    fn recipient(self, parties: &Parties) -> Option<AccountId> {
        match self.to {
            Side::Client => parties.client.account(),
            Side::Provider => Some(parties.provider_account),
        }
    }
}

/// What a notification is about.
#[derive(Debug, Clone, Copy)]
struct About {
    appointment: AppointmentId,
    start: Instant,
    old_start: Option<Instant>,
}

impl About {
    fn of(id: Uuid, event: &AppointmentEvent) -> Self {
        let (start, old_start) = match event {
            AppointmentEvent::AppointmentRescheduled { from, to, .. } => {
                (to.start, Some(from.start))
            }
            AppointmentEvent::AppointmentBooked { slot, .. }
            | AppointmentEvent::AppointmentConfirmed { slot, .. }
            | AppointmentEvent::AppointmentDeclined { slot, .. }
            | AppointmentEvent::AppointmentCancelled { slot, .. }
            | AppointmentEvent::AppointmentExpired { slot, .. }
            | AppointmentEvent::AppointmentCompleted { slot, .. }
            | AppointmentEvent::AppointmentMissed { slot, .. }
            | AppointmentEvent::AppointmentNoted { slot, .. }
            | AppointmentEvent::GuestErased { slot, .. } => (slot.start, None),
        };
        Self { appointment: AppointmentId::trusted(id), start, old_start }
    }

    /// The first of a series that an event of the series names.
    fn first(occurrences: &[BookedOccurrence]) -> Option<Self> {
        let BookedOccurrence { number: _, appointment, slot } = occurrences.first()?;
        Some(Self { appointment: *appointment, start: slot.start, old_start: None })
    }
}

const fn other(side: Side) -> Side {
    match side {
        Side::Client => Side::Provider,
        Side::Provider => Side::Client,
    }
}

/// Whom an event of a series concerns who did not cause it.
fn series_notices(event: &SeriesEvent) -> [Option<Notice>; 2] {
    match event {
        SeriesEvent::SeriesBooked { series } => [
            Some(Notice { to: Side::Provider, kind: NotificationKind::NewSeries }),
            (series.status == Status::Confirmed)
                .then_some(Notice { to: Side::Client, kind: NotificationKind::SeriesConfirmed }),
        ],
        SeriesEvent::SeriesCancelled { parties: _, by, cancelled: _ } => {
            [Some(Notice { to: other(*by), kind: NotificationKind::SeriesCancelled }), None]
        }
    }
}

/// Whom an event concerns who did not cause it. A booking that is confirmed at once concerns both. What is booked or called
/// off with a series is told once, by the series.
fn notices(event: &AppointmentEvent) -> [Option<Notice>; 2] {
    let notice = |to, kind| Some(Notice { to, kind });
    match event {
        AppointmentEvent::AppointmentBooked { terms, .. } if terms.series.is_some() => [None, None],
        AppointmentEvent::AppointmentCancelled { with_series: true, .. } => [None, None],
        AppointmentEvent::AppointmentBooked { status, by, .. } => [
            (*by == Side::Client)
                .then_some(Notice { to: Side::Provider, kind: NotificationKind::NewBooking }),
            (*status == Status::Confirmed)
                .then_some(Notice { to: Side::Client, kind: NotificationKind::BookingConfirmed }),
        ],
        AppointmentEvent::AppointmentConfirmed { .. } => {
            [notice(Side::Client, NotificationKind::BookingConfirmed), None]
        }
        AppointmentEvent::AppointmentDeclined { .. } => {
            [notice(Side::Client, NotificationKind::BookingDeclined), None]
        }
        AppointmentEvent::AppointmentCancelled { by, .. } => {
            [notice(other(*by), NotificationKind::BookingCancelled), None]
        }
        AppointmentEvent::AppointmentRescheduled { by, .. } => {
            [notice(other(*by), NotificationKind::BookingRescheduled), None]
        }
        AppointmentEvent::AppointmentExpired { .. } => [
            notice(Side::Client, NotificationKind::BookingExpired),
            notice(Side::Provider, NotificationKind::BookingExpired),
        ],
        AppointmentEvent::AppointmentCompleted { .. } => {
            [notice(Side::Client, NotificationKind::BookingCompleted), None]
        }
        AppointmentEvent::AppointmentMissed { .. } => {
            [notice(Side::Client, NotificationKind::BookingMissed), None]
        }
        // Nobody else's business.
        AppointmentEvent::AppointmentNoted { .. } | AppointmentEvent::GuestErased { .. } => {
            [None, None]
        }
    }
}

/// A notice that goes into a feed.
#[derive(Debug, Clone, Copy)]
struct Told {
    notice: Notice,
    recipient: AccountId,
    about: About,
}

/// The notices that go into a feed, of an event of the stream with that id.
fn told(event: &Event, stream: Uuid) -> Vec<Told> {
    let (notices, parties, about) = match event {
        Event::Appointment(event) => {
            (notices(event), event.parties(), Some(About::of(stream, event)))
        }
        Event::Series(event) => {
            let occurrences = match event {
                SeriesEvent::SeriesBooked { series } => &series.booked,
                SeriesEvent::SeriesCancelled { parties: _, by: _, cancelled } => cancelled,
            };
            (series_notices(event), event.parties(), About::first(occurrences))
        }
        Event::Account(_)
        | Event::Provider(_)
        | Event::Agenda(_)
        | Event::NotificationFeed(_)
        | Event::Session(_)
        | Event::Category(_)
        | Event::Hold(_)
        | Event::Waitlist(_) => return Vec::new(),
    };
    let told = |notice: Notice| {
        Some(Told { notice, recipient: notice.recipient(&parties)?, about: about? })
    };
    notices.into_iter().flatten().filter_map(told).collect()
}

/// The accounts whose feed an event changes.
pub(crate) fn recipients(recorded: &Recorded) -> Vec<AccountId> {
    if let Event::Waitlist(WaitlistEvent::SlotOffered { wait, .. }) = &recorded.event {
        return vec![wait.account];
    }
    let told = told(&recorded.event, recorded.stream.id);
    told.into_iter().map(|told| told.recipient).collect()
}

fn mark(recorded: &Recorded, event: &NotificationFeedEvent) -> ReadMark {
    match event {
        NotificationFeedEvent::NotificationRead { account, notification } => ReadMark::One {
            recipient: *account,
            notification: *notification,
            at: recorded.recorded_at,
        },
        NotificationFeedEvent::AllNotificationsRead { account, until } => {
            ReadMark::All { recipient: *account, until: *until }
        }
    }
}
