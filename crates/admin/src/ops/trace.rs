//! What became of a message, as its clients wrote it down: messages of the trace topic hold lines that end in 2, whose
//! fields end in 1 (Java: `TraceDataEncoder`).

use serde::Serialize;

use super::message::Message;
use super::query::{self, KeyKind, Query};
use super::{Access, Error};

const FIELD: char = '\u{1}';
const LINE: char = '\u{2}';

/// One thing that a client did with a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Trace {
    /// Sent, else consumed.
    pub is_send: bool,
    pub group: Option<String>,
    pub client_host: String,
    /// ms since 1970; 0 where the client did not say.
    pub timestamp: i64,
    /// ms.
    pub cost: i64,
    pub success: bool,
}

/// Reads what one message of the trace topic says of the message `id`. Lines of other kinds are passed over, and those
/// that are too short.
pub fn read(id: &str, traced: &Message) -> Vec<Trace> {
    let text = String::from_utf8_lossy(&traced.body);
    let client_host = traced.born_host.ip().to_string();
    text.split(LINE).filter_map(|line| one(id, line, &client_host)).collect()
}

fn one(id: &str, line: &str, client_host: &str) -> Option<Trace> {
    let fields: Vec<&str> = line.split(FIELD).collect();
    let field = |at: usize| fields.get(at).copied();
    let number = |at: usize| field(at)?.parse::<i64>().ok();
    let truth = |at: usize| field(at).is_some_and(|text| text.eq_ignore_ascii_case("true"));
    let (traced, trace) = match field(0)? {
        "Pub" => {
            // Clients before 4.6 leave out the offset message id that stands before the outcome.
            let success = truth(if fields.len() == 13 { 12 } else { 13 });
            let group = field(3).map(str::to_owned);
            (
                field(5)?,
                Trace { is_send: true, group, client_host: String::new(), timestamp: number(1)?, cost: number(10)?, success },
            )
        }
        "SubAfter" => {
            // Clients before 4.6 do not say their group.
            let group = field(8).map(str::to_owned);
            let timestamp = if group.is_some() { number(7)? } else { 0 };
            (
                field(2)?,
                Trace { is_send: false, group, client_host: String::new(), timestamp, cost: number(3)?, success: truth(4) },
            )
        }
        _ => return None,
    };
    (traced == id).then(|| Trace { client_host: client_host.to_owned(), ..trace })
}

/// Everything that clients wrote down about a message, from trace messages that were stored between two times (ms).
pub async fn trace(access: &Access, trace_topic: &str, id: &str, most: i32, begin: i64, end: i64) -> Result<Vec<Trace>, Error> {
    let asked = Query { topic: trace_topic, key: id, kind: KeyKind::Key { most }, cluster: None, begin, end };
    let found = query::query(access, &asked).await?;
    if let Some(failure) = found.failures.into_iter().next() {
        return Err(failure);
    }
    Ok(found.messages.iter().flat_map(|message| read(id, message)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_old_and_new_clients_are_read() {
        let read = |line: &str| one("ID", &line.replace('|', "\u{1}"), "10.0.0.9");
        let sent = Trace {
            is_send: true,
            group: Some("p".into()),
            client_host: "10.0.0.9".into(),
            timestamp: 17,
            cost: 5,
            success: true,
        };
        assert_eq!(read("Pub|17|r|p|T|ID|tag|key|10.0.0.1:10911|5|5|0|OFFSET|true"), Some(sent.clone()));
        assert_eq!(read("Pub|17|r|p|T|ID|tag|key|10.0.0.1:10911|5|5|0|true"), Some(sent.clone()));
        assert_eq!(read("Pub|17|r|p|T|OTHER|tag|key|10.0.0.1:10911|5|5|0|OFFSET|true"), None);
        let consumed = Trace { is_send: false, group: Some("g".into()), timestamp: 18, cost: 3, success: false, ..sent };
        assert_eq!(read("SubAfter|request|ID|3|false|key|0|18|g"), Some(consumed.clone()));
        assert_eq!(read("SubAfter|request|ID|3|false|key|0"), Some(Trace { group: None, timestamp: 0, ..consumed }));
        assert_eq!([read("SubBefore|18|r|g|request|ID|0|key"), read("Pub|17"), read("")], [None, None, None]);
    }
}
