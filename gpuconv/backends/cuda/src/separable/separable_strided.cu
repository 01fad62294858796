// Separable correlation with any stride, dilation and size, in the same order of sums as separable.cu.
// A block loads a tile of pixels, sums columns of taps into a band of partial results in shared memory,
// and sums rows of taps from there, for every term of the kernel's rank. Kernels too large for one tile
// are summed in chunks of taps.
//
// Weights of a kernel: for each term, p vertical ones and then q horizontal ones.

// Adds a run of a column of taps to the sum of output row i. `from` is the tap that the tile begins
// with; `first_chain` keeps the first chain's sum while the last one is computed in `sum`.
__device__ inline void add_run(const Runs& run, const ACC* taps, const ACC* column, const Tile& tile,
                               int i, int from, int taps_y, ACC& sum, ACC& first_chain) {
  if (run.part == LAST_CHAIN && run.begins()) {
    first_chain = sum;
    clear(sum);
  }
  for (int t = 0; t < run.count; ++t) {
    int a = run.tap(t);
    add(sum, taps[a], column[tile.row(i, a - from) * tile.pitch]);
  }
  if (run.part == LAST_CHAIN && run.ends()) sum = combine_chains(first_chain, sum);
}

extern "C" __global__ void __launch_bounds__(BLOCK_X * BLOCK_Y, BLOCKS)
separable_strided(const __grid_constant__ Geometry g, WEIGHTS_PARAMETER, ACC fill,
                  const char* __restrict__ x, char* __restrict__ out) {
  SHARED_MEMORY(ACC, shared);
  Tile largest(g, g.chunk_p, g.chunk_q);
  ACC* partial = shared + largest.rows * largest.pitch;  // TILE_Y rows of the tile's columns
  ACC* chains = partial + TILE_Y * largest.pitch;  // first chains, if columns are in mirrored order
  bool whole_y = g.chunk_p >= g.p, whole_x = g.chunk_q >= g.q;
  for (i64 number = blockIdx.x; number < g.tiles; number += gridDim.x) {
    OutputTile at = output_tile(g, number, x, out);
#if BY_VALUE
    const ACC* taps = weights.at;
#else
    const ACC* taps = weights + at.kernel * g.weights;
#endif
    int half_y = chain_length<MIRROR_Y>(taps, g.p, g.rank, g.p + g.q);
    int half_x = chain_length<MIRROR_X>(taps + g.p, g.q, g.rank, g.p + g.q);
    ACC sums[ROWS];
#pragma unroll
    for (int o = 0; o < ROWS; ++o) clear(sums[o]);
    for (int term = 0; term < g.rank; ++term) {
      const ACC* u = taps + term * (g.p + g.q);
      const ACC* v = u + g.p;
      // The sum of the terms before, and the first chain of this one.
      ACC terms[ROWS], first_chain[ROWS];
#pragma unroll
      for (int o = 0; o < ROWS; ++o) {
        clear(first_chain[o]);  // see `factors` in tensor.cu
        terms[o] = sums[o];
        if (half_x) clear(sums[o]);
      }
      for (Runs across(g.q, half_x, g.chunk_q); across.more(); across.next()) {
        int b0 = whole_x ? 0 : across.first, taps_x = whole_x ? g.q : across.count;
        Tile band(g, 1, taps_x);
        if (!whole_x || across.starts()) {
          for (Runs down(g.p, half_y, g.chunk_p); down.more(); down.next()) {
            int a0 = whole_y ? 0 : down.first, taps_y = whole_y ? g.p : down.count;
            Tile tile(g, taps_y, taps_x);
            __syncthreads();  // the previous tile and partial results have been read
            // One load serves all terms where it holds all taps.
            if (!whole_y || !whole_x || term == 0)
              load_tile(g, at, tile, a0, b0, taps_y, fill, shared);
            __syncthreads();
            for (int i = threadIdx.y; i < TILE_Y; i += BLOCK_Y) {
              for (int column = threadIdx.x; column < tile.columns; column += BLOCK_X) {
                int place = i * tile.pitch + column;
                ACC sum, chain;
                clear(sum);
                clear(chain);
                if (whole_y) {
                  for (Runs all(g.p, half_y, g.p); all.more(); all.next())
                    add_run(all, u, shared + column, tile, i, a0, taps_y, sum, chain);
                } else {
                  if (!down.starts()) sum = partial[place];
                  if (down.part == LAST_CHAIN && !down.begins()) chain = chains[place];
                  add_run(down, u, shared + column, tile, i, a0, taps_y, sum, chain);
                  if (down.part == LAST_CHAIN && !down.ends()) chains[place] = chain;
                }
                partial[place] = sum;
              }
            }
            if (whole_y) break;
          }
          __syncthreads();
        }
        if (across.part == LAST_CHAIN && across.begins()) {
#pragma unroll
          for (int o = 0; o < ROWS; ++o) {
            first_chain[o] = sums[o];
            clear(sums[o]);
          }
        }
        for (int t = 0; t < across.count; ++t) {
          int b = across.tap(t);
#pragma unroll
          for (int o = 0; o < ROWS; ++o)
            add(sums[o], v[b], partial[(threadIdx.y * ROWS + o) * band.pitch +
                                       band.column(threadIdx.x, b - b0)]);
        }
        if (across.part == LAST_CHAIN && across.ends()) {
#pragma unroll
          for (int o = 0; o < ROWS; ++o) sums[o] = combine_chains(first_chain[o], sums[o]);
        }
      }
      if (half_x) {
#pragma unroll
        for (int o = 0; o < ROWS; ++o) sums[o] = combine_chains(terms[o], sums[o]);
      }
    }
    store(g, at, sums);
  }
}
