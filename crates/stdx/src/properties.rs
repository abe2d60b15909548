//! `java.util.Properties` files: `key=value`, `key: value` or `key value`, comments with `#` and `!`, lines that a
//! `\` continues, `\uXXXX`.
//!
//! Java 8 reads them as ISO-8859-1, but people write UTF-8, mostly in comments: a file that is UTF-8 is read as
//! that, any other as ISO-8859-1. Java keeps blanks behind a value, which then is no number; here they are cut off.

/// One setting of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub key: String,
    pub value: String,
    /// The line on which it begins, from 1.
    pub line: usize,
}

/// Why a file can't be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PropertiesError {
    #[error("line {line}: \\u must be followed by four hexadecimal digits")]
    BadEscape { line: usize },
}

/// Reads a file's settings in their order; of a key that stands twice both are given, and the last counts.
pub fn parse(bytes: &[u8]) -> Result<Vec<Entry>, PropertiesError> {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text.trim_start_matches('\u{feff}').to_owned(),
        Err(_) => bytes.iter().map(|b| char::from(*b)).collect(),
    };
    let mut entries = Vec::new();
    let unified = text.replace("\r\n", "\n").replace('\r', "\n");
    let mut lines = unified.split('\n').enumerate();
    while let Some((number, line)) = lines.next() {
        let line = line.trim_start_matches(is_blank);
        if line.is_empty() || line.starts_with(['#', '!']) {
            continue;
        }
        let mut logical = line.to_owned();
        while continues(&logical) {
            logical.pop();
            match lines.next() {
                Some((_, next)) => logical.push_str(next.trim_start_matches(is_blank)),
                None => break,
            }
        }
        let (key, value) = split(&logical);
        let line = number + 1;
        entries.push(Entry { key: unescape(key, line)?, value: unescape(value, line)?.trim().to_owned(), line });
    }
    Ok(entries)
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\u{c}')
}

/// An odd number of backslashes at the end continues the line.
fn continues(line: &str) -> bool {
    line.bytes().rev().take_while(|b| *b == b'\\').count() % 2 == 1
}

fn split(line: &str) -> (&str, &str) {
    let mut escaped = false;
    let end = line.find(|c: char| {
        let ends = !escaped && (matches!(c, '=' | ':') || is_blank(c));
        escaped = c == '\\' && !escaped;
        ends
    });
    let Some(end) = end else { return (line, "") };
    let rest = line[end..].trim_start_matches(is_blank);
    let rest = rest.strip_prefix(['=', ':']).unwrap_or(rest);
    (&line[..end], rest.trim_start_matches(is_blank))
}

fn unescape(text: &str, line: usize) -> Result<String, PropertiesError> {
    let mut units: Vec<u16> = Vec::with_capacity(text.len());
    let mut chars = text.chars();
    let mut push = |c: char| units.extend_from_slice(c.encode_utf16(&mut [0; 2]));
    while let Some(c) = chars.next() {
        if c != '\\' {
            push(c);
            continue;
        }
        match chars.next() {
            Some('t') => push('\t'),
            Some('n') => push('\n'),
            Some('r') => push('\r'),
            Some('f') => push('\u{c}'),
            Some('u') => {
                let digits: String = chars.by_ref().take(4).collect();
                let unit = u16::from_str_radix(&digits, 16).ok().filter(|_| digits.len() == 4);
                match unit.and_then(|u| char::from_u32(u32::from(u))) {
                    Some(c) => push(c),
                    None => return Err(PropertiesError::BadEscape { line }),
                }
            }
            Some(other) => push(other),
            None => {}
        }
    }
    Ok(String::from_utf16_lossy(&units))
}

/// Replaces `${name}` by what `lookup` knows of it. Returns the names that it does not know, which stay as they are.
pub fn expand(value: &str, lookup: impl Fn(&str) -> Option<String>) -> (String, Vec<String>) {
    let (mut out, mut unknown) = (String::new(), Vec::new());
    let mut rest = value;
    while let Some(start) = rest.find("${") {
        let Some(length) = rest[start..].find('}') else { break };
        let name = &rest[start + 2..start + length];
        out.push_str(&rest[..start]);
        match lookup(name) {
            Some(known) => out.push_str(&known),
            None => {
                out.push_str(&rest[start..=start + length]);
                unknown.push(name.to_owned());
            }
        }
        rest = &rest[start + length + 1..];
    }
    out.push_str(rest);
    (out, unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Vec<(String, String)> {
        parse(text.as_bytes()).unwrap().into_iter().map(|e| (e.key, e.value)).collect()
    }

    fn owned(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn the_seeds_ways_to_write_are_read() {
        let text = "\u{feff}# 默认\r\nbrokerName = broker-a \r\nsendMessageThreadPoolNums: 200\r\n\r\n!x\n  key value\nlist=a,\\\n   b\nempty\n\
                    namesrvAddr=192.168.0.15:9876;192.168.0.10:9876\nu=\\u0041\\t\\:";
        let expected = [
            ("brokerName", "broker-a"),
            ("sendMessageThreadPoolNums", "200"),
            ("key", "value"),
            ("list", "a,b"),
            ("empty", ""),
            ("namesrvAddr", "192.168.0.15:9876;192.168.0.10:9876"),
            ("u", "A\t:"),
        ];
        assert_eq!(pairs(text), owned(&expected));
        assert_eq!(parse(b"a=1\n\n# c\nb=2").unwrap()[1].line, 4);
        assert_eq!(parse(b"a=\xe9").unwrap()[0].value, "é");
        assert_eq!(parse(b"x=1\na=\\u00"), Err(PropertiesError::BadEscape { line: 2 }));
    }

    #[test]
    fn variables_are_expanded_where_they_are_known() {
        let lookup = |name: &str| (name == "user.home").then(|| "/opt".to_owned());
        assert_eq!(expand("${user.home}/store", lookup), ("/opt/store".into(), vec![]));
        assert_eq!(expand("${x}/${user.home}", lookup), ("${x}//opt".into(), vec!["x".into()]));
        assert_eq!(expand("plain ${", lookup), ("plain ${".into(), vec![]));
    }
}
