//! The ways in which models write calls.

/// How a model writes a call, after its chat template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ToolFormat {
    /// `<tool_call>{"name": …, "arguments": {…}}</tool_call>`, once per call, anywhere in the answer: Hermes, Qwen.
    Hermes,
    /// The whole answer is `{"name": …, "parameters": {…}}`, perhaps after `<|python_tag|>`, calls separated by `;`:
    /// Llama 3.1 and later.
    Llama,
    /// `[TOOL_CALLS]` and a list of `{"name": …, "arguments": {…}}`: Mistral.
    Mistral,
}

impl ToolFormat {
    /// The format that a template describes; `None` if it has no tools, or calls in no format that is known.
    pub fn detect(template: &str) -> Option<Self> {
        let has = |text: &str| template.contains(text);
        if !has("tools") {
            None
        } else if has("[TOOL_CALLS]") {
            // Later models put name and arguments apart, which is another format.
            (!has("[ARGS]") && !has("[CALL_ID]")).then_some(Self::Mistral)
        } else if has("<tool_call>") {
            // Some write calls as XML in the same tags.
            (!has("<function=") && !has("<arg_key>")).then_some(Self::Hermes)
        } else if has("<|python_tag|>") || (has("ipython") && has("\"parameters\"")) {
            Some(Self::Llama)
        } else {
            None
        }
    }

    /// What begins a call, if anything must.
    pub(super) fn opening(self) -> Option<&'static str> {
        match self {
            Self::Hermes => Some("<tool_call>"),
            Self::Mistral => Some("[TOOL_CALLS]"),
            Self::Llama => None,
        }
    }

    /// The marks that are control tokens in some vocabularies.
    pub(crate) fn marks(self) -> &'static [&'static str] {
        match self {
            Self::Hermes => &["<tool_call>", "</tool_call>"],
            Self::Mistral => &["[TOOL_CALLS]"],
            Self::Llama => &["<|python_tag|>"],
        }
    }

    /// Where a call has its arguments.
    pub(super) fn arguments(self) -> &'static str {
        match self {
            Self::Hermes | Self::Mistral => "arguments",
            Self::Llama => "parameters",
        }
    }
}
