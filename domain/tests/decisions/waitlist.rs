//! Waitlists: first come, first served; one offer at a time; never one slot to two.

use domain::Refusal;
use domain::account::{DeactivateAccount, ReactivateAccount};
use domain::actor::Actor;
use domain::aggregate::StreamId;
use domain::appointment::{AppointmentStands, BookAppointment, CancelAppointment};
use domain::event::Event;
use domain::hold::{ExpireHold, HoldSlot, ReleaseHold};
use domain::hours::Zone;
use domain::ids::{AppointmentId, HoldId, WaitId, WaitlistId};
use domain::provider::{ChangeProvider, ChangeService, OpenProvider, SetWeeklyHours};
use domain::waitlist::{
    Ending, JoinWaitlist, LeaveWaitlist, MAX_PLACES, OfferFreedSlot, SlotOnOffer, Waitlist,
    WaitlistEvent, Waits,
};

use crate::world::{Done, Shop, World, classic, every_day, instant, offer, policy};

/// Tuesday 10:00 in São Paulo: the shop's only slot that day.
const SLOT: &str = "2026-03-03T13:00:00Z";
const JOB: Actor = Actor::System("waitlist");

struct Scene {
    world: World,
    shop: Shop,
    ana: Actor,
    booked: AppointmentId,
}

/// A shop with one slot a day, which Ana has on Tuesday.
fn scene(mut open: OpenProvider) -> Scene {
    let mut world = World::new();
    open.weekly = Some(every_day(&[("10:00", "11:00")]));
    let (shop, ana) = (world.shop(open), world.person("ana"));
    let booked = world.book(&ana, &shop, SLOT).unwrap().outcome.appointment;
    Scene { world, shop, ana, booked }
}

impl Scene {
    fn join(&mut self, actor: &Actor, from: &str, to: &str) -> Result<Done<Waits>, Refusal> {
        let (provider, service) = (self.shop.id, None);
        let (from, to) = (instant(from), instant(to));
        self.world.run(actor, &JoinWaitlist { provider, service, from, to })
    }

    /// For Tuesday.
    fn waits(&mut self, actor: &Actor) -> WaitId {
        self.join(actor, "2026-03-03T03:00:00Z", "2026-03-04T03:00:00Z").unwrap().outcome.wait
    }

    fn calls_off(&mut self) {
        let (ana, appointment) = (self.ana.clone(), self.booked);
        self.world.run(&ana, &CancelAppointment { appointment, reason: None }).unwrap();
    }

    fn offers(&mut self) -> Done<SlotOnOffer> {
        let (provider, day) = (self.shop.id, "2026-03-03".parse().unwrap());
        self.world.run(&JOB, &OfferFreedSlot { provider, day }).unwrap()
    }

    fn offered(&mut self) -> Option<(WaitId, HoldId)> {
        self.offers().outcome.offered
    }

    fn line(&self) -> Vec<WaitId> {
        let list: Waitlist = self.world.get(WaitlistId::of(self.shop.id));
        list.line.iter().map(|waiting| waiting.wait.id).collect()
    }

    fn takes(
        &mut self,
        actor: &Actor,
        hold: Option<HoldId>,
    ) -> Result<Done<AppointmentStands>, Refusal> {
        let (provider, service, start) = (self.shop.id, None, instant(SLOT));
        self.world.run(actor, &BookAppointment { provider, service, start, notes: None, hold })
    }

    /// How the waits ended so far, in order.
    fn endings(&self) -> Vec<(WaitId, Ending)> {
        let history = self.world.history(StreamId::of::<Waitlist>(WaitlistId::of(self.shop.id)));
        let ended = history.into_iter().filter_map(|event| {
            let Event::Waitlist(WaitlistEvent::WaitEnded { wait, ending, .. }) = event else {
                return None;
            };
            Some((wait.id, ending))
        });
        ended.collect()
    }
}

#[test]
fn who_came_first_is_offered_what_is_given_back_and_takes_it() {
    let mut scene = scene(classic());
    let (bia, carla, dora) =
        (scene.world.person("bia"), scene.world.person("carla"), scene.world.person("dora"));
    let first = scene.waits(&bia);
    let second = scene.join(&carla, "2026-03-03T12:00:00Z", "2026-03-03T15:00:00Z").unwrap();
    assert_eq!(second.outcome.place, 2);
    assert_eq!(scene.offered(), None, "nothing is free");
    scene.calls_off();
    let done = scene.offers();
    assert_eq!(done.names(), ["HoldPlaced", "SlotHeld", "SlotOffered"]);
    let (wait, hold) = done.outcome.offered.unwrap();
    assert_eq!(wait, first);
    // It is nobody else's now, neither with a hold that is not theirs.
    let refusal = scene.takes(&dora, None).unwrap_err();
    assert!(matches!(refusal, Refusal::SlotHeld { .. }), "{refusal:?}");
    assert_eq!(scene.takes(&carla, Some(hold)).unwrap_err(), Refusal::NotFound("hold"));
    assert_eq!(scene.offers().events.len(), 0, "the next is not offered it, too");
    let done = scene.takes(&bia, Some(hold)).unwrap();
    assert_eq!(done.names(), ["AppointmentBooked", "HoldUsed", "SlotTaken", "WaitEnded"]);
    assert_eq!(scene.endings(), [(first, Ending::Taken)]);
    assert_eq!(scene.line(), [second.outcome.wait]);
    assert_eq!(scene.offered(), None);
}

#[test]
fn what_is_not_taken_in_time_goes_to_the_next_and_in_the_end_it_is_free() {
    let mut open = classic();
    open.policy = policy(|policy| policy.waitlist_offer_minutes = Some(15));
    let mut scene = scene(open);
    let (bia, carla) = (scene.world.person("bia"), scene.world.person("carla"));
    let (first, second) = (scene.waits(&bia), scene.waits(&carla));
    scene.calls_off();
    let (_, hold) = scene.offered().unwrap();
    scene.world.now = instant("2026-03-02T10:14:59Z");
    let expire = |hold| ExpireHold { hold };
    assert!(scene.world.run(&JOB, &expire(hold)).unwrap().events.is_empty());
    scene.world.now = instant("2026-03-02T10:15:00Z");
    let done = scene.world.run(&JOB, &expire(hold)).unwrap();
    assert_eq!(done.names(), ["HeldSlotFreed", "HoldExpired", "WaitEnded"]);
    let (wait, hold) = scene.offered().unwrap();
    assert_eq!(wait, second);
    // She lets it go.
    scene.world.run(&carla, &ReleaseHold { hold }).unwrap();
    assert_eq!(scene.endings(), [(first, Ending::Lapsed), (second, Ending::Declined)]);
    assert_eq!(scene.offers().events.len(), 0);
    let dora = scene.world.person("dora");
    scene.takes(&dora, None).unwrap();
}

#[test]
fn who_leaves_gives_back_what_they_are_offered() {
    let mut scene = scene(classic());
    let (bia, carla) = (scene.world.person("bia"), scene.world.person("carla"));
    let (first, second) = (scene.waits(&bia), scene.waits(&carla));
    let provider = scene.shop.id;
    scene.calls_off();
    scene.offered().unwrap();
    let refusal = scene.world.run(&carla, &LeaveWaitlist { provider, wait: first }).unwrap_err();
    assert_eq!(refusal, Refusal::NotFound("place in line"));
    let done = scene.world.run(&bia, &LeaveWaitlist { provider, wait: first }).unwrap();
    assert_eq!(done.names(), ["HeldSlotFreed", "HoldReleased", "WaitEnded"]);
    assert_eq!(scene.offered().unwrap().0, second);
    let refusal = scene.world.run(&bia, &LeaveWaitlist { provider, wait: first }).unwrap_err();
    assert_eq!(refusal, Refusal::NotFound("place in line"));
}

#[test]
fn nobody_waits_where_something_is_free_and_whoever_asks_twice_stands_once() {
    let mut scene = scene(classic());
    let bia = scene.world.person("bia");
    let day = ("2026-03-04T03:00:00Z", "2026-03-05T03:00:00Z");
    let refusal = scene.join(&bia, day.0, day.1).unwrap_err();
    let alternatives = vec![instant("2026-03-04T13:00:00Z")];
    assert_eq!(refusal, Refusal::NothingToWaitFor { alternatives });
    let first = scene.waits(&bia);
    assert_eq!(scene.waits(&bia), first);
    // Nor twice by asking for a little less: one turn each.
    let less = scene.join(&bia, "2026-03-03T03:00:01Z", "2026-03-04T03:00:00Z");
    assert_eq!(less.unwrap_err(), Refusal::AlreadyInLine);
    assert_eq!(scene.line(), [first]);
}

#[test]
fn stretches_and_lines_are_bounded() {
    let mut scene = scene(classic());
    let bia = scene.world.person("bia");
    for (from, to) in [
        ("2026-03-03T12:00:00Z", "2026-03-03T12:00:00Z"),
        ("2026-03-03T12:00:00Z", "2026-03-02T12:00:00Z"),
        ("2026-03-01T12:00:00Z", "2026-03-02T10:00:00Z"),
        ("2026-03-03T12:00:00Z", "2026-03-17T12:00:01Z"),
    ] {
        let refusal = scene.join(&bia, from, to).unwrap_err();
        assert_eq!(refusal, Refusal::WaitingTime { days: 14 }, "{from} {to}");
    }
    let refusal = scene.join(&bia, "2027-03-04T12:00:00Z", "2027-03-05T12:00:00Z").unwrap_err();
    assert!(matches!(refusal, Refusal::BeyondHorizon { .. }));
    for hour in 0..MAX_PLACES {
        let (from, to) =
            (format!("2026-03-03T0{hour}:00:00Z"), format!("2026-03-03T0{hour}:59:00Z"));
        scene.join(&bia, &from, &to).unwrap();
    }
    let refusal = scene.join(&bia, "2026-03-03T09:00:00Z", "2026-03-03T15:00:00Z").unwrap_err();
    assert!(matches!(refusal, Refusal::LimitReached { limit: MAX_PLACES, .. }));
    let owner = scene.shop.owner.clone();
    let refusal = scene.join(&owner, "2026-03-03T09:00:00Z", "2026-03-03T15:00:00Z").unwrap_err();
    assert_eq!(refusal, Refusal::OwnAppointment);
}

#[test]
fn nothing_is_offered_that_cannot_be_booked_any_more() {
    let mut open = classic();
    open.policy = policy(|policy| policy.minimum_notice_minutes = 120);
    let mut scene = scene(open);
    let (bia, carla) = (scene.world.person("bia"), scene.world.person("carla"));
    let first = scene.waits(&bia);
    scene.waits(&carla);
    scene.calls_off();
    // Ten minutes before it is too late, it is offered for ten minutes.
    scene.world.now = instant("2026-03-03T10:50:00Z");
    let (wait, hold) = scene.offered().unwrap();
    assert_eq!(wait, first);
    scene.world.now = instant("2026-03-03T11:00:00Z");
    scene.world.run(&JOB, &ExpireHold { hold }).unwrap();
    assert_eq!(scene.offered(), None, "too late for the next");
    // Whose time is over leaves the line when it is next looked at.
    scene.world.now = instant("2026-03-04T03:00:00Z");
    scene.offers();
    assert!(scene.line().is_empty());
    assert_eq!(scene.endings().last().unwrap().1, Ending::Passed);
}

#[test]
fn what_is_not_on_offer_just_now_is_waited_for() {
    let mut scene = scene(classic());
    let bia = scene.world.person("bia");
    let first = scene.waits(&bia);
    scene.calls_off();
    let (owner, service) = (scene.shop.owner.clone(), scene.shop.service);
    let active = |scene: &mut Scene, is_active| {
        let offer = offer(|offer| offer.is_active = is_active).unwrap();
        let change = ChangeService { service, offer };
        let change = ChangeProvider { provider: scene.shop.id, change };
        scene.world.run(&owner, &change).unwrap();
    };
    active(&mut scene, false);
    let nobody = scene.offers().outcome;
    assert!(nobody.offered.is_none() && !nobody.more && !nobody.paused);
    assert_eq!(scene.line(), [first]);
    active(&mut scene, true);
    assert_eq!(scene.offered().unwrap().0, first);
}

#[test]
fn a_provider_who_is_away_offers_when_they_are_back() {
    let mut scene = scene(classic());
    let bia = scene.world.person("bia");
    let first = scene.waits(&bia);
    scene.calls_off();
    let (owner, account) = (scene.shop.owner.clone(), scene.shop.owner.account().unwrap());
    scene.world.run(&owner, &DeactivateAccount { account }).unwrap();
    let away = scene.offers().outcome;
    assert!(away.paused && away.offered.is_none());
    let back = ReactivateAccount { account, proven_under: Some(1) };
    scene.world.run(&Actor::Anonymous, &back).unwrap();
    assert_eq!(scene.offered().unwrap().0, first);
}

#[test]
fn an_offer_is_not_lost_by_holding_slots() {
    let mut scene = scene(classic());
    let bia = scene.world.person("bia");
    let first = scene.waits(&bia);
    scene.calls_off();
    let (wait, offer) = scene.offered().unwrap();
    assert_eq!(wait, first);
    let hold = HoldSlot { provider: scene.shop.id, service: None, start: instant(SLOT) };
    let done = scene.world.run(&bia, &hold).unwrap();
    assert!(done.events.is_empty());
    assert_eq!(done.outcome.hold, offer);
    // Other slots are held one at a time beside it.
    let weekly = every_day(&[("10:00", "14:00")]);
    let hours = SetWeeklyHours { zone: Zone::SAO_PAULO, weekly };
    let change = ChangeProvider { provider: scene.shop.id, change: hours };
    let owner = scene.shop.owner.clone();
    scene.world.run(&owner, &change).unwrap();
    for start in ["2026-03-03T14:00:00Z", "2026-03-03T15:00:00Z"] {
        let hold = HoldSlot { start: instant(start), ..hold.clone() };
        scene.world.run(&bia, &hold).unwrap();
        let held = scene.world.agenda(&scene.shop, "2026-03-03").occupations;
        assert_eq!(held.iter().map(|o| o.held.len()).sum::<usize>(), 2, "{held:?}");
    }
    // Booked without naming it, it is taken all the same.
    scene.takes(&bia, None).unwrap();
    assert_eq!(scene.endings(), [(first, Ending::Taken)]);
}

#[test]
fn who_is_gone_is_passed_over() {
    let mut scene = scene(classic());
    let (bia, carla) = (scene.world.person("bia"), scene.world.person("carla"));
    let (first, second) = (scene.waits(&bia), scene.waits(&carla));
    let account = bia.account().unwrap();
    scene.world.run(&bia, &DeactivateAccount { account }).unwrap();
    scene.calls_off();
    assert_eq!(scene.offered().unwrap().0, second);
    assert_eq!(scene.endings(), [(first, Ending::Gone)]);
}

#[test]
fn only_pontual_offers() {
    let mut scene = scene(classic());
    let bia = scene.world.person("bia");
    let command = OfferFreedSlot { provider: scene.shop.id, day: "2026-03-03".parse().unwrap() };
    assert_eq!(scene.world.run(&bia, &command).unwrap_err(), Refusal::Forbidden);
    assert_eq!(scene.world.run(&Actor::Anonymous, &command).unwrap_err(), Refusal::SignInRequired);
}
