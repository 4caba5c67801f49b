"""All the figures of the README, each beside its peer of the same minutes: `make bench`."""

import shutil
import signal
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from executions.benchmarks import api, bill, containers, output, work
from executions.benchmarks.chart import draw
from executions.benchmarks.report import machine
from executions.tests.postgresql import find_programs, postgresql

CHART = Path(__file__).with_name("figures.svg")


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # as Ctrl-C: what was started ends
    began = time.monotonic()
    print(machine())
    with ExitStack() as stack:
        url = None
        if find_programs() is None:
            print("PostgreSQL is left out: its initdb is not to be found.")
        else:
            url = stack.enter_context(postgresql())
        if not shutil.which("redis-server"):
            print("Celery is left out: there is no redis-server.")
        rates = None
        if shutil.which("wrk"):
            rates = api.main(url)
        else:
            print("The API is left out: there is no wrk.")
        drains = work.main(url)
        bill.main(url)
    output.main()
    containers.main()
    if rates is not None:
        draw(rates, drains, CHART)
        print(f"The chart is in {CHART}.")
    print(f"All of it took {(time.monotonic() - began) / 60:.1f} minutes.")


if __name__ == "__main__":
    main()
