//! `MQVersion`: the version number that travels in headers is the ordinal of a Java enum, in which each
//! release has a `_SNAPSHOT` just below it.

/// The version that Ferrocket announces: V5_4_0, the release whose remoting protocol it speaks.
pub const CURRENT: i32 = 493;
/// From here on clients can be told to move to other offsets, and be asked where they are.
pub const V3_0_7_SNAPSHOT: i32 = 28;
pub const V3_0_11: i32 = 37;
/// From here on clients answer questions about themselves.
pub const V3_1_8_SNAPSHOT: i32 = 62;
pub const V3_4_9: i32 = 121;
pub const V4_9_4: i32 = 401;
pub const V5_0_0: i32 = 413;

const V3_3_1: i32 = 87;
const V4_0_0: i32 = 213;
/// From this ordinal on the enum ends with `HIGHER_VERSION`.
const HIGHER_VERSION: i32 = 612;

/// The enum's name for an ordinal, as Java prints it (`V4_9_4`).
pub fn name(ordinal: i32) -> String {
    const FIRST: [&str; 16] = [
        "SNAPSHOT",
        "ALPHA1",
        "BETA1",
        "BETA2",
        "BETA3",
        "BETA4",
        "BETA5",
        "BETA6_SNAPSHOT",
        "BETA6",
        "BETA7_SNAPSHOT",
        "BETA7",
        "BETA8_SNAPSHOT",
        "BETA8",
        "BETA9_SNAPSHOT",
        "BETA9",
        "FINAL",
    ];
    if let Some(suffix) = usize::try_from(ordinal).ok().and_then(|i| FIRST.get(i)) {
        return format!("V3_0_0_{suffix}");
    }
    if !(0..HIGHER_VERSION).contains(&ordinal) {
        return "HIGHER_VERSION".into();
    }
    // Odd ordinals are releases; the even one below each is its snapshot.
    let release = ordinal | 1;
    let suffix = if release == ordinal { "" } else { "_SNAPSHOT" };
    let (major, minor, patch) = match release {
        ..=45 => (3, 0, (release - 15) / 2),
        47..=65 => (3, 1, (release - 47) / 2),
        67..=85 => (3, 2, (release - 67) / 2),
        V3_3_1..=211 => {
            let nth = (release - V3_3_1) / 2;
            (3, 3 + nth / 9, 1 + nth % 9)
        }
        _ => {
            let nth = (release - V4_0_0) / 2;
            (4 + nth / 100, nth / 10 % 10, nth % 10)
        }
    };
    format!("V{major}_{minor}_{patch}{suffix}")
}

#[cfg(test)]
mod tests {
    use super::name;

    #[test]
    fn names_are_those_of_the_java_enum() {
        for (ordinal, expected) in [
            (0, "V3_0_0_SNAPSHOT"),
            (15, "V3_0_0_FINAL"),
            (16, "V3_0_1_SNAPSHOT"),
            (super::V3_0_7_SNAPSHOT, "V3_0_7_SNAPSHOT"),
            (37, "V3_0_11"),
            (45, "V3_0_15"),
            (46, "V3_1_0_SNAPSHOT"),
            (super::V3_1_8_SNAPSHOT, "V3_1_8_SNAPSHOT"),
            (63, "V3_1_8"),
            (66, "V3_2_0_SNAPSHOT"),
            (79, "V3_2_6"),
            (86, "V3_3_1_SNAPSHOT"),
            (103, "V3_3_9"),
            (104, "V3_4_1_SNAPSHOT"),
            (121, "V3_4_9"),
            (211, "V3_9_9"),
            (212, "V4_0_0_SNAPSHOT"),
            (253, "V4_2_0"),
            (355, "V4_7_1"),
            (373, "V4_8_0"),
            (401, "V4_9_4"),
            (493, "V5_4_0"),
            (611, "V5_9_9"),
            (612, "HIGHER_VERSION"),
            (-1, "HIGHER_VERSION"),
        ] {
            assert_eq!(name(ordinal), expected, "{ordinal}");
        }
    }
}
