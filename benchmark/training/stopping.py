"""Being asked to stop: Ctrl-C, SIGTERM (a scheduler takes the machine) or SIGUSR1 (it warns). Everywhere they raise at
once; a pretraining puts them off to the end of its step and writes a checkpoint first. Asking again raises."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

ASKS = (signal.SIGTERM, signal.SIGUSR1)
ECHO = 2.0  # seconds in which the same wish may arrive twice, through a launcher


class Stopped(BaseException):
    """Not an error, and never swallowed as one: the process was asked to end, by this signal."""

    def __init__(self, number: int):
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.code = 128 + number  # what a shell calls it


def listen() -> None:
    """From now on SIGTERM and SIGUSR1 raise Stopped in the main thread."""
    for number in ASKS:
        signal.signal(number, _stop)


def ignore() -> None:
    """From now on both are ignored: this process is on its way out, and a scheduler may ask twice."""
    for number in ASKS:
        signal.signal(number, signal.SIG_IGN)


def find_request(error: BaseException) -> BaseException:
    """The wish to stop that an error was made from, else the error: Python before 3.12 turns whatever is raised in a
    `__set_name__`, as while modules are imported, into a RuntimeError."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, (Stopped, KeyboardInterrupt)):
            return cause
        cause = cause.__cause__
    return error


def _stop(number: int, _: object) -> None:
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise Stopped(number)


@contextmanager
def postpone() -> Iterator[Callable[[], int | None]]:
    """In this block the first signal is only noted: gives a function that says which, or None."""
    noted: list[int] = []
    when = 0.0

    def note(number: int, frame: object) -> None:
        nonlocal when
        if not noted:
            when = time.monotonic()
        elif time.monotonic() - when > ECHO:
            _stop(number, frame)
        noted.append(number)

    if threading.current_thread() is not threading.main_thread():  # signals are the main thread's
        yield lambda: None
        return
    before = {number: signal.signal(number, note) for number in (signal.SIGINT, *ASKS)}
    try:
        yield lambda: noted[0] if noted else None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if noted:
        _stop(noted[0], None)
