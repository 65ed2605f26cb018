//! Formats by name, and what a file's weights are known by.

use std::fs::File;
use std::path::Path;

use candle_core::quantized::GgmlDType;
use candle_core::quantized::gguf_file::Content;
use candle_core::{Device, Result};
use sha2::{Digest, Sha256};

/// A format by its name, such as `q4_0`.
pub fn format(name: &str) -> Option<GgmlDType> {
    Some(match name {
        "f32" => GgmlDType::F32,
        "f16" => GgmlDType::F16,
        "bf16" => GgmlDType::BF16,
        "q4_0" => GgmlDType::Q4_0,
        "q4_1" => GgmlDType::Q4_1,
        "q5_0" => GgmlDType::Q5_0,
        "q8_0" => GgmlDType::Q8_0,
        "q4_k" => GgmlDType::Q4K,
        "q6_k" => GgmlDType::Q6K,
        _ => return None,
    })
}

/// SHA-256 of all tensors' names and bytes, by name: the same for the same weights, in whatever order a file
/// has them.
pub fn tensors_digest(path: &Path) -> Result<String> {
    let mut file = File::open(path)?;
    let content = Content::read(&mut file)?;
    let mut names: Vec<&String> = content.tensor_infos.keys().collect();
    names.sort();
    let mut digest = Sha256::new();
    for name in names {
        digest.update(name);
        digest.update(content.tensor(&mut file, name, &Device::Cpu)?.data()?);
    }
    Ok(digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}
