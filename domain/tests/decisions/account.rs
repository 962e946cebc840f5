//! Accounts: registering, confirming, being registered twice.

use cqrs_es::test::TestFramework;
use domain::Refusal;
use domain::account::{Account, AccountCommand, AccountEvent, ConfirmEmail};
use domain::actor::{Actor, Role};
use domain::aggregate::{Context, StreamId};
use domain::command::{ClaimHasher, ClaimKind, SecretKey, SecretKind};
use domain::event::Event;
use domain::ids::{AccountId, Id, Mint, RoutingSlot};
use domain::locale::Locale;
use domain::personal::Personal;

use crate::world::{PlainHasher, World, instant, registration};

fn id() -> AccountId {
    Mint::new([9; 32]).id(RoutingSlot::from_bits(9), 0)
}

fn registered() -> AccountEvent {
    AccountEvent::AccountRegistered {
        name: Personal::of(id(), "Ana Lima".parse().unwrap()),
        email: Personal::of(id(), "ana@example.com".parse().unwrap()),
        phone: None,
        locale: Locale::PtBr,
        zone: None,
        roles: vec![Role::Client],
    }
}

fn framework() -> TestFramework<Account> {
    TestFramework::with(Context { now: instant("2026-03-02T10:00:00Z") })
}

#[test]
fn an_address_is_confirmed_once() {
    framework()
        .given(vec![registered()])
        .when(AccountCommand::ConfirmEmail)
        .then_expect_events(vec![AccountEvent::EmailConfirmed {}]);
    framework()
        .given(vec![registered(), AccountEvent::EmailConfirmed {}])
        .when(AccountCommand::ConfirmEmail)
        .then_expect_events(vec![]);
}

#[test]
fn a_role_is_granted_once() {
    let granted = AccountEvent::RoleGranted { role: Role::Provider };
    framework()
        .given(vec![registered()])
        .when(AccountCommand::GrantRole(Role::Provider))
        .then_expect_events(vec![granted.clone()]);
    for role in [Role::Provider, Role::Client] {
        framework()
            .given(vec![registered(), granted.clone()])
            .when(AccountCommand::GrantRole(role))
            .then_expect_events(vec![]);
    }
}

#[test]
fn nothing_can_be_asked_of_an_account_that_does_not_exist() {
    for command in [
        AccountCommand::ConfirmEmail,
        AccountCommand::GrantRole(Role::Admin),
        AccountCommand::NoteRegistrationAttempt,
    ] {
        framework()
            .given_no_previous_events()
            .when(command)
            .then_expect_error(Refusal::NotFound("account"));
    }
}

#[test]
fn registering_takes_the_address_keeps_the_password_as_a_secret_and_writes_one_event() {
    let mut world = World::new();
    let done = world.run(&Actor::Anonymous, &registration("ana")).unwrap();
    assert_eq!(done.names(), ["AccountRegistered"]);
    let claim = PlainHasher.claim_key(ClaimKind::Email, "ana@example.com");
    let (stream, _) = done.events[0];
    assert_eq!(world.claims.get(&claim), Some(&stream.id));
    let secret = SecretKey { owner: stream.id, kind: SecretKind::PasswordHash };
    assert_eq!(world.secrets[&secret], b"$argon2id$ana");
    // One partition: the account, the claim and the command's row share a slot.
    assert_eq!((stream.slot(), claim.slot()), (done.slot, done.slot));
}

#[test]
fn whoever_means_to_open_a_shop_is_registered_as_both() {
    let mut world = World::new();
    let mut registration = registration("bia");
    registration.as_provider = true;
    let done = world.run(&Actor::Anonymous, &registration).unwrap();
    let account: Account = world.get(done.events[0].0.id);
    assert_eq!(account.roles, [Role::Client, Role::Provider]);
}

#[test]
fn registering_a_taken_address_changes_nothing_but_tells_its_owner() {
    let mut world = World::new();
    let ana = world.person("ana");
    let before = world.secrets.clone();
    let mut again = registration("ana");
    again.email = "ANA@example.com".parse().unwrap();
    again.password_hash = "$argon2id$stolen".to_owned();
    let done = world.run(&Actor::Anonymous, &again).unwrap();
    let owner = StreamId::of::<Account>(ana.account().unwrap());
    let expected = (owner, Event::Account(AccountEvent::RegistrationAttempted {}));
    assert_eq!(done.events, [expected]);
    assert_eq!(world.secrets, before);
    // The answer does not tell the two apart.
    assert_eq!(serde_json::to_string(&done.outcome).unwrap(), "{}");
}

#[test]
fn confirming_an_unknown_address_is_refused_and_confirming_twice_adds_nothing() {
    let mut world = World::new();
    let unknown = ConfirmEmail { account: id() };
    let refusal = world.run(&Actor::Anonymous, &unknown).unwrap_err();
    assert_eq!(refusal, Refusal::NotFound("account"));
    let ana = world.person("ana").account().unwrap();
    let done = world.run(&Actor::Anonymous, &ConfirmEmail { account: ana }).unwrap();
    assert!(done.events.is_empty());
    assert_eq!(done.required[&StreamId::of::<Account>(ana)], 2);
}

#[test]
fn a_registration_never_shows_its_password_or_its_person() {
    let shown = format!("{:?}", registration("ana"));
    assert!(!shown.contains("argon2id") && !shown.contains("ana"), "{shown}");
    assert_eq!(format!("{:?}", registered()).find("ana@"), None);
    assert!(id().uuid().get_version_num() == 7);
}
