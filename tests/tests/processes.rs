//! Name server and broker as processes of their own, with the files and commands of running deployments.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tests::{binary, free_port, try_admin, wait_for};

/// A process whose output goes to a file; killed when dropped.
struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    fn start(directory: &Path, name: &str, command: &mut Command) -> Self {
        let log = directory.join(name);
        let out = File::create(&log).unwrap();
        let child = command.stdin(Stdio::null()).stdout(out.try_clone().unwrap()).stderr(out).spawn().unwrap();
        Self { child, log }
    }

    fn text(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    fn wait_for_line(&self, line: &str) {
        wait_for(line, || self.text().contains(line).then_some(()));
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("{}:\n{}", self.log.display(), self.text());
        }
    }
}

fn script(name: &str) -> PathBuf {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../bin");
    scripts.join(name)
}

/// A script of `bin/`, which finds the binary on the path where it is not beside it.
fn run(name: &str, home: &Path) -> Command {
    let mut command = Command::new("sh");
    command.arg(script(name)).env("JAVA_OPT", format!("-Duser.home={}", home.display())).env_remove("NAMESRV_ADDR");
    command
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Whether a test is where it sees its own processes alone, as `mqshutdown` stops all that it finds. Where it is not, it is run
/// again in such a place.
fn sees_no_others(test: &str) -> bool {
    if std::env::var_os("ALONE").is_some() {
        return true;
    }
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--pid", "--mount-proc", "--fork", "--kill-child"]);
    command.arg(std::env::current_exe().unwrap()).args([test, "--exact", "--nocapture"]).env("ALONE", "1");
    let output = command.output().unwrap();
    assert!(output.status.success() && text(&output).contains("1 passed"), "{}", text(&output));
    false
}

#[test]
fn scripts_start_and_stop_processes_as_javas_do() {
    if !sees_no_others("scripts_start_and_stop_processes_as_javas_do") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let home = directory.path();
    let (namesrv_port, broker_port) = (free_port(), free_port());
    fs::write(home.join("namesrv.conf"), format!("listenPort={namesrv_port}\n")).unwrap();
    let broker = format!(
        "# 默认\r\nbrokerClusterName = rootopCluster\r\nbrokerName = broker-a\r\nbrokerIP1=127.0.0.1\r\nlistenPort={broker_port}\r\n\
         storePathRootDir=${{user.home}}/data\r\nsendMessageThreadPoolNums: 200\r\nflushDiskTyp=SYNC_FLUSH\r\n"
    );
    fs::write(home.join("broker.conf"), broker).unwrap();
    let mut namesrv = Process::start(home, "namesrv.log", run("mqnamesrv", home).arg("-c").arg(home.join("namesrv.conf")));
    namesrv.wait_for_line(&format!("The Name Server boot success. serializeType=JSON, address 0.0.0.0:{namesrv_port}"));
    let name_server = format!("127.0.0.1:{namesrv_port}");
    let mut broker = Process::start(
        home,
        "broker.log",
        run("mqbroker", home)
            .args(["-n", &name_server, "-c"])
            .arg(home.join("broker.conf"))
            .env("JAVA_OPT_EXT", "-Xms256m -Xmx256m"),
    );
    broker.wait_for_line(&format!(
        "The broker[broker-a, 127.0.0.1:{broker_port}] boot success. serializeType=JSON and name server is {name_server}"
    ));
    let said = broker.text();
    assert!(said.contains("did you mean \"flushDiskType\"?"), "{said}");
    assert!(said.contains("-Xms256m -Xmx256m have no meaning here"), "{said}");
    assert!(home.join("data/commitlog").is_dir() && home.join("logs/rocketmqlogs/broker.log").is_file());
    let shown = run("mqadmin", home).args(["clusterList", "-n", &name_server]).output().unwrap();
    assert!(text(&shown).contains("rootopCluster"), "{}", text(&shown));
    for (what, process) in [("broker", &mut broker), ("namesrv", &mut namesrv)] {
        let stopped = run("mqshutdown", home).arg(what).output().unwrap();
        assert!(text(&stopped).contains(&format!("Send shutdown request to mq{what}(")), "{}", text(&stopped));
        let status = wait_for("the process to stop", || process.child.try_wait().unwrap());
        assert!(status.success(), "{what}: {status}");
    }
    let nothing = run("mqshutdown", home).arg("broker").output().unwrap();
    assert_eq!((nothing.status.code(), text(&nothing).trim()), (Some(255), "No mqbroker running."));
    assert!(!home.join("data/abort").exists());
}

fn refused(settings: &str) -> (Option<i32>, String) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("broker.conf");
    fs::write(&file, settings).unwrap();
    let output = Command::new(binary()).args(["broker", "-c"]).arg(&file).env("HOME", directory.path()).output().unwrap();
    (output.status.code(), text(&output))
}

#[test]
fn settings_that_can_not_be_refuse_the_start() {
    let (code, said) = refused("listenPort=abc\nflushDiskType=SYNC\n");
    assert_eq!(code, Some(1));
    assert!(
        said.contains("broker.conf:1: listenPort=abc: expected") && said.contains("broker.conf:2: flushDiskType=SYNC: expected"),
        "{said}"
    );
    let (code, said) = refused("brokerRole=SLAVE\n");
    assert_eq!(code, Some(253), "-3, as Java ends");
    assert!(said.contains("Slave's brokerId must be > 0"), "{said}");
    let (code, said) = refused("enableDLegerCommitLog=true\ndLegerGroup=g\ndLegerPeers=n0-a:40911;n1-b:40911\ndLegerSelfId=n0\n");
    assert_eq!(code, Some(252), "-4, as Java ends where modes do not fit");
    assert!(said.contains("DLedger"), "{said}");
}

#[test]
fn the_configuration_in_force_is_printed_with_its_sources() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("broker.conf");
    fs::write(&file, "maxMessageSize=65536\n").unwrap();
    let output = Command::new(binary())
        .args(["broker", "-n", "a:1", "-p", "-c"])
        .arg(&file)
        .env("HOME", directory.path())
        .output()
        .unwrap();
    let said = text(&output);
    assert!(said.contains("broker.conf:1") && said.lines().any(|l| l.starts_with("maxMessageSize=65536")), "{said}");
    assert!(said.lines().any(|l| l.starts_with("namesrvAddr=a:1") && l.contains("-n")), "{said}");
}

/// Whoever has read enough, as `head -1`, ends nothing by that.
#[test]
fn processes_outlive_who_reads_their_output() {
    let directory = tempfile::tempdir().unwrap();
    let home = directory.path();
    let (namesrv_port, broker_port) = (free_port(), free_port());
    let unread = |arguments: &[&str]| {
        let mut command = Command::new(binary());
        command.args(arguments).env("HOME", home).env("JAVA_OPT", format!("-Duser.home={}", home.display()));
        let mut child = command.env_remove("NAMESRV_ADDR").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop((child.stdout.take(), child.stderr.take()));
        child
    };
    for arguments in
        [&["broker", "-p"][..], &["completions", "bash"], &["admin", "help"], &["admin", "topicList", "-h"], &["--help"]]
    {
        assert!(unread(arguments).wait().unwrap().success(), "{arguments:?}");
    }
    let data = home.join("data");
    let mut server = unread(&[
        "server",
        "--data",
        data.to_str().unwrap(),
        "--namesrv-port",
        &namesrv_port.to_string(),
        "--broker-port",
        &broker_port.to_string(),
    ]);
    let name_server = format!("127.0.0.1:{namesrv_port}");
    wait_for("a message to be taken", || {
        let sent = try_admin(&["sendMessage", "-n", &name_server, "-t", "T", "-p", "x"]);
        sent.is_ok_and(|said| said.contains("SEND_OK")).then_some(())
    });
    kill_process(Pid::from_child(&server), Signal::TERM).unwrap();
    assert!(server.wait().unwrap().success());
}
