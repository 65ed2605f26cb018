//! The pages in Debian's Chromium, driven through ChromeDriver's WebDriver protocol
//! (<https://www.w3.org/TR/webdriver2/>).

use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::Arc;

use crate::fixture::{ALICE, MERGE, moment};
use crate::webdriver::Browser;
use dividend_dashboard::{Moment, Source};
use futures_util::FutureExt;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// A source that the test moves on.
struct Switched(watch::Receiver<Arc<Moment>>);

impl Source for Switched {
    fn moment(&self) -> Arc<Moment> {
        self.0.borrow().clone()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_render_and_follow_what_accrues() {
    let (moments, newest) = watch::channel(Arc::new(moment(5_000_000_700_000)));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = dividend_dashboard::router(Switched(newest));
    let server = tokio::spawn(dividend_dashboard::serve(listener, router, std::future::pending()));

    let browser = Browser::start().await;
    let outcome = AssertUnwindSafe(visit(&browser, &url, &moments)).catch_unwind().await;
    browser.quit().await;
    server.abort();
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
}

async fn visit(browser: &Browser, url: &str, moments: &watch::Sender<Arc<Moment>>) {
    browser.open(&format!("{url}/")).await;
    assert_eq!(browser.title().await, "Overview · Dividend");
    assert_eq!(browser.text("[data-live=charged]").await, "$8.200001");
    assert_eq!(browser.count("[data-live=models] tr").await, 5);
    shoot(browser, "overview").await;

    browser.open(&format!("{url}/models/{MERGE}")).await;
    assert_eq!(browser.count(".tree .node").await, 5, "four ancestors, the base drawn twice");
    assert_eq!(browser.count(".tree .bar").await, 4, "and counted once");
    let widths = browser
        .run("return [...document.querySelectorAll('.node .share')].map(r => r.getAttribute('width'))")
        .await;
    assert_eq!(widths, serde_json::json!(["400000", "216000", "264000", "120000"]));
    shoot(browser, "model").await;

    browser.open(&format!("{url}/contributors/{ALICE}")).await;
    let before = browser.text("[data-live=accrued]").await;
    shoot(browser, "contributor").await;
    moments.send_replace(Arc::new(moment(5_500_000_700_000)));
    // 10 cents more royalty: the base's 26.4 % · 70 % and the merge's 40 % · 15 % of them are hers.
    let after = browser.wait_for_change("[data-live=accrued]", &before).await;
    let micros = |text: &str| text.trim_start_matches('$').replace('.', "").parse::<u64>().unwrap();
    let gained = micros(&after) - micros(&before);
    assert!(gained.abs_diff(24_480) <= 2, "{before} became {after}");

    let errors = browser.console_errors().await;
    assert!(errors.is_empty(), "the console says {errors:?}");
}

/// Keeps a picture in light and in dark for whoever wants to look.
async fn shoot(browser: &Browser, name: &str) {
    for scheme in ["light", "dark"] {
        let png = browser.screenshot(scheme).await;
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{scheme}.png"));
        assert!(png.starts_with(b"\x89PNG"));
        std::fs::write(path, png).unwrap();
    }
}
