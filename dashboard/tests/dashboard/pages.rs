//! Pages and API over a fixed moment, without a socket.

use std::sync::Arc;

use crate::fixture::{ALICE, BOB, CAROL, DAVE, ERIN, HOSTILE, LEFT, MARKUP, MERGE, moment};
use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode, header};
use dividend_dashboard::figures;
use http_body_util::BodyExt;
use tower::ServiceExt;

const MERGE_PICO: u128 = 5_000_000_700_000;

fn router() -> Router {
    dividend_dashboard::router(Arc::new(moment(MERGE_PICO)))
}

async fn fetch(request: Request<Body>) -> (StatusCode, HeaderMap, String) {
    let (parts, body) = router().oneshot(request).await.unwrap().into_parts();
    let text = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
    (parts.status, parts.headers, text)
}

async fn get(path: &str) -> (StatusCode, String) {
    let (status, _, text) = fetch(Request::get(path).body(Body::empty()).unwrap()).await;
    (status, text)
}

async fn api(path: &str) -> serde_json::Value {
    let (status, text) = get(path).await;
    assert_eq!(status, StatusCode::OK, "{path}: {text}");
    serde_json::from_str(&text).unwrap()
}

#[tokio::test]
async fn the_overview_shows_models_money_and_windows() {
    let (status, html) = get("/").await;
    assert_eq!(status, StatusCode::OK);
    // 5.0000007 + 2.4000005 + 0.8 dollars, of which 20 % is royalty, floored per lane.
    for part in ["$8.20<small>0001</small>", "smollm2-triage@3", "serving", "submitted", "48,211", "301,877"]
    {
        assert!(html.contains(part), "{part} is missing");
    }
    assert!(!html.contains("<script>"), "no inline script");
    assert!(!html.contains("style="), "no inline style");
}

#[tokio::test]
async fn a_contributor_sees_what_is_accrued_and_how_to_claim() {
    let (status, html) = get(&format!("/contributors/{ALICE}")).await;
    assert_eq!(status, StatusCode::OK);
    assert!(html.contains(&format!("dividend claim --address {ALICE}")));
    assert!(html.contains("18.48 %"), "26.4 % of the merge's royalty for the base, 70 % of it hers");
    let (_, nobody) = get("/contributors/0x00000000000000000000000000000000000000ff").await;
    assert!(nobody.contains("holds no share in any model"));
}

#[tokio::test]
async fn a_model_shows_its_lineage_once_per_node() {
    for name in [MERGE.to_string(), "smollm2-triage".to_owned(), "smollm2-triage@3".to_owned()] {
        let (status, html) = get(&format!("/models/{name}")).await;
        assert_eq!(status, StatusCode::OK, "{name}");
        assert_eq!(html.matches("counted above").count(), 1, "the base is reached twice and counted once");
        for part in ["26.4 %", "weight 60 %", "$0.15", "$0.70", "sha256"] {
            assert!(html.contains(part), "{part} is missing");
        }
    }
}

#[tokio::test]
async fn one_pass_over_all_contributors_agrees_with_each_ones_own_page() {
    let moment = moment(MERGE_PICO);
    let all = figures::contributors(&moment);
    assert_eq!(all.len(), 5);
    for address in [ALICE, BOB, CAROL, DAVE, ERIN] {
        let own = figures::contributor(&moment, address).earnings;
        let listed = all.iter().find(|row| row.address == address).unwrap();
        assert_eq!(listed.amounts, own.amounts, "{address}");
        assert_eq!(listed.slots, own.models.iter().map(|model| model.slots.len()).sum::<usize>());
    }
    assert!(all.is_sorted_by_key(|row| std::cmp::Reverse(row.amounts.accrued_units)));
}

#[tokio::test]
async fn the_api_says_the_same_with_exact_amounts() {
    let contributor = api(&format!("/api/contributors/{ALICE}")).await;
    insta::assert_json_snapshot!("contributor", contributor);
    insta::assert_json_snapshot!("model", api(&format!("/api/models/{MERGE}")).await);
    insta::assert_json_snapshot!("overview", api("/api/overview").await);
    let models = api("/api/models").await;
    assert_eq!(models[0]["charge_pico"], MERGE_PICO.to_string());
    assert_eq!(models[0]["id"], MERGE.to_string());
    assert_eq!(api("/api/contributors").await.as_array().unwrap().len(), 5);
}

#[tokio::test]
async fn text_from_the_chain_is_only_ever_text() {
    for path in ["/".to_owned(), format!("/models/{HOSTILE}"), format!("/contributors/{BOB}")] {
        let (status, html) = get(&path).await;
        assert_eq!(status, StatusCode::OK);
        assert!(!html.contains("<img"), "{path}");
        assert!(html.contains("&#60;img src=x"), "{path}");
        assert!(!html.contains(['\u{202e}', '\0']), "{path}");
        assert!(!html.contains(MARKUP), "{path}");
    }
    let (_, html) = get(&format!("/models/{HOSTILE}")).await;
    assert!(html.contains("verifiers"), "a row that is no model is the track's pot");
    let (status, html) = get("/models/%3Cscript%3Ealert(1)%3C%2Fscript%3E%E2%80%AE").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert!(!html.contains("<script>alert") && !html.contains('\u{202e}'));
}

#[tokio::test]
async fn what_is_not_there_is_said_as_page_and_as_json() {
    let cases = [
        ("/nowhere", StatusCode::NOT_FOUND),
        ("/models/0x12", StatusCode::NOT_FOUND),
        ("/contributors/0x12", StatusCode::BAD_REQUEST),
        ("/contributors?address=x", StatusCode::BAD_REQUEST),
        ("/contributors", StatusCode::BAD_REQUEST),
    ];
    for (path, expected) in cases {
        let (status, html) = get(path).await;
        assert_eq!(status, expected, "{path}");
        assert!(html.contains("Back to the overview"), "{path}");
    }
    for (path, code) in [
        ("/api/nowhere", "not_found"),
        ("/api/models/x", "model_not_found"),
        ("/api/contributors/x", "bad_address"),
    ] {
        let (status, text) = get(path).await;
        let body: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert!(status.is_client_error(), "{path}");
        assert_eq!(body["error"]["code"], code, "{path}");
        assert!(body["error"]["message"].is_string() && body["error"]["type"].is_string());
    }
}

#[tokio::test]
async fn the_form_leads_to_the_page_of_the_address() {
    let request = Request::get(format!("/contributors?address=%20{}%20", CAROL.to_string().to_lowercase()));
    let (status, headers, _) = fetch(request.body(Body::empty()).unwrap()).await;
    assert_eq!(status, StatusCode::SEE_OTHER);
    assert_eq!(headers[header::LOCATION], format!("/contributors/{CAROL}"));
}

#[tokio::test]
async fn answers_are_tagged_and_hardened() {
    for path in [
        "/".to_owned(),
        "/api/overview".to_owned(),
        "/assets/style.css".to_owned(),
        format!("/models/{LEFT}"),
    ] {
        let (_, headers, text) = fetch(Request::get(&path).body(Body::empty()).unwrap()).await;
        let policy = headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{path}: {policy}");
        assert_eq!(headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
        let tag = headers[header::ETAG].clone();
        let again = Request::get(&path).header(header::IF_NONE_MATCH, &tag);
        let (status, headers, nothing) = fetch(again.body(Body::empty()).unwrap()).await;
        assert_eq!((status, nothing.as_str()), (StatusCode::NOT_MODIFIED, ""), "{path}");
        assert_eq!(headers[header::ETAG], tag);
        assert!(!text.contains("http://") || path.contains("models"), "{path} loads from elsewhere");
    }
    let (_, headers, _) = fetch(Request::get("/nowhere").body(Body::empty()).unwrap()).await;
    assert_eq!(headers[header::CACHE_CONTROL], "no-store");
    let (status, _, _) = fetch(Request::post("/").body(Body::empty()).unwrap()).await;
    assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
}
