//! Holds `docs/reliability.md` and the tests together: every test of the matrix has its row, every row its test.

use std::{collections::BTreeMap, fs, path::Path};

/// Rows whose test has no robot that could be lost.
const NOBODY_LEAVES: [&str; 1] = ["program::it_waits_for_the_api_server_and_for_the_crds"];

/// The heading of the cases from the field.
const FIELD: &str = "\n## Cases from the field\n";

fn page() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reliability.md")).unwrap()
}

/// The text of every Rust file below `folder`, by the name of its module.
fn modules(folder: &Path, found: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            modules(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let module = match path.file_stem().unwrap().to_str().unwrap() {
                // The tests of `foo.rs` may be in `foo/tests.rs`.
                "tests" => path.parent().unwrap().file_name().unwrap().to_string_lossy().into_owned(),
                name => name.to_owned(),
            };
            found.push((module, fs::read_to_string(&path).unwrap()));
        }
    }
}

/// Every module of the project with its text.
fn sources() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for folder in ["src", "tests", "crates"] {
        modules(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), &mut found);
    }
    found
}

fn is_there(found: &[(String, String)], name: &str) -> bool {
    let (path, function) = name.rsplit_once("::").unwrap();
    let module = path.rsplit("::").next().unwrap();
    found.iter().any(|(of, text)| of == module && text.contains(&format!("fn {function}(")))
}

#[test]
fn every_decision_names_tests_that_there_are() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/decisions");
    let found = sources();
    let mut named = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let text = fs::read_to_string(entry.unwrap().path()).unwrap();
        let Some((_, tests)) = text.split_once("## Tests") else { continue };
        // A module alone is named without a function.
        for name in tests.split('`').skip(1).step_by(2).filter(|name| name.contains("::")) {
            assert!(name.ends_with("::tests") || is_there(&found, name), "no such test: {name}");
            named += 1;
        }
    }
    assert!(named > 15, "{named}");
}

#[test]
fn every_case_from_the_field_names_tests_that_there_are() {
    let whole = page();
    let (_, cases) = whole.split_once(FIELD).unwrap();
    let found = sources();
    let names: Vec<&str> = cases.split('`').skip(1).step_by(2).filter(|name| name.contains("::")).collect();
    assert!(names.len() > 50, "{}", names.len());
    for name in names {
        assert!(is_there(&found, name), "no such test: {name}");
    }
    for section in ["A", "B", "C", "D", "E", "F"] {
        assert!(cases.contains(&format!("\n| {section}1 ")), "section {section} has no case");
    }
}

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
        "claims",
        "create",
        "nothing_lost",
        "nothing_stuck",
        "one_call",
        "program",
        "quiet",
        "quota",
        "refusals",
        "request_id",
        "secrets",
        "views",
    ];
    let others: BTreeMap<String, String> =
        promises.iter().flat_map(|module| tests_of(&folder.join(format!("{module}.rs")))).collect();
    let whole = page();
    let (table, _) = whole.split_once(FIELD).unwrap();
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
