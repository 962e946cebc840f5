//! Notification feeds: marking one, marking all.

use cqrs_es::test::TestFramework;
use domain::Refusal;
use domain::actor::Actor;
use domain::aggregate::Context;
use domain::appointment::Parties;
use domain::ids::{AccountId, Id, Mint, NotificationFeedId, RoutingSlot};
use domain::notification_feed::{
    AddressedFeedCommand, MarkAllNotificationsRead, MarkNotificationRead, NotificationFeed,
    NotificationFeedCommand, NotificationFeedEvent,
};
use domain::position::Position;

use crate::world::{World, instant};

const NOW: &str = "2026-03-02T10:00:00Z";

fn account() -> AccountId {
    Mint::new([9; 32]).id(RoutingSlot::from_bits(9), 0)
}

fn at(position: &str) -> Position {
    position.parse().unwrap()
}

fn read(position: &str) -> NotificationFeedEvent {
    NotificationFeedEvent::NotificationRead { account: account(), notification: at(position) }
}

fn all_read(until: &str) -> NotificationFeedEvent {
    NotificationFeedEvent::AllNotificationsRead { account: account(), until: instant(until) }
}

fn then(given: Vec<NotificationFeedEvent>, command: NotificationFeedCommand) -> Vec<&'static str> {
    TestFramework::<NotificationFeed>::with(Context { now: instant(NOW) })
        .given(given)
        .when(AddressedFeedCommand { account: account(), command })
        .inspect_result()
        .unwrap()
        .iter()
        .map(|event| event.kind().0)
        .collect()
}

#[test]
fn a_notification_is_marked_once() {
    let mark = || NotificationFeedCommand::MarkRead(at("0:7"));
    assert_eq!(then(vec![], mark()), ["NotificationRead"]);
    assert_eq!(then(vec![read("1:7")], mark()), ["NotificationRead"]);
    assert!(then(vec![read("0:7")], mark()).is_empty());
}

#[test]
fn everything_up_to_an_instant_is_marked_once() {
    let mark = || NotificationFeedCommand::MarkAllRead(instant(NOW));
    assert_eq!(then(vec![], mark()), ["AllNotificationsRead"]);
    assert_eq!(then(vec![all_read("2026-03-02T09:59:59Z")], mark()), ["AllNotificationsRead"]);
    assert!(then(vec![all_read(NOW)], mark()).is_empty());
    let late_and_early = vec![all_read(NOW), all_read("2026-01-01T00:00:00Z")];
    assert!(then(late_and_early, mark()).is_empty());
}

#[test]
fn only_so_many_single_marks_are_remembered() {
    let marks = |n: usize| (1..=n).map(|i| read(&format!("0:{i}"))).collect::<Vec<_>>();
    let first = || NotificationFeedCommand::MarkRead(at("0:1"));
    assert!(then(marks(NotificationFeed::REMEMBERED), first()).is_empty());
    assert_eq!(then(marks(NotificationFeed::REMEMBERED + 1), first()), ["NotificationRead"]);
}

#[test]
fn each_marks_in_their_own_feed_and_nobody_in_nobodys() {
    let mut world = World::new();
    let (ana, bia, eva) = (world.person("ana"), world.person("bia"), world.person("eva"));
    let concerns = Some(Parties {
        provider: Mint::new([8; 32]).id(RoutingSlot::from_bits(8), 0),
        provider_account: bia.account().unwrap(),
        client: ana.account().unwrap().into(),
    });
    let mark = MarkNotificationRead { notification: at("0:3"), concerns };
    let all = MarkAllNotificationsRead { until: instant(NOW) };
    let done = world.run(&ana, &mark).unwrap();
    let feed = NotificationFeedId::of(ana.account().unwrap());
    assert_eq!(done.events[0].0.id, feed.uuid());
    assert_eq!(world.run(&ana, &mark).unwrap().events.len(), 0);
    assert_eq!(world.run(&bia, &mark).unwrap().events.len(), 1);
    let unknown = Refusal::NotFound("notification");
    assert_eq!(world.run(&eva, &mark).unwrap_err(), unknown, "it concerns others");
    let unwritten = MarkNotificationRead { concerns: None, ..mark.clone() };
    assert_eq!(world.run(&ana, &unwritten).unwrap_err(), unknown);
    assert_eq!(world.run(&bia, &all).unwrap().events.len(), 1);
    let nobody = Actor::Anonymous;
    assert_eq!(world.run(&nobody, &mark).unwrap_err(), Refusal::SignInRequired);
    assert_eq!(world.run(&nobody, &all).unwrap_err(), Refusal::SignInRequired);
}
