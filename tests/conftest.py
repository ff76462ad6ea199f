"""What every test needs before torch is imported: quiet threads, no network, no display."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import pytest

# Before torch starts its thread pool; the tests' models are so small that a second thread costs more than it gives.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("MPLBACKEND", "Agg")


SIMULATIONS = Path(__file__).parents[2] / "shared" / "tau2" / "simulations.tar.xz"


@pytest.fixture(scope="session")
def tau2_simulations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with five tau2-bench simulation files of real agents (180 simulations)."""
    if not SIMULATIONS.is_file():
        pytest.skip(f"no real tau2-bench simulations: {SIMULATIONS.name} is not beside the repository")
    folder = tmp_path_factory.mktemp("tau2")
    with tarfile.open(SIMULATIONS) as archive:
        archive.extractall(folder, filter="data")
    (unpacked,) = {path.parent for path in folder.rglob("*.json")}
    return unpacked


@pytest.fixture(scope="session")
def tau2_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The official tau2-bench data, as TAU2_DATA_DIR names it: a folder with tau2/domains in it."""
    archive = SIMULATIONS.with_name("data.tar.xz")
    if not archive.is_file():
        pytest.skip(f"no official tau2-bench data: {archive.name} is not beside the repository")
    folder = tmp_path_factory.mktemp("tau2_data")
    with tarfile.open(archive) as opened:
        opened.extractall(folder, filter="data")
    return folder


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
def mind_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a tiny model after a few steps: its answers parse now and then, and are mostly wrong."""
    from rwml.models.hf import save_mind
    from rwml.models.tiny import TinyShape, new_mind
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
    mind = new_mind(texts_for_tokenizer(config, 40), shape, seed=0)
    for _ in fit(mind, config):
        pass
    folder = tmp_path_factory.mktemp("mind") / "model"
    save_mind(mind, folder)
    return folder
