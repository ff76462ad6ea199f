"""Checkpoints of a training: weights and optimiser state, written whole and read back exactly."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from rwml.core.files import atomic_folder, damaged, file_hash, read_sealed, remove, write_sealed
from rwml.core.records import latest_checkpoint

Weights = Mapping[str, Tensor]


def save_checkpoint(place: Path, step: int, stage: str, weights: Weights, optimizer: torch.optim.Optimizer) -> None:
    """Write weights and optimiser state in one go to place/checkpoint-STEP; earlier ones go only after it."""
    from safetensors.torch import save_file

    folder = place / f"checkpoint-{step:06d}"
    with atomic_folder(folder) as target:
        save_file({k: v.contiguous() for k, v in weights.items()}, target / "weights.safetensors")
        save_file(optimizer_tensors(weights, optimizer), target / "optimizer.safetensors")
        files = {path.name: file_hash(path) for path in sorted(target.iterdir())}
        write_sealed(target / "state.json", {"step": step, "stage": stage, "files": files})
    for other in place.glob("checkpoint-[0-9]*"):  # a kill may have left more than one
        if other != folder:
            remove(other)


def load_checkpoint(place: Path, weights: Weights, optimizer: torch.optim.Optimizer) -> int:
    """Load the newest checkpoint of `place` into weights and optimiser; returns the number of finished steps, 0 without
    one."""
    from safetensors.torch import load_file

    folder = latest_checkpoint(place)
    if folder is None:
        return 0
    step = _whole(folder)
    saved = load_file(folder / "weights.safetensors")
    with torch.no_grad():
        for name, parameter in weights.items():
            parameter.copy_(saved[name])
    tensors = load_file(folder / "optimizer.safetensors")
    for name, parameter in weights.items():
        if f"{name}.step" in tensors:
            optimizer.state[parameter] = {
                key: tensors[f"{name}.{key}"].to(parameter.device if key != "step" else "cpu")
                for key in ("step", "exp_avg", "exp_avg_sq")
            }
    return step


def optimizer_tensors(weights: Weights, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's state, as `weight.key`."""
    return {
        f"{name}.{key}": value.contiguous()
        for name, parameter in weights.items()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def _whole(folder: Path) -> int:
    """The step of a checkpoint; RwmlError if a file of it is not as it was written."""
    fix = f"remove '{folder}' and give the same command again: the training begins from its start, or put back a copy"
    state = read_sealed(folder / "state.json", fix)
    files, step = state.get("files", dict.fromkeys(("weights.safetensors", "optimizer.safetensors"))), state.get("step")
    if not isinstance(step, int):
        raise damaged(folder / "state.json", f"its step is {step!r}", fix)
    for name, expected in files.items():
        path = folder / name
        if not path.is_file() or file_hash(path) != (expected or file_hash(path)):
            raise damaged(path, "it is gone" if not path.is_file() else "it is not what the training wrote", fix)
    return step
