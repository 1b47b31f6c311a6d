use policy::apikey::Scope;
use policy::snapshot::Snapshot;
use policy::tenant::TenantPolicy;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::fixtures::{api_key, app, complete, key, policy, snapshot};

/// An answer: status, headers in lower case, body.
struct Answered {
    status: u16,
    headers: String,
    body: String,
}

async fn serve() -> std::net::SocketAddr {
    let keys = [(1, Scope::Read), (3, Scope::Ingest), (4, Scope::Admin)];
    let keys = keys.map(|(seed, scope)| api_key(seed, &[scope], None)).to_vec();
    let namespaces = vec!["acme".to_owned()];
    let acme = TenantPolicy::new(Snapshot { namespaces, ..snapshot("acme", keys) }).unwrap();
    let wayne = policy("wayne", vec![api_key(2, &[Scope::Read], None)]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = router(app(complete(vec![acme, wayne])));
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

async fn request(address: std::net::SocketAddr, line: &str, headers: &str) -> Answered {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // A body stands behind the headers and their empty line.
    let end = if headers.contains("\r\n\r\n") { "" } else { "\r\n" };
    let text = format!("{line} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}{end}");
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answered { status, headers: head.to_ascii_lowercase(), body: body.to_owned() }
}

async fn get(address: std::net::SocketAddr, path: &str) -> Answered {
    request(address, &format!("GET {path}"), &format!("x-api-key: {}\r\n", key(1))).await
}

#[tokio::test]
async fn what_is_not_theirs_is_answered_like_what_does_not_exist() {
    let address = serve().await;
    let unknown = get(address, "/v1/dashboard/nothing").await;
    assert_eq!(unknown.status, 404);
    assert!(unknown.headers.contains("content-type: application/problem+json"));
    for path in [
        "/v1/dashboard/summary?tenant=wayne",
        "/v1/dashboard/summary?tenant=nobody",
        "/v1/dashboard/summary?tenant=wayne&from=nonsense&x=1",
        "/v1/dashboard/usage/trends?tenant=wayne",
        "/v1/dashboard/usage/by-feature?tenant=wayne",
        "/v1/dashboard/users/ann/analytics?tenant=wayne",
        "/v1/dashboard/violations?tenant=wayne",
        "/v1/dashboard/users/exceeded-limits?tenant=wayne",
        "/v1/admin/policies/effective?tenant=wayne",
        "/v1/admin/usage/limits?tenant=wayne",
        "/v1/admin/usage/limits/wayne.exports",
        "/v1/admin/usage/limits/kube-system.exports",
        "/v1/admin/nothing",
        "/v1/dashboard/users/%FF/analytics",
        "/v1/dashboard/users//analytics",
        "/v1/dashboard/users/a/b/analytics",
        "/v1/dashboard/",
        "/v1/tenants",
        "/",
    ] {
        let other = get(address, path).await;
        assert_eq!((other.status, &other.body), (404, &unknown.body), "{path}");
    }
}

#[tokio::test]
async fn whoever_has_no_key_learns_nothing_of_routes() {
    let address = serve().await;
    for path in ["/v1/dashboard/summary", "/v1/dashboard/nothing", "/v1/dashboard/summary?tenant=wayne"] {
        let answer = request(address, &format!("GET {path}"), "").await;
        assert_eq!(answer.status, 401, "{path}");
        assert!(answer.headers.contains("www-authenticate: bearer"), "{path}");
    }
    let ingest =
        request(address, "GET /v1/dashboard/summary?tenant=wayne", &format!("x-api-key: {}\r\n", key(3)))
            .await;
    assert_eq!(ingest.status, 403, "the scope is looked at before the tenant");
}

#[tokio::test]
async fn wrong_parameters_are_named() {
    let address = serve().await;
    for (path, field) in [
        ("summary?from=yesterday", "from"),
        ("summary?from=now-401d", "from"),
        ("summary?form=now-1d", "form"),
        ("summary?to=now&to=now", "to"),
        ("summary?from=", "from"),
        ("usage/trends?interval=week", "interval"),
        ("usage/trends?interval=minute&from=now-1001m", "interval"),
        ("usage/trends?feature=", "feature"),
        ("usage/by-feature?limit=0", "limit"),
        ("usage/by-feature?limit=1001", "limit"),
        ("usage/by-feature?limit=ten", "limit"),
        ("usage/by-feature?cursor=x", "cursor"),
        ("users/ann/analytics?interval=day", "interval"),
        ("violations?limit=0", "limit"),
        ("violations?cursor=x", "cursor"),
        ("users/exceeded-limits?effect=Refused", "effect"),
        ("users/exceeded-limits?from=now-401d", "from"),
    ] {
        let answer = get(address, &format!("/v1/dashboard/{path}")).await;
        assert_eq!(answer.status, 400, "{path}: {}", answer.body);
        let problem: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(problem["field"], field, "{path}");
        assert_eq!((&problem["status"], &problem["title"]), (&400.into(), &"Bad Request".into()), "{path}");
    }
}

#[tokio::test]
async fn stores_that_do_not_answer_are_503_with_retry_after() {
    let address = serve().await;
    for path in [
        "summary",
        "usage/trends",
        "usage/by-feature",
        "users/ann/analytics",
        "violations",
        "users/exceeded-limits",
    ] {
        let answer = get(address, &format!("/v1/dashboard/{path}")).await;
        assert_eq!(answer.status, 503, "{path}: {}", answer.body);
        assert!(answer.headers.contains("retry-after: 1"), "{path}");
    }
}

#[tokio::test]
async fn every_answer_carries_its_request_id_and_is_not_cached() {
    let address = serve().await;
    let sent = "x-request-id: my-id.1\r\n";
    for line in
        ["GET /v1/dashboard/summary", "GET /nothing", "POST /v1/dashboard/summary", "GET /v1/openapi.json"]
    {
        let answer = request(address, line, sent).await;
        assert!(answer.headers.contains("x-request-id: my-id.1"), "{line}");
        assert!(answer.headers.contains("cache-control: no-store"), "{line}");
        let fresh = request(address, line, "x-request-id: has spaces\r\n").await;
        assert!(fresh.headers.contains("x-request-id: req_"), "{line}");
    }
    let post = request(address, "POST /v1/dashboard/summary", "").await;
    assert_eq!(post.status, 405);
    assert!(post.headers.contains("content-type: application/problem+json"));
    assert!(post.headers.contains("allow: get"), "{}", post.headers);
}

/// Sends a JSON body with the key of `seed`.
async fn send(address: std::net::SocketAddr, line: &str, seed: u8, body: &str) -> Answered {
    let (key, length) = (key(seed), body.len());
    let headers =
        format!("x-api-key: {key}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n");
    request(address, line, &format!("{headers}\r\n{body}")).await
}

#[tokio::test]
async fn only_the_scope_admin_writes_and_only_where_the_tenant_is() {
    let address = serve().await;
    let limit = r#"{"name":"x","spec":{"per":"User","quota":{"max":5,"period":"Day"}}}"#;
    for (line, seed, body, status) in [
        ("POST /v1/admin/usage/limits", 1, limit, 403),
        ("POST /v1/admin/usage/limits", 3, limit, 403),
        ("PUT /v1/admin/usage/limits/acme.x", 1, limit, 403),
        ("DELETE /v1/admin/usage/limits/acme.x", 1, "", 403),
        ("POST /v1/admin/usage/limits?tenant=wayne", 4, limit, 404),
        ("PUT /v1/admin/usage/limits/wayne.x", 4, r#"{"spec":{}}"#, 404),
        ("DELETE /v1/admin/usage/limits/wayne.x", 4, "", 404),
        // The cluster does not answer in this test.
        ("POST /v1/admin/usage/limits", 4, limit, 503),
        ("DELETE /v1/admin/usage/limits/acme.x", 4, "", 503),
    ] {
        let answer = send(address, line, seed, body).await;
        assert_eq!(answer.status, status, "{line} {seed}: {}", answer.body);
    }
}

#[tokio::test]
async fn wrong_bodies_name_the_member_to_mend() {
    let address = serve().await;
    let post = "POST /v1/admin/usage/limits";
    let simulate = "POST /v1/admin/policies/simulate";
    let spec = |spec: &str| format!(r#"{{"name":"x","spec":{spec}}}"#);
    for (line, seed, body, status, field) in [
        (post, 4, "nonsense".to_owned(), 400, "body"),
        (post, 4, spec(r#"{"per":"Team"}"#), 422, "spec.per"),
        (
            post,
            4,
            spec(r#"{"per":"User","quota":{"max":5,"perod":"Day","period":"Day"}}"#),
            422,
            "spec.quota.perod",
        ),
        (post, 4, r#"{"name":"X","spec":{"per":"User"}}"#.to_owned(), 422, "name"),
        (post, 4, r#"{"name":"x","namespace":"wayne","spec":{"per":"User"}}"#.to_owned(), 422, "namespace"),
        (
            "POST /v1/admin/policies",
            4,
            spec(r#"{"effect":"Deny","rules":[{"nam":"a","name":"a"}]}"#),
            422,
            "spec.rules[0].nam",
        ),
        ("POST /v1/admin/policies", 4, spec(r#"{"effect":"Forbid","rules":[]}"#), 422, "spec.effect"),
        (simulate, 1, spec(r#"{"per":"ApiKey","quota":{"max":5,"period":"Day"}}"#), 422, "spec.per"),
        (simulate, 1, r#"{"days":93,"spec":{"per":"User"}}"#.to_owned(), 422, "days"),
    ] {
        let answer = send(address, line, seed, &body).await;
        assert_eq!(answer.status, status, "{body}: {}", answer.body);
        let problem: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(problem["field"], field, "{body}: {problem}");
    }
    let bare = request(address, post, &format!("x-api-key: {}\r\ncontent-length: 0\r\n", key(4))).await;
    assert_eq!(bare.status, 415, "{}", bare.body);
    let large = send(address, post, 4, &" ".repeat(body::MAX_BYTES + 1)).await;
    assert_eq!(large.status, 413, "{}", large.body);
}

#[tokio::test]
async fn metrics_are_labelled_by_what_is_declared_only() {
    let app = app(complete(vec![]));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = router(app.clone());
    tokio::spawn(async move { axum::serve(listener, router).await });
    let answer = request(address, "WHISPER /v1/dashboard/anything", "").await;
    assert_eq!(answer.status, 401, "{}", answer.body);
    let text = app.metrics.render();
    let line = r#"mp_console_requests_total{method="other",route="/v1/dashboard/{*rest}",status="401"} 1"#;
    assert!(text.contains(line), "{text}");
    let line = r#"mp_console_request_seconds_count{method="other",route="/v1/dashboard/{*rest}"} 1"#;
    assert!(text.contains(line), "{text}");
    assert!(text.contains("mp_console_requests_in_flight 0"), "{text}");
}

#[test]
fn the_committed_openapi_document_is_the_codes() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reference/openapi/console.json");
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(committed == openapi_json(), "{path} is not what the code says: run `cargo xtask codegen`");
}

#[test]
fn the_document_declares_every_route_with_its_errors() {
    let document: serde_json::Value = serde_json::from_str(&openapi_json()).unwrap();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let paths = document["paths"].as_object().unwrap();
    assert_eq!(paths.len(), 11);
    for (path, item) in paths {
        for (method, operation) in item.as_object().unwrap() {
            assert!(
                operation["operationId"].is_string() && operation["summary"].is_string(),
                "{method} {path}"
            );
            let writes: &[&str] = if method == "get" { &[] } else { &["409", "415", "422"] };
            for status in ["400", "401", "403", "404", "503"].iter().chain(writes) {
                assert!(operation["responses"][status]["content"].is_object(), "{method} {path} {status}");
            }
            for parameter in operation["parameters"].as_array().into_iter().flatten() {
                assert!(parameter["description"].is_string(), "{method} {path} {parameter}");
            }
        }
    }
}
