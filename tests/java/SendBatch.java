package driver;

import java.util.ArrayList;
import java.util.List;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.message.Message;

/** Several messages in one send: server, topic, tag, prefix, count. */
public final class SendBatch implements Driver.Extra {
    public String run(String[] words) throws Exception {
        List<Message> messages = new ArrayList<Message>();
        for (int i = 0; i < Integer.parseInt(words[5]); i++) {
            messages.add(Driver.message(words[2], words[3], words[4] + i));
        }
        SendResult result = Driver.producer(words[1]).send(messages);
        return result.getSendStatus() + "\t" + result.getOffsetMsgId().split(",").length;
    }
}
