// Copies tiles of the padded image into working memory, converted to the sums' dtype, measures them, and
// clears their flags. A warp reads and writes neighbouring pixels of a row. Pixels that are in no
// output's window are set to zero, whatever the border rule, so that only pixels in windows decide
// whether a tile is finite.

enum { LOADS = sizeof(ACC) > 8 ? 2 : 4 };  // loads that a thread issues at once

extern "C" __global__ void __launch_bounds__(BLOCK_X * BLOCK_Y, sizeof(ACC) > 8 ? 3 : 4)
fft_gather(const __grid_constant__ Overlap g, ACC fill, const char* __restrict__ x, int* flags,
           ACC* __restrict__ tiles, Norm* norms, Size* sizes, Largest* largest) {
  int slabs = (g.ny + SLAB - 1) / SLAB;
  i64 n = blockIdx.x / slabs;
  int begin = blockIdx.x % slabs * SLAB, end = min(g.ny, begin + SLAB);
  if (begin == 0)
#pragma unroll 1
    for (int k = thread_of_block(); k < g.fan_out; k += THREADS) {
      flags[n * g.fan_out + k] = 0;
      largest[n * g.fan_out + k] = {0, 0, 0, 0};
    }
  Norm norm = {1 / LEAST, 0, 0};
  FftTile at = fft_tile(g, n * g.fan_out, x, 0);
  i64 y0 = at.i0 * g.sy, x0 = at.j0 * g.sx, left = x0 - g.left;  // in the padded image; in the image
  bool inside = !g.gathered_dx && left >= 0 && left + g.nx <= g.w && x0 + g.nx <= g.need_x;
  for (int row = begin + threadIdx.y; row < end; row += BLOCK_Y) {
    ACC* to = tiles + (n * g.ny + row) * g.nx;
    bool needed = y0 + row < g.need_y;
    i64 source = needed ? image_row(g, y0 + row) : -1;
    if (inside && source >= 0) {
      const char* from = at.x + source * g.x_row + left * g.x_column;
      for (int column = threadIdx.x; column < g.nx; column += LOADS * BLOCK_X) {
        X_T loaded[LOADS] = {};  // all loads are issued before the first value is needed
#pragma unroll
        for (int k = 0; k < LOADS; ++k)
          if (column + k * BLOCK_X < g.nx)
            loaded[k] = *(const X_T*)(from + (column + k * BLOCK_X) * g.x_column);
#pragma unroll
        for (int k = 0; k < LOADS; ++k)
          if (column + k * BLOCK_X < g.nx) {
            ACC value;
            widen(value, loaded[k]);
            measure(norm, value);
            to[column + k * BLOCK_X] = value;
          }
      }
      continue;
    }
#pragma unroll 1
    for (int column = threadIdx.x; column < g.nx; column += BLOCK_X) {
      ACC value;
      clear(value);
      if (needed && x0 + column < g.need_x) {
        i64 from = image_column(g, x0 + column);
        if (source < 0 || from < 0) value = fill;
        else widen(value, *(const X_T*)(at.x + source * g.x_row + from * g.x_column));
      }
      measure(norm, value);
      to[column] = value;
    }
  }
  if (g.whole) return;
  finish_measuring(g, norm, n, begin / SLAB, slabs, norms, sizes + g.kernels, tiles + n * g.ny * g.nx,
           2 * SAFE);
}
