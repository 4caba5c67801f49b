"""What is remembered of a SQLite file, which is read on the event loop."""

import pytest
from django.test import RequestFactory

from executions.fast import reader
from executions.fast.answers import Unusual, find_caller
from executions.fast.reader import SqliteReader
from executions.tests.helpers import make_user


@pytest.mark.django_db(transaction=True)
def test_the_memory_of_what_was_read_is_bounded(monkeypatch):
    monkeypatch.setattr(reader, "MEMORY", 3 * reader.EACH + 500)
    sqlite, read = SqliteReader(), []

    def ask(key, text="text", size=0):
        def find():
            read.append(key)
            return text

        assert sqlite.remember((key,), find, size=lambda _: size) == text

    for key in "aabbaabb":
        ask(key)
    assert read == ["a", "b"]
    ask("c" * 500)  # the key counts too, and it was the last that there was room for …
    ask("a")
    assert read == ["a", "b", "c" * 500, "a"]
    make_user("ada")  # … and a commit forgets everything
    ask("a")
    ask("d", size=5000)
    ask("a")
    assert read[4:] == ["a", "d", "a"]
    sqlite._wrapper.close()


@pytest.mark.django_db(transaction=True)
def test_no_refusal_is_remembered(settings):
    settings.OPEN_ACCESS = False
    sqlite = SqliteReader()
    for number in range(3):
        request = RequestFactory(headers={"Authorization": f"Token wrong-{number}"}).get("/")
        with pytest.raises(Unusual):
            find_caller(request, sqlite)
    assert sqlite._memory == {}
    sqlite._wrapper.close()
