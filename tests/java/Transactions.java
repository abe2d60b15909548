package driver;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.apache.rocketmq.client.producer.LocalTransactionState;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.TransactionMQProducer;
import org.apache.rocketmq.common.message.Message;

/**
 * Transactions whose outcomes stand in the bodies: "commit", "rollback", "unknown" or "hold" first, for the local
 * transaction, and one of the first three behind the dash, for the question. How a listener is set depends on the
 * version.
 */
abstract class Transactions implements Driver.Extra {
    private static final Map<String, TransactionMQProducer> PRODUCERS = new ConcurrentHashMap<String, TransactionMQProducer>();
    private static final Map<String, CountDownLatch> ENTERED = new ConcurrentHashMap<String, CountDownLatch>();
    private static final Map<String, CountDownLatch> RELEASED = new ConcurrentHashMap<String, CountDownLatch>();
    private static final List<String> QUESTIONS = new ArrayList<String>();

    abstract void listen(TransactionMQProducer producer);

    abstract SendResult send(TransactionMQProducer producer, Message message) throws Exception;

    public String run(final String[] words) throws Exception {
        final String server = words[2];
        if (words[1].equals("start")) {
            TransactionMQProducer producer = new TransactionMQProducer(words[3]);
            producer.setNamesrvAddr(server);
            producer.setInstanceName("t" + server.hashCode());
            producer.setSendMsgTimeout(10000);
            producer.setHeartbeatBrokerInterval(2000);
            listen(producer);
            producer.start();
            PRODUCERS.put(server, producer);
            return "";
        }
        if (words[1].equals("send")) {
            SendResult result = send(PRODUCERS.get(server), Driver.message(words[3], "TagA", words[4]));
            return result.getSendStatus() + "\t" + result.getQueueOffset();
        }
        if (words[1].equals("begin")) {
            begin(server, words[3], words[4]);
            return "";
        }
        if (words[1].equals("release")) {
            RELEASED.get(words[3]).countDown();
            return "";
        }
        if (words[1].equals("questions")) {
            synchronized (QUESTIONS) {
                return String.join(",", QUESTIONS);
            }
        }
        PRODUCERS.remove(server).shutdown();
        return "";
    }

    /** Sends a half message and comes back while its local transaction runs. */
    private void begin(final String server, final String topic, final String body) throws Exception {
        ENTERED.put(body, new CountDownLatch(1));
        RELEASED.put(body, new CountDownLatch(1));
        Thread thread = new Thread(new Runnable() {
            public void run() {
                try {
                    send(PRODUCERS.get(server), Driver.message(topic, "TagA", body));
                } catch (Exception e) {
                    e.printStackTrace();
                }
            }
        });
        thread.setDaemon(true);
        thread.start();
        if (!ENTERED.get(body).await(20, TimeUnit.SECONDS)) {
            throw new IllegalStateException("the half message was not sent");
        }
    }

    static LocalTransactionState local(byte[] body) {
        String text = text(body);
        if (!text.startsWith("hold")) {
            return state(text.split("-")[0]);
        }
        ENTERED.get(text).countDown();
        try {
            RELEASED.get(text).await();
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
        return LocalTransactionState.COMMIT_MESSAGE;
    }

    static LocalTransactionState question(byte[] body) {
        String text = text(body);
        synchronized (QUESTIONS) {
            QUESTIONS.add(text);
        }
        return state(text.split("-")[1]);
    }

    private static LocalTransactionState state(String word) {
        if (word.equals("commit")) {
            return LocalTransactionState.COMMIT_MESSAGE;
        }
        return word.equals("rollback") ? LocalTransactionState.ROLLBACK_MESSAGE : LocalTransactionState.UNKNOW;
    }

    private static String text(byte[] body) {
        return new String(body, java.nio.charset.StandardCharsets.UTF_8);
    }
}
