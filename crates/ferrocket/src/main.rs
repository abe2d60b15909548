//! `ferrocket`: name server, broker and tools in one binary. Here the cores meet sockets, files and signals.

#[macro_use]
mod say;

mod boot;
mod broker_process;
mod ha;
mod logging;
mod migrate;
mod namesrv_process;
mod reach;
mod registration;
mod rejoin;
mod server;
mod shutdown;
mod slave;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// RocketMQ's name server, broker and tools in one small binary.
#[derive(Parser)]
#[command(name = "ferrocket", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start a whole system in one process: name server and broker, without any configuration.
    Server(server::Options),
    /// Start a name server (mqnamesrv).
    Namesrv(ProcessOptions),
    /// Start a broker (mqbroker).
    Broker(ProcessOptions),
    /// Stop the name servers or brokers that run on this machine (mqshutdown).
    Shutdown(shutdown::Options),
    /// Look after a system: mqadmin's commands (`ferrocket admin help` lists them).
    #[command(disable_help_flag = true)]
    Admin {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<std::ffi::OsString>,
    },
    /// Have a Ferrocket slave take the place of the Java broker that it copies, while clients run.
    Migrate(migrate::Options),
    /// Measure a broker, this project's or Java's, under load.
    Bench(bench::Args),
    /// Print completions for a shell, to be put where the shell looks for them.
    Completions { shell: clap_complete::Shell },
}

/// The options of Java's start scripts.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  ferrocket namesrv
  ferrocket broker -n 10.0.0.1:9876;10.0.0.2:9876 -c conf/broker.conf
  ferrocket broker -c conf/broker.conf -p")]
struct ProcessOptions {
    /// Name servers, separated by `;`.
    #[arg(short = 'n', long = "namesrvAddr", value_name = "HOST:PORT;...")]
    namesrv_addr: Option<String>,
    /// Configuration file: key=value lines, as Java reads them.
    #[arg(short = 'c', long = "configFile", value_name = "FILE")]
    config_file: Option<PathBuf>,
    /// Print the configuration in force and where each value comes from, and exit.
    #[arg(short = 'p', long = "printConfigItem")]
    print_config: bool,
    /// Print the settings that are not at their default, and exit.
    #[arg(short = 'm', long = "printImportantConfig")]
    print_important: bool,
}

fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    // mqadmin's commands have options of their own, in Java's style.
    if arguments.nth(1).is_some_and(|a| a == "admin") {
        return admin(arguments.collect());
    }
    let cli = Cli::parse();
    let code = match cli.command {
        Command::Server(options) => server::run(&options),
        Command::Namesrv(options) => namesrv_process::run(&options),
        Command::Broker(options) => broker_process::run(&options),
        Command::Shutdown(options) => Ok(shutdown::run(&options)),
        Command::Migrate(options) => migrate::run(&options),
        Command::Bench(arguments) => bench::run(&arguments).map(|()| 0),
        Command::Admin { arguments } => return admin(arguments),
        Command::Completions { shell } => {
            let mut completions = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "ferrocket", &mut completions);
            say!("{}", String::from_utf8_lossy(&completions));
            Ok(0)
        }
    };
    match code {
        Ok(code) => ExitCode::from(code as u8),
        Err(error) => {
            complain!("ferrocket: {error:#}");
            ExitCode::from(error.downcast_ref::<boot::Exit>().map_or(1, |exit| exit.code as u8))
        }
    }
}

fn admin(arguments: Vec<std::ffi::OsString>) -> ExitCode {
    match boot::runtime() {
        Ok(runtime) => ExitCode::from(runtime.block_on(admin::run(arguments)) as u8),
        Err(error) => {
            complain!("ferrocket: {error:#}");
            ExitCode::FAILURE
        }
    }
}
