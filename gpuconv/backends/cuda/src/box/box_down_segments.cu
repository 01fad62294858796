// Sums of segments, SIDE rows of a phase each, of every column of some images. A thread sums LANES
// neighbouring columns.

extern "C" __global__ void __launch_bounds__(BLOCK_X)
box_down_segments(const __grid_constant__ Box g, const __grid_constant__ BoxAxis y, Held fill,
                  const char* __restrict__ x, Held* __restrict__ segments) {
  i64 across = g.pitch / LANES, count = across * y.segments * y.phases * g.images;
  i64 number = (i64)blockIdx.x * BLOCK_X + threadIdx.x;
  if (number >= count) return;
  i64 line = quotient(number, across), column = (number - line * across) * LANES;
  i64 image = quotient(line, y.segments * y.phases), of_image = line - image * y.segments * y.phases;
  i64 phase = quotient(of_image, y.segments), segment = of_image - phase * y.segments;
  Columns from = columns_of(g, x, column, image);
  Walk walk(y, phase, segment * SIDE, true);
  Helds sum;
  clear(sum);
#pragma unroll 1
  for (int first = 0; first < SIDE; first += BATCH) {
    Batch batch = load_batch(g, y, from, walk, BATCH);
#pragma unroll
    for (int n = 0; n < BATCH; ++n) add_row(g, sum, batch.rows[n], batch.outside[n], fill);
  }
  *(Helds*)(segments + line * g.pitch + column) = sum;
}
