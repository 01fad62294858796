// What channels.cu and channels_weights.cu share: a layer's geometry and the reading of patches.
#pragma once

// A thread makes SIDE x SIDE elements of a product, a block PART_M x PART_N, DEPTH terms at a time.
enum { PART_M = BLOCK_Y * SIDE, PART_N = BLOCK_X * SIDE };

// The pixel that output `pixel` of an image meets at term `line` = (channel, a, b); 0 outside.
__device__ inline void patch(const Layer& g, const char* image, i64 line, i64 pixel, ACC& value) {
  int taps = g.p * g.q;
  i64 channel = line / taps;
  int tap = (int)(line - channel * taps), a = tap / g.q, b = tap - a * g.q;
  i64 i = pixel / g.s, j = pixel - i * g.s;
  i64 y = i * g.sy + a * g.dy - g.top, x = j * g.sx + b * g.dx - g.left;
  clear(value);
  if (y >= 0 && y < g.h && x >= 0 && x < g.w)
    widen(value, *(const X_T*)(image + channel * g.x_channel + y * g.x_row + x * g.x_column));
}

// One DEPTH of the product, from tiles stored term by term.
__device__ inline void multiply(ACC (&sums)[SIDE][SIDE], const ACC* m_tile, const ACC* n_tile) {
#pragma unroll
  for (int k = 0; k < DEPTH; ++k) {
    ACC a[SIDE], b[SIDE];
#pragma unroll
    for (int i = 0; i < SIDE; ++i) a[i] = m_tile[k * PART_M + threadIdx.y * SIDE + i];
#pragma unroll
    for (int j = 0; j < SIDE; ++j) b[j] = n_tile[k * PART_N + j * BLOCK_X + threadIdx.x];
#pragma unroll
    for (int i = 0; i < SIDE; ++i)
#pragma unroll
      for (int j = 0; j < SIDE; ++j) add(sums[i][j], a[i], b[j]);
  }
}
