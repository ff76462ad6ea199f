"""The arms of a comparison as runs, and their examination: every distinct checkpoint once per seed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import rwml
from rwml.core.errors import RwmlError
from rwml.core.files import folder_hash, link, read_json, remove, sweep, write_json
from rwml.core.progress import note, progress
from rwml.core.recipe.compare import ArmConfig, arm_recipe, data_stages, equal_steps
from rwml.core.recipe.recipe import Recipe
from rwml.core.records import read_records
from rwml.core.run import Run
from rwml.core.types import Transition
from rwml.loading import load_reward
from rwml.measure.compare.costs import price, stage_costs
from rwml.measure.examiner import Examiner, HeldOut, ask_baselines, held_out
from rwml.measure.figures.arm_rows import ArmEvaluation
from rwml.measure.suite import KeptMeasures, MeasureContext, without_judge
from rwml.measure.weight_change import measure_weight_change
from rwml.models.language_model import load_chat
from rwml.rewards.rewards import KindReward

SECTIONS = ("world", "model", "embedding", "collect", "transitions", "evaluate", "judge")
MEASURES_IN = "measures"


def open_arm(recipe: Recipe, arm: ArmConfig, seed: int) -> Run:
    """The run folder of an arm under one seed. RwmlError where the arm whose cost it may spend is not done."""
    found = peek_arm(recipe, arm, seed)
    if found is None:
        raise RwmlError(
            f"seed {seed}: the arm '{arm.name}' may spend what '{arm.compute}' costs, which is not done",
            "its number of steps follows from that cost",
            f"run it first: --arms {arm.compute}",
        )
    return Run.open(found.recipe, note)


def peek_arm(recipe: Recipe, arm: ArmConfig, seed: int) -> Run | None:
    """The same to read from (`Run.peek`); None where the arm whose cost it may spend is not done."""
    steps = _steps_to_spend(recipe, recipe.compare.arm(arm.compute), seed) if arm.compute else 0
    return Run.peek(arm_recipe(recipe, arm, seed, steps)) if steps or not arm.compute else None


def _steps_to_spend(recipe: Recipe, reference: ArmConfig, seed: int) -> int:
    """Policy steps for what all of the reference arm cost; 0 where it is not done."""
    other = peek_arm(recipe, reference, seed)
    stages = (*data_stages(other.recipe, reference), *reference.stages) if other else ()
    if other is None or not all(map(other.is_done, stages)):
        return 0
    costs = stage_costs(other, stages, load_chat(recipe.model.path, recipe.model.trust_remote_code))
    return equal_steps(price(costs, recipe.compare.compute_unit), round(costs["train_policy"]["steps"]))


def evaluation_tau_d(recipe: Recipe) -> float:
    """The threshold that every arm is measured by."""
    chosen = recipe.evaluate.tau_d or recipe.train_wm.tau_d
    assert chosen is not None, "checked before anything runs"
    return chosen


class _Silent:
    def advance(self, n: int = 1, **fields: float | int | str) -> None:
        pass


class ArmEvaluations:
    """One seed: the same questions and games for the final checkpoint of every arm, in s<seed>/evaluation/.

    The questions come from the play of the base model under this seed; the games are the same in all seeds. What was
    examined under another version, recipe or checkpoint is examined again. peek: only to read what was found.
    """

    def __init__(self, recipe: Recipe, seed: int, peek: bool = False) -> None:
        self.whole, self.seed = recipe, seed
        self.folder = recipe.folder / f"s{seed}" / "evaluation"
        base = peek_arm(recipe, recipe.compare.arm(recipe.compare.base), seed)
        assert base is not None, "the base arm spends nothing"
        self.base = base if peek else Run.open(base.recipe, note)
        if not peek:
            sweep(self.folder)

    @property
    def recipe(self) -> Recipe:
        """Of the base arm: what every arm is examined by."""
        return self.base.recipe

    @cached_property
    def items(self) -> HeldOut:
        """The held-out questions and games; those cut under another recipe, and all answers to them, are removed."""
        note_path = self.folder / "questions.json"
        if not note_path.exists() or read_json(note_path) != self._questions():
            for path in self.folder.glob("*"):
                if path.name != MEASURES_IN:  # whose names say what they were made under
                    remove(path)
            self.folder.mkdir(parents=True, exist_ok=True)
            write_json(note_path, self._questions())
        return held_out(self.recipe, self.folder, draw=self.whole.seed)

    @cached_property
    def reward(self) -> KindReward:
        """The recipe's training reward under the measuring threshold, whatever an arm trains with."""
        return load_reward(self.base, evaluation_tau_d(self.whole))

    def _questions(self) -> dict[str, str]:
        dumped = self.recipe.model_dump(mode="json")
        told: list[Any] = [dumped[section] for section in SECTIONS]
        del dumped["evaluate"]["bootstrap_samples"]  # read when the figures are drawn together
        told += [dumped["train_wm"]["reward"], evaluation_tau_d(self.whole), self.seed, self.whole.seed]
        return {"rwml": rwml.__version__, "recipe": hashlib.sha256(json.dumps(told).encode()).hexdigest()}

    def sit(self, arm: ArmConfig, run: Run) -> None:
        """Examine the arm's final checkpoint unless that was done."""
        items, key = self.items, self._key(arm, run)
        folder = self.folder / arm.name
        if self._noted(arm.name).get("key") != key:
            remove(folder)
        if self._noted(arm.name).get("done"):
            return
        same = next((n for n in self._examined() if self._noted(n).get("key") == key and self._noted(n)["done"]), None)
        if same is not None and same != arm.name:
            link(self.folder / same, folder)
            note(f"evaluate: the same checkpoint as in {same}")
            return
        write_json(folder / "examined.json", {"key": key, "done": False})
        total = sum(items.sizes) * len(self.recipe.evaluate.seeds)
        with progress(f"evaluate {arm.name}", total=total, unit="item") as bar:
            path = run.folder / arm.final if arm.final else None
            Examiner(self.recipe, arm.name, path, folder, self.reward, bar).sit(items)
        done: dict[str, Any] = {"key": key, "done": True}
        if arm.final:
            done["weight_change"] = measure_weight_change(self.recipe.model.path, run.folder / arm.final)
        write_json(folder / "examined.json", done)

    def evaluations(self, arm: ArmConfig, run: Run | None) -> tuple[list[ArmEvaluation], str]:
        """What was examined of an arm, with the baselines for the base arm; or none, and the reason why.

        run: the arm's (`peek_arm`).
        """
        if not (self.folder.parent / arm.name / "manifest.json").exists():
            return [], "not run"
        if run is None:
            return [], f"{arm.compute} is not done"
        open_stages = [stage for stage in arm.stages if not run.is_done(stage)]
        if open_stages:
            return [], f"{open_stages[0]} is not done"
        noted = self._noted(arm.name)
        if not noted.get("done") or noted["key"] != self._key(arm, run):
            return [], "not examined"
        # All parts are there, so that nothing is asked, played or loaded.
        examiner = Examiner(self.recipe, arm.name, None, self.folder / arm.name, self.reward, _Silent())
        answers, plays = examiner.sit(self.items)
        found = [ArmEvaluation(arm.name, self.seed, answers, plays, self.items.rows)]
        return found + (self._baselines() if arm.name == self.whole.compare.base else []), ""

    @cached_property
    def _measuring(self) -> MeasureContext:
        tau_d = evaluation_tau_d(self.whole)
        return MeasureContext(
            self.recipe, self.folder / MEASURES_IN, load_reward(without_judge(self.base), tau_d), tau_d
        )

    def measures(self, arm: ArmConfig, run: Run, take: bool = True) -> dict[str, Any]:
        """`compare.measures` of the arm's final checkpoint, with their rows; arms of one checkpoint share them.

        take: measure what was not; otherwise the result is empty where anything is missing.
        """
        names = self.whole.compare.measures
        if not names:
            return {}
        path = run.folder / arm.final if arm.final else None
        weights = folder_hash(path) if path else ""
        kept = KeptMeasures(self._measuring, path, weights, weights[:12] or "model")
        missing = [name for name in names if not kept.path(name).exists()]
        if missing and not take:
            return {}
        if missing:
            with progress(
                f"measure {arm.name}", total=len(names), done=len(names) - len(missing), unit="measure"
            ) as bar:
                for name in missing:
                    kept.measure(name)
                    bar.advance()
        return {name: kept.measure(name) for name in names}

    def weight_change(self, arm: ArmConfig) -> dict[str, Any] | None:
        """How far the arm's weights are from the base model's (docs/measures.md); None for the base arm."""
        found: dict[str, Any] | None = self._noted(arm.name).get("weight_change")
        return found

    def _baselines(self) -> list[ArmEvaluation]:
        training = read_records(self.base.folder / "transitions.parquet", Transition)
        told = ask_baselines(self.recipe, self.folder / "baselines", training, self.items.transitions, self.reward)
        names = dict.fromkeys(answers.arm for answers in told)
        rows = self.items.rows
        return [ArmEvaluation(name, self.seed, [a for a in told if a.arm == name], [], rows) for name in names]

    def _key(self, arm: ArmConfig, run: Run) -> dict[str, str]:
        return self._questions() | {"checkpoint": folder_hash(run.folder / arm.final) if arm.final else "model"}

    def _noted(self, name: str) -> dict[str, Any]:
        path = self.folder / name / "examined.json"
        return dict(read_json(path)) if path.exists() else {}

    def _examined(self) -> Sequence[str]:
        return [path.parent.name for path in sorted(self.folder.glob("*/examined.json"))]
