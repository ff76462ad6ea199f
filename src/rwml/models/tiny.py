"""The tiny model: a Qwen3 of 1.4 million parameters with a tokenizer of its own, the CPU default.

Its architecture, files and chat turns are those of a real checkpoint: the same code serves it and Qwen. `rwml tiny`
makes its weights (docs/reference/tiny.md).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch

from rwml.models.chat import ChatFormat
from rwml.models.language_model import LanguageModel

TAGS = ("<think>", "</think>", "<action>", "</action>", "<next_state>", "</next_state>")
TURNS = ("<|user|>", "<|assistant|>", "<|end|>")
PAD = "<|pad|>"
TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


@dataclass(frozen=True, slots=True)
class TinyShape:
    """Sizes of the model; the defaults are those of the weights that ship with the package."""

    vocab: int = 1024
    hidden: int = 160
    intermediate: int = 448
    layers: int = 4
    heads: int = 5
    key_value_heads: int = 5
    head_dim: int = 32
    max_positions: int = 4096


def train_tokenizer(texts: Iterable[str], vocab: int) -> Any:
    """Train a byte-level BPE whose pieces never cross a name or a number, with tags and turns as single tokens.

    A name is a word that some number follows ("desk 12"). Names stay whole, so that a model can copy them. The stock
    phrases between them (", you see a") may grow into single tokens, which halves the length of an episode.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    corpus = list(texts)
    names = sorted({name for text in corpus for name in re.findall(r"([a-z]+) \d", text)}, key=lambda n: (-len(n), n))
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(rf" ?\d+| ?\b(?:{'|'.join(names)})\b"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        special_tokens=[PAD, *TURNS, *TAGS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(corpus, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token=PAD, eos_token="<|end|>", clean_up_tokenization_spaces=False
    )
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def new_model(shape: TinyShape, vocab: int, seed: int) -> Any:
    """Make an untrained Qwen3 of the given shape, initialised from the seed alone."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    config = Qwen3Config(
        vocab_size=vocab,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.key_value_heads,
        head_dim=shape.head_dim,
        max_position_embeddings=shape.max_positions,
        tie_word_embeddings=True,
        initializer_range=0.02,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Qwen3ForCausalLM(config)


def new_language_model(texts: Iterable[str], shape: TinyShape, seed: int) -> LanguageModel:
    """Tokenizer trained on `texts` plus an untrained model."""
    tokenizer = train_tokenizer(texts, shape.vocab)
    model = new_model(shape, len(tokenizer), seed)
    model.config.eos_token_id = model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.config.pad_token_id = model.generation_config.pad_token_id = tokenizer.pad_token_id
    return LanguageModel(model, tokenizer, ChatFormat(tokenizer, "the tiny model"), "tiny")
