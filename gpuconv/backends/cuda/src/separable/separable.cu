// Separable correlation with stride and dilation 1, in one launch: the image is read once and the
// result written once. A block loads a panel of pixels into shared memory, BLOCK_X granules wide. For
// every term of the kernel's rank it makes two passes. In the vertical pass each thread has one column
// of granules and sums TAPS_Y pixels down, for ROWS rows, into a second panel. In the horizontal pass it
// sums TAPS_X of those across, for two neighbouring granules and half as many rows. The first panel is
// free by the last horizontal pass, and the next tile's pixels are loaded during it.
//
// Weights of a kernel: for each term, TAPS_Y vertical ones and then TAPS_X horizontal ones.

enum {
  TILE_ROWS = BLOCK_Y * ROWS,
  PANEL_ROWS = TILE_ROWS + TAPS_Y - 1,
  PITCH = BLOCK_X * VECTOR,
  CELLS = PITCH / CELL,
  PANEL = PANEL_ROWS * PITCH,
  // Horizontal sums of a thread: two granules wide, half as many rows.
  EACH = 2,
  COUNT = EACH * VECTOR,
  LESS = ROWS / 2,
  ACROSS = TILE_X / COUNT,
  ITEMS = ACROSS * (TILE_ROWS / LESS),
  NEEDED = (OFFSET + COUNT + TAPS_X - 1 + VECTOR - 1) / VECTOR,
};
static_assert(PITCH % CELL == 0, "a panel consists of cells");
static_assert(!(RAW && ALIGNED) || TILE_X % CELL == 0, "every tile's cells are aligned");
static_assert(TILE_X % COUNT == 0 && TILE_X + SHIFT + TAPS_X - 1 <= PITCH, "a tile fits its panel");
static_assert(ITEMS <= THREADS, "every thread has one item at most");

// A row of the second panel has its even granules first, then the odd ones: threads of the horizontal
// pass take every other granule, and read from different banks this way.
__device__ inline int place_in_row(int granule) {
  return ((granule & 1) * (BLOCK_X / 2) + granule / 2) * VECTOR;
}

template <int HALF>
__device__ inline void sum_columns(const Pixel* pixels, const ACC* taps, ACC* sums_to) {
  ACC sums[ROWS][VECTOR];
  sum_column<ROWS, 0, TAPS_Y, HALF>(sums, pixels, PITCH, taps);
  write_column(sums, sums_to, PITCH);
}

template <int HALF>
__device__ inline void sum_rows(ACC (&sums)[LESS][COUNT], const ACC* columns, int granule,
                                const ACC* taps) {
#pragma unroll
  for (int o = 0; o < LESS; ++o) {
    auto read = [&](int n, ACC* to) {
      // `granule` is even, so which half of the row the others are in is known at compile time.
      int m = n + ASIDE / VECTOR, place = ((m & 1) * (BLOCK_X / 2) + granule / 2 + m / 2) * VECTOR;
      read_granule(columns + o * PITCH + place, to);
    };
    if constexpr (HALF > 0) {
      ACC term[COUNT];
      sum_row<COUNT, OFFSET, TAPS_X, HALF>(term, read, taps);
#pragma unroll
      for (int c = 0; c < COUNT; ++c) sums[o][c] = combine_chains(sums[o][c], term[c]);
      continue;
    }
    ACC row[NEEDED * VECTOR];
#pragma unroll
    for (int n = 0; n < NEEDED; ++n) read(n, row + n * VECTOR);
#pragma unroll
    for (int b = 0; b < TAPS_X; ++b)
#pragma unroll
      for (int c = 0; c < COUNT; ++c) add(sums[o][c], taps[b], row[OFFSET + b + c]);
  }
}

// The lengths of the chains are known at compile time, unless the kernel has to look at the weights.
__device__ inline void columns_of(int half, const Pixel* pixels, const ACC* taps, ACC* sums_to) {
  if (MIRROR_Y == LOOK && half == 0) sum_columns<0>(pixels, taps, sums_to);
  else sum_columns<MIRROR_Y == NO ? 0 : TAPS_Y / 2>(pixels, taps, sums_to);
}

__device__ inline void rows_of(int half, ACC (&sums)[LESS][COUNT], const ACC* columns, int granule,
                               const ACC* taps) {
  if (MIRROR_X == LOOK && half == 0) sum_rows<0>(sums, columns, granule, taps);
  else sum_rows<MIRROR_X == NO ? 0 : TAPS_X / 2>(sums, columns, granule, taps);
}

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
separable(const __grid_constant__ Geometry g, WEIGHTS_PARAMETER, ACC fill,
          const char* __restrict__ x, char* __restrict__ out) {
  SHARED_MEMORY(ACC, shared);
  Pixel* panel = (Pixel*)shared;
  Pixel filling = fill_of(fill);
  ACC* columns = (ACC*)(panel + PANEL);
  OUT_T* stage = (OUT_T*)(columns + TILE_ROWS * PITCH);
#if !BY_VALUE
  ACC* held_taps = (ACC*)((char*)stage + g.stage_bytes);
  i64 held = -1;
#endif
  int half_y = 0, half_x = 0;
  int granule = thread() % ACROSS * EACH, first = thread() / ACROSS * LESS;
  i64 number = blockIdx.x, step = gridDim.x;
  OutputTile at = output_tile(g, number, x, out), after = at;
  load_panel(g, at, 0, 0, PANEL_ROWS, CELLS, TAPS_X, filling, panel);
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
    ACC sums[LESS][COUNT];
#pragma unroll
    for (int o = 0; o < LESS; ++o)
#pragma unroll
      for (int c = 0; c < COUNT; ++c) clear(sums[o][c]);
    const int terms = SINGLE ? 1 : g.rank;
#pragma unroll 1
    for (int term = 0; term < terms; ++term) {
      const ACC* own = taps + term * (TAPS_Y + TAPS_X);
      columns_of(half_y, panel + threadIdx.y * ROWS * PITCH + threadIdx.x * VECTOR, own,
                 columns + threadIdx.y * ROWS * PITCH + place_in_row(threadIdx.x));
      __syncthreads();  // the vertical pass is complete
      if (term + 1 == terms && more)
        load_panel(g, after, 0, 0, PANEL_ROWS, CELLS, TAPS_X, filling, panel);
      if (thread() < ITEMS) rows_of(half_x, sums, columns + first * PITCH, granule, own + TAPS_Y);
      if (term + 1 < terms) __syncthreads();  // its sums have been read and may be replaced
    }
    store_rows<ITEMS, ACROSS, LESS, EACH>(g, at, sums, stage);
  }
}
