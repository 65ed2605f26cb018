//! As much of a WebDriver client as the browser test needs.

use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Child;

/// Longest that anything in the browser may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A headless Chromium with its driver; both end with it.
pub struct Browser {
    client: reqwest::Client,
    session: String,
    driver: Child,
    group: Pid,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// Starts ChromeDriver on a free port and a browser with an empty profile.
    pub async fn start() -> Self {
        let mut command = Command::new("chromedriver");
        // A group of its own, so that whatever the driver starts can be ended with it.
        command.arg("--port=0").stdout(Stdio::piped()).stderr(Stdio::null()).process_group(0);
        let started = tokio::process::Command::from(command).kill_on_drop(true).spawn();
        let mut driver = started
            .expect("chromedriver does not start; install it: apt-get install chromium chromium-driver");
        let group = Pid::from_raw(i32::try_from(driver.id().unwrap()).unwrap()).unwrap();
        let port = port_of(&mut driver).await;
        // One part of the test binary may have chosen the provider already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();
        let profile = tempfile::tempdir().unwrap();
        let user_data = format!("--user-data-dir={}", profile.path().display());
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--window-size=1180,1000",
            &user_data,
        ];
        let capabilities = json!({ "capabilities": { "alwaysMatch": {
            "goog:chromeOptions": { "args": arguments },
            "goog:loggingPrefs": { "browser": "ALL" },
            "timeouts": { "script": PATIENCE.as_millis() / 2, "pageLoad": PATIENCE.as_millis() },
        } } });
        let driver_url = format!("http://127.0.0.1:{port}/session");
        let answer = client.post(&driver_url).json(&capabilities).send().await.unwrap();
        let answer: Value = answer.json().await.unwrap();
        let id = answer["value"]["sessionId"].as_str().unwrap_or_else(|| panic!("no session: {answer}"));
        let session = format!("{driver_url}/{id}");
        Self { client, session, driver, group, _profile: profile }
    }

    /// Ends the browser, then the driver.
    pub async fn quit(mut self) {
        let _ = self.client.delete(&self.session).send().await;
        let _ = kill_process_group(self.group, Signal::TERM);
        let _ = self.driver.wait().await;
    }

    pub async fn open(&self, url: &str) {
        self.post("url", json!({ "url": url })).await;
    }

    pub async fn title(&self) -> String {
        self.run("return document.title").await.as_str().unwrap().to_owned()
    }

    /// The text of the first element that a selector finds.
    pub async fn text(&self, selector: &str) -> String {
        let text =
            self.script("return document.querySelector(arguments[0]).textContent", json!([selector])).await;
        text.as_str().unwrap().to_owned()
    }

    pub async fn count(&self, selector: &str) -> u64 {
        self.script("return document.querySelectorAll(arguments[0]).length", json!([selector]))
            .await
            .as_u64()
            .unwrap()
    }

    pub async fn run(&self, script: &str) -> Value {
        self.script(script, json!([])).await
    }

    /// Waits, by the browser's own notice of it, until an element's text is another than `old`.
    pub async fn wait_for_change(&self, selector: &str, old: &str) -> String {
        let script = "const [selector, old, done] = arguments;
            const element = document.querySelector(selector);
            const look = () => element.textContent !== old && done(element.textContent);
            new MutationObserver(look).observe(element, { childList: true, subtree: true, characterData: true });
            look();";
        let body = json!({ "script": script, "args": [selector, old] });
        self.post("execute/async", body).await.as_str().unwrap().to_owned()
    }

    /// A picture of the window in a colour scheme.
    pub async fn screenshot(&self, scheme: &str) -> Vec<u8> {
        let media = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.post("goog/cdp/execute", json!({ "cmd": "Emulation.setEmulatedMedia", "params": media })).await;
        let whole = json!({ "format": "png", "captureBeyondViewport": true });
        let shot =
            self.post("goog/cdp/execute", json!({ "cmd": "Page.captureScreenshot", "params": whole })).await;
        STANDARD.decode(shot["data"].as_str().unwrap()).unwrap()
    }

    /// What the browser complained about since the session began: refused loads, policy violations, exceptions.
    pub async fn console_errors(&self) -> Vec<String> {
        let entries = self.post("se/log", json!({ "type": "browser" })).await;
        let entries = entries.as_array().unwrap().iter();
        entries.filter(|entry| entry["level"] == "SEVERE").map(|entry| entry["message"].to_string()).collect()
    }

    async fn script(&self, script: &str, args: Value) -> Value {
        self.post("execute/sync", json!({ "script": script, "args": args })).await
    }

    async fn post(&self, command: &str, body: Value) -> Value {
        let answer =
            self.client.post(format!("{}/{command}", self.session)).json(&body).send().await.unwrap();
        let is_ok = answer.status().is_success();
        let mut answer: Value = answer.json().await.unwrap();
        assert!(is_ok, "{command}: {answer}");
        answer["value"].take()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = kill_process_group(self.group, Signal::KILL);
    }
}

/// The port that the driver says it took: "… was started successfully on port 12345."
async fn port_of(driver: &mut Child) -> u16 {
    let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
    loop {
        let line = lines.next_line().await.unwrap().expect("chromedriver ended before it listened");
        let port = line
            .rsplit_once("successfully on port ")
            .and_then(|(_, port)| port.trim_end_matches('.').parse().ok());
        if let Some(port) = port {
            // The rest of its output is read away, so that it never blocks on a full pipe.
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
            return port;
        }
    }
}
