"""What was examined of the arms of a comparison, to read: every distinct checkpoint once per seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import rwml
from rwml.core.files import Json, folder_hash, read_sealed
from rwml.core.recipe.compare import ArmConfig
from rwml.core.recipe.declared import settings_hash
from rwml.core.recipe.recipe import Recipe
from rwml.core.records import Parts, read_records
from rwml.core.run import Run
from rwml.core.types import Episode, PredictedState, Transition
from rwml.loading import baselines_of, load_measuring_reward, load_reward
from rwml.measure.compare.open_arms import peek_arm
from rwml.measure.compare.setups import EXAMINED_UNDER, exam_setup, measure_setup
from rwml.measure.examiner import Examiner, ExamSetup, HeldOut, baseline_predictions, held_out
from rwml.measure.figures.arm_rows import ArmEvaluation, SeedEpisodes, SeedPredictions, grouped
from rwml.measure.suite import KeptMeasures, MeasureContext
from rwml.rewards.rewards import KindReward

MEASURES_IN = "measures"


@dataclass(frozen=True, slots=True)
class ArmResult:
    """One arm under one seed.

    run, evaluations: None and empty if the arm was not examined; the base arm's evaluations include the baselines'.
    weight_change: docs/reference/measure.md; empty for the base arm. measures: {measure: figures} with their rows,
    empty if any of `compare.measures` is missing. missing: why a part of this is empty; "" if nothing is missing.
    """

    arm: ArmConfig
    seed: int
    run: Run | None = None
    evaluations: Sequence[ArmEvaluation] = ()
    weight_change: Json = field(default_factory=dict)
    measures: Json = field(default_factory=dict)
    missing: str = ""


def evaluation_tau_d(recipe: Recipe) -> float:
    """The threshold that every arm is measured by."""
    chosen = recipe.evaluate.tau_d or recipe.train_wm.tau_d
    assert chosen is not None, "checked before anything runs"
    return chosen


class ArmEvaluations:
    """One seed: what the final checkpoint of every arm answered and played, in s<seed>/evaluation/.

    The questions come from the play of the base model under this seed; the games are the same in all seeds. What was
    examined under another version, recipe or checkpoint does not count. Nothing is trained, asked or played.
    """

    def __init__(self, recipe: Recipe, seed: int) -> None:
        self.whole, self.seed = recipe, seed
        self.folder = recipe.folder / f"s{seed}" / "evaluation"
        base = peek_arm(recipe, recipe.compare.arm(recipe.compare.base), seed)
        assert base is not None, "the base arm spends nothing"
        self.base = base
        self._hashes: dict[Path, str] = {}

    @property
    def recipe(self) -> Recipe:
        """Of the base arm: what every arm is examined by."""
        return self.base.recipe

    @cached_property
    def items(self) -> HeldOut:
        """The held-out questions and games."""
        return held_out(self.setup, self.folder, draw=self.whole.seed)

    @cached_property
    def setup(self) -> ExamSetup:
        """What every arm is examined by."""
        return exam_setup(self.recipe)

    @cached_property
    def reward(self) -> KindReward:
        """The recipe's training reward under the measuring threshold, whatever an arm trains with."""
        return load_reward(self.base, evaluation_tau_d(self.whole))

    def result(self, arm: ArmConfig) -> ArmResult:
        """All that is there of an arm."""
        run = peek_arm(self.whole, arm, self.seed)
        missing = self._why_not_examined(arm, run)
        evaluation = None if missing else self._evaluation(arm)
        if run is None or evaluation is None:
            again = f"a part of its answers is lost: remove {self.folder / arm.name} and run it again"
            return ArmResult(arm, self.seed, missing=missing or again)
        baselines = self._baselines() if arm.name == self.whole.compare.base else []
        measures = self._measures(arm, run)
        lacking = bool(self.whole.compare.measures) and not measures
        return ArmResult(
            arm,
            self.seed,
            run,
            [evaluation, *baselines],
            self.noted(arm.name).get("weight_change", {}),
            measures,
            "examined, but compare.measures is not taken" if lacking else "",
        )

    def questions(self) -> Json:
        """What tells these questions and games from those of another recipe or version."""
        sections = (*EXAMINED_UNDER, "train_wm.reward", *self.recipe.judge_settings)
        whole = {"tau_d": evaluation_tau_d(self.whole), "draw": self.whole.seed}
        return {"rwml": rwml.__version__, "recipe": settings_hash(self.recipe, sections)} | whole

    def key(self, arm: ArmConfig, run: Run) -> Json:
        """What an arm's examination depends on: the questions, and the bytes of its checkpoint."""
        return self.questions() | {"checkpoint": self._weights(arm, run) or "model"}

    def noted(self, name: str) -> Json:
        """What was written down of an arm's examination; empty if it did not begin."""
        path = self.folder / name / "examined.json"
        return read_sealed(path) if path.exists() else {}

    def kept_measures(self, arm: ArmConfig, run: Run) -> KeptMeasures:
        """The measures of the arm's final checkpoint; arms of one checkpoint share them."""
        path, weights = run.folder / arm.final if arm.final else None, self._weights(arm, run)
        return KeptMeasures(self._measuring, path, weights, weights[:12] or "model")

    def _weights(self, arm: ArmConfig, run: Run) -> str:
        """The hash of the arm's final checkpoint, which is large and read once; "" for the recipe's model."""
        if not arm.final:
            return ""
        path = run.folder / arm.final
        if path not in self._hashes:
            run.check(path)
            self._hashes[path] = folder_hash(path)
        return self._hashes[path]

    def _why_not_examined(self, arm: ArmConfig, run: Run | None) -> str:
        """The reason in a few words; "" if it was examined."""
        if not (self.folder.parent / arm.name / "manifest.json").exists():
            return "not run"
        if run is None:
            return f"{arm.compute} is not done"
        for stage in arm.stages:
            if not run.is_done(stage):
                return f"{stage} is not done"
        noted = self.noted(arm.name)
        return "" if noted.get("done") and noted["key"] == self.key(arm, run) else "not examined"

    def _evaluation(self, arm: ArmConfig) -> ArmEvaluation | None:
        """The records of an arm; None if a part of them is lost."""
        answers: list[SeedPredictions] = []
        plays: list[SeedEpisodes] = []
        for split in self.recipe.evaluate.splits:
            questions, games = self.items.transitions[split], self.items.tasks[split]
            for seed in self.recipe.evaluate.seeds:
                folder, part = self.folder / arm.name, f"{split}-{seed}"
                predictions = Parts(folder / f"predictions-{part}").read_all(PredictedState)
                episodes = Parts(folder / f"episodes-{part}").read_all(Episode) if games else []
                if (len(predictions), len(episodes)) != (len(questions), len(games)):
                    return None
                answers.append(SeedPredictions(arm.name, split, seed, predictions))
                if games:
                    plays.append(SeedEpisodes(arm.name, split, seed, episodes))
        return ArmEvaluation(arm.name, self.seed, answers, plays, self.items.rows)

    def _baselines(self) -> list[ArmEvaluation]:
        training = read_records(self.base.folder / "transitions.parquet", Transition)
        examiner = Examiner(self.setup, self.items, self.reward)
        answers = baseline_predictions(examiner, baselines_of(self.recipe, training), self.folder / "baselines")
        by_name = grouped(answers, lambda group: group.arm)
        return [ArmEvaluation(name, self.seed, its, [], self.items.rows) for name, its in by_name.items()]

    def _measures(self, arm: ArmConfig, run: Run) -> Json:
        """`compare.measures` as they were kept; empty if any is missing."""
        names = self.whole.compare.measures
        if not names:
            return {}
        kept = self.kept_measures(arm, run)
        return {name: kept.measure(name) for name in names} if all(kept.path(name).exists() for name in names) else {}

    @cached_property
    def _measuring(self) -> MeasureContext:
        reward = load_measuring_reward(self.base, evaluation_tau_d(self.whole))
        return MeasureContext(measure_setup(self.recipe), self.folder / MEASURES_IN, reward)
