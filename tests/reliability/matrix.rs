//! Holds `docs/reliability.md` and the tests together: every test of the matrix has its row, every row its test.

use std::{collections::BTreeSet, fs, path::Path};

/// The tests of a module, as `module::test`.
fn tests_of(file: &Path) -> BTreeSet<String> {
    let text = fs::read_to_string(file).unwrap();
    let module = file.file_stem().unwrap().to_string_lossy().into_owned();
    let mut tests = BTreeSet::new();
    let mut marked = false;
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("async fn ").filter(|_| marked) {
            tests.insert(format!("{module}::{}", name.split('(').next().unwrap()));
        }
        marked = line.starts_with("#[tokio::test");
    }
    tests
}

#[test]
fn every_test_of_the_matrix_has_its_row_and_every_row_its_test() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let matrix = ["operator", "api_server", "room_engine", "configuration", "objects"];
    let mut tests: BTreeSet<String> =
        matrix.iter().flat_map(|module| tests_of(&folder.join(format!("reliability/{module}.rs")))).collect();
    assert!(tests.len() >= 25, "{}", tests.len());
    let promises = [
        "create",
        "nothing_lost",
        "nothing_stuck",
        "one_call",
        "program",
        "quiet",
        "quota",
        "request_id",
        "secrets",
    ];
    let others: BTreeSet<String> =
        promises.iter().flat_map(|module| tests_of(&folder.join(format!("{module}.rs")))).collect();
    let table =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reliability.md")).unwrap();
    let rows = table.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| ---")).skip(1);
    for row in rows {
        let named: Vec<&str> = row.split('`').skip(1).step_by(2).filter(|name| name.contains("::")).collect();
        assert!(!named.is_empty(), "a row without a test: {row}");
        for name in named {
            assert!(tests.remove(name) || others.contains(name), "no such test: {name}");
        }
    }
    assert!(tests.is_empty(), "tests without a row: {tests:?}");
}
