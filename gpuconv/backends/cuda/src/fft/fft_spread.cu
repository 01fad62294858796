// Writes kernels as tiles: taps at steps of the dilation, zeros between and after them. A complex kernel
// is conjugated, because spectra are conjugated again when they are multiplied. Kernels are measured like
// tiles.

__device__ inline void conjugate(float&) {}
__device__ inline void conjugate(double&) {}
template <class R> __device__ inline void conjugate(Complex<R>& a) { a.im = -a.im; }

extern "C" __global__ void __launch_bounds__(BLOCK_X * BLOCK_Y, 4)
fft_spread(const __grid_constant__ Overlap g, const ACC* __restrict__ weights,
           ACC* __restrict__ tiles, Norm* norms, Size* sizes) {
  int slabs = (g.ny + SLAB - 1) / SLAB;
  i64 n = blockIdx.x / slabs;
  int begin = blockIdx.x % slabs * SLAB, end = min(g.ny, begin + SLAB);
  const ACC* taps = weights + (g.kernel0 + n) * g.p * g.q;
  ACC* tile = tiles + n * g.ny * g.nx;
  Norm norm = {1 / LEAST, 0, 0};
  for (int y = begin + threadIdx.y; y < end; y += BLOCK_Y) {
    i64 a = y % g.dy ? g.p : y / g.dy;
    for (int x = threadIdx.x; x < g.nx; x += BLOCK_X) {
      i64 b = x % g.dx ? g.q : x / g.dx;
      ACC value;
      clear(value);
      if (a < g.p && b < g.q) value = taps[a * g.q + b];
      conjugate(value);
      measure(norm, value);
      tile[(i64)y * g.nx + x] = value;
    }
  }
  finish_measuring(g, norm, n, begin / SLAB, slabs, norms, sizes, tile, SAFE);
}
