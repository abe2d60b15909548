//! Tables of configuration keys: from a row come a typed field, its default, how it is read, written and shown.

use std::collections::BTreeMap;
use std::ops::{Bound, RangeBounds};
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
    /// Changed while the server runs, which takes it at its next start.
    NextStart,
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
            Source::NextStart => f.write_str("changed while running, in force after a restart"),
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
    /// Settings that differ from Java's default and have no effect here, each with its line and the reason.
    pub without_effect: Vec<String>,
}

/// A type that a key can have.
pub trait Value: PartialOrd + Sized {
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

/// What would be right for a key whose values lie in `range`.
pub fn expected<T: Value>(range: &impl RangeBounds<T>) -> String {
    match (range.start_bound(), range.end_bound()) {
        (Bound::Included(low), Bound::Included(high)) => format!("{} between {} and {}", T::EXPECTED, low.text(), high.text()),
        (Bound::Included(low), _) => format!("{} of at least {}", T::EXPECTED, low.text()),
        _ => T::EXPECTED.to_owned(),
    }
}

/// Reads a value that has to lie in `range`, or says what was expected.
pub fn parse<T: Value>(text: &str, range: &impl RangeBounds<T>) -> Result<T, String> {
    T::parse(text).filter(|value| range.contains(value)).ok_or_else(|| expected(range))
}

/// Whether a changed value counts at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    Live,
    Restart,
}

/// A key with an effect, as documentation shows it.
#[derive(Debug)]
pub struct Row {
    pub key: &'static str,
    /// What values it takes.
    pub expected: String,
    pub effect: Effect,
    pub doc: &'static str,
}

/// A key that RocketMQ has and that changes nothing here: its value is checked, kept and shown.
#[derive(Debug)]
pub struct Inert {
    pub key: &'static str,
    /// Java's default; empty where it is unset or depends on the machine.
    pub default: &'static str,
    /// What values it takes, for people.
    pub expected: &'static str,
    accepts: fn(&str) -> bool,
    /// Why it has no effect.
    pub why: &'static str,
}

/// The keys without effect that brokers and name servers share.
pub const SHARED_INERT: &str = include_str!("inert.txt");

/// Reads lists of keys without effect. A line that is not indented says why the keys in the indented lines below it have
/// none; those are a type (`int`, `float`, `flag` or `text`), a key, and Java's default where it has one. `#` begins a
/// comment. Panics where a line is something else: the lists are part of the program.
pub fn inert_keys(lists: &[&'static str]) -> Vec<Inert> {
    fn taking<T: Value>() -> (&'static str, fn(&str) -> bool) {
        (T::EXPECTED, |text| T::parse(text).is_some())
    }
    let (mut why, mut keys) = ("", Vec::new());
    for line in lists.iter().flat_map(|list| list.lines()).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let Some(row) = line.strip_prefix(' ') else {
            why = line;
            continue;
        };
        let mut words = row.split_whitespace();
        let (expected, accepts) = match words.next() {
            Some("int") => taking::<i64>(),
            Some("float") => taking::<f64>(),
            Some("flag") => taking::<bool>(),
            Some("text") => taking::<String>(),
            _ => panic!("no type: {line:?}"),
        };
        let key = words.next().unwrap_or_else(|| panic!("no key: {line:?}"));
        keys.push(Inert { key, default: words.next().unwrap_or_default(), expected, accepts, why });
    }
    keys
}

/// Settings that are set though they change nothing yet or ever, and where every value that is set comes from.
#[derive(Clone, Debug, Default)]
pub struct Extra {
    /// Keys without effect that are set.
    pub inert: BTreeMap<&'static str, String>,
    /// Values that were changed while running and count after a restart.
    pub pending: BTreeMap<&'static str, String>,
    pub sources: BTreeMap<&'static str, Source>,
}

/// One row as it is shown: key, value, and where the value comes from (`None`: the default).
pub type Shown<'a> = (&'static str, String, Option<&'a Source>);

/// A table of keys; made by [`config!`](crate::config!).
pub trait Table: Clone + Default {
    /// Sets a key that has an effect. `None` where the table has no such key, else what was expected.
    fn set_field(&mut self, key: &str, value: &str) -> Option<Result<&'static str, String>>;
    /// Every key with an effect and its value in force.
    fn fields(&self) -> Vec<(&'static str, String)>;
    fn extra(&self) -> &Extra;
    fn extra_mut(&mut self) -> &mut Extra;
    /// Every key with an effect, in the order of [`Table::fields`].
    fn rows() -> Vec<Row>;
    /// Keys without effect.
    fn inert() -> &'static [Inert];
    /// Historic spellings and the keys that they mean.
    fn aliases() -> &'static [(&'static str, &'static str)];

    /// Sets a key and notes where its value comes from.
    fn set_from(&mut self, key: &str, value: &str, source: Source) -> Result<(), ConfigError> {
        let name = current_spelling::<Self>(key);
        if let Some(set) = self.set_field(name, value) {
            let name = set.map_err(|expected| bad_value(key, value, expected))?;
            self.extra_mut().pending.remove(name);
            self.extra_mut().sources.insert(name, source);
            return Ok(());
        }
        let Some(inert) = find_inert::<Self>(name) else {
            return Err(ConfigError::UnknownKey { key: key.to_owned(), suggestion: nearest::<Self>(key) });
        };
        if !(inert.accepts)(value) {
            return Err(bad_value(key, value, inert.expected.to_owned()));
        }
        self.extra_mut().inert.insert(inert.key, value.to_owned());
        self.extra_mut().sources.insert(inert.key, source);
        Ok(())
    }

    /// Sets a key of a server that runs. Where the key counts at a start alone, the value in force stays in its
    /// field, and the other one is kept and shown for the next start.
    fn set(&mut self, key: &str, value: &str) -> Result<(), ConfigError> {
        let name = current_spelling::<Self>(key);
        let Some(row) = Self::rows().into_iter().find(|row| row.key == name && row.effect == Effect::Restart) else {
            return self.set_from(key, value, Source::Runtime);
        };
        let mut checked = self.clone();
        if let Some(Err(expected)) = checked.set_field(name, value) {
            return Err(bad_value(key, value, expected));
        }
        self.extra_mut().pending.insert(row.key, value.to_owned());
        self.extra_mut().sources.insert(row.key, Source::NextStart);
        Ok(())
    }

    /// A key's value as it is shown; `None` where there is no such key or no value.
    fn get(&self, key: &str) -> Option<String> {
        let name = current_spelling::<Self>(key);
        self.pairs().into_iter().find(|(known, ..)| *known == name).map(|(_, value, _)| value)
    }

    /// Takes the settings of a file. All that is wrong is collected, not just the first.
    fn apply(&mut self, path: &Path, entries: &[Entry]) -> Report {
        let mut report = Report::default();
        for Entry { key, value, line } in entries {
            let at = format!("{}:{line}", path.display());
            match self.set_from(key, value, Source::File { path: path.to_owned(), line: *line }) {
                Ok(()) => {}
                Err(error @ ConfigError::UnknownKey { .. }) => report.warnings.push(format!("{at}: {error}")),
                Err(error) => report.errors.push(format!("{at}: {error}")),
            }
        }
        let mut notes = Vec::new();
        for (key, value) in &self.extra().inert {
            if let (Some(Source::File { line, .. }), Some(inert)) = (self.extra().sources.get(key), find_inert::<Self>(key))
                && !value.eq_ignore_ascii_case(inert.default)
            {
                notes.push((*line, format!("{key}={value} (line {line}: {})", inert.why)));
            }
        }
        notes.sort();
        report.without_effect = notes.into_iter().map(|(_, note)| note).collect();
        report
    }

    /// All keys that have a value, in their order.
    fn pairs(&self) -> Vec<Shown<'_>> {
        let Extra { inert, pending, sources } = self.extra();
        let mut all: BTreeMap<&'static str, String> =
            Self::inert().iter().filter(|key| !key.default.is_empty()).map(|key| (key.key, key.default.to_owned())).collect();
        all.extend(self.fields());
        all.extend(inert.iter().chain(pending).map(|(key, value)| (*key, value.clone())));
        all.into_iter().map(|(key, value)| (key, value, sources.get(key))).collect()
    }
}

fn bad_value(key: &str, value: &str, expected: String) -> ConfigError {
    ConfigError::BadValue { key: key.to_owned(), value: value.to_owned(), expected }
}

fn current_spelling<T: Table>(key: &str) -> &str {
    T::aliases().iter().find(|(old, _)| *old == key).map_or(key, |(_, current)| current)
}

fn find_inert<T: Table>(key: &str) -> Option<&'static Inert> {
    T::inert().iter().find(|inert| inert.key == key)
}

/// The known key that is nearest to one that is not, where one is near at all.
fn nearest<T: Table>(key: &str) -> Option<String> {
    let known = T::rows().into_iter().map(|row| row.key).chain(T::inert().iter().map(|inert| inert.key));
    let (distance, found) = known.map(|k| (strsim::damerau_levenshtein(&k.to_lowercase(), &key.to_lowercase()), k)).min()?;
    (distance <= 2 + key.len() / 6).then(|| found.to_owned())
}

/// Defines a struct of settings. `inert` names the lists of keys without effect ([`inert_keys`]). A row is `Live field: Type = "javaKey", default;`, with an optional range `in 1..`
/// before the semicolon; `Restart` instead of `Live` where a running server does not take a change.
#[macro_export]
macro_rules! config {
    (@range) => { .. };
    (@range $range:expr) => { $range };
    (
        $(#[$doc:meta])*
        pub struct $name:ident;
        inert $inert:expr;
        aliases $aliases:expr;
        $(
            $(#[doc = $row:literal])*
            $effect:ident $field:ident: $type:ty = $key:literal, $default:expr $(, in $range:expr)?;
        )*
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
                match key {
                    $( $key => Some(
                        $crate::config::parse::<$type>(value, &($crate::config!(@range $($range)?)))
                            .map(|parsed| { self.$field = parsed; $key }),
                    ), )*
                    _ => None,
                }
            }
            fn fields(&self) -> Vec<(&'static str, String)> {
                vec![ $( ($key, $crate::config::Value::text(&self.$field)), )* ]
            }
            fn extra(&self) -> &$crate::config::Extra {
                &self.extra
            }
            fn extra_mut(&mut self) -> &mut $crate::config::Extra {
                &mut self.extra
            }
            fn rows() -> Vec<$crate::config::Row> {
                vec![ $( $crate::config::Row {
                    key: $key,
                    expected: $crate::config::expected::<$type>(&($crate::config!(@range $($range)?))),
                    effect: $crate::config::Effect::$effect,
                    doc: concat!($($row, )*).trim_ascii_start(),
                }, )* ]
            }
            fn inert() -> &'static [$crate::config::Inert] {
                static INERT: std::sync::LazyLock<Vec<$crate::config::Inert>> =
                    std::sync::LazyLock::new(|| $crate::config::inert_keys(&$inert));
                &INERT
            }
            fn aliases() -> &'static [(&'static str, &'static str)] {
                $aliases
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    config! {
        /// A small table.
        pub struct Small;
        inert ["# Dead keys.\n\nit is dead\n  int   deadKey 3\n  text  deadName\n  float deadRatio 0.5"];
        aliases &[("oldPort", "listenPort"), ("oldDeadKey", "deadKey")];
        /// The port.
        Restart listen_port: i32 = "listenPort", 10911, in 1..=65535;
        /// The flag.
        Live flag: bool = "flagEnable", false;
        /// The name.
        Restart name: String = "brokerName", String::new();
        /// The period.
        Live period: i64 = "period", 5, in 1..;
    }

    fn apply(text: &str) -> (Small, Report) {
        let mut table = Small::default();
        let report = table.apply(Path::new("broker.conf"), &crate::properties::parse(text.as_bytes()).unwrap());
        (table, report)
    }

    fn shown(table: &Small, key: &str) -> (String, Option<String>) {
        let (_, value, source) = table.pairs().into_iter().find(|(k, ..)| *k == key).unwrap();
        (value, source.map(ToString::to_string))
    }

    #[test]
    fn files_are_taken_with_everything_that_is_wrong() {
        let (table, report) = apply(
            "oldPort=7\nflagEnable=TRUE\nbrokerNam=x\nlistenPort=abc\nlistenPort=70000\nzzzzzzzz=1\ndeadKey=x\nperiod=0\n\
             flagEnable=yes\nlistenPort=",
        );
        assert_eq!((table.listen_port, table.flag), (7, true));
        assert_eq!(
            report.warnings,
            ["broker.conf:3: unknown key \"brokerNam\", did you mean \"brokerName\"?", "broker.conf:6: unknown key \"zzzzzzzz\""]
        );
        assert_eq!(
            report.errors,
            [
                "broker.conf:4: listenPort=abc: expected an integer between 1 and 65535",
                "broker.conf:5: listenPort=70000: expected an integer between 1 and 65535",
                "broker.conf:7: deadKey=x: expected an integer",
                "broker.conf:8: period=0: expected an integer of at least 1",
                "broker.conf:9: flagEnable=yes: expected true or false",
                "broker.conf:10: listenPort=: expected an integer between 1 and 65535",
            ]
        );
        assert_eq!(shown(&table, "flagEnable"), ("true".into(), Some("broker.conf:2".into())));
        assert_eq!(shown(&table, "period"), ("5".into(), None));
    }

    #[test]
    fn keys_without_effect_are_kept_shown_and_noted_once() {
        let (table, report) = apply("oldDeadKey=9\ndeadRatio=0.5\ndeadName=x\ndeadKey=4");
        assert_eq!((report.errors, report.warnings), (vec![], vec![]));
        assert_eq!(report.without_effect, ["deadName=x (line 3: it is dead)", "deadKey=4 (line 4: it is dead)"]);
        assert_eq!(table.get("oldDeadKey").as_deref(), Some("4"));
        assert_eq!(Small::default().get("deadKey").as_deref(), Some("3"));
        assert_eq!(Small::default().get("deadName"), None);
    }

    #[test]
    fn a_running_server_keeps_what_it_started_with() {
        let (mut table, _) = apply("listenPort=7");
        table.set("flagEnable", "true").unwrap();
        table.set("oldPort", "8").unwrap();
        assert_eq!((table.flag, table.listen_port), (true, 7));
        assert_eq!(shown(&table, "listenPort"), ("8".into(), Some("changed while running, in force after a restart".into())));
        assert_eq!(shown(&table, "flagEnable").1.as_deref(), Some("changed while running"));
        let refused = table.set("listenPort", "0").unwrap_err().to_string();
        assert_eq!(refused, "listenPort=0: expected an integer between 1 and 65535");
        assert!(matches!(table.set("nothing", "0"), Err(ConfigError::UnknownKey { suggestion: None, .. })));
        table.set_from("listenPort", "9", Source::Option("-p")).unwrap();
        assert_eq!(table.get("listenPort").as_deref(), Some("9"));
    }

    #[test]
    fn rows_say_what_they_take() {
        let rows = Small::rows();
        assert_eq!((rows[0].key, rows[0].doc, rows[0].effect), ("listenPort", "The port.", Effect::Restart));
        assert_eq!(rows[3].expected, "an integer of at least 1");
        assert_eq!(rows[2].expected, "text");
    }
}
