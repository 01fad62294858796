// Converts and stores the sums of each tile that no wrap-around reached. A tile is flagged, to be summed
// directly, unless its sums are finite and their errors shown to be at most 64 eps of the largest sum of
// absolute values among those stored.
//
// The error of a transform depends on all pixels of the tile and on all sums of its plane: a large one
// pollutes the sums that are kept even if it is discarded itself. In units of eps the error is at most
//   8 (|x| (|K| + max |K^|) / sqrt(N) + max |Y|)
// with Euclidean norms |x| and |K|, the kernel's spectrum K^, the number N of elements of the tile and
// all sums Y of the plane. The first term bounds rounding errors, the second copies of a sum that inexact
// twiddle factors leave elsewhere. (Of thousands of tiles measured, the worst had 0.4 of this.)

#ifdef __CUDA_ARCH__
// Returns its argument, but hides from the compiler that it does. The tests' emulator defines it itself.
__device__ inline unsigned opaque(unsigned value) {
  asm volatile("" : "+r"(value));
  return value;
}
#endif

constexpr double EPS = FLOAT32 ? 0x1p-23 : 0x1p-52, ALLOWED = 64;

__device__ inline unsigned size_bits(float v) { return __float_as_uint(v) & ~0u >> 1; }
__device__ inline unsigned long long size_bits(double v) {
  return (unsigned long long)__double_as_longlong(v) & ~0ull >> 1;
}
// Of a complex number, the larger part: the absolute value is at most sqrt(2) times that.
template <class R> __device__ inline auto size_bits(Complex<R> v) {
  auto re = size_bits(v.re), im = size_bits(v.im);
  return re < im ? im : re;
}
typedef decltype(size_bits(Real())) Bits;
__device__ inline double size_of(unsigned bits) { return __uint_as_float(bits); }
__device__ inline double size_of(unsigned long long bits) { return __longlong_as_double(bits); }
constexpr double ROOT = sizeof(ACC) == sizeof(Real) ? 1 : 1.4142135623730952;

// The larger of two, where NaN is larger than all numbers.
struct Maximum { Bits bits; };
__device__ inline void combine(Maximum& a, const Maximum& b) { a.bits = a.bits < b.bits ? b.bits : a.bits; }
struct Sum { double value; };
__device__ inline void combine(Sum& a, const Sum& b) { a.value += b.value; }

// Bound of the error of any sum, in units of eps, if no sum of the plane is larger than `most`; NaN if
// sums may overflow on their way. Sizes are those of the multiples that were transformed (see SIZE in
// structs.py).
__device__ inline double error_of(const Overlap& g, const Size& x, const Size& k, double most) {
  double rounding = x.norm * (k.norm + sqrt(__longlong_as_double(k.peak)));
  double error = 8 * (rounding / sqrt((double)g.ny * g.nx) + most);
  double largest = ldexp(x.norm * k.norm, x.exponent + k.exponent);
  return largest < (FLOAT32 ? 0x1p126 : 0x1p1022) ? error : __longlong_as_double(~0ull >> 1);
}

// Whether a kept sum of this size shows that the error is allowed.
__device__ inline bool allowed(double error, double kept) {
  return error <= ALLOWED * (kept - error * EPS);
}

__device__ inline double size_of(float v, double factor) { return fabs((double)v) * factor; }
__device__ inline double size_of(double v, double factor) { return fabs(v) * factor; }
// At least 0.92 of the absolute value, and never more.
template <class R> __device__ inline double size_of(Complex<R> v, double factor) {
  double re = fabs((double)v.re) * factor, im = fabs((double)v.im) * factor;
  return fmax(fmax(re, im), 0.7071067811865475 * (re + im));
}

// Sum of absolute values at an output (or a little less, if complex), computed by all threads of a
// block together.
__device__ inline double sum_at(const Overlap& g, const char* x, ACC fill, const ACC* taps, i64 i,
                                i64 j, double of_x, double of_k) {
  Sum total = {0};
  for (unsigned n = thread_of_block(); n < (unsigned)g.p * g.q; n += THREADS) {
    unsigned a = n / g.q, b = n - a * g.q;
    i64 row = border(i * g.sy + (i64)a * g.dy - g.top, g.h, g.boundary);
    i64 column = border(j * g.sx + (i64)b * g.dx - g.left, g.w, g.boundary);
    ACC value = fill;
    if (row >= 0 && column >= 0)
      widen(value, *(const X_T*)(x + row * g.x_row + column * g.x_column));
    total.value += size_of(value, of_x) * size_of(taps[n], of_k);
  }
  return reduce_block(total).value;
}

// Whether nothing shows that the sums of a tile are exact enough; called by all threads of a block.
__device__ inline bool is_polluted(const Overlap& g, ACC fill, const ACC* weights, const char* x,
                                   const Size* sizes, const Largest* largest, i64 n) {
  FftTile at = fft_tile(g, n, x, 0);
  const Size &of_x = sizes[g.kernels + n / g.fan_out], &of_k = sizes[at.kernel];
  double error = error_of(g, of_x, of_k, ROOT * __longlong_as_double(largest[n].all));
  if (allowed(error, __longlong_as_double(largest[n].kept))) return false;
  const ACC* taps = weights + (g.kernel0 + at.kernel) * g.p * g.q;
  // Products of float32 fit float64 as they are, those of float64 only as multiples.
  double factor_x = FLOAT32 ? 1 : ldexp(1., -of_x.exponent);
  double factor_k = FLOAT32 ? 1 : ldexp(1., -of_k.exponent);
  double least = error / ALLOWED * (FLOAT32 ? ldexp(1., of_x.exponent + of_k.exponent) : 1);
  // Where terms cancel, as those of zero-sum kernels do, even the largest sum may be small. Then the
  // sums of absolute values at a few outputs may show it, beginning with the one in the middle.
#pragma unroll 1
  for (int k = 0; k < 9 && least == least; ++k) {
    int i = (k / 3 + 1) % 3 * (at.rows - 1) / 2, j = (k % 3 + 1) % 3 * (at.columns - 1) / 2;
    double sum = sum_at(g, at.x, fill, taps, at.i0 + i, at.j0 + j, factor_x, factor_k);
    if (least <= sum) return false;
  }
  return true;
}

template <class T> __device__ inline T rounded(T v) { return rint(v); }
template <class R> __device__ inline Complex<R> rounded(Complex<R> v) { return v; }
template <class T> __device__ inline T times(T v, T factor) { return v * factor; }
template <class R> __device__ inline Complex<R> times(Complex<R> v, R factor) {
  return {v.re * factor, v.im * factor};
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
  // In two factors, because their product may be out of range.
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
    shown = allowed(error_of(g, of_x, of_k, most), kept);
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
  // Few tiles come here, so what they need is computed again rather than kept in registers.
  i64 tile = opaque(blockIdx.x) / slabs;
  if (!is_polluted(g, fill, weights, x, sizes, largest, tile)) return;
  if (leader) atomicOr(flags + tile, 1);
}
