// The sums of each tile that no wrap-around reached, converted and stored; a tile that holds one
// that is not finite is flagged.

template <class T> __device__ inline bool finite(T v) { return v - v == 0; }
template <class R> __device__ inline bool finite(Complex<R> v) {
  return finite(v.re) & finite(v.im);
}

extern "C" __global__ void __launch_bounds__(BLOCK_X * BLOCK_Y, 4)
fft_store(const __grid_constant__ Overlap g, const ACC* __restrict__ tiles, int* flags,
          char* __restrict__ out) {
  int slabs = (g.kept_y + SLAB - 1) / SLAB;
  i64 n = blockIdx.x / slabs;
  Spot at = spot_of(g, n, 0, out);
  int begin = blockIdx.x % slabs * SLAB, end = min(at.rows, begin + SLAB);
  bool bad = false;
  for (int i = begin + threadIdx.y; i < end; i += BLOCK_Y) {
    const ACC* sums = tiles + (n * g.ny + i * g.sy) * g.nx;
    char* to = at.out + (at.i0 + i) * g.out_row + at.j0 * g.out_column;
#pragma unroll 4
    for (int j = threadIdx.x; j < at.columns; j += BLOCK_X) {
      ACC sum = sums[j * g.sx];
      bad |= !finite(sum);
      narrow(*(OUT_T*)(to + j * g.out_column), sum);
    }
  }
  if (bad) atomicOr(flags + n, 1);
}
