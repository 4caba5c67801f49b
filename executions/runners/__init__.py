"""Where executions run. `create_runner` is what the settings choose among them."""

from executions.runners.base import Runner
from executions.runners.process import ProcessRunner


def create_runner(name: str) -> Runner:
    """The runner that EXECUTION_RUNNER names."""
    return {"process": ProcessRunner}[name]()
