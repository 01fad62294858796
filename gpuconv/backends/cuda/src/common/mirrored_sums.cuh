// The order in which a row or column of taps is summed. Taps that are symmetric or antisymmetric are
// summed in mirrored order: one chain of multiply-adds from the first tap to the middle, another from
// the last tap to the middle, then the sum of the two (`combine_chains`), and then the middle tap if
// their number is odd. Both chains are rounded alike. So flipped pixels give the flipped result bit
// for bit, and opposite taps cancel exactly.
//
// The host defines MIRROR_Y and MIRROR_X, for columns and rows of taps: NO, YES, or LOOK where the
// CUDA kernel decides, because the weights are on the device or differ between kernels.
#pragma once

// Whether n > 1 taps are symmetric or antisymmetric, in their real and in their imaginary parts.
__device__ inline bool mirrored(const ACC* taps, int n) {
  int all = 15;
  for (int t = 0; t < (n + 1) / 2; ++t) all &= alike(taps[t], taps[n - 1 - t]);
  return n > 1 && (all & 3) && (all & 12);
}

// Returns the taps of either chain, 0 for plain order. All of `terms` rows of n taps, which begin `step`
// weights apart, are summed in the same order.
template <int MIRROR> __device__ inline int chain_length(const ACC* taps, int n, int terms, int step) {
  if (MIRROR == NO) return 0;
  bool all = true;
  if (MIRROR == LOOK)
    for (int term = 0; term < terms; ++term) all = all && mirrored(taps + term * step, n);
  return all ? n / 2 : 0;
}

// A sum is computed in runs of at most `most` taps (what a shared tile serves), which belong to three
// parts: the first chain, the last one (whose taps are added backwards), and the middle. In plain order
// all taps are the middle.
enum { FIRST_CHAIN, LAST_CHAIN, MIDDLE, END };

struct Runs {
  int taps, half, most, part, done, first, count;
  __device__ Runs(int taps, int half, int most)
      : taps(taps), half(half), most(most), part(half ? FIRST_CHAIN : MIDDLE), done(0) {
    place();
  }
  // Taps of the current part.
  __device__ int length() const { return part == MIDDLE ? taps - 2 * half : half; }
  __device__ void place() {
    count = min(most, length() - done);
    first = part == FIRST_CHAIN ? done : part == LAST_CHAIN ? taps - done - count : half + done;
  }
  __device__ bool more() const { return part < END; }
  // Whether this is the first run of all; the first run of its part; the last run of its part.
  __device__ bool starts() const { return done == 0 && part == (half ? FIRST_CHAIN : MIDDLE); }
  __device__ bool begins() const { return done == 0; }
  __device__ bool ends() const { return done + count == length(); }
  __device__ void next() {
    done += count;
    if (done == length()) {
      ++part;
      done = 0;
      if (part == MIDDLE && length() == 0) part = END;
    }
    if (more()) place();
  }
  // The tap at position t of the run.
  __device__ int tap(int t) const { return part == LAST_CHAIN ? first + count - 1 - t : first + t; }
};
