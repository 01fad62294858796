// What the box_*.cu files share: sums of windows at a cost that does not depend on their size.
//
// Windows of rows are summed first, then windows of columns of these sums. Along either axis outputs
// fall into phases: the windows of one phase read the same positions, which are a dilation apart. In a
// group of neighbouring outputs of a phase, all windows contain the positions `split` to `joint` - 1 or,
// if there are none (split = joint), begin before and end after that:
//
//     window of output n:  [n * advance ... split) + [split ... joint) + [joint ... n * advance + taps)
//
// The first part is summed backwards from the split, the last one forwards from the joint, for all
// windows of the group in one pass each (van Herk; Gil and Werman). The part between is the sum of whole
// segments, SIDE positions each, that were summed before. So a window's sum has its own positions alone,
// in an order that depends only on its place.
//
// The host puts structs Box, BoxAxis and BoxScale before this text (see structs.py) and defines SUM,
// the type of sums, SIDE, and SHRUNK: whether sums may leave the range of float64. Then each sum is kept
// twice, once of pixels multiplied by a small power of two. With GROUPED, windows are a position apart and
// groups have SIDE outputs, whose sums a thread keeps in registers.
#pragma once

enum { PITCH = SIDE + 1 };  // of a square in shared memory, so that columns are in different banks

#if SHRUNK
struct Held { SUM sum, shrunk; };
#else
struct Held { SUM sum; };
#endif

// Neighbouring sums of 16 bytes.
enum { LANES = sizeof(Held) < 16 ? 16 / sizeof(Held) : 1 };
struct alignas(16) Helds { Held at[LANES]; };

__device__ inline void zero(int& a) { a = 0; }
template <class A> __device__ inline void zero(A& a) { clear(a); }
__device__ inline void clear(Held& a) {
  zero(a.sum);
#if SHRUNK
  zero(a.shrunk);
#endif
}

__device__ inline void plus(int& a, int b) { a += b; }
__device__ inline void plus(double& a, double b) { a += b; }
__device__ inline void plus(Signed& a, Signed b) { a.v += b.v; }
__device__ inline void plus(Unsigned& a, Unsigned b) { a.v += b.v; }
__device__ inline void plus(Complex<double>& a, Complex<double> b) { a.re += b.re, a.im += b.im; }
__device__ inline void plus(Held& a, const Held& b) {
  plus(a.sum, b.sum);
#if SHRUNK
  plus(a.shrunk, b.shrunk);
#endif
}

__device__ inline void clear(Helds& a) {
#pragma unroll
  for (Held& held : a.at) clear(held);
}
__device__ inline void plus(Helds& a, const Helds& b) {
#pragma unroll
  for (int n = 0; n < LANES; ++n) plus(a.at[n], b.at[n]);
}

// a / b of numbers that are not negative. Divisions of 32 bits are several times as fast.
__device__ inline i64 quotient(i64 a, i64 b) {
  if (((u64)a | (u64)b) >> 32) return a / b;
  return (unsigned)a / (unsigned)b;
}

// The outputs of a group, [low, high), numbered in the phase, and its split and joint.
struct Group { i64 low, high, split, joint; };

__device__ inline i64 outputs_before(const BoxAxis& axis, i64 end, i64 phase) {
  return end <= phase ? 0 : quotient(end - phase + axis.step - 1, axis.step);
}

// The `number`-th group that has outputs from `first` to before `end`; it may have none.
__device__ inline Group find_group(const BoxAxis& axis, i64 phase, i64 number, i64 first, i64 end) {
  Group found;
  found.low = outputs_before(axis, first, phase);
  found.high = outputs_before(axis, end, phase);
  i64 begin = (quotient(found.low, axis.group) + number) * axis.group;
  found.low = found.low > begin ? found.low : begin;
  found.high = found.high < begin + axis.group ? found.high : begin + axis.group;
  i64 start = begin * axis.advance, last = start + (axis.group - 1) * axis.advance;
  found.split = found.joint = start + axis.taps;
  if (axis.segments) {
    i64 split = last / SIDE * SIDE + SIDE, joint = found.joint / SIDE * SIDE;
    if (split < joint) found.split = split, found.joint = joint;
  }
  return found;
}

__device__ inline i64 modulo(i64 a, i64 n) {
  a %= n;
  return a < 0 ? a + n : a;
}

// Goes along the positions of a phase, forwards or backwards, and finds the pixel at each without a
// division.
struct Walk {
  i64 at, step;
  __device__ Walk(const BoxAxis& axis, i64 phase, i64 position, bool forward)
      : at(phase * axis.stride + position * axis.dilation - axis.before),
        step(forward ? axis.forward : axis.backward) {
    if (axis.period) at = modulo(at, axis.period);
  }
  // The pixel, or -1 for the fill value.
  __device__ i64 pixel(const BoxAxis& axis, int boundary) const {
    if (at >= 0 && at < axis.pixels) return at;
    if (boundary == CONSTANT) return -1;
    if (boundary == EDGE) return at < 0 ? 0 : axis.pixels - 1;
    return boundary == SYMMETRIC ? axis.period - 1 - at : axis.period - at;
  }
  __device__ void advance(const BoxAxis& axis) {
    at += step;
    if (axis.period && at >= axis.period) at -= axis.period;
  }
};
