//! Mails about accounts: confirm your address, choose a new password, your password was changed, …

use domain::account::AccountEvent;
use domain::event::Event;
use domain::ids::{AccountId, Id};
use event_log::Recorded;

use crate::jobs::{Priority, Task};

/// The mail that somebody waits for.
pub(super) fn order(event: &Recorded) -> Option<(Task, Priority)> {
    task(event).map(|task| (task, Priority::High))
}

fn task(event: &Recorded) -> Option<Task> {
    let Event::Account(account_event) = &event.event else { return None };
    let account = AccountId::trusted(event.stream.id);
    match account_event {
        AccountEvent::AccountRegistered { .. } => Some(Task::ConfirmEmailMail { account }),
        AccountEvent::RegistrationAttempted {} => Some(Task::RegistrationAttemptMail { account }),
        AccountEvent::EmailChangeRequested { change, .. } => {
            Some(Task::ConfirmNewEmailMail { account, change: *change })
        }
        AccountEvent::EmailChanged { .. } => {
            Some(Task::EmailChangedMail { account, number: event.at.number })
        }
        AccountEvent::PasswordResetRequested { reset, .. } => {
            Some(Task::ResetPasswordMail { account, reset: *reset })
        }
        AccountEvent::PasswordReset {} | AccountEvent::PasswordChanged {} => {
            Some(Task::PasswordChangedMail { account })
        }
        AccountEvent::AccountDeactivated { .. } => Some(Task::AccountDeactivatedMail { account }),
        // Once the key is gone nobody could be written to.
        AccountEvent::AccountErased { .. }
        | AccountEvent::EmailConfirmed {}
        | AccountEvent::ProfileChanged { .. }
        | AccountEvent::PhotoChanged { .. }
        | AccountEvent::PhotoRemoved { .. }
        | AccountEvent::RoleGranted { .. }
        | AccountEvent::RoleRevoked { .. }
        | AccountEvent::SessionsEnded {}
        | AccountEvent::AccountReactivated {} => None,
    }
}
