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
/// point leaves the old or the new content under the name or under `.bak`.
pub fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let temporary = with_suffix(path, ".tmp");
    let mut file = File::create(&temporary)?;
    file.write_all(content)?;
    file.sync_all()?;
    match fs::rename(path, with_suffix(path, ".bak")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::rename(&temporary, path)?;
    path.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())
}

/// A file's content, and why it is not that of the file itself.
#[derive(Debug, PartialEq, Eq)]
pub struct Loaded<T> {
    pub content: T,
    /// What was wrong with the file where `.bak` was read instead.
    pub damage: Option<String>,
}

/// Reads a file, or its `.bak` where it is missing, empty or can't be parsed; `None` where there is neither. A file
/// that is damaged with no `.bak` beside it is an error: beginning without it would lose what it held.
pub fn read_with_backup<T, E: std::fmt::Display>(
    path: &Path,
    parse: impl Fn(&[u8]) -> Result<T, E>,
) -> io::Result<Option<Loaded<T>>> {
    let damage = match try_read(path, &parse)? {
        Attempt::Content(content) => return Ok(Some(Loaded { content, damage: None })),
        Attempt::Missing => None,
        Attempt::Damaged(why) => Some(why),
    };
    match try_read(&with_suffix(path, ".bak"), &parse)? {
        Attempt::Content(content) => {
            let why = damage.unwrap_or_else(|| "it is missing".into());
            Ok(Some(Loaded { content, damage: Some(why) }))
        }
        Attempt::Missing | Attempt::Damaged(_) => match damage {
            None => Ok(None),
            Some(why) => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!(
                    "{} is damaged and has no usable .bak: {why}. Mend it, or move it away to begin without it",
                    path.display()
                ),
            )),
        },
    }
}

enum Attempt<T> {
    Content(T),
    Missing,
    Damaged(String),
}

fn try_read<T, E: std::fmt::Display>(path: &Path, parse: impl Fn(&[u8]) -> Result<T, E>) -> io::Result<Attempt<T>> {
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Attempt::Missing),
        Err(error) => Err(error),
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
}
