// Adds the partial sums of the tasks of each kernel (or of each group of a layer), in order, one thread
// for each weight. The tasks of kernel n are `first[n]` to `first[n + 1] - 1`. OUT_T is the dtype of the
// weights.

__device__ inline void plus(double& a, double b) { a += b; }
template <class R> __device__ inline void plus(Complex<R>& a, Complex<R> b) {
  a.re += b.re;
  a.im += b.im;
}
// The gradient with respect to real weights is the real part.
template <class T> __device__ inline void finish(T& o, double v) { narrow(o, v); }
template <class T> __device__ inline void finish(T& o, Complex<double> v) { narrow(o, v.re); }
template <class R> __device__ inline void finish(Complex<R>& o, Complex<double> v) { narrow(o, v); }

extern "C" __global__ void weight_gradient_sum(const WIDE* __restrict__ partial,
                                       const long long* __restrict__ first, long long kernels,
                                       long long taps, OUT_T* __restrict__ out) {
  long long step = (long long)gridDim.x * (BLOCK_X * BLOCK_Y);
  for (long long n = (long long)blockIdx.x * (BLOCK_X * BLOCK_Y) + threadIdx.y * BLOCK_X +
                     threadIdx.x;
       n < kernels * taps; n += step) {
    long long kernel = n / taps, tap = n - kernel * taps;
    WIDE total;
    clear(total);
    for (long long task = first[kernel]; task < first[kernel + 1]; ++task)
      plus(total, partial[task * taps + tap]);
    finish(out[n], total);
  }
}
