//! Demo data: a salon, a tutor and a supervisor, two clients, a few bookings; made through commands.
//!
//! Every command carries a fixed idempotency key, so making it twice is making it once.

use anyhow::Context as _;
use chrono::{DateTime, Days, NaiveTime, Utc};
use command_api::{Password, Passwords};
use domain::account::{ConfirmEmail, RegisterAccount};
use domain::actor::{Actor, Role};
use domain::appointment::BookAppointment;
use domain::command::{ClaimHasher as _, ClaimKind, Command};
use domain::hours::{Confirmation, Policy, Zone};
use domain::ids::{AccountId, Id as _, ProviderId, ServiceId};
use domain::locale::Locale;
use domain::money::{Currency, Money};
use domain::provider::{AddService, ChangeProvider, Offer, OpenProvider};
use event_log::{EventLog, ExecuteError, Executed, Executor, Idempotency, LogError, Origin};

/// The password of all demo accounts.
pub const PASSWORD: &str = "pontual-demo";

/// A shop of the demo.
struct Shop {
    owner: &'static str,
    email: &'static str,
    name: &'static str,
    slug: &'static str,
    zone: &'static str,
    /// Name, minutes, price in minor units.
    services: &'static [(&'static str, u16, i64)],
    confirmation: Confirmation,
}

const SHOPS: [Shop; 3] = [
    Shop {
        owner: "Ana Souza",
        email: "ana@demo.pontual.localhost",
        name: "Salão da Ana",
        slug: "salao-da-ana",
        zone: "America/Sao_Paulo",
        services: &[("Corte", 60, 8_000), ("Manicure", 45, 5_000), ("Coloração", 120, 22_000)],
        confirmation: Confirmation::Manual,
    },
    Shop {
        owner: "Tiago Reis",
        email: "tiago@demo.pontual.localhost",
        name: "Aulas com Tiago",
        slug: "aulas-com-tiago",
        zone: "Europe/Lisbon",
        services: &[("Matemática", 60, 12_000)],
        confirmation: Confirmation::Automatic,
    },
    Shop {
        owner: "Sofia Lima",
        email: "sofia@demo.pontual.localhost",
        name: "Supervisão Clínica",
        slug: "supervisao-clinica",
        zone: "America/Manaus",
        services: &[("Supervisão", 50, 18_000)],
        confirmation: Confirmation::Manual,
    },
];

const CLIENTS: [(&str, &str); 2] =
    [("Bia Costa", "bia@demo.pontual.localhost"), ("Caio Alves", "caio@demo.pontual.localhost")];

/// Makes whatever of the demo data is not there yet.
pub async fn make(executor: &Executor) -> anyhow::Result<()> {
    let password =
        Password::try_from(PASSWORD.to_owned()).map_err(|error| anyhow::anyhow!("{error}"))?;
    let hash = Passwords::new().hash(password).await;
    let hash = hash.map_err(|_| anyhow::anyhow!("the demo's password could not be hashed"))?;
    let mut clients = Vec::new();
    for (name, email) in CLIENTS {
        clients.push(account(executor, name, email, &hash).await?);
    }
    let bar = indicatif::ProgressBar::new(SHOPS.len() as u64).with_message("demo data");
    for (n, shop) in SHOPS.iter().enumerate() {
        let owner = account(executor, shop.owner, shop.email, &hash).await?;
        let (provider, service) = open(executor, owner, shop).await?;
        // The first slots of the day after tomorrow and of next week.
        for (days, client) in [(2, clients[0]), (7, clients[1])] {
            let key = format!("demo/booking/{n}/{days}");
            book(executor, client, provider, service, days, shop.zone.parse()?, &key).await?;
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(())
}

/// Whether a log holds demo data: accounts whose password everybody knows.
pub async fn present(log: &EventLog) -> Result<bool, LogError> {
    for email in SHOPS.iter().map(|shop| shop.email).chain(CLIENTS.map(|(_, email)| email)) {
        if log.claim_owner(log.claim_key(ClaimKind::Email, email)).await?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What to try, for whoever started the demo.
pub fn hint(url: &str) -> String {
    let people: Vec<&str> =
        SHOPS.iter().map(|shop| shop.email).chain(CLIENTS.map(|(_, email)| email)).collect();
    format!(
        "
  Demo accounts (password {PASSWORD}): {}

  Book an appointment:

    TOKEN=$(curl -s {url}/api/auth/login -H 'content-type: application/json' \\
      -d '{{\"email\":\"bia@demo.pontual.localhost\",\"password\":\"{PASSWORD}\"}}' | sed 's/.*\"access_token\":\"\\([^\"]*\\)\".*/\\1/')
    SHOP=$(curl -s {url}/api/providers/aulas-com-tiago | sed 's/^{{\"id\":\"\\([^\"]*\\)\".*/\\1/')
    START=$(curl -s \"{url}/api/providers/available-times?provider_id=$SHOP&day=$(date -d '+3 days' +%F)\" \\
      | sed 's/.*\"slots\":\\[{{\"start\":\"\\([^\"]*\\)\".*/\\1/')
    curl -i {url}/api/appointments -H \"authorization: Bearer $TOKEN\" -H 'content-type: application/json' \\
      -d \"{{\\\"provider_id\\\":\\\"$SHOP\\\",\\\"start\\\":\\\"$START\\\"}}\"
",
        people.join(", ")
    )
}

async fn account(
    executor: &Executor,
    name: &str,
    email: &str,
    hash: &str,
) -> anyhow::Result<AccountId> {
    let log = executor.log();
    let claim = log.claim_key(ClaimKind::Email, email);
    if log.claim_owner(claim).await?.is_none() {
        let register = RegisterAccount {
            name: name.parse()?,
            email: email.parse()?,
            phone: None,
            locale: Locale::PtBr,
            zone: None,
            as_provider: false,
            password_hash: hash.to_owned(),
        };
        send(executor, Actor::System("demo"), &format!("demo/account/{email}"), register).await?;
    }
    let owner = log.claim_owner(claim).await?.context("the demo's account is not there")?;
    let account = AccountId::trusted(owner);
    send(executor, Actor::System("demo"), "demo/confirm", ConfirmEmail { account }).await?;
    Ok(account)
}

async fn open(
    executor: &Executor,
    owner: AccountId,
    shop: &Shop,
) -> anyhow::Result<(ProviderId, ServiceId)> {
    let actor = Actor::Account { id: owner, roles: vec![Role::Client] };
    let [first, others @ ..] = shop.services else { anyhow::bail!("a demo shop offers something") };
    let opening = OpenProvider {
        business_name: shop.name.parse()?,
        slug: shop.slug.parse()?,
        zone: shop.zone.parse()?,
        hourly_rate: None,
        weekly: None,
        policy: Some(Policy { confirmation: shop.confirmation, ..Policy::classic() }),
        service: Some(offer(first)?),
    };
    let opened = send(executor, actor.clone(), "demo/open", opening).await?.outcome;
    for (n, service) in others.iter().enumerate() {
        let change = ChangeProvider {
            provider: opened.provider,
            change: AddService { offer: offer(service)? },
        };
        send(executor, actor.clone(), &format!("demo/service/{n}"), change).await?;
    }
    Ok((opened.provider, opened.service))
}

fn offer(&(name, duration_minutes, price): &(&str, u16, i64)) -> anyhow::Result<Offer> {
    Ok(Offer {
        name: name.parse()?,
        duration_minutes,
        interval_minutes: duration_minutes,
        price: Some(Money::new(price, Currency::BRL)?),
        ..Offer::classic(Locale::PtBr)
    })
}

async fn book(
    executor: &Executor,
    client: AccountId,
    provider: ProviderId,
    service: ServiceId,
    days: u64,
    zone: Zone,
    key: &str,
) -> anyhow::Result<()> {
    let today = executor.log().clock().now().with_timezone(&zone.0).date_naive();
    let day = today.checked_add_days(Days::new(days)).context("the calendar ends")?;
    let nine = NaiveTime::from_hms_opt(8, 0, 0).context("08:00 is a time")?;
    let local = day.and_time(nine).and_local_timezone(zone.0).earliest();
    let start = local.context("the clock skips 08:00 that day")?.with_timezone(&Utc);
    let start: DateTime<Utc> = start;
    let booking = BookAppointment { provider, service: Some(service), start, notes: None };
    let actor = Actor::Account { id: client, roles: vec![Role::Client] };
    match send(executor, actor, key, booking).await {
        Ok(_) => Ok(()),
        // Made on another day with the same key, or taken since: the demo is none the poorer.
        Err(ExecuteError::KeyReused | ExecuteError::Refused(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

async fn send<C: Command>(
    executor: &Executor,
    actor: Actor,
    key: &str,
    command: C,
) -> Result<Executed<C::Outcome>, ExecuteError> {
    let idempotency = Some(Idempotency { key: key.to_owned(), fingerprint: [0; 32] });
    executor.execute(command, Origin { idempotency, ..Origin::of(actor, "demo") }).await
}
