package driver;

import org.apache.rocketmq.client.producer.LocalTransactionExecuter;
import org.apache.rocketmq.client.producer.LocalTransactionState;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.TransactionCheckListener;
import org.apache.rocketmq.client.producer.TransactionMQProducer;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;

/** Transactions as clients had them before 4.3: a listener for questions, an executer for each send. */
public final class OldTransaction extends Transactions {
    void listen(TransactionMQProducer producer) {
        producer.setTransactionCheckListener(new TransactionCheckListener() {
            public LocalTransactionState checkLocalTransactionState(MessageExt message) {
                return question(message.getBody());
            }
        });
    }

    SendResult send(TransactionMQProducer producer, Message message) throws Exception {
        return producer.sendMessageInTransaction(message, new LocalTransactionExecuter() {
            public LocalTransactionState executeLocalTransactionBranch(Message sent, Object argument) {
                return local(sent.getBody());
            }
        }, null);
    }
}
