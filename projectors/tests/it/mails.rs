//! From a registration to a mail with a link that works.

use std::path::Path;
use std::sync::Arc;

use domain::account::{
    Account, ChangePassword, ConfirmEmail, ConfirmEmailChange, DeactivateAccount, EraseAccount,
    ReactivateAccount, RequestEmailChange, RequestPasswordReset, ResetKey, ResetPassword,
    UpdateProfile,
};
use domain::actor::{Actor, Role};
use domain::command::{SecretKey, SecretKind};
use domain::ids::{AccountId, Id as _};
use domain::locale::Locale;
use event_log::testing::TestDatabase;
use event_log::{EventLog, Executor};
use http_kit::links::{
    EMAIL_CHANGE, EMAIL_CONFIRM, PresentedReset, confirmed_account, confirmed_change,
};
use projectors::jobs::worker::Worker;
use projectors::mail::FolderMailer;
use projectors::reactors::JobOrders;
use projectors::runner::{Runner, Sharing};
use projectors::tail::SharedTail;
use tokio_util::sync::CancellationToken;

use crate::common::*;

/// The mails of a folder, soft line breaks undone.
fn mails(folder: &Path) -> Vec<String> {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mails = files.filter(|file| file.path().extension().is_some_and(|e| e == "eml"));
    mails
        .map(|file| std::fs::read_to_string(file.path()).unwrap())
        .map(|text| text.replace("=\r\n", "").replace("=3D", "="))
        .collect()
}

/// The token of a link in a mail.
fn token<'m>(mail: &'m str, path: &str) -> &'m str {
    let before = format!("http://pontual.test/{path}#token=");
    let (_, rest) = mail.split_once(&before).unwrap_or_else(|| panic!("no {before} in {mail}"));
    let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && !"-_.".contains(c));
    &rest[..end.unwrap_or(rest.len())]
}

/// A reactor and a worker with a mail folder.
struct Post {
    log: EventLog,
    folder: tempfile::TempDir,
    stop: CancellationToken,
    runner: Runner,
    worker: tokio::task::JoinHandle<()>,
}

impl Post {
    fn open(log: &EventLog) -> Self {
        let (folder, stop) = (tempfile::tempdir().unwrap(), CancellationToken::new());
        let mut runner = Runner::new(SharedTail::new(log.clone()), stop.clone());
        runner.start(Arc::new(JobOrders::new(log.clone())), Sharing::Leased);
        let worker = Worker {
            log: log.clone(),
            mailer: Arc::new(FolderMailer::new(folder.path())),
            files: http_kit::files::Files::in_memory(),
            eraser: eraser(log),
            public_url: "http://pontual.test".to_owned(),
            concurrency: 2,
        };
        let worker = tokio::spawn(worker.run(stop.clone()));
        Self { log: log.clone(), folder, stop, runner, worker }
    }

    /// Waits until there is one mail more than was seen, and returns it.
    async fn next(&self, seen: &mut Vec<String>) -> String {
        let wanted = seen.len() + 1;
        let now = || mails(self.folder.path());
        until("the next mail is there", async || now().len() >= wanted).await;
        let new: Vec<_> = now().into_iter().filter(|mail| !seen.contains(mail)).collect();
        let [new] = new.as_slice() else { panic!("more than one: {new:?}") };
        seen.push(new.clone());
        new.clone()
    }

    /// Registers somebody, whose address is confirmed when the mail that asks for it was sent.
    async fn person(&self, executor: &Executor, name: &str, seen: &mut Vec<String>) -> Actor {
        let account = register(executor, name).await;
        self.next(seen).await;
        executor.execute(ConfirmEmail { account }, origin(&Actor::Anonymous)).await.unwrap();
        Actor::Account { id: account, roles: vec![Role::Client] }
    }

    async fn close(self) {
        self.stop.cancel();
        self.runner.join().await;
        self.worker.await.unwrap();
        let mails = "SELECT count(*) FROM jobs WHERE kind LIKE '%Mail'";
        assert_eq!(
            sqlx::query_scalar::<_, i64>(mails).fetch_one(self.log.pool()).await.unwrap(),
            0
        );
    }
}

#[tokio::test]
async fn who_registers_gets_a_link_that_confirms_and_the_owner_hears_of_a_second_registration() {
    let database = TestDatabase::create().await;
    let log = database.log(7).await;
    let executor = Executor::new(log.clone());
    let (post, mut seen) = (Post::open(&log), Vec::new());
    let ana = register(&executor, "Ana").await;
    let mail = post.next(&mut seen).await;
    assert!(mail.contains("To: Ana <ana@example.com>"), "{mail}");
    let account = confirmed_account(&log.derive_key(EMAIL_CONFIRM), token(&mail, "confirm"));
    assert_eq!(account, Some(ana));
    executor.execute(ConfirmEmail { account: ana }, origin(&Actor::Anonymous)).await.unwrap();
    assert!(log.load::<Account>(ana).await.unwrap().state.email_confirmed);

    register(&executor, "Ana").await;
    let attempt = post.next(&mut seen).await;
    assert!(attempt.contains("To: Ana <ana@example.com>"), "{attempt}");
    assert!(attempt.contains("Subject: You already have an account"), "{attempt}");
    post.close().await;
}

/// The credential generation of an account.
async fn generation(log: &EventLog, account: AccountId) -> u32 {
    log.load::<Account>(account).await.unwrap().state.generation
}

#[tokio::test]
async fn a_password_is_reset_by_the_link_of_a_mail_and_every_change_of_it_is_told() {
    let database = TestDatabase::create().await;
    let log = database.log(4).await;
    // Who renders may have older things in memory than who commands.
    let executor = Executor::new(database.log(4).await);
    let (post, mut seen) = (Post::open(&log), Vec::new());
    let actor = post.person(&executor, "Ana", &mut seen).await;
    let ana = actor.account().unwrap();

    let key = ResetKey::new(log.derive_key(ResetKey::LABEL));
    let ask = RequestPasswordReset { email: "ana@example.com".parse().unwrap(), key };
    executor.execute(ask, origin(&Actor::Anonymous)).await.unwrap();
    let mail = post.next(&mut seen).await;
    assert!(mail.contains("Subject: Choose a new password"), "{mail}");
    let presented = PresentedReset::read(token(&mail, "reset-password")).unwrap();
    assert_eq!(presented.account, ana);
    let secret = SecretKey { owner: ana.uuid(), kind: SecretKind::PasswordReset };
    let kept = log.secret(secret).await.unwrap();
    assert!(presented.is(kept.as_deref()), "the mail's token is the one whose hash is kept");
    let reset = ResetPassword {
        account: ana,
        reset: presented.reset,
        new_hash: "$argon2id$new".to_owned(),
    };
    executor.execute(reset, origin(&Actor::Anonymous)).await.unwrap();
    assert!(post.next(&mut seen).await.contains("Subject: Your password was changed"));

    let change = ChangePassword {
        account: ana,
        generation: generation(executor.log(), ana).await,
        new_hash: "$argon2id$newer".to_owned(),
    };
    executor.execute(change, origin(&actor)).await.unwrap();
    assert!(post.next(&mut seen).await.contains("Subject: Your password was changed"));
    post.close().await;
}

#[tokio::test]
async fn a_reset_that_was_replaced_by_another_before_its_mail_was_sent_is_not_sent() {
    let database = TestDatabase::create().await;
    let log = database.log(1).await;
    let executor = Executor::new(log.clone());
    person(&executor, "Ana").await;
    let key = || ResetKey::new(log.derive_key(ResetKey::LABEL));
    for _ in 0..3 {
        let ask = RequestPasswordReset { email: "ana@example.com".parse().unwrap(), key: key() };
        executor.execute(ask, origin(&Actor::Anonymous)).await.unwrap();
    }
    let post = Post::open(&log);
    caught_up(&log, JobOrders::NAME).await;
    until("all is done", async || projectors::jobs::counts(log.pool()).await.unwrap() == (0, 0))
        .await;
    // Nor is who confirmed already asked to.
    let sent = mails(post.folder.path());
    let [mail] = sent.as_slice() else { panic!("{sent:?}") };
    let presented = PresentedReset::read(token(mail, "reset-password")).unwrap();
    let ana = log.load::<Account>(presented.account).await.unwrap().state;
    assert_eq!(ana.pending_reset.as_ref().map(|pending| pending.reset), Some(presented.reset));
    post.close().await;
}

#[tokio::test]
async fn the_new_address_is_asked_the_old_one_is_told_and_both_in_the_persons_language() {
    let database = TestDatabase::create().await;
    let log = database.log(4).await;
    let executor = Executor::new(log.clone());
    let (post, mut seen) = (Post::open(&log), Vec::new());
    let actor = post.person(&executor, "Ana", &mut seen).await;
    let ana = actor.account().unwrap();
    let profile = UpdateProfile {
        name: "João Ana".parse().unwrap(),
        phone: None,
        locale: Locale::PtBr,
        zone: None,
    };
    executor.execute(profile, origin(&actor)).await.unwrap();
    let request = RequestEmailChange {
        email: "ana@example.org".parse().unwrap(),
        generation: generation(&log, ana).await,
    };
    executor.execute(request, origin(&actor)).await.unwrap();
    let asked = post.next(&mut seen).await;
    assert!(asked.contains("<ana@example.org>"), "{asked}");
    assert!(asked.contains("Subject: Confirme seu novo e-mail"), "{asked}");
    let key = log.derive_key(EMAIL_CHANGE);
    let (account, change) = confirmed_change(&key, token(&asked, "confirm-email-change")).unwrap();
    assert_eq!(account, ana);
    executor
        .execute(ConfirmEmailChange { account, change }, origin(&Actor::Anonymous))
        .await
        .unwrap();
    let told = post.next(&mut seen).await;
    assert!(told.contains("<ana@example.com>"), "{told}");
    assert!(told.contains("Subject: O e-mail da sua conta mudou"), "{told}");
    assert!(!told.contains("ana@example.org"), "the old address need not know the new one");
    post.close().await;
}

#[tokio::test]
async fn who_closes_their_account_is_told_and_so_is_whose_account_is_closed_but_not_the_erased() {
    let database = TestDatabase::create().await;
    let log = database.log(4).await;
    let executor = Executor::new(log.clone());
    let (post, mut seen) = (Post::open(&log), Vec::new());
    let actor = post.person(&executor, "Ana", &mut seen).await;
    let account = actor.account().unwrap();
    executor.execute(DeactivateAccount { account }, origin(&actor)).await.unwrap();
    assert!(post.next(&mut seen).await.contains("Subject: Your account was deactivated"));
    let admin = post.person(&executor, "Rui", &mut seen).await.account().unwrap();
    let system = Actor::System("test");
    let grant = domain::account::GrantRole { account: admin, role: Role::Admin };
    executor.execute(grant, origin(&system)).await.unwrap();
    let admin = Actor::Account { id: admin, roles: vec![Role::Client, Role::Admin] };
    let reactivate = ReactivateAccount { account, proven_under: None };
    executor.execute(reactivate, origin(&admin)).await.unwrap();
    executor.execute(DeactivateAccount { account }, origin(&admin)).await.unwrap();
    assert!(post.next(&mut seen).await.contains("Subject: Your account was closed"));
    executor.execute(EraseAccount { account, proven_under: None }, origin(&admin)).await.unwrap();
    caught_up(&log, JobOrders::NAME).await;
    post.close().await;
    assert_eq!(seen.len(), 4);
}
