"""Tests in a process that is forked, so that the libraries are imported."""

import contextlib
import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import coverage
import pytest

SLOW = 'sharded_steps or compiles_with_the_gradients or importing_again'
"""Tests that wait for a compiler or for other processes."""


@dataclass(eq=False)
class Watch:
    """A plugin of pytest: chooses the tests, and notes what they did.

    Args:
        chosen: Names of the tests in the order to run; None for all.
        measured: Counts lines, test by test.
    """

    chosen: list[str] | None = None
    measured: coverage.Coverage | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    failed: str = ''

    def pytest_collection_modifyitems(self, items: list) -> None:
        if self.chosen is not None:
            found = {item.nodeid: item for item in items}
            items[:] = [found[n] for n in self.chosen if n in found]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: Any) -> Any:
        if self.measured is not None:
            self.measured.switch_context(item.nodeid)
        start = time.monotonic()
        result = yield
        self.seconds[item.nodeid] = time.monotonic() - start
        return result

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed:
            self.failed = self.failed or report.nodeid

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed:
            self.failed = self.failed or f'import of {report.nodeid}'


def apart(work: Callable[[], Any], tree: Path, limit: float) -> Any:
    """What a call returns in a process of its own; None after a timeout."""
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        os.setsid()
        os.chdir(tree)
        log = os.open(tree / 'log.txt', os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.environ['PYTHONPATH'] = str(tree)
        sys.path.insert(0, str(tree))
        try:
            os.write(writer, b' ')
            with open(writer, 'w') as pipe:
                json.dump(work(), pipe)
        finally:
            os._exit(0)
    os.close(writer)
    said, end = b'', time.monotonic() + limit
    with open(reader, 'rb', buffering=0) as pipe:
        while select.select([pipe], [], [], max(0, end - time.monotonic()))[0]:
            part = pipe.read(1 << 20)
            if not part:
                break
            said += part
        else:
            said = b''
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    if not said:
        return None
    # Nothing, if the process died: what a mutant may do.
    return json.loads(said) if said.strip() else {'failed': 'the process'}


def run_tests(files: Sequence[str], watch: Watch) -> dict[str, Any]:
    """Run tests in this process until one fails."""
    options = ['-q', '-x', '--no-header', '-p', 'no:cacheprovider']
    marks = ['-o', 'addopts=', '-m', 'not slow and not deploy']
    names = ['-k', f'not ({SLOW})']
    status = pytest.main([*options, *marks, *names, *files], plugins=[watch])
    failed = watch.failed or (status and f'status {int(status)}')
    return {'failed': failed or '', 'seconds': watch.seconds}
