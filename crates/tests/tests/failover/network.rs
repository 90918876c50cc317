//! A network of our own: a bridge, and machines on it that are namespaces of the kernel. A machine can be killed, frozen and cut off with all
//! that runs on it, and no one on it or elsewhere is answered so much as that it is gone.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering};

use nix::sys::signal::kill;
use nix::unistd::Pid;
use testkit::until;
use waybill_sandbox::process::{Launch, Process, Signal};

/// What each machine has as its first process: it waits, and takes in those whose parent has ended.
const FIRST_PROCESS: &str = "echo ready; while :; do sleep 600 & wait $!; done";

/// The bridge. Dropped, it is gone.
pub struct Network {
    bridge: String,
    prefix: String,
    /// Of the next machine: none has the address of one that was, which neighbours may still know.
    next: AtomicU8,
}

/// A machine.
pub struct Machine {
    /// Its address.
    pub ip: String,
    bridge: String,
    line: String,
    /// The number of its first process.
    first: Pid,
    folder: PathBuf,
    programs: Vec<Program>,
    running: Vec<Process>,
    // Last: all that runs on it ends with it.
    holder: Process,
}

/// What runs on a machine, and is started again when the machine is.
struct Program {
    args: Vec<OsString>,
    log: PathBuf,
}

/// Whose rights a program has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rights {
    /// All.
    Root,
    /// Those of a user, by its number: Postgres refuses root.
    User(u32, u32),
}

/// What is missing for there to be such a network; `None`: nothing.
pub fn missing() -> Option<&'static str> {
    if !nix::unistd::Uid::effective().is_root() {
        return Some("networks of one's own need root");
    }
    let made = Command::new("unshare")
        .args(["--net", "--pid", "--fork", "true"])
        .output();
    match made {
        Ok(output) if output.status.success() => None,
        _ => Some("networks of one's own need the kernel's namespaces"),
    }
}

impl Network {
    /// Makes it; and takes away those that ended processes have left.
    pub fn start() -> Network {
        for entry in fs::read_dir("/sys/class/net").into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let owner = name.strip_prefix("wbr").and_then(|pid| pid.parse::<u32>().ok());
            if owner.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
                // Another run may do the same at this moment.
                let _ = Command::new("ip").args(["link", "del", &name]).output();
            }
        }
        let pid = std::process::id();
        let network = Network {
            bridge: format!("wbr{pid}"),
            prefix: format!("10.{}.{}", 64 + pid / 256 % 128, pid % 256),
            next: AtomicU8::new(10),
        };
        ip(&["link", "add", &network.bridge, "type", "bridge"]);
        ip(&[
            "addr",
            "add",
            &format!("{}.1/24", network.prefix),
            "dev",
            &network.bridge,
        ]);
        ip(&["link", "set", &network.bridge, "up"]);
        network
    }

    /// A machine, which keeps what it has in this folder.
    pub async fn machine(&self, folder: &Path) -> Machine {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        fs::create_dir_all(folder).expect("a folder");
        let log = folder.join("machine.log");
        let kinds = [
            "--net",
            "--pid",
            "--mount",
            "--mount-proc",
            "--fork",
            "--kill-child=KILL",
        ];
        let holder = Process::start(Launch {
            program: "/usr/bin/unshare".into(),
            args: kinds
                .iter()
                .copied()
                .chain(["/bin/sh", "-c", FIRST_PROCESS])
                .map(OsString::from)
                .collect(),
            output: File::create(&log).expect("a log"),
        })
        .expect("unshare runs");
        until("the machine runs", async || {
            testkit::process::read(&log).contains("ready")
        })
        .await;
        let pid = holder.pid();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).expect("a child");
        let first = Pid::from_raw(children.trim().parse().expect("one child"));
        let machine = Machine {
            ip: format!("{}.{number}", self.prefix),
            bridge: self.bridge.clone(),
            line: format!("{}m{number}", self.bridge),
            first,
            folder: folder.to_owned(),
            programs: Vec::new(),
            running: Vec::new(),
            holder,
        };
        let (line, inside) = (&machine.line, format!("m{number}"));
        ip(&[
            "link",
            "add",
            line,
            "type",
            "veth",
            "peer",
            "name",
            &inside,
            "netns",
            &first.to_string(),
        ]);
        ip(&["link", "set", line, "master", &self.bridge, "up"]);
        let address = format!("{}/24", machine.ip);
        for words in [
            &["addr", "add", &address, "dev", &inside][..],
            &["link", "set", &inside, "up"],
            &["link", "set", "lo", "up"],
        ] {
            let mut args = vec!["--net".to_owned(), format!("--target={first}"), "ip".to_owned()];
            args.extend(words.iter().map(|word| (*word).to_owned()));
            run("nsenter", &args);
        }
        machine
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        ip(&["link", "del", &self.bridge]);
    }
}

impl Machine {
    /// A folder on it.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Starts a program on it, now and whenever it is started again.
    pub fn run(&mut self, name: &str, rights: Rights, program: &Path, args: &[&str]) {
        let mut all: Vec<OsString> = vec![
            format!("--target={}", self.first).into(),
            "--net".into(),
            "--pid".into(),
            "--mount".into(),
        ];
        if let Rights::User(user, group) = rights {
            all.extend([format!("--setuid={user}").into(), format!("--setgid={group}").into()]);
        }
        all.push(program.into());
        all.extend(args.iter().map(OsString::from));
        let program = Program {
            args: all,
            log: self.folder.join(format!("{name}.log")),
        };
        self.running.push(program.start());
        self.programs.push(program);
    }

    /// All that runs on it ends at once.
    pub async fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        for mut process in self.running.drain(..) {
            process.wait().await.expect("a child");
        }
        until("nothing runs on the machine", async || self.processes().is_empty()).await;
    }

    /// It starts again.
    pub fn start(&mut self) {
        self.running = self.programs.iter().map(Program::start).collect();
    }

    /// All that runs on it stands still, and keeps its connections.
    pub fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// It goes on.
    pub fn thaw(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// Nothing comes from it or to it.
    pub fn cut_off(&self) {
        ip(&["link", "set", &self.line, "nomaster"]);
    }

    /// It is on the network again.
    pub fn join(&self) {
        ip(&["link", "set", &self.line, "master", &self.bridge]);
    }

    fn signal(&self, signal: Signal) {
        for pid in self.processes() {
            // It may have ended by itself a moment ago.
            let _ = kill(pid, signal);
        }
    }

    /// What runs on it but for what holds it: the one who made it, its first process, and what that waits for.
    fn processes(&self) -> Vec<Pid> {
        let namespace = |pid: Pid| fs::read_link(format!("/proc/{pid}/ns/net")).ok();
        let own = namespace(self.first);
        let is_first = |pid: Pid| {
            let stat = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            pid == self.first || pid == self.holder.pid() || stat.trim() == "sleep"
        };
        let is_zombie = |pid: Pid| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.rsplit(") ").next().is_none_or(|rest| rest.starts_with(['Z', 'X']))
        };
        let entries = fs::read_dir("/proc").expect("/proc").flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_string_lossy().parse().ok());
        pids.map(Pid::from_raw)
            .filter(|pid| own.is_some() && namespace(*pid) == own && !is_first(*pid) && !is_zombie(*pid))
            .collect()
    }
}

impl Program {
    fn start(&self) -> Process {
        let log = OpenOptions::new().create(true).append(true).open(&self.log);
        Process::start(Launch {
            program: "/usr/bin/nsenter".into(),
            args: self.args.clone(),
            output: log.expect("a log"),
        })
        .expect("nsenter runs")
    }
}

fn ip(args: &[&str]) {
    let args: Vec<String> = args.iter().map(|word| (*word).to_owned()).collect();
    run("ip", &args);
}

fn run(program: &str, args: &[String]) {
    let output = Command::new(program).args(args).output().expect("the program runs");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {error}");
}
