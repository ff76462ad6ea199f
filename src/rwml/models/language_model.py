"""Hugging Face checkpoints: loading, saving, and the bundle of model, tokenizer and chat pieces."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from rwml.core.errors import RwmlError
from rwml.core.files import atomic_folder
from rwml.models.chat import ChatFormat

TINY = "tiny"
TINY_FOLDER = Path(__file__).parent / "tiny_weights"


@dataclass(frozen=True, slots=True)
class LanguageModel:
    """A causal language model with its tokenizer and chat pieces. device: where the model lives."""

    model: Any
    tokenizer: Any
    chat: ChatFormat
    source: str

    @property
    def device(self) -> torch.device:
        """Device of the model's parameters."""
        return next(self.model.parameters()).device


def pick_device(device: str, key: str = "model.device") -> torch.device:
    """Resolve "auto" to CUDA if a CUDA device is available, else CPU; RwmlError for a device that is not there.

    key: the setting that the error names.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        place = torch.device(device)
        torch.empty(0, device=place)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise RwmlError(
            f"{key} = '{device}' cannot be used: {_first_line(error)}",
            "the weights lie on a device that torch can see",
            "write auto, cpu, cuda or cuda:0",
        ) from None
    return place


def sampled_weights(model: torch.nn.Module) -> Iterator[bytes]:
    """What to hash to tell models apart: all of a small tensor, 65,536 numbers spread over a large one.

    To read 16 GB of weights through a hash would take minutes.
    """
    for name, tensor in model.state_dict().items():
        flat = tensor.detach().reshape(-1)
        yield f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode()
        yield flat[:: max(1, flat.numel() // 65536)].double().cpu().numpy().tobytes()


def load_language_model(
    path: str | Path, device: str = "auto", dtype: str = "float32", *, trust_remote_code: bool = False
) -> LanguageModel:
    """Load a causal language model by folder, hub name or "tiny" (the one that ships with the package).

    Raises RwmlError if the model, its tokenizer or its chat template is missing.
    """
    name, folder = str(path), _folder(path)
    if not Path(folder).is_dir() and (name.startswith((".", "/", "~")) or name.count("/") > 1):
        raise RwmlError(
            f"there is no model at '{name}'",
            "there is nothing to train or to ask",
            "give a folder with config.json and safetensors weights, a hub name that this machine can reach, or 'tiny'",
        )
    place = pick_device(device)
    tokenizer = _load_tokenizer(folder, name, trust_remote_code=trust_remote_code)
    chat = ChatFormat(tokenizer, f"'{name}'")
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()  # rwml shows its own

    try:
        model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=getattr(torch, dtype), trust_remote_code=trust_remote_code, attn_implementation="sdpa"
        )
    except Exception as error:  # whatever a library that reads foreign files raises
        raise RwmlError(
            f"model '{name}' cannot be loaded: {_first_line(error)}",
            "there is nothing to train or to ask",
            "give a folder with config.json and safetensors weights, a hub name that this machine can reach, or 'tiny'",
        ) from None
    return LanguageModel(model.to(place), tokenizer, chat, name)


def load_chat(path: str | Path, *, trust_remote_code: bool = False) -> ChatFormat:
    """The chat pieces of a model, without its weights; errors as of `load_language_model`."""
    return ChatFormat(_load_tokenizer(_folder(path), str(path), trust_remote_code=trust_remote_code), f"'{path}'")


def save_language_model(lm: LanguageModel, folder: Path) -> None:
    """Write a checkpoint (safetensors, tokenizer, chat template) atomically: the folder is complete or absent.

    A LoRA adapter is merged into the written weights. The folder then loads without its base model.
    """
    with atomic_folder(folder) as target:
        write_language_model(lm, target)


def write_language_model(lm: LanguageModel, folder: Path) -> None:
    """The files of `save_language_model`, into an unfinished folder that holds more."""
    model = lm.model
    if hasattr(model, "merge_and_unload"):
        model = copy.deepcopy(model).merge_and_unload()
    model.save_pretrained(folder, safe_serialization=True)
    lm.tokenizer.save_pretrained(folder)


def _folder(path: str | Path) -> str:
    return str(TINY_FOLDER if str(path) == TINY else Path(path).expanduser())


def _load_tokenizer(folder: str, name: str, *, trust_remote_code: bool) -> Any:
    from transformers import AutoTokenizer

    has_files = not Path(folder).is_dir() or any(
        (Path(folder) / file).exists() for file in ("tokenizer.json", "tokenizer.model", "vocab.json")
    )
    try:
        if not has_files:
            raise OSError("the folder has no tokenizer files")
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
    except Exception as error:  # whatever a library that reads foreign files raises
        if not Path(folder).is_dir():
            raise RwmlError(
                f"'{name}' is no folder, and the hub gave no model of that name: {_first_line(error)}",
                "there is no model to load",
                "check the path, or the hub name and the network",
            ) from None
        raise RwmlError(
            f"'{name}' has no tokenizer that can be loaded: {_first_line(error)}",
            "text cannot be turned into the tokens that the model knows",
            "save the tokenizer beside the model (tokenizer.save_pretrained)",
        ) from None


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
