//! From a registration to a mail with a link that works.

use std::path::Path;
use std::sync::Arc;

use domain::account::{Account, ConfirmEmail};
use domain::actor::Actor;
use event_log::Executor;
use event_log::testing::TestDatabase;
use http_kit::links::{EMAIL_CONFIRM, confirmed_account};
use projectors::jobs::worker::Worker;
use projectors::mail::FolderMailer;
use projectors::reactors::AccountMails;
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

#[tokio::test]
async fn who_registers_gets_a_link_that_confirms_and_the_owner_hears_of_a_second_registration() {
    let database = TestDatabase::create().await;
    let log = database.log(7).await;
    let executor = Executor::new(log.clone());
    let folder = tempfile::tempdir().unwrap();
    let stop = CancellationToken::new();
    let mut runner = Runner::new(SharedTail::new(log.clone()), stop.clone());
    runner.start(Arc::new(AccountMails::new(log.clone())), Sharing::Leased);
    let worker = Worker {
        log: log.clone(),
        mailer: Arc::new(FolderMailer::new(folder.path())),
        public_url: "http://pontual.test".to_owned(),
        concurrency: 2,
    };
    let worker = tokio::spawn(worker.run(stop.clone()));

    let ana = register(&executor, "Ana").await;
    until("the mail is there", async || mails(folder.path()).len() == 1).await;
    let mail = mails(folder.path()).remove(0);
    assert!(mail.contains("To: Ana <ana@example.com>"), "{mail}");
    let (_, rest) = mail.split_once("http://pontual.test/confirm#token=").expect("a link");
    let token: String =
        rest.chars().take_while(|c| c.is_ascii_alphanumeric() || "-_.".contains(*c)).collect();
    let account = confirmed_account(&log.derive_key(EMAIL_CONFIRM), &token);
    assert_eq!(account, Some(ana));
    executor.execute(ConfirmEmail { account: ana }, origin(&Actor::Anonymous)).await.unwrap();
    assert!(log.load::<Account>(ana).await.unwrap().state.email_confirmed);

    register(&executor, "Ana").await;
    until("the second mail is there", async || mails(folder.path()).len() == 2).await;
    let attempt = mails(folder.path()).into_iter().find(|mail| !mail.contains("token=")).unwrap();
    assert!(attempt.contains("To: Ana <ana@example.com>"), "{attempt}");
    assert!(attempt.contains("Subject: You already have an account"), "{attempt}");
    stop.cancel();
    runner.join().await;
    worker.await.unwrap();
    assert_eq!(projectors::jobs::counts(log.pool()).await.unwrap(), (0, 0));
}
