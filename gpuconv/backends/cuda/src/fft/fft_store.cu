// Converts and stores the sums of each tile that no wrap-around reached. A tile is flagged, to be summed
// directly, unless fft_exactness.cuh shows that its sums are exact enough.

// Whether nothing shows that the sums of a tile are exact enough; called by all threads of a block.
__device__ inline bool is_polluted(const Overlap& g, ACC fill, const ACC* weights, const char* x,
                                   const Size* sizes, const Largest* largest, i64 n) {
  FftTile at = fft_tile(g, n, x, 0);
  const Size &of_x = sizes[g.kernels + n / g.fan_out], &of_k = sizes[at.kernel];
  double error = error_of(g, of_x, of_k, ROOT * __longlong_as_double(largest[n].all), OF_CUFFT);
  if (allowed(error, __longlong_as_double(largest[n].kept))) return false;
  const ACC* taps = weights + (g.kernel0 + at.kernel) * g.p * g.q;
  return !is_shown_by_terms(g, at, fill, taps, of_x.exponent, of_k.exponent, error);
}

extern "C" __global__ void __launch_bounds__(BLOCK_X * BLOCK_Y, 4)
fft_store(const __grid_constant__ Overlap g, ACC fill, const ACC* weights, const char* x,
          const ACC* __restrict__ tiles, const Size* sizes, Largest* largest, int* flags,
          char* __restrict__ out) {
  int slabs = (g.kept_y + SLAB - 1) / SLAB;
  i64 n = blockIdx.x / slabs;
  int slab = blockIdx.x % slabs;
  FftTile at = fft_tile(g, n, x, out);
  int begin = slab * SLAB, end = min(at.rows, begin + SLAB);
  int exponent = 0;
  if (!g.whole) exponent = sizes[g.kernels + n / g.fan_out].exponent + sizes[at.kernel].exponent;
  // Two factors, because their product may be out of range.
  int first = exponent < -RANGE ? -RANGE : exponent > RANGE ? RANGE : exponent;
  Real factor = ldexp((Real)1, first), rest = ldexp((Real)1, exponent - first);
  const ACC* plane = tiles + n * g.ny * g.nx;
  Maximum most = {0};
  for (int i = begin + threadIdx.y; i < end; i += BLOCK_Y) {
    const ACC* sums = plane + (i64)i * g.sy * g.nx;
    char* to = at.out + (at.i0 + i) * g.out_row + at.j0 * g.out_column;
#pragma unroll 4
    for (int j = threadIdx.x; j < at.columns; j += BLOCK_X) {
      ACC sum = sums[(i64)j * g.sx];
      combine(most, {size_bits(sum)});
      sum = times(times(sum, factor), rest);
      if (g.whole) sum = rounded(sum);
      narrow(*(OUT_T*)(to + j * g.out_column), sum);
    }
  }
  if (g.whole) return;
  double kept = size_of(reduce_block(most).bits);
  const Size &of_x = sizes[g.kernels + n / g.fan_out], &of_k = sizes[at.kernel];
  bool leader = thread_of_block() == 0, shown = false;
  if (leader) {
    if (!(kept - kept == 0)) atomicOr(flags + n, 1);
    // Two inequalities bound the largest sum of the plane without reading any.
    double taps = ROOT * of_x.most * sqrt((double)g.p * g.q);
    double most = (taps < of_x.norm ? taps : of_x.norm) * of_k.norm;
    shown = allowed(error_of(g, of_x, of_k, most, OF_CUFFT), kept);
  }
  // Most tiles end here. A block that returns is not counted as done, so that no block of the tile goes
  // on to the check below.
  if (__syncthreads_or(shown)) return;
  int rows = (g.ny + slabs - 1) / slabs, stop = min(g.ny, slab * rows + rows);
  for (int row = slab * rows + threadIdx.y; row < stop; row += BLOCK_Y) {
    bool seen = g.sy == 1 && g.sx == 1 && row < at.rows;
#pragma unroll 4
    for (int j = (seen ? at.columns : 0) + threadIdx.x; j < g.nx; j += BLOCK_X)
      combine(most, {size_bits(plane[(i64)row * g.nx + j])});
  }
  double all = size_of(reduce_block(most).bits);
  if (leader) {
    atomicMax(&largest[n].kept, (unsigned long long)__double_as_longlong(kept));
    atomicMax(&largest[n].all, (unsigned long long)__double_as_longlong(all));
  }
  if (!is_last_block(&largest[n].done, slabs)) return;
  // Few tiles get here, so what they need is computed again rather than kept in registers.
  i64 tile = opaque(blockIdx.x) / slabs;
  if (!is_polluted(g, fill, weights, x, sizes, largest, tile)) return;
  if (leader) atomicOr(flags + tile, 1);
}
