//! The agendas of many days, changed in one append. Two occurrences may meet in one of them: what crosses midnight UTC
//! stands in two. So the later is decided on what the earlier left, which a stream that is decided once a run does not show.

use std::collections::{BTreeMap, BTreeSet};

use chrono::NaiveDate;

use crate::Refusal;
use crate::agenda::{Agenda, AgendaCommand, AgendaEvent};
use crate::aggregate::{Aggregate as _, Context};
use crate::command::{Stop, View, every};
use crate::ids::{AgendaId, ProviderId};

/// Some of a provider's agendas, on their way.
pub(super) struct Agendas<'a, 'v> {
    view: &'a View<'v>,
    provider: ProviderId,
    days: BTreeMap<NaiveDate, Day>,
}

/// One of them as it will be, and what makes it so.
#[derive(Clone)]
struct Day {
    agenda: Agenda,
    events: Vec<AgendaEvent>,
}

impl<'a, 'v> Agendas<'a, 'v> {
    /// The agendas of these UTC days, required to stay as they are.
    pub(super) fn load(
        view: &'a View<'v>,
        provider: ProviderId,
        days: BTreeSet<NaiveDate>,
    ) -> Result<Self, Stop> {
        let load = |day| Ok((day, view.load::<Agenda>(AgendaId::of(provider, day))?));
        let days = every(days.into_iter().map(load))?
            .into_iter()
            .map(|(day, agenda)| (day, Day { agenda: agenda.clone(), events: Vec::new() }))
            .collect();
        Ok(Self { view, provider, days })
    }

    /// Decides some commands, all of them or none.
    pub(super) fn decide(
        &mut self,
        commands: impl IntoIterator<Item = (NaiveDate, AgendaCommand)>,
    ) -> Result<(), Refusal> {
        let context = Context { now: self.view.now() };
        let mut changed: BTreeMap<NaiveDate, Day> = BTreeMap::new();
        for (date, command) in commands {
            let before = changed.remove(&date).or_else(|| self.days.get(&date).cloned());
            let mut day = before.expect("every agenda that is decided on was loaded");
            let events = day.agenda.decide(command, &context)?;
            events.iter().for_each(|event| day.agenda.evolve(event));
            day.events.extend(events);
            changed.insert(date, day);
        }
        self.days.extend(changed);
        Ok(())
    }

    /// Emits all that was decided.
    pub(super) fn emit(self) -> Result<(), Stop> {
        for (date, Day { agenda: _, events }) in self.days {
            self.view.emit::<Agenda>(AgendaId::of(self.provider, date), events)?;
        }
        Ok(())
    }
}
