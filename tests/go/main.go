// A client that does what it is told, a line at a time: words separated by tabs in, "OK" or "ERROR" and words out.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/apache/rocketmq-client-go/v2"
	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"
	"github.com/apache/rocketmq-client-go/v2/producer"
)

const patience = 180 * time.Second

type collector struct {
	consumer rocketmq.PushConsumer
	mutex    sync.Mutex
	bodies   []string
	failures int
}

// What both versions' pull consumers have.
type puller interface {
	Start() error
	PullFrom(ctx context.Context, queue *primitive.MessageQueue, offset int64, numbers int) (*primitive.PullResult, error)
	Shutdown() error
}

// Transactions whose outcomes stand in the bodies: "commit", "rollback", "unknown" or "hold" first, for the local
// transaction, and one of the first three behind the dash, for the question.
type listener struct {
	mutex     sync.Mutex
	questions []string
	entered   chan struct{}
	released  chan struct{}
}

func state(word string) primitive.LocalTransactionState {
	switch word {
	case "commit":
		return primitive.CommitMessageState
	case "rollback":
		return primitive.RollbackMessageState
	}
	return primitive.UnknowState
}

func (l *listener) ExecuteLocalTransaction(message *primitive.Message) primitive.LocalTransactionState {
	word := strings.Split(string(message.Body), "-")[0]
	if word != "hold" {
		return state(word)
	}
	l.entered <- struct{}{}
	<-l.released
	return primitive.CommitMessageState
}

func (l *listener) CheckLocalTransaction(message *primitive.MessageExt) primitive.LocalTransactionState {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.questions = append(l.questions, string(message.Body))
	return state(strings.Split(string(message.Body), "-")[1])
}

func transaction(words []string) (string, error) {
	server := words[2]
	switch words[1] {
	case "start":
		listening = &listener{entered: make(chan struct{}, 1), released: make(chan struct{}, 1)}
		p, err := rocketmq.NewTransactionProducer(listening, producer.WithNameServer(strings.Split(server, ";")), producer.WithGroupName(words[3]), producer.WithInstanceName("t"+server))
		if err != nil {
			return "", err
		}
		transactions = p
		return "", p.Start()
	case "send":
		result, err := transactions.SendMessageInTransaction(context.Background(), message(words[3], "TagA", words[4]))
		if err != nil {
			return "", err
		}
		if result.Status != primitive.SendOK {
			return fmt.Sprint(result.Status), nil
		}
		return fmt.Sprintf("SEND_OK\t%d", result.QueueOffset), nil
	case "begin":
		go transactions.SendMessageInTransaction(context.Background(), message(words[3], "TagA", words[4]))
		select {
		case <-listening.entered:
			return "", nil
		case <-time.After(patience):
			return "", errors.New("the half message was not sent")
		}
	case "release":
		listening.released <- struct{}{}
		return "", nil
	case "questions":
		listening.mutex.Lock()
		defer listening.mutex.Unlock()
		return strings.Join(listening.questions, ","), nil
	}
	return "", transactions.Shutdown()
}

var (
	producers = map[string]rocketmq.Producer{}
	consumers = map[string]*collector{}
	// The queues that sends went to, by topic.
	queues = map[string]map[primitive.MessageQueue]bool{}
	// How many push consumers were started: each needs an instance of its own, as a stopped one can't start again.
	started      = 0
	transactions rocketmq.TransactionProducer
	listening    *listener
	// What only some versions of the client can do.
	extras = map[string]func(words []string) (string, error){}
)

func message(topic, tag, body string) *primitive.Message {
	return primitive.NewMessage(topic, []byte(body)).WithTag(tag).WithKeys([]string{"key-" + body})
}

func startProducer(server, group string) (string, error) {
	p, err := rocketmq.NewProducer(producer.WithNameServer(strings.Split(server, ";")), producer.WithGroupName(group), producer.WithInstanceName("p"+server))
	if err != nil {
		return "", err
	}
	producers[server] = p
	return "", p.Start()
}

func send(server, topic, tag, body string) (string, error) {
	result, err := producers[server].SendSync(context.Background(), message(topic, tag, body))
	if err != nil {
		return "", err
	}
	if queues[topic] == nil {
		queues[topic] = map[primitive.MessageQueue]bool{}
	}
	queues[topic][*result.MessageQueue] = true
	status := "SEND_OK"
	if result.Status != primitive.SendOK {
		status = fmt.Sprint(result.Status)
	}
	return fmt.Sprintf("%s\t%s\t%d\t%d", status, result.OffsetMsgID, result.MessageQueue.QueueId, result.QueueOffset), nil
}

func sendAsync(server, topic, prefix string, count int) (string, error) {
	failed := make(chan error, count)
	for i := 0; i < count; i++ {
		err := producers[server].SendAsync(context.Background(), func(_ context.Context, _ *primitive.SendResult, err error) { failed <- err }, message(topic, "async", prefix+strconv.Itoa(i)))
		if err != nil {
			return "", err
		}
	}
	end := time.After(patience)
	for i := 0; i < count; i++ {
		select {
		case err := <-failed:
			if err != nil {
				return "", err
			}
		case <-end:
			return "", errors.New("callbacks are missing")
		}
	}
	return "", nil
}

func sendOneway(server, topic, prefix string, count int) (string, error) {
	for i := 0; i < count; i++ {
		if err := producers[server].SendOneWay(context.Background(), message(topic, "oneway", prefix+strconv.Itoa(i))); err != nil {
			return "", err
		}
	}
	return "", nil
}

func sendBatch(server, topic, tag, prefix string, count int) (string, error) {
	var messages []*primitive.Message
	for i := 0; i < count; i++ {
		messages = append(messages, message(topic, tag, prefix+strconv.Itoa(i)))
	}
	result, err := producers[server].SendSync(context.Background(), messages...)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("SEND_OK\t%d", len(strings.Split(result.OffsetMsgID, ","))), nil
}

// A consumer that begins with the first message and hands the first failures back. A body of a message that comes again is
// followed by @ and how often it was handed back.
func push(server, group, topic, expression string, failures int) (string, error) {
	return collect(server, group, topic, consumer.MessageSelector{Type: consumer.TAG, Expression: expression}, failures)
}

func collect(server, group, topic string, selector consumer.MessageSelector, failures int, more ...consumer.Option) (string, error) {
	started++
	with := append(more, consumer.WithNameServer(strings.Split(server, ";")), consumer.WithGroupName(group), consumer.WithInstance(group+strconv.Itoa(started)), consumer.WithConsumeFromWhere(consumer.ConsumeFromFirstOffset))
	c, err := rocketmq.NewPushConsumer(with...)
	if err != nil {
		return "", err
	}
	collected := &collector{consumer: c, failures: failures}
	err = c.Subscribe(topic, selector, func(_ context.Context, messages ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
		collected.mutex.Lock()
		defer collected.mutex.Unlock()
		if collected.failures > 0 {
			collected.failures--
			return consumer.ConsumeRetryLater, nil
		}
		for _, message := range messages {
			body := string(message.Body)
			if message.ReconsumeTimes > 0 {
				body += "@" + strconv.Itoa(int(message.ReconsumeTimes))
			}
			collected.bodies = append(collected.bodies, body)
		}
		return consumer.ConsumeSuccess, nil
	})
	if err != nil {
		return "", err
	}
	consumers[group] = collected
	return "", c.Start()
}

func poll(group string, count int) (string, error) {
	collected := consumers[group]
	for end := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		collected.mutex.Lock()
		bodies := strings.Join(collected.bodies, ",")
		enough := len(collected.bodies) >= count
		collected.mutex.Unlock()
		if enough || time.Now().After(end) {
			return bodies, nil
		}
	}
}

// All bodies that came until the consumer had stopped.
func stopPush(group string) (string, error) {
	if err := consumers[group].consumer.Shutdown(); err != nil {
		return "", err
	}
	return poll(group, 0)
}

// Reads every queue that a send went to from its start to its end.
func pullAll(server, group, topic string) (string, error) {
	// The pull consumer of 2.0.0 gives its client no name servers, and panics ten seconds later for want of them. A
	// producer of the same instance shares its client, which has them.
	_, err := rocketmq.NewProducer(producer.WithNameServer(strings.Split(server, ";")), producer.WithGroupName(group), producer.WithInstanceName(group))
	if err != nil {
		return "", err
	}
	c, err := consumer.NewPullConsumer(consumer.WithNameServer(strings.Split(server, ";")), consumer.WithGroupName(group), consumer.WithInstance(group))
	if err != nil {
		return "", err
	}
	if s, ok := any(c).(interface {
		Subscribe(string, consumer.MessageSelector) error
	}); ok {
		if err := s.Subscribe(topic, consumer.MessageSelector{Type: consumer.TAG, Expression: "*"}); err != nil {
			return "", err
		}
	}
	if err := c.Start(); err != nil {
		return "", err
	}
	var bodies []string
	for queue := range queues[topic] {
		found, err := pullQueue(c, queue)
		if err != nil {
			return "", err
		}
		bodies = append(bodies, found...)
	}
	return strings.Join(bodies, ",") + "\tFOUND", c.Shutdown()
}

// The last pull of a queue is the one that reaches its end: one more would wait for a message.
func pullQueue(c puller, queue primitive.MessageQueue) ([]string, error) {
	var bodies []string
	for offset, end := int64(0), int64(1); offset < end; {
		result, err := c.PullFrom(context.Background(), &queue, offset, 32)
		if err != nil {
			return nil, err
		}
		if result.Status != primitive.PullFound {
			return nil, fmt.Errorf("queue %d at %d: status %d", queue.QueueId, offset, result.Status)
		}
		for _, message := range result.GetMessageExts() {
			bodies = append(bodies, string(message.Body))
		}
		offset, end = result.NextBeginOffset, result.MaxOffset
	}
	return bodies, nil
}

func number(word string) int {
	n, _ := strconv.Atoi(word)
	return n
}

func run(words []string) (string, error) {
	if extra, ok := extras[words[0]]; ok {
		return extra(words)
	}
	switch words[0] {
	case "producer":
		return startProducer(words[1], words[2])
	case "send":
		return send(words[1], words[2], words[3], words[4])
	case "sendAsync":
		return sendAsync(words[1], words[2], words[3], number(words[4]))
	case "sendOneway":
		return sendOneway(words[1], words[2], words[3], number(words[4]))
	case "SendBatch":
		return sendBatch(words[1], words[2], words[3], words[4], number(words[5]))
	case "Transaction":
		return transaction(words)
	case "property":
		// Of Java's virtual machine.
		return "", nil
	case "push":
		return push(words[1], words[2], words[3], words[4], number(words[5]))
	case "poll":
		return poll(words[1], number(words[2]))
	case "commit":
		return "", consumers[words[1]].consumer.(interface{ PersistConsumerOffset() error }).PersistConsumerOffset()
	case "stopPush":
		return stopPush(words[1])
	case "pullAll":
		return pullAll(words[1], words[2], words[3])
	case "stop":
		return "", producers[words[1]].Shutdown()
	}
	return "", fmt.Errorf("unknown command %q", words[0])
}

func main() {
	// What the library prints must not be taken for an answer.
	out := os.Stdout
	os.Stdout = os.Stderr
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		answer, err := run(strings.Split(lines.Text(), "\t"))
		if err != nil {
			fmt.Fprintf(out, "ERROR\t%s\n", strings.ReplaceAll(err.Error(), "\n", " "))
		} else {
			fmt.Fprintf(out, "OK\t%s\n", answer)
		}
	}
}
