//! JSON in, a typed request or an error that names the field out.

use serde::de::DeserializeOwned;

use crate::error::ApiError;

/// Parses a request body.
///
/// # Errors
/// `400` with `param` set to the path of the field that is wrong.
pub(crate) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        let inner = error.into_inner();
        match inner.classify() {
            serde_json::error::Category::Data => wrong(path, &inner.to_string()),
            _ => ApiError::MalformedJson { detail: inner.to_string() },
        }
    })?;
    json.end().map_err(|error| ApiError::MalformedJson { detail: error.to_string() })?;
    Ok(value)
}

/// What serde found wrong, under the name of the field.
fn wrong(path: String, problem: &str) -> ApiError {
    match (named_field(problem), path.as_str()) {
        (Some(field), "" | ".") => ApiError::invalid(field, format!("is wrong: {problem}")),
        (Some(field), _) if !path.ends_with(field) => {
            ApiError::invalid(format!("{path}.{field}"), format!("is wrong: {problem}"))
        }
        (_, "" | ".") => ApiError::WrongBody { detail: problem.to_owned() },
        _ => ApiError::invalid(path, format!("is wrong: {problem}")),
    }
}

/// The name in serde's "unknown field `x`, expected …" and its like, which its path may leave out.
fn named_field(message: &str) -> Option<&str> {
    let kinds = ["unknown field `", "missing field `", "duplicate field `"];
    let rest = kinds.iter().find_map(|kind| message.strip_prefix(kind))?;
    rest.split('`').next()
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        #[serde(rename = "n")]
        _n: Vec<u8>,
    }

    fn refusal(body: &str) -> (Option<String>, u16) {
        let error = parse::<Sample>(body.as_bytes()).expect_err("must be refused");
        (error.param(), error.status().as_u16())
    }

    #[test]
    fn errors_name_the_field() {
        assert_eq!(refusal(r#"{"n":[1,300]}"#), (Some("n[1]".into()), 400));
        assert_eq!(refusal(r#"{"n":[1],"m":2}"#), (Some("m".into()), 400));
        assert_eq!(refusal(r#"{"n":[1],"n":[1]}"#), (Some("n".into()), 400));
        assert_eq!(refusal("{}"), (Some("n".into()), 400));
        assert_eq!(refusal("null"), (None, 400));
        assert_eq!(refusal(r#"{"n":[1]"#), (None, 400));
        assert_eq!(refusal(r#"{"n":[1]} x"#), (None, 400));
        assert_eq!(refusal(r#"{"n":[NaN]}"#), (None, 400));
    }
}
