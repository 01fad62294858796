// Separable correlation with stride and dilation 1, in one launch: the image is read once and the
// result written once. A block loads a panel of pixels into shared memory, BLOCK_X granules wide. For
// every term of the kernel's rank it makes two passes. In the vertical pass each thread has one column
// of granules and sums TAPS_Y pixels down, for ROWS rows, into a second panel. In the horizontal pass it
// sums TAPS_X of those across, for one granule in each of ROWS rows that are BLOCK_Y apart: neighbouring
// threads have neighbouring granules, and write whole sectors of memory. The first panel is free during
// the last horizontal pass: if the block goes on to another tile, that tile's pixels are loaded meanwhile.
// With short kernels it does not, because a multiprocessor holds more blocks (separable_planning.py).
//
// Weights of a kernel: for each term, TAPS_Y vertical ones and then TAPS_X horizontal ones.

enum {
  TILE_ROWS = BLOCK_Y * ROWS,
  PANEL_ROWS = TILE_ROWS + TAPS_Y - 1,
  PITCH = BLOCK_X * VECTOR,
  CELLS = PITCH / CELL,
  PANEL = PANEL_ROWS * PITCH,
  // For the horizontal pass: threads side by side, and all that have something to sum.
  ACROSS = TILE_X / VECTOR,
  ITEMS = ACROSS * BLOCK_Y,
  // From one row of the second panel to the next. Where a warp continues in the next row, it reads from
  // the banks that come next.
  COLUMNS_PITCH = (BLOCK_X + (ACROSS + 7 * BLOCK_X) % 8) * VECTOR,
  // Whether a row is summed a few taps at a time, because pixels of all taps would not fit registers.
  IN_RUNS = (!SINGLE || MIRROR_X == LOOK) && sizeof(ACC) == 16 && TAPS_X > 16,
  NEEDED = (OFFSET + VECTOR + TAPS_X - 1 + VECTOR - 1) / VECTOR,
};
static_assert(PITCH % CELL == 0, "a panel consists of cells");
static_assert(!(RAW && ALIGNED) || TILE_X % CELL == 0, "every tile's cells are aligned");
static_assert(TILE_X % VECTOR == 0 && TILE_X + SHIFT + TAPS_X - 1 <= PITCH, "a tile fits its panel");

template <int HALF>
__device__ inline void sum_columns(const Pixel* pixels, const ACC* taps, ACC* sums_to) {
  ACC sums[ROWS][VECTOR];
  sum_column<ROWS, 0, TAPS_Y, HALF>(sums, pixels, PITCH, taps);
  write_column(sums, sums_to, COLUMNS_PITCH);
}

template <int HALF>
__device__ inline void sum_rows(ACC (&sums)[ROWS][VECTOR], const ACC* columns, const ACC* taps) {
#pragma unroll
  for (int o = 0; o < ROWS; ++o) {
    auto read = [&](int n, ACC* to) {
      read_granule(columns + o * BLOCK_Y * COLUMNS_PITCH + ASIDE + n * VECTOR, to);
    };
    if constexpr (HALF > 0) {
      ACC term[VECTOR];
      sum_row<VECTOR, OFFSET, TAPS_X, HALF, IN_RUNS>(term, read, taps);
#pragma unroll
      for (int c = 0; c < VECTOR; ++c) sums[o][c] = combine_chains(sums[o][c], term[c]);
      continue;
    }
    ACC row[NEEDED * VECTOR];
#pragma unroll
    for (int n = 0; n < NEEDED; ++n) read(n, row + n * VECTOR);
#pragma unroll
    for (int b = 0; b < TAPS_X; ++b)
#pragma unroll
      for (int c = 0; c < VECTOR; ++c) add(sums[o][c], taps[b], row[OFFSET + b + c]);
  }
}

// The lengths of the chains are known at compile time, unless they depend on the weights (LOOK).
__device__ inline void columns_of(int half, const Pixel* pixels, const ACC* taps, ACC* sums_to) {
  if (MIRROR_Y == LOOK && half == 0) sum_columns<0>(pixels, taps, sums_to);
  else sum_columns<MIRROR_Y == NO ? 0 : TAPS_Y / 2>(pixels, taps, sums_to);
}

__device__ inline void rows_of(int half, ACC (&sums)[ROWS][VECTOR], const ACC* columns,
                               const ACC* taps) {
  if (MIRROR_X == LOOK && half == 0) sum_rows<0>(sums, columns, taps);
  else sum_rows<MIRROR_X == NO ? 0 : TAPS_X / 2>(sums, columns, taps);
}

__device__ inline void load_pixels(const Geometry& g, const OutputTile& at, Pixel fill, Pixel* panel) {
  if (!load_whole<PANEL_ROWS, CELLS>(g, at, panel))
    load_panel(g, at, 0, 0, PANEL_ROWS, CELLS, TAPS_X, fill, panel);
}

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
separable(const __grid_constant__ Geometry g, WEIGHTS_PARAMETER, ACC fill,
          const char* __restrict__ x, char* __restrict__ out) {
  SHARED_MEMORY(ACC, shared);
  Pixel* panel = (Pixel*)shared;
  Pixel filling = fill_of(fill);
  ACC* columns = (ACC*)(panel + PANEL);
#if MEANS
  Extremes* extremes = (Extremes*)(columns + TILE_ROWS * COLUMNS_PITCH);
  Present* present = (Present*)(extremes + THREADS);
  OUT_T* stage = (OUT_T*)(present + (PANEL_ROWS * CELLS + 15) / 16 * 16);
#else
  OUT_T* stage = (OUT_T*)(columns + TILE_ROWS * COLUMNS_PITCH);
#endif
#if !BY_VALUE
  ACC* held_taps = (ACC*)((char*)stage + g.stage_bytes);
  i64 held = -1;
#endif
  int half_y = 0, half_x = 0;
  ACC* to = columns + threadIdx.y * ROWS * COLUMNS_PITCH + threadIdx.x * VECTOR;
  const ACC* from = columns + thread() / ACROSS * COLUMNS_PITCH + thread() % ACROSS * VECTOR;
  i64 number = blockIdx.x, step = gridDim.x;
  OutputTile at = output_tile(g, number, x, out), after = at;
  load_pixels(g, at, filling, panel);
  for (; number < g.tiles; number += step, at = after) {
    bool more = number + step < g.tiles;
    if (more) after = output_tile(g, number + step, x, out);
#if BY_VALUE
    const ACC* taps = weights.at;
#else
    bool other = at.kernel != held;
    if (other) {
      __syncthreads();  // all threads have read the weights of the tile before
      for (int t = thread(); t < g.weights; t += THREADS)
        held_taps[t] = weights[at.kernel * g.weights + t];
      held = at.kernel;
    }
    const ACC* taps = held_taps;
#endif
    commit_copies();
    await_copies<0>();
    __syncthreads();  // all threads have loaded their part of the panel
#if !BY_VALUE
    if (other) {
      half_y = chain_length<MIRROR_Y>(taps, TAPS_Y, g.rank, TAPS_Y + TAPS_X);
      half_x = chain_length<MIRROR_X>(taps + TAPS_Y, TAPS_X, g.rank, TAPS_Y + TAPS_X);
    }
#endif
    bool last = true;  // whether the panel is not needed after the sums of pixels
#if MEANS
    Found found = prepare_pixels(g, at, PANEL_ROWS, CELLS, TAPS_X, panel, present, extremes);
    last = !found.missing;
#endif
    ACC sums[ROWS][VECTOR];
    clear_all(sums);
    const int terms = SINGLE ? 1 : g.rank;
#pragma unroll 1
    for (int term = 0; term < terms; ++term) {
      const ACC* own = taps + term * (TAPS_Y + TAPS_X);
      columns_of(half_y, panel + threadIdx.y * ROWS * PITCH + threadIdx.x * VECTOR, own, to);
      __syncthreads();  // the vertical pass is complete
      if (term + 1 == terms && more && last) load_pixels(g, after, filling, panel);
      if (thread() < ITEMS) rows_of(half_x, sums, from, own + TAPS_Y);
      if (term + 1 < terms) __syncthreads();  // its sums have been read and may be replaced
    }
#if MEANS
    if (found.missing) {
      ACC of_pixels[ROWS][VECTOR];
      copy_all(sums, of_pixels);
      clear_all(sums);
      prepare_counts(g, at, PANEL_ROWS, CELLS, TAPS_X, panel, present);  // and sums have been read
      columns_of(half_y, panel + threadIdx.y * ROWS * PITCH + threadIdx.x * VECTOR, taps, to);
      __syncthreads();
      if (more) load_pixels(g, after, filling, panel);
      if (thread() < ITEMS) rows_of(half_x, sums, from, taps + TAPS_Y);
#pragma unroll
      for (int o = 0; o < ROWS; ++o) divide_row(g, of_pixels[o], sums[o], found.pivot);
    } else {
      ACC count = sum_of_taps(taps, TAPS_Y) * sum_of_taps(taps + TAPS_Y, TAPS_X);
      divide_all(g, sums, count, found.pivot);
    }
#endif
    store_rows<ITEMS, ACROSS, ROWS, BLOCK_Y>(g, at, sums, stage);
  }
}
