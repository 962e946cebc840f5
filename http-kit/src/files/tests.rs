//! What every file store does: one contract, a folder on disk and a server of S3's protocol (moto, in a process of its own).

use std::process::{Child, Command, Stdio};

use domain::ids::{AccountId, Mint, RoutingSlot, SessionId};

use super::*;

fn an_id(n: u32) -> AccountId {
    Mint::new([7; 32]).id(RoutingSlot::from_bits(1), n)
}

/// Puts, reads, replaces, lists and deletes.
async fn keeps_the_contract(files: &Files) {
    let (folder, other) = (Folder::of("photos", an_id(1)), Folder::of("photos", an_id(2)));
    let (big, small) = (folder.file("512.jpg"), folder.file("64.jpg"));

    assert_eq!(files.get(&big).await.unwrap(), None);
    files.delete(&big).await.unwrap();
    files.delete_folder(&folder).await.unwrap();
    assert_eq!(files.list("photos", 10).await.unwrap(), []);

    let content = Bytes::from_iter((0..100_000_u32).map(|n| n.to_le_bytes()[0]));
    files.put(&big, content.clone()).await.unwrap();
    assert_eq!(files.get(&big).await.unwrap(), Some(content));
    files.put(&big, Bytes::from_static(b"another")).await.unwrap();
    assert_eq!(files.get(&big).await.unwrap().unwrap(), "another");
    files.put(&small, Bytes::new()).await.unwrap();
    assert_eq!(files.get(&small).await.unwrap().unwrap(), "");

    files.put(&other.file("512.jpg"), Bytes::from_static(b"others'")).await.unwrap();
    assert_eq!(files.list("photos", 10).await.unwrap().len(), 3);
    assert_eq!(files.list("photos", 2).await.unwrap().len(), 2);
    assert_eq!(files.list("photo", 10).await.unwrap(), []);
    files.delete(&small).await.unwrap();
    assert_eq!(files.get(&small).await.unwrap(), None);
    files.put(&small, Bytes::from_static(b"again")).await.unwrap();
    files.delete_folder(&folder).await.unwrap();
    assert_eq!(files.get(&big).await.unwrap(), None);
    assert_eq!(files.get(&small).await.unwrap(), None);
    assert_eq!(files.get(&other.file("512.jpg")).await.unwrap().unwrap(), "others'");

    let named = Folder::of("pending", an_id(1)).file_of(an_id(3));
    files.put(&named, Bytes::new()).await.unwrap();
    let listed = files.list("pending", 10).await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(
        listed[0].0.parts(),
        ["pending".to_owned(), an_id(1).to_string(), an_id(3).to_string()]
    );

    let most = files.put(&big, Bytes::from(vec![0; FILE_MAX_BYTES])).await;
    assert!(most.is_ok(), "{most:?}");
    let more = files.put(&big, Bytes::from(vec![0; FILE_MAX_BYTES + 1])).await;
    assert!(matches!(more, Err(FileError::TooLarge)), "{more:?}");
    assert_eq!(files.get(&big).await.unwrap().unwrap().len(), FILE_MAX_BYTES);
}

#[tokio::test]
async fn a_folder_on_disk_keeps_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    let files = Files::on_disk(&folder.path().join("files")).unwrap();
    keeps_the_contract(&files).await;
}

#[tokio::test]
async fn what_is_on_disk_is_there_for_the_next_program() {
    let folder = tempfile::tempdir().unwrap();
    let name = Folder::of("photos", an_id(1)).file("64.jpg");
    Files::on_disk(folder.path()).unwrap().put(&name, Bytes::from_static(b"x")).await.unwrap();
    let next = Files::on_disk(folder.path()).unwrap();
    assert_eq!(next.get(&name).await.unwrap().unwrap(), "x");
}

#[tokio::test]
async fn a_bucket_keeps_the_contract() {
    let server = S3::start("files").await;
    keeps_the_contract(&Files::in_bucket(server.bucket("files")).unwrap()).await;
}

#[tokio::test]
async fn a_bucket_that_is_not_there_or_does_not_answer_is_an_error_in_time() {
    let server = S3::start("files").await;
    let name = Folder::of("photos", an_id(1)).file("64.jpg");
    let nowhere = Files::in_bucket(server.bucket("another")).unwrap();
    let put = nowhere.put(&name, Bytes::from_static(b"x")).await;
    assert!(matches!(put, Err(FileError::Store(_))), "{put:?}");
    let mut silent = server.bucket("files");
    drop(server);
    // It takes connections and never says a word.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    silent.endpoint = Some(format!("http://{}", listener.local_addr().unwrap()));
    let silent = Files::in_bucket(silent).unwrap();
    tokio::time::pause();
    let got = silent.get(&name).await;
    assert!(matches!(got, Err(FileError::TimedOut | FileError::Store(_))), "{got:?}");
}

#[test]
fn a_name_is_made_of_constants_and_ids() {
    let session: SessionId = Mint::new([1; 32]).id(RoutingSlot::from_bits(0xabc), 0);
    let name = Folder::of("photos", session).file("512.jpg");
    assert_eq!(name.to_string(), format!("photos/{session}/512.jpg"));
    assert_eq!(name.parts().len(), 3);
}

#[test]
fn keys_are_not_printed() {
    let credentials = Credentials { key_id: "AKIA1".into(), secret: "hush".into(), token: None };
    let bucket = Bucket {
        name: "files".into(),
        region: "sa-east-1".into(),
        endpoint: None,
        credentials: Some(credentials),
    };
    let text = format!("{bucket:?}");
    assert!(!text.contains("hush") && !text.contains("AKIA1"), "{text}");
}

/// A server of S3's protocol, ended when it is dropped.
struct S3 {
    process: Child,
    url: String,
}

impl S3 {
    /// Starts one with an empty bucket.
    async fn start(bucket: &str) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let python = std::env::var("TEST_PYTHON")
            .unwrap_or_else(|_| panic!("TEST_PYTHON is not set: run scripts/test.sh"));
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let process = Command::new(python)
            .args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &port.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self { process, url: format!("http://127.0.0.1:{port}") };
        let client = reqwest::Client::new();
        let deadline = std::time::Instant::now() + Duration::from_secs(60);
        // It does not check signatures, so a bare PUT makes the bucket.
        loop {
            let made = client.put(format!("{}/{bucket}", server.url)).send().await;
            match made {
                Ok(made) => {
                    assert_eq!(made.status(), 200, "{:?}", made.text().await);
                    return server;
                }
                Err(error) => {
                    assert!(std::time::Instant::now() < deadline, "moto does not answer: {error}");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    fn bucket(&self, name: &str) -> Bucket {
        Bucket {
            name: name.to_owned(),
            region: "us-east-1".to_owned(),
            endpoint: Some(self.url.clone()),
            credentials: Some(Credentials {
                key_id: "test".to_owned(),
                secret: "test".to_owned(),
                token: None,
            }),
        }
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
