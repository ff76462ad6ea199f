"""What every test needs before torch is imported: quiet threads, no network, no display."""

from __future__ import annotations

import fcntl
import json
import os
import sys
import tarfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from rwml.core.recipe.recipe import Recipe
    from rwml.core.types import Transition
    from rwml.models.language_model import LanguageModel
    from rwml.worlds.base import World

# Before torch starts its thread pool; the tests' models are so small that a second thread costs more than it gives.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("MPLBACKEND", "Agg")
# What the person who runs the tests allows recipes is no part of them.
os.environ["XDG_CONFIG_HOME"] = "/nonexistent"


# Data that are too large for the repository lie in a folder beside it, or where a variable says.
BESIDE = Path(__file__).parents[2] / "shared" / "tau2"


def unpacked(variable: str, archive: Path, what: str, folder: Path) -> Path:
    """The folder that the environment variable names, else the archive unpacked into `folder`; skips without both."""
    if os.environ.get(variable):
        named = Path(os.environ[variable])
        assert named.is_dir(), f"{variable}={named} is not a folder"
        return named
    if not archive.is_file():
        pytest.skip(f"no {what}: set {variable} to their folder, or put {archive.name} at ../shared/tau2/")
    with tarfile.open(archive) as opened:
        opened.extractall(folder, filter="data")
    return folder


@pytest.fixture(scope="session")
def tau2_simulations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with five tau2-bench simulation files of real agents (180 simulations)."""
    archive, folder = BESIDE / "simulations.tar.xz", tmp_path_factory.mktemp("tau2")
    root = unpacked("RWML_TAU2_SIMULATIONS", archive, "simulations of tau2-bench", folder)
    (files,) = {path.parent for path in root.rglob("*.json")}
    return files


@pytest.fixture(scope="session")
def tau2_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The official tau2-bench data, as TAU2_DATA_DIR names it: a folder with tau2/domains in it."""
    archive, folder = BESIDE / "data.tar.xz", tmp_path_factory.mktemp("tau2_data")
    return unpacked("TAU2_DATA_DIR", archive, "official data of tau2-bench", folder)


@pytest.fixture(scope="session")
def tau2_official(tau2_data: Path) -> Path:
    """The official data, named by TAU2_DATA_DIR, where the official package is installed; skips where it is not."""
    from rwml.worlds.tau2.package import available

    # The official package reads the variable when it is imported, which happens once per process.
    os.environ["TAU2_DATA_DIR"] = str(tau2_data)
    reason = available()
    if reason:
        pytest.skip(reason)
    return tau2_data


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a tiny model after a few steps: its answers parse now and then, and are mostly wrong."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder = shared / "small_model"
    with (shared / "small_model.lock").open("w") as lock:  # workers share one, which the first of them makes
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            _make_model(folder)
    return folder


def _make_model(folder: Path) -> None:
    from rwml.models.language_model import save_language_model
    from rwml.models.tiny import TinyShape, new_language_model
    from rwml.stages.tiny import TinyConfig, fit, texts_for_tokenizer

    config = TinyConfig(
        steps=80,
        episodes_per_step=4,
        sizes=("tiny",),
        max_steps=4,
        noise=(0.5, 0.9),
        slips=0.05,
        question_share=1.0,
        questions=4,
        action_weight=1.0,
        observation_weight=0.3,
        question_weight=1.0,
        learning_rate=5e-3,
        warmup_steps=5,
        num_scenes=12,
        autocast=False,
    )
    shape = TinyShape(vocab=600, hidden=64, intermediate=128, layers=2, heads=2, key_value_heads=2)
    lm = new_language_model(texts_for_tokenizer(config, 40), shape, seed=0)
    for _ in fit(lm, config):
        pass
    save_language_model(lm, folder)


REGISTRIES = {
    "rwml.core.recipe.reward_names": "REWARDS",
    "rwml.playing.policies": "POLICIES",
    "rwml.models.sampling.sampler": "SAMPLERS",
    "rwml.world_models.world_model": "WORLD_MODELS",
    "rwml.worlds.by_name": "WORLDS",
}


@pytest.fixture(autouse=True)
def registered_for_one_test() -> Iterator[None]:
    """What a test registers is gone after it; built-in entries stay, for their modules are imported once."""
    before = {module: set(getattr(sys.modules[module], name)._entries) for module, name in _registries()}
    yield
    for module, name in _registries():
        registry = getattr(sys.modules[module], name)
        for entry in set(registry._entries) - before.get(module, set()) - set(registry._modules):
            del registry._entries[entry]


@pytest.fixture(autouse=True)
def words_for_one_test() -> Iterator[None]:
    """What a test allows recipes is forgotten after it."""
    yield
    if "rwml.core.guard.trust" in sys.modules:
        sys.modules["rwml.core.guard.trust"].forget_words()


def _registries() -> list[tuple[str, str]]:
    return [(module, name) for module, name in REGISTRIES.items() if module in sys.modules]


@pytest.fixture
def install(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`install(name, source, entry_points)` makes a module importable, as an installed distribution, for one test."""

    def install_in_folder(name: str, source: str, entry_points: str = "") -> None:
        folder = tmp_path_factory.mktemp(name)
        (folder / f"{name}.py").write_text(source)
        info = folder / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(entry_points)
        monkeypatch.syspath_prepend(str(folder))
        monkeypatch.delitem(sys.modules, name, raising=False)

    return install_in_folder


@pytest.fixture
def run_before_nouns(tmp_path: Path) -> Path:
    """The run folder of `data/run_before_nouns.tar.xz` (tests/core/recipe/test_older.py says how it was made)."""
    with tarfile.open(Path(__file__).parent / "data" / "run_before_nouns.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path / "run"


@pytest.fixture(scope="session")
def world() -> World:
    """Small scenes to play in."""
    from rwml.worlds.by_name import get_world

    return get_world("alfworld", size="tiny", num_train=8, num_valid_seen=2, num_valid_unseen=2, num_scenes=12)


@pytest.fixture
def lm(model_folder: Path) -> LanguageModel:
    """The small model that answers badly; a fresh copy each time, for some tests train it."""
    from rwml.models.language_model import load_language_model

    return load_language_model(model_folder, device="cpu")


@pytest.fixture(scope="session")
def rows(world: World) -> list[Transition]:
    """The transitions of three noisy episodes of at most five steps, in order."""
    from rwml.playing.rollout import play_built_in, seats_for
    from rwml.worlds.transitions import transitions_of

    episodes = play_built_in(world, seats_for(world.tasks("train")[:3], 1, seed=0), "noisy", 5)
    return [row for episode in episodes for row in transitions_of(episode, world, "train")]


@pytest.fixture(scope="session")
def mini(model_folder: Path) -> Callable[..., Recipe]:
    """`mini(folder, train_wm={...})` is the small recipe in a run folder, with changes to its sections."""

    from made import MINI
    from rwml.core.recipe.recipe import parse_recipe

    def make(folder: Path, **changes: dict[str, Any]) -> Recipe:
        data = {key: dict(value) if isinstance(value, dict) else value for key, value in MINI.items()}
        data["model"]["path"] = str(model_folder)
        for section, values in changes.items():
            data[section] = {**data.get(section, {}), **values}
        return parse_recipe({**data, "out": str(folder)})

    return make


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """List what was skipped by its reason, with a count: a run that leaves out a part says so at its end."""
    reports = terminalreporter.getreports("skipped")
    if reports:
        reasons = Counter(str(report.longrepr[2]).removeprefix("Skipped: ") for report in reports)
        terminalreporter.section(f"skipped: {len(reports)}")
        for reason, count in reasons.most_common():
            terminalreporter.write_line(f"{count:4} x {reason}")


class ChatServer:
    """A server on loopback that speaks the protocol of chat completions, and what it was asked.

    answer: from the messages of a request to the assistant's text, or to the HTTP status of a refusal. Its tokens are
    words; an answer of more than were allowed is marked as cut off.
    """

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.answer: Callable[[list[dict[str, str]]], str | int] = lambda messages: messages[-1]["content"]
        self.url = ""


@pytest.fixture
def chat_server() -> Iterator[ChatServer]:
    """A running server; set its `answer` before it is asked."""
    state = ChatServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            state.asked.append(asked)
            said = state.answer(asked["messages"])
            words, read = (len(str(text).split()) for text in (said, asked["messages"][-1]["content"]))
            finish = "length" if words > asked["max_tokens"] else "stop"
            choice = {"message": {"role": "assistant", "content": said}, "finish_reason": finish}
            usage = {"prompt_tokens": read, "completion_tokens": words}
            answered = {"choices": [choice] * asked["n"], "usage": usage}
            body = answered if isinstance(said, str) else {"error": "refused"}
            data = json.dumps(body).encode()
            self.send_response(200 if isinstance(said, str) else said)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args: Any) -> None:
            """Keep the test output quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        state.url = f"http://127.0.0.1:{server.server_port}/v1"
        yield state
        server.shutdown()
        thread.join()
