package driver;

import java.nio.charset.StandardCharsets;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import org.apache.rocketmq.client.ClientConfig;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.MessageSelector;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.impl.MQClientAPIImpl;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.RequestCallback;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.utils.MessageUtil;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;

/** What clients can do beyond sending and consuming. Options are separated by commas, or "-". */
public final class Features implements Driver.Extra {
    public String run(String[] words) throws Exception {
        switch (words[1]) {
            case "producer": return producer(words[2], words[3], words[4], words[5]);
            case "push": return push(words[2], words[3], words[4], words[5], Integer.parseInt(words[6]), words[7]);
            case "sendWith": return sendWith(words[2], words[3], words[4], words[5]);
            case "sysFlag": return sysFlag(words[2], words[3], words[4]);
            case "replier": return replier(words[2], words[3], words[4], words[5]);
            case "request": return request(words[2], words[3], words[4]);
            case "requestAsync": return requestAsync(words[2], words[3], words[4]);
            case "unitTopics": return unitTopics(words[2]);
            default: throw new IllegalArgumentException(words[1]);
        }
    }

    private static boolean has(String options, String option) {
        return ("," + options + ",").contains("," + option + ",");
    }

    private static <T extends ClientConfig> T configured(T client, String options) throws Exception {
        client.setUnitMode(has(options, "unit"));
        for (String option : options.split(",")) {
            if (option.startsWith("namespace=")) {
                client.setNamespace(option.substring("namespace=".length()));
            } else if (option.startsWith("namespaceV2=")) {
                // Only 5.x has it.
                ClientConfig.class.getMethod("setNamespaceV2", String.class).invoke(client, option.substring("namespaceV2=".length()));
            }
        }
        return client;
    }

    /** A producer that sends find under its name, with options: trace, unit, namespace=…, namespaceV2=… */
    private static String producer(String server, String name, String group, String options) throws Exception {
        DefaultMQProducer producer = new DefaultMQProducer(group, has(options, "trace"), null);
        return Driver.start(configured(producer, options), server, name);
    }

    /** A consumer for "poll" and "stopPush", with the same options and sql. */
    private static String push(String server, String group, String topic, String expression, int failures, String options) throws Exception {
        DefaultMQPushConsumer consumer = configured(new DefaultMQPushConsumer(group, has(options, "trace"), null), options);
        if (has(options, "sql")) {
            consumer.subscribe(topic, MessageSelector.bySql(expression));
        } else {
            consumer.subscribe(topic, expression);
        }
        try {
            return Driver.collect(consumer, server, group, failures);
        } catch (Exception e) {
            consumer.shutdown();
            throw e;
        }
    }

    /** Sends a message with properties: name=value, separated by commas. */
    private static String sendWith(String name, String topic, String properties, String body) throws Exception {
        Message message = Driver.message(topic, "TagA", body);
        for (String property : properties.split(",")) {
            String[] pair = property.split("=");
            message.putUserProperty(pair[0], pair[1]);
        }
        return Driver.producer(name).send(message).getSendStatus().name();
    }

    /** Sends a message; gives the flags under which it is stored, and whether the client reads the same body again. */
    private static String sysFlag(String name, String topic, String body) throws Exception {
        SendResult result = Driver.producer(name).send(Driver.message(topic, "TagA", body));
        MessageExt stored = Driver.view(name, topic, result.getOffsetMsgId());
        return stored.getSysFlag() + "\t" + body.equals(new String(stored.getBody(), StandardCharsets.UTF_8));
    }

    /** A consumer that answers every request message through a producer. */
    private static String replier(String server, String group, String topic, String name) throws Exception {
        DefaultMQPushConsumer consumer = new DefaultMQPushConsumer(group);
        consumer.setNamesrvAddr(server);
        consumer.setInstanceName(group);
        consumer.subscribe(topic, "*");
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            for (MessageExt message : messages) {
                if (MessageUtil.getReplyToClient(message) == null) {
                    continue;
                }
                try {
                    byte[] body = ("reply to " + new String(message.getBody(), StandardCharsets.UTF_8)).getBytes(StandardCharsets.UTF_8);
                    Driver.producer(name).send(MessageUtil.createReplyMessage(message, body));
                } catch (Exception e) {
                    e.printStackTrace();
                }
            }
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        consumer.start();
        return "";
    }

    private static String request(String name, String topic, String body) throws Exception {
        Message reply = Driver.producer(name).request(Driver.message(topic, "TagA", body), 5000);
        return new String(reply.getBody(), StandardCharsets.UTF_8);
    }

    private static String requestAsync(String name, String topic, String body) throws Exception {
        CompletableFuture<String> answer = new CompletableFuture<String>();
        Driver.producer(name).request(Driver.message(topic, "TagA", body), new RequestCallback() {
            public void onSuccess(Message reply) {
                answer.complete(new String(reply.getBody(), StandardCharsets.UTF_8));
            }

            public void onException(Throwable e) {
                answer.completeExceptionally(e);
            }
        }, 5000);
        return answer.get(10, TimeUnit.SECONDS);
    }

    /** The name server's three lists of topics in unit mode. */
    private static String unitTopics(String name) throws Exception {
        MQClientAPIImpl api = Driver.producer(name).getDefaultMQProducerImpl().getMqClientFactory().getMQClientAPIImpl();
        return String.join(",", api.getUnitTopicList(true, 5000).getTopicList())
            + "\t" + String.join(",", api.getHasUnitSubTopicList(true, 5000).getTopicList())
            + "\t" + String.join(",", api.getHasUnitSubUnUnitTopicList(true, 5000).getTopicList());
    }
}
