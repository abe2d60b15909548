//! Bit fields (Java: `MessageSysFlag`, `PullSysFlag`, `PermName`, `TopicSysFlag`).

/// A message's `sysFlag`.
pub mod message {
    pub const COMPRESSED: i32 = 0x1;
    pub const MULTI_TAGS: i32 = 0x2;
    pub const TRANSACTION_PREPARED: i32 = 0x4;
    pub const TRANSACTION_COMMIT: i32 = 0x8;
    pub const TRANSACTION_ROLLBACK: i32 = 0xC;
    pub const TRANSACTION_MASK: i32 = 0xC;
    pub const BORN_HOST_V6: i32 = 0x10;
    pub const STORE_HOST_V6: i32 = 0x20;
    /// The compression's kind: 0 and 0x300 zlib, 0x100 LZ4, 0x200 ZSTD.
    pub const COMPRESSION_MASK: i32 = 0x700;
    pub const COMPRESSION_LZ4: i32 = 0x100;
    pub const COMPRESSION_ZSTD: i32 = 0x200;
}

/// A pull request's `sysFlag`.
pub mod pull {
    pub const COMMIT_OFFSET: i32 = 0x1;
    pub const SUSPEND: i32 = 0x2;
    pub const SUBSCRIPTION: i32 = 0x4;
    pub const CLASS_FILTER: i32 = 0x8;
    pub const LITE_PULL: i32 = 0x10;
}

/// A topic's `topicSysFlag`: whose producers, and whose consumers, are in unit mode.
pub mod topic {
    pub const UNIT: i32 = 0x1;
    pub const UNIT_SUB: i32 = 0x2;
}

/// Permission bits of topics and brokers.
pub mod perm {
    pub const INHERIT: i32 = 0x1;
    pub const WRITE: i32 = 0x2;
    pub const READ: i32 = 0x4;

    /// `RWX` as mqadmin prints it, with `-` for what is missing.
    pub fn text(perm: i32) -> String {
        [(READ, 'R'), (WRITE, 'W'), (INHERIT, 'X')].iter().map(|(bit, c)| if perm & bit != 0 { *c } else { '-' }).collect()
    }
}
