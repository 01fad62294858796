// What layer_forward.cu and layer_weight_gradient.cu share: the elements of the im2col matrix, which is
// never stored, and the product of two tiles in shared memory.
//
// The matrix has a row for each term (channel, a, b) of a group's sums and a column for each output
// pixel of an image. The host puts struct Layer before this text (see structs.py) and defines SIDE and
// DEPTH.
#pragma once

// A thread computes SIDE x SIDE elements of a product, a block TILE_M x TILE_N of them. Factors go through
// shared memory DEPTH at a time along the dimension that is summed over.
enum { TILE_M = BLOCK_Y * SIDE, TILE_N = BLOCK_X * SIDE };

// Element (term, pixel) of the matrix of an image: 0 where the pixel is padding.
__device__ inline void im2col_element(const Layer& g, const char* image, i64 term, i64 pixel,
                                      ACC& value) {
  int taps = g.p * g.q;
  i64 channel = term / taps;
  int tap = (int)(term - channel * taps), a = tap / g.q, b = tap - a * g.q;
  i64 i = pixel / g.s, j = pixel - i * g.s;
  i64 y = i * g.sy + a * g.dy - g.top, x = j * g.sx + b * g.dx - g.left;
  clear(value);
  if (y >= 0 && y < g.h && x >= 0 && x < g.w)
    widen(value, *(const X_T*)(image + channel * g.x_channel + y * g.x_row + x * g.x_column));
}

// Adds the product of two tiles: DEPTH x TILE_M transposed times DEPTH x TILE_N. A thread's columns have a
// stride of BLOCK_X, so that neighbouring threads read and write neighbouring elements.
__device__ inline void multiply(ACC (&sums)[SIDE][SIDE], const ACC* m_tile, const ACC* n_tile) {
#pragma unroll
  for (int k = 0; k < DEPTH; ++k) {
    ACC a[SIDE], b[SIDE];
#pragma unroll
    for (int i = 0; i < SIDE; ++i) a[i] = m_tile[k * TILE_M + threadIdx.y * SIDE + i];
#pragma unroll
    for (int j = 0; j < SIDE; ++j) b[j] = n_tile[k * TILE_N + j * BLOCK_X + threadIdx.x];
#pragma unroll
    for (int i = 0; i < SIDE; ++i)
#pragma unroll
      for (int j = 0; j < SIDE; ++j) add(sums[i][j], a[i], b[j]);
  }
}
