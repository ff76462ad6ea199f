"""House rule 6: inside a stage's block the recipe is read through `stage.recipe`, which has what the stage declared."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import rwml.stages
from rwml.stages import VERBS

STAGES = Path(rwml.stages.__file__).parent


def reads_of_the_whole_recipe(source: str) -> list[int]:
    """Lines of a stage's module that read `run.recipe` where only `stage.recipe` may be read.

    Before its block `run` may read `run.recipe`, to say which files and sections the stage depends on. In the block,
    and in all other functions, neither it nor a variable that holds a part of it may be read.
    """
    lines = []
    for function in ast.parse(source).body:
        if not isinstance(function, ast.FunctionDef):
            continue
        blocks = [node for node in ast.walk(function) if isinstance(node, ast.With) and _opens_a_stage(node)]
        if function.name != "run":
            lines += [node.lineno for node in ast.walk(function) if _is_run_recipe(node)]
            continue
        assert len(blocks) == 1, "one stage, one block"
        inside = [node for statement in blocks[0].body for node in ast.walk(statement)]
        bound_inside = {node.id for node in inside if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
        held = {
            target.id
            for node in ast.walk(function)
            if isinstance(node, ast.Assign) and node not in inside and _holds_recipe(node.value)
            for target in ast.walk(node)
            if isinstance(target, ast.Name) and isinstance(target.ctx, ast.Store)
        } - bound_inside
        lines += [node.lineno for node in inside if _is_run_recipe(node)]
        lines += [node.lineno for node in inside if isinstance(node, ast.Name) and node.id in held]
    return lines


def _opens_a_stage(node: ast.With) -> bool:
    return any(isinstance(item.context_expr, ast.Call) and "run.stage" in ast.unparse(item) for item in node.items)


def _is_run_recipe(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and ast.unparse(node) == "run.recipe"


def _holds_recipe(value: ast.expr) -> bool:
    """Whether a value is `run.recipe` or a section of it, or a tuple with one; a single setting is a decision."""
    parts = value.elts if isinstance(value, ast.Tuple) else [value]
    return any(ast.unparse(part).startswith("run.recipe") and ast.unparse(part).count(".") <= 2 for part in parts)


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb.stage != "report"], ids=lambda verb: verb.name)
def test_a_stage_reads_its_own_view_of_the_recipe(verb: object) -> None:
    source = (STAGES / f"{verb.stage}.py").read_text(encoding="utf-8")  # type: ignore[attr-defined]
    assert reads_of_the_whole_recipe(source) == []


def test_the_rule_sees_what_it_forbids() -> None:
    source = (
        "def run(run):\n"
        "    config, many = run.recipe.filter, run.recipe.filter.num_predictions\n"
        "    with run.stage('filter', sections=['filter']) as stage:\n"
        "        _help(run)\n"
        "        print(run.recipe.seed)\n"
        "        print(config.tau_d)\n"
        "def _help(run):\n"
        "    return run.recipe.world\n"
    )
    assert reads_of_the_whole_recipe(source) == [5, 6, 8]
