//! Every target over its corpus and over what is near it: the same inputs in every run.

use crate::{
    TARGETS, Target,
    near::{Near, words},
};
use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    thread,
};

/// So many inputs near the corpus for each target.
const NEAR: usize = 1500;

fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let files = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

fn run(target: &Target, words: &[Vec<u8>]) {
    let corpus = corpus(target.name);
    assert!(!corpus.is_empty(), "{} has no corpus", target.name);
    let mut near = Near::new(7, &corpus, words);
    let inputs = corpus.iter().cloned().chain((0..NEAR).map(|_| near.make()));
    for input in inputs {
        let held = catch_unwind(AssertUnwindSafe(|| (target.check)(&input)));
        assert!(
            held.is_ok(),
            "{} does not hold of \"{}\"; keep these bytes in crates/fuzz/corpus/{0}",
            target.name,
            input.escape_ascii()
        );
    }
}

#[test]
fn what_others_write_is_read_as_is_promised() {
    let words = words(include_str!("../words.dict"));
    assert!(words.len() > 100);
    let failed: Vec<&str> = thread::scope(|scope| {
        let runs: Vec<_> =
            TARGETS.iter().map(|target| (target.name, scope.spawn(|| run(target, &words)))).collect();
        runs.into_iter().filter_map(|(name, run)| run.join().is_err().then_some(name)).collect()
    });
    assert!(failed.is_empty(), "failed: {failed:?}");
}

/// A folder that no target reads would look like a test and be none.
#[test]
fn every_folder_of_the_corpus_has_a_target() {
    for folder in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")).unwrap() {
        let name = folder.unwrap().file_name();
        assert!(TARGETS.iter().any(|target| name == target.name), "{}", name.display());
    }
}

#[test]
fn words_are_read_as_libfuzzer_reads_them() {
    let read = words("# words\n\"a\\\"b\\\\\"\n\n\"\\x1b[\\xe2\\x80\\xae\"\n");
    assert_eq!(read, [b"a\"b\\".to_vec(), "\u{1b}[\u{202e}".as_bytes().to_vec()]);
}
