//! The end-to-end tests run the operator as the chart installs it, except for the listed ones.

use std::path::Path;

use crate::docs::root;
use crate::support::mode::ONE_NAMESPACE;

/// Returns each file of end-to-end tests that starts operators, with the number of its tests.
fn tests(folder: &Path) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(tests(&path));
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        if text.contains("TestEnv::") || text.contains("Fleet::") {
            let name = path.strip_prefix(root()).unwrap().display().to_string();
            found.push((name, text.matches("#[tokio::test").count()));
        }
    }
    found
}

#[test]
fn most_end_to_end_tests_run_the_operator_in_its_default_mode() {
    let all = tests(&root().join("tests/e2e"));
    let count = |listed: bool| {
        let is_listed = |name: &str| ONE_NAMESPACE.iter().any(|(file, _)| *file == name);
        all.iter().filter(|(name, _)| is_listed(name) == listed).map(|(_, tests)| tests).sum::<usize>()
    };
    let (default, one_namespace) = (count(false), count(true));
    assert!(default > 2 * one_namespace, "{default} tests in the default mode, {one_namespace} in one namespace");
    for (file, reason) in ONE_NAMESPACE {
        assert!(all.iter().any(|(name, _)| name == file), "{file} ({reason}) starts no operator");
    }
}
