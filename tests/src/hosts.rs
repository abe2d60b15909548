//! Machines of a deployment in `deploy/`, as namespaces: the test itself is started again by the deployment's script, on one
//! more machine of its network.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use crate::{binary, has, root, skip, wait_for, wait_for_copy};

/// The environment variable with the directory that the machines' files are in.
const DIRECTORY: &str = "HOSTS";

/// The machines of a deployment, seen from one beside them. They end with the test.
pub struct Hosts {
    directory: PathBuf,
}

impl Hosts {
    /// Runs the test of this name again on a machine beside those of a deployment, after `prepare` has fetched what needs a
    /// network; `None` when that is done, or where it can't be. On that machine: the others.
    ///
    /// # Panics
    /// When the test fails there.
    pub fn enter(script: &str, test: &str, prepare: impl FnOnce() -> bool) -> Option<Self> {
        if let Some(directory) = std::env::var_os(DIRECTORY) {
            return Some(Self { directory: directory.into() });
        }
        let missing = ["unshare", "setpriv", "nsenter", "ip", "nft", "busybox", "readelf"].into_iter().find(|p| !has(p));
        if let Some(missing) = missing {
            skip(&format!("no {missing}"));
            return None;
        }
        let namespaces = ["--user", "--map-root-user", "--net", "--mount", "--pid", "--fork", "true"];
        if !Command::new("unshare").args(namespaces).status().unwrap().success() {
            skip("unshare can make no namespaces here");
            return None;
        }
        if !prepare() {
            return None;
        }
        let directory = TempDir::new().unwrap();
        let output = Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .arg(root().join(script))
            .arg(std::env::current_exe().unwrap())
            .args([test, "--exact", "--nocapture"])
            .env(DIRECTORY, directory.path())
            .env("FERROCKET_BIN", fs::canonicalize(binary()).unwrap())
            .output()
            .unwrap();
        let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        assert!(output.status.success() && said[0].contains("1 passed"), "{script}: {}\n{}", output.status, said.concat());
        None
    }

    /// A file of a machine.
    pub fn file(&self, host: &str, path: &str) -> PathBuf {
        self.directory.join(host).join("files").join(path.trim_start_matches('/'))
    }

    fn first_process(&self, host: &str) -> String {
        fs::read_to_string(self.directory.join(host).join("pid")).unwrap().trim().to_owned()
    }

    /// Runs a command on a machine; whether it succeeded, and what it printed.
    pub fn run(&self, host: &str, command: &[&str]) -> (bool, String) {
        let output = Command::new("nsenter")
            .args(["-t", &self.first_process(host), "--user", "--net", "--mount", "--pid", "--root", "--wd"])
            .arg("--preserve-credentials")
            .args(command)
            .env_clear()
            .envs([("PATH", "/bin"), ("HOME", "/home/rocketmq")])
            .output()
            .unwrap();
        (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    }

    /// Changes a machine's network from outside, with a command like `ip`.
    ///
    /// # Panics
    /// When it fails.
    pub fn net(&self, host: &str, command: &[&str]) {
        let output = Command::new("nsenter").args(["-t", &self.first_process(host), "--net"]).args(command).output().unwrap();
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// What a server printed since it was started last.
    pub fn log(&self, host: &str, process: &str) -> String {
        fs::read_to_string(self.file(host, &format!("run/{process}.log"))).unwrap_or_default()
    }

    /// Sends a server a signal.
    ///
    /// # Panics
    /// When it does not run.
    pub fn signal(&self, host: &str, process: &str, signal: &str) {
        let pid = fs::read_to_string(self.file(host, &format!("run/{process}.pid"))).unwrap();
        let (sent, said) = self.run(host, &["kill", &format!("-{signal}"), pid.trim()]);
        assert!(sent, "{process} of {host}: {said}");
    }

    /// Ends a server with a signal, and waits until it is gone.
    pub fn end(&self, host: &str, process: &str, signal: &str) {
        self.signal(host, process, signal);
        let pid = fs::read_to_string(self.file(host, &format!("run/{process}.pid"))).unwrap();
        wait_for("the server to end", || (!self.run(host, &["kill", "-0", pid.trim()]).0).then_some(()));
    }

    /// Starts a server again that has ended, as the deployment's script did.
    ///
    /// # Panics
    /// When it is not ready in time.
    pub fn start(&self, host: &str, process: &str) {
        let (started, said) = self.run(host, &["sh", &format!("/run/{process}")]);
        assert!(started, "{process} of {host}: {said}");
        wait_for("the server to be ready", || self.log(host, process).contains("boot success").then_some(()));
    }

    /// [`wait_for_copy`], of brokers given by machine, address and store.
    pub fn wait_for_copy(&self, master: [&str; 3], slave: [&str; 3]) -> (u64, u64) {
        let [of_master, of_slave] = [master, slave].map(|[host, _, store]| self.file(host, store));
        wait_for_copy((master[1], &of_master), (slave[1], &of_slave))
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        for host in fs::read_dir(&self.directory).unwrap().flatten() {
            let Ok(files) = fs::read_dir(host.path().join("files/run")) else { continue };
            for log in files.flatten().filter(|file| file.path().extension().is_some_and(|e| e == "log")) {
                let text = fs::read_to_string(log.path()).unwrap_or_default();
                let tail = text.lines().rev().take(40).collect::<Vec<_>>();
                eprintln!("{}:\n{}", log.path().display(), tail.into_iter().rev().collect::<Vec<_>>().join("\n"));
            }
        }
    }
}
