package driver;

import java.io.BufferedReader;
import java.io.ByteArrayOutputStream;
import java.io.InputStreamReader;
import java.io.PrintStream;
import org.apache.rocketmq.tools.command.MQAdminStartup;

/** Java's mqadmin, a command a line, as starting it for each takes seconds. */
public final class Mqadmin {
    public static void main(String[] args) throws Exception {
        PrintStream out = new PrintStream(new java.io.FileOutputStream(java.io.FileDescriptor.out), true, "UTF-8");
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, "UTF-8"));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            ByteArrayOutputStream printed = new ByteArrayOutputStream();
            System.setOut(new PrintStream(printed, true, "UTF-8"));
            try {
                MQAdminStartup.main0(line.split("\t", -1), null);
                out.println("OK\t" + printed.toString("UTF-8").replace("\t", "    ").replace("\n", "\\n"));
            } catch (Throwable e) {
                out.println("ERROR\t" + e.toString().replace('\n', ' '));
            }
        }
        System.exit(0);
    }

    private Mqadmin() {
    }
}
