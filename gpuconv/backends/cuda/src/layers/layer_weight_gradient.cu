// Gradient of a layer's weights: the outputs' gradient (outputs x pixels) times the im2col matrix
// transposed (pixels x terms). A task takes a part of the images and leaves its sums in WIDE precision;
// weight_gradient_sum.cu adds the tasks, in order. OUT_T is the dtype of the outputs' gradient.

// After this many products of tiles the sum in ACC is added to the one in WIDE, and starts again at 0, so
// that its rounding error does not grow with the number of pixels.
enum { FLUSH = 64 };

extern "C" __global__ void __launch_bounds__(BLOCK_X * BLOCK_Y, 1)
layer_weight_gradient(const __grid_constant__ Layer g, const char* __restrict__ x,
                      const OUT_T* __restrict__ dy, WIDE* __restrict__ partial) {
  SHARED_MEMORY(ACC, shared);
  ACC* m_tile = shared;
  ACC* n_tile = shared + DEPTH * TILE_M;
  int thread = threadIdx.y * BLOCK_X + threadIdx.x;
  i64 terms = (i64)g.channels * g.p * g.q, pixels = g.r * g.s;
  i64 tiles = g.groups * g.tasks * g.tiles_m * g.tiles_n;
  for (i64 number = blockIdx.x; number < tiles; number += gridDim.x) {
    i64 n0 = number % g.tiles_n * TILE_N, rest = number / g.tiles_n;
    i64 m0 = rest % g.tiles_m * TILE_M;
    rest /= g.tiles_m;
    i64 task = rest % g.tasks, group = rest / g.tasks;
    WIDE total[SIDE][SIDE];
    ACC sums[SIDE][SIDE];
#pragma unroll
    for (int i = 0; i < SIDE; ++i)
#pragma unroll
      for (int j = 0; j < SIDE; ++j) {
        clear(total[i][j]);
        clear(sums[i][j]);
      }
    int depths = 0;
    i64 last = (task + 1) * g.images / g.tasks;
    for (i64 image = task * g.images / g.tasks; image < last; ++image) {
      const char* source = x + image * g.x_image + group * g.channels * g.x_channel;
      const OUT_T* rows = dy + (image * g.groups + group) * g.outputs * pixels;
      for (i64 k0 = 0; k0 < pixels; k0 += DEPTH) {
        __syncthreads();  // all threads have read the tiles before
        for (int n = thread; n < DEPTH * TILE_M; n += BLOCK_X * BLOCK_Y) {
          i64 k = k0 + n % DEPTH, m = m0 + n / DEPTH;
          ACC value;
          clear(value);
          if (k < pixels && m < g.outputs) widen(value, rows[m * pixels + k]);
          m_tile[n % DEPTH * TILE_M + n / DEPTH] = value;
        }
        for (int n = thread; n < DEPTH * TILE_N; n += BLOCK_X * BLOCK_Y) {
          i64 k = k0 + n % DEPTH, term = n0 + n / DEPTH;
          ACC value;
          clear(value);
          if (k < pixels && term < terms) im2col_element(g, source, term, k, value);
          n_tile[n % DEPTH * TILE_N + n / DEPTH] = value;
        }
        __syncthreads();  // the tiles are complete
        multiply(sums, m_tile, n_tile);
        if (++depths % FLUSH == 0) {
#pragma unroll
          for (int i = 0; i < SIDE; ++i)
#pragma unroll
            for (int j = 0; j < SIDE; ++j) {
              total[i][j] += (WIDE)sums[i][j];
              clear(sums[i][j]);
            }
        }
      }
    }
    WIDE* target = partial + (group * g.tasks + task) * g.outputs * terms;
#pragma unroll
    for (int i = 0; i < SIDE; ++i)
#pragma unroll
      for (int j = 0; j < SIDE; ++j) {
        i64 m = m0 + threadIdx.y * SIDE + i, term = n0 + j * BLOCK_X + threadIdx.x;
        if (m < g.outputs && term < terms)
          target[m * terms + term] = total[i][j] + (WIDE)sums[i][j];
      }
  }
}
