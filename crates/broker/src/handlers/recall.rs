//! RECALL_MESSAGE: a timer message that waits is cancelled. It is named by a handle, which the answer to its send gave.

use protocol::exchange::{Call, Refusal};
use protocol::requests::RecallMessage;
use protocol::timer::Handle;
use protocol::{codes, properties};

use crate::Broker;
use crate::answers::Reply;
use crate::config::BrokerRole;
use crate::handlers::{Handled, can_write};
use crate::timer::Recalled;

pub fn recall_message(broker: &Broker, call: &mut Call<'_>, request: RecallMessage<'_>) -> Handled {
    let config = broker.config();
    let region = [(properties::MESSAGE_REGION, config.region_id.as_str())];
    let recalled = check(broker, call, &request).and_then(|handle| {
        let recalled = Recalled {
            topic: &handle.topic,
            unique_key: &handle.unique_key,
            deliver_at: handle.deliver_at,
            producer_group: request.producer_group.unwrap_or_default(),
            born_host: call.connection.remote,
        };
        broker.recall(&config, &recalled, call.now).map(|end| (handle.unique_key, end))
    });
    match recalled {
        Err(refusal) => call.answer_with(refusal.code, Some(&refusal.remark), &(), &region, &[]),
        Ok((msg_id, end)) => broker.answer_when_stored(call, end, Reply::Recalled { msg_id }),
    }
    Ok(())
}

/// Java's refusals, in its order and words.
fn check(broker: &Broker, call: &Call<'_>, request: &RecallMessage<'_>) -> Result<Handle, Refusal> {
    let config = broker.config();
    let refuse = |code, why: &str| Err(Refusal::new(code, format!("recall failed, {why}")));
    if !config.recall_message_enable {
        return refuse(codes::NO_PERMISSION, "operation is forbidden");
    }
    if config.broker_role == BrokerRole::Slave {
        return refuse(codes::SLAVE_NOT_AVAILABLE, "broker service not available");
    }
    if !can_write(config.broker_permission) && !config.allow_recall_when_broker_not_writeable {
        return refuse(codes::SERVICE_NOT_AVAILABLE, "broker service not available");
    }
    if broker.topics.get(request.topic).is_none() {
        return refuse(codes::TOPIC_NOT_EXIST, &format!("the topic[{}] not exist", request.topic));
    }
    let handle =
        Handle::parse(request.recall_handle).ok_or_else(|| Refusal::new(codes::ILLEGAL_OPERATION, "recall handle is invalid"))?;
    if handle.topic != request.topic {
        return refuse(codes::ILLEGAL_OPERATION, "topic not match");
    }
    if handle.broker_name != config.broker_name {
        return refuse(codes::ILLEGAL_OPERATION, "broker service not available");
    }
    let left = handle.deliver_at - call.now;
    if left <= 0 || left > i64::from(config.timer_max_delay_sec) * 1000 {
        return refuse(codes::ILLEGAL_OPERATION, "timestamp invalid");
    }
    if !config.timer_wheel_enable {
        return refuse(codes::SYSTEM_ERROR, "execute error");
    }
    Ok(handle)
}
