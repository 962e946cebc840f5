//! Demo data: categories, a salon, a tutor and a supervisor with full profiles, two clients, a few bookings; made through
//! commands.
//!
//! Every command carries a fixed idempotency key, so making it twice is making it once.

use anyhow::Context as _;
use chrono::{DateTime, Days, NaiveTime, Utc};
use command_api::{Password, Passwords};
use domain::account::{ConfirmEmail, RegisterAccount};
use domain::actor::{Actor, Role};
use domain::appointment::BookAppointment;
use domain::category::{AddCategory, Listing};
use domain::command::{ClaimHasher as _, ClaimKind, Command};
use domain::hours::{Confirmation, Policy, Zone};
use domain::ids::{AccountId, CategoryId, Id as _, ProviderId, ServiceId};
use domain::locale::Locale;
use domain::money::{Currency, Money};
use domain::provider::{
    AddService, ChangeProvider, ChangeProviderProfile, Details, Offer, OpenProvider, Point,
    SetProviderStanding, Standing,
};
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
    /// The slug of the category its services are of.
    category: &'static str,
    /// Name, minutes, price in minor units.
    services: &'static [(&'static str, u16, i64)],
    confirmation: Confirmation,
    profile: Profile,
}

/// What a shop of the demo says of itself.
struct Profile {
    description: &'static str,
    address: &'static str,
    city: &'static str,
    state: &'static str,
    postal_code: &'static str,
    /// Degrees north and east.
    at: (f64, f64),
    phone: &'static str,
    website: &'static str,
    instagram: &'static str,
    specializations: &'static [&'static str],
}

/// Name, slug, icon, colour.
const CATEGORIES: [(&str, &str, &str, &str); 3] = [
    ("Beleza", "beleza", "scissors", "#d6336c"),
    ("Aulas", "aulas", "book-open", "#1c7ed6"),
    ("Supervisão", "supervisao", "users", "#2f9e44"),
];

const SHOPS: [Shop; 3] = [
    Shop {
        owner: "Ana Souza",
        email: "ana@demo.pontual.localhost",
        name: "Salão da Ana",
        slug: "salao-da-ana",
        zone: "America/Sao_Paulo",
        category: "beleza",
        services: &[("Corte", 60, 8_000), ("Manicure", 45, 5_000), ("Coloração", 120, 22_000)],
        confirmation: Confirmation::Manual,
        profile: Profile {
            description: "Corte, cor e manicure desde 1998, com hora marcada.",
            address: "Rua Augusta, 1200",
            city: "São Paulo",
            state: "SP",
            postal_code: "01304-001",
            at: (-23.5540512, -46.6541934),
            phone: "+55 11 91234-5678",
            website: "https://salao-da-ana.example",
            instagram: "salao.da.ana",
            specializations: &["Noivas", "Coloração"],
        },
    },
    Shop {
        owner: "Tiago Reis",
        email: "tiago@demo.pontual.localhost",
        name: "Aulas com Tiago",
        slug: "aulas-com-tiago",
        zone: "Europe/Lisbon",
        category: "aulas",
        services: &[("Matemática", 60, 12_000)],
        confirmation: Confirmation::Automatic,
        profile: Profile {
            description: "Matemática do ensino médio, em casa ou por vídeo.",
            address: "Rua Garrett, 40",
            city: "Lisboa",
            state: "Lisboa",
            postal_code: "1200-204",
            at: (38.7107064, -9.1410403),
            phone: "+351 912 345 678",
            website: "https://aulas-com-tiago.example",
            instagram: "aulas.com.tiago",
            specializations: &["Álgebra", "Exames nacionais"],
        },
    },
    Shop {
        owner: "Sofia Lima",
        email: "sofia@demo.pontual.localhost",
        name: "Supervisão Clínica",
        slug: "supervisao-clinica",
        zone: "America/Manaus",
        category: "supervisao",
        services: &[("Supervisão", 50, 18_000)],
        confirmation: Confirmation::Manual,
        profile: Profile {
            description: "Supervisão clínica para psicólogos em começo de carreira.",
            address: "Avenida Eduardo Ribeiro, 520",
            city: "Manaus",
            state: "AM",
            postal_code: "69010-001",
            at: (-3.1316333, -60.0233212),
            phone: "+55 92 91234-5678",
            website: "https://supervisao-clinica.example",
            instagram: "supervisao.clinica",
            specializations: &["Terapia cognitiva", "Casais"],
        },
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
    for (place, category) in (1..).zip(&CATEGORIES) {
        self::category(executor, place, category).await?;
    }
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

/// Adds a category, unless it is there.
async fn category(
    executor: &Executor,
    sort_order: i32,
    &(name, slug, icon, color): &(&str, &str, &str, &str),
) -> anyhow::Result<()> {
    if category_of(executor, slug).await?.is_some() {
        return Ok(());
    }
    let listing = Listing {
        name: name.parse()?,
        slug: slug.parse()?,
        description: None,
        icon: Some(icon.parse()?),
        color: Some(color.parse()?),
        is_active: true,
        sort_order,
    };
    let key = format!("demo/category/{slug}");
    send(executor, Actor::System("demo"), &key, AddCategory { listing }).await?;
    Ok(())
}

async fn category_of(executor: &Executor, slug: &str) -> anyhow::Result<Option<CategoryId>> {
    let log = executor.log();
    let holder = log.claim_owner(log.claim_key(ClaimKind::CategorySlug, slug)).await?;
    Ok(holder.map(CategoryId::trusted))
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
    let category = category_of(executor, shop.category).await?;
    let opening = OpenProvider {
        business_name: shop.name.parse()?,
        slug: shop.slug.parse()?,
        zone: shop.zone.parse()?,
        hourly_rate: None,
        weekly: None,
        policy: Some(Policy { confirmation: shop.confirmation, ..Policy::classic() }),
        service: Some(offer(first, category)?),
    };
    let opened = send(executor, actor.clone(), "demo/open", opening).await?.outcome;
    for (n, service) in others.iter().enumerate() {
        let change = ChangeProvider {
            provider: opened.provider,
            change: AddService { offer: offer(service, category)? },
        };
        send(executor, actor.clone(), &format!("demo/service/{n}"), change).await?;
    }
    let profile = ChangeProvider { provider: opened.provider, change: profile(shop)? };
    send(executor, actor, "demo/profile", profile).await?;
    let standing = Standing { is_verified: true, ..Standing::default() };
    let verify = SetProviderStanding { provider: opened.provider, standing };
    send(executor, Actor::System("demo"), "demo/standing", verify).await?;
    Ok((opened.provider, opened.service))
}

fn profile(shop: &Shop) -> anyhow::Result<ChangeProviderProfile> {
    let Profile {
        description,
        address,
        city,
        state,
        postal_code,
        at: (latitude, longitude),
        phone,
        website,
        instagram,
        specializations,
    } = &shop.profile;
    let arts = specializations.iter().map(|art| art.parse()).collect::<Result<Vec<_>, _>>()?;
    let details = Details {
        description: Some(description.parse()?),
        address: Some(address.parse()?),
        city: Some(city.parse()?),
        state: Some(state.parse()?),
        postal_code: Some(postal_code.parse()?),
        point: Some(Point::from_degrees(*latitude, *longitude)?),
        phone: Some(phone.parse()?),
        website: Some(website.parse()?),
        instagram: Some(instagram.parse()?),
        facebook: None,
        specializations: arts.try_into()?,
    };
    Ok(ChangeProviderProfile { business_name: shop.name.parse()?, hourly_rate: None, details })
}

fn offer(
    &(name, duration_minutes, price): &(&str, u16, i64),
    category: Option<CategoryId>,
) -> anyhow::Result<Offer> {
    Ok(Offer {
        name: name.parse()?,
        category,
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
    let booking =
        BookAppointment { provider, service: Some(service), start, notes: None, hold: None };
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
