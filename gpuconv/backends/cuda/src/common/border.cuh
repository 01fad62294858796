// The border rule. The host defines CONSTANT, EDGE, REFLECT, SYMMETRIC and WRAP.
#pragma once

// Index of the pixel that position i, which may be outside the n pixels, stands for; -1 for the fill
// value.
__device__ inline i64 border(i64 i, i64 n, int boundary) {
  if (i >= 0 && i < n) return i;
  if (boundary == CONSTANT) return -1;
  if (boundary == EDGE) return i < 0 ? 0 : n - 1;
  if (boundary == REFLECT && n == 1) return 0;
  i64 period = boundary == WRAP ? n : boundary == SYMMETRIC ? 2 * n : 2 * n - 2;
  i %= period;
  if (i < 0) i += period;
  if (boundary == WRAP || i < n) return i;
  return boundary == SYMMETRIC ? period - 1 - i : period - i;
}
