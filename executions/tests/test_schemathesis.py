"""Everything that the OpenAPI description allows and forbids, sent to the running service.

Schemathesis makes it up from /openapi.json and applies all its checks: no 5xx, no answer that is
not described, nothing bad accepted and nothing good refused, no way around the authentication.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings

from executions.tests.installation import Installation

CLI = Path(sys.executable).with_name("st")

pytestmark = pytest.mark.skipif(
    not CLI.exists() and not os.environ.get("CI"),
    reason="no Schemathesis: it comes with .ci/requirements.txt",
)

MAKE_USERS = """
from executions.tests.helpers import make_user
for role in ("viewer", "starter", "operator"):
    make_user(role, role)
"""


@pytest.fixture(scope="module")
def service(tmp_path_factory, migrated_database):
    data_dir = tmp_path_factory.mktemp("service") / "data"
    with Installation(data_dir, template=migrated_database) as service:
        service.manage("shell", "-v0", "-c", MAKE_USERS)
        service.start_worker()
        service.start_server(OPEN_ACCESS="off", THROTTLE_CHANGES="999999/second")
        yield service


@pytest.mark.parametrize("role", ["nobody", "viewer", "starter", "operator"])
def test_the_service_keeps_to_its_description(service, tmp_path, role):
    token = [] if role == "nobody" else [f"Token {service.manage('create_token', role).strip()}"]
    done = subprocess.run(
        [
            *(CLI, "--config-file", settings.BASE_DIR / ".ci" / "schemathesis.toml"),
            *("run", f"{service.url}/openapi.json"),
            *(part for each in token for part in ("--header", f"Authorization: {each}")),
            *("--checks", "all", "--max-examples", "5", "--seed", "1", "--continue-on-failure"),
            *("--request-timeout", "60", "--no-color"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "Tested: 6" in done.stdout
    assert "Traceback" not in service.printed
