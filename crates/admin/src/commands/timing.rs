//! sendMsgStatus, checkMsgSendRT.

use std::time::Instant;

use protocol::names;

use super::message::sent_text;
use super::table::Call;
use crate::ops::message::{self, Draft, QueueAt, Sent};
use crate::ops::{Error, namesrv};

/// What the bodies of sendMsgStatus are made of.
const WORDS: &str = "hello jodie";

pub async fn send_msg_status(call: Call) -> Result<(), Error> {
    let topic = call.required("brokerName")?;
    let (size, count) = (size(&call, "messageSize")?, call.number("count")?.unwrap_or(50));
    let queues = message::writable_queues(&namesrv::route(&call.access, topic).await?, topic)?;
    // The first dials.
    send(&call, topic, &queues[0], &WORDS.repeat(2)).await?;
    let body = WORDS.repeat(size.div_ceil(WORDS.len()));
    for nth in 0..count {
        let (sent, ms) = send(&call, topic, &queues[nth % queues.len()], &body).await?;
        let json = serde_json::json!({ "rt": ms, "sent": sent });
        call.show(&json, || format!("rt={ms}ms, SendResult={}\n", sent_text(&sent)))?;
    }
    Ok(())
}

/// The size of a body, which no broker takes if it is too large for a frame.
fn size(call: &Call, option: &'static str) -> Result<usize, Error> {
    let size = call.number(option)?.unwrap_or(128);
    if size as u64 > message::MAX_BODY {
        let expected = format!("at most {} bytes", message::MAX_BODY);
        return Err(Error::Value { option, value: size.to_string(), expected });
    }
    Ok(size)
}

/// Sends a message, and tells how many ms that took.
async fn send(call: &Call, topic: &str, at: &QueueAt, body: &str) -> Result<(Sent, u128), Error> {
    let draft = Draft { topic, body: body.as_bytes(), properties: Vec::new(), broker_name: None, queue_id: None };
    let begin = Instant::now();
    let sent = message::send_to(&call.access, &draft, at, net::now_ms()).await?;
    Ok((sent, begin.elapsed().as_millis()))
}

pub async fn check_msg_send_rt(call: Call) -> Result<(), Error> {
    let topic = call.required("topic")?;
    names::check_topic(topic).map_err(|e| Error::Usage(e.to_string()))?;
    let (size, amount) = (size(&call, "size")?, call.number("amount")?.unwrap_or(100));
    let queues = message::writable_queues(&namesrv::route(&call.access, topic).await?, topic)?;
    let body = "a".repeat(size);
    let row = |cells: [&str; 4]| format!("{:<32}  {:<4}  {:<20}    {}\n", cells[0], cells[1], cells[2], cells[3]);
    call.print(&row(["#Broker Name", "#QID", "#Send Result", "#RT"]))?;
    let (mut total, mut failure) = (0, None);
    for nth in 0..amount {
        let at = &queues[nth % queues.len()];
        let begin = Instant::now();
        let sent = send(&call, topic, at, &body).await;
        let ms = begin.elapsed().as_millis();
        total += if nth > 0 { ms } else { 0 };
        call.print(&row([&at.queue.broker_name, &at.queue.queue_id.to_string(), &sent.is_ok().to_string(), &ms.to_string()]))?;
        failure = failure.or(sent.err());
    }
    call.print(&format!("Avg RT: {:.2}\n", total as f64 / amount.saturating_sub(1).max(1) as f64))?;
    failure.map_or(Ok(()), Err)
}
