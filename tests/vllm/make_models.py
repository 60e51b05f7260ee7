"""Makes two models with random weights and a tokenizer trained here: a Llama that reads text, a Qwen2-VL that sees.

    PYTHONPATH=tests/vllm/site .venv-vllm/bin/python tests/vllm/make_models.py FOLDER

They answer nonsense, through the same code as the real ones. Nothing is downloaded.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2TokenizerFast,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessor,
    Qwen2VLProcessor,
    Qwen2VLVideoProcessor,
)

VISION = ("<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>")
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
CORPUS = (
    "A man runs along the beach with his dog while the sun goes down.",
    "Which of the three videos is the odd one out? Video 1, Video 2 or Video 3? The odd one out is Video 2.",
    "A woman cries in the rain. Children laugh at a birthday party. A snake moves slowly towards the camera.",
) * 50
TEXT = {
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if m['content'] is string %}{{ m['content'] }}{% else %}{% for c in m['content'] %}"
    "{% if c['type'] in ('image', 'image_url') %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif c['type'] in ('video', 'video_url') %}<|vision_start|><|video_pad|><|vision_end|>"
    "{% elif 'text' in c %}{{ c['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def train_tokenizer(special: tuple[str, ...]) -> Tokenizer:
    """Return a byte-pair tokenizer of 1,024 words trained on a few sentences."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=1024, special_tokens=list(special), initial_alphabet=alphabet)
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def make_llama(folder: Path) -> None:
    """Write a tiny Llama."""
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=train_tokenizer(SPECIAL), eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )
    tokenizer.chat_template = CHAT
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        **TEXT,
        vocab_size=len(tokenizer),
        head_dim=32,
        max_position_embeddings=4096,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
    )
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)


def make_qwen2_vl(folder: Path) -> None:
    """Write a tiny Qwen2-VL."""
    tokenizer = Qwen2TokenizerFast(
        tokenizer_object=train_tokenizer(SPECIAL + VISION),
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=list(VISION),
    )
    tokenizer.image_token, tokenizer.video_token, tokenizer.chat_template = "<|image_pad|>", "<|video_pad|>", CHAT
    number = tokenizer.convert_tokens_to_ids
    torch.manual_seed(0)
    config = Qwen2VLConfig(
        text_config={
            **TEXT,
            "vocab_size": len(tokenizer),
            "max_position_embeddings": 8192,
            "eos_token_id": number("<|im_end|>"),
            "pad_token_id": number("<|endoftext|>"),
            "bos_token_id": None,
            "tie_word_embeddings": False,
            "rope_parameters": {"rope_type": "default", "mrope_section": [4, 6, 6], "rope_theta": 10000.0},
        },
        vision_config={
            "depth": 2,
            "embed_dim": 64,
            "hidden_size": 128,
            "num_heads": 4,
            "mlp_ratio": 2,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
        },
        image_token_id=number("<|image_pad|>"),
        video_token_id=number("<|video_pad|>"),
        vision_start_token_id=number("<|vision_start|>"),
        vision_end_token_id=number("<|vision_end|>"),
    )
    config.tie_word_embeddings = False
    Qwen2VLForConditionalGeneration(config).to(torch.float32).eval().save_pretrained(folder)
    pixels = {"min_pixels": 28 * 28, "max_pixels": 28 * 28 * 16}
    patches = {"patch_size": 14, "temporal_patch_size": 2, "merge_size": 2}
    Qwen2VLProcessor(
        image_processor=Qwen2VLImageProcessor(**pixels, **patches),
        tokenizer=tokenizer,
        video_processor=Qwen2VLVideoProcessor(**pixels, **patches),
        chat_template=CHAT,
    ).save_pretrained(folder)


def main() -> None:
    folder = Path(sys.argv[1])
    for name, make in (("tiny-llama", make_llama), ("tiny-qwen2-vl", make_qwen2_vl)):
        make(folder / name)
        print(name, *sorted(path.name for path in (folder / name).iterdir()))


if __name__ == "__main__":
    main()
