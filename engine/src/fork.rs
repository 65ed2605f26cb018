//! Derived models that differ from their base by a prompt.

use std::path::Path;

use crate::EngineError;
use crate::gguf::{Gguf, rewrite};
use crate::template::TEMPLATE_KEY;

/// How a fork differs from its base.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForkSpec {
    /// The new `general.name`.
    pub name: String,
    /// The system message of conversations that bring none of their own.
    pub system_prompt: String,
}

/// Writes a fork of the GGUF at `base` to `out`: name and default system message are the fork's own, the
/// tensors are the base's to the byte, so the fork is an artifact with a digest of its own. The file
/// appears whole or not at all. A fork can be forked again: the youngest one's message is used.
pub fn write_fork(base: &Path, out: &Path, spec: &ForkSpec) -> Result<(), EngineError> {
    let gguf = Gguf::read(base)?;
    let template = gguf.string(TEMPLATE_KEY).ok_or_else(|| EngineError::Inconsistent {
        what: TEMPLATE_KEY.to_owned(),
        detail: "a fork by prompt needs a base that has a chat template".to_owned(),
    })?;
    let template = with_default_system(template, &spec.system_prompt);
    rewrite(&gguf, out, &[("general.name", &spec.name), (TEMPLATE_KEY, &template)])
}

/// `template`, run on the conversation with `prompt` as its system message unless it begins with one.
fn with_default_system(template: &str, prompt: &str) -> String {
    let prompt = quoted(prompt);
    format!(
        "{{% if not messages or messages[0]['role'] != 'system' %}}{{% set messages = [{{'role': 'system', \
         'content': {prompt}}}] + messages %}}{{% endif %}}{template}"
    )
}

/// A Jinja string literal.
fn quoted(text: &str) -> String {
    let mut literal = String::from("'");
    for character in text.chars() {
        match character {
            '\\' => literal.push_str("\\\\"),
            '\'' => literal.push_str("\\'"),
            '\n' => literal.push_str("\\n"),
            '\r' => literal.push_str("\\r"),
            '\t' => literal.push_str("\\t"),
            control if control.is_control() => literal.push_str(&format!("\\u{:04x}", u32::from(control))),
            other => literal.push(other),
        }
    }
    literal.push('\'');
    literal
}

#[cfg(test)]
mod tests {
    use super::*;
    use minijinja::{Environment, context};
    use proptest::prelude::*;

    fn render(template: &str, roles: &[&str]) -> String {
        let messages: Vec<_> = roles.iter().map(|role| context! { role => *role, content => "hi" }).collect();
        Environment::new().render_str(template, context! { messages }).expect("a sound template")
    }

    const BASE: &str = "{% for message in messages %}[{{ message.role }}: {{ message.content }}]{% endfor %}";

    #[test]
    fn the_message_is_a_default_and_the_youngest_fork_decides() {
        let fork = with_default_system(BASE, "Be brief.");
        assert_eq!(render(&fork, &["user"]), "[system: Be brief.][user: hi]");
        assert_eq!(render(&fork, &["system", "user"]), "[system: hi][user: hi]");
        assert_eq!(render(&fork, &[]), "[system: Be brief.]");
        let again = with_default_system(&fork, "Be kind.");
        assert_eq!(render(&again, &["user"]), "[system: Be kind.][user: hi]");
    }

    proptest! {
        #[test]
        fn any_prompt_survives_quoting(prompt in any::<String>()) {
            let rendered = render(&format!("{{{{ {} }}}}", quoted(&prompt)), &[]);
            prop_assert_eq!(rendered, prompt);
        }
    }
}
