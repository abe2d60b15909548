package driver;

import java.io.FileOutputStream;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeOrderlyContext;
import org.apache.rocketmq.client.consumer.listener.ConsumeOrderlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerOrderly;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/**
 * Ordered consumers. Each notes in a file that all of them share when it begins and ends with a message: a line is added
 * in one step, so the file is in the order of events, whichever process they are of.
 */
public final class Orderly implements Driver.Extra {
    private static final Map<String, DefaultMQPushConsumer> CONSUMERS = new ConcurrentHashMap<String, DefaultMQPushConsumer>();

    public String run(String[] words) throws Exception {
        if (words[1].equals("start")) {
            return start(words);
        }
        if (words[1].equals("send")) {
            return send(Driver.producer(words[2]), words[3], Integer.parseInt(words[4]), Integer.parseInt(words[5]));
        }
        CONSUMERS.remove(words[2]).shutdown();
        return "";
    }

    /**
     * Server, group, instance, topics, file, ms that a message takes, ms of suspension after a failure, and how often a
     * message may come again. A message whose body begins with "bad" fails.
     */
    private static String start(final String[] words) throws Exception {
        final String instance = words[4];
        final FileOutputStream file = new FileOutputStream(words[6], true);
        final long pause = Long.parseLong(words[7]);
        final long suspension = Long.parseLong(words[8]);
        DefaultMQPushConsumer consumer = new DefaultMQPushConsumer(words[3]);
        consumer.setNamesrvAddr(words[2]);
        consumer.setInstanceName(instance);
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.setMaxReconsumeTimes(Integer.parseInt(words[9]));
        for (String topic : words[5].split(",")) {
            consumer.subscribe(topic, "*");
        }
        consumer.registerMessageListener(new MessageListenerOrderly() {
            public ConsumeOrderlyStatus consumeMessage(List<MessageExt> messages, ConsumeOrderlyContext context) {
                try {
                    for (MessageExt message : messages) {
                        String body = new String(message.getBody(), "UTF-8");
                        note(file, "begin", instance, body);
                        Thread.sleep(pause);
                        if (body.startsWith("bad")) {
                            note(file, "fail", instance, body);
                            context.setSuspendCurrentQueueTimeMillis(suspension);
                            return ConsumeOrderlyStatus.SUSPEND_CURRENT_QUEUE_A_MOMENT;
                        }
                        note(file, "end", instance, body);
                    }
                } catch (Exception e) {
                    throw new IllegalStateException(e);
                }
                return ConsumeOrderlyStatus.SUCCESS;
            }
        });
        consumer.start();
        CONSUMERS.put(instance, consumer);
        return "";
    }

    private static void note(FileOutputStream file, String what, String instance, String body) throws Exception {
        file.write((what + " " + instance + " " + body + " " + System.currentTimeMillis() + "\n").getBytes("UTF-8"));
    }

    /** Sends messages from one number up to another to each queue: topic, queue and number are the body. */
    private static String send(DefaultMQProducer producer, String topic, int from, int to) throws Exception {
        List<MessageQueue> queues = new ArrayList<MessageQueue>(producer.fetchPublishMessageQueues(topic));
        Collections.sort(queues);
        for (int number = from; number < to; number++) {
            for (MessageQueue queue : queues) {
                producer.send(Driver.message(topic, "TagA", topic + "/" + queue.getQueueId() + "/" + number), queue);
            }
        }
        return "";
    }
}
