// Whether the sums of a tile are as exact as the method promises: finite, with errors shown to be at most
// 64 eps of the largest sum of absolute values among those stored.
//
// The error of a transform depends on all pixels of the tile and on all sums of its plane: a large one
// spoils the sums that are kept even if it is discarded itself. In units of eps the error is at most
//   c (|x| (|K| + max |K^|) / sqrt(N) + max |Y|)
// with c = 8 for cuFFT's transforms and c = 5 for those of fft_block.cuh, Euclidean norms |x| and |K|, the
// kernel's spectrum K^, the number N of elements of the tile and all sums Y of the plane. The first term
// bounds rounding errors, the second copies of a sum that inexact twiddle factors leave elsewhere. (Of
// thousands of tiles measured, the worst had 0.4 of this.) |x| and Y are those of complex tiles: where two
// tiles share one, of both.
#pragma once

constexpr double EPS = FLOAT32 ? 0x1p-23 : 0x1p-52, ALLOWED = 64;
constexpr double OF_CUFFT = 8, OF_BLOCKS = 5;

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

// Returns a bound of the error of any sum, in units of eps, if no sum of the plane is larger than `most`;
// NaN if sums may overflow in between. Sizes are those of the multiples that were transformed (see SIZE in
// structs.py).
__device__ inline double error_of(const Overlap& g, const Size& x, const Size& k, double most,
                                  double factor) {
  double rounding = x.norm * (k.norm + sqrt(__longlong_as_double(k.peak)));
  double error = factor * (rounding / sqrt((double)g.ny * g.nx) + most);
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

// Returns the sum of absolute values at an output (or a little less, if complex); computed by all threads
// of a block together.
__device__ inline double sum_at(const Overlap& g, const char* x, ACC fill, const ACC* taps, i64 i,
                                i64 j, double of_x, double of_k) {
  Sum total = {0};
  for (unsigned n = thread_of_block(); n < (unsigned)g.p * g.q; n += THREADS) {
    unsigned a = n / g.q, b = n - a * g.q;
    i64 row = image_row(g, i * g.sy + (i64)a * g.dy), column = image_column(g, j * g.sx + (i64)b * g.dx);
    ACC value = fill;
    if (row >= 0 && column >= 0)
      widen(value, *(const X_T*)(x + row * g.x_row + column * g.x_column));
    total.value += size_of(value, of_x) * size_of(taps[n], of_k);
  }
  return reduce_block(total).value;
}

// Whether terms that do not cancel show that the error of a tile is allowed; called by all threads of a
// block. Where terms cancel, as those of zero-sum kernels do, even the largest sum may be small: then the
// sums of absolute values at a few outputs may show it, beginning with the one in the middle.
__device__ inline bool is_shown_by_terms(const Overlap& g, const FftTile& at, ACC fill, const ACC* taps,
                                         int exponent_x, int exponent_k, double error) {
  // Products of float32 fit float64 as they are, those of float64 only as multiples.
  double factor_x = FLOAT32 ? 1 : ldexp(1., -exponent_x);
  double factor_k = FLOAT32 ? 1 : ldexp(1., -exponent_k);
  double least = error / ALLOWED * (FLOAT32 ? ldexp(1., exponent_x + exponent_k) : 1);
#pragma unroll 1
  for (int k = 0; k < 9 && least == least; ++k) {
    int i = (k / 3 + 1) % 3 * (at.rows - 1) / 2, j = (k % 3 + 1) % 3 * (at.columns - 1) / 2;
    double sum = sum_at(g, at.x, fill, taps, at.i0 + i, at.j0 + j, factor_x, factor_k);
    if (least <= sum) return true;
  }
  return false;
}

template <class T> __device__ inline T rounded(T v) { return rint(v); }
template <class R> __device__ inline Complex<R> rounded(Complex<R> v) { return v; }
template <class T> __device__ inline T times(T v, T factor) { return v * factor; }
template <class R> __device__ inline Complex<R> times(Complex<R> v, R factor) {
  return {v.re * factor, v.im * factor};
}
