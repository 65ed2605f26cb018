//! A real redis-server on a unix socket, with an append-only file, to be mistreated.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use redis::{Client, Commands, Connection};

pub struct RedisServer {
    dir: PathBuf,
    child: Option<Child>,
}

impl RedisServer {
    pub fn start(dir: &Path) -> Self {
        let mut server = Self { dir: dir.to_owned(), child: None };
        server.restart();
        server
    }

    pub fn url(&self) -> String {
        format!("redis+unix://{}", self.socket().display())
    }

    fn socket(&self) -> PathBuf {
        self.dir.join("redis.sock")
    }

    /// Starts the server, and returns when it says that it is ready.
    pub fn restart(&mut self) {
        assert!(self.child.is_none());
        let args = ["--port", "0", "--save", "", "--appendonly", "yes", "--appendfsync", "everysec"];
        let mut child = Command::new("redis-server")
            .args(args)
            .arg("--dir")
            .arg(&self.dir)
            .arg("--unixsocket")
            .arg(self.socket())
            .stdout(Stdio::piped())
            .spawn()
            .expect("redis-server is installed (apt-get install redis-server)");
        let mut log = BufReader::new(child.stdout.take().unwrap());
        let (mut line, mut ready) = (String::new(), false);
        while !ready && log.read_line(&mut line).unwrap() > 0 {
            ready = line.contains("eady to accept connections");
            assert!(!line.contains("Fatal") && !line.contains("Bad file format"), "{line}");
            line.clear();
        }
        assert!(ready, "redis-server did not start");
        // Keep the pipe drained, or the server would block on its log.
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        self.child = Some(child);
    }

    pub fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Tears up to `bytes` off the append-only file and mends it as `dividend up` does before a start.
    pub fn tear_tail(&self, bytes: u64) {
        let folder = self.dir.join("appendonlydir");
        let mut files: Vec<_> =
            std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.retain(|path| path.to_str().unwrap().ends_with(".incr.aof"));
        let log = std::fs::OpenOptions::new().write(true).open(files.iter().max().unwrap()).unwrap();
        let length = log.metadata().unwrap().len();
        log.set_len(length.saturating_sub(bytes)).unwrap();
        let mut check = Command::new("redis-check-aof")
            .arg("--fix")
            .arg(folder.join("appendonly.aof.manifest"))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // It asks only if there is something to cut, and may be gone already.
        let _ = check.stdin.take().unwrap().write_all(b"y\n");
        assert!(check.wait().unwrap().success());
    }

    pub fn connection(&self) -> Connection {
        Client::open(self.url()).unwrap().get_connection().unwrap()
    }

    pub fn wipe(&self) {
        redis::cmd("FLUSHALL").exec(&mut self.connection()).unwrap();
    }

    /// Names of all keys.
    pub fn keys(&self) -> Vec<String> {
        let mut keys: Vec<String> = self.connection().keys("*").unwrap();
        keys.sort();
        keys
    }

    /// Stops the server from answering, as a partition would, or lets it go on.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(self.child.as_ref().unwrap());
        rustix::process::kill_process(pid, signal).unwrap();
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.kill();
        }
    }
}
