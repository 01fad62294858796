// What the kernels that filter images share: the numbering of output tiles, and the loading of a tile
// of pixels with its halo, one pixel at a time, for any stride and dilation (panel.cuh is faster, for
// small ones that code is compiled for).
//
// The host puts before this text struct Geometry (see structs.py) and defines X_T, OUT_T (storage
// types), ACC (type of the sums), UNIT (stride and dilation are 1), BLOCK_X, BLOCK_Y (threads), ROWS
// (outputs of a thread, one below the other), WIDTH (columns of outputs of a block), BY_VALUE (weights
// are a parameter) and then WEIGHTS (how many the parameter has room for).
#pragma once

enum { TILE_X = WIDTH, TILE_Y = BLOCK_Y * ROWS };

#if BY_VALUE
// Parameters lie in the constant bank, from which a multiply-add takes an operand at no cost.
struct Weights { ACC at[WEIGHTS]; };
#define WEIGHTS_PARAMETER const __grid_constant__ Weights weights
#else
#define WEIGHTS_PARAMETER const ACC* __restrict__ weights
#endif

struct OutputTile {  // one tile of one image: where both begin, its kernel, its first output
  const char* x;
  char* out;
  i64 kernel, i0, j0;
};

// The host cuts batches so that there are fewer than 2^31 tiles: 32-bit divisions are much faster.
__device__ inline OutputTile output_tile(const Geometry& g, i64 tile, const char* x, char* out) {
  unsigned across = (unsigned)g.tiles_x, of_image = across * (unsigned)g.tiles_y;
  unsigned image = (unsigned)tile / of_image, within = (unsigned)tile - image * of_image;
  unsigned row = within / across;
  OutputTile at = {x, out, 0, (i64)row * TILE_Y, (i64)(within - row * across) * TILE_X};
  for (int n = g.leads - 1; n >= 0; --n) {
    unsigned length = (unsigned)g.lead[n], rest = image / length;
    i64 index = image - rest * length;
    image = rest;
    at.x += index * g.x_lead[n];
    at.out += index * g.out_lead[n];
    at.kernel += index * g.k_lead[n];
  }
  return at;
}

// One axis of a tile of pixels in shared memory. Neighbouring outputs share pixels where that takes less
// memory: the tile is then a part of the padded image. Otherwise, as with large strides or dilations,
// every output has a pixel of its own for each tap; with `taps_together` those of an output are adjacent.
struct TileAxis {
  bool shared;
  int length, output_step, tap_step;
  __device__ TileAxis(int outputs, int taps, i64 stride, i64 dilation, bool taps_together) {
#if UNIT
    shared = true;
    length = outputs + taps - 1;
    output_step = tap_step = 1;
#else
    enum { LARGE = 1 << 12 };  // below which nothing here exceeds 32 bits
    int s = (int)min(stride, (i64)LARGE), d = (int)min(dilation, (i64)LARGE);
    i64 span = (i64)(outputs - 1) * s + (i64)(taps - 1) * d + 1;
    shared = s < LARGE && d < LARGE && span <= (i64)outputs * taps;
    length = shared ? (int)span : outputs * taps;
    output_step = shared ? s : taps_together ? taps : 1;
    tap_step = shared ? d : taps_together ? 1 : outputs;
#endif
  }
  __device__ int at(int output, int tap) const { return output * output_step + tap * tap_step; }
};

// A tile of pixels in shared memory, converted to ACC, in rows of `pitch` elements.
struct Tile {
  TileAxis y, x;
  int rows, columns, pitch;
  __device__ Tile(const Geometry& g, int taps_y, int taps_x)
      : y(TILE_Y, taps_y, g.sy, g.dy, true), x(TILE_X, taps_x, g.sx, g.dx, false), rows(y.length),
        columns(x.length), pitch(x.length) {}
  __device__ int row(int i, int a) const { return y.at(i, a); }
  __device__ int column(int j, int b) const { return x.at(j, b); }
};

// All threads of the block load the pixels that the outputs of a tile read at the taps from row a0 and
// column b0 on.
__device__ inline void load_tile(const Geometry& g, const OutputTile& at, const Tile& tile, int a0,
                                 int b0, int taps_y, ACC fill, ACC* shared) {
  i64 y0 = at.i0 * g.sy + a0 * g.dy - g.top, x0 = at.j0 * g.sx + b0 * g.dx - g.left;
  bool inside = tile.y.shared && tile.x.shared && y0 >= 0 && x0 >= 0 && y0 + tile.rows <= g.h &&
                x0 + tile.columns <= g.w;
  for (int row = threadIdx.y; row < tile.rows; row += BLOCK_Y) {
    // Rows and columns past the last output are loaded too: the border rule keeps the reads inside
    // the image, and no result uses them. Unsigned, because these positions may exceed 64 bits.
    i64 y = y0 + row;
    if (!tile.y.shared)
      y = (i64)((u64)y0 + (u64)(row / taps_y) * (u64)g.sy + (u64)(row % taps_y) * (u64)g.dy);
    i64 source = inside ? y : border(y, g.h, g.boundary);
    for (int column = threadIdx.x; column < tile.columns; column += BLOCK_X) {
      i64 x = x0 + column;
      if (!tile.x.shared)
        x = (i64)((u64)x0 + (u64)(column % TILE_X) * (u64)g.sx + (u64)(column / TILE_X) * (u64)g.dx);
      i64 from = inside ? x : border(x, g.w, g.boundary);
      ACC value = fill;
      if (source >= 0 && from >= 0)
        widen(value, *(const X_T*)(at.x + source * g.x_row + from * g.x_column));
      shared[row * tile.pitch + column] = value;
    }
  }
}

__device__ inline void store(const Geometry& g, const OutputTile& at, const ACC* sums) {
  i64 j = at.j0 + threadIdx.x;
  for (int o = 0; o < ROWS; ++o) {
    i64 i = at.i0 + (i64)threadIdx.y * ROWS + o;
    if (i < g.r && j < g.s) narrow(*(OUT_T*)(at.out + i * g.out_row + j * g.out_column), sums[o]);
  }
}
