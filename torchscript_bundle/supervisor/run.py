"""Run models behind one front until a signal says to end: start, watch, reload, drain."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import signal
import tempfile
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
from aiohttp import web

from torchscript_bundle.server import ServerError
from torchscript_bundle.server.client import send
from torchscript_bundle.supervisor.dispatcher import (
    Dispatcher,
    Finished,
    Phase,
    read_finished,
    serve,
)
from torchscript_bundle.supervisor.front import Address, Front
from torchscript_bundle.supervisor.keys import open_keys
from torchscript_bundle.supervisor.models import Models, Places
from torchscript_bundle.supervisor.record import FILE, Record, clear, find

logger = logging.getLogger(__name__)

#: Exit statuses: all requests were answered, something failed, requests were lost at the deadline.
DRAINED, FAILED, LOST = 0, 1, 3
#: Seconds between two looks at nginx, keys and, where asked to, the folder of archives.
LOOK_SECONDS = 2.0
#: Those who come are told to go elsewhere until nobody has come for so many seconds, at most so
#: long: then there is nobody to tell them.
QUIET_SECONDS, LONGEST_REFUSING = 1.0, 10.0
#: Seconds that nginx has to send the last bytes.
LAST_BYTES_SECONDS = 5.0
#: Seconds that TorchServes and nginx take to end.
END_SECONDS = 45.0


@dataclass(frozen=True)
class Settings:
    """What `run` was asked for."""

    archives: Callable[[], Iterable[Path]]
    address: Address
    admin_host: str
    admin_port: int
    places: Places
    keys: Path | None
    with_keys: bool
    watch: bool
    unready_seconds: float
    drain_seconds: float
    arguments: Sequence[str]


class Supervisor:
    """Runs until it is told to end."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        places = settings.places
        if other := find(places.run_dir):
            raise ServerError(
                f"process {other.pid} runs in {places.run_dir}; give another --run-dir, or stop it"
            )
        clear(places.run_dir)
        places.run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        places.log_dir.mkdir(parents=True, exist_ok=True)
        self._keys = open_keys(settings.keys, places.run_dir, required=settings.with_keys)
        self._folder = Path(tempfile.mkdtemp(prefix="ts-run-"))
        self._front = Front(settings.address, self._folder, places.log_dir)
        self._models = Models(settings.archives, places, self._front, settings.drain_seconds)
        self._phase = Phase()
        self._started = False
        self._signals = 0
        self._told = asyncio.Event()
        self._reload_asked = asyncio.Event()

    async def run(self) -> int:
        """Serve until a signal; return the exit status."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end_asked)
        loop.add_signal_handler(signal.SIGHUP, self._reload_asked.set)
        runners: list[web.AppRunner] = []
        try:
            runners = await self._listen()
            await asyncio.to_thread(self._front.start)
            self._record().save(self._settings.places.run_dir)
            if await self._begin():
                await self._until_told()
            return await self._drain()
        finally:
            await asyncio.to_thread(self._front.kill)
            await self._models.stop()
            for runner in runners:
                await runner.cleanup()
            shutil.rmtree(self._folder, ignore_errors=True)
            (self._settings.places.run_dir / FILE).unlink(missing_ok=True)

    def _record(self) -> Record:
        settings = self._settings
        return Record(
            pid=os.getpid(),
            began=psutil.Process().create_time(),
            url=settings.address.url,
            admin=Address(settings.admin_host, settings.admin_port).url,
            keys=str(self._keys.path) if self._keys.required and self._keys.path else None,
            folder=str(self._folder),
            arguments=list(settings.arguments),
            end_seconds=settings.unready_seconds + settings.drain_seconds + END_SECONDS,
        )

    async def _listen(self) -> list[web.AppRunner]:
        models = self._models
        finished = Finished(models.lanes, models.metrics, models.look_at)
        await read_finished(self._front.finished, finished)
        dispatcher = Dispatcher(
            self._keys,
            models.lanes,
            models.metrics,
            self._phase,
            ready=self._missing,
            reload=self._models.reload,
        )
        settings = self._settings
        try:
            return [
                await serve(dispatcher.app, socket=self._front.dispatcher),
                await serve(self._admin(), host=settings.admin_host, port=settings.admin_port),
            ]
        except OSError as error:
            raise ServerError(
                f"{settings.admin_host}:{settings.admin_port}: {error.strerror}; give another "
                "--admin-port"
            ) from error

    async def _begin(self) -> bool:
        """Start all models; return False if a signal came first. ServerError if one fails."""
        starting = asyncio.create_task(self._models.reload())
        told = asyncio.create_task(self._told.wait())
        await asyncio.wait({starting, told}, return_when=asyncio.FIRST_COMPLETED)
        told.cancel()
        if not starting.done():
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            return False
        if failed := starting.result():
            raise ServerError("; ".join(failed))
        self._started = True
        logger.info("serving at %s", self._settings.address.url)
        return True

    def _end_asked(self) -> None:
        self._signals += 1
        self._told.set()

    async def _until_told(self) -> None:
        """Reload when asked to, and keep nginx alive, until a signal says to end."""
        reloading: asyncio.Task[list[str]] | None = None
        while not self._told.is_set():
            await self._wait_for_signal(LOOK_SECONDS)
            if reloading is None or reloading.done():
                reloading = self._reload_if_asked()
            self._refresh_keys()
            if not self._front.running:
                logger.error("nginx has ended; it starts again")
                await asyncio.to_thread(self._front.start)
            if self._models.given_up:
                raise ServerError(f"given up: {self._models.missing()}")
        if reloading is not None:
            reloading.cancel()
            await asyncio.gather(reloading, return_exceptions=True)

    async def _wait_for_signal(self, seconds: float) -> None:
        waits = [asyncio.create_task(each.wait()) for each in (self._told, self._reload_asked)]
        await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for each in waits:
            each.cancel()

    def _reload_if_asked(self) -> asyncio.Task[list[str]] | None:
        """Begin to serve what changed, where a signal or `--watch` asks for it."""
        asked = self._reload_asked.is_set()
        self._reload_asked.clear()
        if not asked and not self._settings.watch:
            return None
        return asyncio.create_task(self._models.reload(again=asked))

    def _refresh_keys(self) -> None:
        try:
            if self._keys.refresh():
                logger.info("%s: the keys were read anew", self._keys.path)
        except ServerError as error:
            logger.error("%s; the keys of before stay valid", error)

    async def _drain(self) -> int:
        """Answer what there is, while load balancers take notice; return the exit status."""
        settings = self._settings
        started = time.monotonic()
        self._phase.closing = True
        logger.info("ending: not ready any more, for %g s", settings.unready_seconds)
        await self._wait(lambda: False, settings.unready_seconds)
        self._phase.refusing = True
        self._phase.refused = time.monotonic()
        await self._wait(self._is_quiet, LONGEST_REFUSING)
        await self._wait(lambda: not self._left(), settings.drain_seconds)
        left = self._left()
        if left:
            logger.error("%d requests were not answered within %g s", left, settings.drain_seconds)
        else:
            await asyncio.to_thread(self._front.quit, LAST_BYTES_SECONDS)
        logger.info("ended after %.1f s", time.monotonic() - started)
        return LOST if left else DRAINED

    async def _wait(self, done: Callable[[], bool], seconds: float) -> None:
        """Wait until it is done, so many seconds at most, or until a second signal."""
        ends = time.monotonic() + seconds
        while not done() and time.monotonic() < ends and self._signals < 2:
            await asyncio.sleep(0.05)

    def _is_quiet(self) -> bool:
        """Return whether nobody has come for a while, whose connection would be reset."""
        return time.monotonic() - self._phase.refused > QUIET_SECONDS

    def _left(self) -> int:
        return sum(lane.waiting + len(lane.running) for lane in self._models.lanes.values())

    def _missing(self) -> str:
        if self._phase.closing:
            return "the server is about to end"
        return self._models.missing()

    def _admin(self) -> web.Application:
        """Return the application for probes and Prometheus."""

        def probe(missing: Callable[[], str]) -> Callable[[web.Request], Awaitable[web.Response]]:
            async def tell(_: web.Request) -> web.Response:
                why = missing()
                return web.json_response(
                    {"ok": not why, "missing": why}, status=503 if why else 200
                )

            return tell

        async def metrics(_: web.Request) -> web.Response:
            scraped = await asyncio.to_thread(self._scrape)
            text = self._models.metrics.text(scraped)
            return web.Response(body=text, headers={"Content-Type": "text/plain; version=0.0.4"})

        def dead() -> str:
            over = [each.name for each in self._models.all.values() if each.given_up]
            return f"{', '.join(over)} ended again and again" if over else ""

        app = web.Application()
        app.router.add_get("/live", probe(dead))
        app.router.add_get("/ready", probe(self._missing))
        app.router.add_get("/startup", probe(lambda: "" if self._started else "it starts"))
        app.router.add_get("/metrics", metrics)
        return app

    def _scrape(self) -> dict[str, str]:
        """Return the metrics of each TorchServe that answers."""
        texts = {}
        for model in list(self._models.all.values()):
            if model.served is None:
                continue
            url = f"http://127.0.0.1:{model.served.server.state.ports.metrics}/metrics"
            with contextlib.suppress(ServerError):
                answer = send(urllib.request.Request(url), 2)
                if answer.status == 200:
                    texts[model.name] = answer.body.decode("utf-8", "replace")
        return texts


__all__ = ["Settings", "Supervisor"]
