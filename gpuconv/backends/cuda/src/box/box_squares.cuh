// Squares of sums of windows of rows, SIDE rows by SIDE columns, in shared memory: each thread reads a
// column of them and sums a row (box_across.cu, box_across_segments.cu).
#pragma once

// Loads the rows of a chunk from `row` on, at positions from `first` to before `end` of a phase; rows and
// positions beyond the last are left as they are.
__device__ inline void load_square(const Box& g, const BoxAxis& x, const Held* sums,
                                   const Held& border_sum, i64 row, i64 phase, i64 first, i64 end,
                                   Held* square) {
  i64 position = first + threadIdx.x;
  if (position < end) {
    i64 column = Walk(x, phase, position, true).pixel(x, g.boundary);
    const Held* from = sums + row * g.pitch + column;
    i64 rest = g.rows * g.images - row;
    int rows = rest < SIDE ? (int)rest : SIDE;
#pragma unroll(SIDE < 16 ? SIDE : 16)
    for (int n = 0; n < SIDE; ++n)
      if (n < rows) square[n * PITCH + threadIdx.x] = column < 0 ? border_sum : from[n * g.pitch];
  }
}
