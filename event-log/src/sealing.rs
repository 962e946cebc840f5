//! Sealing personal data: each person has a data key, wrapped by a key derived from the master key.
//!
//! An event's payload is written with `{"$personal":{"subject":…,"value":…}}` and stored with
//! `{"$sealed":{"subject":…,"box":…}}`: XChaCha20-Poly1305 of the value's JSON, bound to its subject and
//! stream, so that a box cut out of one stream opens in no other. Reading turns it back, or into
//! `{"$erased":…}` where the subject's key has a tombstone. A key that is missing *without* a tombstone is an
//! error that stops the reader: it never looks like an erasure.
//!
//! The work is done on the text, marker by marker; a payload without markers is not touched. That a marker
//! is always a key of ours follows from JSON: inside a string its quotes would be escaped.
//!
//! On a crash nothing is lost: a new data key commits in the same append as the first data it seals, and
//! only enters the cache after that.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant as Monotonic};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use domain::aggregate::StreamId;
use domain::ids::{Id, SubjectId};
use domain::position::PartitionCount;
use quick_cache::sync::Cache;
use serde::Deserialize;
use serde_json::value::RawValue;
use sqlx::PgPool;
use thiserror::Error;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::keys::{MasterKey, random_bytes};

/// How long a data key is remembered: an erasure elsewhere takes effect here within this time.
pub(crate) const KEY_CACHE: Duration = Duration::from_secs(60);

const NONCE: usize = 24;
const PERSONAL: &str = r#"{"$personal":"#;
const SEALED: &str = r#"{"$sealed":"#;
const ERASED: &str = r#"{"$erased":"#;
/// What every marker begins with.
const MARKER: &str = r#"{"$"#;

/// Why personal data could not be sealed or opened. Never says anything of the data.
#[derive(Debug, Clone, Error)]
pub enum SealError {
    /// The subject has neither a key nor a tombstone.
    #[error("subject {0} has no data key, and was not erased")]
    KeyMissing(SubjectId),
    /// The subject was erased: nothing more can be sealed for it.
    #[error("subject {0} was erased")]
    Erased(SubjectId),
    /// The box does not open with the subject's key in this stream.
    #[error("a box of subject {0} does not open")]
    BadBox(SubjectId),
    /// A wrapped key does not open with the master key.
    #[error("the data key of subject {0} does not open")]
    BadKey(SubjectId),
    /// A marker is not followed by what belongs there.
    #[error("a marker of personal data is malformed")]
    Malformed,
}

/// A subject's key, or that it was erased.
#[derive(Clone)]
pub(crate) enum SubjectKey {
    Live(Arc<DataKey>),
    Erased,
}

/// Keys by subject, as far as one payload or batch needs them.
pub(crate) type SubjectKeys = HashMap<SubjectId, SubjectKey>;

/// A subject's data key, ready for use.
pub(crate) struct DataKey(XChaCha20Poly1305);

impl DataKey {
    fn new(key: &[u8; 32]) -> Self {
        Self(XChaCha20Poly1305::new(&(*key).into()))
    }
}

/// Bytes that bind a box to its subject and stream.
fn bound_to(subject: SubjectId, stream: StreamId) -> Vec<u8> {
    let kind = stream.kind.as_str();
    let mut bytes = Vec::with_capacity(48 + kind.len());
    bytes.extend_from_slice(b"personal/1");
    bytes.extend_from_slice(subject.uuid().as_bytes());
    bytes.extend_from_slice(stream.id.as_bytes());
    bytes.extend_from_slice(kind.as_bytes());
    bytes
}

/// Nonce and ciphertext.
fn encrypt(cipher: &XChaCha20Poly1305, plain: &[u8], aad: &[u8]) -> Vec<u8> {
    let nonce: [u8; NONCE] = random_bytes();
    let sealed = cipher
        .encrypt(&XNonce::from(nonce), Payload { msg: plain, aad })
        .expect("the text is far below the cipher's limit of 256 GiB");
    [nonce.as_slice(), &sealed].concat()
}

fn decrypt(cipher: &XChaCha20Poly1305, sealed: &[u8], aad: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (nonce, msg) = sealed.split_at_checked(NONCE)?;
    let nonce: [u8; NONCE] = nonce.try_into().ok()?;
    cipher.decrypt(&XNonce::from(nonce), Payload { msg, aad }).ok().map(Zeroizing::new)
}

#[derive(Deserialize)]
struct PersonalMark<'a> {
    subject: SubjectId,
    #[serde(borrow)]
    value: &'a RawValue,
}

#[derive(Deserialize)]
struct SealedMark<'a> {
    subject: SubjectId,
    #[serde(borrow, rename = "box")]
    sealed: &'a str,
}

/// Reads what follows a marker, and how long it is with the closing brace.
fn after_marker<'a, T: Deserialize<'a>>(text: &'a str) -> Result<(T, usize), SealError> {
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<T>();
    let value = values.next().and_then(Result::ok).ok_or(SealError::Malformed)?;
    let end = values.byte_offset();
    if text.as_bytes().get(end) != Some(&b'}') {
        return Err(SealError::Malformed);
    }
    Ok((value, end + 1))
}

/// The next marker at or after `from`, as (where it starts, which it is).
fn next_marker(text: &str, from: usize) -> Option<(usize, &'static str)> {
    let mut from = from;
    loop {
        let at = from + text.get(from..)?.find(MARKER)?;
        for marker in [PERSONAL, SEALED, ERASED] {
            if text[at..].starts_with(marker) {
                return Some((at, marker));
            }
        }
        from = at + MARKER.len();
    }
}

/// The subjects whose data stands in the clear in this payload.
pub(crate) fn personal_subjects(
    text: &str,
    subjects: &mut BTreeSet<SubjectId>,
) -> Result<(), SealError> {
    let mut from = 0;
    while let Some((at, marker)) = next_marker(text, from) {
        from = at + marker.len();
        if marker == PERSONAL {
            let (mark, length) = after_marker::<PersonalMark<'_>>(&text[from..])?;
            subjects.insert(mark.subject);
            from += length;
        }
    }
    Ok(())
}

/// The subjects whose data stands sealed in this payload.
pub(crate) fn sealed_subjects(
    text: &str,
    subjects: &mut BTreeSet<SubjectId>,
) -> Result<(), SealError> {
    let mut from = 0;
    while let Some((at, marker)) = next_marker(text, from) {
        from = at + marker.len();
        if marker == SEALED {
            let (mark, length) = after_marker::<SealedMark<'_>>(&text[from..])?;
            subjects.insert(mark.subject);
            from += length;
        }
    }
    Ok(())
}

/// Seals every personal value. `erased_too` lets marks of erased values pass, as a snapshot may hold them;
/// in a new event they would be a bug, as sealed ones always are: bound to where they were read.
pub(crate) fn seal(
    text: String,
    stream: StreamId,
    keys: &SubjectKeys,
    erased_too: bool,
) -> Result<String, SealError> {
    if !has_marker(&text) {
        return Ok(text);
    }
    let mut out = String::with_capacity(text.len() + 128);
    let mut done = 0;
    while let Some((at, marker)) = next_marker(&text, done) {
        let body = at + marker.len();
        match marker {
            PERSONAL => {
                let (mark, length) = after_marker::<PersonalMark<'_>>(&text[body..])?;
                let key = match keys.get(&mark.subject) {
                    Some(SubjectKey::Live(key)) => key,
                    Some(SubjectKey::Erased) => return Err(SealError::Erased(mark.subject)),
                    None => return Err(SealError::KeyMissing(mark.subject)),
                };
                let plain = mark.value.get().as_bytes();
                let sealed = encrypt(&key.0, plain, &bound_to(mark.subject, stream));
                out.push_str(&text[done..at]);
                out.push_str(SEALED);
                out.push_str(r#"{"subject":""#);
                out.push_str(
                    mark.subject.uuid().hyphenated().encode_lower(&mut Uuid::encode_buffer()),
                );
                out.push_str(r#"","box":""#);
                BASE64.encode_string(sealed, &mut out);
                out.push_str(r#""}}"#);
                done = body + length;
            }
            ERASED if erased_too => {
                out.push_str(&text[done..body]);
                done = body;
            }
            _ => return Err(SealError::Malformed),
        }
    }
    out.push_str(&text[done..]);
    Ok(out)
}

/// Opens every sealed value. `erased_too` as in [`seal`].
pub(crate) fn open(
    text: &str,
    stream: StreamId,
    keys: &SubjectKeys,
    erased_too: bool,
) -> Result<String, SealError> {
    let mut out = String::with_capacity(text.len());
    let mut done = 0;
    while let Some((at, marker)) = next_marker(text, done) {
        let body = at + marker.len();
        match marker {
            SEALED => {
                let (mark, length) = after_marker::<SealedMark<'_>>(&text[body..])?;
                let subject = mark.subject;
                out.push_str(&text[done..at]);
                let mut buffer = Uuid::encode_buffer();
                let id = subject.uuid().hyphenated().encode_lower(&mut buffer);
                match keys.get(&subject) {
                    Some(SubjectKey::Live(key)) => {
                        let plain = BASE64
                            .decode(mark.sealed)
                            .ok()
                            .and_then(|sealed| decrypt(&key.0, &sealed, &bound_to(subject, stream)))
                            .ok_or(SealError::BadBox(subject))?;
                        let plain =
                            std::str::from_utf8(&plain).map_err(|_| SealError::BadBox(subject))?;
                        out.push_str(PERSONAL);
                        out.push_str(r#"{"subject":""#);
                        out.push_str(id);
                        out.push_str(r#"","value":"#);
                        out.push_str(plain);
                        out.push_str("}}");
                    }
                    Some(SubjectKey::Erased) => {
                        out.push_str(ERASED);
                        out.push('"');
                        out.push_str(id);
                        out.push_str(r#""}"#);
                    }
                    None => return Err(SealError::KeyMissing(subject)),
                }
                done = body + length;
            }
            ERASED if erased_too => {
                out.push_str(&text[done..body]);
                done = body;
            }
            _ => return Err(SealError::Malformed),
        }
    }
    out.push_str(&text[done..]);
    Ok(out)
}

/// Whether a text holds any marker at all.
pub(crate) fn has_marker(text: &str) -> bool {
    text.contains(MARKER)
}

/// A box that stands alone, outside a payload.
pub(crate) fn seal_bytes(key: &DataKey, plain: &[u8], aad: &[u8]) -> String {
    BASE64.encode(encrypt(&key.0, plain, aad))
}

/// Opens a box that stands alone.
pub(crate) fn open_bytes(key: &DataKey, sealed: &str, aad: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    decrypt(&key.0, &BASE64.decode(sealed).ok()?, aad)
}

/// A key that was made but not yet stored.
pub(crate) struct NewKey {
    pub(crate) key: SubjectKey,
    pub(crate) wrapped: Vec<u8>,
}

/// Where data keys come from: a short-lived cache before the table.
pub(crate) struct KeyRing {
    wrap: XChaCha20Poly1305,
    /// For what belongs to no subject, such as where an anonymous command came from.
    pub(crate) nobody: DataKey,
    /// With when each was read.
    cache: Cache<SubjectId, (Monotonic, SubjectKey)>,
}

/// How many keys are remembered.
const KEYS: usize = 20_000;

impl KeyRing {
    pub(crate) fn new(master: &MasterKey) -> Self {
        Self {
            wrap: XChaCha20Poly1305::new(&(*Zeroizing::new(master.derive("data-keys"))).into()),
            nobody: DataKey::new(&Zeroizing::new(master.derive("nobodys-data"))),
            cache: Cache::new(KEYS),
        }
    }

    /// A fresh key for a subject, not yet known to anybody.
    pub(crate) fn make(&self, subject: SubjectId) -> NewKey {
        let key = Zeroizing::new(random_bytes::<32>());
        NewKey {
            key: SubjectKey::Live(Arc::new(DataKey::new(&key))),
            wrapped: encrypt(&self.wrap, key.as_slice(), &wrap_aad(subject)),
        }
    }

    /// Remembers a key that was just stored.
    pub(crate) fn remember(&self, subject: SubjectId, key: SubjectKey) {
        self.cache.insert(subject, (Monotonic::now(), key));
    }

    fn recall(&self, subject: SubjectId) -> Option<SubjectKey> {
        let (read, key) = self.cache.get(&subject)?;
        (read.elapsed() < KEY_CACHE).then_some(key)
    }

    /// Lets go of what is no longer given out.
    pub(crate) fn sweep(&self) {
        self.cache.retain(|_, (read, _)| read.elapsed() < KEY_CACHE);
    }

    /// Forgets these subjects' keys, to look them up again.
    pub(crate) fn forget_all(&self, subjects: &BTreeSet<SubjectId>) {
        subjects.iter().for_each(|subject| self.forget(*subject));
    }

    /// Forgets a subject's key, because it was destroyed.
    pub(crate) fn forget(&self, subject: SubjectId) {
        self.cache.remove(&subject);
    }

    /// The keys of these subjects that are remembered.
    pub(crate) fn cached(&self, subjects: &BTreeSet<SubjectId>) -> SubjectKeys {
        subjects.iter().filter_map(|s| Some((*s, self.recall(*s)?))).collect()
    }

    /// The keys of these subjects; one without key and tombstone is left out.
    pub(crate) async fn keys(
        &self,
        pool: &PgPool,
        partitions: PartitionCount,
        subjects: &BTreeSet<SubjectId>,
    ) -> Result<SubjectKeys, crate::LogError> {
        let mut found = SubjectKeys::with_capacity(subjects.len());
        let mut missing = Vec::new();
        for subject in subjects {
            match self.recall(*subject) {
                Some(key) => drop(found.insert(*subject, key)),
                None => missing.push(*subject),
            }
        }
        if missing.is_empty() {
            return Ok(found);
        }
        let at = missing.iter().map(|s| crate::small(partitions.partition_of(s.slot())));
        let rows: Vec<(Uuid, Option<Vec<u8>>)> = sqlx::query_as(
            "SELECT k.subject, k.wrapped FROM unnest($1::smallint[], $2::uuid[]) AS w(partition, subject)
             CROSS JOIN LATERAL (SELECT * FROM subject_keys k
                WHERE k.partition = w.partition AND k.subject = w.subject LIMIT 1) k",
        )
        .bind(at.collect::<Vec<_>>())
        .bind(missing.iter().map(|s| s.uuid()).collect::<Vec<_>>())
        .fetch_all(pool)
        .await?;
        for (subject, wrapped) in rows {
            let subject = SubjectId::trusted(subject);
            let key = match wrapped {
                None => SubjectKey::Erased,
                Some(wrapped) => SubjectKey::Live(Arc::new(self.unwrap(subject, &wrapped)?)),
            };
            self.remember(subject, key.clone());
            found.insert(subject, key);
        }
        Ok(found)
    }

    fn unwrap(&self, subject: SubjectId, wrapped: &[u8]) -> Result<DataKey, SealError> {
        let plain =
            decrypt(&self.wrap, wrapped, &wrap_aad(subject)).ok_or(SealError::BadKey(subject))?;
        let key: &[u8; 32] = plain.as_slice().try_into().map_err(|_| SealError::BadKey(subject))?;
        Ok(DataKey::new(key))
    }
}

fn wrap_aad(subject: SubjectId) -> Vec<u8> {
    [b"data-key/1".as_slice(), subject.uuid().as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use domain::aggregate::StreamKind;
    use domain::ids::{Mint, RoutingSlot};

    use super::*;

    fn subject(n: u32) -> SubjectId {
        Mint::new([3; 32]).id(RoutingSlot::from_bits(5), n)
    }

    fn stream(n: u32) -> StreamId {
        StreamId { kind: StreamKind::Account, id: subject(n).uuid() }
    }

    fn ring() -> KeyRing {
        KeyRing::new(&MasterKey::from_bytes([1; 32]))
    }

    fn keys(subjects: &[SubjectId]) -> SubjectKeys {
        subjects.iter().map(|s| (*s, ring().make(*s).key)).collect()
    }

    fn payload(one: &str) -> String {
        let (a, b) = (subject(0), subject(1));
        format!(
            r#"{{"E":{{"x":{{"$personal":{{"subject":"{a}","value":{one}}}}},"n":1,"y":[{{"$personal":{{"subject":"{b}","value":"z"}}}}]}}}}"#
        )
    }

    #[test]
    fn what_is_sealed_opens_to_the_same_bytes_and_hides_the_value() {
        let tricky = r#"{"a":"{\"$personal\":{","b":"}}{\"$sealed\":","c":[1,{"d":"ção"}]}"#;
        let keys = keys(&[subject(0), subject(1)]);
        let sealed = seal(payload(tricky), stream(0), &keys, false).unwrap();
        assert!(!sealed.contains("ção") && !sealed.contains("$personal"), "{sealed}");
        let mut subjects = BTreeSet::new();
        sealed_subjects(&sealed, &mut subjects).unwrap();
        assert_eq!(subjects, BTreeSet::from([subject(0), subject(1)]));
        assert_eq!(open(&sealed, stream(0), &keys, false).unwrap(), payload(tricky));
    }

    #[test]
    fn a_text_that_speaks_of_markers_is_left_alone() {
        let text = r#"{"E":{"note":"{\"$personal\":{\"subject\":1}}"}}"#;
        assert!(!has_marker(text));
        let keys = SubjectKeys::new();
        assert_eq!(seal(text.to_owned(), stream(0), &keys, false).unwrap(), text);
        assert_eq!(open(text, stream(0), &keys, false).unwrap(), text);
    }

    #[test]
    fn a_box_opens_in_its_own_stream_only_and_only_unchanged() {
        let keys = keys(&[subject(0), subject(1)]);
        let sealed = seal(payload("1"), stream(0), &keys, false).unwrap();
        assert!(matches!(open(&sealed, stream(7), &keys, false), Err(SealError::BadBox(_))));
        let swapped = sealed.replace(&subject(0).to_string(), &subject(1).to_string());
        assert!(matches!(open(&swapped, stream(0), &keys, false), Err(SealError::BadBox(_))));
        let cut = sealed.replacen(r#""box":""#, r#""box":"A"#, 1);
        assert!(matches!(open(&cut, stream(0), &keys, false), Err(SealError::BadBox(_))));
    }

    #[test]
    fn a_tombstone_reads_as_erased_and_a_missing_key_as_an_error() {
        let mut keys = keys(&[subject(0), subject(1)]);
        let sealed = seal(payload("1"), stream(0), &keys, false).unwrap();
        keys.insert(subject(0), SubjectKey::Erased);
        let opened = open(&sealed, stream(0), &keys, false).unwrap();
        assert!(opened.contains(&format!(r#""x":{{"$erased":"{}"}}"#, subject(0))), "{opened}");
        keys.remove(&subject(0));
        assert!(matches!(open(&sealed, stream(0), &keys, false), Err(SealError::KeyMissing(_))));
    }

    #[test]
    fn nothing_is_sealed_for_the_erased_or_the_unknown_and_nothing_twice() {
        let mut keys = keys(&[subject(0), subject(1)]);
        let sealed = seal(payload("1"), stream(0), &keys, false).unwrap();
        assert!(matches!(seal(sealed, stream(0), &keys, false), Err(SealError::Malformed)));
        keys.insert(subject(1), SubjectKey::Erased);
        let refused = seal(payload("1"), stream(0), &keys, false);
        assert!(matches!(refused, Err(SealError::Erased(_))));
        keys.remove(&subject(1));
        let refused = seal(payload("1"), stream(0), &keys, false);
        assert!(matches!(refused, Err(SealError::KeyMissing(_))));
    }

    #[test]
    fn a_wrapped_key_opens_under_its_own_master_key_and_subject_only() {
        let made = ring().make(subject(0));
        assert!(ring().unwrap(subject(0), &made.wrapped).is_ok());
        assert!(ring().unwrap(subject(1), &made.wrapped).is_err());
        let other = KeyRing::new(&MasterKey::from_bytes([2; 32]));
        assert!(other.unwrap(subject(0), &made.wrapped).is_err());
    }
}
