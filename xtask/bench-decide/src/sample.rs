//! The event that everything is measured with: 1 KB, as an application of an enterprise would post it.

use serde_json::json;

/// The API key of the request.
pub const API_KEY_BITS: [u8; 32] = [7; 32];
/// The day on which all of it happens, Unix milliseconds.
pub const NOW_MS: i64 = 1_795_000_000_000;

/// One event of about 1,024 bytes.
pub fn event() -> String {
    let mut event = json!({
        "specversion": "1.0",
        "id": "01J9ZC3K7Q8M2N4P6R8T0V2X4Z",
        "source": "checkout/eu-central-1",
        "type": "report.export",
        "subject": "ann.miller@example.com",
        "time": "2026-11-18T10:40:00Z",
        "datacontenttype": "application/json",
        "data": {
            "value": 1,
            "latencyMs": 182,
            "tokens": 1_534,
            "format": "pdf",
            "region": "eu-central-1",
            "department": "finance",
            "pages": 42,
            "success": true,
            "amount": 12.75,
            "tags": ["quarterly", "audit", "board"],
            "document": {"id": "d-88231", "title": "Quarterly figures", "owner": "ann.miller@example.com"},
            "client": {"name": "web", "version": "5.12.3", "agent": "Mozilla/5.0 (X11; Linux x86_64)"},
        },
    });
    let missing = 1_024usize.saturating_sub(event.to_string().len() + r#","note":"""#.len());
    let note: String = "exported for the audit committee ".chars().cycle().take(missing).collect();
    event["data"]["note"] = note.into();
    event.to_string()
}
