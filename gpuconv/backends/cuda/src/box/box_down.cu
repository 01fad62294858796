// Sums windows of rows: of every column of some images, and of the rows of outputs of a chunk. A thread
// sums LANES neighbouring columns, or one if GROUPED, for a group of outputs.

#if GROUPED
// The pixels of a column, one position after the other.
template <bool INSIDE> struct Rows {
  const Box& g;
  const BoxAxis& y;
  const char* at;  // the next pixel if all are INSIDE the image, else the column's first
  i64 step;
  Walk walk;
  __device__ Rows(const Box& g, const BoxAxis& y, const char* column, i64 phase, i64 position,
                  bool forward)
      : g(g), y(y), at(column), step((forward ? y.dilation : -y.dilation) * g.x_row),
        walk(y, phase, position, forward) {
    if (INSIDE) at += walk.at * g.x_row;
  }
  // Adds the next COUNT pixels, or `left` if those are fewer, and calls `take` after each. All loads are
  // issued before the first pixel is needed.
  template <int COUNT, class Take>
  __device__ void add(Held& sum, i64 left, const Held& fill, const Take& take) {
    X_T pixels[COUNT] = {};
    bool outside[COUNT];
#pragma unroll
    for (int n = 0; n < COUNT; ++n) {
      outside[n] = true;
      if (n >= left) continue;
      i64 row = INSIDE ? 0 : walk.pixel(y, g.boundary);
      outside[n] = row < 0;
      if (row >= 0) pixels[n] = *(const X_T*)(INSIDE ? at : at + row * g.x_row);
      if (INSIDE) at += step;
      else walk.advance(y);
    }
#pragma unroll
    for (int n = 0; n < COUNT; ++n) {
      if (n >= left) continue;
      Held value = fill;
      if (!outside[n]) widen(value.sum, pixels[n]);
      plus(sum, value);
      take(n);
    }
  }
};

// Sums the windows of a group that begins with output `begin`; `whole` is the sum of its segments.
template <bool INSIDE>
__device__ inline void sum_group(const Box& g, const BoxAxis& y, const Held& fill, const char* column,
                                 i64 phase, i64 begin, const Group& group, const Held& whole,
                                 Held (&held)[SIDE]) {
  enum { RUN = SIDE / (sizeof(X_T) > 4 ? 8 : 4) };  // pixels that are loaded at once
  auto ignore = [](int) {};
  Held sum = whole;
  Rows<INSIDE> back(g, y, column, phase, group.split - 1, false);
  for (i64 left = group.split - begin - SIDE; left > 0; left -= RUN)
    back.template add<RUN>(sum, left, fill, ignore);
#pragma unroll
  for (int first = SIDE - 1; first >= 0; first -= RUN)
    back.template add<RUN>(sum, RUN, fill, [&](int n) { held[first - n] = sum; });
  clear(sum);
  Rows<INSIDE> ahead(g, y, column, phase, group.joint, true);
  i64 rest = begin + y.taps - group.joint;  // positions before those where windows end one by one
  for (i64 left = rest; left > 0; left -= RUN) ahead.template add<RUN>(sum, left, fill, ignore);
  if (rest > 0) plus(held[0], sum);
#pragma unroll
  for (int first = 1; first < SIDE; first += RUN)
    ahead.template add<RUN>(sum, SIDE - first, fill, [&](int n) { plus(held[first + n], sum); });
}
#endif

extern "C" __global__ void __launch_bounds__(BLOCK_X, sizeof(X_T) > 4 ? 1 : 2)
box_down(const __grid_constant__ Box g, const __grid_constant__ BoxAxis y, Held fill,
         const char* __restrict__ x, const Held* __restrict__ segments, Held* sums) {
  enum { COLUMNS_EACH = GROUPED ? 1 : LANES };
  i64 across = GROUPED ? g.w : g.pitch / LANES, count = across * g.groups * y.phases * g.images;
  i64 number = (i64)blockIdx.x * BLOCK_X + threadIdx.x;
  if (number >= count) return;
  i64 line = quotient(number, across), column = (number - line * across) * COLUMNS_EACH;
  i64 image = quotient(line, g.groups * y.phases), of_image = line - image * g.groups * y.phases;
  i64 phase = quotient(of_image, g.groups), place = of_image - phase * g.groups;
  Group group = find_group(y, phase, place, g.first_row, g.first_row + g.rows);
  if (group.low >= group.high) return;
#if GROUPED
  const char* start = columns_of(g, x, column, image).image + column * g.x_column;
  i64 begin = group.low / SIDE * SIDE;
  Held whole, held[SIDE];
  clear(whole);
  if (group.split < group.joint) {
    const Held* own = segments + (image * y.phases + phase) * y.segments * g.pitch + column;
#pragma unroll 4
    for (i64 n = group.split / SIDE; n < group.joint / SIDE; ++n) plus(whole, own[n * g.pitch]);
  }
  i64 top = phase * y.stride + begin * y.dilation - y.before;
  bool inside = top >= 0 && top + (SIDE + y.taps - 2) * y.dilation < y.pixels;
  if (inside) sum_group<true>(g, y, fill, start, phase, begin, group, whole, held);
  else sum_group<false>(g, y, fill, start, phase, begin, group, whole, held);
  Held* into = sums + (image * g.rows + phase - g.first_row) * g.pitch + column;
#pragma unroll
  for (int n = 0; n < SIDE; ++n)
    if (begin + n >= group.low && begin + n < group.high)
      into[(begin + n) * y.step * g.pitch] = held[n];
#else
  Columns from = columns_of(g, x, column, image);
  // Output n of the phase is row n * step + phase of the result.
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
#endif
}
