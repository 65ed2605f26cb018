//! `POST /v1/embeddings`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dividend_engine::embedding::EmbeddingInput;
use serde::{Deserialize, Serialize};

use super::answer::to_json;
use super::parameters::check_user;
use super::{Ask, Shape, StreamUsage};
use crate::backend::{Prompt, Query};
use crate::error::ApiError;
use crate::receipt::ReceiptView;

/// The body of a request for embeddings.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EmbeddingRequest {
    model: String,
    input: WireInput,
    #[serde(default)]
    encoding_format: Encoding,
    dimensions: Option<usize>,
    user: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "a string, a list of strings, a list of token ids, or a list of such lists")]
enum WireInput {
    One(String),
    Tokens(Vec<u32>),
    Many(Vec<String>),
    ManyTokens(Vec<Vec<u32>>),
}

/// How vectors are written.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Encoding {
    /// A list of numbers.
    #[default]
    Float,
    /// Base64 of 32-bit floats, little-endian.
    Base64,
}

impl EmbeddingRequest {
    /// Validates everything that does not need the model.
    ///
    /// # Errors
    /// `400` naming the parameter that is out of range.
    pub(crate) fn into_ask(self) -> Result<Ask, ApiError> {
        check_user(self.user.as_deref())?;
        let inputs: Vec<EmbeddingInput> = match self.input {
            WireInput::One(text) => vec![EmbeddingInput::Text(text)],
            // An empty list is of either kind.
            WireInput::Tokens(tokens) if tokens.is_empty() => Vec::new(),
            WireInput::Tokens(tokens) => vec![EmbeddingInput::Tokens(tokens)],
            WireInput::Many(texts) => texts.into_iter().map(EmbeddingInput::Text).collect(),
            WireInput::ManyTokens(lists) => lists.into_iter().map(EmbeddingInput::Tokens).collect(),
        };
        if inputs.is_empty() {
            return Err(ApiError::invalid("input", "is an empty list; at least one text is needed"));
        }
        Ok(Ask {
            model: self.model,
            query: Query::new(Prompt::Inputs { inputs, dimensions: self.dimensions }),
            max_tokens: None,
            stream: false,
            stream_usage: StreamUsage::Never,
            shape: Shape::Embedding(self.encoding_format),
            user: self.user,
        })
    }
}

#[derive(Serialize)]
struct Answer<'a> {
    object: &'static str,
    data: Vec<Entry<'a>>,
    model: &'a str,
    usage: EmbeddingUsage,
}

#[derive(Serialize)]
struct Entry<'a> {
    object: &'static str,
    index: usize,
    embedding: Vector<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Vector<'a> {
    Float(&'a [f32]),
    Base64(String),
}

#[derive(Serialize)]
struct EmbeddingUsage {
    prompt_tokens: u64,
    total_tokens: u64,
    dividend: ReceiptView,
}

/// The answer, with the receipt in its usage.
pub(crate) fn embeddings(
    model: &str,
    encoding: Encoding,
    vectors: &[Vec<f32>],
    receipt: ReceiptView,
) -> Vec<u8> {
    let vector = |numbers: &'_ Vec<f32>| match encoding {
        Encoding::Float => None,
        Encoding::Base64 => {
            let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
            Some(STANDARD.encode(bytes))
        }
    };
    let data = vectors.iter().enumerate().map(|(index, numbers)| Entry {
        object: "embedding",
        index,
        embedding: vector(numbers).map_or(Vector::Float(numbers), Vector::Base64),
    });
    let usage = EmbeddingUsage {
        prompt_tokens: receipt.tokens_in,
        total_tokens: receipt.tokens_in,
        dividend: receipt,
    };
    to_json(&Answer { object: "list", data: data.collect(), model, usage })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::parse;
    use super::*;

    fn ask(extra: &str) -> Result<Ask, ApiError> {
        let body = format!(r#"{{"model":"m",{extra}}}"#);
        parse::<EmbeddingRequest>(body.as_bytes())?.into_ask()
    }

    fn inputs(json: &str) -> Vec<EmbeddingInput> {
        match ask(&format!(r#""input":{json}"#)).expect(json).query.prompt {
            Prompt::Inputs { inputs, .. } => inputs,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_form_of_input_is_taken() {
        let text = |text: &str| EmbeddingInput::Text(text.to_owned());
        assert_eq!(inputs(r#""a""#), [text("a")]);
        assert_eq!(inputs(r#"["a","b"]"#), [text("a"), text("b")]);
        assert_eq!(inputs("[1,2]"), [EmbeddingInput::Tokens(vec![1, 2])]);
        assert_eq!(inputs("[[1],[2]]"), [EmbeddingInput::Tokens(vec![1]), EmbeddingInput::Tokens(vec![2])]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (extra, param) in [
            (r#""input":[]"#, "input"),
            (r#""input":7"#, "input"),
            (r#""input":"a","encoding_format":"hex""#, "encoding_format"),
            (r#""input":"a","dimensions":-1"#, "dimensions"),
            (r#""input":"a","temperature":1"#, "temperature"),
        ] {
            assert_eq!(ask(extra).expect_err(extra).param().as_deref(), Some(param), "{extra}");
        }
    }

    #[test]
    fn vectors_are_written_as_numbers_or_as_their_bytes() {
        let vectors = [vec![1.0, -0.5], vec![0.0, 2.0]];
        let answer = |encoding| -> Value {
            let bytes = embeddings("m", encoding, &vectors, ReceiptView::sample());
            serde_json::from_slice(&bytes).expect("JSON")
        };
        let floats = answer(Encoding::Float);
        assert_eq!(floats["data"][0]["embedding"], json!([1.0, -0.5]));
        assert_eq!(floats["data"][1]["index"], 1);
        assert_eq!(floats["usage"]["prompt_tokens"], ReceiptView::sample().tokens_in);
        assert_eq!(answer(Encoding::Base64)["data"][0]["embedding"], "AACAPwAAAL8=");
    }
}
