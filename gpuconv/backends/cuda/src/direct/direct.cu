// Direct correlation with small strides and dilations, which the code is compiled for (direct_strided.cu
// is for any). A block computes TILE_Y x TILE_X outputs: it loads their pixels and the halo into a panel
// in shared memory, and a thread keeps ROWS x COLUMNS sums in registers. It reads a row of pixels from
// shared memory, 16 bytes of sums at a time, once for all the rows of sums that it belongs to. While a
// block waits for its panel, others on the multiprocessor sum: on an H200 this is faster than loading the
// next tile's panel meanwhile, and blocks go to whichever multiprocessor is free.
//
// With TAPS_X the code is compiled for one size of kernel, TAPS_Y x TAPS_X: taps are unrolled, TAP_ROWS
// rows of them at a time, and weights by value are operands from the constant bank. TAPS_X 0 is for any
// size, with stride and dilation 1. Both add the taps of a sum row by row, left to right (of kernels wider
// than `g.chunk_q` in blocks of columns of that width), so that they give the same bits, wherever an output
// is. A single row or column of taps may be summed in mirrored order (see mirrored_sums.cuh).

#define MIRROR (MIRROR_Y > MIRROR_X ? MIRROR_Y : MIRROR_X)
// A single row or column of many taps: pixels are read just before they are needed, since those of all
// taps would not fit registers.
#define LONG_LINE ((TAPS_X == 1 || TAPS_Y == 1) && TAPS_X * TAPS_Y > LINE_AT_ONCE)

static_assert(TAPS_X || STRIDE_Y * STRIDE_X * DILATION_Y * DILATION_X == 1, "any size, next to each other");

// Columns and rows of pixels that the taps of an output span.
enum { REACH_X = (TAPS_X - 1) * DILATION_X + 1, REACH_Y = (TAPS_Y - 1) * DILATION_Y + 1 };

#if TAPS_X && (MIRROR_Y || MIRROR_X || LONG_LINE)
template <int HALF>
__device__ inline void sum_line(ACC (&sums)[ROWS][COLUMNS], const Pixel* pixels, int pitch,
                                const ACC* taps) {
  static_assert(TAPS_X == 1 || TAPS_Y == 1, "one row or column of taps");
  static_assert(STRIDE_Y * STRIDE_X * DILATION_Y * DILATION_X == 1, "next to each other");
  if constexpr (TAPS_X == 1) {
    sum_column<ROWS, OFFSET, TAPS_Y, HALF>(sums, pixels, pitch, taps);
  } else {
#pragma unroll
    for (int o = 0; o < ROWS; ++o) {
      auto read = [&](int n, ACC* to) { read_granule(pixels + o * pitch + n * VECTOR, to); };
      __syncwarp();  // keeps the compiler from reading the next rows early: registers are scarce
      sum_row<COLUMNS, OFFSET, TAPS_X, HALF, LONG_LINE>(sums[o], read, taps);
    }
  }
}

// The length of the chains is known at compile time, unless it depends on the weights (LOOK).
__device__ inline void add_taps(ACC (&sums)[ROWS][COLUMNS], const Pixel* pixels, int pitch,
                                const ACC* taps, int half) {
  if (MIRROR == LOOK && half == 0) sum_line<0>(sums, pixels, pitch, taps);
  else sum_line<MIRROR == NO ? 0 : TAPS_Y * TAPS_X / 2>(sums, pixels, pitch, taps);
}
#elif TAPS_X
// Adds A rows of taps; `pixels` is the row of pixels that the first of them reads for the first sums.
template <int A>
__device__ inline void add_rows(ACC (&sums)[ROWS][COLUMNS], const Pixel* pixels, int pitch,
                                const ACC* taps) {
  enum {
    NEEDED = (OFFSET + (COLUMNS - 1) * STRIDE_X + REACH_X + VECTOR - 1) / VECTOR,
    PIXEL_ROWS = (A - 1) * DILATION_Y + (ROWS - 1) * STRIDE_Y + 1,
  };
#pragma unroll
  for (int y = 0; y < PIXEL_ROWS; ++y) {
    ACC row[NEEDED * VECTOR];
#pragma unroll
    for (int n = 0; n < NEEDED; ++n) read_granule(pixels + y * pitch + n * VECTOR, row + n * VECTOR);
#pragma unroll
    for (int o = 0; o < ROWS; ++o) {
      int below = y - o * STRIDE_Y, a = below / DILATION_Y;
      if (below < 0 || below % DILATION_Y || a >= A) continue;
#pragma unroll
      for (int b = 0; b < TAPS_X; ++b)
#pragma unroll
        for (int c = 0; c < COLUMNS; ++c)
          add(sums[o][c], taps[a * TAPS_X + b], row[OFFSET + b * DILATION_X + c * STRIDE_X]);
    }
  }
}

__device__ inline void add_taps(ACC (&sums)[ROWS][COLUMNS], const Pixel* pixels, int pitch,
                                const ACC* taps, int) {
#if TAP_ROWS == TAPS_Y
  add_rows<TAPS_Y>(sums, pixels, pitch, taps);
#else
#pragma unroll 1
  for (int a = 0; a + TAP_ROWS <= TAPS_Y; a += TAP_ROWS)
    add_rows<TAP_ROWS>(sums, pixels + a * DILATION_Y * pitch, pitch, taps + a * TAPS_X);
#if TAPS_Y % TAP_ROWS
  enum { REST = TAPS_Y % TAP_ROWS, DONE = TAPS_Y - REST };
  add_rows<REST>(sums, pixels + DONE * DILATION_Y * pitch, pitch, taps + DONE * TAPS_X);
#endif
#endif
}
#elif MIRROR_Y || MIRROR_X
// Adds `count` taps of a single row or column (`down`) from tap `first` on, in the direction STEP;
// `pixels` are those of tap 0.
template <int STEP>
__device__ inline void add_run(ACC (&sums)[ROWS][COLUMNS], const ACC* pixels, int pitch,
                               const ACC* taps, int first, int count, bool down) {
  if (down) {
#pragma unroll 1
    for (int t = 0; t < count; ++t) {
      int a = STEP > 0 ? first + t : first + count - 1 - t;
#pragma unroll
      for (int o = 0; o < ROWS; ++o) {
        ACC row[VECTOR];
        read_granule(pixels + (a + o) * pitch, row);
#pragma unroll
        for (int c = 0; c < COLUMNS; ++c) add(sums[o][c], taps[a], row[c]);
      }
    }
    return;
  }
  int low = first / VECTOR, blocks = (first + count - 1) / VECTOR - low + 1;
#pragma unroll 1
  for (int n = 0; n < blocks; ++n) {
    int b0 = (STEP > 0 ? low + n : low + blocks - 1 - n) * VECTOR;
    ACC window[ROWS][2 * VECTOR];
#pragma unroll
    for (int o = 0; o < ROWS; ++o) {
      read_granule(pixels + o * pitch + b0, window[o]);
      read_granule(pixels + o * pitch + b0 + VECTOR, window[o] + VECTOR);
    }
#pragma unroll
    for (int e = 0; e < VECTOR; ++e) {
      int b = STEP > 0 ? e : VECTOR - 1 - e;
      if (b0 + b < first || b0 + b >= first + count) continue;
      ACC w = taps[b0 + b];
#pragma unroll
      for (int o = 0; o < ROWS; ++o)
#pragma unroll
        for (int c = 0; c < COLUMNS; ++c) add(sums[o][c], w, window[o][b + c]);
    }
  }
}
#else
// Any number of taps: a window of two granules slides along each of the ROWS rows of pixels.
__device__ inline void add_taps(ACC (&sums)[ROWS][COLUMNS], const ACC* pixels, int pitch,
                                const ACC* taps, int taps_pitch, int taps_y, int taps_x) {
#pragma unroll 1
  for (int a = 0; a < taps_y; ++a) {
    const ACC* row = pixels + a * pitch;
    ACC window[ROWS][2 * VECTOR];
#pragma unroll
    for (int o = 0; o < ROWS; ++o) read_granule(row + o * pitch, window[o] + VECTOR);
#pragma unroll 1
    for (int b0 = 0; b0 < taps_x; b0 += VECTOR) {
#pragma unroll
      for (int o = 0; o < ROWS; ++o) {
#pragma unroll
        for (int e = 0; e < VECTOR; ++e) window[o][e] = window[o][VECTOR + e];
        read_granule(row + o * pitch + b0 + VECTOR, window[o] + VECTOR);
      }
#pragma unroll
      for (int b = 0; b < VECTOR; ++b) {
        if (b0 + b >= taps_x) break;
        ACC w = taps[a * taps_pitch + b0 + b];
#pragma unroll
        for (int o = 0; o < ROWS; ++o)
#pragma unroll
          for (int c = 0; c < COLUMNS; ++c) add(sums[o][c], w, window[o][b + c]);
      }
    }
  }
}
#endif

__device__ inline void copy_taps(const ACC* from, int pitch, int taps_y, int taps_x, ACC* to) {
  for (int t = thread(); t < taps_y * taps_x; t += THREADS)
    to[t] = from[t / taps_x * pitch + t % taps_x];
}

#if !TAPS_X && (MIRROR_Y || MIRROR_X)
// Sums a single row or column of any number of taps, run by run (see struct Runs).
__device__ inline void sum_runs(const Geometry& g, const OutputTile& at, const ACC* weights, ACC fill,
                                ACC (&sums)[ROWS][COLUMNS], ACC* shared, ACC* taps) {
  bool down = g.q == 1;
  int n = g.p * g.q, chunk = down ? g.chunk_p : g.chunk_q;
  bool once = chunk >= n;  // one panel serves all runs
  ACC first_chain[ROWS][COLUMNS];
  clear_all(first_chain);  // see `factors` in tensor.cu
  for (Runs run(n, chain_length<MIRROR>(weights, n, 1, 0), chunk); run.more(); run.next()) {
    if (run.part == LAST_CHAIN && run.begins()) {
#pragma unroll
      for (int o = 0; o < ROWS; ++o)
#pragma unroll
        for (int c = 0; c < COLUMNS; ++c) {
          first_chain[o][c] = sums[o][c];
          clear(sums[o][c]);
        }
    }
    int from = once ? 0 : run.first, count = once ? n : run.count;
    int taps_y = down ? count : 1, taps_x = down ? 1 : count;
    int granules = (TILE_X + taps_x - 1 + VECTOR - 1) / VECTOR + 1;
    if (!once || run.starts()) {
      __syncthreads();  // all threads have read the panel and taps before
      load_panel(g, at, down ? from : 0, down ? 0 : from, TILE_Y + taps_y - 1, granules,
                 taps_x + VECTOR, fill_of(fill), (Pixel*)shared);
      commit_copies();
      copy_taps(weights + from, count, 1, count, taps);
      await_copies<0>();
      __syncthreads();
    }
    const ACC* own = shared + threadIdx.y * ROWS * granules * VECTOR + threadIdx.x * COLUMNS;
    int first = run.first - from;
    if (run.part == LAST_CHAIN) add_run<-1>(sums, own, granules * VECTOR, taps, first, run.count, down);
    else add_run<1>(sums, own, granules * VECTOR, taps, first, run.count, down);
    if (run.part == LAST_CHAIN && run.ends()) {
#pragma unroll
      for (int o = 0; o < ROWS; ++o)
#pragma unroll
        for (int c = 0; c < COLUMNS; ++c) sums[o][c] = combine_chains(first_chain[o][c], sums[o][c]);
    }
  }
}
#endif

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
direct(const __grid_constant__ Geometry g, WEIGHTS_PARAMETER, ACC fill,
       const char* __restrict__ x, char* __restrict__ out) {
  SHARED_MEMORY(ACC, shared);
#if TAPS_X
  enum {
    PANEL_ROWS = (TILE_Y - 1) * STRIDE_Y + REACH_Y,
    CELLS = (SHIFT + (TILE_X - 1) * STRIDE_X + REACH_X + CELL - 1) / CELL,
    PITCH = CELLS * CELL,
    // Whether panels are loaded by `load_whole`: otherwise it would take more registers than it saves time.
    LOADS_WHOLE = sizeof(Pixel) < sizeof(ACC) || (TAPS_Y > 1 && TAPS_X > 1 && TAPS_Y * TAPS_X > 49),
  };
  Pixel* panel = (Pixel*)shared;
  Pixel filling = fill_of(fill);
#if MEANS
  Extremes* extremes = (Extremes*)(panel + PANEL_ROWS * PITCH);
  Present* present = (Present*)(extremes + THREADS);
  // Sums of pixels are kept here while weights are summed: registers hold only one of both.
  enum { KEPT_PITCH = THREADS * VECTOR };
  ACC* kept = (ACC*)(present + (PANEL_ROWS * CELLS + 15) / 16 * 16);
  OUT_T* stage = (OUT_T*)(kept + ROWS * KEPT_PITCH);
#else
  OUT_T* stage = (OUT_T*)(panel + PANEL_ROWS * PITCH);
#endif
  const Pixel* own =
      panel + threadIdx.y * ROWS * STRIDE_Y * PITCH + threadIdx.x * COLUMNS * STRIDE_X + ASIDE;
#if !BY_VALUE
  ACC* taps = (ACC*)((char*)stage + g.stage_bytes);
  i64 held = -1;
#endif
  int half = 0;
  for (i64 number = blockIdx.x; number < g.tiles; number += gridDim.x) {
    OutputTile at = output_tile(g, number, x, out);
    if (number != blockIdx.x) __syncthreads();  // all threads have read the panel before
    if (!LOADS_WHOLE || !load_whole<PANEL_ROWS, CELLS>(g, at, panel))
      load_panel(g, at, 0, 0, PANEL_ROWS, CELLS, REACH_X, filling, panel);
    commit_copies();
#if BY_VALUE
    const ACC* taps = weights.at;
#else
    bool other = at.kernel != held;
    if (other) copy_taps(weights + at.kernel * g.weights, TAPS_X, TAPS_Y, TAPS_X, taps);
    held = at.kernel;
#endif
    await_copies<0>();
    __syncthreads();  // all threads have loaded their part of the panel
#if !BY_VALUE
    if (other) half = chain_length<MIRROR>(taps, TAPS_Y * TAPS_X, 1, 0);
#endif
    ACC sums[ROWS][COLUMNS];
#if MEANS
    Found found = prepare_pixels(g, at, PANEL_ROWS, CELLS, REACH_X, panel, present, extremes);
    bool counted = !found.missing;
    // In a loop, so that there is only one copy of the unrolled code.
#pragma unroll 1
    while (true) {
      clear_all(sums);
      add_taps(sums, own, PITCH, taps, half);
      if (counted) break;
      write_column(sums, kept + thread() * VECTOR, KEPT_PITCH);
      __syncthreads();  // all threads have read the pixels
      prepare_counts(g, at, PANEL_ROWS, CELLS, REACH_X, panel, present);
      counted = true;
    }
    if (found.missing) divide_written(g, kept + thread() * VECTOR, KEPT_PITCH, sums, found.pivot);
    else divide_all(g, sums, sum_of_taps(taps, TAPS_Y * TAPS_X), found.pivot);
#else
    clear_all(sums);
    add_taps(sums, own, PITCH, taps, half);
#endif
    store_rows<THREADS, BLOCK_X, ROWS, 1>(g, at, sums, stage);
  }
#else
  OUT_T* stage = (OUT_T*)(shared + g.panel);
  ACC* taps = (ACC*)((char*)stage + g.stage_bytes);
  for (i64 number = blockIdx.x; number < g.tiles; number += gridDim.x) {
    OutputTile at = output_tile(g, number, x, out);
    ACC sums[ROWS][COLUMNS];
    clear_all(sums);
#if MIRROR_Y || MIRROR_X
#if BY_VALUE
    sum_runs(g, at, weights.at, fill, sums, shared, taps);
#else
    sum_runs(g, at, weights + at.kernel * g.weights, fill, sums, shared, taps);
#endif
#else
    for (int b0 = 0; b0 < g.q; b0 += g.chunk_q) {
      int taps_x = min(g.chunk_q, g.q - b0);
      // One granule more than pixels are needed: the window reads ahead.
      int granules = (TILE_X + taps_x - 1 + VECTOR - 1) / VECTOR + 1;
      for (int a0 = 0; a0 < g.p; a0 += g.chunk_p) {
        int taps_y = min(g.chunk_p, g.p - a0);
        __syncthreads();  // all threads have read the panel and taps before
        load_panel(g, at, a0, b0, TILE_Y + taps_y - 1, granules, taps_x + VECTOR, fill_of(fill), (Pixel*)shared);
        commit_copies();
#if BY_VALUE
        copy_taps(weights.at + a0 * g.q + b0, g.q, taps_y, taps_x, taps);
#else
        copy_taps(weights + at.kernel * g.weights + (i64)a0 * g.q + b0, g.q, taps_y, taps_x, taps);
#endif
        await_copies<0>();
        __syncthreads();
        add_taps(sums, shared + threadIdx.y * ROWS * granules * VECTOR + threadIdx.x * COLUMNS,
                 granules * VECTOR, taps, taps_x, taps_y, taps_x);
      }
    }
#endif
    store_rows<THREADS, BLOCK_X, ROWS, 1>(g, at, sums, stage);
  }
#endif
}
