//! Password hashing: argon2id on a bounded number of blocking threads (K4).
//!
//! Hashing takes tens of milliseconds of a core and 19 MiB on purpose. So only as many run at once as there
//! are cores, a few more wait, and whoever comes then is told that we are busy; a flood of sign-ins cannot
//! stop bookings. A password is never logged; a crash loses hashes nobody was promised.

use std::fmt;
use std::sync::Arc;

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};
use http_kit::{Kind, Problem};
use serde::Deserialize;
use tokio::sync::Semaphore;
use utoipa::PartialSchema;

/// How many may wait for each that runs.
const WAITING_PER_WORKER: usize = 16;

/// A new password: 8 to 128 characters (`S2-40`), any of them.
#[derive(Clone, Deserialize)]
#[serde(try_from = "String")]
pub struct Password(String);

/// A password that is too short or too long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidPassword;

impl fmt::Display for InvalidPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("password must have 8 to 128 characters")
    }
}

impl TryFrom<String> for Password {
    type Error = InvalidPassword;
    fn try_from(text: String) -> Result<Self, InvalidPassword> {
        let characters = text.chars().take(129).count();
        if (8..=128).contains(&characters) { Ok(Self(text)) } else { Err(InvalidPassword) }
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

/// A password somebody signs in with: of any length, because the wrong one must look like any other.
#[derive(Clone, Deserialize)]
pub struct Attempt(String);

impl fmt::Debug for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Attempt(…)")
    }
}

macro_rules! schema_of_a_string {
    ($($name:ident)*) => {$(
        impl PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
                String::schema()
            }
        }
    )*};
}
schema_of_a_string!(Password Attempt);

/// Hashes and verifies passwords. Cheap to clone.
#[derive(Clone)]
pub struct Passwords(Arc<Inner>);

struct Inner {
    argon2: Argon2<'static>,
    /// A hash of nothing anybody knows, verified where there is no account, so that the time is the same.
    nobodys: String,
    places: Arc<Semaphore>,
    workers: Arc<Semaphore>,
}

impl Passwords {
    /// With as many at once as there are cores.
    pub fn new() -> Self {
        Self::with_workers(std::thread::available_parallelism().map_or(1, usize::from))
    }

    /// With this many at once.
    pub fn with_workers(workers: usize) -> Self {
        // OWASP's recommendation for argon2id: 19 MiB, two passes, one lane.
        let params = Params::new(19_456, 2, 1, None).expect("OWASP's parameters are in range");
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let nobodys = argon2
            .hash_password(&rand::random::<[u8; 32]>())
            .expect("a password of 32 bytes can be hashed")
            .to_string();
        Self(Arc::new(Inner {
            argon2,
            nobodys,
            places: Arc::new(Semaphore::new(workers * (1 + WAITING_PER_WORKER))),
            workers: Arc::new(Semaphore::new(workers)),
        }))
    }

    /// The hash of a password in PHC string form.
    pub async fn hash(&self, password: Password) -> Result<String, Problem> {
        self.run(move |inner| {
            let hash = inner.argon2.hash_password(password.0.as_bytes());
            hash.map(|hash| hash.to_string()).map_err(|error| Problem::internal(&error))
        })
        .await?
    }

    /// Whether the password is the one of this hash; takes as long without one, and says no.
    pub async fn verify(&self, attempt: Attempt, hash: Option<String>) -> Result<bool, Problem> {
        self.run(move |inner| {
            let known = hash.is_some();
            let hash = hash.as_deref().unwrap_or(&inner.nobodys);
            let hash = PasswordHash::new(hash).map_err(|error| Problem::internal(&error))?;
            let same = inner.argon2.verify_password(attempt.0.as_bytes(), &hash).is_ok();
            Ok(known && same)
        })
        .await?
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> T + Send + 'static,
    ) -> Result<T, Problem> {
        let busy = |_| Problem::from(Kind::Busy).retry_after(2);
        let place = Arc::clone(&self.0.places).try_acquire_owned().map_err(busy)?;
        let worker = Arc::clone(&self.0.workers)
            .acquire_owned()
            .await
            .expect("the semaphore is never closed");
        let inner = Arc::clone(&self.0);
        // The permits go with the work: a client that hangs up does not make room for another thread.
        let running = tokio::task::spawn_blocking(move || {
            let done = work(&inner);
            drop((worker, place));
            done
        });
        running.await.map_err(|error| Problem::internal(&error))
    }
}

impl Default for Passwords {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Passwords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passwords(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(text: &str) -> Password {
        Password::try_from(text.to_owned()).unwrap()
    }

    #[tokio::test]
    async fn a_hash_is_argon2id_salted_and_verifies_its_password_alone() {
        let passwords = Passwords::with_workers(2);
        let hash = passwords.hash(password("correct horse")).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert_ne!(hash, passwords.hash(password("correct horse")).await.unwrap());
        let verify = |text: &str, hash| passwords.verify(Attempt(text.to_owned()), hash);
        assert!(verify("correct horse", Some(hash.clone())).await.unwrap());
        assert!(!verify("correct horsf", Some(hash)).await.unwrap());
        assert!(!verify("correct horse", None).await.unwrap());
    }

    #[tokio::test]
    async fn when_all_places_are_taken_we_are_busy() {
        let passwords = Passwords::with_workers(1);
        let held: Vec<_> = (0..=WAITING_PER_WORKER)
            .map(|_| Arc::clone(&passwords.0.places).try_acquire_owned().unwrap())
            .collect();
        let refused = passwords.hash(password("correct horse")).await.unwrap_err();
        assert_eq!(refused.kind(), Kind::Busy);
        drop(held);
        assert!(passwords.hash(password("correct horse")).await.is_ok());
    }

    #[test]
    fn a_password_has_8_to_128_characters_and_is_never_printed() {
        for (text, ok) in
            [("1234567", false), ("12345678", true), ("áéíóúâêô", true), (&"x".repeat(129), false)]
        {
            assert_eq!(Password::try_from(text.to_owned()).is_ok(), ok, "{text}");
        }
        assert_eq!(format!("{:?}", password("correct horse")), "Password(…)");
    }
}
