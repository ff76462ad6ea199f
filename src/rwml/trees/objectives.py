"""Group advantages, loss aggregation and the clipped objective, all on tokens of trees.

GRPO: Shao et al. 2024, arXiv 2402.03300 (equations 3 and 4). DAPO: Yu et al. 2025, arXiv 2503.14476. Dr. GRPO: Liu et
al. 2025, arXiv 2503.20783. k3 estimator: Schulman, "Approximating KL divergence", 2020.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rwml.core.errors import RwmlError, nearest
from rwml.trees.tree import Tree

SCALES = ("std", "none")
AGGREGATIONS = ("sequence", "token", "constant")


def group_advantages(rewards: Tensor, scale: str = "std", eps: float = 1e-6) -> tuple[Tensor, Tensor]:
    """Advantages within each group (GRPO, section 4.1.2).

    rewards: [G] or [P, G]. scale "std": (r - mean) / (std + eps) with the unbiased deviation; "none": r - mean
    (Dr. GRPO). Returns (advantages, same shape and float32; has_signal, bool, [] or [P]). A group whose rewards are
    all equal has no signal and advantages of exactly 0.
    """
    if scale not in SCALES:
        raise RwmlError(
            f"unknown advantage scale '{scale}'", "it decides how large the updates are", nearest(scale, SCALES)
        )
    values = torch.as_tensor(rewards, dtype=torch.float64)
    has_signal = values.amax(-1) > values.amin(-1)
    advantages = values - values.mean(-1, keepdim=True)
    if scale == "std":
        # Rewards that are all equal (or a group of one) have no deviation to divide by.
        deviation = torch.where(has_signal, values.std(-1), 1.0) if values.shape[-1] > 1 else torch.ones(())
        advantages = advantages / (deviation.unsqueeze(-1) + eps)
    return torch.where(has_signal.unsqueeze(-1), advantages, 0.0).float(), has_signal


def answer_coefficients(lengths: Sequence[int], aggregation: str, max_new_tokens: int = 0) -> NDArray[np.float64]:
    """Weight c of every token of each answer, so that the batch loss is a plain sum over tokens.

    lengths: tokens of each of the A answers of the whole batch (of all its updates that step together).
    "sequence": 1 / (A * length), the mean over tokens, then over answers (GRPO); "token": 1 / all tokens (DAPO);
    "constant": 1 / (A * max_new_tokens) (Dr. GRPO). Returns [A].
    """
    if aggregation not in AGGREGATIONS:
        raise RwmlError(
            f"unknown loss aggregation '{aggregation}'",
            "it decides whether long answers weigh more than short ones",
            nearest(aggregation, AGGREGATIONS),
        )
    size = np.asarray(lengths, dtype=np.float64)
    if aggregation == "sequence":
        return 1.0 / (len(size) * size)
    if aggregation == "token":
        return np.full(len(size), 1.0 / size.sum())
    if max_new_tokens <= 0:
        raise RwmlError(
            f"loss aggregation 'constant' with max_new_tokens={max_new_tokens}",
            "every answer is divided by that number",
            "give the sampler's max_new_tokens, at least 1",
        )
    return np.full(len(size), 1.0 / (len(size) * max_new_tokens))


@dataclass(frozen=True, slots=True)
class LossFields:
    """The loss fields of R tokens as float32 tensors [R]; see `Tree` for what each means."""

    w_pos: Tensor
    w_neg: Tensor
    w_kl: Tensor
    w_ce: Tensor
    old_logp: Tensor

    @classmethod
    def of(cls, tree: Tree, device: torch.device | str = "cpu") -> LossFields:
        """The fields of every token of a tree, [N]."""
        arrays = (tree.w_pos, tree.w_neg, tree.w_kl, tree.w_ce, tree.old_logp)
        return cls(*(torch.from_numpy(np.ascontiguousarray(array)).to(device) for array in arrays))

    def take(self, tokens_R: Tensor) -> LossFields:
        """The fields of some tokens."""
        parts = (self.w_pos, self.w_neg, self.w_kl, self.w_ce, self.old_logp)
        return LossFields(*(part[tokens_R] for part in parts))


def token_losses(
    logp_R: Tensor,
    fields: LossFields,
    ref_logp_R: Tensor | None = None,
    *,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    kl_weight: float = 0.0,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of R tokens, summed, and sums for the metrics (`finish_metrics` turns those into means).

    Policy term (GRPO, equation 3, with DAPO's two-sided clip): -sum of
    w_pos * min(r, 1 + clip_high) + w_neg * max(r, 1 - clip_low), r = exp(logp - old_logp); where old_logp is NaN one
    update follows one sample, old is logp itself, and r is exactly 1 (its gradient is not).
    KL term (equation 4, k3): kl_weight * sum of w_kl * (exp(d) - d - 1), d = ref - logp.
    Cross-entropy: -sum of w_ce * logp; a negative weight makes a token less likely (`train/preferences.py`), and only
    positive ones count in the metrics.
    """
    old = torch.where(torch.isnan(fields.old_logp), logp_R.detach(), fields.old_logp)
    ratio = torch.exp(logp_R - old)
    gain = fields.w_pos * ratio.clamp(max=1.0 + clip_high) + fields.w_neg * ratio.clamp(min=1.0 - clip_low)
    loss = -(gain + fields.w_ce * logp_R).sum()
    sampled = fields.w_kl != 0
    learnt = fields.w_ce > 0
    with torch.no_grad():
        still = ratio.detach()
        clipped = ((fields.w_pos > 0) & (still > 1.0 + clip_high)) | ((fields.w_neg < 0) & (still < 1.0 - clip_low))
        metrics = {
            "policy_tokens": sampled.sum(),
            "policy_logp_sum": (logp_R * sampled).sum(),
            "ratio_sum": (still * sampled).sum(),
            "ratio_max": torch.where(sampled, still, 0.0).amax() if len(still) else still.sum(),
            "clipped_sum": clipped.sum(),
            "ce_tokens": learnt.sum(),
            "ce_sum": -(logp_R * learnt).sum(),
        }
    if ref_logp_R is not None:
        difference = ref_logp_R - logp_R
        kl = torch.expm1(difference) - difference
        metrics["kl_sum"] = (kl.detach() * sampled).sum()
        loss = loss + kl_weight * (fields.w_kl * kl).sum()
    metrics["loss"] = loss.detach()
    return loss, metrics


def merge_metrics(into: dict[str, float], more: Mapping[str, Tensor | float]) -> None:
    """Add sums; keep the larger of maxima (names that end in `_max`)."""
    for name, value in more.items():
        number = float(value)
        into[name] = max(into.get(name, number), number) if name.endswith("_max") else into.get(name, 0.0) + number


def finish_metrics(sums: Mapping[str, float]) -> dict[str, float]:
    """Means over tokens: `kl`, `ratio`, `clip_fraction`, `logp` over sampled tokens, `cross_entropy` over learnt ones.

    A kind of loss that no token carries is left out. Counts, `loss` and `ratio_max` pass through.
    """
    result = {name: sums[name] for name in ("loss", "policy_tokens", "ce_tokens") if name in sums}
    sampled, learnt = sums.get("policy_tokens", 0.0), sums.get("ce_tokens", 0.0)
    if sampled:
        means = {"kl": "kl_sum", "ratio": "ratio_sum", "clip_fraction": "clipped_sum", "logp": "policy_logp_sum"}
        result.update({name: sums[key] / sampled for name, key in means.items() if key in sums})
        result["ratio_max"] = sums["ratio_max"]
    if learnt:
        result["cross_entropy"] = sums["ce_sum"] / learnt
    return result
