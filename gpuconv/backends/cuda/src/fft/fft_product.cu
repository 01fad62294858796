// Multiplies the spectra of tiles by the conjugate spectrum of their kernel and by the transforms' norm,
// 16 bytes at once. A thread stays at the same frequencies for a run of RUN tiles, so that the kernel's
// spectrum is read once for the run. The run with the first tile of a kernel also finds the largest bin
// of its spectrum.

#ifdef __CUDA_ARCH__
// Reads a value that other blocks may be changing. The tests' emulator defines it itself.
__device__ inline unsigned long long read_volatile(const unsigned long long* at) {
  return *(const volatile unsigned long long*)at;
}
#endif

struct alignas(16) Bins { Bin at[16 / sizeof(Bin)]; };

// `from` holds the spectra of the tiles as gathered, and may be `to` itself where fan_out is 1.
extern "C" __global__ void __launch_bounds__(BLOCK_X * BLOCK_Y, 4)
fft_product(const __grid_constant__ Overlap g, i64 length, Real norm,
            const Bins* __restrict__ spectra, const Bins* from, Bins* to, Size* sizes) {
  i64 across = (length + THREADS - 1) / THREADS;
  i64 at = blockIdx.x % across * THREADS + threadIdx.y * BLOCK_X + threadIdx.x;
  if (at >= length) return;
  i64 begin = blockIdx.x / across * RUN, end = begin + RUN < g.count ? begin + RUN : g.count;
  i64 kernel = kernel_of(g, begin), held = -1, source = begin / g.fan_out;
  i64 left = (kernel + 1) * g.images * g.tiles - g.first - begin;  // tiles of this kernel
  Bins factor = {};
  for (i64 n = begin; n < end; ++n) {
    if (kernel != held) {
      factor = spectra[kernel * length + at];
      held = kernel;
      if (g.fan_out > 1 ? g.first + n < g.fan_out : left == g.images * g.tiles) {
        unsigned long long most = 0;
#pragma unroll
        for (Bin bin : factor.at) {
          auto bits = (unsigned long long)__double_as_longlong(bin.re * bin.re + bin.im * bin.im);
          most = bits > most ? bits : most;  // NaN is larger than all numbers
        }
        most &= ~0ull >> 1;
        if (most > read_volatile(&sizes[kernel].peak)) atomicMax(&sizes[kernel].peak, most);
      }
    }
    Bins value = from[source * length + at];
#pragma unroll
    for (int k = 0; k < (int)(16 / sizeof(Bin)); ++k) {
      // The norm first, so that fewer products overflow.
      Real re = value.at[k].re * norm, im = value.at[k].im * norm;
      value.at[k].re = re * factor.at[k].re + im * factor.at[k].im;
      value.at[k].im = im * factor.at[k].re - re * factor.at[k].im;
    }
    to[n * length + at] = value;
    if (g.fan_out == 1) {
      ++source;
      if (--left == 0) ++kernel, left = g.images * g.tiles;
    } else if (++kernel == g.fan_out) {
      ++source, kernel = 0;
    }
  }
}
