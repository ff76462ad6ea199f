"""The arms of world-model training that are not RWML itself: SPIN, and SFT on branched expert episodes (IWM)."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from rwml.core.errors import NotFiniteError, RwmlError
from rwml.core.recipe.recipe import Recipe
from rwml.core.records import Parts, read_records
from rwml.core.run import Run
from rwml.core.types import Transition
from rwml.loading import load_world
from rwml.playing.branches import branched_transitions, is_branch
from rwml.stages import train_wm
from rwml.stages.pipeline import run_all
from rwml.train.trainer import Trainer

pytestmark = pytest.mark.slow  # trains in stages

Mini = Callable[..., Recipe]
SPIN: dict[str, Any] = {
    "method": "spin", "spin": {"rounds": 2, "beta": 0.5}, "max_steps": 6, "checkpoint_every": 2, "kl_weight": 0.01,
}  # fmt: skip


@pytest.fixture(scope="module")
def filtered(mini: Mini, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder up to the filter, which keeps all rows."""
    run = Run.open(mini(tmp_path_factory.mktemp("arms") / "run", filter={"enabled": False}))
    run_all(run, until="filter")
    return run.folder


@pytest.fixture
def copied(filtered: Path, mini: Mini, tmp_path: Path) -> Callable[..., Run]:
    """`copied(name, ...)` opens a copy of it with settings of [train_wm]."""
    return lambda name, **train_wm: copy_of(filtered, mini, tmp_path / name, **train_wm)


def copy_of(filtered: Path, mini: Mini, folder: Path, **train_wm: Any) -> Run:
    shutil.copytree(filtered, folder, ignore=shutil.ignore_patterns(".lock"))
    return Run.open(mini(folder, filter={"enabled": False}, train_wm=train_wm), say=lambda text: None)


@pytest.fixture(scope="module")
def spun(filtered: Path, mini: Mini, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Six steps of SPIN in two rounds."""
    run = copy_of(filtered, mini, tmp_path_factory.mktemp("spun") / "run", **SPIN)
    train_wm.run(run)
    return run


def lines(run: Run) -> list[dict[str, Any]]:
    found = [line for line in run.metrics.read() if line["stage"] == "train_wm"]
    from rwml.core.metric_names import unnamed

    assert unnamed(found) == set()
    return [{key: value for key, value in line.items() if not key.endswith("_s")} for line in found]


def test_spin_plays_against_the_model_at_the_start_of_each_round(spun: Run) -> None:
    run, found = spun, lines(spun)
    assert [line["round"] for line in found] == [1, 1, 1, 2, 2, 2]
    for first in (found[0], found[3]):
        assert (first["margin"], first["accuracy"]) == (0.0, 0.0)
        assert first["preference_loss"] == pytest.approx(0.693147, abs=1e-6)
    for later in (found[1], found[2], found[4], found[5]):
        assert later["margin"] != 0.0
        assert 0 <= later["accuracy"] <= 1
    rows = [r for r in read_records(run.folder / "filtered.parquet", Transition) if r.kept and r.split == "train"]
    for line in found:
        assert line["kept_pairs"] + line["equal_pairs"] in (8, len(rows) % 8)
        assert "kl" not in line
        assert line["ce_tokens"] > 0
        assert line["grad_norm"] > 0
    counts = run.summary()["train_wm"]["counts"]
    assert counts["pairs"] == sum(line["kept_pairs"] for line in found) > 30
    assert counts["pairs left out, the guess was right"] == sum(line["equal_pairs"] for line in found)
    assert sorted(path.name for path in (run.folder / "world_model").iterdir()) == ["checkpoint-000006", "final"]


@pytest.mark.parametrize("die_at", [1, 3, 5])
def test_spin_that_was_cut_off_goes_on_bit_for_bit(
    spun: Run, copied: Callable[..., Run], monkeypatch: pytest.MonkeyPatch, die_at: int
) -> None:
    """Cut off in the first round, and in the second one before and after a checkpoint of it."""
    cut = copied("cut", **SPIN)
    update = Trainer._update

    def dying(self: Trainer, trees: Any, step: int, *more: Any) -> dict[str, float]:
        if step == die_at:
            raise KeyboardInterrupt
        return update(self, trees, step, *more)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Trainer, "_update", dying)
        train_wm.run(cut)
    assert len(lines(cut)) == die_at
    train_wm.run(cut)
    assert lines(cut) == lines(spun)
    one, other = (load_file(run.folder / "world_model" / "final" / "model.safetensors") for run in (spun, cut))
    assert all(one[name].equal(other[name]) for name in one)
    assert run_counts(cut) == run_counts(spun)


def run_counts(run: Run) -> dict[str, Any]:
    return dict(run.summary()["train_wm"]["counts"])


def test_spin_may_begin_with_sft(copied: Callable[..., Run]) -> None:
    run = copied("warm", **SPIN | {"sft_steps": 2, "max_steps": 4})
    train_wm.run(run)
    found = lines(run)
    assert [line.get("round") for line in found] == [None, None, 1, 2]
    assert found[2]["margin"] == 0.0, "the opponent is the model after the SFT steps"


def test_branches_are_trained_on_and_counted(copied: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_wm, "TASKS_IN_FLIGHT", 2)
    run = copied("iwm", method="sft", branches=2, branch_tasks=3, max_steps=2)
    (run.folder / "filtered.parquet").unlink()  # the arm needs no play of the model's
    train_wm.run(run)
    world = load_world(run.recipe)
    expected = branched_transitions(world, world.tasks("train")[:3], 2, 1, run.recipe.world.max_steps)
    assert Parts(run.folder / "world_model" / "branches").read(Transition, 2) == expected
    counts = run_counts(run)
    num_branched = sum(map(is_branch, expected))
    assert counts == {
        "expert episodes": 3,
        "expert transitions": len(expected) - num_branched,
        "branched transitions": num_branched,
        "branches that could not be tried": 0,
        "transitions": len(expected),
        "steps": 2,
    }
    assert num_branched == 2 * counts["expert transitions"]
    assert [line["policy_tokens"] for line in lines(run)] == [0, 0]


def test_branches_that_are_too_long_are_left_out_with_a_reason(mini: Mini, tmp_path: Path) -> None:
    settings = {"method": "sft", "branches": 1, "branch_tasks": 2, "max_steps": 1}
    run = Run.open(mini(tmp_path, train_wm=settings, model={"max_context_tokens": 150}))
    train_wm.run(run)
    rows = Parts(run.folder / "world_model" / "branches").read(Transition, 1)
    reasons = [row.reason for row in rows if not row.kept]
    assert set(reasons) == {"longer than model.max_context_tokens"}
    counts = run_counts(run)
    assert counts["longer than model.max_context_tokens"] == len(reasons)
    assert counts["transitions"] == len(rows) - len(reasons) > 0


def test_branches_of_no_tasks_are_refused(mini: Mini, tmp_path: Path) -> None:
    world = {"name": "tau2", "options": {"play": False}}
    run = Run.open(mini(tmp_path, world=world, train_wm={"method": "sft", "branches": 1}))
    with pytest.raises(RwmlError, match="the world tau2 has no tasks in the split 'train'"):
        train_wm.run(run)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"branches": 2}, r"train_wm.branches = 2 with train_wm.method = 'rwml'"),
        ({"branches": 1, "method": "spin"}, r"train_wm.branches = 1 with train_wm.method = 'spin'"),
        ({"method": "spin", "updates_per_batch": 2}, r"train_wm.updates_per_batch = 2 with train_wm.method = 'spin'"),
        ({"method": "spin", "spin": {"beta": 0}}, r"train_wm.spin.beta = 0 is not valid"),
    ],
)
def test_settings_that_do_not_fit_are_refused(
    mini: Mini, tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(RwmlError, match=message):
        mini(tmp_path, train_wm=settings)


@pytest.mark.parametrize("method", ["sft", "spin", "rwml"])
def test_a_rate_that_overflows_fails_the_stage_and_a_lower_one_is_done(copied: Callable[..., Run], method: str) -> None:
    settings = {"method": method, "max_steps": 3, "kl_weight": 0.0, "tau_d": 0.6}
    run = copied("run", **settings, learning_rate=1e30)
    with pytest.raises(NotFiniteError, match=r"train_wm, step \d of 3: ") as caught:
        train_wm.run(run)
    assert "lower train_wm.learning_rate (now 1e+30)" in caught.value.fix
    assert run.state("train_wm") == "failed"
    assert not (run.folder / "world_model" / "final").exists()
    again = Run.open(run.recipe.overridden(("train_wm.learning_rate=1e-4",)), say=lambda text: None)
    train_wm.run(again)
    assert again.is_done("train_wm")
    weights = load_file(again.folder / "world_model" / "final" / "model.safetensors")
    assert all(bool(tensor.isfinite().all()) for tensor in weights.values())
    assert [line["step"] for line in lines(again)] == [1, 2, 3]
