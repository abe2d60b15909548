//! A whole system in one process.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};
use broker::BrokerConfig;
use namesrv::NamesrvConfig;
use stdx::config::{Source, Table};

use crate::boot::{self, Environment};
use crate::{broker_process, logging, namesrv_process};

/// What `ferrocket server` takes.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  ferrocket server
  ferrocket server --data /var/lib/ferrocket --advertise 10.0.0.5
  ferrocket server -c conf/broker.conf")]
pub struct Options {
    /// Directory of all data.
    #[arg(long, value_name = "DIR", default_value = "ferrocket-data")]
    data: PathBuf,
    /// Address that clients are given; by default only this machine's own clients reach the broker.
    #[arg(long, value_name = "HOST", default_value = "127.0.0.1")]
    advertise: String,
    /// Port of the name server.
    #[arg(long, value_name = "PORT", default_value_t = 9876)]
    namesrv_port: u16,
    /// Port of the broker; two below it is the VIP port.
    #[arg(long, value_name = "PORT", default_value_t = 10911)]
    broker_port: u16,
    /// Configuration file of the broker; the options here count more.
    #[arg(short = 'c', long = "configFile", value_name = "FILE")]
    config_file: Option<PathBuf>,
}

pub fn run(options: &Options) -> Result<i32> {
    let began = Instant::now();
    let mut environment = Environment::read();
    std::fs::create_dir_all(&options.data).with_context(|| format!("can't make {}", options.data.display()))?;
    environment.user_home = options.data.canonicalize().with_context(|| options.data.display().to_string())?;
    let mut broker_config = BrokerConfig::default();
    if let Some(path) = &options.config_file {
        boot::apply_file(&mut broker_config, path, &environment)?;
    }
    let mut namesrv_config = NamesrvConfig::default();
    namesrv_config.set_from("listenPort", &options.namesrv_port.to_string(), Source::Option("--namesrv-port"))?;
    namesrv_config.resolve(&environment.user_home);
    let name_server = format!("{}:{}", options.advertise, options.namesrv_port);
    let own = format!("127.0.0.1:{}", options.namesrv_port);
    broker_config.set_from("namesrvAddr", &own, Source::Option("--namesrv-port"))?;
    broker_config.set_from("listenPort", &options.broker_port.to_string(), Source::Option("--broker-port"))?;
    broker_config.set_from("brokerIP1", &options.advertise, Source::Option("--advertise"))?;
    if broker_config.broker_name.is_empty() {
        broker_config.set_from("brokerName", "broker-a", Source::Derived)?;
    }
    broker_process::resolve(&mut broker_config, &environment, &options.advertise)?;
    logging::start(None, "server");
    boot::raise_file_limit();
    boot::runtime()?.block_on(async {
        let workers = boot::workers()?;
        namesrv_process::start(&workers, namesrv_config)?;
        let running = broker_process::start(&workers, broker_config, None).await?;
        greet(options, &name_server, &environment, began);
        boot::stop_signal().await?;
        running.stop(&workers).await?;
        Ok(0)
    })
}

fn greet(options: &Options, name_server: &str, environment: &Environment, began: Instant) {
    let broker = options.broker_port;
    say!(
        "Ferrocket {} is ready after {} ms.

  name server  {name_server}
  broker       {}:{broker} (VIP port {})
  data         {}

Send a first message and read it, in another terminal:

  ferrocket admin sendMessage -n {name_server} -t FirstTopic -p \"hello\"
  ferrocket admin consumeMessage -n {name_server} -t FirstTopic

Ctrl-C stops it; nothing is lost by that.",
        env!("CARGO_PKG_VERSION"),
        began.elapsed().as_millis(),
        options.advertise,
        broker - 2,
        environment.user_home.display(),
    );
}
