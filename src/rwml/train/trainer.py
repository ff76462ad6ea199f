"""The training loop of all methods: batches of trees in, a trained model and its checkpoints out."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rwml.core.errors import NotFiniteError
from rwml.core.progress import progress
from rwml.core.recipe.sections import GrpoConfig, OptimizerConfig
from rwml.core.records import MetricsLog, latest_checkpoint
from rwml.core.seeds import generator_for
from rwml.models.language_model import LanguageModel
from rwml.train.checkpoints import load_checkpoint, optimizer_tensors, save_checkpoint
from rwml.trees.finite import overflows, require_answers, require_finite, require_sound, stopped, warn_of_rate
from rwml.trees.forward import LossFn, PassOptions, tree_backward, tree_logprobs
from rwml.trees.objectives import LossFields, finish_metrics, merge_metrics, token_losses
from rwml.trees.tree import Tree, pack


@dataclass(slots=True)
class Batch:
    """What one step trains on. trees: may be empty when no group has signal; metrics: of the sampling.

    temperature: that the trees' answers were sampled at, and that logits are divided by; 1 for trees without samples.
    more: further batches of one update each, by the prefix of their metrics.
    """

    trees: list[Tree]
    metrics: dict[str, float] = field(default_factory=dict)
    temperature: float = 1.0
    more: dict[str, Batch] = field(default_factory=dict)


MakeBatch = Callable[[int, torch.Generator], Batch]

SCORES = ("reward", "mean_distance", "preference_loss", "margin")
"""Figures of a batch that its losses come from. Others may be NaN: a share of the actions of a batch without any."""

RATE_KEYS = {"filter": "filter.predictor_learning_rate"}
"""{stage: key of its learning rate} where that is not `STAGE.learning_rate`."""


@dataclass(frozen=True, slots=True)
class PolicyLoss:
    """The loss on sampled tokens: the clipping of the ratio, and the weight of the KL term."""

    clip_low: float
    clip_high: float
    kl_weight: float

    @classmethod
    def of(cls, config: GrpoConfig) -> PolicyLoss:
        """As a section says."""
        return cls(config.clip_low, config.clip_high, config.kl_weight)


NO_SAMPLES = PolicyLoss(clip_low=0.2, clip_high=0.2, kl_weight=0.0)
"""For trees without sampled tokens (SFT, SPIN): no KL term, nothing to clip."""


@dataclass(frozen=True, slots=True)
class TrainingLog:
    """Where a training is written down. folder: of the stage; checkpoints lie in it while the stage runs.

    metrics: gets one line a step, under the name of the stage. seed: of the run.
    """

    folder: Path
    metrics: MetricsLog
    stage: str
    seed: int


class Trainer:
    """Trains a model on batches of trees; a killed run continues exactly from its last checkpoint.

    NaN and infinity end a training with a NotFiniteError; they are never written over a checkpoint.

    policy_loss: of the sampled tokens. Its KL term holds the model to the weights that training begins with (with
    LoRA: to the model without its adapter). autocast: dtype of the matrix products, None for the weights' own.
    """

    def __init__(
        self,
        lm: LanguageModel,
        config: OptimizerConfig,
        log: TrainingLog,
        policy_loss: PolicyLoss = NO_SAMPLES,
        autocast: torch.dtype | None = None,
    ) -> None:
        self.lm, self.config, self.log, self.policy_loss, self.autocast = lm, config, log, policy_loss, autocast
        trained = [p for p in lm.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            trained, lr=config.learning_rate, weight_decay=config.weight_decay, betas=(0.9, 0.999)
        )
        self.reference = self._frozen_copy() if policy_loss.kl_weight > 0 else None

    def fit(self, make_batch: MakeBatch, total_steps: int, description: str) -> None:
        """Run the steps that are not done yet; `make_batch(step, generator)` samples, scores and builds trees."""
        log, first = self.log, load_checkpoint(self.log.folder, self._trained(), self.optimizer)
        log.metrics.rewind(log.stage, first)
        highest = max(map(self.config.rate_at, range(first, total_steps)), default=0.0)
        warn_of_rate(highest, log.stage, self._rate_key)
        with progress(description, total=total_steps, unit="step", done=first) as bar:
            for step in range(first, total_steps):
                saves = (step + 1) % self.config.checkpoint_every == 0 or step + 1 == total_steps
                try:
                    with overflows():
                        figures = self._step(make_batch, step, saves=saves)
                except NotFiniteError as error:
                    raise self._stopped(error, step, total_steps) from None
                log.metrics.append({"stage": log.stage, "step": step + 1} | figures)
                if saves:
                    self._checkpoint(step + 1)
                bar.advance(1, **{k: figures[k] for k in ("reward", "success", "loss") if k in figures})

    def _step(self, make_batch: MakeBatch, step: int, *, saves: bool) -> dict[str, float]:
        """One batch and its updates; its figures. NotFiniteError for NaN or infinity in it, or in what it `saves`."""
        started = time.perf_counter()
        batch = make_batch(step, generator_for(self.log.seed, self.log.stage, step))
        sampled = time.perf_counter()
        require_finite({key: batch.metrics[key] for key in SCORES if key in batch.metrics})
        times = self.config.updates_per_batch
        figures = batch.metrics | self._update(batch.trees, step, times, batch.temperature)
        for name, more in batch.more.items():
            of_more = more.metrics | self._update(more.trees, step, 1, more.temperature)
            figures |= {f"{name}_{key}": value for key, value in of_more.items()}
        if saves:
            require_sound(self._trained(), optimizer_tensors(self._trained(), self.optimizer))
            require_answers(self.lm.model, batch.trees, self._how(1.0))
        return figures | {"sample_s": sampled - started, "update_s": time.perf_counter() - sampled}

    def _update(self, trees: list[Tree], step: int, times: int = 1, temperature: float = 1.0) -> dict[str, float]:
        """One or several optimiser updates on the same trees."""
        rows = pack(trees, self.config.tokens_per_pass)
        figures: dict[str, float] = {"tokens": float(sum(tree.num_tokens for tree in trees))}
        figures["tokens_unshared"] = float(sum(tree.num_dense_tokens for tree in trees))
        if not rows:
            return figures | {"loss": 0.0, "grad_norm": 0.0}
        reference = [self._reference_logprobs(row, temperature) for row in rows]
        if times > 1:
            rows = [self._with_old_logprobs(row, temperature) for row in rows]
        for _ in range(times):
            figures |= self._one_update(rows, reference, step, temperature)
        return figures

    def _one_update(
        self, rows: list[Tree], reference: list[Tensor | None], step: int, temperature: float
    ) -> dict[str, float]:
        config, sums = self.config, dict[str, float]()
        self.lm.model.train()
        for row, ref_logp in zip(rows, reference, strict=True):
            loss = self._loss(row, ref_logp)
            merge_metrics(sums, tree_backward(self.lm.model, row, loss, self._how(temperature)))
        self.lm.model.eval()
        norm = torch.nn.utils.clip_grad_norm_(self.lm.model.parameters(), config.max_grad_norm)
        figures = finish_metrics(sums) | {"grad_norm": float(norm), "learning_rate": config.rate_at(step)}
        require_finite(figures)
        for group in self.optimizer.param_groups:
            group["lr"] = figures["learning_rate"]
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return figures

    def _loss(self, row: Tree, ref_logp: Tensor | None) -> LossFn:
        terms, fields = self.policy_loss, LossFields.of(row, self.lm.device)

        def loss(logp_R: Tensor, tokens_R: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
            return token_losses(
                logp_R,
                fields.take(tokens_R),
                None if ref_logp is None else ref_logp[tokens_R],
                clip_low=terms.clip_low,
                clip_high=terms.clip_high,
                kl_weight=terms.kl_weight,
            )

        return loss

    def _how(self, temperature: float) -> PassOptions:
        return PassOptions(temperature=temperature, autocast=self.autocast)

    def _with_old_logprobs(self, row: Tree, temperature: float) -> Tree:
        """The row with pi_old of its sampled tokens: of the weights before the first update, in the trainer's own
        arithmetic, from which the sampler's may differ. With one update the ratio is exactly 1, without a pass."""
        logp = tree_logprobs(self.lm.model, row, self._how(temperature)).cpu().numpy()
        return replace(row, old_logp=np.where(row.w_kl != 0, logp, np.nan).astype(np.float32))

    def _reference_logprobs(self, row: Tree, temperature: float) -> Tensor | None:
        """Log-probabilities of the frozen reference [N]; None without a KL term, or if it holds no token."""
        if self.policy_loss.kl_weight == 0 or not row.w_kl.any():
            return None
        if self.reference is not None:
            return tree_logprobs(self.reference, row, self._how(temperature))
        with self.lm.model.disable_adapter():
            return tree_logprobs(self.lm.model, row, self._how(temperature))

    def _frozen_copy(self) -> Any | None:
        """A frozen copy of the weights; None with LoRA, where the model without its adapter is the reference."""
        if hasattr(self.lm.model, "disable_adapter"):
            return None
        reference = copy.deepcopy(self.lm.model).eval()
        return reference.requires_grad_(False)

    def _checkpoint(self, step: int) -> None:
        save_checkpoint(self.log.folder, step, self.log.stage, self._trained(), self.optimizer)

    def _stopped(self, error: NotFiniteError, step: int, total_steps: int) -> NotFiniteError:
        """The error of a training that cannot continue, with the step and the last good checkpoint."""
        folder = latest_checkpoint(self.log.folder)
        kept = f"the last good checkpoint '{folder}' is as it was" if folder else "no checkpoint was due before it"
        rate = f"{self._rate_key} (now {self.config.learning_rate:g})"
        return stopped(error, f"{self.log.stage}, step {step + 1} of {total_steps}", kept, rate)

    @property
    def _rate_key(self) -> str:
        return RATE_KEYS.get(self.log.stage, f"{self.log.stage}.learning_rate")

    def _trained(self) -> dict[str, Tensor]:
        return {name: p for name, p in self.lm.model.named_parameters() if p.requires_grad}
