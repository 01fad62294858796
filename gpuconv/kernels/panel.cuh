// What direct.cu and separable.cu share: panels of pixels in shared memory, made of granules of 16
// bytes, and the writing of results.
//
// A panel's first column lies SHIFT elements before the first pixel that is needed, so that its
// granules are as aligned in memory as ALIGNED says: with it, the rows of all images are multiples
// of 16 bytes apart, and granules inside the image are read as 16 bytes.
//
// The host defines, beside what tile.cuh needs: COLUMNS (neighbouring outputs of a thread, a
// granule of them), SHIFT, ALIGNED, OUT_WIDE (rows of results are as aligned), RAW (pixels are
// stored as sums are, so that bytes are copied).
#pragma once

enum { THREADS = BLOCK_X * BLOCK_Y, LANES = THREADS < 32 ? THREADS : 32, VECTOR = COLUMNS };
static_assert(VECTOR * sizeof(ACC) == 16, "a granule is 16 bytes");

struct alignas(16) Granule { ACC at[VECTOR]; };
// As many pixels as 16 bytes hold: at least a granule, since sums are no narrower than pixels.
enum { SOURCE = 16 / sizeof(X_T), PER_SOURCE = SOURCE / VECTOR };
struct alignas(16) Source { X_T at[SOURCE]; };

__device__ inline void read_granule(const ACC* shared, ACC* to) {
  Granule read = *(const Granule*)shared;
#pragma unroll
  for (int e = 0; e < VECTOR; ++e) to[e] = read.at[e];
}

__device__ inline int thread() { return threadIdx.y * BLOCK_X + threadIdx.x; }

__device__ inline ACC pixel_at(const char* address) {
  ACC value;
  widen(value, *(const X_T*)address);
  return value;
}

// A granule whose pixels all lie in the image.
__device__ inline void load_granule(const Geometry& g, const char* address, ACC* to) {
#if RAW
#if ALIGNED
  copy_async<16>(to, address);
#else
  enum { STEP = alignof(X_T) };
#pragma unroll
  for (int e = 0; e < VECTOR; ++e) {
#pragma unroll
    for (int byte = 0; byte < (int)sizeof(X_T); byte += STEP)
      copy_async<STEP>((char*)(to + e) + byte, address + e * g.x_column + byte);
  }
#endif
#else
  Granule made;
#pragma unroll
  for (int e = 0; e < VECTOR; ++e) made.at[e] = pixel_at(address + e * g.x_column);
  *(Granule*)to = made;
#endif
}

// The pieces of a panel that a thread takes: one of every THREADS, row after row.
struct Walk {
  int row, column, rows, columns, down, across;
  __device__ Walk(int rows, int columns)
      : row(thread() / columns), column(thread() % columns), rows(rows), columns(columns),
        down(THREADS / columns), across(THREADS % columns) {}
  __device__ bool more() const { return row < rows; }
  __device__ void next() {
    row += down;
    column += across;
    if (column >= columns) {
      column -= columns;
      ++row;
    }
  }
};

// A panel that is not inside the image. Not inlined: few tiles need it, and the loop over tiles should
// stay in the instruction cache.
__device__ __noinline__ void load_at_border(const Geometry& g, const char* image, i64 y0, i64 x0,
                                            int rows, int granules, int pitch, ACC fill,
                                            ACC* shared) {
  for (Walk walk(rows, granules); walk.more(); walk.next()) {
    ACC* to = shared + walk.row * pitch + walk.column * VECTOR;
    i64 y = border(y0 + walk.row, g.h, g.boundary), x = x0 + walk.column * VECTOR;
    const char* line = image + y * g.x_row;
    if (y >= 0 && x >= 0 && x + VECTOR <= g.w) {
      load_granule(g, line + x * g.x_column, to);
      continue;
    }
    Granule made;
#pragma unroll
    for (int e = 0; e < VECTOR; ++e) {
      i64 from = border(x + e, g.w, g.boundary);
      made.at[e] = y >= 0 && from >= 0 ? pixel_at(line + from * g.x_column) : fill;
    }
    *(Granule*)to = made;
  }
}

// All threads of the block load `rows` rows of `granules` granules from tap row `a0` and tap column
// `b0` on; those that no output needs are left as they are.
__device__ inline void load_panel(const Geometry& g, const Place& at, int a0, int b0, int rows,
                                  int granules, int taps_x, ACC fill, ACC* shared) {
  i64 y0 = at.i0 + a0 - g.top, x0 = at.j0 + b0 - g.left - SHIFT;
  i64 high = g.r - at.i0, wide = g.s - at.j0;
  int pitch = granules * VECTOR;
  if (high < TILE_Y) rows -= TILE_Y - (int)high;
  if (wide < TILE_X) granules = (SHIFT + (int)wide + taps_x - 1 + VECTOR - 1) / VECTOR;
  bool inside = y0 >= 0 && x0 >= 0 && y0 + rows <= g.h && x0 + granules * VECTOR <= g.w;
  if (inside) {
    const char* corner = at.x + y0 * g.x_row + x0 * g.x_column;
#if ALIGNED && !RAW
    // 16 bytes of pixels make several granules; the first and the last may stand over the panel.
    int before = (int)((unsigned long long)corner % 16 / sizeof(X_T)) / VECTOR;
    Walk walk(rows, (before + granules + PER_SOURCE - 1) / PER_SOURCE);
    for (; walk.more(); walk.next()) {
      int first = walk.column * PER_SOURCE - before;
      const char* from = corner + walk.row * g.x_row + first * VECTOR * (int)sizeof(X_T);
      ACC* to = shared + walk.row * pitch + first * VECTOR;
      if (first >= 0 && first + PER_SOURCE <= granules) {
        Source read = *(const Source*)from;
#pragma unroll
        for (int part = 0; part < PER_SOURCE; ++part) {
          Granule made;
#pragma unroll
          for (int e = 0; e < VECTOR; ++e) widen(made.at[e], read.at[part * VECTOR + e]);
          ((Granule*)to)[part] = made;
        }
      } else {
        for (int part = 0; part < PER_SOURCE; ++part)
          if (first + part >= 0 && first + part < granules)
            load_granule(g, from + part * VECTOR * (int)sizeof(X_T), to + part * VECTOR);
      }
    }
#else
    for (Walk walk(rows, granules); walk.more(); walk.next())
      load_granule(g, corner + walk.row * g.x_row + walk.column * VECTOR * g.x_column,
                   shared + walk.row * pitch + walk.column * VECTOR);
#endif
    return;
  }
  load_at_border(g, at.x, y0, x0, rows, granules, pitch, fill, shared);
}

// Where a tile's results go, and how many of its rows and columns there are.
struct Target {
  char* corner;
  int rows, columns;
  __device__ Target(const Geometry& g, const Place& at)
      : corner(at.out + at.i0 * g.out_row + at.j0 * g.out_column),
        rows((int)(g.r - at.i0 < TILE_Y ? g.r - at.i0 : TILE_Y)),
        columns((int)(g.s - at.j0 < TILE_X ? g.s - at.j0 : TILE_X)) {}
};

// Writes ROW rows of the results of EACH granules a thread. The first ITEMS threads stand ACROSS in a
// row of the tile, the next row of threads ROW rows below. Written as wide as memory permits where
// rows are aligned (OUT_WIDE), otherwise through `stage`, which holds a row of every thread's
// results, so that neighbouring lanes write neighbouring elements.
template <int ITEMS, int ACROSS, int ROW, int EACH>
__device__ inline void store_rows(const Geometry& g, const Place& at,
                                  const ACC (&sums)[ROW][EACH * VECTOR], OUT_T* stage) {
  enum { COUNT = EACH * VECTOR, BYTES = COUNT * sizeof(OUT_T), PIECE = BYTES < 16 ? BYTES : 16 };
  struct alignas(PIECE) Piece { char at[PIECE]; };
  struct alignas(PIECE) Results { OUT_T at[COUNT]; };
  Target target(g, at);
#if OUT_WIDE
  int i = thread() / ACROSS * ROW, j = thread() % ACROSS * COUNT;
  int columns = thread() < ITEMS ? target.columns - j : 0, rows = target.rows - i;
  char* to = target.corner + i * g.out_row + j * (int)sizeof(OUT_T);
#pragma unroll
  for (int o = 0; o < ROW; ++o, to += g.out_row) {
    Results made;
#pragma unroll
    for (int c = 0; c < COUNT; ++c) narrow(made.at[c], sums[o][c]);
    if (o >= rows) return;
    if (columns >= COUNT) {
#pragma unroll
      for (int n = 0; n < BYTES / PIECE; ++n) ((Piece*)to)[n] = ((const Piece*)&made)[n];
    } else {
#pragma unroll
      for (int c = 0; c < COUNT; ++c)
        if (c < columns) ((OUT_T*)to)[c] = made.at[c];
    }
  }
#else
  int lane = thread() % LANES, warp = thread() - lane;
#pragma unroll
  for (int o = 0; o < ROW; ++o) {
    Results made;
#pragma unroll
    for (int c = 0; c < COUNT; ++c) narrow(made.at[c], sums[o][c]);
    ((Results*)stage)[thread()] = made;
    __syncwarp();
    // Not unrolled: addresses of all rows and elements at once would take too many registers.
#pragma unroll 1
    for (int c = 0; c < COUNT; ++c) {
      int element = c * LANES + lane, of = warp + element / COUNT;
      int i = of / ACROSS * ROW + o, j = of % ACROSS * COUNT + element % COUNT;
      if (of < ITEMS && i < target.rows && j < target.columns)
        *(OUT_T*)(target.corner + i * g.out_row + j * g.out_column) = stage[warp * COUNT + element];
    }
    __syncwarp();
  }
#endif
}
