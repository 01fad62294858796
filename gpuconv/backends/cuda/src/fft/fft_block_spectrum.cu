// Transforms kernels: a block spreads one in a tile, taps at steps of the dilation, and writes its spectrum
// times the transforms' norm, in the order in which fft_block.cu multiplies by it. A complex kernel is
// conjugated, because spectra are conjugated again when they are multiplied.

__device__ inline Bin conjugate_bin(Real value) { return {value, 0}; }
__device__ inline Bin conjugate_bin(Bin value) { return {value.re, -value.im}; }

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
fft_block_spectrum(const __grid_constant__ Overlap g, const ACC* __restrict__ weights,
                   Bins* __restrict__ spectra, Size* __restrict__ sizes) {
  SHARED_MEMORY(Cell, tile);
  Real* of_warps = (Real*)(tile + NY * PITCH);
  const ACC* taps = weights + (g.kernel0 + blockIdx.x) * g.p * g.q;
  Norm norm = {1 / LEAST, 0, 0};
#pragma unroll 1
  for (i64 n = thread_of_block(); n < (i64)g.p * g.q; n += THREADS) measure(norm, taps[n]);
  Size size = size_of_norm(reduce_block(norm), SAFE);
  __syncthreads();  // all threads have read it where the tile will be
  Real factor = ldexp((Real)1, -size.exponent);
  int dy = (int)min(g.dy, (i64)NY), dx = (int)min(g.dx, (i64)NX);  // of one tap it does not matter
  transform_columns_first(tile, [&](Bin (&v)[Down::FIRST], int row, int column) {
    int b = column % dx ? g.q : column / dx;
#pragma unroll
    for (int k = 0; k < Down::FIRST; ++k) {
      int y = row + k * Down::SECOND, a = y % dy ? g.p : y / dy;
      v[k] = {0, 0};
      if (a >= g.p || b >= g.q) continue;
      Bin tap = conjugate_bin(taps[(i64)a * g.q + b]);
      v[k] = {tap.re * factor, tap.im * factor};
    }
  });
  __syncthreads();
  transform_columns_second<false>(tile);
  __syncthreads();
  transform_rows_first<false>(tile);
  __syncthreads();
  Bins* spectrum = spectra + blockIdx.x * (i64)(ELEMENTS / PER_GRANULE);
  write_of_warp(of_warps, write_spectrum(tile, (Real)1 / ELEMENTS, spectrum), Larger());
  __syncthreads();
  double peak = read_of_warps(of_warps, Larger());
  if (thread_of_block() != 0) return;
  size.peak = (unsigned long long)__double_as_longlong(peak);
  sizes[blockIdx.x] = size;
}
