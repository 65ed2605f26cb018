//! From the vectors of tokens to that of the text.

use std::path::Path;

use serde::Deserialize;

use super::config::{MAX_JSON_BYTES, unsupported};
use crate::{EngineError, GenerationError, bounded};

/// How the vector of a text is made from those of its tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Pooling {
    /// Their mean.
    Mean,
    /// That of the first token.
    Cls,
    /// That of the last token.
    Last,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Modes {
    pooling_mode_cls_token: bool,
    pooling_mode_mean_tokens: bool,
    pooling_mode_max_tokens: bool,
    pooling_mode_mean_sqrt_len_tokens: bool,
    pooling_mode_weightedmean_tokens: bool,
    pooling_mode_lasttoken: bool,
}

impl Pooling {
    /// Reads `1_Pooling/config.json`.
    pub(super) fn read(path: &Path) -> Result<Self, EngineError> {
        let modes: Modes = bounded::read_json(path, MAX_JSON_BYTES)?;
        let chosen: Vec<&str> = [
            ("cls_token", modes.pooling_mode_cls_token),
            ("mean_tokens", modes.pooling_mode_mean_tokens),
            ("max_tokens", modes.pooling_mode_max_tokens),
            ("mean_sqrt_len_tokens", modes.pooling_mode_mean_sqrt_len_tokens),
            ("weightedmean_tokens", modes.pooling_mode_weightedmean_tokens),
            ("lasttoken", modes.pooling_mode_lasttoken),
        ]
        .into_iter()
        .filter_map(|(name, chosen)| chosen.then_some(name))
        .collect();
        match chosen[..] {
            ["mean_tokens"] => Ok(Self::Mean),
            ["cls_token"] => Ok(Self::Cls),
            ["lasttoken"] => Ok(Self::Last),
            _ => Err(unsupported(
                "pooling_mode",
                &chosen.join(" + "),
                "one of mean_tokens, cls_token, lasttoken",
            )),
        }
    }

    /// The vector of a text, from `width` values per token; of length 1 with `normalised`.
    pub(super) fn pool(
        self,
        tokens: &[f32],
        width: usize,
        normalised: bool,
    ) -> Result<Vec<f32>, GenerationError> {
        let count = tokens.len() / width;
        let mut vector: Vec<f64> = match self {
            Self::Cls => tokens[..width].iter().copied().map(f64::from).collect(),
            Self::Last => tokens[(count - 1) * width..].iter().copied().map(f64::from).collect(),
            Self::Mean => {
                let mut sums = vec![0.0; width];
                for token in tokens.chunks_exact(width) {
                    sums.iter_mut().zip(token).for_each(|(sum, value)| *sum += f64::from(*value));
                }
                sums.iter().map(|sum| sum / count as f64).collect()
            }
        };
        if normalised {
            let length = vector.iter().map(|value| value * value).sum::<f64>().sqrt().max(1e-12);
            vector.iter_mut().for_each(|value| *value /= length);
        }
        let vector: Vec<f32> = vector.into_iter().map(|value| value as f32).collect();
        if vector.iter().all(|value| value.is_finite()) {
            Ok(vector)
        } else {
            Err(GenerationError::NotFinite)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_takes_what_its_name_says() {
        let tokens = [3.0, 4.0, 5.0, 8.0, 1.0, 0.0];
        let pool = |pooling: Pooling, normalised| pooling.pool(&tokens, 2, normalised);
        assert_eq!(pool(Pooling::Mean, false), Ok(vec![3.0, 4.0]));
        assert_eq!(pool(Pooling::Mean, true), Ok(vec![0.6, 0.8]));
        assert_eq!(pool(Pooling::Cls, false), Ok(vec![3.0, 4.0]));
        assert_eq!(pool(Pooling::Last, false), Ok(vec![1.0, 0.0]));
        assert_eq!(Pooling::Cls.pool(&[0.0, 0.0], 2, true), Ok(vec![0.0, 0.0]));
        assert_eq!(Pooling::Cls.pool(&[f32::NAN, 0.0], 2, true), Err(GenerationError::NotFinite));
    }
}
