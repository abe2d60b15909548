//! Files that are replaced in one step, with the state before in `.bak`, as Java keeps its `config/*.json`.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Replaces a file: what is there becomes `.bak`, the new content is on disk before it gets the name. A crash at any
/// point leaves the old or the new content under the name or under `.bak`. Two writers of one file have to take turns.
pub fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let temporary = with_suffix(path, ".tmp");
    create(&temporary, content).map_err(|error| about(&temporary, "can't be written", &error))?;
    match fs::rename(path, with_suffix(path, ".bak")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(about(path, "can't be renamed to .bak", &error)),
        _ => {}
    }
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let replaced = fs::rename(&temporary, path).and_then(|()| File::open(directory)?.sync_all());
    replaced.map_err(|error| about(path, "can't be replaced", &error))
}

fn create(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(content)?;
    file.sync_all()
}

/// An error that names its file.
fn about(path: &Path, what: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{} {what}: {error}", path.display()))
}

/// A file's content, and why it is not that of the file itself.
#[derive(Debug, PartialEq, Eq)]
pub struct Loaded<T> {
    pub content: T,
    /// What was wrong with the file where `.bak` was read instead.
    pub damage: Option<String>,
}

/// Reads a file, or its `.bak` where it is missing, empty or can't be parsed; `None` where there is neither. Where
/// one of them is damaged and none is whole, that is an error: beginning without them would lose what they held.
pub fn read_with_backup<T, E: std::fmt::Display>(
    path: &Path,
    parse: impl Fn(&[u8]) -> Result<T, E>,
) -> io::Result<Option<Loaded<T>>> {
    let damage = match try_read(path, &parse)? {
        Attempt::Content(content) => return Ok(Some(Loaded { content, damage: None })),
        Attempt::Missing => None,
        Attempt::Damaged(why) => Some(why),
    };
    let backup = with_suffix(path, ".bak");
    match (damage, try_read(&backup, &parse)?) {
        (damage, Attempt::Content(content)) => {
            Ok(Some(Loaded { content, damage: Some(damage.unwrap_or_else(|| "it is missing".into())) }))
        }
        (None, Attempt::Missing) => Ok(None),
        (Some(why), Attempt::Missing | Attempt::Damaged(_)) => Err(damaged(path, "has no usable .bak", &why)),
        (None, Attempt::Damaged(why)) => Err(damaged(&backup, "the file that it stands for is missing", &why)),
    }
}

fn damaged(path: &Path, and: &str, why: &str) -> io::Error {
    let advice = "Mend it, or move it away to begin without it";
    io::Error::new(io::ErrorKind::InvalidData, format!("{} is damaged and {and}: {why}. {advice}", path.display()))
}

enum Attempt<T> {
    Content(T),
    Missing,
    Damaged(String),
}

fn try_read<T, E: std::fmt::Display>(path: &Path, parse: impl Fn(&[u8]) -> Result<T, E>) -> io::Result<Attempt<T>> {
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Attempt::Missing),
        Err(error) => Err(about(path, "can't be read", &error)),
        Ok(bytes) if bytes.is_empty() => Ok(Attempt::Damaged("it is empty".into())),
        Ok(bytes) => Ok(match parse(&bytes) {
            Ok(content) => Attempt::Content(content),
            Err(error) => Attempt::Damaged(error.to_string()),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(bytes: &[u8]) -> Result<u32, String> {
        std::str::from_utf8(bytes).map_err(|e| e.to_string())?.parse().map_err(|_| "no number".into())
    }

    #[test]
    fn the_last_good_state_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.json");
        let read = || read_with_backup(&path, number);
        assert_eq!(read().unwrap(), None);
        write(&path, b"1").unwrap();
        assert_eq!(read().unwrap(), Some(Loaded { content: 1, damage: None }));
        write(&path, b"2").unwrap();
        fs::write(&path, "junk").unwrap();
        assert_eq!(read().unwrap(), Some(Loaded { content: 1, damage: Some("no number".into()) }));
        fs::remove_file(&path).unwrap();
        assert_eq!(read().unwrap().unwrap().content, 1);
        fs::remove_file(directory.path().join("x.json.bak")).unwrap();
        fs::write(&path, "").unwrap();
        assert!(read().unwrap_err().to_string().contains("it is empty"));
    }

    #[test]
    fn a_damaged_backup_alone_is_not_taken_for_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.json");
        fs::write(directory.path().join("x.json.bak"), "junk").unwrap();
        let error = read_with_backup(&path, number).unwrap_err().to_string();
        assert!(error.contains("x.json.bak is damaged"), "{error}");
    }

    #[test]
    fn errors_name_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("none").join("x.json");
        let error = write(&path, b"1").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(error.to_string().contains("none/x.json.tmp can't be written"), "{error}");
        let occupied = directory.path().join("x.json");
        fs::create_dir(&occupied).unwrap();
        assert!(read_with_backup(&occupied, number).unwrap_err().to_string().contains("x.json can't be read"));
    }
}
