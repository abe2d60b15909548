package driver;

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.PullResult;
import org.apache.rocketmq.client.consumer.PullStatus;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.impl.consumer.ProcessQueue;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendCallback;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/**
 * A client that does what it is told, a line at a time: words separated by tabs in, "OK" or "ERROR" and words out.
 * All scenarios of one client version run in one virtual machine, as starting one takes longer than a scenario.
 */
public final class Driver {
    private static final long PATIENCE_SECONDS = 180;
    /** Less than patience: a consumer may be stopped with messages that it has not been able to take. */
    private static final long SETTLE_MS = 10000;
    private static final Map<String, DefaultMQProducer> PRODUCERS = new ConcurrentHashMap<String, DefaultMQProducer>();
    private static final Map<String, Collector> CONSUMERS = new ConcurrentHashMap<String, Collector>();

    /** Part of the driver that only some versions have the classes for. */
    public interface Extra {
        String run(String[] words) throws Exception;
    }

    private static final class Collector {
        DefaultMQPushConsumer consumer;
        final List<String> bodies = new ArrayList<String>();
        int failures;
    }

    public static void main(String[] args) throws Exception {
        PrintStream out = new PrintStream(new java.io.FileOutputStream(java.io.FileDescriptor.out), true, "UTF-8");
        // What client libraries print must not be taken for an answer.
        System.setOut(System.err);
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            try {
                out.println("OK\t" + run(line.split("\t", -1)));
            } catch (Throwable e) {
                e.printStackTrace();
                out.println("ERROR\t" + e.toString().replace('\n', ' '));
            }
        }
        System.exit(0);
    }

    private static String run(String[] words) throws Exception {
        switch (words[0]) {
            case "property": System.setProperty(words[1], words[2]); return "";
            case "producer": return startProducer(words[1], words[2]);
            case "send": return send(words[1], words[2], words[3], words[4]);
            case "sendAsync": return sendAsync(words[1], words[2], words[3], Integer.parseInt(words[4]));
            case "sendOneway": return sendOneway(words[1], words[2], words[3], Integer.parseInt(words[4]));
            case "push": return push(words[1], words[2], words[3], words[4], Integer.parseInt(words[5]), words.length > 6 ? words[6] : "CONSUME_FROM_FIRST_OFFSET");
            case "poll": return poll(words[1], Integer.parseInt(words[2]));
            case "commit": CONSUMERS.get(words[1]).consumer.getDefaultMQPushConsumerImpl().persistConsumerOffset(); return "";
            case "stopPush": return stopPush(words[1]);
            case "pullAt": return pullAt(words[1], words[2], words[3], words[4], Long.parseLong(words[5]));
            case "pullAll": return pullAll(words[1], words[2], words[3]);
            case "view": return new String(view(words[1], words[2], words[3]).getBody(), StandardCharsets.UTF_8);
            case "stop": PRODUCERS.remove(words[1]).shutdown(); return "";
            default: return ((Extra) Class.forName("driver." + words[0]).getDeclaredConstructor().newInstance()).run(words);
        }
    }

    static DefaultMQProducer producer(String server) {
        return PRODUCERS.get(server);
    }

    private static String startProducer(String server, String group) throws Exception {
        return start(new DefaultMQProducer(group), server, server);
    }

    /** Starts a producer that sends find under a name. */
    static String start(DefaultMQProducer producer, String server, String name) throws Exception {
        producer.setNamesrvAddr(server);
        producer.setInstanceName("p" + name.hashCode());
        producer.setSendMsgTimeout(10000);
        producer.start();
        PRODUCERS.put(name, producer);
        return "";
    }

    static Message message(String topic, String tag, String body) throws Exception {
        return new Message(topic, tag, "key-" + body, body.getBytes("UTF-8"));
    }

    private static String send(String server, String topic, String tag, String body) throws Exception {
        SendResult result = producer(server).send(message(topic, tag, body));
        MessageQueue queue = result.getMessageQueue();
        return result.getSendStatus() + "\t" + offsetId(result) + "\t" + queue.getQueueId() + "\t" + result.getQueueOffset();
    }

    /** Versions before 3.5 know one message id only, which is that of the offset. */
    private static String offsetId(SendResult result) throws Exception {
        try {
            return (String) SendResult.class.getMethod("getOffsetMsgId").invoke(result);
        } catch (NoSuchMethodException e) {
            return result.getMsgId();
        }
    }

    private static String sendAsync(String server, String topic, String prefix, int count) throws Exception {
        final CountDownLatch done = new CountDownLatch(count);
        final List<String> errors = new ArrayList<String>();
        for (int i = 0; i < count; i++) {
            producer(server).send(message(topic, "async", prefix + i), new SendCallback() {
                public void onSuccess(SendResult result) {
                    done.countDown();
                }
                public void onException(Throwable e) {
                    synchronized (errors) {
                        errors.add(e.toString());
                    }
                    done.countDown();
                }
            });
        }
        if (!done.await(PATIENCE_SECONDS, TimeUnit.SECONDS) || !errors.isEmpty()) {
            throw new IllegalStateException(done.getCount() + " callbacks are missing, errors " + errors);
        }
        return "";
    }

    private static String sendOneway(String server, String topic, String prefix, int count) throws Exception {
        for (int i = 0; i < count; i++) {
            producer(server).sendOneway(message(topic, "oneway", prefix + i));
        }
        return "";
    }

    /**
     * A consumer that hands the first `failures` messages back; `where` a new group begins. A body of a message that comes
     * again is followed by @ and how often it was handed back.
     */
    private static String push(String server, String group, String topic, String expression, int failures, String where) throws Exception {
        DefaultMQPushConsumer consumer = new DefaultMQPushConsumer(group);
        consumer.subscribe(topic, expression);
        return collect(consumer, server, group, failures, ConsumeFromWhere.valueOf(where));
    }

    /** Starts a consumer that has its subscription, from the first message on where its group is new. */
    static String collect(DefaultMQPushConsumer consumer, String server, String group, int failures) throws Exception {
        return collect(consumer, server, group, failures, ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
    }

    private static String collect(DefaultMQPushConsumer consumer, String server, String group, int failures, ConsumeFromWhere where) throws Exception {
        final Collector collector = new Collector();
        collector.failures = failures;
        consumer.setNamesrvAddr(server);
        consumer.setInstanceName(group);
        consumer.setConsumeFromWhere(where);
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            synchronized (collector) {
                if (collector.failures > 0) {
                    collector.failures--;
                    return ConsumeConcurrentlyStatus.RECONSUME_LATER;
                }
                for (MessageExt message : messages) {
                    String again = message.getReconsumeTimes() == 0 ? "" : "@" + message.getReconsumeTimes();
                    collector.bodies.add(new String(message.getBody(), StandardCharsets.UTF_8) + again);
                }
                collector.notifyAll();
            }
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        collector.consumer = consumer;
        consumer.start();
        CONSUMERS.put(group, collector);
        return "";
    }

    /** All bodies so far, once there are `count` of them or patience ends. */
    private static String poll(String group, int count) throws Exception {
        Collector collector = CONSUMERS.get(group);
        long end = System.currentTimeMillis() + PATIENCE_SECONDS * 1000;
        synchronized (collector) {
            while (collector.bodies.size() < count && System.currentTimeMillis() < end) {
                collector.wait(100);
            }
            return String.join(",", collector.bodies);
        }
    }

    /** All bodies that came until the consumer had stopped. */
    private static String stopPush(String group) throws Exception {
        DefaultMQPushConsumer consumer = CONSUMERS.get(group).consumer;
        settle(consumer);
        consumer.shutdown();
        String bodies = poll(group, 0);
        CONSUMERS.remove(group);
        return bodies;
    }

    /** Waits until what was given to the listener counts as consumed: a consumer that stops before that leaves it to the next. */
    private static void settle(DefaultMQPushConsumer consumer) throws Exception {
        long end = System.currentTimeMillis() + SETTLE_MS;
        long open = 1;
        while (open > 0 && System.currentTimeMillis() < end) {
            open = 0;
            for (ProcessQueue queue : consumer.getDefaultMQPushConsumerImpl().getRebalanceImpl().getProcessQueueTable().values()) {
                open += queue.getMsgCount().get();
            }
            Thread.sleep(open > 0 ? 10 : 0);
        }
    }

    /** Reads every queue from its start to its end with the pull consumer of old. */
    private static String pullAll(String server, String group, String topic) throws Exception {
        DefaultMQPullConsumer consumer = new DefaultMQPullConsumer(group);
        consumer.setNamesrvAddr(server);
        consumer.setInstanceName(group);
        consumer.start();
        try {
            List<String> bodies = new ArrayList<String>();
            Set<String> seen = new TreeSet<String>();
            for (MessageQueue queue : consumer.fetchSubscribeMessageQueues(topic)) {
                long offset = 0;
                for (boolean end = false; !end; ) {
                    PullResult result = consumer.pull(queue, "*", offset, 32);
                    seen.add(result.getPullStatus().name());
                    if (result.getPullStatus() == PullStatus.FOUND) {
                        for (MessageExt message : result.getMsgFoundList()) {
                            bodies.add(new String(message.getBody(), StandardCharsets.UTF_8));
                        }
                    }
                    end = result.getPullStatus() == PullStatus.NO_NEW_MSG;
                    offset = result.getNextBeginOffset();
                }
            }
            return String.join(",", bodies) + "\t" + String.join(",", seen);
        } finally {
            consumer.shutdown();
        }
    }

    /** Pulls once from the topic's first queue; what became of it, and where the next pull begins. */
    private static String pullAt(String server, String group, String topic, String expression, long offset) throws Exception {
        DefaultMQPullConsumer consumer = new DefaultMQPullConsumer(group);
        consumer.setNamesrvAddr(server);
        consumer.setInstanceName(group);
        consumer.start();
        try {
            for (MessageQueue queue : consumer.fetchSubscribeMessageQueues(topic)) {
                if (queue.getQueueId() == 0) {
                    PullResult result = consumer.pull(queue, expression, offset, 32);
                    return result.getPullStatus() + "\t" + result.getNextBeginOffset();
                }
            }
            throw new IllegalStateException("no queue 0");
        } finally {
            consumer.shutdown();
        }
    }

    /** By its offset id. 3.2.6 has no form that takes the topic. */
    static MessageExt view(String server, String topic, String id) throws Exception {
        try {
            return (MessageExt) DefaultMQProducer.class.getMethod("viewMessage", String.class, String.class).invoke(producer(server), topic, id);
        } catch (NoSuchMethodException e) {
            return (MessageExt) DefaultMQProducer.class.getMethod("viewMessage", String.class).invoke(producer(server), id);
        }
    }

    private Driver() {
    }
}
