//! Holds `docs/reliability.md` and the tests together: every test of the matrix has its row, every row its test.

use std::{collections::BTreeMap, fs, path::Path};

/// Rows whose test has no robot that could be lost.
const NOBODY_LEAVES: [&str; 1] = ["program::it_waits_for_the_api_server_and_for_the_crds"];

/// The tests of a module, as `module::test`, with their text.
fn tests_of(file: &Path) -> BTreeMap<String, String> {
    let text = fs::read_to_string(file).unwrap();
    let module = file.file_stem().unwrap().to_string_lossy().into_owned();
    let tests = text.split("#[tokio::test").skip(1).map(|test| {
        let (_, rest) = test.split_once("async fn ").unwrap();
        let (name, body) = rest.split_once('(').unwrap();
        (format!("{module}::{name}"), body.split("\n}\n").next().unwrap().to_owned())
    });
    tests.collect()
}

#[test]
fn every_test_of_the_matrix_has_its_row_and_every_row_its_test() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let matrix = ["operator", "api_server", "room_engine", "configuration", "objects"];
    let mut tests: BTreeMap<String, String> =
        matrix.iter().flat_map(|module| tests_of(&folder.join(format!("reliability/{module}.rs")))).collect();
    assert!(tests.len() >= 25, "{}", tests.len());
    let promises = [
        "born_with_finalizer",
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
    let others: BTreeMap<String, String> =
        promises.iter().flat_map(|module| tests_of(&folder.join(format!("{module}.rs")))).collect();
    let table =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reliability.md")).unwrap();
    let rows = table.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| ---")).skip(1);
    for row in rows {
        let named: Vec<&str> = row.split('`').skip(1).step_by(2).filter(|name| name.contains("::")).collect();
        assert!(!named.is_empty(), "a row without a test: {row}");
        for name in named {
            let test = tests.remove(name).or_else(|| others.get(name).cloned());
            let test = test.unwrap_or_else(|| panic!("no such test: {name}"));
            let verifies = test.contains("world.verify(") || test.contains("world.verify_but(");
            assert!(verifies || NOBODY_LEAVES.contains(&name), "{name} compares no logs at its end");
        }
    }
    assert!(tests.is_empty(), "tests without a row: {:?}", tests.keys());
}
