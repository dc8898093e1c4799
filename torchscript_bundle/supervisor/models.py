"""The models of a supervisor: each with a TorchServe of its own, replaced without losing a request.

A TorchServe for each model costs a Java process (about 200 MB), and buys that models come, go and
die without the others.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from torchscript_bundle.disk import link_or_copy
from torchscript_bundle.server import Ports, Server, ServerError
from torchscript_bundle.server.archives import (
    NO_DEMANDS,
    ArchiveError,
    Demands,
    content_type,
    read_unpacked_samples,
)
from torchscript_bundle.server.machine import usable_cores
from torchscript_bundle.supervisor.front import SLOTS, Front
from torchscript_bundle.supervisor.lane import BATCHES, Backend, Lane
from torchscript_bundle.supervisor.metrics import Metrics

logger = logging.getLogger(__name__)

#: Seconds until a new TorchServe must have answered a sample.
START_SECONDS = 300.0
#: Seconds between two looks at a TorchServe, and between two at its workers.
LOOK_SECONDS, WORKERS_SECONDS = 1.0, 5.0
#: A model that has answered nothing for so long is asked a sample, which it must answer in time.
ASK_AFTER_SECONDS, ASK_SECONDS = 10.0, 30.0
#: Seconds without any answer, while requests run, after which a TorchServe is replaced: it kills a
#: worker that computes longer than its response_timeout (120 s by default) itself.
STUCK_SECONDS = 200.0
#: Seconds between two starts of a TorchServe that dies, and how often in so many seconds it may.
BACKOFF = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
DEATHS, DEATHS_SECONDS = 5, 600.0


@dataclass(frozen=True)
class Stamp:
    """What changes when a file is replaced."""

    modified: int
    size: int
    inode: int

    @classmethod
    def of(cls, path: Path) -> Stamp:
        """Return the stamp of a file."""
        found = path.stat()
        return cls(found.st_mtime_ns, found.st_size, found.st_ino)


@dataclass(frozen=True)
class Places:
    """Folders, the workers that were asked for, and what every archive must be."""

    run_dir: Path
    log_dir: Path
    workers: int | None = None
    demands: Demands = NO_DEMANDS


@dataclass(eq=False)
class Served:
    """A TorchServe that answers, its backend, and its archive as it is kept."""

    server: Server
    backend: Backend
    archive: Path
    sample: str
    capacity: int
    workers: frozenset[int] = frozenset()


@dataclass(eq=False)
class Model:
    """A model, and the TorchServe that serves it at present."""

    lane: Lane
    served: Served | None = None
    #: What it is started again with, whatever has become of the file that it was read from.
    archive: Path | None = None
    stamp: Stamp | None = None
    #: Why it does not answer; empty if it does.
    failure: str = "it starts"
    deaths: deque[float] = field(default_factory=deque)
    suspected: asyncio.Event = field(default_factory=asyncio.Event)
    changing: asyncio.Lock = field(default_factory=asyncio.Lock)
    watcher: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        """The name that it is served by."""
        return self.lane.model

    @property
    def given_up(self) -> bool:
        """Whether it died so often that starting it again is no help."""
        return len(self.deaths) > DEATHS


class Models:
    """Starts, watches, replaces and ends the TorchServes of all models."""

    def __init__(
        self, archives: Callable[[], Iterable[Path]], places: Places, front: Front, drain: float
    ) -> None:
        self._archives, self._places, self._front, self._drain = archives, places, front, drain
        self.all: dict[str, Model] = {}
        self.lanes: dict[str, Lane] = {}
        self.metrics = Metrics(self.lanes.values, self.is_ready)
        self._reloading = asyncio.Lock()
        self._slots = set(range(SLOTS))
        self._refused: dict[str, Stamp] = {}

    def is_ready(self, name: str) -> bool:
        """Return whether a model answers."""
        return not self.all[name].failure

    def look_at(self, name: str) -> None:
        """Look at a model's TorchServe now: it has lost a request. Until then, it gets no other."""
        if name in self.all:
            self.all[name].lane.close()
            self.all[name].suspected.set()

    @property
    def given_up(self) -> bool:
        """Whether no model is left that starting again may help."""
        return all(model.given_up for model in self.all.values())

    def missing(self) -> str:
        """Return which models do not answer and why; empty if all do."""
        failures = [f"{each.name}: {each.failure}" for each in self.all.values() if each.failure]
        return "; ".join(failures) if self.all else "there is no model"

    async def reload(self, *, again: bool = True) -> list[str]:
        """Serve the archives that there are now; return what failed, which is served as before.

        An archive that has failed is tried once more only if `again`, or if it has changed.
        """
        async with self._reloading:
            try:
                archives = {path.stem: path for path in self._archives()}
            except ServerError as error:
                return [str(error)]
            for name in self.all.keys() - archives.keys():
                await self._remove(self.all[name])
            failed = []
            for name, archive in archives.items():
                try:
                    stamp = Stamp.of(archive)
                    if again or self._refused.get(name) != stamp:
                        self._refused[name] = stamp
                        await self._load(name, archive, stamp, len(archives))
                        del self._refused[name]
                except (ServerError, ArchiveError, OSError) as error:
                    failed.append(f"{name}: {error}")
                    logger.error("%s: %s", name, error)
            return failed

    async def stop(self) -> None:
        """End all TorchServes."""
        models = list(self.all.values())
        watchers = [each.watcher for each in models if each.watcher]
        for watcher in watchers:
            watcher.cancel()
        await asyncio.gather(*watchers, return_exceptions=True)
        await asyncio.gather(*(self._end(each.served) for each in models if each.served))

    async def _load(self, name: str, archive: Path, stamp: Stamp, models: int) -> None:
        """Serve an archive, unless it is served; what is new and fails is not kept."""
        model = self.all.get(name)
        if model is None:
            model = Model(Lane(name))
            self.all[name], self.lanes[name] = model, model.lane
            self.metrics.add(name)
        elif model.stamp == stamp:
            return
        try:
            async with model.changing:
                await self._replace(model, archive, models)
                model.stamp = stamp
        except BaseException:
            if model.watcher is None:
                del self.all[name], self.lanes[name]
            raise
        if model.watcher is None:
            model.watcher = asyncio.create_task(self._watch(model, models))

    async def _remove(self, model: Model) -> None:
        """Answer what a model has, and end it."""
        logger.info("%s: its archive is gone; it ends", model.name)
        if model.watcher:
            model.watcher.cancel()
        async with model.changing:
            del self.lanes[model.name]
            if model.served:
                await self._retire(model.lane, model.served)
            del self.all[model.name]

    async def _replace(self, model: Model, archive: Path, models: int) -> None:
        """Start a TorchServe with an archive, and give it the requests; end the old one.

        Where it fails, the old one goes on.
        """
        old = model.served
        try:
            new = await self._start(model, archive, models)
        except (ServerError, ArchiveError, OSError) as error:
            if old is None:
                model.failure = str(error)
            raise
        model.served, model.archive = new, new.archive
        model.failure = ""
        model.lane.open(new.backend, new.capacity)
        logger.info("%s: %s serves; %s", model.name, archive, new.server.state.in_words())
        if old is not None:
            await self._retire(model.lane, old)

    async def _start(self, model: Model, archive: Path, models: int) -> Served:
        """Start a TorchServe beside the present one, and wait until it has answered a sample."""
        number = 1 if model.served and model.served.server.run_dir.name.endswith(".0") else 0
        place = f"{model.name}.{number}"
        server = Server(self._places.run_dir / "models" / place, self._places.log_dir / place)
        slot = self._slots.pop()
        try:
            kept = await asyncio.to_thread(_keep, archive, server.run_dir)
            served = await asyncio.to_thread(self._start_server, kept, server, slot, models)
        except BaseException as error:
            await asyncio.to_thread(server.stop)
            self._slots.add(slot)
            if isinstance(error, ServerError):  # in the words of who gave the archive
                raise ServerError(str(error).replace(str(kept), str(archive))) from error
            raise
        return served

    def _start_server(self, kept: Path, server: Server, slot: int, models: int) -> Served:
        server.start(
            kept,
            _free_ports(),
            workers=self._places.workers,
            cores=max(1, usable_cores() // models),
            restart=True,
            socket=self._front.slot(slot),
            demands=self._places.demands,
        )
        sample = read_unpacked_samples(server.state.store)[0]
        kind = content_type(sample)
        server.wait_ready(sample.encode(), START_SECONDS, content_type=kind)
        server.warm_up(sample.encode(), content_type=kind)
        state = server.state
        backend = Backend(slot, server.token("inference"))
        capacity = BATCHES * state.workers * state.batch_size
        workers = frozenset(server.worker_pids)
        return Served(server, backend, kept, sample, capacity, workers)

    async def _retire(self, lane: Lane, served: Served) -> None:
        """End a TorchServe once it has answered what it was given."""
        ends = time.monotonic() + self._drain
        while lane.running_on(served.backend) and time.monotonic() < ends:
            await asyncio.sleep(0.05)
        if left := lane.running_on(served.backend):
            logger.error("%s: %d requests were not answered in time", lane.model, left)
        await self._end(served)

    async def _end(self, served: Served) -> None:
        await asyncio.to_thread(served.server.stop)
        self._slots.add(served.backend.slot)

    async def _watch(self, model: Model, models: int) -> None:
        """Start a model's TorchServe again when it dies or hangs; note whether it answers."""
        looked = 0.0
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(model.suspected.wait(), LOOK_SECONDS)
            model.suspected.clear()
            if model.changing.locked():
                continue
            async with model.changing:
                model.lane.forget()
                reason = await self._why_restart(model)
                if reason:
                    await self._restart(model, models, reason)
                    continue
                if model.served and model.lane.backend is None:
                    model.lane.open(model.served.backend, model.served.capacity)
                if time.monotonic() - looked > WORKERS_SECONDS:
                    looked = time.monotonic()
                    await self._count_workers(model)
                    await self._ask(model)

    async def _why_restart(self, model: Model) -> str:
        served = model.served
        if served is None or not await asyncio.to_thread(lambda: served.server.running):
            return "TorchServe has ended"
        stuck = time.monotonic() - model.lane.moved
        if model.lane.running and stuck > STUCK_SECONDS:
            return f"no request was answered for {stuck:.0f} s"
        return ""

    async def _restart(self, model: Model, models: int, reason: str) -> None:
        now = time.monotonic()
        model.deaths.append(now)
        while model.deaths[0] < now - DEATHS_SECONDS:
            model.deaths.popleft()
        model.failure = reason
        model.lane.close()
        self.metrics.torchserve_restarts.labels(model.name).inc()
        if served := model.served:
            model.served = None
            await self._end(served)
        wait = BACKOFF[min(len(model.deaths), len(BACKOFF)) - 1]
        logger.error(
            "%s: %s; it starts again in %.0f s (%d times in %.0f s)",
            *(model.name, reason, wait, len(model.deaths), DEATHS_SECONDS),
        )
        await asyncio.sleep(wait)
        try:
            assert model.archive is not None
            await self._replace(model, model.archive, models)
        except (ServerError, ArchiveError, OSError) as error:
            logger.error("%s: %s", model.name, error)

    async def _count_workers(self, model: Model) -> None:
        served = model.served
        assert served is not None
        found = frozenset(await asyncio.to_thread(lambda: served.server.worker_pids))
        fresh = len(found - served.workers)
        served.workers = found or served.workers
        if fresh:
            self.metrics.worker_restarts.labels(model.name).inc(fresh)
            logger.error("%s: TorchServe has started %d worker(s) anew", model.name, fresh)

    async def _ask(self, model: Model) -> None:
        """Find out whether a model answers: requests that end show it, else a sample is sent."""
        served = model.served
        assert served is not None
        now = time.monotonic()
        if model.lane.moved > now - ASK_AFTER_SECONDS and not model.failure and model.lane.running:
            return
        try:
            answer = await asyncio.to_thread(
                served.server.predict,
                served.sample.encode(),
                content_type=content_type(served.sample),
                timeout=ASK_SECONDS,
            )
        except ServerError as error:
            model.failure = f"a sample got no answer ({error})"
        else:
            model.failure = "" if answer.status == 200 else f"a sample got {answer.status}"


def _keep(archive: Path, folder: Path) -> Path:
    """Keep an archive in a folder, as a second name of the file where that is possible."""
    kept = folder / archive.name
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    link_or_copy(archive, kept)
    return kept


def _free_ports() -> Ports:
    """Return ports that are free at the moment."""
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(5)]
    ports = Ports(*(probe.getsockname()[1] for probe in probes))
    for probe in probes:
        probe.close()
    return ports
