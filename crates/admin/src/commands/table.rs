//! What turns the manual and a command line into a [`Call`].

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Write;
use std::str::FromStr;

use clap::{Arg, ArgAction, ArgGroup, ArgMatches};
use jiff::tz::TimeZone;
use net::client::Pool;

use crate::ops::{self, Access, BROKER_PORT, Error, namesrv, namesrv_list, with_port};

/// Where a name server is looked for when neither `-n` nor NAMESRV_ADDR names one: where `ferrocket server` listens.
pub const DEFAULT_NAMESRV: &str = "127.0.0.1:9876";

const NAMESRV_HELP: &str =
    "Name servers, tried in order; a port that is missing is 9876 [env: NAMESRV_ADDR] [default: 127.0.0.1:9876]";

/// Arguments that no option takes: Java passes over them, so does this, aloud.
const STRAY: &str = "stray";

/// The commands of the manual. A section begins with `# ` and the command's name; below it are what it is for, a line an
/// option (see [`argument`]), whether `one of` or `any of` its broker and its cluster is needed, and `json` where it lists
/// something. What follows an empty line stands below the options in the help.
pub fn commands(manual: &'static str) -> impl Iterator<Item = clap::Command> {
    manual.split("\n\n# ").map(|section| command(section.trim_start_matches("# ")))
}

fn command(section: &'static str) -> clap::Command {
    let (head, details) = section.split_once("\n\n").unwrap_or((section, ""));
    let mut lines = head.lines();
    let command = clap::Command::new(lines.next().unwrap_or_default())
        .about(lines.next().unwrap_or_default())
        .after_help(details.trim_end())
        .infer_long_args(true)
        .arg(Arg::new("namesrvAddr").short('n').long("namesrvAddr").value_name("host:port;host:port").help(NAMESRV_HELP))
        .arg(Arg::new(STRAY).num_args(0..).hide(true));
    let target = || ArgGroup::new("target").args(["brokerAddr", "clusterName"]).required(true);
    lines.fold(command, |command, line| match line {
        "one of brokerAddr, clusterName" => command.group(target()),
        // The broker's address wins.
        "any of brokerAddr, clusterName" => command.group(target().multiple(true)),
        "json" => command.arg(Arg::new("json").long("json").action(ArgAction::SetTrue).help("Print JSON instead of columns")),
        option => command.arg(argument(option)),
    })
}

/// Reads `-t --topic required topic name`: an option under Java's letter, if it has one, and long name, what follows it,
/// its help. A `flag` has no value; one that is `required` or `optional` has a value that does not begin with `-`, unless
/// it is a number; with `-text` it may be any text.
fn argument(line: &'static str) -> Arg {
    let (short, line) = line.split_once("--").unwrap_or_default();
    let mut words = line.splitn(2, ' ');
    let long = words.next().unwrap_or_default();
    let (kind, help) = words.next().unwrap_or_default().trim_start().split_once(' ').unwrap_or_default();
    let arg = Arg::new(long).short(short.chars().nth(1)).long(long).help(help.trim_start());
    // Of an option that is given twice, Java takes the first.
    let value = |arg: Arg| arg.action(ArgAction::Append).required(kind.starts_with("required"));
    match kind {
        "flag" => arg.action(ArgAction::SetTrue),
        "optional-text" | "required-text" => value(arg).allow_hyphen_values(true),
        _ => value(arg).allow_negative_numbers(true),
    }
}

/// Writes `-topic x` as `--topic x`, since Java takes long names with one dash too.
pub fn double_dashes(command: &clap::Command, arguments: &[OsString]) -> Vec<OsString> {
    let is_long = |name: &str| name == "help" || command.get_arguments().any(|arg| arg.get_long() == Some(name));
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
        for taken in namesrvs.iter().filter(|taken| !text.contains(taken.as_str())) {
            eprintln!("note: a name server is given without a port: {taken} is taken");
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

    /// The value of an option that is required.
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

    /// The broker that the call names, or else the masters of its cluster.
    pub async fn masters(&self) -> Result<Vec<String>, Error> {
        match self.broker() {
            Some(address) => Ok(vec![address]),
            None => ops::masters(&namesrv::cluster_info(&self.access).await?, self.required("clusterName")?),
        }
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

    /// Prints JSON where that is asked for, else the text.
    pub fn show(&self, value: &impl serde::Serialize, text: impl FnOnce() -> String) -> Result<(), Error> {
        if self.json() { self.print_json(value) } else { self.print(&text()) }
    }

    /// Asks each, and shows what it answered: as text at once, as one JSON object at the end.
    pub async fn show_each<T: serde::Serialize>(
        &self,
        addresses: impl IntoIterator<Item = String>,
        ask: impl AsyncFn(&str) -> Result<T, Error>,
        text: impl Fn(&str, &T) -> String,
    ) -> Result<(), Error> {
        let mut all = BTreeMap::new();
        let asking = each(addresses, async |address| {
            let answer = ask(&address).await?;
            if !self.json() {
                self.print(&text(&address, &answer))?;
            }
            all.insert(address, answer);
            Ok(())
        });
        let asked = asking.await;
        if self.json() {
            self.print_json(&all)?;
        }
        asked
    }
}

/// Does the same to each; where one fails, the others come nevertheless. Output that can't be written ends it.
pub async fn each<T>(all: impl IntoIterator<Item = T>, mut job: impl AsyncFnMut(T) -> Result<(), Error>) -> Result<(), Error> {
    let mut failures = Vec::new();
    for one in all {
        match job(one).await {
            Ok(()) => {}
            Err(error @ Error::Write { .. }) => return Err(error),
            Err(error) => failures.push(error),
        }
    }
    settle(failures)
}

/// All went well, or what went wrong.
pub fn settle(mut failures: Vec<Error>) -> Result<(), Error> {
    match failures.len() {
        0 => Ok(()),
        1 => Err(failures.remove(0)),
        _ => Err(Error::Several(failures)),
    }
}
