"""Progress for people: a bar on a terminal, plain lines elsewhere."""

import os
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


class Clock:
    """A budget of `seconds` from now on: by the wall, or as processor time over all cores of a busy machine.
    """

    def __init__(self, seconds: float, processor: bool = False) -> None:
        self.seconds, self.processor = seconds, processor
        self.begin = self.now()

    def now(self) -> float:
        return time.process_time() / len(os.sched_getaffinity(0)) if self.processor else time.monotonic()

    def share(self) -> float:
        """How much of the budget is gone; 1 and more: it is used up."""
        return (self.now() - self.begin) / self.seconds
