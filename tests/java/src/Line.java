import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import com.google.gson.JsonObject;
import java.io.BufferedReader;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.LinkedHashMap;
import java.util.Map;

/**
 * The line protocol of the test drivers: each command is one line of JSON on standard input with an "id" and an "op",
 * each answer one line of JSON on standard output with the same "id", "ok", and the operation's result or an "error".
 * Standard output carries nothing else: whatever a library prints goes to standard error.
 */
final class Line {
    /** One operation: takes the whole command, gives the fields of its answer. */
    interface Op {
        Map<String, Object> run(JsonObject command) throws Exception;
    }

    private static final Gson GSON = new GsonBuilder().serializeNulls().disableHtmlEscaping().create();
    private static final PrintStream ANSWERS =
        new PrintStream(new FileOutputStream(FileDescriptor.out), true, StandardCharsets.UTF_8);

    private Line() {
    }

    /** Answers commands until standard input ends, the operation "exit" is asked for, or the process is told to end. */
    static void serve(Map<String, Op> ops) throws IOException {
        System.setOut(System.err);
        BufferedReader commands = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = commands.readLine(); line != null; line = commands.readLine()) {
            JsonObject command = GSON.fromJson(line, JsonObject.class);
            long id = command.get("id").getAsLong();
            String name = command.get("op").getAsString();
            if (name.equals("exit")) {
                answer(id, map());
                return;
            }
            Op op = ops.get(name);
            try {
                if (op == null) {
                    throw new IllegalArgumentException("this driver has no operation " + name);
                }
                answer(id, op.run(command));
            } catch (Throwable e) {
                fail(id, e);
            }
        }
    }

    /** Writes the answer of a command that succeeded. */
    static void answer(long id, Map<String, Object> result) {
        Map<String, Object> answer = map("id", id, "ok", true);
        answer.putAll(result);
        ANSWERS.println(GSON.toJson(answer));
    }

    private static void fail(long id, Throwable e) {
        StringBuilder error = new StringBuilder();
        for (Throwable cause = e; cause != null; cause = cause.getCause()) {
            error.append(error.length() == 0 ? "" : "; caused by ");
            error.append(cause.getClass().getSimpleName()).append(": ").append(cause.getMessage());
        }
        ANSWERS.println(GSON.toJson(map("id", id, "ok", false, "error", error.toString())));
    }

    /** A map from alternating names and values, in that order. */
    static Map<String, Object> map(Object... pairs) {
        Map<String, Object> map = new LinkedHashMap<>();
        for (int i = 0; i < pairs.length; i += 2) {
            map.put((String) pairs[i], pairs[i + 1]);
        }
        return map;
    }

    /** A field of a command, or `otherwise` where the command does not name it. */
    static String text(JsonObject command, String name, String otherwise) {
        return command.has(name) ? command.get(name).getAsString() : otherwise;
    }

    static long number(JsonObject command, String name, long otherwise) {
        return command.has(name) ? command.get(name).getAsLong() : otherwise;
    }

    /** A field that the operation cannot do without. */
    static String required(JsonObject command, String name) {
        if (!command.has(name)) {
            throw new IllegalArgumentException("the command lacks \"" + name + "\"");
        }
        return command.get(name).getAsString();
    }
}
