package driver;

import java.lang.reflect.Method;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.MessageExt;

/** Members of consumer groups of every kind, by instance: where they begin, who gets what, how often it comes again. */
public final class Groups implements Driver.Extra {
    private static final Map<String, DefaultMQPushConsumer> CONSUMERS = new ConcurrentHashMap<String, DefaultMQPushConsumer>();
    private static final Map<String, List<String>> BODIES = new ConcurrentHashMap<String, List<String>>();

    public String run(String[] words) throws Exception {
        if (words[1].equals("start")) {
            return start(words);
        }
        if (words[1].equals("seen")) {
            List<String> bodies = BODIES.get(words[2]);
            synchronized (bodies) {
                return String.join(",", bodies);
            }
        }
        CONSUMERS.remove(words[2]).shutdown();
        return "";
    }

    /** Server, group, instance, topic, where to begin, message model, and, where all messages fail, how often they come again. */
    private static String start(final String[] words) throws Exception {
        final boolean fails = words.length > 8;
        final List<String> bodies = new ArrayList<String>();
        DefaultMQPushConsumer consumer = new DefaultMQPushConsumer(words[3]);
        consumer.setNamesrvAddr(words[2]);
        consumer.setInstanceName(words[4]);
        consumer.subscribe(words[5], "*");
        consumer.setConsumeFromWhere(ConsumeFromWhere.valueOf("CONSUME_FROM_" + words[6]));
        setMessageModel(consumer, words[7]);
        if (fails) {
            consumer.setMaxReconsumeTimes(Integer.parseInt(words[8]));
        }
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            synchronized (bodies) {
                for (MessageExt message : messages) {
                    bodies.add(new String(message.getBody()) + "@" + message.getReconsumeTimes() + "@" + message.getTopic());
                }
            }
            return fails ? ConsumeConcurrentlyStatus.RECONSUME_LATER : ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        BODIES.put(words[4], bodies);
        CONSUMERS.put(words[4], consumer);
        consumer.start();
        return "";
    }

    /** The package of the model's class is another since 5.0. */
    @SuppressWarnings({"unchecked", "rawtypes"})
    private static void setMessageModel(DefaultMQPushConsumer consumer, String name) throws Exception {
        for (Method method : DefaultMQPushConsumer.class.getMethods()) {
            if (method.getName().equals("setMessageModel")) {
                method.invoke(consumer, Enum.valueOf((Class) method.getParameterTypes()[0], name));
            }
        }
    }
}
