"""`manifest.json`: what a folder of rwml holds, and what became of each stage of a run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import rwml
from rwml.core.errors import RwmlError
from rwml.core.files import Json, damaged, read_json, read_sealed, write_sealed
from rwml.core.recipe.declared import raw_settings_hash, settings_hash
from rwml.core.recipe.recipe import parse_recipe

# The stages in order, and what each may leave in the run folder; it leaves those that it needed.
OUTPUTS = {
    "collect": ("episodes",),
    "transitions": ("transitions.parquet",),
    "filter": ("filtered.parquet", "filter.json", "predictor"),
    "train_wm": ("world_model",),
    "train_policy": ("policy",),
    "evaluate": ("eval.json", "evaluation"),
    "report": ("report.html", "report.png"),
}
CHAIN = tuple(OUTPUTS)
FORMAT = 2
MANIFEST = "manifest.json"
RUN, IMPORT, MODEL = "run", "import", "model"
"""What a folder can hold: a run or a comparison of runs, imported episodes, or the tiny model."""

_BESIDE = "cache measures measures.json metrics.jsonl recipe.json reward_lab.json reward_lab.md reward_lab.png"
_COMPARED = "compare.json compare.md compare.csv compare.tex compare.html compare.png"
WRITTEN = {
    RUN: {MANIFEST, *_BESIDE.split(), *_COMPARED.split(), *(name for names in OUTPUTS.values() for name in names)},
    IMPORT: {MANIFEST, "episodes", "transitions.parquet", "import.json", "rejected.jsonl"},
}
"""{what a folder holds: the names in it that rwml writes}."""

_STATES = ("running", "failed", "stale", "done")
_TYPES: dict[str, type | tuple[type, ...]] = {
    "rwml": str,
    "sections": list,
    "config_hash": str,
    "inputs": dict,
    "outputs": dict,
    "seed": int,
    "counts": dict,
    "seconds": (int, float),
    "peak_rss_mb": (int, float),
    "attempts": int,
    "error": str,
}
_LOST = (
    "put back a copy of it, or move the folder away and run the recipe again; "
    "without it nothing says which files of the folder are whole"
)


def new_manifest(holds: str = RUN) -> Json:
    """The manifest of a folder in which nothing was done yet. holds: `RUN`, `IMPORT` or `MODEL`."""
    return {"format": FORMAT, "rwml": rwml.__version__, "holds": holds, "stages": {}}


def write_manifest(folder: Path, manifest: Json) -> None:
    """Write it, with its checksum."""
    write_sealed(folder / MANIFEST, manifest)


def read_manifest(folder: str | Path) -> Json:
    """The manifest of a folder; an empty one if it has none.

    A manifest of an older format is converted to today's. Raises RwmlError if a newer rwml wrote it, if it is damaged,
    and if another program wrote it.
    """
    path = Path(folder) / MANIFEST
    if not path.exists():
        return new_manifest()
    manifest = _known(path)
    stages: Json = dict(manifest["stages"])
    for name, record in stages.items():
        fault = _fault(name, record)
        if fault:
            raise damaged(path, f"the stage {name}: {fault}", _LOST)
    if manifest["format"] < FORMAT:
        _renew_hashes(stages, Path(folder) / "recipe.json")
    holds = manifest.get("holds", RUN)
    return manifest | {"format": FORMAT, "rwml": rwml.__version__, "holds": holds, "stages": stages}


def _known(path: Path) -> Json:
    try:
        manifest = read_json(path)
    except RwmlError as error:
        raise damaged(path, error.what, _LOST) from None
    ours = isinstance(manifest, dict) and isinstance(manifest.get("rwml"), str)
    if not ours or not isinstance(manifest.get("stages"), dict) or not isinstance(manifest.get("format"), int):
        raise RwmlError(
            f"'{path}' is not a manifest of rwml",
            "another program wrote it, or it is damaged; the files beside it may be anybody's, and are left alone",
            "set `out` to another folder",
        )
    written, ours_is = manifest["rwml"], rwml.__version__
    if manifest["format"] > FORMAT or _numbers(written) > _numbers(ours_is):
        raise RwmlError(
            f"the run folder '{path.parent}' was written by a newer rwml ({written}; this one is {ours_is})",
            "its files may mean something else than they do here",
            f"upgrade rwml to {written} or later, or set `out` to another folder",
        )
    return read_sealed(path, _LOST)


def _fault(name: str, record: Any) -> str:
    """What is wrong with a stage's record; "" if nothing is."""
    if name not in CHAIN or not isinstance(record, dict):
        return "there is no such stage"
    for key, kind in _TYPES.items():
        if key in record and not isinstance(record[key], kind):
            return f"its {key} is {record[key]!r}"
    if "state" in record:
        missing = [key for key in _TYPES if key not in record]
        if missing or record["state"] not in _STATES:
            return f"it has no {missing[0]}" if missing else f"its state is {record['state']!r}"
        strange = [output for output in record["outputs"] if output not in OUTPUTS[name]]
        return f"it does not write '{strange[0]}'" if strange else ""
    return ""


def _renew_hashes(stages: dict[str, dict[str, Any]], recipe_json: Path) -> None:
    """Give stages of format 1 today's hash of the settings that they ran under, in place.

    Those settings are in the `recipe.json` of the folder. A stage that ran under other settings, or under a recipe that
    the present sections cannot read, keeps its old hash. That hash matches no present recipe, so the stage runs again.
    """
    if not recipe_json.is_file():
        return
    data = read_json(recipe_json)
    try:
        recipe = parse_recipe(data, str(recipe_json))
    except RwmlError:
        return
    for record in stages.values():
        if record["config_hash"] == raw_settings_hash(data, record["sections"]):
            record["config_hash"] = settings_hash(recipe, record["sections"])


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number[:9]) for number in re.findall(r"\d+", version.split("+")[0])[:3])
