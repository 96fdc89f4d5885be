"""The Python examples run as a user would run them: each in a process of its own, alone and on a real file."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def run(name: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / name), *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def weights(tmp_path: Path) -> str:
    """A file as models have it: matrices, a vector, and indices that are no floats."""
    np = pytest.importorskip("numpy")
    save_file = pytest.importorskip("safetensors.numpy").save_file
    rng = np.random.default_rng(7)
    tensors = {
        "embeddings.weight": rng.standard_normal((300, 64), dtype=np.float32),
        "dense.weight": rng.standard_normal((64, 64), dtype=np.float32),
        "dense.bias": rng.standard_normal(64, dtype=np.float32),
        "position_ids": np.arange(512).reshape(1, 512),
    }
    save_file(tensors, str(tmp_path / "model.safetensors"))
    return str(tmp_path / "model.safetensors")


# What is printed at the end, by those that do not take a file.
ENDS = {
    "pytorch_dataloader.py": "one after a change; 0 bytes copied",
    "pytorch_hot_swap.py": "nothing of older generations",
    "pytorch_resume.py": "written to a file: step 40",
}


def needed_by(name: str) -> None:
    needs = "torch" if "torch" in name else "numpy"
    if importlib.util.find_spec(needs) is None:
        pytest.skip(f"{name} needs {needs}, which was not found")


@pytest.mark.parametrize("name", ENDS)
def test_example_that_takes_no_file(name: str) -> None:
    needed_by(name)
    assert ENDS[name] in run(name)


@pytest.mark.parametrize("name", sorted({path.name for path in EXAMPLES.glob("*.py")} - set(ENDS)))
@pytest.mark.parametrize("real", [False, True], ids=["random", "file"])
def test_example(name: str, real: bool, request: pytest.FixtureRequest) -> None:
    needed_by(name)
    said = run(name, *([request.getfixturevalue("weights")] if real else []))
    assert "imported 4 tensors" in said if real else "imported" not in said
    assert "after close" in said
