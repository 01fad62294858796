// Correlation on the tensor cores. For one row of taps, 16 rows by 8 columns of outputs are a matrix
// product: their pixels (M x K) times a band matrix (K x N), whose column j holds the row of taps from
// row j on. The band is the same everywhere in the image, so a warp keeps it in registers. For an output
// q of 8 * ceil((q + 7) / 8) products are useful (halves); the others are by zero.
//
// The host defines before this text what tile.cuh needs, where the warps of a block are its rows of
// threads and compute tiles side by side, and: N_TILES, the N tiles (8 columns) of a warp; M_TILES, its M
// tiles (16 rows); K_TILES, the K tiles of the band that are served at once; WHOLE, whether all taps are
// served at once; BLOCKS that a multiprocessor should hold. A K tile is one cell, 16 bytes of a row: the
// unit in which matrices are loaded.
//
// M tiles interleave: M tile f has every M_TILES-th row from row f on. So the pixels of M tile f at tap
// row a are those of M tile 0 at tap row a + f, and a matrix that is loaded once serves M_TILES rows of
// taps. In shared memory the rows of equal remainder modulo M_TILES are together, in a plane.

enum {
  CELL = 16 / sizeof(X_T),  // columns
  SPLIT = 8 / CELL,         // cells of an N tile
  WARPS = BLOCK_Y,
  THREADS = 32 * WARPS,
  WARP_CELLS = (N_TILES - 1) * SPLIT + K_TILES,  // of a row of the tile, read by a warp
  ROW_CELLS = (WARPS * N_TILES - 1) * SPLIT + K_TILES,
  PITCH = (ROW_CELLS | 1) * 16,  // odd in cells: 8 rows of a matrix lie in different banks
  // A pair of cells that is multiplied may begin at any cell. Where the parity varies, a pair is loaded
  // for every cell, rather than assembled from registers of two loads.
  EVERY = SPLIT == 1 && K_TILES % 2 == 0,
  COPIES = 4 / sizeof(X_T),
  BAND = (CELL * K_TILES + 8) / COPIES + COPIES - 1,  // words of a copy of a row of taps
  STAGE = (N_TILES * 8 * (int)sizeof(OUT_T) / 16 | 1) * 16,  // bytes of a row of staged results
  DEPTH = 2  // cells that a thread loads at once
};

static_assert(BLOCK_X == 32 && TILE_X == WARPS * N_TILES * 8 && TILE_Y == M_TILES * 16);

struct Thread { int lane, warp; };

struct alignas(sizeof(OUT_T) < 2 ? 8 : 16) Results { OUT_T at[8]; };

__device__ inline unsigned word_of(Half, const float* taps) {
  return pack(Half(), taps[0], taps[1]);
}
__device__ inline unsigned word_of(Bfloat, const float* taps) {
  return pack(Bfloat(), taps[0], taps[1]);
}
__device__ inline unsigned word_of(float, const float* taps) { return __float_as_uint(taps[0]); }

// The cells of a tile that a thread handles: every THREADS-th one, row after row.
struct CellWalk {
  int row, across;
  __device__ CellWalk(int thread) : row(thread / ROW_CELLS), across(thread % ROW_CELLS) {}
  __device__ void next() {
    row += THREADS / ROW_CELLS;
    across += THREADS % ROW_CELLS;
    if (across >= ROW_CELLS) { across -= ROW_CELLS; ++row; }
  }
  __device__ Words* in(char* tile, int plane) const {
    return (Words*)(tile + row % M_TILES * plane + row / M_TILES * PITCH) + across;
  }
};

// The taps that one load of pixels serves: `rows` rows of them from row a0 on, and of those the columns
// whose pixels are in K_TILES cells from column `first` on, counted from the leftmost output's window.
struct TapChunk {
  int a0, rows, first;
  __device__ TapChunk(const Geometry& g, int number, int passes) {
    a0 = number / passes * g.chunk_p;
    rows = min(g.chunk_p, g.p - a0);
    first = number % passes * (CELL * K_TILES) - g.shift;
  }
};

// All threads of the block load the pixels that the taps of a chunk read.
__device__ inline void load_pixels(const Geometry& g, const OutputTile& at, const TapChunk& part,
                                   const Thread& me, int plane, X_T fill, char* tile) {
  i64 y0 = at.i0 + part.a0 - g.top, x0 = at.j0 + part.first - g.left;
  int rows = 16 * M_TILES + part.rows - 1;
  CellWalk walk(me.warp * 32 + me.lane);
  const char* from = at.x + y0 * g.x_row + x0 * g.x_column;
  bool aligned = ((size_t)from | (size_t)g.x_row) % 16 == 0;
  // A cell that is not aligned is cut from two aligned ones, which must not leave the row.
  int margin = aligned ? 0 : CELL;
  if (g.x_column == sizeof(X_T) && y0 >= 0 && y0 + rows <= g.h && x0 >= margin &&
      x0 + ROW_CELLS * CELL + margin <= g.w) {
    if (aligned) {
      for (; walk.row < rows; walk.next())
        copy_async<16>(walk.in(tile, plane), from + walk.row * g.x_row + walk.across * 16);
      return;
    }
    while (walk.row < rows) {
      Words low[DEPTH] = {}, high[DEPTH] = {};
      Words* to[DEPTH];
      unsigned byte[DEPTH] = {};
      // All reads are issued before the first is waited for.
#pragma unroll
      for (int n = 0; n < DEPTH; ++n) {
        to[n] = 0;
        if (walk.row < rows) {
          const char* pixels = from + walk.row * g.x_row + walk.across * 16;
          byte[n] = (size_t)pixels % 16;
          to[n] = walk.in(tile, plane);
          low[n] = *(const Words*)(pixels - byte[n]);
          high[n] = *(const Words*)(pixels - byte[n] + 16);
        }
        walk.next();
      }
#pragma unroll
      for (int n = 0; n < DEPTH; ++n)
        if (to[n]) *to[n] = realign(low[n], high[n], byte[n]);
    }
    return;
  }
  for (; walk.row < rows; walk.next()) {
    Words* to = walk.in(tile, plane);
    i64 y = border(y0 + walk.row, g.h, g.boundary), x = x0 + walk.across * CELL;
    const char* row_start = at.x + y * g.x_row;
    const char* pixels = row_start + x * g.x_column;
    bool whole = y >= 0 && x >= 0 && x + CELL <= g.w && g.x_column == sizeof(X_T);
    if (whole && (size_t)pixels % 16 == 0) {
      copy_async<16>(to, pixels);
    } else {
#pragma unroll 1
      for (int n = 0; n < CELL; ++n) {
        i64 column = y < 0 ? -1 : border(x + n, g.w, g.boundary);
        ((X_T*)to)[n] = column < 0 ? fill : *(const X_T*)(row_start + column * g.x_column);
      }
    }
  }
}

// All threads of the block write the bands: rows of taps with zeros around them. A factor of two halves
// may begin at an odd tap, but a word of shared memory cannot, so halves have a second copy of the band
// that begins one half earlier.
__device__ inline void load_taps(const Geometry& g, const float* taps, const TapChunk& part,
                                 const Thread& me, unsigned* band) {
  for (int n = me.warp * 32 + me.lane; n < part.rows * COPIES * BAND; n += THREADS) {
    int row = n / (COPIES * BAND), word = n % (COPIES * BAND);
    int copy = word / BAND, begin = word % BAND * COPIES - copy;
    float two[2] = {0, 0};
#pragma unroll
    for (int m = 0; m < COPIES; ++m) {
      int tap = part.first + begin + m - 8;
      if (tap >= 0 && tap < g.q) two[m] = taps[(i64)(part.a0 + row) * g.q + tap];
    }
    band[n] = word_of(X_T(), two);
  }
}

__device__ inline void multiply_tile(const char* tile, int plane, const unsigned* band, int taps,
                                     const Thread& me, float (&sums)[M_TILES][N_TILES][4]) {
  int lane = me.lane;
  const char* mine = tile + lane % 16 * PITCH + (me.warp * N_TILES * SPLIT + lane / 16) * 16;
  // The tap that this lane has of the band's first cell.
  int tap = lane % 4 * COPIES - lane / 4 + 8, odd = tap % COPIES;
  band += (tap + odd) / COPIES + odd * BAND;
  // The factors of the last M_TILES rows of taps, the newest first. The first rounds copy factors before
  // any are loaded. Whatever a loop carries from round to round must have a value from the start: ptxas
  // has compiled undefined values wrongly.
  unsigned factors[M_TILES][K_TILES] = {};
#pragma unroll 1
  for (int m = 0; m < taps + M_TILES - 1; ++m) {
    const char* row = mine + m % M_TILES * plane + m / M_TILES * PITCH;
    unsigned pixels[WARP_CELLS - 1][4], last[2];  // of a cell and the next one
#pragma unroll
    for (int c = 0; c < WARP_CELLS - 1; c += EVERY ? 1 : 2) {
      load_matrices(pixels[c], row + c * 16);
#pragma unroll
      for (int n = 0; n < 4; ++n) pixels[c][n] = factor(X_T(), pixels[c][n]);
    }
    if (!EVERY && WARP_CELLS % 2) {
      load_matrices(last, row + (WARP_CELLS - 1) * 16);
#pragma unroll
      for (int n = 0; n < 2; ++n) last[n] = factor(X_T(), last[n]);
    }
#pragma unroll
    for (int s = 0; s < K_TILES; ++s) {
#pragma unroll
      for (int f = M_TILES - 1; f > 0; --f) factors[f][s] = factors[f - 1][s];
      if (m < taps) factors[0][s] = factor(X_T(), band[m * COPIES * BAND + 4 * s]);
    }
#pragma unroll
    for (int f = 0; f < M_TILES; ++f) {
      if (m < f || m >= taps + f) continue;
#pragma unroll
      for (int b = 0; b < N_TILES; ++b) {
        // Cells are multiplied in pairs. With an odd number one is left over, the first or the last, so
        // that the pairs are those that were loaded.
        int odd = K_TILES % 2 && b * SPLIT % 2;
#pragma unroll
        for (int s = odd; s + 1 < K_TILES; s += 2)
          multiply(X_T(), sums[f][b], pixels[b * SPLIT + s], factors[f][s], factors[f][s + 1]);
        if (K_TILES % 2) {
          int s = odd ? 0 : K_TILES - 1, c = b * SPLIT + s;
          unsigned alone[2];
#pragma unroll
          for (int n = 0; n < 2; ++n)
            alone[n] = c % 2 ? pixels[c - 1][n + 2] : c < WARP_CELLS - 1 ? pixels[c][n] : last[n];
          multiply(X_T(), sums[f][b], alone, factors[f][s]);
        }
      }
    }
  }
}

// Computes the same sums of the same lane without tensor cores: tap by tap, and only with pixels inside an
// output's window. The band multiplies others by zero, which gives NaN where they are not finite.
__device__ inline void add_tile(const Geometry& g, const char* tile, int plane, const float* taps,
                                const TapChunk& part, const Thread& me,
                                float (&sums)[M_TILES][N_TILES][4]) {
  int i = me.lane / 4, j = me.lane % 4 * 2;
  const char* mine = tile + me.warp * N_TILES * SPLIT * 16;
#pragma unroll 1
  for (int a = 0; a < part.rows; ++a) {
#pragma unroll 1
    for (int c = 0; c < CELL * K_TILES; ++c) {
      int left = part.first + c - j, right = left - 1;
      bool uses[2] = {left >= 0 && left < g.q, right >= 0 && right < g.q};
      float tap[2] = {0, 0};
      if (uses[0]) tap[0] = to_float(taps[(i64)(part.a0 + a) * g.q + left]);
      if (uses[1]) tap[1] = to_float(taps[(i64)(part.a0 + a) * g.q + right]);
#pragma unroll
      for (int f = 0; f < M_TILES; ++f) {
#pragma unroll
        for (int n = 0; n < 2 * N_TILES; ++n) {
          int row = i + n / N_TILES * 8 + (f + a) / M_TILES, b = n % N_TILES;
          const char* row_start = mine + (f + a) % M_TILES * plane + row * PITCH;
          float pixel = to_float(((const X_T*)row_start)[b * 8 + c]);
#pragma unroll
          for (int m = 0; m < 2; ++m)
            if (uses[m]) add(sums[f][b][n / N_TILES * 2 + m], tap[m], pixel);
        }
      }
    }
  }
}

__device__ inline void clear(float (&sums)[M_TILES][N_TILES][4]) {
#pragma unroll
  for (int f = 0; f < M_TILES; ++f)
#pragma unroll
    for (int n = 0; n < N_TILES * 4; ++n) sums[f][n / 4][n % 4] = 0;
}

__device__ inline bool all_finite(const float (&sums)[M_TILES][N_TILES][4]) {
  float zero[4] = {};
#pragma unroll
  for (int f = 0; f < M_TILES; ++f)
#pragma unroll
    for (int n = 0; n < N_TILES * 4; ++n)
      zero[n % 4] = fmaf(sums[f][n / 4][n % 4], 0.f, zero[n % 4]);
  return zero[0] + zero[1] + zero[2] + zero[3] == 0;
}

struct alignas(2 * sizeof(OUT_T)) Two { OUT_T at[2]; };

// Results go through shared memory, one M tile after the other, to be written as rows.
__device__ inline void store_sums(const Geometry& g, const OutputTile& at, const Thread& me, char* stage,
                                  const float (&sums)[M_TILES][N_TILES][4]) {
  int lane = me.lane;
  stage += me.warp * 16 * STAGE;
  i64 j0 = at.j0 + me.warp * N_TILES * 8;
  char* out = at.out + at.i0 * g.out_row + j0 * g.out_column;
  int rows = (int)min((i64)(16 * M_TILES), g.r - at.i0);
  int columns = (int)min((i64)(N_TILES * 8), g.s - j0);  // none, or fewer, where it is negative
  bool aligned = g.out_column == sizeof(OUT_T) && g.out_row % alignof(Results) == 0 &&
                 (size_t)out % alignof(Results) == 0;
#pragma unroll
  for (int f = 0; f < M_TILES; ++f) {
    __syncwarp();  // all lanes have read the M tile before
#pragma unroll
    for (int b = 0; b < N_TILES; ++b)
#pragma unroll
      for (int n = 0; n < 4; n += 2) {
        Two two;
        narrow_two(two.at, sums[f][b][n], sums[f][b][n + 1]);
        OUT_T* row = (OUT_T*)(stage + (lane / 4 + n * 4) * STAGE);
        *(Two*)(row + b * 8 + lane % 4 * 2) = two;
      }
    __syncwarp();
    if (aligned) {
      int i = lane / N_TILES * M_TILES + f, j = lane % N_TILES * 8;
      char* to = out + i * g.out_row + j * (int)sizeof(OUT_T);
      const char* from = stage + lane / N_TILES * STAGE + j * (int)sizeof(OUT_T);
#pragma unroll
      for (int n = 0; n < N_TILES / 2 + N_TILES % 2; ++n) {
        if (i < rows && j + 8 <= columns) {
          *(Results*)to = *(const Results*)from;
        } else if (i < rows) {
#pragma unroll 1
          for (int m = 0; j + m < columns; ++m) ((OUT_T*)to)[m] = ((const OUT_T*)from)[m];
        }
        i += 32 / N_TILES * M_TILES;
        to += 32 / N_TILES * M_TILES * g.out_row;
        from += 32 / N_TILES * STAGE;
      }
    } else {
      for (int j = lane; j < columns; j += 32) {
        char* to = out + f * g.out_row + j * g.out_column;
#pragma unroll 4
        for (int n = 0; n < 16 && n * M_TILES + f < rows; ++n, to += M_TILES * g.out_row)
          *(OUT_T*)to = ((const OUT_T*)(stage + n * STAGE))[j];
      }
    }
  }
}

// A tile begins `g.shift` columns before the first that is read, so that its rows are aligned.
extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
tensor(const __grid_constant__ Geometry g, WEIGHTS_PARAMETER, ACC fill, const char* __restrict__ x,
       char* __restrict__ out) {
  SHARED_MEMORY(char, shared);
  X_T filling;
  narrow(filling, fill);
  int passes = WHOLE ? 1 : (g.q + 7 + g.shift + CELL * K_TILES - 1) / (CELL * K_TILES);
  int chunks = WHOLE ? 1 : (g.p + g.chunk_p - 1) / g.chunk_p * passes;
  int plane = (16 + (g.chunk_p - 1 + M_TILES - 1) / M_TILES) * PITCH;
  unsigned* band = (unsigned*)(shared + M_TILES * plane);
  for (i64 number = blockIdx.x; number < g.tiles; number += gridDim.x) {
    // Hidden from the compiler, which would otherwise keep values derived from them in registers from
    // tile to tile.
    Thread me = {opaque(threadIdx.x), opaque(threadIdx.y)};
    OutputTile at = output_tile(g, number, x, out);
#if BY_VALUE
    const float* taps = weights.at;
#else
    const float* taps = weights + at.kernel * g.weights;
#endif
    float sums[M_TILES][N_TILES][4] = {};
    for (int chunk = 0; chunk < chunks; ++chunk) {
      TapChunk part(g, chunk, passes);
      __syncthreads();  // all threads have read the pixels and taps before
      load_pixels(g, at, part, me, plane, filling, shared);
      load_taps(g, taps, part, me, band);
      commit_copies();
      await_copies<0>();
      __syncthreads();
      multiply_tile(shared, plane, band, part.rows, me, sums);
    }
    // Zero times an infinite pixel beside a window is NaN, so every sum that is not finite is in doubt:
    // the lanes that hold such a sum compute all of theirs anew.
    bool doubt = !all_finite(sums);
    if (__syncthreads_or(doubt)) {
      if (doubt) clear(sums);
      for (int chunk = 0; chunk < chunks; ++chunk) {
        TapChunk part(g, chunk, passes);
        if (!WHOLE) {
          __syncthreads();
          load_pixels(g, at, part, me, plane, filling, shared);
          commit_copies();
          await_copies<0>();
          __syncthreads();
        }
        if (doubt) add_tile(g, shared, plane, taps, part, me, sums);
      }
      __syncthreads();
    }
    store_sums(g, at, me, shared, sums);
  }
}
