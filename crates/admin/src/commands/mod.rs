//! mqadmin's commands: one table. A row gives the parser, the help, the completions and what is run.
//!
//! Options have Java's letters and long names; what is printed has Java's columns (RocketMQ 5.4.0). Beside Java's,
//! every listing command takes `--json`. Where this differs from Java:
//!
//! - a command that fails says why in one line on stderr and ends with 1; Java prints a stack trace and ends with 0;
//! - lists are sorted; Java prints them in the order of its hash maps;
//! - texts that Java ends without a line feed end with one;
//! - a cluster that does not exist is an error; Java says so and goes on, and deletes or creates nothing;
//! - `-h` works without the required options;
//! - `consumeMessage -c` shows that many messages where there are so many; Java counts one too many for each queue;
//! - `topicStatus` sums `Topic Put TPS` over the brokers; Java shows 0.0 unless `-c` is given;
//! - `sendMessage -b` without `-i` sends to a queue of that broker; Java passes over `-b` then;
//! - `queryMsgByKey` and `queryMsgByUniqueKey` say which broker could not be asked, and end with 1; Java shows what the
//!   others have;
//! - `queryMsgByUniqueKey` finds messages of any age, as Java's did until 5.3; 5.4.0 finds none that is older than 36
//!   hours unless `-s` and `-e` are given;
//! - `cloneGroupOffset` copies the offsets of the topic that is given alone; Java those of all topics of the group;
//! - `resetOffsetByTime -b -q` also moves to offset 0, which Java passes over; `--cplus`, which crashes Java's, is not there;
//! - `startMonitoring` prints what Java logs, begins at once, and can end (`--rounds`);
//! - `allocateMQ` shares queues in their order, as consumers do; Java's in the order of a hash set;
//! - an answer of `consumerConnection` and the like comes from the first broker that knows clients of the group; Java
//!   asks one broker by chance.

mod broker;
mod clean;
mod cluster;
mod columns;
mod consumer;
mod group;
mod ha;
mod message;
mod namesrv;
mod offset;
mod order;
mod query;
mod stats;
mod store;
mod table;
mod timing;
mod topic;
mod trace;
mod transaction;

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::ops::Error;
use table::{Call, Row, double_dashes};

/// In the order in which they are listed, which is Java's.
static ROWS: [&Row; 47] = [
    &topic::UPDATE_TOPIC,
    &topic::DELETE_TOPIC,
    &group::UPDATE_SUB_GROUP,
    &consumer::SET_CONSUME_MODE,
    &group::DELETE_SUB_GROUP,
    &broker::UPDATE_BROKER_CONFIG,
    &order::UPDATE_TOPIC_PERM,
    &topic::TOPIC_ROUTE,
    &topic::TOPIC_STATUS,
    &topic::TOPIC_CLUSTER_LIST,
    &broker::BROKER_STATUS,
    &message::QUERY_MSG_BY_ID,
    &query::QUERY_MSG_BY_KEY,
    &query::QUERY_MSG_BY_UNIQUE_KEY,
    &message::QUERY_MSG_BY_OFFSET,
    &trace::QUERY_MSG_TRACE_BY_ID,
    &message::PRINT_MSG,
    &timing::SEND_MSG_STATUS,
    &stats::BROKER_CONSUME_STATS,
    &group::PRODUCER_CONNECTION,
    &group::CONSUMER_CONNECTION,
    &group::CONSUMER_PROGRESS,
    &consumer::CONSUMER_STATUS,
    &offset::CLONE_GROUP_OFFSET,
    &cluster::CLUSTER_LIST,
    &topic::TOPIC_LIST,
    &namesrv::UPDATE_KV_CONFIG,
    &namesrv::DELETE_KV_CONFIG,
    &namesrv::WIPE_WRITE_PERM,
    &namesrv::ADD_WRITE_PERM,
    &offset::RESET_OFFSET_BY_TIME,
    &offset::SKIP_ACCUMULATED_MESSAGE,
    &order::UPDATE_ORDER_CONF,
    &clean::CLEAN_EXPIRED_CQ,
    &clean::DELETE_EXPIRED_COMMIT_LOG,
    &clean::CLEAN_UNUSED_TOPIC,
    &consumer::START_MONITORING,
    &stats::STATS_ALL,
    &order::ALLOCATE_MQ,
    &timing::CHECK_MSG_SEND_RT,
    &namesrv::GET_NAMESRV_CONFIG,
    &namesrv::UPDATE_NAMESRV_CONFIG,
    &broker::GET_BROKER_CONFIG,
    &stats::QUERY_CQ,
    &message::SEND_MESSAGE,
    &message::CONSUME_MESSAGE,
    &ha::HA_STATUS,
];

/// What Java has no command for.
static OWN_ROWS: [&Row; 5] = [
    &order::GET_TOPIC_CONFIG,
    &transaction::TRANSACTIONS,
    &transaction::END_TRANSACTION,
    &store::STORE_CHECK,
    &ha::PROMOTE_SLAVE,
];

fn all_rows() -> impl Iterator<Item = &'static Row> {
    ROWS.into_iter().chain(OWN_ROWS)
}

const EXAMPLES: &str = "\
Examples:
  ferrocket admin clusterList
  ferrocket admin updateTopic -c DefaultCluster -t Orders
  ferrocket admin sendMessage -t Orders -p hello
  ferrocket admin consumeMessage -t Orders
  ferrocket admin topicList -n 'ns1:9876;ns2:9876' --json";

/// The commands as a clap command called `admin`, for help and completions.
pub fn command() -> clap::Command {
    let command = clap::Command::new("admin")
        .about("mqadmin's commands: topics, groups, messages, brokers and name servers")
        .bin_name("ferrocket admin")
        .subcommand_required(true)
        .after_help(EXAMPLES);
    all_rows().fold(command, |command, row| command.subcommand(row.command()))
}

/// Runs one command; `arguments` begin with its name. Prints to stdout, errors to stderr. Gives the exit code: 0;
/// 1 where the command is not known, not well formed, or failed; 2 where a store can't be read.
pub async fn run(arguments: Vec<OsString>) -> i32 {
    if arguments.is_empty() {
        return ended(print_list());
    }
    let matches = match command().no_binary_name(true).try_get_matches_from(normalised(&arguments)) {
        Ok(matches) => matches,
        Err(error) => return refused(&error),
    };
    let Some((name, options)) = matches.subcommand() else { return 1 };
    let Some(row) = find(name) else { return 1 };
    let call = match Call::new(options.clone(), std::env::var("NAMESRV_ADDR").ok()) {
        Ok(call) => call,
        Err(error) => return ended(Err(error)),
    };
    for stray in call.stray() {
        eprintln!("{stray:?} belongs to no option of {name} and is passed over (a value with blanks needs quotes)");
    }
    ended((row.run)(call).await)
}

fn find(name: &str) -> Option<&'static Row> {
    all_rows().find(|row| row.name.eq_ignore_ascii_case(name))
}

/// The command line with the command's name in the table's spelling and long names behind two dashes.
fn normalised(arguments: &[OsString]) -> Vec<OsString> {
    let named = |argument: Option<&OsString>| argument.and_then(|a| a.to_str()).and_then(find);
    if arguments.first().is_some_and(|a| a == "help") {
        let topic = named(arguments.get(1)).map(|row| OsString::from(row.name));
        let rest = topic.into_iter().chain(arguments.get(1).filter(|a| a.to_str().and_then(find).is_none()).cloned());
        return std::iter::once(OsString::from("help")).chain(rest).collect();
    }
    let Some(row) = named(arguments.first()) else { return arguments.to_vec() };
    std::iter::once(OsString::from(row.name)).chain(double_dashes(row, &arguments[1..])).collect()
}

/// Java's list of commands, which `mqadmin` without arguments gives, and those that Java does not have.
fn list() -> String {
    let rows = |rows: &[&Row]| rows.iter().map(|row| format!("   {:<35} {}\n", row.name, row.about)).collect::<String>();
    let own = format!("\nFerrocket's own commands are:\n{}", rows(&OWN_ROWS));
    "The most commonly used mqadmin commands are:\n".to_owned()
        + &rows(&ROWS)
        + &own
        + "\nSee 'mqadmin help <command>' for more information on a specific command.\n"
}

fn print_list() -> Result<(), Error> {
    use std::io::Write;
    let written = std::io::stdout().lock().write_all(list().as_bytes());
    written.map_err(|reason| Error::Write { what: "the output".to_owned(), reason })
}

/// Shows what clap has to say: help on stdout with 0, everything else on stderr with 1.
fn refused(error: &clap::Error) -> i32 {
    if error.kind() == ErrorKind::InvalidSubcommand {
        let text = |kind| match error.get(kind) {
            Some(ContextValue::String(one)) => Some(one.clone()),
            // The likeliest stands last.
            Some(ContextValue::Strings(several)) => several.last().cloned(),
            _ => None,
        };
        eprintln!("The sub command {} not exist.", text(ContextKind::InvalidSubcommand).unwrap_or_default());
        match text(ContextKind::SuggestedSubcommand) {
            Some(nearest) => eprintln!("Did you mean {nearest}?"),
            None => eprintln!("`ferrocket admin` lists the commands."),
        }
        return 1;
    }
    if let Err(reason) = error.print() {
        eprintln!("{reason}");
        return 1;
    }
    i32::from(error.use_stderr())
}

/// Shows an error. Whoever stopped reading the output knows that it ends early.
fn ended(result: Result<(), Error>) -> i32 {
    match result {
        Ok(()) => 0,
        Err(Error::Write { reason, .. }) if reason.kind() == std::io::ErrorKind::BrokenPipe => 0,
        Err(error) => {
            eprintln!("{error}");
            if matches!(error, Error::Unreadable(_)) { 2 } else { 1 }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::columns::golden;

    fn arguments(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    /// The call that a command line makes, with NAMESRV_ADDR set to `env:1`.
    fn parse(line: &str) -> Result<Call, String> {
        let matches = command().no_binary_name(true).try_get_matches_from(normalised(&arguments(line)));
        let matches = matches.map_err(|e| e.to_string())?;
        let (_, options) = matches.subcommand().expect("a command");
        Call::new(options.clone(), Some("env:1".into())).map_err(|e| e.to_string())
    }

    #[test]
    fn the_rows_make_a_sound_command() {
        command().debug_assert();
    }

    #[test]
    fn the_list_is_javas_as_far_as_it_goes() {
        let recorded = golden::stdout("no-arguments");
        let mut java = recorded.lines();
        let own = list().find("\nFerrocket's own commands").unwrap();
        for line in list()[..own].lines() {
            assert!(java.any(|one| one == line), "{line:?} is not in Java's list, or in another place");
        }
    }

    #[test]
    fn options_are_written_as_in_java() {
        for line in [
            "topicRoute -t Orders -l",
            "TOPICROUTE --topic Orders --list",
            "topicroute --topic=Orders -l",
            "topicRoute -tOrders -l",
            "topicRoute --top Orders -l",
            "topicRoute -topic Orders -list",
            "topicRoute -topic=Orders -l",
            "topicRoute -t Orders -t Second -l",
            "topicRoute -n a -t Orders -l",
        ] {
            let call = parse(line).unwrap_or_else(|e| panic!("{line}: {e}"));
            assert_eq!((call.value("topic"), call.flag("list")), (Some("Orders"), true), "{line}");
        }
        let call = parse("updateTopic -c C -t T -a -key").unwrap();
        assert_eq!(call.value("attributes"), Some("-key"));
        let call = parse("sendMessage -t T -p hello big world").unwrap();
        assert_eq!(call.stray().collect::<Vec<_>>(), ["big", "world"]);
        assert_eq!(parse("queryMsgByOffset -t T -b b -i 0 -o -1").unwrap().number("offset").unwrap(), Some(-1));
    }

    #[test]
    fn name_servers_come_from_the_option_or_the_environment() {
        assert_eq!(parse("topicList -n a;b:1").unwrap().access.namesrvs, ["a:9876", "b:1"]);
        assert_eq!(parse("topicList").unwrap().access.namesrvs, ["env:1"]);
        let matches = command().no_binary_name(true).try_get_matches_from(["topicList"]).unwrap();
        let options = matches.subcommand().unwrap().1.clone();
        assert_eq!(Call::new(options, None).unwrap().access.namesrvs, [table::DEFAULT_NAMESRV]);
    }

    #[test]
    fn command_lines_that_java_refuses_are_refused() {
        for (line, said) in [
            ("updateTopic -c C", "--topic"),
            ("updateTopic -t X", "--brokerAddr"),
            ("updateTopic -c C -b x -t X", "cannot be used with"),
            ("updateTopic -c C -t X -z", "'-z'"),
            ("topicRoute -t", "a value is required"),
            ("updateBrokerConfig -k a -v b", "--clusterName"),
        ] {
            let refused = parse(line).map(|_| ()).expect_err(line);
            assert!(refused.contains(said), "{line}: {refused}");
        }
        assert!(parse("updateSubGroup -g G -b a -c C").is_ok(), "both are fine where Java has no group");
    }

    #[test]
    fn numbers_and_truths_are_checked() {
        let call = parse("updateTopic -c C -t T -r x -o maybe").unwrap();
        let said = call.number::<i32>("readQueueNums").unwrap_err().to_string();
        assert_eq!(said, "--readQueueNums \"x\" is not a number in range");
        assert!(call.truth("order").is_err());
        assert_eq!(parse("updateTopic -c C -t T -o TRUE").unwrap().truth("order").unwrap(), Some(true));
    }

    #[test]
    fn help_is_found_under_any_spelling() {
        for line in ["help TOPICroute", "topicRoute -h", "topicRoute --help"] {
            let error = command().no_binary_name(true).try_get_matches_from(normalised(&arguments(line))).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::DisplayHelp, "{line}");
            assert!(error.to_string().contains("ferrocket admin topicRoute -t Orders"), "{line}: {error}");
        }
    }

    #[tokio::test]
    async fn failures_have_an_exit_code() {
        assert_eq!(run(Vec::new()).await, 0);
        assert_eq!(run(arguments("frobnicate")).await, 1);
        assert_eq!(run(arguments("topicRoute")).await, 1);
        // Nothing listens on port 1.
        assert_eq!(run(arguments("topicList -n 127.0.0.1:1")).await, 1);
    }
}
