// Reading the pixels of LANES neighbouring columns, row by row (box_down.cu, box_down_segments.cu).
#pragma once

enum { BATCH = 4 };  // rows that are loaded at once

template <class T> __device__ inline void widen(int& a, T v) { a = (int)v; }

struct alignas(sizeof(X_T) * LANES <= 16 ? sizeof(X_T) * LANES : 16) Pixels { X_T at[LANES]; };

// Where a thread reads: an image's columns from `column` on.
struct Columns {
  const char* image;
  i64 column;
};

__device__ inline Columns columns_of(const Box& g, const char* x, i64 column, i64 image) {
  Columns found = {x, column};
  image += g.first_image;
  for (int n = g.leads - 1; n >= 0; --n) {
    i64 rest = image / g.lead[n];
    found.image += (image - rest * g.lead[n]) * g.x_lead[n];
    image = rest;
  }
  return found;
}

// Loads the pixels of a row, and returns whether they are the fill value instead.
__device__ inline bool load(const Box& g, const Columns& from, i64 row, Pixels& pixels) {
  if (row < 0) return true;
  const char* start = from.image + row * g.x_row + from.column * g.x_column;
#if ALIGNED
  if (from.column + LANES <= g.w) {
    pixels = *(const Pixels*)start;
    return false;
  }
#endif
#pragma unroll
  for (int n = 0; n < LANES; ++n)
    if (from.column + n < g.w) pixels.at[n] = *(const X_T*)(start + n * g.x_column);
  return false;
}

#if SHRUNK
__device__ inline double times(double a, double factor) { return a * factor; }
__device__ inline Complex<double> times(Complex<double> a, double factor) {
  return {a.re * factor, a.im * factor};
}
#endif

__device__ inline void add_row(const Box& g, Helds& sums, const Pixels& pixels, bool outside,
                               const Held& fill) {
#pragma unroll
  for (int n = 0; n < LANES; ++n) {
    Held value = fill;
    if (!outside) {
      widen(value.sum, pixels.at[n]);
#if SHRUNK
      value.shrunk = times(value.sum, g.shrink);
#endif
    }
    plus(sums.at[n], value);
  }
}

// Up to BATCH rows.
struct Batch {
  int count;
  Pixels rows[BATCH];
  bool outside[BATCH];
};

// Loads the next `left` rows, or a full batch.
__device__ inline Batch load_batch(const Box& g, const BoxAxis& y, const Columns& from, Walk& walk,
                                   i64 left) {
  Batch batch = {left < BATCH ? (int)left : BATCH};
#pragma unroll
  for (int n = 0; n < BATCH; ++n)
    if (n < batch.count) {
      batch.outside[n] = load(g, from, walk.pixel(y, g.boundary), batch.rows[n]);
      walk.advance(y);
    }
  return batch;
}
