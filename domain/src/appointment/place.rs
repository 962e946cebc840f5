//! A slot for an appointment: whether one starts then, whether it is free, and which are instead.

use std::collections::BTreeMap;

use chrono::{Days, NaiveDate, TimeDelta};

use crate::agenda::{Agenda, AgendaCommand, Occupation};
use crate::command::{Stop, View};
use crate::hours::Policy;
use crate::ids::{AgendaId, AppointmentId, ProviderId};
use crate::provider::Provider;
use crate::slots::{Measure, Schedule, Span, Taken, shifted, utc_days_around};
use crate::{Instant, Refusal};

/// How many free starts a refusal names.
pub const ALTERNATIVES: usize = 5;

/// How many local days on each side of the wanted one are searched for them at once.
const ALTERNATIVE_DAYS: u64 = 2;

/// How many days further on they are searched for, if those have none: whoever works on Saturdays alone has some too.
const ALTERNATIVE_DAYS_MAX: u64 = 28;

/// The slot that starts then, if time, notice, horizon and hours allow it.
pub(super) fn bookable(
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

/// When a booking made now expires if the provider does not answer; `None` is at its start.
pub(super) fn answer_by(policy: &Policy, start: Instant, now: Instant) -> Option<Instant> {
    let minutes = policy.answer_within_minutes?;
    Some(shifted(now, TimeDelta::minutes(minutes.into()))).filter(|by| *by < start)
}

/// Decides one agenda's command; a slot that is taken is refused with the nearest free starts.
pub(super) fn take(
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
