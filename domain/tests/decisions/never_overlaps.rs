//! The promise: whatever is booked, moved, called off and changed in between, no two live appointments
//! ever stand in each other's way, and the agendas hold exactly what the appointments say.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{Days, NaiveDate, TimeDelta};
use domain::Refusal;
use domain::actor::Actor;
use domain::agenda::Agenda;
use domain::appointment::{
    BookAppointment, Booking, CancelAppointment, ConfirmAppointment, DeclineAppointment,
    RescheduleAppointment,
};
use domain::hours::Confirmation;
use domain::ids::{AgendaId, AppointmentId, ServiceId};
use domain::provider::{AddService, ChangeProvider, ChangeService, Offer};
use proptest::prelude::*;

use crate::world::{Shop, World, classic, every_day, instant, offer, policy, zone};

/// One thing somebody does. Numbers pick among what there is.
#[derive(Debug, Clone)]
enum Deed {
    Book { service: usize, start: i64, client: usize },
    Move { which: usize, start: i64, provider: bool },
    Cancel { which: usize, provider: bool },
    Confirm { which: usize },
    Decline { which: usize },
    Change { service: usize, offer: Offer },
}

fn any_offer() -> impl Strategy<Value = Offer> {
    (
        prop::sample::select(&[30u16, 60, 90, 150][..]),
        prop::sample::select(&[30u16, 60][..]),
        prop::sample::select(&[0u16, 15, 200][..]),
        prop::sample::select(&[0u16, 10, 240][..]),
        1u16..=3,
    )
        .prop_map(|(duration, interval, before, after, capacity)| {
            offer(|o| {
                o.duration_minutes = duration;
                o.interval_minutes = interval;
                o.buffer_before_minutes = before;
                o.buffer_after_minutes = after;
                o.capacity = capacity;
            })
            .unwrap()
        })
}

fn any_deed() -> impl Strategy<Value = Deed> {
    // Half hours of three days.
    let start = || 0i64..144;
    prop_oneof![
        6 => (0usize..2, start(), 0usize..3)
            .prop_map(|(service, start, client)| Deed::Book { service, start, client }),
        3 => (any::<usize>(), start(), any::<bool>())
            .prop_map(|(which, start, provider)| Deed::Move { which, start, provider }),
        1 => (any::<usize>(), any::<bool>())
            .prop_map(|(which, provider)| Deed::Cancel { which, provider }),
        1 => any::<usize>().prop_map(|which| Deed::Confirm { which }),
        1 => any::<usize>().prop_map(|which| Deed::Decline { which }),
        1 => (0usize..2, any_offer()).prop_map(|(service, offer)| Deed::Change { service, offer }),
    ]
}

/// A shop of two services, open around the clock, and everything that was ever booked there.
struct Town {
    world: World,
    shop: Shop,
    services: Vec<ServiceId>,
    clients: Vec<Actor>,
    appointments: Vec<(AppointmentId, usize)>,
}

const FIRST_DAY: &str = "2026-03-04";

impl Town {
    fn new(zone_name: &str, offers: [Offer; 2], confirmation: Confirmation) -> Self {
        let mut world = World::new();
        let mut open = classic();
        open.zone = zone(zone_name);
        open.weekly = Some(every_day(&[("00:00", "24:00")]));
        open.policy = policy(|p| p.confirmation = confirmation);
        let [first, second] = offers;
        open.service = Some(first);
        let shop = world.shop(open);
        let add = ChangeProvider { provider: shop.id, change: AddService { offer: second } };
        let added = world.run(&shop.owner, &add).unwrap().outcome.service.unwrap();
        let services = vec![shop.service, added];
        let clients = ["ana", "caio", "davi"].map(|name| world.person(name)).into();
        Self { world, shop, services, clients, appointments: Vec::new() }
    }

    fn start(half_hours: i64) -> domain::Instant {
        instant(&format!("{FIRST_DAY}T00:00:00Z")) + TimeDelta::minutes(30 * half_hours)
    }

    fn pick(&self, which: usize, provider: bool) -> Option<(AppointmentId, Actor)> {
        let (id, client) = self.appointments.get(which % self.appointments.len().max(1))?;
        let actor = if provider { &self.shop.owner } else { &self.clients[*client] };
        Some((*id, actor.clone()))
    }

    fn does(&mut self, deed: Deed) -> Result<(), Refusal> {
        let (shop, mut world) = (self.shop.id, &mut self.world);
        match deed {
            Deed::Book { service, start, client } => {
                let book = BookAppointment {
                    provider: shop,
                    service: Some(self.services[service]),
                    start: Self::start(start),
                    notes: None,
                    hold: None,
                };
                let done = world.run(&self.clients[client], &book)?;
                self.appointments.push((done.outcome.appointment, client));
            }
            Deed::Move { which, start, provider } => {
                let Some((appointment, actor)) = self.pick(which, provider) else { return Ok(()) };
                world = &mut self.world;
                let start = Self::start(start);
                world.run(&actor, &RescheduleAppointment { appointment, start })?;
            }
            Deed::Cancel { which, provider } => {
                let Some((appointment, actor)) = self.pick(which, provider) else { return Ok(()) };
                world = &mut self.world;
                world.run(&actor, &CancelAppointment { appointment, reason: None })?;
            }
            Deed::Confirm { which } => {
                let Some((appointment, actor)) = self.pick(which, true) else { return Ok(()) };
                world = &mut self.world;
                world.run(&actor, &ConfirmAppointment { appointment })?;
            }
            Deed::Decline { which } => {
                let Some((appointment, actor)) = self.pick(which, true) else { return Ok(()) };
                world = &mut self.world;
                world.run(&actor, &DeclineAppointment { appointment, reason: None })?;
            }
            Deed::Change { service, offer } => {
                let change = ChangeService { service: self.services[service], offer };
                world.run(&self.shop.owner, &ChangeProvider { provider: shop, change })?;
            }
        }
        Ok(())
    }

    fn live(&self) -> BTreeMap<AppointmentId, Booking> {
        self.appointments
            .iter()
            .map(|(id, _)| (*id, self.world.appointment(*id)))
            .filter(|(_, booking)| booking.status.is_live())
            .collect()
    }

    /// Nobody stands in anybody's way, save in the seats of one group.
    fn assert_apart(&self) {
        let live: Vec<Booking> = self.live().into_values().collect();
        let span = |b: &Booking| b.terms.measure.buffered(b.slot);
        let same = |a: &Booking, b: &Booking| {
            a.terms.measure.service == b.terms.measure.service
                && a.slot.start == b.slot.start
                && span(a) == span(b)
        };
        for (i, a) in live.iter().enumerate() {
            for b in &live[i + 1..] {
                assert!(same(a, b) || !span(a).intersects(&span(b)), "{a:?} and {b:?}");
            }
            let company = live.iter().filter(|b| same(a, b)).count();
            let capacity = usize::from(a.terms.measure.capacity);
            assert!(company <= capacity, "{company} in a group of {capacity}");
        }
    }

    /// Each agenda holds the live appointments whose buffered time touches its day, and no others.
    fn assert_agendas_agree(&self) {
        let live = self.live();
        let first: NaiveDate = FIRST_DAY.parse().unwrap();
        for day in (first - Days::new(3)).iter_days().take(10) {
            let agenda: Agenda = self.world.get(AgendaId::of(self.shop.id, day));
            let standing: BTreeSet<_> =
                agenda.occupations.iter().flat_map(|o| o.seats.iter().copied()).collect();
            let touching: BTreeSet<_> = live
                .iter()
                .filter(|(_, b)| b.terms.measure.buffered(b.slot).utc_days().contains(&day))
                .map(|(id, _)| *id)
                .collect();
            assert_eq!(standing, touching, "{day}");
            let seats: usize = agenda.occupations.iter().map(|o| o.seats.len()).sum();
            assert_eq!(seats, standing.len(), "somebody sits twice on {day}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn no_history_of_deeds_books_anybody_over_anybody(
        zone in prop::sample::select(&["America/Sao_Paulo", "Asia/Tokyo", "Asia/Kathmandu"][..]),
        offers in (any_offer(), any_offer()),
        automatic in any::<bool>(),
        deeds in prop::collection::vec(any_deed(), 1..60),
    ) {
        let confirmation =
            if automatic { Confirmation::Automatic } else { Confirmation::Manual };
        let mut town = Town::new(zone, [offers.0, offers.1], confirmation);
        for deed in deeds {
            let before = town.live();
            let told = town.does(deed.clone());
            match &told {
                Err(Refusal::SlotTaken { alternatives } | Refusal::GroupFull { alternatives }) => {
                    prop_assert!(alternatives.len() <= domain::taking::ALTERNATIVES);
                    // Nearest first, and the first of them can really be had.
                    let (wanted, retried) = match deed {
                        Deed::Book { service, start, client } => (start, Some((service, client))),
                        Deed::Move { start, .. } => (start, None),
                        Deed::Cancel { .. }
                        | Deed::Confirm { .. }
                        | Deed::Decline { .. }
                        | Deed::Change { .. } => panic!("{deed:?} takes no slot"),
                    };
                    let wanted = Town::start(wanted);
                    let distances: Vec<_> =
                        alternatives.iter().map(|start| (*start - wanted).abs()).collect();
                    prop_assert!(distances.is_sorted(), "{alternatives:?} from {wanted}");
                    if let (Some((service, client)), Some(start)) = (retried, alternatives.first())
                    {
                        let half_hours = (*start - Town::start(0)).num_minutes() / 30;
                        let book = Deed::Book { service, start: half_hours, client };
                        if Town::start(half_hours) == *start {
                            prop_assert_eq!(town.does(book), Ok(()));
                        }
                    }
                }
                Err(_) => prop_assert_eq!(town.live(), before),
                Ok(()) => {}
            }
            town.assert_apart();
        }
        town.assert_agendas_agree();
    }
}
