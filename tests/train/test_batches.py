"""Trees of a step against sums over separate paths, weights by hand, and the order of the rows."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from rwml.core.recipe.sections import GrpoConfig
from rwml.core.types import Episode, PredictedState, StopReason, Transition
from rwml.models.language_model import LanguageModel
from rwml.models.sampling.local import local_sampler
from rwml.models.sampling.sampler import SamplingParams
from rwml.playing.rollout import LanguageModelPolicy, SampledEpisode, seats_for
from rwml.train.batches import answer_trees, episode_trees, epochs_of, label_trees, observation_weights
from rwml.trees.forward import tree_backward, tree_logprobs
from rwml.trees.objectives import LossFields, token_losses
from rwml.trees.tree import Tree, pack
from rwml.world_models.language import label_ids, question_ids
from rwml.worlds.base import Prompts, World

ONCE = GrpoConfig()
ROOT_HALF = 2**-0.5


@dataclass
class Path:
    """One separate sequence: the loss falls on ids[start:]."""

    ids: Sequence[int]
    start: int
    advantage: float
    weight: float


def assert_sums(trees: Sequence[Tree], paths: Sequence[Path]) -> None:
    """Every token of the trees carries the sums over all paths that pass through it, and there are no other tokens."""
    sums: dict[tuple[int, ...], list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
    for path in paths:
        for at in range(len(path.ids)):
            prefix = tuple(path.ids[: at + 1])
            total = sums[prefix]
            if at >= path.start:
                total[0] += path.weight * max(path.advantage, 0.0)
                total[1] += path.weight * min(path.advantage, 0.0)
                total[2] += path.weight
    assert sum(tree.num_tokens for tree in trees) == len(sums)
    assert sum(tree.num_dense_tokens for tree in trees) == sum(len(path.ids) for path in paths)
    for tree in trees:
        for token in range(tree.num_tokens):
            prefix = tuple(tree.ids[tree.path(token)].tolist())
            found = [tree.w_pos[token], tree.w_neg[token], tree.w_kl[token]]
            assert found == pytest.approx(sums[prefix], abs=1e-7)
            assert tree.w_ce[token] == 0
            assert np.isnan(tree.old_logp[token])  # the trainer's business


def answer_of(lm: LanguageModel, text: str, length: int) -> PredictedState:
    """`length` tokens of an answer, with log-probabilities -0.1, -0.2, ..."""
    ids = tuple(lm.chat.text(text)[:length])
    assert len(ids) == length
    return PredictedState("", text, None, ids=ids)


def test_answer_trees_by_hand(lm: LanguageModel, world: World, rows: list[Transition]) -> None:
    """Four questions in two episodes, two answers each; the second and the third group have no signal."""
    asked = [rows[0], rows[1], rows[5], rows[6]]
    assert [row.episode == asked[0].episode for row in asked] == [True, True, False, False]
    long, short = "<think>new</think><next_state>You see a desk 1.", "<think>known</think>"
    answers = [
        [answer_of(lm, long, 6), answer_of(lm, short, 2)],
        [answer_of(lm, long, 4), answer_of(lm, short, 3)],
        [answer_of(lm, long, 5), answer_of(lm, short, 3)],
        [answer_of(lm, long, 4), answer_of(lm, long, 8)],  # the first one is how the second begins
    ]
    rewards = np.array([[1, 0], [1, 1], [0, 0], [0, 1]], dtype=np.float32)
    prompts = world.prompts("brief")
    # Mean 1/2, unbiased deviation 1/sqrt 2, so advantages of +-1/sqrt 2; all eight answers count in the weights.
    signs = [[(0, 0, 1), (0, 1, -1)], [(3, 0, -1), (3, 1, 1)]]
    for config in (ONCE, replace_aggregation("token"), replace_aggregation("constant")):
        scored = answer_trees(lm, prompts, asked, answers, rewards, config)
        assert (scored.signal_share, scored.reward) == (0.5, 0.5)
        assert len(scored.trees) == 2
        for tree, group in zip(scored.trees, signs, strict=True):
            paths = []
            for p, g, sign in group:
                question, ids = question_ids(lm.chat, prompts, asked[p]), answers[p][g].ids
                weights = {"sequence": 1 / (8 * len(ids)), "token": 1 / 35, "constant": 1 / (8 * 512)}
                weight = weights[config.aggregation]
                advantage = sign * 0.5 / (ROOT_HALF + 1e-6)
                paths.append(Path([*question, *ids], len(question), advantage, weight))
            assert_sums([tree], paths)


def test_groups_without_signal_can_be_held_by_the_kl_term(
    lm: LanguageModel, world: World, rows: list[Transition], groups: list[list[SampledEpisode]]
) -> None:
    """All answers then have the same KL weights, and those without signal an advantage of exactly 0."""
    answers = [[answer_of(lm, "<think>new</think>", 3), answer_of(lm, "<next_state>a", 2)] for _ in range(2)]
    rewards = np.array([[1, 0], [1, 1]], dtype=np.float32)
    held = GrpoConfig(kl_groups="all", kl_weight=0.05)
    [tree] = answer_trees(lm, world.prompts("brief"), rows[:2], answers, rewards, held).trees
    assert tree.w_kl.sum() == pytest.approx(1.0)  # four answers, a mean over the tokens of each
    assert np.count_nonzero(tree.w_kl) == 2 * (3 + 2)
    assert np.count_nonzero(tree.w_pos) == 3
    assert np.count_nonzero(tree.w_neg) == 2
    without = GrpoConfig(kl_groups="all", kl_weight=0.0)
    [tree] = answer_trees(lm, world.prompts("brief"), rows[:2], answers, rewards, without).trees
    assert np.count_nonzero(tree.w_kl) == 5, "without a KL term there is nothing to hold to"
    scored = episode_trees(groups, np.array([[0.5, 0.5, 0.5], [1.0, 0.0, 0.5]]), held)
    assert scored.signal_share == 0.5
    assert [bool(tree.w_kl.any()) for tree in scored.trees] == [True] * 6
    assert not any(tree.w_pos.any() or tree.w_neg.any() for tree in scored.trees[:3])


def replace_aggregation(name: str) -> GrpoConfig:
    return GrpoConfig.model_validate({"aggregation": name})


def test_steps_of_an_episode_share_one_tree(lm: LanguageModel, world: World, rows: list[Transition]) -> None:
    prompts = world.prompts("brief")
    asked = rows[:5]
    answers = [[answer_of(lm, "<think>new</think>", 3), answer_of(lm, "<next_state>a", 2)] for _ in asked]
    rewards = np.tile(np.array([0.0, 1.0], dtype=np.float32), (5, 1))
    scored = answer_trees(lm, prompts, asked, answers, rewards, ONCE)
    [tree] = scored.trees
    paths = [
        Path([*question_ids(lm.chat, prompts, row), *answer.ids], len(question_ids(lm.chat, prompts, row)),
             (2 * g - 1) * 0.5 / (ROOT_HALF + 1e-6), 1 / (10 * len(answer.ids)))
        for row, group in zip(asked, answers, strict=True)
        for g, answer in enumerate(group)
    ]  # fmt: skip
    assert_sums([tree], paths)
    assert tree.sharing > 4


def test_no_signal_anywhere_gives_no_trees(lm: LanguageModel, world: World, rows: list[Transition]) -> None:
    answers = [[answer_of(lm, "<think>", 1)] * 2 for _ in rows]
    scored = answer_trees(lm, world.prompts("brief"), rows, answers, np.ones((len(rows), 2), np.float32), ONCE)
    assert (scored.trees, scored.signal_share, scored.reward) == ([], 0.0, 1.0)


def test_the_label_loss_is_the_models_own(lm: LanguageModel, world: World, rows: list[Transition]) -> None:
    """Against the cross-entropy that the model class computes itself on one padded-free sequence per transition."""
    prompts = world.prompts("brief")
    trees = label_trees(lm, prompts, rows)
    assert len(trees) == len({row.episode for row in rows}) == 3
    loss = 0.0
    for tree in pack(trees, 4096):
        logp = tree_logprobs(lm.model, tree)
        loss -= float((torch.from_numpy(tree.w_ce) * logp).sum())
    own = []
    for row in rows:
        question, label = question_ids(lm.chat, prompts, row), label_ids(lm.chat, row)
        ids = torch.tensor([question + label])
        labels = torch.tensor([[-100] * len(question) + label])
        with torch.no_grad():
            own.append(float(lm.model(input_ids=ids, labels=labels).loss))
    assert loss == pytest.approx(np.mean(own), abs=1e-5)
    assert sum(float(tree.w_ce.sum()) for tree in trees) == pytest.approx(1.0)


@pytest.fixture
def groups(lm: LanguageModel, world: World) -> list[list[SampledEpisode]]:
    """Two tasks, three episodes each."""
    params = SamplingParams(20)
    policy = LanguageModelPolicy(lm, local_sampler(lm), world.prompts("brief"), params, 3, 1000)
    played = policy.play(world, seats_for(world.tasks("train")[:2], 3, 0), torch.Generator().manual_seed(0))
    return [played[:3], played[3:]]


def test_episode_trees_by_hand(groups: list[list[SampledEpisode]]) -> None:
    """The loss falls on what the model wrote and on nothing else; the group without signal is left out."""
    returns = np.array([[0.5, 0.5, 0.5], [1.0, 0.0, 0.5]])
    scored = episode_trees(groups, returns, ONCE)
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
        assert np.isnan(tree.old_logp).all()  # the trainer's business


def test_an_episode_in_which_nothing_was_written_is_left_out(groups: list[list[SampledEpisode]]) -> None:
    good = groups[0][0]
    failed = Episode("x", good.episode.task, "model", 9, 0, "", (), StopReason.ERROR, False, "boom")
    empty = SampledEpisode(failed, good.ids[:10], [False] * 10)
    scored = episode_trees([[good, empty]], np.array([[1.0, 0.0]]), ONCE)
    assert [tree.ids.tolist() for tree in scored.trees] == [good.ids]


def observed(played: SampledEpisode) -> list[str]:
    """The observations that the conversation holds: all but one that ended the episode."""
    ended = played.sampled[-1]
    return [step.observation for step in played.episode.steps[: -1 if ended else None]]


def test_observation_weights_fall_on_observations_alone(
    lm: LanguageModel, world: World, groups: list[list[SampledEpisode]]
) -> None:
    played = [one for group in groups for one in group]
    weights = observation_weights(lm.chat, world.prompts("brief"), played, 0.4)
    number = 0
    for one, weight in zip(played, weights, strict=True):
        runs = np.split(np.asarray(one.ids), np.flatnonzero(np.diff(weight != 0)) + 1)
        kept = [lm.chat.decode(run.tolist()) for run in runs[1::2]]
        assert kept == observed(one)
        number += int((weight != 0).sum())
        assert not weight[np.asarray(one.sampled)].any()
    assert number > 50
    for weight in weights:
        np.testing.assert_allclose(weight[weight != 0], 0.4 / number, rtol=1e-12)
    assert not any(w.any() for w in observation_weights(lm.chat, world.prompts("brief"), played, 0.0))


def test_an_episode_that_broke_off_has_the_observations_that_were_read(
    lm: LanguageModel, groups: list[list[SampledEpisode]]
) -> None:
    """Cut before the model's second message (the context limit), and in it (the world failed)."""
    whole = groups[0][0]
    first, second = (int(at) for at in np.flatnonzero(np.diff(np.asarray(whole.sampled, dtype=int)) == 1)[:2] + 1)
    prompts = Prompts("", "", "")
    for stop, shown in ((second, 1), (second + 2, 1), (first, 0), (first + 2, 0)):
        cut = SampledEpisode(
            replace(whole.episode, steps=whole.episode.steps[:shown]),
            whole.ids[:stop],
            whole.sampled[:stop],
        )
        [weight] = observation_weights(lm.chat, prompts, [cut], 1.0)
        found = lm.chat.decode([i for i, w in zip(cut.ids, weight, strict=True) if w])
        assert found == "".join(step.observation for step in cut.episode.steps)


def test_the_gradient_is_the_sum_of_the_two_losses(
    lm: LanguageModel, world: World, groups: list[list[SampledEpisode]]
) -> None:
    """Policy gradient of the group with signal, and 0.3 times the mean cross-entropy on all groups' observations, each
    by plain forward passes over separate sequences."""
    prompts, config = world.prompts("brief"), GrpoConfig(aggregation="token")
    played = [one for group in groups for one in group]
    flat = observation_weights(lm.chat, prompts, played, 0.3)
    returns = np.array([[0.5, 0.5, 0.5], [1.0, 0.0, 0.5]])
    scored = episode_trees(groups, returns, config, [flat[:3], flat[3:]])
    assert len(scored.trees) == 6, "the group without signal is there for its observations"
    assert [bool(tree.w_kl.any()) for tree in scored.trees] == [False] * 3 + [True] * 3

    def both(logp: torch.Tensor, tokens: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        return token_losses(logp, LossFields.of(row).take(tokens))

    for row in pack(scored.trees, 4096):
        tree_backward(lm.model, row, both)
    found = {name: p.grad.clone() for name, p in lm.model.named_parameters() if p.grad is not None}
    lm.model.zero_grad()

    advantages = dict(zip(map(id, groups[1]), (1.0, -1.0, 0.0), strict=True))
    written = sum(sum(one.sampled) for one in played)
    number = sum(int((weight != 0).sum()) for weight in flat)
    for one, weight in zip(played, flat, strict=True):
        ids = torch.tensor([one.ids])
        logp = torch.log_softmax(lm.model(input_ids=ids).logits[0, :-1], -1).gather(1, ids[0, 1:, None])[:, 0]
        policy = -(logp * torch.tensor(one.sampled[1:])).sum() * advantages.get(id(one), 0.0) / written
        observations = -(logp * torch.tensor(weight[1:] != 0)).sum() / number
        (policy + 0.3 * observations).backward()
    for name, parameter in lm.model.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, rtol=2e-3, atol=2e-6, msg=name)


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
