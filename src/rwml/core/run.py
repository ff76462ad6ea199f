"""A run: its folder, its recipe, and what became of each stage (`manifest.json`)."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import rwml
from rwml.core.errors import RwmlError, nearest
from rwml.core.files import json_bytes, link, refuse_gone, remove, sweep, write_json
from rwml.core.guard.shown import without_secrets
from rwml.core.machine import peak_memory_mb, reset_peak_memory, versions
from rwml.core.progress import on_advance
from rwml.core.recipe.declared import declared, settings_hash
from rwml.core.recipe.recipe import Recipe
from rwml.core.records import MetricsLog
from rwml.core.run_folder.claim import claim
from rwml.core.run_folder.manifest import CHAIN, OUTPUTS, RUN, WRITTEN, read_manifest, write_manifest
from rwml.core.run_folder.recorded import Hashes, check_recorded, recorded

TRAINED = {"world_model": ("train_wm", "world_model"), "policy": ("train_policy", "policy")}
"""arm: the stage that trains it, and the folder of the run that its checkpoint `final` lies in."""
NOTE_EVERY_S = 5.0


@dataclass
class Stage:
    """A running stage, with what its parts need of the run.

    resumed: an earlier attempt with the same settings and inputs was cut off and left its files. recipe: what the stage
    declared of it; reading another setting raises AssertionError. folder, metrics: of the run. counts: what the report
    shows. Set them from the data: a resumed stage must count nothing twice.
    """

    name: str
    resumed: bool
    recipe: Recipe
    folder: Path
    metrics: MetricsLog
    counts: dict[str, Any] = field(default_factory=dict)

    @property
    def cache_folder(self) -> Path:
        """See `Run.cache_folder`."""
        return self.folder / "cache"


class Run:
    """A run folder that is open. Make it with `Run.open`; `recipe`, `folder` and `metrics` are its parts."""

    def __init__(self, recipe: Recipe, folder: Path, manifest: dict[str, Any]) -> None:
        self.recipe, self.folder = recipe, folder
        self.metrics = MetricsLog(folder / "metrics.jsonl")
        self._manifest = manifest

    @classmethod
    def open(cls, recipe: Recipe, say: Callable[[str], None] | None = None) -> Run:
        """Create or reopen the recipe's folder, clear what a killed process left, and mark what is stale.

        A stage is stale when a section that it declared changed since it ran; it and all later ones run again. say:
        receives a line about that (default: prints it on stderr). Raises RwmlError if a newer rwml wrote the folder, if
        rwml did not make it and it is not empty, or if another process works in it.
        """
        say = say or (lambda text: print(text, file=sys.stderr))
        folder = recipe.folder
        claim(folder)
        manifest = read_manifest(folder)
        sweep(folder, WRITTEN[RUN])
        run = cls(recipe, folder, manifest)
        run.metrics.mend()
        changed, stale = run._mark_changed()
        if changed:
            say(
                f"{folder}: the recipe's settings for {', '.join(changed)} changed since the last run; "
                f"these run again: {', '.join(stale)}"
            )
        run._keep_recipe()
        return run

    @classmethod
    def peek(cls, recipe: Recipe) -> Run:
        """The recipe's folder read-only, without a lock; nothing on disk changes.

        Stages that `open` would mark as stale count as not done. Raises RwmlError for a folder written by a newer rwml.
        """
        run = cls(recipe, recipe.folder, read_manifest(recipe.folder))
        run._mark_changed()
        return run

    @property
    def cache_folder(self) -> Path:
        """For what can be computed again at any time; no stage's outcome depends on it."""
        return self.folder / "cache"

    def state(self, name: str) -> str:
        """`new`, `running` (or cut off), `failed`, `stale` or `done`."""
        return str(self._record(name).get("state", "new"))

    def is_done(self, name: str) -> bool:
        """Whether a stage is done with the present settings and its outputs are still there."""
        outputs = self._record(name).get("outputs", {})
        return self.state(name) == "done" and all((self.folder / output).exists() for output in outputs)

    def check(self, *paths: str | Path) -> None:
        """RwmlError if what a stage wrote is not what it was when the stage ended. paths: what is to be read, as in
        `stage`; a part of what a stage wrote asks for all of that."""
        self._check(paths, Hashes())

    def invalidate(self, name: str) -> list[str]:
        """Mark a stage and every later one as stale: they run again. Returns those that had run."""
        if name not in CHAIN:
            raise RwmlError(f"there is no stage '{name}'", "nothing would run", nearest(name, CHAIN))
        had_run = self._mark_stale(CHAIN[CHAIN.index(name) :])
        self._save()
        return had_run

    def summary(self) -> dict[str, dict[str, Any]]:
        """The manifest's stages in order: state, counts, seconds, peak_rss_mb, versions, and so on."""
        return {name: dict(self._manifest["stages"][name]) for name in CHAIN if name in self._manifest["stages"]}

    @contextlib.contextmanager
    def stage(self, name: str, reads: Sequence[str | Path] = (), sections: Sequence[str] = ()) -> Iterator[Stage]:
        """Run a stage: `running` -> `done`, or `failed` with the message when the block raises.

        reads: files or folders in the run folder (with or without it in front), or absolute. sections: the parts of
        the recipe on which the outcome depends, or single settings as `section.key` (the seed always counts); the
        block reads the recipe through `stage.recipe`, which has these alone. An attempt that was cut off is resumed
        if these, the inputs and the rwml version are the same; else the stage's `OUTPUTS` and its metrics are cleared
        first. Seconds are those of all attempts; they and the memory are noted while bars advance, so that a kill does
        not lose them. Later stages are stale from then on. Raises RwmlError for an input that does not exist, for one
        that is not as its stage wrote it (`check`), and if the folder is removed meanwhile.
        """
        assert name in CHAIN, name
        view = declared(self.recipe, name, sections)
        record, resumed = self._begin(name, reads, sections)
        before, started = float(record["seconds"]), time.monotonic()
        noted = started

        def note() -> None:
            nonlocal noted
            noted = time.monotonic()
            record["counts"] = dict(stage.counts)
            record["seconds"] = round(before + noted - started, 3)
            record["peak_rss_mb"] = max(record["peak_rss_mb"], peak_memory_mb())
            record["versions"] = versions()
            self._save()

        def note_now_and_then() -> None:
            if time.monotonic() - noted >= NOTE_EVERY_S:
                note()

        stage = Stage(name, resumed, view, self.folder, self.metrics)
        reset_peak_memory()
        try:
            with on_advance(note_now_and_then):
                yield stage
            refuse_gone(self.folder)
            artefact = self.folder / OUTPUTS[name][0]
            assert artefact.exists(), f"{name} did not write {artefact}"
            record |= recorded(self.folder, [o for o in OUTPUTS[name] if (self.folder / o).exists()], name)
        except BaseException as error:
            if isinstance(error, Exception):
                refuse_gone(self.folder)
            if isinstance(error, Exception):
                record["state"], record["error"] = "failed", without_secrets(str(error)) or type(error).__name__
            with contextlib.suppress(RwmlError):  # a full disk: the error that brought us here says so
                note()
            raise
        record["state"] = "done"
        note()

    def would_repeat(self, record: dict[str, Any]) -> bool:
        """Whether a stage of another folder (its record) is done and did what this run would do here: the same rwml
        version, settings, seed and inputs."""
        if record.get("state") != "done" or record["rwml"] != rwml.__version__:
            return False
        if record["config_hash"] != self._config_hash(record["sections"]):
            return False
        reads = record["inputs"]
        return all(self._inside(path).exists() for path in reads) and self._hashes(list(reads)) == reads

    def take_over(self, name: str, origin: Path, record: dict[str, Any]) -> None:
        """Make a stage that is done in the run folder `origin` done here: its outputs are linked, its record and its
        lines of metrics copied. Killed in the middle, the stage is stale. Later stages are stale from then on."""
        self._mark_stale(CHAIN[CHAIN.index(name) + 1 :])
        taken = record | {"adopted_from": os.path.relpath(origin, self.folder)}
        self._clear(name, taken)
        for output in record["outputs"]:
            link(origin / output, self.folder / output)
        for row in MetricsLog(origin / "metrics.jsonl").read():
            if row.get("stage") == name:
                self.metrics.append(row)
        self._manifest["stages"][name] = taken
        self._save()

    def _begin(self, name: str, reads: Sequence[str | Path], sections: Sequence[str]) -> tuple[dict[str, Any], bool]:
        for path in map(self._inside, reads):
            if not path.exists():
                raise RwmlError(
                    f"'{path}' does not exist",
                    f"the stage {name} reads it",
                    "run the stage that writes it first; `rwml run RECIPE` runs all that are not done",
                )
        if name != "report":  # the report shows any file, with the state of its stage
            self._refuse_unfinished(name, reads)
        hashes = Hashes()
        self._check(reads, hashes)
        same = {
            "rwml": rwml.__version__,
            "sections": list(sections),
            "config_hash": self._config_hash(sections),
            "inputs": self._hashes(reads, hashes),
        }
        old = self._record(name)
        resumed = old.get("state") in ("running", "failed") and all(old.get(k) == v for k, v in same.items())
        self._mark_stale(CHAIN[CHAIN.index(name) + 1 :])
        record: dict[str, Any] = same | {
            "state": "running",
            "outputs": {},
            "files": {},
            "seed": self.recipe.seed,
            "counts": {},
            "seconds": old["seconds"] if resumed else 0.0,
            "peak_rss_mb": old["peak_rss_mb"] if resumed else 0,
            "attempts": old["attempts"] + 1 if resumed else 1,
            "error": "",
        }
        if not resumed:
            self._clear(name, record)
        self._manifest["stages"][name] = record
        self._save()
        return record, resumed

    def _refuse_unfinished(self, name: str, reads: Sequence[str | Path]) -> None:
        inside = [
            path.relative_to(self.folder) for path in map(self._inside, reads) if path.is_relative_to(self.folder)
        ]
        for stage, record in self._manifest["stages"].items():
            written = [path for path in inside if path.parts[0] in OUTPUTS[stage]]
            if written and stage != name and record["state"] != "done":
                raise RwmlError(
                    f"the stage {name} reads '{written[0]}', and {stage}, which writes it, is {record['state']}",
                    "the file is not what this recipe makes",
                    "run that stage first; `rwml run RECIPE` runs all that are not done",
                )

    def _clear(self, name: str, record: dict[str, Any]) -> None:
        # Marked stale before anything goes: killed in the middle, the next start clears the rest.
        self._manifest["stages"][name] = record | {"state": "stale", "outputs": {}}
        self._save()
        for output in OUTPUTS[name]:
            remove(self.folder / output)
        self.metrics.rewind(name, -1)

    def _mark_changed(self) -> tuple[list[str], list[str]]:
        """Stages that ran under other settings, and those that are marked stale for it, later ones included."""
        changed = [name for name in CHAIN if self._changed(name)]
        return changed, self._mark_stale(CHAIN[CHAIN.index(changed[0]) :]) if changed else []

    def _mark_stale(self, names: Sequence[str]) -> list[str]:
        had_run = [name for name in names if name in self._manifest["stages"]]
        for name in had_run:
            self._manifest["stages"][name]["state"] = "stale"
        return had_run

    def _record(self, name: str) -> dict[str, Any]:
        return dict(self._manifest["stages"].get(name, {}))

    def _changed(self, name: str) -> bool:
        record = self._record(name)
        return record.get("state") == "done" and record["config_hash"] != self._config_hash(record["sections"])

    def _config_hash(self, sections: Sequence[str]) -> str:
        return settings_hash(self.recipe, sections)

    def _inside(self, path: str | Path) -> Path:
        path = Path(path)
        return path if path.is_absolute() or path.is_relative_to(self.folder) else self.folder / path

    def _hashes(self, paths: Sequence[str | Path], known: Hashes | None = None) -> dict[str, str]:
        known, hashes = known or Hashes(), {}
        for path in map(self._inside, paths):
            name = path.relative_to(self.folder) if path.is_relative_to(self.folder) else path
            hashes[name.as_posix()] = known.of(path)
        return hashes

    def _check(self, paths: Sequence[str | Path], hashes: Hashes) -> None:
        check_recorded(self.folder, self._manifest["stages"], map(self._inside, paths), hashes)

    def _keep_recipe(self) -> None:
        """Write recipe.json. The manifest knows its hash, and while it is written that of the one before as well."""
        data = self.recipe.model_dump(mode="json")
        before, now = self._manifest.get("recipes", []), hashlib.sha256(json_bytes(data)).hexdigest()
        self._manifest["recipes"] = sorted({*before, now})
        self._save()
        write_json(self.folder / "recipe.json", data)
        if before != [now]:
            self._manifest["recipes"] = [now]
            self._save()

    def _save(self) -> None:
        write_manifest(self.folder, self._manifest)


def adopt(run: Run, name: str, folders: Sequence[Path]) -> Path | None:
    """Take a stage over from another run folder; returns that folder, or None. The first folder qualifies that did the
    stage under the same rwml version, settings, seed and inputs, and whose outputs are unchanged.

    Hashes of the inputs are compared, never the names of the arms: what is shared follows from the files alone.
    """
    for folder in folders:
        if folder.resolve() == run.folder.resolve() or not folder.is_dir():
            continue
        record = read_manifest(folder)["stages"].get(name)
        if record and run.would_repeat(record) and _whole(folder, record["outputs"]):
            run.take_over(name, folder, record)
            return folder
    return None


def _whole(folder: Path, outputs: dict[str, str]) -> bool:
    hashes = Hashes()
    return all((folder / name).exists() and hashes.of(folder / name) == expected for name, expected in outputs.items())
