//! A bit of a commit log flips: `ferrocket admin storeCheck` names the message, and no broker ever gives it to anybody.

use std::path::{Path, PathBuf};
use std::process::Command;

use tests::{Server, Setup, admin, binary, wait_for};

/// The exit code of a command, what it prints, and what it says beside that.
fn run(words: &[&str]) -> (i32, String, String) {
    let output = Command::new(binary()).arg("admin").args(words).output().unwrap();
    let [out, err] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    (output.status.code().unwrap(), out, err)
}

/// The exit code of storeCheck, and all that it says.
fn check(options: &[&str]) -> (i32, String) {
    let (code, out, err) = run(&[&["storeCheck"], options].concat());
    (code, out + &err)
}

/// Sends a message; gives its unique key and its offset message id.
fn send(n: &str, body: &str) -> (String, String) {
    let sent = admin(&["sendMessage", "-n", n, "-t", "Checked", "-p", body, "-k", "a-key", "--json"]);
    let field = |name: &str| {
        let (_, rest) = sent.split_once(&format!("\"{name}\": \"")).unwrap();
        rest.split('"').next().unwrap().to_owned()
    };
    (field("msgId"), field("offsetMsgId"))
}

/// Flips one bit of the text where it stands in a file of the commit log. Gives the file.
fn flip(log: &Path, text: &str) -> PathBuf {
    for entry in std::fs::read_dir(log).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        if let Some(at) = bytes.windows(text.len()).position(|part| part == text.as_bytes()) {
            bytes[at] ^= 1;
            std::fs::write(&path, bytes).unwrap();
            return path;
        }
    }
    panic!("{text:?} is not in {}", log.display());
}

#[test]
fn a_message_with_a_flipped_bit_is_named_and_never_served() {
    let mut server = Server::start(Setup { broker: "mappedFileSizeCommitLog=1048576\n".to_owned() });
    let name_server = server.name_server();
    let n = name_server.as_str();
    let store = server.data().join("store");
    let root = store.to_str().unwrap();
    let messages = ["the first body", "the second body", "the third body"].map(|body| send(n, body));
    let by_key = ["queryMsgByKey", "-n", n, "-t", "Checked", "-k", "a-key"];
    wait_for("the key index", || (admin(&by_key).lines().count() == 4).then_some(()));
    // Beside a broker that runs.
    let (code, text) = check(&["-p", root]);
    assert!(code == 0 && text.contains("3 whole messages") && text.contains("nothing is damaged"), "{code}: {text}");

    server.stop();
    let file = flip(&store.join("commitlog"), "the second body");
    let (unique_key, offset_id) = &messages[1];
    let offset = u64::from_str_radix(&offset_id[16..], 16).unwrap();
    let (code, text) = check(&["-p", root]);
    assert_eq!(code, 1, "{text}");
    let expected = format!("{} damaged from offset {offset} to ", file.display());
    assert!(text.contains(&expected) && text.contains("(topic Checked, queue "), "{text}");
    assert!(text.contains("2 whole messages") && text.contains("1 part is damaged"), "{text}");
    let (code, json) = check(&["-l", store.join("commitlog").to_str().unwrap(), "--json"]);
    assert!(code == 1 && json.contains(&format!("\"offset\": {offset},")) && json.contains("\"topic\": \"Checked\""), "{json}");
    let (code, text) = check(&["-p", store.join("config").to_str().unwrap()]);
    assert!(code == 2 && text.contains("can't be read"), "{code}: {text}");
    assert_eq!(check(&[]).0, 2);

    server.start_again();
    wait_for("the topic's route", || admin(&["topicList", "-n", n]).contains("Checked").then_some(()));
    let consumed = admin(&["consumeMessage", "-n", n, "-t", "Checked"]);
    assert!(consumed.contains("the first body") && consumed.contains("the third body"), "{consumed}");
    assert!(!consumed.contains(unique_key.as_str()), "{consumed}");
    for id in [unique_key, offset_id] {
        let (code, out, _) = run(&["queryMsgById", "-n", n, "-t", "Checked", "-i", id, "--json"]);
        assert_eq!((code, out.as_str()), (1, ""));
    }
    let found = wait_for("the key index", || Some(admin(&by_key)).filter(|found| found.lines().count() == 3));
    assert!(!found.contains(unique_key.as_str()) && found.contains(&messages[2].0), "{found}");
    let whole = admin(&["queryMsgById", "-n", n, "-t", "Checked", "-i", &messages[2].1, "--json"]);
    assert!(whole.contains("the third body"), "{whole}");
}
