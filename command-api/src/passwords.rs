//! Password hashing: argon2id on a bounded number of blocking threads (K4). A bcrypt hash that was imported
//! verifies too, and comes back as the argon2id hash to keep instead.
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

impl Password {
    /// Whether it was typed the same again.
    pub fn is(&self, again: &Attempt) -> bool {
        self.0 == again.0
    }
}

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

/// What trying a password came to.
#[derive(Clone, PartialEq, Eq)]
pub enum Tried {
    /// It is another one, or there is none.
    Wrong,
    /// It is the one.
    Right,
    /// It is the one; its hash is of another kind than we make, and is to be replaced by this one.
    RightWith(String),
}

/// A hash is not printed.
impl fmt::Debug for Tried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Wrong => "Wrong",
            Self::Right => "Right",
            Self::RightWith(_) => "RightWith(…)",
        })
    }
}

/// What a hash of ours begins with.
const OURS: &str = "$argon2id$v=19$m=19456,t=2,p=1$";

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
    pub async fn verify(&self, attempt: Attempt, hash: Option<String>) -> Result<Tried, Problem> {
        self.run(move |inner| {
            let known = hash.is_some();
            let hash = hash.as_deref().unwrap_or(&inner.nobodys);
            let attempt = attempt.0.as_bytes();
            let same = if hash.starts_with("$2") {
                bcrypt::verify(attempt, hash).map_err(|error| internal(&error))?
            } else {
                let hash = PasswordHash::new(hash).map_err(|error| Problem::internal(&error))?;
                inner.argon2.verify_password(attempt, &hash).is_ok()
            };
            if !(known && same) {
                return Ok(Tried::Wrong);
            }
            if hash.starts_with(OURS) {
                return Ok(Tried::Right);
            }
            let hash = inner.argon2.hash_password(attempt);
            let hash = hash.map_err(|error| Problem::internal(&error))?;
            Ok(Tried::RightWith(hash.to_string()))
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

/// bcrypt's error says what is wrong with the hash, never what it is.
fn internal(error: &bcrypt::BcryptError) -> Problem {
    tracing::error!(%error, "an imported password hash cannot be read");
    Kind::Internal.into()
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
        assert!(hash.starts_with(OURS), "{hash}");
        assert_ne!(hash, passwords.hash(password("correct horse")).await.unwrap());
        let verify = |text: &str, hash| passwords.verify(Attempt(text.to_owned()), hash);
        assert_eq!(verify("correct horse", Some(hash.clone())).await.unwrap(), Tried::Right);
        assert_eq!(verify("correct horsf", Some(hash)).await.unwrap(), Tried::Wrong);
        assert_eq!(verify("correct horse", None).await.unwrap(), Tried::Wrong);
    }

    #[tokio::test]
    async fn an_imported_hash_verifies_and_is_made_anew() {
        let passwords = Passwords::with_workers(2);
        // As libraries of Python, PHP and Node name it.
        let verify = |text: &str, hash: &str| {
            passwords.verify(Attempt(text.to_owned()), Some(hash.to_owned()))
        };
        for version in ["$2b$", "$2y$", "$2a$"] {
            let hash = bcrypt::hash("correct horse", 4).unwrap().replacen("$2b$", version, 1);
            let Tried::RightWith(ours) = verify("correct horse", &hash).await.unwrap() else {
                panic!("{version} does not verify");
            };
            assert_eq!(verify("correct horse", &ours).await.unwrap(), Tried::Right);
            assert_eq!(verify("correct horsf", &hash).await.unwrap(), Tried::Wrong);
        }
        let weak = Params::new(64, 1, 1, None).unwrap();
        let weak = Argon2::new(Algorithm::Argon2id, Version::V0x13, weak);
        let weak = weak.hash_password(b"correct horse").unwrap().to_string();
        let Tried::RightWith(ours) = verify("correct horse", &weak).await.unwrap() else {
            panic!("weaker parameters stay");
        };
        assert!(ours.starts_with(OURS));
        let broken = verify("correct horse", "$2b$10$broken").await.unwrap_err();
        assert_eq!(broken.kind(), Kind::Internal);
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
