"""The command line. A stage is imported when it is asked for, so that `rwml --help` stays quick and without torch.

Every verb that works on a run takes RECIPE: a TOML file, the name of a recipe that ships with rwml, or a run folder.
What a recipe may run and whom it may ask beyond rwml itself is said by --allow-code, --allow-key and --allow-host.
"""

from __future__ import annotations

import functools
import inspect
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

import rwml
from rwml.core.text import printable
from rwml.stages import VERBS, Verb

if TYPE_CHECKING:
    from rwml.core.run import Run

# Read when torch starts its threads: waiting threads that spin take the cores from the ones that work.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

app = typer.Typer(
    name="rwml",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
worlds_app = typer.Typer(
    help="List worlds, their splits and tasks; play one by hand; or check one.", no_args_is_help=False
)
app.add_typer(worlds_app, name="worlds", invoke_without_command=True)

_STAGES = ", ".join(verb.name for verb in VERBS)
RecipeName = Annotated[
    str, typer.Argument(help="A TOML file, the name of a recipe that ships with rwml, or a run folder.")
]
Overrides = Annotated[list[str] | None, typer.Argument(help="Changes to the recipe: key.sub=value ...")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Force = Annotated[bool, typer.Option("--force", help="Run it again even if it is done (later stages too).")]
Words = list[str] | None
WORDS = {
    "allow_code": Annotated[
        Words, typer.Option("--allow-code", help="Code that the recipe may run: module:Name, or the path of a model.")
    ],
    "allow_key": Annotated[
        Words, typer.Option("--allow-key", help="A key and the server that it may be sent to: NAME@HOST.")
    ],
    "allow_host": Annotated[
        Words, typer.Option("--allow-host", help="A server that the recipe may ask without a key: HOST.")
    ],
}
"""Options of every verb that works on a recipe: the user's words (docs/reference/trust.md)."""
Options = Annotated[list[str] | None, typer.Option("--option", "-o", help="An option of the world: key=value.")]


def _say_version(wanted: object) -> None:
    if wanted:
        typer.echo(f"rwml {rwml.__version__}")
        raise typer.Exit


@app.callback()
def _program(
    version: Annotated[bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Print it.")] = False,
) -> None:
    """Reinforcement World Model Learning for language-model agents in text worlds."""


def _say(text: str) -> None:
    """Print a line of results; the names in it come from data, whose control characters a terminal must not obey."""
    typer.echo(printable(text))


@contextmanager
def _errors(*, debug: bool) -> Iterator[None]:
    """Show a user's mistake as a message (exit code 2), and an interrupt as how to continue (130)."""
    from rwml.core.errors import RwmlError

    try:
        yield
    except RwmlError as error:
        if debug:
            raise
        typer.secho(printable(f"error: {error}"), fg=typer.colors.RED, err=True)
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        if debug:
            raise
        again = shlex.join(["rwml", *sys.argv[1:]])
        typer.secho(printable(f"\nstopped; the same command continues from here: {again}"), err=True)
        raise typer.Exit(130) from None


def _with_debug(function: Callable[..., None]) -> Callable[..., None]:
    """The command with an option `--debug`, and with errors shown as messages without it. One that takes a recipe and
    changes to it also takes the user's `WORDS`."""
    hints = get_type_hints(function, include_extras=True)
    words = WORDS if {"recipe", "overrides"} <= hints.keys() else {}

    @functools.wraps(function)
    def command(*arguments: Any, debug: bool = False, **options: Any) -> None:
        with _errors(debug=debug):
            _allow(*(options.pop(name, None) or () for name in words))
            function(*arguments, **options)

    parameters = [p.replace(annotation=hints[p.name]) for p in inspect.signature(function).parameters.values()]
    added = {**words, "debug": Debug}
    for name, hint in added.items():
        default = False if name == "debug" else None
        parameters.append(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hint))
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = hints | added
    return command


def _allow(code: Sequence[str] = (), keys: Sequence[str] = (), hosts: Sequence[str] = ()) -> None:
    """Take the user's words. Code of their own often lies in the current folder, which is searched for it alone: else a
    stranger's folder, once it is entered, could bring modules and entry points along."""
    from rwml.core.guard.trust import allow

    allow(code, keys, hosts)
    if code and str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))


def _named_by_hand(name: str | None) -> None:
    """A `module:Class` on the command line is the user's word for it."""
    _allow([name] if name and ":" in name else ())


def _open(recipe: str, overrides: list[str] | None, *, works: bool = True) -> Run:
    """works: with the recipe's world and models; a report only reads what lies there."""
    from rwml.core.recipe.words_needed import check_words
    from rwml.core.run import Run
    from rwml.stages.pipeline import recipe_named

    chosen = recipe_named(recipe, tuple(overrides or ()))
    if works:
        check_words(chosen)
    return Run.open(chosen)


def _stage_command(verb: Verb) -> Callable[..., None]:
    def command(recipe: RecipeName, overrides: Overrides = None, *, force: Force = False) -> None:
        from rwml.stages.pipeline import run_stage

        run = _open(recipe, overrides, works=verb.stage != "report")
        if force:
            run.invalidate(verb.stage)
        run_stage(run, verb)

    return _with_debug(command)


for _verb in VERBS:
    app.command(_verb.name, help=_verb.help)(_stage_command(_verb))


@app.command("run")
@_with_debug
def run_command(
    recipe: RecipeName,
    overrides: Overrides = None,
    until: Annotated[str | None, typer.Option(help=f"Stop after this stage: {_STAGES}.")] = None,
    force: Annotated[str | None, typer.Option(help=f"Run this stage and all later ones again: {_STAGES}.")] = None,
) -> None:
    """Run all stages of a recipe that are not done yet."""
    from rwml.stages.pipeline import run_all, summary_line

    run = _open(recipe, overrides)
    run_all(run, until, force)
    if run.is_done("evaluate"):
        _say(summary_line(run.folder, run.recipe.name))


@app.command("compare")
@_with_debug
def compare_command(
    recipe: RecipeName,
    overrides: Overrides = None,
    arms: Annotated[str, typer.Option(help="Run only these arms: a,b,... (default: the enabled ones).")] = "",
    seeds: Annotated[str, typer.Option(help="Run only these of the recipe's seeds: 0,1,...")] = "",
    until: Annotated[str | None, typer.Option(help=f"Stop after this stage: {_STAGES}.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Seeds that run at once, a process each.")] = 1,
) -> None:
    """Run every arm of a recipe over every seed, and write the table with intervals. Continues after a stop."""
    from rwml.stages.compare import read_seeds
    from rwml.stages.compare import run as compare
    from rwml.stages.pipeline import recipe_named

    chosen = recipe_named(recipe, tuple(overrides or ()))
    names = [name.strip() for name in arms.split(",") if name.strip()]
    page = compare(chosen, names, read_seeds(seeds), until, jobs)
    if page is not None:
        _say(f"comparison: {page}")


@app.command("import")
@_with_debug
def import_command(
    files: Annotated[list[Path], typer.Argument(help="tau2 simulation files, or JSON lines of chat messages.")],
    out: Annotated[Path, typer.Option(help="Folder for the episodes and transitions.")],
    hold_out: Annotated[float, typer.Option(help="Share of the tasks without a split that become test.")] = 0.0,
    *,
    briefing: Annotated[
        bool, typer.Option(help="Keep tools and policy in the openings; a tiny model needs none.")
    ] = True,
) -> None:
    """Make episodes and transitions of other programs' logs, to train a world model on."""
    from rwml.stages.import_logs import outcome
    from rwml.stages.import_logs import run as import_logs

    _say(outcome(import_logs(files, out, hold_out, briefing=briefing), out))


@app.command("reward-lab")
@_with_debug
def reward_lab_command(recipe: RecipeName, overrides: Overrides = None) -> None:
    """Try the rewards on real next states before any training: what they tell apart, what they pay for nothing."""
    from rwml.reports.reward_page import outcome
    from rwml.stages.pipeline import recipe_named
    from rwml.stages.reward_lab import run as try_rewards

    chosen = recipe_named(recipe, tuple(overrides or ()))
    _say(outcome(try_rewards(chosen), chosen.folder))


@app.command("reward", hidden=True)
@_with_debug
def reward_command(recipe: RecipeName, overrides: Overrides = None) -> None:
    """The old name of `rwml reward-lab`."""
    typer.secho("note: `rwml reward` is called `rwml reward-lab` now", err=True)
    reward_lab_command(recipe, overrides)


@app.command("measure")
@_with_debug
def measure_command(
    recipe: RecipeName,
    overrides: Annotated[list[str] | None, typer.Argument(help=r"Its settings: measure.key=value ...")] = None,
) -> None:
    """Measure a run's checkpoints: imagination, retention, weight change -> measures.json."""
    from rwml.stages.measure import outcome
    from rwml.stages.measure import run as measure
    from rwml.stages.pipeline import folder_named

    _say(outcome(measure(folder_named(recipe), tuple(overrides or ()))))


@app.command()
@_with_debug
def summary(
    recipe: RecipeName,
    label: Annotated[str, typer.Option(help="First word of the line.")] = "run",
    started: Annotated[float | None, typer.Option(help="When it started, in seconds since 1970.")] = None,
) -> None:
    """Print a run's outcome in one line: before -> after [95% interval of the difference], minutes, report."""
    from rwml.stages.pipeline import folder_named, summary_line

    _say(summary_line(folder_named(recipe), label, None if started is None else time.time() - started))


@app.command()
@_with_debug
def tiny(
    out: Annotated[Path, typer.Option(help="Folder for the checkpoint.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="Changes to the settings: key=value ...")] = None,
) -> None:
    """Make the tiny model's weights again (docs/reference/tiny.md)."""
    from rwml.stages.tiny import main as make_tiny

    make_tiny(out, tuple(overrides or ()))


@worlds_app.callback()
@_with_debug
def list_worlds(
    context: typer.Context,
    only: Annotated[str | None, typer.Option(help="Name of one world.")] = None,
    option: Options = None,
) -> None:
    """List worlds, their splits and tasks; play one by hand; or check one."""
    if context.invoked_subcommand is not None:
        return
    from rwml.stages.worlds import parse_options, world_rows

    _named_by_hand(only)
    for world, split, count, kinds in world_rows(only, parse_options(option or [])):
        _say(f"{world:10} {split:14} {count:>6,} tasks   {kinds}")


@worlds_app.command("play")
@_with_debug
def play_world(
    world: Annotated[str, typer.Argument(help="Name of the world.")],
    split: Annotated[str, typer.Option(help="Split of the task.")] = "train",
    task: Annotated[str, typer.Option(help="Number of the task in its split, or a part of its id.")] = "",
    option: Options = None,
) -> None:
    """Play one task by hand: ? lists what is admissible, quit ends."""
    with suppress(ImportError):
        import readline  # noqa: F401  gives `input` line editing and a history

    from rwml.stages.worlds import find_task, parse_options, play
    from rwml.worlds.by_name import get_world

    _named_by_hand(world)
    made = get_world(world, **parse_options(option or []))
    play(made, find_task(made, split, task), input, _say)


@worlds_app.command("check")
@_with_debug
def check_command(
    world: Annotated[str, typer.Argument(help="Name of the world, or module:Class for one of your own.")],
    split: Annotated[list[str] | None, typer.Option(help="Split to play; all of them by default.")] = None,
    policy: Annotated[str, typer.Option(help="Built-in policy that plays; the expert or the first by default.")] = "",
    tasks: Annotated[int, typer.Option(help="Tasks to play of each split.")] = 5,
    option: Options = None,
) -> None:
    """Check a world against the contract of worlds, and print its violations (exit code 1)."""
    from rwml.stages.worlds import check, parse_options

    _named_by_hand(world)
    if not check(world, parse_options(option or []), split or [], policy, tasks, _say):
        raise typer.Exit(1)


def main() -> None:
    """Entry point of the `rwml` command."""
    app()


if __name__ == "__main__":
    main()
