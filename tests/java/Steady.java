package driver;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.SendStatus;

/** Producers that send all the time, one message after the other, and note when one was taken. */
public final class Steady implements Driver.Extra {
    private static final long PAUSE_MS = 5;
    private static final Map<String, Steady> RUNNING = new ConcurrentHashMap<String, Steady>();

    private final List<String> acknowledged = new ArrayList<String>();
    private Thread thread;
    private int taken;
    private long last;
    private long gap;
    private String error = "";
    private volatile boolean stopping;

    public String run(String[] words) throws Exception {
        switch (words[1]) {
            case "start": return start(words[2], words[3], words[4], Integer.parseInt(words[5]));
            case "count": return RUNNING.get(words[2]).count();
            case "stop": return RUNNING.remove(words[2]).end();
            default: throw new IllegalArgumentException(words[1]);
        }
    }

    /** Begins to send to a topic; routes are looked up so often, or as often as by default where that is 0. */
    private static String start(final String name, String server, final String topic, int pollMs) throws Exception {
        final DefaultMQProducer producer = new DefaultMQProducer(name);
        producer.setNamesrvAddr(server);
        producer.setInstanceName(name);
        if (pollMs > 0) {
            producer.setPollNameServerInterval(pollMs);
        }
        producer.start();
        final Steady steady = new Steady();
        steady.thread = new Thread(() -> {
            for (int number = 0; !steady.stopping; number++) {
                String body = name + "-" + number;
                try {
                    steady.sent(body, producer.send(Driver.message(topic, "A", body)));
                } catch (Exception e) {
                    steady.failed(e);
                }
                pause();
            }
            producer.shutdown();
        });
        steady.thread.start();
        RUNNING.put(name, steady);
        return "";
    }

    private static void pause() {
        try {
            Thread.sleep(PAUSE_MS);
        } catch (InterruptedException e) {
            throw new IllegalStateException(e);
        }
    }

    private synchronized void sent(String body, SendResult result) {
        long now = System.nanoTime();
        gap = taken == 0 ? 0 : Math.max(gap, now - last);
        last = now;
        taken++;
        if (result.getSendStatus() == SendStatus.SEND_OK) {
            acknowledged.add(body);
        }
    }

    private synchronized void failed(Exception e) {
        error = e.toString().replace('\n', ' ').replace('\t', ' ');
    }

    /** How many were taken, how many of these with SEND_OK, the longest time in ms between two, and the newest failure. */
    private synchronized String count() {
        return taken + "\t" + acknowledged.size() + "\t" + gap / 1000000 + "\t" + error;
    }

    /** The bodies that were acknowledged with SEND_OK. */
    private String end() throws Exception {
        stopping = true;
        thread.join();
        return String.join(",", acknowledged);
    }
}
