//! What travels over `/ws`: JSON text messages, one object each.
//!
//! ```text
//! → {"type":"authenticate","token":"eyJ…"}                    unless the handshake had a bearer header
//! ← {"type":"authenticated","account":"…","expires_at":"…"}
//! → {"type":"subscribe","topic":"notifications","after":"3:17"}
//! ← {"type":"subscribed","topic":"notifications","offset":"3:17"}
//! ← {"type":"notification","offset":"3:18","notification":{…}}
//! → {"type":"subscribe","topic":"availability","provider":"…","day":"2026-12-01"}
//! ← {"type":"availability_changed","provider":"…","day":"2026-12-01","offset":"3:21"}
//! ```
//!
//! `offset` is what a client keeps and sends as `after` when it comes back; nothing in between is lost.

use chrono::NaiveDate;
use domain::Instant;
use domain::ids::{AccountId, ProviderId};
use domain::position::PositionToken;
use serde::{Deserialize, Serialize};

use crate::notifications::NotificationBody;

/// What a client may say.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum ClientMessage {
    /// Who it is; also used to renew a token before it expires.
    Authenticate {
        /// An access token.
        token: String,
    },
    /// Watch something.
    Subscribe(WatchedTopic),
    /// Watch something no longer.
    Unsubscribe(WatchedTopic),
    /// Are you there? Answered with `pong`.
    Ping {},
}

/// What can be watched.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "topic", rename_all = "snake_case", deny_unknown_fields)]
pub enum WatchedTopic {
    /// The client's own notifications, those after `after` first.
    Notifications {
        /// The last offset the client has; without it, only what is new from now on.
        #[serde(default)]
        after: Option<PositionToken>,
    },
    /// A provider's local day.
    Availability {
        /// Whose.
        provider: ProviderId,
        /// Which local date of the provider.
        day: NaiveDate,
        /// The last offset the client has.
        #[serde(default)]
        after: Option<PositionToken>,
    },
}

/// What the server says.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ServerMessage<'a> {
    /// The token is good.
    Authenticated {
        /// Whose it is.
        account: AccountId,
        /// Until when it holds; authenticate again before.
        expires_at: Instant,
    },
    /// From here on the client is told.
    Subscribed {
        /// Of what.
        topic: &'static str,
        /// The provider, for availability.
        #[serde(skip_serializing_if = "Option::is_none")]
        provider: Option<ProviderId>,
        /// The local date, for availability.
        #[serde(skip_serializing_if = "Option::is_none")]
        day: Option<NaiveDate>,
        /// Where it starts.
        offset: &'a PositionToken,
    },
    /// The client is told no longer.
    Unsubscribed {
        /// Of what.
        topic: &'static str,
    },
    /// A notification.
    Notification {
        /// What to send as `after` to continue behind this one.
        offset: &'a PositionToken,
        /// The notification.
        notification: &'a NotificationBody,
    },
    /// A provider's day is not what it was: ask again.
    AvailabilityChanged {
        /// Whose.
        provider: ProviderId,
        /// Which local date.
        day: NaiveDate,
        /// What to send as `after`, and as `Pontual-After` when asking.
        offset: &'a PositionToken,
    },
    /// Something the client said was refused; the socket stays open.
    Error {
        /// The problem's stable name.
        problem: &'static str,
        /// What is wrong, in English; front ends show their own text by `problem`.
        detail: &'a str,
    },
    /// The answer to `ping`.
    Pong {},
}

impl ServerMessage<'_> {
    /// As a text frame.
    pub fn text(&self) -> String {
        serde_json::to_string(self).expect("a server message is plain data")
    }
}

/// Why the server closes a socket (RFC 6455 §7.4; 4000–4999 are ours).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closing {
    /// The server stops; come back.
    Restart,
    /// No token in time, a bad one, or one that expired.
    Unauthenticated,
    /// The session ended: its owner signed out, or the credentials it was started with were replaced.
    SignedOut,
    /// Text that is no message, or too much of it.
    Protocol,
    /// The client does not read what it is sent.
    TooSlow,
    /// No sign of life.
    Silent,
    /// The account has as many sockets as one may have.
    TooMany,
}

impl Closing {
    /// The close code and reason.
    pub const fn code(self) -> (u16, &'static str) {
        match self {
            Self::Restart => (1012, "restarting"),
            Self::Unauthenticated => (4401, "authenticate first"),
            Self::SignedOut => (4001, "the session has ended"),
            Self::Protocol => (1008, "not a message of this protocol"),
            Self::TooSlow => (4408, "too slow"),
            Self::Silent => (4409, "no sign of life"),
            Self::TooMany => (4429, "too many sockets of this account"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subscription_is_read_with_and_without_an_offset() {
        let message = r#"{"type":"subscribe","topic":"notifications","after":"1:5,3:2"}"#;
        let Ok(ClientMessage::Subscribe(WatchedTopic::Notifications { after })) =
            serde_json::from_str(message)
        else {
            panic!("not read");
        };
        assert_eq!(after.unwrap().to_string(), "1:5,3:2");
        assert!(
            serde_json::from_str::<ClientMessage>(
                r#"{"type":"subscribe","topic":"notifications"}"#
            )
            .is_ok()
        );
        assert!(
            serde_json::from_str::<ClientMessage>(r#"{"type":"subscribe","topic":"everything"}"#)
                .is_err()
        );
        assert!(serde_json::from_str::<ClientMessage>(r#"{"type":"ping","x":1}"#).is_err());
        let unknown = r#"{"type":"subscribe","topic":"notifications","before":"1:5"}"#;
        assert!(serde_json::from_str::<ClientMessage>(unknown).is_err());
    }
}
