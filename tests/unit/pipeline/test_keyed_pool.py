from __future__ import annotations

import threading
from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from truepixel_dagster.pipeline.keyed_pool import KeyedPool


@given(st.lists(st.sampled_from("abcdef"), max_size=60), st.integers(1, 4), st.integers(1, 3))
def test_the_tasks_of_a_key_run_in_the_order_submitted(keys: list[str], workers: int, pending: int) -> None:
    ran: dict[str, list[int]] = defaultdict(list)
    with KeyedPool(workers, pending) as pool:
        for number, key in enumerate(keys):
            pool.submit(key, lambda key=key, number=number: ran[key].append(number))  # type: ignore[misc]
        pool.drain()
    for key in set(keys):
        assert ran[key] == [number for number, other in enumerate(keys) if other == key]


def test_a_key_has_the_same_worker_in_every_process() -> None:
    with KeyedPool(3, 1) as pool:
        assert [pool.worker_of(key) for key in ("shop:a", "shop:b", "shop:c", "x:y")] == [2, 0, 1, 0]


def test_a_full_worker_makes_the_caller_wait() -> None:
    gate, submitted = threading.Event(), threading.Event()
    with KeyedPool(1, 1) as pool:
        pool.submit("a", gate.wait)

        def more() -> None:
            pool.submit("a", lambda: None)
            pool.submit("a", lambda: None)
            submitted.set()

        threading.Thread(target=more, daemon=True).start()
        assert not submitted.wait(0.2)
        gate.set()
        assert submitted.wait(10)
        pool.drain()


class _Broken(Exception):
    pass


def _break() -> None:
    raise _Broken("the real cause")


def test_the_first_failure_is_raised_as_itself_and_nothing_behind_it_runs() -> None:
    ran: list[str] = []
    with KeyedPool(1, 8) as pool:
        gate = threading.Event()

        def breaking() -> None:
            gate.wait()
            _break()

        pool.submit("a", breaking)
        pool.submit("a", lambda: ran.append("behind"))
        gate.set()
        with pytest.raises(_Broken, match="the real cause"):
            pool.drain()
        with pytest.raises(_Broken, match="the real cause"):
            pool.submit("a", lambda: ran.append("later"))
    assert ran == []


def test_closing_ends_the_threads_also_with_tasks_waiting() -> None:
    before = threading.active_count()
    gate, ran = threading.Event(), []
    pool = KeyedPool(2, 4)

    def waiting() -> None:
        gate.wait()
        ran.append(1)

    for _ in range(4):
        pool.submit("a", waiting)
    threading.Timer(0.05, gate.set).start()
    pool.close()
    pool.close()
    assert len(ran) <= 1
    assert threading.active_count() <= before + 1
