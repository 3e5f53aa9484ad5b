//! The directory of what can be made again, `.verify/` in a project: out of git's sight, with files of JSON in it that
//! save the next run time and nothing else.
//!
//! So a file that is missing, damaged or another version's is as good as an empty one, and one that cannot be written
//! is nobody's failure.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Makes the directory if need be, and has git ignore it.
pub fn make(directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    let ignore = directory.join(".gitignore");
    if ignore.exists() {
        return Ok(());
    }
    fs::write(ignore, "*\n")
}

/// A file that [`write`] has written; an empty value if there is none.
pub fn read<T: DeserializeOwned + Default>(directory: &Path, name: &str) -> T {
    fs::read(directory.join(name))
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .unwrap_or_default()
}

/// Writes a file for the next run, whole or not at all.
pub fn write<T: Serialize>(directory: &Path, name: &str, value: &T) {
    let write = || -> io::Result<()> {
        make(directory)?;
        let mut file = tempfile::NamedTempFile::new_in(directory)?;
        file.write_all(&serde_json::to_vec(value)?)?;
        file.persist(directory.join(name))?;
        Ok(())
    };
    let _ = write();
}
