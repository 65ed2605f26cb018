//! Entry points for fuzzing: what a stranger's bytes reach. Nothing here may panic, whatever the bytes are.

use std::io::Cursor;

use crate::gguf::Gguf;
use crate::template::ChatTemplate;
use crate::tokenizer::Tokenizer;
use crate::{ChatMessage, ChatOptions};

/// Reads a header; true if it is sound.
pub fn header(bytes: &[u8]) -> bool {
    Gguf::parse(Cursor::new(bytes)).is_ok()
}

/// Builds the tokenizer of a header and takes `text` there and back; true if that was possible.
pub fn tokenizer(header: &[u8], text: &str) -> bool {
    let Ok(gguf) = Gguf::parse(Cursor::new(header)) else { return false };
    let Ok(tokenizer) = Tokenizer::from_gguf(&gguf) else { return false };
    let plain = tokenizer.encode(text);
    let control = tokenizer.encode_with_control(text);
    for ids in [plain, control].into_iter().flatten() {
        assert!(ids.iter().all(|id| (*id as usize) < tokenizer.vocab_size()), "an id beyond the vocabulary");
        let _ = tokenizer.decode(&ids);
    }
    true
}

/// Renders a conversation of two messages by a template; true if that was possible.
pub fn template(source: &str, content: &str) -> bool {
    let Ok(template) = ChatTemplate::new(source, "<s>", "</s>") else { return false };
    let messages = [ChatMessage::new("system", "Be brief."), ChatMessage::new("user", content)];
    template.render(&messages, &ChatOptions::default()).is_ok()
}
