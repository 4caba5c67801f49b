"""What is stored of an output, whatever its size and however it comes."""

import itertools
import random

import pytest

from executions.buffer import CHUNK_SIZE, MAX_BACKLOG, MAX_TAIL, OutputBuffer

PATTERN = bytes(range(251))  # a prime, so that no two places look alike for long


def pattern(start, end):
    text = PATTERN * ((end - start) // 251 + 2)
    return text[start % 251 : start % 251 + end - start]


class Store:
    """Stands for the database: applies writes, and remembers what was ever visible."""

    def __init__(self):
        self.chunks = {}
        self.write = None

    def apply(self, write):
        if write.discard:
            first, end = write.discard
            self.chunks = {at: d for at, d in self.chunks.items() if not first <= at < end}
        for at, data in write.pieces:
            assert 0 < len(data) <= CHUNK_SIZE
            assert data == pattern(at, at + len(data))
            self.chunks.setdefault(at, data)
        self.write = write

    @property
    def ranges(self):
        return [(at, at + len(data)) for at, data in sorted(self.chunks.items())]

    @property
    def holes(self):
        ranges = self.ranges
        ends = [0, *[end for _, end in ranges]]
        starts = [*[start for start, _ in ranges], self.write.size]
        return [(e, s) for e, s in zip(ends, starts, strict=True) if s != e]


def feed(buffer, store, sizes, *, write_every):
    position = 0
    for number, size in enumerate(sizes):
        buffer.add(pattern(position, position + size))
        position += size
        if number % write_every == 0:
            store.apply(buffer.next_write(complete=False))
            buffer.written()
    store.apply(buffer.next_write(complete=True))
    buffer.written()
    assert store.write.is_last
    assert store.write.size == position
    assert not buffer.has_unstored


@pytest.mark.parametrize("size", [0, 1, 100, 1000, CHUNK_SIZE, 3 * CHUNK_SIZE + 1])
@pytest.mark.parametrize("write_every", [1, 3, 10_000])
def test_up_to_the_limit_everything_is_kept(size, write_every):
    buffer, store = OutputBuffer(limit=max(size, 1)), Store()

    feed(buffer, store, [size // 7] * 7 + [size % 7] if size else [], write_every=write_every)

    assert store.holes == []
    assert store.write.left_out == 0


@pytest.mark.parametrize("write_every", [1, 2, 7, 10_000])
@pytest.mark.parametrize("limit", [2, 100, 4 * CHUNK_SIZE, 32 * CHUNK_SIZE])
@pytest.mark.parametrize("seed", range(8))
def test_beyond_the_limit_beginning_and_end_are_kept(limit, write_every, seed):
    chance = random.Random(seed)
    sizes = [chance.choice([1, 50, CHUNK_SIZE // 3, 3 * CHUNK_SIZE]) for _ in range(120)]
    buffer, store = OutputBuffer(limit=limit), Store()

    feed(buffer, store, sizes, write_every=write_every)

    total = sum(sizes)
    assert total > limit
    [(start, end)] = store.holes
    assert end - start == store.write.left_out
    assert start >= limit - limit // 2
    assert total - end >= min(limit // 2, MAX_TAIL)
    kept = total - store.write.left_out
    assert limit <= kept <= limit + CHUNK_SIZE


@pytest.mark.parametrize("seed", range(5))
def test_what_is_offered_stays_the_same_until_it_is_written(seed):
    """A commit of which nobody knows whether it happened is repeated to the letter."""
    chance = random.Random(seed)
    buffer, store = OutputBuffer(limit=4 * CHUNK_SIZE), Store()
    position = 0
    for _ in range(60):
        size = chance.choice([1, 500, CHUNK_SIZE])
        buffer.add(pattern(position, position + size))
        position += size
        offered = buffer.next_write(complete=False)
        store.apply(offered)
        if chance.random() < 0.5:
            assert buffer.next_write(complete=True) is offered
        else:
            buffer.written()
    while not store.write.is_last:
        store.apply(buffer.next_write(complete=True))
        buffer.written()

    [(start, end)] = store.holes
    assert (end - start, store.write.size) == (store.write.left_out, position)


def test_memory_is_bounded_beyond_the_limit_and_backlog_before():
    buffer = OutputBuffer(limit=64 * MAX_BACKLOG)
    block = bytes(CHUNK_SIZE)
    while not buffer.is_full:
        buffer.add(block)
    assert buffer.size == MAX_BACKLOG

    small = OutputBuffer(limit=1000)
    small.add(block)
    small.next_write(complete=False)
    small.written()
    for _ in range(1000):
        small.add(block)
        assert not small.is_full
        assert sum(len(data) for _, data in small._blocks) <= 3 * CHUNK_SIZE


def test_a_preview_of_the_end_is_there_while_more_is_coming():
    buffer, store = OutputBuffer(limit=4 * CHUNK_SIZE), Store()
    for number in range(50):
        start = number * CHUNK_SIZE
        buffer.add(pattern(start, start + CHUNK_SIZE))
        store.apply(buffer.next_write(complete=False))
        buffer.written()
        assert store.ranges[-1][1] == buffer.size
        assert len(store.chunks) < 20


@pytest.mark.parametrize("limits", [[100], [1000], [4 * CHUNK_SIZE], [9 * CHUNK_SIZE, 500, 10**8]])
@pytest.mark.parametrize("seed", range(12))
def test_another_worker_goes_on_where_the_last_was_killed(limits, seed):
    """Also if EXECUTION_OUTPUT_LIMIT was changed meanwhile, at any of several workers' deaths."""
    chance = random.Random(seed)
    total = chance.choice([50, 3000, 2 * CHUNK_SIZE, 20 * CHUNK_SIZE])
    buffer, store = OutputBuffer(limit=limits[0]), Store()
    store.apply(buffer.next_write(complete=False))
    while buffer.size < total:
        step = min(chance.choice([1, 200, CHUNK_SIZE, 3 * CHUNK_SIZE]), total - buffer.size)
        buffer.add(pattern(buffer.size, buffer.size + step))
        if chance.random() < 0.6:
            size = store.write.size
            store.apply(buffer.next_write(complete=False))
            buffer.written()
            assert store.write.size >= size
        if chance.random() < 0.2:
            write = store.write
            buffer = OutputBuffer.resumed(
                limit=chance.choice(limits),
                size=write.size,
                left_out=write.left_out,
                pieces=store.ranges,
            )
            assert not buffer.is_full
    while not store.write.is_last:
        store.apply(buffer.next_write(complete=True))
        buffer.written()

    assert store.write.size == total
    ranges = store.ranges
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(ranges))
    assert sum(end - start for start, end in store.holes) == store.write.left_out
    if len(limits) == 1:
        assert len(store.holes) == (total > limits[0])


@pytest.mark.parametrize("size", [17, 20, 24])
def test_to_catch_up_no_backlog_is_too_much(size):
    """Nothing can be stored meanwhile, so nothing may wait for that."""
    megabyte = 1024 * 1024
    resumed = OutputBuffer.resumed(
        limit=16 * megabyte,
        size=size * megabyte,
        left_out=megabyte,
        pieces=[(0, 8 * megabyte), (size * megabyte - 100, size * megabyte)],
    )
    while resumed.size < size * megabyte:
        assert not resumed.is_full
        resumed.add(bytes(megabyte))
    assert resumed.next_write(complete=True).left_out == (size - 16) * megabyte


def test_a_worker_that_finds_no_more_leaves_what_is_stored():
    buffer, store = OutputBuffer(limit=1000), Store()
    buffer.add(pattern(0, 5000))
    store.apply(buffer.next_write(complete=False))
    before = dict(store.chunks)

    resumed = OutputBuffer.resumed(
        limit=1000, size=5000, left_out=store.write.left_out, pieces=store.ranges
    )
    left_out = store.write.left_out
    store.apply(resumed.next_write(complete=True))

    assert (store.write.size, store.write.left_out, store.write.is_last) == (5000, left_out, True)
    assert store.chunks == before
