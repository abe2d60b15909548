package driver;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.impl.MQClientAPIImpl;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageRequestMode;
import org.apache.rocketmq.remoting.RPCHook;
import org.apache.rocketmq.remoting.protocol.RemotingCommand;
import org.apache.rocketmq.remoting.protocol.RequestCode;

/**
 * A push consumer whose queues the broker gives it, and which pops them. Bodies say what the listener does: those that
 * begin with "later" are handed back the first time, "hold" never comes to an end and so is neither acknowledged nor
 * handed back by the consumer that got it first.
 */
final class Pop implements Driver.Extra {
    private static final long PATIENCE_MS = 180000;
    private static final Map<String, Pop> CONSUMERS = new ConcurrentHashMap<String, Pop>();

    private DefaultMQPushConsumer consumer;
    private final List<String> bodies = new ArrayList<String>();
    private final Set<String> held = new HashSet<String>();
    private int acked;

    public String run(String[] words) throws Exception {
        String group = words[2];
        switch (words[1]) {
            case "start": CONSUMERS.put(group, this); return start(group, words[3], words[4], words[5], words[6]);
            case "poll": return CONSUMERS.get(group).poll(Integer.parseInt(words[3]));
            case "acked": return CONSUMERS.get(group).acked(Integer.parseInt(words[3]));
            case "held": return CONSUMERS.get(group).held(Integer.parseInt(words[3]));
            case "stop": CONSUMERS.get(group).consumer.shutdown(); return CONSUMERS.remove(group).poll(0);
            default: throw new IllegalArgumentException(words[1]);
        }
    }

    private String start(String group, String server, final String topic, String broker, String expression) throws Exception {
        consumer = new DefaultMQPushConsumer(group, new RPCHook() {
            public void doBeforeRequest(String address, RemotingCommand request) {
            }

            public void doAfterResponse(String address, RemotingCommand request, RemotingCommand response) {
                if (request.getCode() == RequestCode.ACK_MESSAGE && response != null && response.getCode() == 0) {
                    countAnswer();
                }
            }
        });
        consumer.setNamesrvAddr(server);
        consumer.setInstanceName(group + System.nanoTime());
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.setClientRebalance(false);
        consumer.setPopInvisibleTime(5000);
        consumer.subscribe(topic, expression);
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            for (MessageExt message : messages) {
                String body = new String(message.getBody(), StandardCharsets.UTF_8);
                int times = message.getReconsumeTimes();
                if (times == 0 && body.startsWith("later")) {
                    return ConsumeConcurrentlyStatus.RECONSUME_LATER;
                }
                if (times == 0 && body.startsWith("hold")) {
                    hold(body);
                }
                note(body + (times == 0 ? "" : "@" + times), message.getTopic().equals(topic));
            }
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        consumer.start();
        MQClientAPIImpl api = consumer.getDefaultMQPushConsumerImpl().getmQClientFactory().getMQClientAPIImpl();
        api.setMessageRequestMode(broker, topic, group, MessageRequestMode.POP, 0, 10000);
        return "";
    }

    private synchronized void note(String body, boolean ownTopic) {
        bodies.add(ownTopic ? body : body + " under another topic");
        notifyAll();
    }

    private synchronized void countAnswer() {
        acked++;
        notifyAll();
    }

    /** Waits until so many acknowledgements were answered. */
    private synchronized String acked(int count) throws InterruptedException {
        long end = System.currentTimeMillis() + PATIENCE_MS;
        while (acked < count && System.currentTimeMillis() < end) {
            wait(100);
        }
        return String.valueOf(acked);
    }

    private synchronized void hold(String body) {
        held.add(body);
        notifyAll();
        try {
            for (;;) {
                wait();
            }
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
    }

    private synchronized String poll(int count) throws InterruptedException {
        long end = System.currentTimeMillis() + PATIENCE_MS;
        while (bodies.size() < count && System.currentTimeMillis() < end) {
            wait(100);
        }
        return String.join(",", bodies);
    }

    private synchronized String held(int count) throws InterruptedException {
        long end = System.currentTimeMillis() + PATIENCE_MS;
        while (held.size() < count && System.currentTimeMillis() < end) {
            wait(100);
        }
        return String.join(",", held);
    }
}
