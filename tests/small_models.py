"""Random models of a few thousand weights, one of each kind of attention, and prompts for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GptOssConfig,
    GptOssForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

STOP = 1
VOCAB = 40
SIZES: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 24,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 6,
    "initializer_range": 0.4,
    "eos_token_id": STOP,
    "bos_token_id": 2,
    "pad_token_id": 0,
}
SLOW_KINDS = ("llama", "softcap", "sinks")
KINDS = ("qwen3", "gpt2", *(pytest.param(kind, marks=pytest.mark.slow) for kind in SLOW_KINDS))
LAYERS = {"sliding_window": 7, "layer_types": ["sliding_attention", "full_attention"]}


def make_model(kind: str) -> Any:
    torch.manual_seed(3)
    if kind == "qwen3":
        return Qwen3ForCausalLM(Qwen3Config(**SIZES)).eval()
    if kind == "llama":
        return LlamaForCausalLM(LlamaConfig(**SIZES)).eval()
    if kind == "softcap":  # and a sliding window, half of the layers
        sizes = {**SIZES, **LAYERS, "initializer_range": 0.2, "attn_logit_softcapping": 2.0}
        return Gemma2ForCausalLM(Gemma2Config(**sizes, attn_implementation="eager")).eval()
    if kind == "sinks":  # and a sliding window, and experts
        sizes = {**SIZES, **LAYERS, "num_local_experts": 4, "num_experts_per_tok": 2, "tie_word_embeddings": False}
        return GptOssForCausalLM(GptOssConfig(**sizes, attn_implementation="eager")).eval()
    if kind == "alibi":
        sizes = {"vocab_size": VOCAB, "hidden_size": 24, "n_layer": 2, "n_head": 4, "initializer_range": 0.4}
        return BloomForCausalLM(BloomConfig(**sizes, eos_token_id=STOP)).eval()
    if kind == "recurrent":
        sizes = {"vocab_size": VOCAB, "hidden_size": 24, "num_hidden_layers": 2, "initializer_range": 0.4}
        return MambaForCausalLM(MambaConfig(**sizes, state_size=4, eos_token_id=STOP)).eval()
    config = GPT2Config(
        vocab_size=VOCAB, n_embd=24, n_layer=2, n_head=4, n_positions=256, initializer_range=0.4, eos_token_id=STOP
    )
    return GPT2LMHeadModel(config).eval()


def numbers(count: int, seed: int) -> list[int]:
    return torch.randint(2, VOCAB, (count,), generator=torch.Generator().manual_seed(seed)).tolist()


def episode_prompts() -> list[list[int]]:
    """Two histories asked after several of their steps, with questions of unequal length, and a prompt of its own."""
    prompts = []
    for seed in (1, 2):
        history = [5, 6, 7, *numbers(40, seed)]
        prompts += [history[:n] + numbers(2 + n % 4, 100 + n) for n in (3, 9, 17, 30, 43)]
    return [*prompts, [9, 8, 7], [11]]


def greedy(model: Any, context: Sequence[int], count: int) -> tuple[int, ...]:
    out = model.generate(
        torch.tensor([context]), max_new_tokens=count, do_sample=False, eos_token_id=STOP, pad_token_id=0
    )
    return tuple(out[0, len(context) :].tolist())
