//! A command's row, and what turns rows and a command line into a [`Call`].

use std::ffi::OsString;
use std::future::Future;
use std::io::Write;
use std::pin::Pin;
use std::str::FromStr;

use clap::{Arg, ArgAction, ArgGroup, ArgMatches};
use jiff::tz::TimeZone;
use net::client::Pool;

use crate::ops::{Access, BROKER_PORT, Error, namesrv_list, with_port};

/// Where a name server is looked for when neither `-n` nor NAMESRV_ADDR names one: where `ferrocket server` listens.
pub const DEFAULT_NAMESRV: &str = "127.0.0.1:9876";

/// What follows an option.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    Nothing,
    /// A value that does not begin with `-`, unless it is a number.
    Value,
    /// Any text.
    Text,
}

/// An option under Java's letter and long name.
pub struct Opt {
    pub short: Option<char>,
    pub long: &'static str,
    pub takes: Takes,
    pub required: bool,
    pub help: &'static str,
}

/// Whether the options `brokerAddr` and `clusterName` of a command belong together.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The command has neither, or is fine with neither.
    Free,
    /// One of the two.
    One,
    /// One or both; the broker's address wins.
    Any,
}

pub type Running = Pin<Box<dyn Future<Output = Result<(), Error>>>>;

/// One command of mqadmin.
pub struct Row {
    pub name: &'static str,
    pub about: &'static str,
    /// What the help says below the options: notes and examples.
    pub details: &'static str,
    pub options: &'static [Opt],
    pub target: Target,
    /// Whether it lists something, which `--json` gives in another form.
    pub json: bool,
    pub run: fn(Call) -> Running,
}

pub const fn value(short: char, long: &'static str, help: &'static str) -> Opt {
    Opt { short: Some(short), long, takes: Takes::Value, required: false, help }
}

pub const fn required(short: char, long: &'static str, help: &'static str) -> Opt {
    Opt { short: Some(short), long, takes: Takes::Value, required: true, help }
}

pub const fn text(short: char, long: &'static str, help: &'static str) -> Opt {
    Opt { short: Some(short), long, takes: Takes::Text, required: false, help }
}

pub const fn required_text(short: char, long: &'static str, help: &'static str) -> Opt {
    Opt { short: Some(short), long, takes: Takes::Text, required: true, help }
}

pub const fn flag(short: char, long: &'static str, help: &'static str) -> Opt {
    Opt { short: Some(short), long, takes: Takes::Nothing, required: false, help }
}

const NAMESRV_HELP: &str =
    "Name servers, tried in order; a port that is missing is 9876 [env: NAMESRV_ADDR] [default: 127.0.0.1:9876]";

/// Arguments that no option takes: Java passes over them, so does this, aloud.
const STRAY: &str = "stray";

impl Row {
    pub fn command(&self) -> clap::Command {
        let mut command = clap::Command::new(self.name)
            .about(self.about)
            .after_help(self.details)
            .infer_long_args(true)
            .arg(Arg::new("namesrvAddr").short('n').long("namesrvAddr").value_name("host:port;host:port").help(NAMESRV_HELP))
            .arg(Arg::new(STRAY).num_args(0..).hide(true));
        for option in self.options {
            command = command.arg(option.arg());
        }
        if self.json {
            let help = "Print JSON instead of columns";
            command = command.arg(Arg::new("json").long("json").action(ArgAction::SetTrue).help(help));
        }
        if self.target != Target::Free {
            let group = ArgGroup::new("target").args(["brokerAddr", "clusterName"]).required(true);
            command = command.group(group.multiple(self.target == Target::Any));
        }
        command
    }
}

impl Opt {
    fn arg(&self) -> Arg {
        let arg = Arg::new(self.long).long(self.long).help(self.help).required(self.required);
        let arg = match self.short {
            Some(letter) => arg.short(letter),
            None => arg,
        };
        match self.takes {
            Takes::Nothing => arg.action(ArgAction::SetTrue),
            // Of an option that is given twice, Java takes the first.
            Takes::Value => arg.action(ArgAction::Append).allow_negative_numbers(true),
            Takes::Text => arg.action(ArgAction::Append).allow_hyphen_values(true),
        }
    }
}

/// Writes `-topic x` as `--topic x`, since Java takes long names with one dash too.
pub fn double_dashes(row: &Row, arguments: &[OsString]) -> Vec<OsString> {
    let is_long = |name: &str| name == "namesrvAddr" || name == "help" || row.options.iter().any(|o| o.long == name);
    let double = |argument: &OsString| match argument.to_str().and_then(|text| text.strip_prefix('-')) {
        Some(rest) if is_long(rest.split('=').next().unwrap_or_default()) => OsString::from(format!("--{rest}")),
        _ => argument.clone(),
    };
    arguments.iter().map(double).collect()
}

/// A command that was asked for: its options, and the way to the system.
pub struct Call {
    matches: ArgMatches,
    pub access: Access,
    pub zone: TimeZone,
}

impl Call {
    /// `namesrv_env` is the value of NAMESRV_ADDR.
    pub fn new(matches: ArgMatches, namesrv_env: Option<String>) -> Result<Self, Error> {
        let given = matches.get_one::<String>("namesrvAddr").cloned();
        let text = given.or(namesrv_env).filter(|t| !t.trim().is_empty()).unwrap_or_else(|| DEFAULT_NAMESRV.to_owned());
        let namesrvs = namesrv_list(&text);
        if namesrvs.is_empty() {
            let expected = "a list of name servers, `host:port` joined by `;`".to_owned();
            return Err(Error::Value { option: "namesrvAddr", value: text, expected });
        }
        Ok(Self { matches, access: Access { pool: Pool::default(), namesrvs }, zone: TimeZone::system() })
    }

    pub fn stray(&self) -> impl Iterator<Item = &String> {
        self.matches.get_many::<String>(STRAY).into_iter().flatten()
    }

    /// Whether `-n` was given.
    pub fn has_namesrv(&self) -> bool {
        self.matches.contains_id("namesrvAddr")
    }

    /// An option's value without the blanks around it.
    pub fn value(&self, long: &str) -> Option<&str> {
        self.matches.get_many::<String>(long)?.next().map(|text| text.trim())
    }

    /// The value of an option that the row requires.
    pub fn required(&self, long: &'static str) -> Result<&str, Error> {
        self.value(long).filter(|text| !text.is_empty()).ok_or_else(|| Error::Usage(format!("--{long} needs a value")))
    }

    /// A number, where the option is given.
    pub fn number<T: FromStr>(&self, long: &'static str) -> Result<Option<T>, Error> {
        let Some(text) = self.value(long) else { return Ok(None) };
        let wrong = || Error::Value { option: long, value: text.to_owned(), expected: "a number in range".to_owned() };
        text.parse().map(Some).map_err(|_| wrong())
    }

    /// `true` or `false`; Java takes everything else for false, here it is refused.
    pub fn truth(&self, long: &'static str) -> Result<Option<bool>, Error> {
        match self.value(long) {
            None => Ok(None),
            Some(text) if text.eq_ignore_ascii_case("true") => Ok(Some(true)),
            Some(text) if text.eq_ignore_ascii_case("false") => Ok(Some(false)),
            Some(text) => Err(Error::Value { option: long, value: text.to_owned(), expected: "`true` or `false`".to_owned() }),
        }
    }

    pub fn flag(&self, long: &str) -> bool {
        self.matches.get_flag(long)
    }

    /// The broker's address, with a port.
    pub fn broker(&self) -> Option<String> {
        self.value("brokerAddr").map(|address| with_port(address, BROKER_PORT))
    }

    pub fn json(&self) -> bool {
        self.matches.get_flag("json")
    }

    pub fn print(&self, text: &str) -> Result<(), Error> {
        let mut out = std::io::stdout().lock();
        let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        written.map_err(|reason| Error::Write { what: "the output".to_owned(), reason })
    }

    /// Prints one JSON value over several lines.
    pub fn print_json(&self, value: &impl serde::Serialize) -> Result<(), Error> {
        let text = serde_json::to_string_pretty(value);
        let text = text.map_err(|e| Error::Write { what: "the output as JSON".to_owned(), reason: e.into() })?;
        self.print(&(text + "\n"))
    }
}

/// All went well, or what went wrong.
pub fn settle(mut failures: Vec<Error>) -> Result<(), Error> {
    match failures.len() {
        0 => Ok(()),
        1 => Err(failures.remove(0)),
        _ => Err(Error::Several(failures)),
    }
}
