package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/apache/rocketmq-client-go/v2"
	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"
	"github.com/apache/rocketmq-client-go/v2/producer"
)

func init() {
	extras["Features"] = features
}

// What clients can do beyond sending and consuming; 2.0.0 can't. Options are separated by commas, or "-".
func features(words []string) (string, error) {
	switch words[1] {
	case "producer":
		return featureProducer(words[2], words[3], words[4], words[5])
	case "push":
		return featurePush(words[2], words[3], words[4], words[5], number(words[6]), words[7])
	case "sendWith":
		return sendWith(words[2], words[3], words[4], words[5])
	case "replier":
		return replier(words[2], words[3], words[4], words[5])
	case "request":
		return request(words[2], words[3], words[4])
	}
	return "", fmt.Errorf("unknown feature %q", words[1])
}

func has(options, option string) bool {
	return strings.Contains(","+options+",", ","+option+",")
}

func namespace(options string) string {
	for _, option := range strings.Split(options, ",") {
		if name, ok := strings.CutPrefix(option, "namespace="); ok {
			return name
		}
	}
	return ""
}

func tracing(server string) *primitive.TraceConfig {
	return &primitive.TraceConfig{Access: primitive.Local, Resolver: primitive.NewPassthroughResolver(strings.Split(server, ";"))}
}

// A producer that sends find under its name, with options: trace, namespace=…
func featureProducer(server, name, group, options string) (string, error) {
	with := []producer.Option{
		producer.WithNameServer(strings.Split(server, ";")), producer.WithGroupName(group), producer.WithInstanceName("p" + name),
		producer.WithNamespace(namespace(options)),
	}
	if has(options, "trace") {
		with = append(with, producer.WithTrace(tracing(server)))
	}
	p, err := rocketmq.NewProducer(with...)
	if err != nil {
		return "", err
	}
	producers[name] = p
	return "", p.Start()
}

// A consumer for "poll" and "stopPush", with the same options, sql, and max=… for how often a message comes again.
func featurePush(server, group, topic, expression string, failures int, options string) (string, error) {
	selector := consumer.MessageSelector{Type: consumer.TAG, Expression: expression}
	if has(options, "sql") {
		selector.Type = consumer.SQL92
	}
	with := []consumer.Option{consumer.WithNamespace(namespace(options))}
	if has(options, "trace") {
		with = append(with, consumer.WithTrace(tracing(server)))
	}
	for _, option := range strings.Split(options, ",") {
		if most, ok := strings.CutPrefix(option, "max="); ok {
			with = append(with, consumer.WithMaxReconsumeTimes(int32(number(most))))
		}
	}
	return collect(server, group, topic, selector, failures, with...)
}

// Sends a message with properties: name=value, separated by commas.
func sendWith(name, topic, properties, body string) (string, error) {
	m := message(topic, "TagA", body)
	for _, property := range strings.Split(properties, ",") {
		key, value, _ := strings.Cut(property, "=")
		m.WithProperty(key, value)
	}
	_, err := producers[name].SendSync(context.Background(), m)
	return "SEND_OK", err
}

// A consumer that answers every request message through a producer.
func replier(server, group, topic, name string) (string, error) {
	c, err := rocketmq.NewPushConsumer(consumer.WithNameServer(strings.Split(server, ";")), consumer.WithGroupName(group), consumer.WithInstance(group))
	if err != nil {
		return "", err
	}
	all := consumer.MessageSelector{Type: consumer.TAG, Expression: "*"}
	err = c.Subscribe(topic, all, func(_ context.Context, messages ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
		for _, m := range messages {
			if consumer.GetReplyToClient(m) == "" {
				continue
			}
			reply, err := consumer.CreateReplyMessage(m, nil)
			if err != nil {
				return consumer.ConsumeRetryLater, err
			}
			reply.Body = []byte("reply to " + string(m.Body))
			if _, err := producers[name].SendSync(context.Background(), reply); err != nil {
				return consumer.ConsumeRetryLater, err
			}
		}
		return consumer.ConsumeSuccess, nil
	})
	if err != nil {
		return "", err
	}
	return "", c.Start()
}

func request(name, topic, body string) (string, error) {
	reply, err := producers[name].Request(context.Background(), 5*time.Second, message(topic, "TagA", body))
	if err != nil {
		return "", err
	}
	return string(reply.Body), nil
}
