// Conversion of dtypes: `widen` turns a stored element into a term of a sum, `narrow` a finished sum
// into a stored element. It needs no CUDA header, so that NVRTC of any version builds it. Where the
// hardware has an instruction, an ordinary C++ compiler gets the same result by integer arithmetic.
#pragma once

typedef long long i64;
typedef unsigned long long u64;

struct Half { unsigned short bits; };
struct Bfloat { unsigned short bits; };
template <class T> struct Complex { T re, im; };

// Accumulators of integers. Both are unsigned inside, because overflow is defined there; the type says
// whether the 64 bits mean a signed number.
struct Signed { unsigned long long v; };
struct Unsigned { unsigned long long v; };

#ifdef __CUDA_ARCH__
__device__ inline float half_to_float(unsigned short h) {
  float wide;
  asm("cvt.f32.f16 %0, %1;" : "=f"(wide) : "h"(h));
  return wide;
}
__device__ inline unsigned short float_to_half(float value) {
  unsigned short h;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(value));
  return h;
}
#else
__device__ inline float half_to_float(unsigned short h) {
  unsigned magnitude = (h & 0x7fffu) << 13;
  // Multiplying by 2^112 corrects the exponent's bias and turns subnormal halves into normal floats.
  unsigned bits = __float_as_uint(__uint_as_float(magnitude) * 5192296858534827628530496329220096.f);
  if ((h & 0x7c00u) == 0x7c00u) bits = magnitude | 0x7f800000u;
  return __uint_as_float(bits | (h & 0x8000u) << 16);
}

__device__ inline unsigned short float_to_half(float value) {
  unsigned bits = __float_as_uint(value), sign = bits >> 16 & 0x8000u, a = bits & 0x7fffffffu, h;
  if (a > 0x7f800000u) h = 0x7e00u;
  else if (a >= 0x47800000u) h = 0x7c00u;
  else if (a < 0x38800000u) h = (unsigned)rintf(__uint_as_float(a) * 16777216.f);  // subnormal
  else h = (a + 0xfffu + (a >> 13 & 1u) - 0x38000000u) >> 13;
  return (unsigned short)(h | sign);
}
#endif

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
__device__ inline unsigned short float_to_bfloat(float value) {
  unsigned short h;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(h) : "f"(value));
  return h;
}
// Two floats as two halves, the first in the low bits: one instruction instead of three.
__device__ inline unsigned pack(Half, float low, float high) {
  unsigned both;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
  return both;
}
__device__ inline unsigned pack(Bfloat, float low, float high) {
  unsigned both;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
  return both;
}
#else
__device__ inline unsigned short float_to_bfloat(float value) {
  unsigned bits = __float_as_uint(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return (unsigned short)(bits >> 16 | 0x40u);
  return (unsigned short)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}
__device__ inline unsigned pack(Half, float low, float high) {
  return float_to_half(low) | (unsigned)float_to_half(high) << 16;
}
__device__ inline unsigned pack(Bfloat, float low, float high) {
  return float_to_bfloat(low) | (unsigned)float_to_bfloat(high) << 16;
}
#endif

// Round to odd: a double becomes a float whose last bit is set if any bits were lost. Rounding that
// float to 16 bits gives the same as rounding the double directly; rounding twice to nearest would not.
__device__ inline float round_to_odd(double value) {
  float near = (float)value;
  if (value != value || (double)near == value) return near;
  unsigned bits = __float_as_uint(near);
  if (fabs((double)near) > fabs(value)) bits -= 1;
  return __uint_as_float(bits | 1u);
}

// widen(sum_type, element): the element converted to the type of the sum.
template <class A> __device__ inline void put(A& a, double v) { a = (A)v; }
template <class T> __device__ inline void widen(float& a, T v) { a = (float)v; }
template <class T> __device__ inline void widen(double& a, T v) { a = (double)v; }
__device__ inline void widen(float& a, Half v) { a = half_to_float(v.bits); }
__device__ inline void widen(double& a, Half v) { a = half_to_float(v.bits); }
__device__ inline void widen(float& a, Bfloat v) { a = __uint_as_float((unsigned)v.bits << 16); }
__device__ inline void widen(double& a, Bfloat v) { a = __uint_as_float((unsigned)v.bits << 16); }
template <class T> __device__ inline void widen(Signed& a, T v) {
  a.v = (unsigned long long)(long long)v;
}
template <class T> __device__ inline void widen(Unsigned& a, T v) { a.v = (unsigned long long)v; }
template <class R, class T> __device__ inline void widen(Complex<R>& a, T v) {
  widen(a.re, v);
  a.im = 0;
}
template <class R, class S> __device__ inline void widen(Complex<R>& a, Complex<S> v) {
  a.re = (R)v.re;
  a.im = (R)v.im;
}

// One multiply-add. Fused explicitly, so that no compiler flag decides whether it is.
__device__ inline void add(float& a, float w, float x) { a = fmaf(w, x, a); }
__device__ inline void add(double& a, double w, double x) { a = fma(w, x, a); }
__device__ inline void add(Signed& a, Signed w, Signed x) { a.v += w.v * x.v; }
__device__ inline void add(Unsigned& a, Unsigned w, Unsigned x) { a.v += w.v * x.v; }
template <class R>
__device__ inline void add(Complex<R>& a, Complex<R> w, Complex<R> x) {
  add(a.re, w.re, x.re);
  add(a.re, -w.im, x.im);
  add(a.im, w.re, x.im);
  add(a.im, w.im, x.re);
}

__device__ inline void clear(float& a) { a = 0; }
__device__ inline void clear(double& a) { a = 0; }
__device__ inline void clear(Signed& a) { a.v = 0; }
__device__ inline void clear(Unsigned& a) { a.v = 0; }
template <class R> __device__ inline void clear(Complex<R>& a) { a.re = 0; a.im = 0; }

// The sum of the two chains of a mirrored sum (see mirrored_sums.cuh).
template <class A> __device__ inline A combine_chains(A a, A b) { return a + b; }
__device__ inline Signed combine_chains(Signed a, Signed b) { return {a.v + b.v}; }
__device__ inline Unsigned combine_chains(Unsigned a, Unsigned b) { return {a.v + b.v}; }
template <class R> __device__ inline Complex<R> combine_chains(Complex<R> a, Complex<R> b) {
  return {a.re + b.re, a.im + b.im};
}

// How two weights at mirrored places compare: bit 0 if equal, bit 1 if opposite, and bits 2 and 3 the
// same for imaginary parts.
template <class A> __device__ inline int alike(A a, A b) { return (a == b) | (a == -b) << 1 | 12; }
__device__ inline int alike(Signed, Signed) { return 0; }
__device__ inline int alike(Unsigned, Unsigned) { return 0; }
template <class R> __device__ inline int alike(Complex<R> a, Complex<R> b) {
  return (alike(a.re, b.re) & 3) | (alike(a.im, b.im) & 3) << 2;
}

// The range of an integer type (<limits> is a header).
template <class T> struct Range {
  static constexpr bool negative = (T)-1 < (T)0;
  static constexpr T most =
      negative ? (T)((((T)1 << (sizeof(T) * 8 - 2)) - 1) * 2 + 1) : (T)~(T)0;
  static constexpr T least = negative ? (T)(-most - 1) : (T)0;
};

// narrow(element, sum): rounds to nearest even; integers saturate, and NaN becomes 0.
template <class T> __device__ inline void narrow_float(T& o, double v, double rounded) {
  // As floats the limits are exact or round up to a power of two: the comparisons are exact.
  if (rounded >= (double)Range<T>::most) o = Range<T>::most;
  else if (rounded <= (double)Range<T>::least) o = Range<T>::least;
  else o = v != v ? (T)0 : (T)rounded;
}
template <class T> __device__ inline void narrow(T& o, float v) {
  if constexpr (sizeof(T) <= 2) {  // floats hold the limits
    float most = (float)Range<T>::most, least = (float)Range<T>::least;
    o = v != v ? (T)0 : (T)(int)fminf(fmaxf(rintf(v), least), most);
  } else {
    narrow_float(o, v, rintf(v));
  }
}
template <class T> __device__ inline void narrow(T& o, double v) { narrow_float(o, v, rint(v)); }
__device__ inline void narrow(float& o, float v) { o = v; }
__device__ inline void narrow(double& o, float v) { o = v; }
__device__ inline void narrow(float& o, double v) { o = (float)v; }
__device__ inline void narrow(double& o, double v) { o = v; }
__device__ inline void narrow(Half& o, float v) { o.bits = float_to_half(v); }
__device__ inline void narrow(Bfloat& o, float v) { o.bits = float_to_bfloat(v); }
__device__ inline void narrow(Half& o, double v) { o.bits = float_to_half(round_to_odd(v)); }
__device__ inline void narrow(Bfloat& o, double v) { o.bits = float_to_bfloat(round_to_odd(v)); }

// A 64-bit integer as a double, rounded to odd.
__device__ inline double odd_double(unsigned long long magnitude, bool negative) {
  if (magnitude >> 53) {
    unsigned long long rest = magnitude & 0x7ff;
    magnitude = (magnitude & ~0x7ffull) | (rest ? 0x800ull : 0);
  }
  double d = (double)magnitude;
  return negative ? -d : d;
}
template <class T> __device__ inline void narrow(T& o, Signed s) {
  long long v = (long long)s.v;
  if (!Range<T>::negative && v < 0) o = 0;
  else if (sizeof(T) < 8 && v > (long long)Range<T>::most) o = Range<T>::most;
  else if (sizeof(T) < 8 && v < (long long)Range<T>::least) o = Range<T>::least;
  else o = (T)v;
}
template <class T> __device__ inline void narrow(T& o, Unsigned s) {
  o = s.v > (unsigned long long)Range<T>::most ? Range<T>::most : (T)s.v;
}
__device__ inline void narrow(float& o, Signed s) { o = (float)(long long)s.v; }
__device__ inline void narrow(double& o, Signed s) { o = (double)(long long)s.v; }
__device__ inline void narrow(float& o, Unsigned s) { o = (float)s.v; }
__device__ inline void narrow(double& o, Unsigned s) { o = (double)s.v; }
template <class O> __device__ inline void narrow_wide(O& o, Signed s) {
  bool negative = (long long)s.v < 0;
  narrow(o, odd_double(negative ? 0 - s.v : s.v, negative));
}
__device__ inline void narrow(Half& o, Signed s) { narrow_wide(o, s); }
__device__ inline void narrow(Bfloat& o, Signed s) { narrow_wide(o, s); }
__device__ inline void narrow(Half& o, Unsigned s) { narrow(o, odd_double(s.v, false)); }
__device__ inline void narrow(Bfloat& o, Unsigned s) { narrow(o, odd_double(s.v, false)); }
// One overload for each type of sum: a template would be ambiguous with those above.
template <class O, class A> __device__ inline void narrow_real(Complex<O>& o, A v) {
  narrow(o.re, v);
  o.im = 0;
}
template <class O> __device__ inline void narrow(Complex<O>& o, float v) { narrow_real(o, v); }
template <class O> __device__ inline void narrow(Complex<O>& o, double v) { narrow_real(o, v); }
template <class O> __device__ inline void narrow(Complex<O>& o, Signed v) { narrow_real(o, v); }
template <class O> __device__ inline void narrow(Complex<O>& o, Unsigned v) { narrow_real(o, v); }
template <class O, class R> __device__ inline void narrow(Complex<O>& o, Complex<R> v) {
  o.re = (O)v.re;
  o.im = (O)v.im;
}

// Two neighbouring elements at once.
template <class O, class A> __device__ inline void narrow_two(O* to, A a, A b) {
  narrow(to[0], a);
  narrow(to[1], b);
}
__device__ inline void narrow_two(Half* to, float a, float b) {
  unsigned both = pack(Half(), a, b);
  to[0].bits = (unsigned short)both;
  to[1].bits = (unsigned short)(both >> 16);
}
__device__ inline void narrow_two(Bfloat* to, float a, float b) {
  unsigned both = pack(Bfloat(), a, b);
  to[0].bits = (unsigned short)both;
  to[1].bits = (unsigned short)(both >> 16);
}
