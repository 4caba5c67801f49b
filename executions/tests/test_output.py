"""Storing output and reading it back."""

import pytest

from executions import claims
from executions.output import output_end_of, output_length, slice_output, stream_output
from executions.tests.helpers import write_output


def stored(execution):
    return b"".join(bytes(chunk.data) for chunk in execution.chunks.order_by("offset"))


def test_output_is_kept_byte_for_byte(claimed):
    execution, token = claimed
    data = bytes(range(256)) * 1000  # larger than a chunk, NUL and broken UTF-8 in it

    assert write_output(execution, token, data[:1000])
    assert write_output(execution, token, data[1000:], offset=1000)
    execution.refresh_from_db()
    assert stored(execution) == data
    assert execution.output_size == len(data)


@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize("start", [0, 1, 6, 20, 349])
def test_many_small_pieces_are_read_from_any_byte_on(claimed, size, start):
    execution, token = claimed
    data = bytes(number % 256 for number in range(350))
    for offset in range(0, len(data), size):
        write_output(execution, token, data[offset : offset + size], offset=offset)

    for end in (start, start + 1, 350):
        found = b"".join(stream_output(execution.pk, start=start, end=end))
        assert found == data[start:end]


def test_what_was_left_out_is_a_line(claimed):
    execution, token = claimed
    write_output(execution, token, b"head")
    write_output(execution, token, b"tail", offset=104, left_out=100)
    execution.refresh_from_db()

    line = b"\n[... 100 bytes left out ...]\n"
    assert b"".join(stream_output(execution.pk, start=0, end=108)) == b"head" + line + b"tail"
    assert b"".join(stream_output(execution.pk, start=106, end=108)) == b"il"
    assert output_end_of(execution, limit=6) == ("\n[... 2 bytes left out ...]\ntail", True)


def test_the_length_is_true_with_several_holes(claimed):
    """A worker that was killed beyond the limit leaves more than one."""
    execution, token = claimed
    for offset, left_out in ((0, 0), (1000, 990), (200_000, 198_970), (200_050, 199_010)):
        write_output(execution, token, b"0123456789", offset=offset, left_out=left_out)
    claims.renew_leases([token], lease=-1)
    claims.fail_lost_executions()
    execution.refresh_from_db()

    whole = b"".join(stream_output(execution.pk, start=0, end=execution.output_size))
    assert whole.count(b"left out") == 3
    assert whole.endswith(b"0123456789")
    length = output_length(execution)
    assert length == len(whole)
    assert b"".join(slice_output(execution, start=5, end=length)) == whole[5:]
    assert b"".join(slice_output(execution, start=length - 3, end=length)) == b"789"


def test_storing_the_same_output_again_changes_nothing(claimed):
    execution, token = claimed

    assert write_output(execution, token, b"once")
    assert write_output(execution, token, b"once")
    assert stored(execution) == b"once"


@pytest.mark.parametrize(
    ("written", "limit", "shown"),
    [
        (b"", 10, (None, False)),
        (b"hello", 10, ("hello", False)),
        (b"hello", 3, ("llo", True)),
        ("é€𝄞x".encode(), 4, ("x", True)),  # no half of a character at the beginning
        (b"\xff\x00", 10, ("\ufffd\x00", False)),
        (b"a" * 200_000 + b"end", 100_000, ("a" * 99_997 + "end", True)),
        ("ok €".encode()[:-1], 10, ("ok ", False)),  # the rest of it is still to come
    ],
)
def test_the_end_of_the_output_is_text(claimed, written, limit, shown):
    execution, token = claimed
    write_output(execution, token, written)
    execution.refresh_from_db()

    assert output_end_of(execution, limit=limit) == shown
