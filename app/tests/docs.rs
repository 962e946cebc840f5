//! What the documents name exists: files, links, settings. (That `.env.example` has every setting of the program is
//! tested beside the settings.)
//!
//! A `path/to/a/file.rs` in backticks is a file or folder of the repository. A file that is yet to be made, as in
//! `docs/adding-a-feature.md`, is written with a plus and a space before it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A name that ends like this is a file's.
const ENDINGS: [&str; 7] = ["rs", "sql", "sh", "md", "toml", "json", "yml"];

/// Variables that are no settings of the program: the tests', and cargo's.
const NOT_SETTINGS: [&str; 3] = ["TEST_DATABASE_URL", "TEST_REDIS_URL", "TEST_MONGODB_URL"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// `README.md` and everything under `docs/` that is prose, with its text.
fn documents() -> Vec<(PathBuf, String)> {
    let mut folders = vec![root().join("docs")];
    let mut files = vec![root().join("README.md")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("the folder is there") {
            let path = entry.expect("it can be read").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "md") {
                files.push(path);
            }
        }
    }
    files
        .into_iter()
        .map(|path| (path.clone(), fs::read_to_string(&path).expect("a document is text")))
        .collect()
}

/// The text without fenced blocks, whose backticks pair differently.
fn prose(text: &str) -> String {
    text.split("```").step_by(2).collect()
}

/// What stands between backticks.
fn quoted(text: &str) -> Vec<String> {
    prose(text).split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Whether a quoted word is meant as a path of the repository.
fn is_path(word: &str, folders: &BTreeSet<String>) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    let Some((first, _)) = word.split_once('/') else { return false };
    let file = word.rsplit_once('.').is_some_and(|(_, ending)| ENDINGS.contains(&ending));
    word.chars().all(plain) && !first.is_empty() && (file || folders.contains(first))
}

fn top_folders() -> BTreeSet<String> {
    let entries = fs::read_dir(root()).expect("the repository is there");
    entries
        .map(|entry| entry.expect("it can be read"))
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

#[test]
fn every_path_in_the_documents_exists() {
    let folders = top_folders();
    let mut missing = Vec::new();
    for (document, text) in documents() {
        for word in quoted(&text).iter().filter(|word| is_path(word, &folders)) {
            if !root().join(word).exists() {
                missing.push(format!("{}: {word}", document.display()));
            }
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

#[test]
fn every_link_between_documents_leads_somewhere() {
    let mut missing = Vec::new();
    for (document, text) in documents() {
        let text = prose(&text);
        let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for link in links.filter(|link| !link.contains("://") && !link.starts_with('#')) {
            let file = link.split('#').next().unwrap_or_default();
            if !document.parent().is_some_and(|folder| folder.join(file).exists()) {
                missing.push(format!("{}: {link}", document.display()));
            }
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

/// Words such as `PONTUAL_LISTEN` and `DATABASE_URL`; `…_FILE` is the setting it stands for.
fn settings(text: &str) -> BTreeSet<String> {
    text.split(|c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_'))
        .map(|word| word.strip_suffix("_FILE").unwrap_or(word))
        .filter(|word| word.len() > 8 && (word.starts_with("PONTUAL_") || word.ends_with("_URL")))
        .filter(|word| !NOT_SETTINGS.contains(word))
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_setting_in_the_documents_is_in_the_example() {
    let example = settings(&fs::read_to_string(root().join(".env.example")).expect("it is there"));
    let mut missing = Vec::new();
    for (document, text) in documents() {
        let unknown = settings(&text).difference(&example).cloned().collect::<Vec<_>>();
        missing.extend(unknown.iter().map(|name| format!("{}: {name}", document.display())));
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}
