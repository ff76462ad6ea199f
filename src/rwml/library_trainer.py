"""`rwml.Trainer`: world-model training without a run folder (RWML, step 4)."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rwml.core.errors import RwmlError
from rwml.core.files import Json, read_json, write_json
from rwml.core.recipe.recipe import read_values
from rwml.core.recipe.sections import TrainWmConfig
from rwml.core.records import MetricsLog
from rwml.core.seeds import seed_of
from rwml.core.types import Transition
from rwml.library import WorldModel, allow_named, at_least
from rwml.models.language_model import TINY, sampled_weights
from rwml.models.sampling.sampler import SamplingParams
from rwml.rewards.rewards import TAU_D, KindReward, Reward
from rwml.train.batches import epochs_of
from rwml.train.drift import DriftWatch
from rwml.train.steps import RwmlSteps
from rwml.train.trainer import PolicyLoss, TrainingLog
from rwml.train.trainer import Trainer as TreeTrainer
from rwml.world_models.language import LanguageWorldModel

TINY_RATE = 2e-4
REFUSED = {"method": "rwml.run and a recipe", "max_steps": "fit(rows, steps)", "epochs": "fit(rows, steps)"}
"""Keys of [train_wm] that a `Trainer` does not read, and what takes their place."""


class Trainer:
    """Trains a `WorldModel` on transitions by GRPO on next-state prediction (RWML, step 4), in place.

    reward: a name, an object of `rwml.rewards`, or a table {kind: reward}. settings: keys of the section [train_wm]
    (docs/reference/config.md); RwmlError for unknown ones. folder: keeps checkpoints and metrics, so that a program
    that was killed continues when it runs again. None: they are gone with this object.
    """

    def __init__(
        self,
        world_model: WorldModel,
        reward: str | Reward | dict[str, str | Reward] = "embedding",
        *,
        folder: str | Path | None = None,
        seed: int = 0,
        **settings: Any,
    ) -> None:
        predictor = world_model.predictor
        if not isinstance(predictor, LanguageWorldModel):
            raise RwmlError(
                f"the world model '{predictor.name}' has no weights here",
                "training changes weights",
                "give a WorldModel of a language model that this process has loaded",
            )
        for key in REFUSED.keys() & settings.keys():
            raise RwmlError(f"rwml.Trainer was given {key}", "it would change nothing", f"use {REFUSED[key]}")
        given: Json = {"learning_rate": TINY_RATE} if predictor.lm.source == TINY else {}
        given |= {"max_new_tokens": world_model.max_new_tokens, **settings}
        self.config: TrainWmConfig = read_values(TrainWmConfig, given, "rwml.Trainer")
        self.world_model, self.seed = world_model, seed
        self._temporary = tempfile.TemporaryDirectory(prefix="rwml-")
        self.folder = Path(self._temporary.name if folder is None else folder)
        tau_d = self.config.tau_d if self.config.tau_d is not None else getattr(reward, "tau_d", TAU_D)
        allow_named(reward)
        self.reward = KindReward(reward, tau_d=tau_d)
        params = SamplingParams(self.config.max_new_tokens, self.config.temperature)
        self._model = replace(predictor, params=params)
        self._fits = 0

    def fit(self, rows: Sequence[Transition], steps: int) -> list[Json]:
        """Train for `steps` steps of `batch_size` rows each, in shuffled passes; returns the metrics, a row a step.

        Every call is a training of its own, from the weights as they are, with a new optimiser; the n-th call has the
        n-th folder. A folder of another training (settings, reward, seed, rows or steps differ) raises RwmlError.
        """
        at_least("steps", steps, 1)
        at_least("the number of rows", len(rows), 1)
        folder, self._fits = self.folder / f"fit-{self._fits:03d}", self._fits + 1
        self._refuse_another(folder, rows, steps)
        config, batch_size = self.config, min(self.config.batch_size, len(rows))
        passes = -(-steps * batch_size // len(rows)) + 1
        batches = epochs_of(rows, batch_size, passes, seed_of(self.seed, "train_wm", "order", self._fits))[:steps]
        metrics = MetricsLog(folder / "metrics.jsonl")
        log = TrainingLog(folder, metrics, "train_wm", self.seed)
        trainer = TreeTrainer(self._model.lm, config, log, PolicyLoss.of(config))
        make = RwmlSteps(self._model, self.reward, batches, config, DriftWatch(config.drift_share, metrics))
        trainer.fit(make, steps, "train-wm (rwml)")
        return metrics.read()

    def _refuse_another(self, folder: Path, rows: Sequence[Transition], steps: int) -> None:
        """Note what this training is, or compare it with what the folder holds."""
        path = folder / "training.json"
        ours: Json = {
            "steps": steps,
            "seed": self.seed,
            "rows": hashlib.sha256("\n".join(map(repr, rows)).encode()).hexdigest(),
            "reward": [_named(self.reward.choice), self.reward.tau_d],
            "settings": json.loads(self.config.model_dump_json()),
            "questions": [self.world_model.style, self.world_model.world.name],
            "weights": hashlib.sha256(b"".join(sampled_weights(self._model.lm.model))).hexdigest(),
        }
        if not path.exists():
            write_json(path, ours)
            return
        theirs = read_json(path)
        differs = [key for key in ours if theirs.get(key) != ours[key]]
        if differs:
            raise RwmlError(
                f"'{folder}' holds another training: {', '.join(differs)} differ",
                "continuing it would mix the two",
                "make the same call again, or give another folder",
            )


def _named(reward: Any) -> Any:
    """A reward as it is noted: its name, or its class with its plain settings."""
    if isinstance(reward, dict):
        return {kind: _named(each) for kind, each in reward.items()}
    if isinstance(reward, str):
        return reward
    plain = {key: value for key, value in vars(reward).items() if isinstance(value, str | int | float)}
    return [type(reward).__name__, plain]
