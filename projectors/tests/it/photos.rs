//! Files of photos that nobody shows are deleted.

use std::sync::Arc;

use bytes::Bytes;
use domain::account::{ChangePhoto, EraseAccount, RemovePhoto};
use domain::actor::Actor;
use domain::ids::{AccountId, Id as _, Mint, PhotoId};
use event_log::Executor;
use event_log::testing::{FrozenClock, TestDatabase, options};
use http_kit::files::Files;
use http_kit::files::photos::{self, PhotoSize};
use projectors::jobs::photos::sweep;
use projectors::jobs::worker::Worker;
use projectors::mail::FolderMailer;
use projectors::reactors::JobOrders;
use projectors::runner::{Runner, Sharing};
use projectors::tail::SharedTail;
use tokio_util::sync::CancellationToken;

use crate::common::{eraser, origin, person, until};

/// The `n`-th photo of an account.
fn photo(account: AccountId, n: u32) -> PhotoId {
    Mint::new([8; 32]).id(account.slot(), n)
}

async fn upload(files: &Files, photo: PhotoId) {
    for size in PhotoSize::ALL {
        files.put(&photos::file(photo, size), Bytes::from_static(b"a picture")).await.unwrap();
    }
}

async fn there(files: &Files, photo: PhotoId) -> bool {
    files.get(&photos::file(photo, PhotoSize::Small)).await.unwrap().is_some()
}

#[tokio::test]
async fn a_photo_that_is_replaced_removed_or_erased_loses_its_files() {
    let database = TestDatabase::create().await;
    let log = database.log(1).await;
    let executor = Executor::new(log.clone());
    let (files, folder) = (Files::in_memory(), tempfile::tempdir().unwrap());
    let stop = CancellationToken::new();
    let mut runner = Runner::new(SharedTail::new(log.clone()), stop.clone());
    runner.start(Arc::new(JobOrders::new(log.clone())), Sharing::Leased);
    let worker = Worker {
        log: log.clone(),
        mailer: Arc::new(FolderMailer::new(folder.path())),
        files: files.clone(),
        eraser: eraser(&log),
        public_url: "http://pontual.test".to_owned(),
        concurrency: 1,
    };
    let worker = tokio::spawn(worker.run(stop.clone()));

    let ana = person(&executor, "Ana").await;
    let account = ana.account().unwrap();
    let [first, second, third] = [0, 1, 2].map(|n| photo(account, n));
    for photo in [first, second] {
        upload(&files, photo).await;
        executor.execute(ChangePhoto { photo }, origin(&ana)).await.unwrap();
    }
    until("the first is gone", async || !there(&files, first).await).await;
    assert!(there(&files, second).await);
    executor.execute(RemovePhoto {}, origin(&ana)).await.unwrap();
    until("the second is gone", async || !there(&files, second).await).await;
    upload(&files, third).await;
    executor.execute(ChangePhoto { photo: third }, origin(&ana)).await.unwrap();
    let erase = EraseAccount { account, proven_under: Some(0) };
    executor.execute(erase, origin(&ana)).await.unwrap();
    until("the third is gone", async || !there(&files, third).await).await;
    stop.cancel();
    worker.await.unwrap();
    runner.join().await;
}

#[tokio::test]
async fn photos_whose_event_never_came_are_swept_and_those_that_are_shown_or_fresh_are_not() {
    let database = TestDatabase::create().await;
    let clock = Arc::new(FrozenClock::at_text("2020-01-01T00:00:00Z"));
    let log = database.log_with(clock.clone(), options(1)).await;
    let executor = Executor::new(log.clone());
    let files = Files::in_memory();
    let ana: Actor = person(&executor, "Ana").await;
    let account = ana.account().unwrap();
    let (shown, orphan) = (photo(account, 0), photo(account, 1));
    for photo in [shown, orphan] {
        files.put(&photos::pending(account, photo), Bytes::new()).await.unwrap();
        upload(&files, photo).await;
    }
    executor.execute(ChangePhoto { photo: shown }, origin(&ana)).await.unwrap();

    // By a clock that is behind, nothing is an hour old.
    assert_eq!(sweep(&log, &files).await.unwrap(), 0);
    assert!(there(&files, orphan).await);
    clock.set("2100-01-01T00:00:00Z".parse().unwrap());
    assert_eq!(sweep(&log, &files).await.unwrap(), 1);
    assert!(there(&files, shown).await);
    assert!(!there(&files, orphan).await);
    assert_eq!(files.list(photos::PENDING, 10).await.unwrap(), []);
    assert_eq!(sweep(&log, &files).await.unwrap(), 0);
}
