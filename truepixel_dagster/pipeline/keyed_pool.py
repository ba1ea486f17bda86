"""A bounded pool of threads in which the tasks of one key run one after the other, in the order submitted.

>>> from truepixel_dagster.pipeline.keyed_pool import KeyedPool
>>> done = []
>>> pool = KeyedPool(workers=4, pending=100)
>>> for number in range(3):
...     pool.submit("shop:client", lambda number=number: done.append(number))
...
>>> pool.drain()
>>> done
[0, 1, 2]
>>> pool.close()
"""

from __future__ import annotations

import queue
import threading
import zlib
from collections.abc import Callable
from types import TracebackType

Task = Callable[[], None]


class KeyedPool:
    """Runs tasks in the background: a key is always on the same worker, and a full worker makes `submit` wait.

    The first task that fails stops the pool: nothing behind it runs, and the next call raises its error as it is.

    Arguments:
        workers: How many threads.
        pending: How many tasks may wait for each of them.
    """

    def __init__(self, workers: int, pending: int) -> None:
        self._queues: list[queue.Queue[Task | None]] = [queue.Queue(pending) for _ in range(workers)]
        self._failure: BaseException | None = None
        self._closed = False
        self._threads = [
            threading.Thread(target=self._work, args=(tasks,), name=f"background-{number}", daemon=True)
            for number, tasks in enumerate(self._queues)
        ]
        for thread in self._threads:
            thread.start()

    def worker_of(self, key: str) -> int:
        """The worker that runs a key's tasks: the same in every process."""
        return zlib.crc32(key.encode()) % len(self._queues)

    def submit(self, key: str, task: Task) -> None:
        """Have a task run after all earlier ones of its key; waits while the worker's queue is full.

        Raises:
            BaseException: What the first task that failed raised.
        """
        self.raise_failure()
        self._queues[self.worker_of(key)].put(task)

    def drain(self) -> None:
        """Wait until every task has run.

        Raises:
            BaseException: What the first task that failed raised.
        """
        for tasks in self._queues:
            tasks.join()
        self.raise_failure()

    def raise_failure(self) -> None:
        """Raise what the first task that failed raised, if one has."""
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        """End the threads; tasks that have not begun are dropped."""
        if self._closed:
            return
        self._closed = True
        for tasks in self._queues:
            tasks.put(None)
        for thread in self._threads:
            thread.join()

    def __enter__(self) -> KeyedPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _work(self, tasks: queue.Queue[Task | None]) -> None:
        while (task := tasks.get()) is not None:
            try:
                # After a failure or at the end, what waits is taken off the queue without being run.
                if self._failure is None and not self._closed:
                    task()
            except BaseException as error:
                self._failure = self._failure or error
            finally:
                tasks.task_done()
        tasks.task_done()
