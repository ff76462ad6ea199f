"""`rwml run`: the stages of a recipe in order, those that are not done yet."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import rwml
from rwml.core.errors import RwmlError, nearest
from rwml.core.files import damaged
from rwml.core.progress import duration, note
from rwml.core.recipe.recipe import Recipe, load_recipe, recipe_of_run
from rwml.core.records import read_json
from rwml.core.run import CHAIN, Run, read_manifest
from rwml.core.run_folder.recorded import Hashes, check_recorded
from rwml.stages import VERBS, Verb


def find_recipe(name: str) -> Path:
    """A recipe by path, or by the bare name of one that ships with rwml; RwmlError names the nearest one."""
    path = _path(name)
    if path.is_file() or len(path.parts) > 1:
        return path
    shipped = shipped_recipes()
    if path.stem in shipped:
        return shipped[path.stem]
    raise RwmlError(
        f"no recipe '{name}'", "there is no such file, and none of that name ships with rwml", nearest(name, shipped)
    )


def recipe_named(name: str, overrides: tuple[str, ...] = ()) -> Recipe:
    """The recipe that a verb is given, under `key.sub=value` overrides: a TOML file, the name of one that ships with
    rwml, or a run folder, which keeps its recipe; RwmlError for anything else."""
    if (_path(name) / "recipe.json").is_file():
        return recipe_of_run(Path(name)).overridden(overrides)
    if (Path(name) / "compare.json").is_file():
        raise RwmlError(
            f"'{name}' is the folder of a comparison",
            "it keeps a run folder for each arm and seed, s<seed>/<arm>, and no recipe of its own",
            "give the recipe file, or one of the run folders",
        )
    return load_recipe(find_recipe(name), overrides)


def _path(name: str) -> Path:
    """A name as a path; RwmlError if the system takes no such path."""
    path = Path(name)
    try:
        (path / "recipe.json").exists()
    except OSError as error:
        raise RwmlError(
            f"'{name[:60]}...' cannot be a path: {error.strerror}",
            "a recipe is a file, a run is a folder, or it is a name",
            "give the path of a recipe or of a run folder",
        ) from None
    return path


def folder_named(name: str) -> Path:
    """The run folder that a verb is given: itself, or that of a recipe (see `recipe_named`)."""
    path = _path(name)
    if path.is_dir() or (len(path.parts) > 1 and not path.is_file()):
        return path
    return recipe_named(name).folder


def shipped_recipes() -> dict[str, Path]:
    """Recipes that come with rwml, by name: inside the wheel, or in the checkout that is installed in place."""
    package = Path(rwml.__file__).parent
    folders = (package.parents[1] / "recipes", package / "_recipes")
    return {path.stem: path for folder in folders for path in sorted(folder.glob("*.toml"))}


def stage_named(name: str) -> str:
    """The stage that `train-wm` or `train_wm` means; RwmlError names the nearest one."""
    stage = name.replace("-", "_")
    if stage not in CHAIN:
        raise RwmlError(f"there is no stage '{name}'", "nothing would run", nearest(name, [v.name for v in VERBS]))
    return stage


def run_stage(run: Run, verb: Verb) -> None:
    """Run one stage unless it is done, and say so in one line before and after."""
    place = f"[{VERBS.index(verb) + 1}/{len(VERBS)}] {verb.name}"
    if run.is_done(verb.stage):
        note(f"{place}: done already")
        return
    state = run.state(verb.stage)
    reasons = {
        "running": "it was cut off",
        "failed": "it failed before",
        "stale": "again",
        "done": "its files are gone",
    }
    note(f"{place}: {reasons[state]}" if state in reasons else place)
    if verb.stage != "report":  # a report is written where the world is not installed
        from rwml.loading import check_names

        check_names(run.recipe)
    import_module(verb.module).run(run)
    record = run.summary()[verb.stage]
    note(f"{place}: done in {duration(record['seconds'])}, peak memory {record['peak_rss_mb']:,} MB")


def run_all(run: Run, until: str | None = None, force: str | None = None) -> None:
    """Run the unfinished stages up to and including `until`; `force` runs a stage and all later ones again."""
    last = stage_named(until) if until else CHAIN[-1]
    if force:
        run.invalidate(stage_named(force))
    for verb in VERBS:
        run_stage(run, verb)
        if verb.stage == last:
            return


def summary_line(folder: Path, label: str, seconds: float | None = None) -> str:
    """The run's outcome in one line: before -> after on held-out games, and the 95% interval of the difference.

    seconds: time of the whole run; None = the sum over its stages.
    """
    stages = read_manifest(folder)["stages"]
    check_recorded(folder, stages, [folder / "eval.json"], Hashes())
    figures, parts = read_json(folder / "eval.json"), []
    try:
        for key in ("world_model", "success"):
            measured = figures["summary"][key]
            if measured is None:
                parts.append(f"{key} not measured")
                continue
            before, after, (low, high) = (measured[name] for name in ("before", "after", "interval"))
            parts.append(f"{key} {_share(before)} -> {_share(after)} [{_share(low)}, {_share(high)}]")
    except (LookupError, TypeError, ValueError):
        fix = "run the stage that writes it again: `rwml evaluate RECIPE --force`"
        raise damaged(folder / "eval.json", "it holds no summary of an evaluation", fix) from None
    if seconds is None:
        seconds = sum(stage["seconds"] for stage in stages.values())
    page = folder / "report.html"
    return f"{label}: {'; '.join(parts)}; {seconds / 60:.1f} min; {page if page.is_file() else folder}"


def _share(value: float | None) -> str:
    return "nan" if value is None else f"{round(value, 2) + 0.0:.2f}"  # + 0.0: no minus before a zero
