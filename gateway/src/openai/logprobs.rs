//! How likely tokens were, in the form of each endpoint.

use dividend_engine::{TokenLogprob, TokenLogprobs};
use serde_json::{Map, Value, json};

use super::Shape;

/// JSON has no infinity; OpenAI writes this for what never comes.
const NEVER: f32 = -9999.0;

/// `logprobs` of a choice or of a piece of one; null without tokens. `offset` counts the characters before them, which
/// only text completions tell.
pub(super) fn logprobs(shape: Shape, tokens: &[TokenLogprobs], offset: &mut usize) -> Value {
    match shape {
        Shape::Embedding(_) => Value::Null,
        _ if tokens.is_empty() => Value::Null,
        Shape::Chat => chat(tokens),
        Shape::Text => text(tokens, offset),
    }
}

fn chat(tokens: &[TokenLogprobs]) -> Value {
    let entry = |token: &TokenLogprob| json!({ "token": word(token), "logprob": finite(token), "bytes": token.bytes });
    let content: Vec<Value> = tokens
        .iter()
        .map(|token| {
            let mut value = entry(&token.chosen);
            value["top_logprobs"] = token.top.iter().map(entry).collect();
            value
        })
        .collect();
    json!({ "content": content, "refusal": null })
}

fn text(tokens: &[TokenLogprobs], offset: &mut usize) -> Value {
    let words: Vec<String> = tokens.iter().map(|token| word(&token.chosen)).collect();
    let offsets: Vec<usize> = words
        .iter()
        .map(|word| {
            let start = *offset;
            *offset += word.chars().count();
            start
        })
        .collect();
    let top = |token: &TokenLogprobs| {
        token.top.iter().map(|top| (word(top), finite(top).into())).collect::<Map<String, Value>>()
    };
    json!({
        "tokens": words,
        "token_logprobs": tokens.iter().map(|token| finite(&token.chosen)).collect::<Vec<_>>(),
        "top_logprobs": tokens.iter().map(top).collect::<Vec<_>>(),
        "text_offset": offsets,
    })
}

fn word(token: &TokenLogprob) -> String {
    String::from_utf8_lossy(&token.bytes).into_owned()
}

fn finite(token: &TokenLogprob) -> f32 {
    token.logprob.max(NEVER)
}

#[cfg(test)]
pub(super) fn sample() -> Vec<TokenLogprobs> {
    let token = |token, bytes: &[u8], logprob| TokenLogprob { token, bytes: bytes.to_vec(), logprob };
    let hi = token(1, b"Hi", -0.25);
    let half = token(2, b"\xe2\x82", f32::NEG_INFINITY);
    vec![
        TokenLogprobs { chosen: hi.clone(), top: vec![hi.clone(), half.clone()] },
        TokenLogprobs { chosen: half, top: vec![hi] },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chats_tell_bytes_and_never_is_a_number() {
        let mut offset = 0;
        let value = logprobs(Shape::Chat, &sample(), &mut offset);
        assert_eq!(value["content"][0]["token"], "Hi");
        assert_eq!(value["content"][0]["top_logprobs"][1]["logprob"], -9999.0);
        assert_eq!(value["content"][1]["bytes"], json!([0xe2, 0x82]));
        assert_eq!(value["content"][1]["token"], "\u{fffd}");
    }

    #[test]
    fn texts_tell_where_each_token_begins() {
        let mut offset = 5;
        let value = logprobs(Shape::Text, &sample(), &mut offset);
        assert_eq!(value["text_offset"], json!([5, 7]));
        assert_eq!(offset, 8);
        assert_eq!(value["token_logprobs"], json!([-0.25, -9999.0]));
        assert_eq!(value["top_logprobs"][0]["Hi"], -0.25);
        assert_eq!(logprobs(Shape::Text, &[], &mut offset), Value::Null);
    }
}
