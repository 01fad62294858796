"""What methods are priced by: shipped costs, costs measured and kept, files that hold none."""

import json
import os
import subprocess
import sys
import warnings
from dataclasses import asdict, replace

import numba
import pytest

import gpuconv
from gpuconv.cli import main
from gpuconv.selection import calibrate, costs

# With these the FFT is taken for every kernel.
EXTREME = replace(costs.shipped(), tap=1e-6, tap_double=2e-6, fft=1e-15, fft_call=1e-15)
PLAN = "import gpuconv; print(gpuconv.plan((512, 512), (3, 3)).method)"


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.setenv("GPUCONV_CONFIG_DIR", str(tmp_path / "config"))
    costs.forget()
    yield tmp_path / "config" / "costs.json"
    costs.forget()


@pytest.fixture
def measured(file, monkeypatch):
    monkeypatch.setattr(calibrate, "measure", lambda correlate: EXTREME)
    return file


@pytest.mark.parametrize("backend", ["reference", "cpu", "cuda"])
@pytest.mark.parametrize(
    "acc", ["float32", "float64", "int64", "uint64", "complex64", "complex128"]
)
def test_shipped(file, backend, acc):
    found = asdict(costs.costs_of(backend, acc))
    for name, value in found.items():
        assert value > 0 or (name == "row" and value == 0), name
        assert value < 1 or backend == "reference", name
    if acc == "float32":
        assert backend != "cpu" or found == asdict(costs.shipped())


def test_the_choice_does_not_depend_on_threads():
    def choices():
        return [
            gpuconv.plan((side, side), (taps, taps), x_dtype=dtype).method
            for side in (64, 300, 1024)
            for taps in (3, 9, 15, 21, 31, 63)
            for dtype in ("float32", "float64", "complex64", "uint8")
        ]

    before, found = numba.get_num_threads(), []
    try:
        for threads in {1, before}:
            numba.set_num_threads(threads)
            costs.forget()
            found.append(choices())
    finally:
        numba.set_num_threads(before)
    assert all(other == found[0] for other in found)
    assert {"direct", "fft"} <= set(found[0])


def test_a_saved_file_is_found(file):
    def elsewhere():
        command = [sys.executable, "-c", PLAN]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    assert gpuconv.plan((512, 512), (3, 3)).method == "direct"
    assert costs.save(EXTREME, {"machine": "none"}) == file
    assert gpuconv.plan((512, 512), (3, 3)).method == "fft"
    assert elsewhere() == "fft"
    assert json.loads(file.read_text())["about"] == {"machine": "none"}
    file.unlink()
    assert elsewhere() == "direct"


def test_looking_at_weights_is_priced_by_the_machine(file):
    shipped = costs.seconds_per_operation()
    tap = max(costs.shipped().tap, costs._TAP)
    costs.save(replace(costs.shipped(), tap=3 * tap), {})
    assert costs.seconds_per_operation() == pytest.approx(3 * shipped)
    costs.save(replace(costs.shipped(), tap=tap / 3), {})  # vectors are not all there is to it
    assert costs.seconds_per_operation() == shipped


def test_saving_is_atomic(file, monkeypatch):
    def other(source, target):
        # Whole before it takes the old one's place.
        assert json.loads(source.read_text())["cpu"] == asdict(EXTREME)
        assert json.loads(target.read_text())["cpu"] == asdict(costs.shipped())
        move(source, target)

    move = os.replace
    costs.save(costs.shipped(), {})
    monkeypatch.setattr(os, "replace", other)
    costs.save(EXTREME, {})
    assert [path.name for path in file.parent.iterdir()] == ["costs.json"]
    assert costs.costs_of("cpu", "float32") == EXTREME


MALFORMED = {
    "not JSON": "{",
    "not UTF-8": b"\xff\xfe",
    "empty": "",
    "a list": "[]",
    "no costs": "{}",
    "key": json.dumps({"cpu": {k: v for k, v in asdict(costs.shipped()).items() if k != "tap"}}),
    **{
        str(value): json.dumps({"cpu": asdict(costs.shipped()) | {"tap": value}})
        for value in (-1e-9, 0, 1, True, float("nan"), float("inf"), "1e-9", None)
    },
}


@pytest.mark.parametrize("text", MALFORMED.values(), ids=MALFORMED)
def test_malformed_file(measured, text, capsys):
    measured.parent.mkdir()
    measured.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=r"gpuconv calibrate.*delete the file") as caught:
        gpuconv.plan((64, 64), (3, 3))
    assert str(measured) in str(caught.value)
    gpuconv.show_config()
    assert f"costs: not usable: {measured}" in capsys.readouterr().out
    assert main(["plan", "64x64", "3x3"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    # What the message advises helps.
    assert main(["calibrate"]) == 0
    assert "unreadable" in capsys.readouterr().out
    assert costs.costs_of("cpu", "float32") == EXTREME


def test_calibrate_and_reset(measured, capsys):
    assert main(["info", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["costs"] == "shipped"
    assert main(["calibrate"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["constant", "old", "new"]
    assert [line.split()[0] for line in lines[1:-1]] == list(asdict(costs.shipped()))
    assert lines[3].split() == ["tap", f"{costs.shipped().tap * 1e9:.3g}", "ns", "1", "us"]
    assert lines[-1] == f"written: {measured}"
    kept = json.loads(measured.read_text())
    assert kept["cpu"] == asdict(EXTREME)
    assert set(kept["about"]) == {"machine", "cpu", "threads", "numpy", "numba", "date"}
    assert main(["info", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["costs"] == str(measured)
    assert main(["info"]) == 0
    assert f"costs: calibrated, from {measured}" in capsys.readouterr().out
    assert main(["calibrate", "--reset"]) == 0
    assert f"{measured}: deleted" in capsys.readouterr().out
    assert not measured.exists()
    assert costs.costs_of("cpu", "float32") == costs.shipped()
    assert main(["info"]) == 0
    assert "costs: shipped" in capsys.readouterr().out
    assert main(["calibrate", "--reset"]) == 0
    assert "not there" in capsys.readouterr().out


def test_dry_run_writes_nothing(measured, capsys):
    assert main(["calibrate", "--dry-run"]) == 0
    assert "written" not in capsys.readouterr().out
    assert not measured.parent.exists()
    assert costs.costs_of("cpu", "float32") == costs.shipped()
    with pytest.raises(SystemExit) as caught:
        main(["calibrate", "--dry-run", "--reset"])
    assert caught.value.code == 2


@pytest.mark.parametrize("below", ["", "deeper"])
def test_unwritable_directory(tmp_path, monkeypatch, capsys, below):
    (tmp_path / "plain").write_text("mine")
    monkeypatch.setenv("GPUCONV_CONFIG_DIR", str(tmp_path / "plain" / below))

    def never(correlate):
        raise AssertionError("measured before the directory was tried")

    monkeypatch.setattr(calibrate, "measure", never)
    assert main(["calibrate"]) == 4
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"gpuconv: error: {costs.config_file()}: cannot be changed: ")
    assert printed.err.count("\n") == 1
    assert (tmp_path / "plain").read_text() == "mine"


def test_a_busy_machine_is_told(measured, monkeypatch, capsys):
    def busy(correlate):
        warnings.warn("the machine was busy", stacklevel=2)
        return EXTREME

    monkeypatch.setattr(calibrate, "measure", busy)
    assert main(["calibrate"]) == 0
    assert capsys.readouterr().err == "gpuconv: warning: the machine was busy\n"


def test_a_failed_write(measured, monkeypatch, capsys):
    def full(source, target):
        raise OSError(28, "No space left on device")

    costs.save(costs.shipped(), {})
    before = measured.read_bytes()
    monkeypatch.setattr(os, "replace", full)
    assert main(["calibrate"]) == 4
    assert capsys.readouterr().err.endswith("cannot be changed: No space left on device\n")
    assert measured.read_bytes() == before


@pytest.mark.filterwarnings("ignore:the machine was busy")
def test_measuring(file):
    found = calibrate.measure(gpuconv.corr2d, seconds=0)
    for name, value in asdict(found).items():
        shipped = asdict(costs.shipped())[name]
        assert shipped / 100 <= value <= shipped * 1000, name
    costs.save(found, calibrate.about())
    costs.forget()
    assert costs.costs_of("cpu", "float32") == found
    for wrong in (-1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="seconds must be"):
            calibrate.measure(gpuconv.corr2d, seconds=wrong)


def test_nothing_measured_is_believed_beyond_reason():
    for value in (-1.0, 0.0, float("inf")):
        limited = costs.Costs(
            **{name: calibrate._sane(name, value) for name in asdict(costs.shipped())}
        )
        assert all(0 < x < 1 for x in asdict(limited).values())
