//! Writes a model with its matrices in another format, and prints the digest of its tensors:
//! `requantise IN.gguf FORMAT OUT.gguf`. For `fixtures/reference.py`; the tests use the same code.

use std::error::Error;
use std::path::Path;

#[path = "../tests/reference/formats.rs"]
mod formats;
#[path = "../tests/packed/requantise.rs"]
mod requantise;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [path, format, out] = arguments.as_slice() else {
        return Err("usage: requantise IN.gguf FORMAT OUT.gguf".into());
    };
    let known = formats::format(format);
    let format = known.ok_or_else(|| format!("{format} is no format; name one such as q8_0 or f32"))?;
    requantise::requantise(Path::new(path), format, Path::new(out))?;
    println!("{}", formats::tensors_digest(Path::new(out))?);
    Ok(())
}
