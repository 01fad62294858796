// Direct correlation with stride and dilation 1. A block makes a TILE_Y x TILE_X tile of outputs: it
// loads the tile's pixels and their halo into shared memory, the next tile's while this one is summed
// (STAGES 2) or after it (STAGES 1). A thread holds ROWS x COLUMNS sums in registers; a
// row of pixels that it reads from shared memory, 16 bytes at a time, serves all the sums above and
// below that row belongs to.
//
// TAPS_Y x TAPS_X are the kernel's size where this is compiled for one: the taps are then written
// out, TAP_ROWS rows of them at a time, and weights by value are operands in the constant bank.
// TAPS_X 0 is for any size. Both take the taps of a sum row by row, left to right (kernels wider than
// `g.chunk_q` in such column blocks), so that they give the same bits, wherever an output lies.

#if TAPS_X
// Adds A rows of taps, whose first row of pixels is `pixels`.
template <int A>
__device__ inline void add_rows(ACC (&sums)[ROWS][COLUMNS], const ACC* pixels, int pitch,
                                const ACC* taps) {
  enum { NEEDED = (SHIFT + COLUMNS + TAPS_X - 1 + VECTOR - 1) / VECTOR };
#pragma unroll
  for (int y = 0; y < A + ROWS - 1; ++y) {
    ACC row[NEEDED * VECTOR];
#pragma unroll
    for (int n = 0; n < NEEDED; ++n) read_granule(pixels + y * pitch + n * VECTOR, row + n * VECTOR);
#pragma unroll
    for (int o = 0; o < ROWS; ++o) {
      if (y - o < 0 || y - o >= A) continue;
#pragma unroll
      for (int b = 0; b < TAPS_X; ++b)
#pragma unroll
        for (int c = 0; c < COLUMNS; ++c)
          add(sums[o][c], taps[(y - o) * TAPS_X + b], row[SHIFT + b + c]);
    }
  }
}

__device__ inline void add_taps(ACC (&sums)[ROWS][COLUMNS], const ACC* pixels, int pitch,
                                const ACC* taps) {
#if TAP_ROWS == TAPS_Y
  add_rows<TAPS_Y>(sums, pixels, pitch, taps);
#else
#pragma unroll 1
  for (int a = 0; a + TAP_ROWS <= TAPS_Y; a += TAP_ROWS)
    add_rows<TAP_ROWS>(sums, pixels + a * pitch, pitch, taps + a * TAPS_X);
#if TAPS_Y % TAP_ROWS
  enum { REST = TAPS_Y % TAP_ROWS, DONE = TAPS_Y - REST };
  add_rows<REST>(sums, pixels + DONE * pitch, pitch, taps + DONE * TAPS_X);
#endif
#endif
}
#else
// A window of two granules slides along the ROWS rows of a row of taps.
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

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
direct(const __grid_constant__ Geometry g, WEIGHTS_PARAMETER, ACC fill,
       const char* __restrict__ x, char* __restrict__ out) {
  SHARED_MEMORY(ACC, shared);
#if TAPS_X
  enum {
    PANEL_ROWS = TILE_Y + TAPS_Y - 1,
    GRANULES = (SHIFT + TILE_X + TAPS_X - 1 + VECTOR - 1) / VECTOR,
    PITCH = GRANULES * VECTOR,
    PANEL = PANEL_ROWS * PITCH,
  };
  OUT_T* stage = (OUT_T*)(shared + STAGES * PANEL);
  const ACC* own = shared + (threadIdx.y * ROWS) * PITCH + threadIdx.x * COLUMNS;
#if !BY_VALUE
  ACC* taps = (ACC*)((char*)stage + g.stage_bytes);
  i64 held = -1;
#endif
  i64 number = blockIdx.x, step = gridDim.x;
  Place at = place_of(g, number, x, out), after = at;
  load_panel(g, at, 0, 0, PANEL_ROWS, GRANULES, TAPS_X, fill, shared);
  commit_copies();
  for (int turn = 0; number < g.tiles; number += step, at = after, ++turn) {
    int panel = STAGES == 2 ? turn % 2 * PANEL : 0;
    bool more = number + step < g.tiles;
    if (more) after = place_of(g, number + step, x, out);
    if (STAGES == 2 && more)
      load_panel(g, after, 0, 0, PANEL_ROWS, GRANULES, TAPS_X, fill, shared + (PANEL - panel));
    commit_copies();  // of nothing, behind the last tile
#if BY_VALUE
    const ACC* taps = weights.at;
#else
    if (at.kernel != held) copy_taps(weights + at.kernel * g.weights, TAPS_X, TAPS_Y, TAPS_X, taps);
    held = at.kernel;
#endif
    await_copies<STAGES - 1>();
    __syncthreads();  // everyone's part of the panel is there
    ACC sums[ROWS][COLUMNS];
#pragma unroll
    for (int o = 0; o < ROWS; ++o)
#pragma unroll
      for (int c = 0; c < COLUMNS; ++c) clear(sums[o][c]);
    add_taps(sums, own + panel, PITCH, taps);
    __syncthreads();  // everyone has read it
    store_rows<THREADS, BLOCK_X, ROWS, 1>(g, at, sums, stage);
    if (STAGES == 1 && more)
      load_panel(g, after, 0, 0, PANEL_ROWS, GRANULES, TAPS_X, fill, shared);
  }
#else
  OUT_T* stage = (OUT_T*)(shared + g.panel);
  ACC* taps = (ACC*)((char*)stage + g.stage_bytes);
  for (i64 number = blockIdx.x; number < g.tiles; number += gridDim.x) {
    Place at = place_of(g, number, x, out);
    ACC sums[ROWS][COLUMNS];
#pragma unroll
    for (int o = 0; o < ROWS; ++o)
#pragma unroll
      for (int c = 0; c < COLUMNS; ++c) clear(sums[o][c]);
    for (int b0 = 0; b0 < g.q; b0 += g.chunk_q) {
      int taps_x = min(g.chunk_q, g.q - b0);
      // One granule more than pixels are needed: the window reads ahead.
      int granules = (TILE_X + taps_x - 1 + VECTOR - 1) / VECTOR + 1;
      for (int a0 = 0; a0 < g.p; a0 += g.chunk_p) {
        int taps_y = min(g.chunk_p, g.p - a0);
        __syncthreads();  // the panel and taps before have been read
        load_panel(g, at, a0, b0, TILE_Y + taps_y - 1, granules, taps_x + VECTOR, fill, shared);
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
    store_rows<THREADS, BLOCK_X, ROWS, 1>(g, at, sums, stage);
  }
#endif
}
