"""``gpuconv filter``: pictures or array files filtered block by block into others."""

from __future__ import annotations

import argparse
import math
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import gpuconv

from .comparison import Comparison
from .files import ReadOptions, check_codecs, check_packages, open_image, open_sink
from .files.alpha import check_opacity, flatten, read_background
from .files.depth import DepthOptions, choose_depth
from .files.exif_directory import set_size
from .files.formats import check_holds, find_format
from .files.geotiff import move_geotiff
from .files.image import Image
from .files.output import Output
from .files.pillow_writer import words_for_lost
from .files.safety import ReadError, WriteError, check_regular
from .files.tiff_writer import find_kind, is_big
from .files.zarr_reader import find_store
from .filter_blocks import Work, find_geometry, plan_work, sum_to_zero
from .many_files import Job, find_jobs, run_jobs
from .missing import plan_missing_pixels
from .places import Inputs, check_output, make_folder
from .progress import NoBar, ProgressBar, make_bar
from .report import Report
from .standard_streams import STREAM, name_streams, use_files
from .values import check_values
from .weights_reader import check_real, read_weights

__all__ = ["call_keywords", "filter_files"]


def call_keywords(options: argparse.Namespace) -> dict[str, Any]:
    """Return the options of `corr2d` on the command line, without `mode`."""
    if options.fillvalue is not None and options.boundary != "constant":
        raise ValueError(
            f"--fillvalue is for --boundary constant; the border is {options.boundary}"
        )
    names = ("boundary", "stride", "dilation", "method", "backend")
    return {name: getattr(options, name) for name in names} | dict(fillvalue=options.fillvalue or 0)


def filter_files(options: argparse.Namespace) -> int:
    """Filter the inputs; return the exit code."""
    call_keywords(options)  # what is wrong with them is the same for all files
    weights = read_weights(options)
    report = Report(options.quiet)

    def run(job: Job, bar: ProgressBar | None) -> tuple[str, ...]:
        with use_files(job, options.format) as on_files:
            _check_source(on_files.source)
            if job.output != STREAM:
                in_folder = "--output-dir" if options.output_dir is not None else None
                check_output(job.output, inputs, options.overwrite, in_folder)
            notes = _filter_file(on_files, weights, options, report, bar)
            if job.source == STREAM:
                notes = tuple(name_streams(note, on_files.source.parent) for note in notes)
        inputs.keep_output(job.output, job.source)
        if bar is None:  # many files end with a summary
            report.finish(job.output)
        return notes

    jobs = find_jobs(options)
    inputs = Inputs((job.source for job in jobs if job.source != STREAM), options.kernel)
    if options.output_dir is not None:
        for job in jobs:
            inputs.check(job.output)
        make_folder(options.output_dir)
    return run_jobs(jobs, run, options.progress, options.quiet)


def _check_source(source: Path) -> None:
    check_regular(source)
    if source.is_dir() and find_store(source) is None:
        raise ReadError(
            f"{source}: is a folder; name the files in it, such as {source / '*'}, and pass "
            "--output-dir"
        )


def _filter_file(
    job: Job,
    weights: NDArray[Any],
    options: argparse.Namespace,
    report: Report,
    bar: ProgressBar | None,
) -> tuple[str, ...]:
    """Filter one file and return notes; what forbids it is found before anything is computed."""
    find_format(job.output)
    check_packages(job.output)  # before the work, not after it
    reading = ReadOptions(options.page, options.axes, options.alpha, options.array, options.hdu)
    with open_image(job.source, reading) as image:
        check_opacity(image)
        if options.background is not None:
            image = flatten(image, read_background(options.background))
        check_values(job.source, image.source.dtype)
        with report.announce_compiling(image.source.dtype, options.backend):
            return _filter_image(image, weights, job, options, report, bar)


def _filter_image(
    image: Image,
    weights: NDArray[Any],
    job: Job,
    options: argparse.Namespace,
    report: Report,
    bar: ProgressBar | None,
) -> tuple[str, ...]:
    form, keywords = find_format(job.output), call_keywords(options)
    asked = DepthOptions(options.dtype, options.scale, options.range, options.signed)
    zero_sum = sum_to_zero(weights)
    depth = choose_depth(image, form, asked, zero_sum)
    check_real(weights, image, depth.dtype, options)
    work = plan_work(image, weights, options.mode, keywords)
    check_holds(form, image, work.shape)
    _check_fillvalue(keywords, depth.dtype)
    missing = plan_missing_pixels(image, form, depth.dtype, zero_sum)
    output = _describe_output(job.output, image, work, depth.dtype, keywords)
    check_codecs(output)
    compared = None
    if options.compare is not None:
        compared = Comparison(options.compare, image, output, depth)
    notes = [depth.note] if depth.note is not None else []
    lost = _words_for_lost(output)
    if lost:
        notes.append(f"dropped {', '.join(lost)} of {image.source.path}")
    rows = max(1, image.pages) * output.size[0]
    own = make_bar(rows, "row", options.progress) if bar is None else NoBar()
    comparing = nullcontext() if compared is None else compared.opened()
    with own as rows_bar, open_sink(output) as store, comparing:
        blocks = report.clock(work.run(depth, rows_bar.update, missing), output, work.plan)
        store(blocks if compared is None else compared.keep(blocks))
        if compared is not None:  # before the output has its name, which it gets only with this
            compared.write()
    return tuple(notes)


def _check_fillvalue(keywords: dict[str, Any], dtype: np.dtype[Any]) -> None:
    """Refuse a border that makes results which integers do not hold."""
    if not math.isfinite(keywords["fillvalue"]) and dtype.kind not in "fc":
        raise WriteError(
            f"--fillvalue {keywords['fillvalue']} makes results that {dtype} does not hold; pass a "
            "finite number, or write a .tif of --dtype float32"
        )


def _describe_output(
    path: Path, image: Image, work: Work, dtype: np.dtype[Any], keywords: dict[str, Any]
) -> Output:
    # Only to know the padding with which every pixel keeps its place.
    still = dict(mode="same", boundary=keywords["boundary"], dilation=keywords["dilation"])
    same = gpuconv.plan(image.source.size, work.weights.shape, backend="reference", **still)
    metadata, (height, width) = image.metadata, work.plan.problem.out_shape[-2:]
    if metadata.exif is not None:
        metadata = replace(metadata, exif=set_size(metadata.exif, height, width))
    return Output(
        path,
        find_format(path),
        work.shape,
        dtype,
        image.axes,
        image.colour,
        image.alpha,
        image.layout,
        metadata,
        find_geometry(work, same),
    )


def _words_for_lost(output: Output) -> list[str]:
    metadata = output.metadata
    lost = metadata.words_for_lost(output.format.keeps) + words_for_lost(output)
    if output.format.name == "TIFF":
        lost += move_geotiff(metadata.geotiff, output.geometry)[1]
        lost += ["EXIF"] if metadata.exif is not None and is_big(output) else []
        if find_kind(output) != metadata.kind:
            lost.append("OME metadata" if metadata.kind == "ome" else "ImageJ metadata")
    return lost
