package driver;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.PullResult;
import org.apache.rocketmq.client.consumer.PullStatus;
import org.apache.rocketmq.client.producer.LocalTransactionState;
import org.apache.rocketmq.client.producer.TransactionListener;
import org.apache.rocketmq.client.producer.TransactionMQProducer;
import org.apache.rocketmq.common.TopicConfig;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageClientExt;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;
import org.apache.rocketmq.tools.admin.DefaultMQAdminExt;

/** Fills a store and says everything that a client can learn of it. */
public final class Exchange implements Driver.Extra {
    private static final String BROKER = "broker-a";
    /** Longer bodies are told by their length and hash. */
    private static final int SHOWN_BODY = 64;
    private static final long PATIENCE_MS = 180000;
    private static DefaultMQPullConsumer consumer;
    private static DefaultMQAdminExt admin;
    private static int sessions;

    public String run(String[] words) throws Exception {
        String[] rest = Arrays.copyOfRange(words, 2, words.length);
        switch (words[1]) {
            case "begin": return begin(rest[0], rest[1]);
            case "topic": return topic(rest);
            case "group": return group(rest);
            case "send": return send(rest);
            case "delayed": return delayed(rest);
            case "transactions": return transactions(rest);
            case "settings": return settings(rest);
            case "committed": return committed(rest);
            case "dump": return dump(rest);
            case "tagged": return tagged(rest);
            case "keyed": return keyed(rest);
            default: throw new IllegalArgumentException(words[1]);
        }
    }

    /** Connects anew, once the name server knows the broker's address, which may be another than before. */
    private static String begin(String server, String broker) throws Exception {
        if (consumer != null) {
            consumer.shutdown();
            admin.shutdown();
        }
        sessions++;
        consumer = new DefaultMQPullConsumer("exchange");
        consumer.setNamesrvAddr(server);
        consumer.setInstanceName("exchange" + sessions);
        consumer.start();
        admin = new DefaultMQAdminExt();
        admin.setNamesrvAddr(server);
        admin.setInstanceName("admin" + sessions);
        admin.start();
        long end = System.currentTimeMillis() + PATIENCE_MS;
        for (String known = null; !broker.equals(known); Thread.sleep(20)) {
            var brokers = admin.examineBrokerClusterInfo().getBrokerAddrTable().get(BROKER);
            known = brokers == null ? null : brokers.getBrokerAddrs().get(0L);
            if (System.currentTimeMillis() > end) {
                throw new IllegalStateException("the name server knows " + known);
            }
        }
        return "";
    }

    /** Address, topic, number of queues, permissions. */
    private static String topic(String[] words) throws Exception {
        int queues = Integer.parseInt(words[2]);
        admin.createAndUpdateTopicConfig(words[0], new TopicConfig(words[1], queues, queues, Integer.parseInt(words[3])));
        return "";
    }

    /** Address, a consumer group, how often it retries, the name of the group that is made like it. */
    private static String group(String[] words) throws Exception {
        var group = admin.examineSubscriptionGroupConfig(words[0], words[1]);
        group.setRetryMaxTimes(Integer.parseInt(words[2]));
        group.setGroupName(words[3]);
        admin.createAndUpdateSubscriptionGroupConfig(words[0], group);
        return "";
    }

    /** Address, topics separated by commas, groups: how they are set. */
    private static String settings(String[] words) throws Exception {
        List<String> out = new ArrayList<String>();
        for (String topic : words[1].split(",")) {
            out.add(admin.examineTopicConfig(words[0], topic).toString());
        }
        for (String group : words[2].split(",")) {
            out.add(admin.examineSubscriptionGroupConfig(words[0], group).toString());
        }
        return String.join("\t", out);
    }

    /** Server, topic, number of queues, count, prefix, bytes of a body: tags a, b, c, two keys and a property. */
    private static String send(String[] words) throws Exception {
        for (int i = 0; i < Integer.parseInt(words[3]); i++) {
            StringBuilder body = new StringBuilder(words[4] + i);
            while (body.length() < Integer.parseInt(words[5])) {
                body.append(' ').append(i);
            }
            Message message = new Message(words[1], "abc".substring(i % 3, i % 3 + 1), words[4] + i + " shared", body.toString().getBytes("UTF-8"));
            message.putUserProperty("number", "Nr. " + i + " \u00e9\u4e2d");
            message.setFlag(i);
            MessageQueue queue = new MessageQueue(words[1], BROKER, i % Integer.parseInt(words[2]));
            var result = Driver.producer(words[0]).send(message, queue);
            if (!result.getSendStatus().name().equals("SEND_OK")) {
                throw new IllegalStateException(result.toString());
            }
        }
        return "";
    }

    /** Server, topic, level, body. */
    private static String delayed(String[] words) throws Exception {
        Message message = Driver.message(words[1], "delayed", words[3]);
        message.setDelayTimeLevel(Integer.parseInt(words[2]));
        return Driver.producer(words[0]).send(message).getSendStatus().name();
    }

    /** Server, topic, prefix: three messages, of which the first is committed, the second rolled back, the third left. */
    private static String transactions(String[] words) throws Exception {
        TransactionMQProducer producer = new TransactionMQProducer("payers" + sessions);
        producer.setNamesrvAddr(words[0]);
        producer.setInstanceName("payers" + sessions);
        producer.setTransactionListener(new TransactionListener() {
            public LocalTransactionState executeLocalTransaction(Message message, Object state) {
                return (LocalTransactionState) state;
            }
            public LocalTransactionState checkLocalTransaction(MessageExt message) {
                return LocalTransactionState.UNKNOW;
            }
        });
        producer.start();
        try {
            for (LocalTransactionState state : LocalTransactionState.values()) {
                producer.sendMessageInTransaction(Driver.message(words[1], "paid", words[2] + state), state);
            }
        } finally {
            producer.shutdown();
        }
        return "";
    }

    /** Topic, number of queues, group: committed offsets. */
    private static String committed(String[] words) throws Exception {
        DefaultMQPullConsumer asking = new DefaultMQPullConsumer(words[2]);
        asking.setNamesrvAddr(consumer.getNamesrvAddr());
        asking.setInstanceName("asking" + sessions);
        asking.start();
        try {
            List<String> out = new ArrayList<String>();
            for (int id = 0; id < Integer.parseInt(words[1]); id++) {
                out.add("" + asking.fetchConsumeOffset(new MessageQueue(words[0], BROKER, id), true));
            }
            return String.join("\t", out);
        } finally {
            asking.shutdown();
        }
    }

    /** Topics as `name:queues`: bounds of every queue, and every message with all that is known of it. */
    private static String dump(String[] words) throws Exception {
        List<String> out = new ArrayList<String>();
        for (String word : words) {
            String[] parts = word.split(":");
            for (int id = 0; id < Integer.parseInt(parts[1]); id++) {
                MessageQueue queue = new MessageQueue(parts[0], BROKER, id);
                long min = consumer.minOffset(queue);
                long max = consumer.maxOffset(queue);
                out.add("queue " + parts[0] + " " + id + " " + min + " " + max);
                for (MessageExt message : read(queue, "*", min, max)) {
                    out.add(shown(message));
                }
            }
        }
        return String.join("\t", out);
    }

    /** Topic, number of queues, tags: bodies of what a consumer of these tags gets. */
    private static String tagged(String[] words) throws Exception {
        List<String> out = new ArrayList<String>();
        for (int id = 0; id < Integer.parseInt(words[1]); id++) {
            MessageQueue queue = new MessageQueue(words[0], BROKER, id);
            for (MessageExt message : read(queue, words[2], consumer.minOffset(queue), consumer.maxOffset(queue))) {
                out.add(id + " " + message.getQueueOffset());
            }
        }
        return String.join("\t", out);
    }

    /** Topic, key: where the messages with it are. */
    private static String keyed(String[] words) throws Exception {
        List<String> out = new ArrayList<String>();
        for (MessageExt message : consumer.queryMessage(words[0], words[1], 32, 0, Long.MAX_VALUE).getMessageList()) {
            out.add(message.getQueueId() + " " + message.getQueueOffset());
        }
        return String.join("\t", out);
    }

    private static List<MessageExt> read(MessageQueue queue, String tags, long from, long to) throws Exception {
        List<MessageExt> messages = new ArrayList<MessageExt>();
        long offset = from;
        while (offset < to) {
            PullResult result = consumer.pull(queue, tags, offset, 32);
            if (result.getPullStatus() == PullStatus.FOUND) {
                messages.addAll(result.getMsgFoundList());
            } else if (result.getPullStatus() != PullStatus.NO_MATCHED_MSG || result.getNextBeginOffset() <= offset) {
                throw new IllegalStateException(queue + " at " + offset + " of " + from + " to " + to + ": " + result);
            }
            offset = result.getNextBeginOffset();
        }
        return messages;
    }

    private static String shown(MessageExt message) throws Exception {
        Map<String, String> properties = new TreeMap<String, String>(message.getProperties());
        // The client adds the bounds of the queue.
        properties.remove("MIN_OFFSET");
        properties.remove("MAX_OFFSET");
        byte[] body = message.getBody();
        String text = body.length <= SHOWN_BODY ? new String(body, "UTF-8") : body.length + " bytes " + Arrays.hashCode(body);
        return String.join(" ", "message", message.getTopic(), "" + message.getQueueId(), "" + message.getQueueOffset(),
            "" + message.getCommitLogOffset(), "" + message.getStoreTimestamp(), text.replace(' ', '_'), "tags=" + message.getTags(),
            "keys=" + message.getKeys(), "id=" + message.getMsgId(), "offsetId=" + ((MessageClientExt) message).getOffsetMsgId(),
            "size=" + message.getStoreSize(), "crc=" + message.getBodyCRC(), "flag=" + message.getFlag(),
            "sysFlag=" + message.getSysFlag(), "born=" + message.getBornTimestamp(), "bornHost=" + message.getBornHost(),
            "storeHost=" + message.getStoreHost(), "reconsumed=" + message.getReconsumeTimes(),
            "prepared=" + message.getPreparedTransactionOffset(), properties.toString());
    }
}
