"""What every test may use."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import Browser, sync_playwright
from rest_framework.test import APIClient

from executions.claims import claim_executions
from executions.models import Execution
from executions.services import start_execution
from executions.tests.databases import IS_POSTGRESQL, Database
from executions.tests.engine import IMAGE, Engine, find_lack, make_image
from executions.tests.installation import Installation

# Collected only where they can be run, so that nothing is ever skipped for being elsewhere.
collect_ignore = ["test_sqlite_reader.py" if IS_POSTGRESQL else "test_postgresql.py"]

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")

OPTIONS = [
    "--no-sandbox",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items) -> None:
    """Where several tests go on at once, those that share a Docker Engine go one by one."""
    for item in items:
        if "engine" in item.fixturenames:
            item.add_marker(pytest.mark.xdist_group("engine"))


@pytest.fixture(autouse=True)
def _default_settings(settings):
    """The developer's own `.env` has no say in the tests."""
    settings.OPEN_ACCESS = False
    settings.ALLOWED_HOSTS = ["testserver"]
    settings.EXECUTION_TIMEOUT = 60
    settings.EXECUTION_PROJECT_CONCURRENCY = 1


@pytest.fixture
def api(db, settings) -> APIClient:
    """A client of the API with open access."""
    settings.OPEN_ACCESS = True
    return APIClient()


@pytest.fixture
def user(db) -> User:
    return User.objects.create_user("ada", password="correct horse")


@pytest.fixture
def execution(db) -> Execution:
    """A pending execution."""
    return start_execution(project_id="shop", bead_id="shop-1", context="Fix the basket.")


@pytest.fixture
def claimed(execution):
    """An execution that a worker has claimed, and the token of the claim."""
    [(claimed, token)] = claim_executions(worker="w", limit=1, lease=30)
    claimed.refresh_from_db()
    return claimed, token


@pytest.fixture(scope="session")
def migrated_database(tmp_path_factory) -> Iterator[Database]:
    """An empty database, to be copied: migrating takes seconds."""
    with Installation(tmp_path_factory.mktemp("template")) as installation:
        installation.manage("migrate", "--verbosity", "0")
        yield installation.database


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """A Docker Engine with a small image, or the test is skipped."""
    if (lack := find_lack()) and not os.environ.get("CI"):
        pytest.skip(lack)
    with tempfile.TemporaryDirectory(prefix="executions-engine-") as folder:
        engine = Engine(Path(folder))
        make_image(engine)
        yield engine
        engine.close()


@pytest.fixture
def containers(engine, installation) -> Iterator[Installation]:
    """A service whose workers run scripts, each execution's context, in containers."""
    installation.environment |= {
        "DOCKER_HOST": engine.host,
        "EXECUTION_RUNNER": "docker",
        "EXECUTION_IMAGE": IMAGE,
        "EXECUTION_MEMORY": "64m",
        "EXECUTION_COMMAND": "sh -c 'eval \"$CONTEXT\"'",
        "WORKER_LEASE": "2",
        "WORKER_HEARTBEAT": "0.5",
    }
    installation.start_server()
    yield installation
    engine.remove_containers()


@pytest.fixture
def installation(tmp_path, migrated_database) -> Iterator[Installation]:
    """A service of its own: real processes on a real database, ended with the test."""
    with Installation(tmp_path / "data", template=migrated_database) as installation:
        yield installation


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None and not os.environ.get("CI"):
        pytest.skip("no Chromium on this machine")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        yield browser
        browser.close()
