//! Booking: the slot in the agenda of each UTC day it touches, and the new appointment, in one append.

use super::place::{answer_by, bookable, take};
use super::stands::AppointmentStands;
use super::{Appointment, AppointmentCommand, Contact, Terms, first_status};
use crate::account::{Account, signed_in};
use crate::agenda::{Agenda, AgendaCommand, Taking};
use crate::aggregate::StreamId;
use crate::command::{Command, Stop, Target, View};
use crate::ids::{AgendaId, AppointmentId, Id, ProviderId, ServiceId};
use crate::personal::Personal;
use crate::provider::{Provider, Service};
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
        let policy = &provider.schedule.policy;
        let confirmation = policy.confirmation;
        let answer_by = answer_by(policy, slot.start, view.now());
        view.decide::<Appointment>(
            appointment,
            AppointmentCommand::Book { terms, slot, confirmation, answer_by },
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

fn wanted_service(provider: &Provider, wanted: Option<ServiceId>) -> Result<&Service, Refusal> {
    match wanted {
        Some(id) => provider.service(id),
        None if provider.services.len() == 1 => {
            provider.services.values().next().ok_or(Refusal::NotFound("service"))
        }
        None => Err(Refusal::NotFound("service")),
    }
}
