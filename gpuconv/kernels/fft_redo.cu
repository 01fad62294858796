// Flagged tiles once more by direct summation, so that what is not finite stays in the windows that
// hold it. Blocks of all tiles are launched, which spares the host from waiting for the flags; those
// of a tile that is not flagged return at once.

extern "C" __global__ void __launch_bounds__(BLOCK_X * BLOCK_Y, 2)
fft_redo(const __grid_constant__ Overlap g, ACC fill, const ACC* __restrict__ weights,
         const char* __restrict__ x, const int* flags, char* out) {
  i64 n = blockIdx.x / g.parts;
  if (!flags[n]) return;
  Spot at = spot_of(g, n, x, out);
  const ACC* taps = weights + (g.kernel0 + at.kernel) * g.p * g.q;
  i64 thread = blockIdx.x % g.parts * (i64)THREADS + threadIdx.y * BLOCK_X + threadIdx.x;
  for (i64 number = thread; number < (i64)at.rows * at.columns; number += (i64)g.parts * THREADS) {
    i64 i = at.i0 + number / at.columns, j = at.j0 + number % at.columns;
    ACC sum;
    clear(sum);
    for (int a = 0; a < g.p; ++a) {
      i64 row = border(i * g.sy + a * g.dy - g.top, g.h, g.boundary);
      for (int b = 0; b < g.q; ++b) {
        i64 column = border(j * g.sx + b * g.dx - g.left, g.w, g.boundary);
        ACC value = fill;
        if (row >= 0 && column >= 0)
          widen(value, *(const X_T*)(at.x + row * g.x_row + column * g.x_column));
        add(sum, taps[(i64)a * g.q + b], value);
      }
    }
    narrow(*(OUT_T*)(at.out + i * g.out_row + j * g.out_column), sum);
  }
}
