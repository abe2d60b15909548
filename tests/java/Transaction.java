package driver;

import org.apache.rocketmq.client.producer.LocalTransactionState;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.TransactionListener;
import org.apache.rocketmq.client.producer.TransactionMQProducer;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;

/** Transactions as clients have had them since 4.3. */
public final class Transaction extends Transactions {
    void listen(TransactionMQProducer producer) {
        producer.setTransactionListener(new TransactionListener() {
            public LocalTransactionState executeLocalTransaction(Message message, Object argument) {
                return local(message.getBody());
            }

            public LocalTransactionState checkLocalTransaction(MessageExt message) {
                return question(message.getBody());
            }
        });
    }

    SendResult send(TransactionMQProducer producer, Message message) throws Exception {
        return producer.sendMessageInTransaction(message, null);
    }
}
