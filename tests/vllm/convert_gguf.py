"""Convert a GGUF model of the Llama family to a folder that vLLM reads. Runs in vLLM's environment, with gguf.

python tests/vllm/convert_gguf.py FILE FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any


def main() -> None:
    """Convert the file named by the first argument to the folder named by the second."""
    import torch
    from transformers import AutoTokenizer, GgufConfig, LlamaForCausalLM

    file, folder = Path(sys.argv[1]), Path(sys.argv[2])
    tokenizer: Any = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    unpacked = {"dtype": torch.bfloat16, "quantization_config": GgufConfig(dequantize=True)}
    model: Any = LlamaForCausalLM.from_pretrained(file.parent, gguf_file=file.name, **unpacked)
    model.config.__dict__.pop("quantization_config", None)  # the saved weights are not packed
    model.hf_quantizer = None
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    main()
