"""The CPU's loops as machines of shorter vectors than this one's compile them."""

import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest

from gpuconv.backends.cpu.jit import vectors

from .....marks import exhaustive

ROOT = Path(__file__).parents[5]
# By the bytes of a vector: a processor and its features, as LLVM calls them.
MACHINES = {16: ("x86-64-v2", "+sse4.2"), 32: ("x86-64-v3", "+avx,+avx2,+fma")}
FEATURES = {"": 16, "+sse4.2": 16, "+avx,+avx2,+fma": 32, "+avx2,-avx512f": 32}
SHORTER = [size for size in MACHINES if size < vectors.vector_bytes()]
CHECK = """
import sys
import pytest
from gpuconv.backends.cpu.jit import vectors
from gpuconv.backends.cpu import costs
assert vectors.vector_bytes() == costs.vector_bytes() == int(sys.argv[1]), vectors.vector_bytes()
failed = pytest.main(["-q", "-m", "", "-p", "no:cacheprovider", *sys.argv[2:]])
from gpuconv.backends.cpu.jit import emitted_functions
print(*emitted_functions._addresses, sep="\\n")
sys.exit(failed)
"""
# The micro-kernels that must be among what the tests reach: of each dtype of sums, those that are
# emitted apart.
_SATURATED = ("to_int8", "to_int16", "to_uint8", "to_uint16")
_MEANS = ("planes", "planes_across", "planes_down")
LOOPS = {
    "float32": ("", "step", "order", "across", "step_across", "down", "stream", *_MEANS,
                *_SATURATED, "step_to_uint8", *(f"across_{out}" for out in _SATURATED)),
    "float64": ("", "step", "order", "step_order", "across", "step_across", "down", "stream",
                *_MEANS, *_SATURATED),
    "complex64": ("", "step", "across", "step_across", "down"),
    "complex128": ("", "step", "across", "down"),
    "int16": ("to_int8", "to_uint8", "step_to_int8", "step_to_uint8"),
    "uint16": ("to_uint8", "step_to_uint8"),
    "int64": ("", "step", "order"),
    "uint64": ("",),
}  # fmt: skip
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
    "unit/backends/cpu/test_kernels.py::test_serial_and_parallel_forms_have_the_same_bits"
    "[int64-direct]",
    "unit/backends/cpu/test_kernels.py::test_serial_and_parallel_forms_have_the_same_bits"
    "[float64-direct]",
    "unit/backends/cpu/test_kernels.py::test_nothing_outside_out_changes[int64-int64-direct]",
    "unit/backends/cpu/test_kernels.py::test_int64_sums_wrap[direct]",
    "unit/backends/cpu/test_kernels.py::test_columns_beside_the_border_have_the_same_bits"
    "[direct-constant-float64]",
    "unit/backends/cpu/test_kernels.py::test_streamed_stores[(3, 3)-float64]",
    "unit/backends/cpu/test_kernels.py::test_streamed_stores[(2, 17)-float32]",
    "unit/backends/cpu/test_kernels.py::test_streamed_stores[(1, 20)-float64]",
    "unit/backends/cpu/test_box.py::test_nothing_outside_a_window_affects_it",
    "unit/backends/cpu/test_box.py::test_a_bank_of_boxes",
    "unit/backends/cpu/test_box.py::test_the_largest_whole_numbers_are_exact",
    "unit/backends/cpu/test_box_bytes.py::test_means_of_bytes_are_rounded_to_even[(3, 3)]",
    "unit/backends/cpu/test_box_bytes.py::test_rows_of_any_length[129]",
    "unit/backends/cpu/test_box_bytes.py::test_windows_along_rows[uint8-(40, 7)]",
    "unit/backends/cpu/test_box_bytes.py::test_windows_along_rows[int16-(3, 3)]",
    "unit/backends/cpu/test_narrow_sums.py::test_halves_are_rounded_to_even",
    "unit/backends/cpu/test_narrow_sums.py::test_what_fits_is_found",
    "unit/backends/cpu/test_narrow_sums.py::test_results_are_exact_sums_rounded_once"
    "[sobel-uint8-float32-int8]",
    "unit/backends/cpu/test_narrow_sums.py::test_results_are_exact_sums_rounded_once"
    "[sobel-uint8-float32-uint8]",
    "unit/backends/cpu/test_narrow_sums.py::test_results_are_exact_sums_rounded_once"
    "[binomial-uint8-float32-uint8]",
    "unit/backends/cpu/test_strides.py::test_other_layouts",
    "unit/backends/cpu/test_strides.py::test_taps_that_are_apart[float64]",
    "unit/backends/cpu/test_strides.py::test_all_columns_or_some[float64-float64-float64-(41, 67)]",
    "unit/backends/cpu/jit/test_saturated_results.py::test_the_same_as_when_stored_after"
    "[uint8-float32-uint8]",
    "unit/backends/cpu/jit/test_saturated_results.py::test_every_kind_of_number[uint8-float32]",
    "unit/backends/cpu/jit/test_saturated_results.py::test_every_kind_of_number[int16-float64]",
    "unit/backends/cpu/jit/test_saturated_results.py::test_other_layouts",
    "unit/backends/cpu/jit/test_saturated_results.py::test_the_same_as_when_stored_after"
    "[uint8-float32-uint16]",
    "unit/backends/cpu/jit/test_saturated_results.py::test_the_same_as_when_stored_after"
    "[uint8-float32-int16]",
    "unit/backends/cpu/jit/test_saturated_results.py::test_the_same_as_when_stored_after"
    "[uint8-float32-int8]",
    "unit/backends/cpu/jit/test_saturated_results.py::test_every_kind_of_number[uint8-float64]",
    "unit/backends/cpu/jit/test_saturated_results.py::test_every_kind_of_number[int8-float64]",
    "unit/backends/cpu/jit/test_saturated_results.py::test_every_kind_of_number[uint16-float64]",
    "unit/backends/cpu/test_fft.py::test_lines_of_taps[shape1-float32]",
    "unit/imaging/test_normalized_transforms.py::test_every_border_and_mask[few-shape0-float32]",
    "unit/imaging/test_normalized_transforms.py::test_every_border_and_mask[many-shape0-float64]",
    "unit/backends/cpu/test_fft.py::test_lines_of_taps[shape3-complex64]",
    "unit/backends/cpu/test_fft.py::test_tiles_of_every_size[(32, 32)-complex64]",
    "unit/backends/cpu/test_fft.py::test_strides_dilation_and_borders"
    "[{'dilation': (2, 3)}-complex64]",
    "unit/backends/cpu/test_fft.py::test_lines_of_taps[shape1-complex64]",
    "unit/backends/cpu/test_fft.py::test_threads_do_not_change_a_bit[complex64]",
    "unit/backends/cpu/test_fft.py::test_strides_dilation_and_borders"
    "[{'mode': ((20, 3), (0, 41)), 'boundary': 'symmetric'}-complex64]",
    "unit/backends/cpu/test_interleaved.py::test_each_channel_is_summed_as_an_image_of_its_own"
    "[complex64-3-(40, 50)-3x3]",
    "unit/backends/cpu/test_interleaved.py::test_each_channel_is_summed_as_an_image_of_its_own"
    "[float32-3-(40, 50)-5x4]",
    "unit/imaging/test_normalized_one_pass.py::test_every_step_of_rows_and_columns[few-direct]",
    "unit/imaging/test_normalized_one_pass.py::test_every_step_of_rows_and_columns[many-direct]",
    "unit/imaging/test_normalized_one_pass.py::test_every_step_of_rows_and_columns[few-separable]",
    "unit/imaging/test_normalized_one_pass.py::test_every_step_of_rows_and_columns[many-separable]",
    "unit/imaging/test_normalized_one_pass.py::test_long_rows_of_weights_beside_a_missing_border"
    "[many-True-float32]",
    "unit/imaging/test_normalized_one_pass.py::test_long_rows_of_weights_beside_a_missing_border"
    "[many-True-float64]",
    "unit/imaging/test_normalized_one_pass.py::test_what_is_left_of_little_weight"
    "[many-constant-direct-float32]",
    "unit/imaging/test_normalized_one_pass.py::test_what_is_left_of_little_weight"
    "[many-constant-separable-float32]",
    "unit/imaging/test_normalized_one_pass.py::test_what_is_left_of_little_weight"
    "[many-constant-separable-float64]",
    "unit/imaging/test_normalized_one_pass.py::test_every_dtype_of_pixels[float16]",
    "unit/imaging/test_template.py::test_formulas[True-unit-sqdiff]",
    "unit/imaging/test_template.py::test_formulas[False-uint8-zncc]",
    "unit/imaging/test_template.py::test_windows_without_contrast[False-zncc-u2]",
    "unit/imaging/test_normalized.py::test_every_border_mode_and_step[constant-valid-(1, 1)]",
    "unit/imaging/test_normalized.py::test_an_image_whose_pixels_several_threads_prepare[uint8]",
    "unit/imaging/test_normalized_masks.py::test_what_pixels_count_is_summed_even_where_they_are_zero"
    "[x0-weights0]",
    "unit/imaging/test_normalized_masks.py::test_with_min_weight_1_nothing_may_be_missing"
    "[weights-constant-int32]",
    "unit/imaging/test_receptive_field.py::test_windows_by_brute_force[8]",
    "unit/imaging/test_receptive_field.py::test_windows_by_brute_force[10]",
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
    "conformance/test_mirrored.py::test_flips[complex64-6]",
    "conformance/test_mirrored.py::test_flips[complex64-17]",
    "conformance/test_mirrored.py::test_crops_and_threads[complex64]",
    "conformance/test_mirrored.py::test_crops_and_threads[float64]",
    "conformance/test_mirrored.py::test_flips[complex128-6]",
    "unit/nn/test_nn.py::test_forward_is_the_definition[((2, 5, 11, 9), (7, 5, 3, 3), 1, 1, 1, 1)]",
    "unit/nn/test_nn.py::test_backward_by_the_dot_test[((2, 5, 11, 9), (7, 5, 3, 3), 1, 1, 1, 1)]",
    "unit/nn/test_nn.py::test_backward_by_the_dot_test[((2, 1, 9, 8), (1, 1, 3, 3), 1, 0, 1, 1)]",
    "unit/methods/test_rank.py::test_compiled_crosses_are_those_of_long_doubles",
    "unit/methods/test_rank.py::test_compiled_code_finds_the_same_of_random_products",
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
    reached = set(filter(None, map(loop_of, done.stdout.splitlines())))
    assert not {(dtype, loop) for dtype, loops in LOOPS.items() for loop in loops} - reached


def loop_of(name):
    """Return the dtype of a micro-kernel's sums and what else it is emitted for, by its name.

    Not for how many rows and columns, nor for which taps.
    """
    found = re.fullmatch(r"sums_([a-z]+\d+)_\d+x\d+_p\w+?_q(?:any|\d+)([\w-]*?)_[0-9a-f]{12}", name)
    if not found:
        return None
    loop = re.sub(r"(step|planes|order)[\d-]+", r"\1", found[2])
    return found[1], re.sub(r"_divisor\d+", "", loop).lstrip("_")


@pytest.mark.parametrize("features", FEATURES)
def test_numba_may_be_told_the_features(monkeypatch, features):
    monkeypatch.setattr(vectors.config, "CPU_FEATURES", features)
    assert vectors.vector_bytes.__wrapped__() == FEATURES[features]
