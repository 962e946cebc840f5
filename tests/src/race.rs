//! Races: many callers at once, on two processes over one Postgres, and what must hold when they are over.
//!
//! ```no_run
//! # async fn example() {
//! use end_to_end::race::{Race, Track};
//! use end_to_end::{Profile, in_days};
//! use serde_json::json;
//! let track = Track::open(Profile::Full).await;
//! let (ana, people) = (track.shop("Ana", json!({})).await, track.people(64).await);
//! let mut race = Race::new();
//! for person in &people {
//!     let body = json!({ "provider_id": ana.id, "start": in_days(9, "13:00:00Z") });
//!     race.enter("book", &person.api, "POST", "/api/appointments", body);
//! }
//! let tally = race.run().await;
//! assert_eq!(tally.won("book"), 1, "{tally}");
//! tally.losers_hear(&["slot-taken"]);
//! track.settled(&ana, &people, &tally).await;
//! # }
//! ```
//!
//! No race has an answer of 500 or more: [`Race::run`] sees to that. What [`Track::settled`] looks at is told there. Racers start
//! in an order drawn from a seed, which a tally says; `RACE_SEED` sets it.

mod settled;

use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use serde_json::Value;
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use tokio::time::Instant;

pub use self::settled::{Fact, Seat, Settled};
use crate::registrar::{Keys, Registrar};
use crate::{Answer, Api, PUBLIC_URL, Person, Pontual, Profile, Shop};

/// Two processes over one Postgres, and people without number.
pub struct Track {
    /// What runs.
    pub pontual: Pontual,
    /// Where its two processes listen.
    pub urls: [String; 2],
    /// The keys it runs with.
    pub keys: Keys,
    /// Who makes the people.
    pub registrar: Registrar,
    caller: Api,
    people: AtomicUsize,
}

impl Track {
    /// Starts the two processes: with Redis and MongoDB, or with neither.
    pub async fn open(profile: Profile) -> Self {
        let keys = Keys::new();
        let mut pontual = Pontual::start_with(profile, 4, &keys.settings()).await;
        let second = pontual.spawn(&["serve"]).await;
        let registrar = Registrar::of(&pontual.database_url, PUBLIC_URL, &keys)
            .await
            .expect("the registrar has the keys of this Pontual");
        let (urls, caller) = ([pontual.url.clone(), second], pontual.nobody());
        Self { pontual, urls, keys, registrar, caller, people: AtomicUsize::new(0) }
    }

    /// So many people who are signed in, every other one at the second process. They share what keeps connections.
    pub async fn people(&self, count: usize) -> Vec<Person> {
        join_all((0..count).map(|_| self.person())).await
    }

    async fn person(&self) -> Person {
        let n = self.people.fetch_add(1, Ordering::Relaxed);
        let email = format!("racer{n}@example.com");
        let account = self.registrar.account("Ray Racer", &email).await.expect("an account");
        let token = self.registrar.token(account).expect("a token");
        let api = Api { token: Some(token), ..self.caller.at(&self.urls[n % 2]) };
        Person { api, account: account.to_string(), email }
    }

    /// Somebody who is not signed in, at the `n`-th process.
    pub fn nobody(&self, n: usize) -> Api {
        self.caller.at(&self.urls[n % 2])
    }

    /// A shop with one service, open all days alike; `extra` goes into the request that opens it.
    pub async fn shop(&self, name: &str, extra: Value) -> Shop {
        self.person().await.opens(name, extra).await
    }

    /// Books one start for each person at a shop, each of which is free; gives the appointments' ids.
    pub async fn booked(&self, shop: &Shop, people: &[Person], starts: &[String]) -> Vec<String> {
        assert_eq!(people.len(), starts.len());
        let book = async |(person, start): (&Person, &String)| {
            let booked = person.book(shop, start).await.expect(201);
            booked.body["id"].as_str().expect("an id").to_owned()
        };
        join_all(people.iter().zip(starts).map(book)).await
    }
}

type Run = Box<dyn FnOnce(Api) -> Pin<Box<dyn Future<Output = Vec<Answer>> + Send>> + Send>;

struct Racer {
    who: &'static str,
    api: Api,
    wanted: Option<String>,
    run: Run,
}

/// Racers, before the start.
pub struct Race {
    seed: u64,
    racers: Vec<Racer>,
}

impl Race {
    /// Without anybody in it.
    pub fn new() -> Self {
        let seed = std::env::var("RACE_SEED").ok().and_then(|seed| seed.parse().ok());
        Self { seed: seed.unwrap_or_else(rand::random), racers: Vec::new() }
    }

    /// Enters a caller with one request; without a body where that is `null`. `who` is what the tally calls their like.
    pub fn enter(
        &mut self,
        who: &'static str,
        api: &Api,
        method: &'static str,
        path: impl Into<String>,
        body: Value,
    ) {
        let (path, wanted) = (path.into(), body["start"].as_str().map(ToOwned::to_owned));
        self.enter_with(who, api, async move |api: Api| {
            let request = api.request(method, &path);
            let request = if body.is_null() { request } else { request.json(&body) };
            vec![api.send(request).await]
        });
        if let Some(racer) = self.racers.last_mut() {
            racer.wanted = wanted;
        }
    }

    /// Enters a caller with whatever it does, which gives all answers it got.
    pub fn enter_with<F, Answers>(&mut self, who: &'static str, api: &Api, run: F)
    where
        F: FnOnce(Api) -> Answers + Send + 'static,
        Answers: Future<Output = Vec<Answer>> + Send + 'static,
    {
        let run: Run = Box::new(move |api| Box::pin(run(api)));
        self.racers.push(Racer { who, api: api.clone(), wanted: None, run });
    }

    /// Starts all of them together, on connections that stand, and waits for the last. An answer of 500 or more fails the test.
    pub async fn run(mut self) -> Tally {
        self.racers.shuffle(&mut StdRng::seed_from_u64(self.seed));
        let line = Arc::new(Barrier::new(self.racers.len()));
        let mut running = JoinSet::new();
        for Racer { who, api, wanted, run } in self.racers {
            let line = line.clone();
            running.spawn(async move {
                api.get("/health/live").await.expect(200);
                line.wait().await;
                let started = Instant::now();
                let answers = run(api).await;
                (who, wanted, answers, started.elapsed())
            });
        }
        let mut tally = Tally { seed: self.seed, slowest: Duration::ZERO, scores: Vec::new() };
        for (who, wanted, answers, took) in running.join_all().await {
            tally.slowest = tally.slowest.max(took);
            let score = |answer| Score { who, wanted: wanted.clone(), answer };
            tally.scores.extend(answers.into_iter().map(score));
        }
        // Shown when the test fails, whatever for.
        eprintln!("{tally}");
        for score in &tally.scores {
            assert!(score.answer.status < 500, "{}: {}\n{tally}", score.who, score.answer.body);
        }
        tally
    }
}

impl Default for Race {
    fn default() -> Self {
        Self::new()
    }
}

/// All answers of a race. It prints as how many of each kind there were.
#[derive(Debug)]
pub struct Tally {
    seed: u64,
    slowest: Duration,
    scores: Vec<Score>,
}

#[derive(Debug)]
struct Score {
    who: &'static str,
    /// The start that was asked for, if it is known.
    wanted: Option<String>,
    answer: Answer,
}

impl Tally {
    /// The answers that these racers got.
    pub fn answers(&self, who: &str) -> impl Iterator<Item = &Answer> {
        self.scores.iter().filter(move |score| score.who == who).map(|score| &score.answer)
    }

    /// How many of their answers say that it was done.
    pub fn won(&self, who: &str) -> usize {
        self.answers(who).filter(|answer| answer.status < 300).count()
    }

    /// Fails the test unless everybody whose request was not done hears so with a 409 of one of these types; who hears of a
    /// slot that is taken, held or full also hears what is free instead, which is another one.
    #[track_caller]
    pub fn losers_hear(&self, problems: &[&str]) {
        for Score { who, wanted, answer } in &self.scores {
            if answer.status < 300 {
                continue;
            }
            let fits = answer.status == 409 && problems.contains(&answer.problem());
            assert!(fits, "{who} hears {}: {}\n{self}", answer.status, answer.body);
            if ["slot-taken", "slot-held", "group-full", "day-full"].contains(&answer.problem()) {
                let instead = answer.body["alternatives"].as_array().into_iter().flatten();
                let mut instead: Vec<_> = instead.filter_map(Value::as_str).collect();
                assert!(!instead.is_empty(), "{who} hears of no alternative\n{self}");
                assert!(!instead.iter().any(|start| Some(*start) == wanted.as_deref()));
                let count = instead.len();
                instead.sort_unstable();
                instead.dedup();
                assert_eq!(instead.len(), count, "{who} hears of one twice\n{self}");
            }
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut kinds: BTreeMap<(&str, u16, &str), usize> = BTreeMap::new();
        for Score { who, wanted: _, answer } in &self.scores {
            let problem = if answer.status < 300 { "" } else { answer.problem() };
            *kinds.entry((who, answer.status, problem)).or_default() += 1;
        }
        writeln!(f, "RACE_SEED={}, the slowest took {} ms", self.seed, self.slowest.as_millis())?;
        for ((who, status, problem), count) in kinds {
            writeln!(f, "  {who}: {count} × {status} {problem}")?;
        }
        Ok(())
    }
}
