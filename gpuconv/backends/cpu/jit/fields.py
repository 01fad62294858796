"""What a job of the sweeps consists of: the places of its 64-bit integers in one array."""

from __future__ import annotations

# fmt: off
(
    # Images: byte offset of each (an array), bytes between rows, columns.
    X_OFFSETS, X_ROW, X_COLUMN,
    OUT_OFFSETS, OUT_ROW, OUT_COLUMN,
    # The bytes of one kernel's weights, which kernel each image uses; for separable kernels (of
    # rank > 0) these are the row taps, and the column taps are apart.
    WEIGHTS_SIZE, WHICH, RANK, VERTICAL_SIZE,
    # Border: which row and column stands at each padded one, where the image begins, fill value, a
    # row of it.
    ROWS, COLUMNS, COLUMNS_COUNT, LEFT, WIDTH, FILL, LINE,
    R, S, P, Q, STRIDE_Y, STRIDE_X, DILATION_Y, DILATION_X, SPAN_X, OFFSETS,
    # Tasks: images by bands of rows by strips of columns.
    IMAGES, BANDS, BAND, STRIPS, STRIP,
    # Tasks (pairs of tiles) of this call, from the first to before the last; how often memory for
    # one could not be had, which only ever grows.
    FIRST, LAST, FAILED,
    # Bytes of a sum, sums in a vector, pixels and lines of the ring, output rows in a block.
    SIZE, LANES, PITCH, SLOTS, BLOCK,
    # Whether pixels can be read, and sums written, where they are.
    PLACE_IN, PLACE_OUT,
    # Pieces: read a row, write a row, sums of a block of rows and of one row; for separable
    # kernels these are the columns of taps, and ACROSS is the rows', ACROSS_OUT to where sums stay;
    # some columns of a task, all.
    LOAD, SOURCE, STORE, SUMS, SUMS_ONE, ACROSS, ACROSS_OUT, PART, TASK,
    # Columns beside the border: how many at most go their own way, the pieces of that.
    EDGE_MOST, LOAD_TURNED, EDGE, EDGE_PART,
    # The kernel's gradient: the job that reads its output's rows (0: they are read in place), rows
    # summed at once, the pieces by groups of taps.
    GIVEN, AT_ONCE, GROUPS, GROUPS_COUNT,
    # Fourier transforms: sides of a tile, outputs it gives (as pixels), tiles down and across,
    # radices and factors of both axes; addresses of image, output, weights and spectrum, stride of
    # the columns; what came of the pairs of tiles (then which are to be summed directly, and the
    # job that does), what is known of each, which are doubtful (0 in the first pass); the pieces;
    # workers and the bytes of each.
    SIDE_Y, SIDE_X, STEP_Y, STEP_X, TILES_Y, TILES_X, RADICES_Y, RADICES_X, FACTORS_Y, FACTORS_X,
    X, OUT, WEIGHTS, SPECTRUM, SAMPLE_X, FLAGS, DIRECT, FACTS, DOUBTS,
    PAIR, READ, TRANSFORM, WRITE, SAMPLE, AGAIN, ADD_TAKEN, FORWARD, INVERSE, TURN,
    WORKERS, WORK_BYTES,
    # Whether errors of tiles are estimated, and sums rounded to whole numbers; address of what the
    # estimate takes of the kernel (`tile_errors`), of its taps as they are, and as they are scaled
    # for the spectrum; where in the workspace pixels taken out of a tile are noted, and how many at
    # most.
    CHECKED, WHOLE, MEASURES, TAPS, SCALED_TAPS, TAKEN, TAKEN_MOST,
    COUNT,
) = range(98)
# fmt: on
