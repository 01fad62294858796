// Direct correlation with any stride and dilation (direct.cu is for small ones). A block computes
// TILE_Y x TILE_X outputs: it loads their pixels into a tile in shared memory, and each thread sums ROWS
// outputs, one below the other. Kernels too large for one tile are summed in chunks of taps: some rows,
// or a part of one row. So the taps of a sum are added row by row, left to right, as in direct.cu. A
// single row or column of taps may be summed in mirrored order (see mirrored_sums.cuh).

#if MIRROR_Y || MIRROR_X
// Sums a single row or column of taps, run by run (see struct Runs).
__device__ inline void sum_runs(const Geometry& g, const OutputTile& at, const ACC* taps, ACC fill,
                                ACC (&sums)[ROWS], ACC* shared) {
  bool down = g.q == 1;
  int n = g.p * g.q, half = chain_length<(MIRROR_Y > MIRROR_X ? MIRROR_Y : MIRROR_X)>(taps, n, 1, 0);
  int chunk = down ? g.chunk_p : g.chunk_q, first = threadIdx.y * ROWS;
  bool once = chunk >= n;  // one tile serves all runs
  ACC first_chain[ROWS];
#pragma unroll
  for (int o = 0; o < ROWS; ++o) clear(first_chain[o]);  // see `factors` in tensor.cu
  for (Runs run(n, half, chunk); run.more(); run.next()) {
    if (run.part == LAST_CHAIN && run.begins()) {
#pragma unroll
      for (int o = 0; o < ROWS; ++o) {
        first_chain[o] = sums[o];
        clear(sums[o]);
      }
    }
    int from = once ? 0 : run.first, count = once ? n : run.count;
    int taps_y = down ? count : 1;
    Tile tile(g, taps_y, down ? 1 : count);
    if (!once || run.starts()) {
      __syncthreads();  // the previous tile has been read
      load_tile(g, at, tile, down ? from : 0, down ? 0 : from, taps_y, fill, shared);
      __syncthreads();
    }
    for (int t = 0; t < run.count; ++t) {
      int tap = run.tap(t), a = down ? tap - from : 0, b = down ? 0 : tap - from;
      const ACC* column = shared + tile.column(threadIdx.x, b);
#pragma unroll
      for (int o = 0; o < ROWS; ++o)
        add(sums[o], taps[tap], column[tile.row(first + o, a) * tile.pitch]);
    }
    if (run.part == LAST_CHAIN && run.ends()) {
#pragma unroll
      for (int o = 0; o < ROWS; ++o) sums[o] = combine_chains(first_chain[o], sums[o]);
    }
  }
}
#endif

extern "C" __global__ void __launch_bounds__(BLOCK_X * BLOCK_Y, 2)
direct_strided(const __grid_constant__ Geometry g, WEIGHTS_PARAMETER, ACC fill,
        const char* __restrict__ x, char* __restrict__ out) {
  SHARED_MEMORY(ACC, shared);
  for (i64 number = blockIdx.x; number < g.tiles; number += gridDim.x) {
    OutputTile at = output_tile(g, number, x, out);
    ACC sums[ROWS];
#pragma unroll
    for (int o = 0; o < ROWS; ++o) clear(sums[o]);
#if MIRROR_Y || MIRROR_X
#if BY_VALUE
    const ACC* taps = weights.at;
#else
    const ACC* taps = weights + at.kernel * g.weights;
#endif
    sum_runs(g, at, taps, fill, sums, shared);
#else
    int chunks = ((g.p + g.chunk_p - 1) / g.chunk_p) * ((g.q + g.chunk_q - 1) / g.chunk_q);
    for (int chunk = 0; chunk < chunks; ++chunk) {
      int across = (g.q + g.chunk_q - 1) / g.chunk_q;
      int a0 = chunk / across * g.chunk_p, b0 = chunk % across * g.chunk_q;
      int taps_y = min(g.chunk_p, g.p - a0), taps_x = min(g.chunk_q, g.q - b0);
      Tile tile(g, taps_y, taps_x);
      __syncthreads();  // the previous chunk has been read
      load_tile(g, at, tile, a0, b0, taps_y, fill, shared);
#if BY_VALUE
      const ACC* taps = weights.at + a0 * g.q + b0;
      int taps_pitch = g.q;
#else
      // After the largest tile; all threads read the same weight at once, which is one access.
      ACC* copied = shared + Tile(g, g.chunk_p, g.chunk_q).rows * Tile(g, g.chunk_p, g.chunk_q).pitch;
      for (int t = threadIdx.y * BLOCK_X + threadIdx.x; t < taps_y * taps_x; t += BLOCK_X * BLOCK_Y)
        copied[t] = weights[at.kernel * g.weights + (i64)(a0 + t / taps_x) * g.q + b0 + t % taps_x];
      const ACC* taps = copied;
      int taps_pitch = taps_x;
#endif
      __syncthreads();
      int first = threadIdx.y * ROWS;
      for (int a = 0; a < taps_y; ++a) {
        for (int b = 0; b < taps_x; ++b) {
          const ACC* column = shared + tile.column(threadIdx.x, b);
          ACC w = taps[a * taps_pitch + b];
#pragma unroll
          for (int o = 0; o < ROWS; ++o)
            add(sums[o], w, column[tile.row(first + o, a) * tile.pitch]);
        }
      }
    }
#endif
    store(g, at, sums);
  }
}
