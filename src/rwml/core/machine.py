"""The machine that a stage runs on: library versions and peak memory."""

from __future__ import annotations

import contextlib
import importlib.metadata
import platform
import re
import resource
import sys
from pathlib import Path

import rwml

_LIBRARIES = (
    "torch",
    "transformers",
    "sentence-transformers",
    "numpy",
    "pyarrow",
    "tokenizers",
    "peft",
    "accelerate",
)


def versions() -> dict[str, str]:
    """Of Python, rwml, and those of the libraries that matter which are loaded."""
    loaded = {"python": platform.python_version(), "rwml": rwml.__version__}
    for name in _LIBRARIES:
        if name.replace("-", "_") in sys.modules:
            loaded[name] = importlib.metadata.version(name)
    return loaded


def reset_peak_memory() -> None:
    """Reset the high-water mark. Each stage then shows its own. Only Linux can do this."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory_mb() -> int:
    """Peak resident memory in MB (10^6 bytes) of this process (on Linux: in this stage) or its largest child."""
    unit = 1 if sys.platform == "darwin" else 1024
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    with contextlib.suppress(OSError):
        high_water = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
        own = int(high_water.group(1)) * 1024 if high_water else own
    child = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit
    return max(own, child) // 1_000_000
