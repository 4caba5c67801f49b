"""What several commands read from their command line."""

import datetime
import re
from argparse import ArgumentTypeError


def age(text: str) -> datetime.timedelta:
    """`30d`, `12h`, `90m`."""
    match = re.fullmatch(r"(\d{1,6})([dhm])", text, re.ASCII)
    if match is None:
        raise ArgumentTypeError(f"{text!r} is no age such as 30d, 12h or 90m")
    unit = {"d": "days", "h": "hours", "m": "minutes"}[match[2]]
    return datetime.timedelta(**{unit: int(match[1])})
