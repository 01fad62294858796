// What the fft_*.cu files share: the tiles of overlap-save, which lie one after the other in a
// chunk of working memory, and where each of them comes from and goes to.
//
// Tiles are numbered kernel by kernel, image by image, row by row. Where all kernels see the same
// images (`fan` above 1), a tile is gathered and transformed once for the kernels of the group, and
// the tiles of its results follow one another, a kernel each.
#pragma once

typedef long long i64;
enum { FFT_LEADS = 8 };
enum { SLAB = BLOCK_Y * ROWS, THREADS = BLOCK_X * BLOCK_Y };  // a block's rows of a tile

// Laid out like `OVERLAP` in backends/cuda_fft.py: 64-bit members first.
struct Overlap {
  i64 h, w, r, s;                     // image and output, in pixels
  i64 need_y, need_x;                 // the padded image as far as some window reaches
  i64 x_row, x_column;                // strides in bytes
  i64 out_row, out_column;
  i64 tiles_x, tiles;                 // tiles of one image: across, and in all
  i64 images;                         // output images of one kernel
  i64 kernel0, first, count;          // first kernel of the group, first tile of the chunk, tiles
  i64 lead[FFT_LEADS], x_lead[FFT_LEADS], out_lead[FFT_LEADS];
  i64 top, left, sy, sx, dy, dx;      // padding, stride and dilation, of any size
  int boundary, leads;
  int p, q, ny, nx;                   // taps, sides of a tile
  int kept_y, kept_x, fan, parts;     // outputs of a tile; blocks that sum a tile directly
};

template <class A> struct RealOf { typedef A type; };
template <class R> struct RealOf<Complex<R>> { typedef R type; };
typedef RealOf<ACC>::type Real;
typedef Complex<Real> Bin;            // of a spectrum

struct Spot {  // where a tile comes from and goes to
  const char* x;
  char* out;
  i64 kernel, i0, j0;                 // its kernel within the group, its first output
  int rows, columns;                  // of its outputs
};

__device__ inline i64 kernel_of(const Overlap& g, i64 n) {
  return g.fan > 1 ? (g.first + n) % g.fan : (g.first + n) / (g.images * g.tiles);
}

__device__ inline Spot spot_of(const Overlap& g, i64 n, const char* x, char* out) {
  i64 kernel = kernel_of(g, n);
  i64 within = g.fan > 1 ? (g.first + n) / g.fan : g.first + n - kernel * g.images * g.tiles;
  i64 image = (g.kernel0 + kernel) * g.images + within / g.tiles, tile = within % g.tiles;
  Spot at = {x, out, kernel, tile / g.tiles_x * g.kept_y, tile % g.tiles_x * g.kept_x};
  at.rows = g.r - at.i0 < g.kept_y ? (int)(g.r - at.i0) : g.kept_y;
  at.columns = g.s - at.j0 < g.kept_x ? (int)(g.s - at.j0) : g.kept_x;
  for (int d = g.leads - 1; d >= 0; --d) {
    i64 rest = image / g.lead[d], index = image - rest * g.lead[d];
    image = rest;
    at.x += index * g.x_lead[d];
    at.out += index * g.out_lead[d];
  }
  return at;
}
