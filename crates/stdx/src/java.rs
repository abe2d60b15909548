//! What Java's standard library and command lines do and RocketMQ's data and users depend on.

/// `String.hashCode`: over UTF-16 units, wrapping.
pub fn hash_code(text: &str) -> i32 {
    hash_on(0, text)
}

/// The hash of a text that goes on with `text`, from the hash of what stands before.
pub fn hash_on(hash: i32, text: &str) -> i32 {
    let add = |hash: i32, unit: u16| hash.wrapping_mul(31).wrapping_add(i32::from(unit));
    if text.is_ascii() {
        return text.bytes().fold(hash, |hash, byte| add(hash, u16::from(byte)));
    }
    text.encode_utf16().fold(hash, add)
}

/// The `-Dname=value` of a `JAVA_OPT`; a name without a value has an empty one.
pub fn system_properties(options: &str) -> Vec<(String, String)> {
    let defined = options.split_whitespace().filter_map(|word| word.strip_prefix("-D"));
    defined.map(|pair| pair.split_once('=').unwrap_or((pair, ""))).map(|(n, v)| (n.to_owned(), unquote(v).to_owned())).collect()
}

/// The options of a Java virtual machine that have no meaning here, such as heap sizes.
pub fn machine_options(options: &str) -> Vec<&str> {
    options.split_whitespace().filter(|word| word.starts_with('-') && !word.starts_with("-D")).collect()
}

fn unquote(text: &str) -> &str {
    let quoted = |q: char| text.strip_prefix(q).and_then(|t| t.strip_suffix(q));
    quoted('\'').or_else(|| quoted('"')).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_javas() {
        for (text, hash) in [("", 0), ("a", 97), ("TagA", 2_598_919), ("polygenelubricants", i32::MIN), ("标签", 857_175)] {
            assert_eq!(hash_code(text), hash, "{text}");
            assert_eq!(hash_on(hash_code("x"), text), hash_code(&format!("x{text}")));
        }
    }

    #[test]
    fn options_are_told_apart() {
        let options = " -Duser.home=/opt -Xms256m -Drocketmq.namesrv.addr='a:1;b:2' -server";
        let properties = system_properties(options);
        assert_eq!(properties, [("user.home".into(), "/opt".into()), ("rocketmq.namesrv.addr".into(), "a:1;b:2".into())]);
        assert_eq!(machine_options(options), ["-Xms256m", "-server"]);
    }
}
