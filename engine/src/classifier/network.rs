//! A description held against a file of weights.

use std::cell::RefCell;
use std::collections::HashSet;

use super::compute::{Function, Layer, Pieces};
use super::description::{Description, Input, Kind, Output};
use crate::safetensors::SafeTensors;
use crate::{EngineError, GenerationError};

/// Most values between two layers: 64 MiB.
const MAX_VALUES: usize = 1 << 24;
/// Most operations of one input: about a second.
const MAX_OPERATIONS: u64 = 1 << 31;
/// What a function of a single value takes, in multiply-adds, at most.
const FUNCTION: usize = 16;
/// A count that PyTorch keeps beside a batch norm's statistics, and nothing computes with.
const NOT_A_WEIGHT: &str = ".num_batches_tracked";

/// A network, ready to compute.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Network {
    inputs: usize,
    /// Token ids that it takes, if it takes those.
    ids: Option<usize>,
    layers: Vec<Layer>,
    output: Output,
    operations: u64,
    parameters: u64,
}

impl Network {
    /// Builds the network that `description` says, of the weights in `file`: all of them, and no others.
    pub(super) fn build(description: &Description, file: &SafeTensors) -> Result<Self, EngineError> {
        let mut builder = Builder { file, used: RefCell::default(), shape: Vec::new(), operations: 0 };
        builder.enter(&description.input)?;
        let inputs = values(&builder.shape).unwrap_or(0);
        let mut layers = Vec::from_iter(normalisation(&description.input, inputs)?);
        let mut ids = None;
        for (index, kind) in description.layers.iter().enumerate() {
            let what = format!("layer {index} ({})", kind.label());
            if let Kind::Embedding { rows, .. } = kind {
                if !layers.is_empty() {
                    return Err(wrong(
                        &what,
                        "it must come first, and its input without mean and std".to_owned(),
                    ));
                }
                ids = Some(*rows);
            }
            layers.extend(builder.layer(&what, kind)?);
            builder.spend(&what, &[FUNCTION, builder.shape.iter().product()])?;
        }
        let labels = description.labels.len();
        if builder.shape != [labels] {
            let detail = format!("there are {labels}; the last layer has the shape {:?}", builder.shape);
            return Err(wrong("labels", detail));
        }
        let parameters = builder.check_nothing_is_left()?;
        let Builder { operations, .. } = builder;
        let network = Self { inputs, ids, layers, output: description.output, operations, parameters };
        network.run(&vec![0.0; inputs]).map_err(|error| EngineError::Backend(error.to_string()))?;
        Ok(network)
    }

    /// The scores of an input of [`Self::inputs`] values, each of which it takes.
    pub(super) fn run(&self, input: &[f32]) -> Result<Vec<f32>, GenerationError> {
        let last = self.layers.iter().fold(input.to_vec(), |values, layer| layer.run(values));
        let scores = self.output.of(last);
        if scores.iter().all(|score| score.is_finite()) {
            Ok(scores)
        } else {
            Err(GenerationError::NotFinite)
        }
    }

    /// Values of an input.
    pub(super) fn inputs(&self) -> usize {
        self.inputs
    }

    /// Whether a value can be part of an input.
    pub(super) fn takes(&self, value: f32) -> bool {
        match self.ids {
            Some(rows) => value >= 0.0 && value < rows as f32 && value.fract() == 0.0,
            None => value.is_finite(),
        }
    }

    /// What the values must be.
    pub(super) fn taken(&self) -> String {
        match self.ids {
            Some(rows) => format!("of token ids below {rows}"),
            None => "of finite numbers".to_owned(),
        }
    }

    /// Operations of one input, about.
    pub(super) fn operations(&self) -> u64 {
        self.operations
    }

    /// Number of weights.
    pub(super) fn parameters(&self) -> u64 {
        self.parameters
    }
}

struct Builder<'a> {
    file: &'a SafeTensors,
    used: RefCell<HashSet<String>>,
    /// Of the values before the next layer.
    shape: Vec<usize>,
    operations: u64,
}

impl Builder<'_> {
    fn enter(&mut self, input: &Input) -> Result<(), EngineError> {
        if !(1..=3).contains(&input.shape.len()) {
            let detail = format!("it is {:?}; it must have one to three dimensions", input.shape);
            return Err(wrong("input shape", detail));
        }
        self.reach("input shape", input.shape.clone())
    }

    /// Sets the shape after a layer, if it is one that can be computed.
    fn reach(&mut self, what: &str, shape: Vec<usize>) -> Result<(), EngineError> {
        match values(&shape) {
            Some(1..=MAX_VALUES) => {
                self.shape = shape;
                Ok(())
            }
            _ => Err(wrong(
                what,
                format!("it gives the shape {shape:?}; from 1 to {MAX_VALUES} values are accepted"),
            )),
        }
    }

    /// Counts operations before any weight is read.
    fn spend(&mut self, what: &str, factors: &[usize]) -> Result<(), EngineError> {
        let product = factors.iter().try_fold(1_u64, |product, factor| product.checked_mul(*factor as u64));
        let total = product.and_then(|product| self.operations.checked_add(product));
        match total.filter(|total| *total <= MAX_OPERATIONS) {
            Some(total) => {
                self.operations = total;
                Ok(())
            }
            None => {
                Err(wrong(what, format!("the network needs more than {MAX_OPERATIONS} operations an input")))
            }
        }
    }

    /// The layer in a form that computes; `None` if there is nothing to compute.
    fn layer(&mut self, what: &str, kind: &Kind) -> Result<Option<Layer>, EngineError> {
        Ok(Some(match kind {
            Kind::Embedding { name, rows, width } => {
                let [length] = self.dimensions(what)?;
                self.reach(what, vec![*width, length])?;
                Layer::Embedding {
                    table: self.tensor(what, name, "weight", &[*rows, *width])?,
                    width: *width,
                }
            }
            Kind::Linear { name, outputs, bias } => {
                let [inputs] = self.dimensions(what)?;
                self.reach(what, vec![*outputs])?;
                self.spend(what, &[inputs, *outputs])?;
                let rows = self.tensor(what, name, "weight", &[*outputs, inputs])?;
                let columns = (0..inputs).flat_map(|input| rows.iter().skip(input).step_by(inputs).copied());
                Layer::Linear { columns: columns.collect(), bias: self.bias(what, name, *outputs, *bias)? }
            }
            Kind::Conv1d { name, outputs, kernel, stride, padding, bias } => {
                let [channels, length] = self.dimensions(what)?;
                let pieces = pieces(what, [channels, 1, length], [1, *kernel], *stride, [0, *padding])?;
                self.reach(what, vec![*outputs, pieces.out[1]])?;
                self.convolution(what, (name, *bias), &[*outputs, channels, *kernel], pieces)?
            }
            Kind::Conv2d { name, outputs, kernel, stride, padding, bias } => {
                let planes: [usize; 3] = self.dimensions(what)?;
                let pieces = pieces(what, planes, [*kernel; 2], *stride, [*padding; 2])?;
                self.reach(what, vec![*outputs, pieces.out[0], pieces.out[1]])?;
                self.convolution(what, (name, *bias), &[*outputs, planes[0], *kernel, *kernel], pieces)?
            }
            Kind::MaxPool { kernel, stride } => Layer::MaxPool(self.pool(what, *kernel, *stride)?),
            Kind::AvgPool { kernel, stride } => Layer::AvgPool(self.pool(what, *kernel, *stride)?),
            Kind::Flatten {} => {
                self.shape = vec![self.shape.iter().product()];
                return Ok(None);
            }
            Kind::Relu {} => Layer::Function(Function::Relu),
            Kind::Gelu {} => Layer::Function(Function::Gelu),
            Kind::Tanh {} => Layer::Function(Function::Tanh),
            Kind::Sigmoid {} => Layer::Function(Function::Sigmoid),
            Kind::LayerNorm { name, epsilon } => {
                let [inputs] = self.dimensions(what)?;
                let epsilon = sound_epsilon(what, *epsilon)?;
                let factors = self.tensor(what, name, "weight", &[inputs])?;
                Layer::Normalise { factors, terms: self.tensor(what, name, "bias", &[inputs])?, epsilon }
            }
            Kind::BatchNorm { name, epsilon } => self.batch_norm(what, name, *epsilon)?,
        }))
    }

    fn convolution(
        &mut self,
        what: &str,
        (name, bias): (&str, bool),
        shape: &[usize],
        pieces: Pieces,
    ) -> Result<Layer, EngineError> {
        let factors = [shape, &pieces.out].concat();
        self.spend(what, &factors)?;
        let weights = self.tensor(what, name, "weight", shape)?;
        Ok(Layer::Convolution { weights, bias: self.bias(what, name, shape[0], bias)?, pieces })
    }

    fn pool(&mut self, what: &str, kernel: usize, stride: Option<usize>) -> Result<Pieces, EngineError> {
        let stride = stride.unwrap_or(kernel);
        let (planes, kernel) = match self.shape[..] {
            [channels, length] => ([channels, 1, length], [1, kernel]),
            [channels, height, width] => ([channels, height, width], [kernel; 2]),
            _ => return Err(self.unfit(what, "two or three")),
        };
        let pieces = pieces(what, planes, kernel, stride, [0, 0])?;
        self.spend(what, &[planes[0], pieces.out[0], pieces.out[1], kernel[0], kernel[1]])?;
        let flat = self.shape.len() == 2;
        let [rows, columns] = pieces.out;
        self.reach(what, if flat { vec![planes[0], columns] } else { vec![planes[0], rows, columns] })?;
        Ok(pieces)
    }

    fn batch_norm(&mut self, what: &str, name: &str, epsilon: f32) -> Result<Layer, EngineError> {
        let (channels, values) = (self.shape[0], self.shape[1..].iter().product());
        let epsilon = f64::from(sound_epsilon(what, epsilon)?);
        let read = |part: &str| self.tensor(what, name, part, &[channels]);
        let (weights, biases) = (read("weight")?, read("bias")?);
        let (means, variances) = (read("running_mean")?, read("running_var")?);
        if let Some(variance) = variances.iter().find(|variance| **variance < 0.0) {
            return Err(wrong(what, format!("running_var holds {variance}; it must not be below 0")));
        }
        let deviation = |variance: &f32| (f64::from(*variance) + epsilon).sqrt();
        let factors: Vec<f64> = weights
            .iter()
            .zip(&variances)
            .map(|(weight, variance)| f64::from(*weight) / deviation(variance))
            .collect();
        let terms = biases.iter().zip(means.iter().zip(&factors));
        let terms: Vec<f32> = terms
            .map(|(bias, (mean, factor))| (f64::from(*bias) - f64::from(*mean) * factor) as f32)
            .collect();
        let factors: Vec<f32> = factors.into_iter().map(|factor| factor as f32).collect();
        if factors.iter().chain(&terms).any(|value| !value.is_finite()) {
            return Err(wrong(what, "its statistics give factors that are not finite".to_owned()));
        }
        Ok(Layer::Scale { factors, terms, values })
    }

    fn bias(&self, what: &str, name: &str, outputs: usize, bias: bool) -> Result<Vec<f32>, EngineError> {
        if bias { self.tensor(what, name, "bias", &[outputs]) } else { Ok(vec![0.0; outputs]) }
    }

    /// A tensor's values. Its size is the file's, so it is no larger than the file.
    fn tensor(&self, what: &str, name: &str, part: &str, shape: &[usize]) -> Result<Vec<f32>, EngineError> {
        let name = format!("{name}.{part}");
        let values = self.file.floats(&name, shape).map_err(|error| match error {
            EngineError::Inconsistent { what: tensor, detail } => {
                wrong(what, format!("tensor {tensor:?}: {detail}"))
            }
            other => other,
        })?;
        if !self.used.borrow_mut().insert(name.clone()) {
            return Err(wrong(what, format!("tensor {name:?} belongs to an earlier layer")));
        }
        Ok(values)
    }

    /// The shape before the layer, if it has so many dimensions.
    fn dimensions<const COUNT: usize>(&self, what: &str) -> Result<[usize; COUNT], EngineError> {
        self.shape
            .as_slice()
            .try_into()
            .map_err(|_| self.unfit(what, ["none", "one", "two", "three"][COUNT.min(3)]))
    }

    fn unfit(&self, what: &str, count: &str) -> EngineError {
        wrong(
            what,
            format!("the values before it have the shape {:?}; it needs {count} dimensions", self.shape),
        )
    }

    /// Number of weights; a tensor that no layer has would be a part of the model that is left out.
    fn check_nothing_is_left(&self) -> Result<u64, EngineError> {
        let (used, mut parameters) = (self.used.borrow(), 0);
        for (name, info) in self.file.header().tensors() {
            if used.contains(name) {
                parameters += info.shape.iter().product::<usize>() as u64;
            } else if !name.ends_with(NOT_A_WEIGHT) {
                return Err(wrong(name, "no layer has this tensor".to_owned()));
            }
        }
        Ok(parameters)
    }
}

/// The layer before the first: (x − mean) / std.
fn normalisation(input: &Input, inputs: usize) -> Result<Option<Layer>, EngineError> {
    let channels = input.shape[0];
    let checked = |what: &str, values: &Option<Vec<f32>>, default: f32, sound: fn(f32) -> bool| {
        let Some(values) = values else { return Ok(vec![default; channels]) };
        match values.iter().find(|value| !sound(**value)) {
            _ if values.len() != channels => Err(wrong(
                what,
                format!("it has {} values; the input's first dimension is {channels}", values.len()),
            )),
            Some(value) => Err(wrong(what, format!("it holds {value}"))),
            None => Ok(values.clone()),
        }
    };
    let mean = checked("input mean", &input.mean, 0.0, f32::is_finite)?;
    let std = checked("input std", &input.std, 1.0, f32::is_normal)?;
    if let Some(value) = std.iter().find(|value| **value < 0.0) {
        return Err(wrong("input std", format!("it holds {value}; it must be above 0")));
    }
    if input.mean.is_none() && input.std.is_none() {
        return Ok(None);
    }
    let factors: Vec<f32> = std.iter().map(|std| 1.0 / std).collect();
    let terms: Vec<f32> = mean.iter().zip(&std).map(|(mean, std)| -mean / std).collect();
    if factors.iter().chain(&terms).any(|value| !value.is_finite()) {
        return Err(wrong("input std", "it is too small for the mean".to_owned()));
    }
    Ok(Some(Layer::Scale { factors, terms, values: inputs / channels }))
}

fn pieces(
    what: &str,
    [channels, height, width]: [usize; 3],
    kernel: [usize; 2],
    stride: usize,
    padding: [usize; 2],
) -> Result<Pieces, EngineError> {
    let fits = |side: usize, kernel: usize, padding: usize| {
        let padded = padding.checked_mul(2)?.checked_add(side)?;
        // More padding than kernel would compute with nothing but zeros.
        let room = if kernel == 0 || padding >= kernel { None } else { padded.checked_sub(kernel) };
        Some(room?.checked_div(stride)? + 1)
    };
    match (fits(height, kernel[0], padding[0]), fits(width, kernel[1], padding[1])) {
        (Some(rows), Some(columns)) => {
            Ok(Pieces { channels, height, width, kernel, stride, padding, out: [rows, columns] })
        }
        _ => {
            let sides = format!("kernel {}, stride {stride}, padding {}", kernel[1], padding[1]);
            Err(wrong(what, format!("{sides} do not fit {height} × {width} values")))
        }
    }
}

fn sound_epsilon(what: &str, epsilon: f32) -> Result<f32, EngineError> {
    if epsilon > 0.0 && epsilon < 1.0 {
        return Ok(epsilon);
    }
    Err(wrong(what, format!("epsilon is {epsilon}; it must be above 0 and below 1")))
}

/// Number of values of a shape, if it fits.
fn values(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1_usize, |product, side| product.checked_mul(*side))
}

fn wrong(what: &str, detail: String) -> EngineError {
    EngineError::Inconsistent { what: what.to_owned(), detail }
}
