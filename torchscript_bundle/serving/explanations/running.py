"""Explanations in progress: each computes a pass in turn, with predictions in between."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from contextvars import copy_context

from torchscript_bundle.serving.api.guards import guard
from torchscript_bundle.serving.api.http import HttpResponse
from torchscript_bundle.serving.errors import RequestError
from torchscript_bundle.serving.explanations.explainer import Explanation
from torchscript_bundle.serving.observing.caller import Caller
from torchscript_bundle.serving.observing.steps import step


class ExplanationThread:
    """One explanation, which computes only during `take`; after `seconds`, a 503.

    After the deadline of the request's own headers it is a 504. captum loops over the passes
    itself, so each explanation has a thread, and two semaphores let either that thread or the one
    that calls `take` run.
    """

    def __init__(self, explanation: Explanation, seconds: float, caller: Caller) -> None:
        self.explanation = explanation
        self.caller = caller
        self.response: HttpResponse | None = None
        self._deadline = time.monotonic() + seconds
        self._go, self._back = threading.Semaphore(0), threading.Semaphore(0)
        # In a copy of the context, in which lines of the log name the request.
        threading.Thread(target=copy_context().run, args=(self._run,), daemon=True).start()

    def take(self) -> None:
        """Compute until the next pass, or the end."""
        if self.response is None:
            with step("forward", [self.caller]):
                self._go.release()
                self._back.acquire()

    def end(self) -> None:
        """Stop computing, so that the thread ends."""
        self._deadline = 0.0
        while self.response is None:
            self.take()

    def _run(self) -> None:
        self._go.acquire()
        self.response = guard(self.explanation.run, self._pause)
        self._back.release()

    def _pause(self) -> None:
        self._back.release()
        self._go.acquire()
        self.caller.check_deadline()
        if time.monotonic() > self._deadline:
            raise RequestError(
                503,
                "explaining takes longer than a request may; send fewer or shorter texts, or lower "
                "n_steps, or send the request again when fewer others are waiting",
                retry_after=1,
            )


class RunningExplanations:
    """At most `most` explanations, estimated at `seconds` together; each ends at its `deadline`."""

    def __init__(self, most: int, *, seconds: float, deadline: float) -> None:
        self._most = most
        self._seconds = seconds
        self._deadline = deadline
        self._order: deque[str] = deque()
        self._threads: dict[str, ExplanationThread] = {}

    def __len__(self) -> int:
        return len(self._threads)

    def __contains__(self, name: str) -> bool:
        return name in self._threads

    def add(self, name: str, explanation: Explanation, caller: Caller | None = None) -> None:
        """Begin an explanation; 413 if it alone takes too long, 503 if too many are running."""
        if explanation.seconds > self._seconds:
            steps = int(explanation.steps * self._seconds / explanation.seconds)
            lower = f", or n_steps of at most {steps}" if steps >= 2 else ""
            raise RequestError(
                413,
                f"explaining this takes about {math.ceil(explanation.seconds)} s on this server, "
                f"and a request may take {self._seconds:g}; send fewer or shorter texts{lower}",
            )
        waiting = sum(thread.explanation.seconds for thread in self._threads.values())
        if len(self._threads) == self._most or waiting + explanation.seconds > self._seconds:
            raise RequestError(
                503,
                "other explanations are under way; send this one again in "
                f"{math.ceil(waiting)} seconds",
                retry_after=math.ceil(waiting),
            )
        self._threads[name] = ExplanationThread(explanation, self._deadline, caller or Caller())
        self._order.append(name)

    def take(self) -> None:
        """Let the next explanation compute a pass."""
        if self._order:
            self._threads[self._order[0]].take()
            self._order.rotate(-1)

    def forget(self, name: str) -> None:
        """End an explanation that nobody waits for."""
        self._threads.pop(name).end()
        self._order.remove(name)

    def pop_done(self, name: str) -> HttpResponse | None:
        """Return an explanation's response and forget it; None while it is running."""
        response = self._threads[name].response
        if response is not None:
            del self._threads[name]
            self._order.remove(name)
        return response
