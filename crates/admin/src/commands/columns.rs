//! Text in Java's forms.

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// The first `width` characters: Java cuts names to their column.
pub fn cut(text: &str, width: usize) -> &str {
    text.char_indices().nth(width).map_or(text, |(at, _)| &text[..at])
}

/// `2026-11-21 08:21:16,548`: a time in ms since 1970 in the local zone.
pub fn time_ms(ms: i64, zone: &TimeZone) -> String {
    format_time(ms, zone, "%Y-%m-%d %H:%M:%S,%3f")
}

/// `2026-11-21 08:21:16`.
pub fn time_s(ms: i64, zone: &TimeZone) -> String {
    format_time(ms, zone, "%Y-%m-%d %H:%M:%S")
}

/// `20261121082116548`.
pub fn time_digits(ms: i64, zone: &TimeZone) -> String {
    format_time(ms, zone, "%Y%m%d%H%M%S%3f")
}

fn format_time(ms: i64, zone: &TimeZone, form: &str) -> String {
    match Timestamp::from_millisecond(ms) {
        Ok(time) => time.to_zoned(zone.clone()).strftime(form).to_string(),
        // Years that no calendar has: the number says more than an invented date.
        Err(_) => ms.to_string(),
    }
}

/// A time that a user gives: ms since 1970, or `yyyy-MM-dd#HH:mm:ss:SSS` in the local zone.
pub fn parse_time(text: &str, zone: &TimeZone) -> Option<i64> {
    if let Ok(ms) = text.parse() {
        return Some(ms);
    }
    let (seconds, millis) = text.rsplit_once(':')?;
    let local = jiff::civil::DateTime::strptime("%Y-%m-%d#%H:%M:%S", seconds).ok()?;
    let millis: i64 = millis.parse().ok().filter(|ms| (0..1000).contains(ms))?;
    Some(local.to_zoned(zone.clone()).ok()?.timestamp().as_millisecond() + millis)
}

/// `{name=value, name=value}`, as Java shows maps.
pub fn map<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let pairs: Vec<String> = pairs.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    format!("{{{}}}", pairs.join(", "))
}

/// A value, or Java's `null`.
pub fn or_null(value: Option<&str>) -> &str {
    value.unwrap_or("null")
}

#[cfg(test)]
pub mod golden {
    //! What Java's mqadmin printed, to compare with.

    /// Java's output of a recorded command line: the file's first line is the command, `--- stderr` begins what went there.
    pub fn stdout(name: &str) -> String {
        let path = format!("{}/../../tests/golden/mqadmin/{name}.txt", env!("CARGO_MANIFEST_DIR"));
        let file = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
        let (_, output) = file.split_once('\n').expect("a command line");
        output.split("--- stderr\n").next().unwrap_or_default().to_owned()
    }

    /// The recorded output with its data lines sorted: Java prints in the order of its hash maps.
    pub fn sorted(text: &str) -> Vec<String> {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    }

    /// The text with the pairs of each `properties={..}` (or the line `Properties:`) sorted.
    pub fn with_sorted_properties(text: &str) -> String {
        let mut out = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('{') {
            let Some(end) = rest[at + 1..].find(['{', '}']).map(|e| at + 1 + e) else { break };
            if rest.as_bytes()[end] == b'{' {
                out += &rest[..end];
                rest = &rest[end..];
                continue;
            }
            let mut pairs: Vec<&str> = rest[at + 1..end].split(", ").collect();
            pairs.sort_unstable();
            out += &format!("{}{{{}}}", &rest[..at], pairs.join(", "));
            rest = &rest[end + 1..];
        }
        out + rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_stand_in_the_zone() {
        let zone = TimeZone::fixed(jiff::tz::offset(8));
        assert_eq!(time_ms(1_795_249_276_548, &zone), "2026-11-21 16:21:16,548");
        assert_eq!(time_s(1_795_249_276_548, &TimeZone::UTC), "2026-11-21 08:21:16");
        assert_eq!(parse_time("2026-11-21#16:21:16:548", &zone), Some(1_795_249_276_548));
        assert_eq!(parse_time("17", &zone), Some(17));
        assert_eq!(parse_time("2026-11-21", &zone), None);
        assert_eq!(parse_time("2026-11-21#16:21:16:5480", &zone), None);
    }

    #[test]
    fn names_are_cut_by_characters() {
        assert_eq!(cut("äbc", 2), "äb");
        assert_eq!(cut("abc", 3), "abc");
    }

    #[test]
    fn properties_are_sorted_for_comparison() {
        assert_eq!(golden::with_sorted_properties("M{t, p={b=2, a=1}, x} {}"), "M{t, p={a=1, b=2}, x} {}");
    }
}
