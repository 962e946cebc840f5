//! Taking, holding and freeing a slot: the agendas of every UTC day it touches, the limit of its local day, and the nearest
//! free starts for whoever is refused.

use std::collections::BTreeSet;

use chrono::{Days, NaiveDate};

use crate::agenda::{Agenda, AgendaCommand, Leaving};
use crate::command::{Stop, View, every};
use crate::hours::Zone;
use crate::ids::{AgendaId, ProviderId};
use crate::slots::{Measure, Schedule, Span, Taken, utc_days_around};
use crate::{Instant, Refusal};

/// How many free starts a refusal names.
pub const ALTERNATIVES: usize = 5;

/// How many local days on each side of the wanted one are searched for free starts at once.
const ALTERNATIVE_DAYS: u64 = 2;

/// How many days further on they are searched for, if those have none: whoever works on Saturdays alone has some too.
const ALTERNATIVE_DAYS_MAX: u64 = 28;

/// What is taken around these local days, in agendas that are required to stay as they are.
pub(crate) fn taken_around(
    view: &View<'_>,
    provider: ProviderId,
    zone: Zone,
    days: &[NaiveDate],
) -> Result<Vec<Taken>, Stop> {
    let utc: BTreeSet<_> = days.iter().flat_map(|day| utc_days_around(zone, *day)).collect();
    let load = |day| view.load::<Agenda>(AgendaId::of(provider, day));
    Ok(every(utc.into_iter().map(load))?.into_iter().flat_map(Agenda::taken).collect())
}

/// A slot somebody wants of a provider.
pub(crate) struct Wanted<'a, 'v> {
    /// What the command sees.
    pub(crate) view: &'a View<'v>,
    /// Of whom.
    pub(crate) provider: ProviderId,
    /// When that provider works.
    pub(crate) schedule: &'a Schedule,
    /// The service's measure.
    pub(crate) measure: Measure,
    /// The slot.
    pub(crate) slot: Span,
    /// Whose seat is given back in the same append, and is in nobody's way.
    pub(crate) leaving: Leaving,
    /// The time that one already has: no alternative to anything.
    pub(crate) has: Option<Instant>,
}

impl Wanted<'_, '_> {
    /// Decides one agenda's command; whoever is in the way is refused with the nearest free starts.
    pub(crate) fn decide(&self, day: NaiveDate, command: AgendaCommand) -> Result<(), Stop> {
        let decided = self.view.decide::<Agenda>(AgendaId::of(self.provider, day), command);
        match decided {
            Ok(_) => Ok(()),
            Err(Stop::Refused(refusal)) => Err(self.refused(refusal)),
            Err(Stop::Missing) => Err(Stop::Missing),
        }
    }

    /// That the local day the slot starts on has room for one more. Agendas of that day which the slot itself does not
    /// touch are required to stay as they are.
    pub(crate) fn day_has_room(&self) -> Result<(), Stop> {
        let Some(limit) = self.schedule.policy.max_per_day else { return Ok(()) };
        let day = self.schedule.local_day(self.slot.start);
        // A move within a day makes it no fuller, even where the limit was lowered since.
        if self.has.is_some_and(|has| self.schedule.local_day(has) == day) {
            return Ok(());
        }
        let load = |utc_day| self.view.load::<Agenda>(AgendaId::of(self.provider, utc_day));
        let taken = self.taken(self.schedule.days_that_fill(day), load)?;
        if self.schedule.is_full(day, &taken, self.view.now()) {
            return Err(self.refused(Refusal::DayFull { limit, alternatives: Vec::new() }));
        }
        Ok(())
    }

    /// The refusal with the nearest free starts, once they are known.
    fn refused(&self, mut refusal: Refusal) -> Stop {
        if let Some(alternatives) = refusal.alternatives_mut() {
            match self.alternatives() {
                Ok(starts) => *alternatives = starts,
                Err(stop) => return stop,
            }
        }
        Stop::Refused(refusal)
    }

    /// The free starts nearest to the wanted one, nearest first.
    fn alternatives(&self) -> Result<Vec<Instant>, Stop> {
        let mut starts = self.nearby()?;
        if starts.is_empty() {
            let (_, last) = self.days_around();
            let furthest = last.checked_add_days(Days::new(ALTERNATIVE_DAYS_MAX)).unwrap_or(last);
            let further = last.iter_days().skip(1).take_while(|day| *day <= furthest);
            starts = self.others_free(further.collect())?;
        }
        starts.truncate(ALTERNATIVES);
        Ok(starts)
    }

    /// The same, of the days around it alone, and however many.
    pub(crate) fn nearby(&self) -> Result<Vec<Instant>, Stop> {
        let (first, last) = self.days_around();
        self.others_free(first.iter_days().take_while(|day| *day <= last).collect())
    }

    fn days_around(&self) -> (NaiveDate, NaiveDate) {
        let (middle, days) =
            (self.schedule.local_day(self.slot.start), Days::new(ALTERNATIVE_DAYS));
        let first = middle.checked_sub_days(days).unwrap_or(middle);
        (first, middle.checked_add_days(days).unwrap_or(middle))
    }

    /// The free starts of these local days but its own, nearest first.
    fn others_free(&self, days: Vec<NaiveDate>) -> Result<Vec<Instant>, Stop> {
        let wanted = self.slot.start;
        let mut starts = self.free(days)?;
        starts.retain(|start| *start != wanted && self.has != Some(*start));
        starts.sort_by_key(|start| ((*start - wanted).abs(), *start));
        Ok(starts)
    }

    /// The free starts of these local days.
    fn free(&self, mut days: Vec<NaiveDate>) -> Result<Vec<Instant>, Stop> {
        let (zone, now) = (self.schedule.zone, self.view.now());
        // What cannot be booked need not be looked at.
        let (today, last) = (self.schedule.local_day(now), self.schedule.last_day(now));
        days.retain(|day| (today..=last).contains(day));
        let around = days.iter().flat_map(|day| utc_days_around(zone, *day));
        let consult = |utc_day| self.view.consult::<Agenda>(AgendaId::of(self.provider, utc_day));
        let taken = self.taken(around, consult)?;
        Ok(days
            .iter()
            .flat_map(|day| self.schedule.free(&self.measure, *day, &taken, now))
            .map(|slot| slot.start)
            .collect())
    }

    /// What is taken on these UTC days by those who stay.
    fn taken<'b>(
        &self,
        utc_days: impl IntoIterator<Item = NaiveDate>,
        read: impl Fn(NaiveDate) -> Result<&'b Agenda, Stop>,
    ) -> Result<Vec<Taken>, Stop> {
        let utc_days: BTreeSet<NaiveDate> = utc_days.into_iter().collect();
        let agendas = every(utc_days.into_iter().map(read))?;
        let occupations = agendas.into_iter().flat_map(|agenda| &agenda.occupations);
        Ok(occupations.map(|occupation| occupation.taken_without(self.leaving)).collect())
    }
}
