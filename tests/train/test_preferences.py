"""The loss of SPIN against DPO on separate sequences, by autograd and by hand; which pairs there are; its opponents."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from rwml.core.recipe.sections import ModelConfig, OptimizerConfig
from rwml.core.records import MetricsLog
from rwml.core.types import PredictedState, Transition
from rwml.loading import load_model
from rwml.models.language_model import LanguageModel, load_language_model
from rwml.train.preferences import (
    Opponent,
    Preferred,
    forget_opponents,
    pair_counts,
    preference_trees,
    tokens_of,
)
from rwml.train.trainer import Batch, Trainer, TrainingLog
from rwml.trees.forward import tree_backward, tree_logprobs
from rwml.trees.tree import Tree, TreeBuilder, pack
from rwml.world_models.language import label_ids, question_ids
from rwml.worlds.base import World

BETA = 0.7


def guess_of(lm: LanguageModel, text: str, next_state: str | None, *, stop: bool = True) -> PredictedState:
    ids = (*lm.chat.text(text), *(lm.chat.to_user[:1] if stop else ()))
    return PredictedState("", text, next_state, truncated=not stop, ids=ids)


def guesses_for(lm: LanguageModel, rows: Sequence[Transition]) -> list[PredictedState]:
    """One answer each: wrong, wrong from the middle on, unparsed, cut off, with thinking, right, and so on."""
    made = []
    for number, row in enumerate(rows):
        half = row.next_state[: len(row.next_state) // 2]
        texts: list[tuple[str, str | None, bool]] = [
            ("<think></think><next_state>Nothing happens here.</next_state>", "Nothing happens here.", True),
            (f"<think></think><next_state>{half} pen 9.</next_state>", f"{half} pen 9.", True),
            ("<next_state></next_state>", None, True),
            (f"<think></think><next_state>{half}", None, False),
            ("<think>a desk</think><next_state>You are at desk 1.</next_state>", "You are at desk 1.", True),
            (f"<think>sure</think><next_state>{row.next_state} </next_state>", f"{row.next_state} ", True),
        ]
        text, next_state, stop = texts[number % len(texts)]
        made.append(guess_of(lm, text, next_state, stop=stop))
    return made


def move(lm: LanguageModel, seed: int) -> None:
    """Change every weight by a few hundredths of its size."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in lm.model.parameters():
            parameter.add_(0.05 * parameter.std() * torch.randn(parameter.shape, generator=generator))


def dense_logp(lm: LanguageModel, question: Sequence[int], answer: Sequence[int]) -> Tensor:
    """Log-probability of an answer, as one separate sequence through the model's own forward."""
    ids = torch.tensor([[*question, *answer]])
    logp = lm.model(ids).logits[0, len(question) - 1 : -1].float().log_softmax(-1)
    return logp.gather(1, torch.tensor(answer)[:, None]).sum()


def gradients(lm: LanguageModel) -> dict[str, Tensor]:
    found = {name: p.grad.clone() for name, p in lm.model.named_parameters() if p.grad is not None}
    lm.model.zero_grad()
    return found


@pytest.fixture
def trained(lm: LanguageModel, tmp_path: Path) -> tuple[LanguageModel, Opponent]:
    """A model that has moved away from its opponent."""
    opponent = Opponent(lm, tmp_path / "stage")
    opponent.begin(0)
    move(lm, 1)
    return lm, opponent


def test_the_gradient_is_that_of_dpo(
    trained: tuple[LanguageModel, Opponent], model_folder: Path, world: World, rows: list[Transition], tmp_path: Path
) -> None:
    """Against autograd through -log sigmoid(beta * difference of log-ratios), each answer a sequence of its own."""
    lm, opponent = trained
    reference, prompts = load_language_model(model_folder, device="cpu"), world.prompts("brief")
    guesses = guesses_for(lm, rows)
    scored = preference_trees(opponent, prompts, rows, guesses, BETA)
    kept = [i for i in range(len(rows)) if i % 6 != 5]
    assert len(scored.margins) == len(kept) < len(rows)

    margins = []
    for i in kept:
        question = question_ids(lm.chat, prompts, rows[i])
        answers = (label_ids(lm.chat, rows[i]), guesses[i].ids)
        now = [dense_logp(lm, question, answer) for answer in answers]
        with torch.no_grad():
            then = [dense_logp(reference, question, answer) for answer in answers]
        margins.append(BETA * ((now[0] - then[0]) - (now[1] - then[1])))
    losses = -torch.nn.functional.logsigmoid(torch.stack(margins))
    (losses.sum() / len(rows)).backward()
    expected = gradients(lm)
    np.testing.assert_allclose(scored.margins, [float(m.detach()) for m in margins], atol=2e-4)
    assert np.abs(scored.margins).max() > 0.3, "the two models differ"
    assert scored.loss == pytest.approx(float(losses.detach().mean()), abs=1e-4)

    update = Trainer(lm, OptimizerConfig(), TrainingLog(tmp_path / "t", MetricsLog(tmp_path / "m"), "train_wm", 0))
    for row in pack(scored.trees, 4096):
        tree_backward(lm.model, row, update._loss(row, None))
    found = gradients(lm)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, atol=1e-5, rtol=1e-4, msg=name)
    assert max(float(gradient.abs().max()) for gradient in expected.values()) > 1e-2


def test_weights_by_hand(trained: tuple[LanguageModel, Opponent], world: World, rows: list[Transition]) -> None:
    """One pair: every chosen token has beta * sigmoid(-margin) / N, every rejected one its negative, shared ones 0."""
    lm, opponent = trained
    prompts, row = world.prompts("brief"), rows[0]
    guess = guesses_for(lm, rows)[0]
    right = guess_of(lm, f"<think></think><next_state>{rows[1].next_state}</next_state>", rows[1].next_state)
    scored = preference_trees(opponent, prompts, rows[:2], [guess, right], BETA)
    [tree], [margin] = scored.trees, scored.margins
    label = label_ids(lm.chat, row)
    same = next(i for i, (a, b) in enumerate(zip(label, guess.ids, strict=False)) if a != b)
    assert same > 0, "both answers begin with the tags"
    factor = BETA / (1 + math.exp(margin)) / 2
    assert np.count_nonzero(tree.w_ce > 0) == len(label) - same
    assert np.count_nonzero(tree.w_ce < 0) == len(guess.ids) - same
    np.testing.assert_allclose(tree.w_ce[tree.w_ce > 0], factor, rtol=1e-6)
    np.testing.assert_allclose(tree.w_ce[tree.w_ce < 0], -factor, rtol=1e-6)
    assert tree.ids[tree.w_ce > 0].tolist() == label[same:]
    assert tree.ids[tree.w_ce < 0].tolist() == list(guess.ids[same:])
    assert tree.num_dense_tokens == 2 * len(question_ids(lm.chat, prompts, row)) + len(label) + len(guess.ids)


def test_figures_by_hand() -> None:
    scored = Preferred([], np.array([0.0, math.log(3), -math.log(3)]))
    # -log sigmoid: log 2, log(4/3), log 4; together log(32/3).
    assert scored.loss == pytest.approx(math.log(32 / 3) / 3)
    assert scored.margin == pytest.approx(0.0)
    assert scored.accuracy == pytest.approx(1 / 3)
    nothing = Preferred([], np.empty(0))
    assert (nothing.loss, nothing.margin, nothing.accuracy) == (0.0, 0.0, 0.0)


def test_against_itself_every_margin_is_zero(
    lm: LanguageModel, world: World, rows: list[Transition], tmp_path: Path
) -> None:
    opponent = Opponent(lm, tmp_path)
    opponent.begin(0)
    scored = preference_trees(opponent, world.prompts("brief"), rows, guesses_for(lm, rows), BETA)
    assert not scored.margins.any()
    assert scored.loss == pytest.approx(math.log(2))
    assert scored.accuracy == 0.0


def test_right_guesses_make_no_pair(lm: LanguageModel, world: World, rows: list[Transition], tmp_path: Path) -> None:
    opponent = Opponent(lm, tmp_path)
    opponent.begin(0)
    right = [guess_of(lm, f"<next_state>{row.next_state}</next_state>", row.next_state) for row in rows]
    scored = preference_trees(opponent, world.prompts("brief"), rows, right, BETA)
    assert (scored.trees, len(scored.margins)) == ([], 0)


def test_a_question_that_comes_twice_is_learnt_twice(
    trained: tuple[LanguageModel, Opponent], world: World, rows: list[Transition]
) -> None:
    """A short history may ask the same thing again: the paths fall together, and their weights add up."""
    lm, opponent = trained
    prompts, guesses = world.prompts("brief"), guesses_for(lm, rows)
    once = preference_trees(opponent, prompts, rows[:1], guesses[:1], BETA)
    twice = preference_trees(opponent, prompts, [rows[0], rows[0]], [guesses[0], guesses[0]], BETA)
    assert len(twice.margins) == 2
    np.testing.assert_allclose(twice.margins, once.margins[[0, 0]], rtol=1e-6)
    np.testing.assert_allclose(twice.trees[0].w_ce, once.trees[0].w_ce, rtol=1e-5, atol=1e-9)
    assert twice.trees[0].num_tokens == once.trees[0].num_tokens


def test_tokens_are_found_where_they_lie() -> None:
    builder = TreeBuilder()
    paths = [([1, 2, 3, 4], 2), ([1, 2, 3, 5, 6], 3), ([7, 2, 3], 1), ([1, 2], 2)]
    for ids, start in paths:
        builder.add(ids, start, cross_entropy=1.0)
    tree: Tree = builder.build()
    found = tokens_of(tree, paths)
    assert [tree.ids[tokens].tolist() for tokens in found] == [[3, 4], [5, 6], [2, 3], []]
    for (ids, start), tokens in zip(paths[:3], found, strict=False):
        assert tree.ids[tree.path(int(tokens[-1]))].tolist() == ids
        assert tree.path(int(tokens[-1]))[start:].tolist() == tokens.tolist()


def test_an_opponent_keeps_its_weights_and_gives_back_the_others(
    lm: LanguageModel, world: World, rows: list[Transition], tmp_path: Path
) -> None:
    tree = TreeBuilder()
    tree.add(question_ids(lm.chat, world.prompts("brief"), rows[0]), 1, cross_entropy=1.0)
    probe = tree.build()
    opponent = Opponent(lm, tmp_path)
    opponent.begin(0)
    first = tree_logprobs(lm.model, probe)
    move(lm, 1)
    second = tree_logprobs(lm.model, probe)
    assert not torch.equal(first, second)
    for _ in range(2):
        with opponent.playing():
            assert torch.equal(tree_logprobs(lm.model, probe), first)
        assert torch.equal(tree_logprobs(lm.model, probe), second)
    with pytest.raises(KeyboardInterrupt), opponent.playing():
        raise KeyboardInterrupt
    assert torch.equal(tree_logprobs(lm.model, probe), second)

    opponent.begin(1)
    move(lm, 2)
    resumed = Opponent(lm, tmp_path)
    for one, expected in ((0, first), (1, second)):
        resumed.begin(one)
        with resumed.playing():
            assert torch.equal(tree_logprobs(lm.model, probe), expected)
    forget_opponents(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_with_lora_only_the_adapter_is_kept(
    model_folder: Path, world: World, rows: list[Transition], tmp_path: Path
) -> None:
    lm = load_model(ModelConfig(path=str(model_folder), device="cpu", lora_rank=2), trainable=True)
    opponent = Opponent(lm, tmp_path)
    opponent.begin(0)
    prompts, guesses = world.prompts("brief"), guesses_for(lm, rows)
    with torch.no_grad():
        for name, parameter in lm.model.named_parameters():
            if "lora_B" in name:
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    scored = preference_trees(opponent, prompts, rows, guesses, BETA)
    base = load_language_model(model_folder, device="cpu")
    question, label = question_ids(lm.chat, prompts, rows[0]), label_ids(lm.chat, rows[0])
    with torch.no_grad():
        now, then = (
            [float(dense_logp(one, question, answer)) for answer in (label, guesses[0].ids)] for one in (lm, base)
        )
    assert scored.margins[0] == pytest.approx(BETA * (now[0] - then[0] - now[1] + then[1]), abs=2e-4)
    assert abs(scored.margins[0]) > 1e-3
    size = sum(path.stat().st_size for path in tmp_path.rglob("*.safetensors"))
    assert size < sum(p.numel() * 4 for p in base.model.parameters()) / 2


@pytest.mark.slow
def test_training_raises_the_margins(lm: LanguageModel, world: World, rows: list[Transition], tmp_path: Path) -> None:
    """Twelve steps on the same pairs: the first loss is log 2, the last one less, and nearly all pairs are right."""
    prompts, guesses = world.prompts("brief"), guesses_for(lm, rows)
    opponent = Opponent(lm, tmp_path / "stage")
    seen: list[Preferred] = []

    def make(step: int, _: torch.Generator) -> Batch:
        opponent.begin(0)
        seen.append(preference_trees(opponent, prompts, rows, guesses, BETA))
        return Batch(seen[-1].trees)

    config = OptimizerConfig(learning_rate=1e-3)
    log = TrainingLog(tmp_path / "stage", MetricsLog(tmp_path / "m"), "train_wm", 0)
    Trainer(lm, config, log).fit(make, 12, "fit")
    assert seen[0].loss == pytest.approx(math.log(2), abs=1e-6)
    assert seen[-1].loss < 0.3
    assert seen[-1].accuracy > 0.9
    assert seen[-1].margin > 1.0


def test_pairs_are_counted_over_a_stage() -> None:
    lines = [{"kept_pairs": 3.0, "equal_pairs": 1.0}, {"loss": 1.0}, {"kept_pairs": 4.0, "equal_pairs": 0.0}]
    assert pair_counts(lines) == {"pairs": 7, "pairs left out, the guess was right": 1}
    assert pair_counts([{"loss": 1.0}]) == {}
