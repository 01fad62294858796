"""The calls whose host time is measured run without a GPU, and are repeated without preparation."""

from benchmarks.cuda import host_time
from gpuconv import call_cache


def test_repeated_calls_prepare_nothing(monkeypatch, capsys):
    monkeypatch.setattr(call_cache, "_calls", {})
    with host_time.standing_in() as launcher:
        for name, call in host_time.calls():
            call()
            prepared, uploaded, launcher.queued = launcher.prepared, launcher.uploaded, 0
            call()
            assert (launcher.prepared, launcher.uploaded) == (prepared, uploaded), name
            assert launcher.queued, name
    monkeypatch.setattr(host_time, "REPEATS", 1)
    monkeypatch.setattr(host_time, "ROUNDS", 1)
    host_time.main()
    assert len(capsys.readouterr().out.splitlines()) == 14
