//! An adapter's files, checked against the base before anything of the declared size is allocated.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use super::config::{Config, MAX_CONFIG_BYTES};
use super::names::{self, Module, Side};
use super::{AdapterError, AdapterInfo};
use crate::digest::digest_bytes;
use crate::packed::{AdapterBase, AdapterBuilder, AdapterWeights, Brain, Half, Number, Single, Size, Target};

/// The files' names.
const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";

/// Largest header of the tensors, in bytes: four times what the largest base needs.
const MAX_HEADER_BYTES: u64 = 1 << 21;

/// An adapter that has passed every check.
pub(super) struct Source {
    base: AdapterBase,
    config: Config,
    config_digest: [u8; 32],
    digest: [u8; 32],
    file: Vec<u8>,
    pairs: Vec<Pair>,
    size: Size,
}

/// A and B of one module of one layer.
struct Pair {
    layer: usize,
    module: &'static Module,
    a: Tensor,
    b: Tensor,
}

/// Where a tensor's numbers are.
struct Tensor {
    dtype: Dtype,
    bytes: Range<usize>,
}

impl Source {
    /// Reads and checks the files in `folder`. If they cannot take less than `limit` bytes packed, they are not read.
    pub(super) fn read(folder: &Path, base: &AdapterBase, limit: usize) -> Result<Self, AdapterError> {
        let path = folder.join(CONFIG);
        let text = read(&path, MAX_CONFIG_BYTES)?;
        let config = Config::parse(&path, &text)?;
        let path = folder.join(WEIGHTS);
        // Four bytes of a file become one and a little at least.
        let most = largest(base, config.rank).min((limit as u64).saturating_mul(4));
        let file = read(&path, most.saturating_add(MAX_HEADER_BYTES))?;
        let pairs = pairs(&path, &file, base, &config)?;
        check_modules(&path, &config, base, &pairs)?;
        let parts = pairs.iter().flat_map(|pair| pair.module.targets.iter().enumerate());
        let size = parts
            .map(|(index, target)| AdapterBuilder::part_size(base, *target, config.rank, index == 0))
            .fold(Size::default(), Size::and);
        let (config_digest, digest) = (digest_bytes(&text), digest_bytes(&file));
        Ok(Self { base: *base, config, config_digest, digest, file, pairs, size })
    }

    /// Memory that it will take, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.size.bytes()
    }

    /// SHA-256 of the tensors and of the configuration.
    pub(super) fn digests(&self) -> [[u8; 32]; 2] {
        [self.digest, self.config_digest]
    }

    /// What is known of it, once it is packed into so many bytes.
    pub(super) fn info(&self, name: String, bytes: usize) -> AdapterInfo {
        let has = |module: &&Module| self.pairs.iter().any(|pair| pair.module == *module);
        let modules = names::modules(self.base.fused).filter(has).map(|module| module.name).collect();
        let parameters = self.pairs.iter().map(|pair| pair.a.count() + pair.b.count()).sum::<usize>() as u64;
        let (rank, digest, config_digest) = (self.config.rank, self.digest, self.config_digest);
        AdapterInfo { name, digest, config_digest, rank, modules, parameters, bytes }
    }

    /// Packs it.
    pub(super) fn pack(&self) -> AdapterWeights {
        let mut builder = AdapterBuilder::new(self.base, self.size);
        for pair in &self.pairs {
            let mut first = 0;
            for (index, target) in pair.module.targets.iter().enumerate() {
                self.add(&mut builder, pair, *target, (first, index == 0));
                first += self.base.shape(*target).0;
            }
        }
        builder.finish()
    }

    /// Adds the part of one product, whose rows of B are those from `first` on.
    fn add(&self, builder: &mut AdapterBuilder, pair: &Pair, target: Target, (first, own): (usize, bool)) {
        let (rank, factor) = (self.config.rank, self.config.factor);
        let inputs = self.base.shape(target).1;
        let a = |row: usize, input: usize| pair.a.value(&self.file, row * inputs + input);
        let b = |output: usize, column: usize| {
            let row = first + self.base.source_row(target, output);
            factor * pair.b.value(&self.file, row * rank + column)
        };
        builder.add(pair.layer, target, rank, own.then_some(&a), &b);
    }
}

impl Tensor {
    fn value(&self, file: &[u8], index: usize) -> f32 {
        fn value<N: Number>(bytes: &[u8], index: usize) -> f32 {
            N::value(N::at(bytes, index * N::BYTES))
        }
        let bytes = &file[self.bytes.clone()];
        match self.dtype {
            Dtype::F16 => value::<Half>(bytes, index),
            Dtype::BF16 => value::<Brain>(bytes, index),
            _ => value::<Single>(bytes, index),
        }
    }

    fn count(&self) -> usize {
        self.bytes.len() * 8 / self.dtype.bitsize()
    }
}

/// A file of `limit` bytes at most.
fn read(path: &Path, limit: u64) -> Result<Vec<u8>, AdapterError> {
    let failed = |source| AdapterError::Io { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    let found = file.metadata().map_err(failed)?.len();
    if found > limit {
        return Err(AdapterError::TooLarge { path: path.to_owned(), found, limit });
    }
    let mut bytes = Vec::with_capacity(found as usize);
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > limit {
        return Err(AdapterError::TooLarge { path: path.to_owned(), found: bytes.len() as u64, limit });
    }
    Ok(bytes)
}

/// Bytes of tensors that an adapter of all modules in single precision has.
fn largest(base: &AdapterBase, rank: usize) -> u64 {
    let module = |module: &Module| {
        let outputs: usize = module.targets.iter().map(|target| base.shape(*target).0).sum();
        (outputs + base.shape(module.targets[0]).1) as u64
    };
    let layer: u64 = names::modules(base.fused).map(module).sum();
    layer.saturating_mul(4 * rank as u64).saturating_mul(base.layers as u64)
}

type Sides = [Option<(String, Tensor)>; 2];

/// The pairs of a file's tensors.
fn pairs(path: &Path, file: &[u8], base: &AdapterBase, config: &Config) -> Result<Vec<Pair>, AdapterError> {
    let format = |detail: String| AdapterError::Format { path: PathBuf::from(path), detail };
    let tensors = SafeTensors::deserialize(file).map_err(|error| format(error.to_string()))?;
    let mut found: BTreeMap<(usize, &'static Module), Sides> = BTreeMap::new();
    let mut names = tensors.names();
    names.sort_unstable();
    for name in names {
        let wrong = |problem: String| AdapterError::Tensor { name: name.to_owned(), problem };
        let view = tensors.tensor(name).map_err(|error| format(error.to_string()))?;
        let (layer, module, side) = names::parse(name, base.fused)
            .ok_or_else(|| wrong("is none of this base; lora_A and lora_B of its modules are".to_owned()))?;
        if layer >= base.layers {
            return Err(wrong(format!("is of layer {layer}; the base has {} layers", base.layers)));
        }
        let tensor = check(&view, file, shape(base, module, side, config.rank)).map_err(wrong)?;
        let sides = found.entry((layer, module)).or_default();
        if sides[side as usize].replace((name.to_owned(), tensor)).is_some() {
            return Err(wrong("is there twice, under another name too".to_owned()));
        }
    }
    if found.is_empty() {
        return Err(format("it has no tensors".to_owned()));
    }
    let pair = |((layer, module), sides): ((usize, &'static Module), Sides)| match sides {
        [Some((_, a)), Some((_, b))] => Ok(Pair { layer, module, a, b }),
        [Some((name, _)), _] => Err(AdapterError::Tensor { name, problem: "has no lora_B".to_owned() }),
        [_, other] => {
            let name = other.map(|(name, _)| name).unwrap_or_default();
            Err(AdapterError::Tensor { name, problem: "has no lora_A".to_owned() })
        }
    };
    let pairs = found.into_iter().map(pair).collect::<Result<Vec<_>, _>>()?;
    check_numbers(file, &pairs, base, config)?;
    Ok(pairs)
}

fn shape(base: &AdapterBase, module: &Module, side: Side, rank: usize) -> [usize; 2] {
    match side {
        Side::A => [rank, base.shape(module.targets[0]).1],
        Side::B => [module.targets.iter().map(|target| base.shape(*target).0).sum(), rank],
    }
}

/// A tensor of this shape and of a known type.
fn check(view: &TensorView<'_>, file: &[u8], shape: [usize; 2]) -> Result<Tensor, String> {
    if view.shape() != shape {
        return Err(format!("has the shape {:?}; it must be {shape:?}", view.shape()));
    }
    if !matches!(view.dtype(), Dtype::F32 | Dtype::F16 | Dtype::BF16) {
        return Err(format!("is of {:?}; it must be of F32, F16 or BF16", view.dtype()));
    }
    let start = view.data().as_ptr().addr() - file.as_ptr().addr();
    let bytes = start..start + view.data().len();
    // What the type and the shape say together is what the library has checked the bytes against.
    Ok(Tensor { dtype: view.dtype(), bytes })
}

/// Every number is finite, multiplied by the factor too.
fn check_numbers(
    file: &[u8],
    pairs: &[Pair],
    base: &AdapterBase,
    config: &Config,
) -> Result<(), AdapterError> {
    for pair in pairs {
        for (tensor, side, factor) in [(&pair.a, "A", 1.0), (&pair.b, "B", config.factor)] {
            let number = |index: &usize| !(factor * tensor.value(file, *index)).is_finite();
            if let Some(index) = (0..tensor.count()).find(number) {
                let name = format!("layers.{}.{}.lora_{side}", pair.layer, pair.module.name);
                let width =
                    shape(base, pair.module, if side == "A" { Side::A } else { Side::B }, config.rank)[1];
                let (row, column, value) = (index / width, index % width, tensor.value(file, index));
                let problem = format!(
                    "has {value} in row {row}, column {column}; it must be finite, scaled by {factor} too"
                );
                return Err(AdapterError::Tensor { name, problem });
            }
        }
    }
    Ok(())
}

/// Every module that the configuration lists has tensors.
fn check_modules(
    path: &Path,
    config: &Config,
    base: &AdapterBase,
    pairs: &[Pair],
) -> Result<(), AdapterError> {
    for listed in config.modules.iter().flatten() {
        let known = names::modules(base.fused).any(|module| module.name == listed);
        if known && !pairs.iter().any(|pair| pair.module.name == listed) {
            let detail = format!("it has no tensors of {listed:?}, which target_modules has");
            return Err(AdapterError::Format { path: path.to_owned(), detail });
        }
    }
    Ok(())
}
