//! The name server's core: synchronous, without clock, socket or thread. Brokers register, clients ask for routes;
//! several name servers know nothing of each other.

pub mod config;
mod kv;
mod routes;
#[cfg(test)]
mod tests;

use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::BytesMut;
use parking_lot::{Mutex, RwLock};
use protocol::bodies::{BrokerMemberGroupReply, KvTable, TopicList, TopicRouteData};
use protocol::exchange::{Call, Connection, ENOUGH_BYTES, Refusal, Service};
use protocol::header::HeaderError;
use protocol::networks::Networks;
use protocol::requests::*;
use protocol::sys_flag::perm;
use protocol::sys_flag::topic::{UNIT, UNIT_SUB};
use protocol::{Frame, Header, codes, fastjson, names, register, version};
use serde::Serialize;
use stdx::config::{Table, Value};

pub use crate::config::NamesrvConfig;
use crate::kv::KvConfig;
use crate::routes::{BROKER_EXPIRY_MS, Identity, Registration, Routes};

/// Keys that a running name server does not let itself be told (Java: `configBlackList`).
const BLACKLIST: [&str; 4] = ["configStorePath", "kvConfigPath", "rocketmqHome", "configBlackList"];

type Handled = Result<(), Refusal>;

/// One name server.
pub struct Namesrv {
    config: RwLock<NamesrvConfig>,
    kv: KvConfig,
    routes: Mutex<Routes>,
    started: i64,
    /// When silent brokers are looked for next.
    next_scan: Mutex<i64>,
}

impl Namesrv {
    /// Opens the key-values that the configuration names.
    pub fn open(config: NamesrvConfig, now: i64) -> io::Result<Self> {
        let kv = KvConfig::open(Path::new(&config.kv_config_path).to_owned())?;
        let next_scan = Mutex::new(now + config.scan_not_active_broker_interval);
        Ok(Self { config: RwLock::new(config), kv, routes: Mutex::default(), started: now, next_scan })
    }

    /// Takes out brokers that are silent, when it is time to look. Call it about once a second.
    pub fn tick(&self, now: i64) {
        let mut next = self.next_scan.lock();
        if now >= *next {
            *next = now + self.config.read().scan_not_active_broker_interval;
            self.routes.lock().expire(now);
        }
    }

    fn dispatch(&self, call: &mut Call<'_>) -> Handled {
        match call.header.code {
            GetRouteInfo::CODE => get_route_info(self, call, call.header.read()?),
            RegisterBroker::CODE => register_broker(self, call, call.header.read()?),
            UnregisterBroker::CODE => unregister_broker(self, call, call.header.read()?),
            QueryDataVersion::CODE => query_data_version(self, call, call.header.read()?),
            BrokerHeartbeat::CODE => broker_heartbeat(self, call, call.header.read()?),
            GetBrokerMemberGroup::CODE => get_broker_member_group(self, call, call.header.read()?),
            GetBrokerClusterInfo::CODE => get_broker_cluster_info(self, call),
            RegisterTopic::CODE => register_topic(self, call, call.header.read()?),
            DeleteTopicInNamesrv::CODE => delete_topic(self, call, call.header.read()?),
            WipeWritePerm::CODE => wipe_write_perm(self, call, call.header.read()?),
            AddWritePerm::CODE => add_write_perm(self, call, call.header.read()?),
            GetAllTopicList::CODE => get_all_topics(self, call),
            GetTopicsByCluster::CODE => get_topics_by_cluster(self, call, call.header.read()?),
            GetSystemTopicListFromNamesrv::CODE => get_system_topics(self, call),
            GetUnitTopicList::CODE => get_unit_topics(self, call, |flag| flag & UNIT != 0),
            GetHasUnitSubTopicList::CODE => get_unit_topics(self, call, |flag| flag & UNIT_SUB != 0),
            GetHasUnitSubUnunitTopicList::CODE => get_unit_topics(self, call, |flag| flag & UNIT == 0 && flag & UNIT_SUB != 0),
            PutKvConfig::CODE => put_kv(self, call, call.header.read()?),
            GetKvConfig::CODE => get_kv(self, call, call.header.read()?),
            DeleteKvConfig::CODE => delete_kv(self, call, call.header.read()?),
            GetKvListByNamespace::CODE => get_kv_list(self, call, call.header.read()?),
            GetNamesrvConfig::CODE => get_namesrv_config(self, call),
            UpdateNamesrvConfig::CODE => update_namesrv_config(self, call),
            code => Err(Refusal::new(codes::REQUEST_CODE_NOT_SUPPORTED, format!(" request type {code} not supported"))),
        }
    }
}

impl Service for Namesrv {
    fn frames(
        &self,
        now: i64,
        connection: &Arc<Connection>,
        frames: &mut Vec<Frame>,
        out: &mut BytesMut,
    ) -> Result<(), HeaderError> {
        let mut handled = 0;
        while let Some(frame) = frames.get(handled).filter(|_| out.len() < ENOUGH_BYTES) {
            handled += 1;
            let header = Header::decode(frame)?;
            if header.is_response() {
                continue;
            }
            let mut call = Call { now, connection, header: &header, body: &frame.body, serialization: frame.serialization, out };
            if let Err(refusal) = self.dispatch(&mut call) {
                call.refuse(&refusal);
            }
        }
        frames.drain(..handled);
        Ok(())
    }

    fn closed(&self, _now: i64, connection: &Connection) {
        self.routes.lock().closed(connection.id);
    }
}

/// Whether the asker reads standard JSON only; others get fastjson's bare integer keys, as they always did.
fn standard_json(call: &Call<'_>, asked: Option<bool>) -> bool {
    asked == Some(true) || call.header.version >= version::V4_9_4
}

fn encode<T: Serialize>(value: &T, standard: bool) -> Vec<u8> {
    if standard { fastjson::to_vec_standard(value) } else { fastjson::to_vec(value) }
}

fn io_refusal(what: &str, error: &io::Error) -> Refusal {
    tracing::error!("{what}: {error}");
    Refusal::new(codes::SYSTEM_ERROR, format!("{what}: {error}"))
}

fn get_route_info(server: &Namesrv, call: &mut Call<'_>, request: GetRouteInfo<'_>) -> Handled {
    let config = server.config.read();
    if config.need_wait_for_service && call.now < server.started + i64::from(config.wait_seconds_for_service) * 1000 {
        return Err(Refusal::new(codes::SYSTEM_ERROR, "name server not ready"));
    }
    let client = call.connection.remote.ip();
    let Some(mut route) = server.routes.lock().route(request.topic, config.support_acting_master, client) else {
        let remark = format!("No topic route info in name server for the topic: {}", request.topic);
        return Err(Refusal::new(codes::TOPIC_NOT_EXIST, remark));
    };
    if config.order_message_enable {
        route.order_topic_conf = server.kv.get(names::ORDER_TOPIC_CONFIG, request.topic);
    }
    let standard = standard_json(call, request.accept_standard_json_only);
    call.reply_body(&encode(&route, standard));
    Ok(())
}

fn register_broker(server: &Namesrv, call: &mut Call<'_>, request: RegisterBroker<'_>) -> Handled {
    let body =
        register::decode(call.body, request.compressed == Some(true), request.body_crc32.unwrap_or(0), call.header.version)
            .map_err(|e| Refusal::new(codes::SYSTEM_ERROR, e.to_string()))?;
    let config = server.config.read();
    let registration = Registration {
        identity: identity(request.cluster_name, request.broker_name, request.broker_id, request.broker_addr),
        ha_address: request.ha_server_addr.to_owned(),
        connection: call.connection.id,
        expiry_ms: request.heartbeat_timeout_millis.unwrap_or(BROKER_EXPIRY_MS),
        acting_master: request.enable_acting_master == Some(true),
        advertised: advertised(&request),
        client: call.connection.remote.ip(),
        topics: body.topic_config_serialize_wrapper,
        drop_missing: config.delete_topic_with_broker_registration,
    };
    let registered = server.routes.lock().register(registration, call.now);
    let registered = registered.map_err(|reason| Refusal::new(codes::SYSTEM_ERROR, reason))?;
    let reply = RegisterBrokerReply {
        ha_server_addr: registered.ha_address.as_deref(),
        master_addr: registered.master_address.as_deref(),
    };
    let mut kv = Vec::new();
    if config.return_order_topic_config_to_broker
        && let Some(table) = server.kv.namespace(names::ORDER_TOPIC_CONFIG)
    {
        kv = fastjson::to_vec(&KvTable { table });
    }
    call.answer(codes::SUCCESS, None, &reply, &kv);
    Ok(())
}

/// What a broker says that clients of certain networks are to be given.
fn advertised(request: &RegisterBroker<'_>) -> Networks {
    let Some(text) = request.advertised_addresses else { return Networks::default() };
    Networks::parse(text).unwrap_or_else(|| {
        tracing::warn!("broker {} {} gives addresses that can't be read: {text:?}", request.broker_name, request.broker_id);
        Networks::default()
    })
}

fn identity(cluster: &str, name: &str, id: i64, address: &str) -> Identity {
    Identity { cluster: cluster.to_owned(), name: name.to_owned(), id, address: address.to_owned() }
}

fn unregister_broker(server: &Namesrv, call: &mut Call<'_>, request: UnregisterBroker<'_>) -> Handled {
    let leaver = identity(request.cluster_name, request.broker_name, request.broker_id, request.broker_addr);
    if server.routes.lock().unregister(&leaver, call.connection.id) {
        tracing::info!("broker {} {} at {} unregistered", leaver.name, leaver.id, leaver.address);
    }
    call.reply(&());
    Ok(())
}

fn query_data_version(server: &Namesrv, call: &mut Call<'_>, request: QueryDataVersion<'_>) -> Handled {
    let asked = fastjson::from_slice(call.body)?;
    let known = server.routes.lock().heard(request.cluster_name, request.broker_addr, call.connection.id, call.now);
    let changed = known.as_ref() != Some(&asked);
    let body = known.map(|v| fastjson::to_vec(&v)).unwrap_or_default();
    call.answer(codes::SUCCESS, None, &QueryDataVersionReply { changed }, &body);
    Ok(())
}

fn broker_heartbeat(server: &Namesrv, call: &mut Call<'_>, request: BrokerHeartbeat<'_>) -> Handled {
    server.routes.lock().heard(request.cluster_name, request.broker_addr, call.connection.id, call.now);
    call.reply(&());
    Ok(())
}

fn get_broker_member_group(server: &Namesrv, call: &mut Call<'_>, request: GetBrokerMemberGroup<'_>) -> Handled {
    let group = server.routes.lock().member_group(request.cluster_name, request.broker_name);
    call.reply_body(&fastjson::to_vec(&BrokerMemberGroupReply { broker_member_group: Some(group) }));
    Ok(())
}

fn get_broker_cluster_info(server: &Namesrv, call: &mut Call<'_>) -> Handled {
    let info = server.routes.lock().cluster_info(call.connection.remote.ip());
    call.reply_body(&fastjson::to_vec(&info));
    Ok(())
}

fn register_topic(server: &Namesrv, call: &mut Call<'_>, request: RegisterTopic<'_>) -> Handled {
    let route: TopicRouteData = fastjson::from_slice(call.body)?;
    server.routes.lock().register_topic(request.topic, route.queue_datas);
    call.reply(&());
    Ok(())
}

fn delete_topic(server: &Namesrv, call: &mut Call<'_>, request: DeleteTopicInNamesrv<'_>) -> Handled {
    let cluster = request.cluster_name.filter(|name| !name.is_empty());
    server.routes.lock().delete_topic(request.topic, cluster);
    call.reply(&());
    Ok(())
}

fn wipe_write_perm(server: &Namesrv, call: &mut Call<'_>, request: WipeWritePerm<'_>) -> Handled {
    let wipe_topic_count = server.routes.lock().change_permission(request.broker_name, |bits| bits & !perm::WRITE);
    call.reply(&WipeWritePermReply { wipe_topic_count });
    Ok(())
}

fn add_write_perm(server: &Namesrv, call: &mut Call<'_>, request: AddWritePerm<'_>) -> Handled {
    let add_topic_count = server.routes.lock().change_permission(request.broker_name, |_| perm::READ | perm::WRITE);
    call.reply(&AddWritePermReply { add_topic_count });
    Ok(())
}

fn get_all_topics(server: &Namesrv, call: &mut Call<'_>) -> Handled {
    if !server.config.read().enable_all_topic_list {
        return Err(Refusal::new(codes::SYSTEM_ERROR, "disable"));
    }
    reply_topics(call, server.routes.lock().topics(), None)
}

fn reply_topics(call: &mut Call<'_>, topic_list: std::collections::BTreeSet<String>, broker_addr: Option<String>) -> Handled {
    call.reply_body(&fastjson::to_vec(&TopicList { broker_addr, topic_list }));
    Ok(())
}

/// Lists of topics of a kind can be switched off together.
fn check_topic_lists(server: &Namesrv) -> Handled {
    if server.config.read().enable_topic_list { Ok(()) } else { Err(Refusal::new(codes::SYSTEM_ERROR, "disable")) }
}

fn get_topics_by_cluster(server: &Namesrv, call: &mut Call<'_>, request: GetTopicsByCluster<'_>) -> Handled {
    check_topic_lists(server)?;
    let topics = server.routes.lock().topics_of_cluster(request.cluster);
    reply_topics(call, topics, None)
}

fn get_system_topics(server: &Namesrv, call: &mut Call<'_>) -> Handled {
    let (topics, address) = server.routes.lock().system_topics();
    reply_topics(call, topics, address)
}

fn get_unit_topics(server: &Namesrv, call: &mut Call<'_>, matches: impl Fn(i32) -> bool) -> Handled {
    check_topic_lists(server)?;
    let topics = server.routes.lock().topics_by_flag(matches);
    reply_topics(call, topics, None)
}

fn put_kv(server: &Namesrv, call: &mut Call<'_>, request: PutKvConfig<'_>) -> Handled {
    server.kv.put(request.namespace, request.key, request.value).map_err(|e| io_refusal("saving kvConfig.json", &e))?;
    call.reply(&());
    Ok(())
}

fn get_kv(server: &Namesrv, call: &mut Call<'_>, request: GetKvConfig<'_>) -> Handled {
    let Some(value) = server.kv.get(request.namespace, request.key) else {
        let remark = format!("No config item, Namespace: {} Key: {}", request.namespace, request.key);
        return Err(Refusal::new(codes::QUERY_NOT_FOUND, remark));
    };
    call.reply(&GetKvConfigReply { value: Some(&value) });
    Ok(())
}

fn delete_kv(server: &Namesrv, call: &mut Call<'_>, request: DeleteKvConfig<'_>) -> Handled {
    server.kv.delete(request.namespace, request.key).map_err(|e| io_refusal("saving kvConfig.json", &e))?;
    call.reply(&());
    Ok(())
}

fn get_kv_list(server: &Namesrv, call: &mut Call<'_>, request: GetKvListByNamespace<'_>) -> Handled {
    let Some(table) = server.kv.namespace(request.namespace) else {
        let remark = format!("No config item, Namespace: {}", request.namespace);
        return Err(Refusal::new(codes::QUERY_NOT_FOUND, remark));
    };
    call.reply_body(&fastjson::to_vec(&KvTable { table }));
    Ok(())
}

fn get_namesrv_config(server: &Namesrv, call: &mut Call<'_>) -> Handled {
    call.reply_body(server.config.read().text().as_bytes());
    Ok(())
}

/// Changes settings, all or none, and writes them to `configStorePath`.
fn update_namesrv_config(server: &Namesrv, call: &mut Call<'_>) -> Handled {
    let entries = stdx::properties::parse(call.body).map_err(|e| Refusal::new(codes::SYSTEM_ERROR, e.to_string()))?;
    if let Some(entry) = entries.iter().find(|e| BLACKLIST.contains(&e.key.as_str())) {
        return Err(Refusal::new(codes::NO_PERMISSION, format!("Can not update config in black list: {}", entry.key)));
    }
    let mut config = server.config.write();
    let mut changed = config.clone();
    for entry in &entries {
        changed.set(&entry.key, &entry.value).map_err(|e| Refusal::new(codes::SYSTEM_ERROR, e.to_string()))?;
    }
    let path = Path::new(&changed.config_store_path).to_owned();
    let directory = path.parent().map_or(Ok(()), std::fs::create_dir_all);
    let saved = directory.and_then(|()| stdx::atomic_file::write(&path, changed.text().as_bytes()));
    saved.map_err(|e| io_refusal("saving the settings", &e))?;
    *config = changed;
    call.reply(&());
    Ok(())
}
