// Transforms of a complex tile of NY x NX in the shared memory of one block, in place.
//
// Columns are transformed first and then rows, each in two stages: a side of N = FIRST * SECOND numbers
// is transforms of FIRST numbers that are SECOND apart, products with twiddle factors, and transforms of
// SECOND neighbours. Results stay where their numbers were (decimation in frequency): frequency
// k + FIRST * m ends at position k * SECOND + m. The kernel's spectrum is in the same order, so nothing
// needs to be reordered, and the inverse undoes one stage after the other (decimation in time).
//
// A thread holds the numbers of one such transform in registers. The lanes of a warp have neighbouring
// columns, or rows, which are an odd number of elements apart, so that no two of them read from one bank.
//
// The host defines the sides NY and NX and lists the twiddle factors of each (see twiddles.py).
#pragma once

#ifdef __CUDA_ARCH__
// Returns the value of the lane whose number differs by these bits.
__device__ inline Real lane_across(Real mine, int bits) { return __shfl_xor_sync(~0u, mine, bits); }
#else
#include "cuda_warp.h"  // the emulator's version
#endif

enum { PITCH = NX + 1, ELEMENTS = NY * NX };

// A complex number that is read and written at once.
struct alignas(sizeof(Bin)) Cell { Bin bin; };
__constant__ Cell TWIDDLES_Y[NY] = {LIST_OF_TWIDDLES_Y}, TWIDDLES_X[NX] = {LIST_OF_TWIDDLES_X};

template <int SIDE> struct Stages {
  enum { SECOND = SIDE >= 64 ? 8 : 4, FIRST = SIDE / SECOND };
};
typedef Stages<NY> Down;
typedef Stages<NX> Across;

// Calls `work` for this thread's share of COUNT pieces of work.
template <int COUNT, class Work> __device__ inline void share(Work work) {
  static_assert(COUNT % THREADS == 0, "every thread has as many");
  // What follows from the thread's number is computed again for every stage rather than kept in registers.
  int thread = opaque(thread_of_block());
#pragma unroll 1
  for (int k = 0; k < COUNT / THREADS; ++k) work(thread + k * THREADS);
}

// The numbers of a transform in shared memory: COUNT of them, `step` apart.
template <int COUNT> __device__ inline void read(Bin (&v)[COUNT], const Cell* from, int step) {
#pragma unroll
  for (int k = 0; k < COUNT; ++k) v[k] = from[k * step].bin;
}
template <int COUNT> __device__ inline void write(const Bin (&v)[COUNT], Cell* to, int step) {
#pragma unroll
  for (int k = 0; k < COUNT; ++k) to[k * step].bin = v[k];
}

// Between the stages, number k of transform `n` of the first stage is multiplied by factor n * COUNT + k.
template <int COUNT> __device__ inline void twiddle(Bin (&v)[COUNT], const Cell* factors, int n) {
#pragma unroll
  for (int k = 1; k < COUNT; ++k) v[k] = times(v[k], factors[n * COUNT + k].bin);
}
template <int COUNT> __device__ inline void untwiddle(Bin (&v)[COUNT], const Cell* factors, int n) {
#pragma unroll
  for (int k = 1; k < COUNT; ++k) v[k] = times_conjugate(v[k], factors[n * COUNT + k].bin);
}

// First stage down, of numbers that `load` puts into registers.
template <class Load> __device__ inline void transform_columns_first(Cell* tile, Load load) {
  share<ELEMENTS / Down::FIRST>([&](int n) {
    int column = n % NX, row = n / NX;
    Bin v[Down::FIRST];
    load(v, row, column);
    transform<false>(v);
    twiddle(v, TWIDDLES_Y, row);
    write(v, tile + row * PITCH + column, Down::SECOND * PITCH);
  });
}

template <bool INVERSE> __device__ inline void transform_columns_second(Cell* tile) {
  share<ELEMENTS / Down::SECOND>([&](int n) {
    Cell* at = tile + n / NX * Down::SECOND * PITCH + n % NX;
    Bin v[Down::SECOND];
    read(v, at, PITCH);
    transform<INVERSE>(v);
    write(v, at, PITCH);
  });
}

template <bool INVERSE> __device__ inline void transform_rows_first(Cell* tile) {
  share<ELEMENTS / Across::FIRST>([&](int n) {
    int column = n / NY;
    Cell* at = tile + n % NY * PITCH + column;
    Bin v[Across::FIRST];
    read(v, at, Across::SECOND);
    if (INVERSE) untwiddle(v, TWIDDLES_X, column);
    transform<INVERSE>(v);
    if (!INVERSE) twiddle(v, TWIDDLES_X, column);
    write(v, at, Across::SECOND);
  });
}

// Last stage of the inverse; `store` gets the sums of rows row + k * SECOND of a column.
template <class Store> __device__ inline void transform_columns_last(const Cell* tile, Store store) {
  share<ELEMENTS / Down::FIRST>([&](int n) {
    int column = n % NX, row = n / NX;
    Bin v[Down::FIRST];
    read(v, tile + row * PITCH + column, Down::SECOND * PITCH);
    untwiddle(v, TWIDDLES_Y, row);
    transform<true>(v);
    store(v, row, column);
  });
}

// A spectrum in device memory consists of granules of 16 bytes: neighbouring frequencies of a row. The
// granules at one place in all rows are adjacent, so that the lanes of a warp read neighbouring ones.
struct alignas(16) Bins { Bin at[16 / sizeof(Bin)]; };
enum { PER_GRANULE = 16 / sizeof(Bin), GRANULES = Across::SECOND / PER_GRANULE };

// Where the granules of transform n of the second stage across are; they are NY apart.
__device__ inline int granules_of(int n) { return n / NY * GRANULES * NY + n % NY; }

// Second stage across, the product with a kernel's conjugate spectrum, and the inverse of that stage.
__device__ inline void multiply_rows(Cell* tile, const Bins* __restrict__ spectrum) {
  share<ELEMENTS / Across::SECOND>([&](int n) {
    Cell* at = tile + n % NY * PITCH + n / NY * Across::SECOND;
    Bins factors[GRANULES];
#pragma unroll
    for (int k = 0; k < GRANULES; ++k) factors[k] = spectrum[granules_of(n) + k * NY];
    Bin v[Across::SECOND];
    read(v, at, 1);
    transform<false>(v);
#pragma unroll
    for (int k = 0; k < Across::SECOND; ++k)
      v[k] = times_conjugate(v[k], factors[k / PER_GRANULE].at[k % PER_GRANULE]);
    transform<true>(v);
    write(v, at, 1);
  });
}

// Second stage across, of a kernel: writes its spectrum times `norm`, and returns the square of the largest
// bin of this thread.
__device__ inline Real write_spectrum(const Cell* tile, Real norm, Bins* spectrum) {
  Real most = 0;
  share<ELEMENTS / Across::SECOND>([&](int n) {
    Bin v[Across::SECOND];
    read(v, tile + n % NY * PITCH + n / NY * Across::SECOND, 1);
    transform<false>(v);
#pragma unroll
    for (int k = 0; k < GRANULES; ++k) {
      Bins granule;
#pragma unroll
      for (int j = 0; j < PER_GRANULE; ++j) {
        Bin bin = v[k * PER_GRANULE + j];
        most = fmax(most, bin.re * bin.re + bin.im * bin.im);
        granule.at[j] = {bin.re * norm, bin.im * norm};
      }
      spectrum[granules_of(n) + k * NY] = granule;
    }
  });
  return most;
}

// Combines a number of every thread of the block, always in the same order; all threads get the result.
// They first write the result of their warp, then synchronise, then read the results of all warps.
enum { LANES = THREADS < 32 ? THREADS : 32, WARPS = THREADS / LANES };

struct Add {
  __device__ Real operator()(Real a, Real b) const { return a + b; }
};
struct Larger {
  __device__ Real operator()(Real a, Real b) const { return a < b ? b : a; }
};
template <class Combine> __device__ inline Real combine_lanes(Real mine, Combine combine) {
#pragma unroll
  for (int distance = LANES / 2; distance > 0; distance /= 2)
    mine = combine(mine, lane_across(mine, distance));
  return mine;
}
template <class Combine>
__device__ inline void write_of_warp(Real* of_warps, Real mine, Combine combine) {
  mine = combine_lanes(mine, combine);
  if (thread_of_block() % LANES == 0) of_warps[thread_of_block() / LANES] = mine;
}
template <class Combine>
__device__ inline Real read_of_warps(const Real* of_warps, Combine combine) {
  int lane = thread_of_block() % LANES;
  Real mine = 0;
#pragma unroll
  for (int k = 0; k < WARPS; k += LANES)
    if (k + lane < WARPS) mine = combine(mine, of_warps[k + lane]);
  return combine_lanes(mine, combine);
}
