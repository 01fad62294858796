// Sums of segments, SIDE columns of a phase each, of every row of a chunk. A block sums a square.

extern "C" __global__ void __launch_bounds__(SIDE)
box_across_segments(const __grid_constant__ Box g, const __grid_constant__ BoxAxis x, Held border_sum,
                    const Held* __restrict__ sums, Held* __restrict__ segments) {
  SHARED_MEMORY(Held, square);
  i64 rows = g.rows * g.images, bands = (rows + SIDE - 1) / SIDE;
  i64 line = quotient(blockIdx.x, bands), row = (blockIdx.x - line * bands) * SIDE;
  i64 phase = quotient(line, x.segments), first = (line - phase * x.segments) * SIDE;
  load_square(g, x, sums, border_sum, row, phase, first, first + SIDE, square);
  __syncthreads();
  if (row + threadIdx.x < rows) {
    Held sum;
    clear(sum);
#pragma unroll 4
    for (int n = 0; n < SIDE; ++n) plus(sum, square[threadIdx.x * PITCH + n]);
    segments[line * rows + row + threadIdx.x] = sum;
  }
}
