//! A name server as a process.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use namesrv::{Namesrv, NamesrvConfig};
use net::now_ms;
use net::server::Workers;

use crate::boot::{self, Environment};
use crate::{ProcessOptions, logging};

pub fn run(options: &ProcessOptions) -> Result<i32> {
    let environment = Environment::read();
    let mut config = NamesrvConfig::default();
    if let Some(path) = &options.config_file {
        boot::apply_file(&mut config, path, &environment)?;
    }
    if let Some(home) = &environment.rocketmq_home {
        config.rocketmq_home.clone_from(home);
    }
    config.resolve(&environment.user_home);
    if options.print_config || options.print_important {
        boot::print_config(&config, options.print_important);
        return Ok(0);
    }
    logging::start(Some(&environment.user_home), "namesrv");
    boot::raise_file_limit();
    boot::runtime()?.block_on(async {
        let workers = boot::workers()?;
        let address = start(&workers, config)?;
        say!("The Name Server boot success. serializeType=JSON, address {address}");
        boot::stop_signal().await?;
        workers.stop();
        Ok(0)
    })
}

/// Opens a name server and serves it; returns the address that it listens on.
pub fn start(workers: &Arc<Workers>, config: NamesrvConfig) -> Result<String> {
    let address = boot::resolve(&config.bind_address, config.listen_port)?;
    let listener = boot::listener_options(
        config.server_channel_max_idle_time_seconds,
        config.server_socket_backlog,
        config.server_socket_snd_buf_size,
        config.server_socket_rcv_buf_size,
    );
    let kv_path = config.kv_config_path.clone();
    let namesrv = Arc::new(Namesrv::open(config, now_ms()).with_context(|| format!("can't read {kv_path}"))?);
    boot::listen(workers, address, namesrv.clone(), &listener)?;
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            namesrv.tick(now_ms());
        }
    });
    Ok(address.to_string())
}
