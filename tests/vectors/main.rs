//! Test vectors that others published, run through the storeys without I/O and through the public interface.
//!
//! `URLSESSION_VECTORS` names the directory with the JSON files; without it there is nothing to run, and the tests pass.
//! Where an answer of this crate differs from that of a source, the case stands in a list here with the reason. A list
//! holds exactly the cases that differ: one that no longer does fails the test, too.

mod addresses;
mod authentication;
mod cookies;
mod credentials;
mod exchanges;
mod extensions;
mod frames;
mod happy_eyeballs;
mod heads;
mod proxies;
mod redirects;
#[path = "../support/mod.rs"]
mod support;
mod tls;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use serde_json::Value;

/// The cases of one list of a file; `None` where there are no vectors.
fn cases(file: &str, list: &str, count: usize) -> Option<Vec<Value>> {
    let Some(directory) = std::env::var_os("URLSESSION_VECTORS") else {
        println!("URLSESSION_VECTORS is not set: {file} is not run");
        return None;
    };
    let path = PathBuf::from(directory).join(file);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut json: Value = serde_json::from_str(&text).unwrap();
    let Value::Array(cases) = json[list].take() else { panic!("{file} has no {list}") };
    assert_eq!(cases.len(), count, "{list} of {file}");
    Some(cases)
}

/// Runs the cases; those that fail are exactly the listed ones.
fn run_all(cases: &[Value], differences: &[(&str, &str)], run: impl Fn(&Value) -> Result<(), String>) {
    let listed: BTreeSet<&str> = differences.iter().map(|(id, _)| *id).collect();
    assert_eq!(listed.len(), differences.len(), "a case is listed twice");
    assert!(differences.iter().all(|(_, reason)| !reason.is_empty()));
    let failed: BTreeMap<&str, String> = cases.iter().filter_map(|case| Some((id(case), run(case).err()?))).collect();
    let unexpected: Vec<_> = failed.iter().filter(|(id, _)| !listed.contains(*id)).collect();
    assert!(unexpected.is_empty(), "{} cases fail: {unexpected:#?}", unexpected.len());
    let passed: Vec<_> = listed.iter().filter(|id| !failed.contains_key(*id)).collect();
    assert!(passed.is_empty(), "listed as different, and not so: {passed:#?}");
}

fn id(case: &Value) -> &str {
    case["id"].as_str().unwrap()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("{key} is no text: {value}"))
}

/// Bytes that are written as code points 0 to 255.
fn latin1(text: &str) -> Vec<u8> {
    text.chars().map(|character| u8::try_from(u32::from(character)).expect("a byte")).collect()
}

fn hex(text: &str) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).expect("a digit") as u8;
    text.as_bytes().chunks_exact(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

fn equal<T: PartialEq + std::fmt::Debug>(what: &str, found: T, expected: T) -> Result<(), String> {
    if found == expected { Ok(()) } else { Err(format!("{what}: {found:?}, expected {expected:?}")) }
}
