//! What the broker knows beside messages: topics, consumer groups and their offsets, kept in `config/*.json` in
//! Java's form.

pub mod offsets;
pub mod table;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use protocol::bodies::{DataVersion, SubscriptionGroupConfig, SubscriptionGroupTable, TopicConfig, TopicTable};

use crate::meta::table::{Rows, Table};

impl Rows for TopicConfig {
    type File = TopicTable;
    fn from_file(file: TopicTable) -> (DataVersion, BTreeMap<String, Self>) {
        (file.data_version, file.topic_config_table)
    }
    fn to_file(data_version: DataVersion, rows: BTreeMap<String, Self>) -> TopicTable {
        TopicTable { data_version, topic_config_table: rows }
    }
}

impl Rows for SubscriptionGroupConfig {
    type File = SubscriptionGroupTable;
    fn from_file(file: SubscriptionGroupTable) -> (DataVersion, BTreeMap<String, Self>) {
        (file.data_version, file.subscription_group_table)
    }
    fn to_file(data_version: DataVersion, rows: BTreeMap<String, Self>) -> SubscriptionGroupTable {
        SubscriptionGroupTable { data_version, subscription_group_table: rows, ..SubscriptionGroupTable::default() }
    }
}

pub type Topics = Table<TopicConfig>;
pub type Groups = Table<SubscriptionGroupConfig>;

/// Opens `topics.json` and `subscriptionGroup.json`.
pub fn open(config: &Path) -> io::Result<(Topics, Groups)> {
    std::fs::create_dir_all(config)?;
    Ok((Table::open(config.join("topics.json"))?, Table::open(config.join("subscriptionGroup.json"))?))
}
