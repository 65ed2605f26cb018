//! Classifiers: a small description and a safetensors file in, scores per label out.
//!
//! Multi-layer perceptrons and convolutional networks over feature vectors, token sequences, signals and images. The
//! description lists the layers as data ([`Description`]); every size in it is held against the layer before and against
//! the file's tensors before anything is allocated.
//!
//! The execution profile is [`PROFILE`]: single precision, one input after the other, one thread, every sum in one fixed
//! order, no library functions but `libm`'s in f64. So scores are the same to the bit alone and in any batch, and on every
//! processor.

mod compute;
mod description;
mod network;

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::batch::{BatchStats, Limits, Model, Pending, Service};
use crate::safetensors::SafeTensors;
use crate::{EngineError, GenerationError, Health, SubmitError};
pub use description::{Description, Input, Kind, Output};
use network::Network;

/// The name of the way in which scores are computed.
pub const PROFILE: &str = "candle-f32-v1";

/// Multiply-adds of a step, about: a tenth of a second.
const STEP_OPERATIONS: u64 = 1 << 28;

/// Limits of one classifier. All have defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassifierOptions {
    /// Requests that may wait; 1 to 65,536. The next one is refused with `QueueFull`.
    pub queue: usize,
    /// Inputs of one request; 1 to 65,536.
    pub max_inputs: usize,
}

impl Default for ClassifierOptions {
    fn default() -> Self {
        Self { queue: 64, max_inputs: 2_048 }
    }
}

/// What is known of a loaded classifier.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ClassifierInfo {
    /// What the scores stand for, in their order.
    pub labels: Vec<String>,
    /// Values of an input per dimension, outermost first.
    pub input_shape: Vec<usize>,
    /// [`PROFILE`].
    pub profile: &'static str,
    /// Multiply-adds of one input, about.
    pub operations: u64,
    /// Size of the weights' file.
    pub file_bytes: u64,
    /// Number of weights.
    pub parameters: u64,
}

/// A loaded classifier. Clones are handles to the same one; when the last is dropped, what was taken is finished, then the
/// thread ends and the memory is freed.
#[derive(Clone)]
pub struct Classifier {
    loaded: Arc<Loaded>,
}

struct Loaded {
    info: ClassifierInfo,
    options: ClassifierOptions,
    network: Arc<Network>,
    service: Service<Shared>,
}

impl Classifier {
    /// Loads the description (JSON) and the weights (safetensors) and starts a thread. Blocks for the time it takes to read
    /// the files. Both may come from anywhere.
    pub fn load(description: &Path, weights: &Path, options: ClassifierOptions) -> Result<Self, EngineError> {
        for (option, found) in [("queue", options.queue), ("max_inputs", options.max_inputs)] {
            if !(1..=65_536).contains(&found) {
                return Err(EngineError::Option { option, found, expected: "from 1 to 65536" });
            }
        }
        let description = Description::read(description)?;
        let file = SafeTensors::open(weights)?;
        let network = Arc::new(Network::build(&description, &file)?);
        let info = ClassifierInfo {
            labels: description.labels,
            input_shape: description.input.shape,
            profile: PROFILE,
            operations: network.operations(),
            file_bytes: file.file_bytes(),
            parameters: network.parameters(),
        };
        let per_step = STEP_OPERATIONS / info.operations.max(1);
        let budget = usize::try_from(per_step).unwrap_or(usize::MAX).clamp(1, 1 << 16);
        let limits = Limits { queue: options.queue, budget };
        let service = Service::start("classifier", Shared(Arc::clone(&network)), limits)?;
        Ok(Self { loaded: Arc::new(Loaded { info, options, network, service }) })
    }

    /// What is known of the model.
    pub fn info(&self) -> &ClassifierInfo {
        &self.loaded.info
    }

    /// The scores of each input, computed on the calling thread. An input is the values of its shape, rows first.
    pub fn classify(&self, inputs: &[Vec<f32>]) -> Result<Vec<Vec<f32>>, ClassifyError> {
        self.check(inputs)?;
        Ok(inputs.iter().map(|input| self.loaded.network.run(input)).collect::<Result<_, _>>()?)
    }

    /// Takes a request for the classifier's thread, or says at once why not. Never waits.
    pub fn submit(&self, inputs: Vec<Vec<f32>>) -> Result<Classification, SubmitError> {
        self.check(&inputs)?;
        Ok(Classification(self.loaded.service.submit(inputs)?))
    }

    /// Whether the classifier can be relied on.
    pub fn health(&self) -> Health {
        self.loaded.service.health()
    }

    /// Counters of submitted requests since the start, and the present load; units are inputs.
    pub fn stats(&self) -> BatchStats {
        self.loaded.service.stats()
    }

    fn check(&self, inputs: &[Vec<f32>]) -> Result<(), SubmitError> {
        let Loaded { options, network, .. } = &*self.loaded;
        let invalid =
            |found: String, expected: String| SubmitError::Invalid { field: "input", found, expected };
        if inputs.is_empty() || inputs.len() > options.max_inputs {
            let expected = format!("a list of 1 to {} inputs", options.max_inputs);
            return Err(invalid(format!("a list of {}", inputs.len()), expected));
        }
        for (place, input) in inputs.iter().enumerate() {
            if input.len() != network.inputs() {
                let expected = format!("of {} values each", network.inputs());
                return Err(invalid(format!("holding {} values at {place}", input.len()), expected));
            }
            if let Some(value) = input.iter().find(|value| !network.takes(**value)) {
                return Err(invalid(format!("holding {value} at {place}"), network.taken()));
            }
        }
        Ok(())
    }
}

impl std::fmt::Debug for Classifier {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Classifier").field("info", &self.loaded.info).finish_non_exhaustive()
    }
}

/// Why inputs were not classified on the spot.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ClassifyError {
    /// They cannot be.
    #[error(transparent)]
    Input(#[from] SubmitError),
    /// The network failed on one of them.
    #[error(transparent)]
    Failed(#[from] GenerationError),
}

/// The scores of one request, per input one per label: a future. Dropping it cancels the request.
#[derive(Debug)]
pub struct Classification(Pending<Vec<f32>>);

impl Classification {
    /// Waits for the scores, for callers outside an async runtime. Panics inside one.
    pub fn wait(self) -> Result<Vec<Vec<f32>>, GenerationError> {
        self.0.wait()
    }
}

impl Future for Classification {
    type Output = Result<Vec<Vec<f32>>, GenerationError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context)
    }
}

/// The network, for the thread.
struct Shared(Arc<Network>);

impl Model for Shared {
    type Input = Vec<f32>;
    type Output = Vec<f32>;

    fn cost(_input: &Vec<f32>) -> usize {
        1
    }

    fn compute(&mut self, inputs: &[&Vec<f32>]) -> Vec<Result<Vec<f32>, GenerationError>> {
        inputs.iter().map(|input| self.0.run(input)).collect()
    }
}
