// Gradient with respect to the weights: for every tap, the dot product of the pixels that it is
// multiplied with and the outputs' gradient. A block loops over the tiles of its task, and loads their
// pixels and gradient into shared memory. Each of its warps (rows of threads) has a run of RUN taps, one
// below the other, and each lane one column of the tile, so that a pixel that it reads serves RUN
// multiply-adds. Tasks depend on the problem alone and sums are computed in one fixed order: the result
// has the same bits in every run and on every chip.
//
// OUT_T is the dtype of the outputs' gradient, WIDE that of the partial sums that a task leaves. The host
// puts structs Task and ImageOffsets before this text (see structs.py) and defines RUN.

__device__ inline void conjugate(float&) {}
__device__ inline void conjugate(double&) {}
template <class R> __device__ inline void conjugate(Complex<R>& v) { v.im = -v.im; }
__device__ inline void plus(double& a, double b) { a += b; }
template <class R> __device__ inline void plus(Complex<R>& a, Complex<R> b) {
  a.re += b.re;
  a.im += b.im;
}

extern "C" __global__ void __launch_bounds__(BLOCK_X * BLOCK_Y, 2)
weight_gradient(const __grid_constant__ Geometry g, ACC fill, const char* __restrict__ x,
                const char* __restrict__ dy, const Task* __restrict__ tasks,
                const ImageOffsets* __restrict__ images, WIDE* __restrict__ partial) {
  SHARED_MEMORY(ACC, shared);
  ACC* pixels = shared + TILE_Y * TILE_X;  // after the tile of dY
  Task task = tasks[blockIdx.x];
  WIDE* sums = partial + (i64)blockIdx.x * g.p * g.q;
  for (int a0 = 0; a0 < g.p; a0 += g.chunk_p) {
    for (int b0 = 0; b0 < g.q; b0 += g.chunk_q) {
      int taps_y = min(g.chunk_p, g.p - a0), taps_x = min(g.chunk_q, g.q - b0);
      Tile tile(g, taps_y, taps_x);
      int runs_y = (taps_y + RUN - 1) / RUN, runs = runs_y * taps_x;
      for (int first = 0; first < runs; first += BLOCK_Y) {
        int run = first + threadIdx.y, a = run % runs_y * RUN, b = run / runs_y;
        ACC acc[RUN];
#pragma unroll
        for (int o = 0; o < RUN; ++o) clear(acc[o]);
        for (i64 image = task.first_image; image < task.last_image; ++image) {
          for (i64 number = task.first_tile; number < task.last_tile; ++number) {
            i64 row = number / g.tiles_x;
            OutputTile at = {x + images[image].x, 0, 0, row * TILE_Y,
                        (number - row * g.tiles_x) * TILE_X};
            // Outputs beyond the last one are left out: their pixels may not be finite.
            int height = (int)(g.r - at.i0 < TILE_Y ? g.r - at.i0 : TILE_Y);
            int width = (int)(g.s - at.j0 < TILE_X ? g.s - at.j0 : TILE_X);
            __syncthreads();  // all threads have read the tile before
            load_tile(g, at, tile, a0, b0, taps_y, fill, pixels);
            const char* corner = dy + images[image].dy + at.i0 * g.out_row + at.j0 * g.out_column;
            if ((int)threadIdx.x < width) {
              for (int i = threadIdx.y; i < height; i += BLOCK_Y) {
                ACC value;
                widen(value, *(const OUT_T*)(corner + i * g.out_row + threadIdx.x * g.out_column));
                conjugate(value);
                shared[i * TILE_X + threadIdx.x] = value;
              }
            }
            __syncthreads();  // the tile is complete
            if (run >= runs || (int)threadIdx.x >= width) continue;
            const ACC* column = pixels + tile.column(threadIdx.x, b);
#if UNIT
            ACC window[RUN];
#pragma unroll
            for (int o = 0; o < RUN - 1; ++o)
              window[o] = column[min(a + o, tile.rows - 1) * tile.pitch];
            for (int i = 0; i < height; ++i) {
              window[RUN - 1] = column[min(i + a + RUN - 1, tile.rows - 1) * tile.pitch];
              ACC value = shared[i * TILE_X + threadIdx.x];
#pragma unroll
              for (int o = 0; o < RUN; ++o) add(acc[o], value, window[o]);
#pragma unroll
              for (int o = 0; o < RUN - 1; ++o) window[o] = window[o + 1];
            }
#else
            for (int i = 0; i < height; ++i) {
              ACC value = shared[i * TILE_X + threadIdx.x];
#pragma unroll
              for (int o = 0; o < RUN; ++o)
                add(acc[o], value,
                    column[tile.row(i, min(a + o, taps_y - 1)) * tile.pitch]);
            }
#endif
          }
        }
        __syncthreads();  // the last tile has been read: its memory now takes the lanes' sums
#pragma unroll
        for (int o = 0; o < RUN; ++o)
          shared[(threadIdx.y * RUN + o) * BLOCK_X + threadIdx.x] = acc[o];
        __syncthreads();
        for (int n = threadIdx.y * BLOCK_X + threadIdx.x; n < RUN * BLOCK_Y;
             n += BLOCK_X * BLOCK_Y) {
          int which = first + n / RUN, tap = which % runs_y * RUN + n % RUN;
          if (which >= runs || tap >= taps_y) continue;
          WIDE total;
          clear(total);
          for (int lane = 0; lane < BLOCK_X; ++lane) {
            WIDE value;
            widen(value, shared[n * BLOCK_X + lane]);
            plus(total, value);
          }
          sums[(i64)(a0 + tap) * g.q + b0 + which / runs_y] = total;
        }
      }
    }
  }
}
