//! mqadmin's commands. `manual.txt` gives the parser, the help and the completions, a table here what is run.
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
//! - `getSyncStateSet` asks masters and slaves instead of a controller;
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
use std::pin::Pin;

use clap::ArgMatches;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::ops::Error;
use crate::ops::broker::Cleaning;
use namesrv::Change;
use table::{Call, double_dashes};

/// Names, options, help: what the parser, the completions and [`list`] are made of.
const MANUAL: &str = include_str!("manual.txt");

type Run = fn(Call) -> Pin<Box<dyn Future<Output = Result<(), Error>>>>;

/// What runs a command, in the order in which Java lists them.
static JAVA: [(&str, Run); 48] = [
    ("updateTopic", |call| Box::pin(topic::update_topic(call))),
    ("deleteTopic", |call| Box::pin(topic::delete_topic(call))),
    ("updateSubGroup", |call| Box::pin(group::update_sub_group(call))),
    ("setConsumeMode", |call| Box::pin(consumer::set_consume_mode(call))),
    ("deleteSubGroup", |call| Box::pin(group::delete_sub_group(call))),
    ("updateBrokerConfig", |call| Box::pin(broker::update_broker_config(call))),
    ("updateTopicPerm", |call| Box::pin(order::update_topic_perm(call))),
    ("topicRoute", |call| Box::pin(topic::topic_route(call))),
    ("topicStatus", |call| Box::pin(topic::topic_status(call))),
    ("topicClusterList", |call| Box::pin(topic::topic_cluster_list(call))),
    ("brokerStatus", |call| Box::pin(broker::broker_status(call))),
    ("queryMsgById", |call| Box::pin(message::query_by_id(call))),
    ("queryMsgByKey", |call| Box::pin(query::query_by_key(call))),
    ("queryMsgByUniqueKey", |call| Box::pin(query::query_by_unique_key(call))),
    ("queryMsgByOffset", |call| Box::pin(message::query_by_offset(call))),
    ("queryMsgTraceById", |call| Box::pin(trace::query_msg_trace_by_id(call))),
    ("printMsg", |call| Box::pin(message::print_msg(call))),
    ("sendMsgStatus", |call| Box::pin(timing::send_msg_status(call))),
    ("brokerConsumeStats", |call| Box::pin(stats::broker_consume_stats(call))),
    ("producerConnection", |call| Box::pin(group::producer_connection(call))),
    ("consumerConnection", |call| Box::pin(group::consumer_connection(call))),
    ("consumerProgress", |call| Box::pin(group::consumer_progress(call))),
    ("consumerStatus", |call| Box::pin(consumer::consumer_status(call))),
    ("cloneGroupOffset", |call| Box::pin(offset::clone_group_offset(call))),
    ("clusterList", |call| Box::pin(cluster::cluster_list(call))),
    ("topicList", |call| Box::pin(topic::topic_list(call))),
    ("updateKvConfig", |call| Box::pin(namesrv::update_kv_config(call))),
    ("deleteKvConfig", |call| Box::pin(namesrv::delete_kv_config(call))),
    ("wipeWritePerm", |call| Box::pin(namesrv::change_write_perm(call, Change::Wipe))),
    ("addWritePerm", |call| Box::pin(namesrv::change_write_perm(call, Change::Add))),
    ("resetOffsetByTime", |call| Box::pin(offset::reset_offset_by_time(call))),
    ("skipAccumulatedMessage", |call| Box::pin(offset::skip_accumulated_message(call))),
    ("updateOrderConf", |call| Box::pin(order::update_order_conf(call))),
    ("cleanExpiredCQ", |call| Box::pin(clean::clean(call, Cleaning::Queues))),
    ("deleteExpiredCommitLog", |call| Box::pin(clean::clean(call, Cleaning::Log))),
    ("cleanUnusedTopic", |call| Box::pin(clean::clean(call, Cleaning::Topics))),
    ("startMonitoring", |call| Box::pin(consumer::start_monitoring(call))),
    ("statsAll", |call| Box::pin(stats::stats_all(call))),
    ("allocateMQ", |call| Box::pin(order::allocate_mq(call))),
    ("checkMsgSendRT", |call| Box::pin(timing::check_msg_send_rt(call))),
    ("getNamesrvConfig", |call| Box::pin(namesrv::get_namesrv_config(call))),
    ("updateNamesrvConfig", |call| Box::pin(namesrv::update_namesrv_config(call))),
    ("getBrokerConfig", |call| Box::pin(broker::get_broker_config(call))),
    ("queryCq", |call| Box::pin(stats::query_cq(call))),
    ("sendMessage", |call| Box::pin(message::send_message(call))),
    ("consumeMessage", |call| Box::pin(message::consume_message(call))),
    ("haStatus", |call| Box::pin(ha::ha_status(call))),
    ("getSyncStateSet", |call| Box::pin(ha::get_sync_state_set(call))),
];

/// What Java has no command for.
static OWN: [(&str, Run); 5] = [
    ("getTopicConfig", |call| Box::pin(order::get_topic_config(call))),
    ("transactions", |call| Box::pin(transaction::transactions(call))),
    ("endTransaction", |call| Box::pin(transaction::end_transaction(call))),
    ("storeCheck", |call| Box::pin(store::store_check(call))),
    ("promoteSlave", |call| Box::pin(ha::promote_slave(call))),
];

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
    command.subcommands(table::commands(MANUAL))
}

/// Runs one command; `arguments` begin with its name. Prints to stdout, errors to stderr. Gives the exit code: 0;
/// 1 where the command is not known, not well formed, or failed; 2 where a store can't be read.
pub async fn run(arguments: Vec<OsString>) -> i32 {
    if arguments.is_empty() {
        return ended(print_list());
    }
    let matches = match parse(&arguments) {
        Ok(matches) => matches,
        Err(error) => return refused(&error),
    };
    let Some((name, options)) = matches.subcommand() else { return 1 };
    let Some((_, run)) = JAVA.iter().chain(&OWN).find(|(one, _)| *one == name) else { return 1 };
    let call = match Call::new(options.clone(), std::env::var("NAMESRV_ADDR").ok()) {
        Ok(call) => call,
        Err(error) => return ended(Err(error)),
    };
    for stray in call.stray() {
        eprintln!("{stray:?} belongs to no option of {name} and is passed over (a value with blanks needs quotes)");
    }
    ended(run(call).await)
}

fn parse(arguments: &[OsString]) -> Result<ArgMatches, clap::Error> {
    let command = command().no_binary_name(true);
    let arguments = normalised(&command, arguments);
    command.try_get_matches_from(arguments)
}

/// The command line with the command's name in the manual's spelling and long names behind two dashes.
fn normalised(admin: &clap::Command, arguments: &[OsString]) -> Vec<OsString> {
    let named = |argument: &OsString| {
        let name = argument.to_str()?;
        admin.get_subcommands().find(|command| command.get_name().eq_ignore_ascii_case(name))
    };
    let spelt = |argument: &OsString| named(argument).map_or(argument.clone(), |command| command.get_name().into());
    match arguments {
        [help, of @ ..] if help == "help" => [help.clone()].into_iter().chain(of.first().map(spelt)).collect(),
        [name, options @ ..] if let Some(command) = named(name) => {
            [spelt(name)].into_iter().chain(double_dashes(command, options)).collect()
        }
        _ => arguments.to_vec(),
    }
}

/// Java's list of commands, which `mqadmin` without arguments gives, and those that Java does not have.
fn list() -> String {
    let admin = command();
    let row = |(name, _): &(&str, Run)| {
        let about = admin.find_subcommand(name).and_then(clap::Command::get_about).map(ToString::to_string);
        format!("   {name:<35} {}\n", about.unwrap_or_default())
    };
    "The most commonly used mqadmin commands are:\n".to_owned()
        + &JAVA.iter().map(row).collect::<String>()
        + "\nFerrocket's own commands are:\n"
        + &OWN.iter().map(row).collect::<String>()
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
    let printed = error.print().map_err(|reason| Error::Write { what: "the output".to_owned(), reason });
    ended(printed).max(i32::from(error.use_stderr()))
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
    fn called(line: &str) -> Result<Call, String> {
        let matches = parse(&arguments(line)).map_err(|e| e.to_string())?;
        let (_, options) = matches.subcommand().expect("a command");
        Call::new(options.clone(), Some("env:1".into())).map_err(|e| e.to_string())
    }

    #[test]
    fn the_manual_makes_a_sound_command_and_each_is_run() {
        command().debug_assert();
        let mut run: Vec<&str> = JAVA.iter().chain(&OWN).map(|(name, _)| *name).collect();
        run.sort_unstable();
        let admin = command();
        let mut named: Vec<&str> = admin.get_subcommands().map(clap::Command::get_name).collect();
        named.sort_unstable();
        assert_eq!(named, run);
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
            let call = called(line).unwrap_or_else(|e| panic!("{line}: {e}"));
            assert_eq!((call.value("topic"), call.flag("list")), (Some("Orders"), true), "{line}");
        }
        let call = called("updateTopic -c C -t T -a -key").unwrap();
        assert_eq!(call.value("attributes"), Some("-key"));
        let call = called("sendMessage -t T -p hello big world").unwrap();
        assert_eq!(call.stray().collect::<Vec<_>>(), ["big", "world"]);
        assert_eq!(called("queryMsgByOffset -t T -b b -i 0 -o -1").unwrap().number("offset").unwrap(), Some(-1));
    }

    #[test]
    fn name_servers_come_from_the_option_or_the_environment() {
        assert_eq!(called("topicList -n a;b:1").unwrap().access.namesrvs, ["a:9876", "b:1"]);
        assert_eq!(called("topicList").unwrap().access.namesrvs, ["env:1"]);
        let options = parse(&arguments("topicList")).unwrap().subcommand().unwrap().1.clone();
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
            let refused = called(line).map(|_| ()).expect_err(line);
            assert!(refused.contains(said), "{line}: {refused}");
        }
        assert!(called("updateSubGroup -g G -b a -c C").is_ok(), "both are fine where Java has no group");
    }

    #[test]
    fn numbers_and_truths_are_checked() {
        let call = called("updateTopic -c C -t T -r x -o maybe").unwrap();
        let said = call.number::<i32>("readQueueNums").unwrap_err().to_string();
        assert_eq!(said, "--readQueueNums \"x\" is not a number in range");
        assert!(call.truth("order").is_err());
        assert_eq!(called("updateTopic -c C -t T -o TRUE").unwrap().truth("order").unwrap(), Some(true));
    }

    #[test]
    fn help_is_found_under_any_spelling() {
        for line in ["help TOPICroute", "topicRoute -h", "topicRoute --help"] {
            let error = parse(&arguments(line)).unwrap_err();
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
