//! The pre-tokenizers that files name, as data. Groups and patterns are those of llama.cpp's `llama-vocab.cpp`, so
//! that the ids are its ids: where a model's own `tokenizer.json` asks for a letter's case, llama.cpp takes any
//! letter, and so it is here. What differs: letters that Unicode got after llama.cpp's tables were made, and U+3000 in
//! DeepSeek's class of punctuation, which llama.cpp cannot match.

use super::pretokenizer::Spelling;

/// One step: what it matches becomes words of their own, and so does what is left between.
pub(super) enum Cut {
    /// Matches of this pattern.
    Only(&'static str),
    /// Matches of this pattern, then runs of white space but for the last character before other text.
    Words(&'static str),
}

/// Models that cut alike.
pub(super) struct Family {
    /// Values of `tokenizer.ggml.pre`.
    pub(super) names: &'static [&'static str],
    pub(super) cuts: &'static [Cut],
    /// A word that is a token as it stands is not merged from its letters.
    pub(super) whole_words: bool,
    /// Prompts begin with the token for that, unless the file says otherwise.
    pub(super) adds_bos: bool,
    pub(super) spelling: Spelling,
}

use Cut::{Only, Words};

pub(super) const FAMILIES: &[Family] = &[
    Family {
        names: &[
            "llama-bpe",
            "llama3",
            "llama-v3",
            "falcon3",
            "falcon-h1",
            "pixtral",
            "midm-2.0",
            "lfm2",
            "jina-v5-nano",
        ],
        cuts: &[Words(
            r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+",
        )],
        whole_words: true,
        adds_bos: true,
        spelling: Spelling::Bytes,
    },
    Family {
        names: &["smaug-bpe", "dbrx", "chatglm-bpe"],
        cuts: &[Words(
            r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+",
        )],
        whole_words: false,
        adds_bos: false,
        spelling: Spelling::Bytes,
    },
    Family {
        names: &["glm4", "glm5"],
        cuts: &[Words(
            r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+",
        )],
        whole_words: true,
        adds_bos: false,
        spelling: Spelling::Bytes,
    },
    Family {
        names: &[
            "qwen2",
            "deepseek-r1-qwen",
            "kormo",
            "f2llmv2",
            "megrez",
            "stablelm2",
            "hunyuan",
            "solar-open",
            "grok-2",
        ],
        cuts: &[Words(
            r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+",
        )],
        whole_words: false,
        adds_bos: false,
        spelling: Spelling::Bytes,
    },
    Family {
        names: &["qwen35"],
        cuts: &[Words(
            r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+",
        )],
        whole_words: false,
        adds_bos: false,
        spelling: Spelling::Bytes,
    },
    Family {
        names: &[
            "gpt-2",
            "phi-2",
            "mpt",
            "olmo",
            "jais",
            "trillion",
            "granite-docling",
            "jina-es",
            "jina-de",
            "jina-v2-es",
            "jina-v2-de",
            "jina-v1-en",
            "jina-v2-code",
            "roberta-bpe",
            "gigachat",
            "a.x-4.0",
            "mellum",
            "modern-bert",
            "exaone4",
        ],
        cuts: &[Words(r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+")],
        whole_words: false,
        adds_bos: false,
        spelling: Spelling::Bytes,
    },
    Family {
        names: &[
            "smollm",
            "starcoder",
            "refact",
            "command-r",
            "codeshell",
            "exaone",
            "minerva-7b",
            "mellum2",
        ],
        cuts: &[Only(r"\p{N}"), Words(r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+")],
        whole_words: false,
        adds_bos: false,
        spelling: Spelling::Bytes,
    },
    Family {
        names: &["default"],
        cuts: &[
            Only(r"[\p{P}\$\+<=>\^~\|]+"),
            Words(r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+"),
            Only(r"\p{N}+"),
            Only(r"[0-9][0-9][0-9]"),
        ],
        whole_words: false,
        adds_bos: false,
        spelling: Spelling::Bytes,
    },
    Family {
        names: &["falcon"],
        cuts: &[
            Only(r"[\p{P}\$\+<=>\^~\|`]+"),
            Words(r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+"),
            Only(r"[0-9][0-9][0-9]"),
        ],
        whole_words: false,
        adds_bos: false,
        spelling: Spelling::Bytes,
    },
    Family {
        names: &["deepseek-llm"],
        cuts: &[
            Only(r"[\r\n]"),
            Only(
                r"\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-ώᾀ-ᾴᾶ-ᾼιῂ-ῄῆ-ῌῐ-ΐῖ-Ίῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤΩℨK-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+",
            ),
            Only(r"\s?[!-/:-~！-／：-～‘-‟　-。]+"),
            Only(r"\s+$"),
            Only(r"[一-龥ࠀ-一가-퟿]+"),
            Only(r"\p{N}+"),
        ],
        whole_words: false,
        adds_bos: false,
        spelling: Spelling::Bytes,
    },
    Family {
        names: &["deepseek-coder"],
        cuts: &[
            Only(r"[\r\n]"),
            Only(r"\s?\p{L}+"),
            Only(r"\s?\p{P}+"),
            Only(r"[一-龥ࠀ-一가-퟿]+"),
            Only(r"\p{N}"),
        ],
        whole_words: false,
        adds_bos: false,
        spelling: Spelling::Bytes,
    },
    Family {
        names: &["deepseek-v3", "hunyuan-dense", "hy_v4", "joyai-llm"],
        cuts: &[
            Only(r"\p{N}{1,3}"),
            Only(r"[一-龥぀-ゟ゠-ヿ]+"),
            Words(
                r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+"##,
            ),
        ],
        whole_words: false,
        adds_bos: false,
        spelling: Spelling::Bytes,
    },
    Family {
        names: &["spark2_5"],
        cuts: &[
            Only(r"\p{N}{1,3}"),
            Only(r"[一-龥぀-ゟ゠-ヿ]+"),
            Words(
                r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+|[\r\n]"##,
            ),
            Only(r"\p{N}"),
        ],
        whole_words: false,
        adds_bos: false,
        spelling: Spelling::Bytes,
    },
    Family {
        names: &["tekken"],
        cuts: &[Words(
            r"[^\r\n\p{L}\p{N}]?[\p{L}&&[^a-z]]*[\p{L}&&[^A-Z]]+|[^\r\n\p{L}\p{N}]?[\p{L}&&[^a-z]]+[\p{L}&&[^A-Z]]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+",
        )],
        whole_words: true,
        adds_bos: true,
        spelling: Spelling::Bytes,
    },
    Family {
        names: &["gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"],
        cuts: &[Words(
            r"[^\r\n\p{L}\p{N}]?[\p{L}&&[^a-z]]*[\p{L}&&[^A-Z]]+(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])?|[^\r\n\p{L}\p{N}]?[\p{L}&&[^a-z]]+[\p{L}&&[^A-Z]]*(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+",
        )],
        whole_words: false,
        adds_bos: false,
        spelling: Spelling::Bytes,
    },
    Family {
        names: &["granite-embed-multi-97m"],
        cuts: &[Words(
            r"[^\r\n\p{L}\p{N}]?[\p{L}\p{M}&&[^a-z]]*[\p{L}\p{M}&&[^A-Z]]+(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])?|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}&&[^a-z]]+[\p{L}\p{M}&&[^A-Z]]*(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+",
        )],
        whole_words: true,
        adds_bos: false,
        spelling: Spelling::Bytes,
    },
    Family {
        names: &["youtu"],
        cuts: &[
            Only(r"[가-힣ㄱ-ㆎ]+|[！…“”‘’—：；，、-〿︰-﹏]+|[ㄅ-ㄯ]+|[一-龥぀-ゟ゠-ヿ]+"),
            Words(
                r"[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]*[\p{L}\p{M}]+(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])?|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+[\p{L}\p{M}]*(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])?|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+",
            ),
        ],
        whole_words: true,
        adds_bos: false,
        spelling: Spelling::Bytes,
    },
    Family {
        names: &["poro-chat", "bloom", "gpt3-finnish"],
        cuts: &[Only(r" ?[^(\s|.,!?…。，、।۔،)]+")],
        whole_words: false,
        adds_bos: false,
        spelling: Spelling::Bytes,
    },
    Family {
        names: &["viking"],
        cuts: &[Only(r" ?[^(\s|.,!?…。，、।۔،)]+"), Only(r"\p{N}")],
        whole_words: false,
        adds_bos: false,
        spelling: Spelling::Bytes,
    },
    Family {
        names: &["chameleon"],
        cuts: &[
            Only(r"<sentinel:[0-9]+>"),
            Only(r"(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z"),
            Only(r"([\t\n]|    |  )"),
            Only(r"\p{N}"),
            Only(r"[\p{P}!-/:-@\[-`{-~]"),
            Words(r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+"),
        ],
        whole_words: false,
        adds_bos: true,
        spelling: Spelling::Bytes,
    },
    Family {
        names: &["bailingmoe", "bailingmoe2", "llada-moe"],
        cuts: &[Words(
            r"'(?:[sSdDmMtT]|[lL][lL]|[vV][eE]|[rR][eE])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]",
        )],
        whole_words: false,
        adds_bos: false,
        spelling: Spelling::Bytes,
    },
    Family {
        names: &["seed-coder"],
        cuts: &[Words(
            r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+",
        )],
        whole_words: false,
        adds_bos: false,
        spelling: Spelling::Bytes,
    },
    Family {
        names: &["ufakzeka"],
        cuts: &[Words(r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+")],
        whole_words: false,
        adds_bos: false,
        spelling: Spelling::Bytes,
    },
    Family {
        names: &["laguna"],
        cuts: &[
            Only(r"[^\n]+|[\n]+"),
            Words(
                r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+",
            ),
        ],
        whole_words: false,
        adds_bos: false,
        spelling: Spelling::Bytes,
    },
    Family {
        names: &["exaone-moe"],
        cuts: &[Words(
            r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]",
        )],
        whole_words: false,
        adds_bos: false,
        spelling: Spelling::Bytes,
    },
    Family {
        names: &["minicpm5"],
        cuts: &[
            Only(r"\p{N}{1,3}"),
            Words(
                r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}+| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+",
            ),
        ],
        whole_words: true,
        adds_bos: false,
        spelling: Spelling::Bytes,
    },
    Family {
        names: &["gemma4", "granite-embed-multi-311m"],
        cuts: &[Only(r"[^\n]+|[\n]+")],
        whole_words: false,
        adds_bos: true,
        spelling: Spelling::Spaces,
    },
    Family {
        names: &["sarvam-moe"],
        cuts: &[Only(r"[^\n]+|[\n]+")],
        whole_words: false,
        adds_bos: false,
        spelling: Spelling::Spaces,
    },
];
