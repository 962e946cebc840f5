//! What must hold once a race is over: the log never had two where one may be, and every reader of it agrees.

use std::collections::{BTreeMap, BTreeSet};

use domain::Instant;
use domain::slots::Span;
use futures_util::future::join_all;
use serde_json::Value;
use sqlx::Row as _;

use super::{Tally, Track};
use crate::{Api, Person, Shop, in_days};

/// An event of a shop's agendas or appointments, as the log has it.
#[derive(Debug, Clone)]
pub struct Fact {
    /// Where: `p:n`.
    pub at: String,
    /// When.
    pub recorded_at: Instant,
    /// `Agenda` or `Appointment`.
    pub of: String,
    /// The stream's id: of an appointment's, the appointment.
    pub stream: String,
    /// What, such as `SlotTaken`.
    pub kind: String,
    /// The event's fields.
    pub body: Value,
}

/// A seat that is taken, or held.
#[derive(Debug, Clone, PartialEq)]
pub struct Seat {
    /// The appointment, or the hold.
    pub holder: String,
    /// The UTC day whose agenda it stands in.
    pub day: String,
    /// The appointment's time.
    pub slot: Span,
    /// The time with buffers.
    pub span: Span,
    /// What was booked.
    pub service: String,
    /// How many may share the slot.
    pub capacity: u64,
    /// When it is free by itself; a hold's.
    pub until: Option<Instant>,
}

/// How things stand after a race.
#[derive(Debug)]
pub struct Settled {
    /// All that happened in the shop, in order.
    pub facts: Vec<Fact>,
    /// Who holds what.
    pub seats: Vec<Seat>,
}

impl Settled {
    /// What happened to an appointment, in order.
    pub fn history(&self, appointment: &str) -> Vec<&str> {
        let of = self.facts.iter().filter(|fact| fact.stream == appointment);
        of.map(|fact| fact.kind.as_str()).collect()
    }

    /// How many appointments are at a start.
    pub fn at(&self, start: &str) -> usize {
        let start: Instant = start.parse().expect("an instant");
        self.seats.iter().filter(|seat| seat.slot.start == start).count()
    }
}

/// The seats after an agenda's event, or why it may not have happened.
fn after(seats: &mut Vec<Seat>, fact: &Fact) -> Result<(), String> {
    let text = |field: &str| fact.body[field].as_str().unwrap_or_default().to_owned();
    let (day, body) = (text("day"), &fact.body);
    let leave = |seats: &mut Vec<Seat>, holder: &str| {
        let before = seats.len();
        seats.retain(|seat| (seat.day.as_str(), seat.holder.as_str()) != (day.as_str(), holder));
        if seats.len() < before { Ok(()) } else { Err(format!("{holder} had no seat on {day}")) }
    };
    let holder = match fact.kind.as_str() {
        "SlotFreed" => return leave(seats, &text("appointment")),
        "HeldSlotFreed" => return leave(seats, &text("hold")),
        "SlotTaken" => text("appointment"),
        "SlotHeld" => text("hold"),
        other => return Err(format!("what {other} does to an agenda is not known here")),
    };
    if fact.kind == "SlotTaken"
        && let Some(hold) = body["hold"].as_str()
    {
        leave(seats, hold)?;
    }
    let span = |field: &str| {
        serde_json::from_value::<Span>(body[field].clone()).map_err(|error| error.to_string())
    };
    let seat = Seat {
        holder,
        slot: span("slot")?,
        span: span("span")?,
        service: text("service"),
        capacity: body["capacity"].as_u64().unwrap_or(1),
        until: body["expires_at"].as_str().and_then(|at| at.parse().ok()),
        day,
    };
    // Who held it for a time that is over is not in the way, even if nobody has said so yet.
    seats.retain(|other| other.until.is_none_or(|until| until > fact.recorded_at));
    let near: Vec<&Seat> =
        seats.iter().filter(|o| o.day == seat.day && o.span.intersects(&seat.span)).collect();
    if let Some(own) = near.iter().find(|other| other.holder == seat.holder) {
        return Err(format!("{} has two seats, one at {}", seat.holder, own.slot.start));
    }
    let shared = |other: &&Seat| other.slot == seat.slot && other.service == seat.service;
    if let Some(other) = near.iter().find(|other| !shared(other)) {
        return Err(format!("{} and {} overlap at {}", seat.holder, other.holder, seat.slot.start));
    }
    let capacity = near.iter().map(|o| o.capacity).chain([seat.capacity]).min().unwrap_or(0);
    if near.len() as u64 >= capacity {
        return Err(format!("more than {capacity} sit at {}", seat.slot.start));
    }
    seats.push(seat);
    Ok(())
}

/// When each appointment that is still to take place takes place, by its own events.
fn standing(facts: &[Fact]) -> BTreeMap<String, Span> {
    let mut standing = BTreeMap::new();
    for fact in facts.iter().filter(|fact| fact.of == "Appointment") {
        let slot = match fact.kind.as_str() {
            "AppointmentBooked" => &fact.body["slot"],
            "AppointmentRescheduled" => &fact.body["to"],
            "AppointmentDeclined" | "AppointmentCancelled" | "AppointmentExpired" => {
                standing.remove(&fact.stream);
                continue;
            }
            _ => continue,
        };
        let slot: Span = serde_json::from_value(slot.clone()).expect("a span");
        standing.insert(fact.stream.clone(), slot);
    }
    standing
}

/// Which notifications there must be: of whom, of what kind, of which event.
fn notifications(facts: &[Fact]) -> BTreeSet<(String, &'static str, String)> {
    let mut told = BTreeSet::new();
    for fact in facts.iter().filter(|fact| fact.of == "Appointment") {
        let parties = parties(fact);
        let provider = parties["provider_account"].as_str();
        let client = parties["client"].as_str();
        let other = if fact.body["by"] == "provider" { client } else { provider };
        let notices: &[(Option<&str>, &'static str)] = match fact.kind.as_str() {
            "AppointmentBooked" => &[
                (provider.filter(|_| fact.body["by"] != "provider"), "new_booking"),
                (client.filter(|_| fact.body["status"] == "confirmed"), "booking_confirmed"),
            ],
            "AppointmentConfirmed" => &[(client, "booking_confirmed")],
            "AppointmentDeclined" => &[(client, "booking_declined")],
            "AppointmentCancelled" => &[(other, "booking_cancelled")],
            "AppointmentRescheduled" => &[(other, "booking_rescheduled")],
            "AppointmentExpired" => &[(client, "booking_expired"), (provider, "booking_expired")],
            _ => &[],
        };
        for (recipient, kind) in notices {
            if let Some(recipient) = recipient {
                told.insert(((*recipient).to_owned(), *kind, fact.at.clone()));
            }
        }
    }
    told
}

fn parties(fact: &Fact) -> &Value {
    let terms = &fact.body["terms"];
    if terms.is_null() { &fact.body["parties"] } else { terms }
}

impl Track {
    /// Fails the test unless, for this shop:
    ///
    /// - no two appointments ever shared an instant, and no group had more than its seats, at any point of the log;
    /// - agendas, appointments, and on both processes the provider's calendar say the same;
    /// - on both processes, what is shown as free of every day that was touched is precisely what is not taken, and so is
    ///   the month;
    /// - each of these people sees their own appointments, and no other;
    /// - each fact is told once to whom it concerns, provider and these people, and nothing else is.
    ///
    /// It takes for granted that the shop is open all days alike within the same UTC day, has one service, and that nothing
    /// was booked 59 days from now.
    pub async fn settled(&self, shop: &Shop, people: &[Person], tally: &Tally) -> Settled {
        let heads = self.registrar.executor().log().heads().await.expect("heads").to_string();
        let facts = self.facts(&shop.id).await;
        let mut seats = Vec::new();
        for fact in facts.iter().filter(|fact| fact.of == "Agenda") {
            if let Err(wrong) = after(&mut seats, fact) {
                panic!("at {}: {wrong}\n{tally}", fact.at);
            }
        }
        let standing = standing(&facts);
        let taken = seats.iter().filter(|seat| seat.until.is_none());
        let taken: BTreeMap<_, _> = taken.map(|seat| (seat.holder.clone(), seat.slot)).collect();
        assert_eq!(taken, standing, "agendas and appointments\n{tally}");

        for url in &self.urls {
            let owner = shop.owner.api.at(url);
            assert_eq!(calendar(&owner, shop, &heads).await, standing, "calendar\n{tally}");
            self.shows_what_is_free(&owner, shop, &facts, &seats, &heads, tally).await;
        }
        let told = notifications(&facts);
        let of = |person: &Person| {
            let mine = told.iter().filter(|(recipient, ..)| *recipient == person.account);
            mine.map(|(_, kind, at)| (at.clone(), (*kind).to_owned())).collect()
        };
        let own = async |person: &Person| {
            let mine: BTreeMap<String, String> = of(person);
            assert_eq!(feed(&person.api, shop, &heads).await, mine, "notifications\n{tally}");
            let booked = facts.iter().filter(|f| parties(f)["client"] == person.account.as_str());
            let mine: BTreeSet<String> = booked
                .map(|f| &f.stream)
                .filter(|id| standing.contains_key(*id))
                .cloned()
                .collect();
            let path = "/api/users/appointments?limit=100";
            let seen = person.api.get_after(path, &heads).await.expect(200);
            assert_eq!(ids(&seen.body["items"], shop), mine, "own appointments\n{tally}");
        };
        join_all(people.iter().map(own)).await;
        let owner = &shop.owner;
        assert_eq!(feed(&owner.api, shop, &heads).await, of(owner), "notifications\n{tally}");
        Settled { facts, seats }
    }

    /// All that happened in a shop's agendas and to its appointments.
    async fn facts(&self, shop: &str) -> Vec<Fact> {
        let rows = sqlx::query(
            "SELECT partition || ':' || position AS at, recorded_at, aggregate_type, aggregate_id::text AS stream,
                    event_type, payload::text AS payload
             FROM events WHERE aggregate_type IN ('Agenda', 'Appointment') ORDER BY partition, position",
        )
        .fetch_all(self.registrar.executor().log().pool())
        .await
        .expect("the log can be read");
        let fact = |row: sqlx::postgres::PgRow| {
            let (kind, payload): (String, String) = (row.get("event_type"), row.get("payload"));
            let mut payload: Value = serde_json::from_str(&payload).expect("an event is JSON");
            Fact {
                at: row.get("at"),
                recorded_at: row.get("recorded_at"),
                of: row.get("aggregate_type"),
                stream: row.get("stream"),
                body: payload[&kind].take(),
                kind,
            }
        };
        let here = |fact: &Fact| {
            let of_agenda = &fact.body["provider"];
            let of = if of_agenda.is_null() { &parties(fact)["provider"] } else { of_agenda };
            of == shop
        };
        rows.into_iter().map(fact).filter(here).collect()
    }

    async fn shows_what_is_free(
        &self,
        api: &Api,
        shop: &Shop,
        facts: &[Fact],
        seats: &[Seat],
        heads: &str,
        tally: &Tally,
    ) {
        let whole = in_days(59, "");
        let whole = &whole[..10];
        let candidates = free(api, shop, whole, heads).await;
        assert!(!candidates.is_empty(), "the shop is open on {whole}");
        let touched = facts.iter().filter_map(|fact| fact.body["day"].as_str());
        let touched: BTreeSet<&str> = touched.collect();
        let mut months: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for day in touched {
            let date = |day: &str| day.parse::<chrono::NaiveDate>().expect("a date");
            let by = date(day) - date(whole);
            let of_day = candidates.iter().map(|c| Span { start: c.start + by, end: c.end + by });
            let expected: Vec<Span> = of_day.filter(|slot| is_free(*slot, seats)).collect();
            let shown = free(api, shop, day, heads).await;
            assert_eq!(shown, expected, "free on {day} at {}\n{tally}", api.url);
            let shown_days = months.entry(&day[..7]).or_default();
            if !shown.is_empty() {
                shown_days.push(day);
            }
        }
        for (month, with_slots) in months {
            let path =
                format!("/api/providers/available-days?provider_id={}&month={month}", shop.id);
            let shown = api.get_after(&path, heads).await.expect(200);
            let shown: Vec<_> = shown.body["days"].as_array().into_iter().flatten().collect();
            for day in facts.iter().filter_map(|f| f.body["day"].as_str()) {
                if day.starts_with(month) {
                    let has_slots = with_slots.contains(&day);
                    assert_eq!(shown.iter().any(|d| *d == day), has_slots, "{day}\n{tally}");
                }
            }
        }
    }
}

/// Whether a slot of the one service can be had beside these seats.
fn is_free(slot: Span, seats: &[Seat]) -> bool {
    let near = seats.iter().filter(|seat| {
        let (before, after) = (seat.slot.start - seat.span.start, seat.span.end - seat.slot.end);
        Span { start: slot.start - before, end: slot.end + after }.intersects(&seat.span)
    });
    let near: Vec<&Seat> = near.collect();
    let capacity = near.iter().map(|seat| seat.capacity).min();
    near.iter().all(|seat| seat.slot == slot)
        && capacity.is_none_or(|capacity| (near.len() as u64) < capacity)
}

async fn free(api: &Api, shop: &Shop, day: &str, after: &str) -> Vec<Span> {
    let path = format!("/api/providers/available-times?provider_id={}&day={day}", shop.id);
    let seen = api.get_after(&path, after).await.expect(200);
    let slots = seen.body["slots"].as_array().expect("slots");
    slots.iter().map(span_of).collect()
}

async fn calendar(api: &Api, shop: &Shop, after: &str) -> BTreeMap<String, Span> {
    let (from, to) = (in_days(0, ""), in_days(60, ""));
    let path = format!(
        "/api/appointments/calendar/{}?from={}&to={}&status=pending,confirmed,completed,no_show",
        shop.id,
        &from[..10],
        &to[..10]
    );
    let seen = api.get_after(&path, after).await.expect(200);
    let items = seen.body["appointments"].as_array().expect("appointments");
    let id = |item: &Value| item["id"].as_str().expect("an id").to_owned();
    let shown: BTreeMap<_, _> = items.iter().map(|item| (id(item), span_of(item))).collect();
    assert_eq!(shown.len(), items.len(), "the calendar shows one twice");
    shown
}

fn span_of(item: &Value) -> Span {
    let at = |field: &str| item[field].as_str().and_then(|at| at.parse().ok()).expect("an instant");
    Span { start: at("start"), end: at("end") }
}

fn ids(items: &Value, shop: &Shop) -> BTreeSet<String> {
    let here =
        items.as_array().expect("items").iter().filter(|i| i["provider_id"] == shop.id.as_str());
    here.map(|item| item["id"].as_str().expect("an id").to_owned()).collect()
}

/// The notifications of a shop's appointments, each by its id.
async fn feed(api: &Api, shop: &Shop, after: &str) -> BTreeMap<String, String> {
    let (mut told, mut cursor) = (BTreeMap::new(), String::new());
    loop {
        let page = api.get_after(&format!("/api/notifications?limit=100{cursor}"), after).await;
        let page = page.expect(200).body;
        for item in page["items"].as_array().expect("items") {
            let text = |field: &str| item[field].as_str().expect("a text").to_owned();
            if text("provider_id") == shop.id {
                let before = told.insert(text("id"), text("kind"));
                assert_eq!(before, None, "a notification is listed twice");
            }
        }
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return told,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// An event of an agenda at 12:00 of its day.
    fn fact(kind: &str, body: Value) -> Fact {
        Fact {
            at: "0:1".to_owned(),
            recorded_at: "2031-03-01T12:00:00Z".parse().unwrap(),
            of: "Agenda".to_owned(),
            stream: "agenda".to_owned(),
            kind: kind.to_owned(),
            body,
        }
    }

    /// Somebody takes an hour, or holds it until then.
    fn takes(holder: &str, hour: u8, capacity: u8, until: Option<&str>) -> Fact {
        let span = json!({ "start": format!("2031-03-03T{hour}:00:00Z"), "end": format!("2031-03-03T{}:00:00Z", hour + 1) });
        let mut body = json!({ "day": "2031-03-03", "slot": span, "span": span, "service": "s", "capacity": capacity });
        let (kind, field) = match until {
            Some(until) => {
                body["expires_at"] = json!(until);
                ("SlotHeld", "hold")
            }
            None => ("SlotTaken", "appointment"),
        };
        body[field] = json!(holder);
        fact(kind, body)
    }

    fn leaves(holder: &str) -> Fact {
        fact("SlotFreed", json!({ "day": "2031-03-03", "appointment": holder }))
    }

    fn replay(facts: &[Fact]) -> Result<usize, String> {
        let mut seats = Vec::new();
        facts.iter().try_for_each(|fact| after(&mut seats, fact))?;
        Ok(seats.len())
    }

    #[test]
    fn two_in_one_place_are_found_even_if_one_has_left_since() {
        let alone = |holder| takes(holder, 12, 1, None);
        assert_eq!(replay(&[alone("a"), leaves("a"), alone("b")]), Ok(1));
        let overlap = replay(&[alone("a"), alone("b"), leaves("a")]);
        assert!(overlap.is_err_and(|wrong| wrong.contains("more than 1")));
        assert_eq!(replay(&[alone("a"), takes("b", 13, 1, None)]), Ok(2));
        assert!(replay(&[alone("a"), leaves("b")]).is_err());
        let mut longer = takes("b", 13, 1, None);
        longer.body["span"]["start"] = json!("2031-03-03T12:50:00Z");
        assert!(replay(&[alone("a"), longer]).is_err_and(|wrong| wrong.contains("overlap")));
    }

    #[test]
    fn a_group_is_full_when_it_is_and_its_member_sits_once() {
        let joins = |holder| takes(holder, 12, 2, None);
        assert_eq!(replay(&[joins("a"), joins("b")]), Ok(2));
        assert!(replay(&[joins("a"), joins("b"), joins("c")]).is_err());
        assert!(replay(&[joins("a"), joins("a")]).is_err());
    }

    #[test]
    fn a_hold_is_in_the_way_until_it_is_over_and_gives_its_seat_to_its_booking() {
        let (over, lasts) = ("2031-03-01T11:59:00Z", "2031-03-01T12:01:00Z");
        let held = |until| takes("h", 12, 1, Some(until));
        assert_eq!(replay(&[held(over), takes("a", 12, 1, None)]), Ok(1));
        assert!(replay(&[held(lasts), takes("a", 12, 1, None)]).is_err());
        let mut booked = takes("a", 12, 1, None);
        booked.body["hold"] = json!("h");
        assert_eq!(replay(&[held(lasts), booked]), Ok(1));
    }
}
