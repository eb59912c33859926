"""Progress for people: a bar on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")


def say(text: str) -> None:
    """Prints one line to standard error without breaking a bar."""
    tqdm.write(text, file=sys.stderr)
    sys.stderr.flush()


def track(steps: Iterable[T], label: str, total: int) -> Iterator[T]:
    """Yields `steps`, showing how far it is: a tqdm bar on a terminal, else a line every ten seconds."""
    if sys.stderr.isatty():
        yield from tqdm(steps, desc=label, total=total, leave=False, dynamic_ncols=True)
        return
    begin = last = time.monotonic()
    for done, step in enumerate(steps):
        now = time.monotonic()
        if now - last > 10:
            last = now
            say(f"{label}: {done} of {total}, {now - begin:.0f} s")
        yield step
    say(f"{label}: done, {time.monotonic() - begin:.0f} s")
