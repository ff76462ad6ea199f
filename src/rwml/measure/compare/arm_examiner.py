"""Examines the arms of a comparison under one seed. Finished parts are not repeated."""

from __future__ import annotations

from functools import cached_property

from rwml.core.files import Json, link, read_sealed, remove, sweep, write_sealed
from rwml.core.progress import note, progress
from rwml.core.recipe.compare import ArmConfig
from rwml.core.recipe.recipe import Recipe
from rwml.core.run import Run
from rwml.measure.compare.arm_evaluations import MEASURES_IN, ArmEvaluations
from rwml.measure.compare.open_arms import open_arm
from rwml.measure.compare.setups import examinee_of
from rwml.measure.examiner import Examiner, HeldOut, held_out
from rwml.measure.weight_change import measure_weight_change


class ArmExaminer(ArmEvaluations):
    """The one process that fills s<seed>/evaluation/ (`ArmEvaluations` reads it): the same questions and games for the
    final checkpoint of every arm.

    What was examined under another version, recipe or checkpoint is examined again.
    """

    def __init__(self, recipe: Recipe, seed: int) -> None:
        super().__init__(recipe, seed)
        self.base = open_arm(recipe, recipe.compare.arm(recipe.compare.base), seed)
        sweep(self.folder)

    @cached_property
    def items(self) -> HeldOut:
        """The held-out questions and games; those cut under another recipe, and all answers to them, are removed."""
        note_path = self.folder / "questions.json"
        if not note_path.exists() or read_sealed(note_path) != self.questions():
            for path in self.folder.glob("*"):
                if path.name != MEASURES_IN:  # whose names say what they were made under
                    remove(path)
            write_sealed(note_path, self.questions())
        return held_out(self.setup, self.folder, draw=self.whole.seed)

    def examine(self, arm: ArmConfig, run: Run) -> None:
        """Ask and play the arm's final checkpoint, unless that was done."""
        items, key = self.items, self.key(arm, run)
        folder = self.folder / arm.name
        if self.noted(arm.name).get("key") != key:
            remove(folder)
        if self.noted(arm.name).get("done"):
            return
        same = self._examined_as(key)
        if same:
            link(self.folder / same, folder)
            note(f"evaluate: the same checkpoint as in {same}")
            return
        write_sealed(folder / "examined.json", {"key": key, "done": False})
        total = sum(items.sizes) * len(self.recipe.evaluate.seeds)
        path = run.folder / arm.final if arm.final else None
        with progress(f"evaluate {arm.name}", total=total, unit="item") as bar:
            Examiner(self.setup, items, self.reward, bar).examine(examinee_of(self.recipe, arm.name, path), folder)
        done: Json = {"key": key, "done": True}
        if path:
            done["weight_change"] = measure_weight_change(self.recipe.model.path, path)
        write_sealed(folder / "examined.json", done)

    def take_measures(self, arm: ArmConfig, run: Run) -> None:
        """Measure what of `compare.measures` was not measured of the arm's final checkpoint."""
        names = self.whole.compare.measures
        if not names:
            return
        kept = self.kept_measures(arm, run)
        missing = [name for name in names if not kept.path(name).exists()]
        if not missing:
            return
        done = len(names) - len(missing)
        with progress(f"measure {arm.name}", total=len(names), done=done, unit="measure") as bar:
            for name in missing:
                kept.measure(name)
                bar.advance()

    def _examined_as(self, key: Json) -> str:
        """The arm whose examination has this key and is done; "" if no arm's is."""
        for path in sorted(self.folder.glob("*/examined.json")):
            noted = self.noted(path.parent.name)
            if noted.get("key") == key and noted["done"]:
                return path.parent.name
        return ""
