"""Contenders in processes of their own, which take turns: each keeps memory in its own way."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

Work = Mapping[str, Callable[[], Any]]
Build = Callable[..., tuple[Any, Work]]
Ask = Callable[[str], None]


def _serve(line: Connection, build: Build, given: tuple[Any, ...]) -> None:
    told, work = build(*given)
    line.send(told)
    for key in iter(line.recv, None):
        work[key]()
        line.send(None)


@contextmanager
def process(build: Build, *given: Any) -> Iterator[tuple[Any, Ask]]:
    """A process that does what it is asked for, by name; asking waits until it is done.

    Args:
        build: Gives what the process tells at once, and what it can be asked for.
        *given: To ``build``.

    Yields:
        What it told, and how it is asked.
    """
    context = get_context("spawn")
    here, there = context.Pipe()
    started = context.Process(target=_serve, args=(there, build, given), daemon=True)
    started.start()
    there.close()

    def ask(key: str) -> None:
        here.send(key)
        here.recv()

    try:
        yield here.recv(), ask
        here.send(None)
        started.join()
    finally:
        started.kill()
