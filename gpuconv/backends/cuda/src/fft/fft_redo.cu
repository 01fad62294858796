// Computes flagged tiles again by direct summation, so that a pixel that is not finite, or much larger
// than all others, affects only the windows that hold it. Blocks are launched for all tiles, so that the
// host need not wait for the flags; blocks of tiles that are not flagged return at once.

// One step of Kahan's compensated sum: its error is a few eps of the sum of absolute values, however
// many taps there are.
__device__ inline void add_exactly(Real& sum, Real& lost, Real w, Real x) {
  Real more = -lost;
  add(more, w, x);
  Real next = sum + more;
  lost = (next - sum) - more;
  sum = next;
}
__device__ inline void add_exactly(Complex<Real>& sum, Complex<Real>& lost, Complex<Real> w,
                                   Complex<Real> x) {
  add_exactly(sum.re, lost.re, w.re, x.re);
  add_exactly(sum.re, lost.re, -w.im, x.im);
  add_exactly(sum.im, lost.im, w.re, x.im);
  add_exactly(sum.im, lost.im, w.im, x.re);
}
// The compensation of an infinite sum is NaN, which spoils it: the plain sum is right then.
__device__ inline void settle(Real& sum, Real plain) {
  if (!(sum - sum == 0)) sum = plain;
}
__device__ inline void settle(Complex<Real>& sum, Complex<Real> plain) {
  settle(sum.re, plain.re);
  settle(sum.im, plain.im);
}

extern "C" __global__ void __launch_bounds__(BLOCK_X * BLOCK_Y, 2)
fft_redo(const __grid_constant__ Overlap g, ACC fill, const ACC* __restrict__ weights,
         const char* __restrict__ x, const int* flags, char* out) {
  i64 n = blockIdx.x / g.parts;
  if (!flags[n]) return;
  FftTile at = fft_tile(g, n, x, out);
  const ACC* taps = weights + (g.kernel0 + at.kernel) * g.p * g.q;
  i64 thread = blockIdx.x % g.parts * (i64)THREADS + threadIdx.y * BLOCK_X + threadIdx.x;
  for (i64 number = thread; number < (i64)at.rows * at.columns; number += (i64)g.parts * THREADS) {
    i64 i = at.i0 + number / at.columns, j = at.j0 + number % at.columns;
    ACC sum, lost, plain;
    clear(sum);
    clear(lost);
    clear(plain);
    for (int a = 0; a < g.p; ++a) {
      i64 row = image_row(g, i * g.sy + a * g.dy);
      for (int b = 0; b < g.q; ++b) {
        i64 column = image_column(g, j * g.sx + b * g.dx);
        ACC value = fill;
        if (row >= 0 && column >= 0)
          widen(value, *(const X_T*)(at.x + row * g.x_row + column * g.x_column));
        ACC weight = taps[(i64)a * g.q + b];
        add_exactly(sum, lost, weight, value);
        add(plain, weight, value);
      }
    }
    settle(sum, plain);
    narrow(*(OUT_T*)(at.out + i * g.out_row + j * g.out_column), sum);
  }
}
