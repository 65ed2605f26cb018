//! Models beside the stack's own: one of vectors, and a patch of the base.

use std::path::Path;

use serde_json::{Value, json};

use crate::support::Stack;

/// Width of the base, and sizes of the patch.
const WIDTH: usize = 576;
const RANK: usize = 4;
const LAYERS: [usize; 3] = [0, 14, 29];

/// Registers the embedding model that `tools/setup.sh test` fetches; answers its id.
pub async fn register_embedder(stack: &Stack) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.cache/models/all-minilm-l6-v2");
    assert!(folder.exists(), "{} is missing: run tools/setup.sh test", folder.display());
    let terms = "kind = \"base\"\ninherit_ppm = 0\n";
    register(stack, "minilm", &folder.canonicalize().unwrap(), terms, "").await
}

/// Registers a patch of the stack's base, with weights of no meaning; answers its id.
pub async fn register_patch(stack: &Stack) -> String {
    let folder = stack.home().join("patch");
    std::fs::create_dir(&folder).unwrap();
    let config = json!({
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": RANK, "lora_alpha": 64, "bias": "none",
        "target_modules": ["q_proj", "o_proj"],
    });
    std::fs::write(folder.join("adapter_config.json"), config.to_string()).unwrap();
    std::fs::write(folder.join("adapter_model.safetensors"), weights()).unwrap();
    let base = stack.run(&["model", "show", "smollm2"]).await["id"].as_str().unwrap().to_owned();
    let parent = format!("[[parents]]\nmodel = \"{base}\"\nweight_ppm = 1_000_000\n");
    register(stack, "patch", &folder, "kind = \"patch\"\ninherit_ppm = 500_000\n", &parent).await
}

async fn register(stack: &Stack, name: &str, artifact: &Path, terms: &str, parents: &str) -> String {
    let payee = "0x70997970c51812dc3a010c7d01b50e0d17dc79c8";
    let text = format!(
        "name = \"{name}\"\n{terms}royalty_ppm = 200_000\nfloor_ppm = 0\n[artifact]\npath = \"{}\"\n{parents}\
         [[slots]]\npayee = \"{payee}\"\nshare_ppm = 1_000_000\n",
        artifact.display()
    );
    let file = stack.home().join(format!("{name}.toml"));
    std::fs::write(&file, text).unwrap();
    stack.run(&["model", "register", file.to_str().unwrap()]).await["model"].as_str().unwrap().to_owned()
}

/// A safetensors file with small numbers from a fixed sequence.
fn weights() -> Vec<u8> {
    let mut header = serde_json::Map::<String, Value>::new();
    let mut data = Vec::new();
    let mut state = 1_u32;
    for layer in LAYERS {
        for module in ["q_proj", "o_proj"] {
            for (part, shape) in [("lora_A", [RANK, WIDTH]), ("lora_B", [WIDTH, RANK])] {
                let start = data.len();
                for _ in 0..shape[0] * shape[1] {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    let number = (f64::from(state) / f64::from(u32::MAX) - 0.5) / 8.0;
                    data.extend((number as f32).to_le_bytes());
                }
                let name = format!("base_model.model.model.layers.{layer}.self_attn.{module}.{part}.weight");
                let entry = json!({ "dtype": "F32", "shape": shape, "data_offsets": [start, data.len()] });
                header.insert(name, entry);
            }
        }
    }
    let header = Value::Object(header).to_string();
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    file.extend(data);
    file
}
