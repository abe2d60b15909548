//! Tables of configuration keys: from a row come a typed field, its default, how it is read, written and shown.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::properties::Entry;

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    File {
        path: PathBuf,
        line: usize,
    },
    /// A command line option such as `-n`.
    Option(&'static str),
    Environment(&'static str),
    /// Changed while the server runs.
    Runtime,
    /// Follows from other values.
    Derived,
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Source::File { path, line } => write!(f, "{}:{line}", path.display()),
            Source::Option(name) => write!(f, "option {name}"),
            Source::Environment(name) => write!(f, "${name}"),
            Source::Runtime => f.write_str("changed while running"),
            Source::Derived => f.write_str("follows from other settings"),
        }
    }
}

/// Why a value is refused.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum ConfigError {
    #[error("{key}={value}: expected {expected}")]
    BadValue { key: String, value: String, expected: String },
    #[error("unknown key {key:?}{}", suggestion.as_ref().map(|s| format!(", did you mean {s:?}?")).unwrap_or_default())]
    UnknownKey { key: String, suggestion: Option<String> },
}

/// What loading a file found: errors refuse the start, warnings and notes are shown.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub errors: Vec<String>,
    pub warnings: Vec<String>,
    /// Keys that were set and have no effect here.
    pub without_effect: Vec<String>,
}

/// A type that a key can have.
pub trait Value: Sized {
    /// What would be right, for people.
    const EXPECTED: &'static str;
    fn parse(text: &str) -> Option<Self>;
    fn text(&self) -> String;
}

macro_rules! value {
    ($($type:ty, $expected:literal;)*) => {$(
        impl Value for $type {
            const EXPECTED: &'static str = $expected;
            fn parse(text: &str) -> Option<Self> {
                text.parse().ok()
            }
            fn text(&self) -> String {
                self.to_string()
            }
        }
    )*};
}
value! {
    i32, "an integer";
    i64, "an integer";
    f64, "a number";
    String, "text";
}

impl Value for bool {
    const EXPECTED: &'static str = "true or false";
    fn parse(text: &str) -> Option<Self> {
        match text {
            _ if text.eq_ignore_ascii_case("true") => Some(true),
            _ if text.eq_ignore_ascii_case("false") => Some(false),
            _ => None,
        }
    }
    fn text(&self) -> String {
        self.to_string()
    }
}

/// A key that RocketMQ has and that changes nothing here: its type's first letter is checked, its value kept.
#[derive(Clone, Copy, Debug)]
pub struct Inert {
    pub key: &'static str,
    pub kind: Kind,
}

/// The type of a key without effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Integer,
    Float,
    Bool,
    Text,
}

impl Kind {
    fn accepts(self, text: &str) -> Result<(), &'static str> {
        let (ok, expected) = match self {
            Kind::Integer => (i64::parse(text).is_some(), i64::EXPECTED),
            Kind::Float => (f64::parse(text).is_some(), f64::EXPECTED),
            Kind::Bool => (bool::parse(text).is_some(), bool::EXPECTED),
            Kind::Text => (true, ""),
        };
        if ok { Ok(()) } else { Err(expected) }
    }
}

/// Settings that are set though they change nothing, and where every value that is set comes from.
#[derive(Clone, Debug, Default)]
pub struct Extra {
    pub inert: BTreeMap<&'static str, String>,
    pub sources: BTreeMap<&'static str, Source>,
}

/// One row as it is shown: key, value, and where the value comes from (`None`: the default).
pub type Shown<'a> = (&'static str, String, Option<&'a Source>);

/// A table of keys; made by [`config!`].
pub trait Table: Clone + Default {
    /// Sets a key that has an effect. `None` where the table has no such key, else what was expected.
    fn set_field(&mut self, key: &str, value: &str) -> Option<Result<&'static str, String>>;
    /// Every key with an effect and its value.
    fn fields(&self) -> Vec<(&'static str, String)>;
    fn extra(&self) -> &Extra;
    fn extra_mut(&mut self) -> &mut Extra;
    /// Keys without effect.
    fn inert() -> &'static [Inert];
    /// Historic spellings and the keys that they mean.
    fn aliases() -> &'static [(&'static str, &'static str)];

    /// Sets a key and notes where its value comes from.
    fn set_from(&mut self, key: &str, value: &str, source: Source) -> Result<(), ConfigError> {
        let name = Self::aliases().iter().find(|(old, _)| *old == key).map_or(key, |(_, new)| new);
        let bad = |expected: &str| ConfigError::BadValue {
            key: key.to_owned(),
            value: value.to_owned(),
            expected: expected.to_owned(),
        };
        if let Some(set) = self.set_field(name, value) {
            let name = set.map_err(|expected| bad(&expected))?;
            self.extra_mut().sources.insert(name, source);
            return Ok(());
        }
        let Some(inert) = Self::inert().iter().find(|inert| inert.key == name) else {
            return Err(ConfigError::UnknownKey { key: key.to_owned(), suggestion: self.nearest(key) });
        };
        inert.kind.accepts(value).map_err(bad)?;
        self.extra_mut().inert.insert(inert.key, value.to_owned());
        self.extra_mut().sources.insert(inert.key, source);
        Ok(())
    }

    /// Sets a key of a server that runs.
    fn set(&mut self, key: &str, value: &str) -> Result<(), ConfigError> {
        self.set_from(key, value, Source::Runtime)
    }

    /// Takes the settings of a file. All that is wrong is collected, not just the first.
    fn apply(&mut self, path: &Path, entries: &[Entry]) -> Report {
        let mut report = Report::default();
        for Entry { key, value, line } in entries {
            let at = format!("{}:{line}", path.display());
            match self.set_from(key, value, Source::File { path: path.to_owned(), line: *line }) {
                Ok(()) if self.extra().inert.contains_key(key.as_str()) => report.without_effect.push(key.clone()),
                Ok(()) => {}
                Err(error @ ConfigError::UnknownKey { .. }) => report.warnings.push(format!("{at}: {error}")),
                Err(error) => report.errors.push(format!("{at}: {error}")),
            }
        }
        report
    }

    /// The known key that is nearest to one that is not, where one is near at all.
    fn nearest(&self, key: &str) -> Option<String> {
        let known = self.fields().into_iter().map(|(k, _)| k).chain(Self::inert().iter().map(|i| i.key));
        let near = known.map(|k| (strsim::damerau_levenshtein(&k.to_lowercase(), &key.to_lowercase()), k)).min()?;
        (near.0 <= 2 + key.len() / 6).then(|| near.1.to_owned())
    }

    /// All keys that have an effect or are set, in their order.
    fn pairs(&self) -> Vec<Shown<'_>> {
        let inert = self.extra().inert.iter().map(|(k, v)| (*k, v.clone()));
        let mut all: Vec<_> = self.fields().into_iter().chain(inert).map(|(k, v)| (k, v, self.extra().sources.get(k))).collect();
        all.sort_by_key(|(key, ..)| *key);
        all
    }
}

/// Defines a struct of settings. A row is `field: Type = "javaKey", default;`, with an optional range `in 1..=65535`.
#[macro_export]
macro_rules! config {
    (
        $(#[$doc:meta])*
        pub struct $name:ident;
        inert $inert:expr;
        aliases $aliases:expr;
        $( $(#[doc = $row:literal])* $field:ident: $type:ty = $key:literal, $default:expr $(, in $range:expr)?; )*
    ) => {
        $(#[$doc])*
        #[derive(Clone, Debug)]
        pub struct $name {
            $( $(#[doc = $row])* pub $field: $type, )*
            /// What else is set, and where values come from.
            pub extra: $crate::config::Extra,
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $( $field: $default, )* extra: $crate::config::Extra::default() }
            }
        }

        impl $crate::config::Table for $name {
            fn set_field(&mut self, key: &str, value: &str) -> Option<Result<&'static str, String>> {
                use $crate::config::Value;
                match key {
                    $( $key => Some(match <$type>::parse(value) {
                        $( Some(parsed) if !($range).contains(&parsed) => Err(format!("{} in {:?}", <$type>::EXPECTED, $range)), )?
                        Some(parsed) => { self.$field = parsed; Ok($key) }
                        None => Err(<$type>::EXPECTED.to_owned()),
                    }), )*
                    _ => None,
                }
            }
            fn fields(&self) -> Vec<(&'static str, String)> {
                use $crate::config::Value;
                vec![ $( ($key, self.$field.text()), )* ]
            }
            fn extra(&self) -> &$crate::config::Extra {
                &self.extra
            }
            fn extra_mut(&mut self) -> &mut $crate::config::Extra {
                &mut self.extra
            }
            fn inert() -> &'static [$crate::config::Inert] {
                $inert
            }
            fn aliases() -> &'static [(&'static str, &'static str)] {
                $aliases
            }
        }

        impl $name {
            /// Every key with an effect and what it means, for the documentation.
            pub const DOCS: &'static [(&'static str, &'static str)] = &[ $( ($key, concat!($($row, )*)), )* ];
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    config! {
        /// A small table.
        pub struct Small;
        inert &[Inert { key: "deadKey", kind: Kind::Integer }];
        aliases &[("oldPort", "listenPort")];
        /// The port.
        listen_port: i32 = "listenPort", 10911, in 1..=65535;
        /// The flag.
        flag: bool = "flagEnable", false;
        /// The name.
        name: String = "brokerName", String::new();
    }

    fn apply(text: &str) -> (Small, Report) {
        let mut table = Small::default();
        let report = table.apply(Path::new("broker.conf"), &crate::properties::parse(text.as_bytes()).unwrap());
        (table, report)
    }

    #[test]
    fn files_are_taken_with_everything_that_is_wrong() {
        let (table, report) =
            apply("oldPort=7\nflagEnable=TRUE\nbrokerNam=x\ndeadKey=3\nlistenPort=abc\nlistenPort=70000\nzzzzzzzz=1\ndeadKey=x");
        assert_eq!((table.listen_port, table.flag), (7, true));
        assert_eq!(
            report.warnings,
            ["broker.conf:3: unknown key \"brokerNam\", did you mean \"brokerName\"?", "broker.conf:7: unknown key \"zzzzzzzz\"",]
        );
        assert_eq!(
            report.errors,
            [
                "broker.conf:5: listenPort=abc: expected an integer",
                "broker.conf:6: listenPort=70000: expected an integer in 1..=65535",
                "broker.conf:8: deadKey=x: expected an integer",
            ]
        );
        assert_eq!(report.without_effect, ["deadKey"]);
        let shown: Vec<_> = table.pairs().into_iter().map(|(k, v, s)| (k, v, s.map(|s| s.to_string()))).collect();
        assert_eq!(shown[2], ("flagEnable", "true".into(), Some("broker.conf:2".into())));
        assert_eq!(shown[0].0, "brokerName");
        assert_eq!(Small::DOCS[0], ("listenPort", " The port."));
    }
}
