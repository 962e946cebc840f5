//! Accounts: registering, profiles, passwords, roles, and whether they can be used at all.

use chrono::TimeDelta;
use cqrs_es::test::TestFramework;
use domain::Refusal;
use domain::account::{
    Account, AccountCommand, AccountEvent, ChangePassword, ChangePhoto, ConfirmEmail,
    ConfirmEmailChange, DeactivateAccount, DeactivatedBy, EndAllSessions, EraseAccount, GrantRole,
    PendingReset, ReactivateAccount, RegisterAdmin, RemovePhoto, RequestEmailChange,
    RequestPasswordReset, ResetKey, ResetPassword, RevokeRole, Status, UpdateProfile,
};
use domain::actor::{Actor, Role};
use domain::aggregate::{Context, StreamId};
use domain::appointment::{AppointmentEvent, Side};
use domain::command::{ClaimHasher, ClaimKey, ClaimKind, SecretKey, SecretKind};
use domain::event::Event;
use domain::ids::{AccountId, ChangeId, Id, Mint, PhotoId, ResetId, RoutingSlot};
use domain::locale::Locale;
use domain::personal::Personal;
use domain::provider::{AddService, ChangeProvider, Offer, Provider};

use crate::world::{PlainHasher, World, classic, instant, registration, zone};

const PONTUAL: Actor = Actor::System("operator");

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

fn photo(n: u32) -> PhotoId {
    Mint::new([7; 32]).id(RoutingSlot::from_bits(9), n)
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
        AccountCommand::RevokeRole(Role::Admin),
        AccountCommand::NoteRegistrationAttempt,
        AccountCommand::ChangePassword { generation: 0 },
        AccountCommand::ChangePhoto(photo(0)),
        AccountCommand::RemovePhoto,
        AccountCommand::EndSessions,
        AccountCommand::Deactivate(DeactivatedBy::Admin),
        AccountCommand::Reactivate,
        AccountCommand::Erase,
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

// ── One account alone ───────────────────────────────────────────────────────────────────────────────────

/// An account on which this happened.
fn after(events: &[AccountEvent]) -> Account {
    use domain::aggregate::Aggregate as _;
    let mut account = Account::default();
    account.evolve(&registered());
    events.iter().for_each(|event| account.evolve(event));
    account
}

fn pending_reset() -> PendingReset {
    let reset = Mint::new([7; 32]).id(RoutingSlot::from_bits(9), 0);
    PendingReset { reset, expires_at: instant("2026-03-02T12:00:00Z") }
}

fn reset_requested() -> AccountEvent {
    let PendingReset { reset, expires_at } = pending_reset();
    AccountEvent::PasswordResetRequested { reset, expires_at }
}

fn change_requested() -> AccountEvent {
    let change = Mint::new([7; 32]).id(RoutingSlot::from_bits(9), 0);
    let email = Personal::of(id(), "new@example.com".parse().unwrap());
    AccountEvent::EmailChangeRequested { change, email }
}

#[test]
fn whatever_changes_who_may_sign_in_raises_the_generation_and_kills_every_mailed_link() {
    let by = DeactivatedBy::Owner;
    for renewing in [
        AccountEvent::PasswordReset {},
        AccountEvent::PasswordChanged {},
        AccountEvent::AccountDeactivated { by },
        AccountEvent::AccountErased { photo: None },
    ] {
        let account = after(&[reset_requested(), change_requested(), renewing.clone()]);
        assert_eq!(account.generation, 1, "{renewing:?}");
        assert_eq!((account.pending_reset, account.pending_email), (None, None), "{renewing:?}");
    }
    for (event, generation) in [
        (AccountEvent::SessionsEnded {}, 1),
        (AccountEvent::RoleRevoked { role: Role::Admin }, 1),
        (AccountEvent::RoleGranted { role: Role::Admin }, 0),
        (AccountEvent::AccountReactivated {}, 0),
        (AccountEvent::EmailConfirmed {}, 0),
    ] {
        let account = after(&[reset_requested(), event.clone()]);
        assert_eq!(account.generation, generation, "{event:?}");
        assert_eq!(account.pending_reset, Some(pending_reset()), "{event:?}");
    }
    let AccountEvent::EmailChangeRequested { change, email } = change_requested() else { panic!() };
    let previous = Personal::of(id(), "ana@example.com".parse().unwrap());
    let changed = AccountEvent::EmailChanged { change, email, previous };
    let account = after(&[reset_requested(), change_requested(), changed]);
    assert_eq!((account.pending_reset, account.pending_email), (None, None));
    assert_eq!((account.generation, account.confirmed_change), (0, Some(change)));
}

#[test]
fn a_reset_works_until_its_time_is_up() {
    let reset = || AccountCommand::ResetPassword(pending_reset().reset);
    let at = |now: &str| TestFramework::<Account>::with(Context { now: instant(now) });
    let given = || vec![registered(), AccountEvent::EmailConfirmed {}, reset_requested()];
    at("2026-03-02T11:59:59Z")
        .given(given())
        .when(reset())
        .then_expect_events(vec![AccountEvent::PasswordReset {}]);
    at("2026-03-02T12:00:00Z").given(given()).when(reset()).then_expect_error(Refusal::InvalidLink);
    // Whoever reads the mail has the address.
    at("2026-03-02T11:00:00Z")
        .given(vec![registered(), reset_requested()])
        .when(reset())
        .then_expect_events(vec![AccountEvent::EmailConfirmed {}, AccountEvent::PasswordReset {}]);
}

#[test]
fn a_photo_replaces_the_one_before_and_is_removed_once() {
    let changed = |photo, replaced| AccountEvent::PhotoChanged { photo, replaced };
    let (one, two) = (photo(1), photo(2));
    framework()
        .given(vec![registered()])
        .when(AccountCommand::ChangePhoto(one))
        .then_expect_events(vec![changed(one, None)]);
    framework()
        .given(vec![registered(), changed(one, None)])
        .when(AccountCommand::ChangePhoto(two))
        .then_expect_events(vec![changed(two, Some(one))]);
    framework()
        .given(vec![registered(), changed(one, None)])
        .when(AccountCommand::ChangePhoto(one))
        .then_expect_events(vec![]);
    framework()
        .given(vec![registered(), changed(one, None)])
        .when(AccountCommand::RemovePhoto)
        .then_expect_events(vec![AccountEvent::PhotoRemoved { photo: one }]);
    framework()
        .given(vec![registered()])
        .when(AccountCommand::RemovePhoto)
        .then_expect_events(vec![]);
    framework()
        .given(vec![registered(), changed(one, None)])
        .when(AccountCommand::Erase)
        .then_expect_events(vec![AccountEvent::AccountErased { photo: Some(one) }]);
}

#[test]
fn a_closed_account_is_closed_once_but_an_administrators_word_stands_over_its_owners() {
    let closed = |by| AccountEvent::AccountDeactivated { by };
    let (owner, admin) = (DeactivatedBy::Owner, DeactivatedBy::Admin);
    for (before, by, events) in [
        (None, owner, vec![closed(owner)]),
        (None, admin, vec![closed(admin)]),
        (Some(owner), owner, vec![]),
        (Some(owner), admin, vec![closed(admin)]),
        (Some(admin), admin, vec![]),
        (Some(admin), owner, vec![]),
    ] {
        let mut given = vec![registered()];
        given.extend(before.map(closed));
        framework().given(given).when(AccountCommand::Deactivate(by)).then_expect_events(events);
    }
    framework()
        .given(vec![registered()])
        .when(AccountCommand::Reactivate)
        .then_expect_events(vec![]);
}

#[test]
fn nothing_but_opening_and_erasing_can_be_asked_of_a_closed_account() {
    let given = || {
        let by = DeactivatedBy::Owner;
        vec![registered(), AccountEvent::AccountDeactivated { by }]
    };
    for command in [
        AccountCommand::ConfirmEmail,
        AccountCommand::ChangePassword { generation: 1 },
        AccountCommand::ChangePhoto(photo(1)),
        AccountCommand::RemovePhoto,
        AccountCommand::EndSessions,
        AccountCommand::RequestPasswordReset(pending_reset()),
    ] {
        framework().given(given()).when(command).then_expect_error(Refusal::AccountDeactivated);
    }
    framework()
        .given(given())
        .when(AccountCommand::Reactivate)
        .then_expect_events(vec![AccountEvent::AccountReactivated {}]);
    framework()
        .given(given())
        .when(AccountCommand::Erase)
        .then_expect_events(vec![AccountEvent::AccountErased { photo: None }]);
}

#[test]
fn an_erased_account_is_nobodys_and_stays_so() {
    let given = || vec![registered(), AccountEvent::AccountErased { photo: None }];
    for command in [
        AccountCommand::ConfirmEmail,
        AccountCommand::NoteRegistrationAttempt,
        AccountCommand::GrantRole(Role::Admin),
        AccountCommand::Deactivate(DeactivatedBy::Admin),
        AccountCommand::Reactivate,
        AccountCommand::EndSessions,
    ] {
        framework().given(given()).when(command).then_expect_error(Refusal::NotFound("account"));
    }
    framework().given(given()).when(AccountCommand::Erase).then_expect_events(vec![]);
    let account = after(&[AccountEvent::AccountErased { photo: None }]);
    let profile = account.profile.as_ref().unwrap();
    assert_eq!((profile.name.known(), profile.email.known()), (None, None));
    assert_eq!((profile.phone.is_none(), account.roles.len()), (true, 0));
}

// ── Commands ────────────────────────────────────────────────────────────────────────────────────────────

fn claim(email: &str) -> ClaimKey {
    PlainHasher.claim_key(ClaimKind::Email, email)
}

fn secret(account: AccountId, kind: SecretKind) -> SecretKey {
    SecretKey { owner: account.uuid(), kind }
}

/// A person with a role more.
fn with_role(world: &mut World, name: &str, role: Role) -> Actor {
    let actor = world.person(name);
    let account = actor.account().unwrap();
    let roles = world.run(&PONTUAL, &GrantRole { account, role }).unwrap().outcome.roles;
    Actor::Account { id: account, roles }
}

fn update() -> UpdateProfile {
    UpdateProfile {
        name: "Ana Lima".parse().unwrap(),
        phone: Some("11 91234-5678".parse().unwrap()),
        locale: Locale::En,
        zone: Some(zone("Europe/Lisbon")),
    }
}

#[test]
fn a_profile_is_set_as_a_whole_and_once() {
    let mut world = World::new();
    let ana = world.person("ana");
    let account = ana.account().unwrap();
    assert_eq!(world.run(&ana, &update()).unwrap().names(), ["ProfileChanged"]);
    let state: Account = world.get(account);
    let profile = state.profile.unwrap();
    assert_eq!(profile.name.known().unwrap().as_str(), "Ana Lima");
    assert_eq!(profile.phone.unwrap().known().unwrap().as_str(), "11 91234-5678");
    assert_eq!((profile.locale, state.zone), (Locale::En, Some(zone("Europe/Lisbon"))));
    assert!(world.run(&ana, &update()).unwrap().events.is_empty());
    let without = UpdateProfile { phone: None, zone: None, ..update() };
    assert_eq!(world.run(&ana, &without).unwrap().names(), ["ProfileChanged"]);
    assert_eq!(world.get::<Account>(account).profile.unwrap().phone, None);
    let refused = world.run(&Actor::Anonymous, &update()).unwrap_err();
    assert_eq!(refused, Refusal::SignInRequired);
}

#[test]
fn what_is_ones_own_needs_somebody_who_is_signed_in() {
    let mut world = World::new();
    let ana = world.person("ana").account().unwrap();
    let bia = world.person("bia");
    let nobody = &Actor::Anonymous;
    let sign_in = Refusal::SignInRequired;
    let email = "new@example.com".parse().unwrap();
    let email_change = RequestEmailChange { email, generation: 0 };
    assert_eq!(world.run(nobody, &email_change).unwrap_err(), sign_in);
    assert_eq!(world.run(nobody, &ChangePhoto { photo: photo(1) }).unwrap_err(), sign_in);
    assert_eq!(world.run(nobody, &RemovePhoto {}).unwrap_err(), sign_in);
    let password = ChangePassword { account: ana, generation: 0, new_hash: String::new() };
    let sessions = EndAllSessions { account: ana };
    assert_eq!(world.run(nobody, &password).unwrap_err(), sign_in);
    assert_eq!(world.run(nobody, &sessions).unwrap_err(), sign_in);
    // Somebody else is not even told that there is such an account.
    assert_eq!(world.run(&bia, &password).unwrap_err(), Refusal::NotFound("account"));
    assert_eq!(world.run(&bia, &sessions).unwrap_err(), Refusal::NotFound("account"));
    let done = world.run(&bia, &ChangePhoto { photo: photo(1) }).unwrap();
    assert_eq!(
        (done.outcome.account, done.outcome.photo),
        (bia.account().unwrap(), Some(photo(1)))
    );
    assert_eq!(world.run(&bia, &RemovePhoto {}).unwrap().names(), ["PhotoRemoved"]);
}

#[test]
fn a_password_is_changed_by_whoever_knew_the_one_that_stands() {
    let mut world = World::new();
    let ana = world.person("ana");
    let account = ana.account().unwrap();
    let change =
        |generation, hash: &str| ChangePassword { account, generation, new_hash: hash.to_owned() };
    world.run(&Actor::Anonymous, &forgot("ana")).unwrap();
    let done = world.run(&ana, &change(0, "$argon2id$new")).unwrap();
    assert_eq!((done.names(), done.outcome.generation), (vec!["PasswordChanged"], 1));
    assert_eq!(world.secrets[&secret(account, SecretKind::PasswordHash)], b"$argon2id$new");
    assert!(!world.secrets.contains_key(&secret(account, SecretKind::PasswordReset)));
    let refused = world.run(&ana, &change(0, "$argon2id$late")).unwrap_err();
    assert_eq!(refused, Refusal::InvalidCredentials, "it was verified under the old one");
    assert_eq!(world.secrets[&secret(account, SecretKind::PasswordHash)], b"$argon2id$new");
    assert!(!format!("{:?}", change(0, "$argon2id$new")).contains("argon2id"));
}

/// By somebody else, who need not prove anything.
fn erase(account: AccountId) -> EraseAccount {
    EraseAccount { account, proven_under: None }
}

fn forgot(name: &str) -> RequestPasswordReset {
    let email = format!("{name}@example.com").parse().unwrap();
    RequestPasswordReset { email, key: ResetKey::new([8; 32]) }
}

fn reset_of(world: &World, account: AccountId) -> ResetId {
    world.get::<Account>(account).pending_reset.unwrap().reset
}

fn reset(account: AccountId, reset: ResetId) -> ResetPassword {
    ResetPassword { account, reset, new_hash: "$argon2id$reset".to_owned() }
}

#[test]
fn a_forgotten_password_is_reset_once_by_the_last_mail_alone() {
    let mut world = World::new();
    let account = world.person("ana").account().unwrap();
    let nobody = &Actor::Anonymous;
    assert_eq!(world.run(nobody, &forgot("ana")).unwrap().names(), ["PasswordResetRequested"]);
    let first = reset_of(&world, account);
    assert_eq!(first.slot(), account.slot());
    let expires_at = world.get::<Account>(account).pending_reset.unwrap().expires_at;
    assert_eq!(expires_at, world.now + TimeDelta::hours(2));
    let token = ResetKey::new([8; 32]).token(first);
    let kept = &world.secrets[&secret(account, SecretKind::PasswordReset)];
    assert_eq!(kept[..], ResetKey::hash(&token));
    assert_ne!(kept[..], token, "what is kept opens nothing");

    world.run(nobody, &forgot("ana")).unwrap();
    let second = reset_of(&world, account);
    assert_eq!(world.run(nobody, &reset(account, first)).unwrap_err(), Refusal::InvalidLink);
    let done = world.run(nobody, &reset(account, second)).unwrap();
    assert_eq!((done.names(), done.outcome.generation), (vec!["PasswordReset"], 1));
    assert_eq!(done.origin_of, Some(account.into()));
    assert_eq!(world.secrets[&secret(account, SecretKind::PasswordHash)], b"$argon2id$reset");
    assert!(!world.secrets.contains_key(&secret(account, SecretKind::PasswordReset)));
    assert_eq!(world.run(nobody, &reset(account, second)).unwrap_err(), Refusal::InvalidLink);
}

#[test]
fn a_reset_is_refused_when_it_is_old_or_somebody_elses_or_anything_changed() {
    let mut world = World::new();
    let (ana, bia) = (world.person("ana"), world.person("bia"));
    let account = ana.account().unwrap();
    let nobody = &Actor::Anonymous;
    world.run(nobody, &forgot("ana")).unwrap();
    let link = reset_of(&world, account);
    let of_bia = reset(bia.account().unwrap(), link);
    assert_eq!(world.run(nobody, &of_bia).unwrap_err(), Refusal::InvalidLink);
    let unknown = reset(id(), link);
    assert_eq!(world.run(nobody, &unknown).unwrap_err(), Refusal::InvalidLink);
    world.now += TimeDelta::hours(2);
    assert_eq!(world.run(nobody, &reset(account, link)).unwrap_err(), Refusal::InvalidLink);

    world.run(nobody, &forgot("ana")).unwrap();
    let link = reset_of(&world, account);
    let change = ChangePassword { account, generation: 0, new_hash: "$new".to_owned() };
    world.run(&ana, &change).unwrap();
    assert_eq!(world.run(nobody, &reset(account, link)).unwrap_err(), Refusal::InvalidLink);

    world.run(nobody, &forgot("ana")).unwrap();
    let link = reset_of(&world, account);
    world.run(&ana, &DeactivateAccount { account }).unwrap();
    assert_eq!(world.run(nobody, &reset(account, link)).unwrap_err(), Refusal::InvalidLink);
}

#[test]
fn forgetting_answers_the_same_whoever_it_is() {
    let mut world = World::new();
    let nobody = &Actor::Anonymous;
    let known = world.person("ana");
    let closed = world.person("bia");
    world.run(&closed, &DeactivateAccount { account: closed.account().unwrap() }).unwrap();
    let _ = known;
    for (name, events) in [("ana", 1), ("bia", 0), ("eva", 0)] {
        let done = world.run(nobody, &forgot(name)).unwrap();
        assert_eq!(done.events.len(), events, "{name}");
        assert_eq!(serde_json::to_string(&done.outcome).unwrap(), "{}");
        assert_eq!(done.slot, claim(&format!("{name}@example.com")).slot());
    }
    assert!(!format!("{:?}", forgot("ana")).contains('8'), "the key is not shown");
}

fn wants(email: &str) -> RequestEmailChange {
    RequestEmailChange { email: email.parse().unwrap(), generation: 0 }
}

fn change_of(world: &World, account: AccountId) -> ChangeId {
    world.get::<Account>(account).pending_email.unwrap().change
}

#[test]
fn an_address_changes_when_the_new_one_is_confirmed_and_takes_the_claim_along() {
    let mut world = World::new();
    let ana = world.person("ana");
    let account = ana.account().unwrap();
    let nobody = &Actor::Anonymous;
    assert!(world.run(&ana, &wants("ana@example.com")).unwrap().events.is_empty(), "it is that");
    let done = world.run(&ana, &wants("new@example.com")).unwrap();
    assert_eq!(done.names(), ["EmailChangeRequested"]);
    let change = change_of(&world, account);
    assert_eq!(change.slot(), account.slot());
    assert!(!world.claims.contains_key(&claim("new@example.com")), "until then it is free");
    world.run(nobody, &forgot("ana")).unwrap();
    let link = reset_of(&world, account);

    let confirm = ConfirmEmailChange { account, change };
    let done = world.run(nobody, &confirm).unwrap();
    assert_eq!((done.names(), done.origin_of), (vec!["EmailChanged"], Some(account.into())));
    assert_eq!(world.claims.get(&claim("new@example.com")), Some(&account.uuid()));
    assert_eq!(world.claims.get(&claim("ana@example.com")), None);
    let profile = world.get::<Account>(account).profile.unwrap();
    assert_eq!(profile.email.known().unwrap().as_str(), "new@example.com");
    assert_eq!(world.run(nobody, &reset(account, link)).unwrap_err(), Refusal::InvalidLink);
    assert!(!world.secrets.contains_key(&secret(account, SecretKind::PasswordReset)));
    // Pressed twice.
    assert!(world.run(nobody, &confirm).unwrap().events.is_empty());
    // The old address is free for anybody.
    let done = world.run(nobody, &registration("ana")).unwrap();
    assert_eq!(done.names(), ["AccountRegistered"]);
}

#[test]
fn a_taken_address_is_answered_the_same_and_refused_only_to_whoever_confirms_it() {
    let mut world = World::new();
    let (ana, bia) = (world.person("ana"), world.person("bia"));
    let done = world.run(&ana, &wants("bia@example.com")).unwrap();
    let owner = StreamId::of::<Account>(bia.account().unwrap());
    assert_eq!(done.events, [(owner, Event::Account(AccountEvent::RegistrationAttempted {}))]);
    assert_eq!(serde_json::to_string(&done.outcome).unwrap(), "{}");
    // Taken meanwhile.
    let account = ana.account().unwrap();
    world.run(&ana, &wants("eva@example.com")).unwrap();
    world.person("eva");
    let confirm = ConfirmEmailChange { account, change: change_of(&world, account) };
    let refused = world.run(&Actor::Anonymous, &confirm).unwrap_err();
    assert_eq!(refused, Refusal::Claimed(ClaimKind::Email));
}

#[test]
fn only_the_last_change_of_address_can_be_confirmed_and_none_after_a_new_password() {
    let mut world = World::new();
    let ana = world.person("ana");
    let account = ana.account().unwrap();
    let nobody = &Actor::Anonymous;
    let confirm = |change| ConfirmEmailChange { account, change };
    world.run(&ana, &wants("one@example.com")).unwrap();
    let first = change_of(&world, account);
    world.run(&ana, &wants("two@example.com")).unwrap();
    assert_eq!(world.run(nobody, &confirm(first)).unwrap_err(), Refusal::InvalidLink);
    let second = change_of(&world, account);
    let refused = world.run(nobody, &ConfirmEmailChange { account: id(), change: second });
    assert_eq!(refused.unwrap_err(), Refusal::InvalidLink);
    let change = ChangePassword { account, generation: 0, new_hash: "$new".to_owned() };
    world.run(&ana, &change).unwrap();
    assert_eq!(world.run(nobody, &confirm(second)).unwrap_err(), Refusal::InvalidLink);
    let refused = world.run(&ana, &wants("two@example.com")).unwrap_err();
    assert_eq!(refused, Refusal::InvalidCredentials, "verified under the old password");
}

#[test]
fn administrators_grant_and_revoke_roles_and_sessions_end_with_a_lost_one() {
    let mut world = World::new();
    let admin = with_role(&mut world, "root", Role::Admin);
    let ana = world.person("ana");
    let account = ana.account().unwrap();
    let (grant, revoke) =
        (GrantRole { account, role: Role::Auditor }, RevokeRole { account, role: Role::Auditor });
    let done = world.run(&admin, &grant).unwrap();
    assert_eq!(done.outcome.roles, [Role::Client, Role::Auditor]);
    assert_eq!((done.names(), done.outcome.generation), (vec!["RoleGranted"], 0));
    assert!(world.run(&admin, &grant).unwrap().events.is_empty());
    let done = world.run(&admin, &revoke).unwrap();
    assert_eq!((done.names(), done.outcome.generation), (vec!["RoleRevoked"], 1));
    assert_eq!(done.outcome.roles, [Role::Client]);
    assert!(world.run(&admin, &revoke).unwrap().events.is_empty());
    let client = RevokeRole { account, role: Role::Client };
    assert_eq!(world.run(&admin, &client).unwrap_err(), Refusal::Forbidden, "everybody is one");
    let unknown = GrantRole { account: id(), role: Role::Admin };
    assert_eq!(world.run(&admin, &unknown).unwrap_err(), Refusal::NotFound("account"));
}

#[test]
fn nobody_but_an_administrator_has_a_say_in_roles_whatever_their_token_claims() {
    let mut world = World::new();
    let admin = with_role(&mut world, "root", Role::Admin);
    let root = admin.account().unwrap();
    let ana = world.person("ana");
    let account = ana.account().unwrap();
    let (grant, revoke) =
        (GrantRole { account, role: Role::Admin }, RevokeRole { account: root, role: Role::Admin });
    let pretends = Actor::Account { id: account, roles: vec![Role::Client, Role::Admin] };
    let auditor = with_role(&mut world, "eva", Role::Auditor);
    for actor in [&ana, &pretends, &auditor] {
        assert_eq!(world.run(actor, &grant).unwrap_err(), Refusal::Forbidden);
        assert_eq!(world.run(actor, &revoke).unwrap_err(), Refusal::Forbidden);
    }
    assert_eq!(world.run(&Actor::Anonymous, &grant).unwrap_err(), Refusal::SignInRequired);
    // Lest nobody be left.
    assert_eq!(world.run(&admin, &revoke).unwrap_err(), Refusal::Forbidden);
    world.run(&PONTUAL, &revoke).unwrap();
    // A token from before says otherwise for a while.
    assert_eq!(world.run(&admin, &grant).unwrap_err(), Refusal::Forbidden);
}

#[test]
fn an_account_is_closed_by_its_owner_or_an_administrator_and_gets_nothing_done_then() {
    let mut world = World::new();
    let admin = with_role(&mut world, "root", Role::Admin);
    let (ana, bia) = (world.person("ana"), world.person("bia"));
    let account = ana.account().unwrap();
    let close = DeactivateAccount { account };
    assert_eq!(world.run(&bia, &close).unwrap_err(), Refusal::Forbidden);
    assert_eq!(world.run(&Actor::Anonymous, &close).unwrap_err(), Refusal::SignInRequired);
    let shop = world.classic();
    let done = world.run(&ana, &close).unwrap();
    let by = DeactivatedBy::Owner;
    let closed = Event::Account(AccountEvent::AccountDeactivated { by });
    assert_eq!(done.events, [(StreamId::of::<Account>(account), closed)]);
    assert_eq!((done.outcome.status, done.outcome.generation), (Status::Deactivated, 1));
    // Whatever its token still says.
    assert_eq!(world.run(&ana, &update()).unwrap_err(), Refusal::AccountDeactivated);
    let refused = world.book(&ana, &shop, "2026-03-03T13:00:00Z").unwrap_err();
    assert_eq!(refused, Refusal::AccountDeactivated);
    assert_eq!(world.run(&ana, &close).unwrap_err(), Refusal::AccountDeactivated);
    assert_eq!(world.run(&admin, &close).unwrap().names(), ["AccountDeactivated"]);
    assert!(world.run(&admin, &close).unwrap().events.is_empty());
}

#[test]
fn what_its_owner_closed_a_password_opens_but_not_what_an_administrator_closed() {
    let mut world = World::new();
    let admin = with_role(&mut world, "root", Role::Admin);
    let (ana, bia) = (world.person("ana"), world.person("bia"));
    let account = ana.account().unwrap();
    let nobody = &Actor::Anonymous;
    let open = |proven_under| ReactivateAccount { account, proven_under };
    world.run(&ana, &DeactivateAccount { account }).unwrap();
    assert_eq!(world.run(nobody, &open(None)).unwrap_err(), Refusal::SignInRequired);
    assert_eq!(world.run(nobody, &open(Some(0))).unwrap_err(), Refusal::InvalidCredentials);
    assert_eq!(world.run(&bia, &open(Some(1))).unwrap_err(), Refusal::Forbidden);
    let done = world.run(nobody, &open(Some(1))).unwrap();
    assert_eq!((done.names(), done.outcome.status), (vec!["AccountReactivated"], Status::Active));
    assert_eq!(done.origin_of, Some(account.into()));
    assert!(world.run(nobody, &open(Some(1))).unwrap().events.is_empty());
    assert_eq!(world.run(&ana, &update()).unwrap().names(), ["ProfileChanged"]);

    world.run(&admin, &DeactivateAccount { account }).unwrap();
    assert_eq!(world.run(nobody, &open(Some(2))).unwrap_err(), Refusal::AccountDeactivated);
    assert_eq!(world.run(&admin, &open(None)).unwrap().names(), ["AccountReactivated"]);
    let unknown = ReactivateAccount { account: id(), proven_under: Some(0) };
    assert_eq!(world.run(nobody, &unknown).unwrap_err(), Refusal::InvalidCredentials);
}

#[test]
fn a_shop_is_paused_and_resumed_with_its_owner() {
    let mut world = World::new();
    let shop = world.classic();
    let ana = world.person("ana");
    let account = shop.owner.account().unwrap();
    let booked = world.book(&ana, &shop, "2026-03-03T13:00:00Z").unwrap().outcome.appointment;
    let done = world.run(&shop.owner, &DeactivateAccount { account }).unwrap();
    assert_eq!(done.names(), ["AccountDeactivated", "ShopPaused"]);
    let no_shop = Refusal::NotFound("provider");
    assert_eq!(world.book(&ana, &shop, "2026-03-03T14:00:00Z").unwrap_err(), no_shop);
    let start = instant("2026-03-03T15:00:00Z");
    let move_it = domain::appointment::RescheduleAppointment { appointment: booked, start };
    assert_eq!(world.run(&ana, &move_it).unwrap_err(), no_shop);
    // But whoever has an appointment there can still call it off.
    let cancel = domain::appointment::CancelAppointment { appointment: booked, reason: None };
    world.run(&ana, &cancel).unwrap();
    let open = ReactivateAccount { account, proven_under: Some(1) };
    let done = world.run(&Actor::Anonymous, &open).unwrap();
    assert_eq!(done.names(), ["AccountReactivated", "ShopResumed"]);
    world.book(&ana, &shop, "2026-03-03T14:00:00Z").unwrap();
}

#[test]
fn what_an_erased_person_has_booked_or_sold_is_called_off_by_pontual_and_by_nobody_else() {
    let mut world = World::new();
    let shop = world.classic();
    let (ana, bia) = (world.person("ana"), world.person("bia"));
    let book = |world: &mut World, who, start| {
        let appointment = world.book(who, &shop, start).unwrap().outcome.appointment;
        domain::appointment::CancelAppointment { appointment, reason: None }
    };
    // Soon enough that the client could not call it off any more.
    let anas = book(&mut world, &ana, "2026-03-03T13:00:00Z");
    let bias = book(&mut world, &bia, "2026-03-03T14:00:00Z");
    assert_eq!(world.run(&PONTUAL, &anas).unwrap_err(), Refusal::Forbidden);
    world.run(&PONTUAL, &erase(ana.account().unwrap())).unwrap();
    let told = |events: &[(StreamId, Event)]| {
        events.iter().find_map(|(_, event)| {
            let Event::Appointment(AppointmentEvent::AppointmentCancelled { by, reason, .. }) =
                event
            else {
                return None;
            };
            Some((*by, reason.is_none()))
        })
    };
    let done = world.run(&PONTUAL, &anas).unwrap();
    assert_eq!(done.names(), ["AppointmentCancelled", "SlotFreed"]);
    assert_eq!(told(&done.events), Some((Side::Client, true)));
    assert!(world.run(&PONTUAL, &anas).unwrap().events.is_empty());
    assert_eq!(world.run(&PONTUAL, &bias).unwrap_err(), Refusal::Forbidden);
    let account = shop.owner.account().unwrap();
    world.run(&PONTUAL, &erase(account)).unwrap();
    let done = world.run(&PONTUAL, &bias).unwrap();
    assert_eq!(told(&done.events), Some((Side::Provider, true)));
}

#[test]
fn erasing_destroys_key_secrets_claim_and_roles_at_once_and_happens_once() {
    let mut world = World::new();
    let (ana, bia) = (world.person("ana"), world.person("bia"));
    let account = ana.account().unwrap();
    let erase = EraseAccount { account, proven_under: Some(0) };
    assert_eq!(world.run(&bia, &erase).unwrap_err(), Refusal::Forbidden);
    assert_eq!(world.run(&Actor::Anonymous, &erase).unwrap_err(), Refusal::SignInRequired);
    // Whoever finds a session open does not know the password; and a newer one makes the proof of an older one void.
    let unproven = EraseAccount { account, proven_under: None };
    assert_eq!(world.run(&ana, &unproven).unwrap_err(), Refusal::PasswordRequired);
    let outdated = EraseAccount { account, proven_under: Some(7) };
    assert_eq!(world.run(&ana, &outdated).unwrap_err(), Refusal::InvalidCredentials);
    world.run(&Actor::Anonymous, &forgot("ana")).unwrap();
    let done = world.run(&ana, &erase).unwrap();
    assert_eq!((done.names(), done.outcome.status), (vec!["AccountErased"], Status::Erased));
    assert!(world.erased.contains(&account.into()));
    assert_eq!(world.claims.get(&claim("ana@example.com")), None);
    assert!(!world.secrets.keys().any(|key| key.owner == account.uuid()));
    // Nobody we know, from now on.
    assert_eq!(world.run(&ana, &erase).unwrap_err(), Refusal::SignInRequired);
    assert_eq!(world.run(&ana, &update()).unwrap_err(), Refusal::SignInRequired);
    assert!(world.run(&PONTUAL, &erase).unwrap().events.is_empty());
    let open = ReactivateAccount { account, proven_under: Some(1) };
    assert_eq!(world.run(&Actor::Anonymous, &open).unwrap_err(), Refusal::InvalidCredentials);
    // Whoever has the address now is somebody else.
    let again = world.run(&Actor::Anonymous, &registration("ana")).unwrap();
    assert_eq!(again.names(), ["AccountRegistered"]);
    assert_ne!(again.events[0].0.id, account.uuid());
}

#[test]
fn erasing_whoever_has_a_shop_closes_it_for_good_and_frees_its_name() {
    let mut world = World::new();
    let admin = with_role(&mut world, "root", Role::Admin);
    let shop = world.classic();
    let ana = world.person("ana");
    let account = shop.owner.account().unwrap();
    let done = world.run(&admin, &erase(account)).unwrap();
    assert_eq!(done.names(), ["AccountErased", "ShopClosed"]);
    let refused = world.book(&ana, &shop, "2026-03-03T13:00:00Z").unwrap_err();
    assert_eq!(refused, Refusal::NotFound("provider"));
    assert!(world.get::<Provider>(shop.id).open().is_err());
    let offer = Offer::classic(Locale::En);
    let add = ChangeProvider { provider: shop.id, change: AddService { offer } };
    assert_eq!(world.run(&shop.owner, &add).unwrap_err(), Refusal::SignInRequired);
    let done = world.run(&ana, &classic()).unwrap();
    assert_eq!(done.names(), ["ProviderOpened", "RoleGranted", "ServiceAdded"]);
}

#[test]
fn the_operator_makes_the_first_administrator_or_makes_somebody_one() {
    let mut world = World::new();
    let admin = |name: &str| RegisterAdmin {
        name: name.parse().unwrap(),
        email: format!("{name}@example.com").parse().unwrap(),
        locale: Locale::En,
        password_hash: "$argon2id$admin".to_owned(),
    };
    let done = world.run(&PONTUAL, &admin("root")).unwrap();
    assert_eq!(done.names(), ["AccountRegistered", "EmailConfirmed"]);
    let account = done.outcome.account;
    assert!(!done.outcome.existed);
    let state: Account = world.get(account);
    assert_eq!(state.roles, [Role::Client, Role::Admin]);
    assert!(state.may_act().is_ok());
    assert_eq!(world.secrets[&secret(account, SecretKind::PasswordHash)], b"$argon2id$admin");
    let again = world.run(&PONTUAL, &admin("root")).unwrap();
    assert!(again.events.is_empty() && again.outcome.existed);

    let ana = world.person("ana").account().unwrap();
    let done = world.run(&PONTUAL, &admin("ana")).unwrap();
    assert_eq!((done.names(), done.outcome.account), (vec!["RoleGranted"], ana));
    assert_eq!(world.secrets[&secret(ana, SecretKind::PasswordHash)], b"$argon2id$ana");
    // Anybody can register anybody's address.
    world.registered("eva");
    assert_eq!(world.run(&PONTUAL, &admin("eva")).unwrap_err(), Refusal::EmailNotConfirmed);

    let root = Actor::Account { id: account, roles: vec![Role::Client, Role::Admin] };
    assert_eq!(world.run(&root, &admin("bia")).unwrap_err(), Refusal::Forbidden);
    assert_eq!(world.run(&Actor::Anonymous, &admin("bia")).unwrap_err(), Refusal::SignInRequired);
    assert!(!format!("{:?}", admin("root")).contains("argon2id"));
}
