"""What turns prompts into completions: a protocol that this process, vLLM and a remote server can meet.

A sampler of one's own is a function in one file, `@SAMPLERS.register("name")`, that takes a language model and the
dtype of its matrix products (None: the model's own). One that a recipe names as `module:Name` is a class.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch

from rwml.core.registry import Registry
from rwml.models.language_model import LanguageModel


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How to sample. temperature 0 is greedy; top_k 0 and top_p 1 cut nothing."""

    max_new_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0


@dataclass(frozen=True, slots=True)
class Completion:
    """One sampled message. ids: with the stop token when one was sampled; truncated: no stop token within
    max_new_tokens."""

    ids: tuple[int, ...]
    truncated: bool


@runtime_checkable
class Session(Protocol):
    """Rows that are written over several turns.

    A row's context is its prompt, then in turn its sampled message (all its ids) and what `extend` added.
    """

    def sample(self, rows: Sequence[int], params: SamplingParams, generator: torch.Generator) -> list[Completion]:
        """Sample one message for each listed row (distinct, none dropped), in that order."""

    def extend(self, rows: Sequence[int], ids: Sequence[Sequence[int]]) -> None:
        """Append known tokens to the rows' contexts."""

    def drop(self, rows: Sequence[int]) -> None:
        """Forget rows: they are not sampled any more."""


@runtime_checkable
class Sampler(Protocol):
    """Prompts to completions, all as token ids. The same generator state, prompts and parameters give the same tokens
    where the sampler's docstring says so (`LocalSampler` does)."""

    def sample(
        self, prompts: Sequence[Sequence[int]], num_samples: int, params: SamplingParams, generator: torch.Generator
    ) -> list[list[Completion]]:
        """num_samples completions of each prompt: [prompts][num_samples]. Raises RwmlError for an empty prompt."""

    def session(self, prompts: Sequence[Sequence[int]]) -> Session:
        """Begin a session with one row per prompt."""


MakeSampler = Callable[[LanguageModel, torch.dtype | None], Sampler]
SAMPLERS: Registry[MakeSampler] = Registry(
    "sampler", "rwml.samplers", {"local": "rwml.models.sampling.local"}, ["sample", "session"]
)
