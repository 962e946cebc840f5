//! Photos that are shown no longer: their files go.

use domain::account::AccountEvent;
use domain::event::Event;
use domain::ids::{AccountId, Id, PhotoId};
use event_log::Recorded;

use crate::jobs::{Priority, Task};

/// `PhotoChanged` that replaced another photo, `PhotoRemoved` and `AccountErased` order `DeletePhoto`.
pub(super) fn order(event: &Recorded) -> Option<(Task, Priority)> {
    let account = AccountId::trusted(event.stream.id);
    Some((Task::DeletePhoto { account, photo: gone(event)? }, Priority::Low))
}

/// The photo that is shown no longer.
fn gone(event: &Recorded) -> Option<PhotoId> {
    let Event::Account(event) = &event.event else { return None };
    match event {
        AccountEvent::PhotoChanged { photo: _, replaced } => *replaced,
        AccountEvent::PhotoRemoved { photo } => Some(*photo),
        AccountEvent::AccountErased { photo } => *photo,
        AccountEvent::AccountRegistered { .. }
        | AccountEvent::RegistrationAttempted {}
        | AccountEvent::EmailConfirmed {}
        | AccountEvent::ProfileChanged { .. }
        | AccountEvent::EmailChangeRequested { .. }
        | AccountEvent::EmailChanged { .. }
        | AccountEvent::PasswordResetRequested { .. }
        | AccountEvent::PasswordReset {}
        | AccountEvent::PasswordChanged {}
        | AccountEvent::RoleGranted { .. }
        | AccountEvent::RoleRevoked { .. }
        | AccountEvent::SessionsEnded {}
        | AccountEvent::AccountDeactivated { .. }
        | AccountEvent::AccountReactivated {} => None,
    }
}
