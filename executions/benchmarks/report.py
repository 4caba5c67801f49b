"""What the benchmarks have found: printed as it comes, and once more as a table."""

import os
import platform
import sqlite3
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field


def say(what: str, figure: str) -> None:
    print(f"{what:<74} {figure}", flush=True)


def machine() -> str:
    """In general terms: what matters for the figures."""
    versions = f"CPython {platform.python_version()}, SQLite {sqlite3.sqlite_version}"
    return f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}, {versions}"


@dataclass
class Report:
    """Rates of several candidates in interleaved rounds, each as a part of its peer's."""

    peer: str
    rates: dict[tuple[str, str], list[float]] = field(default_factory=dict)

    def add(self, call: str, candidate: str, rate: float) -> None:
        self.rates.setdefault((call, candidate), []).append(rate)

    def median(self, call: str, candidate: str) -> float:
        return statistics.median(self.rates[call, candidate])

    def ratio(self, call: str, candidate: str, *, peer: str | None = None) -> float:
        """The median of what was found round by round, so that a slow minute cancels out."""
        ours, peers = self.rates[call, candidate], self.rates[call, peer or self.peer]
        return statistics.median(our / its for our, its in zip(ours, peers, strict=True))

    def table(self, calls: Sequence[str], candidates: Sequence[str], *, unit: str) -> None:
        """A row for each candidate: its rate of each call, and that as a part of the peer's."""
        print(f"\n{unit:<40}" + "".join(f"{call:>18}" for call in calls))
        for candidate in candidates:
            cells = [
                f"{self.median(call, candidate):10.0f} {self.ratio(call, candidate):7.2f}"
                for call in calls
            ]
            print(f"{candidate:<40}" + "".join(cells), flush=True)
