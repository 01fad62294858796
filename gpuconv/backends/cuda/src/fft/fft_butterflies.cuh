// Transforms of 4, 8 or 16 numbers that a thread holds in registers, in natural order before and after.
// Twiddle factors are constants of the code.
#pragma once

__device__ inline Bin plus(Bin a, Bin b) { return {a.re + b.re, a.im + b.im}; }
__device__ inline Bin minus(Bin a, Bin b) { return {a.re - b.re, a.im - b.im}; }
__device__ inline Bin times(Bin a, Bin b) { return {a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re}; }
__device__ inline Bin times_conjugate(Bin a, Bin b) {
  return {a.re * b.re + a.im * b.im, a.im * b.re - a.re * b.im};
}

// Multiplies by exp(-2 pi i M / 16), or by its conjugate if INVERSE.
template <int M, bool INVERSE> __device__ inline Bin twiddled(Bin a) {
  constexpr Real HALF_ROOT = 0.70710678118654752440, COS = 0.92387953251128675613,
                 SIN = 0.38268343236508977173;  // of an eighth of pi
  if constexpr (M >= 8) {
    Bin b = twiddled<M - 8, INVERSE>(a);
    return {-b.re, -b.im};
  } else if constexpr (M >= 4) {
    Bin b = twiddled<M - 4, INVERSE>(a);
    return INVERSE ? Bin{-b.im, b.re} : Bin{b.im, -b.re};
  } else if constexpr (M == 0) {
    return a;
  } else if constexpr (M == 2) {
    return INVERSE ? Bin{(a.re - a.im) * HALF_ROOT, (a.im + a.re) * HALF_ROOT}
                   : Bin{(a.re + a.im) * HALF_ROOT, (a.im - a.re) * HALF_ROOT};
  } else {
    constexpr Bin factor = {M == 1 ? COS : SIN, M == 1 ? SIN : COS};
    return INVERSE ? times(a, factor) : times_conjugate(a, factor);
  }
}

template <bool INVERSE> __device__ inline void transform_four(Bin& a, Bin& b, Bin& c, Bin& d) {
  Bin even = plus(a, c), odd = minus(a, c), sum = plus(b, d);
  Bin difference = twiddled<4, INVERSE>(minus(b, d));
  a = plus(even, sum), c = minus(even, sum);
  b = plus(odd, difference), d = minus(odd, difference);
}

template <bool INVERSE> __device__ inline void transform(Bin (&v)[4]) {
  transform_four<INVERSE>(v[0], v[1], v[2], v[3]);
}

// Fours of every other number, then pairs.
template <bool INVERSE> __device__ inline void transform(Bin (&v)[8]) {
  transform_four<INVERSE>(v[0], v[2], v[4], v[6]);
  transform_four<INVERSE>(v[1], v[3], v[5], v[7]);
  Bin a = v[1], b = twiddled<2, INVERSE>(v[3]);
  Bin c = twiddled<4, INVERSE>(v[5]), d = twiddled<6, INVERSE>(v[7]);
  Bin even[4] = {v[0], v[2], v[4], v[6]};
  v[0] = plus(even[0], a), v[4] = minus(even[0], a);
  v[1] = plus(even[1], b), v[5] = minus(even[1], b);
  v[2] = plus(even[2], c), v[6] = minus(even[2], c);
  v[3] = plus(even[3], d), v[7] = minus(even[3], d);
}

// Fours of every fourth number, then fours of their results.
template <bool INVERSE> __device__ inline void transform(Bin (&v)[16]) {
#pragma unroll
  for (int n = 0; n < 4; ++n) transform_four<INVERSE>(v[n], v[n + 4], v[n + 8], v[n + 12]);
  v[5] = twiddled<1, INVERSE>(v[5]), v[6] = twiddled<2, INVERSE>(v[6]);
  v[7] = twiddled<3, INVERSE>(v[7]), v[9] = twiddled<2, INVERSE>(v[9]);
  v[10] = twiddled<4, INVERSE>(v[10]), v[11] = twiddled<6, INVERSE>(v[11]);
  v[13] = twiddled<3, INVERSE>(v[13]), v[14] = twiddled<6, INVERSE>(v[14]);
  v[15] = twiddled<9, INVERSE>(v[15]);
#pragma unroll
  for (int k = 0; k < 4; ++k)
    transform_four<INVERSE>(v[4 * k], v[4 * k + 1], v[4 * k + 2], v[4 * k + 3]);
  // Number k of the transform is now at 4 (k mod 4) + k / 4.
#pragma unroll
  for (int a = 0; a < 4; ++a)
#pragma unroll
    for (int b = 0; b < a; ++b) {
      Bin other = v[4 * a + b];
      v[4 * a + b] = v[4 * b + a];
      v[4 * b + a] = other;
    }
}
