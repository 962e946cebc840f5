//! The arrows between the crates, as `docs/ARCHITECTURE.md` draws them, from `cargo metadata`.
//!
//! A crate may use a crate of the house only if the table below says so. Whoever adds a crate, or an arrow, adds a
//! line here and a sentence there. Development dependencies are free.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// What each crate of the house may use of the house.
const ARROWS: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("event-log", &["domain"]),
    ("read-models", &["domain"]),
    ("http-kit", &["domain"]),
    // Not read-models: no decision depends on a read model.
    ("command-api", &["domain", "event-log", "http-kit"]),
    ("query-api", &["domain", "event-log", "http-kit", "read-models"]),
    // http-kit: the token of a mailed link is made where it is checked.
    ("projectors", &["domain", "event-log", "http-kit", "read-models"]),
    (
        "app",
        &[
            "command-api",
            "domain",
            "event-log",
            "http-kit",
            "projectors",
            "query-api",
            "read-models",
        ],
    ),
    ("end-to-end", &["domain", "event-log", "http-kit"]),
];

/// The house's crates, each with the crates of the house it uses when it is built.
fn arrows() -> BTreeMap<String, BTreeSet<String>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo writes JSON");
    let packages = metadata["packages"].as_array().expect("there are packages");
    let name = |value: &Value| value["name"].as_str().expect("it has a name").to_owned();
    let house: BTreeSet<String> = packages.iter().map(name).collect();
    packages
        .iter()
        .map(|package| {
            let dependencies = package["dependencies"].as_array().expect("a list");
            let built_with = dependencies.iter().filter(|dependency| dependency["kind"] != "dev");
            (name(package), built_with.map(name).filter(|used| house.contains(used)).collect())
        })
        .collect()
}

#[test]
fn every_arrow_between_crates_is_allowed() {
    let allowed: BTreeMap<&str, BTreeSet<&str>> =
        ARROWS.iter().map(|(from, to)| (*from, to.iter().copied().collect())).collect();
    let mut wrong = Vec::new();
    for (from, used) in arrows() {
        let Some(allowed) = allowed.get(from.as_str()) else {
            wrong.push(format!("{from} is in no line of ARROWS"));
            continue;
        };
        let more = used.iter().filter(|to| !allowed.contains(to.as_str()));
        wrong.extend(more.map(|to| format!("{from} → {to} is not allowed")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_line_of_the_table_is_a_crate() {
    let arrows = arrows();
    let gone: Vec<_> = ARROWS.iter().filter(|(from, _)| !arrows.contains_key(*from)).collect();
    assert!(gone.is_empty(), "{gone:?}");
}
