"""Every architecture, each in a process of its own, side by side."""

from __future__ import annotations

import logging
import multiprocessing
import os
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from multiprocessing.connection import Connection

import torch

from architectures.check import Row, check
from architectures.heads import HEADS
from torchscript_bundle.export.source import quiet_transformers
from torchscript_bundle.server.machine import usable_cores

#: Seconds after which a row is given up.
PATIENCE = 300
CONTEXT = multiprocessing.get_context("forkserver")
# Imported once, before the processes part; the second brings what all models import.
CONTEXT.set_forkserver_preload(["architectures.check", "transformers.models.llama.modeling_llama"])

Job = tuple[str, str]


def jobs() -> list[Job]:
    """Head and model type of each row of the table."""
    return [(name, kind) for name, head in HEADS.items() for kind in head.architectures]


def sweep(chosen: Sequence[Job], patience: float = PATIENCE) -> Iterator[Row]:
    """Yields the row of each job, in order. A crash or a hang of one is a row, not the end.

    Args:
        chosen: of `jobs()`.
        patience: seconds after which a row is given up.
    """
    # One thread each: tiny models gain nothing from more, and they would fight for the cores.
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ["TQDM_DISABLE"] = "1"
    with ThreadPoolExecutor(usable_cores()) as threads:
        yield from threads.map(partial(_run_apart, patience), chosen)


def _run_apart(patience: float, job: Job) -> Row:
    receiver, sender = CONTEXT.Pipe(duplex=False)
    process = CONTEXT.Process(target=_work, args=(job, sender))
    process.start()
    sender.close()
    try:
        if not receiver.poll(patience):
            process.kill()
            return Row(*job, "crashed", note=f"no answer within {patience} s", seconds=patience)
        row: Row = receiver.recv()
        return row
    except EOFError:
        process.join()
        return Row(*job, "crashed", note=f"the process ended with status {process.exitcode}")
    finally:
        process.join()


def _work(job: Job, sender: Connection) -> None:
    torch.set_num_threads(1)
    quiet_transformers()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    try:
        row = check(*job)
    except Exception as error:  # an architecture's own code runs here
        message = " ".join(str(error).split())
        row = Row(*job, "crashed", note=f"{type(error).__name__}: {message[:300]}")
    sender.send(row)
