"""Measures pages of a million executions: deep ones, and those that people look at.

Beside each, the same call where it should take as long: the first page, or a hundred executions.
"""

import base64
import statistics
import time
import uuid
from collections.abc import Callable

import requests

from executions.benchmarks.report import say
from executions.tests.databases import Database
from executions.tests.installation import Installation

CALLS = 40  # of each, in turns
DEPTH = 500_000
PASSWORD = "correct horse battery"  # noqa: S105 — of a service in a temporary folder
MAKE_SUPERUSER = (
    "from django.contrib.auth.models import User;"
    f"User.objects.create_superuser('root', password='{PASSWORD}')"
)

Call = Callable[[], requests.Response]


def log_in(service: Installation) -> requests.Session:
    service.manage("shell", "-v0", "-c", MAKE_SUPERUSER)
    session, url = requests.Session(), f"{service.url}/admin/login/"
    session.get(url, timeout=30)
    form = {"username": "root", "password": PASSWORD, "next": "/admin/"}
    form["csrfmiddlewaretoken"] = session.cookies["csrftoken"]
    answer = session.post(url, form, headers={"Referer": url}, timeout=30)
    assert answer.url.endswith("/admin/"), answer.url
    return session


def cursor_at(database: Database, depth: int) -> str:
    """The cursor of the page that begins at this row of the list."""
    sql = f"SELECT id FROM executions_execution ORDER BY id DESC LIMIT 1 OFFSET {depth}"
    position = uuid.UUID(str(database.query(sql)[0][0]))
    return base64.urlsafe_b64encode(b"o" + position.bytes).decode()


def compare(what: str, call: Call, peer: Call) -> None:
    """Say how long a call takes beside another, in turns."""
    ours: list[float] = []
    peers: list[float] = []
    for _ in range(CALLS):
        for each, times in ((call, ours), (peer, peers)):
            began = time.perf_counter()
            answer = each()
            times.append(time.perf_counter() - began)
            assert answer.status_code == 200, answer.text
    a, b = statistics.median(ours), statistics.median(peers)
    say(what, f"{a / b:.2f} ({a * 1000:.1f} ms and {b * 1000:.1f} ms)")


def compare_pages(name: str, few: Installation, many: Installation) -> None:
    """`few` has a hundred executions, `many` a million."""
    api, path = requests.Session(), "/executions/"
    html = {"Accept": "text/html"}
    deep = f"{path}?cursor={cursor_at(many.database, DEPTH)}"
    compare(
        f"{name}: the page at row {DEPTH:,}, to the first",
        lambda: api.get(many.url + deep, timeout=60),
        lambda: api.get(many.url + path, timeout=60),
    )
    compare(
        f"{name}: the browsable list of a million, to one of a hundred",
        lambda: api.get(many.url + path, headers=html, timeout=60),
        lambda: api.get(few.url + path, headers=html, timeout=60),
    )
    sessions = {service: log_in(service) for service in (few, many)}
    listing = "/admin/executions/execution/"
    for query in ("", "?q=p1", "?status__exact=failed"):
        compare(
            f"{name}: the admin's list of a million{query and f', {query}'}, to that of a hundred",
            lambda query=query: sessions[many].get(many.url + listing + query, timeout=60),  # type: ignore[misc]
            lambda: sessions[few].get(few.url + listing, timeout=60),
        )
