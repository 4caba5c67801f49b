"""GET /executions/{id}/output, from the real server."""

import hashlib
import os
import re
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from executions.tests.installation import wait_for

SHELL = "sh -c 'eval \"$CONTEXT\"'"
SSE = {"Accept": "text/event-stream"}


@pytest.fixture
def service(installation):
    installation.start_server()
    return installation


@pytest.fixture
def worker(service):
    return service.start_worker(EXECUTION_COMMAND=SHELL, WORKER_CONCURRENCY="60")


def get(service, execution, query="", **headers):
    return requests.get(
        f"{service.url}/executions/{execution['id']}/output{query}", headers=headers, timeout=60
    )


def run(service, script, **fields):
    return service.wait_for_end(service.post(context=script, **fields))


def read_events(answer, *, until=None):
    """Events of a stream: (name, id, data), up to the end or the first that `until` likes."""
    event = {}
    for raw in answer.iter_lines(decode_unicode=False, delimiter=b"\n"):
        line = raw.decode()
        if not line:
            if event:
                found = (event.get("event"), event.get("id"), "\n".join(event.get("data", [])))
                yield found
                if until is not None and until(found):
                    return
            event = {}
        elif not line.startswith(":"):
            name, _, value = line.partition(": ")
            if name == "data" or name == "data:":
                event.setdefault("data", []).append(value)
            else:
                event[name] = value


def open_stream(service, execution, **headers):
    url = f"{service.url}/executions/{execution['id']}/output"
    return requests.get(url, headers={**SSE, **headers}, stream=True, timeout=60)


def test_whole_and_in_part(service, worker):
    execution = run(service, "printf 0123456789")

    whole = get(service, execution)
    assert (whole.status_code, whole.content) == (200, b"0123456789")
    assert whole.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert whole.headers["X-Content-Type-Options"] == "nosniff"
    assert whole.headers["Accept-Ranges"] == "bytes"
    assert whole.headers["Content-Length"] == "10"
    for asked, content, part in [
        ("bytes=0-0", b"0", "bytes 0-0/10"),
        ("bytes=3-5", b"345", "bytes 3-5/10"),
        ("bytes=8-99", b"89", "bytes 8-9/10"),
        ("bytes=7-", b"789", "bytes 7-9/10"),
        ("bytes=-3", b"789", "bytes 7-9/10"),
        ("bytes=-99", b"0123456789", "bytes 0-9/10"),
    ]:
        answer = get(service, execution, Range=asked)
        assert (answer.status_code, answer.content) == (206, content), asked
        assert answer.headers["Content-Range"] == part


@pytest.mark.parametrize("asked", ["bytes=10-", "bytes=99-100", "bytes=-0"])
def test_a_range_outside_is_416(service, worker, asked):
    answer = get(service, run(service, "printf 0123456789"), Range=asked)

    assert answer.status_code == 416
    assert answer.headers["Content-Range"] == "bytes */10"


def test_a_range_that_makes_no_sense_is_ignored(service, worker):
    execution = run(service, "printf 0123456789")

    for asked in ("bytes=5-3", "lines=1-2", "bytes=1-2,4-5", "bytes=-", "bytes=a-b", "x"):
        answer = get(service, execution, Range=asked)
        assert (answer.status_code, answer.content) == (200, b"0123456789"), asked


def test_nothing_written_is_nothing(service, worker):
    execution = run(service, "true")

    assert get(service, execution).content == b""
    assert get(service, execution, "?offset=0&wait=5").headers["X-Output-Offset"] == "0"
    assert get(service, execution, Range="bytes=0-").status_code == 416


@pytest.mark.parametrize(
    "query",
    ["offset=-1", "offset=x", "offset=0&wait=31", "offset=0&wait=-1", "wait=5", "colour=red"]
    + ["offset=1&offset=2", "download=perhaps", "offset=99999999999999999999"],
)
def test_a_bad_parameter_is_named(service, query):
    answer = get(service, service.post(), f"?{query}")

    assert answer.status_code == 400
    assert list(answer.json()) == [query.split("&")[-1].split("=")[0]]


def test_an_unknown_execution_is_not_found(service):
    for headers in ({}, SSE):
        answer = get(service, {"id": "unknown"}, **headers)
        assert (answer.status_code, answer.json()) == (404, {"detail": "Execution not found"})


def test_a_download_has_a_name(service, worker):
    execution = run(service, "echo '<script>'")

    answer = get(service, execution, "?download=1")

    name = f'attachment; filename="execution-{execution["id"]}.txt"'
    assert answer.headers["Content-Disposition"] == name
    assert answer.headers["Content-Type"].startswith("text/plain")


def test_following_from_byte_to_byte_gives_every_byte_soon(service, worker):
    script = "for i in 1 2 3 4 5; do date +%s.%N; sleep 0.4; done"
    execution = service.post(context=script)
    text, offset, late = b"", 0, []

    while True:
        answer = get(service, execution, f"?offset={offset}&wait=10")
        now = time.time()
        assert answer.status_code == 200
        late += [now - float(line) for line in answer.content.split()]
        text += answer.content
        offset = int(answer.headers["X-Output-Offset"])
        assert offset == len(text)
        if service.get(execution)["status"] == "completed" and not answer.content:
            break

    assert len(text.split()) == 5
    assert sorted(late)[2] < 1  # the median; a single one may suffer from a busy machine


def test_waiting_ends_with_the_execution_or_the_time(service, worker):
    execution = service.post(context="sleep 1")
    service.wait_for_status(execution, "running")
    began = time.monotonic()
    get(service, execution, "?offset=0&wait=30")
    assert time.monotonic() - began < 10

    idle = service.post(context="sleep 30")
    service.wait_for_status(idle, "running")
    wait_for(lambda: service.get(idle)["running_at"])
    began = time.monotonic()
    answer = get(service, idle, "?offset=0&wait=1")
    assert 0.9 < time.monotonic() - began < 10
    assert (answer.content, answer.headers["X-Output-Offset"]) == (b"", "0")


def test_events_tell_output_and_status_and_end(service, worker):
    execution = service.post(context="sleep 0.5; echo é; sleep 0.5; printf 'a\\nb'; exit 3")

    with open_stream(service, execution) as answer:
        assert answer.headers["Content-Type"] == "text/event-stream"
        assert answer.headers["X-Accel-Buffering"] == "no"
        events = list(read_events(answer))

    assert [data for name, _, data in events if name == "output"] == ["é\n", "a\nb"]
    assert [id_ for name, id_, _ in events if name == "output"] == ["3", "6"]
    statuses = [
        re.search('"status": "([a-z]+)"', d)[1] for name, _, d in events if name == "status"
    ]
    assert statuses[-2:] == ["running", "failed"]
    assert events[-1][0] == "end"

    again = get(service, execution, **SSE, **{"Last-Event-ID": "6"})
    assert again.status_code == 204  # so that a browser does not come back for ever


def test_a_stream_cut_and_resumed_ten_times_gives_the_same(service, worker):
    lines = "".join(f"line {number} €\n" for number in range(300))
    execution = service.post(
        context="i=0; while [ $i -lt 300 ]; do echo line $i €; i=$((i+1)); sleep 0.01; done"
    )
    text, last, cuts = "", None, 0
    while True:
        headers = {} if last is None else {"Last-Event-ID": last}
        end = False
        with open_stream(service, execution, **headers) as answer:
            if answer.status_code == 204:
                break
            seen = 0
            for name, identifier, data in read_events(answer):
                if name == "output":
                    text, last, seen = text + data, identifier, seen + 1
                end = end or name == "end"
                if seen == 1 and cuts < 10:
                    break
        cuts += 1
        if end:
            break

    assert cuts > 10
    assert text == lines


def test_broken_characters_are_right_in_every_form(service, worker):
    """Half a character now and half later; bytes that are none; NUL."""
    execution = service.post(
        context=r"printf 'a\342\202'; sleep 0.6; printf '\254b\377c\000d'; printf '\303'"
    )
    with open_stream(service, execution) as answer:
        events = list(read_events(answer))

    raw = b"a\xe2\x82\xacb\xffc\0d\xc3"
    assert get(service, execution).content == raw
    assert "".join(d for name, _, d in events if name == "output") == raw.decode(errors="replace")
    assert service.get(execution)["output"] == raw.decode(errors="replace")
    assert get(service, execution, "?offset=2").content == raw[2:]


def test_64_mib_of_random_bytes_are_kept_exactly(service, tmp_path):
    service.start_worker(EXECUTION_COMMAND=SHELL, EXECUTION_OUTPUT_LIMIT=str(65 * 2**20))
    path = tmp_path / "random"
    with path.open("wb") as file:
        for _ in range(64):
            file.write(os.urandom(2**20))

    execution = run(service, f"cat {path}")

    assert (execution["output_size"], execution["output_truncated"]) == (64 * 2**20, True)
    digest = hashlib.sha256()
    with requests.get(
        f"{service.url}/executions/{execution['id']}/output", stream=True, timeout=60
    ) as answer:
        assert answer.headers["Content-Length"] == str(64 * 2**20)
        for part in answer.iter_content(2**16):
            digest.update(part)
    assert digest.hexdigest() == hashlib.sha256(path.read_bytes()).hexdigest()
    part = get(service, execution, Range="bytes=12345678-12345777").content
    assert part == path.read_bytes()[12345678:12345778]


def test_beyond_the_limit_beginning_and_end_are_kept(service):
    service.start_worker(EXECUTION_COMMAND=SHELL, EXECUTION_OUTPUT_LIMIT="200000")

    execution = run(service, "echo first; seq 1 1000000; echo last")

    total = len("first\nlast\n") + sum(len(str(n)) + 1 for n in range(1, 1_000_001))
    assert (execution["output_size"], execution["output_truncated"]) == (total, True)
    assert execution["output"].endswith("1000000\nlast\n")
    whole = get(service, execution)
    assert whole.content.startswith(b"first\n1\n2\n3\n")
    assert whole.content.endswith(b"\n999999\n1000000\nlast\n")
    [left_out] = re.findall(rb"\n\[\.\.\. (\d+) bytes left out \.\.\.\]\n", whole.content)
    line = len(b"\n[... %s bytes left out ...]\n" % left_out)
    assert len(whole.content) - line + int(left_out) == total
    assert 200_000 <= len(whole.content) - line < 270_000
    assert whole.headers["Content-Length"] == str(len(whole.content))
    for start, end in (
        (0, 9),
        (99_990, 100_100),
        (len(whole.content) - 20, len(whole.content) - 1),
    ):
        part = get(service, execution, Range=f"bytes={start}-{end}")
        assert (part.status_code, part.content) == (206, whole.content[start : end + 1])


def test_50_executions_writing_at_once_lose_nothing(service, worker):
    script = (
        f"{sys.executable} -uc 'import time; "
        '[(print(f"line {n} of this execution"), time.sleep(0.001)) for n in range(1000)]'
        "'"
    )
    created = [service.post(f"p{number}", context=script) for number in range(50)]

    began = time.monotonic()
    slowest = 0.0
    while service.get(created[-1])["status"] != "completed":
        before = time.monotonic()
        assert requests.get(f"{service.url}/executions/", timeout=30).status_code == 200
        slowest = max(slowest, time.monotonic() - before)
        assert time.monotonic() - began < 120
        time.sleep(0.1)

    expected = "".join(f"line {n} of this execution\n" for n in range(1000)).encode()
    for each in created:
        ended = service.wait_for_end(each)
        assert (ended["status"], ended["exit_code"]) == ("completed", 0)
        assert get(service, each).content == expected
    assert slowest < 5
    # Few commits: far fewer chunks than lines.
    [(chunks,)] = service.database.query("SELECT count(*) FROM executions_outputchunk")
    assert chunks < 50 * 1000 / 4


def test_readers_beyond_the_limit_are_told_to_come_again(installation):
    installation.start_server(STREAM_LIMIT="3")
    execution = installation.post()
    streams = [open_stream(installation, execution) for _ in range(3)]
    assert {each.status_code for each in streams} == {200}

    for query, headers in (("", SSE), ("?offset=0&wait=5", {})):
        refused = get(installation, execution, query, **headers)
        assert refused.status_code == 503
        assert int(refused.headers["Retry-After"]) > 0
    assert get(installation, execution).status_code == 200  # it does not wait

    streams.pop().close()  # whoever goes away frees the place at once
    wait_for(lambda: get(installation, execution, "?offset=0&wait=1").status_code == 200, timeout=3)
    for each in streams:
        each.close()


def test_100_waiting_readers_leave_room_for_others(service):
    execution = service.post()
    streams = []
    lock = threading.Lock()

    def wait_and_see(_):
        stream = open_stream(service, execution)
        with lock:
            streams.append(stream)
        return stream.status_code

    with ThreadPoolExecutor(20) as pool:
        assert set(pool.map(wait_and_see, range(100))) == {200}

    began = time.monotonic()
    for number in range(20):
        service.post(bead_id=str(number))
    assert time.monotonic() - began < 10
    requests.post(f"{service.url}/executions/{execution['id']}/cancel", timeout=10)
    for each in streams:
        assert list(read_events(each))[-1][0] == "end"
        each.close()


def test_a_slow_body_holds_nobody_up(service):
    slow = []
    for _ in range(20):
        connection = socket.create_connection(("127.0.0.1", service.port))
        connection.sendall(
            b"POST /executions/ HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: 100\r\n\r\n{"
        )
        slow.append(connection)

    assert service.post()["status"] == "pending"
    for connection in slow:
        connection.close()


def test_a_body_that_is_cut_off_does_nothing(service):
    execution = service.post()
    request = (
        f"POST /executions/{execution['id']}/cancel HTTP/1.1\r\nHost: localhost\r\n"
        "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{}"
    )
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", service.port)) as connection:
            connection.sendall(request.encode())
    with socket.create_connection(("127.0.0.1", service.port)) as connection:
        connection.sendall(request.encode())
        connection.shutdown(socket.SHUT_WR)  # it can still read
        assert connection.recv(4096).startswith(b"HTTP/1.1 400 ")
    time.sleep(0.5)

    assert service.get(execution)["status"] == "pending"
    assert "Traceback" not in service.printed


def test_readers_who_leave_leave_no_trace(service):
    execution = service.post()
    for number in range(30):
        stream = open_stream(service, execution)
        time.sleep(0.01 * (number % 3))
        stream.close()

    assert service.get(execution)["status"] == "pending"
    assert "Traceback" not in service.printed


def test_a_body_in_chunks_is_read_and_a_huge_one_refused(service):
    def parts(text):
        yield from (text[:10], text[10:])

    url = f"{service.url}/executions/"
    headers = {"Content-Type": "application/json"}
    body = b'{"project_id": "p", "bead_id": "b"}'
    assert requests.post(url, parts(body), headers=headers, timeout=5).status_code == 201
    try:
        refused = requests.post(url, b"x" * 3_000_000, headers=headers, timeout=5)
        assert refused.status_code == 413
    except requests.ConnectionError:
        pass  # it did not wait for the rest
