// Separable correlation of any stride, dilation and size, in the same order of sums as separable.cu:
// a block loads its tile and halo, sums columns of taps into a band of partial results in shared
// memory, and rows of taps from there, once for every term of the kernel's rank; kernels too large
// for one shared tile go through it in chunks of taps.
//
// Weights of one kernel: for each term, p vertical ones and then q horizontal ones.

extern "C" __global__ void __launch_bounds__(BLOCK_X * BLOCK_Y, 2)
separable_strided(const __grid_constant__ Geometry g, WEIGHTS_PARAMETER, ACC fill,
                  const char* __restrict__ x, char* __restrict__ out) {
  SHARED_MEMORY(ACC, shared);
  Tile largest(g.chunk_p, g.chunk_q);
  ACC* partial = shared + largest.rows * largest.pitch;  // TILE_Y rows of the tile's columns
  bool once = g.chunk_p >= g.p && g.chunk_q >= g.q;  // one load serves all terms
  for (i64 number = blockIdx.x; number < g.tiles; number += gridDim.x) {
    Place at = place_of(g, number, x, out);
#if BY_VALUE
    const ACC* taps = weights.at;
#else
    const ACC* taps = weights + at.kernel * g.weights;
#endif
    ACC sums[ROWS];
#pragma unroll
    for (int o = 0; o < ROWS; ++o) clear(sums[o]);
    for (int term = 0; term < g.rank; ++term) {
      const ACC* u = taps + term * (g.p + g.q);
      const ACC* v = u + g.p;
      for (int b0 = 0; b0 < g.q; b0 += g.chunk_q) {
        int taps_x = min(g.chunk_q, g.q - b0);
        for (int a0 = 0; a0 < g.p; a0 += g.chunk_p) {
          int taps_y = min(g.chunk_p, g.p - a0);
          Tile tile(taps_y, taps_x);
          __syncthreads();  // the previous tile and partial results have been read
          if (!once || term == 0) load_tile(g, at, tile, a0, b0, taps_y, fill, shared);
          __syncthreads();
          for (int i = threadIdx.y; i < TILE_Y; i += BLOCK_Y) {
            for (int column = threadIdx.x; column < tile.columns; column += BLOCK_X) {
              ACC sum;
              if (a0 == 0) clear(sum);
              else sum = partial[i * tile.pitch + column];
              for (int a = 0; a < taps_y; ++a)
                add(sum, u[a0 + a], shared[tile.row(i, a, taps_y) * tile.pitch + column]);
              partial[i * tile.pitch + column] = sum;
            }
          }
        }
        __syncthreads();
        Tile tile(1, taps_x);
        for (int b = 0; b < taps_x; ++b) {
          ACC w = v[b0 + b];
#pragma unroll
          for (int o = 0; o < ROWS; ++o)
            add(sums[o], w,
                partial[(threadIdx.y * ROWS + o) * tile.pitch + tile.column(threadIdx.x, b)]);
        }
      }
    }
    store(g, at, sums);
  }
}
