//! The same networks by candle's operations, straight from the description.

use candle_core::{D, Device, Result, Tensor};
use serde_json::Value;

use crate::tiny::Tiny;

/// The scores of one input.
pub fn scores(tiny: &Tiny, input: &[f32]) -> Result<Vec<f32>> {
    let description = &tiny.description;
    let mut x = Tensor::new(input, &Device::Cpu)?.reshape(sides(&description["input"]["shape"]))?;
    let per_channel = |key: &str| -> Result<Option<Tensor>> {
        let Some(values) = description["input"][key].as_array() else { return Ok(None) };
        let values: Vec<f32> = values.iter().map(|value| value.as_f64().unwrap() as f32).collect();
        column(&Tensor::new(values, &Device::Cpu)?, x.rank()).map(Some)
    };
    let (mean, std) = (per_channel("mean")?, per_channel("std")?);
    if let Some(mean) = mean {
        x = x.broadcast_sub(&mean)?;
    }
    if let Some(std) = std {
        x = x.broadcast_div(&std)?;
    }
    for layer in description["layers"].as_array().unwrap() {
        x = run(tiny, layer, &x)?;
    }
    match description["output"].as_str().unwrap() {
        "softmax" => candle_nn::ops::softmax(&x, D::Minus1)?,
        "sigmoid" => candle_nn::ops::sigmoid(&x)?,
        _ => x,
    }
    .to_vec1()
}

fn run(tiny: &Tiny, layer: &Value, x: &Tensor) -> Result<Tensor> {
    let number = |key: &str, default: u64| layer[key].as_u64().unwrap_or(default) as usize;
    let tensor = |part: &str| -> Result<Tensor> {
        let (_, shape, bytes) = &tiny.tensors[&format!("{}.{part}", layer["name"].as_str().unwrap())];
        let values: Vec<f32> =
            bytes.as_chunks::<4>().0.iter().map(|four| f32::from_le_bytes(*four)).collect();
        Tensor::from_vec(values, shape.as_slice(), &Device::Cpu)
    };
    let biased = |y: Tensor| -> Result<Tensor> {
        if layer["bias"] == false { Ok(y) } else { y.broadcast_add(&column(&tensor("bias")?, y.rank())?) }
    };
    let (kernel, padding) = (number("kernel", 0), number("padding", 0));
    let epsilon = layer["epsilon"].as_f64().unwrap_or(1e-5);
    let pooled = |max: bool| -> Result<Tensor> {
        // A signal is an image of one row.
        let (planes, rows) = if x.rank() == 2 { (x.unsqueeze(1)?, 1) } else { (x.clone(), kernel) };
        let (kernel, stride) = ((rows, kernel), number("stride", kernel as u64));
        let stride = (if rows == 1 { 1 } else { stride }, stride);
        let planes = planes.unsqueeze(0)?;
        let y = if max {
            planes.max_pool2d_with_stride(kernel, stride)?
        } else {
            planes.avg_pool2d_with_stride(kernel, stride)?
        }
        .squeeze(0)?;
        if x.rank() == 2 { y.squeeze(1) } else { Ok(y) }
    };
    match layer["type"].as_str().unwrap() {
        "embedding" => {
            tensor("weight")?.index_select(&x.to_dtype(candle_core::DType::U32)?, 0)?.t()?.contiguous()
        }
        "linear" => biased(tensor("weight")?.matmul(&x.unsqueeze(1)?)?.squeeze(1)?),
        "conv1d" => {
            let y = x.unsqueeze(0)?.conv1d(&tensor("weight")?, padding, number("stride", 1), 1, 1)?;
            biased(y.squeeze(0)?)
        }
        "conv2d" => {
            let y = x.unsqueeze(0)?.conv2d(&tensor("weight")?, padding, number("stride", 1), 1, 1)?;
            biased(y.squeeze(0)?)
        }
        "max_pool" => pooled(true),
        "avg_pool" => pooled(false),
        "flatten" => x.flatten_all(),
        "relu" => x.relu(),
        "gelu" => x.gelu_erf(),
        "tanh" => x.tanh(),
        "sigmoid" => candle_nn::ops::sigmoid(x),
        "layer_norm" => candle_nn::ops::layer_norm(x, &tensor("weight")?, &tensor("bias")?, epsilon as f32),
        "batch_norm" => {
            let part = |name: &str| column(&tensor(name)?, x.rank());
            let deviation = (part("running_var")? + epsilon)?.sqrt()?;
            let y = x.broadcast_sub(&part("running_mean")?)?.broadcast_div(&deviation)?;
            y.broadcast_mul(&part("weight")?)?.broadcast_add(&part("bias")?)
        }
        other => unreachable!("no layer {other}"),
    }
}

/// One value per channel, beside values of this rank.
fn column(values: &Tensor, rank: usize) -> Result<Tensor> {
    let mut shape = vec![1; rank];
    shape[0] = values.elem_count();
    values.reshape(shape)
}

fn sides(shape: &Value) -> Vec<usize> {
    shape.as_array().unwrap().iter().map(|side| side.as_u64().unwrap() as usize).collect()
}
