package driver;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.PullResult;
import org.apache.rocketmq.client.consumer.PullStatus;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/**
 * An application's own loop over all queues of a topic, which keeps its offsets in a map: each queue is read, waiting at its
 * end, until there is nothing new. Server, group, topic, expression, first offset.
 */
public final class PullStatuses implements Driver.Extra {
    public String run(String[] words) throws Exception {
        DefaultMQPullConsumer consumer = new DefaultMQPullConsumer(words[2]);
        consumer.setNamesrvAddr(words[1]);
        consumer.setInstanceName(words[2]);
        consumer.setBrokerSuspendMaxTimeMillis(200);
        consumer.start();
        try {
            List<String> bodies = new ArrayList<String>();
            List<String> statuses = new ArrayList<String>();
            Map<MessageQueue, Long> offsets = new HashMap<MessageQueue, Long>();
            for (MessageQueue queue : consumer.fetchSubscribeMessageQueues(words[3])) {
                offsets.put(queue, Long.parseLong(words[5]));
                StringBuilder path = new StringBuilder();
                PullStatus status = null;
                while (status != PullStatus.NO_NEW_MSG) {
                    PullResult result = consumer.pullBlockIfNotFound(queue, words[4], offsets.get(queue), 32);
                    offsets.put(queue, result.getNextBeginOffset());
                    status = result.getPullStatus();
                    path.append(path.length() == 0 ? "" : " ").append(status);
                    if (status == PullStatus.FOUND) {
                        for (MessageExt message : result.getMsgFoundList()) {
                            bodies.add(new String(message.getBody(), "UTF-8"));
                        }
                    }
                }
                statuses.add(path + " " + offsets.get(queue));
            }
            return String.join(",", bodies) + "\t" + String.join(",", statuses);
        } finally {
            consumer.shutdown();
        }
    }
}
