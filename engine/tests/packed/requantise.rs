//! A GGUF with the same model in another format.

use std::fs::File;
use std::path::Path;

use candle_core::quantized::gguf_file::{self, Content};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Result};

/// Writes `path`'s model to `out` with all its matrices in `format`. Rows that are too short for the format
/// stay as they are.
pub fn requantise(path: &Path, format: GgmlDType, out: &Path) -> Result<()> {
    let mut file = File::open(path)?;
    let content = Content::read(&mut file)?;
    let mut tensors = Vec::new();
    for name in content.tensor_infos.keys() {
        let mut tensor = content.tensor(&mut file, name, &Device::Cpu)?;
        let shape = tensor.shape().dims().to_vec();
        if shape.len() == 2 && shape[1].is_multiple_of(format.block_size()) && tensor.dtype() != format {
            tensor = QTensor::quantize(&tensor.dequantize(&Device::Cpu)?, format)?;
        }
        tensors.push((name.as_str(), tensor));
    }
    let metadata: Vec<_> = content.metadata.iter().map(|(key, value)| (key.as_str(), value)).collect();
    let tensors: Vec<_> = tensors.iter().map(|(name, tensor)| (*name, tensor)).collect();
    gguf_file::write(&mut File::create(out)?, &metadata, &tensors)
}
