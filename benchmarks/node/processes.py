"""The processes of a measurement: started, asked, watched and ended, every wait with a limit."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from collections.abc import Mapping
from pathlib import Path
from typing import Any

START_LIMIT_S = 90.0
"""For a process to load its model and appear in the graph."""

ANSWER_LIMIT_S = 30.0
"""For an answer, beyond the time that the question itself takes."""

END_LIMIT_S = 10.0


class BenchError(RuntimeError):
    """A process of the measurement failed; the message holds what it printed last."""


class Process:
    """A Python module in a process of its own, its output in a log file.

    Use it as a context manager: however the measurement ends, the process ends with it.

    Args:
        name: of the process and its log.
        module: run as ``python -m``.
        arguments: of the module.
        folder: where the log goes.
        environment: None takes this process's.
    """

    _pipe: int | None = None

    def __init__(
        self,
        name: str,
        module: str,
        arguments: list[str],
        folder: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self._log = folder / f'{name}.log'
        with self._log.open('wb') as log:
            self._process = subprocess.Popen(
                [sys.executable, '-m', module, *arguments],
                stdin=self._pipe or subprocess.DEVNULL,
                stdout=self._pipe or log,
                stderr=log,
                env=dict(os.environ if environment is None else environment),
                bufsize=0,
            )

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(timeout=END_LIMIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def check(self) -> None:
        """Raise BenchError when the process has ended."""
        code = self._process.poll()
        if code is not None:
            raise BenchError(f'{self.name} ended with exit code {code}:\n{self.tail()}')

    def tail(self, lines: int = 15) -> str:
        """Return the last lines of its log."""
        return '\n'.join(self._log.read_text(errors='replace').splitlines()[-lines:])


class Helper(Process):
    """A process that answers questions: a module whose ``main`` calls :func:`serve`."""

    _pipe = subprocess.PIPE

    def tell(self, question: str, **arguments: Any) -> None:
        """Ask for something; fetch the answer with :meth:`answer`."""
        self.check()
        request = json.dumps({'question': question, 'arguments': arguments})
        self._process.stdin.write(request.encode() + b'\n')

    def answer(self, takes: float = 0.0) -> Any:
        """Return the answer to what was asked, which takes so many seconds by itself.

        Raises:
            BenchError: no answer in time, or the process failed.
        """
        limit = takes + ANSWER_LIMIT_S
        ready, _, _ = select.select([self._process.stdout], [], [], limit)
        if not ready:
            raise BenchError(f'{self.name} gave no answer in {limit:.0f} s:\n{self.tail()}')
        line = self._read_line(time.monotonic() + limit)
        reply = json.loads(line)
        if 'error' in reply:
            raise BenchError(f'{self.name} failed:\n{reply["error"]}')
        return reply['answer']

    def ask(self, question: str, takes: float = 0.0, **arguments: Any) -> Any:
        """Ask and return the answer; see :meth:`answer`."""
        self.tell(question, **arguments)
        return self.answer(takes)

    def _read_line(self, deadline: float) -> bytes:
        line = b''
        while not line.endswith(b'\n'):
            left = max(deadline - time.monotonic(), 0)
            ready, _, _ = select.select([self._process.stdout], [], [], left)
            part = os.read(self._process.stdout.fileno(), 1 << 16) if ready else b''
            if not part:
                raise BenchError(f'{self.name} broke off in its answer:\n{self.tail()}')
            line += part
        return line


def wait_until(
    condition: Callable[[], bool],
    what: str,
    processes: list[Process],
    limit: float = START_LIMIT_S,
) -> None:
    """Wait until a condition holds.

    Raises:
        BenchError: when it does not in time, or one of the processes ends.
    """
    deadline = time.monotonic() + limit
    while not condition():
        for process in processes:
            process.check()
        if time.monotonic() > deadline:
            raise BenchError(f'no {what} in {limit:.0f} s')
        time.sleep(0.1)


def serve(answers: object) -> None:
    """Answer questions from stdin with the methods of an object, until stdin ends."""
    for line in sys.stdin:
        request = json.loads(line)
        try:
            method = getattr(answers, request['question'])
            reply = {'answer': method(**request['arguments'])}
        except Exception:  # whatever it was, who asked prints it
            reply = {'error': traceback.format_exc()}
        print(json.dumps(reply), flush=True)
