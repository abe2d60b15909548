import com.google.gson.Gson;
import com.google.gson.JsonObject;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.PrintStream;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import org.apache.rocketmq.common.MixAll;
import org.apache.rocketmq.tools.command.MQAdminStartup;

/**
 * Runs mqadmin commands, one after another, in one JVM: the operation "run" takes "args" and answers with what the
 * command wrote ("out", "err") and, where the command ended the process (wrong options, -h), with its exit code.
 */
final class AdminDriver extends MQAdminStartup {
    /** The command that is running: the shutdown hook answers it when the command ends the process. */
    private static final class Running {
        final long id;
        final ByteArrayOutputStream out = new ByteArrayOutputStream();
        final ByteArrayOutputStream err = new ByteArrayOutputStream();

        Running(long id) {
            this.id = id;
        }

        Map<String, Object> result(boolean exited) {
            return Line.map("out", out.toString(StandardCharsets.UTF_8), "err", err.toString(StandardCharsets.UTF_8),
                "exited", exited);
        }
    }

    private static volatile Running running;

    public static void main(String[] args) {
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            Running ended = running;
            if (ended != null) {
                Line.answer(ended.id, ended.result(true));
            }
        }));
        try {
            Line.serve(Map.of("run", AdminDriver::run));
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
        // Ends the threads that a command left behind; no command runs, so the hook has nothing to answer.
        System.exit(0);
    }

    private static Map<String, Object> run(JsonObject command) {
        String[] args = new Gson().fromJson(command.get("args"), String[].class);
        // Each command starts as in a process of its own: the startup class adds all commands at each call and leaves
        // the last name server in a system property, and commands keep their connections in fields.
        SUB_COMMANDS.clear();
        System.clearProperty(MixAll.NAMESRV_ADDR_PROPERTY);
        PrintStream out = System.out;
        PrintStream err = System.err;
        Running now = new Running(command.get("id").getAsLong());
        System.setOut(new PrintStream(now.out, true, StandardCharsets.UTF_8));
        System.setErr(new PrintStream(now.err, true, StandardCharsets.UTF_8));
        running = now;
        try {
            main0(args, null);
        } finally {
            running = null;
            System.setOut(out);
            System.setErr(err);
        }
        return now.result(false);
    }
}
