// The order in which a row or column of taps is summed. Taps that are the same read backwards, or the
// opposite, are summed in mirrored order: a chain from the first tap to the middle, another one from
// the last, the two added to each other (`met`), and then the middle tap of an odd number. Both chains
// are rounded alike, so that flipped pixels give the same bits flipped and opposite taps cancel.
//
// The host defines MIRROR_Y and MIRROR_X for columns and rows of taps: NO, YES, or LOOK where it has
// not seen the weights or they differ.
#pragma once

__device__ inline bool mirrored(const ACC* taps, int n) {
  int all = 15;
  for (int t = 0; t < (n + 1) / 2; ++t) all &= alike(taps[t], taps[n - 1 - t]);
  return n > 1 && (all & 3) && (all & 12);
}

// Length of both chains of all terms, which are `step` weights from each other; 0 in plain order.
template <int MIRROR> __device__ inline int half_of(const ACC* taps, int n, int terms, int step) {
  if (MIRROR == NO) return 0;
  bool all = true;
  if (MIRROR == LOOK)
    for (int term = 0; term < terms; ++term) all = all && mirrored(taps + term * step, n);
  return all ? n / 2 : 0;
}

// The runs of taps of a sum, at most `most` at a time: of the first chain, the last one (backwards) and
// those between. In plain order all are between.
struct Runs {
  int taps, half, most, part, done, first, count;
  __device__ Runs(int taps, int half, int most)
      : taps(taps), half(half), most(most), part(half ? 0 : 2), done(0) {
    place();
  }
  __device__ int length() const { return part == 2 ? taps - 2 * half : half; }
  __device__ void place() {
    count = min(most, length() - done);
    first = part == 0 ? done : part == 1 ? taps - done - count : half + done;
  }
  __device__ bool more() const { return part < 3; }
  __device__ bool starts() const { return done == 0 && part == (half ? 0 : 2); }
  __device__ bool begins() const { return done == 0; }
  __device__ bool ends() const { return done + count == length(); }
  __device__ void next() {
    done += count;
    if (done == length()) {
      ++part;
      done = 0;
      if (part == 2 && length() == 0) part = 3;
    }
    if (more()) place();
  }
  // The tap at a place of the run.
  __device__ int tap(int t) const { return part == 1 ? first + count - 1 - t : first + t; }
};
