package driver;

import java.net.URLDecoder;
import java.util.Map;
import org.apache.rocketmq.common.message.MessageDecoder;
import org.apache.rocketmq.filter.SqlFilter;
import org.apache.rocketmq.filter.expression.EvaluationContext;
import org.apache.rocketmq.filter.expression.Expression;
import org.apache.rocketmq.filter.expression.MQFilterException;

/**
 * Java's SQL92 filters: an expression, and the properties of messages as they stand in records, each with bytes as %hex.
 * The answer is "refused", or for each message "true", "false", "null" or "error".
 */
public final class Filter implements Driver.Extra {
    public String run(String[] words) throws Exception {
        Expression expression;
        try {
            expression = new SqlFilter().compile(decode(words[1]));
        } catch (MQFilterException e) {
            return "refused";
        }
        StringBuilder values = new StringBuilder();
        for (int i = 2; i < words.length; i++) {
            values.append(i == 2 ? "" : "\t").append(value(expression, MessageDecoder.string2messageProperties(decode(words[i]))));
        }
        return values.toString();
    }

    private static String value(Expression expression, Map<String, String> properties) {
        try {
            return String.valueOf(expression.evaluate(new EvaluationContext() {
                public Object get(String name) {
                    return properties.get(name);
                }

                public Map<String, Object> keyValues() {
                    throw new UnsupportedOperationException();
                }
            }));
        } catch (Exception e) {
            return "error";
        }
    }

    private static String decode(String word) throws Exception {
        return URLDecoder.decode(word, "UTF-8");
    }
}
