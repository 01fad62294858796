"""What the static report reads, computes and predicts, and the compiled code it reads it from."""

import csv
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import __main__ as command
from benchmarks.cuda import compiled, kernels, sass, static
from benchmarks.cuda.chips import H100, LIMITS, occupancy
from benchmarks.cuda.model import Work, predict
from gpuconv.core.problem import make_problem

CODE = sass.parse((Path(__file__).parent / "data" / "kernel.sass").read_text("utf-8"))


@pytest.mark.parametrize(
    ("arch", "threads", "registers", "shared", "blocks", "share", "by"),
    [
        (90, 256, 32, 0, 8, 1.0, "threads"),
        (90, 256, 72, 4624, 3, 0.375, "registers"),
        (90, 256, 40, 0, 6, 0.75, "registers"),
        (90, 128, 255, 0, 2, 0.125, "registers"),
        (90, 1024, 64, 0, 1, 0.5, "registers"),
        (90, 128, 32, 48 * 1024, 4, 0.25, "shared memory"),
        (90, 128, 32, 227 * 1024, 1, 0.0625, "shared memory"),
        (90, 32, 16, 0, 32, 0.5, "blocks"),
        (90, 48, 16, 0, 32, 1.0, "threads"),  # a warp that is half empty takes a whole one's place
        (80, 256, 32, 80 * 1024, 2, 0.25, "shared memory"),
        (75, 256, 32, 0, 4, 1.0, "threads"),
        (75, 256, 32, 32 * 1024, 2, 0.5, "shared memory"),
        (86, 512, 40, 0, 3, 1.0, "threads"),
    ],
)
def test_occupancy(arch, threads, registers, shared, blocks, share, by):
    found = occupancy(arch, threads, registers, shared)
    assert (found.blocks, found.share, found.by) == (blocks, share, by)


def test_occupancy_refuses_what_no_block_may_have():
    with pytest.raises(ValueError, match=r"no limits are known for sm_70; there are \[75, 80"):
        occupancy(70, 32, 32, 0)
    for arch, limits in LIMITS.items():
        with pytest.raises(ValueError, match=f"{limits.block_shared} KiB"):
            occupancy(arch, 32, 32, limits.block_shared * 1024 + 1)


def test_functions_loops_and_what_fills_up():
    assert list(CODE) == ["stages", "tensor", "wide", "packed"]
    stages = CODE["stages"]
    assert len(stages.instructions) == 0x240 // 16  # without NOP
    assert stages.loops == [(0x30, 0x50), (0x1A0, 0x1E0), (0x120, 0x170), (0x60, 0x100),
                            (0x20, 0x210)]  # fmt: skip
    inner = [len(r) for r in stages.regions]
    assert inner == [3, 5, 6, 11, 7, 4]  # a loop's instructions without those of loops in it
    assert stages.instructions[7].predicate.strip() == "@!P2"


def test_hot_code():
    stages = CODE["stages"]
    assert stages.kind == "FFMA"
    hot = stages.hot()
    assert (hot.loop, len(hot), hot.adds("FFMA")) == (True, 6, 4)
    assert hot.operands("FFMA", sass.CONSTANT) == 1
    assert hot.operands("FFMA", sass.UNIFORM) == 1
    assert (hot.widths("LDS"), hot.wavefronts("LDS")) == ({16: 1}, 4)
    assert stages.whole.adds("FFMA") == 7
    assert stages.whole.widths("LDG") == {1: 1, 8: 1, 16: 1}
    assert stages.whole.widths("LDGSTS") == {16: 1}
    assert stages.whole.widths("STG") == {8: 1}
    assert stages.whole.widths("LDS") == {2: 1, 4: 1, 16: 1}


def test_stages_between_barriers():
    first, second = CODE["stages"].phases(2)
    assert (first.adds("FFMA"), len(first), second.adds("FFMA"), len(second)) == (4, 6, 2, 5)
    assert [r.adds("FFMA") for r in CODE["stages"].phases(1)] == [4]
    # Not as many stages as were asked for: the hottest stands for all.
    assert [r.adds("FFMA") for r in CODE["stages"].phases(3)] == [4]


def test_the_fastest_loading_loop():
    loading = CODE["stages"].loading()
    assert (len(loading), sass.per_byte(loading)) == (3, 3 / 16)
    assert CODE["packed"].loading() is None


@pytest.mark.parametrize(
    ("name", "kind", "adds", "in_hot"),
    [("tensor", "HMMA", 64 + 32, 64 + 32), ("wide", "IMAD", 1, 1), ("packed", "FFMA", 2, 2)],
)
def test_other_kinds(name, kind, adds, in_hot):
    code = CODE[name]
    assert code.kind == kind
    assert code.whole.adds(kind) == adds
    assert code.hot().adds(kind) == in_hot


def test_matrix_loads_are_as_wide_as_their_matrices():
    assert CODE["tensor"].whole.widths("LDSM") == {16: 1}


def work(**changed):
    tiles = 1000
    base = Work(
        outputs=tiles * 1024, taps=tiles * 1024 * 9, phases=(tiles * 1024 * 9,),
        read=tiles * 4096, written=tiles * 4096, loaded=tiles * 5000, stored=tiles * 5000,
    )  # fmt: skip
    return replace(base, **changed)


def test_predictions():
    found = predict(work(), CODE["stages"], H100)
    adds = 1000 * 1024 * 9
    clocks = 132 * 1.755e9
    # The hot loop has 6 instructions and 4 wavefronts for 4 multiply-adds of 32 threads; 3
    # instructions of a warp load 16 bytes a thread.
    issued = adds / 4 / 32 * 6 + 5_000_000 * 3 / 16 / 32
    expected = {
        "memory": (4_096_000 + 4_096_000) / 3e12,
        "second level": (5_000_000 + 4_096_000) / 5.5e12,
        "issue": issued / 4 / clocks,
        "shared": (5_000_000 / 128 + adds / 4 / 32 * 4) / clocks,
        "multiply-adds": adds / 128 / clocks,
    }
    assert found.seconds == pytest.approx(expected)
    assert found.by == "memory"
    assert found.copy == pytest.approx(1)
    assert found.peak == pytest.approx(expected["multiply-adds"] / expected["memory"])


@pytest.mark.parametrize(
    ("changed", "by"),
    [
        ({"written": 10**9}, "memory"),
        ({"loaded": 10**9}, "second level"),
        ({"phases": (10**9,)}, "shared"),  # a wavefront for every multiply-add of this code
        ({"stored": 10**9}, "shared"),
    ],
)
def test_the_largest_time_wins(changed, by):
    found = predict(work(**changed), CODE["stages"], H100)
    assert found.by == by
    assert found.copy < 0.5 or by == "memory"


def test_each_stage_by_its_own_code():
    found = predict(work(phases=(4000, 2000)), CODE["stages"], H100)
    wavefronts = 4000 / 4 / 32 * 4 + 2000 / 2 / 32 * 2 + 5_000_000 / 128
    assert found.seconds["shared"] == pytest.approx(wavefronts / H100.clocks)


def test_work_of_a_launch():
    problem = make_problem((64, 64), (5, 3), "uint8", "float32", mode="same")
    one = static.work(problem, "direct", (2, 4), (5, 3))  # tiles of 16 rows and 32 columns
    assert one.taps == one.phases[0] == 64 * 64 * 15
    assert (one.read, one.written) == (64 * 64, 64 * 64 * 4)
    assert one.loaded == 8 * 20 * 34
    assert one.stored == 4 * one.loaded
    # In two chunks of taps the tile's halo is read for each.
    assert static.work(problem, "direct", (2, 4), (3, 3)).loaded == 8 * (18 + 17) * 34
    two = static.work(problem, "separable", (2, 4), (5, 3))
    assert two.phases == (8 * 16 * 34 * 5, 8 * 16 * 32 * 3)
    assert static.work(problem, "other", (2, 4), (5, 3)) is None


def test_resources():
    log = (
        "ptxas info    : Compiling entry function 'f' for 'sm_90'\n"
        "ptxas         .    16 bytes stack frame, 8 bytes spill stores, 4 bytes spill loads\n"
        "ptxas info    : Used 40 registers, used 1 barriers, 4352 bytes smem, 400 bytes cmem[0]\n"
    )
    assert compiled.resources(log) == compiled.Resources(40, 4352, 16, 8, 4)
    assert compiled.resources(log).spills
    with pytest.raises(ValueError, match="no resources in ptxas's report"):
        compiled.resources("nothing")


@pytest.mark.needs("cupy")
@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8"])
def test_compiled_kernels_are_read(dtype):
    item = static.subject("direct", dtype, 9)
    cell, record = static.examine(item, 90)
    assert not cell.wrong
    assert 16 <= record["registers"] <= 255
    assert 0 < record["occupancy"] <= 1
    assert record["kind"] == {"float32": "FFMA", "float64": "DFMA", "uint8": "IMAD"}[dtype]
    assert record["hot_adds"] > 0
    assert record["hot_shared_loads"] == sum(
        n for name, n in record.items() if name.startswith("hot_lds")
    )
    assert 0 < record["peak_share"] <= 1
    assert 0 < record["copy_share"] <= 1


@pytest.mark.needs("cupy")
def test_separable_has_two_stages():
    item = static.subject("separable", "float32", 15)
    assert len(item.work.phases) == 2
    assert static.examine(item, 90)[1]["kind"] == "FFMA"


@pytest.mark.needs("cupy")
def test_transforms_are_read():
    item = static.subject("fft", "float32", 31)
    cell, record = static.examine(item, 90)
    assert not cell.wrong
    assert (record["kernel"], record["kind"], record["bound_by"]) == ("fft_block", "FFMA", "")
    with pytest.raises(ValueError, match="large enough for 131x131 taps"):
        static.subject("fft", "float32", 131)


@pytest.mark.needs("cupy")
def test_chips_without_figures_have_no_prediction():
    cell, record = static.examine(
        static.subject("direct", "float32", 3, ((static.COPY, 0.9),), 75), 75
    )
    assert cell.checks == ()
    assert (record["copy_share"], record["bound_by"]) == ("", "")
    assert any("no prediction" in line for line in static.about(75, None))


@pytest.mark.needs("cupy")
@pytest.mark.parametrize("kind", ["float", "double"])
def test_the_devices_own_kernels_compile_to_what_they_measure(kind):
    used, chains = compiled.build(kernels.source(kind), "chains", 90)
    hot = chains.hot()
    assert not used.spills
    assert hot.loop
    assert hot.adds(chains.kind) == kernels.CHAINS * kernels.UNROLLED
    assert len(hot) <= hot.adds(chains.kind) + 4  # next to nothing else
    _, copy = compiled.build(kernels.source(kind), "copy", 90)
    assert copy.whole.widths("LDG") == copy.whole.widths("STG") == {16: kernels.COPIES}
    assert compiled.build(kernels.source(kind), "wait", 90)[1].loops


@pytest.mark.needs("cupy")
def test_code_that_does_not_compile():
    with pytest.raises(RuntimeError, match="sm_90"):
        compiled.build("nonsense", "f", 90)
    with pytest.raises(ValueError, match="no function 'g' in the compiled code"):
        compiled.build('extern "C" __global__ void f() {}', "g", 90)


def test_a_missing_disassembler_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(compiled, "files", lambda name: [])
    monkeypatch.setattr(compiled.shutil, "which", lambda name: None)
    compiled.nvdisasm.cache_clear()
    with pytest.raises(compiled.Unavailable, match="pip install nvidia-cuda-nvdisasm"):
        compiled.nvdisasm()
    compiled.nvdisasm.cache_clear()


def few(quick=False, arch=90):
    return [static.subject("direct", "float32", k, ((static.PEAK, 0.65),)) for k in (9, 11)]


@pytest.mark.needs("cupy")
def test_the_report_is_kept(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(static, "subjects", few)
    assert command.main(["--device", "cuda", "--static", "--output", str(tmp_path)]) == 0
    written = {path.suffix: path for path in tmp_path.iterdir()}
    assert sorted(written) == [".csv", ".md"]
    assert written[".md"].name.endswith("-cuda-static.md")
    text = written[".md"].read_text("utf-8")
    assert "| direct, float32, 9x9 |" in text
    assert "- command: `python -m benchmarks --device cuda --static`" in text
    assert text.count("predicted share of FMA peak") >= 2
    with open(written[".csv"], encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["case"] for row in rows] == ["direct, float32, 9x9", "direct, float32, 11x11"]


@pytest.mark.needs("cupy")
def test_spills_are_wrong(monkeypatch, capsys):
    build = compiled.build

    def spilling(*arguments):
        used, code = build(*arguments)
        return replace(used, spill_stores=8), code

    monkeypatch.setattr(compiled, "build", spilling)
    options = Namespace(arch=90, quick=True, output=None)
    assert static.run(options) == 1
    assert "SPILLS 8 + 0 bytes" in capsys.readouterr().out


def test_subjects_cover_what_is_promised():
    found = {(s.kernel, s.dtype, s.k): s for s in static.subjects()}
    for dtype in ("float32", "float16", "float64", "uint8->float32"):
        assert {k for kernel, d, k in found if (kernel, d) == ("direct", dtype)} == {
            3, 5, 7, 9, 11, 15, 21, 31,
        }  # fmt: skip
        assert ("separable", dtype, 31) in found
    held = {key: s.targets for key, s in found.items() if s.targets}
    assert held["direct", "float32", 7] == ((static.COPY, 0.9),)
    assert held["direct", "float32", 9] == ((static.PEAK, 0.65),)
    assert held["separable", "float32", 31] == ((static.COPY, 0.85),)
    assert len(held) == 9
