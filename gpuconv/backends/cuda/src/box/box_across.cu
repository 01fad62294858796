// Sums windows of columns of the sums of windows of rows, and writes the results. A block does that for
// SIDE rows and a group of outputs: each thread sums a row, and then writes a column.

extern "C" __global__ void __launch_bounds__(SIDE)
box_across(const __grid_constant__ Box g, const __grid_constant__ BoxAxis x, Held border_sum,
           const Held* __restrict__ sums, const Held* __restrict__ segments,
           const BoxScale* __restrict__ scales, char* __restrict__ out) {
  SHARED_MEMORY(Held, square);
  Held* held = square + SIDE * PITCH;  // the group's sums
  i64 rows = g.rows * g.images, bands = (rows + SIDE - 1) / SIDE;
  i64 groups = (outputs_before(x, g.s, 0) + x.group - 1) / x.group;
  i64 line = blockIdx.x / bands, row = (blockIdx.x - line * bands) * SIDE, phase = line / groups;
  i64 own = row + threadIdx.x;  // the row that this thread sums
  Group group = find_group(x, phase, line - phase * groups, 0, g.s);
  if (group.low >= group.high) return;
  int last = (int)(group.high - group.low) - 1;
  const Held* mine = square + threadIdx.x * PITCH;
  Held* mine_held = held + threadIdx.x * PITCH;
  Held sum;
  clear(sum);
  if (own < rows && group.split < group.joint)
    for (i64 n = group.split / SIDE; n < group.joint / SIDE; ++n)
      plus(sum, segments[(phase * x.segments + n) * rows + own]);
  int output = last;
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
  if ((int)threadIdx.x <= last) {
    i64 column = (group.low + threadIdx.x) * x.step + phase, image = row / g.rows;
    i64 of_image = row - image * g.rows;
    Target target = target_of(g, scales, out, image);
    int count = rows - row < SIDE ? (int)(rows - row) : SIDE;
#pragma unroll 1
    for (int n = 0; n < count; ++n) {
      if (of_image == g.rows) {
        target = target_of(g, scales, out, ++image);
        of_image = 0;
      }
      finish(g, held[n * PITCH + threadIdx.x], target, of_image++, column);
    }
  }
}
