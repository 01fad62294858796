// Overlap-save of whole tiles in shared memory: a block loads tiles by the border rule, transforms them,
// multiplies by the kernel's spectrum, transforms back, stores the sums that no wrap-around reached, and
// flags the tiles that must be summed directly (see fft_exactness.cuh).
//
// Where sums are real, two tiles of one kernel are the real and the imaginary part of one complex tile: the
// kernel is real, too, so their sums stay separate. Each tile is scaled by a power of two of its own where
// needed, so that the darker one is no less exact; a tile that is not finite is left out.

enum { TILES = sizeof(ACC) == sizeof(Real) ? 2 : 1 };
enum { NOT_NEEDED = -2 };             // as a row or column; -1 is the fill value

struct BlockTile {
  FftTile at;
  i64 number;                         // in the chunk
  i64 image, corner, result;          // bytes to its image, to its first pixel (if inside), to its outputs
  i64 y0, x0;                         // that pixel in the padded image
  int inside;                         // whether all of its pixels are in the image and in some window
  int present;                        // whether there is such a tile
};

// How a tile is scaled: pixels are multiplied by 2^-exponent, and sums by what undoes that.
struct Scale {
  Real of_pixels, of_sums;
  Real squares;                       // of pixels times 2^-exponent: their sum, at first from 1 to 4
  int exponent;
  int zero, usable;                   // whether all pixels are zero; finite, and sums in the dtype's range
};

struct State {                        // in shared memory, after the tile
  BlockTile tiles[TILES];
  i64 rows[TILES][NY];                // of the image, for each row of the tile
  Scale scales[TILES];
  Real of_warps[1 + TILES][WARPS];
  Real squares;                       // of all scaled pixels: their sum
};
static_assert(sizeof(State) <= STATE_BYTES && STATE_BYTES % 16 == 0, "what the host adds to the tile");

__device__ inline Real& part(Bin& bin, int n) { return n ? bin.im : bin.re; }
__device__ inline void put_part(Bin& bin, Real value, int n) { part(bin, n) = value; }
__device__ inline void put_part(Bin& bin, Bin value, int) { bin = value; }
__device__ inline void take_part(Real& value, Bin& bin, int n) { value = part(bin, n); }
__device__ inline void take_part(Bin& value, Bin& bin, int) { value = bin; }
__device__ inline void add_square(Real& sum, Real value) { add(sum, value, value); }
__device__ inline void add_square(Real& sum, Bin value) {
  add_square(sum, value.re);
  add_square(sum, value.im);
}
__device__ inline Real larger_part(Real value) { return fabs(value); }
__device__ inline Real larger_part(Bin value) { return fmax(fabs(value.re), fabs(value.im)); }

// Finds a tile of this block. All are of one kernel: the last of an odd number has no partner.
__device__ inline void find_tile(const Overlap& g, const char* x, char* out, int n, State& state) {
  BlockTile& tile = state.tiles[n];
  i64 of_kernel = min(g.count, g.images * g.tiles), blocks = (of_kernel + TILES - 1) / TILES;
  i64 group = divide(blockIdx.x, blocks), within = (blockIdx.x - group * blocks) * TILES + n;
  tile.present = within < of_kernel;
  tile.number = group * of_kernel + min(within, of_kernel - 1);
  tile.at = fft_tile(g, tile.number, x, out);
  if (!tile.present) tile.at.rows = tile.at.columns = 0;
  tile.y0 = tile.at.i0 * g.sy, tile.x0 = tile.at.j0 * g.sx;
  i64 top = tile.y0 - g.top, left = tile.x0 - g.left;
  tile.inside = tile.present && !g.gathered_dy && !g.gathered_dx && top >= 0 && left >= 0 && top + NY <= g.h && left + NX <= g.w &&
                tile.y0 + NY <= g.need_y && tile.x0 + NX <= g.need_x;
  tile.image = tile.at.x - x;
  tile.corner = tile.image + top * g.x_row + left * g.x_column;
  tile.result = tile.at.out - out + tile.at.i0 * g.out_row + tile.at.j0 * g.out_column;
  state.scales[n] = {1, 1, 0, 0, false, true};
}

__device__ inline void find_rows(const Overlap& g, State& state) {
#pragma unroll 1
  for (int n = thread_of_block(); n < TILES * NY; n += THREADS) {
    const BlockTile& tile = state.tiles[n / NY];
    i64 y = tile.y0 + n % NY;
    bool needed = tile.present && y < g.need_y;
    state.rows[n / NY][n % NY] = needed ? image_row(g, y) : NOT_NEEDED;
  }
}

__device__ inline i64 find_column(const Overlap& g, const BlockTile& tile, int column) {
  i64 x = tile.x0 + column;
  return x < g.need_x ? image_column(g, x) : NOT_NEEDED;
}

__device__ inline ACC load_pixel(const Overlap& g, const char* x, const BlockTile& tile, ACC fill, i64 row,
                                 i64 column) {
  ACC value;
  clear(value);
  if (row == NOT_NEEDED || column == NOT_NEEDED) return value;
  if (row < 0 || column < 0) return fill;
  widen(value, *(const X_T*)(x + tile.image + row * g.x_row + column * g.x_column));
  return value;
}

// Pixels row + k * Down::SECOND of a column of the tile.
__device__ inline void load_pixels(const Overlap& g, const char* x, const BlockTile& tile, const i64* rows,
                                   ACC fill, int row, int column, ACC (&values)[Down::FIRST]) {
  if (tile.inside) {
    const char* from = x + tile.corner + row * g.x_row + column * g.x_column;
    i64 step = Down::SECOND * g.x_row;
    X_T loaded[Down::FIRST];  // all loads are issued before the first value is needed
#pragma unroll
    for (int k = 0; k < Down::FIRST; ++k, from += step) loaded[k] = *(const X_T*)from;
#pragma unroll
    for (int k = 0; k < Down::FIRST; ++k) widen(values[k], loaded[k]);
  } else {
    i64 from = find_column(g, tile, column);
#pragma unroll
    for (int k = 0; k < Down::FIRST; ++k)
      values[k] = load_pixel(g, x, tile, fill, rows[row + k * Down::SECOND], from);
  }
}

// Loads the tiles, multiplied by their factors, and does the first stage; adds up the squares of pixels.
__device__ inline void load_tiles(const Overlap& g, const char* x, const State& state, ACC fill, Cell* tile,
                                  Real (&squares)[TILES]) {
#pragma unroll
  for (int n = 0; n < TILES; ++n) squares[n] = 0;
  transform_columns_first(tile, [&](Bin (&v)[Down::FIRST], int row, int column) {
#pragma unroll
    for (int n = 0; n < TILES; ++n) {
      ACC values[Down::FIRST];
      load_pixels(g, x, state.tiles[n], state.rows[n], fill, row, column, values);
      Real factor = state.scales[n].of_pixels;
#pragma unroll
      for (int k = 0; k < Down::FIRST; ++k) {
        ACC value = times(values[k], factor);
        add_square(squares[n], value);
        put_part(v[k], value, n);
      }
    }
  });
}

// Sets what the scale of a tile follows from: the sum of the squares of pixels times 2^-unit.
__device__ inline void set_scale(Scale& scale, double squares, int unit) {
  if (thread_of_block() != 0) return;
  bool usable = squares < (FLOAT32 ? 0x1p1000 : 0x1p1020);  // neither NaN nor infinite
  int exponent = usable && squares > 0 ? ilogb(squares) >> 1 : 0;
  scale = {1, 1, (Real)ldexp(squares, -2 * exponent), exponent + unit, squares == 0, usable};
}

// Measures a tile whose squares may have left the dtype's range; called by all threads of a block.
__device__ inline void measure_tile(const Overlap& g, const char* x, const BlockTile& tile, const i64* rows,
                                    ACC fill, Scale& scale) {
  Norm norm = {1 / LEAST, 0, 0};
#pragma unroll 1
  for (int n = thread_of_block(); n < ELEMENTS; n += THREADS)
    measure(norm, load_pixel(g, x, tile, fill, rows[n / NX], find_column(g, tile, n % NX)));
  norm = reduce_block(norm);
  int unit = -ilogb((double)norm.inverse);
  double rest = ldexp(1 / (double)norm.inverse, -unit);  // from 1 to 2
  set_scale(scale, norm.squares * rest * rest, unit);
}

// Keeps a tile out of what is transformed.
__device__ inline void leave_out(State& state, int n) {
  if (thread_of_block() == 0) state.tiles[n].inside = 0;
#pragma unroll 1
  for (int row = thread_of_block(); row < NY; row += THREADS) state.rows[n][row] = NOT_NEEDED;
}

// Whether a sum of squares is in the safe range.
__device__ inline bool is_safe(Real squares) {
  constexpr Real MOST = FLOAT32 ? 0x1p80 : 0x1p600;  // 4^SAFE
  return squares >= 1 / MOST && squares <= MOST;
}

// Whether tiles with these sums of squares may share a scale. Their sums are less exact by the ratio of
// the norms, which must be small.
__device__ inline bool are_alike(Real a, Real b) { return a <= 4 * b && b <= 4 * a; }

// Chooses the exponents of measured tiles.
__device__ inline void choose_exponents(Scale (&scales)[TILES]) {
  Scale &first = scales[0], &last = scales[TILES - 1];
  int apart = first.exponent - last.exponent;
  if (TILES == 2 && !first.zero && !last.zero && first.usable && last.usable && apart >= -2 && apart <= 2 &&
      are_alike(ldexp(first.squares, 2 * apart), last.squares))
    first.exponent = last.exponent = apart > 0 ? first.exponent : last.exponent;
  constexpr int LEAST_EXPONENT = FLOAT32 ? -127 : -1023;  // of a power that has a reciprocal
  for (Scale& scale : scales) {
    if (scale.exponent < LEAST_EXPONENT) scale.exponent = LEAST_EXPONENT;
    scale.of_pixels = ldexp((Real)1, -scale.exponent);
  }
}

// Finds the scales of tiles that have to be loaded again; called by all threads of a block.
__device__ inline void find_scales(const Overlap& g, const char* x, State& state, ACC fill) {
#pragma unroll 1
  for (int n = 0; n < TILES; ++n) {
    Real squares = read_of_warps(state.of_warps[n], Add());
    if (!state.tiles[n].present || is_safe(squares)) set_scale(state.scales[n], squares, 0);
    else measure_tile(g, x, state.tiles[n], state.rows[n], fill, state.scales[n]);
    __syncthreads();
    if (!state.scales[n].usable) leave_out(state, n);
  }
  if (thread_of_block() == 0) choose_exponents(state.scales);
  __syncthreads();
}

// Loads and scales the tiles and does the first stage.
__device__ inline void load_scaled_tiles(const Overlap& g, const char* x, State& state, ACC fill,
                                         Cell* tile) {
  for (bool again = false;;) {
    Real squares[TILES];
    load_tiles(g, x, state, fill, tile, squares);
#pragma unroll
    for (int n = 0; n < TILES; ++n) write_of_warp(state.of_warps[n], squares[n], Add());
    __syncthreads();
    if (g.whole) return;
#pragma unroll
    for (int n = 0; n < TILES; ++n) squares[n] = read_of_warps(state.of_warps[n], Add());
    Real first = squares[0], last = squares[TILES - 1];
    if (thread_of_block() == 0) state.squares = TILES == 1 ? first : first + last;
    if (again || (is_safe(first) && is_safe(last) && are_alike(first, last))) return;
    find_scales(g, x, state, fill);
    again = true;
  }
}

// Finds what sums are multiplied by. If the dtype does not hold that factor, the tile is summed directly.
__device__ inline void set_factor_of_sums(Scale& scale, int exponent_of_kernel) {
  int exponent = scale.exponent + exponent_of_kernel;
  constexpr int LEAST_EXPONENT = FLOAT32 ? -149 : -1074, MOST_EXPONENT = FLOAT32 ? 127 : 1023;
  scale.usable = scale.usable && exponent >= LEAST_EXPONENT && exponent <= MOST_EXPONENT;
  scale.of_sums = scale.usable && !scale.zero ? ldexp((Real)1, exponent) : 0;
}

// Returns a sum times a factor, never a negative zero.
__device__ inline Real scaled(Real sum, Real factor) {
  Real result = 0;
  add(result, sum, factor);
  return result;
}
__device__ inline Bin scaled(Bin sum, Real factor) {
  return {scaled(sum.re, factor), scaled(sum.im, factor)};
}

// Stores those of the sums at rows row + k * Down::SECOND of a column that a tile keeps; returns the largest.
__device__ inline Real store_sums(const Overlap& g, const BlockTile& tile, Real factor, char* out, int row,
                                  int column, const ACC (&sums)[Down::FIRST]) {
  Real kept = 0;
  int j = UNIT ? column : column / (int)min(g.sx, (i64)NX), rows = tile.at.rows;
  if (j >= tile.at.columns || (!UNIT && j * g.sx != column)) return kept;
  char* to = out + tile.result + (UNIT ? row : 0) * g.out_row + j * g.out_column;
#pragma unroll
  for (int k = 0; k < Down::FIRST; ++k) {
    int y = row + k * Down::SECOND, i = UNIT ? y : y / (int)min(g.sy, (i64)NY);
    if (i < rows && (UNIT || i * g.sy == y)) {
      kept = fmax(kept, larger_part(sums[k]));
      ACC sum = scaled(sums[k], factor);
      if (!FLOAT32 && g.whole) sum = rounded(sum);
      narrow(*(OUT_T*)(UNIT ? to : to + i * g.out_row), sum);
    }
    if (UNIT) to += Down::SECOND * g.out_row;
  }
  return kept;
}

// Flags the tiles that are not shown to be exact, by the largest sums in `state.of_warps`: of those kept of
// each tile, then of the whole plane.
__device__ inline void flag_tiles(const Overlap& g, State& state, ACC fill, const ACC* weights,
                                  const Size& of_kernel, int* flags) {
  double most = 1.4142135623730952 * read_of_warps(state.of_warps[TILES], Larger());
  const ACC* taps = weights + (g.kernel0 + state.tiles[0].at.kernel) * g.p * g.q;
#pragma unroll 1
  for (int n = 0; n < TILES && state.tiles[n].present; ++n) {  // the first one is always there
    const Scale& scale = state.scales[n];
    Size of_tile = {sqrt((double)state.squares), 0, 0, scale.exponent, 0};
    double error = error_of(g, of_tile, of_kernel, most, OF_BLOCKS);
    double kept = read_of_warps(state.of_warps[n], Larger());
    bool exact = scale.usable && (scale.zero ? error == error : allowed(error, kept));
    if (scale.usable && !exact)
      exact = is_shown_by_terms(g, state.tiles[n].at, fill, taps, scale.exponent, of_kernel.exponent, error);
    if (thread_of_block() == 0) flags[state.tiles[n].number] = !exact;
  }
}

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
fft_block(const __grid_constant__ Overlap g, ACC fill, const ACC* __restrict__ weights,
          const char* __restrict__ x, const Bins* __restrict__ spectra, const Size* __restrict__ sizes,
          int* __restrict__ flags, char* __restrict__ out) {
  SHARED_MEMORY(Cell, tile);
  State& state = *(State*)(tile + NY * PITCH);
  int thread = thread_of_block();
  for (int n = thread / LANES; n < TILES; n += WARPS)
    if (thread % LANES == 0) find_tile(g, x, out, n, state);
  __syncthreads();
  find_rows(g, state);
  __syncthreads();
  load_scaled_tiles(g, x, state, fill, tile);
  transform_columns_second<false>(tile);
  __syncthreads();
  transform_rows_first<false>(tile);
  __syncthreads();
  i64 kernel = state.tiles[0].at.kernel;
  multiply_rows(tile, spectra + kernel * (ELEMENTS / PER_GRANULE));
  if (thread < TILES) set_factor_of_sums(state.scales[thread], sizes[kernel].exponent);
  __syncthreads();
  transform_rows_first<true>(tile);
  __syncthreads();
  transform_columns_second<true>(tile);
  __syncthreads();
  Real all = 0, kept[TILES] = {};
  transform_columns_last(tile, [&](Bin (&v)[Down::FIRST], int row, int column) {
#pragma unroll
    for (int k = 0; k < Down::FIRST; ++k) all = fmax(all, larger_part(v[k]));
#pragma unroll
    for (int n = 0; n < TILES; ++n) {
      ACC sums[Down::FIRST];
#pragma unroll
      for (int k = 0; k < Down::FIRST; ++k) take_part(sums[k], v[k], n);
      kept[n] = fmax(kept[n], store_sums(g, state.tiles[n], state.scales[n].of_sums, out, row, column, sums));
    }
  });
  if (g.whole) return;
#pragma unroll
  for (int n = 0; n < TILES; ++n) write_of_warp(state.of_warps[n], kept[n], Larger());
  write_of_warp(state.of_warps[TILES], all, Larger());
  __syncthreads();
  flag_tiles(g, state, fill, weights, sizes[kernel], flags);
}
