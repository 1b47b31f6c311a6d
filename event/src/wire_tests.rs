use super::*;

fn code(json: &str) -> (&'static str, String) {
    let invalid = parse(json, Form::Plain).unwrap_err();
    (invalid.code, invalid.field)
}

#[test]
fn a_plain_event_is_read() {
    let json = r#"{"id":"1","type":"report.export","subject":"ann \"a\" 😀","time":"2026-01-31T10:30:00.250+01:00",
        "data":{"value":2.5,"latencyMs":12.7,"format":"pdf","n":[1]}}"#;
    let event = parse(json, Form::Plain).unwrap();
    assert_eq!((event.id.as_ref(), event.feature.as_ref()), ("1", "report.export"));
    assert_eq!(event.user.as_deref(), Some("ann \"a\" 😀"));
    assert_eq!(event.time_ms, Some(1_769_851_800_250));
    assert_eq!(event.value.to_string(), "2.5");
    assert_eq!(event.latency_ms, Some(12));
    assert_eq!(event.attribute("format"), Some("\"pdf\""));
    assert_eq!(event.attribute("nothing"), None);
    assert_eq!(event.source, None);
}

#[test]
fn what_may_be_left_out_has_a_meaning() {
    let event = parse(r#"{"id":"1","type":"t","subject":null,"data":null}"#, Form::Plain).unwrap();
    assert_eq!((event.user, event.time_ms, event.value.millionths(), event.data), (None, None, 0, "{}"));
}

#[test]
fn bad_events_name_the_field() {
    let cases = [
        (r#"[]"#, "not_an_object", ""),
        (r#"1"#, "not_an_object", ""),
        (r#"{"type":"t"}"#, "missing", "id"),
        (r#"{"id":"1"}"#, "missing", "type"),
        (r#"{"id":1,"type":"t"}"#, "not_a_string", "id"),
        (r#"{"id":"","type":"t"}"#, "empty", "id"),
        (r#"{"id":"a\nb","type":"t"}"#, "control_character", "id"),
        (r#"{"id":"1","id":"2","type":"t"}"#, "duplicate_member", "id"),
        (r#"{"id":"1","type":"t","timestamp":"x"}"#, "unknown_member", "timestamp"),
        (r#"{"id":"1","type":"t","time":"yesterday"}"#, "bad_time", "time"),
        (r#"{"id":"1","type":"t","time":"2026-01-31T10:30:00"}"#, "bad_time", "time"),
        (r#"{"id":"1","type":"t","data":[1]}"#, "not_an_object", "data"),
        (r#"{"id":"1","type":"t","data":{"a":1,"a":2}}"#, "duplicate_member", "data.a"),
        (r#"{"id":"1","type":"t","data":{"value":"3"}}"#, "bad_number", "data.value"),
        (r#"{"id":"1","type":"t","data":{"value":1e300}}"#, "bad_number", "data.value"),
        (r#"{"id":"1","type":"t","data":{"latencyMs":-1}}"#, "bad_number", "data.latencyMs"),
        (r#"{"id":"1","type":"t","data_base64":"AA=="}"#, "unsupported", "data_base64"),
        (r#"{"id":"1","type":"t","specversion":"0.3"}"#, "unsupported", "specversion"),
        (r#"{"id":"\u0000","type":"t"}"#, "nul_character", ""),
        (r#"{"id":"1","type":"t","data":{"x":"\ud800"}}"#, "lone_surrogate", ""),
    ];
    for (json, expected, field) in cases {
        assert_eq!(code(json), (expected, field.to_owned()), "{json}");
    }
    let long = format!(r#"{{"id":"{}","type":"t"}}"#, "x".repeat(257));
    assert_eq!(code(&long), ("too_long", "id".to_owned()));
    let large = format!(r#"{{"id":"1","type":"t","data":{{"x":"{}"}}}}"#, "x".repeat(MAX_EVENT_BYTES));
    assert_eq!(code(&large), ("event_too_large", String::new()));
    let deep = format!(r#"{{"id":"1","type":"t","data":{{"x":{}1{}}}}}"#, "[".repeat(40), "]".repeat(40));
    assert_eq!(code(&deep), ("too_deep", String::new()));
}

#[test]
fn cloud_events_need_their_version_and_may_be_extended() {
    let json = r#"{"specversion":"1.0","id":"1","source":"/app","type":"t","traceparent":"00-x","datacontenttype":"application/json"}"#;
    for form in [Form::Plain, Form::Structured] {
        assert_eq!(parse(json, form).unwrap().source.as_deref(), Some("/app"));
    }
    let without = r#"{"id":"1","source":"/app","type":"t"}"#;
    assert_eq!(parse(without, Form::Structured).unwrap_err().field, "specversion");
}

#[test]
fn binary_mode_takes_attributes_from_headers() {
    let headers = [("specversion", "1.0"), ("id", "1"), ("type", "t"), ("subject", "ann")];
    let headers = || headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let event = parse_binary(headers(), br#"{"value":3}"#).unwrap();
    assert_eq!((event.user.as_deref(), event.value.as_units()), (Some("ann"), Some(3)));
    assert_eq!(parse_binary(headers(), b"").unwrap().data, "{}");
    assert_eq!(parse_binary(headers(), b"{").unwrap_err().code, "malformed_json");
    assert_eq!(parse_binary(headers().skip(1), b"{}").unwrap_err().field, "specversion");
}

#[test]
fn bodies_are_split_by_form() {
    assert_eq!(split(br#" {"id":"1"} "#, Form::Plain).unwrap(), [r#"{"id":"1"}"#]);
    assert_eq!(split(br#"[{"id":"1"}, 2]"#, Form::Plain).unwrap(), [r#"{"id":"1"}"#, "2"]);
    assert_eq!(split(b"[]", Form::Batch), Err(BodyError::Empty));
    assert!(matches!(split(b"{}", Form::Batch), Err(BodyError::Malformed { .. })));
    assert!(matches!(split(b"[{}]", Form::Structured), Err(BodyError::Malformed { .. })));
    assert!(matches!(split(b"{\"a\":", Form::Plain), Err(BodyError::Malformed { .. })));
    assert!(matches!(split(b"{} {}", Form::Plain), Err(BodyError::Malformed { .. })));
    assert!(matches!(split(b"\xff", Form::Plain), Err(BodyError::Malformed { .. })));
    assert!(matches!(split(b"", Form::Plain), Err(BodyError::Malformed { .. })));
    let many = |n: usize| format!("[{}]", vec!["{}"; n].join(","));
    assert_eq!(split(many(1_000).as_bytes(), Form::Batch).unwrap().len(), 1_000);
    assert_eq!(split(many(1_001).as_bytes(), Form::Batch), Err(BodyError::TooMany));
}

#[test]
fn a_hundred_thousand_nested_arrays_are_just_a_bad_event() {
    let nested = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let events = split(nested.as_bytes(), Form::Plain);
    // Either answer is a refusal; neither may exhaust the stack.
    if let Ok(events) = events {
        assert!(events.into_iter().all(|event| parse(event, Form::Plain).is_err()));
    }
}
