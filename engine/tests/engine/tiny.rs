//! A sound GGUF of a few kilobytes: a llama of one layer over single bytes, and ways to spoil it.

use std::path::PathBuf;

use tempfile::TempDir;

pub const WIDTH: u64 = 32;
pub const KV_WIDTH: u64 = 16;
pub const HIDDEN: u64 = 32;
/// 256 bytes, one merged pair, one control token.
pub const VOCABULARY: u64 = 258;
pub const END: u32 = 257;

/// A metadata value, in the format's terms.
#[derive(Clone)]
pub enum Meta {
    U32(u32),
    F32(f32),
    Text(String),
    Texts(Vec<String>),
    Ints(Vec<i32>),
    Floats(Vec<f32>),
    Bool(bool),
}

/// A tensor of f32.
#[derive(Clone)]
pub struct Tensor {
    pub name: String,
    /// Innermost first, as in the file.
    pub sides: Vec<u64>,
    pub type_id: u32,
    /// Where its data begins; `None` for the next free place.
    pub offset: Option<u64>,
}

/// The parts of a file, free to be spoiled before they are written.
#[derive(Clone)]
pub struct Tiny {
    pub meta: Vec<(String, Meta)>,
    pub tensors: Vec<Tensor>,
}

impl Tiny {
    pub fn new() -> Self {
        let number = |key: &str, value| (format!("llama.{key}"), Meta::U32(value));
        let text = |key: &str, value: &str| (key.to_owned(), Meta::Text(value.to_owned()));
        let mut kinds = vec![1; VOCABULARY as usize];
        kinds[END as usize] = 3;
        let meta = vec![
            text("general.architecture", "llama"),
            text("general.name", "tiny"),
            number("block_count", 1),
            number("context_length", 512),
            number("embedding_length", WIDTH as u32),
            number("feed_forward_length", HIDDEN as u32),
            number("attention.head_count", 2),
            number("attention.head_count_kv", 1),
            number("rope.dimension_count", 16),
            ("llama.attention.layer_norm_rms_epsilon".to_owned(), Meta::F32(1e-5)),
            text("tokenizer.ggml.model", "gpt2"),
            text("tokenizer.ggml.pre", "gpt-2"),
            ("tokenizer.ggml.tokens".to_owned(), Meta::Texts(vocabulary())),
            ("tokenizer.ggml.token_type".to_owned(), Meta::Ints(kinds)),
            ("tokenizer.ggml.merges".to_owned(), Meta::Texts(vec!["h e".to_owned()])),
            ("tokenizer.ggml.eos_token_id".to_owned(), Meta::U32(END)),
            text(
                "tokenizer.chat_template",
                "{% for m in messages %}{{ m.role }}: {{ m.content }}<|end|>{% endfor %}assistant: ",
            ),
        ];
        Self { meta, tensors: tensors() }
    }

    /// Replaces or adds an entry.
    pub fn set(mut self, key: &str, value: Meta) -> Self {
        self.meta.retain(|(name, _)| name != key);
        self.meta.push((key.to_owned(), value));
        self
    }

    pub fn without(mut self, key: &str) -> Self {
        self.meta.retain(|(name, _)| name != key);
        self
    }

    pub fn meta(&self, key: &str) -> &Meta {
        &self.meta.iter().find(|(name, _)| name == key).expect("a key of the tiny model").1
    }

    pub fn tensor(&mut self, name: &str) -> &mut Tensor {
        self.tensors.iter_mut().find(|tensor| tensor.name == name).expect("a tensor of the tiny model")
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(3_u32.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.meta.len() as u64).to_le_bytes());
        for (key, value) in &self.meta {
            put_text(&mut out, key);
            put_value(&mut out, value);
        }
        let mut next = 0;
        for tensor in &self.tensors {
            put_text(&mut out, &tensor.name);
            out.extend((tensor.sides.len() as u32).to_le_bytes());
            tensor.sides.iter().for_each(|side| out.extend(side.to_le_bytes()));
            out.extend(tensor.type_id.to_le_bytes());
            out.extend(tensor.offset.unwrap_or(next).to_le_bytes());
            next = (next + data_bytes(tensor)).next_multiple_of(32);
        }
        out.resize(out.len().next_multiple_of(32), 0);
        for (index, tensor) in self.tensors.iter().enumerate() {
            out.resize(out.len().next_multiple_of(32), 0);
            put_data(&mut out, tensor, index as u32);
        }
        out
    }

    /// Writes it into a folder that lives as long as the first of the pair.
    pub fn write(&self) -> (TempDir, PathBuf) {
        write_bytes(&self.bytes())
    }
}

pub fn write_bytes(bytes: &[u8]) -> (TempDir, PathBuf) {
    let folder = TempDir::new().expect("a temporary folder");
    let path = folder.path().join("tiny.gguf");
    std::fs::write(&path, bytes).expect("the temporary folder is writable");
    (folder, path)
}

/// The spelling of each byte that GPT-2's vocabulary uses, then "he" and the control token.
pub fn vocabulary() -> Vec<String> {
    let mut stand_in = 0x100;
    let mut spell = |byte: u8| match byte {
        b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff => char::from(byte),
        _ => {
            stand_in += 1;
            char::from_u32(stand_in - 1).expect("a character of Latin Extended-A")
        }
    };
    let bytes = (0..=u8::MAX).map(|byte| spell(byte).to_string()).collect::<Vec<_>>();
    [bytes, vec!["he".to_owned(), "<|end|>".to_owned()]].concat()
}

fn tensors() -> Vec<Tensor> {
    let tensor = |name: &str, sides: &[u64]| Tensor {
        name: format!("{name}.weight"),
        sides: sides.to_vec(),
        type_id: 0,
        offset: None,
    };
    vec![
        tensor("token_embd", &[WIDTH, VOCABULARY]),
        tensor("output_norm", &[WIDTH]),
        tensor("blk.0.attn_norm", &[WIDTH]),
        tensor("blk.0.attn_q", &[WIDTH, WIDTH]),
        tensor("blk.0.attn_k", &[WIDTH, KV_WIDTH]),
        tensor("blk.0.attn_v", &[WIDTH, KV_WIDTH]),
        tensor("blk.0.attn_output", &[WIDTH, WIDTH]),
        tensor("blk.0.ffn_norm", &[WIDTH]),
        tensor("blk.0.ffn_gate", &[WIDTH, HIDDEN]),
        tensor("blk.0.ffn_up", &[WIDTH, HIDDEN]),
        tensor("blk.0.ffn_down", &[HIDDEN, WIDTH]),
    ]
}

fn data_bytes(tensor: &Tensor) -> u64 {
    // Spoiled shapes write no more than sound ones would.
    tensor.sides.iter().fold(4_u64, |bytes, side| bytes.saturating_mul(*side)).min(1 << 16)
}

fn put_data(out: &mut Vec<u8>, tensor: &Tensor, seed: u32) {
    let mut state = seed.wrapping_mul(0x9e37_79b9) | 1;
    for _ in 0..data_bytes(tensor) / 4 {
        // Xorshift32: any spread of small weights will do.
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        let weight = (f64::from(state) / f64::from(u32::MAX) - 0.5) as f32;
        out.extend(weight.to_le_bytes());
    }
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

fn put_value(out: &mut Vec<u8>, value: &Meta) {
    let array = |out: &mut Vec<u8>, kind: u32, length: usize| {
        out.extend(9_u32.to_le_bytes());
        out.extend(kind.to_le_bytes());
        out.extend((length as u64).to_le_bytes());
    };
    match value {
        Meta::U32(number) => {
            out.extend(4_u32.to_le_bytes());
            out.extend(number.to_le_bytes());
        }
        Meta::F32(number) => {
            out.extend(6_u32.to_le_bytes());
            out.extend(number.to_le_bytes());
        }
        Meta::Text(text) => {
            out.extend(8_u32.to_le_bytes());
            put_text(out, text);
        }
        Meta::Texts(texts) => {
            array(out, 8, texts.len());
            texts.iter().for_each(|text| put_text(out, text));
        }
        Meta::Bool(flag) => {
            out.extend(7_u32.to_le_bytes());
            out.push(u8::from(*flag));
        }
        Meta::Floats(numbers) => {
            array(out, 6, numbers.len());
            numbers.iter().for_each(|number| out.extend(number.to_le_bytes()));
        }
        Meta::Ints(numbers) => {
            array(out, 5, numbers.len());
            numbers.iter().for_each(|number| out.extend(number.to_le_bytes()));
        }
    }
}
