//! Published event JSON is a contract: every (kind, type, version) has a golden file, and reads and writes as
//! it stands there. `GOLDEN=write cargo nextest run -p event-log golden` writes those that are missing.
//!
//! A changed file is a broken contract. An addition that readers may lack is fine: add a file by hand for
//! what older programs wrote, if it differs.

use std::path::PathBuf;

use domain::Instant;
use domain::account::{AccountEvent, DeactivatedBy};
use domain::actor::Role;
use domain::agenda::AgendaEvent;
use domain::aggregate::StreamId;
use domain::appointment::{AppointmentEvent, Client, Contact, Parties, Side, Status, Terms};
use domain::category::{CategoryEvent, Listing};
use domain::event::Event;
use domain::hold::{Held, HoldEvent};
use domain::holidays::HolidayCalendar;
use domain::hours::{Policy, WeeklyHours, Windows, Zone};
use domain::ids::{
    AccountId, AppointmentId, HoldId, Id, Mint, PhotoId, ProviderId, RoutingSlot, ServiceId,
};
use domain::locale::Locale;
use domain::money::{Currency, HourlyRate, Money};
use domain::notification_feed::NotificationFeedEvent;
use domain::personal::Personal;
use domain::provider::{Details, Offer, Point, ProviderEvent, Service, Standing};
use domain::series::{BookedOccurrence, Mode, Placed, SeriesEvent, SeriesPart};
use domain::session::{EndReason, SessionEvent};
use domain::slots::{Measure, Schedule, Span};
use domain::text::EmailAddress;
use domain::time_off::TimeOff;
use domain::waitlist::{Ending, Offer as WaitOffer, Wait, WaitlistEvent};
use event_log::Upcasters;
use serde_json::Value;

#[test]
fn every_event_reads_and_writes_as_its_golden_file_says() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden");
    let samples = one_of_each();
    for (kind, event_type, version) in Event::all_kinds() {
        let name = format!("{}.{event_type}.{version}.json", kind.as_str());
        let path = folder.join(&name);
        let sample =
            samples.iter().find(|e| e.stream_kind() == kind && e.kind() == (event_type, version));
        let sample = sample.unwrap_or_else(|| panic!("one_of_each() lacks {name}"));
        if !path.exists() && std::env::var("GOLDEN").is_ok_and(|v| v == "write") {
            let text = serde_json::to_string_pretty(&sample).unwrap();
            std::fs::write(&path, text + "\n").unwrap();
        }
        let text = std::fs::read_to_string(&path)
            .unwrap_or_else(|_| panic!("golden/{name} is missing; GOLDEN=write writes it"));
        let golden: Value = serde_json::from_str(&text).unwrap();
        let read = Event::from_payload(kind, golden.clone());
        let read = read.unwrap_or_else(|error| panic!("golden/{name} does not read: {error}"));
        assert_eq!(read.kind(), (event_type, version), "{name}");
        assert_eq!(
            serde_json::to_value(&read).unwrap(),
            golden,
            "golden/{name} is written differently"
        );
        assert_eq!(read, *sample, "golden/{name} reads differently");
    }
}

/// Those of earlier versions come to be what this program writes: `Provider.ServiceAdded.1.json`, say, read as
/// `Provider.ServiceAdded.2.json` is.
#[test]
fn every_golden_file_is_read_as_an_event_of_today() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden");
    let samples = one_of_each();
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let mut parts = name.split('.');
        let mut part = || parts.next().unwrap();
        let (kind, event_type, version, rest) = (part().parse().unwrap(), part(), part(), part());
        let stored = std::fs::read_to_string(&path).unwrap();
        let stream = StreamId { kind, id: account().uuid() };
        let upcast = Upcasters::current().upcast(stream, 1, event_type, version, &stored);
        let upcast = upcast.unwrap_or_else(|error| panic!("{name}: {error}")).unwrap_or(stored);
        let read = Event::from_payload_str(kind, &upcast);
        let read = read.unwrap_or_else(|error| panic!("{name}: {error}"));
        // Whatever else stands in a file's name says how it differs.
        if rest == "json" {
            let sample =
                samples.iter().find(|e| e.stream_kind() == kind && e.kind().0 == event_type);
            assert_eq!(Some(&read), sample, "{name}");
        }
    }
}

fn windows(json: &str) -> Windows {
    serde_json::from_str(json).unwrap()
}

fn mint() -> Mint {
    Mint::new([4; 32])
}

fn slot() -> RoutingSlot {
    RoutingSlot::from_bits(0xabc)
}

fn account() -> AccountId {
    mint().id(slot(), 0)
}

fn provider() -> ProviderId {
    mint().id(slot(), 0)
}

fn appointment() -> AppointmentId {
    mint().id(slot(), 0)
}

fn service_id() -> ServiceId {
    mint().id(slot(), 0)
}

fn span() -> Span {
    Span {
        start: "2026-03-03T13:00:00Z".parse().unwrap(),
        end: "2026-03-03T14:00:00Z".parse().unwrap(),
    }
}

fn price() -> Option<Money> {
    Some(Money::new(12_000, Currency::BRL).unwrap())
}

fn hourly_rate() -> Option<HourlyRate> {
    price().map(|price| price.try_into().unwrap())
}

fn measure() -> Measure {
    service().measure()
}

fn service() -> Service {
    let offer = Offer {
        name: "Corte".parse().unwrap(),
        description: Some("Com lavagem.\nE conversa.".parse().unwrap()),
        duration_minutes: 60,
        interval_minutes: 30,
        price: price(),
        buffer_before_minutes: 5,
        buffer_after_minutes: 10,
        capacity: 3,
        category: None,
        is_active: true,
        weekly: None,
    };
    Service::of(account(), service_id(), offer)
}

fn listing() -> Listing {
    Listing {
        name: "Cabelo".parse().unwrap(),
        slug: "cabelo".parse().unwrap(),
        description: Some("Corte, cor\ne penteado.".parse().unwrap()),
        icon: Some("scissors".parse().unwrap()),
        color: Some("#aa33ff".parse().unwrap()),
        is_active: true,
        sort_order: -3,
    }
}

fn details() -> Details {
    Details {
        description: Some("Desde 1998.\nCom hora marcada.".parse().unwrap()),
        address: Some("Rua das Flores, 12".parse().unwrap()),
        city: Some("São Paulo".parse().unwrap()),
        state: Some("SP".parse().unwrap()),
        postal_code: Some("01310-100".parse().unwrap()),
        point: Some(Point::from_degrees(-23.5505199, -46.6333094).unwrap()),
        phone: Some("+55 11 91234-5678".parse().unwrap()),
        website: Some("https://salao.example/".parse().unwrap()),
        instagram: Some("salao.da.bia".parse().unwrap()),
        facebook: Some("salaodabia".parse().unwrap()),
        specializations: vec!["Noivas".parse().unwrap(), "Cor".parse().unwrap()]
            .try_into()
            .unwrap(),
    }
}

/// Events with what was added to them since their golden file was written; each has another, named after it.
fn with_additions() -> Vec<(&'static str, Event)> {
    let business_name = Personal::of(account(), "Salão da Bia".parse().unwrap());
    let details = Some(Personal::of(account(), Box::new(details())));
    let hourly_rate = hourly_rate();
    let profile = ProviderEvent::ProfileChanged { business_name, hourly_rate, details };
    let category = Some(mint().id(slot(), 0));
    let sorted = Service { category, is_active: false, sort_order: 7, ..service() };
    let weekly = Some(Box::new(WeeklyHours::classic()));
    let own_hours = ProviderEvent::ServiceChanged { service: Service { weekly, ..service() } };
    let policy =
        Policy { max_per_day: Some(8), hold_minutes: Some(15), guests: true, ..Policy::classic() };
    let of_a_hold = AgendaEvent::SlotTaken {
        provider: provider(),
        day: "2026-12-25".parse().unwrap(),
        appointment: appointment(),
        slot: span(),
        span: measure().buffered(span()),
        service: service_id(),
        capacity: 3,
        hold: Some(hold()),
    };
    let queued = Policy { waitlist_offer_minutes: Some(45), ..Policy::classic() };
    let offered = Held { wait: Some(mint().id(slot(), 0)), ..held() };
    let part = SeriesPart { series: mint().id(slot(), 0), number: 3 };
    let occurrence = AppointmentEvent::AppointmentBooked {
        terms: Box::new(Terms { series: Some(part), ..*terms() }),
        slot: span(),
        status: Status::Pending,
        answer_by: None,
        by: Side::Client,
    };
    let called_off = AppointmentEvent::AppointmentCancelled {
        parties: parties(),
        slot: span(),
        by: Side::Client,
        reason: None,
        with_series: true,
    };
    vec![
        ("with-details", profile.into()),
        ("with-waitlist", ProviderEvent::PolicySet { policy: queued }.into()),
        ("of-an-offer", HoldEvent::HoldPlaced { held: offered }.into()),
        ("of-a-series", occurrence.into()),
        ("with-its-series", called_off.into()),
        ("with-category", ProviderEvent::ServiceAdded { service: sorted }.into()),
        ("with-hours", own_hours.into()),
        ("with-limits", ProviderEvent::PolicySet { policy }.into()),
        ("of-a-hold", of_a_hold.into()),
    ]
}

#[test]
fn what_was_added_to_an_event_reads_and_writes_as_its_golden_file_says() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden");
    for (addition, sample) in with_additions() {
        let (kind, (event_type, version)) = (sample.stream_kind(), sample.kind());
        let name = format!("{}.{event_type}.{version}.{addition}.json", kind.as_str());
        let path = folder.join(&name);
        if !path.exists() && std::env::var("GOLDEN").is_ok_and(|v| v == "write") {
            let text = serde_json::to_string_pretty(&sample).unwrap();
            std::fs::write(&path, text + "\n").unwrap();
        }
        let text = std::fs::read_to_string(&path)
            .unwrap_or_else(|_| panic!("golden/{name} is missing; GOLDEN=write writes it"));
        let golden: Value = serde_json::from_str(&text).unwrap();
        let read = Event::from_payload(kind, golden.clone()).unwrap();
        assert_eq!(
            serde_json::to_value(&read).unwrap(),
            golden,
            "golden/{name} is written differently"
        );
        assert_eq!(read, sample, "golden/{name} reads differently");
    }
}

fn schedule() -> Schedule {
    let mut schedule = Schedule {
        zone: Zone::SAO_PAULO,
        weekly: WeeklyHours::classic(),
        policy: Policy::classic(),
        ..Schedule::default()
    };
    schedule.overrides.insert("2026-12-25".parse().unwrap(), windows("[]"));
    schedule
}

fn hold() -> HoldId {
    mint().id(provider().slot(), 0)
}

fn held() -> Held {
    Held {
        provider: provider(),
        holder: account(),
        measure: measure(),
        slot: span(),
        zone: Zone::SAO_PAULO,
        expires_at: span().start,
        wait: None,
    }
}

fn time_off() -> TimeOff {
    TimeOff::new("2026-12-24T12:00".parse().unwrap(), "2027-01-02T00:00".parse().unwrap()).unwrap()
}

fn terms() -> Box<Terms> {
    let contact = Contact {
        name: "Ana Lima".parse().unwrap(),
        email: "ana@example.com".parse().unwrap(),
        phone: Some("+55 11 91234-5678".parse().unwrap()),
    };
    Box::new(Terms {
        provider: provider(),
        provider_account: account(),
        client: Client::Account(account()),
        guest_locale: None,
        contact: Personal::of(account(), contact),
        measure: measure(),
        service_name: Personal::of(account(), "Corte".parse().unwrap()),
        zone: Zone::SAO_PAULO,
        price: price(),
        client_notes: Some(Personal::of(account(), "Curto\tatrás".parse().unwrap())),
        series: None,
    })
}

fn occurrence() -> BookedOccurrence {
    BookedOccurrence { number: 1, appointment: appointment(), slot: span() }
}

fn wait() -> Wait {
    let (account, service) = (account(), service_id());
    Wait { id: mint().id(slot(), 0), account, service, from: span().start, to: span().end }
}

fn parties() -> Parties {
    Parties {
        provider: provider(),
        provider_account: account(),
        client: Client::Account(account()),
    }
}

fn later() -> Instant {
    "2026-03-10T14:00:00Z".parse().unwrap()
}

fn photo(n: u32) -> PhotoId {
    mint().id(slot(), n)
}

fn address(name: &str) -> Personal<EmailAddress> {
    Personal::of(account(), format!("{name}@example.com").parse().unwrap())
}

/// One of every event, with every optional field.
fn one_of_each() -> Vec<Event> {
    let reason = || Some(Personal::of(account(), "Imprevisto".parse().unwrap()));
    let business_name = || Personal::of(account(), "Salão da Bia".parse().unwrap());
    let day = "2026-03-03".parse().unwrap();
    let (slot, from, to) = (span(), span(), span());
    vec![
        AccountEvent::AccountRegistered {
            name: Personal::of(account(), "Ana Lima".parse().unwrap()),
            email: Personal::of(account(), "ana@example.com".parse().unwrap()),
            phone: Some(Personal::of(account(), "11 91234-5678".parse().unwrap())),
            locale: Locale::PtBr,
            zone: Some(Zone::SAO_PAULO),
            roles: vec![Role::Client, Role::Provider],
        }
        .into(),
        AccountEvent::RegistrationAttempted {}.into(),
        AccountEvent::EmailConfirmed {}.into(),
        AccountEvent::ProfileChanged {
            name: Personal::of(account(), "Ana Lima".parse().unwrap()),
            phone: Some(Personal::of(account(), "11 91234-5678".parse().unwrap())),
            locale: Locale::En,
            zone: Some(Zone::SAO_PAULO),
        }
        .into(),
        AccountEvent::EmailChangeRequested {
            change: mint().id(account().slot(), 0),
            email: address("ana.lima"),
        }
        .into(),
        AccountEvent::EmailChanged {
            change: mint().id(account().slot(), 0),
            email: address("ana.lima"),
            previous: address("ana"),
        }
        .into(),
        AccountEvent::PasswordResetRequested {
            reset: mint().id(account().slot(), 0),
            expires_at: span().end,
        }
        .into(),
        AccountEvent::PasswordReset {}.into(),
        AccountEvent::PasswordChanged {}.into(),
        AccountEvent::PhotoChanged { photo: photo(1), replaced: Some(photo(0)) }.into(),
        AccountEvent::PhotoRemoved { photo: photo(1) }.into(),
        AccountEvent::RoleGranted { role: Role::Provider }.into(),
        AccountEvent::RoleRevoked { role: Role::Auditor }.into(),
        AccountEvent::SessionsEnded {}.into(),
        AccountEvent::AccountDeactivated { by: DeactivatedBy::Admin }.into(),
        AccountEvent::AccountReactivated {}.into(),
        AccountEvent::AccountErased { photo: Some(photo(1)) }.into(),
        SessionEvent::SessionStarted {
            account: account(),
            generation: 2,
            expires_at: span().end,
            ip: Some(Personal::of(account(), "203.0.113.9".parse().unwrap())),
            user_agent: Some(Personal::of(account(), "Firefox".parse().unwrap())),
        }
        .into(),
        SessionEvent::SessionEnded { account: account(), reason: EndReason::RefreshReused }.into(),
        ProviderEvent::ProviderOpened {
            account: account(),
            slug: Personal::of(account(), "salao-da-bia".parse().unwrap()),
            business_name: business_name(),
            hourly_rate: hourly_rate(),
            schedule: Box::new(schedule()),
        }
        .into(),
        ProviderEvent::ProfileChanged {
            business_name: business_name(),
            hourly_rate: hourly_rate(),
            details: None,
        }
        .into(),
        ProviderEvent::SlugChanged {
            slug: Personal::of(account(), "studio-da-bia".parse().unwrap()),
            former: vec![Personal::of(account(), "salao-da-bia".parse().unwrap())],
        }
        .into(),
        ProviderEvent::StandingSet {
            standing: Standing { is_verified: true, plan: "pro".parse().unwrap() },
        }
        .into(),
        ProviderEvent::ServicesReordered { order: vec![service_id()] }.into(),
        CategoryEvent::CategoryAdded { listing: listing() }.into(),
        CategoryEvent::CategoryChanged { listing: Listing { is_active: false, ..listing() } }
            .into(),
        CategoryEvent::CategoryRemoved {}.into(),
        ProviderEvent::WeeklyHoursSet { zone: Zone::SAO_PAULO, weekly: WeeklyHours::classic() }
            .into(),
        ProviderEvent::DayOverridden {
            day,
            windows: windows(r#"[{"from":"09:00","to":"10:30"}]"#),
        }
        .into(),
        ProviderEvent::OverrideRemoved { day }.into(),
        ProviderEvent::HolidaysSet { holidays: Some(HolidayCalendar::BrazilWithOptional) }.into(),
        ProviderEvent::TimeOffTaken {
            id: mint().id(provider().slot(), 0),
            time_off: time_off(),
            reason: reason(),
        }
        .into(),
        ProviderEvent::TimeOffCancelled { id: mint().id(provider().slot(), 1) }.into(),
        ProviderEvent::PolicySet { policy: Policy::classic() }.into(),
        ProviderEvent::ServiceAdded { service: service() }.into(),
        ProviderEvent::ServiceChanged { service: service() }.into(),
        ProviderEvent::ServiceRemoved { service: service_id() }.into(),
        ProviderEvent::ShopPaused {}.into(),
        ProviderEvent::ShopResumed {}.into(),
        ProviderEvent::ShopClosed {}.into(),
        AgendaEvent::SlotTaken {
            provider: provider(),
            day,
            appointment: appointment(),
            slot,
            span: measure().buffered(slot),
            service: service_id(),
            capacity: 3,
            hold: None,
        }
        .into(),
        AgendaEvent::SlotFreed { provider: provider(), day, appointment: appointment() }.into(),
        AppointmentEvent::AppointmentBooked {
            terms: terms(),
            slot,
            status: Status::Pending,
            answer_by: None,
            by: Side::Client,
        }
        .into(),
        AgendaEvent::SlotHeld {
            provider: provider(),
            day,
            hold: hold(),
            holder: account(),
            slot,
            span: measure().buffered(slot),
            service: service_id(),
            capacity: 3,
            expires_at: span().start,
        }
        .into(),
        AgendaEvent::HeldSlotFreed { provider: provider(), day, hold: hold() }.into(),
        HoldEvent::HoldPlaced { held: held() }.into(),
        HoldEvent::HoldReleased {}.into(),
        HoldEvent::HoldUsed { appointment: appointment() }.into(),
        HoldEvent::HoldExpired {}.into(),
        AppointmentEvent::AppointmentConfirmed { parties: parties(), slot }.into(),
        AppointmentEvent::AppointmentDeclined { parties: parties(), slot, reason: reason() }.into(),
        AppointmentEvent::AppointmentCancelled {
            parties: parties(),
            slot,
            by: Side::Client,
            reason: reason(),
            with_series: false,
        }
        .into(),
        AppointmentEvent::AppointmentRescheduled {
            parties: parties(),
            from,
            to,
            by: Side::Provider,
            status: Status::Confirmed,
            answer_by: None,
        }
        .into(),
        AppointmentEvent::AppointmentExpired { parties: parties(), slot }.into(),
        AppointmentEvent::AppointmentCompleted {
            parties: parties(),
            slot,
            correctable_until: later(),
        }
        .into(),
        AppointmentEvent::AppointmentMissed {
            parties: parties(),
            slot,
            correctable_until: later(),
        }
        .into(),
        AppointmentEvent::AppointmentNoted {
            parties: parties(),
            slot,
            by: Side::Provider,
            notes: Some(Personal::of(account(), "Chega sempre atrasado".parse().unwrap())),
        }
        .into(),
        AppointmentEvent::GuestErased { parties: parties(), slot }.into(),
        SeriesEvent::SeriesBooked {
            series: Placed {
                parties: parties(),
                service: service_id(),
                start: span().start,
                rule: "FREQ=WEEKLY;COUNT=10".parse().unwrap(),
                zone: Zone::SAO_PAULO,
                mode: Mode::BestEffort,
                status: Status::Pending,
                booked: vec![occurrence()],
            },
        }
        .into(),
        SeriesEvent::SeriesCancelled {
            parties: parties(),
            by: Side::Provider,
            cancelled: vec![occurrence()],
        }
        .into(),
        WaitlistEvent::WaitlistJoined { provider: provider(), wait: wait() }.into(),
        WaitlistEvent::SlotOffered {
            provider: provider(),
            provider_account: account(),
            zone: Zone::SAO_PAULO,
            wait: wait(),
            offer: WaitOffer { hold: hold(), slot: span(), expires_at: span().start },
        }
        .into(),
        WaitlistEvent::WaitEnded { provider: provider(), wait: wait(), ending: Ending::Lapsed }
            .into(),
        NotificationFeedEvent::NotificationRead {
            account: account(),
            notification: "3:1042".parse().unwrap(),
        }
        .into(),
        NotificationFeedEvent::AllNotificationsRead { account: account(), until: span().start }
            .into(),
    ]
}
