"""A worker that stops at a point, so that a test can kill it just there.

    python -m executions.tests.held_worker POINT MARKER

runs `manage.py run_worker` until the POINT, where it makes the file MARKER and
waits to be killed.
"""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import django
from django.core.management import call_command

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
django.setup()

from executions import claims  # noqa: E402
from executions.runners.engine import Engine  # noqa: E402
from executions.runners.process import ProcessRunner  # noqa: E402

POINTS = {
    "before the claim": (claims, "claim_executions", "before"),
    "after the claim": (claims, "claim_executions", "after"),
    "after the start": (ProcessRunner, "start", "after"),
    "after the container is created": (Engine, "create", "after"),
    "after the container is started": (Engine, "start", "after"),
    "before the end is stored": (claims, "finish_execution", "before"),
    "before the end is committed": (claims, "finish_execution", "after"),
}


def hold(owner: Any, name: str, when: str, marker: Path) -> None:
    original: Callable[..., Any] = getattr(owner, name)

    def held(*args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs) if when == "after" else None
        if when == "before" or result != []:  # a claim of nothing is not what the test waits for
            marker.touch()
            time.sleep(1000)
        return result

    setattr(owner, name, held)


if __name__ == "__main__":
    point, marker = sys.argv[1:]
    hold(*POINTS[point], Path(marker))
    call_command("run_worker", name="held")
