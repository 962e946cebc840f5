//! The file store: a port with two stores behind it, a folder on disk (the default) and a bucket that speaks S3's protocol.
//!
//! Photos are its first use: the command side puts `photos/<photo>/512.jpg`, the query side gets it, a job deletes the
//! folder `photos/<photo>` once another photo has taken its place. Names are made of constants and ids only, so no request
//! can say `..`.
//!
//! Everything is bounded: a file by [`FILE_MAX_BYTES`], an operation by [`TIMEOUT`]. A put is whole or nothing and is on
//! the disk (or acknowledged by the bucket) before it returns; after a crash in the middle of it there is no file. Deleting
//! what is not there is fine, so a job may do it twice.

use std::fmt;
use std::io;
use std::path::Path as FolderPath;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use domain::ids::Id;
use futures_util::TryStreamExt;
use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    BackoffConfig, ClientOptions, ObjectStore, ObjectStoreExt, PutPayload, RetryConfig,
};

pub mod photos;

/// The most bytes of a file.
pub const FILE_MAX_BYTES: usize = 8 * 1024 * 1024;
/// How long putting, getting or deleting a file may take.
pub const TIMEOUT: Duration = Duration::from_secs(10);
/// How long listing or deleting a folder may take.
const FOLDER_TIMEOUT: Duration = Duration::from_secs(30);
/// The most files one listing gives.
const LIST_MAX: usize = 1_000;

/// A folder: a constant and an id, as in `photos/0193…`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder(Path);

impl Folder {
    /// The folder of this id among folders of its kind.
    pub fn of(kind: &'static str, id: impl Id) -> Self {
        Self(Path::from_iter([kind, &id.to_string()]))
    }

    /// A file in it. The name is a constant.
    pub fn file(&self, name: &'static str) -> FileName {
        FileName(self.0.clone().join(name))
    }

    /// A file in it that is named by an id.
    pub fn file_of(&self, id: impl Id) -> FileName {
        FileName(self.0.clone().join(id.to_string()))
    }
}

/// A file's name, made by [`Folder::file`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileName(Path);

impl FileName {
    /// The last parts of its path, the last one last: an id that [`Folder::file_of`] wrote reads itself back from here.
    pub fn parts(&self) -> Vec<String> {
        self.0.parts().map(|part| part.as_ref().to_owned()).collect()
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What can go wrong with files.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file is larger than [`FILE_MAX_BYTES`].
    #[error("a file may have at most {FILE_MAX_BYTES} bytes")]
    TooLarge,
    /// The store did not answer in time.
    #[error("the file store did not answer in time")]
    TimedOut,
    /// The store cannot be used.
    #[error("the file store failed")]
    Store(#[source] object_store::Error),
    /// The folder on disk cannot be made.
    #[error("the folder of the files cannot be made")]
    Folder(#[source] io::Error),
}

/// A bucket.
#[derive(Clone)]
pub struct Bucket {
    /// Its name.
    pub name: String,
    /// Its region: `sa-east-1`.
    pub region: String,
    /// Another server than Amazon's: `https://minio.example.com:9000`.
    pub endpoint: Option<String>,
    /// Key id, secret and session token; `None` takes those of the machine or the task it runs on.
    pub credentials: Option<Credentials>,
}

/// Amazon's keys, or another S3 server's.
#[derive(Clone)]
pub struct Credentials {
    /// `AWS_ACCESS_KEY_ID`
    pub key_id: String,
    /// `AWS_SECRET_ACCESS_KEY`
    pub secret: String,
    /// `AWS_SESSION_TOKEN`
    pub token: Option<String>,
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bucket({:?} in {:?})", self.name, self.region)
    }
}

/// The file store. Cheap to clone.
#[derive(Clone)]
pub struct Files {
    store: Arc<dyn ObjectStore>,
}

impl Files {
    /// Files in a folder on disk, which is made if it is not there.
    pub fn on_disk(folder: &FolderPath) -> Result<Self, FileError> {
        std::fs::create_dir_all(folder).map_err(FileError::Folder)?;
        let store = LocalFileSystem::new_with_prefix(folder).map_err(FileError::Store)?;
        let store = store.with_fsync(true).with_automatic_cleanup(true);
        Ok(Self { store: Arc::new(store) })
    }

    /// Files in a bucket. Nothing is asked of it yet. The process's rustls provider must be installed.
    pub fn in_bucket(bucket: Bucket) -> Result<Self, FileError> {
        let Bucket { name, region, endpoint, credentials } = bucket;
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(name)
            .with_region(region)
            .with_retry(RetryConfig {
                max_retries: 2,
                retry_timeout: TIMEOUT,
                backoff: BackoffConfig::default(),
            });
        // What a bucket says of a file's type is what whoever reads it past us is told.
        let mut client = ClientOptions::new()
            .with_connect_timeout(Duration::from_secs(2))
            .with_timeout(Duration::from_secs(8))
            .with_content_type_for_suffix("jpg", "image/jpeg");
        if let Some(endpoint) = endpoint {
            // Who names a plain http:// endpoint means it: a server beside this one.
            client = client.with_allow_http(endpoint.starts_with("http://"));
            builder = builder.with_endpoint(endpoint);
        }
        if let Some(Credentials { key_id, secret, token }) = credentials {
            builder = builder.with_access_key_id(key_id).with_secret_access_key(secret);
            if let Some(token) = token {
                builder = builder.with_token(token);
            }
        }
        let store = builder.with_client_options(client).build().map_err(FileError::Store)?;
        Ok(Self { store: Arc::new(store) })
    }

    /// Files in memory, for tests.
    pub fn in_memory() -> Self {
        Self { store: Arc::new(object_store::memory::InMemory::new()) }
    }

    /// Writes a file, over one that is there.
    pub async fn put(&self, name: &FileName, content: Bytes) -> Result<(), FileError> {
        if content.len() > FILE_MAX_BYTES {
            return Err(FileError::TooLarge);
        }
        let put = self.store.put(&name.0, PutPayload::from_bytes(content));
        bounded(TIMEOUT, put).await.map(drop)
    }

    /// Reads a file; `None` if there is none.
    pub async fn get(&self, name: &FileName) -> Result<Option<Bytes>, FileError> {
        let get = async {
            let found = self.store.get(&name.0).await?;
            if found.meta.size > FILE_MAX_BYTES as u64 {
                return Ok(None);
            }
            found.bytes().await.map(Some)
        };
        match bounded(TIMEOUT, get).await {
            Ok(Some(content)) => Ok(Some(content)),
            Ok(None) => Err(FileError::TooLarge),
            Err(FileError::Store(error)) if absent(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Deletes a file, if it is there.
    pub async fn delete(&self, name: &FileName) -> Result<(), FileError> {
        match bounded(TIMEOUT, self.store.delete(&name.0)).await {
            Err(FileError::Store(error)) if absent(&error) => Ok(()),
            deleted => deleted,
        }
    }

    /// Deletes every file of a folder.
    pub async fn delete_folder(&self, folder: &Folder) -> Result<(), FileError> {
        loop {
            let files = self.list_path(&folder.0, LIST_MAX).await?;
            for (name, _) in &files {
                self.delete(name).await?;
            }
            if files.len() < LIST_MAX {
                return Ok(());
            }
        }
    }

    /// Files of all folders of a kind, with the time each was written; at most so many, and never more than 1,000.
    pub async fn list(
        &self,
        kind: &'static str,
        at_most: usize,
    ) -> Result<Vec<(FileName, DateTime<Utc>)>, FileError> {
        self.list_path(&Path::from(kind), at_most.min(LIST_MAX)).await
    }

    async fn list_path(
        &self,
        prefix: &Path,
        at_most: usize,
    ) -> Result<Vec<(FileName, DateTime<Utc>)>, FileError> {
        let list = async {
            let mut files = Vec::new();
            let mut listing = self.store.list(Some(prefix));
            while files.len() < at_most
                && let Some(meta) = listing.try_next().await?
            {
                files.push((FileName(meta.location), meta.last_modified));
            }
            Ok(files)
        };
        bounded(FOLDER_TIMEOUT, list).await
    }
}

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Files({})", self.store)
    }
}

fn absent(error: &object_store::Error) -> bool {
    matches!(error, object_store::Error::NotFound { .. })
}

async fn bounded<T>(
    at_most: Duration,
    work: impl Future<Output = object_store::Result<T>>,
) -> Result<T, FileError> {
    match tokio::time::timeout(at_most, work).await {
        Ok(done) => done.map_err(FileError::Store),
        Err(_) => Err(FileError::TimedOut),
    }
}

#[cfg(test)]
mod tests;
