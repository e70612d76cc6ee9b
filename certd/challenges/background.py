"""An event loop in a daemon thread, which begins with the first thing to do."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")

LAST = 1.0  # seconds: after that, whoever gives up does not wait for a provider either


class Background:
    """For waits, of which there may be thousands; whoever waits holds no thread."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._stopped = False

    def run(self, begin: Callable[[], Coroutine[Any, Any, T]]) -> Future[T]:
        """Run what ``begin`` makes; once this has stopped, the future is cancelled."""
        with self._lock:
            if self._stopped:
                never: Future[T] = Future()
                never.cancel()
                return never
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._loop.set_debug(False)  # it would log key authorizations
                self._thread = threading.Thread(
                    target=self._loop.run_forever, name=self._name, daemon=True
                )
                self._thread.start()
            return asyncio.run_coroutine_threadsafe(begin(), self._loop)

    def stop(self) -> None:
        """Give up what is under way, for good."""
        with self._lock:
            self._stopped = True
            loop, self._loop = self._loop, None
            thread = self._thread
        if loop is None or thread is None:
            return
        with contextlib.suppress(TimeoutError):
            asyncio.run_coroutine_threadsafe(_cancel_all(), loop).result(2 * LAST)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(LAST)
        if not thread.is_alive():
            loop.close()


async def _cancel_all() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def in_thread(work: Callable[[], T], name: str) -> T:
    """Run this in a daemon thread of its own: it may last, and nobody can end it.

    Whoever gives up waiting still waits for its end: what it holds is not free before.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def tell(result: T | None, error: BaseException | None) -> None:
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result, error = None, None
        try:
            result = work()
        except BaseException as raised:
            error = raised
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(tell, result, error)

    threading.Thread(target=run, name=name, daemon=True).start()
    try:
        return await asyncio.shield(done)
    except asyncio.CancelledError:
        await asyncio.wait([done], timeout=LAST)
        raise
