"""The one-file example against the package, loss by loss, and a small run of all its steps."""

from __future__ import annotations

import copy
import importlib.util
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from rwml.core.recipe.sections import GrpoConfig
from rwml.core.types import Episode, PredictedState, StopReason, Task, Transition
from rwml.models.language_model import LanguageModel
from rwml.models.tiny import TinyShape, new_language_model
from rwml.playing.rollout import SampledEpisode
from rwml.train.batches import answer_trees, episode_trees, label_trees
from rwml.trees.forward import tree_backward, tree_logprobs
from rwml.trees.objectives import LossFields, group_advantages, token_losses
from rwml.trees.tree import Tree
from rwml.world_models.language import label_ids, question_ids
from rwml.worlds.base import Prompts

EXAMPLE = Path(__file__).parents[2] / "examples" / "rwml_one_file.py"
PROMPTS = Prompts(agent="", world_model="", question="\nIf I do: {action}\nthen?")
GRPO = GrpoConfig(kl_weight=0.1, clip_low=0.2, clip_high=0.2)
REWARDS_PG = np.array([[1, 0, 0], [1, 1, 1], [0, 1, 1], [0, 0, 0]], dtype=np.float32)


@pytest.fixture(scope="module")
def example() -> ModuleType:
    """The file as a module; it must not need the package."""
    spec = importlib.util.spec_from_file_location(EXAMPLE.stem, EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[EXAMPLE.stem] = module  # its dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def lm() -> LanguageModel:
    """An untrained Qwen3 whose tokenizer knows the words of the batch."""
    texts = [text for row in rows() for text in (row.opening, row.action, row.next_state)]
    shape = TinyShape(vocab=360, hidden=32, intermediate=48, layers=2, heads=2, key_value_heads=2, head_dim=16)
    return new_language_model(texts, shape, seed=0)


def rows() -> list[Transition]:
    """Two steps of each of two episodes."""
    first = ("go to desk 1", "On the desk 1, you see a pen 2.")
    steps = [((), *first), (first, "take pen 2", "You pick up the pen 2.")]
    return [
        Transition(
            id=f"{episode}@{number}", episode=episode, task=episode, split="train", step=number,
            opening=f"Your task: {episode}.", history=history, action=action, next_state=next_state, kind="text",
            verb=action.split()[0], valid=True, knowable=True,
        )
        for episode in ("find a pen", "clean a cup")
        for number, (history, action, next_state) in enumerate(steps)
    ]  # fmt: skip


def random_ids(lm: LanguageModel, chance: random.Random, low: int, high: int) -> list[int]:
    return [chance.randrange(len(lm.tokenizer)) for _ in range(chance.randint(low, high))]


def moved(model: Any, size: float) -> Any:
    """A copy with other weights, so that ratios and the KL term differ from those of equal weights."""
    copied, generator = copy.deepcopy(model), torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in copied.parameters():
            parameter += size * torch.randn(parameter.shape, generator=generator)
    return copied.eval()


def package_gradients(model: Any, trees: Sequence[Tree], reference: Any, old: Any) -> tuple[float, dict[str, Any]]:
    """Loss, metrics and gradients of trees, as the package's trainer takes them."""
    sums: dict[str, float] = {}
    model.zero_grad()
    for tree in trees:
        if old is not None:
            tree = replace(tree, old_logp=tree_logprobs(old, tree).numpy())
        ref_logp, fields = tree_logprobs(reference, tree), LossFields.of(tree)

        def loss(logp: torch.Tensor, at: torch.Tensor, ref: Any = ref_logp, of: Any = fields) -> Any:
            return token_losses(logp, of.take(at), ref[at], kl_weight=GRPO.kl_weight)

        for name, value in tree_backward(model, tree, loss).items():
            sums[name] = sums.get(name, 0.0) + value
    return sums["loss"], {**sums, "gradients": [p.grad.clone() for p in model.parameters() if p.grad is not None]}


def assert_equal_losses(model: Any, loss: Callable[[], torch.Tensor], package: tuple[float, dict[str, Any]]) -> None:
    """The example's loss and its gradients equal the package's to 1e-6, and are not all 0."""
    model.zero_grad()
    value = loss()
    value.backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert value.item() == pytest.approx(package[0], abs=1e-6)
    assert len(gradients) == len(package[1]["gradients"]) > 10
    assert max(float(gradient.abs().max()) for gradient in gradients) > 1e-2
    for mine, theirs in zip(gradients, package[1]["gradients"], strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-6)


def config_of(example: ModuleType) -> Any:
    return example.Config(clip=GRPO.clip_low, kl_weight=GRPO.kl_weight)


@pytest.mark.parametrize("updated", [False, True], ids=["first update", "later update"])
def test_grpo_on_answers(example: ModuleType, lm: LanguageModel, updated: bool) -> None:
    """Predicted states: four questions of two episodes, three answers each; two groups have no signal."""
    chance = random.Random(3)
    answers = [[random_ids(lm, chance, 2, 6) for _ in range(3)] for _ in rows()]
    predicted = [
        [PredictedState(row.id, "", None, ids=tuple(ids)) for ids in group]
        for row, group in zip(rows(), answers, strict=True)
    ]
    reference, old = moved(lm.model, 0.02), moved(lm.model, 0.03) if updated else None
    scored = answer_trees(lm, PROMPTS, rows(), predicted, REWARDS_PG, GRPO)
    package = package_gradients(lm.model, scored.trees, reference, old)
    if updated:
        assert package[1]["clipped_sum"] > 0  # some tokens went too far, and some did not
        assert package[1]["clipped_sum"] < package[1]["policy_tokens"]

    learner = example.Learner(lm.model, config_of(example), lr=0.0)
    learner.reference = reference
    asked = [question_ids(lm.chat, PROMPTS, row) for row in rows()]
    samples = [example.Row(ids, answer) for ids, group in zip(asked, answers, strict=True) for answer in group]
    assert_equal_losses(lm.model, lambda: learner.grpo_loss(samples, torch.tensor(REWARDS_PG), old), package)


@pytest.mark.parametrize("updated", [False, True], ids=["first update", "later update"])
def test_grpo_on_episodes(example: ModuleType, lm: LanguageModel, updated: bool) -> None:
    """Whole episodes: the loss falls on the messages and not on what the world says between them."""
    chance = random.Random(4)
    groups = [[conversation(lm, chance, f"task {number}") for _ in range(3)] for number in range(4)]
    reference, old = moved(lm.model, 0.02), moved(lm.model, 0.03) if updated else None
    scored = episode_trees(groups, REWARDS_PG, GRPO)
    package = package_gradients(lm.model, scored.trees, reference, old)

    learner = example.Learner(lm.model, config_of(example), lr=0.0)
    learner.reference = reference
    samples = []
    for episode in (episode for group in groups for episode in group):
        row = example.Row(episode.ids)
        row.learnt = episode.sampled
        samples.append(row)
    assert_equal_losses(lm.model, lambda: learner.grpo_loss(samples, torch.tensor(REWARDS_PG), old), package)


def conversation(lm: LanguageModel, chance: random.Random, name: str) -> SampledEpisode:
    """Two messages in a conversation of random tokens."""
    ids: list[int] = []
    sampled: list[bool] = []
    for _ in range(2):
        context, message = random_ids(lm, chance, 3, 6), random_ids(lm, chance, 2, 5)
        ids += [*context, *message]
        sampled += [False] * len(context) + [True] * len(message)
    task = Task(name, "w", "train", "kind")
    return SampledEpisode(Episode(name, task, "model", 0, 0, "", (), StopReason.STEP_LIMIT, False), ids, sampled)


def test_cross_entropy_on_labels(example: ModuleType, lm: LanguageModel) -> None:
    """WM SFT: the real next state after an empty thought."""
    package = package_gradients(lm.model, label_trees(lm, PROMPTS, rows()), lm.model, None)
    samples = [example.Row(question_ids(lm.chat, PROMPTS, row), label_ids(lm.chat, row)) for row in rows()]
    assert_equal_losses(lm.model, lambda: example.sft_loss(lm.model, samples), package)


def test_group_advantages(example: ModuleType) -> None:
    """Where a group has signal, both give the same; else the package gives 0 and the example leaves the group out."""
    theirs, signal = group_advantages(torch.tensor(REWARDS_PG))
    mine, has_signal = example.group_advantages(torch.tensor(REWARDS_PG))
    assert signal.tolist() == has_signal.tolist() == [True, False, True, False]
    torch.testing.assert_close(mine[signal], theirs[signal].double(), rtol=0, atol=1e-6)


def test_one_wrong_word_is_no_hit(example: ModuleType) -> None:
    """The gap by hand, and the threshold between an equal prediction and one with a wrong word."""
    # Six words and six pairs each; 5 words and 4 pairs are shared: 1 - 9/12.
    assert example.gap("In the hall: key.", "In the hall: book.") == pytest.approx(1 - 9 / 12)
    assert example.gap("In the hall: key.", "In the hall: key.") == pytest.approx(0, abs=1e-12)
    assert example.gap(None, "In the hall: key.") == 2.0


def test_a_house(example: ModuleType) -> None:
    """A game by hand: containers open once, refused actions change nothing, the thing in the hand is success."""
    house = example.House(0)
    house.place_of, house.thing = {"apple": "fridge", "book": "hall", "key": "fridge"}, "key"
    assert house.look() == "In the hall: book."
    assert house.step("take key") == "Nothing happens."
    assert [house.step(action) for action in ("go fridge", "take key", "open fridge", "open fridge")] == [
        "The fridge is closed.",
        "Nothing happens.",
        "In the fridge: apple, key.",
        "Nothing happens.",
    ]
    assert not house.success()
    assert house.step("take key") == "You take the key."
    assert house.success()
    assert [house.step("go hall"), house.step("go fridge")] == ["In the hall: book.", "In the fridge: apple."]


@pytest.mark.slow
def test_a_small_run(example: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    """All steps at a size of seconds: the filter drops easy transitions, and each figure is a share."""
    table = example.main(
        example.Config(
            warmup_steps=60, tasks=12, predictor_steps=5, wm_steps=2, wm_batch=4, policy_steps=2, policy_batch=2,
            group_size=3, test_tasks=6, updates=2,
        )
    )  # fmt: skip
    assert list(table) == ["after the warm-up", "RWML", "RWML + policy RL"]
    assert all(0 <= share <= 1 for shares in table.values() for share in shares)
    lines = capsys.readouterr().out.splitlines()
    total, easy, dropped = (int(word) for word in lines[0].replace(",", "").split() if word.isdigit())
    assert total > easy >= dropped > 0
    assert [line.split(":")[0] for line in lines[1:5]] == [
        "train-wm 1/2", "train-wm 2/2", "train-policy 1/2", "train-policy 2/2",
    ]  # fmt: skip
    assert lines[5].split() == ["prediction", "reward", "success"]
    assert len(lines) == 9
    assert float(table["RWML"][0]) == pytest.approx(float(lines[7].split()[1].rstrip("%")) / 100, abs=6e-4)


def test_the_file_is_short_and_alone() -> None:
    """At most 350 lines, and no import but of torch, transformers and the standard library."""
    lines = EXAMPLE.read_text().splitlines()
    assert len(lines) <= 350
    imported = {line.split()[1].split(".")[0] for line in lines if line.startswith(("import ", "from "))}
    assert imported - sys.stdlib_module_names == {"torch", "transformers"}
