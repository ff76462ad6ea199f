"""The training loop against a plain one on separate sequences, a golden trace, and training that was cut off."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from rwml.core.errors import RwmlError
from rwml.core.files import write_json
from rwml.core.recipe.sections import GrpoConfig, ModelConfig
from rwml.core.records import MetricsLog
from rwml.core.seeds import generator_for
from rwml.loading import load_model
from rwml.models.language_model import LanguageModel, save_language_model
from rwml.models.sampling.local import local_sampler
from rwml.models.sampling.sampler import SamplingParams
from rwml.models.tiny import TinyShape, new_language_model
from rwml.train.checkpoints import load_checkpoint
from rwml.train.trainer import Batch, PolicyLoss, Trainer, TrainingLog
from rwml.trees.tree import Tree, TreeBuilder

TEXTS = ["You arrive at desk 1. On the desk 1, you see a pen 1.", "go to desk 1", "Nothing happens."]
SHAPE = TinyShape(vocab=300, hidden=16, intermediate=24, layers=2, heads=2, key_value_heads=1, head_dim=8)
CONFIG = GrpoConfig(
    learning_rate=1e-2,
    warmup_steps=3,
    weight_decay=0.1,
    max_grad_norm=0.5,
    kl_weight=0.3,
    updates_per_batch=2,
    checkpoint_every=2,
    tokens_per_pass=256,
)
# (ids after the question, advantage, weight, cross-entropy weight) of step 0, 1, ...
PATHS = [
    [("You see a pen 1", 1.0, 0.05, 0.0), ("You see a desk 1", -0.5, 0.05, 0.0), ("Nothing happens.", 0.0, 0.0, 0.1)],
    [("Nothing", -1.5, 0.1, 0.0), ("Nothing happens.", 0.8, 0.04, 0.0)],
    [("You arrive at desk 1.", 0.0, 0.0, 0.05)],
    [("pen 1 pen 1", 1.0, 0.1, 0.0), ("pen 1 desk 1", -1.0, 0.1, 0.0)],
]

GOLDEN = [  # loss, gradient norm, KL, cross-entropy, log-probability
    [3.81825, 1.54892, 0.00190531, 5.61491, -5.65907],
    [0.340056, 1.17274, 0.0367447, 0, -5.49231],
    [1.92779, 0.611724, 0, 5.50797, 0],
    [-0.00480073, 0.889786, 0.0725195, 0, -5.32085],
    [3.47813, 1.45394, 0.104881, 5.12749, -5.30482],
    [0.371983, 1.43522, 0.286347, 0, -4.98256],
]


@pytest.fixture
def start(tmp_path: Path) -> Path:
    save_language_model(new_language_model(TEXTS, SHAPE, 3), tmp_path / "start")
    return tmp_path / "start"


def load(start: Path, lora_rank: int = 0) -> LanguageModel:
    return load_model(ModelConfig(path=str(start), device="cpu", lora_rank=lora_rank), trainable=True)


def trainer_of(lm: LanguageModel, folder: Path, config: GrpoConfig = CONFIG) -> Trainer:
    log = TrainingLog(folder / "stage", MetricsLog(folder / "metrics.jsonl"), "train_wm", seed=7)
    return Trainer(lm, config, log, PolicyLoss.of(config))


def paths_of(lm: LanguageModel, step: int) -> list[tuple[list[int], int, float, float, float]]:
    question = lm.chat.opening("", TEXTS[0]) + lm.chat.ask("go to desk 1")
    return [
        (question + lm.chat.text(text), len(question), advantage, weight, cross_entropy)
        for text, advantage, weight, cross_entropy in PATHS[step % len(PATHS)]
    ]


def tree_of(lm: LanguageModel, step: int) -> Tree:
    builder = TreeBuilder()
    for ids, begin, advantage, weight, cross_entropy in paths_of(lm, step):
        builder.add(ids, begin, advantage=advantage, coefficient=weight, cross_entropy=cross_entropy)
    return builder.build()


def fixed(lm: LanguageModel) -> Callable[[int, torch.Generator], Batch]:
    return lambda step, _: Batch([tree_of(lm, step)])


def sampling(lm: LanguageModel, die_at: int = -1) -> Callable[[int, torch.Generator], Batch]:
    """Batches whose answers the model itself samples; the more even tokens, the better the answer."""
    sampler = local_sampler(lm)
    question = lm.chat.opening("", TEXTS[0]) + lm.chat.ask()

    def make(step: int, generator: torch.Generator) -> Batch:
        if step == die_at:
            raise KeyboardInterrupt
        [group] = sampler.sample([question], 6, SamplingParams(6), generator)
        rewards = torch.tensor([sum(i % 2 == 0 for i in one.ids) / len(one.ids) for one in group])
        builder = TreeBuilder()
        for one, advantage in zip(group, rewards - rewards.mean(), strict=True):
            builder.add(
                [*question, *one.ids], len(question), advantage=float(advantage), coefficient=0.03,
            )  # fmt: skip
        return Batch([builder.build()], {"reward": float(rewards.mean())})

    return make


def lines(folder: Path) -> list[dict[str, Any]]:
    """The metrics without times."""
    rows = MetricsLog(folder / "metrics.jsonl").read()
    assert all(row["sample_s"] >= 0 and row["update_s"] >= 0 for row in rows)
    return [{key: value for key, value in row.items() if not key.endswith("_s")} for row in rows]


def weights(lm: LanguageModel) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in lm.model.named_parameters()}


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def plain_loop(
    lm: LanguageModel, reference: LanguageModel, config: GrpoConfig, steps: int
) -> list[tuple[float, float]]:
    """GRPO with k3 and cross-entropy, one separate sequence after the other; (loss, gradient norm) of each step."""
    parameters = list(lm.model.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=0.0, weight_decay=config.weight_decay)
    trace = []
    for step in range(steps):
        old: list[torch.Tensor] = []
        for _ in range(config.updates_per_batch):
            total = torch.zeros(())
            for number, (ids, begin, advantage, weight, cross_entropy) in enumerate(paths_of(lm, step)):
                inputs, target = torch.tensor([ids]), torch.tensor(ids[begin:])[:, None]
                logp = lm.model(inputs).logits[0, begin - 1 : -1].log_softmax(-1).gather(1, target)[:, 0]
                with torch.no_grad():
                    ref = reference.model(inputs).logits[0, begin - 1 : -1].log_softmax(-1).gather(1, target)[:, 0]
                old += [logp.detach()] if number == len(old) else []
                ratio = torch.exp(logp - old[number])
                low, high = (0.0, 1 + config.clip_high) if advantage > 0 else (1 - config.clip_low, torch.inf)
                kl = torch.exp(ref - logp) - (ref - logp) - 1
                gain = weight * (advantage * ratio.clamp(low, high) - config.kl_weight * kl) + cross_entropy * logp
                total = total - gain.sum()
            total.backward()
            norm = torch.nn.utils.clip_grad_norm_(parameters, config.max_grad_norm)
            for group in optimizer.param_groups:
                group["lr"] = config.learning_rate * min(1.0, (step + 1) / config.warmup_steps)
            optimizer.step()
            optimizer.zero_grad()
        trace.append((float(total.detach()), float(norm)))
    return trace


def test_the_loop_is_the_plain_loop(start: Path, tmp_path: Path) -> None:
    lm, plain = load(start), load(start)
    trainer_of(lm, tmp_path).fit(fixed(lm), 6, "fit")
    expected = plain_loop(plain, load(start), CONFIG, 6)
    found = [(line["loss"], line["grad_norm"]) for line in lines(tmp_path)]
    torch.testing.assert_close(torch.tensor(found), torch.tensor(expected), atol=1e-4, rtol=1e-3)
    # Adam divides by the gradient's size: where that is nearly nothing, rounding decides the sign of a step.
    for name, value in weights(lm).items():
        torch.testing.assert_close(value, weights(plain)[name], atol=2e-3, rtol=0, msg=name)
    assert [line["learning_rate"] for line in lines(tmp_path)] == pytest.approx([1e-2 / 3, 2e-2 / 3, *[1e-2] * 4])


def test_further_trees_are_updates_of_their_own(start: Path, tmp_path: Path) -> None:
    """The second update begins where the first ended: the same weights as two steps by hand, once each."""
    lm, twice = load(start), load(start)

    def make(step: int, _: torch.Generator) -> Batch:
        more = {"extra": Batch([tree_of(lm, 2)], {"rows": 3.0})} if step == 1 else {}
        return Batch([tree_of(lm, step)], more=more)

    trainer_of(lm, tmp_path / "one").fit(make, 2, "fit")
    other = trainer_of(twice, tmp_path / "two")
    figures = [
        other._update([tree_of(twice, at)], step, times) for at, step, times in ((0, 0, 2), (1, 1, 2), (2, 1, 1))
    ]
    assert same(weights(lm), weights(twice))
    first, second = lines(tmp_path / "one")
    assert not any(key.startswith("extra_") for key in first)
    extra = {key.removeprefix("extra_"): second[key] for key in second if key.startswith("extra_")}
    assert extra == figures[2] | {"rows": 3.0}
    assert second["loss"] == figures[1]["loss"] != second["extra_loss"]
    assert (second["extra_policy_tokens"], second["policy_tokens"]) == (0, figures[1]["policy_tokens"])


def token_logps(lm: LanguageModel, temperature: float) -> list[dict[tuple[int, ...], float]]:
    """Of the tokens of step 0 with a policy loss, and of those with cross-entropy, by their path."""
    found: list[dict[tuple[int, ...], float]] = [{}, {}]
    for ids, begin, _, _, cross_entropy in paths_of(lm, 0):
        with torch.no_grad():
            logp = (lm.model(torch.tensor([ids])).logits[0] / temperature).log_softmax(-1)
        of_path = {tuple(ids[: at + 1]): float(logp[at - 1, ids[at]]) for at in range(begin, len(ids))}
        found[cross_entropy > 0].update(of_path)
    return found


@pytest.mark.parametrize("updates", [1, 2])
def test_logits_are_divided_by_the_temperature_of_the_batch(start: Path, tmp_path: Path, updates: int) -> None:
    """Log-probabilities, KL and cross-entropy of each batch against plain passes of the model and the reference."""
    lm, reference = load(start), load(start)
    still = {"learning_rate": 1e-30, "weight_decay": 0.0, "temperature": 0.7, "updates_per_batch": updates}
    trainer = trainer_of(lm, tmp_path, CONFIG.model_copy(update=still))
    with torch.no_grad():
        for parameter in lm.model.parameters():
            parameter.mul_(1.5)
    tree = tree_of(lm, 0)
    more = {"sure": Batch([tree]), "bold": Batch([tree], temperature=0.25)}
    trainer.fit(lambda step, _: Batch([tree], temperature=0.5, more=more), 1, "fit")
    [line] = lines(tmp_path)
    for prefix, temperature in (("", 0.5), ("sure_", 1.0), ("bold_", 0.25)):
        sampled, learnt = token_logps(lm, temperature)
        held, _ = token_logps(reference, temperature)
        gaps = [held[path] - sampled[path] for path in sampled]
        assert line[f"{prefix}policy_tokens"] == len(sampled)
        assert line[f"{prefix}ratio_max"] == pytest.approx(1.0, abs=1e-5)
        assert line[f"{prefix}logp"] == pytest.approx(np.mean(list(sampled.values())), abs=1e-4)
        assert line[f"{prefix}kl"] == pytest.approx(np.mean([np.expm1(gap) - gap for gap in gaps]), rel=1e-3)
        assert line[f"{prefix}cross_entropy"] == pytest.approx(-np.mean(list(learnt.values())), abs=1e-4)


def test_golden_trace(start: Path, tmp_path: Path) -> None:
    """Six steps as they were when this was written: a change of any of these numbers is a change of the method."""
    lm = load(start)
    trainer_of(lm, tmp_path).fit(fixed(lm), 6, "fit")
    keys = ("loss", "grad_norm", "kl", "cross_entropy", "logp")
    found = [[line.get(key, 0.0) for key in keys] for line in lines(tmp_path)]
    for row, expected in zip(found, GOLDEN, strict=True):
        assert row == pytest.approx(expected, rel=2e-3, abs=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize("lora_rank", [0, 2])
@pytest.mark.parametrize("die_at", [1, 3, 4])
def test_training_that_was_cut_off_goes_on_bit_for_bit(
    start: Path, tmp_path: Path, die_at: int, lora_rank: int
) -> None:
    """Cut off before the first checkpoint, right after one was due, and with one more step done than was saved."""
    (whole, cut) = (tmp_path / "whole", tmp_path / "cut")
    config = CONFIG.model_copy(update={"checkpoint_every": 3})
    straight = load(start, lora_rank)
    trainer_of(straight, whole, config).fit(sampling(straight), 6, "fit")
    first = load(start, lora_rank)
    with pytest.raises(KeyboardInterrupt):
        trainer_of(first, cut, config).fit(sampling(first, die_at), 6, "fit")
    assert len(lines(cut)) == die_at
    from rwml.core.metric_names import unnamed

    assert unnamed(lines(cut)) == set()
    second = load(start, lora_rank)
    resumed = trainer_of(second, cut, config)
    resumed.fit(sampling(second), 6, "fit")
    assert same(weights(second), weights(straight))
    assert lines(cut) == lines(whole)
    assert [line["step"] for line in lines(cut)] == [1, 2, 3, 4, 5, 6]
    assert len({line["reward"] for line in lines(cut)}) > 3, "each step samples anew"
    for name in ("weights.safetensors", "optimizer.safetensors"):
        one, other = (load_file(folder / "stage" / "checkpoint-000006" / name) for folder in (whole, cut))
        assert same(one, other)


def test_only_the_newest_checkpoint_stays(start: Path, tmp_path: Path) -> None:
    lm = load(start)
    (tmp_path / "stage" / "checkpoint-000000").mkdir(parents=True)  # left by a kill between writing and removing
    (tmp_path / "stage" / "checkpoint-000000" / "x").write_text("left")
    trainer = trainer_of(lm, tmp_path)
    for step in (1, 2):
        trainer._checkpoint(step)
    assert [path.name for path in (tmp_path / "stage").iterdir()] == ["checkpoint-000002"]


def test_a_stage_that_is_done_trains_no_further(start: Path, tmp_path: Path) -> None:
    lm = load(start)
    trainer_of(lm, tmp_path).fit(fixed(lm), 3, "fit")
    again = load(start)
    trainer_of(again, tmp_path).fit(fixed(again), 3, "fit")
    assert same(weights(again), weights(lm))
    assert len(lines(tmp_path)) == 3


def test_the_reference_stays_where_training_began(start: Path, tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"updates_per_batch": 1})
    lm = load(start)
    before = weights(lm)
    trainer = trainer_of(lm, tmp_path, config)
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(sampling(lm, die_at=4), 9, "fit")
    resumed_lm = load(start)
    resumed = trainer_of(resumed_lm, tmp_path, config)
    resumed.fit(sampling(resumed_lm), 6, "fit")
    for one in (trainer, resumed):
        assert one.reference is not None
        assert same(dict(one.reference.named_parameters()), before)
    assert not same(weights(resumed_lm), before)
    kl = [line["kl"] for line in lines(tmp_path)]
    assert kl[0] == pytest.approx(0.0, abs=1e-9)
    assert min(kl[1:]) > 1e-6


def test_without_a_kl_term_there_is_no_reference(start: Path, tmp_path: Path) -> None:
    lm = load(start)
    trainer = trainer_of(lm, tmp_path, CONFIG.model_copy(update={"kl_weight": 0.0}))
    trainer.fit(fixed(lm), 2, "fit")
    assert trainer.reference is None
    assert all("kl" not in line for line in lines(tmp_path))


def test_lora_trains_the_adapter_only_and_holds_to_the_model_without_it(start: Path, tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"updates_per_batch": 1})
    lm = load(start, lora_rank=2)
    before = weights(lm)
    trainer = trainer_of(lm, tmp_path, config)
    assert trainer.reference is None
    trainer.fit(sampling(lm), 4, "fit")
    moved = {name for name, value in weights(lm).items() if not torch.equal(value, before[name])}
    adapter = {name for name in before if "lora_" in name}
    assert moved == adapter != set()
    assert set(load_file(tmp_path / "stage" / "checkpoint-000004" / "weights.safetensors")) == adapter
    kl = [line["kl"] for line in lines(tmp_path)]
    assert kl[0] == pytest.approx(0.0, abs=1e-9)
    assert min(kl[1:]) > 1e-9


def test_a_step_without_trees_changes_nothing_and_is_counted(start: Path, tmp_path: Path) -> None:
    lm = load(start)
    before = weights(lm)
    trainer_of(lm, tmp_path).fit(lambda step, _: Batch([], {"reward": 0.0}), 3, "fit")
    assert same(weights(lm), before)
    nothing = {"loss": 0.0, "grad_norm": 0.0, "tokens": 0.0, "tokens_unshared": 0.0, "reward": 0.0}
    assert lines(tmp_path) == [{"stage": "train_wm", "step": n} | nothing for n in (1, 2, 3)]
    resumed = load(start)
    trainer_of(resumed, tmp_path).fit(fixed(resumed), 5, "fit")
    straight = load(start)
    trainer_of(straight, tmp_path / "other").fit(
        lambda step, g: Batch([]) if step < 3 else fixed(straight)(step, g), 5, "fit"
    )
    assert same(weights(resumed), weights(straight))


def test_tokens_are_counted_with_and_without_sharing(start: Path, tmp_path: Path) -> None:
    lm = load(start)
    trainer_of(lm, tmp_path).fit(fixed(lm), 4, "fit")
    for step, line in enumerate(lines(tmp_path)):
        paths = [path[0] for path in paths_of(lm, step)]
        assert line["tokens"] == len({tuple(ids[:n]) for ids in paths for n in range(1, len(ids) + 1)})
        assert line["tokens_unshared"] == sum(map(len, paths))


def test_generators_depend_on_their_parts_alone() -> None:
    seed = int.from_bytes(hashlib.sha256(b"7/train_wm/3").digest()[:7], "big")
    assert generator_for(7, "train_wm", 3).initial_seed() == seed
    torch.manual_seed(1)
    first = torch.rand(4, generator=generator_for(7, "train_wm", 3))
    assert torch.equal(first, torch.rand(4, generator=generator_for(7, "train_wm", 3)))
    assert not torch.equal(first, torch.rand(4, generator=generator_for(7, "train_wm", 4)))


def test_every_step_draws_from_a_generator_of_its_own(start: Path, tmp_path: Path) -> None:
    seeds = []

    def make(step: int, generator: torch.Generator) -> Batch:
        seeds.append(generator.initial_seed())
        return Batch([])

    trainer_of(load(start), tmp_path).fit(make, 4, "fit")
    assert seeds == [generator_for(7, "train_wm", step).initial_seed() for step in range(4)]
    assert len(set(seeds)) == 4


@pytest.mark.parametrize("name", ["weights.safetensors", "optimizer.safetensors", "state.json"])
@pytest.mark.parametrize("damage", ["flipped", "empty", "gone", "cut"])
def test_a_damaged_checkpoint_is_named(start: Path, tmp_path: Path, name: str, damage: str) -> None:
    trainer_of(load(start), tmp_path)._checkpoint(2)
    path = tmp_path / "stage" / "checkpoint-000002" / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes({"flipped": bytes(data), "empty": b"", "gone": b"", "cut": path.read_bytes()[:-9]}[damage])
    if damage == "gone":
        path.unlink()
    before = weights(lm := load(start))
    with pytest.raises(RwmlError) as caught:
        trainer_of(lm, tmp_path).fit(fixed(lm), 3, "fit")
    assert f"'{path}'" in caught.value.what
    assert same(weights(lm), before), "nothing of it was loaded"
    if name != "state.json" or damage == "flipped":
        assert f"remove '{path.parent}' and give the same command again" in caught.value.fix


def test_a_checkpoint_of_an_older_rwml_is_read(start: Path, tmp_path: Path) -> None:
    trainer_of(load(start), tmp_path)._checkpoint(2)
    write_json(tmp_path / "stage" / "checkpoint-000002" / "state.json", {"step": 2, "stage": "train_wm"})
    new = trainer_of(load(start), tmp_path)
    assert load_checkpoint(new.log.folder, new._trained(), new.optimizer) == 2
