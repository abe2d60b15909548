//! `java.util.Properties` files: `key=value`, `key: value` or `key value`, comments with `#` and `!`, lines that a
//! `\` continues, `\uXXXX`.
//!
//! Java 8 reads them as ISO-8859-1, but people write UTF-8, mostly in comments: a line that is UTF-8 is read as that,
//! any other as ISO-8859-1, in which every byte means something, so that a comment in any encoding does no harm. Java
//! keeps blanks behind a value, which then is no number; here they are cut off.

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
    let text: String = bytes.split_inclusive(|byte| *byte == b'\n').map(decode).collect();
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
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

fn decode(line: &[u8]) -> String {
    std::str::from_utf8(line).map_or_else(|_| line.iter().map(|byte| char::from(*byte)).collect(), str::to_owned)
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
    // UTF-16, because a character above U+FFFF is written as two escapes, one for each half.
    let mut units: Vec<u16> = Vec::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let c = match c {
            '\\' => match chars.next() {
                Some('t') => '\t',
                Some('n') => '\n',
                Some('r') => '\r',
                Some('f') => '\u{c}',
                Some('u') => {
                    let unit = (0..4).try_fold(0, |unit, _| Some(unit << 4 | chars.next()?.to_digit(16)? as u16));
                    units.push(unit.ok_or(PropertiesError::BadEscape { line })?);
                    continue;
                }
                Some(other) => other,
                None => continue,
            },
            _ => c,
        };
        units.extend_from_slice(c.encode_utf16(&mut [0; 2]));
    }
    Ok(String::from_utf16_lossy(&units))
}

/// A file's text with settings changed: lines of the keys go, and the new values stand at the end. Comments and
/// everything else stay as they are.
pub fn change(text: &[u8], changed: &[Entry]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let lines: Vec<&[u8]> = text.split_inclusive(|byte| *byte == b'\n').collect();
    let mut at = 0;
    while at < lines.len() {
        // A line with those that continue it.
        let mut end = at + 1;
        let trimmed = |line: &[u8]| decode(line).trim_end_matches(['\r', '\n']).to_owned();
        let comment = trimmed(lines[at]).trim_start_matches(is_blank).starts_with(['#', '!']);
        while !comment && end < lines.len() && continues(&trimmed(lines[end - 1])) {
            end += 1;
        }
        let whole = lines[at..end].concat();
        let goes = parse(&whole).is_ok_and(|found| found.iter().any(|entry| changed.iter().any(|c| c.key == entry.key)));
        if !goes {
            out.extend_from_slice(&whole);
        }
        at = end;
    }
    if !out.is_empty() && !out.ends_with(b"\n") {
        out.push(b'\n');
    }
    for entry in changed {
        let value = entry.value.replace('\\', "\\\\").replace('\n', "\\n").replace('\r', "\\r");
        out.extend_from_slice(format!("{}={value}\n", entry.key).as_bytes());
    }
    out
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

    #[test]
    fn a_changed_file_keeps_its_comments() {
        let text = b"# the broker\r\nfileReservedTime = 48\r\nnamesrvAddr=a:1;\\\r\n  b:2\r\nbrokerName=x\n";
        let entry = |key: &str, value: &str| Entry { key: key.into(), value: value.into(), line: 0 };
        let changed = change(text, &[entry("namesrvAddr", "c:3"), entry("storePathRootDir", "C:\\new")]);
        let shown = String::from_utf8(changed.clone()).unwrap();
        assert_eq!(shown, "# the broker\r\nfileReservedTime = 48\r\nbrokerName=x\nnamesrvAddr=c:3\nstorePathRootDir=C:\\\\new\n");
        assert_eq!(parse(&changed).unwrap().last().unwrap().value, "C:\\new");
        assert_eq!(change(b"", &[entry("a", "1")]), b"a=1\n");
    }

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
    }

    #[test]
    fn encodings_and_escapes_are_javas() {
        let gbk_comment = b"# \xc4\xac\xc8\xcf\nbrokerName=\xe4\xb8\xad\r\nb=\xe9";
        let values: Vec<String> = parse(gbk_comment).unwrap().into_iter().map(|e| e.value).collect();
        assert_eq!(values, ["中", "é"]);
        assert_eq!(pairs("face=\\ud83d\\uDE00\nhalf=\\ud83d"), owned(&[("face", "😀"), ("half", "\u{fffd}")]));
        for bad in ["a=\\u00", "a=\\u+041", "a=\\u00g0"] {
            assert_eq!(parse(format!("x=1\n{bad}").as_bytes()), Err(PropertiesError::BadEscape { line: 2 }), "{bad}");
        }
    }

    #[test]
    fn keys_and_continued_lines_are_javas() {
        let text = "a\\=b\\ c = d=e\npath=C:\\\\x\\\\\nnext=1\nlong=x\\\n  # no comment\\\n\n=nokey\nlast=\\";
        let expected =
            [("a=b c", "d=e"), ("path", "C:\\x\\"), ("next", "1"), ("long", "x# no comment"), ("", "nokey"), ("last", "")];
        assert_eq!(pairs(text), owned(&expected));
        let lines: Vec<usize> = parse(text.as_bytes()).unwrap().into_iter().map(|e| e.line).collect();
        assert_eq!(lines, [1, 2, 3, 4, 7, 8]);
        assert_eq!(pairs("k=1\nk=2"), owned(&[("k", "1"), ("k", "2")]));
    }

    #[test]
    fn variables_are_expanded_where_they_are_known() {
        let lookup = |name: &str| (name == "user.home").then(|| "/opt".to_owned());
        assert_eq!(expand("${user.home}/store", lookup), ("/opt/store".into(), vec![]));
        assert_eq!(expand("${x}/${user.home}", lookup), ("${x}//opt".into(), vec!["x".into()]));
        assert_eq!(expand("plain ${", lookup), ("plain ${".into(), vec![]));
    }
}
