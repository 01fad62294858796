"""The CPU's loops as machines of shorter vectors than this one's compile them."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from gpuconv.backends.cpu.jit import vectors

from .....marks import exhaustive

ROOT = Path(__file__).parents[5]
# By the bytes of a vector: a processor and its features, as LLVM calls them.
MACHINES = {16: ("x86-64-v2", "+sse4.2"), 32: ("x86-64-v3", "+avx,+avx2,+fma")}
SHORTER = [size for size in MACHINES if size < vectors.vector_bytes()]
CHECK = """
import sys
import pytest
from gpuconv.backends.cpu.jit import vectors
from gpuconv.backends.cpu import costs
assert vectors.vector_bytes() == costs.vector_bytes() == int(sys.argv[1]), vectors.vector_bytes()
sys.exit(pytest.main(["-q", "-m", "", "-p", "no:cacheprovider", "-m", "", *sys.argv[2:]]))
"""
TESTS = (
    "conformance/test_corr2d.py::test_every_dtype[cpu-direct-complex64]",
    "conformance/test_corr2d.py::test_every_dtype[cpu-direct-complex128]",
    "conformance/test_corr2d.py::test_every_dtype[cpu-direct-int64]",
    "conformance/test_corr2d.py::test_every_dtype[cpu-direct-uint64]",
    "conformance/test_corr2d.py::test_every_dtype[cpu-separable-complex64]",
    "conformance/test_corr2d.py::test_every_dtype[cpu-box-float32]",
    "conformance/test_corr2d.py::test_every_dtype[cpu-box-complex64]",
    "conformance/test_corr2d.py::test_every_dtype[cpu-box-uint64]",
    "conformance/test_corr2d.py::test_every_dtype[cpu-fft-float64]",
    "conformance/test_corr2d.py::test_every_dtype[cpu-fft-complex64]",
    "conformance/test_corr2d.py::test_every_dtype[cpu-fft-complex128]",
    "conformance/test_corr2d.py::test_crops_do_not_change_a_bit[cpu-direct-complex64]",
    "conformance/test_corr2d.py::test_sizes_of_weights[cpu-direct-shape2]",
    "conformance/test_fft_errors.py::test_a_pixel_that_no_output_reads",
    "unit/backends/cpu/test_kernels.py::test_widths_and_heights[(3, 3)-direct]",
    "unit/backends/cpu/test_kernels.py::test_widths_and_heights[(4, 7)-separable]",
    "unit/backends/cpu/test_kernels.py::test_whole_rows_of_narrow_images[(3, 3)-float32-(1, 3, 7)]",
    "unit/backends/cpu/test_kernels.py::test_whole_rows_of_narrow_images[(3, 3)-float64-(1, 4)]",
    "unit/backends/cpu/test_kernels.py::test_any_number_of_rows_of_narrow_images",
    "unit/backends/cpu/test_kernels.py::test_narrow_rows_keep_what_is_not_finite",
    "unit/backends/cpu/test_kernels.py::test_streamed_stores[(3, 3)-float32]",
    "unit/backends/cpu/test_kernels.py::test_streamed_stores_with_borders_and_batches",
    "unit/backends/cpu/test_box.py::test_nothing_outside_a_window_affects_it",
    "unit/backends/cpu/test_box.py::test_a_bank_of_boxes",
    "unit/backends/cpu/test_box.py::test_the_largest_whole_numbers_are_exact",
    "unit/backends/cpu/test_box_bytes.py::test_means_of_bytes_are_rounded_to_even[(3, 3)]",
    "unit/backends/cpu/test_box_bytes.py::test_rows_of_any_length[129]",
    "unit/backends/cpu/test_narrow_sums.py::test_halves_are_rounded_to_even",
    "unit/backends/cpu/test_narrow_sums.py::test_what_fits_is_found",
    "unit/backends/cpu/test_strides.py::test_other_layouts",
    "unit/backends/cpu/jit/test_saturated_results.py::test_the_same_as_when_stored_after"
    "[uint8-float32-uint8]",
    "unit/backends/cpu/jit/test_saturated_results.py::test_every_kind_of_number[uint8-float32]",
    "unit/backends/cpu/jit/test_saturated_results.py::test_every_kind_of_number[int16-float64]",
    "unit/backends/cpu/jit/test_saturated_results.py::test_other_layouts",
    "unit/backends/cpu/test_fft.py::test_lines_of_taps[shape1-float32]",
    "unit/imaging/test_normalized_one_pass.py::test_every_step_of_rows_and_columns[few-direct]",
    "unit/imaging/test_normalized_one_pass.py::test_every_step_of_rows_and_columns[many-direct]",
    "unit/imaging/test_normalized_one_pass.py::test_every_step_of_rows_and_columns[few-separable]",
    "unit/imaging/test_normalized_one_pass.py::test_every_step_of_rows_and_columns[many-separable]",
    "unit/gradients/test_gradients.py::test_methods_agree[direct]",
    "unit/gradients/test_gradients.py::test_the_kernels_gradient_is_its_definition"
    "[uint8-float32-shape0-taps0-keywords0]",
    "unit/gradients/test_gradients.py::test_the_kernels_gradient_is_its_definition"
    "[float32-float64-shape4-taps4-keywords4]",
    "unit/gradients/test_gradients.py::test_the_kernels_gradient_is_its_definition"
    "[float32-float32-shape4-taps4-keywords4]",
    "conformance/test_mirrored.py::test_flips[float32-5]",
    "conformance/test_mirrored.py::test_flips[float64-17]",
    "conformance/test_mirrored.py::test_crops_and_threads[float32]",
)


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="x86 features")
@exhaustive
@pytest.mark.parametrize("size", SHORTER)
def test_shorter_vectors(size):
    cpu, features = MACHINES[size]
    done = subprocess.run(
        [sys.executable, "-c", CHECK, str(size), *(f"tests/{name}" for name in TESTS)],
        cwd=ROOT,
        env=os.environ | {"NUMBA_CPU_NAME": cpu, "NUMBA_CPU_FEATURES": features},
        capture_output=True,
        text=True,
        timeout=1800,  # only so that what hangs ends
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "skipped" not in done.stdout
