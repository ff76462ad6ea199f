"""Which next states a reward separates, and what it pays to cheats: `rwml reward-lab` (docs/reference/reward-lab.md).

Pairs of (predicted, real) next states are made from real ones. Harmless rewordings ought to be right. Edited facts,
other outcomes of the same action and unrelated states ought to be wrong.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rwml.core.progress import progress
from rwml.core.recipe.reward_names import DEFAULT_REWARD
from rwml.core.recipe.sections import FilterConfig
from rwml.core.seeds import random_for
from rwml.core.text import same_text
from rwml.core.types import Transition
from rwml.measure.edits import HARMLESS, WRONG, Vocabulary
from rwml.rewards.rewards import KindReward
from rwml.rewards.thresholds import calibrate, paper_tau_d

SAME_ACTION, UNRELATED = "same action elsewhere", "unrelated"
RIGHT_KINDS = tuple(HARMLESS)
REWORDED = RIGHT_KINDS[1:]
"""What counts as right in AUC and ROC; with other white space the distance is 0 by definition."""

WRONG_KINDS = (*WRONG, SAME_ACTION, UNRELATED)
PERCENTILES = (0, 5, 25, 50, 75, 95, 100)
BIN_WIDTH, NUM_BINS = 0.02, 60
PAID = 0.05
"""A cheat is paid by a threshold under which its wrong answers earn more than this on average."""

Floats = NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class Pair:
    """A prediction for a row whose real next state is `row.next_state`; kind: of `RIGHT_KINDS` or `WRONG_KINDS`."""

    kind: str
    predicted: str
    row: Transition


def make_pairs(rows: Sequence[Transition], num_states: int, seed: int) -> list[Pair]:
    """At most one pair of each kind for each of `num_states` different next states of the rows, drawn at random.

    Every distinct next state has the same weight, however often it occurs. `SAME_ACTION`: the outcome of the identical
    action elsewhere, if both steps were valid. `UNRELATED`: the outcome of another action. No prediction of a wrong
    kind equals the real next state.
    """
    rng = random_for(seed, "reward_lab", "pairs")
    row_of: dict[str, Transition] = {}
    outcomes: dict[tuple[str, str], dict[str, None]] = defaultdict(dict)
    for row in rows:
        row_of.setdefault(row.next_state, row)
        if row.valid:
            outcomes[row.kind, row.action][row.next_state] = None
    states = list(row_of)
    vocabulary = Vocabulary.of(states)
    pairs = []
    for real in rng.sample(states, min(num_states, len(states))):
        row = row_of[real]
        for kind, edit in (HARMLESS | WRONG).items():
            changed = edit(real, vocabulary)
            if changed is not None and (kind in HARMLESS or not same_text(changed, real)):
                pairs.append(Pair(kind, changed, row))
        others = [text for text in outcomes[row.kind, row.action] if not same_text(text, real)]
        if others and row.valid:
            pairs.append(Pair(SAME_ACTION, rng.choice(others), row))
        # Drawn again a few times at most: in a world of one action there may be no other.
        for other in rng.sample(states, min(20, len(states))):
            if row_of[other].action != row.action and not same_text(other, real):
                pairs.append(Pair(UNRELATED, other, row))
                break
    return pairs


def by_kind(pairs: Sequence[Pair], values_N: Floats) -> dict[str, Floats]:
    """The values of each kind among the pairs, in the order of `RIGHT_KINDS` and `WRONG_KINDS`."""
    kinds = np.array([pair.kind for pair in pairs])
    return {kind: values_N[kinds == kind] for kind in (*RIGHT_KINDS, *WRONG_KINDS) if (kinds == kind).any()}


def spread(distances_N: Floats) -> dict[str, Any]:
    """Number, percentiles and histogram of distances: `NUM_BINS` bins of `BIN_WIDTH`, the last with all above."""
    bins = np.minimum((distances_N / BIN_WIDTH + 1e-9).astype(int), NUM_BINS - 1)
    percentiles = np.percentile(distances_N, PERCENTILES)
    return {
        "n": len(distances_N),
        "percentiles": {f"p{p}": float(value) for p, value in zip(PERCENTILES, percentiles, strict=True)},
        "histogram": np.bincount(bins, minlength=NUM_BINS).tolist(),
    }


def auc(right_N: Floats, wrong_M: Floats) -> float | None:
    """Probability that a right pair is nearer than a wrong one, ties counted half; None without pairs of both kinds.

    0.5: the distance does not separate them; 1.0: some threshold separates them without an error.
    """
    if not len(right_N) or not len(wrong_M):
        return None
    ordered = np.sort(wrong_M)
    above = len(ordered) - np.searchsorted(ordered, right_N, side="right")
    level = np.searchsorted(ordered, right_N, side="right") - np.searchsorted(ordered, right_N, side="left")
    return float((above + 0.5 * level).mean() / len(ordered))


def largest_tau(wrong_N: Floats, share: float) -> float:
    """The largest tau_d at which at most `share` of the distances are hits (d < tau_d); 2.0 if every tau_d will do."""
    allowed = int(share * len(wrong_N) + 1e-9)
    return float(np.sort(wrong_N)[allowed]) if allowed < len(wrong_N) else 2.0


def pair_figures(reward: KindReward, pairs: Sequence[Pair]) -> dict[str, Any]:
    """What one reward makes of the pairs, by kind: spread of the distances, mean reward, and the AUC.

    The AUC of a wrong kind is against all of `REWORDED` together, "auc" the one of all wrong pairs. failed: pairs
    without a judgement, which count as wrong.
    """
    predicted, rows = [pair.predicted for pair in pairs], [pair.row for pair in pairs]
    distances_N, rewards_N = reward.score(predicted, rows)
    distances, rewards = by_kind(pairs, distances_N), by_kind(pairs, rewards_N)
    right = together(distances, REWORDED)
    kinds = {
        kind: spread(values)
        | {"right": kind in RIGHT_KINDS, "reward": float(rewards[kind].mean())}
        | ({} if kind in RIGHT_KINDS else {"auc": auc(right, values)})
        for kind, values in distances.items()
    }
    return {
        "kinds": kinds,
        "auc": auc(right, together(distances, WRONG_KINDS)),
        "failed": int(reward.failed_judgements(predicted, rows, distances_N)),
    }


def threshold_figures(
    distances: Mapping[str, Floats], taus: Sequence[float], shares: Sequence[float]
) -> dict[str, Any]:
    """The ROC as tables. distances: by kind, of `by_kind`.

    taus: for each, the share of each kind with d < tau_d. false_positives: for each share, the largest tau_d at which
    no more than that share of a wrong kind pass, and the share of `REWORDED` that still passes.
    """
    right = together(distances, REWORDED)
    wrong = {kind: distances[kind] for kind in WRONG_KINDS if kind in distances}
    edited = together(distances, tuple(WRONG))
    groups = wrong | ({"all edited facts": edited} if len(edited) else {})
    limits = []
    for kind, values in groups.items():
        for share in shares:
            tau = largest_tau(values, share)
            limits.append({"kind": kind, "share": share, "tau_d": tau, "right": _below(right, tau)})
    passes = [{"tau_d": tau, "pass": {kind: _below(values, tau) for kind, values in distances.items()}} for tau in taus]
    return {"passes": passes, "false_positives": limits}


def roc_curve(right_N: Floats, wrong_M: Floats) -> tuple[list[float], list[float]]:
    """False positive rates and true positive rates over all thresholds, both rising from 0 to 1."""
    taus = np.unique(np.concatenate([right_N, wrong_M]))
    false = np.searchsorted(np.sort(wrong_M), taus, side="right") / max(1, len(wrong_M))
    true = np.searchsorted(np.sort(right_N), taus, side="right") / max(1, len(right_N))
    return [0.0, *false.tolist()], [0.0, *true.tolist()]


def cheat_figures(reward: KindReward, answers: Sequence[str | None], rows: Sequence[Transition]) -> dict[str, Any]:
    """What a reward pays one cheat: mean over all rows, and over those whose real next state it does not happen to be.

    tau_d: the threshold above which more than `PAID` of its wrong answers are hits (d < tau_d); it has a meaning for
    rewards with a threshold. None if the cheat is never wrong.
    """
    distances_N, rewards_N = reward.score(answers, rows)
    wrong_N = np.array([not same_text(answer, row.next_state) for answer, row in zip(answers, rows, strict=True)])
    anywhere = bool(wrong_N.any())
    return {
        "right": float(1 - wrong_N.mean()),
        "reward": float(rewards_N.mean()),
        "unearned": float(rewards_N[wrong_N].mean()) if anywhere else None,
        "tau_d": largest_tau(distances_N[wrong_N], PAID) if anywhere else None,
        "failed": int(reward.failed_judgements(answers, rows, distances_N)),
    }


def rule_figures(distances_N: Floats, config: FilterConfig) -> dict[str, Any]:
    """The paper's rule with one guess per transition for a predictor: the data-stage threshold, and training's."""
    chosen = calibrate(distances_N[:, None], config.target_share, config.tau_d, config.tau_easy)
    return {
        "data_tau_d": chosen.tau_d,
        "easy_share": chosen.easy_share,
        "on_target": chosen.on_target,
        "training_tau_d": paper_tau_d(chosen.tau_d),
    }


@dataclass(frozen=True, slots=True)
class AuditedReward:
    """A reward that is audited, under the name that the figures have for it.

    at: the reward under a threshold tau_d. num_judged: how many pairs of each kind and how many questions it is asked,
    None for all.
    """

    name: str
    at: Callable[[float], KindReward]
    num_judged: int | None = None


def audit(
    audited: Sequence[AuditedReward],
    taus: Sequence[float],
    tau_d: float,
    pairs: Sequence[Pair],
    asked: Sequence[Transition],
    cheats: Mapping[str, Sequence[str | None]],
) -> dict[str, Any]:
    """What every reward makes of the pairs (at `tau_d`) and pays each cheat (at each of `taus`, if it has a threshold).

    cheats: {name: its answers to `asked`}. Returns {"rewards": {name: `pair_figures` and has_tau}, "cheats":
    {cheat: {"example", "rewards": [`cheat_figures` with the reward's name and the tau_d, None without one]}}}.
    """
    of_pairs: dict[str, Any] = {}
    of_cheats: dict[str, Any] = {
        name: {"example": next((a for a in answers if a), ""), "rewards": []} for name, answers in cheats.items()
    }
    with progress("reward: audit", total=len(audited), unit="reward") as bar:
        for reward in audited:
            most = reward.num_judged
            few = pairs if most is None else _first_of_each_kind(pairs, most)
            at = {tau: reward.at(tau) for tau in (*taus, tau_d)}
            # The default reward has a threshold even if no distance of these pairs lies near it.
            has_tau = most is None and (reward.name == DEFAULT_REWARD or _depends_on_tau(reward, few))
            of_pairs[reward.name] = pair_figures(at[tau_d], few) | {"has_tau": has_tau}
            for tau in taus if has_tau else [tau_d]:
                for cheat, answers in cheats.items():
                    paid = cheat_figures(at[tau], answers[:most], asked[:most])
                    of_cheats[cheat]["rewards"].append({"name": reward.name, "at": tau if has_tau else None} | paid)
            bar.advance(1)
    return {"rewards": of_pairs, "cheats": of_cheats}


def together(distances: Mapping[str, Floats], kinds: Sequence[str]) -> Floats:
    """The distances of several kinds in one array, in the order of `kinds`; a kind without pairs adds nothing."""
    return np.concatenate([np.zeros(0, dtype=np.float32), *(distances[kind] for kind in kinds if kind in distances)])


def _depends_on_tau(reward: AuditedReward, pairs: Sequence[Pair]) -> bool:
    """Whether a threshold has a part in the reward: whether the strictest one and the loosest one differ."""
    predicted, rows = [pair.predicted for pair in pairs], [pair.row for pair in pairs]
    strict, loose = (reward.at(tau).score(predicted, rows)[1] for tau in (1e-9, 2.0))
    return not np.array_equal(strict, loose)


def _first_of_each_kind(pairs: Sequence[Pair], number: int) -> list[Pair]:
    seen: Counter[str] = Counter()
    chosen = []
    for pair in pairs:
        seen[pair.kind] += 1
        if seen[pair.kind] <= number:
            chosen.append(pair)
    return chosen


def _below(values_N: Floats, tau_d: float) -> float | None:
    return float((values_N < tau_d).mean()) if len(values_N) else None
