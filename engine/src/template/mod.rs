//! Chat templates: Jinja text from the GGUF, run in bounds.

mod python;
mod values;

#[cfg(test)]
mod tests;

use std::io::{self, Write};

use minijinja::value::Serde;
use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior, context, syntax::SyntaxConfig};
use serde_json::Value;

use crate::gguf::Gguf;
use crate::tokenizer::Tokenizer;
use crate::tools::{self, ToolFormat};
use crate::{ChatMessage, ChatOptions, EngineError};

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
/// `strftime_now` is defined only if the caller says what time it is: otherwise the same conversation gives the same
/// prompt on every day.
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
        environment.add_filter("tojson", python::tojson);
        environment.add_function("raise_exception", |message: String| -> Result<String, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, message))
        });
        environment.add_template_owned(NAME, source.to_owned()).map_err(template_error)?;
        Ok(Self { environment, source: source.to_owned(), bos: bos.to_owned(), eos: eos.to_owned() })
    }

    /// How this template has models write calls of tools; `None` if it knows no tools, or a format that is not known here.
    pub(crate) fn tool_format(&self) -> Option<ToolFormat> {
        ToolFormat::detect(&self.source)
    }

    /// The conversation as text, up to where the assistant's answer begins.
    pub(crate) fn render(
        &self,
        messages: &[ChatMessage],
        options: &ChatOptions<'_>,
    ) -> Result<String, EngineError> {
        self.check_tools(messages, options)?;
        let tools: Value = options.tools.iter().cloned().collect();
        self.render_values(&values::messages(messages), &tools, options.now_s)
    }

    /// The conversation as token ids. Only the template's own text yields control tokens.
    pub(crate) fn encode(
        &self,
        messages: &[ChatMessage],
        options: &ChatOptions<'_>,
        tokenizer: &Tokenizer,
    ) -> Result<Vec<u32>, EngineError> {
        self.check_tools(messages, options)?;
        let messages = values::messages(messages);
        let tools: Value = options.tools.iter().cloned().collect();
        let mark = self.unused_character(&messages, &tools)?;
        let guarded = |value: &Value| values::guarded(value, tokenizer.control(), mark);
        let text = self.render_values(&guarded(&messages), &guarded(&tools), options.now_s)?;
        tokenizer.encode_guarded(&text, mark)
    }

    fn render_values(
        &self,
        messages: &Value,
        tools: &Value,
        now_s: Option<i64>,
    ) -> Result<String, EngineError> {
        let count = |list: &Value| list.as_array().map_or(0, Vec::len);
        let mut environment = self.environment.clone();
        environment.set_fuel(Some(FUEL + FUEL_PER_MESSAGE * (count(messages) + count(tools)) as u64));
        if let Some(now_s) = now_s {
            environment.add_function("strftime_now", move |format: &str| python::strftime(now_s, format));
        }
        let template = environment.get_template(NAME).map_err(template_error)?;
        let values = context! {
            messages => minijinja::Value::from(Serde(messages)),
            add_generation_prompt => true,
            bos_token => &self.bos,
            eos_token => &self.eos,
            tools => (count(tools) > 0).then(|| minijinja::Value::from(Serde(tools))),
            documents => (),
        };
        let mut out = Bounded { bytes: Vec::new() };
        template.render_captured_to(values, &mut out).map_err(template_error)?;
        String::from_utf8(out.bytes).map_err(|error| EngineError::Template(error.to_string()))
    }

    /// Tools that the template would silently leave out are refused.
    fn check_tools(&self, messages: &[ChatMessage], options: &ChatOptions<'_>) -> Result<(), EngineError> {
        let calls =
            messages.iter().any(|message| !message.tool_calls.is_empty() || message.tool_call_id.is_some());
        if options.tools.is_empty() && !calls {
            return Ok(());
        }
        if self.tool_format().is_none() {
            return Err(EngineError::Tools(
                "this model's chat template has no tools, or writes calls in a format that is not known; known are \
                 Hermes and Qwen (<tool_call>), Llama 3 (JSON) and Mistral ([TOOL_CALLS])"
                    .to_owned(),
            ));
        }
        tools::check(options.tools)
    }

    /// A character that occurs nowhere: one of the 32 that Unicode keeps for uses inside a program.
    fn unused_character(&self, messages: &Value, tools: &Value) -> Result<char, EngineError> {
        let used = |mark: char| {
            self.source.contains(mark) || values::contains(messages, mark) || values::contains(tools, mark)
        };
        ('\u{fdd0}'..='\u{fdef}').find(|mark| !used(*mark)).ok_or_else(|| {
            EngineError::Template("the messages use all of the noncharacters U+FDD0 to U+FDEF".to_owned())
        })
    }
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
mod bounds {
    use super::*;

    fn render(source: &str, messages: &[ChatMessage]) -> Result<String, String> {
        let template = ChatTemplate::new(source, "<s>", "</s>").map_err(|error| error.to_string())?;
        template.render(messages, &ChatOptions::default()).map_err(|error| error.to_string())
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
