package driver;

import java.util.ArrayList;
import java.util.List;
import org.apache.rocketmq.client.consumer.DefaultLitePullConsumer;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.MessageExt;

/** The lite pull consumer: server, group, topic, how many messages to wait for. */
public final class LitePull implements Driver.Extra {
    public String run(String[] words) throws Exception {
        DefaultLitePullConsumer consumer = new DefaultLitePullConsumer(words[2]);
        consumer.setNamesrvAddr(words[1]);
        consumer.setInstanceName(words[2]);
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.subscribe(words[3], "*");
        consumer.start();
        try {
            List<String> bodies = new ArrayList<String>();
            long end = System.currentTimeMillis() + 20000;
            while (bodies.size() < Integer.parseInt(words[4]) && System.currentTimeMillis() < end) {
                for (MessageExt message : consumer.poll(200)) {
                    bodies.add(new String(message.getBody(), "UTF-8"));
                }
            }
            return String.join(",", bodies);
        } finally {
            consumer.shutdown();
        }
    }
}
