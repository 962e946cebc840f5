//! Sockets: hints that are lost, doubled, early or too many; tokens; limits.

use std::time::{Duration, Instant};

use chrono::NaiveDate;
use domain::appointment::Appointment;
use domain::hours::WeeklyHours;
use domain::ids::{AccountId, AppointmentId, Mint, ProviderId, RoutingSlot};
use domain::locale::Locale;
use domain::provider::{AddService, ChangeProvider, Offer, OwnersChange, SetWeeklyHours};
use event_log::parked;
use futures_util::{SinkExt as _, StreamExt as _};
use read_models::fanout::{Fanout as _, Hint, Topic};
use read_models::notifications::{
    FeedBatch, NewNotification, NotificationFeed as _, NotificationKind,
};
use serde_json::{Value, json};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

use crate::common::*;

/// How long anything may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(30);
/// Silence this long is taken for silence.
const MOMENT: Duration = Duration::from_millis(200);

/// Serves a world on a port of its own.
async fn serve(world: &World) -> std::net::SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = world.router.clone();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

/// A client's end of a socket.
struct Socket(WebSocketStream<TcpStream>);

impl Socket {
    async fn connect(address: std::net::SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).await.unwrap()).await.unwrap()
    }

    /// The handshake; `Err` is the status it was refused with.
    async fn over(stream: TcpStream) -> Result<Self, u16> {
        let request = format!("ws://{}/ws", stream.peer_addr().unwrap());
        let request = request.into_client_request().unwrap();
        match tokio_tungstenite::client_async(request, stream).await {
            Ok((socket, _)) => Ok(Self(socket)),
            Err(tokio_tungstenite::tungstenite::Error::Http(answer)) => {
                Err(answer.status().as_u16())
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// Connected and authenticated.
    async fn of(address: std::net::SocketAddr, token: &str) -> Self {
        let mut socket = Self::connect(address).await;
        socket.send(json!({ "type": "authenticate", "token": token })).await;
        assert_eq!(socket.next().await["type"], "authenticated");
        socket
    }

    /// Watches its own notifications; from what offset on.
    async fn watch_notifications(&mut self) -> String {
        self.send(json!({ "type": "subscribe", "topic": "notifications" })).await;
        let subscribed = self.next().await;
        assert_eq!(subscribed["type"], "subscribed");
        subscribed["offset"].as_str().unwrap().to_owned()
    }

    async fn send(&mut self, message: Value) {
        self.0.send(Message::text(message.to_string())).await.unwrap();
    }

    async fn next(&mut self) -> Value {
        match tokio::time::timeout(PATIENCE, self.read()).await.expect("a message in time") {
            Ok(message) => message,
            Err(code) => panic!("closed with {code:?}"),
        }
    }

    /// The ids of the next so many notifications.
    async fn notifications(&mut self, count: usize) -> Vec<String> {
        let mut ids = Vec::new();
        for _ in 0..count {
            let message = self.next().await;
            assert_eq!(message["type"], "notification", "{message}");
            assert_eq!(message["offset"], message["notification"]["id"]);
            ids.push(message["notification"]["id"].as_str().unwrap().to_owned());
        }
        ids
    }

    async fn is_silent(&mut self) -> bool {
        tokio::time::timeout(MOMENT, self.read()).await.is_err()
    }

    async fn closed(&mut self) -> Option<u16> {
        let closed = async {
            loop {
                if let Err(code) = self.read().await {
                    return code;
                }
            }
        };
        tokio::time::timeout(PATIENCE, closed).await.expect("a close in time")
    }

    async fn read(&mut self) -> Result<Value, Option<u16>> {
        loop {
            match self.0.next().await {
                Some(Ok(Message::Text(text))) => return Ok(serde_json::from_str(&text).unwrap()),
                Some(Ok(Message::Close(frame))) => return Err(frame.map(|f| f.code.into())),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Err(None),
            }
        }
    }
}

fn minutes(n: u64) -> Duration {
    Duration::from_secs(n * 60)
}

fn notification(recipient: AccountId, number: u64) -> NewNotification {
    let slot = RoutingSlot::from_bits(1);
    let recorded_at: domain::Instant = "2026-03-02T12:00:00Z".parse().unwrap();
    NewNotification {
        recipient,
        at: at(number),
        recorded_at: recorded_at + chrono::TimeDelta::milliseconds(i64::try_from(number).unwrap()),
        kind: NotificationKind::NewBooking,
        appointment: Some(Mint::new([5; 32]).id::<AppointmentId>(slot, 0)),
        hold: None,
        provider: Mint::new([6; 32]).id::<ProviderId>(slot, 0),
        other: account(1_000).into(),
        other_name: None,
        service_name: Some("Corte".parse().unwrap()),
        start: recorded_at,
        old_start: None,
        zone: domain::hours::Zone::SAO_PAULO,
    }
}

impl World {
    /// The projector applies a batch in which these numbers are notifications of an account.
    async fn notify(&self, recipient: AccountId, from: u64, to: u64, numbers: &[u64]) {
        let notifications = numbers.iter().map(|n| notification(recipient, *n)).collect();
        let batch = FeedBatch { partition: P, from, to, notifications, marks: vec![] };
        self.feed.apply(batch).await.unwrap();
    }

    /// A shop's owner changes it; a projector says so. Which event it was.
    async fn change<C: OwnersChange>(
        &self,
        owner: AccountId,
        provider: ProviderId,
        change: C,
    ) -> u64 {
        let change = ChangeProvider { provider, change };
        self.executor.execute(change, origin(owner)).await.unwrap();
        let head = self.log().head(P).await.unwrap();
        self.hint_of(provider, None, head).await;
        head
    }

    /// A projector says that a provider's UTC day, or the provider, has changed.
    async fn hint_of(&self, provider: ProviderId, day: Option<&str>, number: u64) {
        let day = day.map(|day| day.parse::<NaiveDate>().unwrap());
        let topic = Topic::Availability { provider, day };
        self.fanout.publish(&[Hint { topic, at: at(number) }]).await;
    }

    async fn hint(&self, recipient: AccountId, number: u64) {
        let topic = Topic::Notifications { account: recipient };
        self.fanout.publish(&[Hint { topic, at: at(number) }]).await;
    }
}

#[tokio::test]
async fn hints_that_are_doubled_lost_early_or_too_many_neither_lose_nor_double_a_notification() {
    let world = World::start().await;
    let ana = account(1);
    let mut socket = Socket::of(serve(&world).await, &world.token(ana, minutes(5))).await;
    socket.watch_notifications().await;

    // Doubled.
    world.notify(ana, 0, 1, &[1]).await;
    for _ in 0..3 {
        world.hint(ana, 1).await;
    }
    assert_eq!(socket.notifications(1).await, ["0:1"]);
    assert!(socket.is_silent().await);
    // Lost: nobody tells of 2; 3 brings it along.
    world.notify(ana, 1, 2, &[2]).await;
    world.notify(ana, 2, 3, &[3]).await;
    world.hint(ana, 3).await;
    assert_eq!(socket.notifications(2).await, ["0:2", "0:3"]);
    // Early, and of something older.
    world.hint(ana, 4).await;
    assert!(socket.is_silent().await);
    world.notify(ana, 3, 5, &[4, 5]).await;
    world.hint(ana, 1).await;
    assert_eq!(socket.notifications(2).await, ["0:4", "0:5"]);
    // So many that the hub does not keep up, and the one that matters falls out first.
    world.notify(ana, 5, 6, &[6]).await;
    world.hint(ana, 6).await;
    for n in 0..10_000 {
        world.hint(account(100 + n), 6).await;
    }
    assert_eq!(socket.notifications(1).await, ["0:6"]);
    assert!(socket.is_silent().await);
}

#[tokio::test]
async fn what_is_half_written_is_not_sent_before_what_comes_before_it() {
    let world = World::start().await;
    let ana = account(1);
    let mut socket = Socket::of(serve(&world).await, &world.token(ana, minutes(5))).await;
    socket.watch_notifications().await;
    // A projector wrote 8, not 7, and died.
    world.notify(ana, 0, 0, &[8]).await;
    world.hint(ana, 8).await;
    assert!(socket.is_silent().await);
    world.notify(ana, 0, 8, &[7, 8]).await;
    world.hint(ana, 8).await;
    assert_eq!(socket.notifications(2).await, ["0:7", "0:8"]);
}

#[tokio::test]
async fn who_comes_back_gets_what_was_missed_page_after_page_in_order_and_once() {
    let world = World::start().await;
    let ana = account(1);
    let missed: Vec<u64> = (1..=250).collect();
    world.notify(ana, 0, 250, &missed).await;
    world.notify(account(2), 250, 251, &[251]).await;
    let address = serve(&world).await;
    let mut socket = Socket::of(address, &world.token(ana, minutes(5))).await;
    let after = "0:3,4000:7";
    socket.send(json!({ "type": "subscribe", "topic": "notifications", "after": after })).await;
    assert_eq!(socket.next().await["offset"], "0:3", "the log has no partition 4000");
    let expected: Vec<String> = (4..=250).map(|n| format!("0:{n}")).collect();
    assert_eq!(socket.notifications(247).await, expected);
    assert!(socket.is_silent().await);
    // Without an offset only what is new counts.
    let mut other = Socket::of(address, &world.token(ana, minutes(5))).await;
    assert_eq!(other.watch_notifications().await, "0:251");
    assert!(other.is_silent().await);
}

#[tokio::test]
async fn who_watched_a_day_and_comes_back_to_a_cold_cache_hears_that_it_changed() {
    let world = World::start().await;
    let (ana, bia) = (world.person("Ana").await, world.person("Bia").await);
    let (provider, opened) = world.shop(ana, "anas").await;
    let booked = world.book(bia, provider, "2026-03-04T12:00:00Z").await;
    let stream = domain::aggregate::StreamId::of::<Appointment>(booked.outcome.appointment);
    assert!(world.log().stream(stream, 0, 1).await.unwrap().len() == 1);
    world.cache_at_head().await;
    let mut socket = Socket::of(serve(&world).await, &world.token(bia, minutes(5))).await;
    let watch = |day: &str, after: &str| json!({ "type": "subscribe", "topic": "availability", "provider": provider, "day": day, "after": after });
    socket.send(watch("2026-03-04", &opened.to_string())).await;
    assert_eq!(socket.next().await["type"], "subscribed");
    let changed = socket.next().await;
    assert_eq!(changed["type"], "availability_changed", "{changed}");
    let offset = changed["offset"].as_str().unwrap().to_owned();
    let times = format!("/api/providers/available-times?provider_id={provider}&day=2026-03-04");
    let seen = world.get(&times, &offset, None).await;
    assert_eq!(seen.body["slots"].as_array().unwrap().len(), 9);
    // Another day has not changed since, and nobody hears of the same change twice.
    socket.send(watch("2026-03-09", &opened.to_string())).await;
    assert_eq!(socket.next().await["type"], "subscribed");
    socket.send(watch("2026-03-04", &offset)).await;
    assert_eq!(socket.next().await["type"], "subscribed");
    assert!(socket.is_silent().await);
}

#[tokio::test]
async fn a_watched_day_follows_its_providers_buffers_and_zone() {
    let world = World::start().await;
    let ana = world.person("Ana").await;
    let (provider, _) = world.shop(ana, "anas").await;
    let mut socket = Socket::of(serve(&world).await, &world.token(ana, minutes(5))).await;
    let watch = json!({ "type": "subscribe", "topic": "availability", "provider": provider, "day": "2026-03-04" });
    socket.send(watch).await;
    assert_eq!(socket.next().await["type"], "subscribed");
    let is_told = async |socket: &mut Socket, number: u64| {
        let changed = socket.next().await;
        assert_eq!(changed["type"], "availability_changed", "{changed}");
        assert_eq!(changed["offset"], format!("0:{number}"));
    };
    // In São Paulo the day is from 03:00 to 03:00 UTC; nothing reaches into it from the day before.
    let far = 1_000;
    world.hint_of(provider, Some("2026-03-03"), far).await;
    assert!(socket.is_silent().await);
    // Four hours before it are kept free: from 23:00 UTC on the day before counts.
    let classic = Offer::classic(Locale::En);
    let offer = Offer { buffer_before_minutes: 240, ..classic };
    let changed = world.change(ana, provider, AddService { offer }).await;
    is_told(&mut socket, changed).await;
    world.hint_of(provider, Some("2026-03-03"), far + 1).await;
    is_told(&mut socket, far + 1).await;
    world.hint_of(provider, Some("2026-03-05"), far + 2).await;
    is_told(&mut socket, far + 2).await;
    // In Auckland the day is over at 11:00 UTC, and the next UTC day is none of its business. The client has an offset
    // from beyond this event, as hints are doubled and late; what is watched follows all the same.
    let zone = "Pacific/Auckland".parse().unwrap();
    let weekly = WeeklyHours::classic();
    world.change(ana, provider, SetWeeklyHours { zone, weekly }).await;
    assert!(socket.is_silent().await);
    world.hint_of(provider, Some("2026-03-05"), far + 3).await;
    assert!(socket.is_silent().await);
    world.hint_of(provider, Some("2026-03-04"), far + 4).await;
    is_told(&mut socket, far + 4).await;
}

#[tokio::test]
async fn an_offset_from_beyond_the_log_is_taken_for_its_head() {
    let world = World::start().await;
    let ana = world.person("Ana").await;
    let (provider, _) = world.shop(ana, "anas").await;
    let head = world.log().head(P).await.unwrap();
    let mut socket = Socket::of(serve(&world).await, &world.token(ana, minutes(5))).await;
    let beyond = format!("0:{},77:1", i64::MAX);
    let day = json!({ "type": "subscribe", "topic": "availability", "provider": provider, "day": "2026-03-04", "after": beyond });
    let feed = json!({ "type": "subscribe", "topic": "notifications", "after": beyond });
    for subscribe in [day, feed] {
        socket.send(subscribe).await;
        let subscribed = socket.next().await;
        assert_eq!(subscribed["type"], "subscribed", "{subscribed}");
        assert_eq!(subscribed["offset"], format!("0:{head}"));
    }
    // So what comes next is heard of.
    world.notify(ana, 0, head + 1, &[head + 1]).await;
    world.hint(ana, head + 1).await;
    assert_eq!(socket.notifications(1).await, [format!("0:{}", head + 1)]);
    world.hint_of(provider, Some("2026-03-04"), head + 2).await;
    assert_eq!(socket.next().await["type"], "availability_changed");
}

#[tokio::test]
async fn what_was_parked_and_applied_after_all_reaches_who_stayed_and_who_comes_back() {
    let world = World::start().await;
    let ana = account(1);
    let address = serve(&world).await;
    let mut stays = Socket::of(address, &world.token(ana, minutes(5))).await;
    stays.watch_notifications().await;
    let park = async |number| {
        let mut connection = world.log().pool().acquire().await.unwrap();
        let document = format!("0:{number}");
        parked::park(&mut connection, "notifications", &document, at(number), "no").await.unwrap();
    };
    let offsets = async |socket: &mut Socket, count| {
        let mut all = Vec::new();
        for _ in 0..count {
            let message = socket.next().await;
            let id = message["notification"]["id"].as_str().unwrap().to_owned();
            all.push((id, message["offset"].as_str().unwrap().to_owned()));
        }
        all
    };
    let pairs = |all: &[(&str, &str)]| -> Vec<(String, String)> {
        all.iter().map(|(id, offset)| ((*id).to_owned(), (*offset).to_owned())).collect()
    };
    park(2).await;
    world.notify(ana, 0, 3, &[1, 3]).await;
    world.hint(ana, 3).await;
    assert_eq!(offsets(&mut stays, 2).await, pairs(&[("0:1", "0:1"), ("0:3", "0:1")]));
    world.notify(ana, 3, 4, &[4]).await;
    world.hint(ana, 4).await;
    assert_eq!(offsets(&mut stays, 1).await, pairs(&[("0:4", "0:1")]), "nothing is sent twice");
    // Who comes now begins before it, too.
    let mut comes = Socket::of(address, &world.token(ana, minutes(5))).await;
    assert_eq!(comes.watch_notifications().await, "0:1");
    assert_eq!(offsets(&mut comes, 2).await, pairs(&[("0:3", "0:1"), ("0:4", "0:1")]));

    // `pontual retry`: applied, then no longer parked.
    world.notify(ana, 4, 4, &[2]).await;
    let mut connection = world.log().pool().acquire().await.unwrap();
    parked::remove(&mut connection, "notifications", "0:2", at(2)).await.unwrap();
    world.hint(ana, 2).await;
    assert_eq!(offsets(&mut stays, 1).await, pairs(&[("0:2", "0:2")]));
    assert_eq!(offsets(&mut comes, 1).await, pairs(&[("0:2", "0:2")]));
    assert!(stays.is_silent().await);
    world.notify(ana, 4, 5, &[5]).await;
    world.hint(ana, 5).await;
    assert_eq!(offsets(&mut stays, 1).await, pairs(&[("0:5", "0:5")]));

    let mut back = Socket::of(address, &world.token(ana, minutes(5))).await;
    back.send(json!({ "type": "subscribe", "topic": "notifications", "after": "0:1" })).await;
    assert_eq!(back.next().await["type"], "subscribed");
    assert_eq!(back.notifications(4).await, ["0:2", "0:3", "0:4", "0:5"]);
}

#[tokio::test]
async fn who_catches_up_with_much_is_heard_meanwhile() {
    let world = World::start().await;
    let ana = account(1);
    let many: Vec<u64> = (1..=2_000).collect();
    world.notify(ana, 0, 2_000, &many).await;
    let mut socket = Socket::of(serve(&world).await, &world.token(ana, minutes(5))).await;
    socket.send(json!({ "type": "subscribe", "topic": "notifications", "after": "" })).await;
    socket.send(json!({ "type": "ping" })).await;
    assert_eq!(socket.next().await["type"], "subscribed");
    let (mut sent, mut heard_after) = (0, None);
    while sent < 2_000 {
        match socket.next().await["type"].as_str().unwrap() {
            "notification" => sent += 1,
            "pong" => heard_after = Some(sent),
            other => panic!("{other}"),
        }
    }
    assert!(heard_after.is_some_and(|sent| sent < 2_000), "{heard_after:?}");
}

#[tokio::test]
async fn the_scheme_of_a_bearer_header_is_of_any_case() {
    let world = World::start().await;
    let address = serve(&world).await;
    for scheme in ["Bearer", "bearer", "BEARER"] {
        let mut request = format!("ws://{address}/ws").into_client_request().unwrap();
        let header = format!("{scheme} {}", world.token(account(1), minutes(5)));
        request.headers_mut().insert("authorization", header.parse().unwrap());
        let stream = TcpStream::connect(address).await.unwrap();
        let (socket, _) = tokio_tungstenite::client_async(request, stream).await.unwrap();
        assert_eq!(Socket(socket).next().await["type"], "authenticated", "{scheme}");
    }
}

#[tokio::test]
async fn a_token_can_be_renewed_by_its_own_account_only_and_ends_the_socket_when_it_expires() {
    let world = World::start().await;
    let address = serve(&world).await;
    let (ana, bia) = (account(1), account(2));
    // A minute, and half a minute in which machines may disagree: a second is left of it.
    let old = world.token(ana, minutes(1));
    world.clock.advance(chrono::TimeDelta::seconds(89));

    let mut expires = Socket::of(address, &old).await;
    let mut renewed = Socket::of(address, &old).await;
    let token = world.token(ana, minutes(5));
    renewed.send(json!({ "type": "authenticate", "token": token })).await;
    assert_eq!(renewed.next().await["type"], "authenticated");
    let began = Instant::now();
    assert_eq!(expires.closed().await, Some(4401));
    assert!(began.elapsed() < Duration::from_secs(5));
    renewed.send(json!({ "type": "ping" })).await;
    assert_eq!(renewed.next().await["type"], "pong");
    assert!(renewed.is_silent().await);

    for token in [world.token(bia, minutes(5)), "not.a.token".to_owned()] {
        let mut socket = Socket::of(address, &world.token(ana, minutes(5))).await;
        socket.send(json!({ "type": "authenticate", "token": token })).await;
        assert_eq!(socket.closed().await, Some(4401));
    }
    world.stop.cancel();
    assert_eq!(renewed.closed().await, Some(1012));
}

#[tokio::test]
async fn one_account_cannot_take_all_the_sockets() {
    let world = World::start().await;
    let address = serve(&world).await;
    let (ana, bia) = (world.token(account(1), minutes(5)), world.token(account(2), minutes(5)));
    let mut sockets = Vec::new();
    for _ in 0..query_api::ws::hub::MOST_PER_ACCOUNT {
        sockets.push(Socket::of(address, &ana).await);
    }
    let mut one_more = Socket::connect(address).await;
    one_more.send(json!({ "type": "authenticate", "token": ana })).await;
    assert_eq!(one_more.closed().await, Some(4429));
    let mut request = format!("ws://{address}/ws").into_client_request().unwrap();
    request.headers_mut().insert("authorization", format!("Bearer {ana}").parse().unwrap());
    let stream = TcpStream::connect(address).await.unwrap();
    match tokio_tungstenite::client_async(request, stream).await {
        Err(tokio_tungstenite::tungstenite::Error::Http(answer)) => {
            assert_eq!(answer.status().as_u16(), 409);
        }
        other => panic!("{other:?}"),
    }
    Socket::of(address, &bia).await;
    // Renewing counts nothing, and leaving makes room.
    sockets[0].send(json!({ "type": "authenticate", "token": ana })).await;
    assert_eq!(sockets[0].next().await["type"], "authenticated");
    drop(sockets.pop());
    let began = Instant::now();
    loop {
        let mut next = Socket::connect(address).await;
        next.send(json!({ "type": "authenticate", "token": ana })).await;
        if next.read().await.is_ok() {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "the place is not free again");
    }
}

#[tokio::test]
async fn a_socket_closes_soon_after_its_session_ended_and_others_stay() {
    let world = World::start().await;
    let address = serve(&world).await;
    let (ana, bia) = (account(1), account(2));
    let mut ends = Socket::of(address, &world.token(ana, minutes(5))).await;
    let mut stays = Socket::of(address, &world.token(bia, minutes(5))).await;
    let began = Instant::now();
    world.revocations.require(ana, 1);
    assert_eq!(ends.closed().await, Some(4001));
    assert!(began.elapsed() < Duration::from_secs(5));
    assert!(stays.is_silent().await);
    // Nor does the token open another.
    let mut socket = Socket::connect(address).await;
    let token = world.token(ana, minutes(5));
    socket.send(json!({ "type": "authenticate", "token": token })).await;
    assert_eq!(socket.closed().await, Some(4401));
}

#[tokio::test]
async fn the_33rd_subscription_is_refused_and_the_socket_stays_open() {
    let world = World::start().await;
    let ana = world.person("Ana").await;
    let (provider, _) = world.shop(ana, "anas").await;
    let mut socket = Socket::of(serve(&world).await, &world.token(ana, minutes(5))).await;
    let day = |n: u32| {
        let day =
            chrono::NaiveDate::from_ymd_opt(2026, 4, 1).unwrap() + chrono::Days::new(n.into());
        json!({ "topic": "availability", "provider": provider, "day": day })
    };
    let say = |kind: &str, mut topic: Value| {
        topic["type"] = kind.into();
        topic
    };
    socket.watch_notifications().await;
    for n in 0..31 {
        socket.send(say("subscribe", day(n))).await;
        assert_eq!(socket.next().await["type"], "subscribed", "{n}");
    }
    socket.send(say("subscribe", day(31))).await;
    let refused = socket.next().await;
    assert_eq!(
        (&refused["type"], &refused["problem"]),
        (&json!("error"), &json!("too-many-subscriptions"))
    );
    // What is watched already may be asked for again, and what is let go of makes room.
    socket.send(say("subscribe", day(30))).await;
    assert_eq!(socket.next().await["type"], "subscribed");
    socket.send(say("unsubscribe", day(0))).await;
    assert_eq!(socket.next().await["type"], "unsubscribed");
    socket.send(say("subscribe", day(31))).await;
    assert_eq!(socket.next().await["type"], "subscribed");
}

#[tokio::test]
async fn who_says_too_much_is_closed_whatever_they_say() {
    let world = World::start().await;
    let address = serve(&world).await;
    let token = world.token(account(1), minutes(5));
    for message in [Message::text("{\"type\":\"ping\"}"), Message::Ping("hello".into())] {
        let mut socket = Socket::of(address, &token).await;
        for _ in 0..100 {
            if socket.0.send(message.clone()).await.is_err() {
                break;
            }
        }
        let code = socket.closed().await;
        assert!(matches!(code, Some(1008) | None), "{code:?}");
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_loses_its_place_to_one_that_does() {
    let world = World::with_sockets(1).await;
    let ana = account(1);
    let many: Vec<u64> = (1..=20_000).collect();
    world.notify(ana, 0, 20_000, &many).await;
    let address = serve(&world).await;
    // A client with a small window, so that what it does not read fills up soon.
    let narrow = TcpSocket::new_v4().unwrap();
    narrow.set_recv_buffer_size(4096).unwrap();
    let mut slow = Socket::over(narrow.connect(address).await.unwrap()).await.unwrap();
    let token = world.token(ana, minutes(5));
    slow.send(json!({ "type": "authenticate", "token": token })).await;
    slow.send(json!({ "type": "subscribe", "topic": "notifications", "after": "" })).await;
    // One place, and it is taken; until the slow one is given up.
    let began = Instant::now();
    let full = Socket::over(TcpStream::connect(address).await.unwrap()).await;
    assert_eq!(full.err(), Some(503));
    loop {
        assert!(began.elapsed() < PATIENCE, "the slow client kept its place");
        if Socket::over(TcpStream::connect(address).await.unwrap()).await.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(began.elapsed() > Duration::from_secs(8), "it was given time to read");
    drop(slow);
}

#[tokio::test]
async fn a_plain_request_for_a_socket_gets_a_problem() {
    let world = World::start().await;
    let answer = world.get("/ws", "", None).await;
    assert!((400..500).contains(&answer.status), "{answer:?}");
    assert!(answer.body["type"].is_string(), "{answer:?}");
}
