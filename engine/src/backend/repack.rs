//! Weights in the formats for which candle has fast kernels.

use std::collections::HashMap;
use std::io::{Cursor, Read, Seek};

use candle_core::quantized::gguf_file::{Content, TensorInfo};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Error};

/// Formats that candle multiplies with scalar loops on x86. All have blocks of 32, as `FAST` has.
const SLOW: [GgmlDType; 3] = [GgmlDType::Q4_1, GgmlDType::Q5_0, GgmlDType::Q5_1];

/// The format that they become: AVX2 kernels, chosen at run time, and 8 bits per weight where the file has
/// 4 or 5. What rounding adds is a sixteenth of a step of the file's own format, or less.
const FAST: GgmlDType = GgmlDType::Q8_0;

/// `content` with its data in memory, tensors of slow formats converted. For a time this takes as much
/// memory as the converted model does.
pub(super) fn to_fast_formats(
    content: &Content,
    file: &mut (impl Read + Seek),
) -> Result<(Content, Cursor<Vec<u8>>), Error> {
    let mut data = Vec::new();
    let mut tensor_infos = HashMap::new();
    for (name, info) in &content.tensor_infos {
        let mut tensor = content.tensor(file, name, &Device::Cpu)?;
        if SLOW.contains(&info.ggml_dtype) {
            tensor = QTensor::quantize(&tensor.dequantize(&Device::Cpu)?, FAST)?;
        }
        let (ggml_dtype, shape, offset) = (tensor.dtype(), tensor.shape().clone(), data.len() as u64);
        tensor_infos.insert(name.clone(), TensorInfo { ggml_dtype, shape, offset });
        data.extend_from_slice(&tensor.data()?);
    }
    let (magic, metadata) = (content.magic, content.metadata.clone());
    Ok((Content { magic, metadata, tensor_infos, tensor_data_offset: 0 }, Cursor::new(data)))
}

/// True if candle would multiply some tensor with a scalar loop.
pub(super) fn has_slow_formats(content: &Content) -> bool {
    content.tensor_infos.values().any(|info| SLOW.contains(&info.ggml_dtype))
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Tensor;
    use candle_core::quantized::gguf_file;

    #[test]
    fn converted_weights_stay_within_a_sixteenth_of_a_step() -> Result<(), Error> {
        let weights: Vec<f32> =
            (0..4096).map(|index| ((index * 37 % 101) as f32 / 50.0 - 1.0).powi(3)).collect();
        let matrix = Tensor::from_vec(weights, (64, 64), &Device::Cpu)?;
        for slow in SLOW {
            let (coarse, exact) =
                (QTensor::quantize(&matrix, slow)?, QTensor::quantize(&matrix, GgmlDType::F32)?);
            let mut file = Cursor::new(Vec::new());
            gguf_file::write(&mut file, &[], &[("coarse", &coarse), ("exact", &exact)])?;
            file.set_position(0);
            let content = Content::read(&mut file)?;
            assert!(has_slow_formats(&content));
            let (fast, mut data) = to_fast_formats(&content, &mut file)?;
            assert!(!has_slow_formats(&fast));
            let read = |name, data: &mut Cursor<Vec<u8>>| {
                fast.tensor(data, name, &Device::Cpu)?.dequantize(&Device::Cpu)
            };
            let largest = |difference: Tensor| difference.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>();
            assert_eq!(largest((read("exact", &mut data)? - &matrix)?)?, 0.0);
            let changed = largest((read("coarse", &mut data)? - coarse.dequantize(&Device::Cpu)?)?)?;
            // The weights span 2, so a step of four bits is 2/15.
            assert!(changed <= 2.0 / 15.0 / 16.0, "{slow:?}: {changed}");
        }
        Ok(())
    }
}
