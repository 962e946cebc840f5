//! Events as they are stored and as front ends and later versions read them.

use std::collections::BTreeSet;

use domain::account::{AccountEvent, DeactivatedBy};
use domain::actor::Role;
use domain::agenda::AgendaEvent;
use domain::aggregate::StreamKind;
use domain::appointment::{
    AppointmentEvent, AppointmentStands, Client, Contact, Parties, Side, Status, Terms,
};
use domain::category::{CategoryEvent, Listing};
use domain::event::Event;
use domain::hold::{Held, HoldEvent};
use domain::holidays::HolidayCalendar;
use domain::hours::{Policy, WeeklyHours, Zone};
use domain::ids::{
    AccountId, AppointmentId, HoldId, Id, Mint, PhotoId, ProviderId, RoutingSlot, ServiceId,
    SubjectId, TimeOffId,
};
use domain::locale::Locale;
use domain::money::{Currency, HourlyRate, Money};
use domain::notification_feed::NotificationFeedEvent;
use domain::personal::Personal;
use domain::provider::{Details, Offer, Point, ProviderEvent, Service, Standing};
use domain::series::{BookedOccurrence, Mode, Placed, SeriesEvent};
use domain::session::{EndReason, SessionEvent};
use domain::slots::{Measure, Schedule, Span};
use domain::text::EmailAddress;
use domain::time_off::TimeOff;
use domain::waitlist::{Ending, Offer as WaitOffer, Wait, WaitlistEvent};
use serde_json::{Value, json};

use crate::world::{every_day, instant, windows};

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
    Span { start: instant("2026-03-03T13:00:00Z"), end: instant("2026-03-03T14:00:00Z") }
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
        category: Some(mint().id(slot(), 0)),
        is_active: false,
        duration_minutes: 60,
        interval_minutes: 30,
        price: price(),
        buffer_before_minutes: 5,
        buffer_after_minutes: 10,
        capacity: 3,
        weekly: None,
    };
    Service::of(account(), service_id(), offer)
}

fn details() -> Details {
    Details {
        description: Some("Desde 1998.".parse().unwrap()),
        point: Some(Point::from_degrees(-23.5505199, -46.6333094).unwrap()),
        specializations: vec!["Noivas".parse().unwrap()].try_into().unwrap(),
        ..Details::default()
    }
}

fn listing() -> Listing {
    Listing {
        name: "Cabelo".parse().unwrap(),
        slug: "cabelo".parse().unwrap(),
        description: Some("Corte e cor".parse().unwrap()),
        icon: Some("scissors".parse().unwrap()),
        color: Some("#aa33ff".parse().unwrap()),
        is_active: true,
        sort_order: -3,
    }
}

fn schedule() -> Schedule {
    let mut schedule = Schedule {
        zone: Zone::SAO_PAULO,
        weekly: every_day(&[("08:00", "12:00"), ("13:00", "24:00")]),
        policy: Policy::classic(),
        ..Schedule::default()
    };
    schedule.overrides.insert("2026-12-25".parse().unwrap(), windows(&[]));
    schedule
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

fn hold() -> HoldId {
    mint().id(slot(), 0)
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

fn time_off_id() -> TimeOffId {
    mint().id(slot(), 0)
}

fn time_off() -> TimeOff {
    TimeOff::new("2026-12-24T12:00".parse().unwrap(), "2027-01-02T00:00".parse().unwrap()).unwrap()
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
            details: Some(Personal::of(account(), Box::new(details()))),
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
        CategoryEvent::CategoryChanged { listing: listing() }.into(),
        CategoryEvent::CategoryRemoved {}.into(),
        ProviderEvent::WeeklyHoursSet { zone: Zone::SAO_PAULO, weekly: WeeklyHours::classic() }
            .into(),
        ProviderEvent::DayOverridden { day, windows: windows(&[("09:00", "10:30")]) }.into(),
        ProviderEvent::OverrideRemoved { day }.into(),
        ProviderEvent::HolidaysSet { holidays: Some(HolidayCalendar::BrazilWithOptional) }.into(),
        ProviderEvent::TimeOffTaken { id: time_off_id(), time_off: time_off(), reason: reason() }
            .into(),
        ProviderEvent::TimeOffCancelled { id: time_off_id() }.into(),
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
            answer_by: Some(slot.start),
            by: Side::Provider,
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
            correctable_until: slot.end,
        }
        .into(),
        AppointmentEvent::AppointmentMissed {
            parties: parties(),
            slot,
            correctable_until: slot.end,
        }
        .into(),
        AppointmentEvent::AppointmentNoted {
            parties: parties(),
            slot,
            by: Side::Client,
            notes: reason(),
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

fn stored(event: &Event) -> Value {
    serde_json::to_value(event).unwrap()
}

fn read(kind: StreamKind, payload: Value) -> Event {
    let text = payload.to_string();
    let event = Event::from_payload(kind, payload).unwrap();
    assert_eq!(Event::from_payload_str(kind, &text).unwrap(), event, "both ways read the same");
    event
}

#[test]
fn every_event_reads_as_it_was_written() {
    let mut seen = BTreeSet::new();
    for event in one_of_each() {
        let payload = stored(&event);
        let (name, version) = event.kind();
        assert_eq!(payload.as_object().unwrap().keys().collect::<Vec<_>>(), [name]);
        assert_eq!(read(event.stream_kind(), payload), event);
        seen.insert((event.stream_kind(), name, version));
    }
    assert_eq!(seen, Event::all_kinds().into_iter().collect(), "one of each is missing");
}

#[test]
fn every_event_reads_without_what_is_optional() {
    let optional = [
        "phone",
        "hourly_rate",
        "description",
        "price",
        "client_notes",
        "replaced",
        "details",
        "category",
        "ip",
        "user_agent",
    ];
    // What is optional in one event is required in another.
    let also = |event: &Event| match event {
        Event::Account(AccountEvent::AccountErased { .. }) => "photo",
        Event::Account(_) => "zone",
        Event::Appointment(_) => "reason",
        Event::Provider(ProviderEvent::TimeOffTaken { .. }) => "reason",
        Event::Provider(_) => "is_active",
        Event::Category(_) => "icon",
        Event::Agenda(_)
        | Event::NotificationFeed(_)
        | Event::Session(_)
        | Event::Hold(_)
        | Event::Series(_)
        | Event::Waitlist(_) => "",
    };
    fn strip(value: &mut Value, names: &[&str]) -> usize {
        match value {
            Value::Object(fields) => {
                let before = fields.len();
                fields.retain(|name, _| !names.contains(&name.as_str()));
                let removed = before - fields.len();
                removed + fields.values_mut().map(|value| strip(value, names)).sum::<usize>()
            }
            Value::Array(items) => items.iter_mut().map(|value| strip(value, names)).sum(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
        }
    }
    let mut stripped = 0;
    for event in one_of_each() {
        let mut payload = stored(&event);
        stripped += strip(&mut payload, &optional);
        stripped += strip(&mut payload, &[also(&event)]);
        let bare = read(event.stream_kind(), payload.clone());
        // What is absent is not written as null.
        assert_eq!(stored(&bare), payload);
    }
    assert!(stripped >= 19, "only {stripped} optional fields were there to begin with");
}

#[test]
fn a_field_a_later_version_added_is_passed_over() {
    for event in one_of_each() {
        let mut payload = stored(&event);
        let name = event.kind().0;
        payload[name]["added_later"] = json!({ "anything": [1, 2] });
        // In structures of their own, too: an appointment's terms, a service, a span, a schedule.
        for inner in ["terms", "service", "slot", "schedule", "parties"] {
            if payload[name][inner].is_object() {
                payload[name][inner]["added_later"] = json!(1);
            }
        }
        if payload[name]["terms"].is_object() {
            payload[name]["terms"]["measure"]["added_later"] = json!(1);
        }
        assert_eq!(read(event.stream_kind(), payload), event);
    }
}

#[test]
fn what_decides_about_bookings_is_never_read_half_understood() {
    // An older program that passed over a new rule of hours or policy would book what it must not: such an
    // addition is a new version of the event.
    let with = |event: ProviderEvent, path: &str| {
        let event = Event::from(event);
        let mut payload = stored(&event);
        *payload.pointer_mut(path).unwrap() = json!(1);
        Event::from_payload(event.stream_kind(), payload)
    };
    let mut weekly = stored(&Event::from(ProviderEvent::WeeklyHoursSet {
        zone: Zone::SAO_PAULO,
        weekly: WeeklyHours::classic(),
    }));
    weekly["WeeklyHoursSet"]["weekly"]["every_second_week"] = json!(true);
    assert!(Event::from_payload(StreamKind::Provider, weekly).is_err());
    let mut policy = stored(&Event::from(ProviderEvent::PolicySet { policy: Policy::classic() }));
    policy["PolicySet"]["policy"]["deposit_minor"] = json!(100);
    assert!(Event::from_payload(StreamKind::Provider, policy).is_err());
    let added = || ProviderEvent::ServiceAdded { service: service() };
    assert!(with(added(), "/ServiceAdded/service/duration_minutes").is_err(), "out of bounds");
    assert!(with(added(), "/ServiceAdded/service/buffer_after_minutes").is_ok());
}

#[test]
fn an_event_of_another_stream_or_of_no_name_is_not_read() {
    let all = one_of_each();
    let taken = stored(all.iter().find(|event| event.kind().0 == "SlotTaken").unwrap());
    assert!(Event::from_payload(StreamKind::Agenda, taken.clone()).is_ok());
    assert!(Event::from_payload(StreamKind::Account, taken).is_err());
    for payload in [json!({}), json!(null), json!({ "SlotSold": {} }), json!("SlotTaken")] {
        assert!(Event::from_payload(StreamKind::Agenda, payload.clone()).is_err(), "{payload}");
    }
}

#[test]
fn events_look_as_one_would_write_them() {
    let (provider, account, appointment) = (provider(), account(), appointment());
    let service = service_id();
    let span = json!({ "start": "2026-03-03T13:00:00Z", "end": "2026-03-03T14:00:00Z" });
    let events = one_of_each();
    let of = |name: &str| stored(events.iter().find(|event| event.kind().0 == name).unwrap());
    assert_eq!(
        of("SlotTaken"),
        json!({ "SlotTaken": {
            "provider": provider,
            "day": "2026-03-03",
            "appointment": appointment,
            "slot": span,
            "span": { "start": "2026-03-03T12:55:00Z", "end": "2026-03-03T14:10:00Z" },
            "service": service,
            "capacity": 3,
        }})
    );
    assert_eq!(of("EmailConfirmed"), json!({ "EmailConfirmed": {} }));
    assert_eq!(
        of("ServiceAdded"),
        json!({ "ServiceAdded": { "service": {
            "id": service,
            "name": { "$personal": { "subject": account, "value": "Corte" } },
            "description": {
                "$personal": { "subject": account, "value": "Com lavagem.\nE conversa." },
            },
            "category": mint().id::<domain::ids::CategoryId>(slot(), 0),
            "is_active": false,
            "duration_minutes": 60,
            "interval_minutes": 30,
            "price": { "amount_minor": 12_000, "currency": "BRL" },
            "buffer_before_minutes": 5,
            "buffer_after_minutes": 10,
            "capacity": 3,
        }}})
    );
    assert_eq!(
        of("DayOverridden"),
        json!({ "DayOverridden": {
            "day": "2026-03-03",
            "windows": [{ "from": "09:00", "to": "10:30" }],
        }})
    );
    assert_eq!(
        of("AppointmentCancelled"),
        json!({ "AppointmentCancelled": {
            "parties": { "provider": provider, "provider_account": account, "client": account },
            "slot": span,
            "by": "client",
            "reason": { "$personal": { "subject": account, "value": "Imprevisto" } },
        }})
    );
    assert_eq!(
        of("NotificationRead"),
        json!({ "NotificationRead": { "account": account, "notification": "3:1042" } })
    );
    let opened = &of("ProviderOpened")["ProviderOpened"]["schedule"];
    assert_eq!(opened["zone"], "America/Sao_Paulo");
    assert_eq!(opened["overrides"], json!({ "2026-12-25": [] }));
    assert_eq!(
        opened["policy"],
        json!({
            "minimum_notice_minutes": 0,
            "horizon_days": 365,
            "cancellation_window_minutes": 0,
            "confirmation": "manual",
        })
    );
    assert_eq!(of("AccountRegistered")["AccountRegistered"]["locale"], "pt-BR");
    assert_eq!(
        of("AccountRegistered")["AccountRegistered"]["roles"],
        json!(["client", "provider"])
    );
}

#[test]
fn personal_data_is_read_known_sealed_and_erased() {
    let subject: SubjectId = account().into();
    let name = |value: Value| serde_json::from_value::<Personal<domain::text::PersonName>>(value);
    let known = name(json!({ "$personal": { "subject": subject, "value": "Ana Lima" } })).unwrap();
    assert_eq!(known.known().unwrap().as_str(), "Ana Lima");
    for hidden in
        [json!({ "$sealed": { "subject": subject, "box": "AAAA" } }), json!({ "$erased": subject })]
    {
        let personal = name(hidden.clone()).unwrap();
        assert_eq!((personal.known(), personal.subject()), (None, subject));
        assert_eq!(serde_json::to_value(&personal).unwrap(), hidden);
    }
    assert!(name(json!("Ana Lima")).is_err(), "personal data always names whose it is");
    assert!(!format!("{known:?}").contains("Ana"));
}

#[test]
fn an_appointment_of_an_erased_person_still_reads() {
    let mut payload = stored(&Event::from(AppointmentEvent::AppointmentBooked {
        terms: terms(),
        slot: span(),
        status: Status::Pending,
        answer_by: None,
        by: Side::Client,
    }));
    for field in ["contact", "client_notes", "service_name"] {
        payload["AppointmentBooked"]["terms"][field] = json!({ "$erased": account() });
    }
    let Event::Appointment(AppointmentEvent::AppointmentBooked { terms, .. }) =
        read(StreamKind::Appointment, payload)
    else {
        panic!("it was a booking")
    };
    assert_eq!(terms.contact.known(), None);
    assert_eq!(terms.service_name.known(), None);
}

// ── What clients send ───────────────────────────────────────────────────────────────────────────────────

#[test]
fn an_offers_numbers_have_bounds() {
    let offer = |change: fn(&mut Offer)| {
        let mut offer = Offer::classic(Locale::En);
        change(&mut offer);
        offer.checked()
    };
    assert!(offer(|_| {}).is_ok());
    let wrong: [fn(&mut Offer); 7] = [
        |o| o.duration_minutes = 4,
        |o| o.duration_minutes = 1441,
        |o| o.interval_minutes = 0,
        |o| o.buffer_before_minutes = 241,
        |o| o.buffer_after_minutes = 241,
        |o| o.capacity = 0,
        |o| o.capacity = 501,
    ];
    for change in wrong {
        assert!(offer(change).is_err());
    }
}

#[test]
fn a_service_is_flat_both_ways() {
    let flat = serde_json::to_value(service()).unwrap();
    assert_eq!(flat["id"], json!(service_id()));
    assert_eq!(flat["duration_minutes"], 60);
    assert_eq!(serde_json::from_value::<Service>(flat.clone()).unwrap(), service());
    let anonymous = json!({ "name": "Corte", "duration_minutes": 60 });
    assert!(serde_json::from_value::<Service>(anonymous).is_err());
    assert!(!format!("{:?}", service()).contains("Corte"));
}

#[test]
fn an_outcome_reads_as_it_was_kept() {
    let outcome = AppointmentStands {
        appointment: appointment(),
        provider: provider(),
        service: service_id(),
        service_name: Some("Corte".parse().unwrap()),
        slot: span(),
        zone: Zone::SAO_PAULO,
        price: price(),
        status: Status::Pending,
    };
    let kept = serde_json::to_value(&outcome).unwrap();
    assert_eq!(kept["status"], "pending");
    assert_eq!(kept["zone"], "America/Sao_Paulo");
    let read: AppointmentStands = serde_json::from_value(kept.clone()).unwrap();
    assert_eq!(serde_json::to_value(read).unwrap(), kept);
    // Nothing of the person, nor of the shop.
    assert!(!kept.to_string().contains("$personal") && !kept.to_string().contains("Corte"));
}
