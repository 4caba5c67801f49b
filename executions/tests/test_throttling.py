"""How often: changes of a user, and attempts to log in. Exact, also with several processes."""

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from django.test import Client
from rest_framework.test import APIClient

from executions import throttling
from executions.models import Allowance, Execution
from executions.tests.helpers import make_user
from executions.throttling import take

BODY = {"project_id": "p", "bead_id": "b"}


@pytest.fixture
def clock(monkeypatch):
    """Time stands still but for what a test adds."""

    class Clock:
        now = 1_000_000.0

        def time(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr(throttling, "time", clock)
    return clock


def test_an_allowance_can_be_taken_at_once_and_comes_back_evenly(db, clock):
    rate = (3, 60)
    assert [take("a", rate) for _ in range(3)] == [0, 0, 0]
    assert take("a", rate) == 20
    assert take("b", rate) == 0

    clock.now += 19.5
    assert take("a", rate) == 0.5
    clock.now += 0.5
    assert take("a", rate) == 0
    assert take("a", rate) == 20
    clock.now += 3600
    assert [take("a", rate) for _ in range(3)] == [0, 0, 0]
    assert take("a", rate) == 20


@pytest.fixture
def starter(db, settings):
    settings.THROTTLE_CHANGES = (2, 60)
    client = APIClient()
    client.force_authenticate(make_user("ada", "starter"))
    return client


def test_a_user_is_told_when_to_go_on(starter, clock):
    made = [starter.post("/executions/", BODY) for _ in range(2)]
    assert [each.status_code for each in made] == [201, 201]

    for call in ("", f"{made[0].json()['id']}/cancel"):
        refused = starter.post(f"/executions/{call}", BODY if not call else None)
        assert refused.status_code == 429
        assert refused["Retry-After"] == "30"
        assert list(refused.json()) == ["detail"]
    assert Execution.objects.count() == 2
    assert starter.get("/executions/").status_code == 200

    clock.now += int(refused["Retry-After"])
    assert starter.post("/executions/", BODY).status_code == 201
    assert starter.post("/executions/", BODY).status_code == 429


def test_others_are_not_held_up_and_what_fails_costs_nothing(starter, clock):
    for _ in range(5):
        assert starter.post("/executions/", {}).status_code == 400
    for _ in range(2):
        starter.post("/executions/", BODY)
    assert starter.post("/executions/", BODY).status_code == 429

    bob = APIClient()
    bob.force_authenticate(make_user("bob", "starter"))
    assert bob.post("/executions/", BODY).status_code == 201


def test_the_admin_counts_too(client, db, settings, clock):
    settings.THROTTLE_CHANGES = (1, 60)
    client.force_login(make_user("ada", "operator"))
    waiting = [Execution.objects.get(pk=start()) for _ in range(2)]
    response = client.post(
        "/admin/executions/execution/",
        {"action": "cancel", "_selected_action": [each.pk for each in waiting]},
        follow=True,
    )

    assert Execution.objects.filter(status="cancelled").count() == 1
    assert "Expected available in 60 seconds" in response.content.decode()


def start():
    client = APIClient()
    client.force_authenticate(make_user(f"user {Execution.objects.count()}", "starter"))
    return client.post("/executions/", BODY).json()["id"]


def test_two_servers_share_one_allowance(installation):
    """Forty posts at once to two processes: as many are accepted as the allowance has."""
    make = """
from django.contrib.auth.models import User
User.objects.create_superuser("root")
"""
    installation.manage("shell", "-v0", "-c", make)
    headers = {"Authorization": f"Token {installation.manage('create_token', 'root').strip()}"}
    second = installation.sibling()
    with second:
        for each in (installation, second):
            each.start_server(THROTTLE_CHANGES="10/day", OPEN_ACCESS="off")
        began = time.time()

        def post(number):
            url = (installation, second)[number % 2].url
            return requests.post(f"{url}/executions/", json=BODY, headers=headers, timeout=60)

        with ThreadPoolExecutor(8) as threads:
            answers = list(threads.map(post, range(40)))
        assert Counter(each.status_code for each in answers) == {201: 10, 429: 30}
        # One comes back every 8640 s, the first that long after the first was taken.
        for each in answers:
            if each.status_code == 429:
                assert 0 <= 8640 - int(each.headers["Retry-After"]) <= time.time() - began + 1


LOGINS = ["/admin/login/", "/accounts/login/"]


@pytest.fixture
def slow_logins(db, settings, clock):
    settings.THROTTLE_LOGINS = (2, 60)
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    user = make_user("ada", "operator")
    user.set_password("correct horse")
    user.save()


def log_in(url, name="ada", password="wrong", address="192.0.2.1"):
    return Client(REMOTE_ADDR=address).post(url, {"username": name, "password": password})


@pytest.mark.parametrize("url", LOGINS)
def test_attempts_to_log_in_are_bounded(slow_logins, clock, url):
    assert [log_in(url).status_code for _ in range(2)] == [200, 200]

    refused = log_in(url, password="correct horse")
    assert refused.status_code == 429
    assert refused["Retry-After"] == "30"
    assert log_in(url, name="ADA").status_code == 429

    clock.now += 30
    assert log_in(url, password="correct horse").status_code == 302


def test_whole_allowances_are_not_kept(slow_logins, clock):
    for number in range(5):
        log_in(LOGINS[0], name=f"user{number}")
    clock.now += 3600
    log_in(LOGINS[0])

    assert Allowance.objects.count() == 2  # by name and address, and by address


def test_a_stranger_does_not_lock_anybody_out(slow_logins):
    for _ in range(4):
        log_in(LOGINS[0], address="198.51.100.7")

    assert log_in(LOGINS[0], password="correct horse").status_code == 302


def test_one_who_tries_many_names_is_bounded_too(slow_logins):
    answers = [log_in(LOGINS[0], name=f"user{number}").status_code for number in range(12)]

    assert answers == [200] * 10 + [429] * 2


def test_addresses_of_one_ipv6_network_are_one(slow_logins):
    answers = [log_in(LOGINS[0], address=f"2001:db8::{number}").status_code for number in range(3)]

    assert answers == [200, 200, 429]


def test_a_success_makes_attempts_whole_again(slow_logins):
    for _ in range(4):
        assert log_in(LOGINS[0]).status_code == 200
        assert log_in(LOGINS[0], password="correct horse").status_code == 302


def test_behind_a_proxy_the_address_is_the_one_that_it_saw(slow_logins, settings):
    settings.PROXY_ADDRESS_HEADER = "X-Forwarded-For"

    def attempt(seen, claimed):
        headers = {"X-Forwarded-For": f"{claimed}, {seen}"}
        data = {"username": "ada", "password": "wrong"}
        return Client().post(LOGINS[0], data, headers=headers).status_code

    assert [attempt("192.0.2.9", f"203.0.113.{number}") for number in range(3)] == [200, 200, 429]
    assert attempt("192.0.2.10", "192.0.2.9") == 200
