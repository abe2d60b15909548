package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/apache/rocketmq-client-go/v2"
	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"
	"github.com/apache/rocketmq-client-go/v2/producer"
)

func init() {
	extras["Orderly"] = orderly
}

// Ordered consumers, by instance.
var ordered = map[string]rocketmq.PushConsumer{}

// Ordered consumption: start server group instance topics file pause suspension reconsumeTimes; stop instance; send server
// topic from to queues. See tests/java/Orderly.java.
func orderly(words []string) (string, error) {
	number := func(i int) int {
		n, _ := strconv.Atoi(words[i])
		return n
	}
	switch words[1] {
	case "start":
		return "", startOrdered(words[2], words[3], words[4], strings.Split(words[5], ","), words[6], time.Duration(number(7))*time.Millisecond, number(8), number(9))
	case "send":
		p, err := queueProducer(words[2])
		if err != nil {
			return "", err
		}
		for n := number(4); n < number(5); n++ {
			for queue := 0; queue < number(6); queue++ {
				m := message(words[3], "TagA", fmt.Sprintf("%s/%d/%d", words[3], queue, n)).WithShardingKey(strconv.Itoa(queue))
				if result, err := p.SendSync(context.Background(), m); err != nil || result.MessageQueue.QueueId != queue {
					return "", fmt.Errorf("to queue %d: %v, %v", queue, result, err)
				}
			}
		}
		return "", nil
	}
	return "", ordered[words[2]].Shutdown()
}

// Sends each message to the queue that its sharding key names.
type byShardingKey struct{}

func (byShardingKey) Select(message *primitive.Message, queues []*primitive.MessageQueue, _ string) *primitive.MessageQueue {
	for _, queue := range queues {
		if strconv.Itoa(queue.QueueId) == message.GetShardingKey() {
			return queue
		}
	}
	return nil
}

func queueProducer(server string) (rocketmq.Producer, error) {
	name := "queues of " + server
	if p, ok := producers[name]; ok {
		return p, nil
	}
	p, err := rocketmq.NewProducer(producer.WithNameServer(strings.Split(server, ";")), producer.WithGroupName("queues"), producer.WithInstanceName(name), producer.WithQueueSelector(byShardingKey{}))
	if err != nil {
		return nil, err
	}
	producers[name] = p
	return p, p.Start()
}

func startOrdered(server, group, instance string, topics []string, path string, pause time.Duration, suspension, times int) error {
	file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	c, err := rocketmq.NewPushConsumer(consumer.WithNameServer(strings.Split(server, ";")), consumer.WithGroupName(group), consumer.WithInstance(instance), consumer.WithConsumerOrder(true), consumer.WithConsumeFromWhere(consumer.ConsumeFromFirstOffset), consumer.WithMaxReconsumeTimes(int32(times)), consumer.WithRebalanceLockInterval(500*time.Millisecond))
	if err != nil {
		return err
	}
	note := func(what, body string) {
		fmt.Fprintf(file, "%s %s %s %d\n", what, instance, body, time.Now().UnixMilli())
	}
	for _, topic := range topics {
		err = c.Subscribe(topic, consumer.MessageSelector{}, func(ctx context.Context, messages ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
			for _, message := range messages {
				body := string(message.Body)
				note("begin", body)
				time.Sleep(pause)
				if strings.HasPrefix(body, "bad") {
					note("fail", body)
					orderlyContext, _ := primitive.GetOrderlyCtx(ctx)
					orderlyContext.SuspendCurrentQueueTimeMillis = suspension
					return consumer.SuspendCurrentQueueAMoment, nil
				}
				note("end", body)
			}
			return consumer.ConsumeSuccess, nil
		})
		if err != nil {
			return err
		}
	}
	ordered[instance] = c
	return c.Start()
}
