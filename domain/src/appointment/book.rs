//! Booking: the slot in the agenda of each UTC day it touches, and the new appointment, in one append.

use super::stands::{AppointmentStands, answer_by};
use super::{Appointment, AppointmentCommand, Client, Contact, Side, Terms, first_status};
use crate::account::{Account, signed_in};
use crate::actor::Actor;
use crate::agenda::{Agenda, AgendaCommand, Leaving, Taking};
use crate::aggregate::StreamId;
use crate::command::{ClaimKind, Command, Stop, Target, View};
use crate::hold::{self, Hold};
use crate::hours::Confirmation;
use crate::ids::{AccountId, AgendaId, AppointmentId, GuestId, HoldId, Id, ProviderId, ServiceId};
use crate::locale::Locale;
use crate::personal::Personal;
use crate::provider::{Provider, Service};
use crate::series::SeriesPart;
use crate::taking::Wanted;
use crate::text::Note;
use crate::{Instant, Refusal};

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
    /// The hold that becomes the appointment; its holder's alone.
    pub hold: Option<HoldId>,
}

impl BookAppointment {
    /// The agenda racers for the slot meet at.
    fn meets_at(&self) -> StreamId {
        StreamId::of::<Agenda>(AgendaId::of(self.provider, self.start.date_naive()))
    }

    /// Takes the slot and books it for somebody.
    fn place(&self, view: &View<'_>, whom: Whom) -> Result<AppointmentStands, Stop> {
        let provider = view.load::<Provider>(self.provider)?;
        provider.open()?;
        let service = wanted_service(provider, self.service)?;
        let measure = service.measure();
        let asked = (self.provider, service.id, self.start);
        let held = hold::to_book(view, self.hold, whom.client.account(), asked)?;
        let hold = held.map(|(hold, _)| hold);
        let kept = held.is_some_and(|(_, held)| held.is_for(asked) && view.now() < held.expires_at);
        let slot = match provider.schedule.bookable(&measure, self.start, view.now()) {
            // Whoever holds it asked in time.
            Err(Refusal::NoticeTooShort { .. })
                if kept && provider.schedule.allows(&measure, self.start) =>
            {
                measure.slot_at(self.start)
            }
            slot => slot?,
        };

        let appointment: AppointmentId = view.mint().id(self.provider.slot(), 0);
        let wanted = Wanted {
            view,
            provider: self.provider,
            schedule: &provider.schedule,
            measure,
            slot,
            leaving: Leaving { appointment: None, hold },
            has: None,
        };
        let days = measure.buffered(slot).utc_days();
        for &day in &days {
            let taking = Taking { provider: self.provider, day, appointment, slot, measure, hold };
            wanted.decide(day, AgendaCommand::TakeSlot(taking))?;
        }
        wanted.day_has_room()?;
        if let Some(held) = held {
            let done = days.into_iter().collect();
            hold::give_way(view, held, (appointment, asked), &done)?;
        }
        let by = whom.by;
        let terms = agreed(self.provider, provider, service, whom, self.notes.clone(), None)?;
        let policy = &provider.schedule.policy;
        // Whoever books in their own shop has agreed.
        let confirmation = match by {
            Side::Client => policy.confirmation,
            Side::Provider => Confirmation::Automatic,
        };
        let answer_by = answer_by(policy, slot.start, view.now());
        view.decide::<Appointment>(
            appointment,
            AppointmentCommand::Book { terms, slot, confirmation, answer_by, by },
        )?;
        Ok(AppointmentStands {
            appointment,
            provider: self.provider,
            service: service.id,
            service_name: service.name.known().cloned(),
            slot,
            zone: provider.schedule.zone,
            price: provider.price_of(service),
            status: first_status(confirmation),
        })
    }
}

/// For whom a slot is booked, and by whom.
pub(crate) struct Whom {
    client: Client,
    contact: Contact,
    guest_locale: Option<Locale>,
    by: Side,
}

impl Whom {
    /// For the client themselves, who may book.
    pub(crate) fn account(view: &View<'_>, client: AccountId) -> Result<Self, Stop> {
        let profile = view.consult::<Account>(client)?.may_act()?;
        let contact = Contact {
            name: profile.name.known().ok_or(Refusal::NotFound("account"))?.clone(),
            email: profile.email.known().ok_or(Refusal::NotFound("account"))?.clone(),
            phone: profile.phone.as_ref().and_then(Personal::known).cloned(),
        };
        Ok(Self { client: client.into(), contact, guest_locale: None, by: Side::Client })
    }
}

/// What is agreed when somebody books a service.
pub(crate) fn agreed(
    id: ProviderId,
    provider: &Provider,
    service: &Service,
    whom: Whom,
    notes: Option<Note>,
    series: Option<SeriesPart>,
) -> Result<Box<Terms>, Refusal> {
    let Whom { client, contact, guest_locale, by: _ } = whom;
    let (shop, subject) = (provider.open()?, client.subject());
    let service_name = service.name.known().ok_or(Refusal::NotFound("provider"))?;
    Ok(Box::new(Terms {
        provider: id,
        provider_account: shop.account,
        client,
        guest_locale,
        contact: Personal::of(subject, contact),
        measure: service.measure(),
        service_name: Personal::of(shop.account, service_name.clone()),
        zone: provider.schedule.zone,
        price: provider.price_of(service),
        client_notes: notes.map(|notes| Personal::of(subject, notes)),
        series,
    }))
}

/// The actor, if they may book there for themselves: whoever is signed in with a confirmed address, but the provider's own
/// owner.
pub(crate) fn client_may_book(view: &View<'_>, provider: ProviderId) -> Result<AccountId, Stop> {
    let client = signed_in(view.actor())?;
    view.consult::<Account>(client)?.may_act()?;
    if view.load::<Provider>(provider)?.open()?.account == client {
        return Err(Refusal::OwnAppointment.into());
    }
    Ok(client)
}

impl Command for BookAppointment {
    const NAME: &'static str = "BookAppointment";
    type Outcome = AppointmentStands;

    fn target(&self, _: &View<'_>) -> Target {
        Target::stream::<Provider>(self.provider)
    }

    fn queue(&self) -> Option<StreamId> {
        Some(self.meets_at())
    }

    fn reads(&self) -> Vec<StreamId> {
        let hold = self.hold.map(StreamId::of::<Hold>);
        [StreamId::of::<Provider>(self.provider), self.meets_at()].into_iter().chain(hold).collect()
    }

    fn authorize(&self, view: &View<'_>) -> Result<(), Stop> {
        client_may_book(view, self.provider).map(drop)
    }

    fn decide(&self, view: &View<'_>) -> Result<AppointmentStands, Stop> {
        self.place(view, Whom::account(view, signed_in(view.actor())?)?)
    }
}

/// Book for somebody without an account, known by how they can be reached (K18): themselves, where the provider allows
/// that, or the provider on their behalf.
#[derive(Debug, Clone)]
pub struct BookForGuest {
    /// What, with whom and when.
    pub booking: BookAppointment,
    /// Who they are.
    pub contact: Contact,
    /// The language they read.
    pub locale: Locale,
}

impl Command for BookForGuest {
    const NAME: &'static str = "BookForGuest";
    type Outcome = AppointmentStands;

    /// With whom; of somebody who is not signed in, also whose address: anybody may have chosen the same key for a retry.
    fn target(&self, view: &View<'_>) -> Target {
        let target = self.booking.target(view);
        if view.actor().account().is_some() {
            return target;
        }
        let address = view.claim_key(ClaimKind::Email, self.contact.email.as_str());
        let name = format!("{}/{:x}", target.name, u128::from_be_bytes(address.half()));
        Target { name, ..target }
    }

    fn queue(&self) -> Option<StreamId> {
        self.booking.queue()
    }

    fn reads(&self) -> Vec<StreamId> {
        self.booking.reads()
    }

    /// The provider; and whoever is not signed in, where the provider's policy lets guests book.
    fn authorize(&self, view: &View<'_>) -> Result<(), Stop> {
        let provider = view.load::<Provider>(self.booking.provider)?;
        let shop = provider.open()?;
        match view.actor() {
            Actor::Account { id, .. } if shop.account == *id => Ok(()),
            Actor::Anonymous if provider.schedule.policy.guests => Ok(()),
            Actor::Anonymous => Err(Refusal::SignInRequired.into()),
            Actor::Account { .. } | Actor::Guest { .. } | Actor::System(_) => {
                Err(Refusal::Forbidden.into())
            }
        }
    }

    fn decide(&self, view: &View<'_>) -> Result<AppointmentStands, Stop> {
        let guest: GuestId = view.mint().id(self.booking.provider.slot(), 0);
        view.new_subject(guest);
        let by = match view.actor().account() {
            Some(_) => Side::Provider,
            None => {
                view.sent_by(guest);
                Side::Client
            }
        };
        let (client, contact) = (Client::Guest { guest }, self.contact.clone());
        self.booking.place(view, Whom { client, contact, guest_locale: Some(self.locale), by })
    }
}

/// The service that was asked for; where none was, the only one on offer.
pub(crate) fn wanted_service(
    provider: &Provider,
    wanted: Option<ServiceId>,
) -> Result<&Service, Refusal> {
    let mut offered = provider.services.values().filter(|service| service.is_active);
    match wanted {
        Some(id) => provider.offered(id),
        None => match (offered.next(), offered.next()) {
            (Some(only), None) => Ok(only),
            (Some(_) | None, _) => Err(Refusal::NotFound("service")),
        },
    }
}
