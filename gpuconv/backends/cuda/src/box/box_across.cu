// Sums windows of columns of the sums of windows of rows, and writes the results. A block does that for
// SIDE rows and a group of outputs: each thread sums a row, and then writes a column.

// Writes the outputs of a group from a square that has a row for each thread; here threads are columns.
__device__ inline void write_results(const Box& g, const BoxAxis& x, const Group& group, i64 phase,
                                     i64 row, const Held* held, const BoxScale* scales, char* out) {
  if (threadIdx.x >= group.high - group.low) return;
  i64 rows = g.rows * g.images, column = (group.low + threadIdx.x) * x.step + phase;
  i64 image = quotient(row, g.rows), of_image = row - image * g.rows;
  Target target = target_of(g, scales, out, image);
  int count = rows - row < SIDE ? (int)(rows - row) : SIDE;
  if (of_image + count <= g.rows) {
#pragma unroll 4
    for (int n = 0; n < count; ++n) finish(g, held[n * PITCH + threadIdx.x], target, of_image + n, column);
    return;
  }
#pragma unroll 1
  for (int n = 0; n < count; ++n) {
    if (of_image == g.rows) {
      target = target_of(g, scales, out, ++image);
      of_image = 0;
    }
    finish(g, held[n * PITCH + threadIdx.x], target, of_image++, column);
  }
}

extern "C" __global__ void __launch_bounds__(SIDE, GROUPED ? 512 / SIDE : 1)
box_across(const __grid_constant__ Box g, const __grid_constant__ BoxAxis x, Held border_sum,
           const Held* __restrict__ sums, const Held* __restrict__ segments,
           const BoxScale* __restrict__ scales, char* __restrict__ out) {
  SHARED_MEMORY(Held, square);
  i64 rows = g.rows * g.images, bands = (rows + SIDE - 1) / SIDE;
  i64 groups = quotient(outputs_before(x, g.s, 0) + x.group - 1, x.group);
  i64 line = quotient(blockIdx.x, bands), row = (blockIdx.x - line * bands) * SIDE;
  i64 phase = quotient(line, groups);
  i64 own = row + threadIdx.x;  // the row that this thread sums
  Group group = find_group(x, phase, line - phase * groups, 0, g.s);
  if (group.low >= group.high) return;
  Held* mine = square + threadIdx.x * PITCH;
  Held sum;
  clear(sum);
  if (own < rows && group.split < group.joint)
#pragma unroll 4
    for (i64 n = group.split / SIDE; n < group.joint / SIDE; ++n)
      plus(sum, segments[(phase * x.segments + n) * rows + own]);
#if GROUPED
  i64 begin = group.low;  // a chunk has all columns, so that its groups are whole but for the last
  for (i64 end = group.split; end > begin + SIDE; end -= SIDE) {
    i64 first = end - SIDE > begin + SIDE ? end - SIDE : begin + SIDE;
    load_square(g, x, sums, border_sum, row, phase, first, end, square);
    __syncthreads();
    for (int n = (int)(end - first) - 1; n >= 0; --n) plus(sum, mine[n]);
    __syncthreads();
  }
  Held held[SIDE];
  load_square(g, x, sums, border_sum, row, phase, begin, begin + SIDE, square);
  __syncthreads();
#pragma unroll
  for (int n = SIDE - 1; n >= 0; --n) {
    plus(sum, mine[n]);
    held[n] = sum;
  }
  __syncthreads();
  clear(sum);
  i64 stop = begin + x.taps;  // where the first window ends
  if (group.joint < stop) {
    load_square(g, x, sums, border_sum, row, phase, group.joint, stop, square);
    __syncthreads();
    for (int n = 0; n < (int)(stop - group.joint); ++n) plus(sum, mine[n]);
    plus(held[0], sum);
    __syncthreads();
  }
  load_square(g, x, sums, border_sum, row, phase, stop, stop + SIDE - 1, square);
  __syncthreads();
#pragma unroll
  for (int n = 1; n < SIDE; ++n) {
    plus(sum, mine[n - 1]);
    plus(held[n], sum);
  }
  __syncthreads();
#pragma unroll
  for (int n = 0; n < SIDE; ++n) mine[n] = held[n];
  __syncthreads();
  write_results(g, x, group, phase, row, square, scales, out);
#else
  Held* held = square + SIDE * PITCH;  // the group's sums
  Held* mine_held = held + threadIdx.x * PITCH;
  int last = (int)(group.high - group.low) - 1, output = last;
  i64 begin = group.low * x.advance;
  for (i64 end = group.split; end > begin; end -= SIDE) {
    i64 first = end - SIDE > begin ? end - SIDE : begin;
    load_square(g, x, sums, border_sum, row, phase, first, end, square);
    __syncthreads();
    if (own < rows)
      for (int n = (int)(end - first) - 1; n >= 0; --n) {
        plus(sum, mine[n]);
        if (first + n == begin + output * x.advance) mine_held[output--] = sum;
      }
    __syncthreads();
  }
  clear(sum);
  output = begin + x.taps == group.joint;
  i64 stop = begin + last * x.advance + x.taps;
  for (i64 first = group.joint; first < stop; first += SIDE) {
    i64 end = first + SIDE < stop ? first + SIDE : stop;
    load_square(g, x, sums, border_sum, row, phase, first, end, square);
    __syncthreads();
    if (own < rows)
      for (int n = 0; n < (int)(end - first); ++n) {
        plus(sum, mine[n]);
        if (first + n + 1 == begin + output * x.advance + x.taps) plus(mine_held[output++], sum);
      }
    __syncthreads();
  }
  write_results(g, x, group, phase, row, held, scales, out);
#endif
}
