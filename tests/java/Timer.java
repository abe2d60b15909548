package driver;

import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.message.Message;

/** Messages to be delivered at a time, as clients have them since 5.0, and recalled since 5.3.2. */
public final class Timer implements Driver.Extra {
    public String run(String[] words) throws Exception {
        switch (words[1]) {
            case "recall": return Driver.producer(words[2]).recallMessage(words[3], words[4]);
            default: return send(words[1], words[2], words[3], Long.parseLong(words[4]), words[5]);
        }
    }

    private static String send(String how, String server, String topic, long time, String body) throws Exception {
        Message message = Driver.message(topic, "timer", body);
        switch (how) {
            case "afterMs": message.setDelayTimeMs(time); break;
            case "afterSec": message.setDelayTimeSec(time); break;
            case "at": message.setDeliverTimeMs(time); break;
            default: throw new IllegalArgumentException(how);
        }
        SendResult result = Driver.producer(server).send(message);
        return result.getSendStatus() + "\t" + result.getRecallHandle();
    }
}
