// What the fft_*.cu files share: the numbering of overlap-save tiles, which are one after the other in
// working memory, where each of them is read from and written to, and the magnitude of its elements.
//
// Tiles are numbered kernel by kernel, image by image, row by row. Where all kernels are applied to the
// same images, a tile is gathered and transformed once for a group of kernels: `fan_out` result tiles,
// one for each kernel, then follow one another.
//
// The host puts structs Overlap, Norm, Size and Largest before this text (see structs.py).
#pragma once

// A block works on a slab, SLAB rows of a tile.
enum { SLAB = BLOCK_Y * ROWS, THREADS = BLOCK_X * BLOCK_Y };

template <class A> struct RealOf { typedef A type; };
template <class R> struct RealOf<Complex<R>> { typedef R type; };
typedef RealOf<ACC>::type Real;
typedef Complex<Real> Bin;            // of a spectrum

constexpr bool FLOAT32 = sizeof(Real) == 4;
constexpr Real LEAST = FLOAT32 ? 0x1p-100 : 0x1p-900, MOST = 1 / LEAST;
constexpr Real WINDOW = FLOAT32 ? 0x1p30 : 0x1p300;  // of sizes whose squares share one factor
enum { SAFE = FLOAT32 ? 40 : 300, RANGE = FLOAT32 ? 100 : 900 };

__device__ inline void measure(Norm& norm, Real size, Real part, Real other) {
  if (size * norm.inverse > WINDOW) {
    Real inverse = 1 / fmin(fmax(size, LEAST), MOST);
    Real ratio = inverse / norm.inverse;
    norm.inverse = inverse;
    norm.squares *= ratio * ratio;
  }
  part *= norm.inverse, other *= norm.inverse;
  norm.squares += part * part + other * other;
  norm.most = size > norm.most ? size : norm.most;
}
__device__ inline void measure(Norm& norm, Real value) {
  measure(norm, fabs(value), value, 0);
}
__device__ inline void measure(Norm& norm, Complex<Real> value) {
  Real re = fabs(value.re), im = fabs(value.im);
  measure(norm, re > im ? re : im, re, im);
}

__device__ inline void combine(Norm& a, const Norm& b) {
  Real inverse = a.inverse < b.inverse ? a.inverse : b.inverse;
  Real of_a = inverse / a.inverse, of_b = inverse / b.inverse;
  a = {inverse, a.squares * of_a * of_a + b.squares * of_b * of_b, a.most < b.most ? b.most : a.most};
}

#ifdef __CUDA_ARCH__
// Returns its argument, but hides from the compiler that it does. The tests' emulator defines it itself.
__device__ inline unsigned opaque(unsigned value) {
  asm volatile("" : "+r"(value));
  return value;
}
#endif

__device__ inline int thread_of_block() { return threadIdx.y * BLOCK_X + threadIdx.x; }

// Combines a value of every thread of the block, always in the same order; all threads get the result.
template <class T> __device__ inline T reduce_block(const T& mine) {
  static_assert((THREADS & (THREADS - 1)) == 0, "halves of halves");
  SHARED_MEMORY(T, shared);
  int thread = thread_of_block();
  __syncthreads();  // all threads have read an earlier result
  shared[thread] = mine;
#pragma unroll 1
  for (int half = THREADS / 2; half > 0; half /= 2) {
    __syncthreads();
    if (thread < half) combine(shared[thread], shared[thread + half]);
  }
  __syncthreads();
  return shared[0];
}

// Returns the Size for a norm, with the exponent that brings it to about 1 if it is out of the safe range.
__device__ inline Size size_of_norm(const Norm& all, int safe) {
  int exponent = 0, unit = -ilogb((double)all.inverse);
  double root = sqrt((double)all.squares);
  if (root > 0 && root < 0x1p1000) {  // neither NaN nor infinite
    exponent = ilogb(root) + unit;
    if (exponent >= -SAFE && exponent <= safe) exponent = 0;
    exponent = exponent < -RANGE ? -RANGE : exponent > RANGE ? RANGE : exponent;
  }
  double norm = ldexp(root, unit - exponent) * ldexp(1 / (double)all.inverse, -unit);
  return {norm, ldexp((double)all.most, -exponent), 0, exponent, 0};
}

// Whether this block is the last of `blocks` blocks to call this. It then sees what the others wrote
// before their calls (the fences order their writes and the counting).
__device__ inline bool is_last_block(int* done, int blocks) {
  bool last = blocks == 1;
  __syncthreads();
  if (!last && thread_of_block() == 0) {
    __threadfence();
    last = atomicAdd(done, 1) == blocks - 1;
  }
  last = __syncthreads_or(last);
  if (last) __threadfence();
  return last;
}

struct alignas(16) Reals { Real at[16 / sizeof(Real)]; };

// Called by all threads of a block once it has measured its slab. The last block of a tile to call it
// combines the norms of all slabs, in order. If the tile is out of the safe range it then multiplies it
// by a power of two.
__device__ inline void finish_measuring(const Overlap& g, const Norm& mine, i64 n, int slab, int slabs,
                                Norm* norms, Size* sizes, ACC* tile, int safe) {
  Norm all = reduce_block(mine);
  if (thread_of_block() == 0) norms[n * slabs + slab] = all;
  if (!is_last_block(&sizes[n].done, slabs)) return;
  all = {1 / LEAST, 0, 0};
  for (int k = thread_of_block(); k < slabs; k += THREADS) combine(all, norms[n * slabs + k]);
  all = reduce_block(all);
  Size size = size_of_norm(all, safe);
  int exponent = size.exponent;
  if (thread_of_block() == 0) sizes[n] = size;
  if (!exponent) return;
  Real factor = ldexp((Real)1, -exponent);
  Reals* parts = (Reals*)tile;
  i64 count = (i64)g.ny * g.nx * sizeof(ACC) / sizeof(Reals);
#pragma unroll 4
  for (i64 k = thread_of_block(); k < count; k += THREADS) {
    Reals values = parts[k];
#pragma unroll
    for (Real& value : values.at) value *= factor;
    parts[k] = values;
  }
}

struct FftTile {  // where a tile comes from and goes to
  const char* x;
  char* out;
  i64 kernel, i0, j0;                 // its kernel within the group, its first output
  int rows, columns;                  // of its outputs
};

// Divides numbers that are not negative; with one image and one kernel the quotient is 0.
__device__ inline i64 divide(i64 a, i64 b) { return a < b ? 0 : a / b; }

__device__ inline i64 kernel_of(const Overlap& g, i64 n) {
  return g.fan_out > 1 ? (g.first + n) % g.fan_out : divide(g.first + n, g.images * g.tiles);
}

__device__ inline FftTile fft_tile(const Overlap& g, i64 n, const char* x, char* out) {
  i64 kernel = kernel_of(g, n);
  i64 within = g.fan_out > 1 ? (g.first + n) / g.fan_out : g.first + n - kernel * g.images * g.tiles;
  i64 of_kernel = divide(within, g.tiles), tile = within - of_kernel * g.tiles;
  i64 row = divide(tile, g.tiles_x), image = (g.kernel0 + kernel) * g.images + of_kernel;
  FftTile at = {x, out, kernel, row * g.kept_y, (tile - row * g.tiles_x) * g.kept_x};
  at.rows = g.r - at.i0 < g.kept_y ? (int)(g.r - at.i0) : g.kept_y;
  at.columns = g.s - at.j0 < g.kept_x ? (int)(g.s - at.j0) : g.kept_x;
  for (int d = g.leads - 1; d >= 0; --d) {
    i64 rest = divide(image, g.lead[d]), index = image - rest * g.lead[d];
    image = rest;
    at.x += index * g.x_lead[d];
    at.out += index * g.out_lead[d];
  }
  return at;
}
