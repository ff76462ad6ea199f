"""Versions of what is loaded, and the peak memory of a process of its own."""

from __future__ import annotations

import platform
import subprocess
import sys

import numpy
import pytest

import rwml
from rwml.core.machine import versions

PEAKS = """
import subprocess, sys
from rwml.core.machine import peak_memory_mb, reset_peak_memory
print(peak_memory_mb())
held = b"x" * 200_000_000
print(peak_memory_mb())
del held
reset_peak_memory()
print(peak_memory_mb())
subprocess.run([sys.executable, "-c", "held = b'x' * 300_000_000"], check=True)
print(peak_memory_mb())
"""


def test_versions_are_those_of_the_loaded_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = versions()
    assert (loaded["python"], loaded["rwml"]) == (platform.python_version(), rwml.__version__)
    assert loaded["numpy"] == numpy.__version__
    monkeypatch.delitem(sys.modules, "numpy")
    assert versions() == {name: version for name, version in loaded.items() if name != "numpy"}


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux forgets a peak")
@pytest.mark.slow
def test_the_peak_is_of_this_stage_or_of_its_largest_child() -> None:
    done = subprocess.run([sys.executable, "-c", PEAKS], capture_output=True, text=True, check=True)
    at_first, holding, forgotten, with_child = map(int, done.stdout.split())
    assert holding - at_first == pytest.approx(200, abs=15)
    assert forgotten == pytest.approx(at_first, abs=15)
    assert 300 <= with_child < 350
