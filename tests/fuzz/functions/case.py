"""A call of a function, as plain JSON: drawn, run and made small."""

import json
import warnings
from dataclasses import dataclass, field, replace
from types import SimpleNamespace

from ..check import Failure
from . import filters, means, shifts, sums, templates

FAMILIES = {
    "templates": templates, "means": means, "shifts": shifts, "filters": filters, "sums": sums,
}  # fmt: skip


@dataclass(frozen=True)
class FunctionCase:
    """A family, those of its settings that are not plain, and the seed of the elements."""

    family: str
    settings: dict = field(default_factory=dict)
    seed: int = 0

    @property
    def call(self):
        """What is called, as of other cases."""
        return self.family

    @property
    def method(self):
        """How it is computed, as of other cases."""
        return self.settings.get("method", "")

    def __hash__(self):
        return hash(self.text())

    def text(self):
        """One line of JSON."""
        return json.dumps({"family": self.family, **self.settings, "seed": self.seed})


def parse(text):
    """Case of a line of JSON."""
    settings = {k: _tuples(v) for k, v in json.loads(text).items()}
    return FunctionCase(settings.pop("family"), seed=settings.pop("seed", 0), settings=settings)


def _tuples(value):
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def draw(rng, names, family):
    """A case of a family, of these dtypes; None if the family takes none of them."""
    module = FAMILIES[family]
    settings = module.draw(rng, names)
    if settings is None:
        return None
    changed = {k: v for k, v in settings.items() if v != module.PLAIN[k]}
    return FunctionCase(family, changed, rng.randrange(1 << 30))


def check(case):
    """Raise `Failure` if a promise is broken; return whether the call gave a result."""
    module = FAMILIES[case.family]
    settings = SimpleNamespace(**(module.PLAIN | case.settings))
    with warnings.catch_warnings():
        warnings.filterwarnings("error", category=RuntimeWarning)
        warnings.filterwarnings("error", module=r"gpuconv(\.|$)")
        return module.check(settings, case.seed)


def _fails(case, kind):
    try:
        check(case)
    except Failure as failure:
        return failure.kind == kind
    except Exception:  # settings that do not go together
        return False
    return False


def _smaller(case):
    for name, value in case.settings.items():
        rest = {k: v for k, v in case.settings.items() if k != name}
        yield replace(case, settings=rest)
        if isinstance(value, tuple):
            shorter = [value[1:]] if len(value) > 1 else []
            for at, n in enumerate(value):
                if isinstance(n, int) and n > 1:
                    shorter += [(*value[:at], m, *value[at + 1 :]) for m in (1, n // 2, n - 1)]
            for less in shorter:
                yield replace(case, settings=rest | {name: less})
    for seed in range(3):
        yield replace(case, seed=seed)


def _weight(case):
    numbers = [v for v in case.settings.values() if isinstance(v, tuple)]
    size = sum(n for v in numbers for n in v if isinstance(n, int))
    return len(case.settings), sum(map(len, numbers)), size, case.seed > 2, case.seed


def shrink(case, kind, most=1000):
    """Smallest case found that fails with the same kind, in at most `most` trials."""
    tried, progress = {case}, True
    while progress and most > 0:
        progress = False
        for other in _smaller(case):
            if other in tried or _weight(other) >= _weight(case) or most <= 0:
                continue
            tried.add(other)
            most -= 1
            if _fails(other, kind):
                case, progress = other, True
                break
    return case
