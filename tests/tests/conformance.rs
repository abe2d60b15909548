//! The same steps against Java's server 5.4.0 and against this project's; answers are compared field by field.
//! What differs on purpose is listed with the reason.

use std::collections::BTreeMap;

use tests::{Answer, Exchange, JAVA, Link, Server, Setup};

/// Where a step goes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum To {
    Broker,
    NameServer,
}
use To::{Broker, NameServer};

/// One request: what it is called here, its code, fields (`name=value`, separated by `;`) and body.
type Step = (&'static str, To, i32, &'static str, &'static str);

const SEND: &str = "a=p;b=Steps;c=TBW102;d=4;e=0;f=0;g=1;h=0";
const PULL: &str = "consumerGroup=g;topic=Steps;queueId=0;maxMsgNums=32;sysFlag=4;commitOffset=0;suspendTimeoutMillis=0;subscription=*;subVersion=0";
const POP: &str =
    "consumerGroup=poppers;topic=Steps;queueId=0;maxMsgNums=32;invisibleTime=600000;pollTime=0;bornTime=0;initMode=0;order=false";
const ACK: &str = "consumerGroup=poppers;topic=Steps;queueId=0;extraInfo=0 1 600000 0 0 broker-a 0 0;offset=0";

const LOCK_A: &str = r#"{"consumerGroup":"g","clientId":"a","mqSet":[{"brokerName":"broker-a","queueId":0,"topic":"Steps"}]}"#;
const LOCK_B: &str = r#"{"consumerGroup":"g","clientId":"b","mqSet":[{"brokerName":"broker-a","queueId":0,"topic":"Steps"}]}"#;

#[rustfmt::skip]
const STEPS: &[Step] = &[
    ("route of an unknown topic", NameServer, 105, "topic=Nothing", ""),
    ("no such request", NameServer, 9999, "", ""),
    ("missing key-value", NameServer, 101, "namespace=a;key=b", ""),
    ("put a key-value", NameServer, 100, "namespace=a;key=b;value=c", ""),
    ("get a key-value", NameServer, 101, "namespace=a;key=b", ""),
    ("list key-values", NameServer, 219, "namespace=a", ""),
    ("delete a key-value", NameServer, 102, "namespace=a;key=b", ""),
    ("wipe write permission of nobody", NameServer, 205, "brokerName=nobody", ""),
    ("a field is missing", NameServer, 105, "", ""),
    ("send to a new topic", Broker, 310, SEND, "hello"),
    ("send again", Broker, 310, SEND, "hello again"),
    ("send with the long names", Broker, 10, "producerGroup=p;topic=Steps;defaultTopic=TBW102;defaultTopicQueueNums=4;queueId=0;sysFlag=0;bornTimestamp=1;flag=0", "long"),
    ("send with properties that have no separator", Broker, 310, "a=p;b=Steps;c=TBW102;d=4;e=0;f=0;g=1;h=0;i=nothing", "odd"),
    ("send to a queue that is not there", Broker, 310, "a=p;b=Steps;c=TBW102;d=4;e=99;f=0;g=1;h=0", "x"),
    ("send to a topic name of 300 characters", Broker, 310, "a=p;b=@300;c=TBW102;d=4;e=0;f=0;g=1;h=0", "x"),
    ("send to a topic with a blank", Broker, 310, "a=p;b=no topic;c=TBW102;d=4;e=0;f=0;g=1;h=0", "x"),
    ("send to a topic that takes none", Broker, 310, "a=p;b=SCHEDULE_TOPIC_XXXX;c=TBW102;d=4;e=0;f=0;g=1;h=0", "x"),
    ("send a body that is too long", Broker, 310, SEND, "@1100"),
    ("max offset", Broker, 30, "topic=Steps;queueId=0", ""),
    ("min offset", Broker, 31, "topic=Steps;queueId=0", ""),
    ("max offset of an unknown topic", Broker, 30, "topic=Nothing;queueId=0", ""),
    ("offset by time, before all", Broker, 29, "topic=Steps;queueId=0;timestamp=1", ""),
    ("offset by time, after all", Broker, 29, "topic=Steps;queueId=0;timestamp=9999999999999", ""),
    ("pull", Broker, 11, "queueOffset=0", ""),
    ("pull at the end", Broker, 11, "queueOffset=4", ""),
    ("pull beyond the end", Broker, 11, "queueOffset=40", ""),
    ("pull before the start", Broker, 11, "queueOffset=-1", ""),
    ("pull an empty queue", Broker, 11, "queueOffset=0;queueId=1", ""),
    ("pull an empty queue from an offset", Broker, 11, "queueOffset=5;queueId=1", ""),
    ("pull a queue that is not there", Broker, 11, "queueOffset=0;queueId=99", ""),
    ("pull an unknown topic", Broker, 11, "queueOffset=0;topic=Nothing", ""),
    ("pull without a subscription", Broker, 11, "queueOffset=0;sysFlag=0", ""),
    ("pull with SQL92", Broker, 11, "queueOffset=0;expressionType=SQL92;subscription=a > 1", ""),
    ("check an expression where filters are off", Broker, 46, "", "{\"clientId\":\"c\",\"group\":\"g\",\"subscriptionData\":{\"topic\":\"Steps\",\"subString\":\"a > 1\",\"expressionType\":\"SQL92\",\"subVersion\":1}}"),
    ("switch filters on", Broker, 25, "", "enablePropertyFilter=true"),
    ("check an expression", Broker, 46, "", "{\"clientId\":\"c\",\"group\":\"g\",\"subscriptionData\":{\"topic\":\"Steps\",\"subString\":\"a > 1\",\"expressionType\":\"SQL92\",\"subVersion\":1}}"),
    ("check a bad expression", Broker, 46, "", "{\"clientId\":\"c\",\"group\":\"g\",\"subscriptionData\":{\"topic\":\"Steps\",\"subString\":\"a >\",\"expressionType\":\"SQL92\",\"subVersion\":1}}"),
    ("pull what matches", Broker, 11, "queueOffset=0;expressionType=SQL92;subscription=CLUSTER = 'DefaultCluster'", ""),
    ("pull what does not match", Broker, 11, "queueOffset=0;expressionType=SQL92;subscription=CLUSTER IN ('a', 'b')", ""),
    ("pull with a bad expression", Broker, 11, "queueOffset=0;expressionType=SQL92;subscription=a >", ""),
    ("reply without an asker", Broker, 324, "producerGroup=p;topic=DefaultCluster_REPLY_TOPIC;defaultTopic=TBW102;defaultTopicQueueNums=4;queueId=0;sysFlag=0;bornTimestamp=1;flag=0", "pong"),
    ("reply to an asker who is gone", Broker, 325, "a=p;b=DefaultCluster_REPLY_TOPIC;c=TBW102;d=4;e=0;f=0;g=1;h=0;i=REPLY_TO_CLIENT\u{1}gone\u{2}", "pong"),
    ("pull the copies of replies", Broker, 11, "queueOffset=0;topic=DefaultCluster_REPLY_TOPIC", ""),
    ("send in unit mode", Broker, 310, "a=p;b=Units;c=TBW102;d=4;e=0;f=0;g=1;h=0;k=true", "x"),
    ("settings of a topic in unit mode", Broker, 351, "topic=Units", ""),
    ("offset of a new group", Broker, 14, "consumerGroup=new;topic=Steps;queueId=0", ""),
    ("offset of a new group, strictly", Broker, 14, "consumerGroup=new;topic=Steps;queueId=0;setZeroIfNotFound=false", ""),
    ("offset of a new group, with zero asked for", Broker, 14, "consumerGroup=new;topic=Steps;queueId=0;setZeroIfNotFound=true", ""),
    ("offset of a new group in an empty queue", Broker, 14, "consumerGroup=new;topic=Steps;queueId=1", ""),
    ("offset of a new group in a queue that is not there", Broker, 14, "consumerGroup=new;topic=Steps;queueId=99", ""),
    ("offset of a new group in an unknown topic", Broker, 14, "consumerGroup=new;topic=Nothing;queueId=0", ""),
    ("send back nothing", Broker, 36, "offset=99999999;group=g;delayLevel=0", ""),
    ("send back for later", Broker, 36, "offset=0;group=g;delayLevel=0;originTopic=Steps", ""),
    ("send back for good", Broker, 36, "offset=0;group=g;delayLevel=-1;originTopic=Steps", ""),
    ("pull the dead letter", Broker, 11, "topic=%DLQ%g;queueOffset=0", ""),
    ("settings of the retry topic", Broker, 351, "topic=%RETRY%g", ""),
    ("settings of the dead letters' topic", Broker, 351, "topic=%DLQ%g", ""),
    ("lock queues", Broker, 41, "", LOCK_A),
    ("lock them for another client", Broker, 41, "", LOCK_B),
    ("unlock them for another client", Broker, 42, "", LOCK_B),
    ("lock them again", Broker, 41, "", LOCK_A),
    ("unlock queues", Broker, 42, "", LOCK_A),
    ("lock what is free again", Broker, 41, "", LOCK_B),
    ("commit an offset", Broker, 15, "consumerGroup=g;topic=Steps;queueId=0;commitOffset=2", ""),
    ("offset after the commit", Broker, 14, "consumerGroup=g;topic=Steps;queueId=0", ""),
    ("commit in an unknown topic", Broker, 15, "consumerGroup=g;topic=Nothing;queueId=0;commitOffset=2", ""),
    ("pop", Broker, 200050, "maxMsgNums=3", ""),
    ("pop the rest of the queue", Broker, 200050, "queueId=-1", ""),
    ("pop an empty queue", Broker, 200050, "queueId=1", ""),
    ("pop in order", Broker, 200050, "consumerGroup=orderly;order=true;maxMsgNums=2", ""),
    ("pop in order while that is under way", Broker, 200050, "consumerGroup=orderly;order=true", ""),
    ("pop an unknown topic", Broker, 200050, "topic=Nothing", ""),
    ("pop a queue that is not there", Broker, 200050, "queueId=99", ""),
    ("pop too many", Broker, 200050, "maxMsgNums=33", ""),
    ("pop with a bad expression", Broker, 200050, "expType=SQL92;exp=a >", ""),
    ("pop too late", Broker, 200050, "bornTime=1000", ""),
    ("pop without a number", Broker, 200050, "invisibleTime=soon", ""),
    ("acknowledge what is long over", Broker, 200051, "", ""),
    ("acknowledge in an unknown topic", Broker, 200051, "topic=Nothing", ""),
    ("acknowledge in a queue that is not there", Broker, 200051, "queueId=99", ""),
    ("acknowledge beyond the end", Broker, 200051, "offset=99", ""),
    ("acknowledge without a handle", Broker, 200051, "extraInfo=nothing", ""),
    ("acknowledge in order what is not under way", Broker, 200051, "consumerGroup=orderly;extraInfo=0 1 600000 999 0 broker-a 0 0;offset=3", ""),
    ("acknowledge nothing at once", Broker, 200151, "", ""),
    ("acknowledge several that are long over", Broker, 200151, "", r#"{"acks":[{"b":"Aw==","c":"poppers","it":1,"pt":2,"q":0,"r":"0","rq":1,"so":0,"t":"Steps"}],"brokerName":"broker-a"}"#),
    ("change the invisible time in an unknown topic", Broker, 200053, "topic=Nothing;invisibleTime=1000", ""),
    ("change the invisible time beyond the end", Broker, 200053, "offset=99;invisibleTime=1000", ""),
    ("who waits for messages", Broker, 200055, "consumerGroup=poppers;topic=Steps;queueId=0", ""),
    ("who waits in an unknown topic", Broker, 200055, "consumerGroup=poppers;topic=Nothing;queueId=0", ""),
    ("is there a message for a new group", Broker, 200054, "consumerGroup=new;topic=Steps;queueId=0;pollTime=0;bornTime=0", ""),
    ("is there a message for who had all", Broker, 200054, "consumerGroup=poppers;topic=Steps;queueId=0;pollTime=0;bornTime=0", ""),
    ("peek", Broker, 200052, "consumerGroup=new;topic=Steps;queueId=0;maxMsgNums=2", ""),
    ("peek where nothing is", Broker, 200052, "consumerGroup=new;topic=Steps;queueId=1;maxMsgNums=2", ""),
    ("all modes, while there are none", Broker, 402, "", ""),
    ("set a group's mode", Broker, 401, "", r#"{"consumerGroup":"poppers","mode":"POP","popShareQueueNum":2,"topic":"Steps"}"#),
    ("set the mode of an unknown topic", Broker, 401, "", r#"{"consumerGroup":"poppers","mode":"POP","popShareQueueNum":0,"topic":"Nothing"}"#),
    ("set the mode of a retry topic", Broker, 401, "", r#"{"consumerGroup":"poppers","mode":"POP","popShareQueueNum":0,"topic":"%RETRY%poppers"}"#),
    ("all modes", Broker, 402, "", ""),
    ("queues of a group without members", Broker, 400, "", r#"{"clientId":"c","consumerGroup":"poppers","messageModel":"CLUSTERING","strategyName":"AVG","topic":"Steps"}"#),
    ("members of no group", Broker, 38, "consumerGroup=nobody", ""),
    ("connections of no consumers", Broker, 203, "consumerGroup=nobody", ""),
    ("connections of no producers", Broker, 204, "producerGroup=nobody", ""),
    ("view nothing", Broker, 33, "offset=7", ""),
    ("a number that is none", Broker, 30, "topic=Steps;queueId=three", ""),
    ("a heartbeat that is no JSON", Broker, 34, "", "{"),
    ("a heartbeat of a producer", Broker, 34, "", "{\"clientID\":\"c\",\"producerDataSet\":[{\"groupName\":\"p\"}],\"consumerDataSet\":[]}"),
    ("a heartbeat with a fingerprint", Broker, 34, "", "{\"clientID\":\"c\",\"producerDataSet\":[{\"groupName\":\"p\"}],\"consumerDataSet\":[],\"heartbeatFingerprint\":7}"),
    ("reset one queue", Broker, 222, "topic=Steps;group=g;queueId=0;offset=1;timestamp=0;isForce=true", ""),
    ("commit after the reset", Broker, 15, "consumerGroup=g;topic=Steps;queueId=0;commitOffset=2", ""),
    ("offset after the reset", Broker, 14, "consumerGroup=g;topic=Steps;queueId=0", ""),
    ("pull after the reset", Broker, 11, "queueOffset=2", ""),
    ("pull again after the reset", Broker, 11, "queueOffset=1", ""),
    ("reset one queue to a time", Broker, 222, "topic=Steps;group=g;queueId=0;timestamp=0;isForce=true", ""),
    ("reset one queue to its end", Broker, 222, "topic=Steps;group=g;queueId=0;timestamp=-1;isForce=true", ""),
    ("reset to an offset that is not there", Broker, 222, "topic=Steps;group=g;queueId=0;offset=99;timestamp=0;isForce=true", ""),
    ("reset in an unknown topic", Broker, 222, "topic=Nothing;group=g;timestamp=0;isForce=true", ""),
    ("reset an unknown group", Broker, 222, "topic=Steps;group=nobody;timestamp=0;isForce=true", ""),
    ("clone offsets", Broker, 314, "srcGroup=g;destGroup=clone;topic=Steps;offline=true", ""),
    ("offset of the clone", Broker, 14, "consumerGroup=clone;topic=Steps;queueId=0", ""),
    ("correction offsets", Broker, 308, "topic=Steps;compareGroup=g", ""),
    ("running info of nobody", Broker, 307, "consumerGroup=g;clientId=c", ""),
    ("status of no consumers", Broker, 223, "topic=Steps;group=nobody", ""),
    ("subscription of nobody", Broker, 345, "group=nobody;topic=Steps", ""),
    ("queue entries", Broker, 321, "topic=Steps;queueId=0;index=1;count=2", ""),
    ("queue entries for nobody", Broker, 321, "topic=Steps;queueId=0;index=0;count=1;consumerGroup=nobody", ""),
    ("queue entries beyond the end", Broker, 321, "topic=Steps;queueId=0;index=99;count=2", ""),
    ("entries of a queue that is not there", Broker, 321, "topic=Steps;queueId=77;index=0;count=2", ""),
    ("figures of nothing", Broker, 315, "statsName=TOPIC_PUT_NUMS;statsKey=Nothing", ""),
    ("time span in an unknown topic", Broker, 303, "topic=Nothing;group=g", ""),
    ("may a group read", Broker, 353, "group=g;topic=Steps", ""),
    ("forbid a group to read", Broker, 353, "group=g;topic=Steps;readable=false", ""),
    ("let a group read again", Broker, 353, "group=g;topic=Steps;readable=true", ""),
    ("clean queues", Broker, 306, "", ""),
    ("clean topics", Broker, 316, "", ""),
    ("clean the log", Broker, 329, "", ""),
    ("resume nothing", Broker, 323, "msgId=7F00000100002A9F00000000000F0000", ""),
    ("make two groups", Broker, 225, "", "{\"groupConfigList\":[{\"groupName\":\"one\"},{\"groupName\":\"two\"}]}"),
    ("make a topic with others", Broker, 18, "", "{\"topicConfigList\":[{\"topicName\":\"One\",\"readQueueNums\":1,\"writeQueueNums\":1,\"perm\":6}]}"),
    ("make a topic with a bad one", Broker, 18, "", "{\"topicConfigList\":[{\"topicName\":\"no good\",\"readQueueNums\":1,\"writeQueueNums\":1,\"perm\":6}]}"),
    ("make a topic", Broker, 17, "topic=Made;defaultTopic=TBW102;readQueueNums=4;writeQueueNums=4;perm=6;topicFilterType=SINGLE_TAG;order=false", ""),
    ("settings of a topic", Broker, 351, "topic=Made", ""),
    ("settings of an unknown topic", Broker, 351, "topic=Nothing", ""),
    ("statistics of an unknown topic", Broker, 202, "topic=Nothing", ""),
    ("delete a topic", Broker, 215, "topic=Made", ""),
    ("delete a system topic", Broker, 215, "topic=TBW102", ""),
    ("no such request", Broker, 9999, "", ""),
];

/// Fields whose values are never the same twice.
const VARYING: [&str; 4] = ["msgId", "transactionId", "popTime", "reviveQid"];

/// Steps whose answers differ on purpose, and why.
const MEANT: &[(&str, &str)] = &[
    ("a field is missing", "Java looks for the topic null; here the missing field is named"),
    ("queue entries", "Java's broker writes its cluster into each record, so that sizes differ"),
    ("queue entries for nobody", "Java's broker writes its cluster into each record, so that sizes differ"),
    ("pull with a bad expression", "Java gives all messages; here it is refused, with the mistake"),
    ("pop without a number", "Java takes what is no number for 0"),
];

/// Steps whose remark differs on purpose: their code is compared, and why.
const OTHER_REMARK: &[(&str, &str)] = &[
    ("a number that is none", "Java says the exception, here the field is named"),
    ("a heartbeat that is no JSON", "Java says its parser's exception"),
    ("send to a queue that is not there", "Java prints its TopicConfig object"),
    ("pull a queue that is not there", "the client's port differs"),
    ("check a bad expression", "Java says its parser's exception, here the mistake and its place"),
    ("pop an unknown topic", "Java adds a link to its questions and answers"),
    ("pop a queue that is not there", "the client's port differs"),
    ("pop with a bad expression", "Java does not say what is bad about it"),
    ("acknowledge in an unknown topic", "Java adds a link to its questions and answers"),
    ("acknowledge in a queue that is not there", "the client's port differs"),
    ("acknowledge without a handle", "Java says the exception"),
    ("acknowledge in order what is not under way", "the client's port differs"),
    ("acknowledge nothing at once", "Java has no remark"),
    ("change the invisible time in an unknown topic", "Java adds a link to its questions and answers"),
    ("change the invisible time beyond the end", "Java has no remark"),
    ("who waits for messages", "Java says that it forgot to set a code"),
    ("is there a message for a new group", "Java says that it forgot to set a code"),
    ("is there a message for who had all", "Java says that it forgot to set a code"),
    ("who waits in an unknown topic", "Java adds a link to its questions and answers"),
    ("pull an unknown topic", "Java adds a link to its questions and answers"),
    ("pull without a subscription", "Java adds a link to its questions and answers"),
    ("route of an unknown topic", "Java adds a link to its questions and answers"),
    ("view nothing", "Java says the exception that its buffer threw"),
    ("make a topic", "Java says that it forgot to set a code"),
    ("make a topic with others", "Java says that it forgot to set a code"),
    ("status of no consumers", "Java says the exception that the missing group threw"),
    ("resume nothing", "Java says that it threw an exception"),
];

fn expand(text: &str) -> String {
    match text.strip_prefix('@').and_then(|n| n.parse().ok()) {
        Some(length) => "x".repeat(length),
        None => text.to_owned(),
    }
}

/// The answer to a step without what varies, and the bodies that it has.
fn ask(link: &mut Link, step: &Step) -> (Answer, Vec<String>) {
    let (_, _, code, fields, body) = *step;
    let mut pairs: BTreeMap<&str, String> = BTreeMap::new();
    let base = match code {
        11 => PULL,
        200050 => POP,
        200051 | 200053 => ACK,
        _ => "",
    };
    for pair in base.split(';').chain(fields.split(';')).filter(|p| !p.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap();
        pairs.insert(name, expand(value));
    }
    let fields: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let (mut answer, frame) = link.call(code, &fields.join(";"), expand(body).as_bytes());
    for name in VARYING {
        answer.fields.entry(name.to_owned()).and_modify(|value| "varies".clone_into(value));
    }
    answer.remark = answer.remark.lines().next().unwrap_or_default().trim_end().to_owned();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let bodies = match matches!(code, 11 | 200050 | 200052) && answer.code == 0 {
        true => protocol::record::decode_all(&frame.body).map(|record| text(record.unwrap().body)).collect(),
        false => vec![text(&frame.body)],
    };
    (answer, bodies)
}

#[test]
fn answers_are_javas() {
    let Some(java) = Exchange::java(JAVA, "maxMessageSize=1000\n") else { return };
    let ours = Server::start(Setup { broker: "maxMessageSize=1000\n".into() });
    let mut javas = [java.broker("127.0.0.1"), java.name_server()].map(|address| Link::to(&address));
    let mut own = [ours.broker_port, ours.namesrv_port].map(Link::connect);
    let mut differences = Vec::new();
    for step in STEPS {
        let which = usize::from(step.1 == NameServer);
        let (mut theirs, mut ours) = (ask(&mut javas[which], step), ask(&mut own[which], step));
        if OTHER_REMARK.iter().any(|(name, _)| *name == step.0) {
            (theirs.0.remark, ours.0.remark) = Default::default();
        }
        if theirs != ours && !MEANT.iter().any(|(name, _)| *name == step.0) {
            differences.push(format!("{} ({}):\n  Java {theirs:?}\n  ours {ours:?}", step.0, step.2));
        }
    }
    assert!(differences.is_empty(), "{} of {} steps differ:\n{}", differences.len(), STEPS.len(), differences.join("\n"));
}
