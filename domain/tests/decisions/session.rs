//! Sessions: signing in, signing out, being ended by others.

use chrono::TimeDelta;
use cqrs_es::test::TestFramework;
use domain::Refusal;
use domain::account::{Account, ChangePassword, DeactivateAccount, EndAllSessions};
use domain::actor::{Actor, Role};
use domain::aggregate::Context;
use domain::command::{SecretKey, SecretKind};
use domain::event::Event;
use domain::ids::{AccountId, Id, Mint, RoutingSlot, SessionId};
use domain::personal::Personal;
use domain::session::{
    EndForReuse, EndReason, EndSession, Lifetime, RefreshRecord, Session, SessionCommand,
    SessionEvent, SignIn, SignOut, Started,
};
use domain::text::UserAgent;

use crate::world::{Done, World, instant};

const PONTUAL: Actor = Actor::System("refresh");

fn account() -> AccountId {
    Mint::new([9; 32]).id(RoutingSlot::from_bits(9), 0)
}

fn started() -> Started {
    Started { account: account(), generation: 3, expires_at: instant("2026-05-31T10:00:00Z") }
}

fn session_started() -> SessionEvent {
    let Started { account, generation, expires_at } = started();
    SessionEvent::SessionStarted { account, generation, expires_at, ip: None, user_agent: None }
}

fn framework() -> TestFramework<Session> {
    TestFramework::with(Context { now: instant("2026-03-02T10:00:00Z") })
}

fn sign_in(account: AccountId, generation: u32) -> SignIn {
    SignIn {
        account,
        generation,
        nonce: [5; 32],
        lifetime: Lifetime::default(),
        ip: Some("203.0.113.9".parse().unwrap()),
        user_agent: UserAgent::of("Firefox"),
    }
}

/// Ana, signed in.
fn signed_in(world: &mut World) -> (Actor, SessionId) {
    let ana = world.person("ana");
    let done = world.run(&Actor::Anonymous, &sign_in(ana.account().unwrap(), 0)).unwrap();
    (ana, done.outcome.session)
}

fn refresh(session: SessionId) -> SecretKey {
    SecretKey { owner: session.uuid(), kind: SecretKind::Refresh }
}

#[test]
fn a_session_begins_once_and_ends_once() {
    let start = || SessionCommand::Start { started: started(), ip: None, user_agent: None };
    framework()
        .given_no_previous_events()
        .when(start())
        .then_expect_events(vec![session_started()]);
    framework().given(vec![session_started()]).when(start()).then_expect_events(vec![]);
    for reason in [EndReason::SignedOut, EndReason::EndedByOwner, EndReason::RefreshReused] {
        let ended = SessionEvent::SessionEnded { account: account(), reason };
        framework()
            .given(vec![session_started()])
            .when(SessionCommand::End(reason))
            .then_expect_events(vec![ended.clone()]);
        framework()
            .given(vec![session_started(), ended])
            .when(SessionCommand::End(EndReason::SignedOut))
            .then_expect_events(vec![]);
        framework()
            .given_no_previous_events()
            .when(SessionCommand::End(reason))
            .then_expect_error(Refusal::NotFound("session"));
    }
}

#[test]
fn signing_in_begins_a_session_in_the_accounts_slot_and_keeps_its_first_record() {
    let mut world = World::new();
    let ana = world.person("ana").account().unwrap();
    let done = world.run(&Actor::Anonymous, &sign_in(ana, 0)).unwrap();
    let Done { outcome, events, .. } = &done;
    assert_eq!(
        (outcome.account, outcome.generation, &outcome.roles[..]),
        (ana, 0, &[Role::Client][..])
    );
    assert_eq!(outcome.session.slot(), ana.slot());
    assert_eq!(outcome.expires_at, world.now + TimeDelta::days(90));
    let expected = SessionEvent::SessionStarted {
        account: ana,
        generation: 0,
        expires_at: outcome.expires_at,
        ip: Some(Personal::of(ana, "203.0.113.9".parse().unwrap())),
        user_agent: Some(Personal::of(ana, "Firefox".parse().unwrap())),
    };
    assert_eq!(events[0].1, Event::Session(expected));
    let record = RefreshRecord::from_bytes(&world.secrets[&refresh(outcome.session)]).unwrap();
    assert_eq!(record, RefreshRecord::first([5; 32], world.now, Lifetime::default()));
    // Where somebody signed in from is theirs, not nobody's: it goes when they are erased.
    assert_eq!(done.origin_of, Some(ana.into()));
    assert!(!serde_json::to_string(outcome).unwrap().contains("203.0"));
}

#[test]
fn each_sign_in_is_a_session_of_its_own() {
    let mut world = World::new();
    let (ana, first) = signed_in(&mut world);
    let again = world.run(&Actor::Anonymous, &sign_in(ana.account().unwrap(), 0)).unwrap();
    assert_ne!(again.outcome.session, first);
    assert!(world.secrets.contains_key(&refresh(first)));
}

#[test]
fn a_password_that_was_verified_before_it_changed_signs_nobody_in() {
    let mut world = World::new();
    let ana = world.person("ana");
    let account = ana.account().unwrap();
    let change = ChangePassword { account, generation: 0, new_hash: "$argon2id$new".to_owned() };
    world.run(&ana, &change).unwrap();
    let refused = world.run(&Actor::Anonymous, &sign_in(account, 0)).unwrap_err();
    assert_eq!(refused, Refusal::InvalidCredentials);
    assert_eq!(world.run(&Actor::Anonymous, &sign_in(account, 1)).unwrap().outcome.generation, 1);
}

#[test]
fn an_unknown_account_has_wrong_credentials_and_a_deactivated_one_is_told_so() {
    let mut world = World::new();
    let refused = world.run(&Actor::Anonymous, &sign_in(account(), 0)).unwrap_err();
    assert_eq!(refused, Refusal::InvalidCredentials);
    let ana = world.person("ana");
    let account = ana.account().unwrap();
    world.run(&ana, &DeactivateAccount { account }).unwrap();
    let refused = world.run(&Actor::Anonymous, &sign_in(account, 1)).unwrap_err();
    assert_eq!(refused, Refusal::AccountDeactivated);
    let refused = world.run(&Actor::Anonymous, &sign_in(account, 0)).unwrap_err();
    assert_eq!(refused, Refusal::InvalidCredentials, "without the password nothing is told");
}

#[test]
fn signing_out_ends_the_session_once_and_drops_its_record() {
    let mut world = World::new();
    let (ana, session) = signed_in(&mut world);
    let done = world.run(&ana, &SignOut { session }).unwrap();
    let reason = EndReason::SignedOut;
    let ended = SessionEvent::SessionEnded { account: ana.account().unwrap(), reason };
    assert_eq!(done.events[0].1, Event::Session(ended));
    assert!(!world.secrets.contains_key(&refresh(session)));
    assert!(world.run(&ana, &SignOut { session }).unwrap().events.is_empty());
    assert!(world.run(&ana, &EndSession { session }).unwrap().events.is_empty());
}

#[test]
fn only_its_owner_ends_a_session_and_nobody_else_hears_of_it() {
    let mut world = World::new();
    let (ana, session) = signed_in(&mut world);
    let bia = world.person("bia");
    let unknown: SessionId = Mint::new([3; 32]).id(RoutingSlot::from_bits(1), 0);
    for (actor, session, refusal) in [
        (&bia, session, Refusal::NotFound("session")),
        (&ana, unknown, Refusal::NotFound("session")),
        (&Actor::Anonymous, session, Refusal::SignInRequired),
        (&PONTUAL, session, Refusal::SignInRequired),
    ] {
        assert_eq!(world.run(actor, &SignOut { session }).unwrap_err(), refusal);
        assert_eq!(world.run(actor, &EndSession { session }).unwrap_err(), refusal);
    }
    let done = world.run(&ana, &EndSession { session }).unwrap();
    let Event::Session(SessionEvent::SessionEnded { reason, .. }) = &done.events[0].1 else {
        panic!("it ended")
    };
    assert_eq!(*reason, EndReason::EndedByOwner);
}

#[test]
fn a_session_whose_token_two_people_have_is_ended_by_pontual_alone() {
    let mut world = World::new();
    let (ana, session) = signed_in(&mut world);
    let end = EndForReuse { session };
    assert_eq!(world.run(&ana, &end).unwrap_err(), Refusal::Forbidden);
    assert_eq!(world.run(&Actor::Anonymous, &end).unwrap_err(), Refusal::SignInRequired);
    assert_eq!(world.run(&PONTUAL, &end).unwrap().names(), ["SessionEnded"]);
    assert!(!world.secrets.contains_key(&refresh(session)));
    assert!(world.run(&PONTUAL, &end).unwrap().events.is_empty());
}

#[test]
fn a_session_is_over_when_it_ended_when_its_time_is_up_or_when_credentials_changed() {
    let mut world = World::new();
    let (ana, session) = signed_in(&mut world);
    let account = ana.account().unwrap();
    let alive = |world: &World, session: SessionId, days| {
        let now = world.now + TimeDelta::days(days);
        world.get::<Session>(session).alive(&world.get::<Account>(account), now).map(|_| ())
    };
    assert_eq!(alive(&world, session, 0), Ok(()));
    assert_eq!(alive(&world, session, 89), Ok(()));
    assert_eq!(alive(&world, session, 90), Err(Refusal::SessionEnded));
    let unknown: SessionId = Mint::new([3; 32]).id(RoutingSlot::from_bits(1), 0);
    assert_eq!(alive(&world, unknown, 0), Err(Refusal::NotFound("session")));

    let outcome = world.run(&ana, &EndAllSessions { account }).unwrap().outcome;
    assert_eq!(alive(&world, session, 0), Err(Refusal::SessionEnded));
    let next = world.run(&Actor::Anonymous, &sign_in(account, outcome.generation)).unwrap();
    let next = next.outcome.session;
    assert_eq!(alive(&world, next, 0), Ok(()));
    world.run(&ana, &DeactivateAccount { account }).unwrap();
    assert_eq!(alive(&world, next, 0), Err(Refusal::AccountDeactivated));
}

#[test]
fn a_record_rotates_until_the_session_ends_and_reads_as_it_was_kept() {
    let now = instant("2026-03-02T10:00:00Z");
    let first = RefreshRecord::first([0xab; 32], now, Lifetime::default());
    assert_eq!((first.number, first.expires_at), (0, now + TimeDelta::days(30)));
    let later = now + TimeDelta::days(70);
    let next = first.rotated(later, Lifetime::default());
    assert_eq!((next.number, next.rotated_at, next.nonce), (1, later, first.nonce));
    assert_eq!((next.expires_at, next.ends_at), (first.ends_at, first.ends_at));
    assert_eq!(RefreshRecord::from_bytes(&next.to_bytes()), Some(next));
    for broken in [&b""[..], b"{}", b"null", br#"{"nonce":"zz"}"#] {
        assert_eq!(RefreshRecord::from_bytes(broken), None);
    }
    assert!(!format!("{first:?}").contains("171"), "nor is the nonce shown");
}
