"""Pairs, ROC and what cheats are paid: on real transitions, by hand and by brute force."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from rwml.core.recipe.recipe import FilterConfig
from rwml.core.text import same_text
from rwml.core.types import Transition
from rwml.measure.edits import HARMLESS, WRONG
from rwml.measure.reward_lab import (
    REWORDED,
    SAME_ACTION,
    UNRELATED,
    AuditedReward,
    auc,
    audit,
    by_kind,
    cheat_figures,
    largest_tau,
    make_pairs,
    pair_figures,
    roc_curve,
    rule_figures,
    spread,
    threshold_figures,
)
from rwml.models.embedding.embedder import Embedder
from rwml.playing.rollout import play_built_in, seats_for
from rwml.rewards.rewards import KindReward
from rwml.worlds.base import World
from rwml.worlds.transitions import transitions_of

NOTHING = "Nothing happens."


def transition(next_state: str, action: str = "go to desk 1", history: tuple[str, ...] = ()) -> Transition:
    return Transition("e@0", "e", "t", "train", 0, "opening", history, action, next_state, "text", "go", True, True)


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return Embedder(device="cpu")


@pytest.fixture(scope="module")
def real(world: World) -> list[Transition]:
    """All transitions of eight noisy episodes of at most twelve steps."""
    episodes = play_built_in(world, seats_for(world.tasks("train"), 1, seed=0), "noisy", 12)
    return [row for episode in episodes for row in transitions_of(episode, world, "train")]


def test_pairs_of_real_transitions(real: list[Transition]) -> None:
    pairs = make_pairs(real, 30, seed=0)
    assert pairs == make_pairs(real, 30, seed=0) != make_pairs(real, 30, seed=1)
    assert max(Counter((pair.kind, pair.row.next_state) for pair in pairs).values()) == 1
    assert len({pair.row.next_state for pair in pairs}) == 30
    brought = {(row.action, row.next_state) for row in real if row.valid}
    actions = {row.next_state: row.action for row in reversed(real)}
    for pair in pairs:
        if pair.kind not in HARMLESS:
            assert not same_text(pair.predicted, pair.row.next_state)
        if pair.kind == SAME_ACTION:
            assert (pair.row.action, pair.predicted) in brought
        if pair.kind == UNRELATED:
            assert actions[pair.predicted] != pair.row.action
    assert {SAME_ACTION, UNRELATED, "white space"} <= {pair.kind for pair in pairs}


def test_auc_thresholds_and_roc_by_hand() -> None:
    right, wrong = np.array([0.0, 0.1, 0.2]), np.array([0.1, 0.3])
    # Of the six comparisons 0.0 wins two, 0.1 wins one and ties one, 0.2 wins one.
    assert auc(right, wrong) == pytest.approx((2 + 1.5 + 1) / 6)
    assert auc(right, np.zeros(0)) is None
    generator = np.random.default_rng(0)
    left, other = generator.integers(0, 9, 40) / 9, generator.integers(3, 12, 30) / 9
    brute = np.mean([(a < b) + 0.5 * (a == b) for a in left for b in other])
    assert auc(left, other) == pytest.approx(brute)
    # Strict: at tau_d = 0.1 the distance 0.1 is no hit.
    assert largest_tau(wrong, 0.0) == 0.1
    assert largest_tau(wrong, 0.5) == 0.3
    assert largest_tau(wrong, 1.0) == 2.0
    twenty = np.arange(20) / 20
    assert (twenty < largest_tau(twenty, 0.05)).sum() == 1
    false, true = roc_curve(right, wrong)
    assert false == [0.0, 0.0, 0.5, 0.5, 1.0]
    assert true == pytest.approx([0.0, 1 / 3, 2 / 3, 1.0, 1.0])


def test_spread_by_hand() -> None:
    figures = spread(np.array([0.0, 0.019, 0.02, 1.5]))
    assert figures["n"] == 4
    assert (figures["histogram"][0], figures["histogram"][1], figures["histogram"][-1]) == (2, 1, 1)
    assert sum(figures["histogram"]) == 4
    assert figures["percentiles"]["p50"] == pytest.approx(0.0195)
    assert figures["percentiles"]["p100"] == 1.5


def test_what_rewards_make_of_one_desk(embedder: Embedder) -> None:
    row = transition("You arrive at desk 1. On the desk 1, you see a book 2, and a pen 1.")
    lamp = transition("You turn on the desklamp 1.", action="use desklamp 1")
    pairs = [pair for pair in make_pairs([row, lamp], 2, seed=0) if pair.row is row]
    reward = KindReward("embedding", lambda: embedder, 0.1)
    distances_N, _ = reward.score([pair.predicted for pair in pairs], [pair.row for pair in pairs])
    distances = by_kind(pairs, distances_N)
    assert list(distances) == [
        "white space", "list order", "articles", "number", "thing", "missing thing", "added thing", UNRELATED,
    ]  # fmt: skip
    assert distances["white space"].tolist() == [0.0]
    assert distances["list order"][0] < 0.01 < distances["missing thing"][0] < distances[UNRELATED][0]
    figures = pair_figures(reward, pairs)
    assert figures["kinds"][UNRELATED]["reward"] == 0.0
    assert figures["kinds"]["number"]["reward"] == 1.0  # what the embedding does not see
    assert figures["failed"] == 0
    named = pair_figures(KindReward("named", lambda: embedder, 0.1), pairs)
    assert {kind: figure["reward"] for kind, figure in named["kinds"].items()} == {
        kind: float(kind in HARMLESS) for kind in distances
    }
    assert named["auc"] == 1.0
    passes = threshold_figures(distances, [0.001, 2.0], [0.0])["passes"]
    assert passes[0]["pass"] == {kind: float(kind == "white space") for kind in distances}
    assert set(passes[1]["pass"].values()) == {1.0}
    (limit,) = [
        row for row in threshold_figures(distances, [], [0.0])["false_positives"] if row["kind"] == "all edited facts"
    ]
    wrong = min(float(distances[kind][0]) for kind in WRONG if kind in distances)
    assert limit["tau_d"] == pytest.approx(wrong)
    assert limit["right"] == np.mean([distances[kind][0] < wrong for kind in REWORDED])


def test_what_cheats_earn_by_hand() -> None:
    first = transition("On the desk 1, you see a pen 1.", "go to desk 1", ("look", "You see a room."))
    second = transition(NOTHING, "open desk 1", ("go to desk 1", NOTHING))
    rows = [first, second, second, second]
    frequent: list[str | None] = [NOTHING] * 4
    reward = KindReward("exact")
    assert cheat_figures(reward, frequent, rows) == {
        "right": 0.75, "reward": 0.75, "unearned": 0.0, "tau_d": 1.0, "failed": 0,
    }  # fmt: skip
    assert cheat_figures(reward, [None] * 4, rows)["tau_d"] == 2.0
    never = cheat_figures(reward, [NOTHING], [second])
    assert (never["right"], never["unearned"], never["tau_d"]) == (1.0, None, None)


def test_the_paper_s_hack_passes_from_a_threshold_on(embedder: Embedder) -> None:
    row = transition("You arrive at desk 1. On the desk 1, you see a book 2, and a pen 1.")
    answer = "The observation will describe the contents of desk 1."
    (at,) = {cheat_figures(KindReward("embedding", lambda: embedder, t), [answer], [row])["tau_d"] for t in (0.1, 0.4)}
    assert at == pytest.approx(0.3508, abs=2e-4)
    paid = [
        cheat_figures(KindReward("embedding", lambda: embedder, t), [answer], [row])["unearned"] for t in (0.35, 0.352)
    ]
    assert paid == [0.0, 1.0]


def test_an_audit_by_hand(embedder: Embedder) -> None:
    row = transition("You arrive at desk 1. On the desk 1, you see a book 2, and a pen 1.")
    lamp = transition("You turn on the desklamp 1.", action="use desklamp 1")
    pairs = make_pairs([row, lamp], 2, seed=0)
    hack = "The observation will describe the contents of desk 1."
    rewards = [
        AuditedReward("embedding", lambda tau_d: KindReward("embedding", lambda: embedder, tau_d)),
        AuditedReward("exact", lambda tau_d: KindReward("exact", tau_d=tau_d)),
        AuditedReward("one question", lambda tau_d: KindReward("embedding", lambda: embedder, tau_d), num_judged=1),
    ]
    cheats = {"hack": [hack, hack], "right": [row.next_state, None]}
    figures = audit(rewards, [0.1, 0.4], 0.4, pairs, [row, lamp], cheats)
    assert {name: reward["has_tau"] for name, reward in figures["rewards"].items()} == {
        "embedding": True, "exact": False, "one question": False,
    }  # fmt: skip
    counts = {name: reward["kinds"]["white space"]["n"] for name, reward in figures["rewards"].items()}
    assert counts == {"embedding": 2, "exact": 2, "one question": 1}
    paid = [(row["name"], row["at"], row["reward"]) for row in figures["cheats"]["hack"]["rewards"]]
    # It passes for the desk at 0.4 (its distance is 0.351), and for the lamp never; the third is asked the desk alone.
    assert paid == [("embedding", 0.1, 0.0), ("embedding", 0.4, 0.5), ("exact", None, 0.0), ("one question", None, 1.0)]
    assert [row["right"] for row in figures["cheats"]["right"]["rewards"]] == [0.5, 0.5, 0.5, 1.0]
    assert figures["cheats"]["hack"]["example"] == hack


def test_the_rule_with_one_guess_each() -> None:
    # Three of ten guesses are within 0.02: the first threshold of the grid that is on target, and nearest to 0.1.
    distances_N = np.array([0.0] * 3 + [0.9] * 7)
    assert rule_figures(distances_N, FilterConfig(target_share=0.3)) == {
        "data_tau_d": 0.1, "easy_share": 0.3, "on_target": True, "training_tau_d": 0.2,
    }  # fmt: skip
    assert rule_figures(distances_N, FilterConfig(target_share=0.3, tau_d=0.15))["training_tau_d"] == 0.4
