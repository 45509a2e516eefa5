//! A file in which one run of a stack leaves something to the next.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// What the run before left at `path`; `None`: nothing, because it is the first, or because it did not end in order.
/// It stays until [`taken`] is called.
///
/// # Errors
/// The file can't be read.
pub fn left(path: &Path) -> io::Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// It was understood, and must not be taken a second time.
///
/// # Errors
/// The file can't be removed.
pub fn taken(path: &Path) -> io::Result<()> {
    fs::remove_file(path)
}

/// Leaves `text` at `path`, whole or not at all, for the owner alone.
///
/// # Errors
/// The file can't be written.
pub fn leave(path: &Path, text: &str) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(&name)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&name, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn what_is_left_is_found_until_it_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        assert_eq!(left(&path).unwrap(), None);
        leave(&path, "first").unwrap();
        leave(&path, "second").unwrap();
        assert_eq!(left(&path).unwrap().as_deref(), Some("second"));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        taken(&path).unwrap();
        assert_eq!(left(&path).unwrap(), None);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        assert!(leave(&folder.path().join("no/such/folder"), "x").is_err());
    }
}
