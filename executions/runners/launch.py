"""From an execution's words to an argument list, an environment and a folder.

Nothing that a caller sends is ever interpreted: it is filled into arguments
that the operator's configuration has split already.
"""

import errno
import os
import re
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path

from executions.runners.base import StartError

PLACEHOLDER = re.compile(r"\{(project_id|bead_id|context)\}")

SHELLS = {"sh", "ash", "bash", "dash", "fish", "ksh", "zsh"}


def split_command(command: str) -> list[str]:
    """Split EXECUTION_COMMAND once, as a shell would.

    Raises ValueError, with a sentence, if it is empty or a quote is not closed.
    """
    arguments = shlex.split(command)
    if not arguments:
        raise ValueError("No command.")
    if PLACEHOLDER.search(arguments[0]):
        raise ValueError("A caller would choose the program: it begins with a placeholder.")
    if script := _shell_script(arguments):
        raise ValueError(
            f"A shell would interpret what a caller sends: {script!r} has a placeholder. Use "
            '"$CONTEXT", "$BEAD_ID" and "$PROJECT_ID" there.'
        )
    return arguments


def _shell_script(arguments: list[str]) -> str | None:
    """The script of `sh -c SCRIPT` and the like if it has a placeholder, else None."""
    if Path(arguments[0]).name not in SHELLS:
        return None
    options = [number for number, each in enumerate(arguments) if re.fullmatch(r"-\w*c", each)]
    scripts = arguments[options[0] + 1 :] if options else []
    script = next((each for each in scripts if not each.startswith("-")), "")
    return script if PLACEHOLDER.search(script) else None


def fill_arguments(arguments: Iterable[str], values: Mapping[str, str]) -> list[str]:
    """Fill `{project_id}`, `{bead_id}` and `{context}` into each argument.

    Braces within the values stay as they are. Raises StartError if a value
    would be read as an option: it begins an argument and begins with `-`, and
    no argument before it is `--`, which ends the options.
    """
    filled: list[str] = []
    for argument in arguments:
        result = PLACEHOLDER.sub(lambda match: values[match[1]], argument)
        begins_with = PLACEHOLDER.match(argument)
        if begins_with and result.startswith("-") and "--" not in filled:
            raise StartError(
                f"The {begins_with[1]} begins with '-', so the command could take it for an "
                "option. Put -- before it in EXECUTION_COMMAND if the command knows that sign."
            )
        filled.append(result)
    return filled


def pass_through(names: Iterable[str]) -> dict[str, str]:
    """Those of these variables that the worker's own environment has."""
    return {name: os.environ[name] for name in names if name in os.environ}


def find_workspace(root: Path | None, project_id: str) -> Path | None:
    """The project's own folder below `root`, or None if it has none.

    Raises StartError if the id can't be the name of one folder, or the folder
    is a link that leads elsewhere.
    """
    if root is None:
        return None
    if "/" in project_id or project_id in (".", ".."):
        raise StartError(
            "The project id can't be the name of a folder, so it can't have a workspace."
        )
    root = root.resolve()
    try:
        workspace = (root / project_id).resolve(strict=True)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return None
        raise StartError(f"The project's workspace can't be used: {error.strerror}.") from error
    except RuntimeError as error:  # a loop of links, up to Python 3.12
        raise StartError("The project's workspace can't be used: a loop of links.") from error
    if workspace != root / project_id:
        raise StartError("The project's workspace is a link to somewhere else.")
    return workspace
