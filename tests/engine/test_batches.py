"""Trees of a step against sums over separate paths, weights by hand, and the order of the rows."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from rwml.core.config import GrpoConfig
from rwml.core.trees import Tree, pack
from rwml.core.types import Episode, StopReason, Transition
from rwml.engine.batches import answer_trees, episode_trees, epochs_of, label_trees
from rwml.engine.predict import Answer, label_ids, question_ids
from rwml.engine.rollout import ModelPlayer, Played, seats_for
from rwml.models.forward import tree_logprobs
from rwml.models.hf import Mind
from rwml.models.sampler import Sampler, SamplingParams
from rwml.worlds.base import World

ONCE, TWICE = GrpoConfig(), GrpoConfig(updates_per_batch=2)
ROOT_HALF = 2**-0.5


@dataclass
class Path:
    """One separate sequence: the loss falls on ids[start:]."""

    ids: Sequence[int]
    start: int
    advantage: float
    weight: float
    old: Sequence[float]


def assert_sums(trees: Sequence[Tree], paths: Sequence[Path], with_old: bool) -> None:
    """Every token of the trees carries the sums over all paths that pass through it, and there are no other tokens."""
    sums: dict[tuple[int, ...], list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
    olds: dict[tuple[int, ...], list[float]] = defaultdict(list)
    for path in paths:
        for at in range(len(path.ids)):
            prefix = tuple(path.ids[: at + 1])
            total = sums[prefix]
            if at >= path.start:
                total[0] += path.weight * max(path.advantage, 0.0)
                total[1] += path.weight * min(path.advantage, 0.0)
                total[2] += path.weight
                olds[prefix].append(path.old[at - path.start])
    assert sum(tree.num_tokens for tree in trees) == len(sums)
    assert sum(tree.num_dense_tokens for tree in trees) == sum(len(path.ids) for path in paths)
    for tree in trees:
        for token in range(tree.num_tokens):
            prefix = tuple(tree.ids[tree.path(token)].tolist())
            found = [tree.w_pos[token], tree.w_neg[token], tree.w_kl[token]]
            assert found == pytest.approx(sums[prefix], abs=1e-7)
            assert tree.w_ce[token] == 0
            expected = np.mean(olds[prefix]) if with_old and olds[prefix] else np.nan
            assert tree.old_logp[token] == pytest.approx(expected, abs=1e-6, nan_ok=True)


def answer_of(mind: Mind, text: str, length: int) -> Answer:
    """`length` tokens of an answer, with log-probabilities -0.1, -0.2, ..."""
    ids = tuple(mind.chat.text(text)[:length])
    assert len(ids) == length
    return Answer(ids, tuple(-0.1 * (n + 1) for n in range(length)), text, None, False)


def test_answer_trees_by_hand(mind: Mind, world: World, rows: list[Transition]) -> None:
    """Four questions in two episodes, two answers each; the second and the third group have no signal."""
    asked = [rows[0], rows[1], rows[5], rows[6]]
    assert [row.episode == asked[0].episode for row in asked] == [True, True, False, False]
    long, short = "<think>new</think><next_state>You see a desk 1.", "<think>known</think>"
    answers = [
        [answer_of(mind, long, 6), answer_of(mind, short, 2)],
        [answer_of(mind, long, 4), answer_of(mind, short, 3)],
        [answer_of(mind, long, 5), answer_of(mind, short, 3)],
        [answer_of(mind, long, 4), answer_of(mind, long, 8)],  # the first one is how the second begins
    ]
    rewards = np.array([[1, 0], [1, 1], [0, 0], [0, 1]], dtype=np.float32)
    prompts = world.prompts("brief")
    # Mean 1/2, unbiased deviation 1/sqrt 2, so advantages of +-1/sqrt 2; all eight answers count in the weights.
    signs = [[(0, 0, 1), (0, 1, -1)], [(3, 0, -1), (3, 1, 1)]]
    for config in (ONCE, TWICE, replace_aggregation("token"), replace_aggregation("constant")):
        scored = answer_trees(mind, prompts, asked, answers, rewards, config)
        assert (scored.signal_share, scored.reward) == (0.5, 0.5)
        assert len(scored.trees) == 2
        for tree, group in zip(scored.trees, signs, strict=True):
            paths = []
            for p, g, sign in group:
                question, ids = question_ids(mind.chat, prompts, asked[p]), answers[p][g].ids
                weights = {"sequence": 1 / (8 * len(ids)), "token": 1 / 35, "constant": 1 / (8 * 512)}
                weight = weights[config.aggregation]
                advantage = sign * 0.5 / (ROOT_HALF + 1e-6)
                paths.append(Path([*question, *ids], len(question), advantage, weight, answers[p][g].logprobs))
            assert_sums([tree], paths, config is TWICE)


def replace_aggregation(name: str) -> GrpoConfig:
    return GrpoConfig.model_validate({"aggregation": name})


def test_steps_of_an_episode_share_one_tree(mind: Mind, world: World, rows: list[Transition]) -> None:
    prompts = world.prompts("brief")
    asked = rows[:5]
    answers = [[answer_of(mind, "<think>new</think>", 3), answer_of(mind, "<next_state>a", 2)] for _ in asked]
    rewards = np.tile(np.array([0.0, 1.0], dtype=np.float32), (5, 1))
    scored = answer_trees(mind, prompts, asked, answers, rewards, ONCE)
    [tree] = scored.trees
    paths = [
        Path([*question_ids(mind.chat, prompts, row), *answer.ids], len(question_ids(mind.chat, prompts, row)),
             (2 * g - 1) * 0.5 / (ROOT_HALF + 1e-6), 1 / (10 * len(answer.ids)), answer.logprobs)
        for row, group in zip(asked, answers, strict=True)
        for g, answer in enumerate(group)
    ]  # fmt: skip
    assert_sums([tree], paths, False)
    assert tree.sharing > 4


def test_no_signal_anywhere_gives_no_trees(mind: Mind, world: World, rows: list[Transition]) -> None:
    answers = [[answer_of(mind, "<think>", 1)] * 2 for _ in rows]
    scored = answer_trees(mind, world.prompts("brief"), rows, answers, np.ones((len(rows), 2), np.float32), ONCE)
    assert (scored.trees, scored.signal_share, scored.reward) == ([], 0.0, 1.0)


def test_the_label_loss_is_the_models_own(mind: Mind, world: World, rows: list[Transition]) -> None:
    """Against the cross-entropy that the model class computes itself on one padded-free sequence per transition."""
    prompts = world.prompts("brief")
    trees = label_trees(mind, prompts, rows)
    assert len(trees) == len({row.episode for row in rows}) == 3
    loss = 0.0
    for tree in pack(trees, 4096):
        logp = tree_logprobs(mind.model, tree)
        loss -= float((torch.from_numpy(tree.w_ce) * logp).sum())
    own = []
    for row in rows:
        question, label = question_ids(mind.chat, prompts, row), label_ids(mind.chat, row)
        ids = torch.tensor([question + label])
        labels = torch.tensor([[-100] * len(question) + label])
        with torch.no_grad():
            own.append(float(mind.model(input_ids=ids, labels=labels).loss))
    assert loss == pytest.approx(np.mean(own), abs=1e-5)
    assert sum(float(tree.w_ce.sum()) for tree in trees) == pytest.approx(1.0)


@pytest.fixture
def groups(mind: Mind, world: World) -> list[list[Played]]:
    """Two tasks, three episodes each."""
    params = SamplingParams(20)
    player = ModelPlayer(mind, Sampler(mind.model, mind.chat.stop_ids), world.prompts("brief"), params, 3, 1000)
    played = player.play(world, seats_for(world.tasks("train")[:2], 3, 0), torch.Generator().manual_seed(0))
    return [played[:3], played[3:]]


@pytest.mark.parametrize("config", [ONCE, TWICE], ids=["one update", "two updates"])
def test_episode_trees_by_hand(groups: list[list[Played]], config: GrpoConfig) -> None:
    """The loss falls on what the model wrote and on nothing else; the group without signal is left out."""
    returns = np.array([[0.5, 0.5, 0.5], [1.0, 0.0, 0.5]])
    scored = episode_trees(groups, returns, config)
    assert scored.signal_share == 0.5
    assert scored.reward == pytest.approx(0.5)
    # Mean 1/2, unbiased deviation 1/2: advantages 1, -1, 0. The last one still has its KL term.
    for tree, played, advantage in zip(scored.trees, groups[1], (1.0, -1.0, 0.0), strict=True):
        weight = 1 / (6 * sum(played.sampled))
        sampled = np.array(played.sampled)
        assert tree.ids.tolist() == played.ids
        np.testing.assert_array_equal(tree.w_kl != 0, sampled)
        np.testing.assert_allclose(tree.w_kl[sampled], weight, rtol=1e-6)
        np.testing.assert_allclose(tree.w_pos[sampled], weight * max(advantage, 0), rtol=1e-5)
        np.testing.assert_allclose(tree.w_neg[sampled], weight * min(advantage, 0), rtol=1e-5)
        assert not tree.w_ce.any()
        if config is TWICE:
            np.testing.assert_allclose(tree.old_logp[sampled], np.array(played.logprobs)[sampled], rtol=1e-6)
            assert np.isnan(tree.old_logp[~sampled]).all()
        else:
            assert np.isnan(tree.old_logp).all()


def test_an_episode_in_which_nothing_was_written_is_left_out(groups: list[list[Played]]) -> None:
    good = groups[0][0]
    failed = Episode("x", good.episode.task, "model", 9, 0, "", (), StopReason.ERROR, False, "boom")
    empty = Played(failed, good.ids[:10], [False] * 10, [0.0] * 10)
    scored = episode_trees([[good, empty]], np.array([[1.0, 0.0]]), ONCE)
    assert [tree.ids.tolist() for tree in scored.trees] == [good.ids]


def small(episode: str, step: int) -> Transition:
    return Transition(f"{episode}@{step}", episode, episode, "train", step, "o", (), "a", "n", "text", "go", True, True)


def test_every_row_comes_once_an_epoch_and_steps_stay_together() -> None:
    rows = [small(episode, step) for episode in "abcdefg" for step in range(3)]
    batches = epochs_of(rows, batch_size=4, epochs=3, seed=1)
    assert [len(batch) for batch in batches] == [4, 4, 4, 4, 4, 1] * 3
    orders = []
    for epoch in range(3):
        order = [row for batch in batches[6 * epoch : 6 * epoch + 6] for row in batch]
        assert Counter(row.id for row in order) == Counter(row.id for row in rows)
        assert [row.step for row in order] == [0, 1, 2] * 7
        orders.append([row.episode for row in order[::3]])
    assert len({tuple(order) for order in orders}) == 3, "each epoch has an order of its own"
    assert batches == epochs_of(rows, batch_size=4, epochs=3, seed=1)
    assert batches != epochs_of(rows, batch_size=4, epochs=3, seed=2)


def test_no_rows_are_no_batches() -> None:
    assert epochs_of([], batch_size=4, epochs=3, seed=1) == []
