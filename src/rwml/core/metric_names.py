"""The figures of one training step: every key that a line of `metrics.jsonl` may have, by stage, in one line each.

The pages of the stages give the exact definitions. A stage logs some of these keys and no others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

_UPDATE = {
    "loss": "the loss of the last update; no measure of progress where advantages sum to zero",
    "policy_tokens": "tokens with a policy loss",
    "ce_tokens": "tokens with a cross-entropy loss",
    "cross_entropy": "mean of -log pi over these tokens, in nats",
    "tokens": "tokens of the trees of this step",
    "tokens_unshared": "tokens that separate sequences would have",
    "grad_norm": "norm of the gradient before it is scaled down",
    "learning_rate": "of this step",
}
_SAMPLED = {
    "kl": "mean over the policy tokens of exp(k) - k - 1 against the weights at the start",
    "ratio": "mean of pi/pi_old over the policy tokens",
    "ratio_max": "largest pi/pi_old",
    "clip_fraction": "share of the policy tokens whose ratio was clipped",
    "logp": "mean log-probability of the policy tokens",
}
_STEP = {
    "stage": "which stage wrote the line",
    "step": "number of the step, from 1",
    "sample_s": "seconds for sampling, scoring and building the trees",
    "update_s": "seconds for the reference, forward and backward passes and the optimiser",
}
_ANSWERS = {
    "reward": "mean reward of the samples",
    "signal_share": "share of the groups whose rewards are not all equal",
    "unparsed_share": "share of the samples that could not be read",
    "truncated_share": "share of the samples that ran into max_new_tokens",
    "answer_tokens": "mean number of sampled tokens",
    "sampled_tokens": "number of sampled tokens",
}
_WORLD_MODEL = {
    "within_tau": "share of the answers with a sim-to-real gap below tau_d",
    "mean_distance": "mean sim-to-real gap; an unparsed answer counts 2.0",
    "exact": "share of the answers with the words of the truth",
    "cheat_share": "share of the answers that are wrong and predict nothing",
    "judge_failed_share": "share of the answers to which the judge gave no readable score",
    "round": "spin: number of the round, from 1",
    "kept_pairs": "spin: pairs of a real next state and another guess",
    "equal_pairs": "spin: guesses with the words of the real next state, left out",
    "preference_loss": "spin: mean of -log sigmoid(m) over the kept pairs, before the update",
    "margin": "spin: mean of m over the kept pairs, before the update",
    "accuracy": "spin: share of the kept pairs with m > 0",
}
_POLICY = {
    "success": "share of the episodes that were solved",
    "steps_per_episode": "actions per episode",
    "invalid_share": "share of the actions that the world did not admit",
    "failed_episodes": "episodes that ended with an error",
    "demonstrations": "sft: episodes that this step learns from",
}
TRANSITION_UPDATE = "transition"
"""Prefix of the figures of a transition update (`train_policy.transition_every`), which has all of an update's."""

_TRANSITIONS = {
    "transitions": "transitions that the transition update learns from",
    "transitions_too_long": "transitions that do not fit into the model's context, left out",
    **{f"{TRANSITION_UPDATE}_{name}": f"{words}; of the transition update" for name, words in _UPDATE.items()},
}

METRICS: Mapping[str, Mapping[str, str]] = {
    "filter": _STEP | _UPDATE,
    "train_wm": _STEP | _ANSWERS | _WORLD_MODEL | _UPDATE | _SAMPLED,
    "train_policy": _STEP | _ANSWERS | _POLICY | _TRANSITIONS | _UPDATE | _SAMPLED,
}
"""{stage: {key: meaning}}."""


def unnamed(lines: Iterable[Mapping[str, object]]) -> set[str]:
    """Keys of lines of `metrics.jsonl` that their stage does not name here, as `stage.key`."""
    return {f"{line['stage']}.{key}" for line in lines for key in line if key not in METRICS[str(line["stage"])]}
