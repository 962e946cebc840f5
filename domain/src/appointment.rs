//! Appointment: one id and one history from booking to its end, through every reschedule.
//!
//! Booking reads the provider, decides on the agenda of each UTC day it touches, and appends to the
//! agendas and the new appointment in one request that requires the provider unchanged. Two people can
//! race for a slot on two machines: one is booked, the other is refused with the nearest free starts.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{Days, NaiveDate, TimeDelta};
use serde::{Deserialize, Serialize};

use crate::account::{self, Account, signed_in};
use crate::actor::Actor;
use crate::agenda::{Agenda, AgendaCommand, Occupation, Taking};
use crate::aggregate::{Aggregate, Context, StreamId, StreamKind, aggregate};
use crate::command::{Command, Stop, Target, View};
use crate::hours::{Confirmation, Zone};
use crate::ids::{AccountId, AgendaId, AppointmentId, Id, ProviderId, ServiceId};
use crate::money::Money;
use crate::personal::Personal;
use crate::provider::{Provider, Service};
use crate::slots::{Measure, Schedule, Span, Taken, shifted, utc_days_around};
use crate::text::{EmailAddress, Note, PersonName, Phone, ServiceName};
use crate::{Instant, Refusal};

/// How many free starts a refusal names.
pub const ALTERNATIVES: usize = 5;

/// How many local days on each side of the wanted one are searched for them at once.
const ALTERNATIVE_DAYS: u64 = 2;

/// How many days further on they are searched for, if those have none: whoever works on Saturdays alone has some too.
const ALTERNATIVE_DAYS_MAX: u64 = 28;

/// An appointment's history, folded.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Appointment {
    /// `None` until booked.
    pub booking: Option<Booking>,
}

/// An appointment as it stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Booking {
    /// What was agreed when it was booked.
    pub terms: Terms,
    /// Its time now.
    pub slot: Span,
    /// Its status.
    pub status: Status,
}

/// What was agreed when an appointment was booked; a reschedule changes none of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Terms {
    /// With whom.
    pub provider: ProviderId,
    /// Whose shop that is.
    pub provider_account: AccountId,
    /// Who booked.
    pub client: AccountId,
    /// The client's name and address at that time (`S3-77`).
    pub contact: Personal<Contact>,
    /// The service's measure at that time.
    pub measure: Measure,
    /// The service's name at that time.
    pub service_name: Personal<ServiceName>,
    /// The provider's zone at that time.
    pub zone: Zone,
    /// What it costs (K14).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<Money>,
    /// What the client wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_notes: Option<Personal<Note>>,
}

/// Who a client is, as a provider needs to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contact {
    /// Their name.
    pub name: PersonName,
    /// Their address.
    pub email: EmailAddress,
    /// Their telephone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phone: Option<Phone>,
}

/// Where an appointment stands (K8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Waits for the provider.
    Pending,
    /// Will take place.
    Confirmed,
    /// The provider said no.
    Declined,
    /// Either side called it off.
    Cancelled,
}

impl Status {
    /// As in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Confirmed => "confirmed",
            Self::Declined => "declined",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether it holds its slot.
    pub const fn is_live(self) -> bool {
        match self {
            Self::Pending | Self::Confirmed => true,
            Self::Declined | Self::Cancelled => false,
        }
    }
}

/// Which side did something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// The client.
    Client,
    /// The provider.
    Provider,
}

/// What can be asked of an appointment.
#[derive(Debug, Clone, PartialEq)]
pub enum AppointmentCommand {
    /// Book it.
    Book {
        /// What is agreed.
        terms: Box<Terms>,
        /// When.
        slot: Span,
        /// Whether it waits for the provider.
        confirmation: Confirmation,
    },
    /// Say yes.
    Confirm,
    /// Say no.
    Decline(Option<Personal<Note>>),
    /// Call it off.
    Cancel {
        /// Who does.
        by: Side,
        /// Why.
        reason: Option<Personal<Note>>,
    },
    /// Move it.
    Reschedule {
        /// Who does.
        by: Side,
        /// When it is now.
        to: Span,
        /// Whether it waits for the provider again.
        confirmation: Confirmation,
    },
}

/// What happened to an appointment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum AppointmentEvent {
    /// It was booked.
    AppointmentBooked {
        /// What was agreed.
        terms: Box<Terms>,
        /// When it is.
        slot: Span,
        /// Pending, or confirmed at once by the provider's policy.
        status: Status,
    },
    /// The provider said yes.
    AppointmentConfirmed {
        /// Whose appointment.
        parties: Parties,
        /// When it is.
        slot: Span,
    },
    /// The provider said no.
    AppointmentDeclined {
        /// Whose appointment.
        parties: Parties,
        /// When it would have been.
        slot: Span,
        /// Why.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<Personal<Note>>,
    },
    /// It was called off.
    AppointmentCancelled {
        /// Whose appointment.
        parties: Parties,
        /// When it would have been.
        slot: Span,
        /// Who called it off.
        by: Side,
        /// Why.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<Personal<Note>>,
    },
    /// It was moved.
    AppointmentRescheduled {
        /// Whose appointment.
        parties: Parties,
        /// When it was.
        from: Span,
        /// When it is now.
        to: Span,
        /// Who moved it.
        by: Side,
        /// Where it stands now.
        status: Status,
    },
}

/// Whom an appointment concerns: what every reader of its events needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parties {
    /// With whom.
    pub provider: ProviderId,
    /// Whose shop that is.
    pub provider_account: AccountId,
    /// Who booked.
    pub client: AccountId,
}

aggregate!(Appointment(AppointmentId), AppointmentCommand => AppointmentEvent {
    AppointmentBooked = "2",
    AppointmentConfirmed = "1",
    AppointmentDeclined = "1",
    AppointmentCancelled = "1",
    AppointmentRescheduled = "1",
});

impl Parties {
    /// Whether an account is one of them.
    pub fn include(&self, account: AccountId) -> bool {
        [self.client, self.provider_account].contains(&account)
    }
}

impl Terms {
    /// Whom it concerns.
    pub fn parties(&self) -> Parties {
        Parties {
            provider: self.provider,
            provider_account: self.provider_account,
            client: self.client,
        }
    }
}

impl Booking {
    /// The side an account is on, if it is a party.
    pub fn side_of(&self, account: AccountId) -> Option<Side> {
        if account == self.terms.client {
            Some(Side::Client)
        } else if account == self.terms.provider_account {
            Some(Side::Provider)
        } else {
            None
        }
    }

    fn live(&self, wanted: &'static str) -> Result<(), Refusal> {
        if self.status.is_live() {
            Ok(())
        } else {
            Err(Refusal::WrongStatus { status: self.status.as_str(), wanted })
        }
    }
}

impl AppointmentEvent {
    /// Whom it concerns.
    pub fn parties(&self) -> Parties {
        match self {
            Self::AppointmentBooked { terms, .. } => terms.parties(),
            Self::AppointmentConfirmed { parties, .. }
            | Self::AppointmentDeclined { parties, .. }
            | Self::AppointmentCancelled { parties, .. }
            | Self::AppointmentRescheduled { parties, .. } => *parties,
        }
    }
}

impl Appointment {
    /// The booking, if there is one.
    pub fn booked(&self) -> Result<&Booking, Refusal> {
        self.booking.as_ref().ok_or(Refusal::NotFound("appointment"))
    }
}

impl Aggregate for Appointment {
    type Id = AppointmentId;
    const KIND: StreamKind = StreamKind::Appointment;

    fn decide(
        &self,
        command: AppointmentCommand,
        _: &Context,
    ) -> Result<Vec<AppointmentEvent>, Refusal> {
        if let AppointmentCommand::Book { terms, slot, confirmation } = command {
            // Its id comes from the command's: an earlier one, whose answer is no longer kept, has begun it.
            if self.booking.is_some() {
                return Err(Refusal::KeySpent);
            }
            let status = first_status(confirmation);
            return Ok(vec![AppointmentEvent::AppointmentBooked { terms, slot, status }]);
        }
        let booking = self.booked()?;
        let (parties, slot) = (booking.terms.parties(), booking.slot);
        Ok(match command {
            AppointmentCommand::Book { .. } => return Err(Refusal::KeySpent),
            AppointmentCommand::Confirm if booking.status == Status::Confirmed => Vec::new(),
            AppointmentCommand::Confirm => {
                booking.live("confirmed")?;
                vec![AppointmentEvent::AppointmentConfirmed { parties, slot }]
            }
            AppointmentCommand::Decline(_) if booking.status == Status::Declined => Vec::new(),
            AppointmentCommand::Decline(reason) => {
                if booking.status != Status::Pending {
                    return Err(Refusal::WrongStatus {
                        status: booking.status.as_str(),
                        wanted: "declined",
                    });
                }
                vec![AppointmentEvent::AppointmentDeclined { parties, slot, reason }]
            }
            AppointmentCommand::Cancel { .. } if booking.status == Status::Cancelled => Vec::new(),
            AppointmentCommand::Cancel { by, reason } => {
                booking.live("cancelled")?;
                vec![AppointmentEvent::AppointmentCancelled { parties, slot, by, reason }]
            }
            AppointmentCommand::Reschedule { by, to, confirmation } => {
                booking.live("rescheduled")?;
                if to == slot {
                    return Ok(Vec::new());
                }
                // Whoever moves it has agreed to the new time; a client's move waits for the provider
                // again where bookings do.
                let status = match by {
                    Side::Provider => booking.status,
                    Side::Client => first_status(confirmation),
                };
                vec![AppointmentEvent::AppointmentRescheduled {
                    parties,
                    from: slot,
                    to,
                    by,
                    status,
                }]
            }
        })
    }

    fn evolve(&mut self, event: &AppointmentEvent) {
        if let AppointmentEvent::AppointmentBooked { terms, slot, status } = event {
            self.booking =
                Some(Booking { terms: terms.as_ref().clone(), slot: *slot, status: *status });
            return;
        }
        let Some(booking) = &mut self.booking else { return };
        match event {
            AppointmentEvent::AppointmentBooked { .. } => {}
            AppointmentEvent::AppointmentConfirmed { .. } => booking.status = Status::Confirmed,
            AppointmentEvent::AppointmentDeclined { .. } => booking.status = Status::Declined,
            AppointmentEvent::AppointmentCancelled { .. } => booking.status = Status::Cancelled,
            AppointmentEvent::AppointmentRescheduled { to, status, .. } => {
                booking.slot = *to;
                booking.status = *status;
            }
        }
    }
}

const fn first_status(confirmation: Confirmation) -> Status {
    match confirmation {
        Confirmation::Automatic => Status::Confirmed,
        Confirmation::Manual => Status::Pending,
    }
}

/// Book a service at an instant, for the actor.
#[derive(Debug, Clone)]
pub struct BookAppointment {
    /// With whom.
    pub provider: ProviderId,
    /// What; `None` where the provider offers just one service.
    pub service: Option<ServiceId>,
    /// When it starts.
    pub start: Instant,
    /// What the client wants the provider to know.
    pub notes: Option<Note>,
}

/// An appointment as its answer names it: nothing personal.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AppointmentStands {
    /// Which.
    pub appointment: AppointmentId,
    /// With whom.
    pub provider: ProviderId,
    /// What.
    pub service: ServiceId,
    /// The service's name. It is not stored with the answer, so a repeated one lacks it: the appointment has it.
    #[serde(skip)]
    pub service_name: Option<ServiceName>,
    /// When.
    pub slot: Span,
    /// The provider's zone.
    pub zone: Zone,
    /// What it costs.
    pub price: Option<Money>,
    /// Where it stands.
    pub status: Status,
}

impl Command for BookAppointment {
    const NAME: &'static str = "BookAppointment";
    type Outcome = AppointmentStands;

    fn target(&self, _: &View<'_>) -> Target {
        Target::stream::<Provider>(self.provider)
    }

    fn queue(&self) -> Option<StreamId> {
        Some(StreamId::of::<Agenda>(AgendaId::of(self.provider, self.start.date_naive())))
    }

    fn reads(&self) -> Vec<StreamId> {
        let day = AgendaId::of(self.provider, self.start.date_naive());
        vec![StreamId::of::<Provider>(self.provider), StreamId::of::<Agenda>(day)]
    }

    /// Whoever is signed in with a confirmed address, but the provider's own owner.
    fn authorize(&self, view: &View<'_>) -> Result<(), Stop> {
        let client = signed_in(view.actor())?;
        view.consult::<Account>(client)?.may_act()?;
        if view.load::<Provider>(self.provider)?.open()?.account == client {
            return Err(Refusal::OwnAppointment.into());
        }
        Ok(())
    }

    fn decide(&self, view: &View<'_>) -> Result<AppointmentStands, Stop> {
        let client = signed_in(view.actor())?;
        let profile = view.consult::<Account>(client)?.may_act()?;
        let provider = view.load::<Provider>(self.provider)?;
        let shop = provider.open()?;
        let service = wanted_service(provider, self.service)?;
        let measure = service.measure();
        let slot = bookable(&provider.schedule, &measure, self.start, view.now())?;

        let appointment: AppointmentId = view.mint().id(self.provider.slot(), 0);
        for day in measure.buffered(slot).utc_days() {
            let taking = Taking { provider: self.provider, day, appointment, slot, measure };
            take(view, provider, &measure, AgendaCommand::TakeSlot(taking), None)?;
        }
        let contact = Contact {
            name: profile.name.known().ok_or(Refusal::NotFound("account"))?.clone(),
            email: profile.email.known().ok_or(Refusal::NotFound("account"))?.clone(),
            phone: profile.phone.as_ref().and_then(Personal::known).cloned(),
        };
        let price = provider.price_of(service);
        let service_name = service.name.known().ok_or(Refusal::NotFound("provider"))?;
        let terms = Box::new(Terms {
            provider: self.provider,
            provider_account: shop.account,
            client,
            contact: Personal::of(client, contact),
            measure,
            service_name: Personal::of(shop.account, service_name.clone()),
            zone: provider.schedule.zone,
            price,
            client_notes: self.notes.clone().map(|notes| Personal::of(client, notes)),
        });
        let confirmation = provider.schedule.policy.confirmation;
        view.decide::<Appointment>(
            appointment,
            AppointmentCommand::Book { terms, slot, confirmation },
        )?;
        Ok(AppointmentStands {
            appointment,
            provider: self.provider,
            service: service.id,
            service_name: Some(service_name.clone()),
            slot,
            zone: provider.schedule.zone,
            price,
            status: first_status(confirmation),
        })
    }
}

/// Move an appointment to another start, keeping its id, its history and what was agreed (K19).
#[derive(Debug, Clone)]
pub struct RescheduleAppointment {
    /// Which.
    pub appointment: AppointmentId,
    /// When it is to start.
    pub start: Instant,
}

impl Command for RescheduleAppointment {
    const NAME: &'static str = "RescheduleAppointment";
    type Outcome = AppointmentStands;

    fn target(&self, _: &View<'_>) -> Target {
        Target::stream::<Appointment>(self.appointment)
    }

    fn authorize(&self, view: &View<'_>) -> Result<(), Stop> {
        party(view, self.appointment).map(drop)
    }

    fn decide(&self, view: &View<'_>) -> Result<AppointmentStands, Stop> {
        let (booking, by) = party(view, self.appointment)?;
        booking.live("rescheduled")?;
        let terms = &booking.terms;
        let provider = view.load::<Provider>(terms.provider)?;
        provider.open()?;
        let mut outcome = stands(self.appointment, booking);
        if self.start == booking.slot.start {
            return Ok(outcome);
        }
        in_window(provider, booking, by, view.now())?;
        let slot = bookable(&provider.schedule, &terms.measure, self.start, view.now())?;
        let days = |slot| terms.measure.buffered(slot).utc_days();
        let (old, new) = (days(booking.slot), days(slot));
        for day in old.iter().chain(&new).copied().collect::<BTreeSet<_>>() {
            let (provider_id, appointment) = (terms.provider, self.appointment);
            let command = if new.contains(&day) {
                let taking = Taking {
                    provider: provider_id,
                    day,
                    appointment,
                    slot,
                    measure: terms.measure,
                };
                AgendaCommand::MoveSlot(taking)
            } else {
                AgendaCommand::FreeSlot { provider: provider_id, day, appointment }
            };
            take(view, provider, &terms.measure, command, Some((appointment, booking.slot.start)))?;
        }
        let confirmation = provider.schedule.policy.confirmation;
        let events = view.decide::<Appointment>(
            self.appointment,
            AppointmentCommand::Reschedule { by, to: slot, confirmation },
        )?;
        outcome.slot = slot;
        if let Some(AppointmentEvent::AppointmentRescheduled { status, .. }) = events.first() {
            outcome.status = *status;
        }
        Ok(outcome)
    }
}

/// Call an appointment off, from either side.
#[derive(Debug, Clone)]
pub struct CancelAppointment {
    /// Which.
    pub appointment: AppointmentId,
    /// Why.
    pub reason: Option<Note>,
}

impl Command for CancelAppointment {
    const NAME: &'static str = "CancelAppointment";
    type Outcome = AppointmentStands;

    fn target(&self, _: &View<'_>) -> Target {
        Target::stream::<Appointment>(self.appointment)
    }

    /// Its parties; and Pontual itself, for a party that was erased.
    fn authorize(&self, view: &View<'_>) -> Result<(), Stop> {
        canceller(view, self.appointment).map(drop)
    }

    fn decide(&self, view: &View<'_>) -> Result<AppointmentStands, Stop> {
        let (booking, by) = canceller(view, self.appointment)?;
        if booking.status.is_live() && view.actor().account().is_some() {
            let provider = view.consult::<Provider>(booking.terms.provider)?;
            in_window(provider, booking, by, view.now())?;
        }
        let author =
            if by == Side::Client { booking.terms.client } else { booking.terms.provider_account };
        let reason = self.reason.clone().map(|reason| Personal::of(author, reason));
        let command = AppointmentCommand::Cancel { by, reason };
        end(view, self.appointment, booking, command, Status::Cancelled)
    }
}

/// Say yes to a pending appointment.
#[derive(Debug, Clone)]
pub struct ConfirmAppointment {
    /// Which.
    pub appointment: AppointmentId,
}

impl Command for ConfirmAppointment {
    const NAME: &'static str = "ConfirmAppointment";
    type Outcome = AppointmentStands;

    fn target(&self, _: &View<'_>) -> Target {
        Target::stream::<Appointment>(self.appointment)
    }

    fn authorize(&self, view: &View<'_>) -> Result<(), Stop> {
        providers_side(view, self.appointment).map(drop)
    }

    fn decide(&self, view: &View<'_>) -> Result<AppointmentStands, Stop> {
        let booking = providers_side(view, self.appointment)?;
        view.decide::<Appointment>(self.appointment, AppointmentCommand::Confirm)?;
        Ok(AppointmentStands { status: Status::Confirmed, ..stands(self.appointment, booking) })
    }
}

/// Say no to a pending appointment.
#[derive(Debug, Clone)]
pub struct DeclineAppointment {
    /// Which.
    pub appointment: AppointmentId,
    /// Why.
    pub reason: Option<Note>,
}

impl Command for DeclineAppointment {
    const NAME: &'static str = "DeclineAppointment";
    type Outcome = AppointmentStands;

    fn target(&self, _: &View<'_>) -> Target {
        Target::stream::<Appointment>(self.appointment)
    }

    fn authorize(&self, view: &View<'_>) -> Result<(), Stop> {
        providers_side(view, self.appointment).map(drop)
    }

    fn decide(&self, view: &View<'_>) -> Result<AppointmentStands, Stop> {
        let booking = providers_side(view, self.appointment)?;
        let author = booking.terms.provider_account;
        let reason = self.reason.clone().map(|reason| Personal::of(author, reason));
        end(view, self.appointment, booking, AppointmentCommand::Decline(reason), Status::Declined)
    }
}

/// The booking and the actor's side of it. Whoever is no party is told that there is no such appointment.
fn party<'a>(view: &View<'a>, appointment: AppointmentId) -> Result<(&'a Booking, Side), Stop> {
    let account = signed_in(view.actor())?;
    let booking = view.load::<Appointment>(appointment)?.booked()?;
    let side = booking.side_of(account).ok_or(Refusal::NotFound("appointment"))?;
    Ok((booking, side))
}

/// The booking, and the side that calls it off: the actor's, or that of a party who was erased and cannot any more.
fn canceller<'a>(view: &View<'a>, appointment: AppointmentId) -> Result<(&'a Booking, Side), Stop> {
    match view.actor() {
        Actor::Anonymous | Actor::Account { .. } => party(view, appointment),
        Actor::System(_) => {
            let booking = view.load::<Appointment>(appointment)?.booked()?;
            let Parties { provider: _, provider_account, client } = booking.terms.parties();
            for (account, side) in [(client, Side::Client), (provider_account, Side::Provider)] {
                if view.consult::<Account>(account)?.status == account::Status::Erased {
                    return Ok((booking, side));
                }
            }
            Err(Refusal::Forbidden.into())
        }
    }
}

/// The booking, for its provider; the client is told that this is not theirs to do.
fn providers_side<'a>(view: &View<'a>, appointment: AppointmentId) -> Result<&'a Booking, Stop> {
    match party(view, appointment)? {
        (booking, Side::Provider) => Ok(booking),
        (_, Side::Client) => Err(Refusal::Forbidden.into()),
    }
}

/// Ends a live appointment and frees what it holds; on an ended one the aggregate alone decides.
fn end(
    view: &View<'_>,
    appointment: AppointmentId,
    booking: &Booking,
    command: AppointmentCommand,
    status: Status,
) -> Result<AppointmentStands, Stop> {
    let events = view.decide::<Appointment>(appointment, command)?;
    if !events.is_empty() {
        let provider = booking.terms.provider;
        for day in booking.terms.measure.buffered(booking.slot).utc_days() {
            let free = AgendaCommand::FreeSlot { provider, day, appointment };
            view.decide::<Agenda>(AgendaId::of(provider, day), free)?;
        }
    }
    Ok(AppointmentStands { status, ..stands(appointment, booking) })
}

fn stands(appointment: AppointmentId, booking: &Booking) -> AppointmentStands {
    let Terms {
        provider,
        provider_account: _,
        client: _,
        contact: _,
        measure,
        service_name,
        zone,
        price,
        client_notes: _,
    } = &booking.terms;
    AppointmentStands {
        appointment,
        provider: *provider,
        service: measure.service,
        service_name: service_name.known().cloned(),
        slot: booking.slot,
        zone: *zone,
        price: *price,
        status: booking.status,
    }
}

fn wanted_service(provider: &Provider, wanted: Option<ServiceId>) -> Result<&Service, Refusal> {
    let mut offered = provider.services.values().filter(|service| service.is_active);
    match wanted {
        Some(id) => provider.offered(id),
        None => match (offered.next(), offered.next()) {
            (Some(only), None) => Ok(only),
            (Some(_) | None, _) => Err(Refusal::NotFound("service")),
        },
    }
}

/// The slot that starts then, if time, notice, horizon and hours allow it.
fn bookable(
    schedule: &Schedule,
    measure: &Measure,
    start: Instant,
    now: Instant,
) -> Result<Span, Refusal> {
    let policy = &schedule.policy;
    if start <= now {
        return Err(Refusal::SlotInPast);
    }
    if start < schedule.earliest(now) {
        return Err(Refusal::NoticeTooShort { notice_minutes: policy.minimum_notice_minutes });
    }
    if schedule.local_day(start) > schedule.last_day(now) {
        return Err(Refusal::BeyondHorizon { horizon_days: policy.horizon_days });
    }
    if !schedule.allows(measure, start) {
        return Err(Refusal::OutsideHours);
    }
    Ok(measure.slot_at(start))
}

/// Until when the client may change it; the provider may until the end of time.
fn in_window(
    provider: &Provider,
    booking: &Booking,
    by: Side,
    now: Instant,
) -> Result<(), Refusal> {
    let window_minutes = provider.schedule.policy.cancellation_window_minutes;
    let until = shifted(booking.slot.start, -TimeDelta::minutes(i64::from(window_minutes)));
    match by {
        Side::Client if now >= until => Err(Refusal::TooLate { window_minutes }),
        Side::Client | Side::Provider => Ok(()),
    }
}

/// Decides one agenda's command; a slot that is taken is refused with the nearest free starts.
fn take(
    view: &View<'_>,
    provider: &Provider,
    measure: &Measure,
    command: AgendaCommand,
    mover: Option<(AppointmentId, Instant)>,
) -> Result<(), Stop> {
    let (provider_id, day, start) = match &command {
        AgendaCommand::TakeSlot(taking) | AgendaCommand::MoveSlot(taking) => {
            (taking.provider, taking.day, Some(taking.slot.start))
        }
        AgendaCommand::FreeSlot { provider, day, .. } => (*provider, *day, None),
    };
    let decided = view.decide::<Agenda>(AgendaId::of(provider_id, day), command);
    match (decided, start) {
        (Err(Stop::Refused(Refusal::SlotTaken { .. })), Some(start)) => {
            let alternatives = alternatives(view, provider_id, provider, measure, start, mover)?;
            Err(Refusal::SlotTaken { alternatives }.into())
        }
        (decided, _) => decided.map(drop),
    }
}

/// The free starts nearest to the wanted one, nearest first. For an appointment that moves, what it holds is
/// free, but the time it already has is no alternative.
fn alternatives(
    view: &View<'_>,
    provider_id: ProviderId,
    provider: &Provider,
    measure: &Measure,
    wanted: Instant,
    mover: Option<(AppointmentId, Instant)>,
) -> Result<Vec<Instant>, Stop> {
    let middle = provider.schedule.local_day(wanted);
    let first = middle.checked_sub_days(Days::new(ALTERNATIVE_DAYS)).unwrap_or(middle);
    let last = middle.checked_add_days(Days::new(ALTERNATIVE_DAYS)).unwrap_or(middle);
    let furthest = last.checked_add_days(Days::new(ALTERNATIVE_DAYS_MAX)).unwrap_or(last);
    let free = |days: Vec<NaiveDate>| {
        free_starts(view, provider_id, provider, measure, &days, mover.map(|(moves, _)| moves))
    };
    let other = |start: &Instant| *start != wanted && mover.is_none_or(|(_, own)| *start != own);
    let mut starts = free(first.iter_days().take_while(|day| *day <= last).collect())?;
    starts.retain(other);
    if starts.is_empty() {
        starts = free(last.iter_days().skip(1).take_while(|day| *day <= furthest).collect())?;
        starts.retain(other);
    }
    starts.sort_by_key(|start| ((*start - wanted).abs(), *start));
    starts.truncate(ALTERNATIVES);
    Ok(starts)
}

/// The free starts of these local days. What `moves` holds is free.
fn free_starts(
    view: &View<'_>,
    provider_id: ProviderId,
    provider: &Provider,
    measure: &Measure,
    days: &[NaiveDate],
    moves: Option<AppointmentId>,
) -> Result<Vec<Instant>, Stop> {
    let schedule = &provider.schedule;
    let mut agendas: BTreeMap<NaiveDate, Vec<Taken>> = BTreeMap::new();
    let mut missing = false;
    for utc_day in days.iter().flat_map(|day| utc_days_around(schedule.zone, *day)) {
        if agendas.contains_key(&utc_day) {
            continue;
        }
        match view.consult::<Agenda>(AgendaId::of(provider_id, utc_day)) {
            Ok(agenda) => {
                let taken = |o: &Occupation| match moves {
                    Some(appointment) => o.taken_without(appointment),
                    None => Some(o.taken()),
                };
                agendas.insert(utc_day, agenda.occupations.iter().filter_map(taken).collect());
            }
            // Ask for all of them before stopping, so that one round trip brings them.
            Err(Stop::Missing) => missing = true,
            Err(refused) => return Err(refused),
        }
    }
    if missing {
        return Err(Stop::Missing);
    }
    let taken: Vec<Taken> = agendas.into_values().flatten().collect();
    Ok(days
        .iter()
        .flat_map(|day| schedule.free(measure, *day, &taken, view.now()))
        .map(|slot| slot.start)
        .collect())
}
