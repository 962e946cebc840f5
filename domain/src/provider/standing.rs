//! How an installation sees a shop: whether it vouches for it, and what it sells it (`S3-80`, `S3-81`).

use serde::{Deserialize, Serialize};

use super::{Provider, ProviderCommand};
use crate::account::admin_only;
use crate::command::{Command, Stop, Target, View};
use crate::ids::ProviderId;
use crate::text::Plan;

/// The verified badge and the plan. A new shop has no badge, and the plan `free`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Whether an administrator vouches for it.
    pub is_verified: bool,
    /// What it is on.
    pub plan: Plan,
}

/// Set a shop's badge and plan: administrators alone.
#[derive(Debug, Clone)]
pub struct SetProviderStanding {
    /// Which shop.
    pub provider: ProviderId,
    /// What it is to have.
    pub standing: Standing,
}

/// How a shop stands.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ProviderStands {
    /// Which shop.
    pub provider: ProviderId,
    /// What it has.
    pub standing: Standing,
}

impl Command for SetProviderStanding {
    const NAME: &'static str = "SetProviderStanding";
    type Outcome = ProviderStands;

    fn target(&self, _: &View<'_>) -> Target {
        Target::stream::<Provider>(self.provider)
    }

    fn authorize(&self, view: &View<'_>) -> Result<(), Stop> {
        admin_only(view)
    }

    fn decide(&self, view: &View<'_>) -> Result<ProviderStands, Stop> {
        let standing = self.standing.clone();
        let command = ProviderCommand::SetStanding(standing.clone());
        view.decide::<Provider>(self.provider, command)?;
        Ok(ProviderStands { provider: self.provider, standing })
    }
}
