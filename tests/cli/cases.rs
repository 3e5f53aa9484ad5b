//! The whole small books of `tests/cases/`: each is copied, has to be green as it stands, and recording it
//! again has to change nothing. A new case is a new directory.

use std::fs;
use std::path::Path;

use crate::project::Project;

#[test]
fn every_case_is_green_and_settled() {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let mut names: Vec<_> = fs::read_dir(&cases)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    assert!(!names.is_empty());
    for name in names {
        let case = cases.join(&name);
        let project = Project::new();
        for entry in walkdir::WalkDir::new(&case) {
            let entry = entry.unwrap();
            if entry.file_type().is_file() {
                let below = entry.path().strip_prefix(&case).unwrap();
                project.write(&below.to_string_lossy(), fs::read(entry.path()).unwrap());
            }
        }
        let before = project.files();
        let checked = project.verify("--strict");
        assert_eq!(checked.status, 0, "{name:?}: {}", checked.text());
        assert!(
            !checked.stdout.contains("\n0 verified"),
            "{name:?} claims nothing: {}",
            checked.text()
        );
        let recorded = project.verify("record");
        assert_eq!(recorded.status, 0, "{name:?}: {}", recorded.text());
        assert!(before == project.files(), "{name:?} was not settled");
    }
}
