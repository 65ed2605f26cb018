//! Chat templates: Jinja text from the GGUF, run in bounds.

use std::io::{self, Write};

use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior, context, syntax::SyntaxConfig};

use crate::gguf::Gguf;
use crate::tokenizer::{ControlTokens, Tokenizer};
use crate::{ChatMessage, EngineError};

/// Metadata key of the template.
pub(crate) const TEMPLATE_KEY: &str = "tokenizer.chat_template";

/// Instructions that one conversation may take, and as many again per message: templates in use take some
/// tens per message.
const FUEL: u64 = 100_000;
const FUEL_PER_MESSAGE: u64 = 10_000;

/// Longest rendered conversation. Far above any context, far below what could harm the machine.
const MAX_RENDERED_BYTES: usize = 16 << 20;

const NAME: &str = "chat";

/// A model's own way of laying out a conversation.
///
/// `strftime_now` is deliberately absent: the same conversation gives the same prompt on every day.
#[derive(Debug)]
pub(crate) struct ChatTemplate {
    environment: Environment<'static>,
    source: String,
    bos: String,
    eos: String,
}

impl ChatTemplate {
    /// The template of the file, if it has one.
    pub(crate) fn from_gguf(gguf: &Gguf, tokenizer: &Tokenizer) -> Result<Option<Self>, EngineError> {
        let Some(source) = gguf.string(TEMPLATE_KEY) else { return Ok(None) };
        Self::new(source, tokenizer.bos_text(), tokenizer.eos_text()).map(Some)
    }

    pub(crate) fn new(source: &str, bos: &str, eos: &str) -> Result<Self, EngineError> {
        let mut environment = Environment::new();
        // As transformers' `apply_chat_template` sets it up, for which templates are written.
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(template_error)?);
        environment.set_undefined_behavior(UndefinedBehavior::Lenient);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", |message: String| -> Result<String, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, message))
        });
        environment.add_template_owned(NAME, source.to_owned()).map_err(template_error)?;
        Ok(Self { environment, source: source.to_owned(), bos: bos.to_owned(), eos: eos.to_owned() })
    }

    /// The conversation as text, up to where the assistant's answer begins.
    pub(crate) fn render(&self, messages: &[ChatMessage]) -> Result<String, EngineError> {
        let mut environment = self.environment.clone();
        environment.set_fuel(Some(FUEL + FUEL_PER_MESSAGE * messages.len() as u64));
        let template = environment.get_template(NAME).map_err(template_error)?;
        let list: Vec<_> = messages
            .iter()
            .map(|message| context! { role => &message.role, content => &message.content })
            .collect();
        let values = context! {
            messages => list,
            add_generation_prompt => true,
            bos_token => &self.bos,
            eos_token => &self.eos,
            tools => (),
            documents => (),
        };
        let mut out = Bounded { bytes: Vec::new() };
        template.render_captured_to(values, &mut out).map_err(template_error)?;
        String::from_utf8(out.bytes).map_err(|error| EngineError::Template(error.to_string()))
    }

    /// The conversation as token ids. Only the template's own text yields control tokens.
    pub(crate) fn encode(
        &self,
        messages: &[ChatMessage],
        tokenizer: &Tokenizer,
    ) -> Result<Vec<u32>, EngineError> {
        let mark = self.unused_character(messages)?;
        let guarded = guard(messages, tokenizer.control(), mark);
        tokenizer.encode_guarded(&self.render(&guarded)?, mark)
    }

    /// A character that occurs nowhere: one of the 32 that Unicode keeps for uses inside a program.
    fn unused_character(&self, messages: &[ChatMessage]) -> Result<char, EngineError> {
        let used = |mark: char| {
            let in_message =
                |message: &ChatMessage| message.content.contains(mark) || message.role.contains(mark);
            self.source.contains(mark) || messages.iter().any(in_message)
        };
        ('\u{fdd0}'..='\u{fdef}').find(|mark| !used(*mark)).ok_or_else(|| {
            EngineError::Template("the messages use all of the noncharacters U+FDD0 to U+FDEF".to_owned())
        })
    }
}

fn guard(messages: &[ChatMessage], control: &ControlTokens, mark: char) -> Vec<ChatMessage> {
    let guard = |text: &str| control.guard(text, mark);
    messages.iter().map(|message| ChatMessage::new(guard(&message.role), guard(&message.content))).collect()
}

/// The whole chain of causes: the outermost alone often only says that a call failed.
fn template_error(error: Error) -> EngineError {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    EngineError::Template(text)
}

/// Collects up to `MAX_RENDERED_BYTES`.
struct Bounded {
    bytes: Vec<u8>,
}

impl Write for Bounded {
    fn write(&mut self, more: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + more.len() > MAX_RENDERED_BYTES {
            return Err(io::Error::other(format!("more than {MAX_RENDERED_BYTES} bytes of output")));
        }
        self.bytes.extend_from_slice(more);
        Ok(more.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(source: &str, messages: &[ChatMessage]) -> Result<String, String> {
        let template = ChatTemplate::new(source, "<s>", "</s>").map_err(|error| error.to_string())?;
        template.render(messages).map_err(|error| error.to_string())
    }

    #[test]
    fn python_methods_and_block_trimming_work_as_in_transformers() {
        let source = "{%- for message in messages %}\n    {%- if message['content'].startswith('x') %}\n{{ bos_token + \
                      message.content.strip() }}\n{%- endif %}\n{%- endfor %}";
        let messages = [ChatMessage::new("user", "x y "), ChatMessage::new("user", "z")];
        assert_eq!(render(source, &messages).as_deref(), Ok("<s>x y"));
    }

    #[test]
    fn a_template_can_refuse_a_conversation_in_its_own_words() {
        let error = render("{{ raise_exception('roles must alternate') }}", &[]).expect_err("it raises");
        assert!(error.contains("roles must alternate"), "{error}");
    }

    #[test]
    fn the_clock_is_not_available() {
        assert_eq!(render("{{ strftime_now is defined }}", &[]).as_deref(), Ok("False"));
    }

    #[test]
    fn a_template_that_runs_away_is_stopped() {
        let endless = "{% for a in range(99999) %}{% for b in range(99999) %}{{ a }}{% endfor %}{% endfor %}";
        assert!(render(endless, &[]).expect_err("out of fuel").contains("fuel"));
        let message = ChatMessage::new("user", "y".repeat(1 << 20));
        let bloated = "{% for a in range(99) %}{{ messages[0].content }}{% endfor %}";
        let error = render(bloated, &[message]).expect_err("too long");
        assert!(error.contains("16777216 bytes"), "{error}");
    }

    #[test]
    fn a_malformed_template_is_an_error() {
        assert!(render("{% if %}", &[]).is_err());
    }
}
