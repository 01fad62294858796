// Sums short windows of columns tap by tap, and writes the results. Neighbouring threads read
// neighbouring columns, mostly from the cache.

extern "C" __global__ void __launch_bounds__(BLOCK_X)
box_short(const __grid_constant__ Box g, const __grid_constant__ BoxAxis x, Held border_sum,
          const Held* __restrict__ sums, const BoxScale* __restrict__ scales, char* __restrict__ out) {
  i64 count = g.rows * g.images * g.s;
  i64 number = (i64)blockIdx.x * BLOCK_X + threadIdx.x;
  if (number >= count) return;
  i64 row = quotient(number, g.s), j = number - row * g.s;
  const Held* from = sums + row * g.pitch;
  Held sum;
  clear(sum);
  i64 output = quotient(j, x.step);
  Walk walk(x, j - output * x.step, output * x.advance, true);
#pragma unroll 4
  for (int b = 0; b < (int)x.taps; ++b) {
    i64 column = walk.pixel(x, g.boundary);
    plus(sum, column < 0 ? border_sum : from[column]);
    walk.advance(x);
  }
  i64 image = quotient(row, g.rows);
  finish(g, sum, target_of(g, scales, out, image), row - image * g.rows, j);
}
