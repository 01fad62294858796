// What direct.cu and separable.cu share: panels of pixels in shared memory, and the writing of results.
//
// A panel consists of cells of 16 bytes. With RAW it holds pixels as they are stored, which are
// converted when they are read from shared memory: they are copied there without passing through
// registers, and take less memory. Otherwise they are converted when they are loaded. The first column of
// a panel is SHIFT elements before the first pixel that is needed, so that with ALIGNED (the strides of
// rows and images are multiples of 16 bytes) cells of the panel are 16 aligned bytes of the image, too.
//
// A thread reads, sums and writes granules: as many neighbouring pixels as 16 bytes of sums.
//
// Outputs may be STRIDE_Y rows and STRIDE_X columns of pixels apart, and taps DILATION_Y and DILATION_X.
//
// The host defines, in addition to these and to what tile.cuh needs: COLUMNS (neighbouring outputs of a
// thread: a granule of them), SHIFT, ALIGNED, OUT_WIDE (rows of results are aligned to 16 bytes), RAW.
#pragma once

enum { THREADS = BLOCK_X * BLOCK_Y, LANES = THREADS < 32 ? THREADS : 32, VECTOR = COLUMNS };
static_assert(VECTOR * sizeof(ACC) == 16, "a granule is 16 bytes of sums");

#if RAW
typedef X_T Pixel;  // of a panel
#else
typedef ACC Pixel;
#endif
enum {
  CELL = 16 / sizeof(Pixel),     // pixels of a panel
  ASIDE = SHIFT / VECTOR * VECTOR,  // columns of whole granules before the first that is needed
  OFFSET = SHIFT - ASIDE,        // the place of that one in its granule
};
struct alignas(16) Granule { ACC at[VECTOR]; };
struct alignas(16) Cell { Pixel at[CELL]; };
// The pixels in 16 bytes of the image: one granule or several, since sums are no narrower than pixels.
enum { SOURCE = 16 / sizeof(X_T), PER_SOURCE = SOURCE / VECTOR };
enum { IN_FLIGHT = PER_SOURCE < 4 ? 4 : 2 };  // how many of them a thread reads before it converts any
struct alignas(16) Source { X_T at[SOURCE]; };

__device__ inline void read_granule(const ACC* shared, ACC* to) {
  Granule read = *(const Granule*)shared;
#pragma unroll
  for (int e = 0; e < VECTOR; ++e) to[e] = read.at[e];
}

template <class P> struct alignas(VECTOR * sizeof(P)) Pixels { P at[VECTOR]; };
template <class P> __device__ inline void read_granule(const P* shared, ACC* to) {
  Pixels<P> read = *(const Pixels<P>*)shared;
#pragma unroll
  for (int e = 0; e < VECTOR; ++e) widen(to[e], read.at[e]);
}

template <int ROW> __device__ inline void clear_all(ACC (&sums)[ROW][VECTOR]) {
#pragma unroll
  for (int o = 0; o < ROW; ++o)
#pragma unroll
    for (int c = 0; c < VECTOR; ++c) clear(sums[o][c]);
}

template <int ROW>
__device__ inline void write_column(const ACC (&sums)[ROW][VECTOR], ACC* shared, int pitch) {
#pragma unroll
  for (int o = 0; o < ROW; ++o) {
    Granule granule;
#pragma unroll
    for (int c = 0; c < VECTOR; ++c) granule.at[c] = sums[o][c];
    *(Granule*)(shared + o * pitch) = granule;
  }
}

// Adds taps FIRST to LAST - 1 of a column of taps, in the direction STEP, to ROW x VECTOR sums. A row of
// pixels is read once and serves every row of sums that it belongs to. `pixels` is OFFSET elements
// before the first pixel of the first sum.
template <int ROW, int OFFSET, int FIRST, int LAST, int STEP, class P>
__device__ inline void add_column(ACC (&sums)[ROW][VECTOR], const P* pixels, int pitch,
                                  const ACC* taps) {
#pragma unroll
  for (int n = 0; n < LAST - FIRST + ROW - 1; ++n) {
    int y = STEP > 0 ? FIRST + n : LAST + ROW - 2 - n;
    ACC row[(OFFSET ? 2 : 1) * VECTOR];
    read_granule(pixels + y * pitch, row);
    if constexpr (OFFSET > 0) read_granule(pixels + y * pitch + VECTOR, row + VECTOR);
#pragma unroll
    for (int o = 0; o < ROW; ++o) {
      if (y - o < FIRST || y - o >= LAST) continue;
#pragma unroll
      for (int c = 0; c < VECTOR; ++c) add(sums[o][c], taps[y - o], row[OFFSET + c]);
    }
  }
}

// Sums of a column of taps; in mirrored order with two chains of HALF taps. The __syncwarp() calls keep
// the compiler from starting the next chain early, which would take more registers than there are.
template <int ROW, int OFFSET, int TAPS, int HALF, class P>
__device__ inline void sum_column(ACC (&sums)[ROW][VECTOR], const P* pixels, int pitch,
                                  const ACC* taps) {
  clear_all(sums);
  if constexpr (HALF > 0) {
    ACC last_chain[ROW][VECTOR];
    clear_all(last_chain);
    add_column<ROW, OFFSET, 0, HALF, 1>(sums, pixels, pitch, taps);
    __syncwarp();
    add_column<ROW, OFFSET, TAPS - HALF, TAPS, -1>(last_chain, pixels, pitch, taps);
#pragma unroll
    for (int o = 0; o < ROW; ++o)
#pragma unroll
      for (int c = 0; c < VECTOR; ++c) sums[o][c] = combine_chains(sums[o][c], last_chain[o][c]);
    __syncwarp();
  }
  if constexpr (TAPS > 2 * HALF)
    add_column<ROW, OFFSET, HALF, TAPS - HALF, 1>(sums, pixels, pitch, taps);
}

// Adds taps FIRST to LAST - 1 of a row of taps, in the direction STEP, to COUNT neighbouring sums. The
// first sum's first pixel is element OFFSET of the first granule. `read` loads a granule by its number,
// just before it is needed, so that few pixels are in registers at once.
template <int COUNT, int OFFSET, int FIRST, int LAST, int STEP, class Read>
__device__ inline void add_row(ACC (&sums)[COUNT], const Read& read, const ACC* taps) {
  enum { LOW = (OFFSET + FIRST) / VECTOR, HIGH = (OFFSET + LAST + COUNT - 2) / VECTOR };
  ACC row[(HIGH - LOW + 1) * VECTOR];
#pragma unroll
  for (int t = 0; t < LAST - FIRST; ++t) {
    int b = STEP > 0 ? FIRST + t : LAST - 1 - t;
    int low = (OFFSET + b) / VECTOR, high = (OFFSET + b + COUNT - 1) / VECTOR;
#pragma unroll
    for (int n = LOW; n <= HIGH; ++n) {
      // Granules that the tap before has read are still there.
      bool fresh = t == 0 || (STEP > 0 ? n > (OFFSET + b - 1 + COUNT - 1) / VECTOR
                                       : n < (OFFSET + b + 1) / VECTOR);
      if (n >= low && n <= high && fresh) read(n, row + (n - LOW) * VECTOR);
    }
#pragma unroll
    for (int c = 0; c < COUNT; ++c) add(sums[c], taps[b], row[OFFSET + b + c - LOW * VECTOR]);
  }
}

// `add_row` in a loop over runs of RUN taps if LONG: pixels of all taps at once would not fit registers.
template <bool LONG, int COUNT, int OFFSET, int FIRST, int LAST, int STEP, class Read>
__device__ inline void add_runs(ACC (&sums)[COUNT], const Read& read, const ACC* taps) {
  enum { TAPS = LAST - FIRST, RUN = (VECTOR < 4 ? 4 : 8) * VECTOR, RUNS = TAPS / RUN, REST = TAPS % RUN };
  if constexpr (LONG && TAPS > RUN) {
#pragma unroll 1
    for (int n = 0; n < RUNS; ++n) {
      int tap = STEP > 0 ? n * RUN : -n * RUN;
      auto read_run = [&](int granule, ACC* to) { read(granule + tap / VECTOR, to); };
      if constexpr (STEP > 0)
        add_row<COUNT, OFFSET, FIRST, FIRST + RUN, STEP>(sums, read_run, taps + tap);
      else
        add_row<COUNT, OFFSET, LAST - RUN, LAST, STEP>(sums, read_run, taps + tap);
    }
    if constexpr (REST > 0 && STEP > 0)
      add_row<COUNT, OFFSET, LAST - REST, LAST, STEP>(sums, read, taps);
    else if constexpr (REST > 0)
      add_row<COUNT, OFFSET, FIRST, FIRST + REST, STEP>(sums, read, taps);
  } else {
    add_row<COUNT, OFFSET, FIRST, LAST, STEP>(sums, read, taps);
  }
}

// Sums of a row of taps; in mirrored order with two chains of HALF taps.
template <int COUNT, int OFFSET, int TAPS, int HALF, bool LONG = false, class Read>
__device__ inline void sum_row(ACC (&sums)[COUNT], const Read& read, const ACC* taps) {
  ACC last_chain[COUNT];
#pragma unroll
  for (int c = 0; c < COUNT; ++c) {
    clear(sums[c]);
    clear(last_chain[c]);
  }
  if constexpr (HALF > 0) {
    add_runs<LONG, COUNT, OFFSET, 0, HALF, 1>(sums, read, taps);
    add_runs<LONG, COUNT, OFFSET, TAPS - HALF, TAPS, -1>(last_chain, read, taps);
#pragma unroll
    for (int c = 0; c < COUNT; ++c) sums[c] = combine_chains(sums[c], last_chain[c]);
  }
  if constexpr (TAPS > 2 * HALF)
    add_runs<LONG, COUNT, OFFSET, HALF, TAPS - HALF, 1>(sums, read, taps);
}

// The fill value as a pixel of a panel. With RAW the host has checked that it is one, so that it has no
// imaginary part where pixels have none.
template <class P, class A> __device__ inline void narrow_fill(P& pixel, A fill) {
  narrow(pixel, fill);
}
template <class P, class R> __device__ inline void narrow_fill(P& pixel, Complex<R> fill) {
  narrow(pixel, fill.re);
}
template <class P, class R>
__device__ inline void narrow_fill(Complex<P>& pixel, Complex<R> fill) {
  narrow(pixel, fill);
}
__device__ inline Pixel fill_of(ACC fill) {
  Pixel pixel;
#if RAW
  narrow_fill(pixel, fill);
#else
  pixel = fill;
#endif
  return pixel;
}

__device__ inline int thread() { return threadIdx.y * BLOCK_X + threadIdx.x; }

__device__ inline ACC pixel_at(const char* address) {
  ACC value;
  widen(value, *(const X_T*)address);
  return value;
}

// Copies a pixel to its place in a panel, asynchronously if possible: it is there once the copies have
// been awaited.
template <class P> __device__ inline void load_pixel(const char* address, P* to) {
#if RAW
  if constexpr (sizeof(P) >= 4) {
    enum { STEP = alignof(P) };
#pragma unroll
    for (int byte = 0; byte < (int)sizeof(P); byte += STEP)
      copy_async<STEP>((char*)to + byte, address + byte);
  } else {
    *to = *(const P*)address;
  }
#else
  *to = pixel_at(address);
#endif
}

// Copies a cell whose pixels are all in the image.
template <class P> __device__ inline void load_cell(const Geometry& g, const char* address, P* to) {
#if RAW && ALIGNED
  copy_async<16>(to, address);
#else
  if constexpr (RAW && sizeof(P) >= 4) {
#pragma unroll
    for (int e = 0; e < CELL; ++e) load_pixel(address + e * g.x_column, to + e);
  } else {
    Cell cell;
#pragma unroll
    for (int e = 0; e < CELL; ++e) load_pixel(address + e * g.x_column, cell.at + e);
    *(Cell*)to = cell;
  }
#endif
}

// The cells of a panel that a thread handles: every THREADS-th one, row after row.
struct PanelWalk {
  int row, column, rows, columns, down, across;
  __device__ PanelWalk(int rows, int columns)
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

#if RAW && !ALIGNED
// Loads a panel inside the image whose rows begin anywhere.
__device__ inline void load_unaligned(const Geometry& g, const char* corner, int rows, int cells,
                                      int pitch, Pixel* shared) {
  enum { READS = 4 };  // of two cells, before the first is waited for
  PanelWalk walk(rows, cells);
  while (walk.more()) {
    Words low[READS] = {}, high[READS] = {};
    unsigned byte[READS] = {};
    Pixel* to[READS];
#pragma unroll
    for (int n = 0; n < READS; ++n, walk.next()) {
      to[n] = 0;
      if (!walk.more()) continue;
      const char* from = corner + walk.row * g.x_row + walk.column * 16;
      byte[n] = (unsigned)((size_t)from % 16);
      to[n] = shared + walk.row * pitch + walk.column * CELL;
      low[n] = *(const Words*)(from - byte[n]);
      high[n] = *(const Words*)(from - byte[n] + 16);
    }
#pragma unroll
    for (int n = 0; n < READS; ++n)
      if (to[n]) *(Words*)to[n] = realign(low[n], high[n], byte[n]);
  }
}
#endif

// Loads a panel that reaches outside the image. Not inlined: few tiles need it, and the loop over tiles
// should fit the instruction cache. Whole cells come first and single pixels later, so that the threads
// of a warp do the same.
__device__ __noinline__ void load_at_border(const Geometry& g, const char* image, i64 y0, i64 x0,
                                            int rows, int cells, int pitch, Pixel fill,
                                            Pixel* shared) {
  i64 before = x0 < 0 ? (CELL - 1 - x0) / CELL : 0, behind = g.w > x0 ? (g.w - x0) / CELL : 0;
  int low = (int)min(before, (i64)cells), high = (int)min(behind, (i64)cells);
  int whole = high > low ? high - low : 0, rest = (cells - whole) * CELL;
  if (whole > 0) {
    for (PanelWalk walk(rows, whole); walk.more(); walk.next()) {
      int column = (low + walk.column) * CELL;
      Pixel* to = shared + walk.row * pitch + column;
      i64 y = border(y0 + walk.row, g.h, g.boundary);
      if (y >= 0) {
        load_cell(g, image + y * g.x_row + (x0 + column) * g.x_column, to);
      } else {
        Cell cell;
#pragma unroll
        for (int e = 0; e < CELL; ++e) cell.at[e] = fill;
        *(Cell*)to = cell;
      }
    }
  }
  if (rest > 0) {
    for (PanelWalk walk(rows, rest); walk.more(); walk.next()) {
      int column = walk.column < low * CELL || whole == 0 ? walk.column : walk.column + whole * CELL;
      Pixel* to = shared + walk.row * pitch + column;
      i64 y = border(y0 + walk.row, g.h, g.boundary), x = border(x0 + column, g.w, g.boundary);
      if (y >= 0 && x >= 0) load_pixel(image + y * g.x_row + x * g.x_column, to);
      else *to = fill;
    }
  }
}

struct PanelSize { int rows, cells; };

// The part of a panel of `rows` rows of `cells` cells that outputs of the image need; only that is loaded.
// `reach` is how many columns the taps of an output span.
__device__ inline PanelSize loaded_part(const Geometry& g, const OutputTile& at, int rows, int cells,
                                        int reach) {
  i64 high = g.r - at.i0, wide = g.s - at.j0;
  if (high < TILE_Y) rows -= (TILE_Y - (int)high) * STRIDE_Y;
  if (wide < TILE_X) cells = (SHIFT + ((int)wide - 1) * STRIDE_X + reach + CELL - 1) / CELL;
  return {rows, cells};
}

// All threads of the block load the panel that serves the taps from row a0 and column b0 on: `rows` rows
// of `cells` cells.
__device__ inline void load_panel(const Geometry& g, const OutputTile& at, int a0, int b0, int rows,
                                  int cells, int reach, Pixel fill, Pixel* shared) {
  i64 y0 = at.i0 * STRIDE_Y + a0 - g.top, x0 = at.j0 * STRIDE_X + b0 - g.left - SHIFT;
  int pitch = cells * CELL;
  PanelSize part = loaded_part(g, at, rows, cells, reach);
  rows = part.rows;
  cells = part.cells;
  bool inside = y0 >= 0 && x0 >= 0 && y0 + rows <= g.h && x0 + cells * CELL <= g.w;
  if (inside) {
    const char* corner = at.x + y0 * g.x_row + x0 * g.x_column;
#if ALIGNED && !RAW
    // 16 bytes of pixels become several cells; the first and last 16 may extend beyond the panel.
    int before = (int)((unsigned long long)corner % 16 / sizeof(X_T)) / VECTOR;
    PanelWalk walk(rows, (before + cells + PER_SOURCE - 1) / PER_SOURCE);
    while (walk.more()) {
      Source read[IN_FLIGHT] = {};
      ACC* to[IN_FLIGHT];
      // All reads are issued before the first is waited for.
#pragma unroll
      for (int n = 0; n < IN_FLIGHT; ++n, walk.next()) {
        to[n] = 0;
        if (!walk.more()) continue;
        int first = walk.column * PER_SOURCE - before;
        const char* from = corner + walk.row * g.x_row + first * VECTOR * (int)sizeof(X_T);
        ACC* target = shared + walk.row * pitch + first * VECTOR;
        if (first >= 0 && first + PER_SOURCE <= cells) {
          read[n] = *(const Source*)from;
          to[n] = target;
        } else {
          for (int part = 0; part < PER_SOURCE; ++part)
            if (first + part >= 0 && first + part < cells)
              load_cell(g, from + part * VECTOR * (int)sizeof(X_T), target + part * VECTOR);
        }
      }
#pragma unroll
      for (int n = 0; n < IN_FLIGHT; ++n) {
        if (!to[n]) continue;
#pragma unroll
        for (int part = 0; part < PER_SOURCE; ++part) {
          Granule granule;
#pragma unroll
          for (int e = 0; e < VECTOR; ++e) widen(granule.at[e], read[n].at[part * VECTOR + e]);
          ((Granule*)to[n])[part] = granule;
        }
      }
    }
#else
#if RAW && !ALIGNED
    // Neighbouring pixels that are not aligned: the two aligned cells that hold them must be in the row.
    if (g.x_column == sizeof(X_T) && x0 >= CELL && x0 + (cells + 1) * CELL <= g.w) {
      load_unaligned(g, corner, rows, cells, pitch, shared);
      return;
    }
#endif
    for (PanelWalk walk(rows, cells); walk.more(); walk.next())
      load_cell(g, corner + walk.row * g.x_row + walk.column * CELL * g.x_column,
                shared + walk.row * pitch + walk.column * CELL);
#endif
    return;
  }
  load_at_border(g, at.x, y0, x0, rows, cells, pitch, fill, shared);
}

// Loads a panel of HEIGHT rows of ACROSS cells if all of it is in the image and its cells are aligned;
// returns whether. Which cells a thread loads is known at compile time: a tenth of the instructions.
template <int HEIGHT, int ACROSS>
__device__ inline bool load_whole(const Geometry& g, const OutputTile& at, Pixel* shared) {
#if RAW && ALIGNED
  i64 y0 = at.i0 * STRIDE_Y - g.top, x0 = at.j0 * STRIDE_X - g.left - SHIFT;
  if (y0 < 0 || x0 < 0 || y0 + HEIGHT > g.h || x0 + ACROSS * CELL > g.w) return false;
  enum { ALL = HEIGHT * ACROSS, DOWN = THREADS / ACROSS, ASIDE_CELLS = THREADS % ACROSS };
  int column = thread() % ACROSS;
  const char* from = at.x + (y0 + thread() / ACROSS) * g.x_row + x0 * (int)sizeof(X_T) + column * 16;
  Pixel* to = shared + thread() * CELL;
  i64 step = DOWN * g.x_row + ASIDE_CELLS * 16, to_next_row = g.x_row - ACROSS * 16;
#pragma unroll
  for (int n = 0; n < (ALL + THREADS - 1) / THREADS; ++n) {
    if ((n + 1) * THREADS <= ALL || thread() < ALL - n * THREADS)
      copy_async<16>(to + n * THREADS * CELL, from);
    from += step;
    column += ASIDE_CELLS;
    if (column >= ACROSS) {
      column -= ACROSS;
      from += to_next_row;
    }
  }
  return true;
#else
  return false;
#endif
}

template <int SIZE> struct Word { typedef unsigned type; };
template <> struct Word<2> { typedef unsigned short type; };
template <> struct Word<1> { typedef unsigned char type; };

// Where a tile's results go, and how many of its rows and columns are inside the result.
struct Target {
  char* corner;
  int rows, columns;
  __device__ Target(const Geometry& g, const OutputTile& at)
      : corner(at.out + at.i0 * g.out_row + at.j0 * g.out_column),
        rows((int)(g.r - at.i0 < TILE_Y ? g.r - at.i0 : TILE_Y)),
        columns((int)(g.s - at.j0 < TILE_X ? g.s - at.j0 : TILE_X)) {}
};

template <int COUNT>
__device__ inline void narrow_all(OUT_T (&to)[COUNT], const ACC (&sums)[COUNT]) {
  if constexpr (COUNT % 2 == 0) {
#pragma unroll
    for (int c = 0; c < COUNT; c += 2) narrow_two(to + c, sums[c], sums[c + 1]);
  } else {
#pragma unroll
    for (int c = 0; c < COUNT; ++c) narrow(to[c], sums[c]);
  }
}

// Stores BYTES of a struct, EACH at once. They are copied as words: from elements of other sizes the
// compiler would assemble each 16 bytes by shifts and masks.
template <int BYTES, int EACH, class T> __device__ inline void store_words(const T& from, char* to) {
  typedef typename Word<EACH < 4 ? EACH : 4>::type W;
  struct alignas(EACH) Unit { W at[EACH / sizeof(W)]; };
  Unit units[BYTES / EACH];
  memcpy(units, &from, BYTES);
#pragma unroll
  for (int n = 0; n < BYTES / EACH; ++n) ((Unit*)to)[n] = units[n];
}

// Writes results: a granule in each of ROW rows a thread, which are STEP apart. Of the first ITEMS threads,
// ACROSS are side by side in a row of the tile, and the next ACROSS below all their rows or, if these are
// apart, in the next row. Where rows of results are aligned (OUT_WIDE) a thread writes up to 16 bytes at
// once. Otherwise a warp exchanges its results in `stage`, which holds a row of every thread's, so that
// neighbouring lanes write neighbouring elements.
template <int ITEMS, int ACROSS, int ROW, int STEP>
__device__ inline void store_rows(const Geometry& g, const OutputTile& at,
                                  const ACC (&sums)[ROW][VECTOR], OUT_T* stage) {
  enum { COUNT = VECTOR, BYTES = COUNT * sizeof(OUT_T), STORE_BYTES = BYTES < 16 ? BYTES : 16 };
  enum { FIRST = STEP > 1 ? 1 : ROW };  // rows from one thread to the one below
  i64 step = STEP * g.out_row;
  struct alignas(STORE_BYTES) Results { OUT_T at[COUNT]; };
  Target target(g, at);
#if OUT_WIDE
  int i = thread() / ACROSS * FIRST, j = thread() % ACROSS * COUNT;
  int columns = thread() < ITEMS ? target.columns - j : 0, rows = target.rows - i;
  char* to = target.corner + i * g.out_row + j * (int)sizeof(OUT_T);
#pragma unroll
  for (int o = 0; o < ROW; ++o, to += step) {
    Results results;
    narrow_all(results.at, sums[o]);
    if (o * STEP >= rows) return;
    if (columns >= COUNT) {
      store_words<BYTES, STORE_BYTES>(results, to);
    } else {
#pragma unroll
      for (int c = 0; c < COUNT; ++c)
        if (c < columns) ((OUT_T*)to)[c] = results.at[c];
    }
  }
#else
  int lane = thread() % LANES, warp = thread() - lane;
  if constexpr (ACROSS == LANES && ITEMS == THREADS) {
    // A warp has a part of one row: all its addresses follow from one.
    if (g.out_column == sizeof(OUT_T)) {
      int i = thread() / ACROSS * FIRST, rows = target.rows - i, columns = target.columns - lane;
      char* to = target.corner + i * g.out_row + lane * (int)sizeof(OUT_T);
#pragma unroll
      for (int o = 0; o < ROW; ++o, to += step) {
        Results results;
        narrow_all(results.at, sums[o]);
        ((Results*)stage)[thread()] = results;
        __syncwarp();
#pragma unroll
        for (int c = 0; c < COUNT; ++c)
          if (o * STEP < rows && c * LANES < columns)
            ((OUT_T*)to)[c * LANES] = stage[warp * COUNT + c * LANES + lane];
        __syncwarp();
      }
      return;
    }
  }
#pragma unroll
  for (int o = 0; o < ROW; ++o) {
    Results results;
    narrow_all(results.at, sums[o]);
    ((Results*)stage)[thread()] = results;
    __syncwarp();
    // Not unrolled: addresses of all rows and elements at once would take too many registers.
#pragma unroll 1
    for (int c = 0; c < COUNT; ++c) {
      int element = c * LANES + lane, of = warp + element / COUNT;
      int i = of / ACROSS * FIRST + o * STEP, j = of % ACROSS * COUNT + element % COUNT;
      if (of < ITEMS && i < target.rows && j < target.columns)
        *(OUT_T*)(target.corner + i * g.out_row + j * g.out_column) = stage[warp * COUNT + element];
    }
    __syncwarp();
  }
#endif
}
