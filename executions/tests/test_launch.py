"""From an execution's words to arguments, an environment and a folder."""

import pytest

from executions.runners.base import StartError
from executions.runners.launch import (
    fill_arguments,
    find_workspace,
    pass_through,
    split_command,
)

WORDS = {"project_id": "p q", "bead_id": "b'\";$(x)", "context": "{project_id} {x} `y`\n"}


def test_a_command_is_split_once_and_filled_per_argument():
    argv = fill_arguments(split_command("agent --bead={bead_id} 'a b' {context} {other}"), WORDS)

    assert argv == ["agent", f"--bead={WORDS['bead_id']}", "a b", WORDS["context"], "{other}"]


@pytest.mark.parametrize("value", ["-rf", "--help", "-"])
def test_a_value_is_never_an_option(value):
    words = WORDS | {"context": value}

    with pytest.raises(StartError, match="--"):
        fill_arguments(["agent", "{context}"], words)
    assert fill_arguments(["agent", "--", "{context}"], words)[-1] == value
    assert fill_arguments(["agent", "--prompt={context}"], words)[-1] == f"--prompt={value}"


@pytest.mark.parametrize(
    "command",
    ["", "  ", "a 'b", "{project_id}", "{context}/bin/x", "sh -c {context}"]
    + ["/bin/bash -lc 'echo {context}'", "sh -x -c -- {bead_id}", "dash -ec 'a {project_id}' x"],
)
def test_a_command_that_makes_no_sense_is_refused(command):
    with pytest.raises(ValueError, match=r"\w+"):
        split_command(command)


@pytest.mark.parametrize(
    "command", ["sh -c 'echo \"$1\"' -- {context}", "sh script {context}", "agent -c {context}"]
)
def test_a_placeholder_beside_a_script_is_fine(command):
    assert "{context}" in split_command(command)


def test_only_what_is_named_is_passed_through(monkeypatch):
    monkeypatch.setenv("SECRET_KEY", "s")
    monkeypatch.setenv("API_KEY", "k")

    assert pass_through(["API_KEY", "UNSET"]) == {"API_KEY": "k"}


def test_a_workspace_is_the_projects_own_folder(tmp_path):
    (tmp_path / "a project").mkdir()

    assert find_workspace(tmp_path, "a project") == tmp_path.resolve() / "a project"
    assert find_workspace(tmp_path, "another") is None
    assert find_workspace(tmp_path, "é" * 255) is None  # too long for the name of a folder
    assert find_workspace(None, "a project") is None


@pytest.mark.parametrize("name", ["..", ".", "/etc", "a/../..", "a/b", "link", "inner", "loop"])
def test_no_id_leads_out_of_the_workspaces(tmp_path, name):
    root = tmp_path / "root"
    (root / "a" / "b").mkdir(parents=True)
    (root / "link").symlink_to("/etc")
    (root / "inner").symlink_to(root / "a")
    (root / "loop").symlink_to(root / "loop")

    with pytest.raises(StartError):
        find_workspace(root, name)
