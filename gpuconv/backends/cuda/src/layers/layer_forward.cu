// A convolution layer, group by group and image by image, as a matrix product: the weights (outputs x
// terms) times the im2col matrix (terms x pixels). OUT_T is the weights' dtype; results are left in ACC.

extern "C" __global__ void __launch_bounds__(BLOCK_X * BLOCK_Y, 2)
layer_forward(const __grid_constant__ Layer g, const char* __restrict__ x,
              const OUT_T* __restrict__ weights, ACC* __restrict__ out) {
  SHARED_MEMORY(ACC, shared);
  ACC* m_tile = shared;
  ACC* n_tile = shared + DEPTH * TILE_M;
  int thread = threadIdx.y * BLOCK_X + threadIdx.x;
  i64 terms = (i64)g.channels * g.p * g.q, pixels = g.r * g.s;
  i64 tiles = g.images * g.groups * g.tiles_m * g.tiles_n;
  for (i64 number = blockIdx.x; number < tiles; number += gridDim.x) {
    i64 n0 = number % g.tiles_n * TILE_N, rest = number / g.tiles_n;
    i64 m0 = rest % g.tiles_m * TILE_M;
    rest /= g.tiles_m;
    i64 group = rest % g.groups, image = rest / g.groups;
    const char* source = x + image * g.x_image + group * g.channels * g.x_channel;
    const OUT_T* rows = weights + group * g.outputs * terms;
    ACC sums[SIDE][SIDE];
#pragma unroll
    for (int i = 0; i < SIDE; ++i)
#pragma unroll
      for (int j = 0; j < SIDE; ++j) clear(sums[i][j]);
    for (i64 k0 = 0; k0 < terms; k0 += DEPTH) {
      __syncthreads();  // all threads have read the tiles before
      for (int n = thread; n < DEPTH * TILE_M; n += BLOCK_X * BLOCK_Y) {
        i64 k = k0 + n % DEPTH, m = m0 + n / DEPTH;
        ACC value;
        clear(value);
        if (k < terms && m < g.outputs) widen(value, rows[m * terms + k]);
        m_tile[n % DEPTH * TILE_M + n / DEPTH] = value;
      }
      for (int n = thread; n < DEPTH * TILE_N; n += BLOCK_X * BLOCK_Y) {
        i64 k = k0 + n / TILE_N, pixel = n0 + n % TILE_N;
        ACC value;
        clear(value);
        if (k < terms && pixel < pixels) im2col_element(g, source, k, pixel, value);
        n_tile[n] = value;
      }
      __syncthreads();  // the tiles are complete
      multiply(sums, m_tile, n_tile);
    }
    ACC* target = out + (image * g.groups + group) * g.outputs * pixels;
#pragma unroll
    for (int i = 0; i < SIDE; ++i)
#pragma unroll
      for (int j = 0; j < SIDE; ++j) {
        i64 m = m0 + threadIdx.y * SIDE + i, pixel = n0 + j * BLOCK_X + threadIdx.x;
        if (m < g.outputs && pixel < pixels) target[m * pixels + pixel] = sums[i][j];
      }
  }
}
