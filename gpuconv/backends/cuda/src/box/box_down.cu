// Sums windows of rows: of every column of some images, and of the rows of outputs of a chunk. A thread
// sums LANES neighbouring columns for a group of outputs.

extern "C" __global__ void __launch_bounds__(BLOCK_X, 2)
box_down(const __grid_constant__ Box g, const __grid_constant__ BoxAxis y, Held fill,
         const char* __restrict__ x, const Held* __restrict__ segments, Held* sums) {
  i64 across = g.pitch / LANES, count = across * g.groups * y.phases * g.images;
  i64 number = (i64)blockIdx.x * BLOCK_X + threadIdx.x;
  if (number >= count) return;
  i64 line = number / across, column = (number - line * across) * LANES;
  i64 image = line / (g.groups * y.phases), of_image = line - image * g.groups * y.phases;
  i64 phase = of_image / g.groups;
  Group group = find_group(y, phase, of_image - phase * g.groups, g.first_row, g.first_row + g.rows);
  if (group.low >= group.high) return;
  Columns from = columns_of(g, x, column, image);
  // Of output n of the phase: row n * step + phase of the result.
  Held* to = sums + (image * g.rows + phase - g.first_row) * g.pitch + column;
  i64 step = y.step * g.pitch;
  Helds sum;
  clear(sum);
  if (group.split < group.joint) {
    const Held* of_phase = segments + (image * y.phases + phase) * y.segments * g.pitch + column;
    for (i64 n = group.split / SIDE; n < group.joint / SIDE; ++n)
      plus(sum, *(const Helds*)(of_phase + n * g.pitch));
  }
  i64 output = group.high - 1, last = group.low * y.advance;
  Walk up(y, phase, group.split - 1, false);
  for (i64 first = group.split - 1; first >= last; first -= BATCH) {
    Batch batch = load_batch(g, y, from, up, first - last + 1);
#pragma unroll
    for (int n = 0; n < BATCH; ++n)
      if (n < batch.count) {
        add_row(g, sum, batch.rows[n], batch.outside[n], fill);
        if (first - n == output * y.advance) *(Helds*)(to + output-- * step) = sum;
      }
  }
  clear(sum);
  i64 end = (group.high - 1) * y.advance + y.taps;
  output = group.low;
  if (output * y.advance + y.taps == group.joint) ++output;  // it ends there
  Walk down(y, phase, group.joint, true);
  for (i64 first = group.joint; first < end; first += BATCH) {
    Batch batch = load_batch(g, y, from, down, end - first);
#pragma unroll
    for (int n = 0; n < BATCH; ++n)
      if (n < batch.count) {
        add_row(g, sum, batch.rows[n], batch.outside[n], fill);
        if (first + n + 1 != output * y.advance + y.taps) continue;
        Helds* at = (Helds*)(to + output++ * step);
        Helds whole = *at;
        plus(whole, sum);
        *at = whole;
      }
  }
}
