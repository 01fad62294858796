// Direct correlation. A block makes a TILE_Y x TILE_X tile of outputs: it loads the tile's pixels
// and their halo into shared memory, and every thread slides a window of ROWS registers down its
// column, so that one load from shared memory serves ROWS multiply-adds. Kernels too large for
// one shared tile go through it in chunks of taps. The order of the taps depends on the kernel's
// shape alone, never on where an output lies.

extern "C" __global__ void __launch_bounds__(BLOCK_X * BLOCK_Y, 2)
direct(const __grid_constant__ Geometry g, WEIGHTS_PARAMETER, ACC fill,
       const char* __restrict__ x, char* __restrict__ out) {
  SHARED_MEMORY(ACC, shared);
  int chunks = ((g.p + g.chunk_p - 1) / g.chunk_p) * ((g.q + g.chunk_q - 1) / g.chunk_q);
  for (i64 number = blockIdx.x; number < g.tiles; number += gridDim.x) {
    Place at = place_of(g, number, x, out);
    ACC sums[ROWS];
#pragma unroll
    for (int o = 0; o < ROWS; ++o) clear(sums[o]);
    for (int chunk = 0; chunk < chunks; ++chunk) {
      int across = (g.q + g.chunk_q - 1) / g.chunk_q;
      int a0 = chunk / across * g.chunk_p, b0 = chunk % across * g.chunk_q;
      int taps_y = min(g.chunk_p, g.p - a0), taps_x = min(g.chunk_q, g.q - b0);
      Tile tile(taps_y, taps_x);
      __syncthreads();  // the previous chunk has been read
      load_tile(g, at, tile, a0, b0, taps_y, fill, shared);
#if BY_VALUE
      const ACC* taps = weights.at + a0 * g.q + b0;
      int taps_pitch = g.q;
#else
      // Behind the largest tile; every thread reads the same weight at once, which is one access.
      ACC* copied = shared + Tile(g.chunk_p, g.chunk_q).rows * Tile(g.chunk_p, g.chunk_q).pitch;
      for (int t = threadIdx.y * BLOCK_X + threadIdx.x; t < taps_y * taps_x; t += BLOCK_X * BLOCK_Y)
        copied[t] = weights[at.kernel * g.weights + (i64)(a0 + t / taps_x) * g.q + b0 + t % taps_x];
      const ACC* taps = copied;
      int taps_pitch = taps_x;
#endif
      __syncthreads();
      int first = threadIdx.y * ROWS;
      for (int b = 0; b < taps_x; ++b) {
        const ACC* column = shared + tile.column(threadIdx.x, b);
#if UNIT
        ACC window[ROWS];
#pragma unroll
        for (int o = 0; o < ROWS - 1; ++o) window[o] = column[(first + o) * tile.pitch];
#pragma unroll 4
        for (int a = 0; a < taps_y; ++a) {
          window[ROWS - 1] = column[(first + ROWS - 1 + a) * tile.pitch];
          ACC w = taps[a * taps_pitch + b];
#pragma unroll
          for (int o = 0; o < ROWS; ++o) add(sums[o], w, window[o]);
#pragma unroll
          for (int o = 0; o < ROWS - 1; ++o) window[o] = window[o + 1];
        }
#else
        for (int a = 0; a < taps_y; ++a) {
          ACC w = taps[a * taps_pitch + b];
#pragma unroll
          for (int o = 0; o < ROWS; ++o)
            add(sums[o], w, column[tile.row(first + o, a, taps_y) * tile.pitch]);
        }
#endif
      }
    }
    store(g, at, sums);
  }
}
