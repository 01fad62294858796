"""Prices that are kept: once for a problem, but not where a device decides about them."""

import pytest

from gpuconv.backends import get_backend
from gpuconv.backends.base import Backend, Costs
from gpuconv.core.problem import make_problem
from gpuconv.methods import direct, prices

PROBLEM = make_problem((64, 64), (3, 3), "float32", "float32")
COSTS = Costs(
    call=1e-6, pixel=1e-9, tap=1e-9, tap_double=1e-9, row=0.0, separable=1e-9, fft_call=1e-6,
    fft=1e-9,
)  # fmt: skip


@pytest.fixture(autouse=True)
def forgotten():
    prices.forget()
    yield
    prices.forget()


class Devices(Backend):
    """A backend whose current device may be another one."""

    name, methods, costs = "devices", frozenset({"direct"}), COSTS
    slowness = 1.0

    def direct_work(self, problem):
        return self.slowness * super().direct_work(problem)


def test_a_price_follows_the_device():
    backend = Devices()
    fast = direct.seconds(PROBLEM, COSTS, backend)
    backend.slowness = 10.0
    assert direct.seconds(PROBLEM, COSTS, backend) > 5 * fast
    assert not get_backend("cuda").fixed_prices


def test_on_the_cpu_it_is_asked_for_once(monkeypatch):
    cpu, asked = get_backend("cpu"), []
    work = type(cpu).direct_work

    def counted(self, problem):
        asked.append(problem)
        return work(self, problem)

    monkeypatch.setattr(type(cpu), "direct_work", counted)
    first = direct.seconds(PROBLEM, COSTS, cpu)
    assert direct.seconds(PROBLEM, COSTS, cpu) == first
    assert len(asked) == 1
    prices.forget()
    assert direct.seconds(PROBLEM, COSTS, cpu) == first
    assert len(asked) == 2
