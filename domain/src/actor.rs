//! Who asks.

use serde::{Deserialize, Serialize};

use crate::ids::{AccountId, AppointmentId, GuestId, SubjectId};

/// What an account may be (K5). A person can be several at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Books appointments; every account has it.
    Client,
    /// Has opened a shop.
    Provider,
    /// Runs the installation.
    Admin,
    /// Reads the log.
    Auditor,
}

impl Role {
    /// As in a token or a URL.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Provider => "provider",
            Self::Admin => "admin",
            Self::Auditor => "auditor",
        }
    }
}

/// Who sends a command or a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Actor {
    /// Nobody we know.
    Anonymous,
    /// A signed-in account, with the roles its token carries.
    Account {
        /// Which account.
        id: AccountId,
        /// The roles in its token.
        roles: Vec<Role>,
    },
    /// Somebody without an account who came by the link to their one appointment (K18).
    Guest {
        /// Who.
        id: GuestId,
        /// Which appointment the link is for.
        appointment: AppointmentId,
    },
    /// Pontual itself: a reactor or a job, by name.
    System(&'static str),
}

impl Actor {
    /// The account, if there is one.
    pub fn account(&self) -> Option<AccountId> {
        match self {
            Self::Account { id, .. } => Some(*id),
            Self::Anonymous | Self::Guest { .. } | Self::System(_) => None,
        }
    }

    /// Whose personal data it is where a command comes from, if that is somebody we know.
    pub fn subject(&self) -> Option<SubjectId> {
        match self {
            Self::Account { id, .. } => Some((*id).into()),
            Self::Guest { id, .. } => Some((*id).into()),
            Self::Anonymous | Self::System(_) => None,
        }
    }

    /// Whether the actor carries a role.
    pub fn has(&self, role: Role) -> bool {
        match self {
            Self::Account { roles, .. } => roles.contains(&role),
            Self::Anonymous | Self::Guest { .. } | Self::System(_) => false,
        }
    }

    /// As in an event's metadata: `account:<id>`, `guest:<id>`, `system:<name>` or `anonymous`.
    pub fn label(&self) -> String {
        match self {
            Self::Anonymous => "anonymous".to_owned(),
            Self::Account { id, .. } => format!("account:{id}"),
            Self::Guest { id, .. } => format!("guest:{id}"),
            Self::System(name) => format!("system:{name}"),
        }
    }
}
