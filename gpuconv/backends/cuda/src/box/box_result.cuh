// Weights finished sums and writes results (box_across.cu, box_short.cu).
#pragma once

__device__ inline u64 whole(int a) { return (u64)(i64)a; }
__device__ inline u64 whole(Signed a) { return a.v; }
__device__ inline u64 whole(Unsigned a) { return a.v; }
template <class T> __device__ inline double real(T a) { return a; }
template <class A> __device__ inline bool is_finite(A a) { return a - a == 0; }
__device__ inline bool is_finite(Complex<double> a) { return is_finite(a.re) && is_finite(a.im); }

// Integers wrap around, as their sums do.
template <class A> __device__ inline void weigh(Signed& to, A sum, const BoxScale& scale) {
  to.v = whole(sum) * scale.whole;
}
template <class A> __device__ inline void weigh(Unsigned& to, A sum, const BoxScale& scale) {
  to.v = whole(sum) * scale.whole;
}
__device__ inline double weighed(double sum, const BoxScale& scale) {
  return scale.divisor != 0 ? sum / scale.divisor : sum * scale.real;
}
template <class R> __device__ inline void weigh_real(R& to, double sum, const BoxScale& scale) {
  to = (R)weighed(sum, scale);
}
template <class A> __device__ inline void weigh(float& to, A sum, const BoxScale& scale) {
  weigh_real(to, real(sum), scale);
}
template <class A> __device__ inline void weigh(double& to, A sum, const BoxScale& scale) {
  weigh_real(to, real(sum), scale);
}
template <class R>
__device__ inline void weigh(Complex<R>& to, Complex<double> a, const BoxScale& scale) {
  if (scale.divisor != 0) {
    to = {(R)(a.re / scale.divisor), (R)(a.im / scale.divisor)};
  } else {
    to.re = (R)(a.re * scale.real - a.im * scale.imaginary);
    to.im = (R)(a.re * scale.imaginary + a.im * scale.real);
  }
}

#if SHRUNK
// For sums of shrunk pixels: the factor goes to the weight if that is below 1, otherwise to the product.
__device__ inline void weigh_shrunk(double& to, double sum, BoxScale scale, double grow) {
  if (scale.divisor != 0) to = sum / scale.divisor * grow;
  else if (fabs(scale.real) >= 1) to = sum * scale.real * grow;
  else to = sum * (scale.real * grow);
}
__device__ inline void weigh_shrunk(Complex<double>& to, Complex<double> a, BoxScale scale, double grow) {
  double last = grow;
  if (scale.divisor == 0 && fmax(fabs(scale.real), fabs(scale.imaginary)) < 1) {
    scale.real *= grow, scale.imaginary *= grow;
    last = 1;
  }
  weigh(to, a, scale);
  to = {to.re * last, to.im * last};
}
#endif

// Where the results of an image are, and how they are weighted.
struct Target {
  char* out;
  BoxScale scale;
};

__device__ inline Target target_of(const Box& g, const BoxScale* scales, char* out, i64 image) {
  i64 kernel = 0;
  image += g.first_image;
#pragma unroll 1
  for (int n = g.leads - 1; n >= 0; --n) {
    i64 rest = image / g.lead[n], index = image - rest * g.lead[n];
    out += index * g.out_lead[n];
    kernel += index * g.k_lead[n];
    image = rest;
  }
  return {out, scales[kernel]};
}

// Writes the result of a row of the chunk and a column.
__device__ inline void finish(const Box& g, const Held& sum, const Target& target, i64 row, i64 column) {
  ACC result;
#if SHRUNK
  if (!is_finite(sum.sum)) weigh_shrunk(result, sum.shrunk, target.scale, 1 / g.shrink);
  else
#endif
    weigh(result, sum.sum, target.scale);
  narrow(*(OUT_T*)(target.out + (g.first_row + row) * g.out_row + column * g.out_column), result);
}
