"""How much of a model training changed (RWML's weight-change formula), by layer and by module.

A weight counts as changed when `|w' - w| > 1e-3 * max(|w|, |w'|)`; the share is over the weights with at least one side
that is not zero. Tensors are read in slices, so that two checkpoints of any size take some megabytes.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rwml.core.errors import RwmlError
from rwml.core.files import read_json
from rwml.models.language_model import TINY, TINY_FOLDER

THRESHOLD = 1e-3
"""Of the paper's formula, relative to the larger of the two weights."""

MODULES = ("q", "k", "v", "qkv", "o", "gate/up", "down", "other")
OUTSIDE = "outside"
"""The "layer" of embeddings, last norm and head."""

# Entries of a tensor that are compared at once: few enough for their results to stay in the processor's cache.
SLICE = 2**18

_LAYER = re.compile(r"(?:^|\.)(?:layers|layer|h|blocks|block)\.(\d+)\.")
# The name of the matrix itself. Fused ones stay whole: which part is q is a matter of each family's layout.
_OF_NAME = {
    "q_proj": "q", "k_proj": "k", "v_proj": "v", "o_proj": "o",
    "qkv_proj": "qkv", "c_attn": "qkv", "query_key_value": "qkv", "Wqkv": "qkv",
    "gate_proj": "gate/up", "up_proj": "gate/up", "gate_up_proj": "gate/up", "c_fc": "gate/up", "fc1": "gate/up",
    "dense_h_to_4h": "gate/up", "w1": "gate/up", "w3": "gate/up",
    "down_proj": "down", "fc2": "down", "dense_4h_to_h": "down", "w2": "down",
}  # fmt: skip
# Names that say "out of this block", whichever the block is.
_OUT = frozenset(("c_proj", "out_proj", "dense", "wo"))

Weights = str | Path | Mapping[str, Tensor]


@dataclass(slots=True)
class _Counts:
    """Sums over the weights of one cell (layer and module)."""

    weights: int = 0
    changed: int = 0
    changed_bfloat16: int = 0
    zero: int = 0
    not_finite: int = 0
    square: float = 0.0
    square_change: float = 0.0

    def add(self, other: _Counts) -> None:
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def as_json(self) -> dict[str, Any]:
        return {
            "share": self.changed / self.weights if self.weights else None,
            "share_bfloat16": self.changed_bfloat16 / self.weights if self.weights else None,
            "relative_size": (self.square_change / self.square) ** 0.5 if self.square else None,
            "weights": self.weights,
            "changed": self.changed,
            "zero": self.zero,
            "not_finite": self.not_finite,
        }


@dataclass(frozen=True, slots=True)
class _Checkpoint:
    """Tensors by name. tensors: whole ones, or safetensors slices, which are read when they are indexed."""

    label: str
    tensors: dict[str, Any] = field(default_factory=dict)

    def shape(self, name: str) -> tuple[int, ...]:
        tensor = self.tensors[name]
        return tuple(tensor.shape if isinstance(tensor, Tensor) else tensor.get_shape())

    def rows(self, name: str, start: int, stop: int) -> Tensor:
        """Rows [start, stop) of the first dimension, flat, on the CPU, as they are stored."""
        tensor = self.tensors[name]
        part = tensor[start:stop] if self.shape(name) else tensor if isinstance(tensor, Tensor) else tensor[...]
        return part.detach().cpu().reshape(-1)


def measure_weight_change(before: Weights, after: Weights, threshold: float = THRESHOLD) -> dict[str, Any]:
    """Share of the weights that differ, overall, by layer and by module (see docs/reference/measure.md).

    before, after: a checkpoint folder (safetensors, sharded or not), "tiny", a hub name whose weights are cached here,
    or a state dict of floating-point tensors. Weights are compared in float32, whatever dtype they are stored in;
    `share_bfloat16` is the share after rounding both sides to bfloat16.
    Returns `threshold`, the figures over all weights, `by_module` {module: figures}, `by_layer` {layer: figures},
    `by_layer_and_module` {layer: {module: share}}, and the names that only one side has (not compared).
    Raises RwmlError if a side has no weights, or the two are not the same model.
    """
    cells: dict[tuple[str, str], _Counts] = defaultdict(_Counts)
    with ExitStack() as stack:
        old, new = stack.enter_context(_opened(before)), stack.enter_context(_opened(after))
        common = [name for name in old.tensors if name in new.tensors]
        _refuse_strangers(old, new, common)
        for name in common:
            cells[layer_of(name), module_of(name)].add(_compare(old, new, name, threshold))
        only_before = sorted(old.tensors.keys() - new.tensors.keys())
        only_after = sorted(new.tensors.keys() - old.tensors.keys())
    layers = sorted({layer for layer, _ in cells}, key=lambda layer: (layer == OUTSIDE, layer.zfill(6)))
    modules = [module for module in MODULES if any(module == own for _, own in cells)]
    return {
        "threshold": threshold,
        **_total(cells.values()),
        "by_module": {m: _total(c for (_, own), c in cells.items() if own == m) for m in modules},
        "by_layer": {n: _total(c for (own, _), c in cells.items() if own == n) for n in layers},
        "by_layer_and_module": {
            n: {m: cells[n, m].as_json()["share"] for m in modules if (n, m) in cells} for n in layers
        },
        "only_before": only_before,
        "only_after": only_after,
    }


def module_of(name: str) -> str:
    """One of `MODULES` for a parameter's name. Biases count with their matrix; norms, embeddings and head as other.

    Fused attention inputs (GPT-2's c_attn, Phi's qkv_proj) are "qkv". Anything outside a layer is "other".
    """
    if not _LAYER.search(name):
        return "other"
    parts = name.split(".")
    own = parts[-2] if parts[-1] in ("weight", "bias") and len(parts) > 1 else parts[-1]
    if own in _OF_NAME:
        return _OF_NAME[own]
    if own in _OUT:
        return "o" if any("attn" in part or "attention" in part for part in parts[:-2]) else "down"
    return "other"


def layer_of(name: str) -> str:
    """The layer's number in a parameter's name, `OUTSIDE` for a name without a layer."""
    layer = _LAYER.search(name)
    return layer.group(1) if layer else OUTSIDE


def _total(cells: Any) -> dict[str, Any]:
    total = _Counts()
    for cell in cells:
        total.add(cell)
    return total.as_json()


def _compare(old: _Checkpoint, new: _Checkpoint, name: str, threshold: float) -> _Counts:
    shape, counts = old.shape(name), _Counts()
    rows = shape[0] if shape else 1
    width = 1
    for size in shape[1:]:
        width *= size
    step = max(1, SLICE // max(1, width))
    for start in range(0, rows, step):
        stop = min(rows, start + step)
        counts.add(_count(old.rows(name, start, stop), new.rows(name, start, stop), threshold))
    return counts


def _count(old: Tensor, new: Tensor, threshold: float) -> _Counts:
    rounded = old.dtype == new.dtype == torch.bfloat16
    old, new, left_out = old.float(), new.float(), 0
    size = torch.maximum(old.abs(), new.abs())
    if not torch.isfinite(size.sum()):  # one pass for all; which they are is asked only if any is not finite
        finite = torch.isfinite(size)
        left_out = int((~finite).sum())
        old, new, size = old[finite], new[finite], size[finite]
    nonzero = int(torch.count_nonzero(size))
    change = new - old
    changed = _num_changed(change, size, threshold)
    if rounded:
        changed_bfloat16 = changed
    else:
        low_old, low_new = old.bfloat16().float(), new.bfloat16().float()
        low_size = torch.maximum(low_old.abs(), low_new.abs())
        changed_bfloat16 = _num_changed(low_new - low_old, low_size, threshold)
    return _Counts(
        weights=nonzero,
        changed=changed,
        changed_bfloat16=changed_bfloat16,
        zero=old.numel() - nonzero,
        not_finite=left_out,
        square=float(torch.dot(old, old)),
        square_change=float(torch.dot(change, change)),
    )


def _num_changed(change: Tensor, size: Tensor, threshold: float) -> int:
    return int(torch.count_nonzero(change.abs() > threshold * size))


@contextmanager
def _opened(weights: Weights) -> Iterator[_Checkpoint]:
    if isinstance(weights, Mapping):
        tensors = {name: t for name, t in weights.items() if t.is_floating_point()}
        yield _filled(_Checkpoint("the state dict", tensors))
        return
    from safetensors import safe_open

    with ExitStack() as stack:
        checkpoint = _Checkpoint(f"'{weights}'")
        for file in _files(str(weights)):
            handle = stack.enter_context(safe_open(str(file), framework="pt", device="cpu"))
            for name in handle.keys():  # noqa: SIM118  the handle is no mapping
                part = handle.get_slice(name)
                if part.get_dtype().startswith(("F", "BF")):
                    checkpoint.tensors[name] = part
        yield _filled(checkpoint)


def _filled(checkpoint: _Checkpoint) -> _Checkpoint:
    if not checkpoint.tensors:
        raise RwmlError(
            f"{checkpoint.label} holds no floating-point weights",
            "there is nothing to compare",
            "give the folder of a trained model, as rwml or `save_pretrained` writes it",
        )
    return checkpoint


def _files(place: str) -> list[Path]:
    """The safetensors files of a model, in the order of their names."""
    folder = TINY_FOLDER if place == TINY else Path(place).expanduser()
    if not folder.is_dir():
        folder = _cached(place)
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        return [folder / name for name in sorted(set(read_json(index)["weight_map"].values()))]
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise RwmlError(
            f"'{place}' holds no safetensors file",
            "weights are compared tensor by tensor from such files",
            "give the folder of a trained model, or convert its weights with save_pretrained",
        )
    return files


def _cached(name: str) -> Path:
    """The folder of a hub model on this machine (fetched if the machine can reach it)."""
    from transformers.utils import cached_file

    for file in ("model.safetensors.index.json", "model.safetensors"):
        try:
            cached = cached_file(name, file, _raise_exceptions_for_missing_entries=False)
            if cached is None:
                continue
            for shard in sorted(set(read_json(cached)["weight_map"].values())) if file.endswith(".json") else ():
                cached_file(name, shard)
        except Exception:  # whatever a library that reaches for foreign files raises
            continue
        return Path(cached).parent
    raise RwmlError(
        f"there are no weights at '{name}'",
        "a trained model is compared with the one that it started from",
        "give a folder with safetensors weights, a hub name that this machine can reach, or 'tiny'",
    )


def _refuse_strangers(old: _Checkpoint, new: _Checkpoint, common: list[str]) -> None:
    if not common:
        raise RwmlError(
            f"{old.label} and {new.label} have no parameter name in common "
            f"('{next(iter(old.tensors))}', '{next(iter(new.tensors))}')",
            "only the same model before and after training can be compared",
            "give both as whole checkpoints: a LoRA adapter must be merged into its weights first",
        )
    for name in common:
        if old.shape(name) != new.shape(name):
            raise RwmlError(
                f"'{name}' has the shape {old.shape(name)} in {old.label} and {new.shape(name)} in {new.label}",
                "only the same model before and after training can be compared",
                "give the model that the training started from",
            )
