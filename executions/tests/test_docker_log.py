"""What the Engine sends of an output, put together again."""

import struct

import pytest

from executions.runners.engine import EngineAway, join_lines, unpack_frames


def frame(data, stream=1):
    return struct.pack(">BxxxL", stream, len(data)) + data


@pytest.mark.parametrize("size", [1, 3, 8, 9, 1000])
def test_frames_are_found_however_they_were_cut(size):
    pieces = [b"a", b"", b"b" * 300, b"\n"]
    sent = b"".join(frame(each) for each in pieces)
    received = [sent[start : start + size] for start in range(0, len(sent), size)]

    assert list(unpack_frames(received)) == pieces


def test_the_engines_own_words_are_no_output():
    with pytest.raises(EngineAway, match="Error grabbing logs"):
        list(unpack_frames([frame(b"a") + frame(b"Error grabbing logs", stream=3)]))


@pytest.mark.parametrize(
    ("pieces", "written"),
    [
        ([b"1 a\n", b"2 \n", b"3 b"], b"a\n\nb"),
        ([b"1 long", b"1 er", b"2 next\n"], b"longer\nnext\n"),
        ([b"1 long", b"1 ", b"2 next\n"], b"long\nnext\n"),
        ([b"1 long", b"1 er\n", b"2 next\n"], b"longer\nnext\n"),  # of another Engine
        ([b"1 a b\n"], b"a b\n"),
        ([], b""),
    ],
)
def test_a_line_in_pieces_is_one_line_again(pieces, written):
    assert b"".join(join_lines(pieces)) == written
