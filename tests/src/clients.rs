//! Clients from their registries, driven line by line.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::{has, root, skip, target};

/// A process that holds one client library and does what it is told.
pub struct Client {
    pub name: String,
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Client {
    fn spawn(name: String, command: &mut Command) -> Self {
        let log = File::create(directory("logs").join(format!("{name}.log"))).unwrap();
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { name, child, input, output }
    }

    /// Has the client do something; gives the words of its answer.
    ///
    /// # Panics
    /// When it fails, with what the client said.
    pub fn call(&mut self, words: &[&str]) -> Vec<String> {
        self.try_call(words).unwrap_or_else(|error| panic!("{}: {}: {error}", self.name, words.join(" ")))
    }

    /// [`Client::call`], with a failure as an error.
    pub fn try_call(&mut self, words: &[&str]) -> Result<Vec<String>, String> {
        writeln!(self.input, "{}", words.join("\t")).map_err(|e| e.to_string())?;
        let mut line = String::new();
        self.output.read_line(&mut line).map_err(|e| e.to_string())?;
        match line.trim_end_matches('\n').split_once('\t') {
            Some(("OK", answer)) => Ok(answer.split('\t').map(str::to_owned).collect()),
            Some((_, error)) => Err(error.to_owned()),
            None => Err(format!("the client ended: see {}", directory("logs").display())),
        }
    }

    /// The bodies of an answer, in their order.
    pub fn bodies(&mut self, words: &[&str]) -> Vec<String> {
        let answer = self.call(words);
        answer[0].split(',').filter(|b| !b.is_empty()).map(str::to_owned).collect()
    }
}

impl Client {
    /// Ends the process as `kill -9` does.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn directory(name: &str) -> PathBuf {
    let path = target().join("clients").join(name);
    fs::create_dir_all(&path).unwrap();
    path
}

/// Runs `make` unless it has been run to its end for this `stamp` before; other test processes wait.
fn once(stamp: &Path, make: impl FnOnce()) {
    let _lock = lock(&stamp.with_extension("lock"));
    if !stamp.exists() {
        make();
        fs::write(stamp, "").unwrap();
    }
}

/// Waits until nobody else holds a file, which is held as long as the value lives.
fn lock(path: &Path) -> File {
    let lock = File::create(path).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    lock
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{out}\n{err}", output.status);
}

/// Whether Java and what downloads and compiles for it are here.
fn has_java() -> bool {
    let missing = ["java", "javac", "mvn"].iter().find(|program| !has(program));
    missing.inspect(|missing| skip(&format!("no {missing}"))).is_none()
}

/// A Java client of one version; `None` where there is no Java.
pub fn java_client(version: &str) -> Option<Client> {
    if !has_java() {
        return None;
    }
    let group = if version.starts_with('3') { "com.alibaba.rocketmq" } else { "org.apache.rocketmq" };
    let jars = download("client", version, &format!("-Dclient.group={group}"));
    Some(driver(version, &jars, version, &sources_of(version)))
}

/// A Java client of one version that also fills and reads whole stores (`tests/java/Exchange.java`), as it has Java's
/// tools beside it; `None` where there is no Java.
pub fn java_exchange_client(version: &str) -> Option<Client> {
    server_driver(version, "exchange", ("Exchange.java", include_str!("../java/Exchange.java")))
}

/// Java's SQL92 filters 5.4.0 (`tests/java/Filter.java`); `None` where there is no Java.
pub fn java_filter() -> Option<Client> {
    server_driver("5.4.0", "filter", ("Filter.java", include_str!("../java/Filter.java")))
}

/// The driver with a part that needs the classes of Java's server.
fn server_driver(version: &str, name: &str, part: (&'static str, &'static str)) -> Option<Client> {
    let jars = java_server_jars(version)?;
    let mut sources = sources_of(version);
    sources.push(part);
    Some(driver(version, &jars, &format!("{name}-{version}"), &sources))
}

fn source_hash(sources: &[(&str, &str)]) -> u64 {
    let bytes = sources.iter().flat_map(|(_, text)| text.bytes());
    bytes.fold(7, |hash: u64, byte| hash.wrapping_mul(31).wrapping_add(byte.into()))
}

/// Starts the driver with the parts of it that are given.
fn driver(version: &str, jars: &Path, name: &str, sources: &[(&str, &str)]) -> Client {
    let mut command = java_program(version, jars, name, sources);
    // Queues are shared out every 20 s otherwise. In 5.x consumers do it a second after their start, too, when they also send a
    // heartbeat; where both meet, the broker does not hear that a subscription is a newer one, and refuses pulls for 20 s.
    for (what, ms) in [("waitInterval", 500), ("lockInterval", 500), ("minInterval", 300)] {
        command.arg(format!("-Drocketmq.client.rebalance.{what}={ms}"));
    }
    Client::spawn(format!("java-{name}"), command.args(["-Drocketmq.client.logUseSlf4j=true", "driver.Driver"]))
}

/// A virtual machine with these sources beside jars; which class is to run is left to say.
fn java_program(version: &str, jars: &Path, name: &str, sources: &[(&str, &str)]) -> Command {
    let classes = directory("java").join(format!("driver-{name}"));
    let stamp = format!("{name}-{:x}.classes", source_hash(sources));
    once(&directory("java").join(stamp), || compile(version, jars, &classes, sources));
    let path = format!("{}/*:{}", jars.display(), classes.display());
    let mut command = Command::new("java");
    // Figures for other processes are in a file named by the process id, which two processes may have in two namespaces.
    command.args(["-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData"]);
    // What clients of Java 8's days take for granted.
    for package in ["java.lang", "java.nio", "sun.nio.ch", "java.util"] {
        command.arg("--add-opens").arg(format!("java.base/{package}=ALL-UNNAMED"));
    }
    command.arg("-cp").arg(path);
    command
}

/// The jars of clients or servers of one version.
fn download(what: &str, version: &str, option: &str) -> PathBuf {
    let jars = directory("java").join(format!("{what}-{version}"));
    once(&directory("java").join(format!("{what}-{version}.jars")), || {
        // Maven's directory is not made for several of it at a time.
        let _lock = lock(&directory("java").join("maven.lock"));
        let mut maven = Command::new("mvn");
        maven.args(["-q", "-B", "-f"]).arg(root().join(format!("tests/java/{what}.xml")));
        maven.args([&format!("-D{what}.version={version}"), option, "dependency:copy-dependencies"]);
        run(maven.arg(format!("-DoutputDirectory={}", jars.display())));
    });
    jars
}

const SOURCES: [(&str, &str); 13] = [
    ("Driver.java", include_str!("../java/Driver.java")),
    ("Transactions.java", include_str!("../java/Transactions.java")),
    ("OldTransaction.java", include_str!("../java/OldTransaction.java")),
    ("Transaction.java", include_str!("../java/Transaction.java")),
    ("Timer.java", include_str!("../java/Timer.java")),
    ("SendBatch.java", include_str!("../java/SendBatch.java")),
    ("LitePull.java", include_str!("../java/LitePull.java")),
    ("Orderly.java", include_str!("../java/Orderly.java")),
    ("Features.java", include_str!("../java/Features.java")),
    ("Pop.java", include_str!("../java/Pop.java")),
    ("Groups.java", include_str!("../java/Groups.java")),
    ("Steady.java", include_str!("../java/Steady.java")),
    ("PullStatuses.java", include_str!("../java/PullStatuses.java")),
];

/// Which parts of the driver a version has the classes for.
fn has_part(version: &str, part: &str) -> bool {
    match part {
        "OldTransaction.java" => matches!(version, "3.2.6" | "4.2.0"),
        "Orderly.java" | "SendBatch.java" => version != "3.2.6",
        "Features.java" | "Groups.java" | "Steady.java" => matches!(version, "4.9.4" | "5.4.0"),
        "Pop.java" | "Timer.java" => version.starts_with('5'),
        "Transaction.java" | "LitePull.java" => !matches!(version, "3.2.6" | "4.2.0"),
        _ => true,
    }
}

fn sources_of(version: &str) -> Vec<(&'static str, &'static str)> {
    SOURCES.into_iter().filter(|(name, _)| has_part(version, name)).collect()
}

fn compile(version: &str, jars: &Path, classes: &Path, sources: &[(&str, &str)]) {
    fs::create_dir_all(classes).unwrap();
    let mut javac = Command::new("javac");
    javac.args(["-nowarn", "-cp"]).arg(format!("{}/*", jars.display())).arg("-d").arg(classes);
    for (name, text) in sources {
        let text = if version.starts_with('3') {
            text.replace("org.apache.rocketmq", "com.alibaba.rocketmq")
        } else {
            (*text).to_owned()
        };
        let path = classes.join(name);
        fs::write(&path, text).unwrap();
        javac.arg(path);
    }
    run(&mut javac);
}

/// A Go client of one version; `None` where there is no Go.
pub fn go_client(version: &str) -> Option<Client> {
    if !has("go") {
        skip("no go");
        return None;
    }
    let mut sources = vec![("main.go", include_str!("../go/main.go"))];
    if version != "v2.0.0" {
        sources.push(("orderly.go", include_str!("../go/orderly.go")));
        sources.push(("features.go", include_str!("../go/features.go")));
    }
    let hash = source_hash(&sources);
    let module = directory("go").join(version);
    once(&directory("go").join(format!("{version}-{hash:x}.built")), || {
        fs::create_dir_all(&module).unwrap();
        let require = format!("module driver\n\ngo 1.21\n\nrequire github.com/apache/rocketmq-client-go/v2 {version}\n");
        fs::write(module.join("go.mod"), require).unwrap();
        for (name, text) in &sources {
            fs::write(module.join(name), text).unwrap();
        }
        // The client is as it was released; the reflect2 that 2.0.0 brings does not run on the Go of today.
        run(Command::new("go").args(["mod", "tidy"]).current_dir(&module));
        run(Command::new("go").args(["get", "github.com/modern-go/reflect2@v1.0.2"]).current_dir(&module));
        run(Command::new("go").args(["build", "-o", "driver", "."]).current_dir(&module));
    });
    let mut command = Command::new(module.join("driver"));
    command.env("ROCKETMQ_GO_LOG_LEVEL", "error");
    Some(Client::spawn(format!("go-{version}"), &mut command))
}

/// The jars of Java's name server, broker and tools of one version; `None` where there is no Java.
pub(crate) fn java_server_jars(version: &str) -> Option<PathBuf> {
    if !has_java() {
        return None;
    }
    Some(download("server", version, "-q"))
}

/// Java's own mqadmin 5.4.0 in one virtual machine; `None` where there is no Java. A call's words are a command line,
/// its one answer what the command printed, with `\n` for line feeds.
pub fn java_mqadmin() -> Option<Client> {
    let jars = java_server_jars("5.4.0")?;
    let sources = [("Mqadmin.java", include_str!("../java/Mqadmin.java"))];
    let mut command = java_program("5.4.0", &jars, "mqadmin", &sources);
    // Some commands leave files where they run.
    command.arg("driver.Mqadmin").current_dir(directory("mqadmin"));
    Some(Client::spawn("java-mqadmin".into(), &mut command))
}
