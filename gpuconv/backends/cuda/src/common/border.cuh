// The border rule. The host defines CONSTANT, EDGE, REFLECT, SYMMETRIC and WRAP.
#pragma once

// Returns the index of the pixel at position i, which may be outside the n pixels; -1: the fill value.
__device__ inline i64 border(i64 i, i64 n, int boundary) {
  if (i >= 0 && i < n) return i;
  if (boundary == CONSTANT) return -1;
  if (boundary == EDGE) return i < 0 ? 0 : n - 1;
  // A position less than n outside, as most are, needs no division.
  i64 last = n - 1;
  i64 near = boundary == WRAP ? (i < 0 ? i + n : i - n)
             : boundary == SYMMETRIC ? (i < 0 ? -1 - i : last + n - i)
                                     : (i < 0 ? -i : 2 * last - i);
  if (near >= 0 && near < n) return near;
  if (boundary == REFLECT && n == 1) return 0;
  i64 period = boundary == WRAP ? n : boundary == SYMMETRIC ? 2 * n : 2 * n - 2;
  i %= period;
  if (i < 0) i += period;
  if (boundary == WRAP || i < n) return i;
  return boundary == SYMMETRIC ? period - 1 - i : period - i;
}
