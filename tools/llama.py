"""llama.cpp by its low-level interface: batches of tokens of several sequences in, logits out.

Needs PyPI `llama-cpp-python` (`tools/setup.sh bench`).
"""

import ctypes
from importlib.metadata import version

import llama_cpp as api
import numpy as np

VERSION = version("llama-cpp-python")
F32, F16 = 0, 1


@ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
def _only_errors(level, text, _):
    if level == 4:
        print(text.decode(errors="replace"), end="")


api.llama_log_set(_only_errors, None)
api.llama_backend_init()


class Model:
    """A GGUF file in memory."""

    def __init__(self, path, repack=True):
        """`repack` allows llama.cpp to reorder weights for faster products, as it does by default."""
        params = api.llama_model_default_params()
        params.n_gpu_layers = 0
        params.use_extra_bufts = repack
        self.pointer = api.llama_model_load_from_file(str(path).encode(), params)
        if not self.pointer:
            raise SystemExit(f"error: llama.cpp cannot load {path}\n  remedy: name a sound GGUF file")
        self.vocabulary = api.llama_model_get_vocab(self.pointer)
        self.size = api.llama_vocab_n_tokens(self.vocabulary)

    def tokenize(self, text):
        """Token ids, with whatever the model wants in front; control tokens' names are plain text."""
        data = text.encode()
        ids = (ctypes.c_int32 * (len(data) + 8))()
        count = api.llama_tokenize(self.vocabulary, data, len(data), ids, len(ids), True, False)
        assert count >= 0, "a token is at least one byte"
        return list(ids[:count])

    def close(self):
        api.llama_model_free(self.pointer)


class Context:
    """Sequences of a model."""

    def __init__(self, model, tokens, sequences=1, threads=2, kv=F16, flash=None):
        """Room for `tokens` tokens in each of `sequences` sequences. `flash` None is llama.cpp's own choice."""
        params = api.llama_context_default_params()
        params.n_ctx = tokens * sequences
        params.n_batch = max(512, sequences)
        params.n_seq_max = sequences
        params.n_threads = params.n_threads_batch = threads
        params.type_k = params.type_v = kv
        if flash is not None:
            params.flash_attn_type = int(flash)
        params.no_perf = True
        self.model, self.limit = model, params.n_batch
        self.pointer = api.llama_init_from_model(model.pointer, params)
        if not self.pointer:
            raise SystemExit("error: llama.cpp cannot make a context\n  remedy: use fewer or shorter sequences")
        self.batch = api.llama_batch_init(self.limit, 0, 1)

    def clear(self):
        api.llama_memory_clear(api.llama_get_memory(self.pointer), True)

    def decode(self, rows):
        """Computes rows (token, sequence, position, whether logits are wanted), at most `limit` of them."""
        batch = self.batch
        batch.n_tokens = len(rows)
        for index, (token, sequence, position, wanted) in enumerate(rows):
            batch.token[index] = token
            batch.pos[index] = position
            batch.n_seq_id[index] = 1
            batch.seq_id[index][0] = sequence
            batch.logits[index] = wanted
        if api.llama_decode(self.pointer, batch) != 0:
            raise SystemExit("error: llama.cpp cannot compute a batch\n  remedy: use fewer or shorter sequences")

    def logits(self, row):
        """Logits of a row of the last batch, as a copy."""
        pointer = api.llama_get_logits_ith(self.pointer, row)
        return np.ctypeslib.as_array(pointer, shape=(self.model.size,)).copy()

    def log_probabilities(self, row):
        """Natural logarithms of the probabilities of all tokens after a row, in f64."""
        logits = self.logits(row).astype(np.float64)
        logits -= logits.max()
        return logits - np.log(np.exp(logits).sum())

    def close(self):
        api.llama_batch_free(self.batch)
        api.llama_free(self.pointer)
