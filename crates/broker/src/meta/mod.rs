//! What the broker knows beside messages: topics, consumer groups and their offsets, kept in `config/*.json` in
//! Java's form.

pub mod offsets;
pub mod table;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use protocol::bodies::{DataVersion, SubscriptionGroupConfig, SubscriptionGroupTable, TopicConfig, TopicTable};
use protocol::sys_flag::perm;

use crate::meta::table::{Rows, Table};

impl Rows for TopicConfig {
    type File = TopicTable;
    type Rest = ();
    fn from_file(file: TopicTable) -> (DataVersion, BTreeMap<String, Self>, ()) {
        (file.data_version, file.topic_config_table, ())
    }
    fn to_file(data_version: DataVersion, rows: BTreeMap<String, Self>, (): ()) -> TopicTable {
        TopicTable { data_version, topic_config_table: rows }
    }
}

/// What is forbidden to groups: by group and topic, one bit for each permission.
type Forbidden = BTreeMap<String, BTreeMap<String, i32>>;

impl Rows for SubscriptionGroupConfig {
    type File = SubscriptionGroupTable;
    type Rest = Forbidden;
    fn from_file(file: SubscriptionGroupTable) -> (DataVersion, BTreeMap<String, Self>, Forbidden) {
        (file.data_version, file.subscription_group_table, file.forbidden_table)
    }
    fn to_file(data_version: DataVersion, rows: BTreeMap<String, Self>, forbidden_table: Forbidden) -> SubscriptionGroupTable {
        SubscriptionGroupTable { data_version, subscription_group_table: rows, forbidden_table }
    }
}

impl Groups {
    /// Whether a group may not read a topic.
    pub fn is_forbidden(&self, group: &str, topic: &str) -> bool {
        self.rest(|forbidden| {
            forbidden.get(group).and_then(|topics| topics.get(topic)).is_some_and(|bits| bits & perm::READ != 0)
        })
    }

    /// Forbids a group to read a topic, or allows it again.
    pub fn forbid(&self, group: &str, topic: &str, forbid: bool, now: i64) -> io::Result<()> {
        self.change_rest(now, |forbidden| {
            let topics = forbidden.entry(group.to_owned()).or_default();
            let bits = topics.get(topic).copied().unwrap_or(0);
            match if forbid { bits | perm::READ } else { bits & !perm::READ } {
                0 => drop(topics.remove(topic)),
                left => drop(topics.insert(topic.to_owned(), left)),
            }
            if topics.is_empty() {
                forbidden.remove(group);
            }
        })
    }
}

pub type Topics = Table<TopicConfig>;
pub type Groups = Table<SubscriptionGroupConfig>;

/// Opens `topics.json` and `subscriptionGroup.json`.
pub fn open(config: &Path) -> io::Result<(Topics, Groups)> {
    std::fs::create_dir_all(config)?;
    Ok((Table::open(config.join("topics.json"))?, Table::open(config.join("subscriptionGroup.json"))?))
}
