// Which pixels the tiles of the fft_*.cu files are made of.
//
// As a rule these are the rows and columns of the padded image. Where windows or their taps lie so far apart
// that nothing reads most of those, a tile has the windows' own, one window after the other: it is an
// AxisTable of core/boundary.py that is gathered, so that no tile grows with stride, dilation or padding.
#pragma once

__device__ inline i64 image_row(const Overlap& g, i64 y) {
  if (g.gathered_dy) y = y / g.p * g.gathered_sy + y % g.p * g.gathered_dy;
  return border(y - g.top, g.h, g.boundary);
}
__device__ inline i64 image_column(const Overlap& g, i64 x) {
  if (g.gathered_dx) x = x / g.q * g.gathered_sx + x % g.q * g.gathered_dx;
  return border(x - g.left, g.w, g.boundary);
}
