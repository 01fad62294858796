"""Calls on another thread: what they return and raise, and where no thread can be had."""

import threading

import pytest

from gpuconv.core import worker_thread
from gpuconv.core.worker_pool import Completion, WorkerPool
from gpuconv.core.worker_thread import on_worker_thread


def test_another_thread_calls():
    found = on_worker_thread(lambda *values: (threading.current_thread(), values), 1, 2)
    assert found[0] is not threading.main_thread()
    assert found[1] == (1, 2)
    assert not worker_thread._running


def test_errors_are_raised_where_the_caller_is():
    with pytest.raises(ZeroDivisionError, match="of the other thread"):
        on_worker_thread(_fail)
    assert not worker_thread._running


def _fail():
    raise ZeroDivisionError("of the other thread")


def test_without_another_thread_the_caller_calls(monkeypatch):
    def refuse(*_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(worker_thread._thread, "start_new_thread", refuse)
    assert on_worker_thread(threading.current_thread) is threading.main_thread()
    assert not worker_thread._running


def test_a_pool_starts_no_more_threads_than_it_may():
    pool, begun, go_on = WorkerPool(2), [], threading.Event()
    ends = [Completion() for _ in range(5)]

    def task(end):
        begun.append(threading.get_ident())
        go_on.wait()
        end.finish()

    for end in ends:
        pool.submit(lambda end=end: task(end))
    go_on.set()
    for end in ends:
        end.wait()
    assert len(begun) == 5
    assert len(set(begun)) <= 2
