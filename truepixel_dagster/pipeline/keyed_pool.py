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

Task = Callable[[], object]


class KeyedPool:
    """Run tasks in the background: each key always uses the same worker, and a full worker makes `submit` wait.

    The first task that fails stops the pool: no later task runs, and the next call raises the task's error unchanged.

    Arguments:
        workers: The number of threads.
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
        """Return the number of the worker that runs a key's tasks: the same in every process."""
        return zlib.crc32(key.encode()) % len(self._queues)

    def submit(self, key: str, task: Task) -> None:
        """Run a task after all earlier ones of its key; wait while the worker's queue is full.

        Raises:
            BaseException: The error of the first task that failed.
        """
        self.raise_failure()
        self._queues[self.worker_of(key)].put(task)

    def drain(self) -> None:
        """Wait until every task has run.

        Raises:
            BaseException: The error of the first task that failed.
        """
        for tasks in self._queues:
            tasks.join()
        self.raise_failure()

    def raise_failure(self) -> None:
        """Raise the error of the first task that failed, if there is one."""
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        """Stop the threads; tasks that have not begun are dropped."""
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
                # After a failure or at the end, remaining tasks are taken off the queue without being run.
                if self._failure is None and not self._closed:
                    task()
            except BaseException as error:
                self._failure = self._failure or error
            finally:
                tasks.task_done()
        tasks.task_done()
