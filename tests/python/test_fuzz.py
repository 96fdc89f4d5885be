"""Any object at every public method: a result or a documented exception, never a crash; a refusal changes nothing."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path


def test_any_object_at_every_method():
    # The same draws each time, unless somebody asks for new ones: what they find should not depend on the day.
    seed = random.randrange(2**32) if "MOORAGE_SOAK_MINUTES" in os.environ else 1
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", str(Path(__file__).with_name("fuzz_arguments.py")), "500", str(seed)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, f"seed {seed}, status {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert done.stdout.startswith("done")
