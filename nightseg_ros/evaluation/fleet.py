"""Many bags: evaluated side by side on this machine's cores or on a Ray cluster.

Each bag has a process of its own: one that crashes or runs out of memory costs its own result, not
the fleet's. A result is on disk when it is complete, so that an evaluation that was killed goes on
where it was.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import as_completed
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from nightseg_ros.evaluation.bag_job import EXPECTED_ERRORS
from nightseg_ros.evaluation.bag_job import BagJob
from nightseg_ros.evaluation.bag_job import run_offline
from nightseg_ros.evaluation.orphans import end_with_parent

# Forked, a process inherits locks that threads of its parent hold.
_PROCESSES = multiprocessing.get_context('spawn')


@dataclass(frozen=True)
class Outcome:
    """What became of a bag.

    Attributes:
        job: what was asked for.
        error: why there is no result, or ''.
    """

    job: BagJob
    error: str = ''


def run_locally(jobs: Sequence[BagJob], at_once: int) -> Iterator[Outcome]:
    """Evaluate bags in processes of this machine; yields each as it ends.

    Interrupted, bags at work write what they have.

    Args:
        jobs: bags.
        at_once: processes.
    """
    with ThreadPoolExecutor(at_once) as pool:
        pending = [pool.submit(_in_process, job) for job in jobs]
        try:
            for future in as_completed(pending):
                yield future.result()
        finally:
            for future in pending:
                future.cancel()
            for process in _PROCESSES.active_children():
                process.terminate()


def _in_process(job: BagJob) -> Outcome:
    receiver, sender = _PROCESSES.Pipe(duplex=False)
    process = _PROCESSES.Process(target=_work, args=(job, sender), name=job.bag.name)
    process.start()
    sender.close()
    try:
        error = receiver.recv()
    except EOFError:
        error = None
    process.join()
    if error is None:
        error = f'{job.bag.name}: the process that evaluated it ended with {process.exitcode}'
    return Outcome(job, error)


def _work(job: BagJob, sender: Connection) -> None:
    """Evaluate a bag in this process, and send why it failed ('' if it did not)."""
    # Ctrl-C reaches the whole group: the parent decides, and terminates.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
    sender.send(_error_of(job))


def _error_of(job: BagJob) -> str:
    try:
        run_offline(job)
    except EXPECTED_ERRORS as error:
        return f'{job.bag.name}: {error}'
    except Exception as error:  # one bag must not end the fleet
        return f'{job.bag.name}: {type(error).__name__}: {error}'
    return ''


# Ray


class RayMissingError(ValueError):
    """Ray is not installed, or there is no cluster at the address."""


def run_on_ray(jobs: Sequence[BagJob], address: str) -> Iterator[Outcome]:
    """Evaluate bags on a Ray cluster whose machines all see the bags and the output.

    Args:
        jobs: bags; each takes as many cores as it has workers.
        address: of the cluster: 'auto', 'HOST:PORT' or 'ray://HOST:PORT'; 'local' starts one on
            this machine, for as long as this takes.

    Raises:
        RayMissingError: Ray is not installed, or does not answer.
    """
    # Else Ray reports its use to its makers.
    os.environ.setdefault('RAY_USAGE_STATS_ENABLED', '0')
    try:
        import ray
    except ImportError as error:
        raise RayMissingError(f'Ray cannot be imported ({error}): pip install ray') from error
    try:
        ray.init(address=address, include_dashboard=False, log_to_driver=False)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise RayMissingError(f'there is no Ray cluster at {address} ({error})') from error
    try:
        evaluate = ray.remote(_error_of)
        # What no machine has would be waited for without end.
        most = max(int(node['Resources'].get('CPU', 0)) for node in ray.nodes() if node['Alive'])
        pending: dict[Any, BagJob] = {
            evaluate.options(num_cpus=min(job.workers, most), name=job.bag.name).remote(job): job
            for job in jobs
        }
        while pending:
            done, _ = ray.wait(list(pending), num_returns=1)
            job = pending.pop(done[0])
            try:
                yield Outcome(job, ray.get(done[0]))
            except ray.exceptions.RayError as error:  # the worker lacks us, or died again and again
                reason = str(error).strip().splitlines()[-1]
                yield Outcome(job, f'{job.bag.name}: {type(error).__name__}: {reason}')
    finally:
        ray.shutdown()
